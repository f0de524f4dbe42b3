/* engine_bench.c - what the scheduler costs: steps of an engine beside plain forward passes over the same rows.
 *
 *     engine_bench MODEL.gguf [REQUESTS [PROMPT [NEW [THREADS [greedy]]]]]
 *
 * Both compute REQUESTS prompts of PROMPT random tokens and then NEW tokens of each; the engine also draws them (temperature
 * 0.8, top_k 40, top_p 0.95, min_p 0.05, unless greedy) and makes events. Rounds alternate. Not a test. */
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/spark_limits.h"
#include "engine/engine.h"

enum { BENCH_ROUNDS = 5, BENCH_MOST = 4096, BENCH_BATCH = 192 };

typedef struct bench {
    uint32_t n_requests, n_prompt, n_new;
    unsigned n_threads;
    bool greedy;
    spark_bytes file;
    spark_arena *arena;
    spark_gguf *gguf;
    spark_net *net;
    spark_tokenizer *tokenizer;
    spark_pool *pool;
    spark_kern kern;
    spark_isa isa;
    uint32_t *prompts; /* [n_requests][n_prompt] */
    uint32_t n_vocab;
    double step_ms[BENCH_ROUNDS * BENCH_MOST]; /* of steps in which every request decodes */
    uint32_t n_steps;
} bench;

typedef struct bench_times {
    double prompt_s, decode_s, step_ms;
} bench_times;

static void bench_die(const spark_err *err)
{
    fprintf(stderr, "engine_bench: %s\n", err->text);
    exit(1);
}

static spark_status bench_read(void *ctx, uint32_t file, uint64_t offset, void *dst, size_t len, spark_err *err)
{
    const bench *b = ctx;
    SPARK_CHECK(file == 0 && offset <= b->file.len && len <= b->file.len - offset, err, SPARK_E_IO, offset,
                "past the end");
    memcpy(dst, b->file.ptr + offset, len);
    return SPARK_SUCCESS;
}

static void bench_map(bench *b, const char *path)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        perror(path);
        exit(1);
    }
    const void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    close(fd);
    b->file = (spark_bytes){p, (size_t)st.st_size};
}

static spark_status bench_load(bench *b, spark_err *err)
{
    spark_net_info info;
    const spark_gguf_file file = {b->file, b->file.len};
    SPARK_TRY(spark_arena_create(&b->arena, (size_t)1 << 30, err));
    SPARK_TRY(spark_gguf_open(&b->gguf, &file, 1, b->arena, err));
    SPARK_TRY(spark_net_bind(&b->net, b->gguf, b->arena, err));
    if (!spark_ok(spark_tokenizer_load(&b->tokenizer, b->gguf, b->arena, NULL))) b->tokenizer = NULL;
    SPARK_TRY(spark_pool_create(&b->pool, b->n_threads, err));
    SPARK_TRY(spark_net_load(b->net, &(spark_source){bench_read, b}, b->pool, NULL, NULL, err));
    spark_net_info_get(b->net, &info);
    b->n_vocab = info.n_vocab;
    b->isa = spark_isa_best();
    spark_kern_init(&b->kern, b->isa);
    const size_t n = (size_t)b->n_requests * b->n_prompt;
    SPARK_TRY(SPARK_NEW(b->arena, n, &b->prompts, err));
    uint32_t random = 1;
    for (size_t i = 0; i < n; i++) {
        random = random * 1664525u + 1013904223u;
        b->prompts[i] = (uint32_t)((uint64_t)random * b->n_vocab >> 32);
    }
    return SPARK_SUCCESS;
}

static int bench_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double bench_median(bench *b)
{
    if (b->n_steps == 0) return 0;
    qsort(b->step_ms, b->n_steps, sizeof *b->step_ms, bench_order);
    return b->step_ms[b->n_steps / 2];
}

static uint32_t bench_ctx(const bench *b) { return b->n_prompt + b->n_new; }
static uint32_t bench_batch(const bench *b) { return b->n_requests > BENCH_BATCH ? b->n_requests : BENCH_BATCH; }

/* ---- Plain passes ---- */

static bench_times bench_plain(bench *b, spark_exec *exec, spark_kv *kv)
{
    static spark_row rows[SPARK_MAX_SEQS];
    const uint32_t total = b->n_requests * b->n_prompt, batch = bench_batch(b);
    assert(total > 0); /* main sees to it */
    bench_times t = {0};
    spark_err err = {0};
    uint64_t start = spark_clock_ns();
    b->n_steps = 0;
    for (uint32_t at = 0; at < total; at += batch) { /* prompts one after another, as many rows as fit */
        const uint32_t n = total - at < batch ? total - at : batch;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (spark_row){b->prompts[at + i], (at + i) / b->n_prompt, (at + i + 1) % b->n_prompt == 0};
        if (!spark_ok(spark_forward(exec, kv, rows, n, NULL, &err))) bench_die(&err);
    }
    t.prompt_s = (double)(spark_clock_ns() - start) * 1e-9;
    start = spark_clock_ns();
    for (uint32_t i = 1; i < b->n_new; i++) {
        const uint64_t step = spark_clock_ns();
        for (uint32_t q = 0; q < b->n_requests; q++) rows[q] = (spark_row){b->prompts[(q + i) % total], q, true};
        if (!spark_ok(spark_forward(exec, kv, rows, b->n_requests, NULL, &err))) bench_die(&err);
        b->step_ms[b->n_steps++] = (double)(spark_clock_ns() - step) * 1e-6;
    }
    t.decode_s = (double)(spark_clock_ns() - start) * 1e-9;
    t.step_ms = bench_median(b);
    for (uint32_t q = 0; q < b->n_requests; q++) spark_kv_truncate(kv, q, 0);
    return t;
}

/* ---- The engine ---- */

static void bench_submit(const bench *b, spark_engine *e, uint64_t id)
{
    spark_err err = {0};
    spark_request r = {.id = id, .tenant = id, .prompt = b->prompts + id * b->n_prompt, .n_prompt = b->n_prompt};
    spark_generate_options_defaults(&r.generate);
    r.generate.max_tokens = b->n_new;
    r.generate.ignore_eog = true;
    r.generate.sampling.seed = id;
    if (b->greedy) r.generate.sampling.temperature = 0;
    if (!spark_ok(spark_engine_submit(e, &r, NULL, &err))) bench_die(&err);
}

static bench_times bench_engine(bench *b, spark_engine *e)
{
    bench_times t = {0};
    uint32_t n_first = 0, n_out = 0;
    b->n_steps = 0;
    const uint64_t start = spark_clock_ns();
    uint64_t decode = start;
    for (uint64_t id = 0; id < b->n_requests; id++) bench_submit(b, e, id);
    for (;;) {
        const bool all = n_first == b->n_requests;
        const uint64_t step = spark_clock_ns();
        if (!spark_engine_step(e)) break;
        for (spark_event v; spark_engine_event(e, &v);) {
            n_first += v.kind == SPARK_EVENT_STARTED;
            n_out += v.kind == SPARK_EVENT_PIECE && v.piece.has_token;
            if (v.kind == SPARK_EVENT_FAILED) bench_die(&v.err);
        }
        if (all && b->n_steps < BENCH_MOST) b->step_ms[b->n_steps++] = (double)(spark_clock_ns() - step) * 1e-6;
        if (!all) decode = spark_clock_ns();
    }
    if (n_out != b->n_requests * b->n_new) bench_die(&(spark_err){.text = "tokens are missing"});
    t.prompt_s = (double)(decode - start) * 1e-9;
    t.decode_s = (double)(spark_clock_ns() - decode) * 1e-9;
    t.step_ms = bench_median(b);
    return t;
}

static void bench_print(const bench *b, const char *name, const bench_times *t)
{
    const double all = (double)b->n_requests * b->n_new / (t->prompt_s + t->decode_s);
    printf("%-6s prompts %.3f s, decode %.3f s, %.1f tokens/s in all, median decode step %.3f ms\n", name, t->prompt_s,
           t->decode_s, all, t->step_ms);
}

static void bench_run(bench *b)
{
    spark_err err = {0};
    const spark_engine_options o = {.n_ctx = bench_ctx(b),
                                    .n_running = b->n_requests,
                                    .n_batch = bench_batch(b),
                                    .kv_type = SPARK_KV_F16,
                                    .prefix_cache = true};
    const spark_shape shape = {.n_ctx = o.n_ctx,
                               .n_seqs = b->n_requests,
                               .n_batch = o.n_batch,
                               .n_logits = b->n_requests,
                               .n_threads = b->n_threads,
                               .kv_type = o.kv_type};
    const spark_engine_parts parts = {
        .net = b->net, .kern = &b->kern, .tokenizer = b->tokenizer, .pool = b->pool, .isa = b->isa};
    spark_engine *e = NULL;
    spark_kv *kv = NULL;
    spark_exec *exec = NULL;
    bench_times plain, engine, best[2] = {0};
    if (!spark_ok(spark_engine_create(&e, &parts, &o, &err)) || !spark_ok(spark_kv_create(&kv, b->net, &shape, &err)) ||
        !spark_ok(spark_exec_create(&exec, b->net, &shape, b->pool, b->isa, &err)))
        bench_die(&err);
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        plain = bench_plain(b, exec, kv);
        engine = bench_engine(b, e);
        bench_print(b, "plain", &plain);
        bench_print(b, "engine", &engine);
        if (i == 0 || plain.step_ms < best[0].step_ms) best[0] = plain;
        if (i == 0 || engine.step_ms < best[1].step_ms) best[1] = engine;
    }
    printf("best median step: plain %.3f ms, engine %.3f ms (%+.1f %%)\n", best[0].step_ms, best[1].step_ms,
           100 * (best[1].step_ms / best[0].step_ms - 1));
    spark_exec_destroy(&exec);
    spark_kv_destroy(&kv);
    spark_engine_destroy(&e);
}

static uint32_t bench_number(int argc, char **argv, int at, uint32_t otherwise, uint32_t most)
{
    if (argc <= at) return otherwise;
    const unsigned long n = strtoul(argv[at], NULL, 10);
    if (n >= 1 && n <= most) return (uint32_t)n;
    fprintf(stderr, "engine_bench: '%s': 1 to %" PRIu32 " is allowed\n", argv[at], most);
    exit(2);
}

int main(int argc, char **argv)
{
    static bench b; /* large */
    spark_err err = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: engine_bench MODEL.gguf [REQUESTS [PROMPT [NEW [THREADS [greedy]]]]]\n");
        return 2;
    }
    b.n_requests = bench_number(argc, argv, 2, 16, SPARK_MAX_SEQS);
    b.n_prompt = bench_number(argc, argv, 3, 90, 1u << 16);
    b.n_new = bench_number(argc, argv, 4, 64, BENCH_MOST);
    b.n_threads = bench_number(argc, argv, 5, spark_cpu_count(), SPARK_POOL_MAX);
    b.greedy = argc > 6;
    bench_map(&b, argv[1]);
    if (!spark_ok(bench_load(&b, &err))) bench_die(&err);
    bench_run(&b);
    spark_net_unload(b.net);
    spark_pool_destroy(&b.pool);
    spark_arena_destroy(&b.arena);
    return 0;
}
