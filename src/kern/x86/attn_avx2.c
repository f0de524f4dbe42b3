/* attn_avx2.c - keys, values and attention of body/attn_body.h at this level. */
#include "kern/x86/vec_avx2.h"

#define ATTN_ROWS 4u
#define ATTN_ACCS 8u /* 8 chains hide the latency of fma; 16 registers */

#include "kern/body/attn_body.h"
