/* attend.c - the attention of one layer: q and k get their norms and rotation, k and v go to the pages, then every query
 * head reads them.
 *
 * Work comes in units of (rows of a sequence, key/value head). In a pass of few rows with heads that divide evenly each
 * thread stores and reads heads of its own, without a barrier in between. Where heads do not divide, a long context is split
 * over blocks of 128 positions and merged in order; else units are handed out as threads become free. All three give the
 * same bits, since a block's part does not depend on who computes it (NUMERICS, Attention). */
#include <assert.h>

#include "base/checked.h"
#include "model/model_internal.h"

/* Larger elements of q and k are treated as not finite: below it no score of SPARK_MAX_HEAD_DIM products overflows, so the
 * attention kernels never meet a NaN (kern.h, Rules). */
#define ATTEND_LIMIT 0x1p58f
_Static_assert(SPARK_MAX_HEAD_DIM <= 1u << 10, "2^(58 + 58 + 10) must stay below the largest float");

static uint32_t attend_group(const spark_net *n)
{
    const uint32_t group = n->info.n_heads / n->info.n_heads_kv;
    assert(group > 0); /* bind refuses other shapes */
    return group;
}

/* One key/value head of one row: its query heads, key and value. */
static void attend_store_head(const net_thread *t, uint32_t layer, uint32_t row, uint32_t head)
{
    static const float zeros[SPARK_MAX_HEAD_DIM];
    spark_exec *e = t->e;
    const spark_net *n = e->net;
    const net_layer *l = &n->layers[layer];
    const uint32_t dk = n->info.head_dim_k, dv = n->info.head_dim_v, group = attend_group(n), half = n->rot_dim / 2;
    float *base = e->qkv + (size_t)row * e->at.qkv_width;
    float *q = base + (size_t)head * group * dk, *k = base + e->at.q_width + (size_t)head * dk;
    const float *v = base + e->at.q_width + e->at.k_width + (size_t)head * dv;
    const float *cos = spark__exec_f32(e, e->at.cos[l->local_rope]) + (size_t)row * half;
    const float *sin = spark__exec_f32(e, e->at.sin[l->local_rope]) + (size_t)row * half;
    if (l->q_norm.source) {
        for (uint32_t j = 0; j < group; j++)
            e->kern.rms_norm(q + (size_t)j * dk, q + (size_t)j * dk, l->q_norm.data, dk, n->eps);
        e->kern.rms_norm(k, k, l->k_norm.data, dk, n->eps);
    }
    e->kern.rope(q, group, dk, n->rot_dim, n->family->rope_neighbours, cos, sin);
    e->kern.rope(k, 1, dk, n->rot_dim, n->family->rope_neighbours, cos, sin);
    const uint32_t position = e->all.position[row], at = position % SPARK_KV_BLOCK;
    uint8_t *block = spark__kv_block(e->kv, e->rows[row].seq, position / SPARK_KV_BLOCK, layer, head);
    if (spark__all_below(q, (size_t)group * dk, ATTEND_LIMIT) && spark__all_below(k, dk, ATTEND_LIMIT) &&
        e->kern.kv_store(e->kv->type, dk, dv, block, at, k, v))
        return;
    spark__exec_bad(e, row);
    (void)e->kern.kv_store(e->kv->type, dk, dv, block, at, zeros, zeros); /* the pass is lost; no NaN goes on */
    for (size_t i = 0; i < (size_t)group * dk; i++) q[i] = 0;
}

static spark_attn_args attend_args(const net_thread *t)
{
    const spark_exec *e = t->e;
    return (spark_attn_args){.type = e->kv->type,
                             .head_dim_k = e->net->info.head_dim_k,
                             .head_dim_v = e->net->info.head_dim_v,
                             .blocks = t->blocks,
                             .q = e->qkv,
                             .q_offset = t->q_offset,
                             .out = e->attn_out,
                             .out_offset = t->out_offset,
                             .first = t->first,
                             .last = t->last,
                             .scale = e->net->attn_scale,
                             .softcap = e->net->attn_softcap,
                             .scratch = t->attn_scratch};
}

/* Fills in the query rows of one head for rows [begin, begin + n) of a set and the blocks that they see: [*from, *to). */
static void attend_rows(const net_thread *t, spark_attn_args *a, uint32_t layer, uint32_t head, const net_rowset *set,
                        uint32_t seq, uint32_t begin, uint32_t n, uint32_t *from, uint32_t *to)
{
    const spark_exec *e = t->e;
    const spark_net_info *i = &e->net->info;
    const uint32_t group = attend_group(e->net), window = e->net->layers[layer].window;
    a->n_rows = 0;
    for (uint32_t r = begin; r < begin + n; r++) {
        const uint32_t position = set->position[r];
        for (uint32_t j = 0; j < group; j++) {
            const uint32_t at = a->n_rows++, q_head = head * group + j;
            t->q_offset[at] = (size_t)set->source[r] * e->at.qkv_width + (size_t)q_head * i->head_dim_k;
            t->out_offset[at] = ((size_t)r * i->n_heads + q_head) * i->head_dim_v;
            t->first[at] = window != 0 && position >= window ? position - window + 1 : 0;
            t->last[at] = position;
        }
    }
    *from = t->first[0] / SPARK_KV_BLOCK;
    *to = t->last[a->n_rows - 1] / SPARK_KV_BLOCK + 1;
    for (uint32_t b = *from; b < *to; b++) t->blocks[b] = spark__kv_block(e->kv, seq, b, layer, head);
}

static uint32_t attend_tile(const spark_exec *e) { return e->at.attn_rows / attend_group(e->net); }

static void attend_tile_run(const net_thread *t, uint32_t layer, uint32_t head, const net_rowset *set,
                            const net_segment *s, uint32_t tile)
{
    const uint32_t step = attend_tile(t->e), begin = tile * step, n = s->n - begin < step ? s->n - begin : step;
    uint32_t from = 0, to = 0;
    spark_attn_args a = attend_args(t);
    spark__pass_pulse(t);
    attend_rows(t, &a, layer, head, set, s->seq, s->begin + begin, n, &from, &to);
    t->e->kern.attn(&a);
}

/* All rows, heads [head_begin, head_end). */
static void attend_heads(const net_thread *t, uint32_t layer, const net_rowset *set, uint32_t head_begin,
                         uint32_t head_end)
{
    for (uint32_t s = 0; s < set->n_segments; s++)
        for (uint32_t h = head_begin; h < head_end; h++)
            for (uint32_t tile = 0; tile < spark_div_up(set->segments[s].n, attend_tile(t->e)); tile++)
                attend_tile_run(t, layer, h, set, &set->segments[s], tile);
}

/* Whatever is left, as threads become free; the last tiles of a segment, which see most, first. */
static void attend_tickets(const net_thread *t, uint32_t layer, const net_rowset *set)
{
    const uint32_t n_heads = t->e->net->info.n_heads_kv;
    uint32_t ticket = spark_ticket_take(&t->e->tickets[layer], 1), before = 0;
    for (uint32_t s = 0; s < set->n_segments; s++) {
        const uint32_t n_tiles = (uint32_t)spark_div_up(set->segments[s].n, attend_tile(t->e)), n = n_tiles * n_heads;
        for (; ticket < before + n; ticket = spark_ticket_take(&t->e->tickets[layer], 1)) {
            const uint32_t unit = ticket - before;
            attend_tile_run(t, layer, unit % n_heads, set, &set->segments[s], n_tiles - 1 - unit / n_heads);
        }
        before += n;
    }
}

/* Parts of this thread's share of all (segment, head, block), or the merge of its share of (segment, head). */
static void attend_split(const net_thread *t, uint32_t layer, const net_rowset *set, bool merge)
{
    spark_exec *e = t->e;
    const uint32_t n_heads = e->net->info.n_heads_kv, group = attend_group(e->net),
                   window = e->net->layers[layer].window;
    const size_t width = SPARK_ATTN_PART((size_t)e->net->info.head_dim_v);
    float *parts = spark__exec_f32(e, e->at.parts);
    size_t total = 0, begin = 0, end = 0, at = 0;
    for (uint32_t s = 0; s < set->n_segments; s++) {
        const net_segment *g = &set->segments[s];
        const uint32_t low = set->position[g->begin], high = set->position[g->begin + g->n - 1];
        const uint32_t first = window != 0 && low >= window ? low - window + 1 : 0;
        total += merge ? n_heads : (size_t)n_heads * (high / SPARK_KV_BLOCK + 1 - first / SPARK_KV_BLOCK);
    }
    spark_share(total, 1, t->index, t->count, &begin, &end);
    for (uint32_t s = 0; s < set->n_segments && at < end; s++) {
        const net_segment *g = &set->segments[s];
        for (uint32_t h = 0; h < n_heads && at < end; h++) {
            uint32_t from = 0, to = 0;
            spark_attn_args a = attend_args(t);
            attend_rows(t, &a, layer, h, set, g->seq, g->begin, g->n, &from, &to);
            const size_t n_units = merge ? 1 : to - from;
            if (at + n_units > begin) {
                const uint32_t b = begin > at ? (uint32_t)(begin - at) : 0,
                               c = end - at < n_units ? (uint32_t)(end - at) : (uint32_t)n_units;
                if (merge)
                    e->kern.attn_merge(&a, from, to, parts);
                else
                    e->kern.attn_part(&a, from + b, from + c, parts + (size_t)b * a.n_rows * width);
            }
            at += n_units;
            parts += (size_t)(to - from) * g->n * group * width;
        }
    }
}

void spark__pass_attend(const net_thread *t, uint32_t layer, const net_rowset *set)
{
    spark_exec *e = t->e;
    const uint32_t n_heads = e->net->info.n_heads_kv, n = e->all.n;
    const bool own = e->small && n_heads % t->count == 0; /* each thread reads only heads that it stored */
    size_t begin = 0, end = 0;
    spark_share((size_t)n * n_heads, own ? n : 1, t->index, t->count, &begin, &end);
    for (size_t i = begin; i < end; i++) attend_store_head(t, layer, (uint32_t)(i % n), (uint32_t)(i / n));
    if (own) {
        attend_heads(t, layer, set, (uint32_t)(begin / n), (uint32_t)(end / n));
        return;
    }
    spark_pool_barrier(e->pool);
    if (!e->attn_split) {
        attend_tickets(t, layer, set);
        return;
    }
    attend_split(t, layer, set, false);
    spark_pool_barrier(e->pool);
    attend_split(t, layer, set, true);
}
