/* moe.c - routed feed-forward: each row goes through the experts that its router chose. Rows are gathered by expert, so that
 * an expert's weights are read once for all of its rows, and each row adds up its results in ascending order of experts
 * (NUMERICS, "The rest"): which other rows share an expert does not show. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/model_internal.h"

/* Rows by expert: slot s is row row[s]; of_row[row * used + j] is the slot of the j-th choice of a row. */
typedef struct moe_slots {
    uint32_t *row, *of_row, *begin; /* begin[e] .. begin[e + 1] are the slots of expert e */
} moe_slots;

static moe_slots moe_slots_of(const spark_exec *e)
{
    uint32_t *row = (uint32_t *)(void *)(e->base + e->at.slots);
    return (moe_slots){row, row + e->at.n_slots, (uint32_t *)(void *)(e->base + e->at.expert_begin)};
}

static uint32_t *moe_choice(const spark_exec *e, size_t row)
{
    return (uint32_t *)(void *)(e->base + e->at.choice) + row * e->net->info.n_experts_used;
}
static float *moe_weight(const spark_exec *e, size_t row)
{
    return spark__exec_f32(e, e->at.weight) + row * e->net->info.n_experts_used;
}
static float *moe_router(const spark_exec *e, size_t row)
{
    return spark__exec_f32(e, e->at.router) + row * ((size_t)e->net->info.n_experts + 1);
}

/* The experts of one row with the largest probabilities, the lower index first among equals; then in ascending order. */
static void moe_choose(const net_thread *t, const net_rowset *set, uint32_t row)
{
    spark_exec *e = t->e;
    const spark_net_info *i = &e->net->info;
    uint32_t *choice = moe_choice(e, row), n = 0;
    float *p = moe_router(e, row), *weight = moe_weight(e, row), sum = 0;
    if (spark__all_below(p, (size_t)i->n_experts + e->net->family->shared_expert, INFINITY)) {
        (void)e->kern.softmax(p, i->n_experts);
    } else {
        spark__exec_bad(e, set->source[row]);
        memset(p, 0, ((size_t)i->n_experts + 1) * sizeof *p);
    }
    for (; n < i->n_experts_used; n++) {
        uint32_t best = 0, at = n;
        for (uint32_t k = 1; k < i->n_experts; k++)
            if (p[k] > p[best]) best = k;
        for (; at > 0 && choice[at - 1] > best; at--) {
            choice[at] = choice[at - 1];
            weight[at] = weight[at - 1];
        }
        choice[at] = best;
        weight[at] = p[best];
        p[best] = -1; /* taken */
    }
    for (uint32_t j = 0; j < n; j++) sum += weight[j];
    for (uint32_t j = 0; j < n && e->net->family->renormalise && sum > 0; j++) weight[j] /= sum;
}

static void moe_route(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    const spark_exec *e = t->e;
    const size_t stride = (size_t)e->net->info.n_experts + 1;
    net_item items[2] = {{.w = &l->router, .out = moe_router(e, 0)},
                         {.w = &l->shared_router, .out = moe_router(e, 0) + stride - 1}};
    for (size_t k = 0; k < 2; k++) {
        items[k].n_rows = set->n;
        items[k].out_stride = stride;
        if (!items[k].w->source) continue;
        items[k].acts = t->acts[spark__net_form(items[k].w->m.type)];
        items[k].act_stride = e->at.act_stride[spark__net_form(items[k].w->m.type)];
    }
    spark__pass_products(t, items, l->shared_router.source ? 2 : 1);
    spark_pool_barrier(e->pool);
    for (uint32_t r = t->begin; r < t->end; r++) moe_choose(t, set, r);
    spark_pool_barrier(e->pool);
}

/* Sorts the choices of all rows by expert; rows stay in order. One thread. */
static void moe_group(const spark_exec *e, const net_rowset *set)
{
    const moe_slots s = moe_slots_of(e);
    const uint32_t used = e->net->info.n_experts_used, n_experts = e->net->info.n_experts;
    memset(s.begin, 0, ((size_t)n_experts + 1) * sizeof *s.begin);
    for (uint32_t r = 0; r < set->n; r++)
        for (uint32_t j = 0; j < used; j++) s.begin[moe_choice(e, r)[j] + 1]++;
    for (uint32_t x = 0; x < n_experts; x++) s.begin[x + 1] += s.begin[x];
    for (uint32_t r = 0; r < set->n; r++)
        for (uint32_t j = 0; j < used; j++) {
            const uint32_t slot = s.begin[moe_choice(e, r)[j]]++;
            s.row[slot] = r;
            s.of_row[(size_t)r * used + j] = slot;
        }
    for (uint32_t x = n_experts; x > 0; x--) s.begin[x] = s.begin[x - 1]; /* each has moved to the end of its own */
    s.begin[0] = 0;
}

/* Activations of the rows, once for each slot. */
static void moe_gather(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    const spark_exec *e = t->e;
    const moe_slots s = moe_slots_of(e);
    const unsigned forms = 1u << spark__net_form(l->gate.m.type) | 1u << spark__net_form(l->up.m.type);
    size_t begin = 0, end = 0;
    spark_share((size_t)set->n * e->net->info.n_experts_used, 1, t->index, t->count, &begin, &end);
    for (unsigned f = 0; f < NET_N_FORMS; f++) {
        const size_t stride = e->at.act_stride[f];
        if (forms & 1u << f)
            for (size_t k = begin; k < end; k++)
                memcpy(e->base + e->at.slot_acts[f] + k * stride, t->acts[f] + s.row[k] * stride, stride);
    }
    spark_pool_barrier(e->pool);
}

static const uint8_t *moe_slot_acts(const spark_exec *e, const net_matrix *w, uint32_t slot)
{
    const unsigned f = spark__net_form(w->m.type);
    return e->base + e->at.slot_acts[f] + slot * e->at.act_stride[f];
}

static size_t moe_stride(const spark_exec *e, const net_matrix *w)
{
    return e->at.act_stride[spark__net_form(w->m.type)];
}

static void moe_gate_up(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    const spark_exec *e = t->e;
    const moe_slots s = moe_slots_of(e);
    uint32_t n = 0;
    for (uint32_t x = 0; x < e->net->info.n_experts; x++) {
        const uint32_t slot = s.begin[x];
        if (s.begin[x + 1] == slot) continue;
        t->items[n++] = (net_item){.w = &l->gate,
                                   .up = &l->up,
                                   .part = x,
                                   .acts = moe_slot_acts(e, &l->gate, slot),
                                   .act_stride = moe_stride(e, &l->gate),
                                   .up_acts = moe_slot_acts(e, &l->up, slot),
                                   .up_stride = moe_stride(e, &l->up),
                                   .n_rows = s.begin[x + 1] - slot,
                                   .down = &l->down,
                                   .hidden = e->base + e->at.slot_hidden + slot * e->at.slot_hidden_stride,
                                   .hidden_stride = e->at.slot_hidden_stride,
                                   .source = set->source,
                                   .rows = s.row + slot};
    }
    if (l->shared_gate.source)
        t->items[n++] = (net_item){.w = &l->shared_gate,
                                   .up = &l->shared_up,
                                   .acts = t->acts[spark__net_form(l->shared_gate.m.type)],
                                   .act_stride = moe_stride(e, &l->shared_gate),
                                   .up_acts = t->acts[spark__net_form(l->shared_up.m.type)],
                                   .up_stride = moe_stride(e, &l->shared_up),
                                   .n_rows = set->n,
                                   .down = &l->shared_down,
                                   .hidden = t->hidden,
                                   .hidden_stride = e->at.hidden_stride,
                                   .source = set->source};
    assert(!e->small); /* t->hidden is shared */
    spark__pass_products(t, t->items, n);
    spark_pool_barrier(e->pool);
}

static void moe_down(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    const spark_exec *e = t->e;
    const moe_slots s = moe_slots_of(e);
    const size_t embd = e->net->info.n_embd;
    uint32_t n = 0;
    for (uint32_t x = 0; x < e->net->info.n_experts; x++) {
        const uint32_t slot = s.begin[x];
        if (s.begin[x + 1] == slot) continue;
        t->items[n++] = (net_item){.w = &l->down,
                                   .part = x,
                                   .acts = e->base + e->at.slot_hidden + slot * e->at.slot_hidden_stride,
                                   .act_stride = e->at.slot_hidden_stride,
                                   .n_rows = s.begin[x + 1] - slot,
                                   .out = spark__exec_f32(e, e->at.slot_out) + slot * embd,
                                   .out_stride = embd};
    }
    if (l->shared_down.source)
        t->items[n++] = (net_item){.w = &l->shared_down,
                                   .acts = t->hidden,
                                   .act_stride = e->at.hidden_stride,
                                   .n_rows = set->n,
                                   .out = e->proj,
                                   .out_stride = embd};
    spark__pass_products(t, t->items, n);
    spark_pool_barrier(e->pool);
}

/* proj = the weighted results of a row's experts, from +0 in ascending order, the shared one last. */
static void moe_combine(const net_thread *t, const net_layer *l, uint32_t row)
{
    const spark_exec *e = t->e;
    const moe_slots s = moe_slots_of(e);
    const uint32_t used = e->net->info.n_experts_used, embd = e->net->info.n_embd;
    const float *weight = moe_weight(e, row);
    float *proj = e->proj + (size_t)row * embd;
    memset(t->row, 0, embd * sizeof(float));
    for (uint32_t j = 0; j < used; j++)
        e->kern.axpy(t->row, weight[j],
                     spark__exec_f32(e, e->at.slot_out) + (size_t)s.of_row[(size_t)row * used + j] * embd, embd);
    if (l->shared_down.source) {
        const float gate = moe_router(e, row)[e->net->info.n_experts];
        e->kern.axpy(t->row, 1.0f / (1.0f + spark_expf(-gate)), proj, embd);
    }
    memcpy(proj, t->row, embd * sizeof(float));
}

/* Rows are prepared in all forms that the layer needs; afterwards each thread finds the results of its own rows in proj. */
void spark__pass_experts(const net_thread *t, const net_layer *l, const net_rowset *set)
{
    moe_route(t, l, set);
    if (t->index == 0) moe_group(t->e, set);
    spark_pool_barrier(t->e->pool);
    moe_gather(t, l, set);
    moe_gate_up(t, l, set);
    moe_down(t, l, set);
    for (uint32_t r = t->begin; r < t->end; r++) moe_combine(t, l, r);
}
