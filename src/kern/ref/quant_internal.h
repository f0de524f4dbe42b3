/* quant_internal.h - what the files behind quant.h share: one decoder a format, each taking a block apart. */
#ifndef SPARK_KERN_REF_QUANT_INTERNAL_H
#define SPARK_KERN_REF_QUANT_INTERNAL_H

#include "kern/quant.h"

#define QUANT_SUPER 256u /* elements of a super-block */

/* Fills s and m (all of them) with the defaults of a format that has neither sub-scales nor a minimum. */
void spark__levels_plain(spark_levels *out, float d);

/* Reads d (and dmin, m, s where the format has them) and w. `b` holds one block of that type. */
typedef void spark__levels_fn(const uint8_t *b, spark_levels *out);

spark__levels_fn spark__levels_q4_0, spark__levels_q4_1, spark__levels_q5_0, spark__levels_q5_1, spark__levels_q8_0,
    spark__levels_iq4_nl, spark__levels_mxfp4, spark__levels_tq1_0, spark__levels_tq2_0;
spark__levels_fn spark__levels_q2_k, spark__levels_q3_k, spark__levels_q4_k, spark__levels_q5_k, spark__levels_q6_k,
    spark__levels_iq4_xs;
spark__levels_fn spark__levels_iq2_xxs, spark__levels_iq2_xs, spark__levels_iq2_s, spark__levels_iq3_xxs,
    spark__levels_iq3_s, spark__levels_iq1_s, spark__levels_iq1_m;

/* Level of each 4-bit code of IQ4_NL and IQ4_XS. */
extern const int8_t spark__iq4_levels[16];

/* Lattice points, one word each: eight fields of 2 bits or four of 3, indices into a table of levels (quant_iq.c). */
extern const uint16_t spark__grid_iq2_xxs[256], spark__grid_iq2_xs[512], spark__grid_iq2_s[1024],
    spark__grid_iq3_xxs[256], spark__grid_iq3_s[512], spark__grid_iq1[2048];

/* The bits of IQ1_M's super-scale: the high nibbles of its four 16-bit scale words, lowest first. */
uint16_t spark__iq1_m_scale(const uint8_t *b);

/* Scale and minimum `j` (0..7) of the 12 bytes in which Q4_K and Q5_K hold eight 6-bit pairs. */
static inline void spark__k4_scale(const uint8_t *p, unsigned j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = p[j] & 63;
        *min = p[j + 4] & 63;
        return;
    }
    *scale = (uint8_t)((p[j + 4] & 15) | p[j - 4] >> 6 << 4);
    *min = (uint8_t)(p[j + 4] >> 4 | p[j] >> 6 << 4);
}

#endif
