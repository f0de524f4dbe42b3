/* start.c - the warden's side: this program again, as a cell.
 * Between fork and exec only system calls are made, because the warden may have threads and its locks may be held.
 * A cell outlives neither its warden (SIGKILL when the starting thread ends, and a pidfd that tells whether it already has) nor its
 * descriptors: what is not in the spec is closed by the exec. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail_internal.h"

enum { START_UID_BASE = 61184, START_UIDS = 4336, START_MAX_TITLE = 64 };

#define START_ARGV0 "spark-cell"
#define START_FORMAT                                                                                                   \
    "role=%u level=%u fds=%" PRIu32 " threads=%" PRIu32 " memory=%" PRIu64 " files=%" PRIu32 " uid=%u trial=%u"

uid_t spark_jail_uid(uint32_t cell) { return START_UID_BASE + cell % START_UIDS; }

/* ---- fork ---- */

static pid_t start_fork_flags(uint64_t flags, int *pidfd)
{
    return (pid_t)syscall(SYS_clone, flags | CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, NULL);
}

pid_t spark__jail_fork(spark_jail_level level, int *pidfd, bool *user_namespace)
{
    *user_namespace = false;
    pid_t pid = start_fork_flags(level == SPARK_JAIL_STRICT ? CLONE_NEWPID : 0, pidfd);
    if (pid < 0 && errno == EPERM &&
        level == SPARK_JAIL_STRICT) { /* only the mighty may: so be mighty in a namespace */
        *user_namespace = true;
        pid = start_fork_flags(CLONE_NEWPID | CLONE_NEWUSER, pidfd);
    }
    return pid < 0 ? -errno : pid;
}

/* ---- Between fork and exec ---- */

typedef struct start_plan {
    const int *fds;
    uint32_t n_fds;
    int exe, warden, status; /* this program; the warden's pidfd; where to say what failed */
    bool user_namespace;
    bool keeps_stdio; /* a tool reads and writes what the command would */
    uid_t uid;        /* as seen before the fork */
    gid_t gid;
    char *argv[4];
} start_plan;

typedef struct start_failure {
    char step[32];
    int error;
} start_failure;

static _Noreturn void start_give_up(const start_plan *p, const char *step)
{
    start_failure f = {.error = errno};
    for (size_t i = 0; step[i] && i + 1 < sizeof f.step; i++) f.step[i] = step[i];
    (void)!write(p->status, &f, sizeof f);
    _exit(127);
}

/* A copy above all the places that are given out, so that no dup2 hits one that is still needed. */
static int start_lift(const start_plan *p, int fd, int above)
{
    const int lifted = fcntl(fd, F_DUPFD_CLOEXEC, above);
    if (lifted < 0) start_give_up(p, "descriptors");
    return lifted;
}

static void start_put(const start_plan *p, int fd, int place)
{
    if (dup2(fd, place) < 0) start_give_up(p, "descriptors");
}

/* Everything from `first` up is closed by the exec. Kernels before 5.11 know no CLOEXEC here: one by one then. */
static void start_close_rest(const start_plan *p, int first)
{
    if (syscall(SYS_close_range, (unsigned)first, ~0u, CLOSE_RANGE_CLOEXEC) == 0) return;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) start_give_up(p, "getrlimit");
    for (int fd = first; (rlim_t)fd < files.rlim_cur; fd++) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* 0, 1: /dev/null; 2 as it is. */
static void start_place_stdio(const start_plan *p, int above)
{
    const int opened = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (opened < 0) start_give_up(p, "/dev/null");
    const int null = start_lift(p, opened, above);
    start_put(p, null, STDIN_FILENO);
    start_put(p, null, STDOUT_FILENO);
    if (fcntl(STDERR_FILENO, F_GETFD) < 0) start_put(p, null, STDERR_FILENO);
}

/* 0-2; 3 ...: the spec's; then the warden's pidfd. Returns where this program is. */
static int start_place(start_plan *p)
{
    int lifted[SPARK_JAIL_MAX_FDS];
    const int above = SPARK_JAIL_FIRST_FD + (int)p->n_fds + 1;
    p->status = start_lift(p, p->status, above);
    const int exe = start_lift(p, p->exe, above), warden = start_lift(p, p->warden, above);
    for (uint32_t i = 0; i < p->n_fds; i++) lifted[i] = start_lift(p, p->fds[i], above);
    if (!p->keeps_stdio) start_place_stdio(p, above);
    for (uint32_t i = 0; i < p->n_fds; i++) start_put(p, lifted[i], SPARK_JAIL_FIRST_FD + (int)i);
    start_put(p, warden, above - 1);
    start_close_rest(p, above);
    return exe;
}

static _Noreturn void start_child(start_plan *p)
{
    static char sanitizers[] = "ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1";
#ifdef SPARK_SANITIZED
    char *const environment[] = {sanitizers, NULL}; /* looking for leaks needs ptrace */
#else
    char *const environment[] = {NULL};
    (void)sanitizers;
#endif
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (p->user_namespace && (errno = spark__jail_map(p->uid, p->gid)) != 0) start_give_up(p, "uid map");
    const int exe = start_place(p);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) start_give_up(p, "PR_SET_PDEATHSIG");
    (void)syscall(SYS_execveat, exe, "", p->argv, environment, AT_EMPTY_PATH);
    start_give_up(p, "execveat");
}

/* ---- In the warden ---- */

static spark_status start_check(const spark_jail_spec *s, spark_err *err)
{
    SPARK_CHECK((unsigned)s->role < SPARK_JAIL_N_ROLES && (unsigned)s->level <= SPARK_JAIL_STRICT, err,
                SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "no such role or level of the jail");
    SPARK_CHECK(s->n_fds <= SPARK_JAIL_MAX_FDS, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%" PRIu32 " descriptors for a cell: at most %d are allowed", s->n_fds, SPARK_JAIL_MAX_FDS);
    SPARK_CHECK(geteuid() != 0 || s->uid != 0 || s->level == SPARK_JAIL_OFF, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "a cell started as root needs a user of its own");
    return SPARK_SUCCESS;
}

/* Waits until the child's exec closed the pipe, or for what it says. */
static spark_status start_verdict(int pipe, const spark_jail_spec *spec, spark_err *err)
{
    start_failure f = {0};
    ssize_t n;
    do n = read(pipe, &f, sizeof f);
    while (n < 0 && errno == EINTR);
    SPARK_CHECK(n <= 0, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "cell '%s' could not start at level %s: %.31s: %s",
                spec->name, spark_jail_level_name(spec->level), f.step, strerror(f.error));
    return SPARK_SUCCESS;
}

static spark_status start_fork(spark_jail_cell *out, const spark_jail_spec *spec, start_plan *plan, spark_err *err)
{
    int status[2], pidfd = -1;
    SPARK_CHECK(pipe2(status, O_CLOEXEC) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "no pipe: %s", strerror(errno));
    plan->status = status[1];
    const pid_t pid = spark__jail_fork(spec->level, &pidfd, &plan->user_namespace);
    if (pid == 0) start_child(plan);
    close(status[1]);
    spark_status s = SPARK_SUCCESS;
    if (pid < 0)
        s = spark_fail(err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "cell '%s' could not start at level %s: clone: %s",
                       spec->name, spark_jail_level_name(spec->level), strerror(-pid));
    else
        s = start_verdict(status[0], spec, err);
    close(status[0]);
    if (!spark_ok(s) && pid > 0) {
        close(pidfd);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (spark_ok(s)) *out = (spark_jail_cell){pid, pidfd};
    return s;
}

spark_status spark__jail_start(spark_jail_cell *out, const spark_jail_spec *spec, bool trial, spark_err *err)
{
    char argv0[] = START_ARGV0, title[START_MAX_TITLE], text[256];
    SPARK_TRY(start_check(spec, err));
    snprintf(title, sizeof title, "%s", spec->name);
    snprintf(text, sizeof text, START_FORMAT, (unsigned)spec->role, (unsigned)spec->level, spec->n_fds, spec->n_threads,
             spec->max_memory, spec->max_files, (unsigned)spec->uid, (unsigned)trial);
    start_plan plan = {.fds = spec->fds,
                       .n_fds = spec->n_fds,
                       .keeps_stdio = spec->role == SPARK_JAIL_TOOL && !trial,
                       .uid = geteuid(),
                       .gid = getegid(),
                       .argv = {argv0, title, text, NULL}};
    plan.exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    SPARK_CHECK(plan.exe >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot open /proc/self/exe: %s", strerror(errno));
    plan.warden = (int)syscall(SYS_pidfd_open, getpid(), 0);
    spark_status s = SPARK_SUCCESS;
    if (plan.warden < 0)
        s = spark_fail(err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "pidfd_open: %s (Linux 5.3 is needed)",
                       strerror(errno));
    else
        s = start_fork(out, spec, &plan, err);
    if (plan.warden >= 0) close(plan.warden);
    close(plan.exe);
    return s;
}

spark_status spark_jail_start(spark_jail_cell *out, const spark_jail_spec *spec, spark_err *err)
{
    return spark__jail_start(out, spec, false, err);
}

/* ---- First thing in the cell ---- */

bool spark_jail_is_cell(int argc, char **argv, spark_jail_spec *out)
{
    unsigned role = 0, level = 0, uid = 0, trial = 0;
    int end = 0;
    *out = (spark_jail_spec){0};
    if (argc != 3 || strcmp(argv[0], START_ARGV0) != 0) return false;
    /* NOLINTNEXTLINE(cert-err34-c): written by spark__jail_start, and checked below */
    const int n = sscanf(
        argv[2],
        "role=%u level=%u fds=%" SCNu32 " threads=%" SCNu32 " memory=%" SCNu64 " files=%" SCNu32 " uid=%u trial=%u%n",
        &role, &level, &out->n_fds, &out->n_threads, &out->max_memory, &out->max_files, &uid, &trial, &end);
    if (n != 8 || argv[2][end] || role >= SPARK_JAIL_N_ROLES || level > SPARK_JAIL_STRICT ||
        out->n_fds > SPARK_JAIL_MAX_FDS) {
        static const char text[] = "spark: this is no command: cells are started by the program itself\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        _exit(2);
    }
    out->role = (spark_jail_role)role;
    out->level = (spark_jail_level)level;
    out->uid = uid;
    out->name = argv[1];
    if (trial) spark__jail_trial_main(out);
    return true;
}
