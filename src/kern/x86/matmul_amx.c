/* matmul_amx.c - products with packed weights on AMX (tiles of 8-bit integers), for many tokens. NUMERICS.md fixes each chain;
 * few tokens and float weights stay with AVX-512.
 *
 * A tile instruction multiplies up to 16 tokens x 64 columns by 64 columns x 16 rows, exactly, into int32. Its second operand
 * wants four neighbouring columns of 16 rows in a line of 64 bytes: that is what a line of a panel holds. Sub-scales are
 * integers too, so they are multiplied into the levels while a block of 256 is taken apart, and what no longer fits a byte is
 * split in two parts, each a product of its own:
 *   Q4_K, Q5_K      w * (s % 8), w * (s / 8)        isum = p0 + 8 p1
 *   Q6_K, IQ4_XS    low and high byte of w * s      isum = p0 + 256 p1     (and every format without an entry of its own)
 *   Q2_K            w * s                           isum = p0
 *   Q3_K            -w * s                          isum = -p0             (w * s may be 128)
 * The vectors are left with the end of each block: the minimum, and the chain of floats.
 *
 * Accounting per 16 tokens x 16 rows, cycles measured on an Intel Xeon (L1): product 16 whatever the columns, store 15, load 7
 * for 16 lines; vectors at two a cycle.
 * - 32 columns (Q4_0, Q8_0, ...): 1 product + 1 store + 1.5 loads, 48 vectors (convert, multiply, fma)
 * - 256 columns (Q4_K): 8 products + 2 stores + 10 loads, 16 x 11 vectors
 * Loads and stores of tiles do not overlap with 512-bit arithmetic: tiles and chains of different groups side by side, a
 * quarter at a time, measured slower (Q4_0 296 -> 221 GMAC/s) than one after the other. Q4_0: tiles 43 %, chains 41 %, the
 * rest 16 % of the time. */
#include "kern/panel.h"
#include "kern/quant.h"
#include "kern/x86/traits.h"

/* Levels carry their sub-scale: no offsets, no starts. */
SPARK_INLINE k_traits k_traits_of(spark_type type)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: return (k_traits){.n_scale = 16, .n_min = 8};
    case SPARK_TYPE_Q4_K:
    case SPARK_TYPE_Q5_K: return (k_traits){.n_scale = 8, .n_min = 4};
    case SPARK_TYPE_IQ4_XS: return (k_traits){.n_scale = 8};
    default: return (k_traits){.n_scale = 16};
    }
}

#include "kern/x86/avx512.h"

#define X_COLS      256u                  /* columns taken apart at a time */
#define X_GROUP     16u                   /* tokens of one tile */
#define X_TOKENS    192u                  /* of a chunk: taking apart is shared by so many */
#define X_CACHE     ((size_t)1536 * 1024) /* bytes of the activations of a chunk */
#define X_LEAST_ANY 9u                    /* tokens of formats without an entry of their own */
#define X_FAR       1024u                 /* bytes; further ahead measured no better */
#define X_BLOCKS    (X_COLS / 32)
#define X_TILE      1024u /* bytes of the results of one tile: [16 tokens][16 rows] int32 */

#define X_ACC_BYTES  ((size_t)X_TOKENS * 2 * PANEL_LINE)
#define X_DOTS_BYTES ((size_t)X_BLOCKS * 2 * X_TILE)
#define X_UNIT_BYTES ((size_t)(26 + 128) * PANEL_LINE) /* of one panel; blocks of 32 take less */

_Static_assert(X_ACC_BYTES + X_DOTS_BYTES + 2 * X_UNIT_BYTES <= PANEL_SCRATCH, "scratch holds all of it");

/* ---- Tile instructions ------------------------------------------------------------------------------------------ */

/* Written in assembly: gcc 12's intrinsics do not say that they read memory, and stores before them are lost. */
#define X_LOAD(t, from, stride)                                                                                        \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
#define X_STORE(t, to)                                                                                                 \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)PANEL_LINE) : "memory")
#define X_ZERO(t)               __asm__ volatile("tilezero %%tmm" #t : :)
#define X_DOT(c, a, b)          __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :) /* signed levels */
#define X_DOT_UNSIGNED(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)

/* Shapes of the tiles: 0 to 3 results of n tokens, 4 and 5 their activations, 6 and 7 levels; n_cols columns. */
SPARK_INLINE void x_begin(unsigned n, unsigned n_cols)
{
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1};
    for (unsigned t = 0; t < 8; t++) {
        shapes.row_bytes[t] = (uint16_t)(t == 4 || t == 5 ? n_cols : PANEL_LINE);
        shapes.rows[t] = (uint8_t)(t < 6 ? n : n_cols / 4);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}

SPARK_INLINE void x_end(void) { __asm__ volatile("tilerelease" : :); }

/* ---- What a group of tokens sees -------------------------------------------------------------------------------- */

/* n tokens times both panels of a unit; the chains start from and return to acc. */
typedef struct x_group {
    const uint8_t *unit; /* panel v at v * X_UNIT_BYTES */
    unsigned n_blocks;
    const uint8_t *x;
    size_t stride;
    unsigned n;
    float *acc;        /* [token][2][16] */
    uint8_t *dots;     /* results of tiles */
    panel_ahead ahead; /* asked with every four tokens */
    bool is_lone; /* no other group shares the unit: memory is the limit, and blocks of 32 ask for lines one by one */
} x_group;

typedef void x_group_fn(x_group *g);

/* ---- Blocks of 32: d, [m], levels[8] of each -------------------------------------------------------------------- */

#define X_HEAD_32(has_min) ((has_min) ? 2u : 1u)

/* Block b of both panels into tiles c and d. */
#define X_BLOCK_32(c, d, a, w, q, stride)                                                                              \
    do {                                                                                                               \
        X_LOAD(a, q, stride);                                                                                          \
        X_LOAD(6, w, PANEL_LINE);                                                                                      \
        X_ZERO(c);                                                                                                     \
        X_DOT(c, a, 6);                                                                                                \
        X_LOAD(7, (w) + X_UNIT_BYTES, PANEL_LINE);                                                                     \
        X_ZERO(d);                                                                                                     \
        X_DOT(d, a, 7);                                                                                                \
    } while (0)

#define X_STORE_32(c, d, to)                                                                                           \
    do {                                                                                                               \
        X_STORE(c, to);                                                                                                \
        X_STORE(d, (to) + X_TILE);                                                                                     \
    } while (0)

/* The next line of both panels, and of each one further on into the second level. Straight code: a loop or a branch
 * here costs the chains their registers. */
SPARK_INLINE const uint8_t *x_ask(const uint8_t *at, size_t step)
{
    SPARK_PREFETCH(at);
    SPARK_PREFETCH(at + step);
    SPARK_PREFETCH_LATER(at + X_FAR);
    SPARK_PREFETCH_LATER(at + step + X_FAR);
    return at + PANEL_LINE;
}

/* Results of block b, panel v at dots + (b * 2 + v) * X_TILE. A block's results are stored while the next one multiplies. */
SPARK_INLINE void x_dots_32(x_group *g, int has_min, int is_lone)
{
    const size_t next_step = g->ahead.step;
    const uint8_t *next = g->ahead.at;
    const size_t step = (X_HEAD_32(has_min) + 8) * (size_t)PANEL_LINE;
    const uint8_t *w = g->unit + X_HEAD_32(has_min) * PANEL_LINE, *q = g->x + offsetof(spark__act32, q);
    uint8_t *to = g->dots;
    if (is_lone) next = x_ask(next, next_step);
    X_BLOCK_32(0, 1, 4, w, q, g->stride);
    for (unsigned b = 1; b < g->n_blocks; b++) {
        if (is_lone) next = x_ask(next, next_step);
        w += step;
        q += sizeof(spark__act32);
        if (b % 2) {
            X_BLOCK_32(2, 3, 5, w, q, g->stride);
            X_STORE_32(0, 1, to);
        } else {
            X_BLOCK_32(0, 1, 4, w, q, g->stride);
            X_STORE_32(2, 3, to);
        }
        to += 2 * (size_t)X_TILE;
    }
    if (g->n_blocks % 2)
        X_STORE_32(0, 1, to);
    else
        X_STORE_32(2, 3, to);
    g->ahead.at = next;
}

SPARK_INLINE void x_chains_32(x_group *g, unsigned n_blocks, int has_min, int is_lone, unsigned i, unsigned n_tokens)
{
    const size_t next_step = g->ahead.step;
    const uint8_t *next = g->ahead.at;
    const size_t step = (X_HEAD_32(has_min) + 8) * (size_t)PANEL_LINE;
    const uint8_t *head = g->unit, *dots = g->dots, *x = g->x + i * g->stride;
    float *to = g->acc + i * 32;
    vf acc[4][2];
    SPARK_UNROLL(4)
    for (unsigned t = 0; t < n_tokens; t++)
        for (unsigned v = 0; v < 2; v++) acc[t][v] = _mm512_load_ps(to + t * 32 + v * 16);
    SPARK_UNROLL(8)
    for (unsigned b = 0; b < n_blocks; b++) {
        if (is_lone) next = x_ask(next, next_step);
        const vf d0 = t_vec(head + b * step), d1 = t_vec(head + X_UNIT_BYTES + b * step);
        const vf m0 = has_min ? t_vec(head + b * step + PANEL_LINE) : _mm512_setzero_ps(),
                 m1 = has_min ? t_vec(head + X_UNIT_BYTES + b * step + PANEL_LINE) : _mm512_setzero_ps();
        SPARK_UNROLL(4)
        for (unsigned t = 0; t < n_tokens; t++) {
            acc[t][0] = t_chain_32(has_min, t_ints(dots + b * 2 * (size_t)X_TILE, i + t), d0, m0,
                                   x + t * g->stride + b * sizeof(spark__act32), acc[t][0]);
            acc[t][1] = t_chain_32(has_min, t_ints(dots + (b * 2 + 1) * (size_t)X_TILE, i + t), d1, m1,
                                   x + t * g->stride + b * sizeof(spark__act32), acc[t][1]);
        }
    }
    SPARK_UNROLL(4)
    for (unsigned t = 0; t < n_tokens; t++)
        for (unsigned v = 0; v < 2; v++) _mm512_store_ps(to + t * 32 + v * 16, acc[t][v]);
    g->ahead.at = next;
}

SPARK_INLINE void x_chains_of(x_group *g, int has_min, int is_lone, unsigned i, unsigned n_tokens)
{
    if (!is_lone) panel_ask(&g->ahead, 2);
    if (g->n_blocks == X_BLOCKS)
        x_chains_32(g, X_BLOCKS, has_min, is_lone, i, n_tokens);
    else
        x_chains_32(g, g->n_blocks, has_min, is_lone, i, n_tokens);
}

SPARK_INLINE void x_group_32(x_group *g, int has_min, int is_lone)
{
    x_dots_32(g, has_min, is_lone);
    unsigned i = 0;
    for (; i + 4 <= g->n; i += 4) x_chains_of(g, has_min, is_lone, i, 4);
    switch (g->n - i) {
    case 3: x_chains_of(g, has_min, is_lone, i, 3); break;
    case 2: x_chains_of(g, has_min, is_lone, i, 2); break;
    case 1: x_chains_of(g, has_min, is_lone, i, 1); break;
    default: break;
    }
}

/* ---- Blocks of 256: head, then levels[64] of each part ----------------------------------------------------------- */

/* How isum comes from the parts. */
typedef struct x_parts {
    unsigned n;      /* 1 or 2 */
    int is_signed;   /* the only or the last part */
    unsigned shift;  /* of the second part */
    int is_negative; /* isum = -p0 */
} x_parts;

SPARK_INLINE x_parts x_parts_of(spark_type type)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: return (x_parts){1, 0, 0, 0};
    case SPARK_TYPE_Q3_K: return (x_parts){1, 1, 0, 1};
    case SPARK_TYPE_Q4_K:
    case SPARK_TYPE_Q5_K: return (x_parts){2, 0, 3, 0};
    default: return (x_parts){2, 1, 8, 0};
    }
}

/* Results of panel v, part p at dots + (v * 2 + p) * X_TILE. */
SPARK_INLINE void x_dots_256(const x_group *g, size_t head, x_parts p)
{
    const uint8_t *w = g->unit + head, *q = g->x + offsetof(spark__act256, q);
    X_ZERO(0);
    X_ZERO(1);
    X_ZERO(2);
    X_ZERO(3);
    SPARK_UNROLL(4)
    for (unsigned k = 0; k < 4; k++, w += 16 * PANEL_LINE, q += 64) {
        X_LOAD(4, q, g->stride);
        X_LOAD(6, w, PANEL_LINE);
        if (p.n == 1 && p.is_signed)
            X_DOT(0, 4, 6);
        else
            X_DOT_UNSIGNED(0, 4, 6);
        X_LOAD(7, w + X_UNIT_BYTES, PANEL_LINE);
        if (p.n == 1 && p.is_signed)
            X_DOT(2, 4, 7);
        else
            X_DOT_UNSIGNED(2, 4, 7);
        if (p.n == 1) continue;
        X_LOAD(6, w + 64 * PANEL_LINE, PANEL_LINE);
        if (p.is_signed)
            X_DOT(1, 4, 6);
        else
            X_DOT_UNSIGNED(1, 4, 6);
        X_LOAD(7, w + 64 * PANEL_LINE + X_UNIT_BYTES, PANEL_LINE);
        if (p.is_signed)
            X_DOT(3, 4, 7);
        else
            X_DOT_UNSIGNED(3, 4, 7);
    }
    X_STORE(0, g->dots);
    X_STORE(2, g->dots + 2 * X_TILE);
    if (p.n == 1) return;
    X_STORE(1, g->dots + X_TILE);
    X_STORE(3, g->dots + 3 * X_TILE);
}

SPARK_INLINE void x_group_256(x_group *g, spark_type type)
{
    const k_traits k = k_traits_of(type);
    const x_parts p = x_parts_of(type);
    x_dots_256(g, k_head(k) * (size_t)PANEL_LINE, p);
    for (unsigned i = 0; i < g->n; i++) {
        if (i % 4 == 0) panel_ask(&g->ahead, 2);
        SPARK_UNROLL(2)
        for (unsigned v = 0; v < 2; v++) {
            float *to = g->acc + (i * 2 + v) * 16;
            const uint8_t *dots = g->dots + v * 2 * (size_t)X_TILE;
            vi isum = t_ints(dots, i);
            if (p.n == 2) isum = _mm512_add_epi32(isum, _mm512_slli_epi32(t_ints(dots + X_TILE, i), p.shift));
            if (p.is_negative) isum = _mm512_sub_epi32(_mm512_setzero_si512(), isum);
            _mm512_store_ps(to, t_chain_256(k, isum, g->unit + v * X_UNIT_BYTES, PANEL_LINE, g->x + i * g->stride,
                                            _mm512_load_ps(to)));
        }
    }
}

/* ---- Taking apart ----------------------------------------------------------------------------------------------- */

/* Blocks [b, b + n) of one panel into its unit. */
typedef void x_unpack_fn(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit);

/* What unsigned levels of 32 stand above the signed ones. */
SPARK_INLINE unsigned x_offset_32(spark_type type)
{
    return panel_has_min(type) ? 0 : type == SPARK_TYPE_Q4_0 ? 8 : type == SPARK_TYPE_Q5_0 ? 16 : 128;
}

SPARK_INLINE void x_unpack_32(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)
{
    const unsigned head = X_HEAD_32(panel_has_min(type));
    for (size_t i = 0; i < n; i++, b++, unit += (size_t)(head + 8) * PANEL_LINE) {
        const l_src l = {l_block(type, panel, b), 0};
        vi w[8];
        l_levels_32(type, l, w);
        l_putf(unit, l_d_32(type, l, b));
        if (panel_has_min(type)) l_putf(unit + PANEL_LINE, l_halves(l, 32));
        for (unsigned j = 0; j < 8; j++) l_put(unit + (head + j) * PANEL_LINE, l_sub8(w[j], l_all8(x_offset_32(type))));
    }
}

/* Both halves of a lane the scale. */
SPARK_INLINE vi x_scale(const uint8_t *scales, unsigned i)
{
    const vi s = t_ints(scales, i);
    return l_or_and(l_left(s, 16), s, l_all32(0xffff));
}

/* 16-bit products of the even and the odd bytes of w, to bytes: the low ones and the high ones. */
#define X_EVEN 0x00ff00ff
#define X_ODD  ((int)0xff00ff00)
SPARK_INLINE vi x_low_bytes(vi even, vi odd) { return l_or_and(l_left16(odd, 8), even, l_all32(X_EVEN)); }
SPARK_INLINE vi x_high_bytes(vi even, vi odd) { return l_or_and(_mm512_srli_epi16(even, 8), odd, l_all32(X_ODD)); }

/* One line of levels times its scales (x_scale), to the parts, 64 lines apart. */
SPARK_INLINE void x_put_parts(spark_type type, vi w, vi s, uint8_t *to)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: /* no product passes 255, so that neighbours stay apart */
        l_put(to, _mm512_mullo_epi16(w, s));
        return;
    case SPARK_TYPE_Q4_K:
    case SPARK_TYPE_Q5_K:
        l_put(to, _mm512_mullo_epi16(w, l_and(s, l_all32(0x00070007))));
        l_put(to + 64 * PANEL_LINE, _mm512_mullo_epi16(w, _mm512_srli_epi16(s, 3)));
        return;
    case SPARK_TYPE_Q3_K: { /* w is four times the level + 4; only the low byte of a product counts */
        const vi x = l_sub8(l_all8(4), l_right(w, 2));
        l_put(to, x_low_bytes(_mm512_mullo_epi16(x, s), _mm512_mullo_epi16(_mm512_srli_epi16(x, 8), s)));
        return;
    }
    default: { /* any signed byte */
        const vi x = l_sub8(w, l_all8(type == SPARK_TYPE_Q6_K ? 32 : 128));
        const vi even = _mm512_mullo_epi16(_mm512_srai_epi16(l_left16(x, 8), 8), s);
        const vi odd = _mm512_mullo_epi16(_mm512_srai_epi16(x, 8), s);
        l_put(to, x_low_bytes(even, odd));
        l_put(to + 64 * PANEL_LINE, x_high_bytes(even, odd));
    }
    }
}

SPARK_INLINE void x_unpack_256(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)
{
    const k_traits k = k_traits_of(type);
    const l_src l = {l_block(type, panel, b), 0};
    const uint8_t *scales = unit + (1u + (k.n_min != 0)) * (size_t)PANEL_LINE;
    uint8_t *to = unit + k_head(k) * (size_t)PANEL_LINE;
    (void)n; /* X_COLS: one block */
    l_head_256(type, l, b, unit, PANEL_LINE);
    SPARK_UNROLL(8)
    for (unsigned j = 0; j < 8; j++) {
        vi w[8];
        l_levels_256(type, l, j, w);
        for (unsigned i = 0; i < 8; i++)
            x_put_parts(type, w[i], x_scale(scales, k.n_scale == 8 ? j : 2 * j + i / 4), to + (8 * j + i) * PANEL_LINE);
    }
}

/* Any format, row by row through quant.h; every |s * w| fits 16 bits. */
static void x_unpack_any(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)
{
    const unsigned elems = spark_type_lookup(type)->block_elems, bytes = spark_type_lookup(type)->block_bytes;
    const size_t head = elems == 32 ? 1 : k_head(k_traits_of(type));
    for (size_t i = 0; i < n; i++, unit += (head + (elems == 32 ? 8 : 128)) * PANEL_LINE)
        for (unsigned r = 0; r < PANEL_ROWS; r++) {
            spark_levels l;
            spark_block_levels(type, panel + ((b + i) * PANEL_ROWS + r) * bytes, &l);
            uint8_t *to = unit + head * PANEL_LINE + 4 * (size_t)r;
            memcpy(unit + 4 * (size_t)r, &l.d, 4);
            for (unsigned e = 0; e < elems; e++) {
                const int value = elems == 32 ? l.w[e] : l.s[e / 16] * l.w[e];
                to[e / 4 * PANEL_LINE + e % 4] = (uint8_t)value;
                if (elems == 256) to[(64 + e / 4) * PANEL_LINE + e % 4] = (uint8_t)(value >> 8);
            }
        }
}

/* ---- Whole products --------------------------------------------------------------------------------------------- */

typedef struct x_format {
    x_unpack_fn *unpack;
    x_group_fn *group;
    unsigned block;
} x_format;

/* Two panels (the second may be the first again) times tokens [token, token + n), in groups of nearly equal size: `extra`
 * ones of `size` tokens + 1, then those of `size`. */
typedef struct x_pair {
    uint32_t panel, n_panels, token, n, n_groups, size, extra;
    unsigned shape; /* tokens that the tiles are shaped for; 0 = not yet */
} x_pair;

/* Asks for the lines of the results of tokens [token, token + n), which will be written after the last columns. */
static void x_ask_results(const spark_matmul_args *a, const x_pair *p, uint32_t token, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t v = 0; v < p->n_panels; v++)
            SPARK_PREFETCH_WRITE(a->out + (token + i) * a->out_stride + (p->panel + v) * PANEL_ROWS);
}

/* A lone panel is computed twice and stored once. */
static void x_store_results(const spark_matmul_args *a, const x_pair *p, uint32_t token, uint32_t n, const float *acc)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t v = 0; v < p->n_panels; v++)
            t_store(a, p->panel + v, token + i, _mm512_load_ps(acc + ((size_t)i * 2 + v) * PANEL_ROWS));
}

/* All groups over the unit of a pair. Results are stored group by group: all at once, memory would be waited for. */
static void x_run_groups(const spark_matmul_args *a, const x_format *f, x_pair *p, x_group g, bool is_first,
                         bool is_last)
{
    uint32_t token = p->token;
    for (uint32_t i = 0; i < p->n_groups; i++) {
        g.n = p->size + (i < p->extra);
        if (g.n != p->shape) x_begin(p->shape = g.n, f->block == 32 ? 32 : 64);
        if (is_first) x_ask_results(a, p, token, g.n);
        f->group(&g);
        if (is_last) x_store_results(a, p, token, g.n, g.acc);
        g.x += g.n * g.stride;
        g.acc += (size_t)g.n * 2 * PANEL_ROWS;
        token += g.n;
    }
}

static void x_run_pair(const spark_matmul_args *a, const x_format *f, x_pair *p)
{
    float *acc = a->scratch;
    uint8_t *dots = (uint8_t *)a->scratch + X_ACC_BYTES, *unit = dots + X_DOTS_BYTES;
    const uint32_t n_blocks = a->w->n_cols / f->block, step = X_COLS / f->block;
    const size_t act_bytes = f->block == 32 ? sizeof(spark__act32) : sizeof(spark__act256);
    const uint8_t *first = a->w->data + p->panel * a->w->panel_bytes, *x = a->acts + p->token * a->act_stride;
    const uint8_t *second = first + (p->n_panels - 1) * a->w->panel_bytes;
    memset(acc, 0, p->n * (size_t)2 * PANEL_LINE);
    for (uint32_t b = 0; b < n_blocks; b += step) {
        const uint32_t n_units = n_blocks - b < step ? n_blocks - b : step;
        f->unpack(a->w->type, first, b, n_units, unit);
        f->unpack(a->w->type, second, b, n_units, unit + X_UNIT_BYTES);
        const uint32_t quads = p->n_groups * ((p->size + 3) / 4);
        const x_group g = {.unit = unit,
                           .n_blocks = n_units,
                           .x = x + b * act_bytes,
                           .stride = a->act_stride,
                           .acc = acc,
                           .dots = dots,
                           .is_lone = p->n_groups == 1,
                           .ahead = panel_after(a->w, first, 2, (b + step) * f->block, X_COLS, quads)};
        x_run_groups(a, f, p, g, b == 0, b + step >= n_blocks);
    }
}

/* Tokens in chunks of nearly equal size whose activations stay in the second-level cache (CPUs with AMX have 2 MiB). */
static void x_run(const spark_matmul_args *a, const x_format *f)
{
    const size_t fit = X_CACHE / a->act_stride / X_GROUP * X_GROUP;
    const uint32_t most = fit >= X_TOKENS ? X_TOKENS : fit < 2 * X_GROUP ? 2 * X_GROUP : (uint32_t)fit;
    const uint32_t n_chunks = (a->n_tokens + most - 1) / most, even = (a->n_tokens + n_chunks - 1) / n_chunks,
                   step = even < 4 * X_GROUP ? even : (even + X_GROUP - 1) / X_GROUP * X_GROUP;
    for (uint32_t token = 0; token < a->n_tokens; token += step) {
        const uint32_t n = a->n_tokens - token < step ? a->n_tokens - token : step,
                       n_groups = (n + X_GROUP - 1) / X_GROUP;
        x_pair p = {.token = token, .n = n, .n_groups = n_groups, .size = n / n_groups, .extra = n % n_groups};
        for (p.panel = a->panel_begin; p.panel < a->panel_end; p.panel += 2) {
            p.n_panels = p.panel + 1 < a->panel_end ? 2 : 1;
            x_run_pair(a, f, &p);
        }
    }
    x_end();
}

/* ---- One set of functions a format ------------------------------------------------------------------------------ */

#define X_GROUP_32_FN(name, has_min)                                                                                   \
    static void x_group_##name(x_group *g)                                                                             \
    {                                                                                                                  \
        if (g->is_lone)                                                                                                \
            x_group_32(g, has_min, 1);                                                                                 \
        else                                                                                                           \
            x_group_32(g, has_min, 0);                                                                                 \
    }
X_GROUP_32_FN(plain, 0)
X_GROUP_32_FN(minimum, 1)

#define X_GROUP_FN(name)                                                                                               \
    static void x_group_##name(x_group *g) { x_group_256(g, SPARK_TYPE_##name); }
X_GROUP_FN(Q2_K)
X_GROUP_FN(Q3_K)
X_GROUP_FN(Q4_K) /* and Q5_K */
X_GROUP_FN(Q6_K) /* and all others with 16 sub-scales */
X_GROUP_FN(IQ4_XS)

#define X_PRODUCT(name, size, group, least)                                                                            \
    static void x_unpack_##name(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)              \
    {                                                                                                                  \
        (void)type;                                                                                                    \
        x_unpack_##size(SPARK_TYPE_##name, panel, b, n, unit);                                                         \
    }                                                                                                                  \
    static void spark_k_matmul_##name##_amx(const spark_matmul_args *a)                                                \
    {                                                                                                                  \
        static const x_format f = {x_unpack_##name, x_group_##group, size};                                            \
        if (a->n_tokens < (least))                                                                                     \
            spark__matmul_avx512(SPARK_TYPE_##name)(a);                                                                \
        else                                                                                                           \
            x_run(a, &f);                                                                                              \
    }

/* The last number: tokens from which on it is faster than AVX-512, which takes fewer steps before it multiplies. Measured on an Intel
 * Xeon with weights from memory on two threads (kern_check --bench --cpu avx512, and --cpu amx, tell about the same). */
X_PRODUCT(Q4_0, 32, plain, 9)
X_PRODUCT(Q5_0, 32, plain, 9)
X_PRODUCT(Q8_0, 32, plain, 20)
X_PRODUCT(IQ4_NL, 32, plain, 9)
X_PRODUCT(Q4_1, 32, minimum, 9)
X_PRODUCT(Q5_1, 32, minimum, 9)
X_PRODUCT(Q2_K, 256, Q2_K, 5)
X_PRODUCT(Q3_K, 256, Q3_K, 13)
X_PRODUCT(Q4_K, 256, Q4_K, 9)
X_PRODUCT(Q5_K, 256, Q4_K, 11)
X_PRODUCT(Q6_K, 256, Q6_K, 19)
X_PRODUCT(IQ4_XS, 256, IQ4_XS, 15)

static void spark_k_matmul_any_amx(const spark_matmul_args *a)
{
    static const x_format any_32 = {x_unpack_any, x_group_plain, 32}, any_256 = {x_unpack_any, x_group_Q6_K, 256};
    if (a->n_tokens < X_LEAST_ANY)
        spark__matmul_avx512(a->w->type)(a);
    else
        x_run(a, spark_type_lookup(a->w->type)->block_elems == 32 ? &any_32 : &any_256);
}

void spark__matmul_init_amx(spark_kern *k)
{
    static panel_product *const own[SPARK_N_TYPES] = {
        [SPARK_TYPE_Q4_0] = spark_k_matmul_Q4_0_amx, [SPARK_TYPE_Q4_1] = spark_k_matmul_Q4_1_amx,
        [SPARK_TYPE_Q5_0] = spark_k_matmul_Q5_0_amx, [SPARK_TYPE_Q5_1] = spark_k_matmul_Q5_1_amx,
        [SPARK_TYPE_Q8_0] = spark_k_matmul_Q8_0_amx, [SPARK_TYPE_IQ4_NL] = spark_k_matmul_IQ4_NL_amx,
        [SPARK_TYPE_Q2_K] = spark_k_matmul_Q2_K_amx, [SPARK_TYPE_Q3_K] = spark_k_matmul_Q3_K_amx,
        [SPARK_TYPE_Q4_K] = spark_k_matmul_Q4_K_amx, [SPARK_TYPE_Q5_K] = spark_k_matmul_Q5_K_amx,
        [SPARK_TYPE_Q6_K] = spark_k_matmul_Q6_K_amx, [SPARK_TYPE_IQ4_XS] = spark_k_matmul_IQ4_XS_amx,
    };
    for (uint32_t id = 0; id < SPARK_N_TYPES; id++) {
        const spark_type_info *t = spark_type_lookup(id);
        if (t && t->act_block) k->matmul[id] = own[id] ? own[id] : spark_k_matmul_any_amx;
    }
}
