/* keys_gate.h - who may come in now: keys, their limits, and the lockout of those who guess.
 * Nouns:   spark_gate, the table of keys in use and what each has spent; a verdict, the answer to one request.
 * Promise: time tells nobody whether a key is right (keys.h). Every clock is handed in. Memory is bounded whatever comes: so
 *          much for each key of the file, and a fixed table of addresses. A reload is whole: limits spent stay spent, a bad file
 *          changes nothing.
 * Lockout: five failures are free, then 1, 2, 4 ... 256 s in which even the right key is refused. Failures count for the id that was
 *          presented; where they come from an address by which that key lately came in, for the pair of both, so that nobody who read
 *          an id in a log can lock its owner out. Without a known id they count for the address (IPv6: its /64), and never for a
 *          listed proxy's or "unix", behind which others are.
 * Threads: one, the loop's. */
#ifndef SPARK_SERVE_KEYS_GATE_H
#define SPARK_SERVE_KEYS_GATE_H

#include "serve/config_net.h"
#include "serve/keys.h"

typedef struct spark_gate spark_gate;

typedef struct spark_gate_time {
    uint64_t ns; /* monotonic: limits and lockout */
    int64_t s;   /* since 1970: expiry */
} spark_gate_time;
spark_gate_time spark_gate_now(void);

/* No keys yet: everybody is refused. proxies[n] are copied. */
SPARK_MUST_CHECK spark_status spark_gate_create(spark_gate **out, const spark_net_range *proxies, uint32_t n,
                                                spark_err *err);
void spark_gate_destroy(spark_gate **g);
/* The keys of a file from now on; on error the old ones stay. */
SPARK_MUST_CHECK spark_status spark_gate_load(spark_gate *g, spark_bytes file, spark_err *err);
const spark_keys *spark_gate_keys(const spark_gate *g); /* valid until the next load; NULL before the first */

typedef struct spark_gate_ask {
    spark_bytes presented; /* what stood behind "Bearer "; len 0 = nothing */
    spark_route_class route;
    const char *model;   /* NULL = the route has none, or it is not known yet (spark_gate_model follows) */
    const char *address; /* of the client: "203.0.113.7", "unix" */
} spark_gate_ask;

typedef struct spark_gate_verdict {
    int status;         /* 200, 401, 403, 429 */
    const char *code;   /* of the error object: "invalid_api_key", ... */
    const char *reason; /* for metrics: one of the words of SPARK_GATE_REASONS */
    char message[192];
    uint32_t retry_after_s; /* 429 */
    /* Whose it is, where the key was right (200, 403, most 429). Copies: a reload takes nothing away. */
    char id[SPARK_KEY_ID + 1];
    uint64_t number, tenant;
    int32_t priority;
    uint32_t max_context; /* 0 = no limit */
} spark_gate_verdict;

/* Words of `reason`, fixed so that metrics can list them. */
#define SPARK_GATE_REASONS                                                                                             \
    "none", "key", "expired", "revoked", "scope", "lockout", "parallel", "request_rate", "token_rate"

/* 200 takes one request and one of the parallel places, until spark_gate_done. */
void spark_gate_check(spark_gate *g, const spark_gate_ask *a, spark_gate_time now, spark_gate_verdict *out);
/* The model, once the body is read: false turns an earlier 200 into 401 (the key is gone) or 403. The place is still to be given back. Whether
 * there is such a model plays no part, so a key learns nothing of models that are not its own. */
bool spark_gate_model(const spark_gate *g, const char *model, spark_gate_time now, spark_gate_verdict *v);
/* Tokens of the prompt and of the answer, as they become known; negative gives back. More than is left makes a debt that later requests
 * wait for, a minute's worth at most. */
void spark_gate_charge(spark_gate *g, uint64_t number, int64_t tokens, spark_gate_time now);
void spark_gate_done(spark_gate *g, uint64_t number);

/* Whether the key of that number has a right of its own (METRICS, ADMIN); 0, where no key was asked, has them all. */
bool spark_gate_right(const spark_gate *g, uint64_t number, spark_route_class right);

uint32_t spark_gate_locked(const spark_gate *g, spark_gate_time now); /* ids, pairs and addresses that are locked out */

#endif
