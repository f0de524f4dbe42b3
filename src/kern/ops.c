/* ops.c - chooses the forms of every slot that is not a product, and plans the scratch of attention. */
#include "kern/ops.h"

#include "kern/arm/arm.h"
#include "kern/attn_scratch.h"

void spark_kern_ops_init(spark_kern *k, spark_isa isa)
{
    spark__ops_init_ref(k);
    spark__attn_init_ref(k);
#if defined(__x86_64__)
    if (isa == SPARK_ISA_AVX2) {
        spark__ops_init_avx2(k);
        spark__attn_init_avx2(k);
    } else if (isa >= SPARK_ISA_AVX512) {
        spark__ops_init_avx512(k);
        spark__attn_init_avx512(k);
    }
#elif defined(__aarch64__)
    spark__ops_init_arm(k, isa);
#else
    (void)isa;
#endif
}

size_t spark_attn_scratch(uint32_t head_dim_k, uint32_t head_dim_v, uint32_t n_rows)
{
    return spark__attn_layout(head_dim_k, head_dim_v, n_rows).bytes;
}
