/* attn_dotprod.c - keys, values and attention of body/attn_body.h with the dot-product instructions for q8_0. */
#define SPARK_K(name) name##_dotprod

#include "kern/arm/arm.h"
#include "kern/arm/attn_tiles.h"
#include "kern/arm/vec_neon.h"

#include "kern/body/attn_body.h"
