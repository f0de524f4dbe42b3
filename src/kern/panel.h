/* panel.h - how packed weights and prepared activations lie in memory; shared by packing and by the products of every level.
 *
 * A panel holds 16 rows. The blocks of those rows are cut into words of 32 bits, and word j of all 16 rows forms one line of
 * 64 bytes: lanes are rows, and the four bytes of a lane are what one dot-product instruction eats. Nothing is expanded, so
 * a packed matrix is as large as the file's (decode is bound by memory), and packing can be undone bit for bit.
 * - Formats whose block is a whole number of words: block b = lines [b * n, (b + 1) * n). The line of the word that holds d
 *   is split: the 16 low halves (d), then the 16 high ones (the minimum; IQ4_XS: bits of scales).
 * - Formats with an odd half (d) in the block: two blocks make a group, first a line with both d (16 halves of the even
 *   block, then 16 of the odd), then the lines of each. If the last group has one block, the rest of that line is zero.
 * - "Spread" words (the fifth bits of Q5_0, Q5_1): bit i of the file's word lies at bit 8 * (i % 4) + i / 4, so that the bits
 *   of four neighbours (one lane of a dot product) sit at the same place of the four bytes.
 * - F32: one line a column. F16, BF16: one half line a column.
 * - Raw formats (no fast kernel): block b of row r at byte (b * 16 + r) * block_bytes, as in the file.
 * Rows past n_rows are zero. */
#ifndef SPARK_KERN_PANEL_H
#define SPARK_KERN_PANEL_H

#include <string.h>

#include "base/compiler.h"
#include "kern/kern.h"

#define PANEL_ROWS      SPARK_PANEL_ROWS
#define PANEL_LINE      64u /* bytes: one word of each row */
#define PANEL_NONE      0xffu
#define PANEL_BLOCK_MAX 256u /* no block of a file is larger (Q6_K: 210) */

typedef struct spark__plan {
    uint8_t n_words;  /* words of one block, without the odd half; 0 = float or raw */
    uint8_t words_at; /* byte of the first of them in the file's block */
    uint8_t half_at;  /* byte of the odd half, or PANEL_NONE */
    uint8_t spread;   /* word that is stored spread, or PANEL_NONE */
    uint8_t d_word;   /* without an odd half: the word that holds d (and dmin) */
} spark__plan;

extern const spark__plan spark__plans[SPARK_N_TYPES];

/* Whether products follow the rule with a minimum; the type says so, never a value. */
static inline bool panel_has_min(spark_type t)
{
    return t == SPARK_TYPE_Q4_1 || t == SPARK_TYPE_Q5_1 || t == SPARK_TYPE_Q2_K || t == SPARK_TYPE_Q4_K ||
           t == SPARK_TYPE_Q5_K;
}

/* Line of word 0 of block b. */
static inline size_t panel_words_line(const spark__plan *p, size_t b)
{
    return p->half_at == PANEL_NONE ? b * p->n_words : b * p->n_words + b / 2 + 1;
}

/* Byte of the 16 halves d of block b, for formats with an odd half. */
static inline size_t panel_half_at(const spark__plan *p, size_t b)
{
    return b / 2 * (2u * p->n_words + 1u) * PANEL_LINE + b % 2 * (PANEL_LINE / 2);
}

/* What packing is made of, one definition for each architecture: the transposition, word j of each of 16 rows (from byte `off`
 * on) to line j; and the splitting of a line of two halves a word into two half lines (out may be line), which returns 0 if a
 * half has all bits of `exponent` set. Lines are 64-byte aligned. */
void spark__pack_words(uint8_t *lines, const uint8_t *const *rows, size_t off, uint32_t n_words);
int spark__pack_split(const uint8_t *line, uint8_t *out, uint16_t exponent);

/* Puts block b of row r (0..15) of a packed panel together as it was in the file. */
void spark__panel_block(spark_type type, const uint8_t *panel, uint32_t b, uint32_t r, uint8_t *block);

/* ---- Activations ----------------------------------------------------------------------------------------------- */

/* 32 activations: q with what the formats need of their sum. The m* start an accumulator whose weights are stored with an
 * offset: sum(w * q) = sum((w + o) * q) - o * sum(q). */
typedef struct spark__act32 {
    float d;
    float sum;             /* of q, exact */
    int32_t m8, m16, m128; /* -8, -16, -128 times the sum of q */
    int8_t q[32];
} spark__act32;

/* 256 activations. Every entry fits: |q| <= 127. Vectors read the 16-bit entries in pairs (two neighbours in one lane). */
typedef struct spark__act256 {
    float d;
    int16_t sum32[8]; /* sums of 32 neighbours */
    int16_t m32[8];   /* -8 * those */
    int16_t m16[16];  /* -16 * the sums of 16 */
    int16_t m8[32];   /* -32 * the sums of 8 */
    int16_t rest[30]; /* zero: q begins a cache line, where the rows of AMX tiles want to lie */
    int8_t q[256];
} spark__act256;

_Static_assert(sizeof(spark__act32) == 52, "no padding: rows are compared with memcmp");
_Static_assert(sizeof(spark__act256) == 448, "no padding");

/* ---- Levels ---------------------------------------------------------------------------------------------------- */

/* Many tokens: 16 or 32 rows are taken apart at a time and serve all tokens of a chunk; partial sums wait in scratch.
 * 48: each token's activations lie on pages of their own, and the first-level TLB has 64 to 96 entries; 128 measured 6-9 % less,
 * and taking apart costs 5 % at most. A multiple of every tile (4, 6, 8). */
#define PANEL_TOKENS 48u

/* Bytes that decode asks for before it takes them apart. In two steps: a line on its way to the first-level cache holds one of
 * a core's few miss buffers until it is there, too few to keep memory busy; one that a page's distance earlier was asked for
 * in the second level holds it shortly, and the CPU's own prefetcher wakes in time for the next page. */
#define PANEL_NEAR 1024u
#define PANEL_FAR  4096u

SPARK_INLINE void panel_ask_decode(const uint8_t *lines, unsigned n)
{
    for (unsigned i = 0; i < n; i++, lines += PANEL_LINE) {
        SPARK_PREFETCH(lines + PANEL_NEAR);
        SPARK_PREFETCH_LATER(lines + PANEL_FAR);
    }
}

/* Weights that will be taken apart next, for many tokens. While tiles compute, they ask for some lines now and then, so that memory and
 * arithmetic work at the same time; never for many at once, or all wait. */
typedef struct panel_ahead {
    const uint8_t *at; /* line of the first panel that comes next */
    size_t step;       /* from there to the second panel */
    unsigned n_lines;  /* of each panel, at every call of panel_ask */
} panel_ahead;

/* n_cols columns from column k on of the n panels at `first`, asked for in n_asks calls; past the last column, the beginning of
 * the panels that follow. About: a prefetch may miss by a line. */
static inline panel_ahead panel_after(const spark_matrix *w, const uint8_t *first, unsigned n, uint32_t k,
                                      uint32_t n_cols, uint32_t n_asks)
{
    const uint8_t *at = k < w->n_cols ? first + w->panel_bytes * k / w->n_cols : first + n * w->panel_bytes;
    const size_t bytes = w->panel_bytes * n_cols / w->n_cols, share = (size_t)n_asks * PANEL_LINE;
    return (panel_ahead){at, w->panel_bytes, (unsigned)((bytes + share - 1) / share)};
}

/* n_panels: 1 or 2, a constant. */
SPARK_INLINE void panel_ask(panel_ahead *p, unsigned n_panels)
{
    for (unsigned i = 0; i < p->n_lines; i++, p->at += PANEL_LINE) {
        SPARK_PREFETCH(p->at);
        if (n_panels == 2) SPARK_PREFETCH(p->at + p->step);
    }
}

void spark__matmul_init_ref(spark_kern *k);
void spark__matmul_init_avx2(spark_kern *k);
void spark__matmul_init_avx512(spark_kern *k);
void spark__matmul_init_amx(spark_kern *k);        /* quantized weights, many tokens */
void spark__matmul_init_float_avx2(spark_kern *k); /* float weights, and quantize */
void spark__matmul_init_float_avx512(spark_kern *k);

/* The product of AVX-512 with weights of a quantized type; AMX takes it for few tokens. */
typedef void panel_product(const spark_matmul_args *a);
panel_product *spark__matmul_avx512(spark_type type);

/* Bytes of scratch that any level asks for. */
#define PANEL_SCRATCH ((size_t)96 * 1024)

#endif
