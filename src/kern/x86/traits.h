/* traits.h - how a product with 256-element blocks runs; the levels fill this in for each format (k_traits_of). */
#ifndef SPARK_KERN_X86_TRAITS_H
#define SPARK_KERN_X86_TRAITS_H

/* Levels are unsigned with an offset, so chosen that the sums of `dot` groups fit 16 bits, where one multiply-add of pairs
 * applies the sub-scale. */
typedef struct k_traits {
    unsigned dot;     /* groups of four columns whose products are summed before the sub-scale: 8, 4 or 2 */
    unsigned start;   /* AVX-512: where in spark__act256 the sums start that take the offset out; 0 = at zero */
    unsigned n_scale; /* sub-scales in the head: 8 or 16 */
    unsigned
        n_off; /* pairs in the head that take the offset out (or put it back) times s: 0, 4 (of sum32) or 8 (of m16) */
    unsigned n_min; /* pairs of minima in the head: 0, 4 (of sum32) or 8 (of m16) */
    unsigned shift; /* isum is 2^shift too large */
    int wide; /* sums of 32 bits: AVX-512 multiplies them by vpmulld, AVX2 widens each product (levels are signed) */
} k_traits;

#define K_START(field) ((unsigned)offsetof(spark__act256, field))

#endif
