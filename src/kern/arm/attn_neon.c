/* attn_neon.c - keys, values and attention of body/attn_body.h at this level. */
#define SPARK_K(name) name##_neon

#include "kern/arm/arm.h"
#include "kern/arm/vec_neon.h"

#define ATTN_ROWS 4u
#define ATTN_ACCS 8u /* 16 registers; two K vectors and a broadcast take 5 more */

#include "kern/body/attn_body.h"
