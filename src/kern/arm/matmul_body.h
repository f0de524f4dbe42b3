/* matmul_body.h - products with packed weights, four rows a register; included once by each level's matmul_LEVEL.c, which
 * defines SPARK_K and the one thing that differs: the sum of int8 products of four rows with one token or two,
 *     int32x4_t mb_dot(const int8x16_t *w, unsigned n, const int8_t *q)                     lines w[n] (n = 4 or 8), q[4 n]
 *     void mb_dot2(const int8x16_t *w, unsigned n, const int8_t *q0, const int8_t *q1, int32x4_t out[2])
 * One token: levels are taken apart in registers, a block at a time through all four quarters of the panel. More tokens: 256
 * columns of a panel are taken apart into scratch once, then read for all tokens of a chunk, one kernel a structure of scales.
 * Formats without an entry in levels_neon.h are taken apart by the reference and multiplied like the others. */
#include "kern/arm/arm.h"
#include "kern/arm/levels_neon.h"

#define MB_QUARTERS (PANEL_ROWS / NL_ROWS)
#define MB_TILE     4u /* tokens whose sums live in registers */

/* Scratch of a thread: one panel's 256 columns taken apart, and the chains of all tokens of a chunk. */
typedef struct mb_scratch {
    int8_t levels[MB_QUARTERS][NL_CHUNK / 4][16]; /* [line of the quarter][4 rows x 4 columns] */
    nl_head head[MB_QUARTERS];
    float acc[MB_QUARTERS][PANEL_TOKENS][NL_ROWS];
} mb_scratch;
_Static_assert(sizeof(mb_scratch) <= PANEL_SCRATCH, "scratch of a thread");

#define MB_APART SPARK_N_TYPES /* instead of a type: levels are read from scratch */

/* What is multiplied: a quarter's levels (MB_APART: `levels`; else packed: `lines` of one block) and their head. */
typedef struct mb_weights {
    const uint8_t *lines;
    const int8_t (*levels)[16];
    const nl_head *head;
    unsigned n_groups; /* of 32 columns */
} mb_weights;

/* ---- One tile: four rows, n <= MB_TILE tokens (a constant) ------------------------------------------------------ */

SPARK_INLINE void mb_load(spark_type type, const mb_weights *w, unsigned g, int8x16_t to[8])
{
    if (type != MB_APART) {
        nl_levels(type, w->lines, g, to);
        return;
    }
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < 8; i++) to[i] = vld1q_s8(w->levels[8 * g + i]);
}

/* Products of `lines` registers with each token of the tile; q = those columns of token 0. */
SPARK_INLINE void mb_dots(const int8x16_t *w, unsigned lines, const int8_t *q, size_t stride, unsigned n,
                          int32x4_t *dot)
{
    SPARK_UNROLL(4)
    for (unsigned t = 0; t + 2 <= n; t += 2) mb_dot2(w, lines, q + t * stride, q + (t + 1) * stride, dot + t);
    if (n % 2) dot[n - 1] = mb_dot(w, lines, q + (n - 1) * stride);
}

SPARK_INLINE float mb_float(const uint8_t *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Blocks of 32: a chain over the groups. act = spark__act32 of the first group. */
SPARK_INLINE void mb_tile_float(spark_type type, const mb_weights *w, int has_min, const uint8_t *act, size_t stride,
                                unsigned n, float (*acc)[NL_ROWS])
{
    float32x4_t y[MB_TILE];
    SPARK_UNROLL(4)
    for (unsigned t = 0; t < n; t++) y[t] = vld1q_f32(acc[t]);
    for (unsigned g = 0; g < w->n_groups; g++, act += sizeof(spark__act32)) {
        const float32x4_t d = vld1q_f32(w->head->d[g]);
        int8x16_t x[8];
        int32x4_t dot[MB_TILE];
        mb_load(type, w, g, x);
        mb_dots(x, 8, (const int8_t *)act + offsetof(spark__act32, q), stride, n, dot);
        SPARK_UNROLL(4)
        for (unsigned t = 0; t < n; t++) {
            const uint8_t *a = act + t * stride;
            const float dx = mb_float(a);
            const float32x4_t isum = vcvtq_f32_s32(dot[t]);
            if (has_min) {
                const float32x4_t m = vld1q_f32(w->head->m[g]);
                const float32x4_t u = vfmaq_n_f32(vmulq_f32(d, isum), m, mb_float(a + offsetof(spark__act32, sum)));
                y[t] = vfmaq_n_f32(y[t], u, dx);
            } else {
                y[t] = vfmaq_f32(y[t], vmulq_n_f32(d, dx), isum);
            }
        }
    }
    SPARK_UNROLL(4)
    for (unsigned t = 0; t < n; t++) vst1q_f32(acc[t], y[t]);
}

/* Sum of eight minima times the sums of the activations they belong to. */
SPARK_INLINE int32x4_t mb_minima_8(int32x4_t msum, const int16_t (*min)[NL_ROWS], int16x8_t sums)
{
    msum = vmlal_laneq_s16(msum, vld1_s16(min[0]), sums, 0);
    msum = vmlal_laneq_s16(msum, vld1_s16(min[1]), sums, 1);
    msum = vmlal_laneq_s16(msum, vld1_s16(min[2]), sums, 2);
    msum = vmlal_laneq_s16(msum, vld1_s16(min[3]), sums, 3);
    msum = vmlal_laneq_s16(msum, vld1_s16(min[4]), sums, 4);
    msum = vmlal_laneq_s16(msum, vld1_s16(min[5]), sums, 5);
    msum = vmlal_laneq_s16(msum, vld1_s16(min[6]), sums, 6);
    return vmlal_laneq_s16(msum, vld1_s16(min[7]), sums, 7);
}

SPARK_INLINE int16x8_t mb_sums(const uint8_t *p) { return vld1q_s16((const int16_t *)(const void *)p); }

/* One token's minima: eight of 32 columns, or sixteen of 16 columns (whose sums are kept as -16 times). */
SPARK_INLINE int32x4_t mb_minima(nl_kind kind, const nl_head *h, const uint8_t *act)
{
    const int32x4_t zero = vdupq_n_s32(0);
    if (kind == NL_INT_32) return mb_minima_8(zero, h->min, mb_sums(act + offsetof(spark__act256, sum32)));
    const uint8_t *m16 = act + offsetof(spark__act256, m16);
    const int16x8_t low = vnegq_s16(vshrq_n_s16(mb_sums(m16), 4)), high = vnegq_s16(vshrq_n_s16(mb_sums(m16 + 16), 4));
    return mb_minima_8(mb_minima_8(zero, h->min, low), h->min + 8, high);
}

/* A block of 256: integers, then one step of the chain. act = spark__act256. */
SPARK_INLINE void mb_tile_int(spark_type type, const mb_weights *w, nl_kind kind, int has_min, const uint8_t *act,
                              size_t stride, unsigned n, float (*acc)[NL_ROWS])
{
    const int8_t *q = (const int8_t *)act + offsetof(spark__act256, q);
    int32x4_t isum[MB_TILE], dot[MB_TILE];
    SPARK_UNROLL(4)
    for (unsigned t = 0; t < n; t++) isum[t] = vdupq_n_s32(0);
    for (unsigned g = 0; g < NL_GROUPS; g++) {
        const unsigned parts = kind == NL_INT_16 ? 2 : 1, lines = 8 / parts;
        int8x16_t x[8];
        mb_load(type, w, g, x);
        SPARK_UNROLL(2)
        for (unsigned p = 0; p < parts; p++) {
            const int32x4_t s = vld1q_s32(w->head->s[g * parts + p]);
            mb_dots(x + p * lines, lines, q + 32 * g + 16 * p, stride, n, dot);
            SPARK_UNROLL(4)
            for (unsigned t = 0; t < n; t++) isum[t] = vmlaq_s32(isum[t], dot[t], s);
        }
    }
    const float32x4_t d = vld1q_f32(w->head->d[0]);
    SPARK_UNROLL(4)
    for (unsigned t = 0; t < n; t++) {
        const uint8_t *a = act + t * stride;
        const float dx = mb_float(a);
        const float32x4_t i = vcvtq_f32_s32(isum[t]), y = vld1q_f32(acc[t]);
        if (has_min) {
            const float32x4_t m = vcvtq_f32_s32(mb_minima(kind, w->head, a));
            vst1q_f32(acc[t], vfmaq_n_f32(y, vfmsq_f32(vmulq_f32(d, i), vld1q_f32(w->head->m[0]), m), dx));
        } else {
            vst1q_f32(acc[t], vfmaq_f32(y, vmulq_n_f32(d, dx), i));
        }
    }
}

SPARK_INLINE void mb_tile(spark_type type, nl_kind kind, int has_min, const mb_weights *w, const uint8_t *act,
                          size_t stride, unsigned n, float (*acc)[NL_ROWS])
{
    if (kind == NL_FLOAT_32)
        mb_tile_float(type, w, has_min, act, stride, n, acc);
    else
        mb_tile_int(type, w, kind, has_min, act, stride, n, acc);
}

/* ---- Many tokens: levels from scratch --------------------------------------------------------------------------- */

/* All tokens of a chunk times the taken-apart columns. act = those columns of the chunk's first token. */
SPARK_INLINE void mb_tokens(nl_kind kind, int has_min, mb_scratch *s, unsigned n_groups, const uint8_t *act,
                            size_t stride, uint32_t n)
{
    for (unsigned q = 0; q < MB_QUARTERS; q++) {
        const mb_weights w = {NULL, (const int8_t(*)[16])s->levels[q], &s->head[q], n_groups};
        uint32_t t = 0;
        for (; t + MB_TILE <= n; t += MB_TILE)
            mb_tile(MB_APART, kind, has_min, &w, act + t * stride, stride, MB_TILE, s->acc[q] + t);
        for (; t + 2 <= n; t += 2) mb_tile(MB_APART, kind, has_min, &w, act + t * stride, stride, 2, s->acc[q] + t);
        if (t < n) mb_tile(MB_APART, kind, has_min, &w, act + t * stride, stride, 1, s->acc[q] + t);
    }
}

/* One kernel a structure of scales. */
typedef void mb_tokens_fn(mb_scratch *s, unsigned n_groups, const uint8_t *act, size_t stride, uint32_t n);
#define MB_TOKENS(name, kind, has_min)                                                                                 \
    static void name(mb_scratch *s, unsigned n_groups, const uint8_t *act, size_t stride, uint32_t n)                  \
    {                                                                                                                  \
        mb_tokens(kind, has_min, s, n_groups, act, stride, n);                                                         \
    }
MB_TOKENS(mb_tokens_float, NL_FLOAT_32, 0)
MB_TOKENS(mb_tokens_float_min, NL_FLOAT_32, 1)
MB_TOKENS(mb_tokens_int_32, NL_INT_32, 0)
MB_TOKENS(mb_tokens_int_32_min, NL_INT_32, 1)
MB_TOKENS(mb_tokens_int_16, NL_INT_16, 0)
MB_TOKENS(mb_tokens_int_16_min, NL_INT_16, 1)
static mb_tokens_fn *const mb_tokens_of[][2] = {[NL_FLOAT_32] = {mb_tokens_float, mb_tokens_float_min},
                                                [NL_INT_32] = {mb_tokens_int_32, mb_tokens_int_32_min},
                                                [NL_INT_16] = {mb_tokens_int_16, mb_tokens_int_16_min}};

/* Takes n_groups groups of 32 columns apart, beginning with block b. */
SPARK_INLINE void mb_fill(spark_type type, const uint8_t *panel, size_t b, unsigned n_groups, mb_scratch *s)
{
    const int blocks_of_32 = nl_kind_of(type) == NL_FLOAT_32;
    for (unsigned q = 0; q < MB_QUARTERS; q++) {
        if (!blocks_of_32) nl_head_of(type, panel, b, q, 0, &s->head[q]);
        for (unsigned g = 0; g < n_groups; g++) {
            const size_t block = blocks_of_32 ? b + g : b;
            int8x16_t w[8];
            if (blocks_of_32) nl_head_of(type, panel, block, q, g, &s->head[q]);
            nl_levels(type, nl_block(type, panel, block) + 16 * q, g, w);
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < 8; i++) vst1q_s8(s->levels[q][8 * g + i], w[i]);
        }
    }
}

/* The same for any format, by the reference: row r of a panel, columns from 32 * group on. */
static void mb_fill_row(const spark_levels *l, unsigned elems, unsigned r, unsigned group, mb_scratch *s)
{
    nl_head *h = &s->head[r / NL_ROWS];
    const unsigned lane = r % NL_ROWS;
    h->d[group][lane] = l->d;
    for (unsigned g = 0; g < elems / 16; g++) h->s[g][lane] = l->s[g];
    for (unsigned e = 0; e < elems; e++) s->levels[r / NL_ROWS][8 * group + e / 4][4 * lane + e % 4] = l->w[e];
}

static void mb_fill_any(spark_type type, const uint8_t *panel, size_t b, unsigned n_groups, mb_scratch *s)
{
    const unsigned elems = spark_type_lookup(type)->block_elems;
    for (unsigned r = 0; r < PANEL_ROWS; r++)
        for (unsigned group = 0; group < n_groups; group += elems / 32) {
            uint8_t block[PANEL_BLOCK_MAX];
            spark_levels l;
            spark__panel_block(type, panel, (uint32_t)b + group * 32 / elems, r, block);
            spark_block_levels(type, block, &l);
            mb_fill_row(&l, elems, r, group, s);
        }
}

/* ---- A panel ---------------------------------------------------------------------------------------------------- */

/* Bytes of the prepared activations of n_cols columns. */
SPARK_INLINE size_t mb_act_bytes(nl_kind kind, uint32_t n_cols)
{
    return kind == NL_FLOAT_32 ? n_cols / 32 * sizeof(spark__act32) : n_cols / 256 * sizeof(spark__act256);
}

/* Rows from..from + 3 of one token, with the bias; rows past the end are not written. */
SPARK_INLINE void mb_store(const spark_matmul_args *a, uint32_t row, uint32_t token, const float *y)
{
    float *out = a->out + token * a->out_stride + row;
    const uint32_t left = a->w->n_rows > row ? a->w->n_rows - row : 0;
    if (left >= NL_ROWS) {
        const float32x4_t v = vld1q_f32(y);
        vst1q_f32(out, a->bias ? vaddq_f32(v, vld1q_f32(a->bias + row)) : v);
        return;
    }
    for (uint32_t i = 0; i < left; i++) out[i] = a->bias ? y[i] + a->bias[row + i] : y[i];
}

typedef void mb_fill_fn(spark_type type, const uint8_t *panel, size_t b, unsigned n_groups, mb_scratch *s);

/* Tokens [first, first + n) of a panel. */
static void mb_panel(const spark_matmul_args *a, uint32_t p, uint32_t first, uint32_t n, mb_fill_fn *fill)
{
    const spark_type type = a->w->type;
    const nl_kind kind = nl_kind_of(type);
    const uint8_t *panel = a->w->data + p * a->w->panel_bytes, *act = a->acts + first * a->act_stride;
    const uint32_t elems = kind == NL_FLOAT_32 ? 32 : 256;
    mb_scratch *s = a->scratch;
    for (unsigned q = 0; q < MB_QUARTERS; q++) memset(s->acc[q], 0, n * sizeof *s->acc[q]);
    for (uint32_t k = 0; k < a->w->n_cols; k += NL_CHUNK) {
        const uint32_t left = a->w->n_cols - k, n_groups = (left < NL_CHUNK ? left : NL_CHUNK) / 32;
        fill(type, panel, k / elems, n_groups, s);
        mb_tokens_of[kind][panel_has_min(type)](s, n_groups, act + mb_act_bytes(kind, k), a->act_stride, n);
    }
    for (uint32_t t = 0; t < n; t++)
        for (unsigned q = 0; q < MB_QUARTERS; q++) mb_store(a, p * PANEL_ROWS + q * NL_ROWS, first + t, s->acc[q][t]);
}

static void mb_many(const spark_matmul_args *a, mb_fill_fn *fill)
{
    for (uint32_t p = a->panel_begin; p < a->panel_end; p++)
        for (uint32_t t = 0; t < a->n_tokens; t += PANEL_TOKENS)
            mb_panel(a, p, t, a->n_tokens - t < PANEL_TOKENS ? a->n_tokens - t : PANEL_TOKENS, fill);
}

/* One token: nothing goes through scratch but the heads. */
SPARK_INLINE void mb_one(spark_type type, const spark_matmul_args *a)
{
    const nl_kind kind = nl_kind_of(type);
    const uint32_t elems = kind == NL_FLOAT_32 ? 32 : 256;
    nl_head head; /* outside of the loops: locals are cleared by the compiler where they begin */
    for (uint32_t p = a->panel_begin; p < a->panel_end; p++) {
        const uint8_t *panel = a->w->data + p * a->w->panel_bytes;
        float acc[MB_QUARTERS][1][NL_ROWS] = {0};
        for (uint32_t b = 0; b < a->w->n_cols / elems; b++) {
            const uint8_t *act = a->acts + mb_act_bytes(kind, b * elems);
            SPARK_UNROLL(4)
            for (unsigned q = 0; q < MB_QUARTERS; q++) {
                nl_head_of(type, panel, b, q, 0, &head);
                const mb_weights w = {nl_block(type, panel, b) + 16 * q, NULL, &head, elems / 32};
                mb_tile(type, kind, panel_has_min(type), &w, act, 0, 1, acc[q]);
            }
        }
        for (unsigned q = 0; q < MB_QUARTERS; q++) mb_store(a, p * PANEL_ROWS + q * NL_ROWS, 0, acc[q][0]);
    }
}

/* ---- Float weights ---------------------------------------------------------------------------------------------- */

SPARK_INLINE float32x4_t mb_weight(spark_type type, const uint8_t *panel, size_t k, unsigned q)
{
    const size_t at = k * PANEL_ROWS + q * NL_ROWS;
    if (type == SPARK_TYPE_F32) return vld1q_f32((const float *)(const void *)panel + at);
    const uint16x4_t bits = vld1_u16((const uint16_t *)(const void *)panel + at);
    if (type == SPARK_TYPE_F16) return vcvt_f32_f16(vreinterpret_f16_u16(bits));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}

/* n <= MB_TILE tokens (a constant) of one panel: in every 32 columns one chain of fma, then a sum of those. */
SPARK_INLINE void mb_float_tile(spark_type type, const spark_matmul_args *a, uint32_t p, uint32_t token, unsigned n)
{
    const uint8_t *panel = a->w->data + p * a->w->panel_bytes;
    const float *x = (const float *)(const void *)(a->acts + token * a->act_stride);
    const size_t stride = a->act_stride / sizeof *x;
    const uint32_t n_cols = a->w->n_cols;
    float32x4_t acc[MB_QUARTERS][MB_TILE], s[MB_QUARTERS][MB_TILE];
    SPARK_UNROLL(4)
    for (unsigned q = 0; q < MB_QUARTERS; q++) SPARK_UNROLL(4)
    for (unsigned t = 0; t < n; t++) acc[q][t] = vdupq_n_f32(0);
    for (uint32_t k = 0; k < n_cols;) {
        SPARK_UNROLL(4)
        for (unsigned q = 0; q < MB_QUARTERS; q++) SPARK_UNROLL(4)
        for (unsigned t = 0; t < n; t++) s[q][t] = vdupq_n_f32(0);
        for (const uint32_t end = n_cols - k < 32 ? n_cols : k + 32; k < end; k++) {
            SPARK_UNROLL(4)
            for (unsigned q = 0; q < MB_QUARTERS; q++) {
                const float32x4_t w = mb_weight(type, panel, k, q);
                SPARK_UNROLL(4)
                for (unsigned t = 0; t < n; t++) s[q][t] = vfmaq_n_f32(s[q][t], w, x[t * stride + k]);
            }
        }
        SPARK_UNROLL(4)
        for (unsigned q = 0; q < MB_QUARTERS; q++) SPARK_UNROLL(4)
        for (unsigned t = 0; t < n; t++) acc[q][t] = vaddq_f32(acc[q][t], s[q][t]);
    }
    for (unsigned q = 0; q < MB_QUARTERS; q++)
        for (unsigned t = 0; t < n; t++) {
            float y[NL_ROWS];
            vst1q_f32(y, acc[q][t]);
            mb_store(a, p * PANEL_ROWS + q * NL_ROWS, token + t, y);
        }
}

SPARK_INLINE void mb_floats(spark_type type, const spark_matmul_args *a)
{
    for (uint32_t p = a->panel_begin; p < a->panel_end; p++) {
        uint32_t t = 0;
        for (; t + MB_TILE <= a->n_tokens; t += MB_TILE) mb_float_tile(type, a, p, t, MB_TILE);
        for (; t + 2 <= a->n_tokens; t += 2) mb_float_tile(type, a, p, t, 2);
        if (t < a->n_tokens) mb_float_tile(type, a, p, t, 1);
    }
}

/* ---- One function a format -------------------------------------------------------------------------------------- */

#define MB_QUANT(name, type)                                                                                           \
    static void mb_fill_##name(spark_type t, const uint8_t *panel, size_t b, unsigned n_groups, mb_scratch *s)         \
    {                                                                                                                  \
        (void)t;                                                                                                       \
        mb_fill(type, panel, b, n_groups, s);                                                                          \
    }                                                                                                                  \
    static void SPARK_K(spark_k_matmul_##name)(const spark_matmul_args *a)                                             \
    {                                                                                                                  \
        if (a->n_tokens == 1)                                                                                          \
            mb_one(type, a);                                                                                           \
        else                                                                                                           \
            mb_many(a, mb_fill_##name);                                                                                \
    }
MB_QUANT(q4_0, SPARK_TYPE_Q4_0)
MB_QUANT(q4_1, SPARK_TYPE_Q4_1)
MB_QUANT(q5_0, SPARK_TYPE_Q5_0)
MB_QUANT(q5_1, SPARK_TYPE_Q5_1)
MB_QUANT(q8_0, SPARK_TYPE_Q8_0)
MB_QUANT(iq4_nl, SPARK_TYPE_IQ4_NL)
MB_QUANT(q2_k, SPARK_TYPE_Q2_K)
MB_QUANT(q3_k, SPARK_TYPE_Q3_K)
MB_QUANT(q4_k, SPARK_TYPE_Q4_K)
MB_QUANT(q5_k, SPARK_TYPE_Q5_K)
MB_QUANT(q6_k, SPARK_TYPE_Q6_K)
MB_QUANT(iq4_xs, SPARK_TYPE_IQ4_XS)

static void SPARK_K(spark_k_matmul_any)(const spark_matmul_args *a) { mb_many(a, mb_fill_any); }

static void SPARK_K(spark_k_matmul_f32)(const spark_matmul_args *a) { mb_floats(SPARK_TYPE_F32, a); }
static void SPARK_K(spark_k_matmul_f16)(const spark_matmul_args *a) { mb_floats(SPARK_TYPE_F16, a); }
static void SPARK_K(spark_k_matmul_bf16)(const spark_matmul_args *a) { mb_floats(SPARK_TYPE_BF16, a); }

void SPARK_K(spark__matmul_init)(spark_kern *k)
{
    for (uint32_t id = 0; id < SPARK_N_TYPES; id++)
        if (k->matmul[id]) k->matmul[id] = SPARK_K(spark_k_matmul_any);
    k->matmul[SPARK_TYPE_F32] = SPARK_K(spark_k_matmul_f32);
    k->matmul[SPARK_TYPE_F16] = SPARK_K(spark_k_matmul_f16);
    k->matmul[SPARK_TYPE_BF16] = SPARK_K(spark_k_matmul_bf16);
    k->matmul[SPARK_TYPE_Q4_0] = SPARK_K(spark_k_matmul_q4_0);
    k->matmul[SPARK_TYPE_Q4_1] = SPARK_K(spark_k_matmul_q4_1);
    k->matmul[SPARK_TYPE_Q5_0] = SPARK_K(spark_k_matmul_q5_0);
    k->matmul[SPARK_TYPE_Q5_1] = SPARK_K(spark_k_matmul_q5_1);
    k->matmul[SPARK_TYPE_Q8_0] = SPARK_K(spark_k_matmul_q8_0);
    k->matmul[SPARK_TYPE_IQ4_NL] = SPARK_K(spark_k_matmul_iq4_nl);
    k->matmul[SPARK_TYPE_Q2_K] = SPARK_K(spark_k_matmul_q2_k);
    k->matmul[SPARK_TYPE_Q3_K] = SPARK_K(spark_k_matmul_q3_k);
    k->matmul[SPARK_TYPE_Q4_K] = SPARK_K(spark_k_matmul_q4_k);
    k->matmul[SPARK_TYPE_Q5_K] = SPARK_K(spark_k_matmul_q5_k);
    k->matmul[SPARK_TYPE_Q6_K] = SPARK_K(spark_k_matmul_q6_k);
    k->matmul[SPARK_TYPE_IQ4_XS] = SPARK_K(spark_k_matmul_iq4_xs);
}
