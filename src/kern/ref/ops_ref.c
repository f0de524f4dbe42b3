/* ops_ref.c - norms, activations, softmax, rotation: what each bit means. Written for reading (NUMERICS.md). */
#include "kern/kern.h"
#include "kern/ops.h"
#include "kern/ref/fma.h"
#include "kern/ref/math_poly.h"
#include "kern/ref/sqrt.h"

#define OPS_LANES 32u

/* Folds the 32 virtual lanes of a sum: j += j + 16, + 8, + 4, + 2, + 1. */
static float ops_fold(float lane[OPS_LANES])
{
    for (uint32_t half = OPS_LANES / 2; half > 0; half /= 2) {
        for (uint32_t j = 0; j < half; j++) lane[j] += lane[j + half];
    }
    return lane[0];
}

static void spark_k_rms_norm_ref(float *out, const float *x, const float *w, uint32_t n, float eps)
{
    float lane[OPS_LANES] = {0};
    for (uint32_t i = 0; i < n; i++) lane[i % OPS_LANES] = spark_fma(x[i], x[i], lane[i % OPS_LANES]);
    const float inv = 1.0f / spark_sqrtf(ops_fold(lane) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) out[i] = x[i] * inv * w[i];
}

static void spark_k_layer_norm_ref(float *out, const float *x, const float *w, const float *b, uint32_t n, float eps)
{
    float lane[OPS_LANES] = {0};
    for (uint32_t i = 0; i < n; i++) lane[i % OPS_LANES] += x[i];
    const float mean = ops_fold(lane) / (float)n;
    float square[OPS_LANES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        const float d = x[i] - mean;
        square[i % OPS_LANES] = spark_fma(d, d, square[i % OPS_LANES]);
    }
    const float inv = 1.0f / spark_sqrtf(ops_fold(square) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) {
        const float y = (x[i] - mean) * inv * w[i];
        out[i] = b ? y + b[i] : y;
    }
}

static void spark_k_add_ref(float *y, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) y[i] += x[i];
}

static void spark_k_scale_ref(float *x, float s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) x[i] *= s;
}

static void spark_k_axpy_ref(float *y, float w, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) y[i] = spark_fma(w, x[i], y[i]);
}

static void spark_k_silu_mul_ref(float *g, const float *u, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) g[i] = g[i] / (1.0f + spark_expf(-g[i])) * u[i];
}

/* gelu_tanh(x) = x / (1 + exp(-2 c x (1 + a x^2))): math_poly.h. */
static void spark_k_gelu_mul_ref(float *g, const float *u, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const float x = g[i], z = SPARK_GELU_2C * x * spark_fma(SPARK_GELU_A * x, x, 1.0f);
        g[i] = x / (1.0f + spark_expf(-z)) * u[i];
    }
}

static void spark_k_softcap_ref(float *x, float cap, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) x[i] = cap * spark_tanhf(x[i] / cap);
}

/* x = exp(x - max) * (1 / sum). The maximum is given as max + 0, so that no level shows which zero it met. */
static float spark_k_softmax_ref(float *x, uint32_t n)
{
    float max = x[0];
    for (uint32_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    max += 0.0f;
    float lane[OPS_LANES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        x[i] = spark_expf(x[i] - max);
        lane[i % OPS_LANES] += x[i];
    }
    const float inv = 1.0f / ops_fold(lane);
    for (uint32_t i = 0; i < n; i++) x[i] *= inv;
    return max;
}

static void spark_k_rope_ref(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rot_dim, int neighbours,
                             const float *cos, const float *sin)
{
    const uint32_t half = rot_dim / 2;
    for (uint32_t h = 0; h < n_heads; h++) {
        float *head = x + (size_t)h * head_dim;
        for (uint32_t i = 0; i < half; i++) {
            float *a = head + (neighbours ? 2 * i : i), *b = neighbours ? a + 1 : a + half;
            const float a0 = *a, b0 = *b;
            *a = spark_fma(-b0, sin[i], a0 * cos[i]);
            *b = spark_fma(a0, sin[i], b0 * cos[i]);
        }
    }
}

void spark__ops_init_ref(spark_kern *k)
{
    k->rms_norm = spark_k_rms_norm_ref;
    k->layer_norm = spark_k_layer_norm_ref;
    k->add = spark_k_add_ref;
    k->scale = spark_k_scale_ref;
    k->axpy = spark_k_axpy_ref;
    k->silu_mul = spark_k_silu_mul_ref;
    k->gelu_mul = spark_k_gelu_mul_ref;
    k->softcap = spark_k_softcap_ref;
    k->softmax = spark_k_softmax_ref;
    k->rope = spark_k_rope_ref;
}
