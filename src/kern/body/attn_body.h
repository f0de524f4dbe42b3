/* attn_body.h - keys, values and attention a vector at a time; included once by each level's attn_LEVEL.c behind its
 * vec_LEVEL.h and a choice: ATTN_NV_R, how many vectors stand beside R rows in registers (R * NV accumulators, NV of K
 * or V, one broadcast), and the same for Q8_0 keys, whose integer sums need as many registers again.
 *
 * A tile is 1, 2, 4, 6 or 8 rows, with 32 registers of 16 lanes also 10, 12 or 14 (filled up with zero rows). For one block it goes through three steps:
 *   scores   lanes = positions; every K vector serves all rows, each score is its own chain over the head dimension
 *   softmax  a row at a time: scale, cap, m, p, l
 *   values   lanes = elements of the head; every V vector serves all rows, each element is its own chain over positions
 * Positions outside a row's range: their scores are computed and become -infinity, so p = +0; their values are skipped
 * by comparing (in `values`, positions that all rows of a tile see take the fast loop).
 * With few rows, conversion to float happens on the way. With many, all tiles of a chunk go through each step together,
 * against a panel of 64 positions (keys) or 64 columns (values) that is converted once and stays in the first cache. */
#include "base/spark_limits.h"
#include "kern/attn_scratch.h"
#include "kern/body/math_body.h"
#include "kern/ops.h"

#include <string.h>

#if VF_LANES == 16 /* and 32 registers: tiles take as many, and pay as well as panels */
#define ATTN_TILE_ROWS 14u
#define ATTN_WIDE_ROWS 57u
#else
#define ATTN_TILE_ROWS 8u
#define ATTN_WIDE_ROWS 16u /* from so many rows on, panels pay */
#endif
#define ATTN_MAX_ACCS 28u                     /* the largest R * NV */
#define ATTN_VECTORS  (32u / VF_LANES)        /* of one 32-lane sum */
#define ATTN_Q8_WORDS (2u + SPARK_KV_QK / 4u) /* a quantized query block of one row: bias, scale, 8 x 4 levels */

typedef struct attn_work {
    const spark_attn_args *a;
    uint32_t dv_pad;
    size_t query_bytes; /* of one packed row */
    uint8_t *queries;
    float *k_wide, *v_wide, *scores, *o, *state_m, *state_l, *state_o;
} attn_work;

typedef struct attn_tile {
    uint32_t row, n, width; /* first row of args, rows, rows with padding: 1 or even */
    const void *query;
    uint32_t begin[SPARK_ATTN_TILE], end[SPARK_ATTN_TILE]; /* what each row sees of the block; none: begin = end */
    uint32_t any_begin, any_end, all_begin, all_end;       /* what some row sees, what all of them see */
    float m[SPARK_ATTN_TILE], l[SPARK_ATTN_TILE];
} attn_tile;

/* ---- Storing --------------------------------------------------------------------------------------------------- */

static int attn_finite(const float *x, uint32_t n)
{
    VF sum = vf_zero(); /* x * 0 is 0 for a finite x and NaN for all others */
    uint32_t i = 0;
    for (; n - i >= VF_LANES; i += VF_LANES) sum = vf_fma(vf_load(x + i), vf_zero(), sum);
    if (i < n) sum = vf_fma(vf_load_n(x + i, n - i), vf_zero(), sum);
    return vf_fold(sum) == 0;
}

/* As spark__kv_quantize_ref; levels[] has room for whole blocks of 32, the rest of the last one becomes zero. */
static void attn_quantize(const float *x, uint32_t n, int8_t *levels, float *d)
{
    for (uint32_t begin = 0; begin < n; begin += SPARK_KV_QK) {
        VF v[ATTN_VECTORS], max = vf_zero();
        for (uint32_t j = 0; j < ATTN_VECTORS; j++) {
            const uint32_t i = begin + j * VF_LANES, left = i < n ? n - i : 0;
            v[j] = left >= VF_LANES ? vf_load(x + i) : left > 0 ? vf_load_n(x + i, left) : vf_zero();
            max = vf_max(max, vf_abs(v[j]));
        }
        const float a = vf_fold_max(max);
        const int tiny = a < 1e-30f;
        const VF inv = vf_set1(tiny ? 0.0f : 127.0f / a);
        d[begin / SPARK_KV_QK] = tiny ? 0.0f : a / 127.0f;
        for (uint32_t j = 0; j < ATTN_VECTORS; j++) vf_store_i8(levels + begin + j * VF_LANES, vf_mul(v[j], inv));
    }
}

static void attn_store_q8(uint32_t dk, uint32_t dv, uint8_t *block, uint32_t position, const float *k, const float *v)
{
    int8_t levels[SPARK_MAX_HEAD_DIM];
    float d[SPARK_MAX_HEAD_DIM / SPARK_KV_QK];
    const uint32_t lane = position % SPARK_KV_GROUP;
    uint8_t *group = block + position / SPARK_KV_GROUP * spark_kv_k_bytes(SPARK_KV_Q8_0, dk);
    attn_quantize(k, dk, levels, d);
    for (uint32_t i = 0; i < dk; i += 4) memcpy(group + spark_kv_q8_level(lane, i), levels + i, 4);
    for (uint32_t i = 0; i < spark_kv_n_scales(dk); i++) {
        memcpy(group + i * SPARK_KV_Q8_BLOCK + lane * sizeof(float), &d[i], sizeof d[i]);
    }
    attn_quantize(v, dv, levels, d);
    memcpy(block + spark_kv_v_offset(SPARK_KV_Q8_0, dk) + position * spark_kv_v_bytes(SPARK_KV_Q8_0, dv), levels, dv);
    const size_t row = spark_kv_n_scales(dv) * sizeof(float);
    memcpy(block + spark_kv_v_scales(dk, dv) + position * row, d, row);
}

/* out[] has room for whole vectors. */
static void attn_to_f16(const float *x, uint32_t n, uint16_t *out)
{
    const VF max = vf_set1(65504.0f), min = vf_set1(-65504.0f);
    uint32_t i = 0;
    for (; n - i >= VF_LANES; i += VF_LANES) vf_store_f16(out + i, vf_max(vf_min(vf_load(x + i), max), min));
    if (i < n) vf_store_f16(out + i, vf_max(vf_min(vf_load_n(x + i, n - i), max), min));
}

static int SPARK_K(spark_k_kv_store)(spark_kv_type type, uint32_t dk, uint32_t dv, uint8_t *block, uint32_t position,
                                     const float *k, const float *v)
{
    if (!attn_finite(k, dk) || !attn_finite(v, dv)) return 0;
    if (type == SPARK_KV_Q8_0) {
        attn_store_q8(dk, dv, block, position, k, v);
        return 1;
    }
    uint8_t *group = block + position / SPARK_KV_GROUP * spark_kv_k_bytes(type, dk);
    uint8_t *row = block + spark_kv_v_offset(type, dk) + position * spark_kv_v_bytes(type, dv);
    const size_t lane = position % SPARK_KV_GROUP;
    if (type == SPARK_KV_F32) {
        float *to = (float *)(void *)group + lane;
        for (size_t i = 0; i < dk; i++) to[i * SPARK_KV_GROUP] = k[i];
        memcpy(row, v, dv * sizeof *v);
        return 1;
    }
    uint16_t half[SPARK_MAX_HEAD_DIM];
    attn_to_f16(k, dk, half);
    uint16_t *to = (uint16_t *)(void *)group + lane;
    for (size_t i = 0; i < dk; i++) to[i * SPARK_KV_GROUP] = half[i];
    attn_to_f16(v, dv, half);
    memcpy(row, half, dv * sizeof *half);
    return 1;
}

/* ---- Queries --------------------------------------------------------------------------------------------------- */

/* Float types: [dim][width]. Q8_0: for each 32 dims [width] bias, [width] scale, [8][width] words of four levels. */
/* VF_LANES dims of 8 rows to [dim][8]: three rounds, each interleaving the rows half the list apart. */
SPARK_INLINE void attn_interleave(const float *const rows[8], uint32_t dim, float *to)
{
    VF a[8], b[8];
    for (uint32_t r = 0; r < 8; r++) a[r] = vf_load(rows[r] + dim);
    for (uint32_t r = 0; r < 4; r++) vf_zip(a[r], a[r + 4], &b[2 * r], &b[2 * r + 1]); /* 4 streams of 2 vectors */
    for (uint32_t r = 0; r < 4; r++) vf_zip(b[r], b[r + 4], &a[2 * r], &a[2 * r + 1]); /* 2 streams of 4 */
    for (uint32_t r = 0; r < 4; r++) vf_zip(a[r], a[r + 4], &b[2 * r], &b[2 * r + 1]);
    for (uint32_t r = 0; r < 8; r++) vf_store(to + r * VF_LANES, b[r]);
}

static void attn_pack_float(const attn_work *w, const attn_tile *t, float *to)
{
    const spark_attn_args *a = w->a;
    const float *rows[SPARK_ATTN_TILE];
    uint32_t done = 0;
    for (uint32_t r = 0; r < SPARK_ATTN_TILE; r++) rows[r] = a->q + a->q_offset[t->row + (r < t->n ? r : 0)];
    for (; t->n == SPARK_ATTN_WIDE && a->head_dim_k - done >= VF_LANES; done += VF_LANES) {
        float eight[VF_LANES * 8];
        attn_interleave(rows, done, eight);
        for (uint32_t i = 0; i < VF_LANES; i++) {
            memcpy(to + (size_t)(done + i) * SPARK_ATTN_WIDE, eight + i * 8, SPARK_ATTN_WIDE * sizeof *to);
        }
    }
    for (uint32_t r = 0; r < t->width; r++) {
        for (uint32_t i = done; i < a->head_dim_k; i++) to[(size_t)i * t->width + r] = r < t->n ? rows[r][i] : 0.0f;
    }
}

static void attn_pack_q8(const attn_work *w, const attn_tile *t, int32_t *to)
{
    const spark_attn_args *a = w->a;
    int8_t levels[SPARK_MAX_HEAD_DIM];
    float d[SPARK_MAX_HEAD_DIM / SPARK_KV_QK];
    const uint32_t n_blocks = spark_kv_n_scales(a->head_dim_k);
    memset(to, 0, (size_t)n_blocks * ATTN_Q8_WORDS * t->width * sizeof *to);
    for (uint32_t r = 0; r < t->n; r++) {
        attn_quantize(a->q + a->q_offset[t->row + r], a->head_dim_k, levels, d);
        for (uint32_t b = 0; b < n_blocks; b++) {
            int32_t *block = to + (size_t)b * ATTN_Q8_WORDS * t->width;
            int32_t sum = 0;
            for (uint32_t i = 0; i < SPARK_KV_QK; i++) sum += levels[b * SPARK_KV_QK + i];
            block[r] = VI_DOT_BIAS * sum;
            memcpy(&block[t->width + r], &d[b], sizeof d[b]);
            for (uint32_t i = 0; i < SPARK_KV_QK / 4; i++) {
                memcpy(&block[(2 + i) * t->width + r], levels + b * SPARK_KV_QK + i * 4, 4);
            }
        }
    }
}

/* ---- Asking ahead ---------------------------------------------------------------------------------------------- */

/* Lines that are read next, asked for one after another and a few at a time while others are worked on: the values of a
 * block with its scores and its softmax, the keys of the next block with its values. So memory always has work, and no
 * burst fills the queue of misses. */
typedef struct attn_ahead {
    const uint8_t *at, *end;
    uint32_t left; /* lines that the work at hand asks for */
} attn_ahead;

static attn_ahead attn_ahead_of(const uint8_t *at, size_t len) { return (attn_ahead){.at = at, .end = at + len}; }

/* The work at hand is one of `parts` equal ones that are left: it asks for as much of what is left. */
static void attn_ahead_share(attn_ahead *h, uint32_t parts)
{
    const uint32_t lines = (uint32_t)((size_t)(h->end - h->at + 63) / 64);
    h->left = (lines + parts - 1) / parts;
}

/* Lines for each of n equal steps of the work. */
SPARK_INLINE uint32_t attn_ask_each(const attn_ahead *h, uint32_t n) { return n == 0 ? 0 : (h->left + n - 1) / n; }

SPARK_INLINE void attn_ask(attn_ahead *h, uint32_t n)
{
    const uint32_t some = n < h->left ? n : h->left;
    const uint8_t *const end = h->at + some * 64;
    h->left -= some;
    SPARK_UNROLL(1)
    for (; h->at < end; h->at += 64) vf_prefetch(h->at);
}

/* ---- Scores ---------------------------------------------------------------------------------------------------- */

/* Where lane 0 of vector j lies in units of one position's element, behind the first group: groups are `group` apart. */
SPARK_INLINE size_t attn_vector(uint32_t j, size_t group, size_t element)
{
    return j * VF_LANES / SPARK_KV_GROUP * group + j * VF_LANES % SPARK_KV_GROUP * element;
}

/* Scores of R rows at NV vectors of positions from group `k` on; F32 or F16 keys. Asks for `ask` lines every four dims. */
SPARK_INLINE void attn_scores_float(const uint32_t R, const uint32_t NV, const int half, const uint8_t *k, uint32_t dk,
                                    const float *q, float *s, attn_ahead *h, uint32_t ask)
{
    const size_t size = half ? 2 : 4, group = SPARK_KV_GROUP * size * dk;
    VF acc[ATTN_MAX_ACCS], kv[8];
    for (uint32_t i = 0; i < R * NV; i++) acc[i] = vf_zero();
    for (uint32_t d = 0; d < dk; d++) {
        if (d % 4 == 0) attn_ask(h, ask);
        for (uint32_t j = 0; j < NV; j++) {
            const uint8_t *p = k + attn_vector(j, group, size);
            kv[j] = half ? vf_load_f16((const uint16_t *)(const void *)p) : vf_load((const float *)(const void *)p);
        }
        for (uint32_t r = 0; r < R; r++) {
            const VF x = vf_set1(q[r]);
            for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vf_fma(x, kv[j], acc[r * NV + j]);
        }
        k += SPARK_KV_GROUP * size;
        q += R;
    }
    for (uint32_t r = 0; r < R; r++) {
        for (uint32_t j = 0; j < NV; j++) vf_store(s + r * SPARK_KV_BLOCK + j * VF_LANES, acc[r * NV + j]);
    }
}

/* The same for Q8_0 keys: integer sums of 32 dims, then one fma each. */
SPARK_INLINE void attn_scores_q8(const uint32_t R, const uint32_t NV, const uint8_t *k, uint32_t dk, const int32_t *q,
                                 float *s, attn_ahead *h, uint32_t ask)
{
    const size_t group = spark_kv_k_bytes(SPARK_KV_Q8_0, dk);
    VF sum[ATTN_MAX_ACCS];
    for (uint32_t i = 0; i < R * NV; i++) sum[i] = vf_zero();
    for (uint32_t begin = 0; begin < dk; begin += SPARK_KV_QK) {
        const uint32_t quads = (dk - begin < SPARK_KV_QK ? dk - begin + 3 : SPARK_KV_QK) / 4;
        const uint8_t *levels = k + SPARK_KV_GROUP * sizeof(float);
        VI acc[ATTN_MAX_ACCS];
        for (uint32_t r = 0; r < R; r++) {
            for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vi_set1(q[r]);
        }
        for (uint32_t i = 0; i < quads; i++) {
            VI_DOT_K kv[8];
            attn_ask(h, ask);
            for (uint32_t j = 0; j < NV; j++)
                kv[j] = vi_dot_load(levels + i * (4 * SPARK_KV_GROUP) + attn_vector(j, group, 4));
            for (uint32_t r = 0; r < R; r++) {
                const VI x = vi_set1(q[(2 + i) * R + r]);
                for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vi_dot(acc[r * NV + j], kv[j], x);
            }
        }
        const float *dq = (const float *)(const void *)(q + R);
        for (uint32_t j = 0; j < NV; j++) {
            const VF d = vf_load((const float *)(const void *)(k + attn_vector(j, group, 4)));
            for (uint32_t r = 0; r < R; r++) {
                VF *x = &sum[r * NV + j];
                *x = vf_fma(vf_mul(d, vf_set1(dq[r])), vi_to_f(acc[r * NV + j]), *x);
            }
        }
        k += SPARK_KV_Q8_BLOCK;
        q += ATTN_Q8_WORDS * R;
    }
    for (uint32_t r = 0; r < R; r++) {
        for (uint32_t j = 0; j < NV; j++) vf_store(s + r * SPARK_KV_BLOCK + j * VF_LANES, sum[r * NV + j]);
    }
}

/* Scores of R rows at n positions (a multiple of NV vectors) from group `k` on. */
SPARK_INLINE void attn_scores(const uint32_t R, const uint32_t NV, const spark_kv_type type, const uint8_t *k,
                              uint32_t n, const void *q, uint32_t dk, float *s, attn_ahead *ahead)
{
    attn_ahead here = *ahead, *const h = &here; /* in registers */
    const size_t group = spark_kv_k_bytes(type, dk), element = type == SPARK_KV_F16 ? 2 : 4;
    const uint32_t turns = n / (NV * VF_LANES), ask = attn_ask_each(h, turns * ((dk + 3) / 4));
    for (uint32_t j = 0; j < n / VF_LANES; j += NV) {
        const uint8_t *from = k + attn_vector(j, group, element);
        if (type == SPARK_KV_Q8_0) {
            attn_scores_q8(R, NV, from, dk, q, s + j * VF_LANES, h, ask);
        } else {
            attn_scores_float(R, NV, type == SPARK_KV_F16, from, dk, q, s + j * VF_LANES, h, ask);
        }
    }
    *ahead = here;
}

/* ---- Softmax --------------------------------------------------------------------------------------------------- */

SPARK_INLINE uint32_t attn_clamp(uint32_t x, uint32_t from)
{
    return x <= from ? 0 : x - from < VF_LANES ? x - from : VF_LANES;
}

SPARK_INLINE VF attn_scaled(const spark_attn_args *a, VF score)
{
    const VF x = vf_mul(score, vf_set1(a->scale)), cap = vf_set1(a->softcap);
    return a->softcap != 0 ? vf_mul(cap, vf_tanh(vf_div(x, cap))) : x;
}

/* A row's scores, scaled and capped, -infinity where it does not see; returns m. Groups of 32 that hold no visible
 * position are not touched. */
static float attn_row_max(const spark_attn_args *a, float *s, uint32_t begin, uint32_t end)
{
    const VF none = vf_set1(-__builtin_inff());
    VF max[ATTN_VECTORS];
    for (uint32_t j = 0; j < ATTN_VECTORS; j++) max[j] = none;
    for (uint32_t at = begin / 32 * 32; at < end; at += 32) {
        const int edge = at < begin || at + 32 > end;
        for (uint32_t j = 0; j < ATTN_VECTORS; j++) {
            const uint32_t i = at + j * VF_LANES;
            VF x = attn_scaled(a, vf_load(s + i));
            if (edge) x = vf_keep_range(x, attn_clamp(begin, i), attn_clamp(end, i), none);
            vf_store(s + i, x);
            max[j] = vf_max(max[j], x);
        }
    }
    for (uint32_t j = 1; j < ATTN_VECTORS; j++) max[0] = vf_max(max[0], max[j]);
    return vf_fold_max(max[0]) + 0.0f;
}

/* The row's scores to p = exp(s - m) in place; returns l. */
static float attn_row_exp(float *s, uint32_t begin, uint32_t end, float m)
{
    const VF top = vf_set1(m);
    VF lane[ATTN_VECTORS];
    for (uint32_t j = 0; j < ATTN_VECTORS; j++) lane[j] = vf_zero();
    for (uint32_t at = begin / 32 * 32; at < end; at += 32) {
        for (uint32_t j = 0; j < ATTN_VECTORS; j++) {
            const VF p = vf_exp_bounded(vf_sub(vf_load(s + at + j * VF_LANES), top));
            vf_store(s + at + j * VF_LANES, p);
            lane[j] = vf_add(lane[j], p);
        }
    }
    for (uint32_t half = ATTN_VECTORS / 2; half > 0; half /= 2) {
        for (uint32_t j = 0; j < half; j++) lane[j] = vf_add(lane[j], lane[j + half]);
    }
    return vf_fold(lane[0]);
}

/* m and l of each row of the tile; its scores become p. Rows that see nothing get zeros. In two rounds, so that the
 * latencies of one row's folds hide behind the others. */
static void attn_softmax(const spark_attn_args *a, attn_tile *t, float *scores, attn_ahead *h)
{
    const uint32_t ask = attn_ask_each(h, 2 * t->n);
    for (uint32_t r = 0; r < t->n; r++) {
        const int none = t->begin[r] == t->end[r];
        attn_ask(h, ask);
        t->m[r] = none ? 0.0f : attn_row_max(a, scores + r * SPARK_KV_BLOCK, t->begin[r], t->end[r]);
    }
    for (uint32_t r = 0; r < t->n; r++) {
        const int none = t->begin[r] == t->end[r];
        attn_ask(h, ask);
        t->l[r] = none ? 0.0f : attn_row_exp(scores + r * SPARK_KV_BLOCK, t->begin[r], t->end[r], t->m[r]);
    }
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

SPARK_INLINE VF attn_value(const spark_kv_type type, const uint8_t *row, const float *scales, uint32_t i)
{
    if (type == SPARK_KV_F32) return vf_load((const float *)(const void *)row + i);
    if (type == SPARK_KV_F16) return vf_load_f16((const uint16_t *)(const void *)row + i);
    return vf_mul(vf_set1(scales[i / SPARK_KV_QK]), vf_load_i8((const int8_t *)row + i));
}

/* The values of a block, or 32 columns of them widened: rows of positions `stride` bytes apart, n_cols (a multiple of 16)
 * elements each; for Q8_0 with scales, n_scales for each row. */
typedef struct attn_columns {
    const uint8_t *v;
    size_t stride;
    const float *scales;
    uint32_t n_scales, n_cols;
} attn_columns;

/* NV vectors of elements from `col` on, R rows; rows of o are n_cols apart. */
SPARK_INLINE void attn_values_cols(const uint32_t R, const uint32_t NV, const spark_kv_type type,
                                   const attn_columns *from, const attn_tile *t, uint32_t col, const float *p, float *o,
                                   attn_ahead *h, uint32_t ask)
{
    VF acc[ATTN_MAX_ACCS], v[8];
    for (uint32_t i = 0; i < R * NV; i++) acc[i] = vf_zero();
    for (uint32_t at = t->any_begin; at < t->any_end;) {
        /* Up to all_begin and from all_end on, some rows do not see a position. */
        const int all = at >= t->all_begin && at < t->all_end;
        const uint32_t end = at < t->all_begin ? t->all_begin : all ? t->all_end : t->any_end;
        const uint8_t *row = from->v + at * from->stride;
        const float *scales = from->scales + (size_t)at * from->n_scales, *x = p + at;
        for (; all && x < p + end; x++) {
            if ((x - p) % 4 == 0) attn_ask(h, ask);
            for (uint32_t j = 0; j < NV; j++) v[j] = attn_value(type, row, scales, col + j * VF_LANES);
            SPARK_UNROLL(14)
            for (uint32_t r = 0; r < R; r++) {
                const VF xr = vf_set1(x[r * SPARK_KV_BLOCK]);
                for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vf_fma(xr, v[j], acc[r * NV + j]);
            }
            row += from->stride;
            scales += from->n_scales;
        }
        for (at = all ? end : at; at < end; at++) {
            for (uint32_t j = 0; j < NV; j++) v[j] = attn_value(type, row, scales, col + j * VF_LANES);
            SPARK_UNROLL(14)
            for (uint32_t r = 0; r < R; r++) {
                if (at < t->begin[r] || at >= t->end[r]) continue;
                const VF xr = vf_set1(p[r * SPARK_KV_BLOCK + at]);
                for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vf_fma(xr, v[j], acc[r * NV + j]);
            }
            row += from->stride;
            scales += from->n_scales;
        }
    }
    for (uint32_t r = 0; r < R; r++) {
        for (uint32_t j = 0; j < NV; j++) vf_store(o + (size_t)r * from->n_cols + col + j * VF_LANES, acc[r * NV + j]);
    }
}

SPARK_INLINE void attn_values(const uint32_t R, const uint32_t NV, const spark_kv_type type, const attn_columns *from,
                              const attn_tile *t, const float *p, float *o, attn_ahead *ahead)
{
    attn_ahead here = *ahead, *const h = &here; /* in registers */
    const uint32_t n = from->n_cols, turns = (n + NV * VF_LANES - 1) / (NV * VF_LANES),
                   ask = attn_ask_each(h, turns * ((t->all_end - t->all_begin) / 4));
    uint32_t col = 0;
    for (; n - col >= NV * VF_LANES; col += NV * VF_LANES) attn_values_cols(R, NV, type, from, t, col, p, o, h, ask);
    if (NV > 4 && n - col >= 4 * VF_LANES)
        attn_values_cols(R, 4, type, from, t, col, p, o, h, ask), col += 4 * VF_LANES;
    if (NV > 2 && n - col >= 2 * VF_LANES)
        attn_values_cols(R, 2, type, from, t, col, p, o, h, ask), col += 2 * VF_LANES;
    if (NV > 1 && n - col >= VF_LANES) attn_values_cols(R, 1, type, from, t, col, p, o, h, ask);
    *ahead = here;
}

/* ---- The kernels of each width and type ------------------------------------------------------------------------ */

typedef void attn_scores_fn(const uint8_t *k, uint32_t n, const void *q, uint32_t dk, float *s, attn_ahead *h);
typedef void attn_values_fn(const attn_columns *from, const attn_tile *t, const float *p, float *o, attn_ahead *h);

#define ATTN_DEFINE_TYPE(R, NV_K, NV_V, name, type)                                                                    \
    static void attn_scores_##name##_##R(const uint8_t *k, uint32_t n, const void *q, uint32_t dk, float *s,           \
                                         attn_ahead *h)                                                                \
    {                                                                                                                  \
        attn_scores(R, NV_K, type, k, n, q, dk, s, h);                                                                 \
    }                                                                                                                  \
    static void attn_values_##name##_##R(const attn_columns *from, const attn_tile *t, const float *p, float *o,       \
                                         attn_ahead *h)                                                                \
    {                                                                                                                  \
        attn_values(R, NV_V, type, from, t, p, o, h);                                                                  \
    }
#define ATTN_DEFINE(R)                                                                                                 \
    ATTN_DEFINE_TYPE(R, ATTN_NV_##R, ATTN_NV_##R, f32, SPARK_KV_F32)                                                   \
    ATTN_DEFINE_TYPE(R, ATTN_NV_##R, ATTN_NV_##R, f16, SPARK_KV_F16)                                                   \
    ATTN_DEFINE_TYPE(R, ATTN_NV_Q8_##R, ATTN_NV_##R, q8, SPARK_KV_Q8_0)

ATTN_DEFINE(1)
ATTN_DEFINE(2)
ATTN_DEFINE(4)
ATTN_DEFINE(6)
ATTN_DEFINE(8)
#if ATTN_TILE_ROWS == 14
ATTN_DEFINE(10)
ATTN_DEFINE(12)
ATTN_DEFINE(14)
#define ATTN_LISTS_LARGE(what) ATTN_LIST(what, 10), ATTN_LIST(what, 12), ATTN_LIST(what, 14)
#else
#define ATTN_LISTS_LARGE(what)
#endif

/* Of half the width (1, 2, 4, 6, ...) and the type. */
#define ATTN_LIST(what, R)                                                                                             \
    {                                                                                                                  \
        attn_##what##_f32_##R, attn_##what##_f16_##R, attn_##what##_q8_##R                                             \
    }
#define ATTN_LISTS(what)                                                                                               \
    {                                                                                                                  \
        ATTN_LIST(what, 1), ATTN_LIST(what, 2), ATTN_LIST(what, 4), ATTN_LIST(what, 6), ATTN_LIST(what, 8),            \
            ATTN_LISTS_LARGE(what)                                                                                     \
    }
static attn_scores_fn *const attn_scores_of[][SPARK_N_KV_TYPES] = ATTN_LISTS(scores);
static attn_values_fn *const attn_values_of[][SPARK_N_KV_TYPES] = ATTN_LISTS(values);

/* ---- One block ------------------------------------------------------------------------------------------------- */

/* What the rows of a tile see of block b; 0 if nothing. */
static int attn_tile_range(const spark_attn_args *a, attn_tile *t, uint32_t b)
{
    const uint32_t origin = b * SPARK_KV_BLOCK;
    t->any_begin = SPARK_KV_BLOCK;
    t->any_end = t->all_begin = 0;
    t->all_end = SPARK_KV_BLOCK;
    for (uint32_t r = 0; r < t->n; r++) {
        const uint32_t first = a->first[t->row + r], last = a->last[t->row + r];
        uint32_t begin = first > origin ? first - origin : 0;
        uint32_t end = last < origin ? 0 : last - origin < SPARK_KV_BLOCK ? last - origin + 1 : SPARK_KV_BLOCK;
        if (begin >= end) begin = end = 0;
        t->begin[r] = begin;
        t->end[r] = end;
        if (begin < end && begin < t->any_begin) t->any_begin = begin;
        if (end > t->any_end) t->any_end = end;
        if (begin > t->all_begin) t->all_begin = begin;
        if (end < t->all_end) t->all_end = end;
    }
    for (uint32_t r = t->n; r < t->width; r++) t->begin[r] = t->end[r] = 0;
    if (t->all_begin >= t->all_end) t->all_begin = t->all_end = t->any_end;
    return t->any_begin < t->any_end;
}

static attn_columns attn_block_columns(const spark_attn_args *a, const uint8_t *block)
{
    attn_columns v = {.v = block + spark_kv_v_offset(a->type, a->head_dim_k)};
    v.stride = spark_kv_v_bytes(a->type, a->head_dim_v);
    v.n_cols = spark_kv_pad(a->head_dim_v);
    v.scales = (const float *)(const void *)block; /* not read without scales, but a pointer to move along */
    if (a->type == SPARK_KV_Q8_0) {
        v.scales = (const float *)(const void *)(block + spark_kv_v_scales(a->head_dim_k, a->head_dim_v));
        v.n_scales = spark_kv_n_scales(a->head_dim_v);
    }
    return v;
}

/* ---- Merging --------------------------------------------------------------------------------------------------- */

/* How the elements of a tile's rows merge: O = fma(x, O, y * o), or a copy into an empty state, or not at all. */
typedef struct attn_mix {
    enum { MIX_NONE, MIX_COPY, MIX_BOTH } how[SPARK_ATTN_TILE];
    float x[VF_LANES], y[VF_LANES];
} attn_mix;

/* Merges m and l of n rows into the state (l = 0: no part, or an empty state) and says how the elements follow. */
static attn_mix attn_mix_of(const attn_work *w, uint32_t row, uint32_t n, const float *m, const float *l)
{
    attn_mix mix;
    float *M = w->state_m + row, *L = w->state_l + row, sum[VF_LANES], top[VF_LANES];
    const VF m0 = vf_load_n(m, n), l0 = vf_load_n(l, n), M0 = vf_load_n(M, n), L0 = vf_load_n(L, n);
    const VF max = vf_max(m0, M0), x = vf_exp_bounded(vf_sub(M0, max)), y = vf_exp_bounded(vf_sub(m0, max));
    vf_store(top, max);
    vf_store(mix.x, x);
    vf_store(mix.y, y);
    vf_store(sum, vf_fma(x, L0, vf_mul(y, l0)));
    for (uint32_t r = 0; r < n; r++) {
        mix.how[r] = l[r] == 0 ? MIX_NONE : L[r] == 0 ? MIX_COPY : MIX_BOTH;
        if (mix.how[r] == MIX_NONE) continue;
        M[r] = mix.how[r] == MIX_COPY ? m[r] : top[r];
        L[r] = mix.how[r] == MIX_COPY ? l[r] : sum[r];
    }
    return mix; /* cppcheck-suppress uninitvar ; rows from n on are never read */
}

/* Elements [col, col + count) of n rows; rows of o are o_stride apart and begin at col. */
static void attn_mix_apply(const attn_work *w, const attn_mix *mix, uint32_t row, uint32_t n, const float *o,
                           size_t o_stride, uint32_t col, uint32_t count)
{
    for (uint32_t r = 0; r < n; r++, o += o_stride) {
        float *O = w->state_o + (size_t)(row + r) * w->dv_pad + col;
        if (mix->how[r] == MIX_COPY) memcpy(O, o, count * sizeof *O);
        if (mix->how[r] != MIX_BOTH) continue;
        const VF x = vf_set1(mix->x[r]), y = vf_set1(mix->y[r]);
        uint32_t i = 0;
        for (; count - i >= VF_LANES; i += VF_LANES)
            vf_store(O + i, vf_fma(x, vf_load(O + i), vf_mul(y, vf_load(o + i))));
        if (i == count) continue;
        vf_store_n(O + i, vf_fma(x, vf_load_n(O + i, count - i), vf_mul(y, vf_load_n(o + i, count - i))), count - i);
    }
}

static void attn_merge_rows(const attn_work *w, uint32_t row, uint32_t n, const float *m, const float *l,
                            const float *o, size_t o_stride)
{
    const attn_mix mix = attn_mix_of(w, row, n, m, l);
    attn_mix_apply(w, &mix, row, n, o, o_stride, 0, w->a->head_dim_v);
}

/* The sink, and O * (1 / L), for n rows of a tile; `row` counts from the chunk's first row `base`. */
static void attn_finish_rows(const attn_work *w, uint32_t base, uint32_t row, uint32_t n)
{
    const spark_attn_args *a = w->a;
    const uint32_t dv = a->head_dim_v;
    if (a->sink) {
        float one[SPARK_ATTN_TILE];
        for (uint32_t r = 0; r < n; r++) one[r] = 1.0f;
        memset(w->o, 0, w->dv_pad * sizeof *w->o);
        attn_merge_rows(w, row, n, a->sink + base + row, one, w->o, 0);
    }
    for (uint32_t r = 0; r < n; r++) {
        float *out = a->out + a->out_offset[base + row + r];
        const float *O = w->state_o + (size_t)(row + r) * w->dv_pad, L = w->state_l[row + r];
        const VF inv = vf_set1(L == 0 ? 0.0f : 1.0f / L);
        uint32_t i = 0;
        for (; dv - i >= VF_LANES; i += VF_LANES) vf_store(out + i, vf_mul(vf_load(O + i), inv));
        if (i < dv) vf_store_n(out + i, vf_mul(vf_load_n(O + i, dv - i), inv), dv - i);
    }
}

/* ---- Chunks of rows -------------------------------------------------------------------------------------------- */

static attn_work attn_work_init(const spark_attn_args *a)
{
    const spark_attn_layout l = spark__attn_layout(a->head_dim_k, a->head_dim_v, a->n_rows);
    uint8_t *s = a->scratch;
    attn_work w = {.a = a, .dv_pad = spark_kv_pad(a->head_dim_v), .queries = s + l.queries};
    w.query_bytes = spark_kv_pad(a->head_dim_k) * sizeof(float);
    w.k_wide = (float *)(void *)(s + l.k_wide);
    w.v_wide = (float *)(void *)(s + l.v_wide);
    w.scores = (float *)(void *)(s + l.scores);
    w.o = (float *)(void *)(s + l.o);
    w.state_m = (float *)(void *)(s + l.state_m);
    w.state_l = (float *)(void *)(s + l.state_l);
    w.state_o = (float *)(void *)(s + l.state_o);
    return w;
}

/* An empty state; the elements too, so that a row that sees nothing gives zeros. */
static void attn_state_clear(const attn_work *w, uint32_t n)
{
    memset(w->state_m, 0, n * sizeof(float));
    memset(w->state_l, 0, n * sizeof(float));
    memset(w->state_o, 0, (size_t)n * w->dv_pad * sizeof(float));
}

/* Few rows make as few tiles as they fit in, of nearly equal size. */
static uint32_t attn_tile_rows(uint32_t n)
{
    if (n >= ATTN_WIDE_ROWS) return SPARK_ATTN_WIDE;
    const uint32_t n_tiles = (n + ATTN_TILE_ROWS - 1) / ATTN_TILE_ROWS, rows = (n + n_tiles - 1) / n_tiles;
    return n <= ATTN_TILE_ROWS ? ATTN_TILE_ROWS : (rows + 1) / 2 * 2;
}

/* Tile i of the chunk [base, base + n). In a wide chunk the last one too is filled up. */
static attn_tile attn_tile_of(const attn_work *w, uint32_t base, uint32_t n, uint32_t i)
{
    const uint32_t rows = attn_tile_rows(n), left = n - i * rows;
    attn_tile t = {.row = base + i * rows, .query = w->queries + i * rows * w->query_bytes};
    t.n = left < rows ? left : rows;
    t.width = n >= ATTN_WIDE_ROWS ? rows : t.n <= 2 ? t.n : (t.n + 1) / 2 * 2;
    return t;
}

static void attn_pack_chunk(const attn_work *w, uint32_t base, uint32_t n)
{
    const uint32_t rows = attn_tile_rows(n);
    for (uint32_t i = 0; i * rows < n; i++) {
        const attn_tile t = attn_tile_of(w, base, n, i);
        void *to = w->queries + i * rows * w->query_bytes;
        if (w->a->type == SPARK_KV_Q8_0) {
            attn_pack_q8(w, &t, to);
        } else {
            attn_pack_float(w, &t, to);
        }
    }
}

/* Columns [col, col + count) of the tile's parts, from rows of o that are o_stride apart and begin at col; m and l with
 * the first ones. Rows that see nothing give zeros. */
static void attn_put_parts(const attn_work *w, const attn_tile *t, const float *o, size_t o_stride, uint32_t col,
                           uint32_t count, float *parts)
{
    const size_t size = SPARK_ATTN_PART(w->a->head_dim_v);
    for (uint32_t r = 0; r < t->n; r++, o += o_stride) {
        float *part = parts + (t->row + r) * size;
        if (col == 0) {
            part[0] = t->m[r];
            part[1] = t->l[r];
        }
        if (t->l[r] == 0) {
            memset(part + 2 + col, 0, count * sizeof *part);
        } else {
            memcpy(part + 2 + col, o, count * sizeof *part);
        }
    }
}

/* The values of positions up to `end` of block b. */
static attn_ahead attn_ahead_values(const spark_attn_args *a, uint32_t b, uint32_t end)
{
    return attn_ahead_of(a->blocks[b] + spark_kv_v_offset(a->type, a->head_dim_k),
                         end * spark_kv_v_bytes(a->type, a->head_dim_v));
}

/* The keys of the block behind b, as far as rows up to the chunk's last one see them. */
static attn_ahead attn_ahead_keys(const spark_attn_args *a, uint32_t b, uint32_t last)
{
    const uint32_t origin = (b + 1) * SPARK_KV_BLOCK, n = last < origin ? 0 : last - origin + 1,
                   groups = (n < SPARK_KV_BLOCK ? n + SPARK_KV_GROUP - 1 : SPARK_KV_BLOCK) / SPARK_KV_GROUP;
    if (n == 0) return attn_ahead_of(a->blocks[b], 0);
    return attn_ahead_of(a->blocks[b + 1], groups * spark_kv_k_bytes(a->type, a->head_dim_k));
}

/* Block b for one tile: merged into the state, or put into parts (of this block). The first tile of a chunk asks for what
 * rows up to `last` read next. */
static void attn_tile_block(const attn_work *w, uint32_t base, attn_tile *t, uint32_t b, uint32_t last, float *parts)
{
    const spark_attn_args *a = w->a;
    const uint32_t width = t->width / 2, dv = a->head_dim_v;
    memset(t->l, 0, sizeof t->l);
    memset(t->m, 0, sizeof t->m);
    if (attn_tile_range(a, t, b)) {
        const uint32_t step = t->width <= 2 ? 128 : 64, begin = t->any_begin / step * step;
        const uint32_t end = (t->any_end + step - 1) / step * step;
        const uint8_t *k = a->blocks[b] + begin / SPARK_KV_GROUP * spark_kv_k_bytes(a->type, a->head_dim_k);
        const attn_columns v = attn_block_columns(a, a->blocks[b]);
        attn_ahead values = attn_ahead_values(a, b, t->row == base ? t->any_end : 0),
                   keys = attn_ahead_keys(a, b, t->row == base ? last : 0);
        attn_ahead_share(&values, 2);
        attn_scores_of[width][a->type](k, end - begin, t->query, a->head_dim_k, w->scores + begin, &values);
        attn_ahead_share(&values, 1);
        attn_softmax(a, t, w->scores, &values);
        attn_ahead_share(&keys, 1);
        attn_values_of[width][a->type](&v, t, w->scores, w->o, &keys);
    } else if (!parts) {
        return;
    }
    if (parts) {
        attn_put_parts(w, t, w->o, w->dv_pad, 0, dv, parts);
    } else {
        attn_merge_rows(w, t->row - base, t->n, t->m, t->l, w->o, w->dv_pad);
    }
}

/* ---- Wide chunks: panels against all tiles --------------------------------------------------------------------- */

typedef struct attn_wide {
    attn_tile tiles[SPARK_ATTN_CHUNK / SPARK_ATTN_WIDE];
    attn_mix mixes[SPARK_ATTN_CHUNK / SPARK_ATTN_WIDE];
    uint32_t n_tiles, begin, end; /* what some row of the chunk sees of the block */
} attn_wide;

/* Keys of positions [at, at + 32) as the score kernels of *type read them; halves are widened. */
static const uint8_t *attn_key_panel(const attn_work *w, const uint8_t *block, uint32_t at, spark_kv_type *type)
{
    const uint32_t dk = w->a->head_dim_k;
    const uint8_t *k = block + at / SPARK_KV_GROUP * spark_kv_k_bytes(*type, dk);
    if (*type != SPARK_KV_F16) return k;
    const uint16_t *half = (const uint16_t *)(const void *)k;
    float *to = w->k_wide;
    for (size_t i = 0; i < (size_t)dk * SPARK_ATTN_PANEL; i += VF_LANES) vf_store(to + i, vf_load_f16(half + i));
    *type = SPARK_KV_F32;
    return (const uint8_t *)to;
}

/* Columns [col, col + n) of positions [begin, end), widened. */
SPARK_INLINE void attn_widen_values(const spark_kv_type type, const attn_columns *from, uint32_t begin, uint32_t end,
                                    uint32_t col, uint32_t n, float *to)
{
    for (uint32_t at = begin; at < end; at++) {
        const uint8_t *row = from->v + at * from->stride;
        const float *scales = from->scales + (size_t)at * from->n_scales;
        for (uint32_t i = 0; i < n; i += VF_LANES)
            vf_store(to + (size_t)at * n + i, attn_value(type, row, scales, col + i));
    }
}

static attn_columns attn_value_panel(const attn_work *w, const attn_columns *from, const attn_wide *c, uint32_t col)
{
    attn_columns panel = {.v = (const uint8_t *)w->v_wide, .scales = w->v_wide};
    panel.n_cols = from->n_cols - col < SPARK_ATTN_PANEL ? from->n_cols - col : SPARK_ATTN_PANEL;
    panel.stride = panel.n_cols * sizeof(float);
    switch (w->a->type) {
    case SPARK_KV_F16: attn_widen_values(SPARK_KV_F16, from, c->begin, c->end, col, panel.n_cols, w->v_wide); break;
    case SPARK_KV_Q8_0: attn_widen_values(SPARK_KV_Q8_0, from, c->begin, c->end, col, panel.n_cols, w->v_wide); break;
    case SPARK_KV_F32: /* copied all the same: together they stay in the cache, far apart they do not */
    case SPARK_N_KV_TYPES: attn_widen_values(SPARK_KV_F32, from, c->begin, c->end, col, panel.n_cols, w->v_wide); break;
    }
    return panel;
}

static void attn_wide_scores(const attn_work *w, const attn_wide *c, const uint8_t *block, attn_ahead *h)
{
    uint32_t parts = (SPARK_KV_BLOCK / SPARK_ATTN_PANEL + 1) *
                     c->n_tiles; /* and as much as one panel for the softmax */
    for (uint32_t at = c->begin / SPARK_ATTN_PANEL * SPARK_ATTN_PANEL; at < c->end; at += SPARK_ATTN_PANEL) {
        spark_kv_type type = w->a->type;
        const uint8_t *k = attn_key_panel(w, block, at, &type);
        for (uint32_t i = 0; i < c->n_tiles; i++) {
            const attn_tile *t = &c->tiles[i];
            if (t->any_end <= at || t->any_begin >= at + SPARK_ATTN_PANEL) continue;
            float *s = w->scores + (size_t)i * SPARK_ATTN_WIDE * SPARK_KV_BLOCK + at;
            attn_ahead_share(h, parts--);
            attn_scores_of[SPARK_ATTN_WIDE / 2][type](k, SPARK_ATTN_PANEL, t->query, w->a->head_dim_k, s, h);
        }
    }
}

static void attn_wide_values(const attn_work *w, const attn_wide *c, const uint8_t *block, float *parts, attn_ahead *h)
{
    const uint32_t dv = w->a->head_dim_v, base = c->tiles[0].row;
    const attn_columns from = attn_block_columns(w->a, block);
    uint32_t left = (dv + SPARK_ATTN_PANEL - 1) / SPARK_ATTN_PANEL * c->n_tiles;
    for (uint32_t col = 0; col < dv; col += SPARK_ATTN_PANEL) {
        const attn_columns v = attn_value_panel(w, &from, c, col);
        const uint32_t count = dv - col < SPARK_ATTN_PANEL ? dv - col : SPARK_ATTN_PANEL;
        for (uint32_t i = 0; i < c->n_tiles; i++) {
            const attn_tile *t = &c->tiles[i];
            const float *p = w->scores + (size_t)i * SPARK_ATTN_WIDE * SPARK_KV_BLOCK;
            attn_ahead_share(h, left--);
            attn_values_of[SPARK_ATTN_WIDE / 2][SPARK_KV_F32](&v, t, p, w->o, h);
            if (parts) {
                attn_put_parts(w, t, w->o, v.n_cols, col, count, parts);
            } else {
                attn_mix_apply(w, &c->mixes[i], t->row - base, t->n, w->o, v.n_cols, col, count);
            }
        }
    }
}

/* Block b for all rows of a chunk: merged into the state, or put into parts (of this block). */
static void attn_chunk_block(const attn_work *w, uint32_t base, uint32_t n, uint32_t b, uint32_t last, float *parts)
{
    const uint32_t rows = attn_tile_rows(n);
    attn_wide c = {.n_tiles = (n + rows - 1) / rows, .begin = SPARK_KV_BLOCK};
    if (n < ATTN_WIDE_ROWS) {
        for (uint32_t i = 0; i < c.n_tiles; i++) {
            attn_tile t = attn_tile_of(w, base, n, i);
            attn_tile_block(w, base, &t, b, last, parts);
        }
        return;
    }
    for (uint32_t i = 0; i < c.n_tiles; i++) {
        attn_tile *t = &c.tiles[i];
        *t = attn_tile_of(w, base, n, i);
        if (!attn_tile_range(w->a, t, b)) continue;
        c.begin = t->any_begin < c.begin ? t->any_begin : c.begin;
        c.end = t->any_end > c.end ? t->any_end : c.end;
    }
    attn_ahead values = attn_ahead_values(w->a, b, c.end), keys = attn_ahead_keys(w->a, b, last);
    if (c.begin < c.end) attn_wide_scores(w, &c, w->a->blocks[b], &values);
    if (c.begin >= c.end && !parts) return;
    for (uint32_t i = 0; i < c.n_tiles; i++) {
        attn_tile *t = &c.tiles[i];
        attn_ahead_share(&values, c.n_tiles - i);
        attn_softmax(w->a, t, w->scores + (size_t)i * SPARK_ATTN_WIDE * SPARK_KV_BLOCK, &values);
        if (!parts) c.mixes[i] = attn_mix_of(w, t->row - base, t->n, t->m, t->l);
    }
    attn_wide_values(w, &c, w->a->blocks[b], parts, &keys);
}

static void SPARK_K(spark_k_attn)(const spark_attn_args *a)
{
    const attn_work w = attn_work_init(a);
    for (uint32_t base = 0; base < a->n_rows; base += SPARK_ATTN_CHUNK) {
        const uint32_t n = a->n_rows - base < SPARK_ATTN_CHUNK ? a->n_rows - base : SPARK_ATTN_CHUNK;
        uint32_t first = UINT32_MAX, last = 0;
        for (uint32_t r = base; r < base + n; r++) {
            if (a->first[r] > a->last[r]) continue;
            first = a->first[r] < first ? a->first[r] : first;
            last = a->last[r] > last ? a->last[r] : last;
        }
        attn_state_clear(&w, n);
        attn_pack_chunk(&w, base, n);
        for (uint32_t b = first / SPARK_KV_BLOCK; b <= last / SPARK_KV_BLOCK; b++)
            attn_chunk_block(&w, base, n, b, last, NULL);
        for (uint32_t r = 0; r < n; r += ATTN_TILE_ROWS) {
            attn_finish_rows(&w, base, r, n - r < ATTN_TILE_ROWS ? n - r : ATTN_TILE_ROWS);
        }
    }
}

static void SPARK_K(spark_k_attn_part)(const spark_attn_args *a, uint32_t begin, uint32_t end, float *parts)
{
    const attn_work w = attn_work_init(a);
    for (uint32_t base = 0; base < a->n_rows; base += SPARK_ATTN_CHUNK) {
        const uint32_t n = a->n_rows - base < SPARK_ATTN_CHUNK ? a->n_rows - base : SPARK_ATTN_CHUNK;
        attn_pack_chunk(&w, base, n);
        for (uint32_t b = begin; b < end; b++) {
            attn_chunk_block(&w, base, n, b, end * SPARK_KV_BLOCK - 1,
                             parts + (size_t)(b - begin) * a->n_rows * SPARK_ATTN_PART(a->head_dim_v));
        }
    }
}

static void SPARK_K(spark_k_attn_merge)(const spark_attn_args *a, uint32_t begin, uint32_t end, const float *parts)
{
    const attn_work w = attn_work_init(a);
    const size_t size = SPARK_ATTN_PART(a->head_dim_v);
    for (uint32_t base = 0; base < a->n_rows; base += ATTN_TILE_ROWS) {
        const uint32_t n = a->n_rows - base < ATTN_TILE_ROWS ? a->n_rows - base : ATTN_TILE_ROWS;
        attn_state_clear(&w, n);
        for (uint32_t b = begin; b < end; b++) {
            const float *part = parts + ((size_t)(b - begin) * a->n_rows + base) * size;
            float m[SPARK_ATTN_TILE], l[SPARK_ATTN_TILE];
            for (uint32_t r = 0; r < n; r++) {
                m[r] = part[r * size];
                l[r] = part[r * size + 1];
            }
            attn_merge_rows(&w, 0, n, m, l, part + 2, size);
        }
        attn_finish_rows(&w, base, 0, n);
    }
}

void SPARK_K(spark__attn_init)(spark_kern *k)
{
    k->kv_store = SPARK_K(spark_k_kv_store);
    k->attn = SPARK_K(spark_k_attn);
    k->attn_part = SPARK_K(spark_k_attn_part);
    k->attn_merge = SPARK_K(spark_k_attn_merge);
}
