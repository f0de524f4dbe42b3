/* model_internal.h - what the sources of the model room share: a row of the family table, the checked description,
 * where everything lies in memory, and one forward pass while it runs. */
#ifndef SPARK_MODEL_MODEL_INTERNAL_H
#define SPARK_MODEL_MODEL_INTERNAL_H

#include <stdatomic.h>

#include "base/pages.h"
#include "base/spark_limits.h"
#include "model/model.h"

/* ---- The table of families (families.c) --------------------------------------------------------------------------- */

typedef enum net_window {
    NET_WINDOW_NONE,    /* every layer sees all positions; a smaller window in the file is refused */
    NET_WINDOW_ALL,     /* the window of the file, if any, holds in every layer */
    NET_WINDOW_PERIODIC /* it holds but in every period-th layer */
} net_window;

typedef enum net_routing {
    NET_DENSE,     /* no experts; a file that has some is refused */
    NET_MAY_ROUTE, /* experts if the file has them */
    NET_ROUTES     /* experts in every layer */
} net_routing;

/* One architecture. Whatever is zero is the plain Llama way. */
typedef struct net_family {
    const char *arch;     /* general.architecture and the prefix of its keys */
    bool rope_neighbours; /* rotates pairs (2i, 2i + 1), else (i, i + half) */
    bool qk_norm;         /* norms of each head of q and k before the rotation */
    bool post_norms;      /* norms of the attention and feed-forward results before they are added */
    bool gelu;            /* gate activation, else SiLU */
    bool embed_scale;     /* embeddings times sqrt(n_embd) */
    bool fused_gate_up;   /* ffn_up holds the rows of the gate, then those of up */
    net_window window;
    uint32_t window_default;           /* if the file has no key; 0 = no window then */
    uint32_t window_period;            /* PERIODIC: every period-th layer is global, unless the file says otherwise */
    float local_rope_base;             /* layers with a window rotate by this base, unscaled; 0 = as the others */
    float attn_softcap, final_softcap; /* defaults of absent keys; 0 = none */
    uint32_t
        wide_scale_layers; /* with this many layers attention scales by 1/sqrt(n_embd / n_heads), not the head size */
    net_routing routing;
    bool renormalise;   /* weights of the chosen experts are divided by their sum */
    bool shared_expert; /* one more expert for every token, times the sigmoid of its own gate */
} net_family;

const net_family *spark__net_family(spark_bytes arch); /* NULL if unknown */

/* ---- The description (bind.c) -------------------------------------------------------------------------------------- */

/* A matrix of the file, or n_parts of equal shape that follow each other (experts); part i of the packed form lies
 * part_bytes behind part i - 1. `source` NULL = absent. */
typedef struct net_matrix {
    spark_matrix m; /* part 0; data is NULL until load */
    const spark_gguf_tensor *source;
    uint64_t source_row; /* where row 0 of part 0 lies in it: fused tensors are cut at load */
    uint32_t n_parts;
    uint64_t part_bytes, offset; /* in the region of weights */
} net_matrix;

/* A norm or bias as floats. */
typedef struct net_vector {
    const float *data; /* NULL until load, or if absent */
    const spark_gguf_tensor *source;
    uint64_t source_first; /* fused biases are cut too */
    uint32_t n;
    uint64_t offset;
} net_vector;

typedef struct net_layer {
    net_vector attn_norm, attn_post_norm, q_norm, k_norm, ffn_norm, ffn_post_norm;
    net_matrix q, k, v, o, gate, up, down;
    net_vector q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
    net_matrix router, shared_router, shared_gate, shared_up, shared_down;
    uint32_t window; /* positions seen, 0 = all */
    bool local_rope;
    unsigned qkv_forms, ffn_forms; /* NET_FORM bits of the weights that read the norms */
} net_layer;

/* How an activation row is prepared follows from the block of the weights: 0 (float), 32 or 256. */
enum { NET_FORM_FLOAT, NET_FORM_32, NET_FORM_256, NET_N_FORMS };
unsigned spark__net_form(spark_type type);
uint32_t spark__net_form_block(unsigned form);

/* Rotation of one kind of layers: angle of pair i at position p = p * freq[i]; cos and sin times `magnitude`. */
typedef struct net_rope {
    double *freq; /* [rot_dim / 2] */
    double magnitude;
    bool ready;
} net_rope;

typedef struct net_rope_keys {
    float base, factor, attn_factor, beta_fast, beta_slow;
    uint32_t original_ctx;
    enum { NET_SCALE_NONE, NET_SCALE_LINEAR, NET_SCALE_YARN, NET_SCALE_LONG } scaling;
} net_rope_keys;

/* A matrix or a vector of the model, whichever is not NULL, and the first of the jobs that load it. */
typedef struct net_piece {
    net_matrix *matrix;
    net_vector *vector;
    uint32_t first_job;
} net_piece;

struct spark_net {
    const spark_gguf *gguf;
    const net_family *family;
    spark_net_info info;
    uint32_t rot_dim, n_ff_expert, n_ff_shared;
    float eps, attn_scale, attn_softcap, final_softcap, embed_scale;
    net_rope_keys rope_keys;
    net_rope rope[2];           /* of global layers, of local ones */
    net_vector rope_factors;    /* divide the frequencies; read with the weights */
    net_matrix embedding, head; /* head.source NULL: the embedding serves */
    net_vector output_norm, head_bias;
    net_layer *layers;
    net_piece *pieces; /* all of the above that exist */
    uint32_t n_pieces;
    uint64_t weight_bytes, load_buffer; /* packed; staging memory of one thread while loading */
    spark_pages weights;
};

enum { NET_LOAD_SLICE = 1 << 20 }; /* bytes read at once while loading, about */
uint32_t spark__load_jobs(const spark_net *n, const net_piece *p);

static inline const net_matrix *spark__net_head(const spark_net *n)
{
    return n->head.source ? &n->head : &n->embedding;
}

/* ---- Rotation (rope.c) -------------------------------------------------------------------------------------------- */

/* Checks the keys against each other; n->rope[].freq is allocated. */
SPARK_MUST_CHECK spark_status spark__rope_bind(spark_net *n, spark_arena *a, spark_err *err);
/* Fills the frequencies; factors (rot_dim / 2 of them, or NULL) are known now. */
SPARK_MUST_CHECK spark_status spark__rope_ready(spark_net *n, spark_err *err);
/* cos and sin of every pair at a position. */
void spark__rope_row(const net_rope *r, uint32_t rot_dim, uint32_t position, float *cos, float *sin);

/* ---- Where scratch lies (plan.c) ------------------------------------------------------------------------------------ */

enum {
    NET_JOINED_FLOATS = 65536, /* results of gate, and as many of up, that wait for each other: 256 KiB each */
    NET_SMALL = 4,      /* passes of so few rows repeat the work between products in every thread: fewer barriers */
    NET_ATTN_ROWS = 64, /* query rows of one call of the attention kernel (or one group of heads, if that is larger) */
};

/* Byte offsets in the region of an exec. Strides are in bytes for acts, else in floats. */
typedef struct net_layout {
    uint32_t n_batch, n_slots, n_logits, n_threads, n_blocks, attn_rows, n_small;
    uint32_t q_width, k_width, v_width, qkv_width, ff_stride;
    size_t n_parts, act_stride[NET_N_FORMS], hidden_stride, slot_hidden_stride, joined;
    /* shared */
    size_t exec, x, acts[NET_N_FORMS], qkv, attn_out, proj, gate, hidden, logits, cos[2], sin[2], rows, tickets, parts;
    size_t router, choice, weight, slot_acts[NET_N_FORMS], slot_out, slot_hidden, slots, expert_begin;
    /* of one thread, behind `threads` */
    size_t threads, thread_stride;
    size_t t_row, t_joined, t_hidden, t_x, t_acts[NET_N_FORMS], t_matmul, t_attn, t_attn_rows, t_blocks, t_items;
    size_t total;
} net_layout;

SPARK_MUST_CHECK spark_status spark__net_layout(const spark_net *n, const spark_shape *s, net_layout *out,
                                                spark_err *err);

/* ---- Keys and values (kv.c) ----------------------------------------------------------------------------------------- */

struct spark_kv {
    const spark_net *net;
    spark_kv_type type;
    uint32_t n_ctx, n_seqs, pages_per_seq, n_pages, n_free;
    size_t block_bytes, page_bytes;
    spark_pages memory; /* pages, then this struct and the tables */
    uint8_t *pages;
    uint32_t *length;    /* [n_seqs] */
    uint32_t *before;    /* [n_seqs] lengths before the batch that is running */
    uint32_t *table;     /* [n_seqs][pages_per_seq] */
    uint32_t *refs;      /* [n_pages] */
    uint32_t *free_list; /* [n_pages], the first n_free are free */
};

typedef struct net_kv_sizes {
    size_t block, page, tables, length, before, table, refs, free_list, total;
    uint32_t pages_per_seq, n_pages;
} net_kv_sizes;
SPARK_MUST_CHECK spark_status spark__kv_sizes(const spark_net *n, const spark_shape *s, net_kv_sizes *out,
                                              spark_err *err);
/* Gives each row its position and each sequence the pages it needs, or changes nothing. */
SPARK_MUST_CHECK spark_status spark__kv_append(spark_kv *kv, const spark_row *rows, uint32_t n, uint32_t *position,
                                               spark_err *err);
void spark__kv_undo(spark_kv *kv, const spark_row *rows, uint32_t n);
static inline uint8_t *spark__kv_block(const spark_kv *kv, uint32_t seq, uint32_t index, uint32_t layer, uint32_t head)
{
    const size_t page = kv->table[(size_t)seq * kv->pages_per_seq + index];
    return kv->pages + page * kv->page_bytes + ((size_t)layer * kv->net->info.n_heads_kv + head) * kv->block_bytes;
}

/* ---- One forward pass (forward.c, attend.c, moe.c) -------------------------------------------------------------------- */

/* Rows that follow each other in one sequence. */
typedef struct net_segment {
    uint32_t seq, begin, n; /* of a rowset */
} net_segment;

/* The rows that a step works on: all of the batch, or in the end those whose logits are wanted. */
typedef struct net_rowset {
    uint32_t n, n_segments;
    uint32_t *source; /* row of the batch */
    uint32_t *position;
    net_segment *segments;
} net_rowset;

/* One product of rows with a matrix, or with a pair of them whose results are joined by the gate activation. */
typedef struct net_item {
    const net_matrix *w, *up; /* up NULL: a single one */
    uint32_t part;            /* which expert */
    const uint8_t *acts, *up_acts;
    size_t act_stride, up_stride;
    uint32_t n_rows;
    float *out;
    size_t out_stride;
    const float *bias, *up_bias;
    /* of a pair: the rows that `down` will read, instead of out (NULL: out); row r is row source[rows[r]] of the batch, or
     * source[r] */
    const net_matrix *down;
    uint8_t *hidden;
    size_t hidden_stride;
    const uint32_t *source, *rows;
    const net_rowset *logits; /* set for the head: results are checked and capped */
} net_item;

/* What one thread works with. */
typedef struct net_thread {
    spark_exec *e;
    unsigned index, count;
    uint32_t begin, end;                 /* the rows it prepares; in a small pass all of them */
    float *row, *x;                      /* one row; the residual stream */
    float *joined;                       /* gate, then up, while they are joined: at.joined floats each */
    uint8_t *acts[NET_N_FORMS], *hidden; /* activation rows; those of `down` */
    void *matmul_scratch, *attn_scratch;
    size_t *q_offset, *out_offset; /* of the query rows of one call */
    uint32_t *first, *last;
    const uint8_t **blocks;
    net_item *items;
} net_thread;

struct spark_exec {
    const spark_net *net;
    spark_pool *pool;
    spark_kern kern;
    net_layout at;
    spark_pages memory;
    uint8_t *base;
    spark_ticket *tickets;                        /* [n_layers] units of attention */
    float *qkv, *attn_out, *proj, *gate, *logits; /* gate: of small passes only */
    /* the pass that is running */
    spark_kv *kv;
    const spark_row *rows;
    net_rowset all, wanted;
    bool small;               /* every thread repeats the work between products for all rows, in memory of its own */
    bool attn_split;          /* attention is split over blocks */
    _Atomic uint32_t bad_row; /* the lowest row with a value that is not finite; UINT32_MAX = none */
    void (*pulse)(void *ctx); /* NULL: nobody listens */
    void *pulse_ctx;
};

static inline float *spark__exec_f32(const spark_exec *e, size_t offset) { return (float *)(void *)(e->base + offset); }
void spark__exec_bad(spark_exec *e, uint32_t batch_row);
bool spark__all_below(const float *x, size_t n, float limit); /* |x[i]| < limit for all; false for a NaN */

/* Before each piece of work that a slow machine needs long for: a product, a step of a pair, a tile of attention. */
static inline void spark__pass_pulse(const net_thread *t)
{
    if (t->index == 0 && t->e->pulse) t->e->pulse(t->e->pulse_ctx);
}
/* Divides the rows of a set among the threads. */
void spark__pass_rows(net_thread *t, const net_rowset *set);
/* x[n] as row `row` of the activation forms in `mask`. A row that is not finite is reported and becomes zeros. */
void spark__pass_quantize(const net_thread *t, unsigned mask, const float *x, uint32_t n,
                          uint8_t *const acts[NET_N_FORMS], size_t row, uint32_t batch_row);
/* x[n] as columns [col, col + n) of one row for products with w (col at the beginning of a block). */
void spark__pass_quantize_part(const net_thread *t, const net_matrix *w, const float *x, uint32_t col, uint32_t n,
                               uint8_t *row, uint32_t batch_row);
/* This thread's share of products: outputs are split over all panels by their cost. */
void spark__pass_products(const net_thread *t, const net_item *items, uint32_t n);
/* The share [from, to) of a pair, in units of cost: a panel costs panel_cost (gated.c). */
void spark__pass_gated(const net_thread *t, const net_item *i, uint64_t panel_cost, uint64_t from, uint64_t to);
/* Rows of panels [begin, end). */
uint32_t spark__pass_panel_rows(const net_matrix *m, uint32_t begin, uint32_t end);

void spark__pass_attend(const net_thread *t, uint32_t layer, const net_rowset *set);
void spark__pass_experts(const net_thread *t, const net_layer *l, const net_rowset *set);

#endif
