/* ops.c - chooses the forms of every slot that is not a product, and plans their scratch. */
#include "kern/ops.h"

#include "kern/kv_layout.h"

void spark_kern_ops_init(spark_kern *k, spark_isa isa)
{
    spark__ops_init_ref(k);
    spark__attn_init_ref(k);
    (void)isa;
}

size_t spark_attn_scratch(uint32_t head_dim_k, uint32_t head_dim_v, uint32_t n_rows)
{
    (void)head_dim_k, (void)head_dim_v, (void)n_rows;
    return 64;
}
