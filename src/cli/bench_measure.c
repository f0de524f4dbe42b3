/* bench_measure.c - see bench_measure.h. Tokens are random, as in llama-bench: what a model would answer does not matter. */
#include "cli/bench_measure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

typedef struct measure_state {
    spark_model *m;
    const bench_plan *p;
    spark_shape shape;
    spark_net_info info;
    spark_kv *kv;
    spark_exec *exec;
    spark_row *rows; /* [n_batch] */
    uint32_t step;   /* tokens of a prompt at once: what a session takes */
    uint32_t random;
    uint64_t reps_done, reps_total;
    double rate[BENCH_MAX_REPS], cpu_rate[BENCH_MAX_REPS]; /* tokens a second of the clock, and of processor time */
} measure_state;

/* ---- Running -------------------------------------------------------------------------------------------------------- */

static uint32_t measure_token(measure_state *s)
{
    s->random = s->random * 1664525u + 1013904223u; /* Numerical Recipes' generator: plenty for picking rows */
    return (uint32_t)((uint64_t)s->random * s->info.n_vocab >> 32);
}

/* n tokens into one sequence, in steps; logits after the last if they are wanted. */
static spark_status measure_prompt(measure_state *s, uint32_t seq, uint32_t n, bool logits, spark_err *err)
{
    for (uint32_t done = 0; done < n;) {
        const uint32_t step = n - done < s->step ? n - done : s->step;
        const float *out = NULL;
        done += step;
        for (uint32_t i = 0; i < step; i++)
            s->rows[i] = (spark_row){measure_token(s), seq, logits && done == n && i + 1 == step};
        SPARK_TRY(spark_forward(s->exec, s->kv, s->rows, step, &out, err));
    }
    return SPARK_SUCCESS;
}

/* n tokens into each of the sequences, one of each at a time, with logits: generation without the drawing. */
static spark_status measure_generate(measure_state *s, uint32_t n, spark_err *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const float *out = NULL;
        for (uint32_t seq = 0; seq < s->p->n_seqs; seq++) s->rows[seq] = (spark_row){measure_token(s), seq, true};
        SPARK_TRY(spark_forward(s->exec, s->kv, s->rows, s->p->n_seqs, &out, err));
    }
    return SPARK_SUCCESS;
}

static spark_status measure_once(measure_state *s, bool prompt, uint32_t n, spark_err *err)
{
    const spark_status st = prompt ? measure_prompt(s, 0, n, true, err) : measure_generate(s, n, err);
    for (uint32_t seq = 0; seq < s->p->n_seqs; seq++)
        if (spark_kv_length(s->kv, seq) > s->p->depth) spark_kv_truncate(s->kv, seq, s->p->depth);
    return st;
}

/* Processor time of all threads: on a shared machine, what others take does not count. */
static uint64_t measure_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int measure_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure_median(double *rate, uint32_t n)
{
    qsort(rate, n, sizeof *rate, measure_order);
    return (rate[(n - 1) / 2] + rate[n / 2]) / 2;
}

/* One test: some tokens to warm up, then n_reps that count. */
static spark_status measure_test(measure_state *s, bool prompt, bench_result *out, spark_err *err)
{
    const uint32_t n = prompt ? s->p->n_prompt : s->p->n_gen, n_seqs = prompt ? 1 : s->p->n_seqs, reps = s->p->n_reps;
    for (uint32_t seq = 0; seq < n_seqs; seq++) /* each its own: shared keys would be read from the cache */
        SPARK_TRY(measure_prompt(s, seq, s->p->depth - spark_kv_length(s->kv, seq), false, err));
    SPARK_TRY(measure_once(s, prompt, prompt && n > BENCH_WARM ? BENCH_WARM : prompt ? n : 1, err));
    for (uint32_t i = 0; i < reps; i++) {
        SPARK_CHECK(!s->p->progress || s->p->progress(s->p->progress_ctx, s->reps_done++, s->reps_total), err,
                    SPARK_E_CANCELLED, SPARK_ERR_NOWHERE, "cancelled");
        const uint64_t start = spark_clock_ns(), cpu_start = measure_cpu_ns();
        SPARK_TRY(measure_once(s, prompt, n, err));
        s->rate[i] = (double)n * n_seqs * 1e9 / (double)(spark_clock_ns() - start);
        s->cpu_rate[i] = (double)n * n_seqs * 1e9 / (double)(measure_cpu_ns() - cpu_start);
    }
    *out = (bench_result){.median = measure_median(s->rate, reps), .cpu_median = measure_median(s->cpu_rate, reps)};
    out->min = s->rate[0]; /* sorted by now */
    out->max = s->rate[reps - 1];
    size_t len = (size_t)snprintf(out->name, sizeof out->name, "%s%" PRIu32, prompt ? "pp" : "tg", n);
    if (n_seqs > 1) len += (size_t)snprintf(out->name + len, sizeof out->name - len, "@%" PRIu32, n_seqs);
    if (s->p->depth) snprintf(out->name + len, sizeof out->name - len, "+%" PRIu32, s->p->depth);
    return SPARK_SUCCESS;
}

/* ---- Work of a token ------------------------------------------------------------------------------------------------ */

static bool measure_named(const spark_gguf_tensor *t, const char *part)
{
    return memmem(t->name.ptr, t->name.len, part, strlen(part)) != NULL;
}

static void measure_tensor(const measure_state *s, const spark_gguf_tensor *t, bool is_head, bench_work *w)
{
    const bool expert = measure_named(t, "_exps.");
    double share = 1, read = 1; /* of the experts: computed for a token, and read for a step of n_seqs tokens */
    if (expert) {
        double untouched = 1;
        share = (double)s->info.n_experts_used / s->info.n_experts;
        for (uint32_t i = 0; i < s->p->n_seqs; i++) untouched *= 1 - share;
        read = 1 - untouched;
    }
    const spark_type_info *type = spark_type_lookup(t->type);
    const uint64_t elements = t->n_bytes / type->block_bytes * type->block_elems; /* whole blocks */
    const double macs = (double)elements * share;
    double *sum = is_head           ? (type->act_block ? &w->head_int8 : &w->head_f32)
                  : type->act_block ? &w->layer_int8
                                    : &w->layer_f32;
    *sum += macs;
    w->weight_bytes += (double)t->n_bytes * read;
}

static void measure_work(const measure_state *s, bench_work *w)
{
    const spark_gguf *g = spark__model_gguf(s->m);
    const bool tied = !spark_gguf_tensor_find(g, "output.weight");
    *w = (bench_work){0};
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        const bool embedding = spark_bytes_is(t->name, "token_embd.weight");
        if (t->n_dims < 2 || (embedding && !tied)) continue; /* vectors are nothing; of an embedding one row is read */
        measure_tensor(s, t, embedding || spark_bytes_is(t->name, "output.weight"), w);
    }
    w->kv_bytes = (double)spark_kv_block_bytes(s->shape.kv_type, s->info.head_dim_k, s->info.head_dim_v) /
                  SPARK_KV_BLOCK * s->info.n_layers * s->info.n_heads_kv;
    w->position_f32 = (double)s->info.n_layers * s->info.n_heads * (s->info.head_dim_k + s->info.head_dim_v);
}

/* Sets the result against the limits: the time that arithmetic alone, or memory alone, would take. */
static void measure_judge(const measure_state *s, bool prompt, const bench_work *w, const bench_limits *l,
                          bench_result *r)
{
    const double n = prompt ? s->p->n_prompt : s->p->n_gen, threads = s->shape.n_threads;
    const double head = prompt ? 1 / n : 1; /* a prompt needs logits once */
    const double int8 = w->layer_int8 + head * w->head_int8, matrix_f32 = w->layer_f32 + head * w->head_f32;
    const double seen = s->p->depth + n / 2, f32 = matrix_f32 + w->position_f32 * seen; /* positions, on average */
    r->gmacs = (int8 + matrix_f32) * r->median * 1e-9;
    const double bytes = w->weight_bytes / s->p->n_seqs + w->kv_bytes * seen;
    if (!prompt) r->gbytes = bytes * r->median * 1e-9;
    const bool known = (int8 == 0 || l->int8 > 0) && (f32 == 0 || l->f32 > 0);
    const double compute = known ? ((int8 > 0 ? int8 / l->int8 : 0) + (f32 > 0 ? f32 / l->f32 : 0)) * 1e-9 / threads
                                 : 0;
    const double memory = !prompt && l->read_all > 0 ? bytes * 1e-9 / l->read_all : 0;
    r->by_memory = memory > compute;
    r->fraction = (r->by_memory ? memory : compute) * r->median;
}

/* ---- Limits --------------------------------------------------------------------------------------------------------- */

static void measure_limits(const measure_state *s, bench_limits *l)
{
    for (int i = 0; i < SPARK_N_LIMITS; i++) l->gmacs[i] = spark_limit_gmacs((spark_limit)i);
    if (s->m->isa == SPARK_ISA_AVX512 || s->m->isa == SPARK_ISA_AMX) {
        l->int8 = l->gmacs[SPARK_LIMIT_DPBUSD_512];
        l->f32 = l->gmacs[SPARK_LIMIT_FMA_512];
    } else if (s->m->isa == SPARK_ISA_AVX2) {
        l->int8 = l->gmacs[SPARK_LIMIT_MADD_16];
        l->f32 = l->gmacs[SPARK_LIMIT_FMA_256];
    }
    const uint64_t pages = (uint64_t)sysconf(_SC_AVPHYS_PAGES), spare = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
    const size_t bytes = spare < ((size_t)1 << 30) ? (size_t)spare
                                                   : (size_t)1 << 30; /* beyond any cache, within what is free */
    l->read_one = spark_limit_read(bytes, 1);
    l->read_all = s->shape.n_threads == 1 ? l->read_one : spark_limit_read(bytes, s->shape.n_threads);
}

/* ---- All of it ------------------------------------------------------------------------------------------------------ */

static spark_status measure_shape(measure_state *s, spark_err *err)
{
    const bench_plan *p = s->p;
    const uint32_t longest = p->n_prompt > p->n_gen ? p->n_prompt : p->n_gen;
    const uint64_t need = (uint64_t)p->depth + longest;
    SPARK_CHECK(longest > 0, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "there is nothing to measure: both tests are off");
    SPARK_CHECK(p->n_ctx == 0 || need <= p->n_ctx, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the tests need a context of %" PRIu64 " tokens, and %" PRIu32 " were asked for", need, p->n_ctx);
    const uint64_t n_ctx = p->n_ctx ? p->n_ctx : need;
    SPARK_CHECK(n_ctx <= UINT32_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the tests need a context of %" PRIu64 " tokens", need);
    const spark_session_options o = {.n_ctx = (uint32_t)n_ctx, .kv = p->kv};
    SPARK_TRY(api_session_shape(s->m, &o, &s->shape, err));
    s->step = s->shape.n_batch;
    s->shape.n_seqs = p->n_seqs;
    s->shape.n_logits = p->n_seqs;
    if (s->shape.n_batch < p->n_seqs) s->shape.n_batch = p->n_seqs;
    spark_net_info_get(s->m->net, &s->info);
    return SPARK_SUCCESS;
}

static spark_status measure_prepare(measure_state *s, bench_report *out, spark_err *err)
{
    spark_memory need;
    SPARK_TRY(measure_shape(s, err));
    SPARK_TRY(spark_net_plan(s->m->net, &s->shape, &need, err));
    out->plan_bytes = need.weights + need.kv + need.scratch + spark_arena_bytes(s->m->arena);
    for (uint32_t i = 0; i < s->m->n_files; i++) out->plan_bytes += s->m->files[i].memory ? 0 : s->m->files[i].head_len;
    s->rows = calloc(s->shape.n_batch, sizeof *s->rows);
    SPARK_CHECK(s->rows, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    const uint64_t start = spark_clock_ns();
    SPARK_TRY(spark_model_load(s->m, s->p->progress, s->p->progress_ctx, err));
    out->load_s = (double)(spark_clock_ns() - start) * 1e-9;
    SPARK_TRY(spark_kv_create(&s->kv, s->m->net, &s->shape, err));
    return spark_exec_create(&s->exec, s->m->net, &s->shape, s->m->pool, s->m->isa, err);
}

/* Most bytes that were resident, 0 if the system does not tell. getrusage counts what ran in this process before exec: nothing much in a
 * cell, where no file can be opened. */
static uint64_t measure_peak(const bench_plan *p)
{
    char line[128];
    unsigned long kib = 0;
    struct rusage used;
    if (p->in_cell) return getrusage(RUSAGE_SELF, &used) == 0 ? (uint64_t)used.ru_maxrss * 1024 : 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && kib == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtoul(line + 6, NULL, 10);
    if (f) fclose(f);
    return (uint64_t)kib * 1024;
}

static spark_status measure_tests(measure_state *s, bench_report *out, spark_err *err)
{
    const bool wanted[2] = {s->p->n_gen > 0, s->p->n_prompt > 0}; /* indexed by "is it the prompt" */
    SPARK_TRY(measure_prepare(s, out, err));
    s->reps_total = (uint64_t)s->p->n_reps * (wanted[0] + wanted[1]);
    for (int prompt = 1; prompt >= 0; prompt--)
        if (wanted[prompt]) SPARK_TRY(measure_test(s, prompt, &out->results[out->n_results++], err));
    if (s->p->progress) (void)s->p->progress(s->p->progress_ctx, s->reps_total, s->reps_total);
    out->peak_bytes = measure_peak(s->p);
    return SPARK_SUCCESS;
}

spark_status bench_measure(spark_model *m, const bench_plan *p, bench_report *out, spark_err *err)
{
    static measure_state s; /* large, and one at a time */
    s = (measure_state){.m = m, .p = p, .random = 1};
    *out = (bench_report){0};
    SPARK_CHECK(p->n_reps >= 1 && p->n_reps <= BENCH_MAX_REPS && p->n_seqs >= 1, err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "%" PRIu32 " repetitions of %" PRIu32 " sequences cannot be measured", p->n_reps,
                p->n_seqs);
    const spark_status st = measure_tests(&s, out, err);
    spark_exec_destroy(&s.exec);
    spark_kv_destroy(&s.kv);
    free(s.rows);
    if (!spark_ok(st)) return st;
    measure_work(&s, &out->work);
    measure_limits(&s, &out->limits);
    for (uint32_t i = 0; i < out->n_results; i++)
        measure_judge(&s, out->results[i].name[0] == 'p', &out->work, &out->limits, &out->results[i]);
    return st;
}
