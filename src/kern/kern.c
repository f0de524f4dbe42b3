/* kern.c - fills the table of kernels: the products are in matmul.c, all other slots in ops.c. */
#include "kern/kern_internal.h"

void spark_kern_init(spark_kern *k, spark_isa isa)
{
    *k = (spark_kern){.isa = isa};
    spark_kern_matmul_init(k, isa);
    spark_kern_ops_init(k, isa);
}
