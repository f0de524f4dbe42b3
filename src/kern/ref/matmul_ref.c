/* matmul_ref.c - activations as int8 and products with packed weights: the meaning. Source: NUMERICS.md.
 * A block of each of the 16 rows is put together as in the file and taken apart by quant.h, so that whatever a format's bytes
 * mean is said once. */
#include "kern/panel.h"
#include "kern/quant.h"
#include "kern/ref/fma.h"

/* ---- Activations ----------------------------------------------------------------------------------------------- */

/* The largest magnitude as bits: as integers they are ordered like the floats, and NaN lies above infinity. */
static uint32_t ref_max_bits(const float *x, uint32_t n)
{
    uint32_t max = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        u &= 0x7fffffff;
        if (u > max) max = u;
    }
    return max;
}

/* q[cap] from n <= cap values, the rest zero. Returns d; a block that is nearly zero is zero. */
static float ref_quantize(const float *x, uint32_t n, uint32_t max_bits, int8_t *q, uint32_t cap)
{
    float a;
    memcpy(&a, &max_bits, 4);
    memset(q, 0, cap);
    if (a < 1e-30f) return 0;
    const float inverse = 127.0f / a;
    for (uint32_t i = 0; i < n; i++) {
        const float magic = 0x1.8p23f; /* adding it rounds to an integer, to nearest even */
        q[i] = (int8_t)(x[i] * inverse + magic - magic);
    }
    return a / 127.0f;
}

static int ref_sum(const int8_t *q, uint32_t n)
{
    int sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += q[i];
    return sum;
}

static int ref_quantize_32(const float *x, uint32_t n, uint8_t *row)
{
    for (uint32_t k = 0; k < n; k += 32, row += sizeof(spark__act32)) {
        const uint32_t len = n - k < 32 ? n - k : 32, max = ref_max_bits(x + k, len);
        if (max >= 0x7f800000) return 0;
        spark__act32 a;
        a.d = ref_quantize(x + k, len, max, a.q, 32);
        const int sum = ref_sum(a.q, 32);
        a.sum = (float)sum;
        a.m8 = -8 * sum;
        a.m16 = -16 * sum;
        a.m128 = -128 * sum;
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int ref_quantize_256(const float *x, uint32_t n, uint8_t *row)
{
    for (uint32_t k = 0; k < n; k += 256, row += sizeof(spark__act256)) {
        const uint32_t len = n - k < 256 ? n - k : 256, max = ref_max_bits(x + k, len);
        if (max >= 0x7f800000) return 0;
        spark__act256 a = {0};
        a.d = ref_quantize(x + k, len, max, a.q, 256);
        for (unsigned i = 0; i < 32; i++) a.m8[i] = (int16_t)(-32 * ref_sum(a.q + 8 * i, 8));
        for (unsigned i = 0; i < 16; i++) a.m16[i] = (int16_t)(-16 * ref_sum(a.q + 16 * i, 16));
        for (unsigned i = 0; i < 8; i++) {
            a.sum32[i] = (int16_t)ref_sum(a.q + 32 * i, 32);
            a.m32[i] = (int16_t)(-8 * a.sum32[i]);
        }
        memcpy(row, &a, sizeof a);
    }
    return 1;
}

static int spark_k_quantize_ref(uint32_t act_block, const float *x, uint32_t n, uint8_t *row)
{
    if (act_block == 32) return ref_quantize_32(x, n, row);
    if (act_block == 256) return ref_quantize_256(x, n, row);
    memcpy(row, x, sizeof(float) * n);
    return ref_max_bits(x, n) < 0x7f800000;
}

/* ---- Products -------------------------------------------------------------------------------------------------- */

#define REF_TOKENS 16u /* tokens that share one taking apart of the weights */

/* One block of one row times one block of activations, added to the chain. */
static float ref_block(const spark_levels *l, bool has_min, const int8_t *q, uint32_t n, float dx, float acc)
{
    int32_t isum = 0, msum = 0;
    for (uint32_t g = 0; g < n / 16; g++) {
        int32_t dot = 0, sum = 0;
        for (uint32_t i = 16 * g; i < 16 * g + 16; i++) {
            dot += l->w[i] * q[i];
            sum += q[i];
        }
        isum += l->s[g] * dot;
        msum += l->m[g] * sum;
    }
    if (!has_min) return spark_fma(l->d * dx, (float)isum, acc);
    const float u = spark_fma(-l->dmin, (float)msum, l->d * (float)isum);
    return spark_fma(dx, u, acc);
}

static void ref_store(const spark_matmul_args *a, uint32_t row, uint32_t token, float y)
{
    a->out[token * a->out_stride + row] = a->bias ? y + a->bias[row] : y;
}

/* One row of a panel of quantized weights, tokens [t, t + n). */
static void ref_row(const spark_matmul_args *a, const uint8_t *panel, uint32_t row, uint32_t t, uint32_t n)
{
    const spark_type_info *type = spark_type_lookup(a->w->type);
    const uint32_t elems = type->block_elems;
    const size_t act_bytes = elems == 32 ? sizeof(spark__act32) : sizeof(spark__act256);
    const size_t q_at = elems == 32 ? offsetof(spark__act32, q) : offsetof(spark__act256, q);
    float acc[REF_TOKENS] = {0};
    for (uint32_t b = 0; b < a->w->n_cols / elems; b++) {
        uint8_t block[PANEL_BLOCK_MAX];
        spark_levels l;
        spark__panel_block(a->w->type, panel, b, row % PANEL_ROWS, block);
        spark_block_levels(a->w->type, block, &l);
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *act = a->acts + (t + i) * a->act_stride + b * act_bytes;
            float dx;
            memcpy(&dx, act, 4);
            acc[i] = ref_block(&l, panel_has_min(a->w->type), (const int8_t *)act + q_at, elems, dx, acc[i]);
        }
    }
    for (uint32_t i = 0; i < n; i++) ref_store(a, row, t + i, acc[i]);
}

static void spark_k_matmul_quant_ref(const spark_matmul_args *a)
{
    for (uint32_t row = a->panel_begin * PANEL_ROWS; row < a->panel_end * PANEL_ROWS && row < a->w->n_rows; row++)
        for (uint32_t t = 0; t < a->n_tokens; t += REF_TOKENS)
            ref_row(a, a->w->data + row / PANEL_ROWS * a->w->panel_bytes, row, t,
                    a->n_tokens - t < REF_TOKENS ? a->n_tokens - t : REF_TOKENS);
}

static float ref_weight(spark_type type, const uint8_t *panel, uint32_t k, uint32_t r)
{
    const size_t at = (size_t)k * PANEL_ROWS + r;
    uint16_t bits;
    float w;
    if (type == SPARK_TYPE_F32) {
        memcpy(&w, panel + 4 * at, 4);
        return w;
    }
    memcpy(&bits, panel + 2 * at, 2);
    return type == SPARK_TYPE_F16 ? spark_f16_to_f32(bits) : spark_bf16_to_f32(bits);
}

static void spark_k_matmul_float_ref(const spark_matmul_args *a)
{
    const uint32_t n = a->w->n_cols;
    for (uint32_t row = a->panel_begin * PANEL_ROWS; row < a->panel_end * PANEL_ROWS && row < a->w->n_rows; row++) {
        const uint8_t *panel = a->w->data + row / PANEL_ROWS * a->w->panel_bytes;
        for (uint32_t t = 0; t < a->n_tokens; t++) {
            const uint8_t *x = a->acts + t * a->act_stride;
            float acc = 0;
            for (uint32_t k = 0; k < n;) {
                float s = 0;
                for (const uint32_t end = n - k < 32 ? n : k + 32; k < end; k++) {
                    float xk;
                    memcpy(&xk, x + 4 * (size_t)k, 4);
                    s = spark_fma(ref_weight(a->w->type, panel, k, row % PANEL_ROWS), xk, s);
                }
                acc = acc + s;
            }
            ref_store(a, row, t, acc);
        }
    }
}

void spark__matmul_init_ref(spark_kern *k)
{
    k->quantize = spark_k_quantize_ref;
    for (uint32_t id = 0; id < SPARK_N_TYPES; id++) {
        const spark_type_info *t = spark_type_lookup(id);
        if (t) k->matmul[id] = t->act_block ? spark_k_matmul_quant_ref : spark_k_matmul_float_ref;
    }
}
