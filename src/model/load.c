/* load.c - reads every weight once and packs it for the kernels, on all threads.
 *
 * The work is cut into jobs of about a megabyte of the file: some panels of one matrix, or part of a vector. Threads take
 * them in order, some neighbours at a time: two threads that first touch one huge page would both clear it (measured: a
 * quarter of the time of loading). A job's bytes depend on nothing but its place. If several fail, the first in order is
 * reported, so a bad file gives the same message whoever reads it. */
#include <assert.h>
#include <inttypes.h>

#include "base/checked.h"
#include "kern/quant.h"
#include "model/model_internal.h"

typedef struct load_state {
    spark_net *n;
    const spark_source *source;
    uint8_t *buffers; /* n->load_buffer for each thread */
    uint32_t n_jobs;
    spark_ticket ticket;
    _Atomic uint64_t done;
    _Atomic uint32_t failed; /* the first job that failed; UINT32_MAX = none */
    atomic_flag lock;        /* of `error` and of lowering `failed` */
    spark_err error;
    spark_progress *progress;
    void *progress_ctx;
    uint64_t total;
} load_state;

/* ---- Jobs -------------------------------------------------------------------------------------------------------------- */

static uint64_t load_row_bytes(const net_matrix *m)
{
    return spark_type_row_bytes(spark_type_lookup(m->m.type), m->m.n_cols);
}

/* Panels of a matrix that one job reads. */
static uint32_t load_step(const spark_net *n, const net_matrix *m)
{
    const uint64_t fit = n->load_buffer / (load_row_bytes(m) * SPARK_PANEL_ROWS), all = spark_n_panels(m->m.n_rows);
    return (uint32_t)(fit == 0 ? 1 : fit < all ? fit : all); /* fit 0: fewer rows than a panel has */
}

static uint64_t load_elem_bytes(const net_vector *v) { return spark_type_lookup(v->source->type)->block_bytes; }
static uint32_t load_vector_step(const spark_net *n, const net_vector *v)
{
    return (uint32_t)(n->load_buffer / load_elem_bytes(v));
}

uint32_t spark__load_jobs(const spark_net *n, const net_piece *p)
{
    if (p->vector) return (uint32_t)spark_div_up(p->vector->n, load_vector_step(n, p->vector));
    return p->matrix->n_parts * (uint32_t)spark_div_up(spark_n_panels(p->matrix->m.n_rows), load_step(n, p->matrix));
}

static spark_status load_read(const load_state *s, const spark_gguf_tensor *t, uint64_t at, void *dst, uint64_t len,
                              spark_err *err)
{
    assert(at <= t->n_bytes && len <= t->n_bytes - at && len <= s->n->load_buffer);
    return s->source->read(s->source->ctx, t->file, t->offset + at, dst, (size_t)len, err);
}

static spark_status load_not_finite(const spark_gguf_tensor *t, uint64_t row, spark_err *err)
{
    return spark_fail(err, SPARK_E_NUMERIC, t->offset,
                      "the tensor '%.*s' has a weight or scale in row %" PRIu64 " that is not finite",
                      (int)(t->name.len < 100 ? t->name.len : 100), (const char *)t->name.ptr, row);
}

static spark_status load_matrix(load_state *s, const net_matrix *m, uint32_t job, uint8_t *buffer, spark_err *err)
{
    const uint32_t step = load_step(s->n, m), n_panels = spark_n_panels(m->m.n_rows),
                   slices = (uint32_t)spark_div_up(n_panels, step);
    const uint32_t part = job / slices, begin = job % slices * step,
                   panels = n_panels - begin < step ? n_panels - begin : step;
    const uint32_t first = begin * SPARK_PANEL_ROWS, left = m->m.n_rows - first;
    const uint32_t rows = left < panels * SPARK_PANEL_ROWS ? left : panels * SPARK_PANEL_ROWS;
    const uint64_t row_bytes = load_row_bytes(m), row = m->source_row + (uint64_t)part * m->m.n_rows + first;
    SPARK_TRY(load_read(s, m->source, row * row_bytes, buffer, rows * row_bytes, err));
    uint8_t *data = (uint8_t *)s->n->weights.ptr + m->offset + part * m->part_bytes + begin * m->m.panel_bytes;
    spark_err packing = {.at = 0};
    const spark_status packed = spark_pack(m->m.type, buffer, rows, m->m.n_cols, 0, panels, data, &packing);
    if (!spark_ok(packed)) return load_not_finite(m->source, row + packing.at, err);
    atomic_fetch_add_explicit(&s->done, rows * row_bytes, memory_order_relaxed);
    return SPARK_SUCCESS;
}

static spark_status load_vector(load_state *s, const net_vector *v, uint32_t job, uint8_t *buffer, spark_err *err)
{
    const uint32_t step = load_vector_step(s->n, v), begin = job * step, n = v->n - begin < step ? v->n - begin : step;
    const uint64_t bytes = load_elem_bytes(v);
    SPARK_TRY(load_read(s, v->source, (v->source_first + begin) * bytes, buffer, n * bytes, err));
    size_t bad = 0;
    if (!spark_weights_finite(v->source->type, buffer, n, &bad)) return load_not_finite(v->source, 0, err);
    spark_dequantize(v->source->type, buffer, (float *)(void *)((uint8_t *)s->n->weights.ptr + v->offset) + begin, n);
    atomic_fetch_add_explicit(&s->done, n * bytes, memory_order_relaxed);
    return SPARK_SUCCESS;
}

/* The piece that a job belongs to; *job becomes its number there. */
static const net_piece *load_piece(const spark_net *n, uint32_t *job)
{
    uint32_t low = 0, high = n->n_pieces;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (n->pieces[middle].first_job <= *job)
            low = middle;
        else
            high = middle;
    }
    *job -= n->pieces[low].first_job;
    return &n->pieces[low];
}

/* ---- Threads --------------------------------------------------------------------------------------------------------------- */

static void load_fail(load_state *s, uint32_t job, const spark_err *e)
{
    while (atomic_flag_test_and_set_explicit(&s->lock, memory_order_acquire)) {
    }
    if (job < atomic_load_explicit(&s->failed, memory_order_relaxed)) {
        atomic_store_explicit(&s->failed, job, memory_order_relaxed);
        s->error = *e;
    }
    atomic_flag_clear_explicit(&s->lock, memory_order_release);
}

static bool load_goes_on(load_state *s, unsigned thread)
{
    if (thread != 0 || !s->progress) return true;
    if (s->progress(s->progress_ctx, atomic_load_explicit(&s->done, memory_order_relaxed), s->total)) return true;
    spark_err e;
    (void)spark_fail(&e, SPARK_E_CANCELLED, SPARK_ERR_NOWHERE, "loading was cancelled").code;
    load_fail(s, 0, &e);
    return false;
}

static bool load_job(load_state *s, uint32_t job, unsigned thread)
{
    if (job > atomic_load_explicit(&s->failed, memory_order_relaxed)) return false;
    uint32_t inner = job;
    const net_piece *p = load_piece(s->n, &inner);
    uint8_t *buffer = s->buffers + thread * s->n->load_buffer;
    spark_err e = {0};
    const spark_status done = p->vector ? load_vector(s, p->vector, inner, buffer, &e)
                                        : load_matrix(s, p->matrix, inner, buffer, &e);
    if (!spark_ok(done)) load_fail(s, job, &e);
    return spark_ok(done) && load_goes_on(s, thread);
}

static void load_task(void *arg, unsigned thread, unsigned n_threads)
{
    load_state *s = arg;
    const uint32_t share = s->n_jobs / (8 * n_threads), stretch = share < 1 ? 1 : share > 16 ? 16 : share;
    for (;;) {
        const uint32_t first = spark_ticket_take(&s->ticket, stretch);
        for (uint32_t job = first; job < first + stretch; job++)
            if (job >= s->n_jobs || !load_job(s, job, thread)) return;
    }
}

/* Where each piece lies, or (base NULL) that it lies nowhere. */
static void load_point(spark_net *n, const uint8_t *base)
{
    for (uint32_t i = 0; i < n->n_pieces; i++) {
        net_piece *p = &n->pieces[i];
        if (p->vector)
            p->vector->data = base ? (const float *)(const void *)(base + p->vector->offset) : NULL;
        else
            p->matrix->m.data = base ? base + p->matrix->offset : NULL;
    }
}

void spark_net_unload(spark_net *n)
{
    spark_pages_free(&n->weights);
    load_point(n, NULL);
}

static spark_status load_run(load_state *s, spark_pool *pool, spark_err *err)
{
    const net_piece *last = &s->n->pieces[s->n->n_pieces - 1];
    s->n_jobs = last->first_job + spark__load_jobs(s->n, last);
    for (uint32_t i = 0; i < s->n->n_pieces; i++) {
        const net_piece *p = &s->n->pieces[i];
        s->total += p->vector ? p->vector->n * load_elem_bytes(p->vector)
                              : load_row_bytes(p->matrix) * p->matrix->m.n_rows * p->matrix->n_parts;
    }
    atomic_store(&s->failed, UINT32_MAX);
    /* asked before anything is read: jobs may all fall to the other threads */
    if (load_goes_on(s, 0)) spark_pool_run(pool, load_task, s);
    if (atomic_load(&s->failed) == UINT32_MAX) return SPARK_SUCCESS;
    if (err) *err = s->error;
    return (spark_status){s->error.code};
}

spark_status spark_net_load(spark_net *n, const spark_source *source, spark_pool *pool, spark_progress *progress,
                            void *progress_ctx, spark_err *err)
{
    SPARK_CHECK(!n->weights.ptr, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the weights are loaded already");
    load_state s = {
        .n = n, .source = source, .progress = progress, .progress_ctx = progress_ctx, .lock = ATOMIC_FLAG_INIT};
    spark_pages staging = {0};
    SPARK_TRY(spark_pages_alloc(&staging, spark_pool_threads(pool) * n->load_buffer, "loading", err));
    spark_status status = spark_pages_alloc(&n->weights, n->weight_bytes, "weights", err);
    if (spark_ok(status)) {
        s.buffers = staging.ptr;
        status = load_run(&s, pool, err);
        if (spark_ok(status)) {
            load_point(n, n->weights.ptr);
            status = spark__rope_ready(n, err);
        }
        if (!spark_ok(status)) spark_net_unload(n);
    }
    spark_pages_free(&staging);
    return status;
}
