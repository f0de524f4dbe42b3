/* kern_check_ops.c - the slots besides the products: norms, activation functions, RoPE, softmax, keys and values, attention.
 * That the references mean what NUMERICS.md says is the matter of src/kern/ops_test.c; here every level is held to them. */
#include <stdio.h>
#include <string.h>

#include "../bench/limits.h"
#include "kern/kv_layout.h"
#include "kern_check.h"

/* ---- Rows ------------------------------------------------------------------------------------------------------ */

/* One slot on one row: y in and out, x, w and b only read. Returns what the slot returns, or 0. */
typedef struct ops_row {
    const char *name;
    float (*run)(const spark_kern *k, float *y, const float *x, const float *w, const float *b, uint32_t n);
    unsigned bytes; /* read and written for one element: for the timing */
} ops_row;

#define OPS_ROW(name)                                                                                                  \
    static float name(const spark_kern *k, float *y, const float *x, const float *w, const float *b, uint32_t n)
#define OPS_UNUSED (void)x, (void)w, (void)b
OPS_ROW(row_rms_norm) { return OPS_UNUSED, k->rms_norm(y, x, w, n, 1e-5f), 0; }
OPS_ROW(row_rms_norm_in_place) { return OPS_UNUSED, k->rms_norm(y, y, w, n, 1e-6f), 0; }
OPS_ROW(row_layer_norm) { return OPS_UNUSED, k->layer_norm(y, x, w, b, n, 1e-5f), 0; }
OPS_ROW(row_layer_norm_in_place) { return OPS_UNUSED, k->layer_norm(y, y, w, NULL, n, 1e-12f), 0; }
OPS_ROW(row_add) { return OPS_UNUSED, k->add(y, x, n), 0; }
OPS_ROW(row_scale) { return OPS_UNUSED, k->scale(y, 0.3f, n), 0; }
OPS_ROW(row_axpy) { return OPS_UNUSED, k->axpy(y, -0.3f, x, n), 0; }
OPS_ROW(row_silu_mul) { return OPS_UNUSED, k->silu_mul(y, x, n), 0; }
OPS_ROW(row_gelu_mul) { return OPS_UNUSED, k->gelu_mul(y, x, n), 0; }
OPS_ROW(row_softcap) { return OPS_UNUSED, k->softcap(y, 1.5f, n), 0; }
OPS_ROW(row_softmax) { return OPS_UNUSED, k->softmax(y, n); }

static const ops_row ops_rows[] = {
    {"rms_norm", row_rms_norm, 8},
    {"rms_norm/in-place", row_rms_norm_in_place, 8},
    {"layer_norm", row_layer_norm, 8},
    {"layer_norm/in-place", row_layer_norm_in_place, 8},
    {"add", row_add, 12},
    {"scale", row_scale, 8},
    {"axpy", row_axpy, 12},
    {"silu_mul", row_silu_mul, 12},
    {"gelu_mul", row_gelu_mul, 12},
    {"softcap", row_softcap, 8},
    {"softmax", row_softmax, 8},
};

/* Twins with the same floats. */
static kern_buf ops_floats(kern_check *kc, size_t n, unsigned kind)
{
    const kern_buf b = kern_check_buf(kc, n * sizeof(float), 4);
    kern_check_floats(kc, (float *)b.want, n, kind);
    memcpy(b.got, b.want, b.len);
    return b;
}

static void ops_check_row(kern_check *kc, const void *arg)
{
    const ops_row *row = arg;
    static const uint32_t large[] = {255, 256, 257, 1000, 4096, 5003};
    for (uint32_t i = 0; i < 130 + SPARK_COUNT(large); i++) {
        const uint32_t n = i < 130 ? i + 1 : large[i - 130];
        for (unsigned kind = 0; kind < KERN_FLOAT_KINDS; kind++) {
            const unsigned other = (kind + n) % KERN_FLOAT_KINDS; /* tiny by tiny is zero, tiny by one is subnormal */
            const kern_buf y = ops_floats(kc, n, kind), x = ops_floats(kc, n, other), w = ops_floats(kc, n, 0),
                           b = ops_floats(kc, n, 1);
            if (i % 3 == 0) kc->base->scale((float *)y.want, 60.0f, n), memcpy(y.got, y.want, y.len);
            const float *px = (const float *)x.want, *pw = (const float *)w.want, *pb = (const float *)b.want;
            const float want = row->run(kc->base, (float *)y.want, px, pw, pb, n);
            const float got = row->run(kc->now, (float *)y.got, px, pw, pb, n);
            kern_check_same(kc, &y, "n %u, kinds %u and %u", n, kind, other);
            if (memcmp(&want, &got, sizeof want) != 0)
                kern_check_fail(kc, "n %u returned %a, not %a", n, (double)got, (double)want);
            kern_check_drop(kc);
        }
    }
}

static void ops_check_rope(kern_check *kc, const void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t half = 1 + kern_check_below(kc, 70), rest = 2 * kern_check_below(kc, 20);
        const uint32_t heads = 1 + kern_check_below(kc, 4), dim = 2 * half + rest;
        const kern_buf x = ops_floats(kc, (size_t)heads * dim, i % KERN_FLOAT_KINDS);
        const kern_buf cos = ops_floats(kc, half, 0), sin = ops_floats(kc, half, 0);
        for (int now = 0; now < 2; now++) {
            (now ? kc->now : kc->base)
                ->rope((float *)(now ? x.got : x.want), heads, dim, 2 * half, i % 2 == 1, (const float *)cos.want,
                       (const float *)sin.want);
        }
        kern_check_same(kc, &x, "%u heads of %u, %u rotated", heads, dim, 2 * half);
        kern_check_drop(kc);
    }
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

#define OPS_MAX_BLOCKS 40u
#define OPS_MAX_ROWS   300u

typedef struct ops_attn {
    spark_attn_args a;
    uint32_t n_positions, n_blocks;
    const uint8_t *blocks[OPS_MAX_BLOCKS];
    size_t q_offset[OPS_MAX_ROWS], out_offset[OPS_MAX_ROWS];
    uint32_t first[OPS_MAX_ROWS], last[OPS_MAX_ROWS];
    kern_buf q, out, sink, scratch, parts;
} ops_attn;

static const char *const ops_kv_names[SPARK_N_KV_TYPES] = {"f32", "f16", "q8_0"};

/* What no row may see: all bits set, a NaN where there are floats. */
static void ops_poison(spark_kv_type type, uint32_t dk, uint32_t dv, uint8_t *block, uint32_t position)
{
    const uint32_t lane = position % SPARK_KV_GROUP;
    const size_t size = type == SPARK_KV_F32 ? 4 : 2, v_bytes = spark_kv_v_bytes(type, dv);
    uint8_t *group = block + position / SPARK_KV_GROUP * spark_kv_k_bytes(type, dk);
    memset(block + spark_kv_v_offset(type, dk) + position * v_bytes, 0xff, v_bytes);
    for (uint32_t i = 0; i < dk && type != SPARK_KV_Q8_0; i++)
        memset(group + (i * SPARK_KV_GROUP + lane) * size, 0xff, size);
    if (type != SPARK_KV_Q8_0) return;
    const size_t row = spark_kv_n_scales(dv) * sizeof(float);
    memset(block + spark_kv_v_scales(dk, dv) + position * row, 0xff, row);
    for (uint32_t i = 0; i < dk; i++) group[spark_kv_q8_level(lane, i)] = 0xff;
    for (uint32_t i = 0; i < spark_kv_n_scales(dk); i++) memset(group + i * SPARK_KV_Q8_BLOCK + lane * 4, 0xff, 4);
}

/* Stores random keys and values with both levels, which must give the same bytes; the rest of the last block is poison. */
static void ops_draw_blocks(kern_check *kc, ops_attn *c, unsigned kind)
{
    const spark_attn_args *a = &c->a;
    const size_t bytes = spark_kv_block_bytes(a->type, a->head_dim_k, a->head_dim_v);
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        const kern_buf block = kern_check_buf(kc, bytes, 64);
        const kern_buf k = kern_check_buf(kc, a->head_dim_k * sizeof(float), 4),
                       v = kern_check_buf(kc, a->head_dim_v * sizeof(float), 4);
        memset(block.want, 0, bytes);
        memset(block.got, 0, bytes);
        for (uint32_t i = 0; i < SPARK_KV_BLOCK && b * SPARK_KV_BLOCK + i < c->n_positions; i++) {
            kern_check_floats(kc, (float *)k.want, a->head_dim_k, kind);
            kern_check_floats(kc, (float *)v.want, a->head_dim_v, kind);
            for (int now = 0; now < 2; now++) {
                if (!(now ? kc->now : kc->base)
                         ->kv_store(a->type, a->head_dim_k, a->head_dim_v, now ? block.got : block.want, i,
                                    (const float *)k.want, (const float *)v.want)) {
                    kern_check_fail(kc, "a finite row was refused");
                }
            }
        }
        kern_check_same(kc, &block, "stored, head %u/%u", a->head_dim_k, a->head_dim_v);
        for (uint32_t i = 0; i < SPARK_KV_BLOCK; i++) {
            if (b * SPARK_KV_BLOCK + i >= c->n_positions)
                ops_poison(a->type, a->head_dim_k, a->head_dim_v, block.want, i);
        }
        c->blocks[b] = block.want;
    }
}

/* How the rows of a call lie: as in a prompt with several heads, with a sliding window, or anywhere. */
enum { ROWS_CAUSAL, ROWS_WINDOW, ROWS_ANY, N_ROW_KINDS };

static void ops_draw_rows(kern_check *kc, ops_attn *c, unsigned kind)
{
    const uint32_t n = c->a.n_rows, group = 1 + kern_check_below(kc, 7), window = 1 + kern_check_below(kc, 200);
    for (uint32_t r = 0; r < n; r++) {
        const uint32_t back = (n - 1 - r) / group;
        c->last[r] = back < c->n_positions ? c->n_positions - 1 - back : 0;
        c->first[r] = kind == ROWS_WINDOW && c->last[r] >= window ? c->last[r] + 1 - window : 0;
        if (kind == ROWS_ANY) {
            c->last[r] = kern_check_below(kc, c->n_positions);
            c->first[r] = kern_check_below(kc, c->last[r] + 1);
        }
        c->q_offset[r] = (size_t)r * c->a.head_dim_k;
        c->out_offset[r] = (size_t)(n - 1 - r) * c->a.head_dim_v;
    }
}

static void ops_draw_attn(kern_check *kc, ops_attn *c, spark_kv_type type, uint32_t dk, uint32_t dv,
                          uint32_t n_positions, uint32_t n_rows, unsigned kind)
{
    *c = (ops_attn){.a = {.type = type, .head_dim_k = dk, .head_dim_v = dv, .n_rows = n_rows, .scale = 0.125f}};
    c->n_positions = n_positions;
    c->n_blocks = (n_positions + SPARK_KV_BLOCK - 1) / SPARK_KV_BLOCK;
    ops_draw_blocks(kc, c, kind % 2);
    ops_draw_rows(kc, c, kind % N_ROW_KINDS);
    c->q = ops_floats(kc, (size_t)n_rows * dk, 1);
    c->out = kern_check_buf(kc, (size_t)n_rows * dv * sizeof(float), 4);
    c->sink = ops_floats(kc, n_rows, 0);
    c->scratch = kern_check_buf(kc, spark_attn_scratch(dk, dv, n_rows), 64);
    c->parts = kern_check_buf(kc, (size_t)c->n_blocks * n_rows * SPARK_ATTN_PART(dv) * sizeof(float), 4);
    c->a.blocks = c->blocks;
    c->a.q = (const float *)c->q.want;
    c->a.q_offset = c->q_offset;
    c->a.out_offset = c->out_offset;
    c->a.first = c->first;
    c->a.last = c->last;
    c->a.scratch = c->scratch.want;
    c->a.softcap = kind % 4 == 1 ? 5.0f : 0.0f;
    c->a.sink = kind % 5 == 2 ? (const float *)c->sink.want : NULL;
}

static void ops_compare_attn(kern_check *kc, ops_attn *c)
{
    spark_attn_args a = c->a;
    const uint32_t split = kern_check_below(kc, c->n_blocks + 1);
    float *parts = (float *)c->parts.got;
    a.out = (float *)c->out.want;
    kc->base->attn(&a);
    kc->base->attn_part(&a, 0, c->n_blocks, (float *)c->parts.want);
    a.out = (float *)c->out.got;
    kc->now->attn(&a);
    kern_check_same(kc, &c->out, "attn: head %u/%u, %u positions, %u rows", a.head_dim_k, a.head_dim_v, c->n_positions,
                    a.n_rows);
    kc->now->attn_part(&a, 0, split, parts);
    kc->now->attn_part(&a, split, c->n_blocks, parts + (size_t)split * a.n_rows * SPARK_ATTN_PART(a.head_dim_v));
    kern_check_same(kc, &c->parts, "attn_part: head %u/%u, %u positions, %u rows", a.head_dim_k, a.head_dim_v,
                    c->n_positions, a.n_rows);
    memset(c->out.got, 0xff, c->out.len);
    kc->now->attn_merge(&a, 0, c->n_blocks, parts);
    kern_check_same(kc, &c->out, "attn_merge: head %u/%u, %u positions, %u rows", a.head_dim_k, a.head_dim_v,
                    c->n_positions, a.n_rows);
}

static void ops_check_attn(kern_check *kc, const void *arg)
{
    static const uint32_t dims[] = {1, 3, 8, 16, 24, 31, 32, 33, 64, 80, 96, 100, 128, 256};
    static const uint32_t positions[] = {1, 2, 17, 127, 128, 129, 200, 300};
    static ops_attn c;
    const spark_kv_type type = *(const spark_kv_type *)arg;
    for (unsigned kind = 0; kind < 120; kind++) {
        const uint32_t dk = dims[kind % SPARK_COUNT(dims)], other = dims[kern_check_below(kc, SPARK_COUNT(dims))];
        const uint32_t n_rows = kind % 12 == 11 ? 130 + kern_check_below(kc, 150)
                                                : 1 + kern_check_below(kc, kind % 4 == 2 ? 125 : 24);
        if (kc->base->isa == SPARK_ISA_SCALAR && dk > 128 && n_rows > 24) continue;
        ops_draw_attn(kc, &c, type, dk, kind % 3 ? dk : other, positions[kern_check_below(kc, SPARK_COUNT(positions))],
                      n_rows, kind);
        ops_compare_attn(kc, &c);
        kern_check_drop(kc);
    }
    ops_draw_attn(kc, &c, type, 1024, 1024, 40, 9, 1); /* the largest head */
    ops_compare_attn(kc, &c);
}

static void ops_check_refusal(kern_check *kc, const void *arg)
{
    const spark_kv_type type = *(const spark_kv_type *)arg;
    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001};
    for (unsigned i = 0; i < 200; i++) {
        const uint32_t d = 1 + kern_check_below(kc, 130);
        const kern_buf block = kern_check_buf(kc, spark_kv_block_bytes(type, d, d), 64);
        const kern_buf k = ops_floats(kc, d, 3), v = ops_floats(kc, d, 3);
        memcpy((i % 2 ? k : v).want + 4 * (size_t)kern_check_below(kc, d), &bits[i % SPARK_COUNT(bits)], 4);
        const int stored = kc->now->kv_store(type, d, d, block.got, i % 128, (const float *)k.want,
                                             (const float *)v.want);
        if (stored) kern_check_fail(kc, "%08x was stored", bits[i % SPARK_COUNT(bits)]);
        kern_check_same(kc, &block, "a refused row wrote into the block");
        kern_check_drop(kc);
    }
}

/* ---- Timing ---------------------------------------------------------------------------------------------------- */

typedef struct ops_timing {
    const spark_kern *k;
    const ops_row *row;
    const spark_attn_args *attn;
    float *y;
    const float *x, *w;
    uint32_t n;
} ops_timing;

static void ops_run_row(void *arg)
{
    const ops_timing *t = arg;
    t->row->run(t->k, t->y, t->x, t->w, t->w, t->n);
}

static void ops_run_attn(void *arg)
{
    const ops_timing *t = arg;
    t->k->attn(t->attn);
}

static void ops_time_row(kern_check *kc, const ops_row *row)
{
    enum { N = 4096 };
    const kern_buf y = ops_floats(kc, N, 0), x = ops_floats(kc, N, 0), w = ops_floats(kc, N, 0);
    for (int i = 0; i < N; i++) ((float *)w.want)[i] = 1.0f; /* repeated in place, values must not run away */
    ops_timing t = {
        .k = kc->now, .row = row, .y = (float *)y.want, .x = (const float *)x.want, .w = (const float *)w.want, .n = N};
    kern_check_time(kc, row->name, (double)N * row->bytes, "GB/s", ops_run_row, &t);
    kern_check_drop(kc);
}

/* n_rows rows (n_tokens x group) at the end of n_positions; prints the share of the limit of this level's fma. */
static void ops_time_attn(kern_check *kc, spark_kv_type type, uint32_t d, uint32_t n_positions, uint32_t n_tokens,
                          uint32_t group)
{
    static ops_attn c;
    static const spark_kern *keep;
    keep = kc->base;
    kc->base = kc->now; /* the reference would store and draw too slowly */
    ops_draw_attn(kc, &c, type, d, d, n_positions, n_tokens * group, 0);
    kc->base = keep;
    double work = 0;
    for (uint32_t r = 0; r < c.a.n_rows; r++) {
        c.first[r] = 0;
        c.last[r] = n_positions - n_tokens + r / group;
        work += 2.0 * d * (c.last[r] + 1);
    }
    c.a.out = (float *)c.out.got;
    char name[64];
    snprintf(name, sizeof name, "attn/%s d%u %u@%u x%u", ops_kv_names[type], d, n_tokens, n_positions, group);
    ops_timing t = {.k = kc->now, .attn = &c.a};
    const double rate = kern_check_time(kc, name, work, "GMAC/s", ops_run_attn, &t);
    const double limit = spark_limit_gmacs(
        kc->now->isa == SPARK_ISA_AVX512 || kc->now->isa == SPARK_ISA_AMX ? SPARK_LIMIT_FMA_512 : SPARK_LIMIT_FMA_256);
    if (limit > 0) printf("%-8s %-28s %8.0f %% of fma (%.1f)\n", "", "", 100 * rate / limit, limit);
    kern_check_drop(kc);
}

static void ops_time_attention(kern_check *kc, spark_kv_type type)
{
    for (uint32_t d = 64; d <= 128; d *= 2) {
        ops_time_attn(kc, type, d, 512, 64, 4);  /* the end of a prompt of 512 */
        ops_time_attn(kc, type, d, 4096, 64, 4); /* a chunk far behind */
        ops_time_attn(kc, type, d, 4096, 1, 1);  /* decode: one row a head, */
        ops_time_attn(kc, type, d, 4096, 1, 4);  /* groups of 4 */
        ops_time_attn(kc, type, d, 4096, 1, 7);  /* and 7 */
        ops_time_attn(kc, type, d, 4096, 4, 7);  /* some of a prompt beside streams */
    }
}

/* ---- All of them ----------------------------------------------------------------------------------------------- */

static bool ops_wanted(const kern_check *kc, const char *name)
{
    return kc->bench && (!kc->filter || strstr(name, kc->filter));
}

void kern_check_ops(kern_check *kc)
{
    char name[64];
    for (size_t i = 0; i < SPARK_COUNT(ops_rows); i++) {
        const bool ok = kern_check_case(kc, ops_rows[i].name, ops_check_row, &ops_rows[i]);
        if (ok && ops_wanted(kc, ops_rows[i].name)) ops_time_row(kc, &ops_rows[i]);
    }
    kern_check_case(kc, "rope", ops_check_rope, NULL);
    for (spark_kv_type type = SPARK_KV_F32; type < SPARK_N_KV_TYPES; type++) {
        snprintf(name, sizeof name, "kv_store/%s", ops_kv_names[type]);
        kern_check_case(kc, name, ops_check_refusal, &type);
        snprintf(name, sizeof name, "attn/%s", ops_kv_names[type]);
        const bool ok = kern_check_case(kc, name, ops_check_attn, &type);
        if (ok && ops_wanted(kc, name) && kc->now->isa != SPARK_ISA_SCALAR) ops_time_attention(kc, type);
    }
}
