/* plan.c - the memory of a session before any of it is taken: where each activation lies in the one region of an exec,
 * and the sum that `inspect` prints. The same layout is what spark_exec_create uses, so plan and truth cannot differ. */
#include "base/checked.h"
#include "model/model_internal.h"

/* Adds up sizes; a sum that does not fit stays marked as such. */
typedef struct plan_sum {
    size_t at;
    bool overflow;
} plan_sum;

/* Room for count * size bytes on a cache line of its own; returns where it begins. */
static size_t plan_take(plan_sum *p, size_t count, size_t size)
{
    size_t bytes = 0, end = 0;
    const size_t begin = p->at;
    if (!spark_mul_size(count, size, &bytes) || bytes > SIZE_MAX / 4 ||
        !spark_add_size(begin, spark_round_up(bytes, 64), &end) || end > SIZE_MAX / 4) {
        p->overflow = true;
        return 0;
    }
    p->at = end;
    return begin;
}

static size_t plan_floats(plan_sum *p, size_t rows, size_t width) { return plan_take(p, rows, width * sizeof(float)); }

static void plan_widest(size_t *stride, const net_matrix *m)
{
    const size_t act = m->source ? spark_act_bytes(m->m.type, m->m.n_cols) : 0;
    if (act > *stride) *stride = act;
}

/* Widest activation rows of all products, by what prepares them. */
static void plan_strides(const spark_net *n, net_layout *l)
{
    for (uint32_t i = 0; i < n->info.n_layers; i++) {
        const net_layer *x = &n->layers[i];
        const net_matrix *const read[] = {&x->q,           &x->k,        &x->v,      &x->o,
                                          &x->gate,        &x->up,       &x->router, &x->shared_router,
                                          &x->shared_gate, &x->shared_up};
        for (size_t k = 0; k < SPARK_COUNT(read); k++)
            plan_widest(&l->act_stride[spark__net_form(read[k]->m.type)], read[k]);
        plan_widest(n->info.n_experts ? &l->slot_hidden_stride : &l->hidden_stride, &x->down);
        plan_widest(&l->hidden_stride, &x->shared_down);
    }
    const net_matrix *head = spark__net_head(n);
    plan_widest(&l->act_stride[spark__net_form(head->m.type)], head);
}

/* Scratch of a thread for any product; none has more rows than a batch (an expert is asked at most once by a row). */
static size_t plan_products(const spark_net *n, const net_layout *l)
{
    size_t most = 0;
    for (uint32_t i = 0; i < n->n_pieces; i++) {
        if (!n->pieces[i].matrix) continue;
        const spark_matrix *m = &n->pieces[i].matrix->m;
        const size_t scratch = spark_matmul_scratch(m->type, m->n_cols, l->n_batch);
        if (scratch > most) most = scratch;
    }
    return most;
}

static uint32_t plan_max(uint32_t a, uint32_t b) { return a > b ? a : b; }

static void plan_shared(const spark_net *n, plan_sum *p, net_layout *l)
{
    const spark_net_info *i = &n->info;
    const size_t rows = l->n_batch;
    l->exec = plan_take(p, 1, sizeof(spark_exec));
    l->x = plan_floats(p, rows, i->n_embd);
    for (unsigned f = 0; f < NET_N_FORMS; f++) l->acts[f] = plan_take(p, rows, l->act_stride[f]);
    l->qkv = plan_floats(p, rows, l->qkv_width);
    l->attn_out = plan_floats(p, rows, (size_t)i->n_heads * i->head_dim_v);
    l->proj = plan_floats(p, rows, i->n_embd);
    l->gate = plan_floats(p, l->n_small, l->ff_stride);
    l->hidden = plan_take(p, rows, l->hidden_stride);
    for (unsigned r = 0; r < 2; r++) {
        l->cos[r] = plan_floats(p, rows, n->rot_dim / 2);
        l->sin[r] = plan_floats(p, rows, n->rot_dim / 2);
    }
    l->logits = plan_floats(p, l->n_logits, i->n_vocab);
    /* source and position of both rowsets, then their segments */
    l->rows = plan_take(p, rows, 4 * sizeof(uint32_t) + 2 * sizeof(net_segment));
    l->tickets = plan_take(p, i->n_layers, sizeof(spark_ticket));
    if (l->n_parts > 0) l->parts = plan_floats(p, l->n_parts, SPARK_ATTN_PART((size_t)i->head_dim_v));
}

static void plan_experts(const spark_net *n, plan_sum *p, net_layout *l)
{
    if (n->info.n_experts == 0) return;
    const size_t rows = l->n_batch, slots = l->n_slots, used = n->info.n_experts_used;
    l->router = plan_floats(p, rows, (size_t)n->info.n_experts + 1); /* and the gate of the shared expert */
    l->choice = plan_take(p, rows, used * sizeof(uint32_t));
    l->weight = plan_floats(p, rows, used);
    l->slots = plan_take(p, slots, 2 * sizeof(uint32_t));
    l->expert_begin = plan_take(p, (size_t)n->info.n_experts + 1, sizeof(uint32_t));
    for (unsigned f = 0; f < NET_N_FORMS; f++) l->slot_acts[f] = plan_take(p, slots, l->act_stride[f]);
    l->slot_hidden = plan_take(p, slots, l->slot_hidden_stride);
    l->slot_out = plan_floats(p, slots, n->info.n_embd);
}

static void plan_thread(const spark_net *n, plan_sum *p, net_layout *l, size_t matmul)
{
    const spark_net_info *i = &n->info;
    const size_t start = p->at;
    l->t_row = plan_floats(p, 1, i->n_embd);
    l->joined = plan_max(plan_max(i->n_ff, n->n_ff_shared), n->n_ff_expert);
    l->joined = spark_round_up(l->joined, 256) * (l->n_batch < 256 ? l->n_batch : 256);
    if (l->joined > NET_JOINED_FLOATS) l->joined = NET_JOINED_FLOATS;
    l->t_joined = plan_floats(p, 2, l->joined);
    if (l->n_small > 0) {
        l->t_x = plan_floats(p, l->n_small, i->n_embd);
        for (unsigned f = 0; f < NET_N_FORMS; f++) l->t_acts[f] = plan_take(p, l->n_small, l->act_stride[f]);
        l->t_hidden = plan_take(p, l->n_small, l->hidden_stride);
    }
    l->t_matmul = plan_take(p, 1, matmul);
    l->t_attn = plan_take(p, 1, spark_attn_scratch(i->head_dim_k, i->head_dim_v, l->attn_rows));
    l->t_attn_rows = plan_take(p, l->attn_rows, 2 * sizeof(size_t) + 2 * sizeof(uint32_t));
    l->t_blocks = plan_take(p, l->n_blocks, sizeof(uint8_t *));
    l->t_items = plan_take(p, (size_t)i->n_experts + 3, sizeof(net_item));
    /* offsets from the start of the thread's part; its end stays clear of the neighbour's lines */
    size_t *const parts[] = {&l->t_row,     &l->t_joined, &l->t_hidden, &l->t_x,         &l->t_acts[0], &l->t_acts[1],
                             &l->t_acts[2], &l->t_matmul, &l->t_attn,   &l->t_attn_rows, &l->t_blocks,  &l->t_items};
    for (size_t k = 0; k < SPARK_COUNT(parts); k++)
        if (*parts[k] >= start) *parts[k] -= start;
    l->thread_stride = spark_round_up(p->at - start, 128);
    p->at = start;
}

spark_status spark__net_layout(const spark_net *n, const spark_shape *s, net_layout *out, spark_err *err)
{
    const spark_net_info *i = &n->info;
    SPARK_CHECK(s->n_threads >= 1 && s->n_threads <= SPARK_POOL_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u threads: 1 to %u are allowed", s->n_threads, SPARK_POOL_MAX);
    SPARK_CHECK(s->n_batch >= 1 && s->n_batch <= SPARK_MAX_BATCH && s->n_logits <= s->n_batch, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE,
                "%u rows in a pass with logits of %u: 1 to %u, and no more logits than rows, are allowed", s->n_batch,
                s->n_logits, SPARK_MAX_BATCH);
    const uint32_t group = i->n_heads / i->n_heads_kv;
    net_layout l = {.n_batch = s->n_batch,
                    .n_slots = s->n_batch * i->n_experts_used,
                    .n_logits = s->n_logits,
                    .n_threads = s->n_threads,
                    .n_blocks = (uint32_t)spark_div_up(s->n_ctx, SPARK_KV_BLOCK),
                    .attn_rows = plan_max(NET_ATTN_ROWS, group),
                    .n_small = s->n_threads > 1 && i->n_experts == 0 ? NET_SMALL : 0,
                    .q_width = i->n_heads * i->head_dim_k,
                    .k_width = i->n_heads_kv * i->head_dim_k,
                    .v_width = i->n_heads_kv * i->head_dim_v,
                    .ff_stride = i->n_ff};
    if (l.n_small > s->n_batch) l.n_small = s->n_batch;
    l.qkv_width = (uint32_t)spark_round_up((size_t)l.q_width + l.k_width + l.v_width, 16);
    if (s->n_threads > 1 && i->n_heads_kv % s->n_threads != 0) /* attention of few rows may be split over blocks too */
        l.n_parts = (size_t)l.n_blocks * i->n_heads * (s->n_batch < NET_SMALL ? s->n_batch : NET_SMALL);
    const size_t matmul = plan_products(n, &l);
    plan_strides(n, &l);
    plan_sum sum = {0};
    plan_shared(n, &sum, &l);
    plan_experts(n, &sum, &l);
    l.threads = sum.at = spark_round_up(sum.at, 4096);
    plan_thread(n, &sum, &l, matmul);
    (void)plan_take(&sum, s->n_threads, l.thread_stride);
    SPARK_CHECK(!sum.overflow, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the activations of %u rows take more memory than can be addressed", s->n_batch);
    l.total = sum.at;
    *out = l;
    return SPARK_SUCCESS;
}

spark_status spark_net_plan(const spark_net *n, const spark_shape *s, spark_memory *out, spark_err *err)
{
    net_kv_sizes kv;
    net_layout l;
    SPARK_TRY(spark__kv_sizes(n, s, &kv, err));
    SPARK_TRY(spark__net_layout(n, s, &l, err));
    *out = (spark_memory){.weights = n->weight_bytes,
                          .kv = kv.total,
                          .scratch = l.total + s->n_threads * n->load_buffer,
                          .loading = s->n_threads * n->load_buffer};
    return SPARK_SUCCESS;
}
