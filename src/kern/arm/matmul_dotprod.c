/* matmul_dotprod.c - products with the dot-product instructions (FEAT_DotProd). */
#include "kern/arm/dot_sdot.h"

#define SPARK_K(name) name##_dotprod

SPARK_INLINE void mb_dot2(const int8x16_t *w, unsigned n, const int8_t *q0, const int8_t *q1, int32x4_t out[2])
{
    out[0] = mb_dot(w, n, q0);
    out[1] = mb_dot(w, n, q1);
}

#include "kern/arm/matmul_body.h"
