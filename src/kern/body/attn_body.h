/* attn_body.h - keys, values and attention a vector at a time; included once by each level's attn_LEVEL.c behind its
 * vec_LEVEL.h and two choices: ATTN_ROWS, the rows of a full tile, and ATTN_ACCS, the accumulators that registers hold.
 *
 * A tile is 1, 2, 4 or 8 rows (filled up with zero rows). For one block it goes through three steps:
 *   scores   lanes = positions; every K vector serves all rows, each score is its own chain over the head dimension
 *   softmax  a row at a time: scale, cap, m, p, l
 *   values   lanes = elements of the head; every V vector serves all rows, each element is its own chain over positions
 * Positions outside a row's range: their scores are computed and become -infinity, so p = +0; their values are skipped
 * by comparing (in `values`, positions that all rows of a tile see take the fast loop).
 * With many rows a block is widened to float once for the whole chunk; with few, conversion happens on the way. */
#include "base/spark_limits.h"
#include "kern/attn_scratch.h"
#include "kern/body/math_body.h"
#include "kern/ops.h"

#include <string.h>

#define ATTN_WIDEN_ROWS 16u                     /* from so many rows on, widening a block first is cheaper */
#define ATTN_VECTORS    (32u / VF_LANES)        /* of one 32-lane sum */
#define ATTN_Q8_WORDS   (2u + SPARK_KV_QK / 4u) /* a quantized query block of one row: bias, scale, 8 x 4 levels */

typedef struct attn_work {
    const spark_attn_args *a;
    uint32_t dv_pad;
    size_t tile_bytes; /* of the packed queries of one full tile */
    uint8_t *queries;
    float *k_wide, *v_wide, *scores, *o, *state_m, *state_l, *state_o;
} attn_work;

typedef struct attn_tile {
    uint32_t row, n, width; /* first row of args, rows, rows with padding: 1, 2, 4 or 8 */
    const void *query;
    uint32_t begin[SPARK_ATTN_TILE], end[SPARK_ATTN_TILE]; /* what each row sees of the block; none: begin = end */
    uint32_t any_begin, any_end, all_begin, all_end;       /* what some row sees, what all of them see */
    float m[SPARK_ATTN_TILE], l[SPARK_ATTN_TILE];
} attn_tile;

/* A block as the kernels read it: its own bytes, or widened. */
typedef struct attn_source {
    spark_kv_type k_type, v_type;
    const uint8_t *k, *v;
    const float *v_scales;
} attn_source;

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
static void attn_pack_float(const attn_work *w, const attn_tile *t, float *to)
{
    const spark_attn_args *a = w->a;
    for (uint32_t r = 0; r < t->width; r++) {
        const float *q = r < t->n ? a->q + a->q_offset[t->row + r] : NULL;
        for (uint32_t i = 0; i < a->head_dim_k; i++) to[(size_t)i * t->width + r] = q ? q[i] : 0.0f;
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

/* ---- Scores ---------------------------------------------------------------------------------------------------- */

/* Where lane 0 of vector j lies in units of one position's element, behind the first group: groups are `group` apart. */
SPARK_INLINE size_t attn_vector(uint32_t j, size_t group, size_t element)
{
    return j * VF_LANES / SPARK_KV_GROUP * group + j * VF_LANES % SPARK_KV_GROUP * element;
}

/* Scores of R rows at NV vectors of positions from group `k` on; F32 or F16 keys. */
SPARK_INLINE void attn_scores_float(const uint32_t R, const uint32_t NV, const int half, const uint8_t *k, uint32_t dk,
                                    const float *q, float *s)
{
    const size_t size = half ? 2 : 4, group = SPARK_KV_GROUP * size * dk;
    VF acc[ATTN_ACCS], kv[8];
    for (uint32_t i = 0; i < R * NV; i++) acc[i] = vf_zero();
    for (uint32_t d = 0; d < dk; d++) {
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
                                 float *s)
{
    const size_t group = spark_kv_k_bytes(SPARK_KV_Q8_0, dk);
    VF sum[ATTN_ACCS];
    for (uint32_t i = 0; i < R * NV; i++) sum[i] = vf_zero();
    for (uint32_t begin = 0; begin < dk; begin += SPARK_KV_QK) {
        const uint32_t quads = (dk - begin < SPARK_KV_QK ? dk - begin + 3 : SPARK_KV_QK) / 4;
        const uint8_t *levels = k + SPARK_KV_GROUP * sizeof(float);
        VI acc[ATTN_ACCS];
        for (uint32_t r = 0; r < R; r++) {
            for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vi_set1(q[r]);
        }
        for (uint32_t i = 0; i < quads; i++) {
            VI_DOT_K kv[8];
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

/* All scores that some row of the tile sees, in steps of NV vectors. */
SPARK_INLINE void attn_scores(const uint32_t R, const uint32_t NV, const spark_kv_type type, const attn_source *from,
                              const attn_tile *t, uint32_t dk, float *scores)
{
    const uint32_t step = NV * VF_LANES;
    const size_t group = spark_kv_k_bytes(type, dk), lane = type == SPARK_KV_F16 ? 2 : 4;
    for (uint32_t at = t->any_begin / step * step; at < t->any_end; at += step) {
        const uint8_t *k = from->k + attn_vector(at / VF_LANES, group, lane);
        if (type == SPARK_KV_Q8_0) {
            attn_scores_q8(R, NV, k, dk, t->query, scores + at);
        } else {
            attn_scores_float(R, NV, type == SPARK_KV_F16, k, dk, t->query, scores + at);
        }
    }
}

/* ---- Softmax --------------------------------------------------------------------------------------------------- */

SPARK_INLINE uint32_t attn_clamp(uint32_t x, uint32_t from)
{
    return x <= from ? 0 : x - from < VF_LANES ? x - from : VF_LANES;
}

/* Scores of one row to p in place; m and l of the row. Only groups of 32 that hold visible positions are touched. */
static void attn_softmax(const spark_attn_args *a, float *s, uint32_t begin, uint32_t end, float *m, float *l)
{
    const VF scale = vf_set1(a->scale), cap = vf_set1(a->softcap), none = vf_set1(-__builtin_inff());
    const uint32_t from = begin / 32 * 32;
    VF max = none, lane[ATTN_VECTORS];
    for (uint32_t at = from; at < end; at += 32) {
        const int edge = at < begin || at + 32 > end;
        for (uint32_t j = 0; j < ATTN_VECTORS; j++) {
            const uint32_t i = at + j * VF_LANES;
            VF x = vf_mul(vf_load(s + i), scale);
            if (a->softcap != 0) x = vf_mul(cap, vf_tanh(vf_div(x, cap)));
            if (edge) x = vf_keep_range(x, attn_clamp(begin, i), attn_clamp(end, i), none);
            vf_store(s + i, x);
            max = vf_max(max, x);
        }
    }
    *m = vf_fold_max(max) + 0.0f;
    const VF top = vf_set1(*m);
    for (uint32_t j = 0; j < ATTN_VECTORS; j++) lane[j] = vf_zero();
    for (uint32_t at = from; at < end; at += 32) {
        for (uint32_t j = 0; j < ATTN_VECTORS; j++) {
            const VF p = vf_exp_bounded(vf_sub(vf_load(s + at + j * VF_LANES), top));
            vf_store(s + at + j * VF_LANES, p);
            lane[j] = vf_add(lane[j], p);
        }
    }
    for (uint32_t half = ATTN_VECTORS / 2; half > 0; half /= 2) {
        for (uint32_t j = 0; j < half; j++) lane[j] = vf_add(lane[j], lane[j + half]);
    }
    *l = vf_fold(lane[0]);
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

SPARK_INLINE VF attn_value(const spark_kv_type type, const uint8_t *row, const float *scales, uint32_t i)
{
    if (type == SPARK_KV_F32) return vf_load((const float *)(const void *)row + i);
    if (type == SPARK_KV_F16) return vf_load_f16((const uint16_t *)(const void *)row + i);
    return vf_mul(vf_set1(scales[i / SPARK_KV_QK]), vf_load_i8((const int8_t *)row + i));
}

/* NV vectors of elements from `col` on, R rows. */
SPARK_INLINE void attn_values_cols(const uint32_t R, const uint32_t NV, const spark_kv_type type,
                                   const attn_source *from, const attn_tile *t, uint32_t dv, uint32_t col,
                                   const float *p, float *o)
{
    const size_t stride = spark_kv_v_bytes(type, dv);
    const uint32_t n_scales = type == SPARK_KV_Q8_0 ? spark_kv_n_scales(dv) : 0;
    VF acc[ATTN_ACCS];
    for (uint32_t i = 0; i < R * NV; i++) acc[i] = vf_zero();
    for (uint32_t at = t->any_begin; at < t->any_end;) {
        /* Up to all_begin and from all_end on, some rows do not see a position. */
        const int all = at >= t->all_begin && at < t->all_end;
        const uint32_t end = at < t->all_begin ? t->all_begin : all ? t->all_end : t->any_end;
        const uint8_t *row = from->v + at * stride;
        const float *scales = from->v_scales + (size_t)at * n_scales;
        if (all) {
            for (; at < end; at++) {
                VF v[8];
                for (uint32_t j = 0; j < NV; j++) v[j] = attn_value(type, row, scales, col + j * VF_LANES);
                for (uint32_t r = 0; r < R; r++) {
                    const VF x = vf_set1(p[r * SPARK_KV_BLOCK + at]);
                    for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vf_fma(x, v[j], acc[r * NV + j]);
                }
                row += stride;
                scales += n_scales;
            }
            continue;
        }
        for (; at < end; at++) {
            VF v[8];
            for (uint32_t j = 0; j < NV; j++) v[j] = attn_value(type, row, scales, col + j * VF_LANES);
            for (uint32_t r = 0; r < R; r++) {
                if (at < t->begin[r] || at >= t->end[r]) continue;
                const VF x = vf_set1(p[r * SPARK_KV_BLOCK + at]);
                for (uint32_t j = 0; j < NV; j++) acc[r * NV + j] = vf_fma(x, v[j], acc[r * NV + j]);
            }
            row += stride;
            scales += n_scales;
        }
    }
    const size_t dv_pad = spark_kv_pad(dv);
    for (uint32_t r = 0; r < R; r++) {
        for (uint32_t j = 0; j < NV; j++) vf_store(o + r * dv_pad + col + j * VF_LANES, acc[r * NV + j]);
    }
}

SPARK_INLINE void attn_values(const uint32_t R, const uint32_t NV, const spark_kv_type type, const attn_source *from,
                              const attn_tile *t, uint32_t dv, const float *p, float *o)
{
    const uint32_t n = spark_kv_pad(dv);
    uint32_t col = 0;
    for (; n - col >= NV * VF_LANES; col += NV * VF_LANES) attn_values_cols(R, NV, type, from, t, dv, col, p, o);
    if (NV >= 8 && n - col >= 4 * VF_LANES) attn_values_cols(R, 4, type, from, t, dv, col, p, o), col += 4 * VF_LANES;
    if (NV >= 4 && n - col >= 2 * VF_LANES) attn_values_cols(R, 2, type, from, t, dv, col, p, o), col += 2 * VF_LANES;
    if (NV >= 2 && n - col >= VF_LANES) attn_values_cols(R, 1, type, from, t, dv, col, p, o);
}

/* ---- The kernels of each width and type ------------------------------------------------------------------------ */

typedef void attn_scores_fn(const attn_source *, const attn_tile *, uint32_t dk, float *scores);
typedef void attn_values_fn(const attn_source *, const attn_tile *, uint32_t dv, const float *p, float *o);

#define ATTN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ATTN_DEFINE_TYPE(R, NV_K, NV_V, name, type)                                                                    \
    static void attn_scores_##name##_##R(const attn_source *from, const attn_tile *t, uint32_t dk, float *s)           \
    {                                                                                                                  \
        attn_scores(R, NV_K, type, from, t, dk, s);                                                                    \
    }                                                                                                                  \
    static void attn_values_##name##_##R(const attn_source *from, const attn_tile *t, uint32_t dv, const float *p,     \
                                         float *o)                                                                     \
    {                                                                                                                  \
        attn_values(R, NV_V, type, from, t, dv, p, o);                                                                 \
    }
#define ATTN_DEFINE(R)                                                                                                 \
    ATTN_DEFINE_TYPE(R, ATTN_MIN(8u, ATTN_ACCS / R), ATTN_MIN(8u, ATTN_ACCS / R), f32, SPARK_KV_F32)                   \
    ATTN_DEFINE_TYPE(R, ATTN_MIN(8u, ATTN_ACCS / R), ATTN_MIN(8u, ATTN_ACCS / R), f16, SPARK_KV_F16)                   \
    ATTN_DEFINE_TYPE(R, ATTN_MIN(8u, ATTN_ACCS / R / 2u), ATTN_MIN(8u, ATTN_ACCS / R), q8, SPARK_KV_Q8_0)
#define ATTN_LIST_SCORES(R)                                                                                            \
    {                                                                                                                  \
        attn_scores_f32_##R, attn_scores_f16_##R, attn_scores_q8_##R                                                   \
    }
#define ATTN_LIST_VALUES(R)                                                                                            \
    {                                                                                                                  \
        attn_values_f32_##R, attn_values_f16_##R, attn_values_q8_##R                                                   \
    }

ATTN_DEFINE(1)
ATTN_DEFINE(2)
ATTN_DEFINE(4)
#if ATTN_ROWS == 8
ATTN_DEFINE(8)
#define ATTN_LISTS(L) L(1), L(2), L(4), L(8)
#else
#define ATTN_LISTS(L) L(1), L(2), L(4)
#endif
static attn_scores_fn *const attn_scores_of[][SPARK_N_KV_TYPES] = {ATTN_LISTS(ATTN_LIST_SCORES)};
static attn_values_fn *const attn_values_of[][SPARK_N_KV_TYPES] = {ATTN_LISTS(ATTN_LIST_VALUES)};

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

/* The source of block b for a chunk that sees positions [begin, end) of it; widened if that pays. */
static attn_source attn_source_of(const attn_work *w, uint32_t b, int widen, uint32_t begin, uint32_t end)
{
    const spark_attn_args *a = w->a;
    const uint8_t *block = a->blocks[b];
    attn_source from = {.k_type = a->type, .v_type = a->type, .k = block};
    from.v = block + spark_kv_v_offset(a->type, a->head_dim_k);
    from.v_scales = a->type == SPARK_KV_Q8_0
                        ? (const float *)(const void *)(block + spark_kv_v_scales(a->head_dim_k, a->head_dim_v))
                        : w->scores; /* not read, but a pointer to move along */
    if (!widen || a->type == SPARK_KV_F32) return from;
    if (a->type == SPARK_KV_F16) {
        const size_t group = (size_t)SPARK_KV_GROUP * a->head_dim_k;
        const size_t k_end = (end + SPARK_KV_GROUP - 1) / SPARK_KV_GROUP * group;
        const uint16_t *k = (const uint16_t *)(const void *)from.k;
        for (size_t i = begin / SPARK_KV_GROUP * group; i < k_end; i += VF_LANES)
            vf_store(w->k_wide + i, vf_load_f16(k + i));
        from.k_type = SPARK_KV_F32;
        from.k = (const uint8_t *)w->k_wide;
    }
    const size_t stride = spark_kv_v_bytes(a->type, a->head_dim_v);
    const uint32_t n_scales = a->type == SPARK_KV_Q8_0 ? spark_kv_n_scales(a->head_dim_v) : 0;
    for (uint32_t at = begin; at < end; at++) {
        float *to = w->v_wide + (size_t)at * w->dv_pad;
        for (uint32_t i = 0; i < w->dv_pad; i += VF_LANES) {
            vf_store(to + i, attn_value(a->type, from.v + at * stride, from.v_scales + at * n_scales, i));
        }
    }
    from.v_type = SPARK_KV_F32;
    from.v = (const uint8_t *)w->v_wide;
    return from;
}

/* m, l of the tile and o in w->o for one block; rows that see nothing get zeros. */
static void attn_block(const attn_work *w, attn_tile *t, const attn_source *from)
{
    const spark_attn_args *a = w->a;
    const uint32_t width = t->width == 8 ? 3 : t->width / 2; /* 1, 2, 4, 8 -> 0, 1, 2, 3 */
    attn_scores_of[width][from->k_type](from, t, a->head_dim_k, w->scores);
    for (uint32_t r = 0; r < t->n; r++) {
        t->m[r] = t->l[r] = 0;
        if (t->begin[r] == t->end[r]) continue;
        attn_softmax(a, w->scores + r * SPARK_KV_BLOCK, t->begin[r], t->end[r], &t->m[r], &t->l[r]);
    }
    attn_values_of[width][from->v_type](from, t, a->head_dim_v, w->scores, w->o);
}

/* ---- Merging --------------------------------------------------------------------------------------------------- */

/* state += part for n rows of a tile; rows of o are o_stride apart. l = 0: no part, or an empty state. */
static void attn_merge_rows(const attn_work *w, uint32_t row, uint32_t n, const float *m, const float *l,
                            const float *o, size_t o_stride)
{
    const uint32_t dv = w->a->head_dim_v;
    float *M = w->state_m + row, *L = w->state_l + row, x[VF_LANES], y[VF_LANES], sum[VF_LANES], top[VF_LANES];
    const VF m0 = vf_load_n(m, n), l0 = vf_load_n(l, n), M0 = vf_load_n(M, n), L0 = vf_load_n(L, n);
    const VF max = vf_max(m0, M0), x0 = vf_exp_bounded(vf_sub(M0, max)), y0 = vf_exp_bounded(vf_sub(m0, max));
    vf_store(top, max);
    vf_store(x, x0);
    vf_store(y, y0);
    vf_store(sum, vf_fma(x0, L0, vf_mul(y0, l0)));
    for (uint32_t r = 0; r < n; r++) {
        if (l[r] == 0) continue;
        float *O = w->state_o + (size_t)(row + r) * w->dv_pad;
        const float *part = o + r * o_stride;
        if (L[r] == 0) {
            M[r] = m[r];
            L[r] = l[r];
            memcpy(O, part, dv * sizeof *O);
            continue;
        }
        M[r] = top[r];
        L[r] = sum[r];
        const VF xr = vf_set1(x[r]), yr = vf_set1(y[r]);
        uint32_t i = 0;
        for (; dv - i >= VF_LANES; i += VF_LANES) {
            vf_store(O + i, vf_fma(xr, vf_load(O + i), vf_mul(yr, vf_load(part + i))));
        }
        if (i < dv)
            vf_store_n(O + i, vf_fma(xr, vf_load_n(O + i, dv - i), vf_mul(yr, vf_load_n(part + i, dv - i))), dv - i);
    }
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
    w.tile_bytes = (size_t)ATTN_ROWS * spark_kv_pad(a->head_dim_k) * sizeof(float);
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

/* Tile i of the chunk [base, base + n). */
static attn_tile attn_tile_of(const attn_work *w, uint32_t base, uint32_t n, uint32_t i)
{
    attn_tile t = {.row = base + i * ATTN_ROWS, .query = w->queries + i * w->tile_bytes};
    t.n = n - i * ATTN_ROWS < ATTN_ROWS ? n - i * ATTN_ROWS : ATTN_ROWS;
    t.width = t.n <= 2 ? t.n : t.n <= 4 ? 4 : 8;
    return t;
}

static void attn_pack_chunk(const attn_work *w, uint32_t base, uint32_t n)
{
    for (uint32_t i = 0; i * ATTN_ROWS < n; i++) {
        const attn_tile t = attn_tile_of(w, base, n, i);
        void *to = w->queries + i * w->tile_bytes;
        if (w->a->type == SPARK_KV_Q8_0) {
            attn_pack_q8(w, &t, to);
        } else {
            attn_pack_float(w, &t, to);
        }
    }
}

/* Part of row r of the tile, or zeros where it sees nothing (`seen` = 0: the whole tile). */
static void attn_put_parts(const attn_work *w, const attn_tile *t, int seen, float *parts)
{
    const size_t size = SPARK_ATTN_PART(w->a->head_dim_v);
    for (uint32_t r = 0; r < t->n; r++) {
        float *part = parts + (t->row + r) * size;
        if (!seen || t->l[r] == 0) {
            memset(part, 0, size * sizeof *part);
            continue;
        }
        part[0] = t->m[r];
        part[1] = t->l[r];
        memcpy(part + 2, w->o + (size_t)r * w->dv_pad, (size - 2) * sizeof *part);
    }
}

/* Block b for all rows of a chunk: merged into the state, or put into parts (of this block). */
static void attn_chunk_block(const attn_work *w, uint32_t base, uint32_t n, uint32_t b, float *parts)
{
    attn_tile all = {.row = base, .n = 0};
    uint32_t begin = SPARK_KV_BLOCK, end = 0;
    for (uint32_t i = 0; i * ATTN_ROWS < n; i++) {
        all = attn_tile_of(w, base, n, i);
        if (!attn_tile_range(w->a, &all, b)) continue;
        begin = all.any_begin < begin ? all.any_begin : begin;
        end = all.any_end > end ? all.any_end : end;
    }
    attn_source from = {0};
    if (begin < end) from = attn_source_of(w, b, n >= ATTN_WIDEN_ROWS, begin, end);
    for (uint32_t i = 0; i * ATTN_ROWS < n; i++) {
        attn_tile t = attn_tile_of(w, base, n, i);
        const int seen = attn_tile_range(w->a, &t, b);
        if (seen) attn_block(w, &t, &from);
        if (parts) {
            attn_put_parts(w, &t, seen, parts);
        } else if (seen) {
            attn_merge_rows(w, t.row - base, t.n, t.m, t.l, w->o, w->dv_pad);
        }
    }
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
            attn_chunk_block(&w, base, n, b, NULL);
        for (uint32_t r = 0; r < n; r += SPARK_ATTN_TILE) {
            attn_finish_rows(&w, base, r, n - r < SPARK_ATTN_TILE ? n - r : SPARK_ATTN_TILE);
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
            attn_chunk_block(&w, base, n, b, parts + (size_t)(b - begin) * a->n_rows * SPARK_ATTN_PART(a->head_dim_v));
        }
    }
}

static void SPARK_K(spark_k_attn_merge)(const spark_attn_args *a, uint32_t begin, uint32_t end, const float *parts)
{
    const attn_work w = attn_work_init(a);
    const size_t size = SPARK_ATTN_PART(a->head_dim_v);
    for (uint32_t base = 0; base < a->n_rows; base += SPARK_ATTN_TILE) {
        const uint32_t n = a->n_rows - base < SPARK_ATTN_TILE ? a->n_rows - base : SPARK_ATTN_TILE;
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
