/* load_stats.c - see load_stats.h. */
#include "load_stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/philox.h"

void *load_grow(void *p, size_t n, size_t size)
{
    void *q = n <= SIZE_MAX / size ? realloc(p, n ? n * size : 1) : NULL;
    if (q) return q;
    fputs("load-generator: out of memory\n", stderr);
    exit(1);
}

void load_samples_add(load_samples *s, double value)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 256;
        s->v = load_grow(s->v, s->cap, sizeof *s->v);
    }
    s->v[s->n++] = value;
    s->sorted = false;
}

void load_samples_free(load_samples *s)
{
    free(s->v);
    *s = (load_samples){0};
}

static int stats_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double load_percentile(load_samples *s, double p)
{
    if (s->n == 0) return 0;
    if (!s->sorted) qsort(s->v, s->n, sizeof *s->v, stats_order);
    s->sorted = true;
    /* p/100 is rarely exact in binary: a hair is taken off, so that 95 % of 20 is the 19th and not the 20th. */
    const double rank = ceil(p / 100 * (double)s->n - 1e-9);
    const size_t i = rank < 1 ? 0 : (size_t)rank - 1;
    return s->v[i < s->n ? i : s->n - 1];
}

double load_mean(const load_samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) sum += s->v[i];
    return s->n ? sum / (double)s->n : 0;
}

void load_poisson(uint64_t seed, double per_second, size_t n, uint64_t *out)
{
    double at = 0;
    for (size_t i = 0; i < n; i++) {
        at += -log1p(-spark_uniform(seed, i, 0)) / per_second;
        out[i] = (uint64_t)(at * 1e9);
    }
}
