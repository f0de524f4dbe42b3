/* enter.c - the cell's side: every door but the filter, in the one order that works, and the two filters.
 * 1. what libc opens late is opened now   2. capabilities bounded, uid of its own   3. user namespace, then the others, empty root
 * 4. all capabilities gone   5. no_new_privs, non-dumpable, no new executable memory   6. Landlock   7. rlimits   8. dies with the warden
 * Each step enters its means into the report; the level is what the report adds up to, so no refusal goes unsaid. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "jail/jail_internal.h"

/* ---- The report ---- */

typedef enum enter_need {
    ENTER_WISH,
    ENTER_STRICT,
    ENTER_STANDARD
} enter_need; /* what demands the means: nothing, strict, both */

/* Adds a means; `fmt` says why it does not hold, or a detail of one that does. Returns holds. */
static bool SPARK_PRINTF(5, 6)
    enter_note(spark_jail_report *r, const char *name, enter_need need, bool holds, const char *fmt, ...)
{
    if (r->n_means == SPARK_JAIL_MAX_MEANS) return holds; /* cannot be: there are fewer calls than room */
    spark_jail_means *m = &r->means[r->n_means++];
    va_list args;
    *m = (spark_jail_means){
        .name = name, .required = {false, need == ENTER_STANDARD, need != ENTER_WISH}, .holds = holds};
    va_start(args, fmt);
    vsnprintf(m->why, sizeof m->why, fmt, args);
    va_end(args);
    return holds;
}

/* The same for a system call that gave 0 or an errno. */
static bool enter_note_call(spark_jail_report *r, const char *name, enter_need need, const char *call, int error)
{
    if (error) return enter_note(r, name, need, false, "%s: %s", call, strerror(error));
    return enter_note(r, name, need, true, "%s", "");
}

const spark_jail_means *spark_jail_missing(const spark_jail_report *r, spark_jail_level level)
{
    for (uint32_t i = 0; i < r->n_means; i++)
        if (r->means[i].required[level] && !r->means[i].holds) return &r->means[i];
    return NULL;
}

/* ---- 2. Capabilities and user ---- */

/* What an exec could bring back. Only the mighty may and need to; others have nothing to lose. */
static void enter_bound_capabilities(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_DROP, cap) == 0; cap++) {
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    (void)prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
                                       SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                       SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED);
}

/* Not by glibc: the process has one thread, and glibc's would warm up its own ways of stopping others. */
static int enter_become(uid_t uid)
{
    if (syscall(SYS_setgroups, 0, NULL) != 0) return errno;
    if (syscall(SYS_setresgid, uid, uid, uid) != 0) return errno;
    if (syscall(SYS_setresuid, uid, uid, uid) != 0) return errno;
    return 0;
}

static void enter_user(const spark_jail_spec *spec, spark_jail_report *r)
{
    if (geteuid() != 0) {
        enter_note(r, "own user", ENTER_WISH, false, "not started as root: the cell runs as user %u",
                   (unsigned)geteuid());
        return;
    }
    const int error = enter_become(spec->uid);
    if (error)
        enter_note(r, "own user", ENTER_WISH, false, "user %u: %s", (unsigned)spec->uid, strerror(error));
    else
        enter_note(r, "own user", ENTER_WISH, true, "user %u", (unsigned)spec->uid);
}

static void enter_drop_capabilities(spark_jail_report *r)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}}, now[2] = {{0}};
    enter_bound_capabilities();
    int error = syscall(SYS_capset, &head, none) == 0 ? 0 : errno;
    if (!error && syscall(SYS_capget, &head, now) != 0) error = errno;
    if (!error && (now[0].permitted | now[1].permitted | now[0].inheritable | now[1].inheritable)) error = EPERM;
    enter_note_call(r, "no capabilities", ENTER_STANDARD, "capset", error);
}

/* ---- 3. Namespaces ---- */

static int enter_write_file(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int error = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;
    close(fd);
    return error;
}

int spark__jail_map(uid_t uid, gid_t gid)
{
    char uids[64], gids[64];
    snprintf(uids, sizeof uids, "%u %u 1\n", (unsigned)uid, (unsigned)uid);
    snprintf(gids, sizeof gids, "%u %u 1\n", (unsigned)gid, (unsigned)gid);
    if (prctl(PR_SET_DUMPABLE, 1) != 0) return errno; /* a change of uid cleared it, and then the files are root's */
    int error = enter_write_file("/proc/self/setgroups", "deny\n");
    if (!error) error = enter_write_file("/proc/self/uid_map", uids);
    if (!error) error = enter_write_file("/proc/self/gid_map", gids);
    return error;
}

/* Into one whose only mount is an empty directory that cannot be written. /proc serves as the place to put it, because it was needed
 * before and so exists. */
static int enter_empty_root(void)
{
    if (syscall(SYS_unshare, CLONE_NEWNS) != 0) return errno;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return errno;
    if (mount("none", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1,mode=0555") != 0)
        return errno;
    if (chdir("/proc") != 0) return errno;
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) != 0) return errno; /* the old root lay over the new one */
    } else if (mount(".", "/", NULL, MS_MOVE, NULL) != 0 ||
               chroot(".") != 0) { /* on an initramfs there is nothing to pivot */
        return errno;
    }
    if (chdir("/") != 0) return errno;
    return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0
               ? 0
               : errno;
}

static void enter_namespaces(spark_jail_report *r)
{
    static const struct {
        const char *name;
        int flag;
        enter_need need;
    } others[] = {{"network namespace", CLONE_NEWNET, ENTER_STRICT},
                  {"ipc namespace", CLONE_NEWIPC, ENTER_STRICT},
                  {"uts namespace", CLONE_NEWUTS, ENTER_STRICT},
                  {"cgroup namespace", CLONE_NEWCGROUP, ENTER_WISH}};
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    int error = syscall(SYS_unshare, CLONE_NEWUSER) == 0 ? 0 : errno;
    if (!error) error = spark__jail_map(uid, gid);
    enter_note_call(r, "user namespace", ENTER_STRICT, "unshare", error);
    enter_note(r, "pid namespace", ENTER_STRICT, getpid() == 1, "%s",
               getpid() == 1 ? "" : "the cell is not the first process of one");
    for (size_t i = 0; i < SPARK_COUNT(others); i++)
        enter_note_call(r, others[i].name, others[i].need, "unshare",
                        syscall(SYS_unshare, others[i].flag) == 0 ? 0 : errno);
    enter_note_call(r, "empty root", ENTER_STRICT, "mount", enter_empty_root());
}

/* ---- 5. Privileges ---- */

static void enter_prctls(spark_jail_report *r)
{
    enum { SET_MDWE = 65, REFUSE_EXEC_GAIN = 1 }; /* Linux 6.3; not in the oldest headers that we build with */
    int error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno;
    enter_note_call(r, "no new privileges", ENTER_STANDARD, "prctl", error);
    error = prctl(PR_SET_DUMPABLE, 0) == 0 ? 0 : errno;
    enter_note_call(r, "not dumpable", ENTER_STANDARD, "prctl", error);
#ifndef SPARK_SANITIZED
    error = prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0 ? 0 : errno;
    enter_note_call(r, "no new executable memory", ENTER_WISH, "PR_SET_MDWE",
                    error); /* the filters refuse it in any case */
#else
    (void)enter_note(r, "no new executable memory", ENTER_WISH, false, "not in a sanitizer build");
#endif
}

/* ---- 6. Landlock ---- */

/* The kernel's interface as of ABI 7, since headers of the build may be older. */
typedef struct enter_ruleset {
    uint64_t access_fs, access_net, scoped;
} enter_ruleset;

/* All rights that the ABI knows, none granted. */
static void enter_landlock(spark_jail_report *r)
{
    enum { CREATE_VERSION = 1, FS_ABI1 = 13, NET_BOTH = 3, SCOPE_BOTH = 3, BEST_ABI = 7 };
    const int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
    if (abi < 1) {
        enter_note_call(r, "landlock", ENTER_STANDARD, "landlock_create_ruleset", abi < 0 ? errno : ENOSYS);
        return;
    }
    /* rights of files: 13 in ABI 1, then refer (2), truncate (3), ioctl of devices (5) */
    const int n_fs = FS_ABI1 + (abi >= 2) + (abi >= 3) + (abi >= 5);
    const enter_ruleset set = {(UINT64_C(1) << n_fs) - 1, abi >= 4 ? NET_BOTH : 0, abi >= 6 ? SCOPE_BOTH : 0};
    const size_t size = abi >= 6   ? sizeof set
                        : abi >= 4 ? offsetof(enter_ruleset, scoped)
                                   : offsetof(enter_ruleset, access_net);
    const int fd = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
    int error = fd < 0 ? errno : 0;
    if (!error && syscall(SYS_landlock_restrict_self, fd, 0) != 0) error = errno;
    if (fd >= 0) close(fd);
    if (error)
        enter_note_call(r, "landlock", ENTER_STANDARD, "landlock_restrict_self", error);
    else
        enter_note(r, "landlock", ENTER_STANDARD, true, "ABI %d", abi < BEST_ABI ? abi : BEST_ABI);
}

/* ---- 7. Limits ---- */

enum { ENTER_MORE_FILES = 32 };

static int enter_limit(int resource, uint64_t most)
{
    const struct rlimit limit = {most, most};
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0 ? 0 : errno;
}

static bool enter_is_written_file(int fd)
{
    struct stat st;
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* A log file that came as stderr, a tool's results: only where the cell was given a file to write, files may grow. */
static bool enter_writes_a_file(const spark_jail_spec *spec)
{
    for (int fd = STDOUT_FILENO; fd < SPARK_JAIL_FIRST_FD + (int)spec->n_fds; fd++)
        if (enter_is_written_file(fd)) return true;
    return false;
}

static void enter_rlimits(const spark_jail_spec *spec, spark_jail_report *r)
{
    const bool files_grow = enter_writes_a_file(spec);
    const uint64_t n_files = spec->max_files ? spec->max_files
                                             : (uint64_t)SPARK_JAIL_FIRST_FD + spec->n_fds + ENTER_MORE_FILES;
    struct rlimit files;
    int error = getrlimit(RLIMIT_NOFILE, &files) == 0 ? 0 : errno;
    if (!error && n_files > files.rlim_max) {
        enter_note(r, "rlimits", ENTER_STANDARD, false, "%llu descriptors are asked for, %llu are allowed (ulimit -n)",
                   (unsigned long long)n_files, (unsigned long long)files.rlim_max);
        return;
    }
    if (!error) error = enter_limit(RLIMIT_NOFILE, n_files);
    if (!error && !files_grow) error = enter_limit(RLIMIT_FSIZE, 0);
    if (!error) error = enter_limit(RLIMIT_CORE, 0);
    if (!error) error = enter_limit(RLIMIT_MSGQUEUE, 0);
#ifndef SPARK_SANITIZED /* their shadow is terabytes of addresses */
    if (!error && spec->max_memory) error = enter_limit(RLIMIT_AS, spec->max_memory);
#endif
    if (error)
        enter_note_call(r, "rlimits", ENTER_STANDARD, "setrlimit", error);
    else
        enter_note(r, "rlimits", ENTER_STANDARD, true, "%s",
                   files_grow ? "file size unlimited: the cell was given a file to write" : "");
}

void spark__jail_limit_threads(const spark_jail_spec *spec)
{
    if (spec->n_threads) (void)enter_limit(RLIMIT_NPROC, spec->n_threads);
}

/* ---- 8. The end of the warden ---- */

/* A change of uid clears the signal, hence again. If the warden was gone before, no signal will come: then go now. */
static void enter_die_with_warden(const spark_jail_spec *spec)
{
    struct pollfd warden = {.fd = SPARK_JAIL_FIRST_FD + (int)spec->n_fds, .events = POLLIN};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (poll(&warden, 1, 0) > 0 && warden.revents & POLLIN) _exit(1);
    close(warden.fd);
}

/* ---- All doors ---- */

static void enter_ask_seccomp(spark_jail_report *r)
{
    const uint32_t action = SECCOMP_RET_KILL_PROCESS;
    const int error = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 ? 0 : errno;
    enter_note_call(r, "seccomp", ENTER_STANDARD, "seccomp", error);
}

void spark__jail_close_doors(const spark_jail_spec *spec, spark_jail_report *r)
{
    enter_ask_seccomp(r);
    enter_bound_capabilities();
    enter_user(spec, r);
    if (spec->level == SPARK_JAIL_STRICT) enter_namespaces(r);
    enter_drop_capabilities(r);
    enter_prctls(r);
    enter_landlock(r);
    enter_rlimits(spec, r);
    r->level = spec->level;
    while (r->level > SPARK_JAIL_OFF && spark_jail_missing(r, r->level)) r->level--;
}

/* ---- The contract's functions ---- */

/* What libc would open or ask the system for later. One arena, so that no thread makes its own; in an engine, blocks that are never
 * handed back one by one, so that free reaches neither brk nor munmap. (After ready the guard makes free do nothing at all; a build
 * without it relies on this.) */
static void enter_warm_up(spark_jail_role role)
{
    const time_t now = time(NULL);
    struct tm tm;
    uint8_t byte;
    (void)!getrandom(&byte, 1, GRND_NONBLOCK); /* glibc 2.41 maps its state at the first call */
    tzset();
    (void)localtime_r(&now, &tm);
    (void)mallopt(M_ARENA_MAX, 1);
    if (role != SPARK_JAIL_ENGINE) return;
    (void)mallopt(M_TRIM_THRESHOLD, -1); /* never */
    (void)mallopt(M_MMAP_MAX, 0);
}

#ifdef SPARK_SANITIZED
/* Names the call that the filter refused: strsignal(SIGSYS) alone tells a developer little. */
static void enter_explain(int signal, siginfo_t *info, void *context)
{
    char text[96];
    (void)context;
    const int n = snprintf(text, sizeof text, "spark: jail: system call %d is not allowed here (signal %d)\n",
                           info->si_syscall, signal);
    (void)!write(STDERR_FILENO, text, (size_t)n);
    _exit(128 + signal);
}
#endif

static void enter_signals(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that left is an error of the write */
#ifdef SPARK_SANITIZED
    const struct sigaction action = {.sa_sigaction = enter_explain, .sa_flags = SA_SIGINFO};
    (void)sigaction(SIGSYS, &action, NULL);
#endif
}

spark_status spark_jail_enter(const spark_jail_spec *spec, spark_jail_report *report, spark_err *err)
{
    *report = (spark_jail_report){0};
    (void)prctl(PR_SET_NAME, spec->name);
    enter_signals();
    enter_warm_up(spec->role);
    if (spec->level != SPARK_JAIL_OFF) spark__jail_close_doors(spec, report);
    enter_die_with_warden(spec);
    const spark_jail_means *missing = spark_jail_missing(report, spec->level);
    SPARK_CHECK(!missing, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "the jail's level %s cannot be had: %s: %s",
                spark_jail_level_name(spec->level), missing->name, missing->why);
    return SPARK_SUCCESS;
}

static spark_status enter_filter(const spark_jail_spec *spec, spark_jail_phase phase, spark_err *err)
{
    const int error = spark__jail_install(spec->role, phase);
    SPARK_CHECK(!error, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "the filter of %s cannot be had: seccomp: %s",
                spark_jail_phase_name(phase), strerror(error));
    return SPARK_SUCCESS;
}

spark_status spark_jail_open_phase(const spark_jail_spec *spec, spark_err *err)
{
    if (spec->level == SPARK_JAIL_OFF) return SPARK_SUCCESS;
    spark__jail_limit_threads(spec);
    return enter_filter(spec, SPARK_JAIL_OPENING, err);
}

spark_status spark_jail_serve_phase(const spark_jail_spec *spec, spark_err *err)
{
    if (!spark_jail_has_phase(spec->role, SPARK_JAIL_SERVING)) return SPARK_SUCCESS;
    if (spec->level != SPARK_JAIL_OFF) SPARK_TRY(enter_filter(spec, SPARK_JAIL_SERVING, err));
    if (spec->role == SPARK_JAIL_ENGINE && spark__malloc_guard_arm) spark__malloc_guard_arm();
    return SPARK_SUCCESS;
}
