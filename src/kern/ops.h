/* ops.h - everything of the table that is not a product: who fills which slots. Private to the room. */
#ifndef SPARK_KERN_OPS_H
#define SPARK_KERN_OPS_H

#include "kern/kern_internal.h"

/* What each level overwrites. */
void spark__ops_init_ref(spark_kern *k);
void spark__attn_init_ref(spark_kern *k);
void spark__ops_init_avx2(spark_kern *k);
void spark__attn_init_avx2(spark_kern *k);
void spark__ops_init_avx512(spark_kern *k);
void spark__attn_init_avx512(spark_kern *k);

/* n floats to int8 levels and one scale for each 32 (the last block may be shorter): NUMERICS, "Activations as int8". */
void spark__kv_quantize_ref(const float *x, uint32_t n, int8_t *levels, float *d);

#endif
