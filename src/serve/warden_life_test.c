/* warden_life_test.c - the warden over time: cells that do not answer or do not end, files and settings that change under it, and
 * models that a front refuses. What is well goes on as it was. */
#include "serve/warden_rig.h"

#define ENDED(model) "\"event\":\"engine_ended\",\"cell\":\"warden\",\"model\":\"" model "\""
#define STARTED      "\"event\":\"engine_started\""
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

/* ---- Which bytes are served ---- */

/* Ends the n-th of the engines that were started, as if by itself. */
static pid_t crash_nth(const rig *r, unsigned n)
{
    const char *at = said(r);
    for (; n > 0 && at; n--) at = strstr(at + 1, STARTED);
    assert_non_null(at);
    at = strstr(at, "\"pid\":");
    assert_non_null(at);
    const pid_t pid = (pid_t)strtol(at + 6, NULL, 10);
    assert_int_equal(kill(pid, SIGKILL), 0);
    return pid;
}

static void crash(const rig *r) { (void)crash_nth(r, count(said(r), STARTED)); }

/* The warden stands still; once it goes on (SIGCONT), it finds the engine gone beside whatever else came meanwhile. */
static void crash_unheard(const rig *r)
{
    char path[32], line[256] = "";
    assert_int_equal(kill(r->warden, SIGSTOP), 0);
    snprintf(path, sizeof path, "/proc/%d/stat", (int)crash_nth(r, count(said(r), STARTED)));
    for (int i = 0; i < 1000 && !strstr(line, ") Z "); i++) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        const ssize_t n = fd >= 0 ? read(fd, line, sizeof line - 1) : 0;
        if (fd >= 0) close(fd);
        line[n > 0 ? n : 0] = '\0';
        nap(10);
    }
    assert_non_null(strstr(line, ") Z "));
}

/* One of these bytes was taken by the front: so many there were of them. */
static void await_bytes(const rig *r, const char *bytes, unsigned times, unsigned given)
{
    char line[32], engine[32];
    snprintf(line, sizeof line, "bytes %s\n", bytes);
    snprintf(engine, sizeof engine, "given %u\n", given);
    await(r, line, times, 20);
    await(r, engine, 1, 20);
    nap(100); /* the warden hears of it */
    assert_int_equal(count(said(r), line), times);
}

#define KEPT_MODEL "\"event\":\"kept\",\"cell\":\"warden\",\"what\":\"model\",\"model\":\"honest\",\"file\":"

static void test_an_engine_that_ends_is_followed_by_one_of_the_same_bytes_whatever_became_of_the_file(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "honest", "");
    await_bytes(&r, "old", 1, 1);
    crash(&r);
    await_bytes(&r, "old", 2, 2);
    assert_null(strstr(said(&r), KEPT_MODEL)); /* the file is as it was */
    change_file(&r, "new");
    crash(&r);
    await_bytes(&r, "old", 3, 3);
    await(&r, "it is not what was last accepted; a reload looks at it", 1, 20);
    lose_file(&r);
    crash(&r);
    await_bytes(&r, "old", 4, 4);
    await(&r, KEPT_MODEL, 2, 20);
    kill(r.warden, SIGHUP); /* nothing to take over: said, and the one of before goes on */
    await(&r, "model_swap_failed", 1, 20);
    crash(&r);
    await_bytes(&r, "old", 5, 5);
    assert_int_equal(held_files(&r, "f"), 1);
    swap(&r, "new");
    await_bytes(&r, "new", 1, 6);
    await(&r, ENDED("honest"), 5, 20);
    assert_int_equal(held_files(&r, "f"), 1); /* of the new one */
    lose_file(&r);
    crash(&r);
    await_bytes(&r, "new", 2, 7);
    assert_int_equal(count(said(&r), "bytes old\n"), 5);
    stop(&r);
}

static void test_a_reload_of_a_file_that_cannot_be_used_leaves_the_bytes_of_before_for_a_crash(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "honest", "load = use\n");
    await_bytes(&r, "old", 1, 1);
    swap(&r, "bad");
    await(&r, "\"event\":\"model_failed\"", 1, 20);
    await(&r, ENDED("honest"), 1, 20);
    crash_nth(&r, 1);
    await_bytes(&r, "old", 2, 3);
    assert_int_equal(count(said(&r), "bytes bad\n"), 1);
    stop_with_file(&r);
}

/* Both at once: the engine has ended, and the operator asks for what cannot be used. */
static void test_a_reload_that_finds_no_engine_tries_the_new_file_and_falls_back(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "honest", "load = use\n"); /* nobody asks for it again */
    await_bytes(&r, "old", 1, 1);
    crash_unheard(&r);
    swap(&r, "bad");
    assert_int_equal(kill(r.warden, SIGCONT), 0);
    await(&r, "bytes bad\n", 1, 20);
    await_bytes(&r, "old", 2, 3);
    crash_unheard(&r);
    swap(&r, "new");
    assert_int_equal(kill(r.warden, SIGCONT), 0);
    await_bytes(&r, "new", 1, 4);
    crash(&r);
    await_bytes(&r, "new", 2, 5);
    assert_int_equal(held_files(&r, "f"), 1);
    stop_with_file(&r);
}

static void test_a_file_that_was_written_to_is_not_started_from_until_a_reload(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "honest", "");
    await_bytes(&r, "old", 1, 1);
    write_into_file(&r, "NEW");
    crash(&r);
    await(&r, "\"event\":\"model_file_changed\",\"cell\":\"warden\",\"model\":\"honest\",\"file\":", 1, 20);
    await(&r, "told: its file was changed in place", 2, 20); /* tried again, and refused again */
    assert_null(strstr(said(&r), "bytes NEW"));
    kill(r.warden, SIGHUP);
    await_bytes(&r, "NEW", 1, 2);
    crash(&r);
    await_bytes(&r, "NEW", 2, 3);
    stop_with_file(&r);
}

static void test_a_file_that_is_written_to_while_it_is_read_is_not_served(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "dawdler", "load = use\n");
    await(&r, "bytes old\n", 1, 20);
    write_into_file(&r, "half of it");
    await(&r, "its file was changed while it was read", 1, 20);
    await(&r, ENDED("dawdler"), 1, 20);
    assert_null(strstr(said(&r), "given "));
    assert_int_equal(held_files(&r, "f"), 0);
    stop_with_file(&r);
}

static void test_a_swap_that_the_front_refuses_leaves_the_bytes_of_before_for_a_crash(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "front-picky", "load = use\n");
    await_bytes(&r, "old", 1, 1);
    swap(&r, "new");
    await(&r, "model_swap_failed", 1, 20);
    await(&r, ENDED("front-picky"), 1, 20);
    assert_int_equal(held_files(&r, "f"), 1);
    crash_nth(&r, 1);
    await_bytes(&r, "old", 2, 3);
    assert_int_equal(count(said(&r), "bytes new\n"), 1);
    stop_with_file(&r);
}

/* Loaded on use, put out, and asked for again: that is a load by name, and it is told that the file is another one. */
static void test_a_model_that_was_put_out_holds_no_file_and_is_opened_by_its_path_again(void **state)
{
    (void)state;
    rig r;
    start_with_file(&r, "front-again", "load = use\n");
    await(&r, "bytes old\n", 1, 20);
    await(&r, ENDED("front-again"), 1, 20);
    assert_int_equal(held_files(&r, "f"), 0);
    change_file(&r, "new");
    await(&r, "bytes new\n", 1, 20);
    await(&r, "\"event\":\"model_file_new\",\"cell\":\"warden\",\"model\":\"front-again\",\"file\":", 1, 20);
    await(&r, ENDED("front-again"), 2, 20);
    await(&r, "bytes new\n", 2, 20);
    assert_int_equal(count(said(&r), "model_file_new"), 1); /* the same as the last time */
    stop_with_file(&r);
}

/* The third model wants the room of the first. */
static void start_three(rig *r, const char *first)
{
    char models[256];
    make_folder(r);
    change_file(r, "old");
    snprintf(models, sizeof models, "[model %s]\nfile = %s/f\nload = use\n[model other]\n" USE "[model front-x]\n" USE,
             first, r->folder);
    start_in(r, "", models);
    await_bytes(r, "old", 1, 1);
    assert_int_equal(held_files(r, "f"), 1);
    await(r, "\"event\":\"engine_evicted\"", 1, 20);
}

static void test_a_model_that_is_evicted_holds_no_file(void **state)
{
    (void)state;
    rig r;
    start_three(&r, "honest");
    await(&r, ENDED("honest"), 1, 20);
    assert_int_equal(held_files(&r, "f"), 0);
    stop_with_file(&r);
}

static void test_a_model_that_ends_while_it_should_make_room_holds_no_file(void **state)
{
    (void)state;
    rig r;
    start_three(&r, "front-mulls");
    crash_nth(&r, 1);
    await(&r, ENDED("front-mulls"), 1, 20);
    assert_int_equal(held_files(&r, "f"), 0);
    stop_with_file(&r);
}

/* All parts of a model, and the text that tenants share, count as its file does. */
static void test_every_part_of_a_model_and_its_public_prefix_are_kept_and_looked_at(void **state)
{
    (void)state;
    rig r;
    char models[512];
    make_folder(&r);
    change_named(&r, "m-00001-of-00002.gguf", "one");
    change_named(&r, "m-00002-of-00002.gguf", "two");
    change_named(&r, "prefix", "shared");
    snprintf(models, sizeof models, "[model honest]\nfile = %s/m-00001-of-00002.gguf\npublic_prefix = %s/prefix\n",
             r.folder, r.folder);
    start_in(&r, "", models);
    await_bytes(&r, "shared", 1, 1);
    change_named(&r, "m-00002-of-00002.gguf", "TWO");
    change_named(&r, "prefix", "SHARED");
    crash(&r);
    await_bytes(&r, "shared", 2, 2);
    await_bytes(&r, "two", 2, 2);
    await(&r, "m-00002-of-00002.gguf\",\"why\":\"it is not what", 1, 20);
    assert_int_equal(held_files(&r, "m-0000"), 2);
    assert_int_equal(held_files(&r, "prefix"), 1);
    kill(r.warden, SIGHUP);
    await_bytes(&r, "TWO", 1, 3);
    await_bytes(&r, "SHARED", 1, 3);
    change_named(&r, "prefix", "shorter");
    kill(r.warden, SIGHUP);
    await_bytes(&r, "shorter", 1, 4);
    lose_named(&r, "m-00001-of-00002.gguf");
    lose_named(&r, "m-00002-of-00002.gguf");
    lose_named(&r, "prefix");
    crash(&r);
    await_bytes(&r, "shorter", 2, 5);
    stop(&r);
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
        cmocka_unit_test(test_an_engine_that_ends_is_followed_by_one_of_the_same_bytes_whatever_became_of_the_file),
        cmocka_unit_test(test_a_reload_of_a_file_that_cannot_be_used_leaves_the_bytes_of_before_for_a_crash),
        cmocka_unit_test(test_a_reload_that_finds_no_engine_tries_the_new_file_and_falls_back),
        cmocka_unit_test(test_a_file_that_was_written_to_is_not_started_from_until_a_reload),
        cmocka_unit_test(test_a_file_that_is_written_to_while_it_is_read_is_not_served),
        cmocka_unit_test(test_a_swap_that_the_front_refuses_leaves_the_bytes_of_before_for_a_crash),
        cmocka_unit_test(test_a_model_that_was_put_out_holds_no_file_and_is_opened_by_its_path_again),
        cmocka_unit_test(test_a_model_that_is_evicted_holds_no_file),
        cmocka_unit_test(test_a_model_that_ends_while_it_should_make_room_holds_no_file),
        cmocka_unit_test(test_every_part_of_a_model_and_its_public_prefix_are_kept_and_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
