/* engine_internal.h - what the sources of the scheduler share.
 *
 * A request waits (its prompt and parameters lie in a chain of blocks), then gets a seat and a desk:
 *
 *     submit ──▶ WAITING ──admit──▶ RUNNING ──▶ ended
 *                   ▲                  │
 *                   └────preempted─────┘
 *
 * A seat is a sequence of the keys and values: who has one is computed. A desk holds the tokens, stop strings and drawn
 * results of a request from its first seat to its end; a preempted request keeps it and loses only its seat and pages.
 *
 * Invariants: 1. `running` is in order of rank (priority, then age), and running[i] has a seat. 2. A running request has
 * keys and values for its first spark_kv_length tokens; tokens[that..n) are still to be computed, at least one. 3. What a pass
 * will take is promised before it begins: free pages >= n_promised always. 4. There are more desks than seats, and whoever
 * is preempted keeps his; nobody new is admitted while all are taken.
 * Why nothing waits for ever: the request of highest rank can take the pages of all others, and one request always fits. */
#ifndef SPARK_ENGINE_ENGINE_INTERNAL_H
#define SPARK_ENGINE_ENGINE_INTERNAL_H

#include "base/pages.h"
#include "base/spark_limits.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "engine/stops.h"

#define ENGINE_NONE UINT32_MAX

enum {
    ENGINE_BLOCK = SPARK_KV_BLOCK *
                   sizeof(uint32_t), /* bytes; so block i of a waiting prompt is what page i will hold */
    ENGINE_DESKS = 2,                /* for every seat, unless told */
    ENGINE_DESK_EVENTS = 4,          /* of one request in one step: STARTED, two PIECEs, the end */
    ENGINE_SETTLE = 2 << 20,         /* bytes: a huge page */
    ENGINE_MAX_SAMPLERS = 8          /* threads that draw; more would wait for each other's memory */
};

/* What a request works with from its first seat to its end. */
typedef struct engine_desk {
    uint32_t *tokens;       /* [n_ctx] prompt, then what was drawn */
    spark_logit_bias *bias; /* [SPARK_MAX_LOGIT_BIAS] */
    spark_bytes *stop;      /* [SPARK_MAX_STOPS], into stop_text */
    uint8_t *stop_text;     /* [SPARK_MAX_STOPS * SPARK_MAX_STOP_BYTES] */
    uint8_t *held;          /* [held_cap] of stops */
    spark_logprob *top;     /* [SPARK_MAX_LOGPROBS] */
    spark_stops stops;
    uint32_t n_used; /* tokens to wipe when it is given back */
    uint32_t next;   /* in the list of free or of used desks */
} engine_desk;

typedef enum engine_state { REQUEST_FREE, REQUEST_WAITING, REQUEST_RUNNING } engine_state;

typedef struct engine_request {
    uint64_t id, order; /* order: age, the lower the older */
    uint64_t deadline_ns;
    uint32_t tenant; /* index */
    int32_t priority;
    engine_state state;
    bool held, cache, announced, ignore_eog;
    spark_sampling sampling;
    uint32_t n_bias, n_stops, n_logprobs, max_tokens;
    uint32_t n_prompt, n_public;
    uint32_t n;        /* tokens: prompt and drawn */
    uint32_t n_drawn;  /* an end token included, which is not among the tokens */
    uint32_t n_ctx;    /* tokens that end it */
    uint32_t n_most;   /* tokens it can come to have */
    uint32_t n_billed; /* tokens that its tenant has paid for */
    uint32_t n_since;  /* rows computed since it got its seat */
    uint32_t blocks;   /* first of its chain while it has no desk */
    uint32_t desk;     /* ENGINE_NONE before its first seat */
    uint32_t seq;      /* its seat, while RUNNING */
    uint32_t n_known;  /* leading full pages of its sequence that are in the prefix cache; the last of them */
    uint32_t known;
    uint64_t submit_ns, start_ns, first_ns;
    /* the pass being made */
    bool asked;
    uint32_t n_rows, n_promised;
    const float *logits;
    uint32_t drawn;
    float logprob;
    uint32_t next; /* in the list of free requests */
} engine_request;

typedef struct engine_tenant {
    uint64_t id;
    double served; /* virtual time: tokens computed for it, lifted to that of the others when it comes anew */
    uint32_t n_requests, n_running;
    bool used;
} engine_tenant;

/* One page of the prefix cache; its index is the page's number. */
typedef struct engine_page {
    uint64_t tenant;
    uint32_t hash, next;   /* its bucket's chain */
    uint32_t parent;       /* the page before it, ENGINE_NONE for the first */
    uint32_t older, newer; /* among those that no sequence has */
    bool cached, shared, unused;
    uint32_t tokens[SPARK_KV_BLOCK];
} engine_page;

typedef struct engine_cache {
    engine_page *pages; /* [n_pages]; NULL = no prefix cache */
    uint32_t *buckets;  /* [mask + 1] */
    uint32_t mask, oldest, newest, n_unused;
    uint64_t seed[2];
} engine_cache;

/* What a pass consists of, for its cost. */
typedef struct engine_mix {
    uint32_t n_decode, n_prompt;
    double decode_depth, prompt_depth; /* sums over rows of positions before them */
} engine_mix;

enum { COST_PASS, COST_DECODE, COST_DECODE_DEPTH, COST_PROMPT, COST_PROMPT_DEPTH, COST_N };

typedef struct engine_cost {
    double ns[COST_N]; /* of a pass, a row, a row at depth 1024 */
    bool decode_seen, prompt_seen;
    uint32_t n_mixed,
        look;         /* passes with streams and prompts since the last of streams alone, and after how many to look */
    double below_aim; /* how much lower than at first passes aim at a target, of it */
    /* Of passes with prompts, older ones weighing less: their number, rows, rows squared, ns, ns times rows */
    double sum_1, sum_n, sum_nn, sum_t, sum_nt;
    uint32_t n_taught; /* of them, at most COST_SURE; less by each refusal that nothing but this justified */
    bool warm;         /* one pass was made: it pays for cold caches and fresh pages, and teaches nothing */
    double run_ns;     /* how long a request keeps its seat, on average; 0 = unknown */
} engine_cost;

/* Byte offsets in the region of an engine. */
typedef struct engine_layout {
    uint64_t requests, tenants, running, seats, order, draws, rows, events, block_next, blocks, pages, buckets;
    uint64_t desks, tokens, bias, stop, stop_text, held, top, samplers, sampler_bytes, total;
    uint32_t n_requests, n_desks, n_tenants, n_blocks, n_events, n_samplers, n_buckets, n_pages;
    uint32_t held_cap;
} engine_layout;

struct spark_engine {
    spark_engine_parts parts;
    spark_engine_options options;
    engine_layout at;
    spark_pages memory;
    spark_kv *kv;
    spark_exec *exec;
    uint32_t n_vocab, n_vocab_text, n_threads;
    spark_sampler *samplers[ENGINE_MAX_SAMPLERS];
    /* requests */
    engine_request *requests;
    uint32_t free_request, n_alive;
    uint64_t next_order;
    engine_tenant *tenants;
    uint32_t *running; /* [n_running] indices, by rank */
    uint32_t n_running;
    uint32_t *seats; /* free sequences, the first options.n_running - n_running */
    engine_desk *desks;
    uint32_t free_desk, used_desk; /* used: given back, and to be wiped at the next step */
    /* prompts that wait */
    uint8_t *blocks;
    uint32_t *block_next;
    uint32_t free_block, n_blocks_free;
    uint64_t waiting_tokens; /* of requests without a desk */
    engine_cache cache;
    engine_cost cost;
    /* the pass being made */
    uint32_t n_promised;
    spark_row *rows; /* [n_batch] */
    uint32_t *order; /* [n_running] requests that have been asked for rows, decoding ones first */
    uint32_t n_order;
    uint32_t *draws; /* [n_running] those with logits */
    uint32_t n_draws;
    spark_ticket ticket;
    /* memory that spark_engine_settle made resident: so many of its regions, and bytes of the next */
    uint32_t n_settled;
    size_t settled;
    /* what happened */
    spark_event *events;
    uint32_t n_events, n_taken;
    spark_engine_stats stats;
};

static inline uint32_t engine_pages(uint32_t n_positions)
{
    return n_positions / SPARK_KV_BLOCK + (n_positions % SPARK_KV_BLOCK != 0);
}
static inline uint64_t engine_now(const spark_engine *e) { return e->parts.now(); }
static inline engine_desk *engine_desk_of(const spark_engine *e, const engine_request *r) { return &e->desks[r->desk]; }
static inline uint32_t engine_length(const spark_engine *e, const engine_request *r)
{
    return r->state == REQUEST_RUNNING ? spark_kv_length(e->kv, r->seq) : 0;
}
static inline bool engine_decodes(const engine_request *r) { return r->n_drawn > 0; }
/* Whether a goes before b: by priority, then by age. */
static inline bool engine_outranks(const engine_request *a, const engine_request *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->order < b->order;
}

/* ---- engine.c: what happens to requests ---- */
spark_event *spark__engine_event(spark_engine *e, const engine_request *r, spark_event_kind kind);
/* Ends a request: pages, seat, desk and name are free. The event is filled in by the caller. */
spark_event *spark__engine_end(spark_engine *e, engine_request *r, spark_event_kind kind);
/* Takes the seat and pages away; the request waits again. */
void spark__engine_preempt(spark_engine *e, engine_request *r);

enum { ENGINE_SHORT_PROMPT = 256 /* rows that it must compute, at most */ };

/* Whether a prompt of which so many rows must be computed, from its first to its last, may slow the streams beside it down only as far
 * as the target. Without one of the operator's, a short prompt goes at once: it costs each stream one longer gap, while held back it
 * would cost throughput and its own first token. */
static inline bool engine_is_timed(const spark_engine *e, uint32_t n_rows)
{
    const uint32_t target = e->options.itl_target_us;
    return target == SPARK_ITL_AUTO ? n_rows > ENGINE_SHORT_PROMPT : target != 0;
}

/* ---- engine_queue.c: who waits, who is next ---- */
/* Seats for those who wait, as far as there is room. */
void spark__queue_admit(spark_engine *e);
bool spark__queue_before(const spark_engine *e, const engine_request *a,
                         const engine_request *b); /* a is served first */
void spark__queue_bill(spark_engine *e, engine_request *r, uint32_t n_tokens);
void spark__queue_forget(spark_engine *e, engine_request *r); /* its blocks and its place at its tenant */
/* Gives back the seat. */
void spark__queue_unseat(spark_engine *e, engine_request *r);
void spark__queue_stats(const spark_engine *e, spark_engine_stats *out);
/* Time to the first token of a request that came now. */
double spark__queue_predict(const spark_engine *e, uint64_t tenant, int32_t priority, uint32_t n_prompt); /* ns */

/* ---- engine_cache.c: full pages of earlier prompts ---- */
void spark__cache_create(spark_engine *e);
/* How many leading pages of the request's tokens the cache has, and how many of them no sequence has. Only before its first row. */
uint32_t spark__cache_look(const spark_engine *e, const engine_request *r, uint32_t *n_unused);
/* Lets an empty sequence, or one that so far was adopted, begin with what the cache has. */
void spark__cache_adopt(spark_engine *e, engine_request *r);
/* Remembers pages that have become full. */
void spark__cache_add(spark_engine *e, engine_request *r);
/* The sequence is about to be emptied. */
void spark__cache_leave(spark_engine *e, const engine_request *r);
/* Frees the page that was used longest ago; false: there is none. */
bool spark__cache_evict(spark_engine *e);

/* ---- engine_cost.c: how long a pass takes ---- */
double spark__cost_of(const engine_cost *c, const engine_mix *m);
/* What a pass with these decoding requests may take, in ns. */
double spark__cost_target(const engine_cost *c, const engine_mix *m, uint32_t target_us);
/* Should a pass go without prompts that must keep a target, to see what streams take alone? Asked once a pass: yes begins anew. */
bool spark__cost_look(engine_cost *c);
/* Rows of a prompt at this depth that may join the mix within the target (of the engine's own: about as many). */
uint32_t spark__cost_rows(const engine_cost *c, const engine_mix *m, uint32_t depth, uint32_t target_us);
void spark__cost_learn(engine_cost *c, const engine_mix *m, uint64_t ns);
/* What passes with prompts take, for predictions: the pass itself and each of its rows; 0: none was seen. */
void spark__cost_prompts(const engine_cost *c, double *pass_ns, double *row_ns);
bool spark__cost_is_sure(const engine_cost *c); /* enough of them were seen to refuse by it */
void spark__cost_doubt(engine_cost *c); /* a request was refused by it alone: too many of these, and it is not sure */
/* A pass with a prompt in it that had this target took so long: whether to aim lower or higher. */
void spark__cost_judge(engine_cost *c, double target_ns, uint64_t ns);
void spark__cost_learn_run(engine_cost *c, uint64_t ns);

/* ---- engine_draw.c: from logits to events ---- */
void spark__draw_all(spark_engine *e);

#endif
