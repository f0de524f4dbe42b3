/* pool.c - one generation counter starts work, one barrier ends it; waiting spins, then sleeps on a futex.
 *
 * Invariants: 1. `generation` changes only while every worker waits for it; 2. `task`, `arg` are written before it and
 * read after it; 3. a barrier is a sense (`phase`) and a count, so it can be used again at once. */
#include "base/pool.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fpenv.h"

/* Most: 0.2 to 1 ms by CPU, longer than the serial parts of a token. A wait that spins in vain halves what the next may
 * spin, one that succeeds gives it back: where others want the CPUs too, two threads of a pool may be given the same one, and
 * would then spin against each other at every barrier. Least: longer than a thread takes to wake up, or a pool that once
 * slept would sleep at every barrier: whoever was woken comes too late to the next. */
enum { POOL_SPINS = 20000, POOL_SPINS_LEAST = 1000 };

typedef struct pool_worker {
    spark_pool *pool;
    pthread_t handle;
    unsigned index;
} pool_worker;

struct spark_pool {
    _Alignas(64) _Atomic uint32_t generation;
    _Alignas(64) _Atomic uint32_t phase;
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(
        64) _Atomic uint32_t sleepers; /* threads that sleep, or are about to: nobody to wake costs no system call */
    _Alignas(64) spark_task *task;     /* NULL = leave */
    void *arg;
    unsigned n_threads, n_started;
    bool spin;                           /* only while every thread can have a CPU of its own */
    _Alignas(64) _Atomic uint32_t spins; /* for the next wait; a hint, so relaxed */
    pool_worker workers[];
};

static void pool_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Returns when *word != old. */
static void pool_wait(spark_pool *p, _Atomic uint32_t *word, uint32_t old)
{
    const uint32_t spins = p->spin ? atomic_load_explicit(&p->spins, memory_order_relaxed) : 0;
    for (uint32_t i = 0; i < spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) {
            if (spins < POOL_SPINS) atomic_store_explicit(&p->spins, POOL_SPINS, memory_order_relaxed);
            return;
        }
        pool_pause();
    }
    if (spins >= 2 * POOL_SPINS_LEAST) atomic_store_explicit(&p->spins, spins / 2, memory_order_relaxed);
    /* Either the waker, who stores `word` and then reads `sleepers`, sees this thread; or this thread, who counts itself
     * and then (in the kernel) reads `word`, sees the new value. Hence seq_cst on both sides. */
    atomic_fetch_add_explicit(&p->sleepers, 1, memory_order_seq_cst);
    while (atomic_load_explicit(word, memory_order_seq_cst) == old)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0); /* EAGAIN, EINTR: the loop looks again */
    atomic_fetch_sub_explicit(&p->sleepers, 1, memory_order_relaxed);
}

static void pool_release(spark_pool *p, _Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_seq_cst);
    if (atomic_load_explicit(&p->sleepers, memory_order_seq_cst) != 0)
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void spark_pool_barrier(spark_pool *p)
{
    if (p->n_threads == 1) return;
    const uint32_t phase = atomic_load_explicit(&p->phase, memory_order_relaxed);
    /* acq_rel: the last to arrive has seen all writes, and passes them on by the release of `phase` */
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 < p->n_threads) {
        pool_wait(p, &p->phase, phase);
        return;
    }
    atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
    pool_release(p, &p->phase, phase + 1);
}

static void *pool_main(void *arg)
{
    pool_worker *w = arg;
    spark_pool *p = w->pool;
    (void)spark_fpenv_enter();
    for (uint32_t seen = 0;;) {
        pool_wait(p, &p->generation, seen);
        seen++;
        if (!p->task) return NULL;
        p->task(p->arg, w->index, p->n_threads);
        spark_pool_barrier(p);
    }
}

static void pool_start(spark_pool *p, spark_task *task, void *arg)
{
    p->task = task;
    p->arg = arg;
    pool_release(p, &p->generation, atomic_load_explicit(&p->generation, memory_order_relaxed) + 1);
}

void spark_pool_run(spark_pool *p, spark_task *task, void *arg)
{
    const spark_fpenv saved = spark_fpenv_enter();
    if (p->n_threads > 1) pool_start(p, task, arg);
    task(arg, 0, p->n_threads);
    spark_pool_barrier(p);
    spark_fpenv_leave(saved);
}

/* A thread that takes no signals: handlers of the program run on the program's own threads. Faults stay as they are. */
static int pool_spawn(pool_worker *w)
{
    sigset_t all, before;
    sigfillset(&all);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < SPARK_COUNT(faults); i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int failed = pthread_create(&w->handle, NULL, pool_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

spark_status spark_pool_create(spark_pool **out, unsigned n_threads, spark_err *err)
{
    SPARK_CHECK(n_threads >= 1 && n_threads <= SPARK_POOL_MAX, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u threads: 1 to %u are allowed", n_threads, SPARK_POOL_MAX);
    spark_pool *p = aligned_alloc(64, spark_round_up(sizeof *p + n_threads * sizeof p->workers[0], 64));
    SPARK_CHECK(p, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for a thread pool");
    *p = (spark_pool){
        .n_threads = n_threads, .n_started = 1, .spin = n_threads <= spark_cpu_count(), .spins = POOL_SPINS};
    for (unsigned i = 1; i < n_threads; i++) {
        p->workers[i] = (pool_worker){.pool = p, .index = i};
        if (pool_spawn(&p->workers[i]) != 0) {
            spark_pool_destroy(&p);
            return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "the system refused thread %u of %u", i + 1,
                              n_threads);
        }
        p->n_started++;
    }
    *out = p;
    return SPARK_SUCCESS;
}

void spark_pool_destroy(spark_pool **pool)
{
    spark_pool *p = *pool;
    if (!p) return;
    if (p->n_started > 1) pool_start(p, NULL, NULL);
    for (unsigned i = 1; i < p->n_started; i++) pthread_join(p->workers[i].handle, NULL);
    free(p);
    *pool = NULL;
}

void spark_pool_pin(spark_pool *p)
{
    cpu_set_t all;
    if (sched_getaffinity(0, sizeof all, &all) != 0 || (unsigned)CPU_COUNT(&all) != p->n_threads) return;
    for (unsigned cpu = 0, thread = 0; thread < p->n_threads; cpu++) {
        cpu_set_t own;
        if (!CPU_ISSET(cpu, &all)) continue;
        CPU_ZERO(&own);
        CPU_SET(cpu, &own);
        const pthread_t handle = thread == 0 ? pthread_self() : p->workers[thread].handle;
        (void)pthread_setaffinity_np(handle, sizeof own, &own);
        thread++;
    }
}

unsigned spark_pool_threads(const spark_pool *pool) { return pool->n_threads; }

void spark_ticket_reset(spark_ticket *t) { atomic_store_explicit(&t->next, 0, memory_order_relaxed); }

uint32_t spark_ticket_take(spark_ticket *t, uint32_t count)
{
    return atomic_fetch_add_explicit(&t->next, count, memory_order_relaxed); /* order comes from the barriers around */
}

unsigned spark_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (unsigned)CPU_COUNT(&set);
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* linux/sched/types.h, which does not stand beside glibc's sched.h. */
typedef struct pool_sched_attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} pool_sched_attr;

void spark_thread_wakes_soon(void)
{
    pool_sched_attr a = {.size = sizeof a};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER) return;
    a.size = sizeof a;
    a.flags = 0;
    a.runtime = 100000; /* ns: of other threads than real-time ones, the slice */
    (void)syscall(SYS_sched_setattr, 0, &a, 0);
}

void spark_share(size_t n, size_t grain, unsigned thread, unsigned n_threads, size_t *begin, size_t *end)
{
    assert(grain > 0 && thread < n_threads);
    const size_t units = spark_div_up(n, grain);
    const size_t first = units * thread / n_threads, last = units * (thread + 1) / n_threads;
    *begin = first * grain < n ? first * grain : n;
    *end = last * grain < n ? last * grain : n;
}
