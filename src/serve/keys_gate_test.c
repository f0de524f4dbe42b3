/* keys_gate_test.c - scopes, expiry, limits, lockout and reload, on a clock that the test turns. */
#include "serve/keys_gate.h"

#include <stdlib.h>
#include <string.h>

#include "base/spark_limits.h"
#include "base/test.h"
#include "serve/keys_file.h"

#define SECOND UINT64_C(1000000000)
enum { NOW = 1795000000 };
static const char home[] = "192.0.2.1", elsewhere[] = "198.51.100.1", proxy[] = "10.0.0.1";

typedef struct fixture {
    spark_gate *gate;
    char key[SPARK_KEY_TEXT + 1], wrong[SPARK_KEY_TEXT + 1], unknown[SPARK_KEY_TEXT + 1];
    uint8_t *file;
    size_t len;
    spark_gate_time now;
    spark_gate_verdict v;
} fixture;

static fixture with(const spark_key_wish *w)
{
    fixture f = {.now = {1000 * SECOND, NOW}};
    spark_net_range proxies[1];
    assert_true(spark_net_parse("10.0.0.0/8", proxies));
    assert_ok(spark_gate_create(&f.gate, proxies, 1, NULL));
    assert_ok(spark_key_mint(w, NOW, f.key, &f.file, &f.len, NULL));
    assert_ok(spark_gate_load(f.gate, (spark_bytes){f.file, f.len}, NULL));
    memcpy(f.wrong, f.key, sizeof f.wrong);
    f.wrong[40] = f.wrong[40] == 'a' ? 'b' : 'a';
    memcpy(f.unknown, f.key, sizeof f.unknown);
    f.unknown[10] = f.unknown[10] == 'a' ? 'b' : 'a';
    return f;
}

static spark_key_wish plain(void)
{
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    return w;
}

static void drop(fixture *f)
{
    spark_gate_destroy(&f->gate);
    free(f->file);
}

static int ask(fixture *f, const char *key, spark_route_class route, const char *model, const char *address)
{
    const spark_gate_ask a = {spark_bytes_of(key), route, model, address};
    spark_gate_check(f->gate, &a, f->now, &f->v);
    return f->v.status;
}

/* A request of the usual kind that ends at once. */
static int come(fixture *f, const char *key, const char *address)
{
    const int status = ask(f, key, SPARK_ROUTE_GENERATE, NULL, address);
    if (status == 200) spark_gate_done(f->gate, f->v.number);
    return status;
}

static void later(fixture *f, uint64_t ns)
{
    f->now.ns += ns;
    f->now.s += (int64_t)(ns / SECOND);
}

static void test_without_keys_or_with_none_presented_nobody_comes_in(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    assert_int_equal(come(&f, "", home), 401);
    assert_string_equal(f.v.code, "invalid_api_key");
    for (int i = 0; i < 20; i++) assert_int_equal(come(&f, "", home), 401); /* and is not locked out for it */
    assert_int_equal(come(&f, f.key, home), 200);
    fixture empty = {.now = f.now};
    assert_ok(spark_gate_create(&empty.gate, NULL, 0, NULL));
    assert_int_equal(come(&empty, f.key, home), 401);
    spark_gate_done(empty.gate, 5);
    spark_gate_charge(empty.gate, 5, 5, f.now);
    drop(&empty);
    drop(&f);
}

static void test_each_route_class_needs_its_scope(void **state)
{
    (void)state;
    for (uint32_t has = 0; has < SPARK_N_ROUTE_CLASSES; has++) {
        spark_key_wish w = plain();
        w.routes = 1u << has;
        fixture f = with(&w);
        for (uint32_t c = 0; c < SPARK_N_ROUTE_CLASSES; c++) {
            assert_int_equal(ask(&f, f.key, (spark_route_class)c, NULL, home), c == has ? 200 : 403);
            if (c != has) assert_string_equal(f.v.code, "permission_denied");
            if (c != has) assert_non_null(strstr(f.v.message, spark_route_class_name((spark_route_class)c)));
        }
        drop(&f);
    }
}

static void test_a_key_uses_its_models_only(void **state)
{
    (void)state;
    static const char *const models[] = {"a", "b"};
    spark_key_wish w = plain();
    w.models = models;
    w.n_models = 2;
    fixture f = with(&w);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, "b", home), 200);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, "c", home), 403);
    assert_string_equal(f.v.code, "model_not_allowed");
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    assert_true(spark_gate_model(f.gate, "a", f.now, &f.v));
    assert_false(spark_gate_model(f.gate, "", f.now, &f.v));
    assert_int_equal(f.v.status, 403);
    drop(&f);
}

static void test_a_right_of_its_own_is_had_by_keys_that_have_it_and_where_none_is_asked(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    assert_int_equal(come(&f, f.key, "unix"), 200);
    assert_false(spark_gate_right(f.gate, f.v.number, SPARK_ROUTE_ADMIN));
    assert_false(spark_gate_right(f.gate, f.v.number + 1, SPARK_ROUTE_ADMIN)); /* no such key */
    assert_true(spark_gate_right(f.gate, 0, SPARK_ROUTE_ADMIN));
    drop(&f);
    w.routes |= 1u << SPARK_ROUTE_ADMIN;
    f = with(&w);
    assert_int_equal(come(&f, f.key, "unix"), 200);
    assert_true(spark_gate_right(f.gate, f.v.number, SPARK_ROUTE_ADMIN));
    assert_false(spark_gate_right(f.gate, f.v.number, SPARK_ROUTE_METRICS));
    drop(&f);
}

static void test_a_key_ends_at_its_second(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    w.expires = NOW + 10;
    fixture f = with(&w);
    assert_int_equal(come(&f, f.key, home), 200);
    later(&f, 9 * SECOND);
    assert_int_equal(come(&f, f.key, home), 200);
    later(&f, SECOND);
    assert_int_equal(come(&f, f.key, home), 401);
    assert_string_equal(f.v.reason, "expired");
    assert_false(spark_gate_model(f.gate, "a", f.now, &f.v));
    for (int i = 0; i < 20; i++) assert_int_equal(come(&f, f.key, home), 401); /* an old key is no guess */
    drop(&f);
}

static void test_a_revoked_key_is_refused_by_that_word(void **state)
{
    (void)state;
    static const char revoked[] = "\nrevoked = 2026-01-01T00:00:00Z\n";
    const spark_key_wish w = plain();
    fixture f = with(&w);
    uint8_t *file = malloc(f.len + sizeof revoked);
    memcpy(file, f.file, f.len);
    memcpy(file + f.len, revoked, sizeof revoked);
    assert_ok(spark_gate_load(f.gate, (spark_bytes){file, f.len + sizeof revoked - 1}, NULL));
    free(file);
    assert_int_equal(come(&f, f.key, home), 401);
    assert_string_equal(f.v.reason, "revoked");
    assert_non_null(strstr(f.v.message, "revoked"));
    drop(&f);
}

static void test_requests_are_counted_by_the_minute(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    w.requests_per_minute = 6;
    fixture f = with(&w);
    for (int i = 0; i < 6; i++) assert_int_equal(come(&f, f.key, home), 200);
    assert_int_equal(come(&f, f.key, home), 429);
    assert_string_equal(f.v.reason, "request_rate");
    assert_int_equal(f.v.retry_after_s, 11); /* ten seconds, rounded up to be sure */
    later(&f, 10 * SECOND - 1);
    assert_int_equal(come(&f, f.key, home), 429);
    later(&f, 1);
    assert_int_equal(come(&f, f.key, home), 200); /* refused ones took nothing */
    assert_int_equal(come(&f, f.key, home), 429);
    later(&f, 3600 * SECOND);
    for (int i = 0; i < 6; i++)
        assert_int_equal(come(&f, f.key, home), 200); /* no more than a minute's worth is saved up */
    assert_int_equal(come(&f, f.key, home), 429);
    drop(&f);
}

static void test_tokens_make_debts_that_time_pays(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    w.tokens_per_minute = 600;
    fixture f = with(&w);
    assert_int_equal(come(&f, f.key, home), 200);
    spark_gate_charge(f.gate, f.v.number, 599, f.now);
    assert_int_equal(come(&f, f.key, home), 200); /* one is left */
    spark_gate_charge(f.gate, f.v.number, 101, f.now);
    assert_int_equal(come(&f, f.key, home), 429);
    assert_string_equal(f.v.reason, "token_rate");
    assert_int_equal(f.v.retry_after_s, 11); /* 101 tokens at ten a second */
    later(&f, 10 * SECOND);
    assert_int_equal(come(&f, f.key, home), 429);
    later(&f, SECOND / 10);
    assert_int_equal(come(&f, f.key, home), 200);
    spark_gate_charge(f.gate, f.v.number, -INT64_MAX, f.now); /* giving back fills, and no more */
    spark_gate_charge(f.gate, f.v.number, 600, f.now);
    assert_int_equal(come(&f, f.key, home), 429);
    spark_gate_charge(f.gate, f.v.number, INT64_MAX, f.now); /* the deepest debt is a minute's */
    later(&f, 60 * SECOND);
    assert_int_equal(come(&f, f.key, home), 429);
    later(&f, SECOND);
    assert_int_equal(come(&f, f.key, home), 200);
    drop(&f);
}

static void test_the_highest_rate_stays_in_range(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    w.tokens_per_minute = w.requests_per_minute = SPARK_MAX_KEY_RATE;
    fixture f = with(&w);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(come(&f, f.key, home), 200);
        spark_gate_charge(f.gate, f.v.number, INT64_MAX, f.now);
        assert_int_equal(come(&f, f.key, home), 429);
        later(&f, i % 2 ? 61 * SECOND : UINT64_MAX / 1000);
    }
    drop(&f);
}

static void test_requests_at_once_are_bounded(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    w.max_parallel = 2;
    fixture f = with(&w);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 429);
    assert_string_equal(f.v.reason, "parallel");
    spark_gate_done(f.gate, f.v.number);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    for (int i = 0; i < 5; i++) spark_gate_done(f.gate, f.v.number); /* more than were taken do no harm */
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 429);
    drop(&f);
}

static void test_wrong_secrets_lock_the_id_for_longer_and_longer(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    for (int i = 0; i < 6; i++) assert_int_equal(come(&f, f.wrong, home), 401);
    for (uint32_t s = 1; s <= 1024; s *= 2) {
        const uint32_t locked = s < 256 ? s : 256;
        assert_int_equal(come(&f, f.key, elsewhere), 429); /* the right key, from anywhere */
        assert_string_equal(f.v.reason, "lockout");
        assert_int_equal(f.v.number, 0);
        assert_in_range(f.v.retry_after_s, locked, locked + 1);
        assert_true(spark_gate_locked(f.gate, f.now) == 1);
        later(&f, locked * SECOND);
        assert_int_equal(come(&f, f.wrong, home), 401); /* its time is over, and this one fails again */
    }
    later(&f, 257 * SECOND);
    assert_int_equal(come(&f, f.key, elsewhere), 200); /* which ends it */
    for (int i = 0; i < 5; i++) assert_int_equal(come(&f, f.wrong, home), 401);
    assert_int_equal(come(&f, f.key, elsewhere), 200);
    drop(&f);
}

static void test_failures_are_forgotten_after_a_while(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) assert_int_equal(come(&f, f.wrong, home), 401);
        later(&f, 901 * SECOND);
    }
    assert_int_equal(come(&f, f.key, home), 200);
    drop(&f);
}

static void test_an_owner_is_not_locked_out_by_others(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    assert_int_equal(come(&f, f.key, home), 200);
    for (int i = 0; i < 50; i++) (void)come(&f, f.wrong, elsewhere);
    assert_int_equal(come(&f, f.key, elsewhere), 429);
    assert_int_equal(come(&f, f.key, home), 200);
    for (int i = 0; i < 6; i++)
        assert_int_equal(come(&f, f.wrong, home), 401); /* who guesses at home is locked out at home */
    assert_int_equal(come(&f, f.key, home), 429);
    drop(&f);
}

static void test_unknown_ids_lock_the_address_and_never_a_proxy(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    for (int i = 0; i < 6; i++) assert_int_equal(come(&f, f.unknown, elsewhere), 401);
    assert_int_equal(come(&f, f.unknown, elsewhere), 429);
    assert_int_equal(come(&f, "rubbish", elsewhere), 429);
    assert_int_equal(come(&f, f.key, elsewhere), 200); /* a right key goes by its id */
    for (int i = 0; i < 50; i++) {
        assert_int_equal(come(&f, f.unknown, proxy), 401);
        assert_int_equal(come(&f, f.unknown, "unix"), 401);
    }
    for (int i = 0; i < 6; i++) assert_int_equal(come(&f, f.wrong, proxy), 401);
    assert_int_equal(come(&f, f.key, proxy), 429); /* an id is locked behind a proxy too */
    drop(&f);
}

static void test_ipv6_is_locked_by_its_64(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    char address[48];
    for (unsigned i = 0; i < 6; i++) {
        snprintf(address, sizeof address, "2001:db8::%x", i + 1);
        assert_int_equal(come(&f, f.unknown, address), 401);
    }
    assert_int_equal(come(&f, f.unknown, "2001:db8::ffff:1"), 429);
    assert_int_equal(come(&f, f.unknown, "2001:db8:0:1::1"), 401);
    drop(&f);
}

static void test_many_addresses_take_no_more_memory_and_do_not_free_an_id(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    fixture f = with(&w);
    char address[48];
    for (int i = 0; i < 12; i++) {
        (void)come(&f, f.wrong, elsewhere);
        if (i == 5) later(&f, SECOND);
    }
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(address, sizeof address, "%u.%u.%u.%u", 11 + (i >> 24), i >> 16 & 255, i >> 8 & 255, i & 255);
        assert_int_equal(come(&f, f.unknown, address), 401);
    }
    assert_int_equal(come(&f, f.key, elsewhere), 429);
    drop(&f);
}

static void test_a_reload_keeps_what_was_spent_and_takes_keys_away(void **state)
{
    (void)state;
    spark_key_wish w = plain();
    w.requests_per_minute = 2;
    w.max_parallel = 5;
    fixture f = with(&w), other = with(&w);
    assert_int_equal(ask(&f, f.key, SPARK_ROUTE_GENERATE, NULL, home), 200);
    spark_gate_verdict held = f.v;
    assert_int_equal(come(&f, f.key, home), 200);
    assert_ok(spark_gate_load(f.gate, (spark_bytes){f.file, f.len}, NULL));
    assert_int_equal(come(&f, f.key, home), 429);
    assert_code(spark_gate_load(f.gate, spark_bytes_of("version = 2\n"), NULL), SPARK_E_FORMAT);
    assert_true(spark_gate_model(f.gate, "a", f.now, &held)); /* the old keys stay */
    assert_ok(spark_gate_load(f.gate, (spark_bytes){other.file, other.len}, NULL));
    assert_int_equal(come(&f, f.key, home), 401);
    assert_int_equal(come(&f, other.key, home), 200);
    assert_false(spark_gate_model(f.gate, "a", f.now, &held));
    assert_int_equal(held.status, 401);
    spark_gate_charge(f.gate, held.number, 5, f.now); /* what a lost key still holds is given back into nothing */
    spark_gate_done(f.gate, held.number);
    drop(&f);
    drop(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_keys_or_with_none_presented_nobody_comes_in),
        cmocka_unit_test(test_each_route_class_needs_its_scope),
        cmocka_unit_test(test_a_key_uses_its_models_only),
        cmocka_unit_test(test_a_right_of_its_own_is_had_by_keys_that_have_it_and_where_none_is_asked),
        cmocka_unit_test(test_a_key_ends_at_its_second),
        cmocka_unit_test(test_a_revoked_key_is_refused_by_that_word),
        cmocka_unit_test(test_requests_are_counted_by_the_minute),
        cmocka_unit_test(test_tokens_make_debts_that_time_pays),
        cmocka_unit_test(test_the_highest_rate_stays_in_range),
        cmocka_unit_test(test_requests_at_once_are_bounded),
        cmocka_unit_test(test_wrong_secrets_lock_the_id_for_longer_and_longer),
        cmocka_unit_test(test_failures_are_forgotten_after_a_while),
        cmocka_unit_test(test_an_owner_is_not_locked_out_by_others),
        cmocka_unit_test(test_unknown_ids_lock_the_address_and_never_a_proxy),
        cmocka_unit_test(test_ipv6_is_locked_by_its_64),
        cmocka_unit_test(test_many_addresses_take_no_more_memory_and_do_not_free_an_id),
        cmocka_unit_test(test_a_reload_keeps_what_was_spent_and_takes_keys_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
