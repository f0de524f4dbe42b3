/* attn_tiles.h - how attention fills the 32 registers of this architecture (body/attn_body.h): vectors of K or V beside R rows;
 * a vector is two registers. For every level. */
#ifndef SPARK_KERN_ARM_ATTN_TILES_H
#define SPARK_KERN_ARM_ATTN_TILES_H

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

#endif
