/* cells_test.c - what the warden hands to cells: configuration, messages with descriptors, sockets, files. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/test.h"
#include "serve/cell_config.h"
#include "serve/config_write.h"
#include "serve/control.h"
#include "serve/poll.h"
#include "serve/sockets.h"

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    const int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* ---- Configuration of a cell ---- */

static void test_a_configuration_comes_back_as_it_went(void **state)
{
    (void)state;
    cell_config c, back;
    spark_err err;
    cell_config_defaults(&c);
    snprintf(c.name, sizeof c.name, "a \"name\"");
    snprintf(c.cpu, sizeof c.cpu, "avx2");
    c.n_links = 8;
    c.n_files = 3;
    c.max_memory = 6ull << 30;
    c.kv = SPARK_KV_TYPE_Q8_0;
    char *text = cell_config_text(&c);
    assert_non_null(text);
    assert_ok(cell_config_parse(&back, spark_bytes_of(text), &err));
    free(text);
    assert_string_equal(back.name, c.name);
    assert_string_equal(back.cpu, c.cpu);
    assert_int_equal(back.n_links, 8);
    assert_int_equal(back.n_files, 3);
    assert_int_equal(back.n_threads, c.n_threads);
    assert_int_equal(back.max_memory, c.max_memory);
    assert_int_equal(back.waiting_tokens, c.waiting_tokens);
    assert_int_equal(back.kv, SPARK_KV_TYPE_Q8_0);
    assert_true(back.prefix_cache);
}

static void test_a_configuration_out_of_range_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"\"n_threads\":2", "\"n_threads\":0"},       {"\"n_threads\":2", "\"n_threads\":257"},
        {"\"n_threads\":2", "\"n_threads\":\"2\""},   {"\"n_links\":0", "\"n_links\":9"},
        {"\"n_files\":0", "\"n_files\":-1"},          {"\"kv\":0", "\"kv\":3"},
        {"\"prefix_cache\":1", "\"prefix_cache\":2"}, {"\"name\":\"\"", "\"nome\":\"\""}};
    cell_config c;
    cell_config_defaults(&c);
    c.n_threads = 2;
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        char *text = cell_config_text(&c), *at = strstr(text, bad[i][0]), changed[1024];
        assert_non_null(at);
        snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, bad[i][1], at + strlen(bad[i][0]));
        spark_err err;
        assert_code(cell_config_parse(&c, spark_bytes_of(changed), &err), SPARK_E_FORMAT);
        free(text);
    }
}

static void test_settings_written_are_the_settings_read(void **state)
{
    (void)state;
    static const char text[] = "itl_target = 40ms\nlisten = tcp:127.0.0.1:1, unix:/x\nmemory = 6G\npage = yes\n"
                               "[model a]\nfile = \"/a \\\"b\\\".gguf\"\nctx = 512\n[model b]\nfile =\nkv = q8_0\n";
    spark_config *c = NULL, *back = NULL;
    char *written = NULL, *again = NULL;
    spark_err err;
    assert_ok(spark_config_create(&c, &err));
    assert_ok(spark_config_add_file(c, spark_bytes_of(text), "t", &err));
    assert_ok(spark_config_finish(c, &err));
    assert_ok(spark_config_write(c, &written, &err));
    assert_ok(spark_config_create(&back, &err));
    assert_ok(spark_config_add_file(back, spark_bytes_of(written), "w", &err));
    assert_ok(spark_config_finish(back, &err));
    assert_int_equal(back->itl_target, 40);
    assert_int_equal(back->memory, 6ull << 30);
    assert_true(back->page);
    assert_int_equal(back->n_models, 2);
    assert_string_equal(back->models[0].file, "/a \"b\".gguf");
    assert_int_equal(back->models[0].ctx, 512);
    assert_int_equal(back->models[1].kv, c->models[1].kv);
    assert_ok(spark_config_write(back, &again, &err));
    assert_string_equal(written, again);
    free(written);
    free(again);
    spark_config_destroy(&c);
    spark_config_destroy(&back);
}

/* ---- Control ---- */

static void test_messages_carry_text_and_descriptors(void **state)
{
    (void)state;
    static uint8_t buf[CONTROL_HEAD + CONTROL_TEXT_MAX];
    static char large[CONTROL_TEXT_MAX];
    int pair[2];
    spark_err err;
    bool has = false, closed = false;
    control_message m;
    memset(large, 'x', sizeof large);
    write_file("f", "hello", 0600);
    const int fd = open(path_of("f"), O_RDONLY | O_CLOEXEC);
    assert_ok(control_pair(pair, &err));
    assert_ok(control_receive(pair[1], buf, &m, &has, &closed, &err));
    assert_false(has || closed);
    assert_ok(control_send(pair[0],
                           &(control_message){.kind = CONTROL_MODEL,
                                              .arg = 7,
                                              .value = 1ull << 40,
                                              .text = {(const uint8_t *)large, sizeof large},
                                              .fds = {fd, fd},
                                              .n_fds = 2},
                           &err));
    assert_ok(control_receive(pair[1], buf, &m, &has, &closed, &err));
    assert_true(has);
    assert_int_equal(m.kind, CONTROL_MODEL);
    assert_int_equal(m.arg, 7);
    assert_int_equal(m.value, 1ull << 40);
    assert_int_equal(m.text.len, sizeof large);
    assert_int_equal(m.n_fds, 2);
    char text[8] = "";
    assert_int_equal(pread(m.fds[1], text, 8, 0), 5);
    assert_string_equal(text, "hello");
    assert_true(fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC);
    for (int i = 0; i < 2; i++) close(m.fds[i]);
    close(fd);
    close(pair[0]);
    assert_ok(control_receive(pair[1], buf, &m, &has, &closed, &err));
    assert_true(closed);
    close(pair[1]);
}

static void test_a_message_of_an_unknown_kind_is_an_error_and_leaks_no_descriptor(void **state)
{
    (void)state;
    static uint8_t buf[CONTROL_HEAD + CONTROL_TEXT_MAX];
    int pair[2];
    spark_err err;
    bool has, closed;
    control_message m;
    assert_ok(control_pair(pair, &err));
    const int before = dup(pair[0]);
    close(before);
    assert_ok(control_send(pair[0], &(control_message){.kind = CONTROL_N_KINDS, .fds = {pair[0]}, .n_fds = 1}, &err));
    assert_code(control_receive(pair[1], buf, &m, &has, &closed, &err), SPARK_E_FORMAT);
    const int after = dup(pair[0]);
    assert_int_equal(after, before);
    close(after);
    assert_true(write(pair[0], "short", 5) == 5);
    assert_code(control_receive(pair[1], buf, &m, &has, &closed, &err), SPARK_E_FORMAT);
    close(pair[0]);
    close(pair[1]);
}

/* ---- Sockets and files ---- */

static void test_a_unix_socket_is_its_owners_and_replaces_a_dead_one(void **state)
{
    (void)state;
    char text[160];
    snprintf(text, sizeof text, "unix:%s", path_of("s"));
    spark_listen l;
    spark_err err;
    struct stat st;
    int one = -1, two = -1;
    assert_ok(spark_listen_parse(text, &l, &err));
    assert_ok(spark_socket_listen(&l, &one, &err));
    assert_int_equal(stat(path_of("s"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_code(spark_socket_listen(&l, &two, &err), SPARK_E_IO);
    assert_non_null(strstr(err.text, "another program"));
    close(one); /* as one that was killed leaves it */
    assert_ok(spark_socket_listen(&l, &two, &err));
    close(two);
    unlink(path_of("s"));
    write_file("s", "a file", 0600);
    assert_code(spark_socket_listen(&l, &two, &err), SPARK_E_IO);
    assert_int_equal(stat(path_of("s"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void test_a_port_of_0_becomes_the_one_that_was_given(void **state)
{
    (void)state;
    static const char *const where[] = {"tcp:127.0.0.1:0", "tcp:[::1]:0"};
    for (size_t i = 0; i < SPARK_COUNT(where); i++) {
        spark_listen l, same;
        spark_err err;
        int fd = -1, other = -1;
        assert_ok(spark_listen_parse(where[i], &l, &err));
        if (i == 1 && !spark_ok(spark_socket_listen(&l, &fd, &err))) continue; /* a machine without IPv6 */
        if (i == 0) assert_ok(spark_socket_listen(&l, &fd, &err));
        assert_true(l.port != 0);
        same = l;
        assert_code(spark_socket_listen(&same, &other, &err), SPARK_E_IO);
        assert_non_null(strstr(err.text, "in use"));
        close(fd);
    }
}

static void test_secrets_that_others_can_read_are_refused(void **state)
{
    (void)state;
    static const mode_t bad[] = {0644, 0640, 0604, 0660, 0602};
    spark_err err;
    int fd = -1;
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        write_file("k", "secret", bad[i]);
        assert_code(spark_file_open(path_of("k"), true, &fd, &err), SPARK_E_REFUSED);
        assert_ok(spark_file_open(path_of("k"), false, &fd, &err));
        close(fd);
    }
    write_file("k", "secret", 0400);
    assert_ok(spark_file_open(path_of("k"), true, &fd, &err));
    close(fd);
    assert_code(spark_file_open(folder, false, &fd, &err), SPARK_E_IO);
    assert_code(spark_file_open("/dev/null", false, &fd, &err), SPARK_E_IO);
}

static void test_a_split_model_is_opened_whole_or_not_at_all(void **state)
{
    (void)state;
    int fds[4];
    uint32_t n = 0;
    char first[160], text[8];
    spark_err err;
    write_file("m-00001-of-00003.gguf", "1", 0600);
    write_file("m-00002-of-00003.gguf", "2", 0600);
    snprintf(first, sizeof first, "%s", path_of("m-00001-of-00003.gguf"));
    assert_code(spark_model_files_open(first, fds, 4, &n, &err), SPARK_E_IO);
    assert_int_equal(n, 0);
    write_file("m-00003-of-00003.gguf", "3", 0600);
    assert_code(spark_model_files_open(first, fds, 2, &n, &err), SPARK_E_LIMIT);
    assert_ok(spark_model_files_open(first, fds, 4, &n, &err));
    assert_int_equal(n, 3);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(pread(fds[i], text, 8, 0), 1);
        assert_int_equal(text[0], '1' + (int)i);
        close(fds[i]);
    }
    assert_ok(spark_model_files_open(path_of("m-00002-of-00003.gguf"), fds, 4, &n,
                                     &err)); /* alone: the cell will refuse it */
    assert_int_equal(n, 1);
    close(fds[0]);
}

static void test_systemd_is_told_where_it_asks(void **state)
{
    (void)state;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    assert_true(strlen(path_of("n")) < sizeof a.sun_path);
    memcpy(a.sun_path, path_of("n"), strlen(path_of("n")));
    const int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[32] = "";
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    spark_notify_systemd("READY=1"); /* nobody asked */
    setenv("NOTIFY_SOCKET", a.sun_path, 1);
    spark_notify_systemd("READY=1");
    assert_int_equal(recv(s, text, sizeof text, MSG_DONTWAIT), 7);
    assert_memory_equal(text, "READY=1", 7);
    assert_int_equal(recv(s, text, sizeof text, MSG_DONTWAIT), -1);
    unsetenv("NOTIFY_SOCKET");
    close(s);
}

/* ---- Waiting ---- */

static void test_more_descriptors_than_the_limit_are_an_error_and_none_has_anything(void **state)
{
    (void)state;
    struct rlimit old, low;
    struct pollfd p[8];
    spark_err err = {0};
    int ready = 0;
    for (size_t i = 0; i < SPARK_COUNT(p); i++) p[i] = (struct pollfd){.fd = -1, .events = POLLIN, .revents = POLLIN};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){SPARK_COUNT(p) - 1, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    const spark_status s = spark_poll(p, SPARK_COUNT(p), 0, &ready, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(s.code, SPARK_E_IO);
    assert_non_null(strstr(err.text, "8 descriptors"));
    for (size_t i = 0; i < SPARK_COUNT(p); i++) assert_int_equal(p[i].revents, 0);
    assert_true(spark_ok(spark_poll(p, SPARK_COUNT(p), 0, &ready, &err)));
    assert_int_equal(ready, 0);
}

static void on_alarm(int number) { (void)number; }

static void test_a_signal_that_comes_between_is_no_error_and_no_end_of_time(void **state)
{
    (void)state;
    const struct sigaction act = {.sa_handler = on_alarm};
    const struct itimerval soon = {.it_value = {0, 50000}};
    struct sigaction old;
    spark_err err = {0};
    int ready = 0;
    assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_true(spark_ok(spark_poll(NULL, 0, 10000, &ready, &err)));
    assert_int_equal(ready, -1);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/spark-cells-XXXXXX", P_tmpdir);
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {
        "f", "s", "k", "n", "m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    for (size_t i = 0; i < SPARK_COUNT(names); i++) unlink(path_of(names[i]));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_configuration_comes_back_as_it_went),
        cmocka_unit_test(test_a_configuration_out_of_range_is_refused_by_name),
        cmocka_unit_test(test_settings_written_are_the_settings_read),
        cmocka_unit_test(test_messages_carry_text_and_descriptors),
        cmocka_unit_test(test_a_message_of_an_unknown_kind_is_an_error_and_leaks_no_descriptor),
        cmocka_unit_test(test_a_unix_socket_is_its_owners_and_replaces_a_dead_one),
        cmocka_unit_test(test_a_port_of_0_becomes_the_one_that_was_given),
        cmocka_unit_test(test_secrets_that_others_can_read_are_refused),
        cmocka_unit_test(test_a_split_model_is_opened_whole_or_not_at_all),
        cmocka_unit_test(test_systemd_is_told_where_it_asks),
        cmocka_unit_test(test_more_descriptors_than_the_limit_are_an_error_and_none_has_anything),
        cmocka_unit_test(test_a_signal_that_comes_between_is_no_error_and_no_end_of_time),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
