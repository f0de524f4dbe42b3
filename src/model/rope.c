/* rope.c - rotary positions: from the keys of a file to a frequency a pair, and from a position to cos and sin.
 * All in double with our own functions, rounded once to float32 (NUMERICS, "The rest"), so that every machine has the
 * same bits. cos and sin are made for the rows of each pass rather than kept for the whole context: a few microseconds
 * a row against megabytes and a slower start.
 * Sources: Su et al. 2021; Peng et al. 2023 (YaRN); Ding et al. 2024 (LongRoPE, by factors in the file). */
#include <assert.h>

#include "base/checked.h"
#include "model/model_internal.h"

#define ROPE_PI 3.14159265358979323846
/* Angles stay below 2^30, the range of spark_sincos64, at every position that a session can have. */
#define ROPE_MAX_FREQ ((double)(1u << 30) / SPARK_MAX_CTX)

spark_status spark__rope_bind(spark_net *n, spark_arena *a, spark_err *err)
{
    const net_rope_keys *k = &n->rope_keys;
    SPARK_CHECK(k->scaling != NET_SCALE_YARN || (k->base > 1.0f && k->beta_fast > k->beta_slow), err, SPARK_E_FORMAT,
                SPARK_ERR_NOWHERE, "YaRN with base %g and betas %g, %g has no meaning", (double)k->base,
                (double)k->beta_fast, (double)k->beta_slow);
    for (size_t i = 0; i < SPARK_COUNT(n->rope); i++) SPARK_TRY(SPARK_NEW(a, n->rot_dim / 2, &n->rope[i].freq, err));
    return SPARK_SUCCESS;
}

static double rope_floor(double x)
{
    const double t = (double)(int64_t)x;
    return t > x ? t - 1 : t;
}

/* The pair that turns `turns` times within the original context. */
static double rope_yarn_pair(const spark_net *n, double turns)
{
    const net_rope_keys *k = &n->rope_keys;
    return n->rot_dim * spark_log64(k->original_ctx / (turns * 2 * ROPE_PI)) / (2 * spark_log64((double)k->base));
}

/* How far pair i keeps its frequency: 1 = wholly, 0 = it is interpolated. The range is rounded outward. */
static double rope_yarn_keep(const spark_net *n, uint32_t i)
{
    double low = rope_floor(rope_yarn_pair(n, (double)n->rope_keys.beta_fast));
    double high = -rope_floor(-rope_yarn_pair(n, (double)n->rope_keys.beta_slow));
    if (low < 0) low = 0;
    if (high > n->rot_dim - 1) high = n->rot_dim - 1;
    const double width = high - low > 0.001 ? high - low : 0.001, y = (i - low) / width;
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

static spark_status rope_fill(spark_net *n, net_rope *r, double base, bool scaled, spark_err *err)
{
    const net_rope_keys *k = &n->rope_keys;
    const double factor = scaled && k->scaling != NET_SCALE_NONE ? (double)k->factor : 1;
    const bool yarn = scaled && k->scaling == NET_SCALE_YARN;
    for (uint32_t i = 0; i < n->rot_dim / 2; i++) {
        const double divisor = scaled && n->rope_factors.data ? (double)n->rope_factors.data[i] : 1;
        const double extended = spark_exp64(-2.0 * i / n->rot_dim * spark_log64(base)) / divisor;
        const double keep = yarn ? rope_yarn_keep(n, i) : 0;
        r->freq[i] = extended / factor * (1 - keep) + extended * keep;
        SPARK_CHECK(r->freq[i] >= 0 && r->freq[i] < ROPE_MAX_FREQ, err, SPARK_E_FORMAT, i,
                    "rotation factors: pair %u would turn by %g a position", i, r->freq[i]);
    }
    r->magnitude = (double)(scaled ? k->attn_factor : 1) * (yarn && factor > 1 ? 0.1 * spark_log64(factor) + 1 : 1);
    r->ready = true;
    return SPARK_SUCCESS;
}

spark_status spark__rope_ready(spark_net *n, spark_err *err)
{
    const float local = n->family->local_rope_base;
    SPARK_TRY(rope_fill(n, &n->rope[0], (double)n->rope_keys.base, true, err));
    return rope_fill(n, &n->rope[1], (double)(local != 0 ? local : n->rope_keys.base), local == 0, err);
}

void spark__rope_row(const net_rope *r, uint32_t rot_dim, uint32_t position, float *cos, float *sin)
{
    assert(r->ready && position < SPARK_MAX_CTX);
    for (uint32_t i = 0; i < rot_dim / 2; i++) {
        double s = 0, c = 0;
        spark_sincos64(position * r->freq[i], &s, &c);
        cos[i] = (float)(c * r->magnitude);
        sin[i] = (float)(s * r->magnitude);
    }
}
