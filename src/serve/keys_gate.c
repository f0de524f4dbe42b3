/* keys_gate.c - token buckets, places and lockout.
 *
 * A bucket's level counts sixty-billionths (nanoseconds of a minute) of a request or token, so that a minute's limit of L refills by L a
 * nanosecond: whole numbers, nothing lost. With L <= SPARK_MAX_KEY_RATE every sum stays below 2^63. */
#include "serve/keys_gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/spark_limits.h"
#include "text/keyed_hash.h"

#define GATE_MINUTE INT64_C(60000000000)
_Static_assert(SPARK_MAX_KEY_RATE <= INT64_MAX / 3 / INT64_C(60000000000), "twice a full bucket fits, with room");

enum {
    GATE_FREE = 5,      /* failures that cost nothing: a client with an old key tries a few times */
    GATE_DOUBLINGS = 8, /* the longest lockout is 256 s */
    GATE_SETS = 1024,   /* the table of addresses and pairs: 8 places in each set, the longest unused goes */
    GATE_WAYS = 8,
    GATE_GOOD = 4 /* addresses remembered by which a key came in */
};
#define GATE_FORGET UINT64_C(900000000000) /* failures older than 15 minutes are forgotten */

typedef struct gate_fails {
    uint32_t n;
    uint64_t last_ns, until_ns; /* locked until */
} gate_fails;

typedef struct gate_bucket {
    int64_t level;
    uint64_t at_ns;
    uint32_t limit; /* the level belongs to; another one after a reload begins full */
} gate_bucket;

typedef struct gate_state { /* of a key */
    uint64_t number;
    gate_bucket requests, tokens;
    uint32_t running;
    gate_fails fails;
    uint64_t good[GATE_GOOD];
    uint32_t next_good;
} gate_state;

typedef struct gate_slot {
    uint64_t who; /* keyed hash; 0 = free */
    gate_fails fails;
} gate_slot;

struct spark_gate {
    spark_keys *keys;
    gate_state *states; /* [count of keys], beside them */
    uint64_t seed[2];
    uint32_t n_proxies;
    spark_net_range proxies[SPARK_MAX_SETTING_LIST];
    gate_slot slots[GATE_SETS][GATE_WAYS];
};

spark_gate_time spark_gate_now(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t);
    return (spark_gate_time){spark_clock_ns(), t.tv_sec};
}

spark_status spark_gate_create(spark_gate **out, const spark_net_range *proxies, uint32_t n, spark_err *err)
{
    SPARK_CHECK(n <= SPARK_MAX_SETTING_LIST, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%u proxies: at most %u", n,
                SPARK_MAX_SETTING_LIST);
    spark_gate *g = calloc(1, sizeof *g);
    SPARK_CHECK(g, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the gate");
    if (getrandom(g->seed, sizeof g->seed, 0) != (ssize_t)sizeof g->seed) {
        free(g);
        return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "the system gives no random bytes");
    }
    if (n) memcpy(g->proxies, proxies, n * sizeof *proxies);
    g->n_proxies = n;
    *out = g;
    return SPARK_SUCCESS;
}

void spark_gate_destroy(spark_gate **g)
{
    if (!*g) return;
    spark_keys_destroy(&(*g)->keys);
    free((*g)->states);
    free(*g);
    *g = NULL;
}

const spark_keys *spark_gate_keys(const spark_gate *g) { return g->keys; }

static gate_state *gate_state_of(const spark_gate *g, const spark_key *k)
{
    return k ? &g->states[k - spark_keys_at(g->keys, 0)] : NULL;
}

spark_status spark_gate_load(spark_gate *g, spark_bytes file, spark_err *err)
{
    spark_keys *keys = NULL;
    SPARK_TRY(spark_keys_parse(&keys, file, err));
    const uint32_t n = spark_keys_count(keys);
    gate_state *states = calloc(n ? n : 1, sizeof *states);
    if (!states) {
        spark_keys_destroy(&keys);
        return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %u keys", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        const spark_key *k = spark_keys_at(keys, i),
                        *before = g->keys ? spark_keys_by_number(g->keys, k->number) : NULL;
        if (before) states[i] = *gate_state_of(g, before);
        states[i].number = k->number;
    }
    spark_keys_destroy(&g->keys);
    free(g->states);
    g->keys = keys;
    g->states = states;
    return SPARK_SUCCESS;
}

/* ---- Buckets ---- */

/* Brings a bucket up to now; one that is new, or whose limit changed, is full. */
static void gate_refill(gate_bucket *b, uint32_t limit, uint64_t now)
{
    const int64_t full = (int64_t)limit * GATE_MINUTE;
    if (b->limit != limit) {
        *b = (gate_bucket){full, now, limit};
        return;
    }
    if (now <= b->at_ns) return;
    const uint64_t past = now - b->at_ns;
    /* From the deepest debt to full takes two minutes. */
    if (past >= 2 * (uint64_t)GATE_MINUTE)
        b->level = full;
    else
        for (int half = 0; half < 2; half++) { /* in two parts, so that no sum leaves 63 bits */
            const int64_t part = (int64_t)(half ? past - past / 2 : past / 2);
            b->level = part * limit > full - b->level ? full : b->level + part * limit;
        }
    b->at_ns = now;
}

/* Seconds until one whole unit is there, at least 1. */
static uint32_t gate_wait(const gate_bucket *b)
{
    const uint64_t missing = (uint64_t)(GATE_MINUTE - b->level);
    const uint64_t s = missing / b->limit / 1000000000u + 1;
    return (uint32_t)s;
}

/* Whether there is a whole unit; `limit` 0 = always. */
static bool gate_has(gate_bucket *b, uint32_t limit, uint64_t now)
{
    if (limit == 0) return true;
    gate_refill(b, limit, now);
    return b->level >= GATE_MINUTE;
}

void spark_gate_charge(spark_gate *g, uint64_t number, int64_t tokens, spark_gate_time now)
{
    const spark_key *k = g->keys ? spark_keys_by_number(g->keys, number) : NULL;
    if (!k || k->tokens_per_minute == 0) return;
    const int64_t limit = k->tokens_per_minute, full = limit * GATE_MINUTE;
    gate_bucket *b = &gate_state_of(g, k)->tokens;
    gate_refill(b, k->tokens_per_minute, now.ns);
    if (tokens > 2 * limit) tokens = 2 * limit;
    if (tokens < -2 * limit) tokens = -2 * limit;
    for (int half = 0; half < 2; half++) { /* in two parts: each at most `full` */
        const int64_t part = (half ? tokens - tokens / 2 : tokens / 2) * GATE_MINUTE;
        const int64_t level = b->level - part;
        b->level = level > full ? full : level < -full ? -full : level;
    }
}

void spark_gate_done(spark_gate *g, uint64_t number)
{
    gate_state *s = gate_state_of(g, g->keys ? spark_keys_by_number(g->keys, number) : NULL);
    if (s && s->running) s->running--;
}

/* ---- Lockout ---- */

/* A client's address as a number that nobody can aim at: IPv6 by its /64, which is what one customer gets. 0: it stands for many. */
static uint64_t gate_address(const spark_gate *g, const char *address)
{
    spark_net_range a;
    if (!address || !spark_net_parse(address, &a) || spark_net_within(address, g->proxies, g->n_proxies)) return 0;
    const uint64_t high = a.len == 16 ? spark_load_u64(a.bytes) : spark_load_u32(a.bytes);
    return spark__mix(high ^ g->seed[0], (uint64_t)a.len ^ g->seed[1]) | 1;
}

/* The place of somebody in the table; made if it is not there and `make` says so: the longest unused of the set goes. */
static gate_fails *gate_slot_of(spark_gate *g, uint64_t who, bool make)
{
    gate_slot *set = g->slots[(who >> 20) % GATE_SETS], *oldest = set;
    for (int i = 0; i < GATE_WAYS; i++) {
        if (set[i].who == who) return &set[i].fails;
        if (set[i].fails.last_ns < oldest->fails.last_ns) oldest = &set[i];
    }
    if (!make) return NULL;
    *oldest = (gate_slot){.who = who};
    return &oldest->fails;
}

/* What failures of this request count for, or have counted: the key's own, a place in the table, or nothing (NULL). */
static gate_fails *gate_culprit(spark_gate *g, gate_state *known, uint64_t address, bool make)
{
    if (!known) return address ? gate_slot_of(g, address, make) : NULL;
    for (int i = 0; address && i < GATE_GOOD; i++)
        if (known->good[i] == address)
            return gate_slot_of(g, spark__mix(address ^ g->seed[1], known->number ^ g->seed[0]) | 1, make);
    return &known->fails;
}

static void gate_failed(gate_fails *f, uint64_t now)
{
    if (now - f->last_ns > GATE_FORGET) f->n = 0;
    f->last_ns = now;
    f->n++;
    if (f->n <= GATE_FREE) return;
    const uint32_t doublings = f->n - GATE_FREE - 1 < GATE_DOUBLINGS ? f->n - GATE_FREE - 1 : GATE_DOUBLINGS;
    f->until_ns = now + (UINT64_C(1000000000) << doublings);
}

/* A key came in: its failures are over, and its address is remembered. */
static void gate_came_in(gate_state *s, gate_fails *f, uint64_t address)
{
    if (f) *f = (gate_fails){.last_ns = f->last_ns};
    if (!address) return;
    for (int i = 0; i < GATE_GOOD; i++)
        if (s->good[i] == address) return;
    s->good[s->next_good++ % GATE_GOOD] = address;
}

uint32_t spark_gate_locked(const spark_gate *g, spark_gate_time now)
{
    uint32_t n = 0;
    for (uint32_t i = 0; g->keys && i < spark_keys_count(g->keys); i++) n += g->states[i].fails.until_ns > now.ns;
    for (uint32_t i = 0; i < GATE_SETS; i++)
        for (uint32_t j = 0; j < GATE_WAYS; j++) n += g->slots[i][j].fails.until_ns > now.ns;
    return n;
}

/* ---- Verdicts ---- */

static void gate_say(spark_gate_verdict *v, int status, const char *code, const char *reason, uint32_t retry_after_s,
                     const char *message)
{
    v->status = status;
    v->code = code;
    v->reason = reason;
    v->retry_after_s = retry_after_s;
    snprintf(v->message, sizeof v->message, "%s", message);
}

static void gate_deny_unknown(spark_gate_verdict *v, bool presented)
{
    gate_say(v, 401, "invalid_api_key", "key", 0,
             presented ? "This API key is not valid."
                       : "An API key is needed: send it as 'Authorization: Bearer KEY'.");
}

/* Whether a key that was right may be used at all. */
static bool gate_alive(const spark_key *k, spark_gate_time now, spark_gate_verdict *v)
{
    if (k->revoked || (k->expires && now.s >= k->expires)) {
        gate_say(v, 401, "invalid_api_key", k->revoked ? "revoked" : "expired", 0,
                 k->revoked ? "This API key was revoked." : "This API key has expired.");
        return false;
    }
    return true;
}

static bool gate_scope(const spark_key *k, const spark_gate_ask *a, spark_gate_verdict *v)
{
    if (!spark_key_allows_route(k, a->route)) {
        gate_say(v, 403, "permission_denied", "scope", 0, "");
        snprintf(v->message, sizeof v->message, "This API key is not allowed to use routes of the kind '%s'.",
                 spark_route_class_name(a->route));
        return false;
    }
    if (a->model && !spark_key_allows_model(k, a->model)) {
        gate_say(v, 403, "model_not_allowed", "scope", 0,
                 "This API key is not allowed to use the model that was asked for.");
        return false;
    }
    return true;
}

/* Places and rates; takes one of each if all are there. */
static bool gate_limits(const spark_key *k, gate_state *s, uint64_t now, spark_gate_verdict *v)
{
    if (k->max_parallel && s->running >= k->max_parallel) {
        gate_say(v, 429, "rate_limit_exceeded", "parallel", 1, "");
        snprintf(v->message, sizeof v->message, "This API key may have %u requests at once.", k->max_parallel);
        return false;
    }
    if (!gate_has(&s->tokens, k->tokens_per_minute, now)) {
        gate_say(v, 429, "rate_limit_exceeded", "token_rate", gate_wait(&s->tokens), "");
        snprintf(v->message, sizeof v->message, "This API key may use %u tokens a minute.", k->tokens_per_minute);
        return false;
    }
    if (!gate_has(&s->requests, k->requests_per_minute, now)) {
        gate_say(v, 429, "rate_limit_exceeded", "request_rate", gate_wait(&s->requests), "");
        snprintf(v->message, sizeof v->message, "This API key may make %u requests a minute.", k->requests_per_minute);
        return false;
    }
    if (k->requests_per_minute) s->requests.level -= GATE_MINUTE;
    s->running++;
    return true;
}

static void gate_name(const spark_key *k, spark_gate_verdict *v)
{
    memcpy(v->id, k->id, sizeof v->id);
    v->number = k->number;
    v->tenant = k->tenant;
    v->priority = k->priority;
    v->max_context = k->max_context;
}

void spark_gate_check(spark_gate *g, const spark_gate_ask *a, spark_gate_time now, spark_gate_verdict *out)
{
    const spark_key *known = NULL, *key = NULL;
    *out = (spark_gate_verdict){0};
    if (!g->keys || a->presented.len == 0) { /* an attempt without a key guesses nothing */
        gate_deny_unknown(out, false);
        return;
    }
    key = spark_keys_find(g->keys, a->presented, &known);
    const uint64_t address = gate_address(g, a->address);
    gate_state *state = gate_state_of(g, known);
    gate_fails *culprit = gate_culprit(g, state, address, key == NULL);
    if (culprit && culprit->until_ns > now.ns) {
        const uint32_t wait = (uint32_t)((culprit->until_ns - now.ns) / 1000000000u + 1);
        gate_say(out, 429, "too_many_failures", "lockout", wait, "Too many attempts with a wrong API key: wait.");
        return;
    }
    if (!key) {
        if (culprit) gate_failed(culprit, now.ns);
        gate_deny_unknown(out, true);
        return;
    }
    gate_came_in(state, culprit, address);
    gate_name(key, out);
    if (!gate_alive(key, now, out) || !gate_scope(key, a, out) || !gate_limits(key, state, now.ns, out)) return;
    gate_say(out, 200, "", "none", 0, "");
}

bool spark_gate_right(const spark_gate *g, uint64_t number, spark_route_class right)
{
    const spark_key *k = g->keys ? spark_keys_by_number(g->keys, number) : NULL;
    return number == 0 || (k && spark_key_allows_route(k, right));
}

bool spark_gate_model(const spark_gate *g, const char *model, spark_gate_time now, spark_gate_verdict *v)
{
    const spark_key *k = g->keys ? spark_keys_by_number(g->keys, v->number) : NULL;
    if (!k) {
        gate_deny_unknown(v, true);
        return false;
    }
    if (!gate_alive(k, now, v)) return false;
    if (spark_key_allows_model(k, model)) return true;
    gate_say(v, 403, "model_not_allowed", "scope", 0,
             "This API key is not allowed to use the model that was asked for.");
    return false;
}
