/* ops_test.c - what the references promise beyond being the reference: how far they lie from exact arithmetic, which
 * positions attention reads, and that splitting changes nothing. The levels are compared with them in kern_check. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/fpenv.h"
#include "base/test.h"
#include "kern/kern.h"
#include "kern/ops.h"
#include "kern/ref/sqrt.h"

/* Largest errors in units in the last place, measured over all floats in steps of 37 (here: 4001). */
#define EXP_ULP    0.95
#define TANH_ULP   1.35
#define LOG_ULP    0.95
#define ERF_ULP    1.45
#define DOUBLE_ULP 1.0 /* exp64, log64, sincos64; the contract says 2 */

static uint64_t test_state;
static uint32_t test_random(void)
{
    test_state = test_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(test_state >> 33);
}
static float test_unit(void) { return (float)(test_random() % 2000001) / 1000000.0f - 1.0f; }
static void test_fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) x[i] = test_unit() * scale;
}
static float test_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static double ulps(double got, double want, int digits, int least)
{
    int e;
    frexp(want, &e);
    const int u = e - digits > least ? e - digits : least;
    return fabs(got - want) / ldexp(1, u);
}
static double ulps_float(float got, double want) { return ulps((double)got, want, 24, -149); }

static spark_kern test_kern(void)
{
    spark_kern k = {.isa = SPARK_ISA_SCALAR};
    spark_kern_ops_init(&k, SPARK_ISA_SCALAR);
    return k;
}

/* ---- Functions ------------------------------------------------------------------------------------------------- */

#define STEP 4001u
static double worst(float (*f)(float), double (*exact)(double), float from, float to)
{
    double max = 0;
    for (uint32_t u = 0; u < 0x7f800000u - STEP; u += STEP) {
        const float a = test_from_bits(u);
        for (int sign = 0; sign < 2; sign++) {
            const float x = sign ? -a : a;
            if (x < from || x > to) continue;
            const double e = ulps_float(f(x), exact((double)x));
            max = e > max ? e : max;
        }
    }
    return max;
}

static void test_float_functions_stay_within_their_bounds(void **state)
{
    (void)state;
    assert_true(worst(spark_expf, exp, -87.0f, 88.72283f) <= EXP_ULP);
    assert_true(worst(spark_tanhf, tanh, -FLT_MAX, FLT_MAX) <= TANH_ULP);
    assert_true(worst(spark_logf, log, 1e-45f, FLT_MAX) <= LOG_ULP);
    assert_true(worst(spark_erff, erf, -FLT_MAX, FLT_MAX) <= ERF_ULP);
}

static void test_exp_is_zero_below_minus_87_and_infinite_above_its_maximum(void **state)
{
    (void)state;
    const uint32_t plus_zero = 0;
    const float below[] = {-87.00001f, -100.0f, -FLT_MAX, -INFINITY};
    for (size_t i = 0; i < SPARK_COUNT(below); i++) {
        const float y = spark_expf(below[i]);
        assert_memory_equal(&y, &plus_zero, sizeof y);
    }
    assert_true(spark_expf(-87.0f) > 0);
    assert_true(spark_expf(0.0f) == 1.0f && spark_expf(-0.0f) == 1.0f);
    assert_true(isfinite(spark_expf(88.72283f)));
    assert_true(isinf(spark_expf(nextafterf(88.72283f, 100.0f))) && isinf(spark_expf(INFINITY)));
}

static void test_odd_functions_keep_the_sign_of_zero_and_saturate(void **state)
{
    (void)state;
    assert_true(signbit(spark_tanhf(-0.0f)) && !signbit(spark_tanhf(0.0f)) && signbit(spark_erff(-0.0f)));
    assert_true(spark_tanhf(INFINITY) == 1.0f && spark_tanhf(-20.0f) == -1.0f && spark_erff(-INFINITY) == -1.0f);
}

static double test_spread(void) { return (double)test_random() / 2147483648.0 * 2.0 - 1.0; }

static void test_double_functions_stay_within_their_bounds(void **state)
{
    (void)state;
#if LDBL_MANT_DIG <= DBL_MANT_DIG
    skip();
#endif
    double e = 0;
    for (int i = 0; i < 200000; i++) {
        double x = test_spread() * (i % 2 ? 700 : 2), s, c;
        const long double exp_x = expl(x);
        e = fmax(e, (double)(fabsl(spark_exp64(x) - exp_x)) / ldexp(1, ilogb((double)exp_x) - 52));
        x = exp(test_spread() * (i % 2 ? 700 : 1));
        const long double log_x = logl(x);
        e = fmax(e, (double)(fabsl(spark_log64(x) - log_x)) / ldexp(1, ilogb((double)log_x) - 52));
        x = exp(test_spread() * (i % 2 ? 20.7 : 2));
        if (i % 7 == 0)
            x = (double)(test_random() % 600000000) * 1.57079632679489661923; /* next to multiples of pi / 2 */
        spark_sincos64(x, &s, &c);
        const long double sin_x = sinl(x), cos_x = cosl(x);
        e = fmax(e, (double)fabsl(s - sin_x) / ldexp(1, ilogb((double)sin_x) - 52));
        e = fmax(e, (double)fabsl(c - cos_x) / ldexp(1, ilogb((double)cos_x) - 52));
    }
    assert_true(e <= DOUBLE_ULP);
}

static void test_sine_is_odd_cosine_even_and_zero_exact(void **state)
{
    (void)state;
    double s, c, s2, c2;
    spark_sincos64(0, &s, &c);
    assert_true(s == 0 && c == 1);
    for (int i = 0; i < 1000; i++) {
        const double x = test_spread() * 1e6;
        spark_sincos64(x, &s, &c);
        spark_sincos64(-x, &s2, &c2);
        assert_true(s == -s2 && c == c2);
    }
}

static void test_square_root_without_instruction_is_the_ieee_root(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 0x7f800000u - 997; u += 997) {
        const float x = test_from_bits(u), a = spark_sqrtf_soft(x), b = sqrtf(x);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

/* ---- Rows ------------------------------------------------------------------------------------------------------ */

static void test_norms_agree_with_double(void **state)
{
    (void)state;
    const spark_kern k = test_kern();
    float x[1000], w[1000], b[1000], y[1000];
    const uint32_t sizes[] = {1, 31, 32, 33, 64, 1000};
    for (size_t s = 0; s < SPARK_COUNT(sizes); s++) {
        const uint32_t n = sizes[s];
        test_fill(x, n, 3), test_fill(w, n, 1), test_fill(b, n, 1);
        double sum = 0, square = 0, var = 0;
        for (uint32_t i = 0; i < n; i++) sum += (double)x[i];
        for (uint32_t i = 0; i < n; i++) square += (double)x[i] * (double)x[i];
        for (uint32_t i = 0; i < n; i++) var += ((double)x[i] - sum / n) * ((double)x[i] - sum / n);
        k.rms_norm(y, x, w, n, 1e-5f);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(fabs((double)y[i] - (double)x[i] / sqrt(square / n + 1e-5) * (double)w[i]) < 2e-6);
        }
        k.layer_norm(y, x, w, b, n, 1e-5f);
        for (uint32_t i = 0; i < n; i++) {
            const double want = ((double)x[i] - sum / n) / sqrt(var / n + 1e-5) * (double)w[i] + (double)b[i];
            assert_true(fabs((double)y[i] - want) < 2e-6);
        }
        float z[1000];
        memcpy(z, x, sizeof z);
        k.layer_norm(z, z, w, b, n, 1e-5f); /* in place gives the same */
        assert_memory_equal(z, y, n * sizeof *y);
    }
}

static void test_activations_agree_with_double(void **state)
{
    (void)state;
    const spark_kern k = test_kern();
    for (int i = 0; i < 100000; i++) {
        const float x = test_unit() * (i % 3 == 0 ? 100.0f : 6.0f), u = test_unit();
        const double d = (double)x;
        float g = x;
        k.silu_mul(&g, &u, 1);
        assert_true(fabs((double)g - d / (1 + exp(-d)) * (double)u) <= 1e-6 * (1 + fabs(d)));
        g = x;
        k.gelu_mul(&g, &u, 1);
        const double want = 0.5 * d * (1 + tanh(sqrt(2 / 3.14159265358979324) * (d + 0.044715 * d * d * d)));
        assert_true(fabs((double)g - want * (double)u) <= 1e-6 * (1 + fabs(d)));
        g = x;
        k.softcap(&g, 30.0f, 1);
        assert_true(fabs((double)g - 30 * tanh(d / 30)) <= 4e-6);
    }
}

static void test_softmax_sums_to_one_and_returns_the_maximum(void **state)
{
    (void)state;
    const spark_kern k = test_kern();
    float x[777], y[777];
    test_fill(x, SPARK_COUNT(x), 20);
    memcpy(y, x, sizeof x);
    const float max = k.softmax(y, SPARK_COUNT(y));
    double sum = 0, total = 0;
    float want = x[0];
    for (size_t i = 0; i < SPARK_COUNT(x); i++) want = fmaxf(want, x[i]);
    assert_true(max == want);
    for (size_t i = 0; i < SPARK_COUNT(x); i++) total += exp((double)x[i] - (double)max);
    for (size_t i = 0; i < SPARK_COUNT(x); i++) {
        sum += (double)y[i];
        assert_true(fabs((double)y[i] - exp((double)x[i] - (double)max) / total) < 2e-7);
    }
    assert_true(fabs(sum - 1) < 1e-6);
}

static void test_softmax_does_not_show_which_zero_was_the_maximum(void **state)
{
    (void)state;
    const spark_kern k = test_kern();
    float x[2] = {-0.0f, -0.0f};
    assert_false(signbit(k.softmax(x, 2)));
}

static void test_rope_rotates_both_kinds_of_pairs(void **state)
{
    (void)state;
    const spark_kern k = test_kern();
    enum { HEADS = 3, DIM = 40, ROT = 24 };
    float x[HEADS * DIM], y[HEADS * DIM], c[ROT / 2], s[ROT / 2];
    for (int neighbours = 0; neighbours < 2; neighbours++) {
        test_fill(x, SPARK_COUNT(x), 2);
        for (int i = 0; i < ROT / 2; i++) c[i] = (float)cos(i * 0.7);
        for (int i = 0; i < ROT / 2; i++) s[i] = (float)sin(i * 0.7);
        memcpy(y, x, sizeof x);
        k.rope(y, HEADS, DIM, ROT, neighbours, c, s);
        for (int h = 0; h < HEADS; h++) {
            for (int i = 0; i < ROT / 2; i++) {
                const int ia = h * DIM + (neighbours ? 2 * i : i), ib = ia + (neighbours ? 1 : ROT / 2);
                const double a = (double)x[ia], b = (double)x[ib];
                assert_true(fabs((double)y[ia] - (a * cos(i * 0.7) - b * sin(i * 0.7))) < 1e-6);
                assert_true(fabs((double)y[ib] - (b * cos(i * 0.7) + a * sin(i * 0.7))) < 1e-6);
            }
            assert_memory_equal(y + h * DIM + ROT, x + h * DIM + ROT, (DIM - ROT) * sizeof *x);
        }
    }
}

/* ---- Attention ------------------------------------------------------------------------------------------------- */

#define CTX     400u
#define ROWS    6u
#define MAX_DIM 48u

/* One head of CTX positions with everything attention needs; k and v keep what was stored, unrounded. */
typedef struct attn_case {
    spark_attn_args a;
    const uint8_t *blocks[(CTX + 127) / 128];
    float k[CTX][MAX_DIM], v[CTX][MAX_DIM], q[ROWS][MAX_DIM], out[ROWS][MAX_DIM], sink[ROWS];
    size_t q_offset[ROWS], out_offset[ROWS];
    uint32_t first[ROWS], last[ROWS];
} attn_case;

static attn_case *attn_case_new(const spark_kern *kern, spark_kv_type type, uint32_t dk, uint32_t dv)
{
    attn_case *c = calloc(1, sizeof *c);
    assert_non_null(c);
    const size_t bytes = spark_kv_block_bytes(type, dk, dv);
    assert_int_equal(bytes % 64, 0);
    for (size_t b = 0; b < SPARK_COUNT(c->blocks); b++) {
        uint8_t *block = aligned_alloc(64, bytes);
        assert_non_null(block);
        memset(block, 0, bytes);
        c->blocks[b] = block;
        for (uint32_t i = 0; i < 128 && b * 128 + i < CTX; i++) {
            const size_t p = b * 128 + i;
            test_fill(c->k[p], dk, 1), test_fill(c->v[p], dv, 1);
            assert_int_equal(kern->kv_store(type, dk, dv, block, i, c->k[p], c->v[p]), 1);
        }
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        test_fill(c->q[r], dk, 2);
        c->sink[r] = test_unit();
        c->q_offset[r] = c->out_offset[r] = r * MAX_DIM;
    }
    const uint32_t first[ROWS] = {0, 0, 0, 100, 128, 130}, last[ROWS] = {0, 127, 399, 299, 255, 383};
    memcpy(c->first, first, sizeof first);
    memcpy(c->last, last, sizeof last);
    c->a = (spark_attn_args){.type = type, .head_dim_k = dk, .head_dim_v = dv, .blocks = c->blocks, .n_rows = ROWS};
    c->a.q = c->q[0];
    c->a.out = c->out[0];
    c->a.q_offset = c->q_offset;
    c->a.out_offset = c->out_offset;
    c->a.first = c->first;
    c->a.last = c->last;
    c->a.scale = 0.3f;
    c->a.scratch = aligned_alloc(64, spark_attn_scratch(dk, dv, ROWS));
    assert_non_null(c->a.scratch);
    return c;
}

static void attn_case_free(attn_case *c)
{
    for (size_t b = 0; b < SPARK_COUNT(c->blocks); b++) free((void *)(uintptr_t)c->blocks[b]);
    free(c->a.scratch);
    free(c);
}

/* Largest difference between the row's output and softmax in double over the unrounded keys and values. */
static double attn_case_error(const attn_case *c, uint32_t r)
{
    double s[CTX], max = c->a.sink ? (double)c->sink[r] : -1e300, sum = 0, error = 0;
    for (uint32_t p = c->first[r]; p <= c->last[r]; p++) {
        s[p] = 0;
        for (uint32_t i = 0; i < c->a.head_dim_k; i++) s[p] += (double)c->q[r][i] * (double)c->k[p][i];
        s[p] *= (double)c->a.scale;
        if (c->a.softcap != 0) s[p] = (double)c->a.softcap * tanh(s[p] / (double)c->a.softcap);
        max = fmax(max, s[p]);
    }
    for (uint32_t p = c->first[r]; p <= c->last[r]; p++) sum += exp(s[p] - max);
    if (c->a.sink) sum += exp((double)c->sink[r] - max);
    for (uint32_t i = 0; i < c->a.head_dim_v; i++) {
        double o = 0;
        for (uint32_t p = c->first[r]; p <= c->last[r]; p++) o += exp(s[p] - max) / sum * (double)c->v[p][i];
        error = fmax(error, fabs(o - (double)c->out[r][i]));
    }
    return error;
}

/* The bound is the rounding of the stored values: 2^-24, 2^-11 of 1, and half a level of 127. */
static const double attn_bound[SPARK_N_KV_TYPES] = {2e-6, 2e-3, 2e-2};

static void test_attention_agrees_with_softmax_in_double(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    const uint32_t dims[][2] = {{8, 8}, {16, 24}, {24, 16}, {33, 1}, {48, 48}};
    for (spark_kv_type type = SPARK_KV_F32; type < SPARK_N_KV_TYPES; type++) {
        for (size_t i = 0; i < SPARK_COUNT(dims); i++) {
            attn_case *c = attn_case_new(&kern, type, dims[i][0], dims[i][1]);
            for (int variant = 0; variant < 4; variant++) {
                c->a.softcap = variant & 1 ? 2.0f : 0.0f;
                c->a.sink = variant & 2 ? c->sink : NULL;
                kern.attn(&c->a);
                for (uint32_t r = 0; r < ROWS; r++) assert_true(attn_case_error(c, r) < attn_bound[type]);
            }
            attn_case_free(c);
        }
    }
}

static void test_attention_in_parts_gives_the_same_bits(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    for (spark_kv_type type = SPARK_KV_F32; type < SPARK_N_KV_TYPES; type++) {
        attn_case *c = attn_case_new(&kern, type, 24, 40);
        c->a.sink = c->sink;
        kern.attn(&c->a);
        float want[ROWS][MAX_DIM];
        memcpy(want, c->out, sizeof want);
        const uint32_t n = (uint32_t)SPARK_COUNT(c->blocks);
        const size_t size = (size_t)SPARK_ATTN_PART(40) * ROWS;
        float *parts = calloc(n * size, sizeof *parts);
        assert_non_null(parts);
        for (uint32_t split = 0; split <= n; split++) { /* blocks [0, split) and [split, n) by two threads */
            memset(c->out, 0, sizeof c->out);
            kern.attn_part(&c->a, split, n, parts + split * size);
            kern.attn_part(&c->a, 0, split, parts);
            kern.attn_merge(&c->a, 0, n, parts);
            assert_memory_equal(c->out, want, sizeof want);
        }
        free(parts);
        attn_case_free(c);
    }
}

static void test_attention_rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    attn_case *c = attn_case_new(&kern, SPARK_KV_F16, 16, 16);
    kern.attn(&c->a);
    for (uint32_t r = 0; r < ROWS; r++) {
        float want[MAX_DIM];
        memcpy(want, c->out[r], sizeof want);
        memset(c->out[r], 0, sizeof want);
        spark_attn_args one = c->a;
        one.n_rows = 1;
        one.q_offset += r;
        one.out_offset += r;
        one.first += r;
        one.last += r;
        kern.attn(&one);
        assert_memory_equal(c->out[r], want, sizeof want);
    }
    attn_case_free(c);
}

static void test_attention_does_not_visit_positions_outside_a_row(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    for (spark_kv_type type = SPARK_KV_F32; type < SPARK_N_KV_TYPES; type++) {
        attn_case *c = attn_case_new(&kern, type, 16, 16);
        for (uint32_t r = 0; r < ROWS; r++) c->first[r] = 130;
        for (uint32_t r = 0; r < ROWS; r++) c->last[r] = 270;
        kern.attn(&c->a);
        float want[ROWS][MAX_DIM], other[16];
        memcpy(want, c->out, sizeof want);
        for (uint32_t p = 0; p < CTX; p++) { /* whatever else lies there, and how large */
            test_fill(other, SPARK_COUNT(other), 1e4f);
            if (p >= 130 && p <= 270) continue;
            assert_int_equal(
                kern.kv_store(type, 16, 16, (uint8_t *)(uintptr_t)c->blocks[p / 128], p % 128, other, other), 1);
        }
        kern.attn(&c->a);
        assert_memory_equal(c->out, want, sizeof want);
        attn_case_free(c);
    }
}

static void test_attention_of_a_row_that_sees_nothing_is_zero(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    attn_case *c = attn_case_new(&kern, SPARK_KV_F32, 8, 8);
    c->first[2] = 5;
    c->last[2] = 4;
    c->out[2][0] = 7;
    kern.attn(&c->a);
    for (uint32_t i = 0; i < 8; i++) assert_true(c->out[2][i] == 0);
    attn_case_free(c);
}

/* ---- Storing --------------------------------------------------------------------------------------------------- */

static void test_store_refuses_what_is_not_finite_and_writes_nothing(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    const float bad[] = {INFINITY, -INFINITY, NAN};
    for (spark_kv_type type = SPARK_KV_F32; type < SPARK_N_KV_TYPES; type++) {
        const size_t bytes = spark_kv_block_bytes(type, 33, 33);
        uint8_t *block = calloc(2, bytes);
        assert_non_null(block);
        for (size_t i = 0; i < SPARK_COUNT(bad) * 2; i++) {
            float k[33] = {1}, v[33] = {1};
            (i % 2 ? k : v)[32] = bad[i / 2];
            assert_int_equal(kern.kv_store(type, 33, 33, block, 5, k, v), 0);
        }
        assert_memory_equal(block, block + bytes, bytes);
        free(block);
    }
}

static void test_store_clamps_halves(void **state)
{
    (void)state;
    const spark_kern kern = test_kern();
    attn_case *c = attn_case_new(&kern, SPARK_KV_F16, 1, 1);
    const float zero = 0, large = 1e30f;
    assert_int_equal(kern.kv_store(SPARK_KV_F16, 1, 1, (uint8_t *)(uintptr_t)c->blocks[0], 0, &zero, &large), 1);
    kern.attn(&c->a);
    assert_true(c->out[0][0] == 65504.0f); /* row 0 sees position 0 only */
    attn_case_free(c);
}

static void test_levels_stay_within_127_and_tiny_blocks_are_zero(void **state)
{
    (void)state;
    float x[40], d[2];
    int8_t levels[40];
    for (int i = 0; i < 1000; i++) {
        test_fill(x, 40, ldexpf(1, i % 200 - 90));
        spark__kv_quantize_ref(x, 40, levels, d);
        for (int j = 0; j < 40; j++) {
            assert_in_range(levels[j] + 127, 0, 254);
            const double error = fabs((double)d[j / 32] * levels[j] - (double)x[j]);
            assert_true(error <= 0.50001 * (double)d[j / 32] || fabs((double)x[j]) < 1e-30);
        }
    }
    test_fill(x, 40, 9e-31f);
    spark__kv_quantize_ref(x, 40, levels, d);
    for (int j = 0; j < 40; j++) assert_int_equal(levels[j], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float_functions_stay_within_their_bounds),
        cmocka_unit_test(test_exp_is_zero_below_minus_87_and_infinite_above_its_maximum),
        cmocka_unit_test(test_odd_functions_keep_the_sign_of_zero_and_saturate),
        cmocka_unit_test(test_double_functions_stay_within_their_bounds),
        cmocka_unit_test(test_sine_is_odd_cosine_even_and_zero_exact),
        cmocka_unit_test(test_square_root_without_instruction_is_the_ieee_root),
        cmocka_unit_test(test_norms_agree_with_double),
        cmocka_unit_test(test_activations_agree_with_double),
        cmocka_unit_test(test_softmax_sums_to_one_and_returns_the_maximum),
        cmocka_unit_test(test_softmax_does_not_show_which_zero_was_the_maximum),
        cmocka_unit_test(test_rope_rotates_both_kinds_of_pairs),
        cmocka_unit_test(test_attention_agrees_with_softmax_in_double),
        cmocka_unit_test(test_attention_in_parts_gives_the_same_bits),
        cmocka_unit_test(test_attention_rows_do_not_depend_on_their_neighbours),
        cmocka_unit_test(test_attention_does_not_visit_positions_outside_a_row),
        cmocka_unit_test(test_attention_of_a_row_that_sees_nothing_is_zero),
        cmocka_unit_test(test_store_refuses_what_is_not_finite_and_writes_nothing),
        cmocka_unit_test(test_store_clamps_halves),
        cmocka_unit_test(test_levels_stay_within_127_and_tiny_blocks_are_zero),
    };
    const spark_fpenv saved = spark_fpenv_enter();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    spark_fpenv_leave(saved);
    return failed;
}
