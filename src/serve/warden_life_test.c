/* warden_life_test.c - the warden over time: cells that do not answer or do not end, files and settings that change under it, and
 * models that a front refuses. What is well goes on as it was. */
#include "serve/warden_rig.h"

#define ENDED(model) "\"event\":\"engine_ended\",\"cell\":\"warden\",\"model\":\"" model "\""
#define READY(model) "\"event\":\"model_ready\",\"cell\":\"warden\",\"model\":\"" model "\""

static void test_an_engine_that_does_not_answer_is_started_again_and_others_go_on(void **state)
{
    (void)state;
    rig r;
    start_with(&r, "watchdog = 1s\n", "[model sleeper]\n" USE "[model honest]\n" USE);
    await(&r, "\"event\":\"engine_silent\",\"cell\":\"warden\",\"model\":\"sleeper\"", 2, 20);
    await(&r, "signal 9", 2, 20);
    await(&r, "restarted engine 2", 1, 20);
    assert_int_equal(count(said(&r), ENDED("honest")), 0);
    assert_int_equal(count(said(&r), "front_silent"), 0);
    stop(&r);
}

static void test_without_a_watchdog_nobody_must_answer(void **state)
{
    (void)state;
    rig r;
    start_with(&r, "watchdog = 0\n", "[model front-sleeps]\n" USE "[model sleeper]\n" USE);
    nap(4000);
    assert_null(strstr(said(&r), "_silent"));
    stop(&r);
}

static void test_a_front_that_does_not_answer_is_started_again(void **state)
{
    (void)state;
    rig r;
    start_with(&r, "watchdog = 1s\n", "[model front-sleeps]\n" USE);
    await(&r, "front_silent", 2, 20);
    await(&r, "front_ended", 2, 20);
    stop(&r);
}

/* Whoever stops all of it (a debugger, a machine put to sleep) is no reason to end anybody. */
static void test_time_in_which_the_warden_stood_still_does_not_count(void **state)
{
    (void)state;
    rig r;
    start_with(&r, "watchdog = 1s\n", "[model honest]\n" USE);
    await(&r, "model_ready", 1, 20);
    for (int i = 0; i < 4; i++) {
        nap(700 + 150 * i);
        assert_int_equal(kill(-r.warden, SIGSTOP), 0);
        nap(2500);
        assert_int_equal(kill(-r.warden, SIGCONT), 0);
    }
    nap(1500);
    assert_null(strstr(said(&r), "_silent"));
    stop(&r);
}

/* Its next tick would be one too many for an engine that was asked and has not answered yet. */
static void test_a_tick_that_comes_late_ends_nobody_who_was_about_to_answer(void **state)
{
    (void)state;
    rig r;
    start_with(&r, "watchdog = 1s\n", "[model slow]\n" USE);
    for (unsigned i = 0; i < 3; i++) {
        await(&r, "pinged\n", count(said(&r), "pinged\n") + 1, 20);
        assert_int_equal(kill(-r.warden, SIGSTOP), 0);
        nap(2500);
        assert_int_equal(kill(-r.warden, SIGCONT), 0);
        nap(700);
    }
    assert_null(strstr(said(&r), "_silent"));
    stop(&r);
}

static void test_an_engine_that_drains_and_never_ends_is_ended_once_nobody_waits_for_it(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model front-unloads]\n" USE "[model stays]\n" USE);
    await(&r, "\"event\":\"engine_not_drained\",\"cell\":\"warden\",\"model\":\"stays\"", 1, 20);
    await(&r, ENDED("stays"), 1, 20);
    assert_int_equal(count(said(&r), "engine_not_drained"), 1); /* the honest one went by itself */
    stop(&r);
}

static void test_an_engine_that_drains_may_take_its_time_while_somebody_waits_for_it(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model front-keeps]\n" USE "[model stays]\n" USE);
    await(&r, READY("stays"), 1, 20);
    nap(5000);
    assert_null(strstr(said(&r), "engine_not_drained"));
    stop(&r);
}

/* A model with a file that can change; its engine is number 1, the next one 2. */
static void start_with_file(rig *r, const char *name, const char *when)
{
    char models[256];
    make_folder(r);
    change_file(r, "old");
    snprintf(models, sizeof models, "[model %s]\nfile = %s/f\n%s", name, r->folder, when);
    start_in(r, "", models);
}

static void swap(const rig *r, const char *text)
{
    change_file(r, text);
    kill(r->warden, SIGHUP);
}

static void test_a_swap_that_the_front_refuses_leaves_the_engine_of_before(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "front-picky", "load = use\n");
    await(&r, "model_ready", 1, 20);
    swap(&r, "other");
    await(&r, "model_swap_failed", 1, 20);
    await(&r, ENDED("front-picky"), 1, 20);
    swap(&r, "and another");
    await(&r, "model_swap_failed", 2, 20);
    await(&r, ENDED("front-picky"), 2, 20);
    nap(3000);
    assert_int_equal(count(said(&r), "\"event\":\"engine_started\""), 3); /* the first runs still */
    assert_int_equal(count(said(&r), ENDED("front-picky")), 2);
    assert_int_equal(count(said(&r), "given 1\n"), 1);
    stop_with_file(&r);
}

/* The next front knows nothing of the engine of before, until it has refused the new one. */
static void test_a_front_that_refuses_a_swap_begun_before_it_gets_the_engine_of_before(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "front-dies", "load = use\n");
    await(&r, "given 1\n", 1, 20);
    swap(&r, "other");
    await(&r, "front_ended", 1, 20);
    await(&r, "model_swap_failed", 1, 20);
    await(&r, "given 1\n", 2, 20);
    await(&r, "restarted front 1\n", 1, 20);
    stop_with_file(&r);
}

static void test_an_engine_that_the_front_refuses_is_started_less_and_less_often(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model front-refuses]\n" USE);
    await(&r, "engine_refused", 2, 20);
    await(&r, ENDED("front-refuses"), 2, 20);
    stop(&r);
}

static void test_a_start_whose_model_the_front_refuses_ends(void **state)
{
    (void)state;
    rig r;
    int status = 0;
    start(&r, "[model front-refuses]\nfile =\n");
    for (int i = 0; i < 1000 && waitpid(r.warden, &status, WNOHANG) == 0; i++) nap(20);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_non_null(strstr(said(&r), "the front cannot use its engine"));
    assert_non_null(
        strstr(said(&r), "\"level\":\"error\",\"event\":\"stopped\",\"cell\":\"warden\",\"why\":\"the start failed\""));
    unlink(r.log);
    assert_int_equal(rmdir(r.folder), 0);
}

static void test_a_front_that_names_a_time_to_come_keeps_no_model_in_memory(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model front-future]\n" USE "[model honest]\n" USE "[model other]\n" USE);
    await(&r, "engine_evicted", 1, 20);
    await(&r, "\"event\":\"engine_evicted\",\"cell\":\"warden\",\"model\":\"front-future\"", 1, 20);
    stop(&r);
}

static void test_the_front_is_told_what_memory_cells_have(void **state)
{
    (void)state;
    rig r;
    start(&r, "[model honest]\n" USE);
    await(&r, "resident front", 1, 20);
    await(&r, "resident engine", 1, 20);
    stop(&r);
}

static void test_certificates_come_anew_with_a_reload_and_losing_them_is_told(void **state)
{
    (void)state;
    rig r;
    start_with_tls(&r, "honest");
    swap(&r, "new");
    await(&r, "tls new\n", 1, 20);
    lose_file(&r);
    kill(r.warden, SIGHUP);
    await(&r, "reload_tls_failed", 1, 20);
    await(&r, "tls unread\n", 1, 20); /* which the front counts */
    stop_with_file(&r);
}

/* Ends the front that is there, and waits for the next. */
static void next_front(const rig *r)
{
    const char *at = NULL;
    const unsigned n = count(said(r), "arose ");
    for (const char *next = said(r); (next = strstr(next, "arose ")); next++) at = next;
    assert_non_null(at);
    assert_int_equal(kill((pid_t)strtol(at + 6, NULL, 10), SIGKILL), 0);
    await(r, "arose ", n + 1, 20);
}

#define KEPT "\"event\":\"kept\",\"cell\":\"warden\",\"what\":\"tls\",\"file\":"

static void test_the_next_front_starts_with_what_the_last_accepted_whatever_became_of_the_files(void **state)
{
    (void)state;
    rig r;
    start_with_tls(&r, "honest");
    next_front(&r);
    assert_int_equal(count(said(&r), "tls pem\n"), 2);
    assert_null(strstr(said(&r), KEPT)); /* the files are as they were */
    swap(&r, "new");
    await(&r, "tls new\n", 1, 20);
    swap(&r, "bad");
    await(&r, "tls bad\n", 1, 20);
    next_front(&r);
    assert_int_equal(count(said(&r), "tls new\n"), 2);
    assert_int_equal(count(said(&r), "tls bad\n"), 1);
    await(&r, "it is not what was last accepted", 2, 20); /* certificate and key, each by its name */
    lose_file(&r);
    next_front(&r);
    assert_int_equal(count(said(&r), "tls new\n"), 3);
    await(&r, "\"why\":\"cannot open '", 2, 20);
    assert_int_equal(count(said(&r), KEPT), 4);
    change_file(&r, "pem");
    kill(r.warden, SIGHUP);
    await(&r, "tls pem\n", 3, 20);
    next_front(&r);
    assert_int_equal(count(said(&r), "tls pem\n"), 4);
    stop_with_file(&r);
}

static void test_files_that_end_the_front_are_tried_twice_and_then_those_of_before_hold(void **state)
{
    (void)state;
    rig r;
    start_with_tls(&r, "honest");
    swap(&r, "die");
    await(&r, "the front ended over it, twice", 1, 20);
    await(&r, "arose ", 3, 20);
    nap(500);
    assert_int_equal(count(said(&r), "tls die\n"), 2);
    assert_int_equal(count(said(&r), "tls pem\n"), 3);
    assert_int_equal(count(said(&r), "front_ended"), 2);
    stop_with_file(&r);
}

int main(int argc, char **argv)
{
    int code = 0;
    if (played_a_cell(argc, argv, &code)) return code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_engine_that_does_not_answer_is_started_again_and_others_go_on),
        cmocka_unit_test(test_without_a_watchdog_nobody_must_answer),
        cmocka_unit_test(test_a_front_that_does_not_answer_is_started_again),
        cmocka_unit_test(test_time_in_which_the_warden_stood_still_does_not_count),
        cmocka_unit_test(test_a_tick_that_comes_late_ends_nobody_who_was_about_to_answer),
        cmocka_unit_test(test_an_engine_that_drains_and_never_ends_is_ended_once_nobody_waits_for_it),
        cmocka_unit_test(test_an_engine_that_drains_may_take_its_time_while_somebody_waits_for_it),
        cmocka_unit_test(test_a_swap_that_the_front_refuses_leaves_the_engine_of_before),
        cmocka_unit_test(test_a_front_that_refuses_a_swap_begun_before_it_gets_the_engine_of_before),
        cmocka_unit_test(test_an_engine_that_the_front_refuses_is_started_less_and_less_often),
        cmocka_unit_test(test_a_start_whose_model_the_front_refuses_ends),
        cmocka_unit_test(test_a_front_that_names_a_time_to_come_keeps_no_model_in_memory),
        cmocka_unit_test(test_the_front_is_told_what_memory_cells_have),
        cmocka_unit_test(test_certificates_come_anew_with_a_reload_and_losing_them_is_told),
        cmocka_unit_test(test_the_next_front_starts_with_what_the_last_accepted_whatever_became_of_the_files),
        cmocka_unit_test(test_files_that_end_the_front_are_tried_twice_and_then_those_of_before_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
