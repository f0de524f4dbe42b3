/* engine.h - many requests on one model: in goes a request, out come events.
 * Nouns:   spark_engine, the scheduler of one model; a request, a prompt and how to go on from it, known by a number that
 *          its owner chose; an event, what happened to one request.
 * Promise: the tokens of a request are a function of (model, KV type, prompt, parameters) and of nothing else: not of its
 *          neighbours, of cache hits, of how its prompt was cut, of being stopped and computed again (law 1). After create
 *          nothing is allocated (law 2). No request waits for another's slow reader.
 * Not here: text before tokens (templates), descriptors, processes. Threads: one caller; the pool's threads compute. */
#ifndef SPARK_ENGINE_ENGINE_H
#define SPARK_ENGINE_ENGINE_H

#include "model/model.h"
#include "spark/spark.h"
#include "text/tokenizer.h"

typedef struct spark_engine spark_engine;

/* What it works on, all borrowed and loaded. */
typedef struct spark_engine_parts {
    const spark_net *net;
    const spark_kern *kern;
    const spark_tokenizer *tokenizer; /* NULL: tokens have no text and none ends a request */
    const uint8_t *dry_breaks;        /* [n_vocab] as in sampler.h; may be NULL */
    spark_pool *pool;
    spark_isa isa;
    uint64_t (*now)(void); /* monotonic ns; NULL = spark_clock_ns. Decides when, never what */
    /* Called many times during a long step, as spark_exec_pulse; may be NULL. Must not call the engine. */
    void (*pulse)(void *ctx);
    void *pulse_ctx;
} spark_engine_parts;

#define SPARK_ITL_AUTO UINT32_MAX

typedef struct spark_engine_options {
    uint32_t n_ctx;     /* positions that one request may take */
    uint32_t n_running; /* requests that decode at once */
    uint32_t n_waiting; /* requests that may wait beside them */
    uint32_t
        n_begun; /* requests that may have begun and not ended: running, held, or stopped for others. 0 = twice n_running */
    /* KV pages of 128 positions for all of them and the prefix cache; at least those of one n_ctx. 0 = as many as n_running
     * requests of n_ctx fill */
    uint32_t n_pages;
    uint32_t waiting_tokens; /* prompt tokens that all waiting requests may hold together */
    uint32_t n_batch;        /* rows of one pass at most; at least n_running */
    /* A step with decoding requests in it takes no more prompt than fits this time, but 2 rows, so that a prompt never stands
     * still; 0 = n_batch rows. Without decoding requests it takes n_batch rows. */
    uint32_t
        itl_target_us; /* SPARK_ITL_AUTO: prompts of more than 256 tokens slow decoding requests down to about half as much again
                              * as they take alone, shorter ones go at once */
    spark_kv_type kv_type;
    bool prefix_cache;
} spark_engine_options;

typedef struct spark_engine_memory { /* bytes; their sum is all that create takes */
    uint64_t kv, scratch,
        requests; /* scratch: activations, logits, samplers; requests: prompts, tables, prefix cache */
} spark_engine_memory;
/* tokenizer as in the parts, the same as create will get. */
SPARK_MUST_CHECK spark_status spark_engine_plan(const spark_net *net, const spark_tokenizer *tokenizer,
                                                const spark_engine_options *o, unsigned n_threads,
                                                spark_engine_memory *out, spark_err *err);
SPARK_MUST_CHECK spark_status spark_engine_create(spark_engine **out, const spark_engine_parts *parts,
                                                  const spark_engine_options *o, spark_err *err);
void spark_engine_destroy(spark_engine **e);

typedef struct spark_request {
    uint64_t id;          /* the owner's name for it, of no other request alive */
    uint64_t tenant;      /* fair shares and the prefix cache are by tenant */
    int32_t priority;     /* higher goes first; within one priority tenants share fairly. -1000 to 1000 */
    uint64_t deadline_ns; /* on the clock of `parts`; 0 = none. Not done by then: FAILED with E_CANCELLED, and `late` */
    const uint32_t *prompt; /* [n_prompt], at least 1; copied, as is all below */
    uint32_t n_prompt;
    uint32_t n_public; /* the first so many prompt tokens may be shared with every tenant (the operator said so) */
    uint32_t n_ctx;    /* a lower context than the engine's; 0 = the engine's */
    bool cache;        /* may use and fill the prefix cache */
    /* As in spark_generate_options; on_piece and ctx are not used. max_tokens 0 = until the model or the context ends. */
    spark_generate_options generate;
} spark_request;

/* Takes a request in, or refuses it at once, with nothing kept:
 * E_ARGUMENT a parameter, a token outside the vocabulary, an id in use; E_CONTEXT prompt (+1) beyond n_ctx, or more pages than
 * there are; E_LIMIT the queue is full, by number or tokens: *retry_ms tells when to come again; E_REFUSED: it could not meet its deadline
 * (time to first token as measured until now). retry_ms may be NULL. */
SPARK_MUST_CHECK spark_status spark_engine_submit(spark_engine *e, const spark_request *r, uint32_t *retry_ms,
                                                  spark_err *err);

/* Ends a request wherever it is: its pages are free when the call returns; one event FINISHED (cancelled) comes. An
 * unknown id is no error: it may just have ended. */
void spark_engine_cancel(spark_engine *e, uint64_t id);
/* A held request computes nothing (its reader is slow). It keeps its pages until somebody else needs them or its place; then they
 * are computed again when it goes on, with the same bytes. */
void spark_engine_hold(spark_engine *e, uint64_t id, bool hold);

typedef enum spark_event_kind {
    SPARK_EVENT_STARTED,
    SPARK_EVENT_PIECE,
    SPARK_EVENT_FINISHED,
    SPARK_EVENT_FAILED
} spark_event_kind;

typedef struct spark_event {
    uint64_t id;
    spark_event_kind kind;
    /* STARTED: its prompt is being computed; n_cached of n_prompt tokens came from the prefix cache */
    uint32_t n_prompt, n_cached;
    spark_piece
        piece; /* PIECE: as in spark.h (has_token false: what was held back); text and top are borrowed until the next step */
    spark_finish finish;                     /* FINISHED */
    bool late;                               /* FAILED: the deadline passed */
    bool stop_string;                        /* FINISHED by stop: a stop string, and not the model's end token */
    uint32_t which_stop;                     /* its index in the request */
    uint32_t n_tokens;                       /* FINISHED, FAILED: drawn */
    uint64_t queue_ns, prompt_ns, decode_ns; /* FINISHED, FAILED: waiting, to the first token, from there to the end */
    spark_err err;                           /* FAILED: why; only this request is harmed */
} spark_event;

/* One pass over the rows that are due: decoding requests first, then prompts, in fair order; draws tokens; makes events.
 * false: there is nothing to do until the next submit, release or (see next_ns) deadline. */
bool spark_engine_step(spark_engine *e);
/* For a moment without work: makes a little more of the memory resident (2 MiB; up to some milliseconds), so that later steps
 * need not wait for it. false: all of it is. */
bool spark_engine_settle(spark_engine *e);
/* The next event; false: none is left. Events must be taken before the next step, submit or cancel. */
bool spark_engine_event(spark_engine *e, spark_event *out);
/* When step must be called though nothing comes in (a deadline of one that is held or waits); 0 = never. */
uint64_t spark_engine_next_ns(const spark_engine *e);

typedef struct spark_engine_stats { /* since create, or now */
    uint32_t n_running, n_waiting, n_held;
    uint32_t n_pages, n_pages_free, n_pages_cached; /* cached: kept for a prefix, free for the asking */
    uint64_t prompt_tokens, cached_tokens, generated_tokens, n_passes, n_rows, n_preempted, pass_ns;
    uint64_t n_submitted, n_refused, n_finished, n_cancelled, n_failed;
    uint32_t wait_ms; /* a request of 512 tokens that came now would see its first token after about so long */
} spark_engine_stats;
void spark_engine_stats_get(const spark_engine *e, spark_engine_stats *out);

#endif
