/* arm.h - what each level of this architecture overwrites in the table. */
#ifndef SPARK_KERN_ARM_ARM_H
#define SPARK_KERN_ARM_ARM_H

#include "kern/kern.h"

/* Called by spark_kern_matmul_init and spark_kern_ops_init after _ref: climbs to `isa`. */
void spark__matmul_init_arm(spark_kern *k, spark_isa isa);
void spark__ops_init_arm(spark_kern *k, spark_isa isa);

void spark__quantize_init_neon(spark_kern *k);
void spark__matmul_init_neon(spark_kern *k);
void spark__matmul_init_dotprod(spark_kern *k);
void spark__matmul_init_i8mm(spark_kern *k);

void spark__ops_init_neon(spark_kern *k);
void spark__attn_init_neon(spark_kern *k);
void spark__attn_init_dotprod(spark_kern *k);

#endif
