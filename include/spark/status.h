/* status.h - how every SPARK function that can fail says so.
 * Nouns:   spark_status, the result (one code, must be checked); spark_err, where and why.
 * Promise: an error is filled once, where the fact is known, and passed on unchanged.
 * Threads: plain values; nothing is shared. C17 and C++ clean. */
#ifndef SPARK_STATUS_H
#define SPARK_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SPARK_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SPARK_MUST_CHECK
#endif

/* The one list of codes: name, text. Append only: the numbers are part of the ABI. */
#define SPARK_STATUS_LIST(X)                                                                                           \
    X(OK, "ok")                                                                                                        \
    X(E_ARGUMENT, "bad argument")       /* the caller's value is out of range or does not fit together */              \
    X(E_FORMAT, "malformed input")      /* a file, template or text breaks the rules of its format */                  \
    X(E_LIMIT, "over a limit")          /* well-formed, but larger than a limit of spark_limits.h */                   \
    X(E_UNSUPPORTED, "not supported")   /* valid, but a feature that this version does not have */                     \
    X(E_MEMORY, "out of memory")        /* an allocation failed, or the plan exceeds the budget */                     \
    X(E_IO, "input or output failed")   /* the system refused a read, a write or an open */                            \
    X(E_CONTEXT, "context is full")     /* more tokens than the session was planned for */                             \
    X(E_NUMERIC, "value is not finite") /* a weight, activation or logit is NaN or infinite */                         \
    X(E_CANCELLED, "cancelled")         /* the caller asked to stop */                                                 \
    X(E_STATE, "wrong state")           /* a call that this object does not allow now */                               \
    X(E_REFUSED, "refused by policy")   /* allowed by the format, forbidden by the operator */

typedef enum spark_code {
#define SPARK_STATUS_ENUM(name, text) SPARK_##name,
    SPARK_STATUS_LIST(SPARK_STATUS_ENUM)
#undef SPARK_STATUS_ENUM
        SPARK_N_CODES
} spark_code;

/* A struct, so that it can be neither ignored nor taken for an int or a bool. */
typedef struct spark_status {
    spark_code code;
} spark_status;

#define SPARK_ERR_TEXT    256
#define SPARK_ERR_NOWHERE UINT64_MAX

/* Filled on failure, untouched on success. `at` counts what the message speaks of (bytes of a file, tokens,
 * characters of a text), SPARK_ERR_NOWHERE if there is no position. The text is one line of UTF-8, without the position. */
typedef struct spark_err {
    spark_code code;
    uint64_t at;
    uint32_t line, column; /* 1-based, 0 = none; templates and configuration */
    char text[SPARK_ERR_TEXT];
} spark_err;

/* The short text of a code ("malformed input"); never NULL. */
const char *spark_code_text(spark_code code);

#ifdef __cplusplus
}
#endif
#endif
