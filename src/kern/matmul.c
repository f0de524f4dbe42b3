/* matmul.c - the products' part of the table: sizes, and which level fills which slot. */
#include <assert.h>

#include "kern/arm/arm.h"
#include "kern/kern_internal.h"
#include "kern/panel.h"

size_t spark_act_bytes(spark_type type, uint32_t n_cols)
{
    return (spark_act_at(type, n_cols) + PANEL_LINE - 1) / PANEL_LINE * PANEL_LINE;
}

size_t spark_act_at(spark_type type, uint32_t col)
{
    const spark_type_info *t = spark_type_lookup(type);
    assert(t);
    const size_t n = col;
    return t->act_block == 0    ? 4 * n
           : t->act_block == 32 ? (n + 31) / 32 * sizeof(spark__act32)
                                : (n + 255) / 256 * sizeof(spark__act256);
}

/* What a thread needs does not grow with the shape: products go over k and over the tokens in chunks. */
size_t spark_matmul_scratch(spark_type type, uint32_t n_cols, uint32_t n_tokens)
{
    (void)type, (void)n_cols, (void)n_tokens;
    return PANEL_SCRATCH;
}

void spark_kern_matmul_init(spark_kern *k, spark_isa isa)
{
    spark__matmul_init_ref(k);
#if defined(__x86_64__)
    if (isa < SPARK_ISA_AVX2) return;
    spark__matmul_init_avx2(k);
    spark__matmul_init_float_avx2(k);
    if (isa < SPARK_ISA_AVX512) return;
    spark__matmul_init_avx512(k);
    spark__matmul_init_float_avx512(k);
    if (isa < SPARK_ISA_AMX) return;
    spark__matmul_init_amx(k);
#elif defined(__aarch64__)
    spark__matmul_init_arm(k, isa);
#else
    (void)isa;
#endif
}
