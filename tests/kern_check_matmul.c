/* kern_check_matmul.c - packing, activations and products of every weight type.
 * The reference product is itself held against the definition (NUMERICS, "Products with quantized weights"), written here
 * once more over the raw blocks of a file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bench/limits.h"
#include "kern/quant.h"
#include "kern/ref/fma.h"
#include "kern_check.h"

/* ---- Weights --------------------------------------------------------------------------------------------------- */

/* How the scales and levels of a matrix are drawn. */
enum { WEIGHTS_RANDOM, WEIGHTS_HIGHEST, WEIGHTS_LOWEST, WEIGHTS_LARGE, WEIGHTS_TINY, WEIGHTS_ZERO, N_WEIGHTS };

/* Where a block holds its scale and minimum as halves; 255 = nowhere. */
static void check_halves(spark_type type, unsigned *d_at, unsigned *m_at)
{
    *d_at = type == SPARK_TYPE_Q2_K    ? 80
            : type == SPARK_TYPE_Q3_K  ? 108
            : type == SPARK_TYPE_Q6_K  ? 208
            : type == SPARK_TYPE_TQ1_0 ? 52
            : type == SPARK_TYPE_TQ2_0 ? 64
            : type == SPARK_TYPE_IQ1_M ? 255
            : type == SPARK_TYPE_MXFP4 ? 255
                                       : 0;
    *m_at = type == SPARK_TYPE_Q4_1 || type == SPARK_TYPE_Q5_1 || type == SPARK_TYPE_Q4_K || type == SPARK_TYPE_Q5_K ? 2
            : type == SPARK_TYPE_Q2_K ? 82
                                      : 255;
}

static uint16_t check_half(kern_check *kc, unsigned kind)
{
    const uint16_t sign = (uint16_t)(kern_check_random(kc) & 0x8000);
    const uint32_t r = kern_check_random(kc);
    if (kind == WEIGHTS_LARGE) return sign | 0x7bff;
    if (kind == WEIGHTS_TINY) return (uint16_t)(sign | (r & 0x03ff));
    if (kind == WEIGHTS_ZERO) return sign;
    return (uint16_t)(sign | (0x1800 + (r & 0x0fff)));
}

static void check_block(kern_check *kc, spark_type type, unsigned kind, uint8_t *block)
{
    const spark_type_info *t = spark_type_lookup(type);
    unsigned d_at, m_at;
    size_t bad;
    check_halves(type, &d_at, &m_at);
    do {
        for (uint32_t i = 0; i < t->block_bytes; i++)
            block[i] = kind == WEIGHTS_HIGHEST  ? 0xff
                       : kind == WEIGHTS_LOWEST ? (uint8_t)(type == SPARK_TYPE_Q8_0 || i % 64 == 0 ? 0x80 : 0)
                                                : (uint8_t)kern_check_random(kc);
        const uint16_t d = check_half(kc, kind), m = check_half(kc, kind);
        if (d_at != 255) memcpy(block + d_at, &d, 2);
        if (m_at != 255) memcpy(block + m_at, &m, 2);
        if (d_at == 255) kind = WEIGHTS_RANDOM; /* a pattern in these is NaN: draw until it is not */
        if (type == SPARK_TYPE_MXFP4) block[0] = (uint8_t)(90 + kern_check_below(kc, 60));
    } while (!spark_weights_finite(type, block, t->block_elems, &bad));
}

/* One weight of a float type. */
static void check_float_weight(kern_check *kc, spark_type type, unsigned kind, uint8_t *to)
{
    float w = kern_check_unit(kc);
    if (kind == WEIGHTS_LARGE) w = w * 60000.0f;
    if (kind == WEIGHTS_TINY) w = w * (type == SPARK_TYPE_F16 ? 1e-7f : 1e-39f);
    if (kind == WEIGHTS_ZERO) w = w < 0 ? -0.0f : 0.0f;
    const uint16_t h = type == SPARK_TYPE_F16 ? spark_f32_to_f16(w) : spark_f32_to_bf16(w);
    if (type == SPARK_TYPE_F32)
        memcpy(to, &w, 4);
    else
        memcpy(to, &h, 2);
}

static void check_weights(kern_check *kc, spark_type type, unsigned kind, uint8_t *raw, size_t n_blocks)
{
    const spark_type_info *t = spark_type_lookup(type);
    for (size_t b = 0; b < n_blocks; b++, raw += t->block_bytes) {
        if (t->act_block)
            check_block(kc, type, kind, raw);
        else
            check_float_weight(kc, type, kind, raw);
    }
}

/* ---- One product ----------------------------------------------------------------------------------------------- */

typedef struct check_product {
    spark_matrix w;
    kern_buf raw, data, x, acts, out, bias, scratch;
    size_t act_stride, out_stride;
    uint32_t n_tokens;
    bool with_bias;
} check_product;

static size_t check_raw_bytes(spark_type type, uint32_t n_rows, uint32_t n_cols)
{
    return n_rows * (size_t)spark_type_row_bytes(spark_type_lookup(type), n_cols);
}

/* Draws weights, packs them, draws activations and prepares them. */
static check_product check_draw(kern_check *kc, spark_type type, uint32_t n_rows, uint32_t n_cols, uint32_t n_tokens,
                                unsigned weights, unsigned floats)
{
    const spark_type_info *t = spark_type_lookup(type);
    const size_t panel = spark_panel_bytes(type, n_cols);
    check_product p = {.n_tokens = n_tokens, .with_bias = kern_check_below(kc, 2) != 0};
    p.raw = kern_check_buf(kc, check_raw_bytes(type, n_rows, n_cols), 1);
    p.data = kern_check_buf(kc, panel * spark_n_panels(n_rows), 64);
    p.w = (spark_matrix){type, n_rows, n_cols, p.data.want, panel};
    check_weights(kc, type, weights, p.raw.want, (size_t)n_rows * (n_cols / t->block_elems));
    if (!spark_ok(spark_pack(type, p.raw.want, n_rows, n_cols, 0, spark_n_panels(n_rows), p.data.want, NULL)))
        kern_check_fail(kc, "packing failed");
    p.act_stride = spark_act_bytes(type, n_cols) + 64 * kern_check_below(kc, 3);
    p.x = kern_check_buf(kc, sizeof(float) * n_tokens * n_cols, 4);
    p.acts = kern_check_buf(kc, p.act_stride * n_tokens, 64);
    kern_check_floats(kc, (float *)p.x.want, (size_t)n_tokens * n_cols, floats);
    for (uint32_t i = 0; i < n_tokens; i++)
        if (!kc->base->quantize(t->act_block, (const float *)p.x.want + (size_t)i * n_cols, n_cols,
                                p.acts.want + i * p.act_stride))
            kern_check_fail(kc, "quantize refused a finite row");
    p.out_stride = n_rows + kern_check_below(kc, 20);
    p.out = kern_check_buf(kc, sizeof(float) * ((n_tokens - 1) * p.out_stride + n_rows), 4);
    p.bias = kern_check_buf(kc, sizeof(float) * n_rows, 4);
    kern_check_floats(kc, (float *)p.bias.want, n_rows, 0);
    p.scratch = kern_check_buf(kc, spark_matmul_scratch(type, n_cols, n_tokens), 64);
    return p;
}

static void check_run(const check_product *p, const spark_kern *k, uint8_t *out, uint32_t begin, uint32_t end)
{
    const spark_matmul_args a = {.w = &p->w,
                                 .panel_begin = begin,
                                 .panel_end = end,
                                 .acts = p->acts.want,
                                 .act_stride = p->act_stride,
                                 .n_tokens = p->n_tokens,
                                 .out = (float *)out,
                                 .out_stride = p->out_stride,
                                 .bias = p->with_bias ? (const float *)p->bias.want : NULL,
                                 .scratch = p->scratch.want};
    k->matmul[p->w.type](&a);
}

#if defined(__x86_64__)
/* Tiles in use would slow every switch of threads: a product leaves none behind (XINUSE, what xgetbv tells of index 1). */
static void check_tiles_released(kern_check *kc)
{
    enum { TILES = 3 << 17 };
    uint32_t low, high;
    if (kc->now->isa != SPARK_ISA_AMX) return;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    if (low & TILES) kern_check_fail(kc, "tiles are still in use");
}
#else
static void check_tiles_released(kern_check *kc) { (void)kc; }
#endif

/* Base in one call, the level under test in two shares. */
static bool check_compare(kern_check *kc, const check_product *p)
{
    const uint32_t n = spark_n_panels(p->w.n_rows), split = kern_check_below(kc, n + 1);
    check_run(p, kc->base, p->out.want, 0, n);
    if (split > 0) check_run(p, kc->now, p->out.got, 0, split);
    if (split < n) check_run(p, kc->now, p->out.got, split, n);
    check_tiles_released(kc);
    return kern_check_same(kc, &p->out, "%u x %u, %u tokens", p->w.n_rows, p->w.n_cols, p->n_tokens);
}

/* ---- The definition -------------------------------------------------------------------------------------------- */

static bool check_has_min(spark_type t)
{
    return t == SPARK_TYPE_Q4_1 || t == SPARK_TYPE_Q5_1 || t == SPARK_TYPE_Q2_K || t == SPARK_TYPE_Q4_K ||
           t == SPARK_TYPE_Q5_K;
}

/* NUMERICS, "Activations as int8", one block. */
static float check_quantize(const float *x, uint32_t n, int *q)
{
    float a = 0;
    for (uint32_t i = 0; i < n; i++) a = fabsf(x[i]) > a ? fabsf(x[i]) : a;
    const float inverse = 127.0f / a;
    for (uint32_t i = 0; i < n; i++) q[i] = a < 1e-30f ? 0 : (int)nearbyintf(x[i] * inverse);
    return a < 1e-30f ? 0 : a / 127.0f;
}

static float check_naive_quant(spark_type type, const uint8_t *row, const float *x, uint32_t n_cols)
{
    const spark_type_info *t = spark_type_lookup(type);
    float acc = 0;
    for (uint32_t k = 0; k < n_cols; k += t->block_elems, row += t->block_bytes) {
        int q[256], isum = 0, msum = 0;
        spark_levels l;
        spark_block_levels(type, row, &l);
        const float dx = check_quantize(x + k, t->block_elems, q);
        for (uint32_t e = 0; e < t->block_elems; e++) {
            isum += l.s[e / 16] * l.w[e] * q[e];
            msum += l.m[e / 16] * q[e];
        }
        if (check_has_min(type))
            acc = spark_fma(dx, spark_fma(-l.dmin, (float)msum, l.d * (float)isum), acc);
        else
            acc = spark_fma(l.d * dx, (float)isum, acc);
    }
    return acc;
}

static float check_naive_float(spark_type type, const uint8_t *row, const float *x, uint32_t n_cols)
{
    const uint32_t bytes = spark_type_lookup(type)->block_bytes;
    float acc = 0, s = 0;
    for (uint32_t k = 0; k < n_cols; k++) {
        float w;
        spark_dequantize(type, row + (size_t)k * bytes, &w, 1);
        s = spark_fma(w, x[k], s);
        if (k % 32 != 31 && k + 1 != n_cols) continue;
        acc = acc + s;
        s = 0;
    }
    return acc;
}

static void check_definition(kern_check *kc, const check_product *p)
{
    const spark_type_info *t = spark_type_lookup(p->w.type);
    const size_t row_bytes = (size_t)spark_type_row_bytes(t, p->w.n_cols);
    for (uint32_t i = 0; i < p->n_tokens; i++)
        for (uint32_t r = 0; r < p->w.n_rows; r++) {
            const uint8_t *row = p->raw.want + r * row_bytes;
            const float *x = (const float *)p->x.want + (size_t)i * p->w.n_cols;
            const float y = t->act_block ? check_naive_quant(p->w.type, row, x, p->w.n_cols)
                                         : check_naive_float(p->w.type, row, x, p->w.n_cols);
            ((float *)p->out.want)[i * p->out_stride + r] = p->with_bias ? y + ((const float *)p->bias.want)[r] : y;
        }
    check_run(p, kc->now, p->out.got, 0, spark_n_panels(p->w.n_rows));
    kern_check_same(kc, &p->out, "definition, %u x %u, %u tokens", p->w.n_rows, p->w.n_cols, p->n_tokens);
}

/* ---- Cases ----------------------------------------------------------------------------------------------------- */

static const uint32_t check_rows[] = {1, 15, 16, 17, 33, 47, 80};
static const uint32_t check_tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 21, 33};
static const uint32_t check_float_cols[] = {1, 2, 31, 32, 33, 64, 95, 100, 257};
static const uint32_t check_block_cols[] = {1, 2, 3, 5, 9, 4, 6, 7}; /* of 256: the first five */

static uint32_t check_cols(spark_type type, size_t i)
{
    const uint32_t elems = spark_type_lookup(type)->block_elems;
    return elems == 1 ? check_float_cols[i] : elems == 256 && i == 4 ? 256 * 6 : check_block_cols[i] * elems;
}
static size_t check_n_cols(spark_type type)
{
    const uint32_t elems = spark_type_lookup(type)->block_elems;
    return elems == 1 ? SPARK_COUNT(check_float_cols) : elems == 256 ? 5 : SPARK_COUNT(check_block_cols);
}

/* Every shape with a changing kind of weights and activations; the large ones are kept apart, or their product overflows. */
static void check_matmul(kern_check *kc, const void *arg)
{
    const spark_type type = *(const spark_type *)arg;
    unsigned kind = 0;
    for (size_t r = 0; r < SPARK_COUNT(check_rows); r++)
        for (size_t c = 0; c < check_n_cols(type); c++)
            for (size_t t = 0; t < SPARK_COUNT(check_tokens); t++, kind++) {
                const unsigned weights = kind % N_WEIGHTS,
                               floats = weights == WEIGHTS_LARGE ? 0 : kind / 2 % KERN_FLOAT_KINDS;
                if (kc->base->isa == SPARK_ISA_SCALAR && check_rows[r] > 33 && check_tokens[t] > 9) continue;
                const check_product p = check_draw(kc, type, check_rows[r], check_cols(type, c), check_tokens[t],
                                                   weights, floats);
                const bool same = check_compare(kc, &p);
                kern_check_drop(kc);
                if (!same) return;
            }
    /* more tokens than one chunk, more columns than one chunk */
    const uint32_t elems = spark_type_lookup(type)->block_elems, wide = elems == 1 ? 1111 : 2048 + 3 * elems;
    const uint32_t n_many = kc->base->isa == SPARK_ISA_SCALAR ? 150 : 401;
    const check_product many = check_draw(kc, type, 33, wide, n_many, WEIGHTS_RANDOM, 1);
    check_compare(kc, &many);
    kern_check_drop(kc);
    /* rows so long that a chunk takes fewer tokens of them, and an uneven rest */
    const check_product deep = check_draw(kc, type, 17, elems == 1 ? 2000 : 9 * 1024 + elems, 245, WEIGHTS_RANDOM, 1);
    if (kc->base->isa != SPARK_ISA_SCALAR) check_compare(kc, &deep);
}

static void check_product_definition(kern_check *kc, const void *arg)
{
    const spark_type type = *(const spark_type *)arg;
    for (unsigned kind = 0; kind < N_WEIGHTS * 4; kind++) {
        const unsigned weights = kind % N_WEIGHTS, floats = weights == WEIGHTS_LARGE ? 0 : kind % KERN_FLOAT_KINDS;
        const check_product p = check_draw(kc, type, 1 + 8 * (kind % 5), check_cols(type, kind % check_n_cols(type)),
                                           1 + kind % 3, weights, floats);
        check_definition(kc, &p);
        kern_check_drop(kc);
    }
}

/* Packing loses nothing, pads with zeros, gives the same bytes in shares, and names a row that is not finite. */
static void check_pack(kern_check *kc, const void *arg)
{
    const spark_type type = *(const spark_type *)arg;
    const uint32_t n_rows = 37, n_cols = check_cols(type, 3), n = spark_n_panels(n_rows);
    const check_product p = check_draw(kc, type, n_rows, n_cols, 1, WEIGHTS_RANDOM, 0);
    const size_t row_bytes = (size_t)spark_type_row_bytes(spark_type_lookup(type), n_cols);
    for (uint32_t i = n; i-- > 0;)
        if (!spark_ok(spark_pack(type, p.raw.want, n_rows, n_cols, i, i + 1, p.data.got, NULL)))
            kern_check_fail(kc, "packing a share failed");
    kern_check_same(kc, &p.data, "packed in shares");
    const kern_buf row = kern_check_buf(kc, sizeof(float) * n_cols, 4);
    for (uint32_t r = 0; r < n_rows; r++) {
        spark_dequantize(type, p.raw.want + r * row_bytes, (float *)row.want, n_cols);
        spark_unpack_row(&p.w, r, (float *)row.got);
        kern_check_same(kc, &row, "row %u back from its panel", r);
    }
    unsigned d_at, m_at;
    check_halves(type, &d_at, &m_at);
    spark_err err = {0};
    const uint16_t infinite = type == SPARK_TYPE_BF16 ? 0x7f80 : 0x7c00;
    if (type == SPARK_TYPE_F32 || d_at == 255) return;
    memcpy(p.raw.want + 35 * row_bytes + d_at, &infinite, 2);
    const spark_status s = spark_pack(type, p.raw.want, n_rows, n_cols, 0, n, p.data.got, &err);
    if (s.code != SPARK_E_NUMERIC || err.at != 35)
        kern_check_fail(kc, "an infinite scale in row 35: code %d", (int)s.code);
}

static void check_quantize_slot(kern_check *kc, const void *arg)
{
    const uint32_t block = *(const uint32_t *)arg;
    const spark_type type = block == 0 ? SPARK_TYPE_F32 : block == 32 ? SPARK_TYPE_Q8_0 : SPARK_TYPE_Q6_K;
    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t n = i < 300 ? i + 1 : 2048 + i;
        const kern_buf x = kern_check_buf(kc, sizeof(float) * n, 4),
                       row = kern_check_buf(kc, spark_act_bytes(type, n), 64);
        kern_check_floats(kc, (float *)x.want, n, i % KERN_FLOAT_KINDS);
        if (i % 7 == 0) ((float *)x.want)[kern_check_below(kc, n)] = 3.0f; /* exact ties below it */
        const int a = kc->base->quantize(block, (const float *)x.want, n, row.want);
        const int b = kc->now->quantize(block, (const float *)x.want, n, row.got);
        if (a != 1 || b != 1) kern_check_fail(kc, "refused a finite row of %u", n);
        kern_check_same(kc, &row, "%u values of kind %u", n, i % KERN_FLOAT_KINDS);
        const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
        ((float *)x.want)[kern_check_below(kc, n)] = bad[i % 4];
        if (kc->now->quantize(block, (const float *)x.want, n, row.got))
            kern_check_fail(kc, "accepted %f", (double)bad[i % 4]);
        kern_check_drop(kc);
    }
}

/* ---- Timing ---------------------------------------------------------------------------------------------------- */

typedef struct check_timing {
    const spark_kern *k;
    spark_matmul_args a;
    const spark_matrix *w;
    const uint8_t *raw;
    uint8_t *data;
} check_timing;

static void check_time_pack(void *arg)
{
    const check_timing *t = arg;
    const spark_matrix *w = t->w;
    if (!spark_ok(spark_pack(w->type, t->raw, w->n_rows, w->n_cols, 0, spark_n_panels(w->n_rows), t->data, NULL)))
        exit(2);
}

static void check_time_product(void *arg)
{
    const check_timing *t = arg;
    t->k->matmul[t->a.w->type](&t->a);
}

/* Few tokens read more than the caches of a core hold, as those who decode do; many reuse 2048 rows. */
static void check_time_type(kern_check *kc, spark_type type)
{
    enum { COLS = 2048, ROWS = 2048, ROWS_DECODE = 16384, TOKENS = 512 };
    static const uint32_t tokens[] = {1, 2, 4, 6, 8, 9, 10, 12, 14, 16, 20, TOKENS};
    const spark_type_info *t = spark_type_lookup(type);
    const bool slow = kc->now->isa == SPARK_ISA_SCALAR;
    const uint32_t n_rows = slow ? 256 : ROWS_DECODE, n = spark_n_panels(n_rows);
    const size_t row_bytes = (size_t)spark_type_row_bytes(t, COLS), stride = spark_act_bytes(type, COLS);
    char name[64];
    uint8_t *raw = malloc(n_rows * row_bytes), *data = aligned_alloc(64, n * spark_panel_bytes(type, COLS));
    uint8_t *acts = aligned_alloc(64, stride * TOKENS),
            *scratch = aligned_alloc(64, spark_matmul_scratch(type, COLS, TOKENS));
    float *x = malloc(sizeof(float) * COLS), *out = malloc(sizeof(float) * n_rows * TOKENS);
    if (!raw || !data || !acts || !scratch || !x || !out) exit(2);
    check_weights(kc, type, WEIGHTS_RANDOM, raw, (size_t)n_rows * (COLS / t->block_elems));
    check_timing timing = {.k = kc->now, .raw = raw, .data = data};
    spark_matrix w = {type, n_rows, COLS, data, spark_panel_bytes(type, COLS)};
    timing.w = &w;
    snprintf(name, sizeof name, "pack/%s", t->name);
    kern_check_time(kc, name, (double)(n_rows * row_bytes), "GB/s of the file", check_time_pack, &timing);
    for (uint32_t i = 0; i < TOKENS; i++) {
        kern_check_floats(kc, x, COLS, 1);
        if (!kc->now->quantize(t->act_block, x, COLS, acts + i * stride)) exit(2);
    }
    for (size_t i = 0; i < SPARK_COUNT(tokens); i++) {
        const uint32_t used = tokens[i] < TOKENS || slow ? n : spark_n_panels(ROWS);
        timing.a = (spark_matmul_args){.w = &w,
                                       .panel_end = used,
                                       .acts = acts,
                                       .act_stride = stride,
                                       .n_tokens = tokens[i],
                                       .out = out,
                                       .out_stride = n_rows,
                                       .scratch = scratch};
        snprintf(name, sizeof name, "matmul/%s, %u token%s", t->name, tokens[i], tokens[i] > 1 ? "s" : "");
        if (slow && tokens[i] > 8) continue;
        kern_check_time(kc, name, (double)(used * SPARK_PANEL_ROWS) * (double)COLS * tokens[i], "GMAC/s",
                        check_time_product, &timing);
    }
    free(raw), free(data), free(acts), free(scratch), free(x), free(out);
}

/* ---- Kernels that are wrong on purpose ------------------------------------------------------------------------- */

static void (*check_right)(const spark_matmul_args *a); /* what the wrong ones start from */

static void check_wrong_lane(const spark_matmul_args *a)
{
    check_right(a);
    const uint32_t n = a->w->n_rows;
    for (uint32_t t = 0; n > 1 && t < a->n_tokens; t++) {
        float *y = a->out + t * a->out_stride, first = y[0];
        memmove(y, y + 1, sizeof(float) * (n - 1));
        y[n - 1] = first;
    }
}

static void check_wrong_end(const spark_matmul_args *a)
{
    check_right(a);
    a->out[(a->n_tokens - 1) * a->out_stride + a->w->n_rows] = 0; /* one past the end */
}

static void check_wrong_padding(const spark_matmul_args *a)
{
    check_right(a);
    if (a->n_tokens > 1 && a->out_stride > a->w->n_rows) a->out[a->w->n_rows] = 0; /* between two rows */
}

static void check_wrong_order(const spark_matmul_args *a) /* bias first, not last */
{
    spark_matmul_args b = *a;
    b.bias = NULL;
    check_right(&b);
    for (uint32_t t = 0; t < a->n_tokens; t++)
        for (uint32_t r = 0; r < a->w->n_rows; r++) {
            float *y = &a->out[t * a->out_stride + r];
            const float half = a->w->n_cols > 32 ? 0x1p-20f : 0; /* a chain in another order rounds elsewhere */
            *y = (*y + *y * half) - *y * half + (a->bias ? a->bias[r] : 0);
        }
}

static void check_wrong_crash(const spark_matmul_args *a)
{
    const volatile uint8_t *end = a->w->data + spark_n_panels(a->w->n_rows) * a->w->panel_bytes;
    (void)*end; /* reads past the weights */
    check_right(a);
}

unsigned kern_check_matmul_self(kern_check *kc)
{
    static const struct {
        const char *name;
        void (*run)(const spark_matmul_args *a);
    } wrong[] = {{"a lane off by one", check_wrong_lane},
                 {"a write past the end", check_wrong_end},
                 {"a write into padding", check_wrong_padding},
                 {"another order of sums", check_wrong_order},
                 {"a read past the weights", check_wrong_crash}};
    static spark_kern right, now;
    static const spark_type type = SPARK_TYPE_Q4_K;
    unsigned missed = 0;
    kern_check probe = {.seed = kc->seed, .quiet = true, .base = &right, .now = &now};
    spark_kern_init(&right, SPARK_ISA_SCALAR);
    check_right = right.matmul[type];
    for (size_t i = 0; i < SPARK_COUNT(wrong); i++) {
        now = right;
        now.matmul[type] = wrong[i].run;
        const bool caught = !kern_check_case(&probe, "self-test", check_matmul, &type);
        printf("self     %-28s %s\n", wrong[i].name, caught ? "caught" : "NOT CAUGHT");
        missed += !caught;
    }
    return missed;
}

/* ---- All of them ----------------------------------------------------------------------------------------------- */

void kern_check_matmul(kern_check *kc)
{
    static const uint32_t blocks[] = {0, 32, 256};
    const bool scalar = kc->now == kc->base; /* the reference: held against the definition instead of itself */
    char name[64];
    for (size_t i = 0; i < SPARK_COUNT(blocks); i++) {
        snprintf(name, sizeof name, "quantize/%u", blocks[i]);
        kern_check_case(kc, name, check_quantize_slot, &blocks[i]);
    }
    for (uint32_t id = 0; id < SPARK_N_TYPES; id++) {
        const spark_type_info *t = spark_type_lookup(id);
        const spark_type type = (spark_type)id;
        if (!t) continue;
        snprintf(name, sizeof name, "pack/%s", t->name);
        if (scalar) kern_check_case(kc, name, check_pack, &type);
        snprintf(name, sizeof name, "matmul/%s", t->name);
        const bool ok = kern_check_case(kc, name, scalar ? check_product_definition : check_matmul, &type);
        if (kc->bench && ok && (!kc->filter || strstr(name, kc->filter))) check_time_type(kc, type);
    }
}
