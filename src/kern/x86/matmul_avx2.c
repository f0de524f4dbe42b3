/* matmul_avx2.c - products with packed weights on AVX2. Lanes are output rows; NUMERICS.md fixes each chain.
 *
 * A panel of 16 rows (two vectors) is taken apart into scratch for 512 columns, and all tokens of a chunk pass over it in tiles
 * of 16 rows x up to 4 tokens. Two kinds of levels:
 * - unsigned (Q2..Q6): vpmaddubsw, summed in int16 as far as that is exact (eight for 4 bits, four for 5, two for 6), then one
 *   vpmaddwd multiplies by the sub-scale and widens;
 * - signed (Q8_0, IQ4_*, and formats without a kernel of their own): |w| with sign(x, w), each product widened at once.
 *
 * Accounting per 32 columns x 8 rows x 1 token (three vector ports, multiplies on two of them):
 *   Q4_0, Q4_K  8 vpmaddubsw + 7 adds + 1 vpmaddwd + 1 add     Q5_K  8 + 6 + 2 + 2     Q6_K  8 + 4 + 4 + 4
 *   signed      8 x (sign, vpmaddubsw, vpmaddwd, add) */
#include <immintrin.h>

#include "kern/panel.h"
#include "kern/quant.h"
#include "kern/x86/traits.h"

typedef __m256i vi;
typedef __m256 vf;

/* Levels need no offset where the sums of unsigned products fit int16. Q3_K is four times its level + 16. */
SPARK_INLINE k_traits k_traits_of(spark_type type)
{
    switch ((int)type) {
    case SPARK_TYPE_Q2_K: return (k_traits){4, 0, 16, 0, 8, 0, 0};
    case SPARK_TYPE_Q3_K: return (k_traits){4, 0, 16, 8, 0, 2, 0};
    case SPARK_TYPE_Q4_K: return (k_traits){8, 0, 8, 0, 4, 0, 0};
    case SPARK_TYPE_Q5_K: return (k_traits){4, 0, 8, 0, 4, 0, 0};
    case SPARK_TYPE_Q6_K: return (k_traits){2, 0, 16, 8, 0, 0, 0};
    case SPARK_TYPE_IQ4_XS: return (k_traits){1, 0, 8, 0, 0, 0, 1};
    default: return (k_traits){1, 0, 16, 0, 0, 0, 1};
    }
}

/* ---- The operations that levels.h asks for --------------------------------------------------------------------- */

#define H_LINE 32u /* bytes of half a line: one vector */

#define l_line(s, i)         h_load((s).lines + (i) * (size_t)PANEL_LINE + (s).half * H_LINE)
#define l_halves(s, at)      _mm256_cvtph_ps(h_load_128((s).lines + (at) + (s).half * 16))
#define l_words(s, at)       _mm256_cvtepu16_epi32(h_load_128((s).lines + (at) + (s).half * 16))
#define l_put(to, x)         _mm256_store_si256((__m256i *)(void *)(to), x)
#define l_putf(to, x)        _mm256_store_ps((float *)(void *)(to), x)
#define l_all8(x)            _mm256_set1_epi8((char)(x))
#define l_all32(x)           _mm256_set1_epi32(x)
#define l_right(x, n)        _mm256_srli_epi32(x, (int)(n))
#define l_right_signed(x, n) _mm256_srai_epi32(x, (int)(n))
#define l_left(x, n)         _mm256_slli_epi32(x, (int)(n))
#define l_left16(x, n)       _mm256_slli_epi16(x, (int)(n))
#define l_and(a, b)          _mm256_and_si256(a, b)
#define l_xor(a, b)          _mm256_xor_si256(a, b)
#define l_or_and(a, b, m)    _mm256_or_si256(a, _mm256_and_si256(b, m))
#define l_sub8(a, b)         _mm256_sub_epi8(a, b)
#define l_sub16(a, b)        _mm256_sub_epi16(a, b)
#define l_add16(a, b)        _mm256_add_epi16(a, b)
#define l_sub32(a, b)        _mm256_sub_epi32(a, b)
#define l_negative(x)        _mm256_xor_ps(x, _mm256_set1_ps(-0.0f))
#define l_table(t, index)    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), index)
#define l_scale_signed(s)    h_twice(l_and(s, l_all32(0xffff)))
#define l_scale(s)           h_twice(s) /* both halves of a lane, one for each of the two sums that vpmaddwd joins */

SPARK_INLINE vi h_load(const uint8_t *p) { return _mm256_load_si256((const __m256i *)(const void *)p); }
SPARK_INLINE vf h_vec(const uint8_t *p) { return _mm256_load_ps((const float *)(const void *)p); }
SPARK_INLINE __m128i h_load_128(const uint8_t *p) { return _mm_load_si128((const __m128i *)(const void *)p); }
SPARK_INLINE vi h_twice(vi s) { return _mm256_or_si256(s, _mm256_slli_epi32(s, 16)); }

#include "kern/x86/levels.h"

/* ---- What a tile sees ------------------------------------------------------------------------------------------ */

#define H_COLS      512u /* columns taken apart at a time: at most 19 KiB */
#define H_TOKENS    4u
#define H_ACC_BYTES ((size_t)PANEL_TOKENS * PANEL_LINE)

_Static_assert(H_ACC_BYTES + H_COLS / 256 * PANEL_LINE * (128 + 17) <= PANEL_SCRATCH, "scratch holds the largest unit");

typedef struct h_tile {
    const uint8_t *unit;
    unsigned n_units;
    const uint8_t *x;
    size_t stride;
    float *acc;         /* [token][16] */
    unsigned start;     /* blocks of 32: where spark__act32 has the start; 0 = at zero */
    panel_ahead *ahead; /* asked H_ASKS(block) times a unit */
} h_tile;

#define H_ASKS(block) ((block) == 32 ? 1u : 8u)

typedef void h_tile_fn(const h_tile *t);

SPARK_INLINE vi h_word(const uint8_t *p)
{
    int x;
    memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}

SPARK_INLINE vf h_float(const uint8_t *p)
{
    float x;
    memcpy(&x, p, 4);
    return _mm256_set1_ps(x);
}

/* isum + the pairs of `sum` times those of `scale`. */
SPARK_INLINE vi h_scaled(vi isum, vi sum, vi scale) { return _mm256_add_epi32(isum, _mm256_madd_epi16(sum, scale)); }

/* Columns of `dot` groups, from q: unsigned levels, summed in int16, times scale[v], into isum. */
SPARK_INLINE void h_unsigned(unsigned n, unsigned dot, const uint8_t *levels, const uint8_t *q, size_t stride,
                             const vi scale[2], vi isum[][2])
{
    vi sum[H_TOKENS][2];
    SPARK_UNROLL(8)
    for (unsigned g = 0; g < dot; g++) {
        const vi w0 = h_load(levels + (size_t)g * PANEL_LINE), w1 = h_load(levels + (size_t)g * PANEL_LINE + H_LINE);
        SPARK_UNROLL(4)
        for (unsigned i = 0; i < n; i++) {
            const vi x = h_word(q + i * stride + 4 * (size_t)g);
            const vi p0 = _mm256_maddubs_epi16(w0, x), p1 = _mm256_maddubs_epi16(w1, x);
            sum[i][0] = g == 0 ? p0 : _mm256_add_epi16(sum[i][0], p0);
            sum[i][1] = g == 0 ? p1 : _mm256_add_epi16(sum[i][1], p1);
        }
    }
    SPARK_UNROLL(4)
    for (unsigned i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++) isum[i][v] = h_scaled(isum[i][v], sum[i][v], scale[v]);
}

/* One group of signed levels (|w|, then w), times scale[v], into isum. */
SPARK_INLINE void h_signed(unsigned n, const uint8_t *levels, const uint8_t *q, size_t stride, const vi scale[2],
                           vi isum[][2])
{
    SPARK_UNROLL(2)
    for (unsigned v = 0; v < 2; v++) {
        const vi magnitude = h_load(levels + v * H_LINE), w = h_load(levels + PANEL_LINE + v * H_LINE);
        SPARK_UNROLL(4)
        for (unsigned i = 0; i < n; i++) {
            const vi x = _mm256_sign_epi8(h_word(q + i * stride), w);
            isum[i][v] = h_scaled(isum[i][v], _mm256_maddubs_epi16(magnitude, x), scale[v]);
        }
    }
}

/* ---- Tiles of 32 columns a unit: d, [m], levels[8] or signed levels[8][2] ---------------------------------------- */

SPARK_INLINE vf h_chain_32(int has_min, vi isum, const uint8_t *head, const uint8_t *x, vf acc)
{
    const vf dx = h_float(x + offsetof(spark__act32, d)), d = h_vec(head), sum = _mm256_cvtepi32_ps(isum);
    if (!has_min) return _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, acc);
    const vf u = _mm256_fmadd_ps(h_vec(head + PANEL_LINE), h_float(x + offsetof(spark__act32, sum)),
                                 _mm256_mul_ps(d, sum));
    return _mm256_fmadd_ps(dx, u, acc);
}

/* dot: groups summed in int16 (8, 4), or 0 for signed levels. */
SPARK_INLINE void h_tile_32(const h_tile *t, unsigned n, unsigned dot, int has_min)
{
    const size_t stride = t->stride, unit_bytes = (size_t)(1u + (has_min != 0) + (dot ? 8 : 16)) * PANEL_LINE;
    const uint8_t *unit = t->unit, *x = t->x;
    const vi one = _mm256_set1_epi16(1), ones[2] = {one, one};
    for (unsigned b = 0; b < t->n_units; b++, unit += unit_bytes, x += sizeof(spark__act32)) {
        const uint8_t *levels = unit + (has_min ? 2 : 1) * (size_t)PANEL_LINE, *q = x + offsetof(spark__act32, q);
        panel_ask(t->ahead, 1);
        vi isum[H_TOKENS][2];
        SPARK_UNROLL(4)
        for (unsigned i = 0; i < n; i++)
            isum[i][0] = isum[i][1] = !has_min && dot ? h_word(x + i * stride + t->start) : _mm256_setzero_si256();
        SPARK_UNROLL(8)
        for (unsigned g = 0; g < 8; g += dot ? dot : 1) {
            if (dot)
                h_unsigned(n, dot, levels + (size_t)g * PANEL_LINE, q + 4 * (size_t)g, stride, ones, isum);
            else
                h_signed(n, levels + (size_t)g * 2 * PANEL_LINE, q + 4 * (size_t)g, stride, ones, isum);
        }
        SPARK_UNROLL(4)
        for (unsigned i = 0; i < n; i++)
            for (unsigned v = 0; v < 2; v++) {
                float *a = t->acc + (2 * i + v) * 8;
                _mm256_store_ps(a,
                                h_chain_32(has_min, isum[i][v], unit + v * H_LINE, x + i * stride, _mm256_load_ps(a)));
            }
    }
}

/* ---- Tiles of 256 columns a unit: head, levels[64] or signed levels[64][2] --------------------------------------- */

/* `head` is the half of this vector. */
SPARK_INLINE vf h_chain_256(k_traits k, vi isum, const uint8_t *head, const uint8_t *x, vf acc)
{
    const uint8_t *off = head + (1u + (k.n_min != 0) + k.n_scale) * PANEL_LINE, *min = off + k.n_off * PANEL_LINE;
    const uint8_t *sum32 = x + offsetof(spark__act256, sum32), *m16 = x + offsetof(spark__act256, m16);
    const vf dx = h_float(x);
    SPARK_UNROLL(8)
    for (unsigned p = 0; p < k.n_off; p++)
        isum = h_scaled(isum, h_word(m16 + 4 * (size_t)p), h_load(off + p * PANEL_LINE));
    if (k.shift) isum = _mm256_srai_epi32(isum, 2);
    const vf d = h_vec(head), sum = _mm256_cvtepi32_ps(isum);
    if (k.n_min == 0) return _mm256_fmadd_ps(_mm256_mul_ps(d, dx), sum, acc);
    vi msum = _mm256_setzero_si256();
    SPARK_UNROLL(8)
    for (unsigned p = 0; p < k.n_min; p++)
        msum = h_scaled(msum, h_word((k.n_min == 4 ? sum32 : m16) + 4 * (size_t)p), h_load(min + p * PANEL_LINE));
    if (k.n_min == 8) msum = _mm256_srai_epi32(msum, 4);
    const vf u = _mm256_fmadd_ps(h_vec(head + PANEL_LINE), _mm256_cvtepi32_ps(msum), _mm256_mul_ps(d, sum));
    return _mm256_fmadd_ps(dx, u, acc);
}

SPARK_INLINE void h_block_256(k_traits k, const uint8_t *unit, const uint8_t *x, size_t stride, unsigned n, float *acc,
                              panel_ahead *ahead)
{
    const unsigned n_steps = 64 / k.dot, a_scale = n_steps / k.n_scale;
    const uint8_t *scales = unit + (1u + (k.n_min != 0)) * PANEL_LINE, *levels = unit + k_head(k) * PANEL_LINE;
    vi isum[H_TOKENS][2];
    SPARK_UNROLL(4)
    for (unsigned i = 0; i < n; i++) isum[i][0] = isum[i][1] = _mm256_setzero_si256();
    const uint8_t *q = x + offsetof(spark__act256, q);
    for (unsigned s = 0; s < k.n_scale; s++, scales += PANEL_LINE) {
        if (s % (k.n_scale / H_ASKS(256)) == 0) panel_ask(ahead, 1);
        const vi scale[2] = {h_load(scales), h_load(scales + H_LINE)};
        SPARK_UNROLL(8)
        for (unsigned j = 0; j < a_scale; j++) {
            if (k.wide)
                h_signed(n, levels, q, stride, scale, isum);
            else
                h_unsigned(n, k.dot, levels, q, stride, scale, isum);
            levels += k.dot * (k.wide ? 2u : 1u) * PANEL_LINE;
            q += 4 * (size_t)k.dot;
        }
    }
    SPARK_UNROLL(4)
    for (unsigned i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++) {
            float *a = acc + (2 * i + v) * 8;
            _mm256_store_ps(a, h_chain_256(k, isum[i][v], unit + v * H_LINE, x + i * stride, _mm256_load_ps(a)));
        }
}

SPARK_INLINE void h_tile_256(const h_tile *t, unsigned n, k_traits k)
{
    const uint8_t *unit = t->unit, *x = t->x;
    for (unsigned b = 0; b < t->n_units; b++, x += sizeof(spark__act256)) {
        h_block_256(k, unit, x, t->stride, n, t->acc, t->ahead);
        unit += (size_t)(k_head(k) + (k.wide ? 128 : 64)) * PANEL_LINE;
    }
}

/* ---- Taking apart ---------------------------------------------------------------------------------------------- */

typedef void h_unpack_fn(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit);

/* Eight groups of one half; levels with offset 128 become |w| and w. */
SPARK_INLINE void h_put_levels(const vi w[8], int is_signed, uint8_t *to)
{
    SPARK_UNROLL(8)
    for (unsigned g = 0; g < 8; g++) {
        if (!is_signed) {
            l_put(to + (size_t)g * PANEL_LINE, w[g]);
            continue;
        }
        const vi x = l_xor(w[g], l_all8(0x80));
        l_put(to + (size_t)g * 2 * PANEL_LINE, _mm256_abs_epi8(x));
        l_put(to + (size_t)(g * 2 + 1) * PANEL_LINE, x);
    }
}

SPARK_INLINE int h_is_signed(spark_type type)
{
    return l_start_32(type) == offsetof(spark__act32, m128) && !panel_has_min(type);
}

SPARK_INLINE void h_unpack_32(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)
{
    const unsigned head = panel_has_min(type) ? 2 : 1;
    const int is_signed = h_is_signed(type);
    for (size_t i = 0; i < n; i++, b++, unit += (size_t)(head + (is_signed ? 16 : 8)) * PANEL_LINE)
        for (unsigned half = 0; half < 2; half++) {
            const l_src l = {l_block(type, panel, b), half};
            uint8_t *to = unit + half * H_LINE;
            vi w[8];
            if (half == 0) panel_ask_decode(l.lines, l_lines(type) + 1);
            l_putf(to, l_d_32(type, l, b));
            if (panel_has_min(type)) l_putf(to + PANEL_LINE, l_halves(l, 32));
            l_levels_32(type, l, w);
            h_put_levels(w, is_signed, to + (size_t)head * PANEL_LINE);
        }
}

SPARK_INLINE void h_unpack_256(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)
{
    const k_traits k = k_traits_of(type);
    const unsigned eight = k.wide ? 16 : 8;         /* lines of eight groups */
    const unsigned ahead = (l_lines(type) + 7) / 8; /* lines for each eighth of a block */
    for (size_t i = 0; i < n; i++, b++, unit += (size_t)(k_head(k) + 8 * eight) * PANEL_LINE)
        for (unsigned half = 0; half < 2; half++) {
            const l_src l = {l_block(type, panel, b), half};
            uint8_t *to = unit + half * H_LINE;
            l_head_256(type, l, b, to, PANEL_LINE);
            to += k_head(k) * PANEL_LINE;
            SPARK_UNROLL(8)
            for (unsigned j = 0; j < 8; j++) {
                vi w[8];
                if (half == 0) panel_ask_decode(l.lines + (size_t)j * ahead * PANEL_LINE, ahead);
                l_levels_256(type, l, j, w);
                h_put_levels(w, k.wide, to + (size_t)j * eight * PANEL_LINE);
            }
        }
}

/* Any format, row by row through quant.h. */
static void h_unpack_any(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)
{
    const unsigned elems = spark_type_lookup(type)->block_elems, bytes = spark_type_lookup(type)->block_bytes;
    const unsigned head = elems == 32 ? 1 : k_head(k_traits_of(type));
    for (size_t i = 0; i < n; i++, unit += (size_t)(head + elems / 2) * PANEL_LINE)
        for (unsigned r = 0; r < PANEL_ROWS; r++) {
            spark_levels l;
            spark_block_levels(type, panel + ((b + i) * PANEL_ROWS + r) * bytes, &l);
            uint8_t *to = unit + 4 * (size_t)r, *levels = to + (size_t)head * PANEL_LINE;
            memcpy(to, &l.d, 4);
            for (unsigned e = 0; e < elems; e++) {
                uint8_t *at = levels + (size_t)(e / 4) * 2 * PANEL_LINE + e % 4;
                at[0] = (uint8_t)(l.w[e] < 0 ? -l.w[e] : l.w[e]);
                at[PANEL_LINE] = (uint8_t)l.w[e];
            }
            for (unsigned g = 0; g + 1 < head; g++) {
                const int16_t twice[2] = {l.s[g], l.s[g]};
                memcpy(to + (1 + g) * PANEL_LINE, twice, 4);
            }
        }
}

/* ---- Whole products -------------------------------------------------------------------------------------------- */

typedef struct h_format {
    h_unpack_fn *unpack;
    h_tile_fn *const *tiles; /* [n - 1] */
    unsigned block, start;
} h_format;

/* Lanes that are rows: all ones for the first n of eight. */
SPARK_INLINE vi h_mask(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < 8 ? n : 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static void h_store(const spark_matmul_args *a, uint32_t row, uint32_t token, vf y)
{
    if (row >= a->w->n_rows) return;
    const vi mask = h_mask(a->w->n_rows - row);
    if (a->bias) y = _mm256_add_ps(y, _mm256_maskload_ps(a->bias + row, mask));
    _mm256_maskstore_ps(a->out + token * a->out_stride + row, mask, y);
}

/* All tokens of a chunk, in tiles of nearly equal size, over the units in scratch. */
static void h_run_tiles(const h_format *f, h_tile t, uint32_t n_tokens)
{
    const uint32_t n_tiles = (n_tokens + H_TOKENS - 1) / H_TOKENS, small = n_tokens / n_tiles,
                   extra = n_tokens % n_tiles;
    for (uint32_t i = 0; i < n_tiles; i++) {
        const uint32_t n = small + (i < extra);
        f->tiles[n - 1](&t);
        t.x += n * t.stride;
        t.acc += (size_t)n * PANEL_ROWS;
    }
}

static void h_run_panel(const spark_matmul_args *a, const h_format *f, uint32_t p, uint32_t token, uint32_t n)
{
    float *acc = a->scratch;
    uint8_t *unit = (uint8_t *)a->scratch + H_ACC_BYTES;
    const uint32_t n_blocks = a->w->n_cols / f->block, step = H_COLS / f->block;
    const size_t act_bytes = f->block == 32 ? sizeof(spark__act32) : sizeof(spark__act256);
    const uint8_t *panel = a->w->data + p * a->w->panel_bytes;
    memset(acc, 0, n * (size_t)PANEL_LINE);
    for (uint32_t b = 0; b < n_blocks; b += step) {
        const uint32_t n_units = n_blocks - b < step ? n_blocks - b : step;
        f->unpack(a->w->type, panel, b, n_units, unit);
        const uint32_t n_asks = n_units * H_ASKS(f->block) * ((n + H_TOKENS - 1) / H_TOKENS);
        panel_ahead ahead = panel_after(a->w, panel, 1, (b + step) * f->block, H_COLS, n_asks);
        const uint8_t *x = a->acts + token * a->act_stride + b * act_bytes;
        h_run_tiles(f, (h_tile){unit, n_units, x, a->act_stride, acc, f->start, &ahead}, n);
    }
    for (uint32_t i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++)
            h_store(a, p * PANEL_ROWS + 8 * v, token + i, _mm256_load_ps(acc + (size_t)i * PANEL_ROWS + (size_t)8 * v));
}

static void h_run(const spark_matmul_args *a, const h_format *f)
{
    for (uint32_t token = 0; token < a->n_tokens; token += PANEL_TOKENS) {
        const uint32_t n = a->n_tokens - token < PANEL_TOKENS ? a->n_tokens - token : PANEL_TOKENS;
        for (uint32_t p = a->panel_begin; p < a->panel_end; p++) h_run_panel(a, f, p, token, n);
    }
}

/* ---- One set of functions a format ----------------------------------------------------------------------------- */

#define H_TILES(name, call)                                                                                            \
    static void h_tile_##name##_1(const h_tile *t) { call(1); }                                                        \
    static void h_tile_##name##_2(const h_tile *t) { call(2); }                                                        \
    static void h_tile_##name##_3(const h_tile *t) { call(3); }                                                        \
    static void h_tile_##name##_4(const h_tile *t) { call(4); }                                                        \
    static h_tile_fn *const h_tiles_##name[H_TOKENS] = {h_tile_##name##_1, h_tile_##name##_2, h_tile_##name##_3,       \
                                                        h_tile_##name##_4};

#define H_PRODUCT(name, size, tile_set, start_at)                                                                      \
    static void h_unpack_##name(spark_type type, const uint8_t *panel, size_t b, size_t n, uint8_t *unit)              \
    {                                                                                                                  \
        (void)type;                                                                                                    \
        h_unpack_##size(SPARK_TYPE_##name, panel, b, n, unit);                                                         \
    }                                                                                                                  \
    static void spark_k_matmul_##name##_avx2(const spark_matmul_args *a)                                               \
    {                                                                                                                  \
        static const h_format f = {h_unpack_##name, h_tiles_##tile_set, size, start_at};                               \
        h_run(a, &f);                                                                                                  \
    }

#define H_FOUR(n)     h_tile_32(t, n, 8, 0)
#define H_FIVE(n)     h_tile_32(t, n, 4, 0)
#define H_FOUR_MIN(n) h_tile_32(t, n, 8, 1)
#define H_FIVE_MIN(n) h_tile_32(t, n, 4, 1)
#define H_SIGNED(n)   h_tile_32(t, n, 0, 0)
H_TILES(four, H_FOUR)
H_TILES(five, H_FIVE)
H_TILES(four_min, H_FOUR_MIN)
H_TILES(five_min, H_FIVE_MIN)
H_TILES(signed, H_SIGNED)
#define H_Q2_K(n)   h_tile_256(t, n, k_traits_of(SPARK_TYPE_Q2_K))
#define H_Q3_K(n)   h_tile_256(t, n, k_traits_of(SPARK_TYPE_Q3_K))
#define H_Q4_K(n)   h_tile_256(t, n, k_traits_of(SPARK_TYPE_Q4_K))
#define H_Q5_K(n)   h_tile_256(t, n, k_traits_of(SPARK_TYPE_Q5_K))
#define H_Q6_K(n)   h_tile_256(t, n, k_traits_of(SPARK_TYPE_Q6_K))
#define H_IQ4_XS(n) h_tile_256(t, n, k_traits_of(SPARK_TYPE_IQ4_XS))
#define H_ANY(n)    h_tile_256(t, n, k_traits_of(SPARK_TYPE_IQ2_S))
H_TILES(Q2_K, H_Q2_K)
H_TILES(Q3_K, H_Q3_K)
H_TILES(Q4_K, H_Q4_K)
H_TILES(Q5_K, H_Q5_K)
H_TILES(Q6_K, H_Q6_K)
H_TILES(IQ4_XS, H_IQ4_XS)
H_TILES(any, H_ANY)

H_PRODUCT(Q4_0, 32, four, offsetof(spark__act32, m8))
H_PRODUCT(Q5_0, 32, five, offsetof(spark__act32, m16))
H_PRODUCT(Q4_1, 32, four_min, 0)
H_PRODUCT(Q5_1, 32, five_min, 0)
H_PRODUCT(Q8_0, 32, signed, 0)
H_PRODUCT(IQ4_NL, 32, signed, 0)
H_PRODUCT(Q2_K, 256, Q2_K, 0)
H_PRODUCT(Q3_K, 256, Q3_K, 0)
H_PRODUCT(Q4_K, 256, Q4_K, 0)
H_PRODUCT(Q5_K, 256, Q5_K, 0)
H_PRODUCT(Q6_K, 256, Q6_K, 0)
H_PRODUCT(IQ4_XS, 256, IQ4_XS, 0)

/* Formats without a kernel of their own: taken apart by quant.h, then the same tiles. */
static void spark_k_matmul_any_avx2(const spark_matmul_args *a)
{
    static const h_format any_32 = {h_unpack_any, h_tiles_signed, 32, 0};
    static const h_format any_256 = {h_unpack_any, h_tiles_any, 256, 0};
    h_run(a, spark_type_lookup(a->w->type)->block_elems == 32 ? &any_32 : &any_256);
}

void spark__matmul_init_avx2(spark_kern *k)
{
    for (uint32_t id = 0; id < SPARK_N_TYPES; id++) {
        const spark_type_info *t = spark_type_lookup(id);
        if (t && t->act_block) k->matmul[id] = spark_k_matmul_any_avx2;
    }
    k->matmul[SPARK_TYPE_Q4_0] = spark_k_matmul_Q4_0_avx2;
    k->matmul[SPARK_TYPE_Q4_1] = spark_k_matmul_Q4_1_avx2;
    k->matmul[SPARK_TYPE_Q5_0] = spark_k_matmul_Q5_0_avx2;
    k->matmul[SPARK_TYPE_Q5_1] = spark_k_matmul_Q5_1_avx2;
    k->matmul[SPARK_TYPE_Q8_0] = spark_k_matmul_Q8_0_avx2;
    k->matmul[SPARK_TYPE_IQ4_NL] = spark_k_matmul_IQ4_NL_avx2;
    k->matmul[SPARK_TYPE_Q2_K] = spark_k_matmul_Q2_K_avx2;
    k->matmul[SPARK_TYPE_Q3_K] = spark_k_matmul_Q3_K_avx2;
    k->matmul[SPARK_TYPE_Q4_K] = spark_k_matmul_Q4_K_avx2;
    k->matmul[SPARK_TYPE_Q5_K] = spark_k_matmul_Q5_K_avx2;
    k->matmul[SPARK_TYPE_Q6_K] = spark_k_matmul_Q6_K_avx2;
    k->matmul[SPARK_TYPE_IQ4_XS] = spark_k_matmul_IQ4_XS_avx2;
}
