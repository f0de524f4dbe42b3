/* ops_neon.c - the elementwise kernels and norms of body/ops_body.h at this level. */
#define SPARK_K(name) name##_neon

#include "kern/arm/arm.h"
#include "kern/arm/vec_neon.h"

#include "kern/body/ops_body.h"
