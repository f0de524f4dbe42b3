/* attn_avx512.c - keys, values and attention of body/attn_body.h at this level: 32 registers. */
#include "kern/x86/vec_avx512.h"

#define ATTN_NV_1  8u
#define ATTN_NV_2  8u
#define ATTN_NV_4  4u
#define ATTN_NV_6  4u
#define ATTN_NV_8  2u
#define ATTN_NV_10 2u
#define ATTN_NV_12 2u
#define ATTN_NV_14 2u

#define ATTN_NV_Q8_1  8u
#define ATTN_NV_Q8_2  4u
#define ATTN_NV_Q8_4  2u
#define ATTN_NV_Q8_6  2u
#define ATTN_NV_Q8_8  1u
#define ATTN_NV_Q8_10 1u
#define ATTN_NV_Q8_12 1u
#define ATTN_NV_Q8_14 1u

#include "kern/body/attn_body.h"
