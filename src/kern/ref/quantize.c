/* quantize.c - from floats to blocks: the way back of quant.c, for the formats that `spark quantize` writes.
 * Every block is searched for the scales that leave the least weighted squared error, and the error that decides is that of
 * the values a reader will see (scales already rounded to half and to integers). A weight counts 1.5 + |x| / mean|x| in its
 * group, as large ones matter more to a model. Plain float arithmetic in a fixed order, no libm: the same bytes everywhere.
 * A search sees at most 256 weights, so rows and threads may be split at any block. */
#include <float.h>
#include <string.h>

#include "kern/quant.h"
#include "kern/ref/quant_internal.h"

/* The smallest positive half is 2^-24: below half of it every format's nearest value is zero. */
#define QUANTIZE_TINY     0x1p-25f
#define QUANTIZE_HALF_MAX 65504.0f

static float quantize_abs(float x) { return x < 0 ? -x : x; }

/* Nearest integer, ties to even, kept inside [low, high]; both far below 2^22. */
static float quantize_round(float x, float low, float high)
{
    const float inside = x < low ? low : x > high ? high : x;
    return (inside + 0x1.8p23f) - 0x1.8p23f;
}

/* The element of largest magnitude, with its sign. */
static float quantize_extreme(const float *x, unsigned n)
{
    float extreme = 0;
    for (unsigned i = 0; i < n; i++)
        if (quantize_abs(x[i]) > quantize_abs(extreme)) extreme = x[i];
    return extreme;
}

/* A scale rounded to half, never -0. The fit may go a little beyond the largest weight; that is held inside the range. */
static uint16_t quantize_half(float d)
{
    const float inside = d > QUANTIZE_HALF_MAX ? QUANTIZE_HALF_MAX : d < -QUANTIZE_HALF_MAX ? -QUANTIZE_HALF_MAX : d;
    const uint16_t h = spark_f32_to_f16(inside);
    return h == 0x8000 ? 0 : h;
}

static void quantize_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* ---- One group of weights -------------------------------------------------------------------------------------- */

/* Weights that share a scale, and how much the error of each counts. */
typedef struct quantize_group {
    const float *x;
    unsigned n;
    float count[32], total; /* total = sum of count */
} quantize_group;

static quantize_group quantize_weigh(const float *x, unsigned n)
{
    quantize_group g = {.x = x, .n = n};
    float mean = 0;
    for (unsigned i = 0; i < n; i++) mean += quantize_abs(x[i]) / (float)n;
    for (unsigned i = 0; i < n; i++) {
        g.count[i] = mean > 0 ? 1.5f + quantize_abs(x[i]) / mean : 1.5f;
        g.total += g.count[i];
    }
    return g;
}

/* Codes in [low, high] of x = scale * q - min, and what weighted squared error they leave. */
static float quantize_codes(const quantize_group *g, float scale, float min, float low, float high, int8_t *q)
{
    const float inverse = scale != 0 ? 1 / scale : 0;
    float error = 0;
    for (unsigned i = 0; i < g->n; i++) {
        const float code = quantize_round((g->x[i] + min) * inverse, low, high);
        const float off = g->x[i] - (scale * code - min);
        error += g->count[i] * off * off;
        q[i] = (int8_t)code;
    }
    return error;
}

/* The scale that fits x best with codes in [-top, top - 1]: the extreme element is given codes from -(top + 1) to about
 * -0.75 top in small steps (beyond -top it is clipped, the others gain), and each trial's codes their best scale. */
static float quantize_fit(const quantize_group *g, int top)
{
    const float extreme = quantize_extreme(g->x, g->n), low = (float)-top, high = (float)(top - 1);
    if (quantize_abs(extreme) < QUANTIZE_TINY) return 0;
    float best_xq = 0, best_qq = 1; /* the error is sum x^2 - xq^2 / qq */
    for (float code = low - 1; code < 0.75f * low; code += 0.25f) {
        const float inverse = code / extreme;
        float xq = 0, qq = 0;
        for (unsigned i = 0; i < g->n; i++) {
            const float q = quantize_round(g->x[i] * inverse, low, high), counted = g->count[i] * q;
            xq += counted * g->x[i];
            qq += counted * q;
        }
        if (xq * xq * best_qq > best_xq * best_xq * qq) {
            best_xq = xq;
            best_qq = qq;
        }
    }
    return best_xq / best_qq;
}

/* ---- Blocks of 32 with one scale ------------------------------------------------------------------------------- */

static void quantize_q8_0(const float *x, uint8_t *b)
{
    const uint16_t d = quantize_half(quantize_abs(quantize_extreme(x, 32)) / 127);
    const quantize_group g = quantize_weigh(x, 32);
    int8_t q[32];
    quantize_codes(&g, spark_f16_to_f32(d), 0, -127, 127, q);
    quantize_put_u16(b, d);
    memcpy(b + 2, q, sizeof q);
}

/* Picks d and writes the codes: the fitted scale, or one that gives the extreme element a whole code (so that weights which
 * were quantized before find their scale again). */
static uint16_t quantize_one_scale(const float *x, int top, int8_t *q)
{
    const quantize_group g = quantize_weigh(x, 32);
    const float extreme = quantize_extreme(x, 32), low = (float)-top, high = (float)(top - 1);
    uint16_t best = quantize_half(quantize_fit(&g, top));
    float least = quantize_codes(&g, spark_f16_to_f32(best), 0, low, high, q);
    for (float code = low; code <= 0.75f * low; code++) {
        const uint16_t d = quantize_half(extreme / code);
        int8_t trial[32];
        const float error = quantize_codes(&g, spark_f16_to_f32(d), 0, low, high, trial);
        if (error >= least) continue;
        least = error;
        best = d;
        memcpy(q, trial, sizeof trial);
    }
    return best;
}

static void quantize_q4_0(const float *x, uint8_t *b)
{
    int8_t q[32];
    quantize_put_u16(b, quantize_one_scale(x, 8, q));
    for (unsigned i = 0; i < 16; i++) b[2 + i] = (uint8_t)((q[i] + 8) | (q[16 + i] + 8) << 4);
}

static void quantize_q5_0(const float *x, uint8_t *b)
{
    int8_t q[32];
    quantize_put_u16(b, quantize_one_scale(x, 16, q));
    memset(b + 2, 0, 4);
    for (unsigned i = 0; i < 16; i++) b[6 + i] = (uint8_t)(((q[i] + 16) & 15) | ((q[16 + i] + 16) & 15) << 4);
    for (unsigned i = 0; i < 32; i++) b[2 + i / 8] = (uint8_t)(b[2 + i / 8] | (q[i] + 16) >> 4 << i % 8);
}

/* ---- Q6_K: 16 groups of 16, each with a signed 8-bit scale ----------------------------------------------------- */

/* Picks the group's integer scale near `scale`, writes its codes, and returns it. */
static int quantize_q6_group(const quantize_group *g, float d, float scale, int8_t *q)
{
    const int nearest = d != 0 ? (int)quantize_round(scale / d, -128, 127) : 0;
    int best = 0;
    float least = quantize_codes(g, 0, 0, -32, 31, q);
    for (int s = nearest - 1; s <= nearest + 1; s++) {
        if (s < -128 || s > 127) continue;
        int8_t trial[16];
        const float error = quantize_codes(g, d * (float)s, 0, -32, 31, trial);
        if (error >= least) continue;
        least = error;
        best = s;
        memcpy(q, trial, sizeof trial);
    }
    return best;
}

static void quantize_q6_k(const float *x, uint8_t *b)
{
    quantize_group group[16];
    float scale[16];
    for (unsigned g = 0; g < 16; g++) {
        group[g] = quantize_weigh(x + 16 * g, 16);
        scale[g] = quantize_fit(&group[g], 32);
    }
    const uint16_t d = quantize_half(quantize_extreme(scale, 16) / -128);
    int8_t q[QUANT_SUPER];
    for (unsigned g = 0; g < 16; g++)
        b[192 + g] = (uint8_t)quantize_q6_group(&group[g], spark_f16_to_f32(d), scale[g], q + 16 * g);
    quantize_put_u16(b + 208, d);
    memset(b, 0, 192);
    for (unsigned e = 0; e < QUANT_SUPER; e++) {
        const unsigned code = (unsigned)(q[e] + 32), half = e / 128;
        uint8_t *low = b + half * 64 + e % 64, *high = b + 128 + half * 32 + e % 32;
        *low = (uint8_t)(*low | (code & 15) << e % 128 / 64 * 4);
        *high = (uint8_t)(*high | code >> 4 << e % 128 / 32 * 2);
    }
}

/* ---- Q4_K: 8 groups of 32, each with a 6-bit scale and a 6-bit minimum ----------------------------------------- */

/* Fits x = scale * q - min, q in 0..15, min >= 0: trials give the range 14 to 16 codes, and each trial's codes their best
 * line. All sums are of y = x - lowest, which keeps them small. */
static void quantize_fit_line(const quantize_group *g, float *scale, float *min)
{
    float lowest = 0, highest = g->x[0], sum_y = 0;
    for (unsigned i = 0; i < g->n; i++) {
        if (g->x[i] < lowest) lowest = g->x[i];
        if (g->x[i] > highest) highest = g->x[i];
    }
    *scale = 0;
    *min = -lowest;
    if (highest - lowest < QUANTIZE_TINY) return;
    for (unsigned i = 0; i < g->n; i++) sum_y += g->count[i] * (g->x[i] - lowest);
    float most = 0; /* sum y^2 minus the error */
    for (int trial = 0; trial <= 20; trial++) {
        const float inverse = (14 + 0.1f * (float)trial) / (highest - lowest);
        float q1 = 0, q2 = 0, yq = 0;
        for (unsigned i = 0; i < g->n; i++) {
            const float y = g->x[i] - lowest, q = quantize_round(y * inverse, 0, 15), counted = g->count[i] * q;
            q1 += counted;
            q2 += counted * q;
            yq += counted * y;
        }
        /* Codes that differ at all give a determinant above 8e-5 of its first term; below that it is rounding noise. */
        const float determinant = g->total * q2 - q1 * q1;
        const bool flat = determinant < 1e-5f * g->total * q2;
        float a = flat ? 0 : (g->total * yq - sum_y * q1) / determinant, c = (sum_y - a * q1) / g->total;
        if (flat || c > -lowest) { /* the minimum would be negative: a line through zero instead */
            c = -lowest;
            a = (yq - c * q1) / q2;
        }
        const float gain = 2 * (a * yq + c * sum_y) - (a * a * q2 + 2 * a * c * q1 + g->total * c * c);
        if (gain <= most) continue;
        most = gain;
        *scale = a;
        *min = -lowest - c;
    }
}

/* Picks the group's integer scale and minimum near the fitted ones and writes its codes. */
static void quantize_q4_group(const quantize_group *g, float d, float dmin, float scale, float min, uint8_t *s,
                              uint8_t *m, int8_t *q)
{
    const int near_s = d != 0 ? (int)quantize_round(scale / d, 0, 63) : 0;
    const int near_m = dmin != 0 ? (int)quantize_round(min / dmin, 0, 63) : 0;
    float least = -1;
    for (int try_s = near_s - 1; try_s <= near_s + 1; try_s++) {
        for (int try_m = near_m - 1; try_m <= near_m + 1; try_m++) {
            if (try_s < 0 || try_s > 63 || try_m < 0 || try_m > 63) continue;
            int8_t trial[32];
            const float error = quantize_codes(g, d * (float)try_s, dmin * (float)try_m, 0, 15, trial);
            if (least >= 0 && error >= least) continue;
            least = error;
            *s = (uint8_t)try_s;
            *m = (uint8_t)try_m;
            memcpy(q, trial, sizeof trial);
        }
    }
}

static void quantize_q4_k(const float *x, uint8_t *b)
{
    quantize_group group[8];
    float scale[8], min[8];
    for (unsigned g = 0; g < 8; g++) {
        group[g] = quantize_weigh(x + 32 * g, 32);
        quantize_fit_line(&group[g], &scale[g], &min[g]);
    }
    const uint16_t d = quantize_half(quantize_extreme(scale, 8) / 63),
                   dmin = quantize_half(quantize_extreme(min, 8) / 63);
    uint8_t s[8], m[8];
    int8_t q[QUANT_SUPER];
    for (unsigned g = 0; g < 8; g++)
        quantize_q4_group(&group[g], spark_f16_to_f32(d), spark_f16_to_f32(dmin), scale[g], min[g], &s[g], &m[g],
                          q + 32 * g);
    quantize_put_u16(b, d);
    quantize_put_u16(b + 2, dmin);
    for (unsigned g = 0; g < 4; g++) { /* the inverse of spark__k4_scale */
        b[4 + g] = (uint8_t)(s[g] | s[g + 4] >> 4 << 6);
        b[8 + g] = (uint8_t)(m[g] | m[g + 4] >> 4 << 6);
        b[12 + g] = (uint8_t)((s[g + 4] & 15) | (m[g + 4] & 15) << 4);
    }
    for (unsigned i = 0; i < 128; i++) {
        const unsigned e = i / 32 * 64 + i % 32;
        b[16 + i] = (uint8_t)(q[e] | q[e + 32] << 4);
    }
}

/* ---- The table and the way in ---------------------------------------------------------------------------------- */

static void quantize_f16(const float *x, uint8_t *b) { quantize_put_u16(b, spark_f32_to_f16(x[0])); }

static void quantize_bf16(const float *x, uint8_t *b) { quantize_put_u16(b, spark_f32_to_bf16(x[0])); }

typedef struct quantize_format {
    spark_type type;
    void (*block)(const float *x, uint8_t *b);
    float limit; /* largest magnitude that surely fits */
} quantize_format;

static const quantize_format quantize_formats[] = {
    {SPARK_TYPE_F16, quantize_f16, 0x1.ffdffep15f},    /* below 65520, which rounds to infinity */
    {SPARK_TYPE_BF16, quantize_bf16, 0x1.fefffep127f}, /* the same with eight bits */
    {SPARK_TYPE_Q8_0, quantize_q8_0, 127 * QUANTIZE_HALF_MAX},
    {SPARK_TYPE_Q4_0, quantize_q4_0, 8 * QUANTIZE_HALF_MAX},
    {SPARK_TYPE_Q5_0, quantize_q5_0, 16 * QUANTIZE_HALF_MAX},
    {SPARK_TYPE_Q4_K, quantize_q4_k, 63 * QUANTIZE_HALF_MAX},
    {SPARK_TYPE_Q6_K, quantize_q6_k, 32 * 128 * QUANTIZE_HALF_MAX},
};

spark_status spark_quantize(spark_type type, const float *src, void *dst, size_t n, spark_err *err)
{
    const quantize_format *f = NULL;
    for (unsigned i = 0; i < SPARK_COUNT(quantize_formats); i++)
        if (quantize_formats[i].type == type) f = &quantize_formats[i];
    SPARK_CHECK(f, err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE, "cannot quantize to type %d", (int)type);
    const spark_type_info *t = spark_type_lookup((uint32_t)type);
    SPARK_CHECK(n % t->block_elems == 0, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%zu weights are not a multiple of %u, the block of %s", n, t->block_elems, t->name);
    for (size_t i = 0; i < n; i++) {
        const float a = quantize_abs(src[i]);
        SPARK_CHECK(a <= FLT_MAX, err, SPARK_E_NUMERIC, i, "weight is not finite");
        SPARK_CHECK(a <= f->limit, err, SPARK_E_NUMERIC, i, "weight %g is beyond the range of %s", (double)src[i],
                    t->name);
    }
    uint8_t *out = dst;
    for (size_t i = 0; i < n; i += t->block_elems, out += t->block_bytes) f->block(src + i, out);
    return SPARK_SUCCESS;
}
