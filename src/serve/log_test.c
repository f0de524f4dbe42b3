/* log_test.c - lines of the log are JSON whatever goes in, and never wait for their reader. */
#include "serve/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/test.h"

static spark_log_clock clock_now = {1000000000000u, 1795286894, 250};
static spark_log_clock test_clock(void) { return clock_now; }

typedef struct fixture {
    spark_log *log;
    int out, in;
    char *text; /* what read_all found */
} fixture;

static fixture on_pipe(spark_log_format format, bool prompts)
{
    int fd[2];
    assert_int_equal(pipe2(fd, O_NONBLOCK), 0);
    const spark_log_options o = {fd[1], SPARK_LOG_INFO, format, prompts, NULL, test_clock};
    fixture f = {.in = fd[0], .out = fd[1]};
    assert_ok(spark_log_create(&f.log, &o, NULL));
    return f;
}

static const char *read_all(fixture *f)
{
    size_t len = 0;
    enum { CAP = 1 << 20 };
    free(f->text);
    f->text = malloc(CAP);
    assert_non_null(f->text);
    for (ssize_t n = 1; n > 0; len += n > 0 ? (size_t)n : 0) n = read(f->in, f->text + len, CAP - 1 - len);
    f->text[len] = 0;
    return f->text;
}

static void drop(fixture *f)
{
    spark_log_destroy(&f->log);
    close(f->in);
    close(f->out);
    free(f->text);
}

/* The only line of the pipe, as an object. */
static json_t *one_line(fixture *f)
{
    json_error_t e;
    const char *text = read_all(f);
    const size_t len = strlen(text);
    assert_true(len > 0 && len <= SPARK_LOG_LINE);
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!j) fail_msg("%s: %s", e.text, text);
    return j;
}

static void test_a_line_is_an_object_with_time_level_and_event(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_AUTO, false);
    const spark_log_request r = {.id = "req-1",
                                 .method = "POST",
                                 .route = "/v1/chat/completions",
                                 .key = "abcdefghij",
                                 .status = 200,
                                 .model = "demo",
                                 .finish = "stop",
                                 .prompt_tokens = 12,
                                 .completion_tokens = 34,
                                 .ttft_ns = 1234567,
                                 .total_ns = 5000};
    spark_log_answered(f.log, &r);
    assert_string_equal(read_all(&f),
                        "{\"ts\":\"2026-11-21T18:48:14.250Z\",\"level\":\"info\",\"event\":\"request\",\"request\":"
                        "\"req-1\",\"method\":\"POST\","
                        "\"route\":\"/v1/chat/"
                        "completions\",\"status\":200,\"key\":\"abcdefghij\",\"model\":\"demo\",\"finish\":\"stop\","
                        "\"prompt_tokens\":12,\"completion_tokens\":34,\"ttft_ms\":1.234,\"total_ms\":0.005}\n");
    drop(&f);
}

static void test_any_bytes_make_one_line_of_json(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_JSON, true);
    uint32_t rng = 1;
    uint8_t bytes[3000];
    for (int round = 0; round < 500; round++) {
        size_t len = 0;
        for (; len < (size_t)(round * 6); len++) {
            rng = rng * 1664525u + 1013904223u;
            bytes[len] = (uint8_t)(round % 3 ? rng >> 24 : rng >> 27); /* of all kinds, and control codes only */
        }
        spark_log_begin(f.log, SPARK_LOG_INFO, "odd");
        spark_log_bytes(f.log, "a", (spark_bytes){bytes, len});
        spark_log_private(f.log, "b", (spark_bytes){bytes, len});
        spark_log_private(f.log, "c", (spark_bytes){bytes, len});
        spark_log_u64(f.log, "n", INT64_MAX);
        spark_log_end(f.log);
        json_decref(one_line(&f));
    }
    drop(&f);
}

static void test_nothing_reaches_a_terminal_that_moves_it(void **state)
{
    (void)state;
    static const char nasty[] = "a\x1b[2J\r\n\x7f\xc2\x9b\xe2\x80\xae\xe2\x80\xa8\xef\xbb\xbf\x80z";
    for (int format = SPARK_LOG_JSON; format <= SPARK_LOG_READABLE; format++) {
        fixture f = on_pipe((spark_log_format)format, false);
        spark_log_begin(f.log, SPARK_LOG_WARN, "odd");
        spark_log_text(f.log, "value", nasty);
        spark_log_end(f.log);
        const char *text = read_all(&f);
        assert_non_null(strstr(text, "\"a\\u001b[2J\\u000d\\u000a\\u007f\\u009b\\u202e\\u2028\\ufeff\xef\xbf\xbdz\""));
        for (const char *at = text; at[1]; at++) assert_true((unsigned char)*at >= 0x20);
        drop(&f);
    }
}

static void test_the_readable_form_quotes_only_what_needs_it(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_READABLE, false);
    spark_log_begin(f.log, SPARK_LOG_WARN, "reload");
    spark_log_text(f.log, "file", "/etc/keys");
    spark_log_text(f.log, "name", "ward 7");
    spark_log_text(f.log, "empty", "");
    spark_log_text(f.log, "none", NULL);
    spark_log_i64(f.log, "n", -5);
    spark_log_end(f.log);
    assert_string_equal(read_all(&f), "18:48:14.250Z warn reload file=/etc/keys name=\"ward 7\" empty=\"\" n=-5\n");
    drop(&f);
}

static void test_prompts_are_written_only_if_it_was_said(void **state)
{
    (void)state;
    for (int prompts = 0; prompts < 2; prompts++) {
        fixture f = on_pipe(SPARK_LOG_JSON, prompts);
        spark_log_begin(f.log, SPARK_LOG_INFO, "request");
        spark_log_private(f.log, "prompt", spark_bytes_of("my secret illness"));
        spark_log_end(f.log);
        assert_true((strstr(read_all(&f), "illness") != NULL) == prompts);
        drop(&f);
    }
}

/* Bytes of a text that a line took, and whether the line tells that there is more. */
static size_t private_line(fixture *f, spark_bytes text, bool cut)
{
    spark_log_begin(f->log, SPARK_LOG_INFO, "prompt");
    const size_t taken = spark_log_private(f->log, "text", text);
    if (cut) spark_log_cut(f->log);
    spark_log_end(f->log);
    return taken;
}

static void test_a_long_text_goes_over_lines_by_whole_characters(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_JSON, true);
    char text[9000], back[9000] = "";
    for (size_t i = 0; i < sizeof text; i += 3) memcpy(text + i, i % 2 ? "\xe2\x82\xac" : "\n\"x", 3);
    size_t n_lines = 0;
    for (size_t at = 0, taken = 0; at < sizeof text; at += taken, n_lines++) {
        taken = private_line(&f, (spark_bytes){(const uint8_t *)text + at, sizeof text - at}, false);
        assert_in_range(taken, 1, SPARK_LOG_PRIVATE);
        json_t *j = one_line(&f);
        const json_t *v = json_object_get(j, "text");
        assert_int_equal(json_string_length(v), taken);
        memcpy(back + at, json_string_value(v), taken);
        assert_null(json_object_get(j, "cut"));
        json_decref(j);
    }
    assert_memory_equal(back, text, sizeof text);
    assert_true(n_lines > 5);
    assert_int_equal(private_line(&f, spark_bytes_of("abc"), true), 3);
    json_t *j = one_line(&f);
    assert_true(json_is_true(json_object_get(j, "cut")));
    json_decref(j);
    drop(&f);
}

static void test_private_texts_are_taken_only_where_they_are_written(void **state)
{
    (void)state;
    const spark_log_level levels[] = {SPARK_LOG_WARN, SPARK_LOG_INFO};
    for (int prompts = 0; prompts < 2; prompts++)
        for (size_t i = 0; i < SPARK_COUNT(levels); i++) {
            fixture f = on_pipe(SPARK_LOG_JSON, prompts);
            spark_log *own = f.log;
            const spark_log_options o = {f.out, levels[i], SPARK_LOG_JSON, prompts, NULL, test_clock};
            assert_ok(spark_log_create(&f.log, &o, NULL));
            const bool takes = prompts && levels[i] == SPARK_LOG_INFO;
            assert_int_equal(spark_log_takes_private(f.log), takes);
            assert_int_equal(private_line(&f, spark_bytes_of("abc"), false), takes ? 3 : 0);
            spark_log_destroy(&f.log);
            f.log = own;
            drop(&f);
        }
    assert_false(spark_log_takes_private(NULL));
    assert_int_equal(spark_log_private(NULL, "text", spark_bytes_of("abc")), 0);
    spark_log_cut(NULL);
}

static void test_levels_below_the_asked_one_are_silent(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_JSON, false);
    spark_log_say(f.log, SPARK_LOG_DEBUG, "quiet", "x");
    spark_log_begin_limited(f.log, SPARK_LOG_DEBUG, "quiet");
    spark_log_text(f.log, "a", "b");
    spark_log_end(f.log);
    assert_string_equal(read_all(&f), "");
    spark_log_say(f.log, SPARK_LOG_INFO, "loud", "%d words", 3);
    assert_non_null(strstr(read_all(&f), "\"message\":\"3 words\""));
    spark_log_begin(NULL, SPARK_LOG_ERROR, "nobody");
    spark_log_text(NULL, "a", "b");
    spark_log_end(NULL);
    spark_log_tick(NULL);
    drop(&f);
}

static void test_a_full_line_leaves_fields_out_and_says_so(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_JSON, true);
    char name[16], value[600];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    spark_log_begin(f.log, SPARK_LOG_INFO, "much");
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "f%d", i);
        spark_log_text(f.log, name, value);
        spark_log_u64(f.log, "n", (uint64_t)i);
    }
    spark_log_end(f.log);
    const char *text = read_all(&f);
    const size_t len = strlen(text);
    assert_true(len <= SPARK_LOG_LINE);
    assert_string_equal(text + len - 12, "\"cut\":true}\n");
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_string_length(json_object_get(j, "f0")), SPARK_LOG_TEXT - 2);
    assert_null(json_object_get(j, "f29"));
    json_decref(j);
    drop(&f);
}

static void test_a_pipe_that_nobody_reads_never_blocks(void **state)
{
    (void)state;
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        int fd[2];
        assert_int_equal(pipe(fd), 0);
        const int out = nonblocking ? spark_log_nonblocking(fd[1]) : fd[1];
        assert_true((out != fd[1]) == nonblocking);
        assert_int_equal(fcntl(fd[1], F_GETFL) & O_NONBLOCK, 0); /* who else has it is not changed */
        const spark_log_options o = {out, SPARK_LOG_INFO, SPARK_LOG_JSON, false, NULL, test_clock};
        fixture f = {.in = fd[0], .out = fd[1]};
        assert_ok(spark_log_create(&f.log, &o, NULL));
        alarm(20);
        for (int i = 0; i < 10000; i++) spark_log_say(f.log, SPARK_LOG_INFO, "flood", "line %d", i);
        alarm(0);
        const uint64_t lost = spark_log_dropped(f.log);
        assert_true(lost > 5000);
        fcntl(f.in, F_SETFL, O_NONBLOCK);
        const char *text = read_all(&f);
        assert_int_equal(text[strlen(text) - 1], '\n');
        spark_log_say(f.log, SPARK_LOG_INFO, "after", "x");
        char told[64];
        snprintf(told, sizeof told, "\"event\":\"log_dropped\",\"lines\":%llu}\n{", (unsigned long long)lost);
        assert_non_null(strstr(read_all(&f), told));
        spark_log_tick(f.log);
        assert_string_equal(read_all(&f), ""); /* told once */
        if (out != fd[1]) close(out);
        drop(&f);
    }
}

static void test_a_socket_that_takes_half_a_line_gets_the_rest_first(void **state)
{
    (void)state;
    int fd[2], size = 1; /* the kernel makes it its least */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    assert_int_equal(spark_log_nonblocking(fd[1]), fd[1]);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    const spark_log_options o = {fd[1], SPARK_LOG_INFO, SPARK_LOG_JSON, true, NULL, test_clock};
    fixture f = {.in = fd[0], .out = fd[1]};
    assert_ok(spark_log_create(&f.log, &o, NULL));
    char big[1800];
    memset(big, 'y', sizeof big);
    char *all = NULL;
    size_t len = 0, lines = 0;
    FILE *collected = open_memstream(&all, &len);
    for (int i = 0; i < 200; i++) {
        spark_log_begin(f.log, SPARK_LOG_INFO, "big");
        spark_log_private(f.log, "text", (spark_bytes){(const uint8_t *)big, sizeof big - (size_t)(i * 7 % 900)});
        spark_log_end(f.log);
        if (i % 5 == 4) fputs(read_all(&f), collected);
    }
    for (int i = 0; i < 3; i++) {
        spark_log_say(f.log, SPARK_LOG_INFO, "last", "x");
        fputs(read_all(&f), collected);
    }
    fclose(collected);
    for (char *line = all, *next; *line; line = next) {
        next = strchr(line, '\n');
        assert_non_null(next);
        *next++ = 0;
        json_t *j = json_loads(line, 0, NULL);
        if (!j) fail_msg("no JSON: %s", line);
        json_decref(j);
        lines++;
    }
    assert_true(lines > 20);
    free(all);
    drop(&f);
}

static void test_a_reader_that_left_costs_a_line_and_nothing_else(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    fixture f = on_pipe(SPARK_LOG_JSON, false);
    close(f.in);
    spark_log_say(f.log, SPARK_LOG_INFO, "to_nobody", "x");
    assert_int_equal(spark_log_dropped(f.log), 1);
    f.in = open("/dev/null", O_RDONLY);
    drop(&f);
}

static void test_repeats_are_held_back_and_counted(void **state)
{
    (void)state;
    fixture f = on_pipe(SPARK_LOG_JSON, false);
    for (int i = 0; i < 100; i++) {
        spark_log_begin_limited(f.log, SPARK_LOG_WARN, "refused");
        spark_log_u64(f.log, "i", (uint64_t)i);
        spark_log_end(f.log);
    }
    const char *text = read_all(&f);
    size_t lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) lines++;
    assert_int_equal(lines, 20);
    spark_log_begin_limited(f.log, SPARK_LOG_WARN, "another");
    spark_log_end(f.log);
    assert_non_null(strstr(read_all(&f), "another"));
    clock_now.ns += 200000000u;
    spark_log_begin_limited(f.log, SPARK_LOG_WARN, "refused");
    spark_log_end(f.log);
    assert_non_null(strstr(read_all(&f), "\"event\":\"refused\",\"repeats\":80}"));
    spark_log_begin_limited(f.log, SPARK_LOG_WARN, "refused");
    spark_log_end(f.log);
    assert_string_equal(read_all(&f), "");
    spark_log_tick(f.log);
    assert_string_equal(read_all(&f), "");
    clock_now.ns += 1000000000u;
    spark_log_tick(f.log);
    assert_non_null(strstr(read_all(&f), "\"event\":\"refused\",\"repeats\":1}"));
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_is_an_object_with_time_level_and_event),
        cmocka_unit_test(test_any_bytes_make_one_line_of_json),
        cmocka_unit_test(test_nothing_reaches_a_terminal_that_moves_it),
        cmocka_unit_test(test_the_readable_form_quotes_only_what_needs_it),
        cmocka_unit_test(test_prompts_are_written_only_if_it_was_said),
        cmocka_unit_test(test_levels_below_the_asked_one_are_silent),
        cmocka_unit_test(test_a_long_text_goes_over_lines_by_whole_characters),
        cmocka_unit_test(test_private_texts_are_taken_only_where_they_are_written),
        cmocka_unit_test(test_a_full_line_leaves_fields_out_and_says_so),
        cmocka_unit_test(test_a_pipe_that_nobody_reads_never_blocks),
        cmocka_unit_test(test_a_socket_that_takes_half_a_line_gets_the_rest_first),
        cmocka_unit_test(test_a_reader_that_left_costs_a_line_and_nothing_else),
        cmocka_unit_test(test_repeats_are_held_back_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
