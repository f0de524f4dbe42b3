/* load_stats.h - the arithmetic of load-generator: samples with exact percentiles, and when requests of an open loop are due.
 * Memory: a sample set grows; where memory ends, the program ends with a message (it is a tool, not a service). */
#ifndef SPARK_BENCH_LOAD_STATS_H
#define SPARK_BENCH_LOAD_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct load_samples {
    double *v;
    size_t n, cap;
    bool sorted;
} load_samples;

void load_samples_add(load_samples *s, double value);
void load_samples_free(load_samples *s);
/* The least sample that at least p percent of all do not exceed (nearest rank, no interpolation): what is printed has
 * happened. p in (0, 100]; 100 is the greatest. 0 if there is no sample. */
double load_percentile(load_samples *s, double p);
double load_mean(const load_samples *s);

/* Arrivals of a Poisson process: nanoseconds from the start, ascending; a function of seed, rate and position alone. */
void load_poisson(uint64_t seed, double per_second, size_t n, uint64_t *out);

/* malloc and realloc that end the program where there is no memory. */
void *load_grow(void *p, size_t n, size_t size);

#endif
