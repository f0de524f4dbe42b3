/* forward.c - one pass through the network for the rows of a batch, on all threads at once.
 *
 * A layer is five products or attentions with a barrier after each. What lies between them (residual sums, norms, int8
 * rows) is split by rows and takes a barrier more; in a small pass (decoding) every thread repeats it for all rows in
 * memory of its own instead, which costs less than waiting. Outputs are split, never sums, so who computes what does
 * not show (law 1).
 *
 * Not here: attention (attend.c), gate and up (gated.c), experts (moe.c), the meaning of keys (bind.c). */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "model/model_internal.h"

/* ---- Parts that attend.c and moe.c use too -------------------------------------------------------------------------- */

void spark__exec_bad(spark_exec *e, uint32_t batch_row)
{
    uint32_t seen = atomic_load_explicit(&e->bad_row, memory_order_relaxed);
    while (batch_row < seen && !atomic_compare_exchange_weak_explicit(&e->bad_row, &seen, batch_row,
                                                                      memory_order_relaxed, memory_order_relaxed)) {
    }
}

bool spark__all_below(const float *x, size_t n, float limit)
{
    uint32_t worst[4] = {0}, bound;
    memcpy(&bound, &limit, sizeof bound);
    for (size_t i = 0; i < n; i++) { /* of positive floats the bits are in order too, and NaN comes last */
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        if (bits > worst[i % 4]) worst[i % 4] = bits;
    }
    return worst[0] < bound && worst[1] < bound && worst[2] < bound && worst[3] < bound;
}

void spark__pass_rows(net_thread *t, const net_rowset *set)
{
    size_t begin = 0, end = set->n;
    if (!t->e->small) spark_share(set->n, 1, t->index, t->count, &begin, &end);
    t->begin = (uint32_t)begin;
    t->end = (uint32_t)end;
}

/* n floats as activations at `out`; zeros, and the row is reported, if one is not finite. */
static void forward_quantize_at(const net_thread *t, uint32_t act_block, const float *x, uint32_t n, uint8_t *out,
                                size_t bytes, uint32_t batch_row)
{
    if (t->e->kern.quantize(act_block, x, n, out)) return;
    spark__exec_bad(t->e, batch_row);
    memset(out, 0, bytes);
}

void spark__pass_quantize(const net_thread *t, unsigned mask, const float *x, uint32_t n,
                          uint8_t *const acts[NET_N_FORMS], size_t row, uint32_t batch_row)
{
    for (unsigned f = 0; f < NET_N_FORMS; f++) {
        const size_t stride = t->e->at.act_stride[f];
        if (mask & 1u << f)
            forward_quantize_at(t, spark__net_form_block(f), x, n, acts[f] + row * stride, stride, batch_row);
    }
}

void spark__pass_quantize_part(const net_thread *t, const net_matrix *w, const float *x, uint32_t col, uint32_t n,
                               uint8_t *row, uint32_t batch_row)
{
    const size_t at = spark_act_at(w->m.type, col);
    forward_quantize_at(t, spark_type_lookup(w->m.type)->act_block, x, n, row + at,
                        spark_act_at(w->m.type, col + n) - at, batch_row);
}

uint32_t spark__pass_panel_rows(const net_matrix *m, uint32_t begin, uint32_t end)
{
    const uint32_t rows = (end - begin) * SPARK_PANEL_ROWS, left = m->m.n_rows - begin * SPARK_PANEL_ROWS;
    return rows < left ? rows : left;
}

static void forward_product(const net_thread *t, const net_item *i, uint32_t begin, uint32_t end)
{
    spark_matrix w = i->w->m;
    w.data += i->part * i->w->part_bytes;
    t->e->kern.matmul[w.type](&(spark_matmul_args){.w = &w,
                                                   .panel_begin = begin,
                                                   .panel_end = end,
                                                   .acts = i->acts,
                                                   .act_stride = i->act_stride,
                                                   .n_tokens = i->n_rows,
                                                   .out = i->out,
                                                   .out_stride = i->out_stride,
                                                   .bias = i->bias,
                                                   .scratch = t->matmul_scratch});
}

static void forward_logits(const net_thread *t, const net_item *i, uint32_t begin, uint32_t end)
{
    const spark_exec *e = t->e;
    forward_product(t, i, begin, end);
    const uint32_t n = spark__pass_panel_rows(i->w, begin, end);
    for (uint32_t r = 0; r < i->n_rows; r++) {
        float *row = i->out + r * i->out_stride + (size_t)begin * SPARK_PANEL_ROWS;
        if (!spark__all_below(row, n, INFINITY)) spark__exec_bad(t->e, i->logits->source[r]);
        if (e->net->final_softcap != 0) e->kern.softcap(row, e->net->final_softcap, n);
    }
}

/* Cost of a panel: its bytes are read once, and each row takes some of that time again. */
static uint64_t forward_cost(const net_item *i)
{
    const uint64_t bytes = i->w->m.panel_bytes + (i->up ? i->up->m.panel_bytes : 0);
    return bytes * (3u + i->n_rows);
}

void spark__pass_products(const net_thread *t, const net_item *items, uint32_t n)
{
    uint64_t total = 0, at = 0;
    for (uint32_t k = 0; k < n; k++) total += forward_cost(&items[k]) * spark_n_panels(items[k].w->m.n_rows);
    const uint64_t from = total / t->count * t->index,
                   to = t->index + 1 == t->count ? total : total / t->count * (t->index + 1);
    for (uint32_t k = 0; k < n; k++) {
        const net_item *i = &items[k];
        spark__pass_pulse(t);
        const uint64_t panel = forward_cost(i), n_panels = spark_n_panels(i->w->m.n_rows), end = panel * n_panels;
        /* the share of this item in units of cost, then the panels whose first byte lies in it */
        const uint64_t x = from > at ? from - at : 0, y = to > at ? to - at : 0;
        const uint32_t first = (uint32_t)spark_div_up(x < end ? x : end, panel),
                       last = (uint32_t)spark_div_up(y < end ? y : end, panel);
        at += end;
        if (i->up)
            spark__pass_gated(t, i, panel, x < end ? x : end, y < end ? y : end);
        else if (first < last && i->logits)
            forward_logits(t, i, first, last);
        else if (first < last)
            forward_product(t, i, first, last);
    }
}

/* ---- The pass --------------------------------------------------------------------------------------------------------- */

static void forward_barrier(const net_thread *t) { spark_pool_barrier(t->e->pool); }

/* Before a product of rows that each thread prepared in shared memory. */
static void forward_barrier_rows(const net_thread *t)
{
    if (!t->e->small) spark_pool_barrier(t->e->pool);
}

static void forward_embed(net_thread *t)
{
    spark_exec *e = t->e;
    const spark_net *n = e->net;
    const uint32_t embd = n->info.n_embd, half = n->rot_dim / 2, n_ropes = n->family->local_rope_base != 0 ? 2 : 1;
    float *shared = spark__exec_f32(e, e->at.x);
    size_t begin = 0, end = 0;
    spark_share(e->all.n, 1, t->index, t->count, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        float *x = shared + r * embd;
        spark_unpack_row(&n->embedding.m, e->rows[r].token, x);
        if (n->embed_scale != 1.0f) e->kern.scale(x, n->embed_scale, embd);
        for (uint32_t k = 0; k < n_ropes; k++)
            spark__rope_row(&n->rope[k], n->rot_dim, e->all.position[r], spark__exec_f32(e, e->at.cos[k]) + r * half,
                            spark__exec_f32(e, e->at.sin[k]) + r * half);
    }
    forward_barrier(t);
    if (e->small) memcpy(t->x, shared, (size_t)e->all.n * embd * sizeof(float));
}

/* x += the last result (after its norm, where the family has one); the normalized rows become activations. */
static void forward_prepare(const net_thread *t, const net_rowset *set, bool add, const net_vector *post,
                            const net_vector *norm, unsigned forms)
{
    const spark_exec *e = t->e;
    const uint32_t embd = e->net->info.n_embd;
    for (uint32_t r = t->begin; r < t->end; r++) {
        float *x = t->x + (size_t)r * embd;
        const float *result = e->proj + (size_t)r * embd;
        if (add && post->source) {
            e->kern.rms_norm(t->row, result, post->data, embd, e->net->eps);
            result = t->row;
        }
        if (add) e->kern.add(x, result, embd);
        e->kern.rms_norm(t->row, x, norm->data, embd, e->net->eps);
        spark__pass_quantize(t, forms, t->row, embd, t->acts, r, set->source[r]);
    }
    forward_barrier_rows(t);
}

/* Rows that a step left in shared memory become activations for the next product. */
static void forward_quantize(const net_thread *t, const net_rowset *set, const float *rows, size_t stride,
                             const net_matrix *w)
{
    for (uint32_t r = t->begin; r < t->end; r++)
        spark__pass_quantize(t, 1u << spark__net_form(w->m.type), rows + r * stride, w->m.n_cols, t->acts, r,
                             set->source[r]);
    forward_barrier_rows(t);
}

static net_item forward_item(const net_thread *t, const net_matrix *w, const net_vector *bias, const net_rowset *set,
                             float *out, size_t stride)
{
    return (net_item){.w = w,
                      .acts = t->acts[spark__net_form(w->m.type)],
                      .act_stride = t->e->at.act_stride[spark__net_form(w->m.type)],
                      .n_rows = set->n,
                      .out = out,
                      .out_stride = stride,
                      .bias = bias->data};
}

static void forward_qkv(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    const net_layout *at = &t->e->at;
    float *q = t->e->qkv;
    const net_item items[] = {forward_item(t, &l->q, &l->q_bias, set, q, at->qkv_width),
                              forward_item(t, &l->k, &l->k_bias, set, q + at->q_width, at->qkv_width),
                              forward_item(t, &l->v, &l->v_bias, set, q + at->q_width + at->k_width, at->qkv_width)};
    spark__pass_products(t, items, 3);
    forward_barrier(t);
}

/* proj = W x for rows that are prepared. */
static void forward_project(const net_thread *t, const net_matrix *w, const net_vector *bias, const net_rowset *set)
{
    const net_item item = forward_item(t, w, bias, set, t->e->proj, t->e->net->info.n_embd);
    spark__pass_products(t, &item, 1);
    forward_barrier(t);
}

static void forward_dense(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    const spark_exec *e = t->e;
    net_item item = forward_item(t, &l->gate, &l->gate_bias, set, e->gate, e->at.ff_stride);
    item.up = &l->up;
    item.up_acts = t->acts[spark__net_form(l->up.m.type)];
    item.up_stride = e->at.act_stride[spark__net_form(l->up.m.type)];
    item.up_bias = l->up_bias.data;
    item.down = &l->down;
    item.hidden = e->small ? NULL : t->hidden;
    item.hidden_stride = e->at.hidden_stride;
    item.source = set->source;
    spark__pass_products(t, &item, 1);
    forward_barrier(t);
    if (e->small)
        for (uint32_t r = 0; r < set->n; r++)
            spark__pass_quantize_part(t, &l->down, e->gate + (size_t)r * e->at.ff_stride, 0, l->down.m.n_cols,
                                      t->hidden + r * e->at.hidden_stride, set->source[r]);
    net_item down = forward_item(t, &l->down, &l->down_bias, set, e->proj, e->net->info.n_embd);
    down.acts = t->hidden;
    down.act_stride = e->at.hidden_stride;
    spark__pass_products(t, &down, 1);
    forward_barrier(t);
}

/* In the last layer only rows whose logits are wanted go on: theirs move to the front. */
static void forward_narrow(net_thread *t, const net_rowset *set)
{
    const size_t embd = t->e->net->info.n_embd;
    if (set->n < t->e->all.n && (t->e->small || t->index == 0))
        for (uint32_t r = 0; r < set->n; r++) /* source[r] >= r, ascending */
            memmove(t->x + r * embd, t->x + set->source[r] * embd, embd * sizeof(float));
    spark__pass_rows(t, set);
    if (set->n < t->e->all.n) forward_barrier_rows(t);
}

static void forward_layers(net_thread *t)
{
    spark_exec *e = t->e;
    const spark_net *n = e->net;
    const net_rowset *set = &e->all;
    spark__pass_rows(t, set);
    for (uint32_t i = 0; i < n->info.n_layers; i++) {
        const net_layer *l = &n->layers[i];
        forward_prepare(t, set, i > 0, i > 0 ? &n->layers[i - 1].ffn_post_norm : NULL, &l->attn_norm, l->qkv_forms);
        forward_qkv(t, l, set);
        if (i + 1 == n->info.n_layers) set = &e->wanted;
        spark__pass_attend(t, i, set);
        if (set->n == 0) return;
        forward_barrier(t);
        if (i + 1 == n->info.n_layers) forward_narrow(t, set);
        forward_quantize(t, set, e->attn_out, (size_t)n->info.n_heads * n->info.head_dim_v, &l->o);
        forward_project(t, &l->o, &l->o_bias, set);
        forward_prepare(t, set, true, &l->attn_post_norm, &l->ffn_norm, l->ffn_forms);
        if (n->info.n_experts)
            spark__pass_experts(t, l, set);
        else
            forward_dense(t, l, set);
    }
    const net_matrix *head = spark__net_head(n);
    forward_prepare(t, set, true, &n->layers[n->info.n_layers - 1].ffn_post_norm, &n->output_norm,
                    1u << spark__net_form(head->m.type));
    net_item item = forward_item(t, head, &n->head_bias, set, e->logits, n->info.n_vocab);
    item.logits = set;
    spark__pass_products(t, &item, 1);
}

static void forward_task(void *arg, unsigned index, unsigned count)
{
    spark_exec *e = arg;
    const net_layout *at = &e->at;
    uint8_t *mine = e->base + at->threads + index * at->thread_stride;
    net_thread t = {.e = e,
                    .index = index,
                    .count = count,
                    .row = (float *)(void *)(mine + at->t_row),
                    .joined = (float *)(void *)(mine + at->t_joined),
                    .hidden = e->small ? mine + at->t_hidden : e->base + at->hidden,
                    .x = e->small ? (float *)(void *)(mine + at->t_x) : spark__exec_f32(e, at->x),
                    .matmul_scratch = mine + at->t_matmul,
                    .attn_scratch = mine + at->t_attn,
                    .blocks = (const uint8_t **)(void *)(mine + at->t_blocks),
                    .items = (net_item *)(void *)(mine + at->t_items)};
    for (unsigned f = 0; f < NET_N_FORMS; f++) t.acts[f] = e->small ? mine + at->t_acts[f] : e->base + at->acts[f];
    t.q_offset = (size_t *)(void *)(mine + at->t_attn_rows);
    t.out_offset = t.q_offset + at->attn_rows;
    t.first = (uint32_t *)(t.out_offset + at->attn_rows);
    t.last = t.first + at->attn_rows;
    forward_embed(&t);
    forward_layers(&t);
}

/* ---- Rows ----------------------------------------------------------------------------------------------------------------- */

static void forward_add_row(net_rowset *s, const spark_row *rows, uint32_t row, uint32_t position)
{
    const uint32_t i = s->n++;
    s->source[i] = row;
    s->position[i] = position;
    net_segment *last = s->n_segments ? &s->segments[s->n_segments - 1] : NULL;
    if (last && last->seq == rows[row].seq && s->position[i - 1] + 1 == position) {
        last->n++;
        return;
    }
    s->segments[s->n_segments++] = (net_segment){rows[row].seq, i, 1};
}

/* Few rows on threads that do not divide the heads evenly: long contexts are split over blocks instead. */
static bool forward_splits(const spark_exec *e)
{
    const spark_net_info *i = &e->net->info;
    uint32_t longest = 0;
    if (!e->small || e->at.n_parts == 0 || e->all.n * (i->n_heads / i->n_heads_kv) > e->at.attn_rows) return false;
    if (e->all.n_segments * i->n_heads_kv % spark_pool_threads(e->pool) == 0) return false;
    for (uint32_t r = 0; r < e->all.n; r++)
        if (e->all.position[r] > longest) longest = e->all.position[r];
    return longest >= 2 * SPARK_KV_BLOCK;
}

spark_status spark_forward(spark_exec *e, spark_kv *kv, const spark_row *rows, uint32_t n, const float **logits,
                           spark_err *err)
{
    SPARK_CHECK(n >= 1 && n <= e->at.n_batch, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u rows in a pass: 1 to %u were planned", n, e->at.n_batch);
    SPARK_CHECK(kv->net == e->net && spark_div_up(kv->n_ctx, SPARK_KV_BLOCK) <= e->at.n_blocks, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "these keys and values belong to another plan");
    uint32_t n_logits = 0;
    for (uint32_t r = 0; r < n; r++) n_logits += rows[r].logits;
    SPARK_CHECK(n_logits <= e->at.n_logits, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "logits of %u rows: %u were planned", n_logits, e->at.n_logits);
    SPARK_TRY(spark__kv_append(kv, rows, n, e->all.position, err));
    e->kv = kv;
    e->rows = rows;
    e->all.n = e->all.n_segments = e->wanted.n = e->wanted.n_segments = 0;
    for (uint32_t r = 0; r < n; r++) {
        forward_add_row(&e->all, rows, r, e->all.position[r]);
        if (rows[r].logits) forward_add_row(&e->wanted, rows, r, e->all.position[r]);
    }
    e->small = n <= e->at.n_small;
    e->attn_split = forward_splits(e);
    for (uint32_t l = 0; l < e->net->info.n_layers; l++) spark_ticket_reset(&e->tickets[l]);
    atomic_store_explicit(&e->bad_row, UINT32_MAX, memory_order_relaxed);
    spark_pool_run(e->pool, forward_task, e);
    const uint32_t bad = atomic_load_explicit(&e->bad_row, memory_order_relaxed);
    if (bad != UINT32_MAX) {
        spark__kv_undo(kv, rows, n);
        return spark_fail(err, SPARK_E_NUMERIC, bad, "row %u: a value is not finite", bad);
    }
    if (logits) *logits = e->logits;
    return SPARK_SUCCESS;
}

/* ---- Life ------------------------------------------------------------------------------------------------------------------- */

spark_status spark_exec_create(spark_exec **out, const spark_net *n, const spark_shape *s, spark_pool *pool,
                               spark_isa isa, spark_err *err)
{
    net_layout at;
    spark_pages memory = {0};
    SPARK_CHECK(n->weights.ptr, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the weights are not loaded");
    SPARK_CHECK(spark_pool_threads(pool) <= s->n_threads, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u threads: %u were planned", spark_pool_threads(pool), s->n_threads);
    SPARK_CHECK(spark_isa_has(isa), err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                "this CPU has no %s, or the system does not grant it", spark_isa_name(isa));
    SPARK_TRY(spark__net_layout(n, s, &at, err));
    SPARK_TRY(spark_pages_alloc(&memory, at.total, "activations", err));
    spark_exec *e = (spark_exec *)(void *)((uint8_t *)memory.ptr + at.exec);
    *e = (spark_exec){.net = n, .pool = pool, .at = at, .memory = memory, .base = memory.ptr};
    spark_kern_init(&e->kern, isa);
    e->tickets = (spark_ticket *)(void *)(e->base + at.tickets);
    e->qkv = spark__exec_f32(e, at.qkv);
    e->attn_out = spark__exec_f32(e, at.attn_out);
    e->proj = spark__exec_f32(e, at.proj);
    e->gate = spark__exec_f32(e, at.gate);
    e->logits = spark__exec_f32(e, at.logits);
    uint32_t *numbers = (uint32_t *)(void *)(e->base + at.rows);
    net_segment *segments = (net_segment *)(numbers + 4 * (size_t)at.n_batch);
    e->all = (net_rowset){.source = numbers, .position = numbers + at.n_batch, .segments = segments};
    e->wanted = (net_rowset){.source = numbers + 2 * (size_t)at.n_batch,
                             .position = numbers + 3 * (size_t)at.n_batch,
                             .segments = segments + at.n_batch};
    *out = e;
    return SPARK_SUCCESS;
}

const spark_pages *spark_exec_memory(const spark_exec *e) { return &e->memory; }

void spark_exec_pulse(spark_exec *e, void (*pulse)(void *ctx), void *ctx)
{
    e->pulse = pulse;
    e->pulse_ctx = ctx;
}

void spark_exec_destroy(spark_exec **e)
{
    if (!*e) return;
    spark_pages memory = (*e)->memory; /* the struct lies in it */
    spark_pages_free(&memory);
    *e = NULL;
}
