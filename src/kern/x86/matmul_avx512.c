/* matmul_avx512.c - products with packed weights on AVX-512 + VNNI. Lanes are output rows; NUMERICS.md fixes each chain.
 *
 * Two ways, equal bits:
 * - few tokens (decode): one panel at a time, weights taken apart in registers; bound by memory.
 * - more tokens: two panels at a time are taken apart into scratch for 512 columns (levels as bytes, scales as vectors, about
 *   20 KiB: first-level cache), and all tokens of a chunk pass over them in tiles of 32 rows x up to 6 tokens. One broadcast
 *   of four activations feeds two vpdpbusd. The chains of a chunk of tokens wait in scratch between columns.
 *
 * Accounting (Intel: two ports for 512-bit arithmetic), per 32 columns x 16 rows x 1 token, then the ceiling:
 *   Q4_0, Q5_0, Q8_0, IQ4_NL   8 vpdpbusd + cvt + mul + fma = 11                        73 %
 *   Q4_1, Q5_1                 8 + cvt + mul + 2 fma = 12                               67 %
 * and per 256 columns: 64 vpdpbusd +
 *   Q4_K    8 vpdpwssd (sub-scale on an int16 sum) + 4 (offset) + 4 (minimum) + 5       75 %
 *   Q5_K   16 + 4 + 4 + 5   69 %      Q6_K  32 + 3   65 %      IQ4_XS  3 x 8 + 4 + 3   67 %
 *   Q2_K   16 + 8 + 6       68 %      Q3_K  16 + 4   76 %
 * Loads and stores have ports of their own: 8 loads for 12 vpdpbusd. Measured on an Intel Xeon with AMX, in first-level cache:
 * Q4_0 63 %, Q4_K 57-60, Q5_K 55-57, Q6_K 54; bare vpdpbusd with these loads reach 83 % there (with either kind of load alone
 * 98 %), whatever the shape (3 x 4, 4 x 4, 5 x 3, 6 x 4 measured no better). */
#include "kern/panel.h"
#include "kern/quant.h"
#include "kern/x86/traits.h"

SPARK_INLINE k_traits k_traits_of(spark_type type)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: return (k_traits){4, 0, 16, 0, 8, 0, 0};
    case SPARK_TYPE_Q3_K: return (k_traits){4, K_START(m16), 16, 0, 0, 2, 0}; /* levels * 4 + 16 */
    case SPARK_TYPE_Q4_K: return (k_traits){8, K_START(m32), 8, 4, 4, 0, 0};  /* sums of q - 8, then + 8 * s * sum */
    case SPARK_TYPE_Q5_K: return (k_traits){4, K_START(m16), 8, 4, 4, 0, 0};  /* sums of q - 16 */
    case SPARK_TYPE_Q6_K: return (k_traits){2, K_START(m8), 16, 0, 0, 0, 0};
    case SPARK_TYPE_IQ4_XS: return (k_traits){8, 0, 8, 4, 0, 0, 1}; /* levels + 128, then - 128 * s * sum */
    default: return (k_traits){4, 0, 16, 8, 0, 0, 1};               /* any format: levels + 128 */
    }
}

#include "kern/x86/avx512.h"

#define T_COLS      512u /* columns taken apart at a time */
#define T_TOKENS    6u   /* of one tile */
#define T_DIRECT    8u   /* up to here weights are taken apart in registers; with blocks of 256 up to half of it */
#define T_ACC_BYTES ((size_t)PANEL_TOKENS * 2 * PANEL_LINE)

_Static_assert(T_ACC_BYTES + T_COLS / 256 * 2 * PANEL_LINE * (64 + 25) <= PANEL_SCRATCH,
               "scratch holds the largest unit");

/* ---- What a tile sees ------------------------------------------------------------------------------------------ */

/* n_units units (blocks taken apart) times the tokens x, x + stride, ...; the chains start from and return to acc. */
typedef struct t_tile {
    const uint8_t *unit;
    unsigned n_units;
    const uint8_t *x;
    size_t stride;
    float *acc;         /* [token][2][16] */
    unsigned start;     /* blocks of 32: where spark__act32 has the start */
    panel_ahead *ahead; /* asked T_ASKS(block) times a unit */
} t_tile;

#define T_ASKS(block) ((block) == 32 ? 1u : 8u)

typedef void t_tile_fn(const t_tile *t);

/* ---- Tiles of 32 columns a unit: d[2], [m[2]], levels[8][2] ----------------------------------------------------- */

SPARK_INLINE void t_tile_32(const t_tile *t, unsigned n, int has_min)
{
    const size_t stride = t->stride;
    const uint8_t *unit = t->unit, *x = t->x;
    const unsigned head = has_min ? 4 : 2;
    vf acc[T_TOKENS][2];
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++) acc[i][v] = _mm512_load_ps(t->acc + (i * 2 + v) * 16);
    for (unsigned b = 0; b < t->n_units; b++) {
        panel_ask(t->ahead, 2);
        vi isum[T_TOKENS][2];
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++)
            for (unsigned v = 0; v < 2; v++)
                isum[i][v] = has_min ? _mm512_setzero_si512() : t_word(x + i * stride + t->start);
        SPARK_UNROLL(8)
        for (unsigned g = 0; g < 8; g++) {
            const vi w0 = t_ints(unit, head + 2 * g), w1 = t_ints(unit, head + 2 * g + 1);
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++) {
                const vi q = t_word(x + i * stride + offsetof(spark__act32, q) + 4 * g);
                isum[i][0] = _mm512_dpbusd_epi32(isum[i][0], w0, q);
                isum[i][1] = _mm512_dpbusd_epi32(isum[i][1], w1, q);
            }
        }
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++)
            for (unsigned v = 0; v < 2; v++)
                acc[i][v] = t_chain_32(has_min, isum[i][v], t_vec(unit + v * PANEL_LINE),
                                       has_min ? t_vec(unit + (2 + v) * PANEL_LINE) : _mm512_setzero_ps(),
                                       x + i * stride, acc[i][v]);
        unit += (size_t)(head + 16) * PANEL_LINE;
        x += sizeof(spark__act32);
    }
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++) _mm512_store_ps(t->acc + (i * 2 + v) * 16, acc[i][v]);
}

/* ---- Tiles of 256 columns a unit: head[..][2], levels[64][2] ---------------------------------------------------- */

SPARK_INLINE vi t_scaled(k_traits k, vi isum, vi dot, vi s)
{
    return k.wide ? _mm512_add_epi32(isum, _mm512_mullo_epi32(dot, s)) : _mm512_dpwssd_epi32(isum, dot, s);
}

/* Start of dot i of a block: only the low half counts for vpdpwssd, the high one is the neighbour's. */
SPARK_INLINE vi t_start(k_traits k, const uint8_t *x, size_t i)
{
    return k.start ? t_word(x + k.start + 2 * i) : _mm512_setzero_si512();
}

SPARK_INLINE void t_block_256(k_traits k, const uint8_t *unit, const uint8_t *x, size_t stride, unsigned n, float *acc,
                              panel_ahead *ahead)
{
    const unsigned head = k_head(k), n_dots = 64 / k.dot, dots_a_scale = n_dots / k.n_scale;
    const uint8_t *levels = unit + (size_t)head * 2 * PANEL_LINE,
                  *scales = unit + (1u + (k.n_min != 0)) * (size_t)2 * PANEL_LINE;
    vi isum[T_TOKENS][2];
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++) isum[i][0] = isum[i][1] = _mm512_setzero_si512();
    for (size_t j = 0; j < n_dots; j++) {
        if (j % (n_dots / T_ASKS(256)) == 0) panel_ask(ahead, 2);
        vi dot[T_TOKENS][2];
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) dot[i][0] = dot[i][1] = t_start(k, x + i * stride, j);
        SPARK_UNROLL(8)
        for (unsigned g = 0; g < k.dot; g++) {
            const vi w0 = t_ints(levels, 2 * g), w1 = t_ints(levels, 2 * g + 1);
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++) {
                const vi q = t_word(x + i * stride + offsetof(spark__act256, q) + 4 * (j * k.dot + g));
                dot[i][0] = _mm512_dpbusd_epi32(dot[i][0], w0, q);
                dot[i][1] = _mm512_dpbusd_epi32(dot[i][1], w1, q);
            }
        }
        const uint8_t *s = scales + j / dots_a_scale * 2 * PANEL_LINE;
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) {
            isum[i][0] = t_scaled(k, isum[i][0], dot[i][0], t_ints(s, 0));
            isum[i][1] = t_scaled(k, isum[i][1], dot[i][1], t_ints(s, 1));
        }
        levels += (size_t)k.dot * 2 * PANEL_LINE;
    }
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++) {
            float *a = acc + (i * 2 + v) * 16;
            _mm512_store_ps(a, t_chain_256(k, isum[i][v], unit + v * PANEL_LINE, 2 * PANEL_LINE, x + i * stride,
                                           _mm512_load_ps(a)));
        }
}

SPARK_INLINE void t_tile_256(const t_tile *t, unsigned n, k_traits k)
{
    const uint8_t *unit = t->unit, *x = t->x;
    for (unsigned b = 0; b < t->n_units; b++) {
        t_block_256(k, unit, x, t->stride, n, t->acc, t->ahead);
        unit += (size_t)(k_head(k) + 64) * 2 * PANEL_LINE;
        x += sizeof(spark__act256);
    }
}

/* ---- Taking apart ---------------------------------------------------------------------------------------------- */

/* Blocks [b, b + n) of one panel into half v of their units. */
typedef void t_unpack_fn(spark_type type, const uint8_t *panel, size_t b, size_t n, unsigned v, uint8_t *unit);

SPARK_INLINE void t_unpack_32(spark_type type, const uint8_t *panel, size_t b, size_t n, unsigned v, uint8_t *unit)
{
    const unsigned head = panel_has_min(type) ? 4 : 2;
    for (size_t i = 0; i < n; i++, b++, unit += (size_t)(head + 16) * PANEL_LINE) {
        const l_src l = {l_block(type, panel, b), 0};
        uint8_t *to = unit + v * PANEL_LINE;
        vi w[8];
        l_levels_32(type, l, w);
        l_putf(to, l_d_32(type, l, b));
        if (panel_has_min(type)) l_putf(to + 2 * PANEL_LINE, l_halves(l, 32));
        for (unsigned g = 0; g < 8; g++) l_put(to + (head + 2 * g) * PANEL_LINE, w[g]);
    }
}

SPARK_INLINE void t_unpack_256(spark_type type, const uint8_t *panel, size_t b, size_t n, unsigned v, uint8_t *unit)
{
    const unsigned head = k_head(k_traits_of(type));
    for (size_t i = 0; i < n; i++, b++, unit += (size_t)(head + 64) * 2 * PANEL_LINE) {
        const l_src l = {l_block(type, panel, b), 0};
        uint8_t *to = unit + v * PANEL_LINE;
        l_head_256(type, l, b, to, 2 * PANEL_LINE);
        to += (size_t)head * 2 * PANEL_LINE;
        SPARK_UNROLL(8)
        for (unsigned j = 0; j < 8; j++) {
            vi w[8];
            l_levels_256(type, l, j, w);
            for (unsigned g = 0; g < 8; g++) l_put(to + (size_t)(8 * j + g) * 2 * PANEL_LINE, w[g]);
        }
    }
}

/* Any format, row by row through quant.h. Vector i of the head of one row is one float or int. */
static void t_unpack_any_row(const spark_levels *l, unsigned r, uint8_t *to, uint8_t *levels, unsigned n_elems)
{
    const size_t step = 2 * PANEL_LINE;
    memcpy(to + 4 * r, &l->d, 4);
    for (unsigned e = 0; e < n_elems; e++) levels[e / 4 * step + 4 * r + e % 4] = (uint8_t)(l->w[e] + 128);
    if (n_elems == 32) return;
    for (unsigned g = 0; g < 16; g++) {
        const int32_t s = l->s[g];
        const int16_t s8 = (int16_t)(8 * s); /* meets m16 = -16 * sum */
        memcpy(to + (1 + g) * step + 4 * r, &s, 4);
        memcpy(to + (17 + g / 2) * step + 4 * r + 2 * (g % 2), &s8, 2);
    }
}

static void t_unpack_any(spark_type type, const uint8_t *panel, size_t b, size_t n, unsigned v, uint8_t *unit)
{
    const unsigned elems = spark_type_lookup(type)->block_elems, bytes = spark_type_lookup(type)->block_bytes;
    const size_t head = elems == 32 ? 2 : 2 * (size_t)k_head(k_traits_of(type)), unit_lines = head + elems / 2;
    for (size_t i = 0; i < n; i++, unit += unit_lines * PANEL_LINE)
        for (unsigned r = 0; r < PANEL_ROWS; r++) {
            spark_levels l;
            spark_block_levels(type, panel + ((b + i) * PANEL_ROWS + r) * bytes, &l);
            uint8_t *to = unit + v * PANEL_LINE;
            t_unpack_any_row(&l, r, to, to + head * PANEL_LINE, elems);
        }
}

/* ---- Few tokens: straight from the panel ------------------------------------------------------------------------ */

/* One panel times n tokens, to out[n]. Chains and all of this are kept in variables: whatever is stored might change what
 * pointers lead to, and would be read again with every block. */
typedef struct t_direct {
    const uint8_t *panel;
    size_t n_blocks;
    const uint8_t *x;
    size_t stride;
} t_direct;

/* What step g of eight asks for of n lines: a burst of all of them would hold the sums up (measured: 6 to 12 %). */
SPARK_INLINE void t_ask_step(const uint8_t *lines, unsigned n, unsigned g)
{
    SPARK_UNROLL(8)
    for (unsigned i = g; i < n; i += 8) panel_ask_decode(lines + (size_t)i * PANEL_LINE, 1);
}

SPARK_INLINE void t_direct_32(spark_type type, const t_direct *t, unsigned n, vf *out)
{
    const int has_min = panel_has_min(type);
    const uint8_t *x = t->x, *const panel = t->panel;
    const size_t n_blocks = t->n_blocks, stride = t->stride;
    vf acc[T_DIRECT];
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++) acc[i] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, x += sizeof(spark__act32)) {
        const l_src l = {l_block(type, panel, b), 0};
        vi w[8], isum[T_DIRECT];
        l_levels_32(type, l, w);
        const vf d = l_d_32(type, l, b), m = has_min ? l_halves(l, 32) : _mm512_setzero_ps();
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++)
            isum[i] = has_min ? _mm512_setzero_si512() : t_word(x + i * stride + l_start_32(type));
        SPARK_UNROLL(8)
        for (unsigned g = 0; g < 8; g++) {
            t_ask_step(l.lines, l_lines(type) + 1, g);
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++)
                isum[i] = _mm512_dpbusd_epi32(isum[i], w[g],
                                              t_word(x + i * stride + offsetof(spark__act32, q) + 4 * g));
        }
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) acc[i] = t_chain_32(has_min, isum[i], d, m, x + i * stride, acc[i]);
    }
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++) out[i] = acc[i];
}

SPARK_INLINE void t_direct_256(spark_type type, const t_direct *t, unsigned n, vf *out)
{
    const k_traits k = k_traits_of(type);
    const unsigned dots = 8 / k.dot, dots_a_scale = 64 / k.dot / k.n_scale;
    const uint8_t *x = t->x, *const panel = t->panel;
    const size_t n_blocks = t->n_blocks, stride = t->stride;
    uint8_t head[26 * PANEL_LINE] SPARK_ALIGNED(64);
    const unsigned ahead = (l_lines(type) + 7) / 8; /* lines for each eighth of a block */
    vf acc[T_DIRECT];
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++) acc[i] = _mm512_setzero_ps();
    for (size_t b = 0; b < n_blocks; b++, x += sizeof(spark__act256)) {
        const l_src l = {l_block(type, panel, b), 0};
        const uint8_t *scales = head + (1u + (k.n_min != 0)) * PANEL_LINE;
        vi isum[T_DIRECT];
        l_head_256(type, l, b, head, PANEL_LINE);
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) isum[i] = _mm512_setzero_si512();
        SPARK_UNROLL(8)
        for (unsigned j = 0; j < 8; j++) {
            vi w[8];
            l_levels_256(type, l, j, w);
            SPARK_UNROLL(8)
            for (unsigned c = 0; c < dots; c++) SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++) {
                const uint8_t *xi = x + i * stride;
                vi dot = t_start(k, xi, j * dots + c);
                SPARK_UNROLL(8)
                for (unsigned g = c * k.dot; g < (c + 1) * k.dot; g++) {
                    if (i == 0) t_ask_step(l.lines + (size_t)j * ahead * PANEL_LINE, ahead, g);
                    dot = _mm512_dpbusd_epi32(dot, w[g], t_word(xi + offsetof(spark__act256, q) + 32 * j + 4 * g));
                }
                isum[i] = t_scaled(k, isum[i], dot, t_ints(scales, (j * dots + c) / dots_a_scale));
            }
        }
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) acc[i] = t_chain_256(k, isum[i], head, PANEL_LINE, x + i * stride, acc[i]);
    }
    SPARK_UNROLL(8)
    for (unsigned i = 0; i < n; i++) out[i] = acc[i];
}

/* ---- Whole products -------------------------------------------------------------------------------------------- */

typedef void t_direct_fn(const t_direct *t, vf *out);

typedef struct t_format {
    t_unpack_fn *unpack;
    t_tile_fn *const *tiles; /* [n - 1] */
    unsigned block, start;
} t_format;

/* One panel after the other, up to T_DIRECT tokens. */
SPARK_INLINE void t_run_direct(const spark_matmul_args *a, unsigned block, t_direct_fn *fn)
{
    for (uint32_t p = a->panel_begin; p < a->panel_end; p++) {
        const t_direct t = {a->w->data + p * a->w->panel_bytes, a->w->n_cols / block, a->acts, a->act_stride};
        vf out[T_DIRECT];
        fn(&t, out);
        for (uint32_t i = 0; i < a->n_tokens; i++) t_store(a, p, i, out[i]);
    }
}

/* All tokens of a chunk, in tiles of nearly equal size, over the units in scratch. */
static void t_run_tiles(const t_format *f, t_tile t, uint32_t n_tokens)
{
    const uint32_t n_tiles = (n_tokens + T_TOKENS - 1) / T_TOKENS, small = n_tokens / n_tiles,
                   extra = n_tokens % n_tiles;
    for (uint32_t i = 0; i < n_tiles; i++) {
        const uint32_t n = small + (i < extra);
        f->tiles[n - 1](&t);
        t.x += n * t.stride;
        t.acc += (size_t)n * 2 * PANEL_ROWS;
    }
}

/* Panels p and, if there is one, p + 1; tokens [token, token + n). A lone panel is computed twice and stored once. */
static void t_run_pair(const spark_matmul_args *a, const t_format *f, uint32_t p, uint32_t token, uint32_t n)
{
    float *acc = a->scratch;
    uint8_t *unit = (uint8_t *)a->scratch + T_ACC_BYTES;
    const uint32_t n_blocks = a->w->n_cols / f->block, step = T_COLS / f->block;
    const size_t act_bytes = f->block == 32 ? sizeof(spark__act32) : sizeof(spark__act256);
    const uint8_t *first = a->w->data + p * a->w->panel_bytes;
    const uint8_t *second = p + 1 < a->panel_end ? first + a->w->panel_bytes : first;
    memset(acc, 0, n * (size_t)2 * PANEL_LINE);
    for (uint32_t b = 0; b < n_blocks; b += step) {
        const uint32_t n_units = n_blocks - b < step ? n_blocks - b : step;
        f->unpack(a->w->type, first, b, n_units, 0, unit);
        f->unpack(a->w->type, second, b, n_units, 1, unit);
        const uint32_t n_asks = n_units * T_ASKS(f->block) * ((n + T_TOKENS - 1) / T_TOKENS);
        panel_ahead ahead = panel_after(a->w, first, 2, (b + step) * f->block, T_COLS, n_asks);
        const uint8_t *x = a->acts + token * a->act_stride + b * act_bytes;
        t_run_tiles(f, (t_tile){unit, n_units, x, a->act_stride, acc, f->start, &ahead}, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        t_store(a, p, token + i, _mm512_load_ps(acc + (size_t)i * 2 * PANEL_ROWS));
        if (second != first) t_store(a, p + 1, token + i, _mm512_load_ps(acc + ((size_t)i * 2 + 1) * PANEL_ROWS));
    }
}

static void t_run(const spark_matmul_args *a, const t_format *f)
{
    for (uint32_t token = 0; token < a->n_tokens; token += PANEL_TOKENS) {
        const uint32_t n = a->n_tokens - token < PANEL_TOKENS ? a->n_tokens - token : PANEL_TOKENS;
        for (uint32_t p = a->panel_begin; p < a->panel_end; p += 2) t_run_pair(a, f, p, token, n);
    }
}

/* ---- One set of functions a format ----------------------------------------------------------------------------- */

#define T_TILES(name, call)                                                                                            \
    static void t_tile_##name##_1(const t_tile *t) { call(1); }                                                        \
    static void t_tile_##name##_2(const t_tile *t) { call(2); }                                                        \
    static void t_tile_##name##_3(const t_tile *t) { call(3); }                                                        \
    static void t_tile_##name##_4(const t_tile *t) { call(4); }                                                        \
    static void t_tile_##name##_5(const t_tile *t) { call(5); }                                                        \
    static void t_tile_##name##_6(const t_tile *t) { call(6); }                                                        \
    static t_tile_fn *const t_tiles_##name[T_TOKENS] = {t_tile_##name##_1, t_tile_##name##_2, t_tile_##name##_3,       \
                                                        t_tile_##name##_4, t_tile_##name##_5, t_tile_##name##_6};

#define T_DIRECT_FN(name, size, n)                                                                                     \
    static void t_direct_##name##_##n(const t_direct *t, vf *out) { t_direct_##size(SPARK_TYPE_##name, t, n, out); }

/* Blocks of 256 are long code: gcc takes minutes for more than four tokens of them. */
#define T_DIRECTS_256(name)                                                                                            \
    T_DIRECT_FN(name, 256, 1)                                                                                          \
    T_DIRECT_FN(name, 256, 2)                                                                                          \
    T_DIRECT_FN(name, 256, 3)                                                                                          \
    T_DIRECT_FN(name, 256, 4)                                                                                          \
    static t_direct_fn *const t_directs_##name[] = {t_direct_##name##_1, t_direct_##name##_2, t_direct_##name##_3,     \
                                                    t_direct_##name##_4};

#define T_DIRECTS_32(name)                                                                                             \
    T_DIRECT_FN(name, 32, 1)                                                                                           \
    T_DIRECT_FN(name, 32, 2)                                                                                           \
    T_DIRECT_FN(name, 32, 3)                                                                                           \
    T_DIRECT_FN(name, 32, 4)                                                                                           \
    T_DIRECT_FN(name, 32, 5)                                                                                           \
    T_DIRECT_FN(name, 32, 6)                                                                                           \
    T_DIRECT_FN(name, 32, 7)                                                                                           \
    T_DIRECT_FN(name, 32, 8)                                                                                           \
    static t_direct_fn *const t_directs_##name[T_DIRECT] = {                                                           \
        t_direct_##name##_1, t_direct_##name##_2, t_direct_##name##_3, t_direct_##name##_4,                            \
        t_direct_##name##_5, t_direct_##name##_6, t_direct_##name##_7, t_direct_##name##_8};

#define T_PRODUCT(name, size, tile_set, start_at)                                                                      \
    T_DIRECTS_##size(name) static void t_unpack_##name(spark_type type, const uint8_t *panel, size_t b, size_t n,      \
                                                       unsigned v, uint8_t *unit)                                      \
    {                                                                                                                  \
        (void)type;                                                                                                    \
        t_unpack_##size(SPARK_TYPE_##name, panel, b, n, v, unit);                                                      \
    }                                                                                                                  \
    static void spark_k_matmul_##name##_avx512(const spark_matmul_args *a)                                             \
    {                                                                                                                  \
        static const t_format f = {t_unpack_##name, t_tiles_##tile_set, size, start_at};                               \
        if (a->n_tokens <= SPARK_COUNT(t_directs_##name))                                                              \
            t_run_direct(a, size, t_directs_##name[a->n_tokens - 1]);                                                  \
        else                                                                                                           \
            t_run(a, &f);                                                                                              \
    }

#define T_PLAIN(n)   t_tile_32(t, n, 0)
#define T_MINIMUM(n) t_tile_32(t, n, 1)
T_TILES(plain, T_PLAIN)
T_TILES(minimum, T_MINIMUM)
#define T_Q2_K(n)   t_tile_256(t, n, k_traits_of(SPARK_TYPE_Q2_K))
#define T_Q3_K(n)   t_tile_256(t, n, k_traits_of(SPARK_TYPE_Q3_K))
#define T_Q4_K(n)   t_tile_256(t, n, k_traits_of(SPARK_TYPE_Q4_K))
#define T_Q5_K(n)   t_tile_256(t, n, k_traits_of(SPARK_TYPE_Q5_K))
#define T_Q6_K(n)   t_tile_256(t, n, k_traits_of(SPARK_TYPE_Q6_K))
#define T_IQ4_XS(n) t_tile_256(t, n, k_traits_of(SPARK_TYPE_IQ4_XS))
#define T_ANY(n)    t_tile_256(t, n, k_traits_of(SPARK_TYPE_IQ2_S))
T_TILES(Q2_K, T_Q2_K)
T_TILES(Q3_K, T_Q3_K)
T_TILES(Q4_K, T_Q4_K)
T_TILES(Q5_K, T_Q5_K)
T_TILES(Q6_K, T_Q6_K)
T_TILES(IQ4_XS, T_IQ4_XS)
T_TILES(any, T_ANY)

T_PRODUCT(Q4_0, 32, plain, offsetof(spark__act32, m8))
T_PRODUCT(Q5_0, 32, plain, offsetof(spark__act32, m16))
T_PRODUCT(Q8_0, 32, plain, offsetof(spark__act32, m128))
T_PRODUCT(IQ4_NL, 32, plain, offsetof(spark__act32, m128))
T_PRODUCT(Q4_1, 32, minimum, 0)
T_PRODUCT(Q5_1, 32, minimum, 0)
T_PRODUCT(Q2_K, 256, Q2_K, 0)
T_PRODUCT(Q3_K, 256, Q3_K, 0)
T_PRODUCT(Q4_K, 256, Q4_K, 0)
T_PRODUCT(Q5_K, 256, Q5_K, 0)
T_PRODUCT(Q6_K, 256, Q6_K, 0)
T_PRODUCT(IQ4_XS, 256, IQ4_XS, 0)

/* Formats without a kernel of their own: taken apart by quant.h, then the same tiles. */
static void spark_k_matmul_any_avx512(const spark_matmul_args *a)
{
    static const t_format any_32 = {t_unpack_any, t_tiles_plain, 32, offsetof(spark__act32, m128)};
    static const t_format any_256 = {t_unpack_any, t_tiles_any, 256, 0};
    t_run(a, spark_type_lookup(a->w->type)->block_elems == 32 ? &any_32 : &any_256);
}

panel_product *spark__matmul_avx512(spark_type type)
{
    static panel_product *const own[SPARK_N_TYPES] = {
        [SPARK_TYPE_Q4_0] = spark_k_matmul_Q4_0_avx512, [SPARK_TYPE_Q4_1] = spark_k_matmul_Q4_1_avx512,
        [SPARK_TYPE_Q5_0] = spark_k_matmul_Q5_0_avx512, [SPARK_TYPE_Q5_1] = spark_k_matmul_Q5_1_avx512,
        [SPARK_TYPE_Q8_0] = spark_k_matmul_Q8_0_avx512, [SPARK_TYPE_IQ4_NL] = spark_k_matmul_IQ4_NL_avx512,
        [SPARK_TYPE_Q2_K] = spark_k_matmul_Q2_K_avx512, [SPARK_TYPE_Q3_K] = spark_k_matmul_Q3_K_avx512,
        [SPARK_TYPE_Q4_K] = spark_k_matmul_Q4_K_avx512, [SPARK_TYPE_Q5_K] = spark_k_matmul_Q5_K_avx512,
        [SPARK_TYPE_Q6_K] = spark_k_matmul_Q6_K_avx512, [SPARK_TYPE_IQ4_XS] = spark_k_matmul_IQ4_XS_avx512,
    };
    return own[type] ? own[type] : spark_k_matmul_any_avx512;
}

void spark__matmul_init_avx512(spark_kern *k)
{
    for (uint32_t id = 0; id < SPARK_N_TYPES; id++) {
        const spark_type_info *t = spark_type_lookup(id);
        if (t && t->act_block) k->matmul[id] = spark__matmul_avx512((spark_type)id);
    }
}
