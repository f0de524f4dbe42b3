/* matmul_float.h - products with F32, F16 and BF16 weights, for any vector width; included once by the file of each level.
 * Before the include: vf, V_LANES, V_TOKENS (of one tile: 2 * V_TOKENS sums fill the registers), V_DIRECT (tokens served
 * straight from the panel), v_zero, v_load, v_store, v_all, v_fma, v_add, v_halves (16-bit floats), v_bfloats, v_put (masked
 * store of a result).
 * A tile is 2 * V_LANES rows: two panels or one. Weights are widened into scratch once for all tokens of a chunk. NUMERICS:
 * blocks of 32 columns, each a chain of fma from zero, added to the sum in ascending order. */
#include "kern/panel.h"

#define F_ROWS   (2u * V_LANES)
#define F_PANELS (F_ROWS / PANEL_ROWS)
#define F_COLS   128u /* columns widened at a time: 16 KiB on AVX-512 */

typedef struct f_tile {
    const float *w; /* [n_cols][2][V_LANES] */
    uint32_t n_cols;
    const uint8_t *x;
    size_t stride;
    float *acc;         /* [token][2][V_LANES] */
    panel_ahead *ahead; /* asked with every 32 columns */
} f_tile;

/* ---- One vector of weights -------------------------------------------------------------------------------------- */

/* Column k, rows `at`.. of a panel, widened. */
SPARK_INLINE vf f_weights(spark_type type, const uint8_t *panel, size_t k, unsigned at)
{
    const size_t i = k * PANEL_ROWS + at;
    if (type == SPARK_TYPE_F32) return v_load((const float *)(const void *)(panel + 4 * i));
    return type == SPARK_TYPE_F16 ? v_halves(panel + 2 * i) : v_bfloats(panel + 2 * i);
}

SPARK_INLINE vf f_broadcast(const uint8_t *x, size_t k)
{
    float y;
    memcpy(&y, x + 4 * k, 4);
    return v_all(y);
}

/* ---- Many tokens ------------------------------------------------------------------------------------------------ */

/* Columns [k, k + count) of one block: a chain of fma a sum. */
SPARK_INLINE void f_chain(const float *w, const uint8_t *x, size_t stride, unsigned count, unsigned n, vf s[][2])
{
    SPARK_UNROLL(4)
    for (unsigned k = 0; k < count; k++) {
        const vf w0 = v_load(w), w1 = v_load(w + V_LANES);
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) {
            const vf y = f_broadcast(x + i * stride, 0);
            s[i][0] = v_fma(w0, y, s[i][0]);
            s[i][1] = v_fma(w1, y, s[i][1]);
        }
        w += F_ROWS;
        x += sizeof(float);
    }
}

SPARK_INLINE void f_tile_run(const f_tile *t, unsigned n)
{
    const float *w = t->w;
    const uint8_t *x = t->x;
    const size_t stride = t->stride;
    float *const acc = t->acc;
    for (uint32_t left = t->n_cols; left > 0;) {
        panel_ask(t->ahead, F_PANELS);
        const uint32_t count = left < 32 ? left : 32;
        vf s[V_TOKENS][2];
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) s[i][0] = s[i][1] = v_zero();
        if (count == 32)
            f_chain(w, x, stride, 32, n, s);
        else
            f_chain(w, x, stride, count, n, s);
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++)
            for (unsigned v = 0; v < 2; v++) {
                float *a = acc + (2 * i + v) * V_LANES;
                v_store(a, v_add(v_load(a), s[i][v]));
            }
        w += (size_t)count * F_ROWS;
        x += sizeof(float) * count;
        left -= count;
    }
}

typedef void f_tile_fn(const f_tile *t);
static void f_tile_1(const f_tile *t) { f_tile_run(t, 1); }
static void f_tile_2(const f_tile *t) { f_tile_run(t, 2); }
static void f_tile_3(const f_tile *t) { f_tile_run(t, 3); }
static void f_tile_4(const f_tile *t) { f_tile_run(t, 4); }
static void f_tile_5(const f_tile *t) { f_tile_run(t, 5); }
static void f_tile_6(const f_tile *t) { f_tile_run(t, 6); }
#if V_TOKENS == 8
static void f_tile_7(const f_tile *t) { f_tile_run(t, 7); }
static void f_tile_8(const f_tile *t) { f_tile_run(t, 8); }
static f_tile_fn *const f_tiles[V_TOKENS] = {f_tile_1, f_tile_2, f_tile_3, f_tile_4,
                                             f_tile_5, f_tile_6, f_tile_7, f_tile_8};
#else
static f_tile_fn *const f_tiles[V_TOKENS] = {f_tile_1, f_tile_2, f_tile_3, f_tile_4, f_tile_5, f_tile_6};
#endif

/* Where vector v of a tile that begins at `first` lies; a missing second panel repeats the first. */
SPARK_INLINE const uint8_t *f_panel(const spark_matmul_args *a, const uint8_t *first, int lone, unsigned v)
{
    return F_PANELS == 2 && v == 1 && !lone ? first + a->w->panel_bytes : first;
}
#define F_AT(v) (F_PANELS == 2 ? 0 : (v)*V_LANES) /* the first row of vector v in its panel */

SPARK_INLINE void f_widen(const spark_matmul_args *a, spark_type type, const uint8_t *first, int lone, uint32_t k,
                          uint32_t n, float *to)
{
    for (unsigned v = 0; v < 2; v++) {
        const uint8_t *panel = f_panel(a, first, lone, v);
        for (uint32_t i = 0; i < n; i++)
            v_store(to + (size_t)i * F_ROWS + v * V_LANES, f_weights(type, panel, k + i, F_AT(v)));
    }
}

static void f_run_tiles(f_tile t, uint32_t n_tokens)
{
    const uint32_t n_tiles = (n_tokens + V_TOKENS - 1) / V_TOKENS, small = n_tokens / n_tiles,
                   extra = n_tokens % n_tiles;
    for (uint32_t i = 0; i < n_tiles; i++) {
        const uint32_t n = small + (i < extra);
        f_tiles[n - 1](&t);
        t.x += n * t.stride;
        t.acc += (size_t)n * F_ROWS;
    }
}

/* The rows of panel p (and of p + 1 where a tile has two), tokens [token, token + n). */
SPARK_INLINE void f_run_rows(const spark_matmul_args *a, spark_type type, uint32_t p, uint32_t token, uint32_t n)
{
    float *acc = a->scratch, *widened = acc + (size_t)PANEL_TOKENS * F_ROWS;
    const uint8_t *first = a->w->data + p * a->w->panel_bytes;
    const int lone = p + F_PANELS > a->panel_end;
    memset(acc, 0, sizeof(float) * n * F_ROWS);
    for (uint32_t k = 0; k < a->w->n_cols; k += F_COLS) {
        const uint32_t n_cols = a->w->n_cols - k < F_COLS ? a->w->n_cols - k : F_COLS;
        f_widen(a, type, first, lone, k, n_cols, widened);
        const uint32_t n_asks = (n_cols + 31) / 32 * ((n + V_TOKENS - 1) / V_TOKENS);
        panel_ahead ahead = panel_after(a->w, first, F_PANELS, k + F_COLS, F_COLS, n_asks);
        const uint8_t *x = a->acts + token * a->act_stride + 4 * (size_t)k;
        f_run_tiles((f_tile){widened, n_cols, x, a->act_stride, acc, &ahead}, n);
    }
    for (uint32_t i = 0; i < n; i++)
        for (unsigned v = 0; v < 2; v++)
            if (!(F_PANELS == 2 && v == 1 && lone))
                v_put(a, p * PANEL_ROWS + v * V_LANES, token + i, v_load(acc + ((size_t)i * 2 + v) * V_LANES));
}

/* ---- Few tokens ------------------------------------------------------------------------------------------------- */

/* One vector of rows straight from the panel; blocks are independent, so their chains overlap. */
SPARK_INLINE void f_direct(const spark_matmul_args *a, spark_type type, const uint8_t *panel, unsigned at, unsigned n,
                           vf *acc)
{
    for (uint32_t k = 0; k < a->w->n_cols;) {
        const uint32_t end = a->w->n_cols - k < 32 ? a->w->n_cols : k + 32;
        vf s[V_DIRECT];
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) s[i] = v_zero();
        SPARK_UNROLL(4)
        for (; k < end; k++) {
            const vf w = f_weights(type, panel, k, at);
            if (type == SPARK_TYPE_F32 || k % 2 == 0)
                panel_ask_decode(panel + (size_t)k * PANEL_ROWS * (type == SPARK_TYPE_F32 ? 4 : 2), 1);
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++) s[i] = v_fma(w, f_broadcast(a->acts + i * a->act_stride, k), s[i]);
        }
        SPARK_UNROLL(8)
        for (unsigned i = 0; i < n; i++) acc[i] = v_add(acc[i], s[i]);
    }
}

SPARK_INLINE void f_run_direct(const spark_matmul_args *a, spark_type type, unsigned n)
{
    for (uint32_t p = a->panel_begin; p < a->panel_end; p++)
        for (unsigned at = 0; at < PANEL_ROWS; at += V_LANES) {
            vf acc[V_DIRECT];
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++) acc[i] = v_zero();
            f_direct(a, type, a->w->data + p * a->w->panel_bytes, at, n, acc);
            SPARK_UNROLL(8)
            for (unsigned i = 0; i < n; i++) v_put(a, p * PANEL_ROWS + at, i, acc[i]);
        }
}

SPARK_INLINE void f_run(const spark_matmul_args *a, spark_type type)
{
    switch (a->n_tokens) {
    case 1: f_run_direct(a, type, 1); return;
    case 2: f_run_direct(a, type, 2); return;
    case 3: f_run_direct(a, type, 3); return;
    case 4: f_run_direct(a, type, 4); return;
#if V_DIRECT == 8
    case 5: f_run_direct(a, type, 5); return;
    case 6: f_run_direct(a, type, 6); return;
    case 7: f_run_direct(a, type, 7); return;
    case 8: f_run_direct(a, type, 8); return;
#endif
    default: break;
    }
    for (uint32_t token = 0; token < a->n_tokens; token += PANEL_TOKENS) {
        const uint32_t n = a->n_tokens - token < PANEL_TOKENS ? a->n_tokens - token : PANEL_TOKENS;
        for (uint32_t p = a->panel_begin; p < a->panel_end; p += F_PANELS) f_run_rows(a, type, p, token, n);
    }
}
