/* warden_rig.h - a warden in a child, for tests. Its cells are the test's program again, which then plays a part: engines by the
 * names of their models, the front by the name of the first. */
#ifndef SPARK_SERVE_WARDEN_RIG_H
#define SPARK_SERVE_WARDEN_RIG_H

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

SPARK_UNUSED static _Noreturn void sleep_for_ever(void)
{
    for (;;) pause();
}

SPARK_UNUSED static void nap(int ms) { (void)poll(NULL, 0, ms); }

/* ---- Engines ---- */

SPARK_UNUSED static void engine_says(spark_wire *w, spark_wire_type type, const void *bytes, size_t len)
{
    spark_err err;
    if (!spark_ok(spark_wire_put(w, type, 0, (spark_bytes){bytes, len}, (spark_bytes){0}, &err))) _exit(90);
    while (spark_wire_pending(w))
        if (!spark_ok(spark_wire_write(w, LINK, &err))) _exit(91);
}

SPARK_UNUSED static void engine_is_ready(spark_wire *w, uint64_t planned)
{
    uint8_t payload[CELL_MEMORY_BYTES];
    cell_memory_put(payload, &(cell_memory){.planned = planned});
    engine_says(w, SPARK_WIRE_READY, payload, sizeof payload);
}

SPARK_UNUSED static void engine_is_broken(spark_wire *w)
{
    uint8_t out[SPARK_FAILED_BYTES];
    const size_t n = spark_put_failed(out,
                                      &(spark_failed_message){.err = {.code = SPARK_E_MEMORY, .text = "too large"}});
    engine_says(w, SPARK_WIRE_BROKEN, out, n);
}

static bool engine_naps; /* before each answer, and says that it was asked */

/* In small steps: while all stand still, at most one of them passes. */
SPARK_UNUSED static void engine_answers(spark_wire *w)
{
    if (engine_naps) dprintf(STDERR_FILENO, "pinged\n");
    for (int i = 0; engine_naps && i < 20; i++) nap(20);
    engine_says(w, SPARK_WIRE_PONG, NULL, 0);
}

/* Until the warden says so, or is gone. */
SPARK_UNUSED static void engine_awaits(spark_wire *w, spark_wire_type type)
{
    for (;;) {
        spark_wire_frame f;
        bool has = false, closed = false;
        spark_err err;
        struct pollfd p = {.fd = LINK, .events = POLLIN};
        if (!spark_ok(spark_wire_next(w, &f, &has, &err))) _exit(92);
        if (has && f.type == SPARK_WIRE_PING) engine_answers(w);
        if (has && f.type == type) return;
        if (has) continue;
        (void)poll(&p, 1, -1);
        if (!spark_ok(spark_wire_read(w, LINK, &closed, &err)) || closed) _exit(0);
    }
}

/* As an engine does under a budget: what it needs, what it is granted, and then it is ready. */
SPARK_UNUSED static void engine_loads(spark_wire *w, uint64_t needs, uint64_t takes)
{
    uint8_t wish[16];
    spark_store_u64(wish, needs);
    spark_store_u64(wish + 8, needs);
    engine_says(w, SPARK_WIRE_PLAN, wish, sizeof wish);
    engine_awaits(w, SPARK_WIRE_GRANT);
    if (takes) engine_is_ready(w, takes);
}

enum { MUCH = 300 << 20, FIRST_FILE = LINK + 1 + CELL_FRONT_LINKS };

/* Says what its files hold, one after the other; behind them there is nothing to read. False: one says "bad". */
SPARK_UNUSED static bool engine_reads(void)
{
    bool good = true;
    char text[16];
    ssize_t n = 0;
    for (int fd = FIRST_FILE; (n = read(fd, text, sizeof text - 1)) > 0; fd++) {
        text[n] = '\0';
        good &= strcmp(text, "bad") != 0;
        dprintf(STDERR_FILENO, "bytes %s\n", text);
    }
    return good;
}

SPARK_UNUSED static int play_engine(const char *model)
{
    spark_wire *w = NULL;
    spark_err err;
    if (!spark_ok(spark_wire_create(&w, SPARK_WIRE_ENGINE, 1, false, &err))) return 93;
    engine_awaits(w, SPARK_WIRE_CONFIG);
    if (!engine_reads()) engine_is_broken(w);
    if (strcmp(model, "dawdler") == 0) nap(700); /* reads for long */
    const bool stays = strcmp(model, "stays") == 0;
    engine_naps = strcmp(model, "slow") == 0;
    if (stays || engine_naps || strcmp(model, "honest") == 0 || strcmp(model, "other") == 0 ||
        strcmp(model, "dawdler") == 0 || strncmp(model, "front-", 6) == 0) {
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

SPARK_UNUSED static void front_says_value(control_kind kind, uint32_t arg, uint64_t value)
{
    spark_err err;
    if (!spark_ok(control_send(LINK, &(control_message){.kind = kind, .arg = arg, .value = value}, &err))) _exit(94);
}

SPARK_UNUSED static void front_says(control_kind kind, uint32_t arg) { front_says_value(kind, arg, 0); }

static uint32_t n_models;

/* An engine is there: it is taken, but for the parts that do not want it. */
SPARK_UNUSED static void front_takes(const control_message *m, const char *part)
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
    const bool unloads = strcmp(part, "front-unloads") == 0 || strcmp(part, "front-again") == 0;
    if (unloads || strcmp(part, "front-keeps") == 0) front_says(CONTROL_UNLOAD, m->arg);
    if (unloads) front_says_value(CONTROL_RELEASED, m->arg, engine);
}

static bool front_goes;

/* A key that says "bad" is refused, and one that says "die" ends it. */
SPARK_UNUSED static void front_takes_tls(const control_message *m)
{
    char text[8] = "";
    if (m->arg == CONTROL_UNREAD) {
        dprintf(STDERR_FILENO, "tls unread\n");
        return;
    }
    (void)!read(m->fds[1], text, 3);
    dprintf(STDERR_FILENO, "tls %s\n", text);
    if (strcmp(text, "die") == 0) _exit(1);
    if (front_goes) front_says_value(CONTROL_TAKEN, CONTROL_TLS, strcmp(text, "bad") != 0);
}

SPARK_UNUSED static void front_obeys(const control_message *m, char *part, size_t cap)
{
    const char *who = m->arg == CONTROL_THE_FRONT ? "front" : "engine";
    if (m->kind == CONTROL_PING) front_says(CONTROL_PONG, 0);
    if (m->kind == CONTROL_RESTARTED) dprintf(STDERR_FILENO, "restarted %s %u\n", who, (unsigned)m->value);
    if (m->kind == CONTROL_TLS) front_takes_tls(m);
    if (m->kind == CONTROL_GO) front_goes = true;
    if (m->kind == CONTROL_RESIDENT && m->value > 4096) dprintf(STDERR_FILENO, "resident %s\n", who);
    if (m->kind == CONTROL_MODEL && control_model_state_of(m->value) == CONTROL_MODEL_READY) front_takes(m, part);
    if (m->kind == CONTROL_MODEL && control_model_state_of(m->value) == CONTROL_MODEL_FAILED)
        dprintf(STDERR_FILENO, "told: %.*s\n", (int)m->text.len, (const char *)m->text.ptr);
    if (m->kind == CONTROL_MODEL && m->value == CONTROL_MODEL_ABSENT && strcmp(part, "front-again") == 0 &&
        front_goes) {
        nap(1000); /* in which the file can change */
        front_says(CONTROL_LOAD, m->arg);
    }

    for (uint32_t i = 0; i < m->n_fds; i++) /* links to engines stay open */
        if (m->kind != CONTROL_MODEL) close(m->fds[i]);
    if (m->kind == CONTROL_SETTINGS) {
        const char *at = memmem(m->text.ptr, m->text.len, "[model ", 7);
        if (at) snprintf(part, cap, "%.*s", (int)strcspn(at + 7, "]"), at + 7);
        for (n_models = 0; at; n_models++)
            at = memmem(at + 7, m->text.len - (size_t)(at + 7 - (const char *)m->text.ptr), "[model ", 7);
    }
    const bool leaves = m->kind == CONTROL_MODEL && m->value == CONTROL_MODEL_LEAVING;
    if (leaves && strcmp(part, "front-mulls") == 0) nap(2000);
    if (leaves) front_says(CONTROL_UNLOAD, m->arg);
    if (m->kind == CONTROL_DRAIN) front_says(CONTROL_DRAINED, 0);
}

SPARK_UNUSED static int play_front(void)
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
            dprintf(STDERR_FILENO, "arose %d\n", (int)getpid());
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

SPARK_UNUSED static _Noreturn void be_the_warden(const char *settings, const char *log)
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

SPARK_UNUSED static void make_folder(rig *r)
{
    *r = (rig){0};
    snprintf(r->folder, sizeof r->folder, "%s/spark-warden-XXXXXX", P_tmpdir);
    assert_non_null(mkdtemp(r->folder));
}

SPARK_UNUSED static void start_in(rig *r, const char *more, const char *models)
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

SPARK_UNUSED static void start_with(rig *r, const char *more, const char *models)
{
    make_folder(r);
    start_in(r, more, models);
}

SPARK_UNUSED static void start(rig *r, const char *models) { start_with(r, "", models); }

SPARK_UNUSED static const char *said(const rig *r)
{
    static char text[1 << 20];
    const int fd = open(r->log, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

SPARK_UNUSED static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

SPARK_UNUSED static void await(const rig *r, const char *what, unsigned times, int seconds)
{
    for (int i = 0; i < seconds * 50; i++) {
        if (count(said(r), what) >= times) return;
        nap(20);
    }
    fail_msg("no '%s' in\n%s", what, said(r));
}

SPARK_UNUSED static void stop(rig *r)
{
    int status = 0;
    kill(r->warden, SIGTERM);
    pid_t ended = 0;
    for (int i = 0; i < 750 && (ended = waitpid(r->warden, &status, WNOHANG)) == 0; i++) nap(20);
    if (ended == 0) {
        kill(r->warden, SIGKILL);
        (void)waitpid(r->warden, &status, 0);
        fail_msg("it does not end:\n%s", said(r));
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    unlink(r->log);
    assert_int_equal(rmdir(r->folder), 0); /* its socket is gone too */
}

/* ---- Files ---- */

#define USE "file =\nload = use\n" /* ends the section of a model */

/* A new file in the place of the one that was there. */
SPARK_UNUSED static void change_named(const rig *r, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

SPARK_UNUSED static void change_file(const rig *r, const char *text) { change_named(r, "f", text); }

SPARK_UNUSED static void lose_named(const rig *r, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    assert_int_equal(unlink(path), 0);
}

SPARK_UNUSED static void lose_file(const rig *r) { lose_named(r, "f"); }

/* The same file, with another content. */
SPARK_UNUSED static void write_into_file(const rig *r, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/f", r->folder);
    const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* Descriptors that the warden has of files in the folder whose path begins so, be they gone: the log and the socket have other names. */
SPARK_UNUSED static unsigned held_files(const rig *r, const char *name)
{
    char folder[64], path[160], to[256], begin[128];
    unsigned n = 0;
    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)r->warden);
    const int len = snprintf(begin, sizeof begin, "%s/%s", r->folder, name);
    for (int fd = 0; fd < 1024; fd++) {
        snprintf(path, sizeof path, "%s/%d", folder, fd);
        const ssize_t got = readlink(path, to, sizeof to);
        n += got >= len && memcmp(to, begin, (size_t)len) == 0;
    }
    return n;
}

SPARK_UNUSED static void stop_with_file(rig *r)
{
    char path[128];
    snprintf(path, sizeof path, "%s/f", r->folder);
    unlink(path);
    stop(r);
}

/* Certificate and key are one file, which says "pem". */
SPARK_UNUSED static void start_with_tls(rig *r, const char *model)
{
    char more[256], models[64];
    make_folder(r);
    change_file(r, "pem");
    snprintf(more, sizeof more, "tls_cert = %s/f\ntls_key = %s/f\n", r->folder, r->folder);
    snprintf(models, sizeof models, "[model %s]\n" USE, model);
    start_in(r, more, models);
    await(r, "tls pem\n", 1, 20);
    await(r, "arose ", 1, 20);
}

/* Milliseconds that the warden has computed. */
SPARK_UNUSED static unsigned long busy_ms(const rig *r)
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

/* What the program is when the warden starts it: main() asks this first. */
SPARK_UNUSED static bool played_a_cell(int argc, char **argv, int *code)
{
    spark_jail_spec spec;
    spark_jail_report report;
    spark_err err;
    if (!spark_jail_is_cell(argc, argv, &spec)) return false;
    if (!spark_ok(spark_jail_enter(&spec, &report, &err)))
        *code = 95;
    else
        *code = spec.role == SPARK_JAIL_FRONT ? play_front() : play_engine(strchr(spec.name, ' ') + 1);
    return true;
}

#endif
