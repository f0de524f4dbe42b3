/* kern_check.h - the harness that compares every kernel, at every CPU level of this machine, with the last version that
 * passed (the plain C reference at first), bit for bit. kern_check.c runs it; kern_check_*.c hold the slots of the table.
 * A case is a function that fills buffers, calls kc->base->slot and kc->now->slot on twins and compares them; the harness
 * catches its crashes and repeats it at each level. Outputs lie in guarded buffers, so what is written (or read) past the
 * end is seen. */
#ifndef SPARK_TESTS_KERN_CHECK_H
#define SPARK_TESTS_KERN_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "kern/kern.h"

typedef struct kern_check {
    const spark_kern *base; /* the last level that passed: what is right */
    const spark_kern *now;  /* the level that is being checked */
    bool bench;             /* --bench: time the cases that passed */
    bool quiet;             /* self-test: failures are expected and not printed */
    const char *filter;     /* --filter: only cases whose name contains it */
    uint64_t seed, state;   /* --seed; state of kern_check_random, set from the seed for each case */
    unsigned n_passed, n_failed;
    const char *case_name;
    unsigned case_failures;
    struct kern_buf_page *pages; /* buffers of this case, freed after it */
} kern_check;

/* Runs test(kc, arg) as the case `name` ("matmul/Q4_0"): filter, crash, verdict. Returns whether it passed (or was filtered). */
bool kern_check_case(kern_check *kc, const char *name, void (*test)(kern_check *, const void *), const void *arg);

/* Reports a failure of the running case. */
void kern_check_fail(kern_check *kc, const char *fmt, ...) SPARK_PRINTF(2, 3);

/* Twin buffers with equal contents: random bytes, also in the padding in front (at least 64 bytes) and behind (up to `align`),
 * then an inaccessible page. Freed when the case ends. For an input use `want` for both calls. */
typedef struct kern_buf {
    uint8_t *want, *got; /* [len], aligned to `align` (a power of two, at most 4096) */
    size_t len, back;    /* back: bytes of padding behind */
} kern_buf;
kern_buf kern_check_buf(kern_check *kc, size_t len, size_t align);
void kern_check_drop(kern_check *kc); /* frees the buffers so far, in cases with many shapes */

/* Compares payload and padding of twins; the text says which shape this was. */
bool kern_check_same(kern_check *kc, const kern_buf *b, const char *fmt, ...) SPARK_PRINTF(3, 4);

/* Seeded random numbers. */
uint32_t kern_check_random(kern_check *kc);
uint32_t kern_check_below(kern_check *kc, uint32_t n); /* 0..n-1 */
float kern_check_unit(kern_check *kc);                 /* in [-1, 1) */
/* Fills x[n]: kind 0 unit values, 1 normal-like with outliers, 2 tiny (subnormals among them), 3 large (1e30), 4 all the same,
 * 5 zeros of both signs with a few ones. */
#define KERN_FLOAT_KINDS 6u
void kern_check_floats(kern_check *kc, float *x, size_t n, unsigned kind);

/* Times run(arg), printing `work` per second of the median of several runs: work / time in `unit` ("GMAC/s": work in MAC). */
double kern_check_time(kern_check *kc, const char *name, double work, const char *unit, void (*run)(void *), void *arg);

/* The slots. Each runs its cases for kc->now against kc->base, and times them if kc->bench. */
void kern_check_matmul(kern_check *kc);
void kern_check_ops(kern_check *kc);

/* Kernels that are wrong on purpose: returns how many of them were not caught, and prints them. */
unsigned kern_check_matmul_self(kern_check *kc);
unsigned kern_check_wrong(kern_check *kc); /* of all other slots; a slot without one counts */

#endif
