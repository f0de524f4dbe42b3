/* bench_measure.h - the measuring behind `spark bench`: tests of prompt and generation speed on a loaded model, the work
 * that one token is, and the physical limits to set it against. Uses the net itself, because a public session holds one
 * sequence and a batch needs many. */
#ifndef SPARK_CLI_BENCH_MEASURE_H
#define SPARK_CLI_BENCH_MEASURE_H

#include "../bench/limits.h"
#include "api/api_internal.h"

enum { BENCH_MAX_REPS = 1000, BENCH_WARM = 128 };

/* What is to be measured. */
typedef struct bench_plan {
    uint32_t n_prompt, n_gen, n_seqs, depth, n_reps, n_ctx; /* n_ctx 0 = what the tests need */
    spark_kv_choice kv;
    bool in_cell;             /* no file can be opened */
    spark_progress *progress; /* of loading, then of repetitions; may be NULL */
    void *progress_ctx;
} bench_plan;

/* Work of one token: multiplications, and bytes that come from memory. */
typedef struct bench_work {
    double layer_int8, layer_f32, head_int8, head_f32; /* MAC */
    double position_f32;                               /* MAC of attention for each position that a token sees */
    double weight_bytes;                               /* of one step of n_seqs sequences */
    double kv_bytes;                                   /* of one position of one sequence */
} bench_work;

typedef struct bench_result {
    char name[48];           /* "pp512", "tg128@16", "tg32+8192" */
    double median, min, max; /* tokens a second, of all sequences */
    double cpu_median;       /* tokens a second of processor time, all threads together */
    double gmacs, gbytes;    /* GMAC/s and GB/s that the median amounts to; attention is no part of gmacs */
    double fraction;         /* of the nearer limit; 0 = unknown */
    bool by_memory;          /* that limit is memory, not arithmetic */
} bench_result;

typedef struct bench_limits {
    double gmacs[SPARK_N_LIMITS]; /* a thread; 0 = not on this CPU */
    double read_one, read_all;    /* GB/s on one thread and on all that the model uses */
    double int8, f32;             /* the ones that count at this CPU level; 0 = unknown */
} bench_limits;

typedef struct bench_report {
    bench_result results[2];
    uint32_t n_results;
    bench_work work;
    bench_limits limits;
    uint64_t plan_bytes, peak_bytes; /* memory: as planned, and as it came (without the probes) */
    double load_s;
} bench_report;

/* Loads the model and measures. */
SPARK_MUST_CHECK spark_status bench_measure(spark_model *m, const bench_plan *p, bench_report *out, spark_err *err);

#endif
