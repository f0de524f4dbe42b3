/* jail_cell_test.c - cells as a warden sees them: they start at every level that is granted here, keep what they were given and nothing
 * else, end with their warden. This program is its own cell: main hands over first thing, as `spark` does. */
#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail.h"

/* ---- The cell: closes its doors, starts a thread before the first filter, then answers what it is asked ---- */

typedef struct cell_answer {
    int code; /* spark_code of the last step */
    spark_jail_level level;
    pid_t pid;
    uid_t uid;
    int first_free; /* the descriptor that the next open would take: all below are in use */
    uint64_t max_files, max_file_size, max_core, max_memory; /* rlimits that cannot be raised again; 12345: not so */
    bool has_environment;
    char error[SPARK_ERR_TEXT];
} cell_answer;

static pthread_barrier_t cell_reported_in;

static void *cell_thread(void *arg)
{
    char byte;
    const int *pipe_end = arg;
    (void)pthread_barrier_wait(&cell_reported_in);
    (void)!read(*pipe_end, &byte, 1); /* never comes: the thread only has to be there when the filters come */
    return NULL;
}

static uint64_t cell_limit(int resource)
{
    struct rlimit limit = {0};
    return getrlimit((__rlimit_resource_t)resource, &limit) == 0 && limit.rlim_cur == limit.rlim_max ? limit.rlim_max
                                                                                                     : 12345;
}

static void cell_read_limits(cell_answer *a)
{
    a->max_files = cell_limit(RLIMIT_NOFILE);
    a->max_file_size = cell_limit(RLIMIT_FSIZE);
    a->max_core = cell_limit(RLIMIT_CORE);
    a->max_memory = cell_limit(RLIMIT_AS);
    a->has_environment = environ && environ[0];
}

static spark_status cell_close_doors(const spark_jail_spec *spec, cell_answer *a, int pipe_end, spark_err *err)
{
    spark_jail_report report;
    pthread_t thread;
    SPARK_TRY(spark_jail_enter(spec, &report, err));
    a->level = report.level;
    a->pid = getpid();
    a->uid = getuid();
    cell_read_limits(a);
    if (spec->n_threads > 1) {
        (void)pthread_barrier_init(&cell_reported_in, NULL, 2);
        SPARK_CHECK(pthread_create(&thread, NULL, cell_thread, &pipe_end) == 0, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE,
                    "no thread");
        (void)pthread_barrier_wait(&cell_reported_in);
    }
    SPARK_TRY(spark_jail_open_phase(spec, err));
    return spark_jail_serve_phase(spec, err);
}

static int cell_main(const spark_jail_spec *spec)
{
    cell_answer a = {0};
    spark_err err = {0};
    char byte = 0;
    int ends[2];
    a.first_free = dup(0);
    close(a.first_free);
    if (pipe(ends) != 0) return 1;
    a.code = (int)cell_close_doors(spec, &a, ends[0], &err).code;
    memcpy(a.error, err.text, sizeof a.error);
    if (write(SPARK_JAIL_FIRST_FD, &a, sizeof a) != (ssize_t)sizeof a) return 1;
    while (read(SPARK_JAIL_FIRST_FD, &byte, 1) == 1) {
        if (byte == 'q') _exit(42);
        if (byte == 'k') _exit(open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0);
        if (write(SPARK_JAIL_FIRST_FD, &byte, 1) != 1) _exit(1);
    }
    _exit(0);
}

/* ---- The warden ---- */

enum { CELL_MEMORY = 1 << 30, CELL_FILES = 77 };

typedef struct started {
    spark_jail_cell cell;
    int link;
    cell_answer answer;
} started;

static void start_with(started *s, spark_jail_role role, spark_jail_level level, int given)
{
    int pair[2];
    spark_err err = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const int fds[] = {pair[1], given};
    const spark_jail_spec spec = {.role = role,
                                  .level = level,
                                  .fds = fds,
                                  .n_fds = 2,
                                  .n_threads = 2,
                                  .max_memory = CELL_MEMORY,
                                  .max_files = CELL_FILES,
                                  .uid = spark_jail_uid(7),
                                  .name = "test cell"};
    const spark_status status = spark_jail_start(&s->cell, &spec, &err);
    if (!spark_ok(status)) fail_msg("%s", err.text);
    close(pair[1]);
    s->link = pair[0];
    assert_int_equal(read(s->link, &s->answer, sizeof s->answer), sizeof s->answer);
    if (s->answer.code != SPARK_OK) fail_msg("%s", s->answer.error);
}

static void start(started *s, spark_jail_role role, spark_jail_level level)
{
    start_with(s, role, level, STDERR_FILENO);
}

/* Its wait status. */
static int end(started *s, char how)
{
    int status = 0;
    assert_int_equal(write(s->link, &how, 1), 1);
    struct pollfd ended = {.fd = s->cell.pidfd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 10000), 1);
    assert_int_equal(waitpid(s->cell.pid, &status, 0), s->cell.pid);
    close(s->cell.pidfd);
    close(s->link);
    return status;
}

static spark_jail_report probe(void)
{
    spark_jail_report r;
    spark_err err = {0};
    if (!spark_ok(spark_jail_probe(&r, &err))) fail_msg("%s", err.text);
    return r;
}

static spark_jail_level granted(void) { return probe().level; }

static bool holds(const char *means)
{
    const spark_jail_report r = probe();
    for (uint32_t i = 0; i < r.n_means; i++)
        if (strcmp(r.means[i].name, means) == 0) return r.means[i].holds;
    return false;
}

static void each_level(void (*test)(spark_jail_role role, spark_jail_level level))
{
    for (spark_jail_level level = SPARK_JAIL_OFF; level <= granted(); level++)
        for (spark_jail_role role = 0; role < SPARK_JAIL_N_ROLES; role++) test(role, level);
}

static void serves(spark_jail_role role, spark_jail_level level)
{
    started s;
    char byte = 'a';
    start(&s, role, level);
    assert_int_equal(s.answer.level, level);
    assert_int_equal(write(s.link, &byte, 1), 1);
    assert_int_equal(read(s.link, &byte, 1), 1);
    assert_int_equal(byte, 'a');
    assert_int_equal(WEXITSTATUS(end(&s, 'q')), 42);
}

static void test_a_cell_serves_at_every_level_that_is_granted(void **state)
{
    (void)state;
    each_level(serves);
}

static void is_killed(spark_jail_role role, spark_jail_level level)
{
    if (level == SPARK_JAIL_OFF) return;
    started s;
    start(&s, role, level);
    const int status = end(&s, 'k');
#ifdef SPARK_SANITIZED /* open fails there, so that reports come out: the cell went on */
    (void)status;
#else
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
#endif
}

static void test_a_serving_cell_that_opens_a_file_is_killed(void **state)
{
    (void)state;
    each_level(is_killed);
}

static bool is_file(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void is_limited(spark_jail_role role, spark_jail_level level)
{
    started s;
    start(&s, role, level);
#ifndef SPARK_SANITIZED /* the sanitizers' options go along there, and no limit of addresses */
    assert_false(s.answer.has_environment);
    if (level != SPARK_JAIL_OFF) assert_int_equal(s.answer.max_memory, CELL_MEMORY);
#endif
    if (level != SPARK_JAIL_OFF) {
        assert_int_equal(s.answer.max_files, CELL_FILES);
        assert_int_equal(s.answer.max_core, 0);
        if (!is_file(STDERR_FILENO) && (role != SPARK_JAIL_TOOL || !is_file(STDOUT_FILENO)))
            assert_int_equal(s.answer.max_file_size, 0);
    }
    end(&s, 'q');
}

static void test_a_cell_has_the_limits_of_its_spec_and_no_environment(void **state)
{
    (void)state;
    each_level(is_limited);
}

/* Only a file that is given for writing lifts the limit of what files may hold. */
static void files_grow_if_given(spark_jail_role role, spark_jail_level level)
{
    char path[] = "/tmp/jail-test-XXXXXX";
    started s;
    if (level == SPARK_JAIL_OFF || is_file(STDERR_FILENO) || is_file(STDOUT_FILENO)) return;
    const int writable = mkstemp(path), readable = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(writable >= 0 && readable >= 0);
    start_with(&s, role, level, readable);
    assert_int_equal(s.answer.max_file_size, 0);
    end(&s, 'q');
    start_with(&s, role, level, writable);
    assert_int_not_equal(s.answer.max_file_size, 0);
    end(&s, 'q');
    close(writable);
    close(readable);
    unlink(path);
}

static void test_files_may_grow_only_where_one_was_given_for_writing(void **state)
{
    (void)state;
    each_level(files_grow_if_given);
}

static void gets_its_descriptors(spark_jail_role role, spark_jail_level level)
{
    started s;
    const int secret = open("/dev/null", O_RDONLY); /* NOLINT(android-cloexec-open): inheritable on purpose */
    start(&s, role, level);
    close(secret);
    /* 0-2, two given ones, the warden's pidfd */
    assert_int_equal(s.answer.first_free, 6);
    end(&s, 'q');
}

static void test_a_cell_gets_the_descriptors_of_its_spec_and_no_other(void **state)
{
    (void)state;
    each_level(gets_its_descriptors);
}

static void test_a_strict_cell_is_first_in_its_pid_namespace(void **state)
{
    (void)state;
    if (granted() < SPARK_JAIL_STRICT) {
        print_message("not run: this system grants no strict cells\n");
        return;
    }
    started s;
    start(&s, SPARK_JAIL_ENGINE, SPARK_JAIL_STRICT);
    assert_int_equal(s.answer.pid, 1);
    end(&s, 'q');
}

static void test_a_cell_of_root_runs_as_a_user_of_its_own(void **state)
{
    (void)state;
    if (!holds("own user")) {
        print_message("not run: not root, or root of one user only\n");
        return;
    }
    for (spark_jail_level level = SPARK_JAIL_STANDARD; level <= granted(); level++) {
        started s;
        start(&s, SPARK_JAIL_FRONT, level);
        assert_int_equal(s.answer.uid, spark_jail_uid(7));
        end(&s, 'q');
    }
}

/* A warden that is killed: a process between this one and the cell. The cell holds the other end of `alive`. */
static void test_a_cell_ends_with_its_warden(void **state)
{
    (void)state;
    for (spark_jail_level level = SPARK_JAIL_OFF; level <= granted(); level++) {
        int alive[2];
        char byte;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, alive), 0);
        const pid_t warden = fork();
        if (warden == 0) {
            spark_jail_cell cell;
            cell_answer a;
            spark_err err = {0};
            int pair[2];
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) _exit(1);
            const int fds[] = {pair[1], alive[1]};
            const spark_jail_spec spec = {
                .level = level, .fds = fds, .n_fds = 2, .n_threads = 1, .uid = spark_jail_uid(8), .name = "orphan"};
            if (spark_jail_start(&cell, &spec, &err).code != SPARK_OK ||
                read(pair[0], &a, sizeof a) != (ssize_t)sizeof a)
                _exit(1);
            (void)!write(alive[1], "r", 1);
            for (;;) pause();
        }
        close(alive[1]);
        assert_int_equal(read(alive[0], &byte, 1), 1);
        kill(warden, SIGKILL);
        assert_int_equal(waitpid(warden, NULL, 0), warden);
        assert_int_equal(read(alive[0], &byte, 1), 0); /* the cell's end is closed: it is gone */
        close(alive[0]);
    }
}

static void test_start_refuses_what_no_cell_can_have(void **state)
{
    (void)state;
    spark_jail_cell cell;
    spark_err err = {0};
    int fds[SPARK_JAIL_MAX_FDS + 1] = {0};
    spark_jail_spec spec = {.level = SPARK_JAIL_STANDARD,
                            .fds = fds,
                            .n_fds = SPARK_JAIL_MAX_FDS + 1,
                            .n_threads = 1,
                            .uid = 61184,
                            .name = "x"};
    assert_code(spark_jail_start(&cell, &spec, &err), SPARK_E_ARGUMENT);
    spec.n_fds = 0;
    spec.level = (spark_jail_level)9;
    assert_code(spark_jail_start(&cell, &spec, &err), SPARK_E_ARGUMENT);
    fds[0] = 9999; /* not open */
    spec.level = SPARK_JAIL_OFF;
    spec.n_fds = 1;
    assert_code(spark_jail_start(&cell, &spec, &err), SPARK_E_REFUSED);
    assert_non_null(strstr(err.text, "descriptors: Bad file descriptor"));
}

static void test_the_probe_names_every_means_and_changes_nothing(void **state)
{
    (void)state;
    spark_jail_report r;
    spark_err err = {0};
    assert_ok(spark_jail_probe(&r, &err));
    assert_true(r.n_means >= 8);
    for (uint32_t i = 0; i < r.n_means; i++) assert_true(r.means[i].holds || r.means[i].why[0]);
    const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
}

int main(int argc, char **argv)
{
    spark_jail_spec spec;
    if (spark_jail_is_cell(argc, argv, &spec)) return cell_main(&spec);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cell_serves_at_every_level_that_is_granted),
        cmocka_unit_test(test_a_serving_cell_that_opens_a_file_is_killed),
        cmocka_unit_test(test_a_cell_has_the_limits_of_its_spec_and_no_environment),
        cmocka_unit_test(test_files_may_grow_only_where_one_was_given_for_writing),
        cmocka_unit_test(test_a_cell_gets_the_descriptors_of_its_spec_and_no_other),
        cmocka_unit_test(test_a_strict_cell_is_first_in_its_pid_namespace),
        cmocka_unit_test(test_a_cell_of_root_runs_as_a_user_of_its_own),
        cmocka_unit_test(test_a_cell_ends_with_its_warden),
        cmocka_unit_test(test_start_refuses_what_no_cell_can_have),
        cmocka_unit_test(test_the_probe_names_every_means_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
