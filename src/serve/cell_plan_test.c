/* cell_plan_test.c - how a budget is divided, and what the front may have of it. */
#include <string.h>

#include "base/test.h"
#include "serve/cell_plan.h"

static void test_everybody_gets_his_most_where_there_is_enough(void **state)
{
    (void)state;
    cell_wish w[] = {{10, 50, 0}, {20, 20, 0}};
    cell_share(w, 2, 1000);
    assert_int_equal(w[0].granted, 50);
    assert_int_equal(w[1].granted, 20);
}

static void test_what_remains_is_divided_by_what_each_lacks_and_never_exceeded(void **state)
{
    (void)state;
    cell_wish w[] = {{100, 200, 0}, {100, 400, 0}, {50, 50, 0}};
    cell_share(w, 3, 450); /* 200 for the 400 that are lacking */
    assert_int_equal(w[0].granted, 150);
    assert_int_equal(w[1].granted, 250);
    assert_int_equal(w[2].granted, 50);
    for (uint64_t left = 250; left < 800; left++) {
        cell_share(w, 3, left);
        assert_true(w[0].granted + w[1].granted + w[2].granted <= left);
        for (int i = 0; i < 3; i++) assert_in_range(w[i].granted, w[i].least, w[i].most);
    }
}

static void test_who_does_not_fit_learns_what_is_left_and_nobody_gets_more_than_his_least(void **state)
{
    (void)state;
    cell_wish w[] = {{100, 900, 0}, {500, 600, 0}, {60, 70, 0}};
    cell_share(w, 3, 300);
    assert_int_equal(w[0].granted, 100);
    assert_int_equal(w[1].granted, 200);
    assert_int_equal(w[2].granted, 60);
}

static void test_a_sum_goes_over_the_wire_as_it_was(void **state)
{
    (void)state;
    uint8_t bytes[CELL_MEMORY_BYTES];
    cell_memory m, back;
    for (size_t i = 0; i < sizeof m / 8; i++) memcpy((uint8_t *)&m + 8 * i, &(uint64_t){i * 1000003 + 1}, 8);
    cell_memory_put(bytes, &m);
    back = cell_memory_get(bytes);
    assert_memory_equal(&back, &m, sizeof m);
}

static void test_the_front_takes_an_eighth_of_a_budget_at_most(void **state)
{
    (void)state;
    spark_config *c = NULL;
    spark_err err;
    assert_ok(spark_config_create(&c, &err));
    assert_ok(spark_config_add_model(c, "demo=", &err));
    const cell_front none = cell_front_plan(c);
    assert_int_equal(none.planned, none.wish);
    c->memory = 1ull << 30;
    assert_int_equal(cell_front_plan(c).planned, 1u << 27);
    c->memory = 1ull << 36;
    assert_int_equal(cell_front_plan(c).planned, none.wish);
    spark_config_destroy(&c);
}

static void test_answers_kept_for_the_log_are_counted(void **state)
{
    (void)state;
    spark_config *c = NULL;
    spark_err err;
    assert_ok(spark_config_create(&c, &err));
    assert_ok(spark_config_add_model(c, "demo=", &err));
    c->models[0].parallel = 5;
    c->models[0].queue = 3;
    const uint64_t without = cell_front_plan(c).wish;
    c->log_prompts = true;
    assert_int_equal(cell_front_plan(c).wish, without + 8 * CELL_LOG_TEXT);
    spark_config_destroy(&c);
}

static void test_the_fronts_sum_has_room_for_the_largest_body_and_what_it_becomes(void **state)
{
    (void)state;
    spark_config *c = NULL;
    spark_err err;
    assert_ok(spark_config_create(&c, &err));
    assert_ok(spark_config_add_model(c, "demo=", &err));
    const uint64_t usual = cell_front_plan(c).wish;
    c->max_bodies += 1 << 20; /* which is larger than one request */
    assert_int_equal(cell_front_plan(c).wish, usual + (1 << 20));
    c->max_bodies = c->max_body = 1 << 20;
    const uint64_t least = cell_front_plan(c).wish;
    c->max_bodies = 2 << 20;
    assert_int_equal(cell_front_plan(c).wish, least);
    assert_true(usual - least <= (256u << 20) - (1 << 20) - SPARK_MAX_JSON_MEMORY - cell_copy_most(c));
    spark_config_destroy(&c);
}

static void test_replies_are_in_the_fronts_sum_and_never_more_than_a_part_of_what_it_is_given(void **state)
{
    (void)state;
    spark_config *c = NULL;
    spark_err err;
    assert_ok(spark_config_create(&c, &err));
    assert_ok(spark_config_add_model(c, "demo=", &err));
    const cell_front usual = cell_front_plan(c);
    assert_int_equal(usual.replies, c->max_replies);
    c->max_replies += 5 << 20;
    assert_int_equal(cell_front_plan(c).wish, usual.wish + (5 << 20));
    assert_int_equal(cell_front_plan(c).replies, usual.replies + (5 << 20));
    c->memory = 1ull << 36; /* enough for all */
    assert_int_equal(cell_front_plan(c).replies, c->max_replies);
    for (c->memory = 1 << 20; c->memory < 1ull << 34; c->memory *= 2) {
        const cell_front f = cell_front_plan(c);
        assert_true(f.replies <= c->max_replies);
        if (f.planned < f.wish) assert_true(f.replies <= f.planned / 4);
        assert_true(f.replies >= 8 << 20); /* of one reply as long as most contexts */
    }
    spark_config_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_gets_his_most_where_there_is_enough),
        cmocka_unit_test(test_what_remains_is_divided_by_what_each_lacks_and_never_exceeded),
        cmocka_unit_test(test_who_does_not_fit_learns_what_is_left_and_nobody_gets_more_than_his_least),
        cmocka_unit_test(test_a_sum_goes_over_the_wire_as_it_was),
        cmocka_unit_test(test_the_front_takes_an_eighth_of_a_budget_at_most),
        cmocka_unit_test(test_answers_kept_for_the_log_are_counted),
        cmocka_unit_test(test_replies_are_in_the_fronts_sum_and_never_more_than_a_part_of_what_it_is_given),
        cmocka_unit_test(test_the_fronts_sum_has_room_for_the_largest_body_and_what_it_becomes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
