/* limits.h - the physical limits of this machine, so that speeds can be stated as fractions of them.
 * The arithmetic probes name their registers in assembly: what is printed is the hardware, not a compiler. */
#ifndef SPARK_BENCH_LIMITS_H
#define SPARK_BENCH_LIMITS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum spark_limit {
    SPARK_LIMIT_FMA_256, /* float32 fma */
    SPARK_LIMIT_FMA_512,
    SPARK_LIMIT_MADD_EACH,  /* int8, AVX2: vpmaddubsw, vpmaddwd, vpaddd for each product */
    SPARK_LIMIT_MADD_16,    /* int8, AVX2: eight vpmaddubsw summed in int16, then one vpmaddwd */
    SPARK_LIMIT_DPBUSD_256, /* int8, VNNI */
    SPARK_LIMIT_DPBUSD_512,
    SPARK_LIMIT_TILES, /* int8, AMX: tiles of 16 x 64 by 64 x 16 */
    SPARK_N_LIMITS
} spark_limit;

/* Processor time of this thread: on a shared machine, what others take does not count. */
uint64_t spark_limits_ns(void);

const char *spark_limit_name(spark_limit which);

/* GMAC/s of one thread (median of several runs); 0 if this CPU cannot run it. */
double spark_limit_gmacs(spark_limit which);

/* GB/s of reading `bytes` of memory in huge pages where the system grants them, split over n_threads. 0 if memory is short. */
double spark_limit_read(size_t bytes, unsigned n_threads);

/* All of them as a table; bandwidth at 1 and 2 threads. */
void spark_limits_print(FILE *out);

#endif
