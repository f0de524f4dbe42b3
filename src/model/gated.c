/* gated.c - gate and up of a feed-forward step, joined by the activation function while both are still in the cache, and
 * quantized at once into the rows that `down` reads: neither ever lies in memory as floats.
 *
 * A unit is as many panels as one block of those rows needs. Threads share the units; where a share ends inside a unit,
 * its rows are divided instead (each row of a unit is one block, quantized by itself), so that few units divide evenly too.
 * In a small pass, where every thread prepares all rows for itself, the floats are handed out. */
#include <string.h>

#include "base/checked.h"
#include "model/model_internal.h"

enum { GATED_ROWS = 256 }; /* at once: with the largest unit their floats fill NET_JOINED_FLOATS */

/* Panels [first, last) of rows [row, row + n). */
typedef struct gated_work {
    uint32_t first, last, row, n;
} gated_work;

static uint32_t gated_unit(const net_item *i)
{
    const uint32_t block = i->hidden ? spark_type_lookup(i->down->m.type)->act_block : 0;
    return block <= 2 * SPARK_PANEL_ROWS ? 2 : block / SPARK_PANEL_ROWS;
}

/* One of the pair, to rows of its own, `stride` floats apart. */
static void gated_product(const net_thread *t, const net_matrix *m, uint32_t part, const uint8_t *acts,
                          size_t act_stride, const float *bias, const gated_work *k, float *out, size_t stride)
{
    spark_matrix w = m->m;
    w.data += part * m->part_bytes + k->first * w.panel_bytes;
    w.n_rows = spark__pass_panel_rows(m, k->first, k->last);
    t->e->kern.matmul[w.type](&(spark_matmul_args){.w = &w,
                                                   .panel_begin = 0,
                                                   .panel_end = k->last - k->first,
                                                   .acts = acts + k->row * act_stride,
                                                   .act_stride = act_stride,
                                                   .n_tokens = k->n,
                                                   .out = out,
                                                   .out_stride = stride,
                                                   .bias = bias ? bias + (size_t)k->first * SPARK_PANEL_ROWS : NULL,
                                                   .scratch = t->matmul_scratch});
}

static void gated_join(const net_thread *t, const net_item *i, const gated_work *k)
{
    const spark_kern *kern = &t->e->kern;
    const size_t stride = (size_t)(k->last - k->first) * SPARK_PANEL_ROWS;
    const uint32_t n = spark__pass_panel_rows(i->w, k->first, k->last), col = k->first * SPARK_PANEL_ROWS;
    float *gate = t->joined, *up = t->joined + t->e->at.joined;
    spark__pass_pulse(t);
    gated_product(t, i->w, i->part, i->acts, i->act_stride, i->bias, k, gate, stride);
    gated_product(t, i->up, i->part, i->up_acts, i->up_stride, i->up_bias, k, up, stride);
    for (uint32_t r = k->row; r < k->row + k->n; r++, gate += stride, up += stride) {
        (t->e->net->family->gelu ? kern->gelu_mul : kern->silu_mul)(gate, up, n);
        if (i->hidden)
            spark__pass_quantize_part(t, i->down, gate, col, n, i->hidden + r * i->hidden_stride,
                                      i->source[i->rows ? i->rows[r] : r]);
        else
            memcpy(i->out + r * i->out_stride + col, gate, n * sizeof *gate);
    }
}

/* Units [first, last) for rows [row, end), as much at once as fits the cache. */
static void gated_units(const net_thread *t, const net_item *i, uint32_t first, uint32_t last, uint32_t row,
                        uint32_t end)
{
    const uint32_t unit = gated_unit(i), n_panels = spark_n_panels(i->w->m.n_rows);
    const uint32_t stop = last * unit < n_panels ? last * unit : n_panels;
    for (; row < end; row += GATED_ROWS) {
        const uint32_t n = end - row < GATED_ROWS ? end - row : GATED_ROWS;
        const uint32_t fit = NET_JOINED_FLOATS / (unit * SPARK_PANEL_ROWS * n), step = fit * unit;
        for (uint32_t p = first * unit; p < stop; p += step)
            gated_join(t, i, &(gated_work){p, stop - p < step ? stop : p + step, row, n});
    }
}

/* A place in the item's work: rows from `row` on of a unit, and all that follows. */
typedef struct gated_place {
    uint32_t unit, row;
} gated_place;

static gated_place gated_place_of(const net_item *i, uint64_t unit_cost, uint32_t n_units, uint64_t x)
{
    gated_place p = {.unit = (uint32_t)(x / unit_cost)};
    const uint64_t rest = x % unit_cost;
    const uint64_t grain = i->n_rows < 32 ? 1 : 16; /* rows that one tile serves stay together */
    p.row = (uint32_t)((2 * rest * i->n_rows + grain * unit_cost) / (2 * grain * unit_cost) * grain);
    if (p.row >= i->n_rows) p = (gated_place){p.unit + 1, 0};
    return p.unit >= n_units ? (gated_place){n_units, 0} : p;
}

void spark__pass_gated(const net_thread *t, const net_item *i, uint64_t panel_cost, uint64_t from, uint64_t to)
{
    const uint32_t unit = gated_unit(i), n_units = (uint32_t)spark_div_up(spark_n_panels(i->w->m.n_rows), unit);
    const uint64_t whole = panel_cost * spark_n_panels(i->w->m.n_rows);
    gated_place a = gated_place_of(i, panel_cost * unit, n_units, from),
                b = gated_place_of(i, panel_cost * unit, n_units, to);
    if (to == whole) b = (gated_place){n_units, 0};
    if (from == whole) a = b;
    if (a.unit == b.unit) {
        if (a.row < b.row) gated_units(t, i, a.unit, a.unit + 1, a.row, b.row);
        return;
    }
    if (a.row > 0) gated_units(t, i, a.unit, a.unit + 1, a.row, i->n_rows);
    const uint32_t first = a.row > 0 ? a.unit + 1 : a.unit;
    if (first < b.unit) gated_units(t, i, first, b.unit, 0, i->n_rows);
    if (b.row > 0) gated_units(t, i, b.unit, b.unit + 1, 0, b.row);
}
