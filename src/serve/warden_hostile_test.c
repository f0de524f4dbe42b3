/* warden_hostile_test.c - the warden and cells that are not what it started. What must hold: a cell that speaks out of turn, ends or
 * lies costs what it serves, and never the warden: it goes on, does not spin, and ends when told to. Those that hang, and what
 * changes while it runs: warden_life_test.c. */
#include <sys/resource.h>

#include "serve/warden_rig.h"

static void test_honest_cells_are_served_and_end(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model honest]\n" USE "[model other]\n" USE);
    await(&r, "model_ready", 2, 20);
    stop(&r);
}

static void test_an_engine_that_is_broken_again_and_again_evicts_no_more_than_one_that_is_broken_once(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model honest]\n" USE "[model other]\n" USE "[model greedy]\n" USE);
    await(&r, "model_ready", 2, 20);
    await(&r, "\"event\":\"engine_ended\",\"cell\":\"warden\",\"model\":\"greedy\"", 1, 20);
    nap(500);
    assert_true(count(said(&r), "engine_evicted") <= 2); /* for its wish, and because that was not enough */
    stop(&r);
}

static void test_nobody_goes_for_an_engine_that_could_never_fit(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model honest]\n" USE "[model boundless]\n" USE);
    await(&r, "model_failed", 1, 20);
    assert_int_equal(count(said(&r), "\"event\":\"model_ready\""), 1);
    stop(&r);
}

static void test_an_engine_that_plans_more_than_it_was_granted_is_ended(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model liar]\n" USE "[model honest]\n" USE);
    await(&r, "\"event\":\"engine_ended\",\"cell\":\"warden\",\"model\":\"liar\"", 1, 20);
    await(&r, "\"event\":\"model_ready\",\"cell\":\"warden\",\"model\":\"honest\"", 1, 20);
    assert_int_equal(count(said(&r), "\"event\":\"model_ready\",\"cell\":\"warden\",\"model\":\"liar\""), 0);
    stop(&r);
}

static void test_an_engine_that_is_broken_after_it_was_ready_is_ended(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model fickle]\n" USE "[model honest]\n" USE);
    await(&r, "\"event\":\"engine_ended\",\"cell\":\"warden\",\"model\":\"fickle\"", 1, 20);
    await(&r, "\"event\":\"model_ready\",\"cell\":\"warden\",\"model\":\"honest\"", 1, 20);
    stop(&r);
}

static void test_an_engine_that_closes_its_link_is_ended(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model mute]\n" USE);
    await(&r, "\"event\":\"engine_ended\",\"cell\":\"warden\",\"model\":\"mute\"", 1, 20);
    stop(&r);
}

static void test_an_engine_that_ends_as_soon_as_it_is_ready_is_started_less_and_less_often(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model hasty]\n" USE);
    await(&r, "\"event\":\"engine_ended\"", 2, 20);
    nap(1500);
    assert_true(count(said(&r), "\"event\":\"engine_started\"") <= 8); /* 0, 100, 200, 400, 800 ms */
    stop(&r);
}

static void test_a_front_that_closes_its_link_is_replaced_and_the_warden_does_not_spin(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model front-closes]\n" USE);
    await(&r, "front_ended", 1, 20);
    const unsigned long before = busy_ms(&r);
    nap(1000);
    assert_true(busy_ms(&r) - before < 500);
    stop(&r);
}

static void test_a_front_that_names_a_model_that_does_not_exist_is_ended(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model front-names]\n" USE);
    await(&r, "names a model that does not exist", 1, 20);
    await(&r, "front_ended", 1, 20);
    stop(&r);
}

static void test_a_front_that_does_not_read_cannot_stop_the_warden(void **state)
{
    (void)state;
    rig r;
    start_with_tls(&r, "front-deaf");
    lose_file(&r);
    for (int i = 0; i < 20000 && (i % 100 || !strstr(said(&r), "front_ended"));
         i++) { /* each is a message to it: nothing to read */
        kill(r.warden, SIGHUP);
        const struct timespec t = {.tv_nsec = 300000};
        nanosleep(&t, NULL);
    }
    await(&r, "front_ended", 1, 20);
    stop_with_file(&r);
}

static void test_a_warden_that_cannot_wait_any_more_says_so_and_ends(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model honest]\n" USE);
    await(&r, "model_ready", 1, 20);
    const struct rlimit few = {3, 3}; /* poll refuses more places than that */
    assert_int_equal(prlimit(r.warden, RLIMIT_NOFILE, &few, NULL), 0);
    await(&r, "\"event\":\"warden_failed\"", 1, 20);
    await(&r, "\"event\":\"stopped\"", 1, 20);
    assert_int_equal(count(said(&r), "warden_failed"), 1);
    stop(&r);
}

int main(int argc, char **argv)
{
    int code = 0;
    if (played_a_cell(argc, argv, &code)) return code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest_cells_are_served_and_end),
        cmocka_unit_test(test_an_engine_that_is_broken_again_and_again_evicts_no_more_than_one_that_is_broken_once),
        cmocka_unit_test(test_nobody_goes_for_an_engine_that_could_never_fit),
        cmocka_unit_test(test_an_engine_that_plans_more_than_it_was_granted_is_ended),
        cmocka_unit_test(test_an_engine_that_is_broken_after_it_was_ready_is_ended),
        cmocka_unit_test(test_an_engine_that_closes_its_link_is_ended),
        cmocka_unit_test(test_an_engine_that_ends_as_soon_as_it_is_ready_is_started_less_and_less_often),
        cmocka_unit_test(test_a_front_that_closes_its_link_is_replaced_and_the_warden_does_not_spin),
        cmocka_unit_test(test_a_front_that_names_a_model_that_does_not_exist_is_ended),
        cmocka_unit_test(test_a_front_that_does_not_read_cannot_stop_the_warden),
        cmocka_unit_test(test_a_warden_that_cannot_wait_any_more_says_so_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
