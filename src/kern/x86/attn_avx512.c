/* attn_avx512.c - keys, values and attention of body/attn_body.h at this level. */
#include "kern/x86/vec_avx512.h"

#define ATTN_ROWS 8u
#define ATTN_ACCS 16u /* 16 chains, 2 K vectors and a broadcast of 32 registers */

#include "kern/body/attn_body.h"
