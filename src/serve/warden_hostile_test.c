/* warden_hostile_test.c - the warden and cells that are not what it started. The warden runs in a child; its cells are this program
 * again, which then plays a part: engines by the names of their models, the front by the name of the first. What must hold: a cell that
 * speaks out of turn, hangs or lies costs what it serves, and never the warden: it goes on, does not spin, and ends when told to. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/test.h"
#include "jail/jail.h"
#include "serve/cell_config.h"
#include "serve/cell_plan.h"
#include "serve/control.h"
#include "serve/messages.h"
#include "serve/warden.h"
#include "serve/wire.h"

enum { LINK = SPARK_JAIL_FIRST_FD };

static _Noreturn void sleep_for_ever(void)
{
    for (;;) pause();
}

static void nap(int ms) { (void)poll(NULL, 0, ms); }

/* ---- Engines ---- */

static void engine_says(spark_wire *w, spark_wire_type type, const void *bytes, size_t len)
{
    spark_err err;
    if (!spark_ok(spark_wire_put(w, type, 0, (spark_bytes){bytes, len}, (spark_bytes){0}, &err))) _exit(90);
    while (spark_wire_pending(w))
        if (!spark_ok(spark_wire_write(w, LINK, &err))) _exit(91);
}

static void engine_is_ready(spark_wire *w, uint64_t planned)
{
    uint8_t payload[CELL_MEMORY_BYTES];
    cell_memory_put(payload, &(cell_memory){.planned = planned});
    engine_says(w, SPARK_WIRE_READY, payload, sizeof payload);
}

static void engine_is_broken(spark_wire *w)
{
    uint8_t out[SPARK_FAILED_BYTES];
    const size_t n = spark_put_failed(out,
                                      &(spark_failed_message){.err = {.code = SPARK_E_MEMORY, .text = "too large"}});
    engine_says(w, SPARK_WIRE_BROKEN, out, n);
}

/* Until the warden says so, or is gone. */
static void engine_awaits(spark_wire *w, spark_wire_type type)
{
    for (;;) {
        spark_wire_frame f;
        bool has = false, closed = false;
        spark_err err;
        struct pollfd p = {.fd = LINK, .events = POLLIN};
        if (!spark_ok(spark_wire_next(w, &f, &has, &err))) _exit(92);
        if (has && f.type == SPARK_WIRE_PING) engine_says(w, SPARK_WIRE_PONG, NULL, 0);
        if (has && f.type == type) return;
        if (has) continue;
        (void)poll(&p, 1, -1);
        if (!spark_ok(spark_wire_read(w, LINK, &closed, &err)) || closed) _exit(0);
    }
}

/* As an engine does under a budget: what it needs, what it is granted, and then it is ready. */
static void engine_loads(spark_wire *w, uint64_t needs, uint64_t takes)
{
    uint8_t wish[16];
    spark_store_u64(wish, needs);
    spark_store_u64(wish + 8, needs);
    engine_says(w, SPARK_WIRE_PLAN, wish, sizeof wish);
    engine_awaits(w, SPARK_WIRE_GRANT);
    if (takes) engine_is_ready(w, takes);
}

enum { MUCH = 300 << 20 };

static int play_engine(const char *model)
{
    spark_wire *w = NULL;
    spark_err err;
    if (!spark_ok(spark_wire_create(&w, SPARK_WIRE_ENGINE, 1, false, &err))) return 93;
    engine_awaits(w, SPARK_WIRE_CONFIG);
    const bool stays = strcmp(model, "stays") == 0;
    if (stays || strcmp(model, "honest") == 0 || strcmp(model, "other") == 0 || strncmp(model, "front-", 6) == 0) {
        engine_loads(w, MUCH, MUCH);
        engine_awaits(w, SPARK_WIRE_DRAIN);
        if (stays) engine_awaits(w, SPARK_WIRE_GRANT); /* it answers, and never ends */
        return 0;
    }
    if (strcmp(model, "sleeper") == 0) engine_loads(w, MUCH, MUCH);
    if (strcmp(model, "greedy") == 0) { /* wants to be made room for, again and again, and stays */
        engine_loads(w, 2 * MUCH, 0);
        for (int i = 0; i < 5; i++) engine_is_broken(w);
    }
    if (strcmp(model, "boundless") == 0) { /* what nobody could make room for */
        engine_loads(w, UINT64_MAX, 0);
        engine_is_broken(w);
    }
    if (strcmp(model, "liar") == 0) engine_loads(w, MUCH, UINT64_MAX);
    if (strcmp(model, "fickle") == 0) { /* ready, and broken after all */
        engine_loads(w, MUCH, MUCH);
        nap(50);
        engine_is_broken(w);
    }
    if (strcmp(model, "mute") == 0) close(LINK);
    if (strcmp(model, "hasty") == 0) { /* ends as soon as it is ready */
        engine_loads(w, MUCH, MUCH);
        nap(5);
        return 1;
    }
    sleep_for_ever();
}

/* ---- Fronts ---- */

static void front_says_value(control_kind kind, uint32_t arg, uint64_t value)
{
    spark_err err;
    if (!spark_ok(control_send(LINK, &(control_message){.kind = kind, .arg = arg, .value = value}, &err))) _exit(94);
}

static void front_says(control_kind kind, uint32_t arg) { front_says_value(kind, arg, 0); }

static uint32_t n_models;

/* An engine is there: it is taken, but for the parts that do not want it. */
static void front_takes(const control_message *m, const char *part)
{
    static unsigned n;
    const uint32_t engine = control_model_engine(m->value);
    const bool first = n++ == 0;
    dprintf(STDERR_FILENO, "given %u\n", engine);
    if (strcmp(part, "front-dies") == 0 && engine == 2 && !first) _exit(1); /* the first of two fronts, at the swap */
    if (strcmp(part, "front-refuses") == 0 || (strcmp(part, "front-picky") == 0 && !first) ||
        (strcmp(part, "front-dies") == 0 && engine == 2)) {
        front_says_value(CONTROL_REFUSED, m->arg, engine);
        return;
    }
    front_says_value(CONTROL_SWITCHED, m->arg, engine);
    if (strcmp(part, "front-unloads") == 0 || strcmp(part, "front-keeps") == 0) front_says(CONTROL_UNLOAD, m->arg);
    if (strcmp(part, "front-unloads") == 0) front_says_value(CONTROL_RELEASED, m->arg, engine);
}

static void front_obeys(const control_message *m, char *part, size_t cap)
{
    const char *who = m->arg == CONTROL_THE_FRONT ? "front" : "engine";
    if (m->kind == CONTROL_PING) front_says(CONTROL_PONG, 0);
    if (m->kind == CONTROL_RESTARTED) dprintf(STDERR_FILENO, "restarted %s %u\n", who, (unsigned)m->value);
    if (m->kind == CONTROL_TLS) {
        char text[8] = "";
        (void)!pread(m->fds[1], text, 3, 0);
        dprintf(STDERR_FILENO, "tls %s\n", text);
    }
    if (m->kind == CONTROL_RESIDENT && m->value > 4096) dprintf(STDERR_FILENO, "resident %s\n", who);
    if (m->kind == CONTROL_MODEL && control_model_state_of(m->value) == CONTROL_MODEL_READY) front_takes(m, part);

    for (uint32_t i = 0; i < m->n_fds; i++) /* links to engines stay open */
        if (m->kind != CONTROL_MODEL) close(m->fds[i]);
    if (m->kind == CONTROL_SETTINGS) {
        const char *at = memmem(m->text.ptr, m->text.len, "[model ", 7);
        if (at) snprintf(part, cap, "%.*s", (int)strcspn(at + 7, "]"), at + 7);
        for (n_models = 0; at; n_models++)
            at = memmem(at + 7, m->text.len - (size_t)(at + 7 - (const char *)m->text.ptr), "[model ", 7);
    }
    if (m->kind == CONTROL_MODEL && m->value == CONTROL_MODEL_LEAVING) front_says(CONTROL_UNLOAD, m->arg);
    if (m->kind == CONTROL_DRAIN) front_says(CONTROL_DRAINED, 0);
}

static int play_front(void)
{
    static uint8_t buf[CONTROL_HEAD + CONTROL_TEXT_MAX];
    char part[64] = "";
    uint32_t asked = 0;
    const uint64_t began = spark_clock_ns();
    for (bool up = false;;) {
        control_message m;
        spark_err err;
        bool has = false, closed = false;
        struct pollfd p = {.fd = LINK, .events = POLLIN};
        (void)poll(&p, 1, 50);
        if (!spark_ok(control_receive(LINK, buf, &m, &has, &closed, &err)) || closed) return 0;
        if (has) front_obeys(&m, part, sizeof part);
        if (has && m.kind == CONTROL_GO) {
            up = true;
            front_says(CONTROL_UP, 0);
            if (strcmp(part, "front-closes") == 0) {
                close(LINK);
                sleep_for_ever();
            }
            if (strcmp(part, "front-deaf") == 0 || strcmp(part, "front-sleeps") == 0) sleep_for_ever();
            if (strcmp(part, "front-names") == 0) front_says(CONTROL_LOAD, 1);
        }
        /* One model after the other is asked for. */
        if (up && asked < n_models && spark_clock_ns() - began > (uint64_t)(asked + 1) * 300000000) {
            if (asked == 2 && strcmp(part, "front-future") == 0)
                front_says_value(CONTROL_USED, 0, spark_clock_ns() + 3600000000000u);
            front_says(CONTROL_LOAD, asked++);
        }
    }
}

/* ---- The warden ---- */

typedef struct rig {
    pid_t warden;
    char folder[64], log[128];
} rig;

static _Noreturn void be_the_warden(const char *settings, const char *log)
{
    spark_config *c = NULL;
    spark_err err;
    int code = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that failed leaves nothing behind */
    (void)setpgid(0, 0);                    /* so that all of it can be stopped at once */
    const int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    (void)dup2(fd, STDERR_FILENO);
    if (!spark_ok(spark_config_create(&c, &err)) ||
        !spark_ok(spark_config_add_file(c, spark_bytes_of(settings), "t", &err)) ||
        !spark_ok(spark_config_finish(c, &err)) ||
        !spark_ok(spark_warden_run(c, (spark_bytes){0}, NULL, &code, &err))) {
        dprintf(STDERR_FILENO, "%s\n", err.text);
        _exit(80);
    }
    _exit(code);
}

static void make_folder(rig *r)
{
    *r = (rig){0};
    snprintf(r->folder, sizeof r->folder, "%s/spark-warden-XXXXXX", P_tmpdir);
    assert_non_null(mkdtemp(r->folder));
}

static void start_in(rig *r, const char *more, const char *models)
{
    char settings[1024];
    snprintf(r->log, sizeof r->log, "%s/log", r->folder);
    snprintf(settings, sizeof settings,
             "jail = off\nlog_format = json\nmemory = 1G\ndrain_timeout = 2s\nlisten = unix:%s/s\n%s%s", r->folder,
             more, models);
    fflush(NULL);
    r->warden = fork();
    assert_true(r->warden >= 0);
    if (r->warden == 0) be_the_warden(settings, r->log);
}

static void start_with(rig *r, const char *more, const char *models)
{
    make_folder(r);
    start_in(r, more, models);
}

static void start(rig *r, const char *models) { start_with(r, "", models); }

static const char *said(const rig *r)
{
    static char text[1 << 20];
    const int fd = open(r->log, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

static void await(const rig *r, const char *what, unsigned times, int seconds)
{
    for (int i = 0; i < seconds * 50; i++) {
        if (count(said(r), what) >= times) return;
        nap(20);
    }
    fail_msg("no '%s' in\n%s", what, said(r));
}

static void stop(rig *r)
{
    int status = 0;
    kill(r->warden, SIGTERM);
    for (int i = 0; i < 750 && waitpid(r->warden, &status, WNOHANG) == 0; i++) nap(20);
    if (kill(r->warden, 0) == 0) {
        kill(r->warden, SIGKILL);
        (void)waitpid(r->warden, &status, 0);
        fail_msg("it does not end:\n%s", said(r));
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    unlink(r->log);
    assert_int_equal(rmdir(r->folder), 0); /* its socket is gone too */
}

/* Milliseconds that the warden has computed. */
static unsigned long busy_ms(const rig *r)
{
    char path[64], line[512] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)r->warden);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, line, sizeof line - 1) > 0);
    close(fd);
    assert_int_equal(
        sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

/* ---- Tests ---- */

#define USE "file =\nload = use\n"

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
    start(&r, "[model front-deaf]\n" USE);
    nap(500);
    for (int i = 0; i < 20000 && (i % 100 || !strstr(said(&r), "front_ended")); i++) { /* each is a message to it */
        kill(r.warden, SIGHUP);
        const struct timespec t = {.tv_nsec = 300000};
        nanosleep(&t, NULL);
    }
    await(&r, "front_ended", 1, 20);
    stop(&r);
}

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

static void change_file(const rig *r, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/f", r->folder);
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
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

static void stop_with_file(rig *r)
{
    char path[128];
    snprintf(path, sizeof path, "%s/f", r->folder);
    unlink(path);
    stop(r);
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
    char more[256];
    make_folder(&r);
    change_file(&r, "pem");
    snprintf(more, sizeof more, "tls_cert = %s/f\ntls_key = %s/f\n", r.folder, r.folder);
    start_in(&r, more, "[model honest]\n" USE);
    await(&r, "tls pem", 1, 20);
    swap(&r, "new");
    await(&r, "tls new", 1, 20);
    snprintf(more, sizeof more, "%s/f", r.folder);
    unlink(more);
    kill(r.warden, SIGHUP);
    await(&r, "reload_tls_failed", 1, 20);
    stop_with_file(&r);
}

int main(int argc, char **argv)
{
    spark_jail_spec spec;
    if (spark_jail_is_cell(argc, argv, &spec)) {
        spark_jail_report report;
        spark_err err;
        if (!spark_ok(spark_jail_enter(&spec, &report, &err))) return 95;
        return spec.role == SPARK_JAIL_FRONT ? play_front() : play_engine(strchr(spec.name, ' ') + 1);
    }
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
        cmocka_unit_test(test_an_engine_that_does_not_answer_is_started_again_and_others_go_on),
        cmocka_unit_test(test_without_a_watchdog_nobody_must_answer),
        cmocka_unit_test(test_a_front_that_does_not_answer_is_started_again),
        cmocka_unit_test(test_time_in_which_the_warden_stood_still_does_not_count),
        cmocka_unit_test(test_an_engine_that_drains_and_never_ends_is_ended_once_nobody_waits_for_it),
        cmocka_unit_test(test_an_engine_that_drains_may_take_its_time_while_somebody_waits_for_it),
        cmocka_unit_test(test_a_swap_that_the_front_refuses_leaves_the_engine_of_before),
        cmocka_unit_test(test_a_front_that_refuses_a_swap_begun_before_it_gets_the_engine_of_before),
        cmocka_unit_test(test_an_engine_that_the_front_refuses_is_started_less_and_less_often),
        cmocka_unit_test(test_a_start_whose_model_the_front_refuses_ends),
        cmocka_unit_test(test_a_front_that_names_a_time_to_come_keeps_no_model_in_memory),
        cmocka_unit_test(test_the_front_is_told_what_memory_cells_have),
        cmocka_unit_test(test_certificates_come_anew_with_a_reload_and_losing_them_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
