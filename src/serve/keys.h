/* keys.h - API keys: what each may do, and whether presented bytes are one.
 * Nouns:   spark_keys, the keys of one file, read-only; spark_key, one of them. A key's text is
 *          "sk-spark-" id "-" secret checksum: id 10, secret 52 (256 random bits), checksum 7 (CRC-32) characters of base32 (a-z2-7).
 * Promise: a file is read whole or refused with line and column. Of a secret only HMAC-SHA-256(salt of the file, id, secret) is kept. No
 *          slow hash is needed: there are 2^256 secrets of equal chance, so guessing one is out of reach at any speed, and the salt keeps
 *          tables made for other files useless. Finding a key costs the same work whether the id is known, the secret right, or neither.
 * Not here: rates and lockout (keys_gate.h); files (keys_file.h). Threads: immutable after parse. */
#ifndef SPARK_SERVE_KEYS_H
#define SPARK_SERVE_KEYS_H

#include "base/arena.h"

enum { SPARK_KEY_ID = 10, SPARK_KEY_SECRET = 52, SPARK_KEY_SUM = 7, SPARK_KEY_DIGEST = 32 };
#define SPARK_KEY_PREFIX "sk-spark-"
enum { SPARK_KEY_TEXT = 9 + SPARK_KEY_ID + 1 + SPARK_KEY_SECRET + SPARK_KEY_SUM };

/* What a route is for; every route of the server has one class. */
#define SPARK_ROUTE_CLASSES(X)                                                                                         \
    X(GENERATE, "generate") /* chat, completions */                                                                    \
    X(TOKENIZE, "tokenize") /* tokenize, detokenize, templates */                                                      \
    X(MODELS, "models")     /* which models there are, and what they are */                                            \
    X(EMBED, "embed")                                                                                                  \
    X(METRICS, "metrics") /* a right of its own */                                                                     \
    X(ADMIN, "admin")     /* a right of its own */

typedef enum spark_route_class {
#define SPARK_ROUTE_ENUM(name, text) SPARK_ROUTE_##name,
    SPARK_ROUTE_CLASSES(SPARK_ROUTE_ENUM)
#undef SPARK_ROUTE_ENUM
        SPARK_N_ROUTE_CLASSES
} spark_route_class;
const char *spark_route_class_name(spark_route_class c);

typedef struct spark_key {
    char id[SPARK_KEY_ID + 1];
    uint64_t number; /* the id as a number: what other tables know the key by */
    const char *name;
    uint8_t digest[SPARK_KEY_DIGEST];
    int64_t created, expires, revoked; /* seconds since 1970; 0 = never */
    const char *const *models;         /* [n_models]; 0 = every model */
    uint32_t n_models;
    uint32_t routes;              /* bits 1 << spark_route_class, with those of metrics and admin */
    uint32_t requests_per_minute; /* 0 = no limit, as in the next three */
    uint32_t tokens_per_minute, max_context, max_parallel;
    int32_t priority;
    const char *tenant_name; /* NULL = the key is a tenant of its own */
    uint64_t tenant;         /* never 0, and not to be guessed without the file */
} spark_key;

typedef struct spark_keys spark_keys;

/* Reads OpenSSL's tables without its configuration file, and hashes once: call before a door closes. */
void spark_keys_warm(void);

SPARK_MUST_CHECK spark_status spark_keys_parse(spark_keys **out, spark_bytes file, spark_err *err);
void spark_keys_destroy(spark_keys **k);
uint32_t spark_keys_count(const spark_keys *k);
const spark_key *spark_keys_at(const spark_keys *k, uint32_t i); /* in the order of their numbers */
/* The key of that number, or NULL. */
const spark_key *spark_keys_by_number(const spark_keys *k, uint64_t number);

/* The key whose secret was presented, or NULL. *known is the key whose id was presented, right or wrong (for lockout). Says nothing of
 * expiry or scope. */
const spark_key *spark_keys_find(const spark_keys *k, spark_bytes presented, const spark_key **known);

/* Revoked, or expired by `now`: it opens nothing any more. */
static inline bool spark_key_is_over(const spark_key *k, int64_t now)
{
    return k->revoked || (k->expires && k->expires <= now);
}
bool spark_key_allows_route(const spark_key *k, spark_route_class route);
bool spark_key_allows_model(const spark_key *k, const char *model);

#endif
