/* attn_neon.c - keys, values and attention of body/attn_body.h at this level. */
#define SPARK_K(name) name##_neon

#include "kern/arm/arm.h"
#include "kern/arm/attn_tiles.h"
#include "kern/arm/vec_neon.h"

#include "kern/body/attn_body.h"
