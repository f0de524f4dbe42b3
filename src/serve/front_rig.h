/* front_rig.h - a front in a child without a jail, and around it the warden, the engine and the clients that a test plays. */
#ifndef SPARK_SERVE_FRONT_RIG_H
#define SPARK_SERVE_FRONT_RIG_H

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/test.h"
#include "jail/jail.h"
#include "serve/cell_plan.h"
#include "serve/control.h"
#include "serve/front.h"
#include "serve/messages.h"

enum { WAIT_MS = 20000, BODY_MAX = 4 << 20 };

typedef struct rig {
    pid_t front;
    int control;
    struct sockaddr_un address;
    int link; /* to its engine, as which we speak */
    spark_wire *wire;
} rig;

static uint8_t control_buf[CONTROL_HEAD + CONTROL_TEXT_MAX];

static const char card[] =
    "{\"arch\":\"llama\",\"quantization\":\"q8_0\",\"n_params\":1,\"file_bytes\":1,\"n_ctx\":100000,\"n_ctx_train\":"
    "100000,\"n_embd\":1,\"n_vocab\":1000,\"n_layers\":1,\"n_slots\":16}";

/* ---- The warden ---- */

SPARK_UNUSED static void tell(const rig *r, const control_message *m)
{
    spark_err err;
    assert_ok(control_send(r->control, m, &err));
}

/* What the last message that was heard says besides its kind. */
SPARK_UNUSED static uint64_t heard_value;

/* The next message of a kind; others are passed over. False: none within so many milliseconds. */
SPARK_UNUSED static bool hear(const rig *r, control_kind kind, int ms)
{
    const uint64_t end = spark_clock_ns() + (uint64_t)ms * 1000000;
    for (;;) {
        control_message m;
        spark_err err;
        bool has = false, closed = false;
        assert_ok(control_receive(r->control, control_buf, &m, &has, &closed, &err));
        assert_false(closed);
        heard_value = has ? m.value : 0;
        if (has && m.kind == kind) return true;
        if (has) continue;
        const uint64_t now = spark_clock_ns();
        if (now >= end) return false;
        struct pollfd p = {.fd = r->control, .events = POLLIN};
        (void)poll(&p, 1, (int)((end - now) / 1000000) + 1);
    }
}

SPARK_UNUSED static void tell_engine(rig *r, control_model_state state, uint32_t engine)
{
    control_message m = {
        .kind = CONTROL_MODEL, .value = control_model_value(state, engine), .text = SPARK_BYTES_LITERAL("because")};
    int pair[2];
    if (state == CONTROL_MODEL_READY) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        m.fds[m.n_fds++] = pair[1];
        r->link = pair[0];
        spark_wire_reset(r->wire);
    }
    tell(r, &m);
    if (state == CONTROL_MODEL_READY) close(pair[1]);
}

SPARK_UNUSED static void tell_model(rig *r, control_model_state state) { tell_engine(r, state, 0); }

/* The link of one more engine of the model, as which `next` then speaks. */
SPARK_UNUSED static void start_next(const rig *r, rig *next, uint32_t engine)
{
    spark_err err;
    *next = *r;
    assert_ok(spark_wire_create(&next->wire, SPARK_WIRE_ENGINE, SPARK_WIRE_STREAMS, true, &err));
    tell_engine(next, CONTROL_MODEL_READY, engine);
}

SPARK_UNUSED static void stop_next(rig *next)
{
    close(next->link);
    spark_wire_destroy(&next->wire);
}

SPARK_UNUSED static void listen_at(rig *r, uint32_t bits)
{
    snprintf(r->address.sun_path, sizeof r->address.sun_path, "/tmp/spark-front-%d", (int)getpid());
    r->address.sun_family = AF_UNIX;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(r->address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&r->address, sizeof r->address), 0);
    assert_int_equal(listen(fd, 128), 0);
    tell(r, &(control_message){.kind = CONTROL_LISTEN, .arg = CONTROL_LISTEN_UNIX | bits, .fds = {fd}, .n_fds = 1});
    close(fd);
}

static _Noreturn void be_the_front(int control)
{
    const spark_jail_spec spec = {
        .role = SPARK_JAIL_FRONT, .level = SPARK_JAIL_OFF, .n_fds = 1, .n_threads = 1, .name = "front"};
    (void)dup2(control, SPARK_JAIL_FIRST_FD); /* without close-on-exec: it may be the same */
    (void)signal(SIGPIPE, SIG_IGN);
    _exit(spark_front_cell(&spec));
}

/* keys: descriptor of a key file (moves); below 0: none is asked. */
SPARK_UNUSED static void start_keyed(rig *r, const char *settings, int keys)
{
    int pair[2];
    spark_err err;
    *r = (rig){.link = -1};
    assert_ok(control_pair(pair, &err));
    assert_ok(spark_wire_create(&r->wire, SPARK_WIRE_ENGINE, SPARK_WIRE_STREAMS, true, &err));
    fflush(NULL);
    r->front = fork();
    assert_true(r->front >= 0);
    if (r->front == 0) {
        close(pair[0]);
        be_the_front(pair[1]);
    }
    close(pair[1]);
    r->control = pair[0];
    tell(r, &(control_message){.kind = CONTROL_SETTINGS, .text = spark_bytes_of(settings)});
    if (keys >= 0) {
        tell(r, &(control_message){.kind = CONTROL_KEYS, .fds = {keys}, .n_fds = 1});
        close(keys);
    }
    listen_at(r, keys < 0 ? CONTROL_LISTEN_OPEN : 0);
    tell(r, &(control_message){.kind = CONTROL_GO});
    assert_true(hear(r, CONTROL_UP, WAIT_MS));
}

SPARK_UNUSED static void start(rig *r, const char *settings) { start_keyed(r, settings, -1); }

/* The front ends with its warden, in order: a sanitizer that found something would show here. */
SPARK_UNUSED static void stop(rig *r)
{
    int status = 0;
    close(r->control);
    assert_int_equal(waitpid(r->front, &status, 0), r->front);
    assert_int_equal(status, 0);
    if (r->link >= 0) close(r->link);
    spark_wire_destroy(&r->wire);
    unlink(r->address.sun_path);
}

/* ---- The engine ---- */

/* The next frame that the front sends. False: none within so many milliseconds, or the link is closed. */
SPARK_UNUSED static bool take(rig *r, spark_wire_frame *f, int ms)
{
    const uint64_t end = spark_clock_ns() + (uint64_t)ms * 1000000;
    for (;;) {
        bool has = false, closed = false;
        spark_err err;
        assert_ok(spark_wire_next(r->wire, f, &has, &err));
        if (has) return true;
        const uint64_t now = spark_clock_ns();
        if (now >= end) return false;
        struct pollfd p = {.fd = r->link, .events = POLLIN};
        (void)poll(&p, 1, (int)((end - now) / 1000000) + 1);
        assert_ok(spark_wire_read(r->wire, r->link, &closed, &err));
        if (closed) return false;
    }
}

SPARK_UNUSED static void flush_link(rig *r)
{
    spark_err err;
    while (spark_wire_pending(r->wire)) {
        struct pollfd p = {.fd = r->link, .events = POLLOUT};
        assert_true(poll(&p, 1, WAIT_MS) == 1);
        assert_ok(spark_wire_write(r->wire, r->link, &err));
    }
}

SPARK_UNUSED static void say(rig *r, spark_wire_type type, uint64_t stream, const void *bytes, size_t len)
{
    spark_err err;
    assert_ok(spark_wire_put(r->wire, type, stream, (spark_bytes){bytes, len}, (spark_bytes){0}, &err));
    flush_link(r);
}

SPARK_UNUSED static void say_ready(rig *r, const char *text)
{
    uint8_t payload[1024] = {0};
    memcpy(payload + CELL_MEMORY_BYTES, text, strlen(text));
    say(r, SPARK_WIRE_READY, 0, payload, CELL_MEMORY_BYTES + strlen(text));
}

/* Told of the model and greeted by its engine: requests go through. */
SPARK_UNUSED static void start_served(rig *r, const char *settings)
{
    start(r, settings);
    tell_model(r, CONTROL_MODEL_READY);
    say_ready(r, card);
    assert_true(hear(r, CONTROL_SWITCHED, WAIT_MS));
}

SPARK_UNUSED static uint64_t take_ask(rig *r)
{
    spark_wire_frame f;
    do assert_true(take(r, &f, WAIT_MS));
    while (f.type == SPARK_WIRE_CREDIT);
    assert_int_equal(f.type, SPARK_WIRE_ASK);
    return f.stream;
}

SPARK_UNUSED static void say_started_at(rig *r, uint64_t stream, uint64_t took_ns)
{
    uint8_t out[SPARK_STARTED_BYTES];
    spark_put_started(out, &(spark_started_message){.n_prompt = 1, .took_ns = took_ns});
    say(r, SPARK_WIRE_STARTED, stream, out, sizeof out);
}

SPARK_UNUSED static void say_started(rig *r, uint64_t stream) { say_started_at(r, stream, spark_clock_ns()); }

SPARK_UNUSED static void say_piece(rig *r, uint64_t stream, const char *text)
{
    uint8_t head[64];
    const spark_piece_message m = {.has_token = true, .token = {.id = 5}};
    const size_t n = spark_put_piece(head, &m);
    memcpy(head + n, text, strlen(text));
    say(r, SPARK_WIRE_PIECE, stream, head, n + strlen(text));
}

SPARK_UNUSED static void say_finished(rig *r, uint64_t stream)
{
    uint8_t out[SPARK_FINISHED_BYTES];
    spark_put_finished(out, &(spark_finished_message){.finish = SPARK_FINISH_STOP, .n_prompt = 1, .n_tokens = 1});
    say(r, SPARK_WIRE_FINISHED, stream, out, sizeof out);
}

/* ---- Clients ---- */

SPARK_UNUSED static int dial(const rig *r)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&r->address, sizeof r->address), 0);
    return fd;
}

SPARK_UNUSED static void post_with(int fd, const char *path, const char *headers, const char *body)
{
    char head[512];
    const int n = snprintf(head, sizeof head,
                           "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "%sContent-Length: %zu\r\n\r\n",
                           path, headers, strlen(body));
    assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
    for (size_t at = 0, len = strlen(body); at < len;) {
        const ssize_t sent = send(fd, body + at, len - at, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += (size_t)sent;
    }
}

SPARK_UNUSED static void post(int fd, const char *path, const char *body) { post_with(fd, path, "", body); }

SPARK_UNUSED static int ask(const rig *r, const char *body)
{
    const int fd = dial(r);
    post(fd, "/v1/completions", body);
    return fd;
}

/* Reads until `until` has come, the connection ends, or time is up; what came, with NUL. */
SPARK_UNUSED static char *hear_client(int fd, const char *until, int ms)
{
    static char text[16 << 20];
    size_t n = 0;
    text[0] = '\0';
    for (const uint64_t end = spark_clock_ns() + (uint64_t)ms * 1000000;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const uint64_t now = spark_clock_ns();
        if (now >= end || poll(&p, 1, (int)((end - now) / 1000000) + 1) != 1) return text;
        const ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got <= 0) return text;
        const size_t from = n > 64 ? n - 64 : 0;
        n += (size_t)got;
        text[n] = '\0';
        if (until && strstr(text + from, until)) return text;
    }
}

#define assert_said(text, what)                                                                                        \
    do {                                                                                                               \
        const char *said_ = (text);                                                                                    \
        if (!strstr(said_, (what))) fail_msg("no '%s' in '%.600s'", (what), said_);                                    \
    } while (0)

static const char settings[] = "log_level = error\nlisten = unix:/x\n[model m]\nfile =\n";
static const char one[] = "{\"model\":\"m\",\"prompt\":\"x\"}";

/* A number of the metrics page. */
SPARK_UNUSED static double metric(const rig *r, const char *name)
{
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char line[128];
    const int c = dial(r);
    assert_int_equal(send(c, get, sizeof get - 1, MSG_NOSIGNAL), sizeof get - 1);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(hear_client(c, NULL, WAIT_MS), line);
    close(c);
    if (!at) fail_msg("no %s", name);
    return strtod(at + strlen(line), NULL);
}

#endif
