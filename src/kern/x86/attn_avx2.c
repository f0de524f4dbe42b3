/* attn_avx2.c - keys, values and attention of body/attn_body.h at this level: 16 registers. */
#include "kern/x86/vec_avx2.h"

#define ATTN_NV_1 8u
#define ATTN_NV_2 4u
#define ATTN_NV_4 2u
#define ATTN_NV_6 2u
#define ATTN_NV_8 1u

#define ATTN_NV_Q8_1 4u
#define ATTN_NV_Q8_2 2u
#define ATTN_NV_Q8_4 1u
#define ATTN_NV_Q8_6 1u
#define ATTN_NV_Q8_8 1u

#include "kern/body/attn_body.h"
