/* base_test.c - the promises of the base room: cursor, sizes, arena, map, UTF-8, pool. */
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/pages.h"
#include "base/pool.h"
#include "base/strmap.h"
#include "base/test.h"
#include "base/utf8.h"

static void test_cursor_stays_where_it_was_when_a_read_fails(void **state)
{
    (void)state;
    const uint8_t data[] = {1, 2, 3};
    spark_cursor c = spark_cursor_at((spark_bytes){data, sizeof data});
    uint16_t v = 0;
    uint32_t w = 7;
    spark_err err = {0};
    assert_ok(spark_cursor_u16(&c, &v, &err));
    assert_int_equal(v, 0x0201);
    assert_code(spark_cursor_u32(&c, &w, &err), SPARK_E_FORMAT);
    assert_int_equal(err.at, 2);
    assert_int_equal(w, 7);
    assert_int_equal(spark_cursor_left(&c), 1);
}

static void test_sizes_refuse_to_wrap(void **state)
{
    (void)state;
    uint64_t out = 5;
    assert_false(spark_mul_u64(UINT64_MAX, 2, &out));
    assert_false(spark_add_u64(UINT64_MAX, 1, &out));
    assert_false(spark_align_up(UINT64_MAX, 32, &out));
    assert_int_equal(out, 5);
    assert_true(spark_align_up(33, 32, &out));
    assert_int_equal(out, 64);
}

static void test_arena_gives_zeroed_aligned_memory_again_after_reset(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    assert_ok(spark_arena_create(&a, 1 << 20, NULL));
    uint32_t *first = NULL;
    assert_ok(SPARK_NEW(a, 10, &first, NULL));
    const spark_mark m = spark_arena_mark(a);
    for (int round = 0; round < 3; round++) {
        void *p = NULL;
        assert_ok(spark_arena_alloc(a, 3000, 7, 64, &p, NULL));
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < 21000; i++) assert_int_equal(((uint8_t *)p)[i], 0);
        memset(p, 0xff, 21000);
        spark_arena_reset(a, m);
    }
    spark_arena_destroy(&a);
    assert_null(a);
}

static void test_arena_refuses_to_grow_beyond_its_maximum(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    void *p = NULL;
    assert_ok(spark_arena_create(&a, 10000, NULL));
    assert_ok(spark_arena_alloc(a, 1, 8000, 8, &p, NULL));
    assert_code(spark_arena_alloc(a, 1, 8000, 8, &p, NULL), SPARK_E_LIMIT);
    assert_code(spark_arena_alloc(a, SIZE_MAX / 2, 4, 8, &p, NULL), SPARK_E_LIMIT);
    spark_arena_destroy(&a);
}

/* A region full of other bytes, to be used at an odd address. */
static uint8_t region[20001];

static void test_arena_within_a_region_keeps_its_promises_and_the_bounds(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    memset(region, 0xA5, sizeof region);
    assert_ok(spark_arena_create_within(&a, region + 1, sizeof region - 2, NULL));
    assert_int_equal(spark_arena_max(a), sizeof region - 2);
    void *first = NULL, *p = NULL;
    assert_ok(spark_arena_alloc(a, 10, 1, 1, &first, NULL));
    const spark_mark m = spark_arena_mark(a);
    for (size_t n = 6000; n <= 18000; n += 3000) { /* each goes beyond what the last one cleared */
        assert_ok(spark_arena_alloc(a, n, 1, 64, &p, NULL));
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++) assert_int_equal(((uint8_t *)p)[i], 0);
        memset(p, 0xff, n);
        spark_arena_reset(a, m);
    }
    spark_arena_destroy(&a);
    assert_null(a);
    assert_int_equal(region[0], 0xA5);
    assert_int_equal(region[sizeof region - 1], 0xA5);
    for (size_t i = 1000; i < 15000; i++) assert_int_equal(region[i], 0); /* what it held is gone */
}

static void test_arena_within_a_region_takes_nothing_beyond_it(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_err err = {0};
    void *p = NULL;
    for (size_t n = 0; n < 400; n++) {
        if (spark_arena_create_within(&a, region, n, &err).code) continue;
        size_t got = 0;
        while (spark_arena_alloc(a, 1, 1, 1, &p, &err).code == SPARK_OK) got++;
        assert_true(got < n);
        assert_true((uint8_t *)p < region + n);
        spark_arena_destroy(&a);
    }
    assert_ok(spark_arena_create_within(&a, region, 10000, NULL));
    assert_code(spark_arena_alloc(a, 1, 10000, 8, &p, &err), SPARK_E_LIMIT);
    assert_non_null(strstr(err.text, "10000"));
    assert_code(spark_arena_reserve(a, 10000, NULL), SPARK_E_LIMIT);
    assert_ok(spark_arena_reserve(a, 9000, NULL));
    spark_arena_destroy(&a);
}

static void extend_within(spark_arena *a)
{
    uint8_t *grown = NULL, *other = NULL;
    size_t n = 0;
    for (size_t more = 1; more < 500; more += 7) {
        void *p = grown;
        assert_ok(spark_arena_extend(a, &p, n, n + more, 8, NULL));
        if (n && more % 5) assert_ptr_equal(p, grown); /* the newest grows where it lies */
        grown = p;
        for (size_t i = n; i < n + more; i++) assert_int_equal(grown[i], 0);
        for (size_t i = 0; i < n; i++) assert_int_equal(grown[i], (uint8_t)(i * 7));
        n += more;
        for (size_t i = 0; i < n; i++) grown[i] = (uint8_t)(i * 7);
        if ((more + 7) % 5 == 0) assert_ok(SPARK_NEW(a, 1, &other, NULL));
    }
}

static void test_arena_extends_the_newest_in_place_and_others_by_copy(void **state)
{
    (void)state;
    static uint8_t large[1 << 20];
    spark_arena *a = NULL;
    memset(large, 0xA5, sizeof large);
    assert_ok(spark_arena_create_within(&a, large, sizeof large, NULL));
    extend_within(a);
    spark_arena_destroy(&a);
    assert_ok(spark_arena_create(&a, sizeof large, NULL));
    assert_ok(spark_arena_reserve(a, sizeof large / 2, NULL));
    extend_within(a);
    spark_arena_destroy(&a);
}

static void test_strmap_keeps_the_first_value_of_a_key(void **state)
{
    (void)state;
    spark_arena *a = NULL;
    spark_strmap *m = NULL;
    char keys[1000][8];
    assert_ok(spark_arena_create(&a, 1 << 20, NULL));
    assert_ok(spark_strmap_create(&m, 1001, a, NULL));
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        assert_int_equal(spark_strmap_put(m, spark_bytes_of(keys[i]), i), i);
    }
    assert_int_equal(spark_strmap_put(m, spark_bytes_of("k17"), 5), 17);
    assert_int_equal(spark_strmap_put(m, (spark_bytes){NULL, 0}, 77), 77);
    for (uint32_t i = 0; i < 1000; i++) assert_int_equal(spark_strmap_get(m, spark_bytes_of(keys[i])), i);
    assert_int_equal(spark_strmap_get(m, spark_bytes_of("")), 77);
    assert_int_equal(spark_strmap_get(m, spark_bytes_of("absent")), SPARK_STRMAP_NONE);
    spark_arena_destroy(&a);
}

static void test_utf8_refuses_what_rfc_3629_refuses(void **state)
{
    (void)state;
    const char *bad[] = {"\x80",     "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                         "\xf8\x88", "\xe2\x82", "\xff"};
    for (size_t i = 0; i < SPARK_COUNT(bad); i++)
        assert_false(spark_utf8_is_valid((const uint8_t *)bad[i], strlen(bad[i])));
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        if (cp >= 0xd800 && cp <= 0xdfff) continue;
        uint8_t b[4];
        uint32_t back = 0;
        const size_t n = spark_utf8_encode(cp, b);
        if (spark_utf8_decode(b, n, &back) != n || back != cp) fail_msg("U+%04X does not survive", cp);
        for (size_t cut = 1; cut < n; cut++)
            if (spark_utf8_incomplete_tail(b, cut) != cut) fail_msg("U+%04X cut at %zu is not held back", cp, cut);
        if (spark_utf8_incomplete_tail(b, n) != 0) fail_msg("U+%04X whole is held back", cp);
    }
}

static void test_errors_never_carry_control_bytes_or_broken_utf8(void **state)
{
    (void)state;
    spark_err err;
    assert_code(spark_fail(&err, SPARK_E_FORMAT, 3, "name '%s'", "a\x1b[31m\xff\xc3\xa9"), SPARK_E_FORMAT);
    assert_string_equal(err.text, "name 'a?[31m?\xc3\xa9'");
}

typedef struct pool_case {
    spark_pool *pool;
    uint32_t sums[16];
    uint32_t total;
} pool_case;

static void pool_count(void *arg, unsigned thread, unsigned n)
{
    pool_case *c = arg;
    for (uint32_t step = 1; step <= 200; step++) {
        c->sums[thread] += step;
        spark_pool_barrier(c->pool);
        if (thread == step % n)
            for (unsigned i = 0; i < n; i++) c->total += c->sums[i];
        spark_pool_barrier(c->pool);
    }
}

static void test_pool_barriers_order_every_step(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 5; n++) {
        pool_case c = {0};
        assert_ok(spark_pool_create(&c.pool, n, NULL));
        uint32_t expect = 0, sum = 0;
        for (uint32_t step = 1; step <= 200; step++) {
            sum += step;
            expect += sum * n;
        }
        spark_pool_run(c.pool, pool_count, &c);
        assert_int_equal(c.total, expect);
        spark_pool_destroy(&c.pool);
    }
}

static void pool_many_barriers(void *arg, unsigned thread, unsigned n)
{
    (void)thread, (void)n;
    for (unsigned i = 0; i < 8000; i++) spark_pool_barrier(arg);
}

static void pool_pin(void *arg, unsigned thread, unsigned n)
{
    (void)thread, (void)n;
    assert_int_equal(sched_setaffinity(0, sizeof(cpu_set_t), arg), 0);
}

static void pool_own_cpu(void *arg, unsigned thread, unsigned n)
{
    (void)n;
    cpu_set_t *own = arg;
    assert_int_equal(sched_getaffinity(0, sizeof *own, &own[thread]), 0);
}

static void test_pool_threads_get_cpus_of_their_own_if_there_are_as_many(void **state)
{
    (void)state;
    static cpu_set_t own[SPARK_POOL_MAX], all, seen;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    const unsigned n_cpus = (unsigned)CPU_COUNT(&all);
    if (n_cpus + 1 > SPARK_POOL_MAX) skip();
    for (unsigned n = n_cpus; n <= n_cpus + 1; n++) {
        spark_pool *pool = NULL;
        assert_ok(spark_pool_create(&pool, n, NULL));
        spark_pool_pin(pool);
        spark_pool_run(pool, pool_own_cpu, own);
        sched_setaffinity(0, sizeof all, &all);
        CPU_ZERO(&seen);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(CPU_COUNT(&own[i]), n == n_cpus ? 1 : n_cpus);
            CPU_OR(&seen, &seen, &own[i]);
        }
        assert_true(CPU_EQUAL(&seen, &all));
        spark_pool_destroy(&pool);
    }
}

/* Linux tells the slice where it knows one (0 before 6.12); what it must not do is to change priority or policy. */
static void test_a_thread_that_wakes_soon_keeps_its_priority(void **state)
{
    (void)state;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } before = {.size = sizeof before}, after = before;
    const bool told = syscall(SYS_sched_getattr, 0, &before, sizeof before, 0) == 0;
    const int nice_before = getpriority(PRIO_PROCESS, 0);
    spark_thread_wakes_soon();
    assert_int_equal(getpriority(PRIO_PROCESS, 0), nice_before);
    if (!told) return; /* such as in an emulator */
    assert_int_equal(syscall(SYS_sched_getattr, 0, &after, sizeof after, 0), 0);
    assert_int_equal(after.policy, before.policy);
    if (before.runtime != 0) assert_int_equal(after.runtime, 100000);
}

static double pool_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Other processes bring this about: what a thread waits for then needs the CPU on which it spins. */
static void test_pool_threads_that_share_a_cpu_do_not_spin_against_each_other(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    size_t first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    spark_pool *pool = NULL;
    assert_ok(spark_pool_create(&pool, 2, NULL)); /* at a time when there seem to be two CPUs (if there are) */
    spark_pool_run(pool, pool_pin, &one);
    const double before = pool_cpu_seconds();
    spark_pool_run(pool, pool_many_barriers, pool);
    const double seconds = pool_cpu_seconds() - before;
    sched_setaffinity(0, sizeof all, &all);
    spark_pool_destroy(&pool);
    if (seconds > 1.5)
        fail_msg("8000 barriers took %.2f s of CPU", seconds); /* 0.15, under TSan 0.8; to the end 2 to 8 */
}

static void test_share_covers_every_item_once(void **state)
{
    (void)state;
    for (size_t n = 0; n < 70; n++)
        for (unsigned threads = 1; threads <= 9; threads++) {
            size_t next = 0;
            for (unsigned t = 0; t < threads; t++) {
                size_t b = 0, e = 0;
                spark_share(n, 16, t, threads, &b, &e);
                assert_int_equal(b, next);
                next = e;
            }
            assert_int_equal(next, n);
        }
}

static size_t resident(const spark_pages *p)
{
    const size_t small = (size_t)sysconf(_SC_PAGESIZE), n = spark_div_up(p->len, small);
    unsigned char in[1024];
    size_t count = 0;
    assert_true(n <= sizeof in);
    assert_int_equal(mincore(p->ptr, p->len, in), 0);
    for (size_t i = 0; i < n; i++) count += in[i] & 1;
    return count * small;
}

static void test_pages_that_are_touched_are_resident_and_keep_what_they_hold(void **state)
{
    (void)state;
    spark_pages p = {0};
    assert_ok(spark_pages_alloc(&p, (1 << 20) + 1, "a test", NULL)); /* small ones */
    uint8_t *b = p.ptr;
    b[70000] = 7;
    spark_pages_touch(&p, 0, 1 << 19);
    assert_in_range(resident(&p), 1 << 19, (1 << 19) + (1 << 16));
    assert_int_equal(b[70000], 7);
    spark_pages_touch(&p, 1 << 19, SIZE_MAX);
    spark_pages_touch(&p, SIZE_MAX, 1);
    assert_true(resident(&p) > 1 << 20);
    assert_int_equal(b[70000] + b[0] + b[1 << 20], 7);
    spark_pages_free(&p);
}

static void test_pages_are_zeroed_and_aligned(void **state)
{
    (void)state;
    spark_pages p = {0};
    assert_ok(spark_pages_alloc(&p, 3 << 20, "a test", NULL));
    assert_int_equal((uintptr_t)p.ptr % (2 << 20), 0);
    assert_int_equal(((uint8_t *)p.ptr)[(3 << 20) - 1], 0);
    spark_pages_free(&p);
    assert_null(p.ptr);
    assert_ok(spark_pages_alloc(&p, 1, "a test", NULL));
    assert_int_equal((uintptr_t)p.ptr % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    spark_pages_free(&p);
    assert_code(spark_pages_alloc(&p, SIZE_MAX - 5, "a test", NULL), SPARK_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cursor_stays_where_it_was_when_a_read_fails),
        cmocka_unit_test(test_sizes_refuse_to_wrap),
        cmocka_unit_test(test_arena_gives_zeroed_aligned_memory_again_after_reset),
        cmocka_unit_test(test_arena_refuses_to_grow_beyond_its_maximum),
        cmocka_unit_test(test_arena_within_a_region_keeps_its_promises_and_the_bounds),
        cmocka_unit_test(test_arena_within_a_region_takes_nothing_beyond_it),
        cmocka_unit_test(test_arena_extends_the_newest_in_place_and_others_by_copy),
        cmocka_unit_test(test_strmap_keeps_the_first_value_of_a_key),
        cmocka_unit_test(test_utf8_refuses_what_rfc_3629_refuses),
        cmocka_unit_test(test_errors_never_carry_control_bytes_or_broken_utf8),
        cmocka_unit_test(test_pool_barriers_order_every_step),
        cmocka_unit_test(test_pool_threads_get_cpus_of_their_own_if_there_are_as_many),
        cmocka_unit_test(test_a_thread_that_wakes_soon_keeps_its_priority),
        cmocka_unit_test(test_pool_threads_that_share_a_cpu_do_not_spin_against_each_other),
        cmocka_unit_test(test_share_covers_every_item_once),
        cmocka_unit_test(test_pages_are_zeroed_and_aligned),
        cmocka_unit_test(test_pages_that_are_touched_are_resident_and_keep_what_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
