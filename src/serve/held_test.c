/* held_test.c - blocks give back the bytes that they were given, and the sum is never passed. */
#include "serve/held.h"

#include <stdlib.h>
#include <sys/uio.h>

#include "base/test.h"

static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i * 31 ^ i >> 8);
}

static uint32_t dice(uint32_t n)
{
    static uint64_t z = 7;
    z = z * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(z >> 33) % n;
}

/* Appended in pieces to two lists that are joined now and then, taken in other pieces. */
static void test_bytes_come_out_as_they_went_in(void **state)
{
    (void)state;
    enum { ALL = 1 << 20 };
    static uint8_t want[ALL], got[ALL];
    held_sum sum = {.max = 8u << 20};
    held_share s = {.sum = &sum};
    held_bytes a = {0}, b = {0};
    size_t in = 0, out = 0;
    fill(want, ALL);
    while (out < ALL) {
        const size_t n = 1 + dice(dice(3) ? 300 : 150000), more = n < ALL - in ? n : ALL - in;
        assert_true(held_append(&b, &s, want + in, more));
        in += more;
        if (dice(3) == 0 || in == ALL) held_move(&a, &b);
        struct iovec v[3];
        const size_t views = held_view(&a, v, 3);
        for (size_t i = 0; i < views; i++) {
            const size_t take = dice(2) ? v[i].iov_len : 1 + dice((uint32_t)v[i].iov_len);
            memcpy(got + out, v[i].iov_base, take);
            out += take;
            const bool whole = take == v[i].iov_len;
            held_drop(&a, &s, take);
            if (!whole) break;
        }
        assert_int_equal(a.len + b.len, in - out);
        assert_true(s.used >= a.len + b.len && s.used == sum.used);
    }
    assert_memory_equal(got, want, ALL);
    assert_int_equal(sum.used, 0);
    assert_null(a.first);
    assert_null(b.last);
}

static void test_what_an_append_takes_is_known_before(void **state)
{
    (void)state;
    static uint8_t some[200000];
    held_sum sum = {.max = 1u << 30};
    held_share s = {.sum = &sum};
    held_bytes b = {0};
    for (int i = 0; i < 2000; i++) {
        const size_t n = 1 + dice(dice(20) ? 3000 : sizeof some);
        const uint64_t before = s.used, more = held_more(&b, n);
        assert_true(held_append(&b, &s, some, n));
        assert_true(s.used - before <= more);
        if (n < 3000) assert_true(s.used - before == more);
        if (b.len > 300000) held_drop(&b, &s, b.len - dice(1000));
    }
    held_free(&b, &s);
    assert_int_equal(sum.used, 0);
}

static void test_blocks_cost_little_more_than_their_bytes(void **state)
{
    (void)state;
    static const uint8_t piece[100];
    held_sum sum = {.max = 64u << 20};
    held_share s = {.sum = &sum};
    held_bytes b = {0};
    for (size_t n = 1; n <= 200000; n++) {
        assert_true(held_append(&b, &s, piece, sizeof piece));
        if (s.used > 512 + 2 * b.len || s.used > b.len + b.len / 512 + (128 << 10))
            fail_msg("%llu bytes for %zu", (unsigned long long)s.used, b.len);
    }
    held_free(&b, &s);
    assert_int_equal(sum.used, 0);
}

static void test_the_sum_is_never_passed_and_its_last_part_is_for_those_who_hold_little(void **state)
{
    (void)state;
    static const uint8_t piece[1000];
    held_sum sum = {.max = 1u << 20};
    held_share large = {.sum = &sum}, small = {.sum = &sum}, third = {.sum = &sum};
    held_bytes a = {0}, b = {0};
    for (int i = 0; i < 9000 && held_append(&a, &large, piece, sizeof piece); i++) {
    }
    assert_true(large.refused);
    assert_in_range(sum.used, sum.max / 8 * 6, sum.max / 8 * 7);
    assert_true(held_is_alone(&large));
    assert_true(held_append(&b, &small, piece, sizeof piece));
    assert_false(held_is_alone(&large));
    large.last = true;
    assert_true(held_take(&large, 1000)); /* last words */
    held_give(&large, 1000);
    for (int i = 0; i < 9000 && held_append(&b, &small, piece, sizeof piece); i++) {
    }
    assert_in_range(small.used, HELD_LITTLE / 2, HELD_LITTLE);
    large.last = small.last = true;
    for (int i = 0; i < 90000 && held_take(&small, 100); i++) {
    }
    assert_in_range(sum.used, sum.max - 100, sum.max);
    assert_false(held_take(&third, 100));
    assert_false(held_take(&third, UINT64_MAX));
    assert_true(third.refused);
    held_free(&a, &large);
    assert_int_equal(large.used, 0);
    assert_true(held_take(&third, 100));
    held_free(&b, &small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_come_out_as_they_went_in),
        cmocka_unit_test(test_what_an_append_takes_is_known_before),
        cmocka_unit_test(test_blocks_cost_little_more_than_their_bytes),
        cmocka_unit_test(test_the_sum_is_never_passed_and_its_last_part_is_for_those_who_hold_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
