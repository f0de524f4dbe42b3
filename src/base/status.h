/* status.h (base) - making and passing on errors; the public half is <spark/status.h>.
 * Macros that return live here and nowhere else: SPARK_TRY, SPARK_CHECK, SPARK_FAIL. */
#ifndef SPARK_BASE_STATUS_H
#define SPARK_BASE_STATUS_H

#include "base/compiler.h"
#include "spark/status.h"

#define SPARK_SUCCESS ((spark_status){SPARK_OK})

/* Fills `err` (may be NULL). `at`: byte offset, index, or SPARK_ERR_NOWHERE. Bytes of the message that are not printable
 * ASCII or valid UTF-8 become '?', so hostile names are safe to print. */
void spark_err_set(spark_err *err, spark_code code, uint64_t at, const char *fmt, ...) SPARK_PRINTF(4, 5);
/* The same with a line and column (templates, configuration). */
void spark_err_set_line(spark_err *err, spark_code code, uint32_t line, uint32_t column, const char *fmt, ...)
    SPARK_PRINTF(5, 6);

/* spark_fail(err, code, at, fmt, ...) fills err and is the status to hand back. A macro, so that compilers and analysers
 * see that it is never OK. */
#define spark_fail(err, code, at, ...) ((void)(spark_err_set((err), (code), (at), __VA_ARGS__)), (spark_status){(code)})

static inline int spark_ok(spark_status s) { return s.code == SPARK_OK; }

/* Return early with the status of a failed call. */
#define SPARK_TRY(call)                                                                                                \
    do {                                                                                                               \
        const spark_status spark_try_ = (call);                                                                        \
        if (SPARK_UNLIKELY(spark_try_.code != SPARK_OK)) return spark_try_;                                            \
    } while (0)

/* Return early unless a fact about foreign input holds. (For our own mistakes there is assert.) */
#define SPARK_CHECK(cond, err, code, at, ...)                                                                          \
    do {                                                                                                               \
        if (SPARK_UNLIKELY(!(cond))) return spark_fail((err), (code), (at), __VA_ARGS__);                              \
    } while (0)

#endif
