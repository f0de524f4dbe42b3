/* sampler_bench.c - how long drawing one token takes for a vocabulary of 151936 tokens, with the samplers that people use.
 * Prints the best and the median of the rounds in microseconds of CPU time. Not a test. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/sampler.h"

enum { BENCH_VOCAB = 151936, BENCH_ROUNDS = 301, BENCH_HISTORY = 256 };

static double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int bench_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Roughly normal, as logits are, from a fixed sequence. */
static void bench_logits(float *logits)
{
    uint64_t state = 1;
    for (uint32_t i = 0; i < BENCH_VOCAB; i++) {
        float sum = 0;
        for (int k = 0; k < 8; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) / 16777216.0f - 0.5f;
        }
        logits[i] = 4 * sum;
    }
}

static void bench_row(spark_sampler *s, const char *name, spark_sampling p, const float *logits)
{
    static double us[BENCH_ROUNDS];
    uint32_t history[BENCH_HISTORY];
    for (uint32_t i = 0; i < BENCH_HISTORY; i++) history[i] = i * 7919 % BENCH_VOCAB;
    for (uint32_t r = 0; r < BENCH_ROUNDS; r++) {
        const double start = bench_now();
        p.seed = spark_sampler_draw(s, &p, NULL, 0, logits, history, BENCH_HISTORY);
        us[r] = bench_now() - start;
    }
    qsort(us, BENCH_ROUNDS, sizeof *us, bench_order);
    printf("%-28s best %7.1f us, median %7.1f us\n", name, us[0], us[BENCH_ROUNDS / 2]);
}

int main(void)
{
    static float logits[BENCH_VOCAB];
    static spark_kern kern;
    spark_arena *a = NULL;
    spark_sampler *s = NULL;
    spark_err err = {0};
    spark_kern_init(&kern, spark_isa_best());
    if (!spark_ok(spark_arena_create(&a, spark_sampler_bytes(BENCH_VOCAB, BENCH_HISTORY) + (1 << 20), &err)) ||
        !spark_ok(spark_sampler_create(&s, &kern, BENCH_VOCAB, BENCH_HISTORY, NULL, a, &err))) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    bench_logits(logits);
    spark_generate_options o;
    spark_generate_options_defaults(&o);
    spark_sampling p = o.sampling;
    bench_row(s, "as `spark run` draws", p, logits);
    p.repeat_penalty = 1.1f;
    bench_row(s, "and a repeat penalty", p, logits);
    p.repeat_penalty = 1;
    p.top_k = 0;
    bench_row(s, "without top_k", p, logits);
    p.top_p = 1;
    bench_row(s, "min_p alone", p, logits);
    p.min_p = 0;
    bench_row(s, "temperature alone", p, logits);
    p.temperature = 0.3f; /* as peaked as text is */
    bench_row(s, "and a low one", p, logits);
    p.temperature = 0.8f;
    p.top_n_sigma = 1;
    bench_row(s, "top_n_sigma instead", p, logits);
    p.temperature = 0;
    bench_row(s, "greedy", p, logits);
    spark_arena_destroy(&a);
    return 0;
}
