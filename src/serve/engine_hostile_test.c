/* engine_hostile_test.c - an engine cell and fronts that want it no good: the cell in a child without a jail, its warden and its fronts
 * here. What must hold: whatever a front says costs that front at most, the model goes on serving the next one with the same bytes,
 * and no line that was full is forgotten. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/test.h"
#include "jail/jail.h"
#include "serve/ask.h"
#include "serve/cell_config.h"
#include "serve/engine_cell.h"
#include "serve/messages.h"

enum { LINKS = 4, WAIT_MS = 60000, TEXT_MAX = 1 << 20 };

typedef struct rig {
    pid_t engine;
    int warden, fronts[LINKS];
    spark_wire *told; /* our end of the warden's link */
    spark_wire *wire; /* of the front that is served now */
    int link;
    uint32_t n_fronts;
} rig;

/* ---- The cell ---- */

static _Noreturn void be_the_engine(const int *fds, uint32_t n)
{
    const spark_jail_spec spec = {
        .role = SPARK_JAIL_ENGINE, .level = SPARK_JAIL_OFF, .n_fds = n, .n_threads = 1, .name = "engine test"};
    int high[1 + LINKS];
    for (uint32_t i = 0; i < n; i++) high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 200);
    for (uint32_t i = 0; i < n; i++) (void)dup2(high[i], SPARK_JAIL_FIRST_FD + (int)i);
    for (int fd = SPARK_JAIL_FIRST_FD + (int)n; fd < 300; fd++) close(fd);
    (void)signal(SIGPIPE, SIG_IGN);
    _exit(spark_engine_cell(&spec));
}

/* The next frame. False: none within so many milliseconds, or the link is closed. */
static bool take(spark_wire *w, int fd, spark_wire_frame *f, int ms)
{
    const uint64_t end = spark_clock_ns() + (uint64_t)ms * 1000000;
    for (;;) {
        bool has = false, closed = false;
        spark_err err;
        assert_ok(spark_wire_next(w, f, &has, &err));
        if (has && f->type == SPARK_WIRE_STATS) continue;
        if (has) return true;
        const uint64_t now = spark_clock_ns();
        if (now >= end) return false;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        (void)poll(&p, 1, (int)((end - now) / 1000000) + 1);
        assert_ok(spark_wire_read(w, fd, &closed, &err));
        if (closed) return false;
    }
}

static void say(spark_wire *w, int fd, spark_wire_type type, uint64_t stream, const void *bytes, size_t len)
{
    spark_err err;
    assert_ok(spark_wire_put(w, type, stream, (spark_bytes){bytes, len}, (spark_bytes){0}, &err));
    while (spark_wire_pending(w)) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        assert_true(poll(&p, 1, WAIT_MS) == 1);
        assert_ok(spark_wire_write(w, fd, &err));
    }
}

/* The link of the next front, once the engine has greeted on it. */
static void next_front(rig *r)
{
    spark_wire_frame f;
    spark_wire_reset(r->wire);
    r->link = r->fronts[r->n_fronts++];
    assert_true(take(r->wire, r->link, &f, WAIT_MS));
    assert_int_equal(f.type, SPARK_WIRE_READY);
}

/* send_room: bytes that the kernel takes of the engine for the first front; 0 = as usual. */
static void start(rig *r, int send_room)
{
    int theirs[1 + LINKS], ours[1 + LINKS];
    spark_err err;
    spark_wire_frame f;
    for (int i = 0; i <= LINKS; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        ours[i] = pair[0];
        theirs[i] = pair[1];
    }
    if (send_room && setsockopt(theirs[1], SOL_SOCKET, SO_SNDBUFFORCE, &send_room, sizeof send_room) != 0) skip();
    *r = (rig){.warden = ours[0]};
    memcpy(r->fronts, ours + 1, sizeof r->fronts);
    fflush(NULL);
    r->engine = fork();
    assert_true(r->engine >= 0);
    if (r->engine == 0) be_the_engine(theirs, 1 + LINKS);
    for (int i = 0; i <= LINKS; i++) close(theirs[i]);
    assert_ok(spark_wire_create(&r->told, SPARK_WIRE_CLIENT, 1, false, &err));
    assert_ok(spark_wire_create(&r->wire, SPARK_WIRE_CLIENT, SPARK_WIRE_STREAMS, true, &err));
    cell_config c;
    cell_config_defaults(&c);
    c.n_links = LINKS;
    c.n_threads = 1;
    c.n_waiting = 256;
    char *text = cell_config_text(&c);
    say(r->told, r->warden, SPARK_WIRE_CONFIG, 0, text, strlen(text));
    free(text);
    do assert_true(take(r->told, r->warden, &f, WAIT_MS));
    while (f.type == SPARK_WIRE_PROGRESS);
    assert_int_equal(f.type, SPARK_WIRE_READY);
    next_front(r);
}

/* It drains and ends in order: a sanitizer that found something would show here. */
static void stop(rig *r)
{
    int status = 0;
    spark_wire_frame f;
    say(r->told, r->warden, SPARK_WIRE_DRAIN, 0, NULL, 0);
    while (take(r->wire, r->link, &f, WAIT_MS)) {
    }
    assert_int_equal(waitpid(r->engine, &status, 0), r->engine);
    assert_int_equal(status, 0);
    for (int i = 0; i < LINKS; i++) close(r->fronts[i]);
    close(r->warden);
    spark_wire_destroy(&r->told);
    spark_wire_destroy(&r->wire);
}

/* ---- The front ---- */

static uint64_t ask(rig *r, const char *prompt, uint32_t max_tokens, uint32_t n_logprobs)
{
    spark_ask a;
    spark_err err;
    uint64_t stream = 0;
    spark_ask_defaults(&a);
    a.kind = SPARK_ASK_TEXT;
    a.text = spark_bytes_of(prompt);
    a.generate.max_tokens = max_tokens;
    a.generate.n_logprobs = n_logprobs;
    a.generate.sampling.seed = 3;
    a.generate.ignore_eog = n_logprobs > 0; /* those are asked for to fill the line */
    a.cache = false;
    assert_ok(spark_ask_check(&a, &err));
    uint8_t *bytes = malloc(spark_ask_size(&a));
    const size_t len = spark_ask_encode(&a, bytes);
    assert_ok(spark_wire_open(r->wire, &stream, &err));
    say(r->wire, r->link, SPARK_WIRE_ASK, stream, bytes, len);
    free(bytes);
    return stream;
}

static void grant(rig *r, uint64_t stream, uint32_t n)
{
    uint8_t bytes[4];
    spark_store_u32(bytes, n);
    if (spark_wire_is_open(r->wire, stream)) say(r->wire, r->link, SPARK_WIRE_CREDIT, stream, bytes, 4);
}

/* The text of a stream up to its end; frames of others are passed over. */
static char *hear(rig *r, uint64_t stream)
{
    static char text[TEXT_MAX];
    static spark_piece_message m;
    size_t n = 0;
    for (;;) {
        spark_wire_frame f;
        spark_err err;
        if (!take(r->wire, r->link, &f, WAIT_MS)) fail_msg("nothing more came");
        if (f.stream != stream) continue;
        if (f.type == SPARK_WIRE_FAILED) fail_msg("failed");
        if (f.type == SPARK_WIRE_FINISHED) break;
        if (f.type != SPARK_WIRE_PIECE) continue;
        assert_ok(spark_get_piece(&m, f.payload, &err));
        memcpy(text + n, m.text.ptr, m.text.len);
        n += m.text.len;
        grant(r, stream, (uint32_t)f.payload.len);
    }
    text[n] = '\0';
    return text;
}

/* ---- Tests ---- */

static const char prompt[] = "Once upon a time";

static char *heard_alone(void)
{
    rig r;
    start(&r, 0);
    char *text = strdup(hear(&r, ask(&r, prompt, 40, 0)));
    assert_true(strlen(text) > 20);
    stop(&r);
    return text;
}

static void test_a_front_cannot_speak_as_the_warden(void **state)
{
    rig r;
    start(&r, 0);
    say(r.wire, r.link, SPARK_WIRE_DRAIN, 0, NULL, 0);
    next_front(&r);
    say(r.wire, r.link, SPARK_WIRE_PING, 0, NULL, 0);
    next_front(&r);
    assert_int_equal(poll(&(struct pollfd){.fd = r.warden, .events = POLLRDHUP}, 1, 200), 0); /* it lives on */
    assert_string_equal(hear(&r, ask(&r, prompt, 40, 0)), *state);
    stop(&r);
}

/* The names of streams begin anew with each front. */
static void test_the_next_front_hears_nothing_of_the_streams_of_the_one_before(void **state)
{
    rig r;
    start(&r, 0);
    for (int i = 0; i < 30; i++) grant(&r, ask(&r, "Another story", 400, 0), 1 << 20);
    spark_wire_frame f;
    for (int i = 0; i < 50; i++) assert_true(take(r.wire, r.link, &f, WAIT_MS));
    close(r.link);
    r.fronts[0] = -1;
    next_front(&r);
    const uint64_t s = ask(&r, prompt, 40, 0);
    assert_int_equal(s, (uint64_t)1 << 32); /* a name that the other used too */
    assert_string_equal(hear(&r, s), *state);
    assert_false(take(r.wire, r.link, &f, 200));
    stop(&r);
}

static uint64_t dice_state;
static uint32_t dice(uint32_t n)
{
    dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice_state >> 33) % n;
}

/* An ask in which bytes were changed, or one of bytes alone. */
static void ask_anything(rig *r)
{
    static const spark_ask_kind kinds[] = {SPARK_ASK_CHAT,     SPARK_ASK_TEXT,       SPARK_ASK_IDS,
                                           SPARK_ASK_TOKENIZE, SPARK_ASK_DETOKENIZE, SPARK_ASK_TEMPLATE};
    static const uint32_t ids[] = {1, 2, 3, 500, 70000};
    uint8_t bytes[4096];
    spark_ask a;
    spark_err err;
    uint64_t stream = 0;
    spark_ask_defaults(&a);
    a.kind = kinds[dice(SPARK_COUNT(kinds))];
    const bool is_ids = a.kind == SPARK_ASK_IDS || a.kind == SPARK_ASK_DETOKENIZE;
    if (is_ids) {
        a.ids = ids;
        a.n_ids = dice(SPARK_COUNT(ids) + 1);
    } else {
        a.text = a.kind == SPARK_ASK_TEXT || a.kind == SPARK_ASK_TOKENIZE
                     ? spark_bytes_of(prompt)
                     : SPARK_BYTES_LITERAL("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    }
    a.generate.max_tokens = dice(30);
    a.deadline_ms = dice(3) ? 0 : 1 + dice(20);
    a.tenant = dice(3);
    a.echo = a.kind == SPARK_ASK_TEXT && dice(2);
    size_t len = spark_ask_size(&a) <= sizeof bytes ? spark_ask_encode(&a, bytes) : 0;
    for (uint32_t k = dice(4); k > 0 && len; k--) bytes[dice((uint32_t)len)] = (uint8_t)dice(256);
    if (dice(8) == 0 && len > 8) len = 8 + dice((uint32_t)len - 8);
    if (len >= 8 && spark_ok(spark_wire_open(r->wire, &stream, &err)))
        say(r->wire, r->link, SPARK_WIRE_ASK, stream, bytes, len);
}

static void test_a_front_that_says_anything_harms_only_its_own_requests(void **state)
{
    rig r;
    spark_wire_frame f;
    start(&r, 0);
    for (uint32_t seed = 1; seed <= 3; seed++) {
        dice_state = seed;
        for (int step = 0; step < 600; step++) {
            uint64_t stream;
            uint32_t slot = dice(64);
            while (take(r.wire, r.link, &f, 0)) {
            }
            if (dice(3) == 0) ask_anything(&r);
            if (!spark_wire_next_open(r.wire, &slot, &stream)) continue;
            if (dice(3))
                grant(&r, stream, dice(4) ? dice(2000) : UINT32_MAX);
            else
                say(r.wire, r.link, SPARK_WIRE_CANCEL, stream, NULL, 0);
        }
        const uint64_t s = ask(&r, prompt, 40, 0);
        assert_string_equal(hear(&r, s), *state);
        if (seed % 2) { /* it breaks the rules; the next one comes */
            (void)!write(r.link, "\377\377\377\377 a frame of no type", 24);
            next_front(&r);
        }
    }
    stop(&r);
}

static bool answers(rig *r)
{
    spark_wire_frame f;
    say(r->told, r->warden, SPARK_WIRE_PING, 0, NULL, 0);
    return take(r->told, r->warden, &f, 10000) && f.type == SPARK_WIRE_PONG;
}

static void await_idle(const rig *r)
{
    struct timespec nap = {.tv_nsec = 100000000};
    uint64_t before = 0;
    for (int quiet = 0; quiet < 5;) {
        nanosleep(&nap, NULL);
        char path[64], line[512] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)r->engine);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(read(fd, line, sizeof line - 1) > 0);
        close(fd);
        unsigned long user = 0;
        const char *at = strrchr(line, ')');
        assert_int_equal(sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &user), 1);
        quiet = user == before ? quiet + 1 : 0;
        before = user;
    }
}

static void test_an_engine_that_idles_answers_the_warden(void **state)
{
    (void)state;
    rig r;
    start(&r, 0);
    assert_true(answers(&r) && answers(&r));
    stop(&r);
}

/* Nothing is read while a pass goes on, and on a slow machine that may be long. */
static void test_the_warden_hears_of_a_pass_unasked(void **state)
{
    (void)state;
    rig r;
    spark_wire_frame f;
    start(&r, 0);
    (void)hear(&r, ask(&r, prompt, 2, 0));
    assert_true(take(r.told, r.warden, &f, WAIT_MS));
    assert_int_equal(f.type, SPARK_WIRE_PONG);
    stop(&r);
}

/* Until its line out is full an engine computes on; then it waits, and goes on when the reader does, however much of the
 * line the kernel takes at once. The warden is answered all the while. */
static void reader_sleeps(int send_room, uint32_t n, char *expected)
{
    rig r;
    spark_wire_frame f;
    start(&r, send_room);
    for (uint32_t i = 0; i < n; i++) grant(&r, ask(&r, prompt, 480, SPARK_MAX_LOGPROBS), 64 << 20);
    await_idle(&r);
    while (take(r.told, r.warden, &f, 100)) { /* what passes said of themselves */
    }
    assert_true(answers(&r));
    uint32_t finished = 0;
    while (finished < n) {
        if (!take(r.wire, r.link, &f, 10000)) fail_msg("%u of %u streams never ended", n - finished, n);
        finished += f.type == SPARK_WIRE_FINISHED;
    }
    assert_string_equal(hear(&r, ask(&r, prompt, 40, 0)), expected);
    stop(&r);
}

static void test_an_engine_wakes_up_when_its_reader_does(void **state) { reader_sleeps(0, 14, *state); }

static void test_an_engine_wakes_up_where_the_kernel_takes_a_line_at_once(void **state)
{
    reader_sleeps(4 << 20, 32, *state);
}

static int listen_alone(void **state)
{
    *state = heard_alone();
    return 0;
}

static int forget(void **state)
{
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_front_cannot_speak_as_the_warden),
        cmocka_unit_test(test_the_next_front_hears_nothing_of_the_streams_of_the_one_before),
        cmocka_unit_test(test_a_front_that_says_anything_harms_only_its_own_requests),
        cmocka_unit_test(test_an_engine_that_idles_answers_the_warden),
        cmocka_unit_test(test_the_warden_hears_of_a_pass_unasked),
        cmocka_unit_test(test_an_engine_wakes_up_when_its_reader_does),
        cmocka_unit_test(test_an_engine_wakes_up_where_the_kernel_takes_a_line_at_once),
    };
    return cmocka_run_group_tests(tests, listen_alone, forget);
}
