/* kern_internal.h - what the files behind kern.h share: which parts fill the table, and what the CPU says of itself. */
#ifndef SPARK_KERN_KERN_INTERNAL_H
#define SPARK_KERN_KERN_INTERNAL_H

#include "kern/kern.h"

/* Each fills its slots with _ref and then climbs to `isa`. */
void spark_kern_matmul_init(spark_kern *k, spark_isa isa); /* quantize, matmul */
void spark_kern_ops_init(spark_kern *k, spark_isa isa);    /* everything else */

/* Whether this CPU, and the operating system under it, run the level. One definition for each architecture. */
int spark__cpu_has(spark_isa isa);

/* Whether the system lets this process use AMX tiles; asks for it, which is for good. Asking again is free. */
int spark__amx_granted(void);

#endif
