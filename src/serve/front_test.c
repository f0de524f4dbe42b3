/* front_test.c - what the front promises its clients, beside an engine that this test plays: time, rights, bounds. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "serve/ask.h"
#include "serve/front_rig.h"
#include "serve/http_test_pki.h"
#include "serve/keys_file.h"

static const char on_use[] = "log_level = error\nlisten = unix:/x\n[model m]\nfile =\nload = use\n";

static int ask_with(const rig *r, const char *headers, const char *body)
{
    const int fd = dial(r);
    post_with(fd, "/v1/completions", headers, body);
    return fd;
}

/* The next ASK and its stream; texts of it are gone. */
static void take_ask_of(rig *r, uint64_t *stream, spark_ask *out)
{
    spark_wire_frame f;
    spark_arena *a = NULL;
    do assert_true(take(r, &f, WAIT_MS));
    while (f.type != SPARK_WIRE_ASK);
    *stream = f.stream;
    assert_ok(spark_arena_create(&a, BODY_MAX, NULL));
    assert_ok(spark_ask_decode(out, f.payload, a, NULL));
    spark_arena_destroy(&a);
}

static uint32_t take_deadline(rig *r, uint64_t *stream)
{
    spark_ask asked;
    take_ask_of(r, stream, &asked);
    return asked.deadline_ms;
}

/* ---- The time of a request ---- */

static void check_deadline(rig *r, const char *header, uint32_t least, uint32_t most)
{
    uint64_t s = 0;
    const int c = ask_with(r, header, one);
    const uint32_t ms = take_deadline(r, &s);
    if (ms < least || ms > most) fail_msg("'%s': %u ms, not %u to %u", header, ms, least, most);
    say_finished(r, s);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    close(c);
}

static void test_a_request_has_the_shorter_of_its_clients_and_the_operators_time(void **state)
{
    (void)state;
    rig r;
    start_served(&r, settings);
    check_deadline(&r, "", 0, 0);
    check_deadline(&r, "X-Request-Timeout-Ms: 60000\r\n", 50000, 60000);
    check_deadline(&r, "x-request-timeout-ms: 4294967295\r\n", UINT32_MAX - 10000, UINT32_MAX);
    stop(&r);
    start_served(&r, "log_level = error\nlisten = unix:/x\nrequest_timeout = 40s\n[model m]\nfile =\n");
    check_deadline(&r, "", 30000, 40000);
    check_deadline(&r, "X-Request-Timeout-Ms: 20000\r\n", 10000, 20000);
    check_deadline(&r, "X-Request-Timeout-Ms: 60000\r\n", 30000, 40000);
    stop(&r);
}

static void test_a_time_that_is_none_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "0", "", "-1", "+5", "5s", "1.5", "1e3", "0x10", "05", "4294967296", "99999999999999999999", "5, 6"};
    rig r;
    spark_wire_frame f;
    start_served(&r, settings);
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        char header[80];
        snprintf(header, sizeof header, "X-Request-Timeout-Ms: %s\r\n", bad[i]);
        const int c = ask_with(&r, header, one);
        const char *text = hear_client(c, "\"code\"", WAIT_MS);
        assert_said(text, "HTTP/1.1 400");
        assert_said(text, "\"param\":\"X-Request-Timeout-Ms\"");
        close(c);
    }
    assert_false(take(&r, &f, 0));
    stop(&r);
}

static void test_a_client_is_not_left_to_a_silent_engine_beyond_its_own_time(void **state)
{
    (void)state;
    rig r;
    uint64_t s = 0;
    start_served(&r, settings);
    const int c = ask_with(&r, "X-Request-Timeout-Ms: 200\r\n", one);
    (void)take_deadline(&r, &s);
    assert_said(hear_client(c, "deadline_exceeded", WAIT_MS), "HTTP/1.1 504");
    close(c);
    stop(&r);
}

static void test_a_wait_for_a_model_counts_and_ends_in_time(void **state)
{
    (void)state;
    rig r;
    uint64_t s = 0;
    start(&r, on_use);
    const uint64_t began = spark_clock_ns();
    const int hurried = ask_with(&r, "X-Request-Timeout-Ms: 300\r\n", one),
              patient = ask_with(&r, "X-Request-Timeout-Ms: 60000\r\n", one);
    assert_said(hear_client(hurried, "deadline_exceeded", WAIT_MS), "HTTP/1.1 504");
    const uint64_t passed = (spark_clock_ns() - began) / 1000000;
    assert_in_range(passed, 300, 5000);
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    assert_in_range(take_deadline(&r, &s), 1, 60000 - 300);
    say_finished(&r, s);
    assert_said(hear_client(patient, "choices", WAIT_MS), "200 OK");
    close(hurried);
    close(patient);
    stop(&r);
}

/* ---- Who waits for a model ---- */

/* What counts is not the body, which is gone once it is parsed, but the copy that is kept: here a little more. While it is parsed all of it lies there. */
static void test_bodies_of_those_who_wait_are_bounded_and_given_back_when_the_load_fails(void **state)
{
    (void)state;
    enum { EACH = 20000, WAITERS = 3 };
    static char body[EACH + 64];
    rig r;
    int c[WAITERS];
    start(&r,
          "log_level = error\nlisten = unix:/x\nmax_body = 32K\nmax_bodies = 120K\n[model m]\nfile =\nload = use\n");
    snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"%0*d\"}", EACH, 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < WAITERS; i++) c[i] = ask(&r, body);
        assert_true(hear(&r, CONTROL_LOAD, WAIT_MS));
        assert_string_equal(hear_client(c[WAITERS - 1], NULL, 200), "");
        const int more = ask(&r, body);
        const char *text = hear_client(more, "\"code\"", WAIT_MS);
        assert_said(text, "HTTP/1.1 503");
        assert_said(text, "\r\nRetry-After: ");
        assert_said(text, "overloaded");
        close(more);
        const int small = ask(&r, one); /* what fits is taken still */
        assert_string_equal(hear_client(small, NULL, 200), "");
        tell_model(&r, CONTROL_MODEL_FAILED);
        text = hear_client(small, "model_unavailable", WAIT_MS);
        assert_said(text, "finds the reason in the log");
        assert_null(strstr(text, "because")); /* it may name files */
        for (int i = 0; i < WAITERS; i++) {
            text = hear_client(c[i], "model_unavailable", WAIT_MS);
            assert_said(text, "HTTP/1.1 503");
            assert_said(text, "\r\nRetry-After: ");
            close(c[i]);
        }
        close(small);
    }
    stop(&r);
}

/* ---- Rights ---- */

static void new_key(const char *path, uint32_t rights, char text[SPARK_KEY_TEXT + 1])
{
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    w.routes |= rights;
    assert_ok(spark_key_new(path, &w, 1, text, NULL));
}

/* What the engine is told of who asks, for the key of a wish. */
static void take_asked(rig *r, const char *key, spark_ask *out)
{
    char header[160];
    uint64_t s = 0;
    snprintf(header, sizeof header, "Authorization: Bearer %.*s\r\n", SPARK_KEY_TEXT, key);
    const int c = ask_with(r, header, one);
    take_ask_of(r, &s, out);
    say_finished(r, s);
    assert_said(hear_client(c, "choices", WAIT_MS), "200 OK");
    close(c);
}

static void test_a_key_gives_its_requests_tenant_priority_and_context(void **state)
{
    (void)state;
    static const struct {
        const char *tenant;
        int32_t priority;
        uint32_t max_context;
    } rows[] = {{"wards", -7, 90}, {"wards", 1000, 0}, {"kitchen", 0, 0}, {NULL, 0, 0}, {NULL, 0, 0}};
    char path[64], lock[80], key[SPARK_COUNT(rows)][SPARK_KEY_TEXT + 1];
    spark_ask asked[SPARK_COUNT(rows)];
    rig r;
    snprintf(path, sizeof path, "/tmp/spark-front-keys-%d", (int)getpid());
    snprintf(lock, sizeof lock, "%s.lock", path);
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        spark_key_wish w;
        spark_key_wish_defaults(&w);
        w.tenant = rows[i].tenant;
        w.priority = rows[i].priority;
        w.max_context = rows[i].max_context;
        assert_ok(spark_key_new(path, &w, 1, key[i], NULL));
    }
    start_keyed(&r, settings, open(path, O_RDONLY | O_CLOEXEC));
    unlink(path);
    unlink(lock);
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    assert_true(hear(&r, CONTROL_SWITCHED, WAIT_MS));
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        take_asked(&r, key[i], &asked[i]);
        assert_int_equal(asked[i].priority, rows[i].priority);
        assert_int_equal(asked[i].n_ctx, rows[i].max_context);
        for (size_t k = 0; k < i; k++) /* only those of one name are one tenant */
            assert_int_equal(asked[i].tenant == asked[k].tenant, i == 1);
    }
    stop(&r);
}

static int generate_as(const rig *r, const char *key, const char *body)
{
    char header[160];
    const int fd = dial(r);
    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", key);
    post_with(fd, "/api/generate", header, body);
    return fd;
}

static void served_as(rig *r, const char *key, const char *body)
{
    const int c = generate_as(r, key, body);
    say_finished(r, take_ask(r));
    assert_said(hear_client(c, "done", WAIT_MS), "200 OK");
    close(c);
}

/* Whether the model stays until somebody says otherwise. */
static bool stays(const rig *r, const char *key)
{
    char head[160];
    const int fd = dial(r);
    const int n = snprintf(head, sizeof head,
                           "GET /api/ps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", key);
    assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
    const bool found = strstr(hear_client(fd, "]}", WAIT_MS), "\"expires_at\":\"2318-") != NULL;
    close(fd);
    return found;
}

static void test_a_model_is_unloaded_by_those_who_may(void **state)
{
    (void)state;
    static const char unload[] = "{\"model\":\"m\",\"keep_alive\":0}",
                      last[] = "{\"model\":\"m\",\"prompt\":\"x\",\"stream\":false,\"keep_alive\":0}",
                      keep[] = "{\"model\":\"m\",\"keep_alive\":-1}";
    char path[64], lock[80], user[SPARK_KEY_TEXT + 1], admin[SPARK_KEY_TEXT + 1];
    rig r;
    snprintf(path, sizeof path, "/tmp/spark-front-keys-%d", (int)getpid());
    snprintf(lock, sizeof lock, "%s.lock", path);
    new_key(path, 0, user);
    new_key(path, 1u << SPARK_ROUTE_ADMIN, admin);
    start_keyed(&r, on_use, open(path, O_RDONLY | O_CLOEXEC));
    unlink(path);
    unlink(lock);
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    assert_true(hear(&r, CONTROL_SWITCHED, WAIT_MS));
    assert_false(stays(&r, user));
    int c = generate_as(&r, admin, keep);
    assert_said(hear_client(c, "done", WAIT_MS), "200 OK");
    close(c);
    c = generate_as(&r, user, unload);
    const char *text = hear_client(c, "\"error\"", WAIT_MS);
    assert_said(text, "HTTP/1.1 403");
    assert_said(text, "'admin'");
    close(c);
    assert_true(stays(&r, user)); /* what is refused changes nothing */
    served_as(&r, user, last);    /* answered, and the model stays for the others */
    assert_false(hear(&r, CONTROL_UNLOAD, 600));
    served_as(&r, admin, last);
    assert_true(hear(&r, CONTROL_UNLOAD, WAIT_MS));
    c = generate_as(&r, admin, unload);
    assert_said(hear_client(c, "unload", WAIT_MS), "200 OK");
    close(c);
    stop(&r);
}

static void test_what_is_refused_is_counted_by_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *body, *reason;
    } rows[] = {{"{\"model\":\"none\",\"prompt\":\"x\"}", "model"},
                {"{\"model\":\"m\",\"prompt\":\"x\",\"temprature\":1}", "unsupported"},
                {"{\"model\":", "malformed"}};
    rig r;
    start_served(&r, settings);
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        char name[64];
        snprintf(name, sizeof name, "spark_refused_total{reason=\"%s\"}", rows[i].reason);
        assert_true(metric(&r, name) == 0);
        const int c = ask(&r, rows[i].body);
        assert_said(hear_client(c, "\"code\"", WAIT_MS), "HTTP/1.1 4");
        close(c);
        assert_true(metric(&r, name) == 1);
    }
    const int c = ask(&r, one);
    uint8_t out[SPARK_FAILED_BYTES];
    spark_failed_message full = {.retry_ms = 1500};
    spark_err_set(&full.err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the queue is full");
    const size_t len = spark_put_failed(out, &full);
    say(&r, SPARK_WIRE_FAILED, take_ask(&r), out, len);
    assert_said(hear_client(c, "\"code\"", WAIT_MS), "HTTP/1.1 429");
    assert_true(metric(&r, "spark_refused_total{reason=\"queue\"}") == 1);
    close(c);
    stop(&r);
}

static void test_what_never_became_a_request_is_counted_too(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *reason;
    } rows[] = {{"GET /metrics HTTP/1.1\nHost: a\n\n", "malformed"},
                {"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", "too_large"},
                {"GET /metrics HTTP/1.1\r\n", "timeout"}};
    rig r;
    start_served(&r, "log_level = error\nlisten = unix:/x\nhead_timeout = 300ms\n[model m]\nfile =\n");
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        char name[64];
        snprintf(name, sizeof name, "spark_refused_total{reason=\"%s\"}", rows[i].reason);
        const int c = dial(&r);
        assert_int_equal(send(c, rows[i].raw, strlen(rows[i].raw), MSG_NOSIGNAL), strlen(rows[i].raw));
        assert_said(hear_client(c, "\"code\"", WAIT_MS), "HTTP/1.1 4");
        close(c);
        assert_true(metric(&r, name) == 1);
    }
    stop(&r);
}

/* ---- Health ---- */

static void check_health(const rig *r, int live, int startup, int ready)
{
    static const char *const paths[] = {"/health/live", "/health/startup", "/health/ready", "/health", "/v1/health"};
    const int want[] = {live, startup, ready, ready, ready};
    for (size_t i = 0; i < SPARK_COUNT(paths); i++) {
        char text[128];
        const int c = dial(r);
        const int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[i]);
        assert_int_equal(send(c, text, (size_t)n, MSG_NOSIGNAL), n);
        snprintf(text, sizeof text, "HTTP/1.1 %d ", want[i]);
        assert_said(hear_client(c, "}", WAIT_MS), text);
        close(c);
    }
}

static void test_health_tells_start_readiness_and_life_apart(void **state)
{
    (void)state;
    rig r;
    start(&r, settings);
    check_health(&r, 200, 503, 503);
    tell_model(&r, CONTROL_MODEL_LOADING);
    check_health(&r, 200, 503, 503);
    tell_model(&r, CONTROL_MODEL_READY);
    say_ready(&r, card);
    assert_true(hear(&r, CONTROL_SWITCHED, WAIT_MS));
    check_health(&r, 200, 200, 200);
    close(r.link);
    assert_true(hear(&r, CONTROL_REFUSED, WAIT_MS)); /* it has seen that its engine is gone */
    r.link = -1;
    check_health(&r, 200, 200, 503);
    stop(&r);
    start(&r, on_use); /* who waits for a request is ready to take one */
    check_health(&r, 200, 200, 200);
    stop(&r);
}

/* ---- The log ---- */

static int file_of(const void *bytes, size_t len)
{
    const int fd = memfd_create("file", MFD_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes, len, 0), len);
    return fd;
}

static void reload(rig *r, control_kind kind, const void *bytes, size_t len)
{
    const int fd = file_of(bytes, len);
    tell(r, &(control_message){.kind = kind, .fds = {fd}, .n_fds = 1});
    close(fd);
}

static void reload_tls(rig *r, spark_bytes cert, spark_bytes key)
{
    const int fds[] = {file_of(cert.ptr, cert.len), file_of(key.ptr, key.len)};
    tell(r, &(control_message){.kind = CONTROL_TLS, .fds = {fds[0], fds[1]}, .n_fds = 2});
    close(fds[0]);
    close(fds[1]);
}

static void await_logged(int log, const char *what)
{
    char text[8192] = "";
    for (int i = 0; i < WAIT_MS / 10; i++) {
        const ssize_t n = pread(log, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        if (strstr(text, what)) return;
        (void)poll(NULL, 0, 10);
    }
    fail_msg("no '%s' in '%s'", what, text);
}

static void test_a_reload_is_told_with_what_holds_or_where_the_file_is_wrong(void **state)
{
    (void)state;
    static const char wrong[] = "version = 1\n# a remark\nnonsense = 5\n";
    spark_key_wish w;
    char key[SPARK_KEY_TEXT + 1];
    uint8_t *file = NULL;
    size_t len = 0;
    rig r;
    const int log = file_of("", 0), screen = dup(STDERR_FILENO);
    (void)dup2(log, STDERR_FILENO);
    start(&r, "log_format = json\nlisten = unix:/x\n[model m]\nfile =\n");
    (void)dup2(screen, STDERR_FILENO);
    close(screen);
    spark_key_wish_defaults(&w);
    assert_ok(spark_key_mint(&w, 1, key, &file, &len, NULL));
    reload(&r, CONTROL_KEYS, file, len);
    await_logged(log, "\"event\":\"reloaded\",\"cell\":\"front\",\"what\":\"keys\",\"keys\":1}");
    reload(&r, CONTROL_KEYS, wrong, sizeof wrong - 1);
    await_logged(log, "\"event\":\"reload_keys_failed\"");
    await_logged(log, ",\"line\":3}");
    free(file);
    test_pki p, other;
    test_pki_create(&p);
    test_pki_create(&other);
    reload_tls(&r, p.cert, p.key);
    await_logged(log, "\"event\":\"reloaded\",\"cell\":\"front\",\"what\":\"tls\",\"expires\":\"2");
    reload_tls(&r, p.cert, other.key);
    await_logged(log, "\"event\":\"reload_tls_failed\"");
    test_pki_destroy(&p);
    test_pki_destroy(&other);
    close(log);
    stop(&r);
}

static void test_the_warden_hears_whether_what_it_offered_holds_and_failures_are_counted(void **state)
{
    (void)state;
    rig r;
    test_pki p;
    start(&r, settings);
    test_pki_create(&p);
    const double ok = metric(&r, "spark_reloads_total{result=\"ok\"}");
    reload_tls(&r, p.cert, p.key);
    assert_true(hear(&r, CONTROL_TAKEN, WAIT_MS));
    assert_int_equal(heard_value, 1);
    reload(&r, CONTROL_KEYS, "nonsense", 8);
    assert_true(hear(&r, CONTROL_TAKEN, WAIT_MS));
    assert_int_equal(heard_value, 0);
    assert_true(metric(&r, "spark_reloads_total{result=\"failed\"}") == 1);
    tell(&r, &(control_message){.kind = CONTROL_KEYS, .arg = CONTROL_UNREAD});
    tell(&r, &(control_message){.kind = CONTROL_TLS, .arg = CONTROL_UNREAD});
    tell(&r, &(control_message){.kind = CONTROL_PING}); /* what was to be read is read */
    assert_true(hear(&r, CONTROL_PONG, WAIT_MS));
    assert_true(metric(&r, "spark_reloads_total{result=\"failed\"}") == 3);
    assert_true(metric(&r, "spark_reloads_total{result=\"ok\"}") == ok + 1);
    test_pki_destroy(&p);
    stop(&r);
}

/* ---- What ends ---- */

static const char *metrics_text(const rig *r)
{
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    const int c = dial(r);
    assert_int_equal(send(c, get, sizeof get - 1, MSG_NOSIGNAL), sizeof get - 1);
    const char *text = hear_client(c, NULL, WAIT_MS);
    close(c);
    return text;
}

static void test_the_ends_of_keys_and_certificate_are_shown_and_no_ids(void **state)
{
    (void)state;
    char path[64], lock[80], text[SPARK_KEY_TEXT + 1], id[SPARK_KEY_ID + 1];
    const int64_t now = (int64_t)time(NULL), ends[] = {0, now + 5000, now + 4000, now - 10, now + 100};
    rig r;
    test_pki p;
    start(&r, settings);
    assert_null(strstr(metrics_text(&r), "\nspark_tls_certificate_expiry_seconds "));
    assert_null(strstr(metrics_text(&r), "\nspark_key_expiry_seconds "));
    snprintf(path, sizeof path, "/tmp/spark-front-ends-%d", (int)getpid());
    snprintf(lock, sizeof lock, "%s.lock", path);
    for (size_t i = 0; i < SPARK_COUNT(ends); i++) {
        spark_key_wish w;
        spark_key_wish_defaults(&w);
        w.expires = ends[i];
        assert_ok(spark_key_new(path, &w, now - 100, text, NULL));
    }
    snprintf(id, sizeof id, "%.*s", SPARK_KEY_ID, text + 9);
    assert_ok(spark_key_revoke(path, id, now, id, NULL)); /* the last, which would have been the first to expire */
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    tell(&r, &(control_message){.kind = CONTROL_KEYS, .fds = {fd}, .n_fds = 1});
    assert_true(hear(&r, CONTROL_TAKEN, WAIT_MS));
    close(fd);
    unlink(path);
    unlink(lock);
    assert_true(metric(&r, "spark_keys{state=\"valid\"}") == 3);
    assert_true(metric(&r, "spark_keys{state=\"expired\"}") == 1);
    assert_true(metric(&r, "spark_keys{state=\"revoked\"}") == 1);
    assert_true(metric(&r, "spark_key_expiry_seconds") == (double)(now + 4000));
    test_pki_create(&p);
    reload_tls(&r, p.cert, p.key);
    assert_true(hear(&r, CONTROL_TAKEN, WAIT_MS));
    const double left = metric(&r, "spark_tls_certificate_expiry_seconds") - (double)now;
    assert_true(left >= 86400 && left <= 86400 + 60);
    assert_null(strstr(metrics_text(&r), id));
    test_pki_destroy(&p);
    stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_has_the_shorter_of_its_clients_and_the_operators_time),
        cmocka_unit_test(test_a_time_that_is_none_is_refused_by_name),
        cmocka_unit_test(test_a_client_is_not_left_to_a_silent_engine_beyond_its_own_time),
        cmocka_unit_test(test_a_wait_for_a_model_counts_and_ends_in_time),
        cmocka_unit_test(test_bodies_of_those_who_wait_are_bounded_and_given_back_when_the_load_fails),
        cmocka_unit_test(test_a_key_gives_its_requests_tenant_priority_and_context),
        cmocka_unit_test(test_a_model_is_unloaded_by_those_who_may),
        cmocka_unit_test(test_what_is_refused_is_counted_by_its_reason),
        cmocka_unit_test(test_what_never_became_a_request_is_counted_too),
        cmocka_unit_test(test_health_tells_start_readiness_and_life_apart),
        cmocka_unit_test(test_a_reload_is_told_with_what_holds_or_where_the_file_is_wrong),
        cmocka_unit_test(test_the_warden_hears_whether_what_it_offered_holds_and_failures_are_counted),
        cmocka_unit_test(test_the_ends_of_keys_and_certificate_are_shown_and_no_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
