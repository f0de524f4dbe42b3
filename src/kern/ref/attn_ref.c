/* attn_ref.c - keys, values and attention: what each bit means (NUMERICS.md, "Attention"). Written for reading.
 * One row at a time: the parts (m, l, o) of its blocks, merged in ascending order, then the sink, then O / L. */
#include <string.h>

#include "base/spark_limits.h"
#include "kern/kern.h"
#include "kern/kv_layout.h"
#include "kern/ops.h"
#include "kern/quant.h"
#include "kern/ref/fma.h"
#include "kern/ref/math_poly.h"

#define ATTN_LANES   32u
#define ATTN_MAX_DIM SPARK_MAX_HEAD_DIM
#define ATTN_F16_MAX 65504.0f
#define ATTN_TINY    1e-30f /* a block whose largest element is below this is stored as zeros */

size_t spark_kv_block_bytes(spark_kv_type type, uint32_t dk, uint32_t dv)
{
    size_t bytes = spark_kv_v_offset(type, dk) + SPARK_KV_BLOCK * spark_kv_v_bytes(type, dv);
    if (type == SPARK_KV_Q8_0) bytes += SPARK_KV_BLOCK * spark_kv_n_scales(dv) * sizeof(float);
    return bytes;
}

/* ---- Storing --------------------------------------------------------------------------------------------------- */

/* The nearest integer of |x| <= 127, ties to even: the low bits of x + magic. (No cast: a NaN must not be undefined.) */
static int8_t kv_round(float x)
{
    const float t = x + SPARK_ROUND_MAGIC;
    uint32_t u;
    memcpy(&u, &t, sizeof u);
    return (int8_t)(u & 0xff);
}

void spark__kv_quantize_ref(const float *x, uint32_t n, int8_t *levels, float *d)
{
    for (uint32_t begin = 0; begin < n; begin += SPARK_KV_QK) {
        const uint32_t end = n - begin < SPARK_KV_QK ? n : begin + SPARK_KV_QK;
        float a = 0;
        for (uint32_t i = begin; i < end; i++) {
            const float v = x[i] < 0 ? -x[i] : x[i];
            a = v > a ? v : a;
        }
        const int tiny = a < ATTN_TINY;
        const float inv = tiny ? 0.0f : 127.0f / a;
        d[begin / SPARK_KV_QK] = tiny ? 0.0f : a / 127.0f;
        for (uint32_t i = begin; i < end; i++) {
            levels[i] = kv_round(x[i] * inv);
        }
    }
}

static int kv_finite(const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!(x[i] >= -3.40282347e+38f && x[i] <= 3.40282347e+38f)) return 0;
    }
    return 1;
}

static uint16_t kv_to_f16(float x)
{
    return spark_f32_to_f16(x > ATTN_F16_MAX ? ATTN_F16_MAX : x < -ATTN_F16_MAX ? -ATTN_F16_MAX : x);
}

static void kv_store_q8(uint32_t dk, uint32_t dv, uint8_t *block, uint32_t position, const float *k, const float *v)
{
    int8_t levels[ATTN_MAX_DIM];
    float d[ATTN_MAX_DIM / SPARK_KV_QK];
    const uint32_t lane = position % SPARK_KV_GROUP;
    uint8_t *group = block + position / SPARK_KV_GROUP * spark_kv_k_bytes(SPARK_KV_Q8_0, dk);
    spark__kv_quantize_ref(k, dk, levels, d);
    for (uint32_t i = 0; i < dk; i++) group[spark_kv_q8_level(lane, i)] = (uint8_t)levels[i];
    for (uint32_t i = 0; i < spark_kv_n_scales(dk); i++) {
        memcpy(group + i * SPARK_KV_Q8_BLOCK + lane * sizeof(float), &d[i], sizeof d[i]);
    }
    spark__kv_quantize_ref(v, dv, levels, d);
    memcpy(block + spark_kv_v_offset(SPARK_KV_Q8_0, dk) + position * spark_kv_v_bytes(SPARK_KV_Q8_0, dv), levels, dv);
    const size_t row = spark_kv_n_scales(dv) * sizeof(float);
    memcpy(block + spark_kv_v_scales(dk, dv) + position * row, d, row);
}

static int spark_k_kv_store_ref(spark_kv_type type, uint32_t dk, uint32_t dv, uint8_t *block, uint32_t position,
                                const float *k, const float *v)
{
    if (!kv_finite(k, dk) || !kv_finite(v, dv)) return 0;
    if (type == SPARK_KV_Q8_0) {
        kv_store_q8(dk, dv, block, position, k, v);
        return 1;
    }
    uint8_t *group = block + position / SPARK_KV_GROUP * spark_kv_k_bytes(type, dk);
    uint8_t *row = block + spark_kv_v_offset(type, dk) + position * spark_kv_v_bytes(type, dv);
    const size_t lane = position % SPARK_KV_GROUP;
    if (type == SPARK_KV_F32) {
        for (size_t i = 0; i < dk; i++) ((float *)(void *)group)[i * SPARK_KV_GROUP + lane] = k[i];
        memcpy(row, v, dv * sizeof *v);
    } else {
        for (size_t i = 0; i < dk; i++) ((uint16_t *)(void *)group)[i * SPARK_KV_GROUP + lane] = kv_to_f16(k[i]);
        for (size_t i = 0; i < dv; i++) ((uint16_t *)(void *)row)[i] = kv_to_f16(v[i]);
    }
    return 1;
}

/* ---- One block, one row ---------------------------------------------------------------------------------------- */

/* A row's query and, for Q8_0, the same quantized. */
typedef struct attn_query {
    const float *q;
    int8_t levels[ATTN_MAX_DIM];
    float d[ATTN_MAX_DIM / SPARK_KV_QK];
} attn_query;

/* Element `dim` of the key at `position` of a float block. */
static float attn_k(const spark_attn_args *a, const uint8_t *group, uint32_t lane, uint32_t dim)
{
    const size_t i = (size_t)dim * SPARK_KV_GROUP + lane;
    if (a->type == SPARK_KV_F32) return ((const float *)(const void *)group)[i];
    return spark_f16_to_f32(((const uint16_t *)(const void *)group)[i]);
}

static float attn_v(const spark_attn_args *a, const uint8_t *block, uint32_t position, uint32_t dim)
{
    const uint8_t *row = block + spark_kv_v_offset(a->type, a->head_dim_k) +
                         position * spark_kv_v_bytes(a->type, a->head_dim_v);
    if (a->type == SPARK_KV_F32) return ((const float *)(const void *)row)[dim];
    if (a->type == SPARK_KV_F16) return spark_f16_to_f32(((const uint16_t *)(const void *)row)[dim]);
    float d;
    const size_t scale = position * spark_kv_n_scales(a->head_dim_v) + dim / SPARK_KV_QK;
    memcpy(&d, block + spark_kv_v_scales(a->head_dim_k, a->head_dim_v) + scale * sizeof d, sizeof d);
    const int8_t v = (int8_t)row[dim];
    return d * (float)v;
}

static float attn_score_q8(const spark_attn_args *a, const attn_query *q, const uint8_t *group, uint32_t lane)
{
    float s = 0;
    for (uint32_t begin = 0; begin < a->head_dim_k; begin += SPARK_KV_QK) {
        const uint32_t b = begin / SPARK_KV_QK;
        int32_t isum = 0;
        for (uint32_t i = begin; i < a->head_dim_k && i < begin + SPARK_KV_QK; i++) {
            isum += (int8_t)group[spark_kv_q8_level(lane, i)] * q->levels[i];
        }
        float dk;
        memcpy(&dk, group + b * SPARK_KV_Q8_BLOCK + lane * sizeof dk, sizeof dk);
        s = spark_fma(dk * q->d[b], (float)isum, s);
    }
    return s;
}

/* The score of one position: a chain over the head dimension, scaled, capped. */
static float attn_score(const spark_attn_args *a, const attn_query *q, const uint8_t *block, uint32_t position)
{
    const uint8_t *group = block + position / SPARK_KV_GROUP * spark_kv_k_bytes(a->type, a->head_dim_k);
    const uint32_t lane = position % SPARK_KV_GROUP;
    float s = 0;
    if (a->type == SPARK_KV_Q8_0) {
        s = attn_score_q8(a, q, group, lane);
    } else {
        for (uint32_t i = 0; i < a->head_dim_k; i++) s = spark_fma(q->q[i], attn_k(a, group, lane, i), s);
    }
    s *= a->scale;
    return a->softcap != 0 ? a->softcap * spark_tanhf(s / a->softcap) : s;
}

/* part = (m, l, o[head_dim_v]) of block b for row r; all zero if the row sees none of it. */
static void attn_part_row(const spark_attn_args *a, const attn_query *q, uint32_t r, uint32_t b, float *part)
{
    memset(part, 0, SPARK_ATTN_PART(a->head_dim_v) * sizeof *part);
    const uint32_t origin = b * SPARK_KV_BLOCK;
    if (a->last[r] < origin || a->first[r] >= origin + SPARK_KV_BLOCK || a->first[r] > a->last[r]) return;
    const uint32_t begin = a->first[r] > origin ? a->first[r] - origin : 0;
    const uint32_t end = a->last[r] - origin < SPARK_KV_BLOCK ? a->last[r] - origin + 1 : SPARK_KV_BLOCK;

    float p[SPARK_KV_BLOCK];
    float m = p[begin] = attn_score(a, q, a->blocks[b], begin);
    for (uint32_t i = begin + 1; i < end; i++) {
        p[i] = attn_score(a, q, a->blocks[b], i);
        m = p[i] > m ? p[i] : m;
    }
    m += 0.0f; /* a maximum of -0 counts as +0, so that its sign does not depend on who came first */

    float lane[ATTN_LANES] = {0};
    for (uint32_t i = begin; i < end; i++) {
        p[i] = spark_expf(p[i] - m);
        lane[i % ATTN_LANES] += p[i];
    }
    for (uint32_t half = ATTN_LANES / 2; half > 0; half /= 2) {
        for (uint32_t j = 0; j < half; j++) lane[j] += lane[j + half];
    }
    part[0] = m;
    part[1] = lane[0];
    for (uint32_t i = begin; i < end; i++) {
        for (uint32_t j = 0; j < a->head_dim_v; j++)
            part[2 + j] = spark_fma(p[i], attn_v(a, a->blocks[b], i, j), part[2 + j]);
    }
}

/* ---- Merging --------------------------------------------------------------------------------------------------- */

/* state += part, both (m, l, o). A state with l = 0 is empty: the first part is copied. */
static void attn_merge_row(float *state, float m, float l, const float *o, uint32_t dv)
{
    if (l == 0) return;
    if (state[1] == 0) {
        state[0] = m;
        state[1] = l;
        for (uint32_t j = 0; j < dv; j++) state[2 + j] = o ? o[j] : 0.0f;
        return;
    }
    const float max = m > state[0] ? m : state[0];
    const float x = spark_expf(state[0] - max), y = spark_expf(m - max);
    state[0] = max;
    state[1] = spark_fma(x, state[1], y * l);
    for (uint32_t j = 0; j < dv; j++) state[2 + j] = spark_fma(x, state[2 + j], y * (o ? o[j] : 0.0f));
}

/* The sink, and the result O * (1 / L). A row that sees nothing at all gives zeros. */
static void attn_finish_row(const spark_attn_args *a, uint32_t r, float *state)
{
    if (a->sink) attn_merge_row(state, a->sink[r], 1.0f, NULL, a->head_dim_v);
    float *out = a->out + a->out_offset[r];
    const float inv = state[1] == 0 ? 0.0f : 1.0f / state[1];
    for (uint32_t j = 0; j < a->head_dim_v; j++) out[j] = state[2 + j] * inv;
}

static void attn_query_init(const spark_attn_args *a, uint32_t r, attn_query *q)
{
    q->q = a->q + a->q_offset[r];
    if (a->type == SPARK_KV_Q8_0) spark__kv_quantize_ref(q->q, a->head_dim_k, q->levels, q->d);
}

static void spark_k_attn_ref(const spark_attn_args *a)
{
    attn_query q;
    float state[SPARK_ATTN_PART(ATTN_MAX_DIM)], part[SPARK_ATTN_PART(ATTN_MAX_DIM)];
    for (uint32_t r = 0; r < a->n_rows; r++) {
        attn_query_init(a, r, &q);
        memset(state, 0, sizeof state);
        for (uint32_t b = a->first[r] / SPARK_KV_BLOCK; b <= a->last[r] / SPARK_KV_BLOCK; b++) {
            attn_part_row(a, &q, r, b, part);
            attn_merge_row(state, part[0], part[1], part + 2, a->head_dim_v);
        }
        attn_finish_row(a, r, state);
    }
}

static void spark_k_attn_part_ref(const spark_attn_args *a, uint32_t begin, uint32_t end, float *parts)
{
    attn_query q;
    for (uint32_t r = 0; r < a->n_rows; r++) {
        attn_query_init(a, r, &q);
        for (uint32_t b = begin; b < end; b++) {
            attn_part_row(a, &q, r, b, parts + ((size_t)(b - begin) * a->n_rows + r) * SPARK_ATTN_PART(a->head_dim_v));
        }
    }
}

static void spark_k_attn_merge_ref(const spark_attn_args *a, uint32_t begin, uint32_t end, const float *parts)
{
    float state[SPARK_ATTN_PART(ATTN_MAX_DIM)];
    for (uint32_t r = 0; r < a->n_rows; r++) {
        memset(state, 0, sizeof state);
        for (uint32_t b = begin; b < end; b++) {
            const float *part = parts + ((size_t)(b - begin) * a->n_rows + r) * SPARK_ATTN_PART(a->head_dim_v);
            attn_merge_row(state, part[0], part[1], part + 2, a->head_dim_v);
        }
        attn_finish_row(a, r, state);
    }
}

void spark__attn_init_ref(spark_kern *k)
{
    k->kv_store = spark_k_kv_store_ref;
    k->attn = spark_k_attn_ref;
    k->attn_part = spark_k_attn_part_ref;
    k->attn_merge = spark_k_attn_merge_ref;
}
