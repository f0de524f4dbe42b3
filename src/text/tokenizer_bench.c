/* tokenizer_bench.c - how long a vocabulary takes to load, step by step, and how fast it encodes and decodes a text.
 * Usage: tokenizer_bench MODEL.gguf [TEXT [ROUNDS]]; without TEXT (or "-") a text of words is made. Prints the best and the
 * median of the rounds, in CPU time, so that other programs count little: the distance between the two is the noise. Not a
 * test. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "text/tokenizer.h"

enum { BENCH_STEPS = 6, BENCH_MAX_ROUNDS = 1000 };

typedef struct bench_result {
    const char *name;
    double ms[BENCH_MAX_ROUNDS];
} bench_result;

static bench_result bench_results[BENCH_STEPS] = {
    {.name = "head size"}, {.name = "open keys"},       {.name = "load"},
    {.name = "encode"},    {.name = "encode, special"}, {.name = "decode"}};

typedef struct bench {
    spark_text file, text;
    int rounds;
    size_t arena_bytes, n_ids; /* of the last round */
} bench;

static spark_status bench_read(const char *path, spark_text *out, spark_err *err)
{
    static uint8_t buf[1 << 16];
    FILE *f = fopen(path, "rb");
    SPARK_CHECK(f, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot open %s", path);
    spark_status s = SPARK_SUCCESS;
    for (size_t n = sizeof buf; spark_ok(s) && n == sizeof buf;) {
        n = fread(buf, 1, sizeof buf, f);
        s = spark_text_append(out, (spark_bytes){buf, n}, err);
    }
    fclose(f);
    return s;
}

/* Words of one to nine letters, a few marks and line ends. */
static spark_status bench_words(spark_text *out, spark_err *err)
{
    uint32_t x = 1;
    for (size_t i = 0; i < 200000; i++) {
        uint8_t word[16];
        size_t n = 0;
        x = x * 1664525u + 1013904223u;
        for (uint32_t k = 0, y = x; k <= (x >> 16) % 9; k++, y = y * 22695477u + 1)
            word[n++] = (uint8_t)('a' + (y >> 24) % 26);
        word[n++] = i % 17 == 0 ? '\n' : i % 11 == 0 ? ',' : ' ';
        SPARK_TRY(spark_text_append(out, (spark_bytes){word, n}, err));
    }
    return SPARK_SUCCESS;
}

static uint64_t bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Time since *at, which becomes now. */
static double bench_lap(uint64_t *at)
{
    const uint64_t now = bench_now(), since = now - *at;
    *at = now;
    return (double)since / 1e6;
}

static spark_status bench_text(const bench *b, const spark_tokenizer *t, int round, size_t *n_ids, spark_err *err)
{
    const spark_bytes text = {b->text.ptr, b->text.len};
    spark_ids ids = {0};
    spark_text back = {0};
    uint64_t at = bench_now();
    spark_status s = spark_tokenizer_encode(t, text, 0, &ids, err);
    bench_results[3].ms[round] = bench_lap(&at);
    ids.n = 0;
    if (spark_ok(s)) s = spark_tokenizer_encode(t, text, SPARK_ENCODE_SPECIAL, &ids, err);
    bench_results[4].ms[round] = bench_lap(&at);
    if (spark_ok(s)) s = spark_tokenizer_decode(t, ids.ids, ids.n, &back, err);
    bench_results[5].ms[round] = bench_lap(&at);
    *n_ids = ids.n;
    spark_ids_free(&ids);
    spark_text_free(&back);
    return s;
}

static spark_status bench_load(bench *b, spark_arena *a, int round, spark_err *err)
{
    const spark_gguf_file file = {{b->file.ptr, b->file.len}, b->file.len};
    uint64_t need = 0;
    spark_gguf *g = NULL;
    spark_tokenizer *t = NULL;
    uint64_t at = bench_now();
    SPARK_TRY(spark_gguf_head_size(file.head, file.size, &need, err));
    bench_results[0].ms[round] = bench_lap(&at);
    SPARK_TRY(spark_gguf_open_keys(&g, file, a, err));
    bench_results[1].ms[round] = bench_lap(&at);
    SPARK_TRY(spark_tokenizer_load(&t, g, a, err));
    bench_results[2].ms[round] = bench_lap(&at);
    b->arena_bytes = spark_arena_bytes(a);
    return bench_text(b, t, round, &b->n_ids, err);
}

static spark_status bench_run(bench *b, spark_err *err)
{
    for (int i = 0; i < b->rounds; i++) {
        spark_arena *a = NULL;
        SPARK_TRY(spark_arena_create(&a, (size_t)1 << 30, err));
        const spark_status s = bench_load(b, a, i, err);
        spark_arena_destroy(&a);
        SPARK_TRY(s);
    }
    return SPARK_SUCCESS;
}

static int bench_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_print(bench *b)
{
    printf("%zu bytes of file, %zu of text in %zu tokens, %zu bytes of arena, %d rounds\n", b->file.len, b->text.len,
           b->n_ids, b->arena_bytes, b->rounds);
    for (int i = 0; i < BENCH_STEPS; i++) {
        bench_result *r = &bench_results[i];
        qsort(r->ms, (size_t)b->rounds, sizeof *r->ms, bench_order);
        printf("%-16s best %8.2f ms, median %8.2f ms", r->name, r->ms[0], r->ms[b->rounds / 2]);
        if (i > 2) printf(", best %6.1f MB/s", (double)b->text.len / 1e3 / r->ms[0]);
        printf("\n");
    }
}

static spark_status bench_main(bench *b, int argc, char **argv, spark_err *err)
{
    SPARK_CHECK(argc >= 2 && argc <= 4, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "usage: %s MODEL [TEXT|- [ROUNDS]]",
                argv[0]);
    b->rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 10;
    SPARK_CHECK(b->rounds >= 1 && b->rounds <= BENCH_MAX_ROUNDS, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "ROUNDS is from 1 to %d", BENCH_MAX_ROUNDS);
    SPARK_TRY(bench_read(argv[1], &b->file, err));
    if (argc > 2 && strcmp(argv[2], "-") != 0)
        SPARK_TRY(bench_read(argv[2], &b->text, err));
    else
        SPARK_TRY(bench_words(&b->text, err));
    return bench_run(b, err);
}

int main(int argc, char **argv)
{
    bench b = {0};
    spark_err err = {0};
    const bool ok = spark_ok(bench_main(&b, argc, argv, &err));
    if (ok)
        bench_print(&b);
    else
        fprintf(stderr, "%s\n", err.text);
    spark_text_free(&b.file);
    spark_text_free(&b.text);
    return ok ? 0 : 1;
}
