/* pool.h - threads that work together on one step at a time.
 * Nouns:   spark_pool, n threads of which the caller is number 0; a task, run once by each of them.
 * Promise: run() returns when every thread has finished; a barrier inside a task costs well under a microsecond while
 *          work follows work (threads spin), and nothing while idle (they sleep on a futex).
 * Rule:    who computes what must never show in the result (law 1): split outputs, never sums. */
#ifndef SPARK_BASE_POOL_H
#define SPARK_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct spark_pool spark_pool;
typedef void spark_task(void *arg, unsigned thread, unsigned n_threads);

#define SPARK_POOL_MAX 256u

/* Starts n_threads - 1 threads (1 <= n_threads <= SPARK_POOL_MAX). Each sets its floating-point environment (NUMERICS). */
SPARK_MUST_CHECK spark_status spark_pool_create(spark_pool **out, unsigned n_threads, spark_err *err);
void spark_pool_destroy(spark_pool **pool);
unsigned spark_pool_threads(const spark_pool *pool);
/* If there are as many threads as CPUs the process may run on, gives each (the caller is thread 0) one of its own; else, or where the
 * system refuses, nothing changes. For a process that does nothing else: beside a busy neighbour Linux lets threads that wait for each
 * other share one CPU, and each step then takes twice as long whatever the priority. */
void spark_pool_pin(spark_pool *pool);

/* Runs task(arg, i, n) on every thread i, the caller being 0, with round-to-nearest and denormals kept.
 * One caller at a time. */
void spark_pool_run(spark_pool *pool, spark_task *task, void *arg);

/* Inside a task: no thread goes on before all have come. All writes before it are seen by all after it. */
void spark_pool_barrier(spark_pool *pool);

/* Hands out 0, 1, 2, ... once each over all threads, for uneven work; reset it where only one thread is running. */
typedef struct spark_ticket {
    _Alignas(64) _Atomic uint32_t next;
} spark_ticket;
void spark_ticket_reset(spark_ticket *t);
uint32_t spark_ticket_take(spark_ticket *t, uint32_t count);

/* The CPUs this process may run on. */
unsigned spark_cpu_count(void);

/* For a thread that works little and must not wait when it has work: Linux then lets it run soon after it wakes, also where
 * threads that always work have every CPU (a slice of 100 us instead of some milliseconds: the earlier deadline goes first, since
 * Linux 6.12). Takes nothing from them in the long run. Where the system cannot or will not, nothing changes. */
void spark_thread_wakes_soon(void);

/* The even share [begin, end) of n items for one thread, in multiples of `grain`. */
void spark_share(size_t n, size_t grain, unsigned thread, unsigned n_threads, size_t *begin, size_t *end);

#endif
