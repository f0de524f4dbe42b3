/* pack.c - weights from the order of the file (row by row) to the order of the kernels (16 rows side by side), and back.
 * Layouts: panel.h. The inner loop, a transposition of words, is spark__pack_words of the architecture. */
#include <assert.h>

#include "base/bytes.h"
#include "kern/panel.h"
#include "kern/quant.h"

#define PACK_HALF 0x7c00u /* the exponent of a half: all ones = not finite */
#define PACK_COLS 64u     /* columns of float weights that are packed at a time */
#define PACK_ROW  256u    /* bytes that stand for a row that does not exist: a block or PACK_COLS floats */

const spark__plan spark__plans[SPARK_N_TYPES] = {
    [SPARK_TYPE_Q4_0] = {4, 2, 0, PANEL_NONE, 0},
    [SPARK_TYPE_IQ4_NL] = {4, 2, 0, PANEL_NONE, 0},
    [SPARK_TYPE_Q5_0] = {5, 2, 0, 0, 0},
    [SPARK_TYPE_Q8_0] = {8, 2, 0, PANEL_NONE, 0},
    [SPARK_TYPE_Q3_K] = {27, 0, 108, PANEL_NONE, 0},
    [SPARK_TYPE_Q6_K] = {52, 0, 208, PANEL_NONE, 0},
    [SPARK_TYPE_Q4_1] = {5, 0, PANEL_NONE, PANEL_NONE, 0},
    [SPARK_TYPE_Q5_1] = {6, 0, PANEL_NONE, 1, 0},
    [SPARK_TYPE_Q2_K] = {21, 0, PANEL_NONE, PANEL_NONE, 20},
    [SPARK_TYPE_Q4_K] = {36, 0, PANEL_NONE, PANEL_NONE, 0},
    [SPARK_TYPE_Q5_K] = {44, 0, PANEL_NONE, PANEL_NONE, 0},
    [SPARK_TYPE_IQ4_XS] = {34, 0, PANEL_NONE, PANEL_NONE, 0},
};

static size_t pack_round(size_t n) { return (n + PANEL_LINE - 1) / PANEL_LINE * PANEL_LINE; }

size_t spark_panel_bytes(spark_type type, uint32_t n_cols)
{
    const spark_type_info *t = spark_type_lookup(type);
    const spark__plan *p = &spark__plans[type];
    assert(t && n_cols % t->block_elems == 0);
    const size_t n_blocks = n_cols / t->block_elems;
    if (p->n_words == 0) return pack_round(n_blocks * t->block_bytes * PANEL_ROWS);
    const size_t n_lines = n_blocks * p->n_words + (p->half_at == PANEL_NONE ? 0 : (n_blocks + 1) / 2);
    return n_lines * PANEL_LINE;
}

/* ---- Fifth bits ------------------------------------------------------------------------------------------------ */

/* Exchanges the bits under `mask` with those `shift` places above. */
static uint32_t pack_swap(uint32_t x, uint32_t mask, unsigned shift)
{
    const uint32_t t = (x >> shift ^ x) & mask;
    return x ^ t ^ t << shift;
}

/* Bit i = 4t + b goes to 8b + t: the five bits of the index are rotated by two, which is four exchanges of two of them. */
static uint32_t pack_spread(uint32_t x)
{
    x = pack_swap(x, 0x0a0a0a0a, 3);
    x = pack_swap(x, 0x0000f0f0, 12);
    x = pack_swap(x, 0x0000cccc, 14);
    return pack_swap(x, 0x00cc00cc, 6);
}

static uint32_t pack_unspread(uint32_t x)
{
    x = pack_swap(x, 0x00cc00cc, 6);
    x = pack_swap(x, 0x0000cccc, 14);
    x = pack_swap(x, 0x0000f0f0, 12);
    return pack_swap(x, 0x0a0a0a0a, 3);
}

/* ---- Panels ---------------------------------------------------------------------------------------------------- */

/* The 16 rows of one panel. Those past the end of the matrix are zeros, at which every offset is 0. */
typedef struct pack_rows {
    const uint8_t *row[PANEL_ROWS];
    size_t mask[PANEL_ROWS]; /* of the offset: all ones, or 0 */
    uint32_t n;              /* real rows */
} pack_rows;

static pack_rows pack_rows_of(const uint8_t *first, uint32_t n, size_t row_bytes)
{
    static const uint8_t zero[PACK_ROW] = {0};
    pack_rows r = {.n = n};
    for (uint32_t i = 0; i < PANEL_ROWS; i++) {
        r.row[i] = i < n ? first + i * row_bytes : zero;
        r.mask[i] = i < n ? SIZE_MAX : 0;
    }
    return r;
}

static void pack_at(const pack_rows *r, size_t off, const uint8_t **at)
{
    for (uint32_t i = 0; i < PANEL_ROWS; i++) at[i] = r->row[i] + (off & r->mask[i]);
}

static void pack_spread_line(uint8_t *line)
{
    uint32_t word[PANEL_ROWS];
    memcpy(word, line, sizeof word);
    for (unsigned i = 0; i < PANEL_ROWS; i++) word[i] = pack_spread(word[i]);
    memcpy(line, word, sizeof word);
}

/* Whether the first half of a split line is finite. */
static int pack_d_finite(const uint8_t *line)
{
    uint32_t bad = 0;
    for (unsigned i = 0; i < PANEL_ROWS; i++) bad |= (uint32_t)((line[2 * i + 1] & PACK_HALF >> 8) == PACK_HALF >> 8);
    return bad == 0;
}

/* The halves d of one block of 16 rows. */
static int pack_halves(const uint8_t *const *at, uint32_t off, uint8_t *out)
{
    uint16_t half[PANEL_ROWS];
    uint32_t bad = 0;
    for (unsigned i = 0; i < PANEL_ROWS; i++) memcpy(&half[i], at[i] + off, 2);
    for (unsigned i = 0; i < PANEL_ROWS; i++) bad |= (uint32_t)((half[i] & PACK_HALF) == PACK_HALF);
    memcpy(out, half, sizeof half);
    return bad == 0;
}

/* Each pack_*_panel returns 0 if a scale or weight is not finite. */
static int pack_words_panel(spark_type type, const pack_rows *r, uint32_t n_blocks, uint8_t *out)
{
    const spark__plan *p = &spark__plans[type];
    const size_t block_bytes = spark_type_lookup(type)->block_bytes;
    int finite = 1;
    for (uint32_t b = 0; b < n_blocks; b++) {
        const uint8_t *at[PANEL_ROWS];
        uint8_t *lines = out + panel_words_line(p, b) * PANEL_LINE;
        pack_at(r, b * block_bytes, at);
        spark__pack_words(lines, at, p->words_at, p->n_words);
        if (p->spread != PANEL_NONE) pack_spread_line(lines + (size_t)p->spread * PANEL_LINE);
        if (p->half_at != PANEL_NONE) {
            finite &= pack_halves(at, p->half_at, out + panel_half_at(p, b));
            if (b + 1 == n_blocks && b % 2 == 0) memset(out + panel_half_at(p, b + 1), 0, PANEL_LINE / 2);
            continue;
        }
        uint8_t *d_line = lines + (size_t)p->d_word * PANEL_LINE;
        /* IQ4_XS: the high halves are bits of scales, any of them will do */
        finite &= spark__pack_split(d_line, d_line, PACK_HALF) || (type == SPARK_TYPE_IQ4_XS && pack_d_finite(d_line));
    }
    return finite;
}

static int pack_raw_panel(spark_type type, const pack_rows *r, uint32_t n_blocks, uint8_t *out)
{
    const spark_type_info *t = spark_type_lookup(type);
    const size_t used = (size_t)n_blocks * PANEL_ROWS * t->block_bytes;
    int finite = 1;
    memset(out, 0, pack_round(used));
    for (uint32_t i = 0; i < r->n; i++) {
        size_t bad;
        finite &= spark_weights_finite(type, r->row[i], (size_t)n_blocks * t->block_elems, &bad);
        for (uint32_t b = 0; b < n_blocks; b++)
            memcpy(out + ((size_t)b * PANEL_ROWS + i) * t->block_bytes, r->row[i] + (size_t)b * t->block_bytes,
                   t->block_bytes);
    }
    return finite;
}

static int pack_f32_panel(const pack_rows *r, uint32_t n_cols, uint8_t *out)
{
    uint32_t bad = 0;
    for (uint32_t k = 0; k < n_cols; k += PACK_COLS) {
        const uint32_t n = n_cols - k < PACK_COLS ? n_cols - k : PACK_COLS;
        const uint8_t *at[PANEL_ROWS];
        uint8_t *lines = out + (size_t)k * PANEL_LINE;
        pack_at(r, 4 * (size_t)k, at);
        spark__pack_words(lines, at, 0, n);
        for (size_t i = 0; i < (size_t)n * PANEL_ROWS; i++) {
            uint32_t x;
            memcpy(&x, lines + 4 * i, 4);
            bad |= (uint32_t)((x & 0x7f800000) == 0x7f800000);
        }
    }
    return bad == 0;
}

static int pack_16_panel(const pack_rows *r, uint32_t n_cols, uint16_t exponent, uint8_t *out)
{
    int finite = 1;
    uint8_t lines[PACK_COLS / 2 * PANEL_LINE] SPARK_ALIGNED(64), pair[PANEL_LINE] SPARK_ALIGNED(64) = {0};
    const uint8_t *at[PANEL_ROWS];
    const uint32_t even = n_cols / 2 * 2;
    for (uint32_t k = 0; k < even; k += PACK_COLS) {
        const uint32_t n = even - k < PACK_COLS ? even - k : PACK_COLS;
        pack_at(r, 2 * (size_t)k, at);
        spark__pack_words(lines, at, 0, n / 2);
        for (uint32_t j = 0; j < n / 2; j++)
            finite &= spark__pack_split(lines + (size_t)j * PANEL_LINE, out + ((size_t)k / 2 + j) * PANEL_LINE,
                                        exponent);
    }
    if (even == n_cols) return finite;
    pack_at(r, 2 * (size_t)even, at);
    for (unsigned i = 0; i < PANEL_ROWS; i++) memcpy(pair + 4 * i, at[i], 2);
    return finite & spark__pack_split(pair, out + (size_t)even / 2 * PANEL_LINE, exponent);
}

static int pack_panel(spark_type type, const pack_rows *r, uint32_t n_cols, uint8_t *out)
{
    const spark_type_info *t = spark_type_lookup(type);
    if (spark__plans[type].n_words) return pack_words_panel(type, r, n_cols / t->block_elems, out);
    if (t->act_block) return pack_raw_panel(type, r, n_cols / t->block_elems, out);
    if (type == SPARK_TYPE_F32) return pack_f32_panel(r, n_cols, out);
    return pack_16_panel(r, n_cols, type == SPARK_TYPE_F16 ? 0x7c00 : 0x7f80, out);
}

/* The panel is known to hold something that is not finite: which row. Float types are asked weight by weight. */
static spark_status pack_name_row(spark_type type, const pack_rows *r, uint32_t first, uint32_t n_cols, spark_err *err)
{
    for (uint32_t i = 0; i < r->n; i++) {
        size_t bad;
        if (!spark_weights_finite(type, r->row[i], n_cols, &bad))
            return spark_fail(err, SPARK_E_NUMERIC, first + i, "row %u, weight %zu: scale or weight is not finite",
                              first + i, bad);
    }
    return spark_fail(err, SPARK_E_NUMERIC, first, "rows from %u: scale or weight is not finite", first);
}

spark_status spark_pack(spark_type type, const uint8_t *raw, uint32_t n_rows, uint32_t n_cols, uint32_t begin,
                        uint32_t end, uint8_t *data, spark_err *err)
{
    const size_t row_bytes = (size_t)spark_type_row_bytes(spark_type_lookup(type), n_cols);
    const size_t panel_bytes = spark_panel_bytes(type, n_cols);
    for (uint32_t p = begin; p < end; p++) {
        const uint32_t first = p * PANEL_ROWS;
        const uint32_t n = n_rows - first < PANEL_ROWS ? n_rows - first : PANEL_ROWS;
        const pack_rows r = pack_rows_of(raw + first * row_bytes, n, row_bytes);
        if (!pack_panel(type, &r, n_cols, data + p * panel_bytes)) return pack_name_row(type, &r, first, n_cols, err);
    }
    return SPARK_SUCCESS;
}

/* ---- And back -------------------------------------------------------------------------------------------------- */

void spark__panel_block(spark_type type, const uint8_t *panel, uint32_t b, uint32_t r, uint8_t *block)
{
    const spark__plan *p = &spark__plans[type];
    const size_t block_bytes = spark_type_lookup(type)->block_bytes;
    if (p->n_words == 0) {
        memcpy(block, panel + ((size_t)b * PANEL_ROWS + r) * block_bytes, block_bytes);
        return;
    }
    const uint8_t *lines = panel + panel_words_line(p, b) * PANEL_LINE + 4 * (size_t)r;
    for (uint32_t j = 0; j < p->n_words; j++) memcpy(block + p->words_at + 4 * j, lines + (size_t)j * PANEL_LINE, 4);
    if (p->half_at != PANEL_NONE) {
        memcpy(block + p->half_at, panel + panel_half_at(p, b) + 2 * (size_t)r, 2);
    } else {
        const uint8_t *halves = panel + (panel_words_line(p, b) + p->d_word) * PANEL_LINE + 2 * (size_t)r;
        memcpy(block + p->words_at + 4 * p->d_word, halves, 2);
        memcpy(block + p->words_at + 4 * p->d_word + 2, halves + PANEL_LINE / 2, 2);
    }
    if (p->spread != PANEL_NONE) {
        uint8_t *at = block + p->words_at + 4 * p->spread;
        uint32_t x;
        memcpy(&x, at, 4);
        x = pack_unspread(x);
        memcpy(at, &x, 4);
    }
}

void spark_unpack_row(const spark_matrix *w, uint32_t row, float *out)
{
    const spark_type_info *t = spark_type_lookup(w->type);
    const uint8_t *panel = w->data + row / PANEL_ROWS * w->panel_bytes;
    const uint32_t r = row % PANEL_ROWS;
    for (uint32_t k = 0; k < w->n_cols; k += t->block_elems) {
        uint8_t block[PANEL_BLOCK_MAX];
        if (t->act_block)
            spark__panel_block(w->type, panel, k / t->block_elems, r, block);
        else
            memcpy(block, panel + ((size_t)k * PANEL_ROWS + r) * t->block_bytes, t->block_bytes);
        spark_dequantize(w->type, block, out + k, t->block_elems);
    }
}
