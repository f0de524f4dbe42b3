/* ops_body.h - norms, activations, softmax, rotation a vector at a time; included once by each level's ops_LEVEL.c behind
 * its vec_LEVEL.h. The sums keep the 32 virtual lanes of NUMERICS.md: OPS_VECTORS vectors side by side. Where a tail is
 * filled up with zeros they enter a lane as + 0, and a lane is never -0, so no bit changes. */
#include "kern/body/math_body.h"
#include "kern/ops.h"
#include "kern/ref/fma.h"
#include "kern/ref/sqrt.h"

#define OPS_LANES   32u
#define OPS_VECTORS (OPS_LANES / VF_LANES)

/* Elements of vector j of a row's last, short group of 32: 0..VF_LANES. */
SPARK_INLINE uint32_t ops_tail(uint32_t left, uint32_t j)
{
    return left <= j * VF_LANES ? 0 : left - j * VF_LANES < VF_LANES ? left - j * VF_LANES : VF_LANES;
}

SPARK_INLINE float ops_fold(VF lane[OPS_VECTORS])
{
    for (uint32_t half = OPS_VECTORS / 2; half > 0; half /= 2) {
        for (uint32_t j = 0; j < half; j++) lane[j] = vf_add(lane[j], lane[j + half]);
    }
    return vf_fold(lane[0]);
}

static void SPARK_K(spark_k_rms_norm)(float *out, const float *x, const float *w, uint32_t n, float eps)
{
    VF lane[OPS_VECTORS];
    for (uint32_t j = 0; j < OPS_VECTORS; j++) lane[j] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= OPS_LANES; i += OPS_LANES) {
        for (uint32_t j = 0; j < OPS_VECTORS; j++) {
            const VF v = vf_load(x + i + j * VF_LANES);
            lane[j] = vf_fma(v, v, lane[j]);
        }
    }
    for (uint32_t j = 0; j < OPS_VECTORS; j++) {
        const uint32_t tail = ops_tail(n - i, j);
        if (tail == 0) break;
        const VF v = vf_load_n(x + i + j * VF_LANES, tail);
        lane[j] = vf_fma(v, v, lane[j]);
    }
    const VF inv = vf_set1(1.0f / spark_sqrtf(ops_fold(lane) / (float)n + eps));
    for (i = 0; n - i >= VF_LANES; i += VF_LANES) {
        vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), inv), vf_load(w + i)));
    }
    if (i < n) vf_store_n(out + i, vf_mul(vf_mul(vf_load_n(x + i, n - i), inv), vf_load_n(w + i, n - i)), n - i);
}

static float ops_mean(const float *x, uint32_t n)
{
    VF lane[OPS_VECTORS];
    for (uint32_t j = 0; j < OPS_VECTORS; j++) lane[j] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= OPS_LANES; i += OPS_LANES) {
        for (uint32_t j = 0; j < OPS_VECTORS; j++) lane[j] = vf_add(lane[j], vf_load(x + i + j * VF_LANES));
    }
    for (uint32_t j = 0; j < OPS_VECTORS; j++) {
        const uint32_t tail = ops_tail(n - i, j);
        if (tail == 0) break;
        lane[j] = vf_add(lane[j], vf_load_n(x + i + j * VF_LANES, tail));
    }
    return ops_fold(lane) / (float)n;
}

static float ops_variance(const float *x, float mean_x, uint32_t n)
{
    const VF mean = vf_set1(mean_x);
    VF lane[OPS_VECTORS];
    for (uint32_t j = 0; j < OPS_VECTORS; j++) lane[j] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= OPS_LANES; i += OPS_LANES) {
        for (uint32_t j = 0; j < OPS_VECTORS; j++) {
            const VF d = vf_sub(vf_load(x + i + j * VF_LANES), mean);
            lane[j] = vf_fma(d, d, lane[j]);
        }
    }
    for (uint32_t j = 0; j < OPS_VECTORS; j++) {
        const uint32_t tail = ops_tail(n - i, j);
        if (tail == 0) break;
        const VF d = vf_keep_range(vf_sub(vf_load_n(x + i + j * VF_LANES, tail), mean), 0, tail, vf_zero());
        lane[j] = vf_fma(d, d, lane[j]);
    }
    return ops_fold(lane) / (float)n;
}

static void SPARK_K(spark_k_layer_norm)(float *out, const float *x, const float *w, const float *b, uint32_t n,
                                        float eps)
{
    const float mean_x = ops_mean(x, n);
    const VF mean = vf_set1(mean_x), inv = vf_set1(1.0f / spark_sqrtf(ops_variance(x, mean_x, n) + eps));
    uint32_t i = 0;
    for (; n - i >= VF_LANES; i += VF_LANES) {
        const VF y = vf_mul(vf_mul(vf_sub(vf_load(x + i), mean), inv), vf_load(w + i));
        vf_store(out + i, b ? vf_add(y, vf_load(b + i)) : y);
    }
    if (i == n) return;
    const VF y = vf_mul(vf_mul(vf_sub(vf_load_n(x + i, n - i), mean), inv), vf_load_n(w + i, n - i));
    vf_store_n(out + i, b ? vf_add(y, vf_load_n(b + i, n - i)) : y, n - i);
}

/* ---- Elementwise: y[i] = f(y[i], x[i]) ------------------------------------------------------------------------- */

SPARK_INLINE VF ops_silu_mul(VF g, VF u) { return vf_mul(vf_div(g, vf_add(vf_set1(1.0f), vf_exp(vf_neg(g)))), u); }

SPARK_INLINE VF ops_gelu_mul(VF g, VF u)
{
    const VF cube = vf_fma(vf_mul(vf_set1(SPARK_GELU_A), g), g, vf_set1(1.0f));
    const VF z = vf_mul(vf_mul(vf_set1(SPARK_GELU_2C), g), cube);
    return vf_mul(vf_div(g, vf_add(vf_set1(1.0f), vf_exp(vf_neg(z)))), u);
}

/* One loop and its tail; `expr` maps y0 (and x0) to the new value. */
#define OPS_EACH_Y(y, n, expr)                                                                                         \
    do {                                                                                                               \
        uint32_t i = 0;                                                                                                \
        for (; (n)-i >= VF_LANES; i += VF_LANES) {                                                                     \
            const VF y0 = vf_load((y) + i);                                                                            \
            vf_store((y) + i, expr);                                                                                   \
        }                                                                                                              \
        if (i < (n)) {                                                                                                 \
            const VF y0 = vf_load_n((y) + i, (n)-i);                                                                   \
            vf_store_n((y) + i, expr, (n)-i);                                                                          \
        }                                                                                                              \
    } while (0)
#define OPS_EACH_YX(y, x, n, expr)                                                                                     \
    do {                                                                                                               \
        uint32_t i = 0;                                                                                                \
        for (; (n)-i >= VF_LANES; i += VF_LANES) {                                                                     \
            const VF y0 = vf_load((y) + i), x0 = vf_load((x) + i);                                                     \
            vf_store((y) + i, expr);                                                                                   \
        }                                                                                                              \
        if (i < (n)) {                                                                                                 \
            const VF y0 = vf_load_n((y) + i, (n)-i), x0 = vf_load_n((x) + i, (n)-i);                                   \
            vf_store_n((y) + i, expr, (n)-i);                                                                          \
        }                                                                                                              \
    } while (0)

static void SPARK_K(spark_k_add)(float *y, const float *x, uint32_t n) { OPS_EACH_YX(y, x, n, vf_add(y0, x0)); }

static void SPARK_K(spark_k_scale)(float *x, float s, uint32_t n)
{
    const VF factor = vf_set1(s);
    OPS_EACH_Y(x, n, vf_mul(y0, factor));
}

static void SPARK_K(spark_k_axpy)(float *y, float w, const float *x, uint32_t n)
{
    const VF weight = vf_set1(w);
    OPS_EACH_YX(y, x, n, vf_fma(weight, x0, y0));
}

static void SPARK_K(spark_k_silu_mul)(float *g, const float *u, uint32_t n)
{
    OPS_EACH_YX(g, u, n, ops_silu_mul(y0, x0));
}
static void SPARK_K(spark_k_gelu_mul)(float *g, const float *u, uint32_t n)
{
    OPS_EACH_YX(g, u, n, ops_gelu_mul(y0, x0));
}

static void SPARK_K(spark_k_softcap)(float *x, float cap, uint32_t n)
{
    const VF c = vf_set1(cap);
    OPS_EACH_Y(x, n, vf_mul(c, vf_tanh(vf_div(y0, c))));
}

/* ---- Softmax --------------------------------------------------------------------------------------------------- */

static float ops_max(const float *x, uint32_t n)
{
    VF max[OPS_VECTORS];
    for (uint32_t j = 0; j < OPS_VECTORS; j++) max[j] = vf_set1(x[0]);
    uint32_t i = 0;
    for (; n - i >= OPS_LANES; i += OPS_LANES) {
        for (uint32_t j = 0; j < OPS_VECTORS; j++) max[j] = vf_max(max[j], vf_load(x + i + j * VF_LANES));
    }
    for (uint32_t j = 0; j < OPS_VECTORS; j++) {
        const uint32_t tail = ops_tail(n - i, j);
        if (tail == 0) break;
        max[j] = vf_max(max[j], vf_keep_range(vf_load_n(x + i + j * VF_LANES, tail), 0, tail, max[j]));
    }
    for (uint32_t j = 1; j < OPS_VECTORS; j++) max[0] = vf_max(max[0], max[j]);
    return vf_fold_max(max[0]) + 0.0f; /* which zero won does not show */
}

static float SPARK_K(spark_k_softmax)(float *x, uint32_t n)
{
    const float max_x = ops_max(x, n);
    const VF max = vf_set1(max_x);
    VF lane[OPS_VECTORS];
    for (uint32_t j = 0; j < OPS_VECTORS; j++) lane[j] = vf_zero();
    uint32_t i = 0;
    for (; n - i >= OPS_LANES; i += OPS_LANES) {
        for (uint32_t j = 0; j < OPS_VECTORS; j++) {
            const VF p = vf_exp_bounded(vf_sub(vf_load(x + i + j * VF_LANES), max));
            vf_store(x + i + j * VF_LANES, p);
            lane[j] = vf_add(lane[j], p);
        }
    }
    for (uint32_t j = 0; j < OPS_VECTORS; j++) {
        const uint32_t tail = ops_tail(n - i, j);
        if (tail == 0) break;
        const VF p = vf_exp_bounded(vf_sub(vf_load_n(x + i + j * VF_LANES, tail), max));
        vf_store_n(x + i + j * VF_LANES, p, tail);
        lane[j] = vf_add(lane[j], vf_keep_range(p, 0, tail, vf_zero()));
    }
    SPARK_K(spark_k_scale)(x, 1.0f / ops_fold(lane), n);
    return max_x;
}

/* ---- Rotation -------------------------------------------------------------------------------------------------- */

SPARK_INLINE void ops_rotate(VF *a, VF *b, const float *cos, const float *sin)
{
    const VF c = vf_load(cos), s = vf_load(sin), a0 = *a, b0 = *b;
    *a = vf_fma(vf_neg(b0), s, vf_mul(a0, c));
    *b = vf_fma(a0, s, vf_mul(b0, c));
}

static void SPARK_K(spark_k_rope)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rot_dim, int neighbours,
                                  const float *cos, const float *sin)
{
    const uint32_t half = rot_dim / 2;
    for (uint32_t h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * head_dim;
        uint32_t i = 0;
        for (; half - i >= VF_LANES; i += VF_LANES) {
            VF a, b;
            if (neighbours) {
                vf_unzip(vf_load(head + 2 * i), vf_load(head + 2 * i + VF_LANES), &a, &b);
                ops_rotate(&a, &b, cos + i, sin + i);
                vf_zip(a, b, &a, &b);
                vf_store(head + 2 * i, a);
                vf_store(head + 2 * i + VF_LANES, b);
            } else {
                a = vf_load(head + i);
                b = vf_load(head + half + i);
                ops_rotate(&a, &b, cos + i, sin + i);
                vf_store(head + i, a);
                vf_store(head + half + i, b);
            }
        }
        for (; i < half; i++) {
            float *a = head + (neighbours ? 2 * i : i), *b = neighbours ? a + 1 : a + half;
            const float a0 = *a, b0 = *b;
            *a = spark_fma(-b0, sin[i], a0 * cos[i]);
            *b = spark_fma(a0, sin[i], b0 * cos[i]);
        }
    }
}

void SPARK_K(spark__ops_init)(spark_kern *k)
{
    k->rms_norm = SPARK_K(spark_k_rms_norm);
    k->layer_norm = SPARK_K(spark_k_layer_norm);
    k->add = SPARK_K(spark_k_add);
    k->scale = SPARK_K(spark_k_scale);
    k->axpy = SPARK_K(spark_k_axpy);
    k->silu_mul = SPARK_K(spark_k_silu_mul);
    k->gelu_mul = SPARK_K(spark_k_gelu_mul);
    k->softcap = SPARK_K(spark_k_softcap);
    k->softmax = SPARK_K(spark_k_softmax);
    k->rope = SPARK_K(spark_k_rope);
}
