/* kern_check_wrong.c - for each slot besides the products a kernel that is wrong on purpose, in the way that such a kernel goes
 * wrong: a tail, a fused step, a sign of zero, what lies behind the end, a flag. The walk must catch each, so a slot that it
 * leaves out shows too. Those of the products: kern_check_matmul.c. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kern_check.h"

static spark_kern wrong_right; /* what the wrong ones start from */
enum { WRONG_ROWS = 1024 };    /* of a call of attention, at most */

#define WRONG(slot)                                                                                                    \
    static void wrong_put_##slot(spark_kern *k) { k->slot = wrong_##slot; }

static int wrong_quantize(uint32_t act_block, const float *x, uint32_t n, uint8_t *row) /* NaN is not looked for */
{
    const int ok = wrong_right.quantize(act_block, x, n, row);
    for (uint32_t i = 0; i < n; i++)
        if (isnan(x[i])) return 1;
    return ok;
}
WRONG(quantize)

static void wrong_rms_norm(float *out, const float *x, const float *w, uint32_t n, float eps) /* a tail of one */
{
    const float last = out[n - 1];
    wrong_right.rms_norm(out, x, w, n, eps);
    if (n % 16 == 1) out[n - 1] = last;
}
WRONG(rms_norm)

static void wrong_layer_norm(float *out, const float *x, const float *w, const float *b, uint32_t n, float eps)
{
    wrong_right.layer_norm(out, x, w, b, n, eps);
    if (n > 8) out[7] = nextafterf(out[7], 0.0f); /* rounded elsewhere */
}
WRONG(layer_norm)

static void wrong_add(float *y, const float *x, uint32_t n) /* -0 + -0 is -0 */
{
    wrong_right.add(y, x, n);
    for (uint32_t i = 0; i < n; i++) y[i] += 0.0f;
}
WRONG(add)

static void wrong_scale(float *x, float s, uint32_t n)
{
    wrong_right.scale(x, s, n);
    const volatile float *end = x + n;
    (void)*end; /* reads past the end */
}
WRONG(scale)

static void wrong_axpy(float *y, float w, const float *x, uint32_t n) /* the product rounds by itself */
{
    for (uint32_t i = 0; i < n; i++) {
        const volatile float product = w * x[i];
        y[i] = product + y[i];
    }
}
WRONG(axpy)

static void wrong_silu_mul(float *g, const float *u, uint32_t n) /* subnormal results are flushed */
{
    wrong_right.silu_mul(g, u, n);
    for (uint32_t i = 0; i < n; i++)
        if (fabsf(g[i]) < FLT_MIN) g[i] = copysignf(0.0f, g[i]);
}
WRONG(silu_mul)

static void wrong_gelu_mul(float *g, const float *u, uint32_t n) /* two lanes of a vector change places */
{
    wrong_right.gelu_mul(g, u, n);
    if (n < 8) return;
    const float third = g[3];
    g[3] = g[4];
    g[4] = third;
}
WRONG(gelu_mul)

static void wrong_softcap(float *x, float cap, uint32_t n) /* the last bit of one value of a long row */
{
    wrong_right.softcap(x, cap, n);
    if (n > 4096) x[4096] = nextafterf(x[4096], 2 * cap);
}
WRONG(softcap)

static float wrong_softmax(float *x, uint32_t n) /* the row is right, what is returned is not */
{
    const float most = wrong_right.softmax(x, n);
    return n % 2 ? most : nextafterf(most, 0.0f);
}
WRONG(softmax)

static void wrong_rope(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t rot_dim, int neighbours,
                       const float *cos, const float *sin) /* an odd last pair is left out */
{
    const uint32_t odd = neighbours && rot_dim / 2 % 2 ? 2 : 0;
    wrong_right.rope(x, n_heads, head_dim, rot_dim - odd, neighbours, cos, sin);
}
WRONG(rope)

static int wrong_kv_store(spark_kv_type type, uint32_t head_dim_k, uint32_t head_dim_v, uint8_t *block,
                          uint32_t position, const float *k, const float *v) /* the last position of a group */
{
    const uint32_t at = position % 16 == 15 ? position - 1 : position;
    return wrong_right.kv_store(type, head_dim_k, head_dim_v, block, at, k, v);
}
WRONG(kv_store)

static int wrong_write(spark_kv_type type, uint32_t head_dim_k, uint32_t head_dim_v, uint8_t *block, uint32_t position,
                       const float *k, const float *v) /* writes, and then refuses */
{
    static const float zeros[WRONG_ROWS];
    const int ok = wrong_right.kv_store(type, head_dim_k, head_dim_v, block, position, k, v);
    if (!ok) (void)wrong_right.kv_store(type, head_dim_k, head_dim_v, block, position, zeros, zeros);
    return ok;
}
static void wrong_put_write(spark_kern *k) { k->kv_store = wrong_write; }

static void wrong_attn(const spark_attn_args *a) /* a window one too wide */
{
    static uint32_t first[WRONG_ROWS];
    spark_attn_args b = *a;
    for (uint32_t r = 0; r < a->n_rows; r++) first[r] = a->first[r] ? a->first[r] - 1 : 0;
    b.first = first;
    wrong_right.attn(&b);
}
WRONG(attn)

static void wrong_attn_part(const spark_attn_args *a, uint32_t begin, uint32_t end, float *parts) /* no cap */
{
    spark_attn_args b = *a;
    b.softcap = 0;
    wrong_right.attn_part(&b, begin, end, parts);
}
WRONG(attn_part)

static void wrong_attn_merge(const spark_attn_args *a, uint32_t begin, uint32_t end, const float *parts) /* no sink */
{
    spark_attn_args b = *a;
    b.sink = NULL;
    wrong_right.attn_merge(&b, begin, end, parts);
}
WRONG(attn_merge)

static const struct {
    const char *name, *cases; /* of the walk that must fail */
    void (*put)(spark_kern *k);
} wrong_all[] = {
    {"quantize: takes a NaN", "quantize/", wrong_put_quantize},
    {"rms_norm: a tail of one", "rms_norm", wrong_put_rms_norm},
    {"layer_norm: rounds elsewhere", "layer_norm", wrong_put_layer_norm},
    {"add: loses a sign of zero", "add", wrong_put_add},
    {"scale: reads past the end", "scale", wrong_put_scale},
    {"axpy: not fused", "axpy", wrong_put_axpy},
    {"silu_mul: flushes subnormals", "silu_mul", wrong_put_silu_mul},
    {"gelu_mul: two lanes changed", "gelu_mul", wrong_put_gelu_mul},
    {"softcap: one bit, once", "softcap", wrong_put_softcap},
    {"softmax: the wrong maximum", "softmax", wrong_put_softmax},
    {"rope: an odd pair left out", "rope", wrong_put_rope},
    {"kv_store: a place beside it", "attn/f16", wrong_put_kv_store},
    {"kv_store: writes and refuses", "kv_store/q8_0", wrong_put_write},
    {"attn: a window too wide", "attn/f16", wrong_put_attn},
    {"attn_part: no cap", "attn/f16", wrong_put_attn_part},
    {"attn_merge: no sink", "attn/f16", wrong_put_attn_merge},
};

/* The slots of the table, one pointer each; those of the products are told apart by type, and are not looked at here. */
enum { WRONG_SLOTS = sizeof(spark_kern) / sizeof(void *) };

static void wrong_mark(bool changed[WRONG_SLOTS], const spark_kern *now)
{
    for (size_t i = 0; i < WRONG_SLOTS; i++) {
        const size_t at = i * sizeof(void *);
        changed[i] |= memcmp((const char *)now + at, (const char *)&wrong_right + at, sizeof(void *)) != 0;
    }
}

static unsigned wrong_forgotten(const bool changed[WRONG_SLOTS])
{
    unsigned n = 0;
    for (size_t i = offsetof(spark_kern, quantize) / sizeof(void *); i < WRONG_SLOTS; i++) {
        const size_t at = i * sizeof(void *), products = offsetof(spark_kern, matmul);
        if (changed[i] || (at >= products && at < products + sizeof wrong_right.matmul)) continue;
        printf("self     slot at byte %-16zu HAS NO WRONG KERNEL\n", at);
        n++;
    }
    return n;
}

unsigned kern_check_wrong(kern_check *kc)
{
    static spark_kern now;
    bool changed[WRONG_SLOTS] = {false};
    unsigned missed = 0;
    spark_kern_init(&wrong_right, SPARK_ISA_SCALAR);
    for (size_t i = 0; i < SPARK_COUNT(wrong_all); i++) {
        kern_check probe = {
            .seed = kc->seed, .quiet = true, .base = &wrong_right, .now = &now, .filter = wrong_all[i].cases};
        if (kc->filter && !strstr(wrong_all[i].cases, kc->filter)) continue;
        now = wrong_right;
        wrong_all[i].put(&now);
        wrong_mark(changed, &now);
        kern_check_matmul(&probe);
        kern_check_ops(&probe);
        printf("self     %-28s %s\n", wrong_all[i].name, probe.n_failed ? "caught" : "NOT CAUGHT");
        missed += probe.n_failed == 0;
    }
    return missed + (kc->filter ? 0 : wrong_forgotten(changed));
}
