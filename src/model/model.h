/* model.h - what a network is: one decoder for every family, driven by a table with one row each (model/families.c).
 * (The public spark_model of <spark/spark.h> is this net with its tokenizer, template and files around it.)
 * Nouns:   spark_net, a checked description and, after load, packed weights; spark_kv, pages of keys and values;
 *          spark_exec, the activations and scratch of one stream of forward passes.
 * Promise: a row of logits depends on the model and the tokens before it, never on the other rows of the batch, the
 *          chunking, the thread count or the CPU level (law 1). After create nothing is allocated (law 2).
 * Not here: requests, sampling, files. Threads: a model is immutable after load; one exec and its kv by one caller. */
#ifndef SPARK_MODEL_MODEL_H
#define SPARK_MODEL_MODEL_H

#include "base/arena.h"
#include "base/pages.h"
#include "base/pool.h"
#include "format/gguf.h"
#include "kern/kern.h"

typedef struct spark_net spark_net;
typedef struct spark_kv spark_kv;
typedef struct spark_exec spark_exec;

/* Facts about a bound model, for `inspect` and for planning. */
typedef struct spark_net_info {
    const char *arch; /* "llama" */
    uint32_t n_layers, n_embd, n_vocab, n_ctx_train;
    uint32_t n_heads, n_heads_kv, head_dim_k, head_dim_v, n_ff, n_experts, n_experts_used;
    uint32_t sliding_window;       /* 0 = none */
    uint64_t n_params, file_bytes; /* weights as stored */
} spark_net_info;

/* Checks that the file holds a whole model of a family we know: keys, tensors, shapes, types. Reads no weights.
 * Memory from `a`; the heads behind `g` must outlive the model. Errors name the architecture, key or tensor. */
SPARK_MUST_CHECK spark_status spark_net_bind(spark_net **out, const spark_gguf *g, spark_arena *a, spark_err *err);
void spark_net_info_get(const spark_net *m, spark_net_info *out);
const spark_gguf *spark_net_gguf(const spark_net *m);

/* The architectures of the table, NULL-terminated. */
const char *const *spark_net_families(void);

/* What a session will need. */
typedef struct spark_shape {
    uint32_t n_ctx;    /* positions of one sequence */
    uint32_t n_seqs;   /* sequences at once */
    uint32_t n_batch;  /* rows of one forward pass */
    uint32_t n_logits; /* rows of one pass that may ask for logits */
    uint32_t n_threads;
    uint32_t n_pages; /* of keys and values, for all sequences; 0 = as many as n_seqs sequences of n_ctx can fill */
    spark_kv_type kv_type;
} spark_shape;

typedef struct spark_memory {      /* bytes */
    uint64_t weights, kv, scratch; /* scratch: activations, tables, per-thread memory, logits, and loading */
    uint64_t loading;              /* of scratch: what load takes and gives back */
} spark_memory;

/* The exact sum of what load, kv_create and exec_create will reserve. */
SPARK_MUST_CHECK spark_status spark_net_plan(const spark_net *m, const spark_shape *shape, spark_memory *out,
                                             spark_err *err);

/* Where weights come from. read fills dst or fails; it is called from several threads at once (pread). */
typedef struct spark_source {
    spark_status (*read)(void *ctx, uint32_t file, uint64_t offset, void *dst, size_t len, spark_err *err);
    void *ctx;
} spark_source;

/* Reads every weight once and packs it, on all threads of the pool. progress (may be NULL) is called from the calling
 * thread with bytes done and total; returning false cancels. */
typedef bool spark_progress(void *ctx, uint64_t done, uint64_t total);
SPARK_MUST_CHECK spark_status spark_net_load(spark_net *m, const spark_source *source, spark_pool *pool,
                                             spark_progress *progress, void *progress_ctx, spark_err *err);
void spark_net_unload(spark_net *m); /* frees the packed weights; the arena owns the rest */

/* ---- Keys and values: pages of 128 positions, all layers and heads; a sequence is a list of pages ----------------- */

SPARK_MUST_CHECK spark_status spark_kv_create(spark_kv **out, const spark_net *m, const spark_shape *shape,
                                              spark_err *err);
void spark_kv_destroy(spark_kv **kv);
const spark_pages *spark_kv_memory(const spark_kv *kv);
uint32_t spark_kv_length(const spark_kv *kv, uint32_t seq); /* positions stored */
/* Forgets positions >= length of a sequence and frees the pages behind them. */
void spark_kv_truncate(spark_kv *kv, uint32_t seq, uint32_t length);
/* seq `to` (empty) gets the first `length` positions of `from`: full pages are shared, the last one copied (E_MEMORY if no
 * page is free for it). */
SPARK_MUST_CHECK spark_status spark_kv_fork(spark_kv *kv, uint32_t from, uint32_t to, uint32_t length, spark_err *err);

/* Pages by number, for who shares them between sequences (a prefix cache). A page is free when no sequence has it and
 * nobody holds it. Out-of-range arguments are the caller's mistake (assert). */
uint32_t spark_kv_pages(const spark_kv *kv);
uint32_t spark_kv_pages_free(const spark_kv *kv);
/* The page of positions [128 * index, 128 * index + 128) of a sequence. */
uint32_t spark_kv_page(const spark_kv *kv, uint32_t seq, uint32_t index);
uint32_t spark_kv_page_users(const spark_kv *kv, uint32_t page); /* sequences that have it, plus holds */
void spark_kv_page_hold(spark_kv *kv, uint32_t page);            /* keeps a page that is not free */
void spark_kv_page_release(spark_kv *kv, uint32_t page);
/* A sequence that ends at a page's edge (or is empty) goes on with n full pages, shared with whoever has them. The caller
 * answers for what they hold: keys and values of the same tokens at the same positions after the same beginning. */
void spark_kv_adopt(spark_kv *kv, uint32_t seq, const uint32_t *pages, uint32_t n);
/* The same for one full page that the sequence has computed itself: its own is let go. */
void spark_kv_replace(spark_kv *kv, uint32_t seq, uint32_t index, uint32_t page);

/* ---- Forward pass ------------------------------------------------------------------------------------------------- */

typedef struct spark_row {
    uint32_t token, seq;
    bool logits; /* this row's logits are wanted */
} spark_row;

SPARK_MUST_CHECK spark_status spark_exec_create(spark_exec **out, const spark_net *m, const spark_shape *shape,
                                                spark_pool *pool, spark_isa isa, spark_err *err);
void spark_exec_destroy(spark_exec **e);
const spark_pages *spark_exec_memory(const spark_exec *e);
/* Called by the caller's thread before every product of a pass and more often in the longest, for whoever must see that a
 * long one goes on. NULL = nobody. */
void spark_exec_pulse(spark_exec *e, void (*pulse)(void *ctx), void *ctx);

/* Appends rows[0..n) to their sequences (rows of one sequence in order; each takes the next position) and computes.
 * *logits (borrowed until the next call) = [number of rows with .logits][n_vocab] in row order.
 * Errors: token id out of range, context full (E_CONTEXT), out of pages (E_MEMORY): nothing has changed then; a value that
 * is not finite (E_NUMERIC, at = row): then the sequences of this batch are truncated to their earlier length. */
SPARK_MUST_CHECK spark_status spark_forward(spark_exec *e, spark_kv *kv, const spark_row *rows, uint32_t n,
                                            const float **logits, spark_err *err);

#endif
