/* acts.c - what an intruder in a cell would try, as system calls with real arguments; and some acts that a cell needs, as controls.
 * Whether an act is forbidden in a role and phase is not written here: the table of rules says it (spark_jail_judge).
 * Every act is harmless where it succeeds: signal 0, files that do not exist, wrong magic numbers. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "jail/jail_internal.h"

/* ---- What the calls point to ---- */

static const char act_file[] = "/etc/passwd", act_program[] = "/bin/true", act_nowhere[] = "/spark-jail-trial",
                  act_proc_self[] = "/proc/self/status", act_proc_other[] = "/proc/1/environ", act_empty[] = "";
static const char *const act_no_strings[] = {NULL};
static uint64_t act_room[64]; /* for what a call wants to write */
static const uint64_t act_zeros[16];
static const uint64_t act_clone3_args[11] = {0, 0, 0, 0, SIGCHLD};
#if defined(__aarch64__)
#define ACT_PAGE 65536 /* kernels are built for pages of 4, 16 or 64 KiB */
#else
#define ACT_PAGE 4096
#endif
static SPARK_ALIGNED(ACT_PAGE) uint8_t act_page[ACT_PAGE];
static const struct sockaddr_in act_address = {
    .sin_family = AF_INET, .sin_port = 0x5000, .sin_addr.s_addr = 0x0100007f};
static const struct iovec act_memory = {act_room, sizeof act_room};
static const struct timespec act_soon = {0, 1};

/* ---- Acts of more than one call ---- */

static long act_connect(void)
{
    const int fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    return syscall(SYS_connect, fd, &act_address, sizeof act_address);
}

static void *volatile act_block; /* so that no compiler leaves the allocation out */

static long act_malloc(void)
{
    act_block = malloc(24);
    return 0;
}

static long act_realloc(void)
{
    act_block = realloc(NULL, 100);
    return 0;
}

/* libc allocates: its calls come by the guard too. */
static long act_strdup(void)
{
    act_block = strdup(act_file);
    return 0;
}

static long act_free(void)
{
    free(NULL);
    free(spark__jail_old_block); /* of before: it may be let go, but reaches no call */
    return 0;
}

void *spark__jail_old_block;

#if defined(__x86_64__)
/* getpid by the door of 32-bit programs, whose numbers are others. */
static long act_32_bits(void)
{
    long r = 20;
    __asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
    return r;
}
#endif

/* ---- The acts ---- */

#define CALL(text, x86, arm, ...)                                                                                      \
    {                                                                                                                  \
        .name = text, .number = {x86, arm}, __VA_ARGS__                                                                \
    }
#define V(...) .value = {__VA_ARGS__}
#define P(...) .pointer = {__VA_ARGS__}
#define AT_CWD ((uint64_t)AT_FDCWD)
#define NO     (-1)

static const jail_act acts[] = {
    /* Files */
    CALL("open a file for reading", 257, 56, V(AT_CWD), P([1] = act_file), .entered = JAIL_HELD_BY_STANDARD),
    CALL("open a file for reading, the old way", 2, NO, P(act_file), .entered = JAIL_HELD_BY_STANDARD),
    CALL("open a file for reading, the new way", 437, 437, V(AT_CWD, [3] = 24), P([1] = act_file, [2] = act_zeros),
         .entered = JAIL_HELD_BY_STANDARD),
    CALL("create a file", 257, 56, V(AT_CWD, [2] = O_CREAT | O_WRONLY, [3] = 0600), P([1] = act_nowhere),
         .entered = JAIL_HELD_BY_STANDARD),
    CALL("create a file, the old way", 85, NO, V([1] = 0600), P(act_nowhere), .entered = JAIL_HELD_BY_STANDARD),
    CALL("read its own /proc", 257, 56, V(AT_CWD), P([1] = act_proc_self), .entered = JAIL_HELD_BY_STANDARD),
    CALL("read the /proc of another", 257, 56, V(AT_CWD), P([1] = act_proc_other), .entered = JAIL_HELD_BY_STANDARD),
    CALL("list a directory", 217, 61, V([0] = 0, [2] = sizeof act_room), P([1] = act_room)),
    CALL("look at a path", 262, 79, V(AT_CWD), P([1] = act_file, [2] = act_room), .entered = JAIL_HELD_BY_STRICT),
    CALL("look at a path, the old way", 4, NO, P(act_file, act_room), .entered = JAIL_HELD_BY_STRICT),
    CALL("look at a path, the new way", 332, 291, V(AT_CWD, [3] = 0x7ff), P([1] = act_file, [4] = act_room),
         .entered = JAIL_HELD_BY_STRICT),
    CALL("ask whether a path may be read", 269, 48, V(AT_CWD, [2] = R_OK), P([1] = act_file),
         .entered = JAIL_HELD_BY_STRICT),
    CALL("read a symbolic link", 267, 78, V(AT_CWD, [3] = sizeof act_room), P([1] = "/proc/self/exe", [2] = act_room),
         .entered = JAIL_HELD_BY_STRICT),
    CALL("ask for the working directory", 79, 17, V([1] = sizeof act_room), P(act_room)),
    CALL("change the working directory", 80, 49, P("/etc"), .entered = JAIL_HELD_BY_STRICT),
    CALL("delete a file", 263, 35, V(AT_CWD), P([1] = act_nowhere)),
    CALL("delete a file, the old way", 87, NO, P(act_nowhere)),
    CALL("rename a file", 316, 276, V(AT_CWD, [2] = AT_CWD), P([1] = act_nowhere, [3] = act_nowhere)),
    CALL("link a file", 265, 37, V(AT_CWD, [2] = AT_CWD), P([1] = act_nowhere, [3] = act_nowhere)),
    CALL("make a symbolic link", 266, 36, V([1] = AT_CWD), P(act_nowhere, [2] = act_nowhere),
         .entered = JAIL_HELD_BY_STANDARD),
    CALL("make a directory", 258, 34, V(AT_CWD, [2] = 0700), P([1] = act_nowhere), .entered = JAIL_HELD_BY_STANDARD),
    CALL("make a device", 259, 33, V(AT_CWD, [2] = 020600, [3] = 0x103), P([1] = act_nowhere),
         .entered = JAIL_HELD_BY_STANDARD),
    CALL("change a mode", 268, 53, V(AT_CWD, [2] = 0), P([1] = act_nowhere)),
    CALL("change a mode, the old way", 90, NO, P(act_nowhere)),
    CALL("change an owner", 260, 54, V(AT_CWD), P([1] = act_nowhere)),
    CALL("cut a file", 76, 45, P(act_nowhere)),
    CALL("cut an open file", 77, 46, V(0)),
    CALL("set a file's times", 280, 88, V(AT_CWD), P([1] = act_nowhere)),
    CALL("set an attribute", 188, 5, P(act_nowhere, act_nowhere, act_nowhere)),
    CALL("open by a handle", 304, 265, V(AT_CWD), P([1] = act_zeros), .entered = JAIL_HELD_BY_STANDARD),
    CALL("watch files", 294, 26, V(0)),
    CALL("watch a file system", 300, 262, V(0)),
    CALL("copy between descriptors", 40, 71, V(1, 0, 0, 1)),
    CALL("splice descriptors", 275, 76, V(0, 0, 1, 0, 1)),
    CALL("splice memory", 278, 75, V(1, 0, 1), P([1] = &act_memory)),
    CALL("copy a range of a file", 326, 285, V(0, 0, 1, 0, 1)),
    CALL("make a file in memory", 319, 279, P(act_empty)),
    CALL("make secret memory", 447, 447, V(0)),
    CALL("double a descriptor", 32, 23, V(0)),
    CALL("double a descriptor to a place", 292, 24, V(0, 63)),
    CALL("double a descriptor by fcntl", 72, 25, V(0, F_DUPFD)),
    CALL("ask a terminal for input", 16, 29, V(2, TIOCSTI), P([2] = "x")),

    /* Programs and processes */
    CALL("run a program", 59, 221, P(act_program, act_no_strings, act_no_strings), .entered = JAIL_HELD_BY_STANDARD),
    CALL("run a program by a descriptor", 322, 281, V(0, [4] = AT_EMPTY_PATH),
         P([1] = act_empty, [2] = act_no_strings, [3] = act_no_strings), .entered = JAIL_HELD_BY_STANDARD),
    CALL("fork", 57, NO, V(0)),
    CALL("vfork", 58, NO, V(0)),
    CALL("fork by clone", 56, 220, V(SIGCHLD)),
    CALL("fork by clone3", 435, 435, V([1] = sizeof act_clone3_args), P(act_clone3_args)),
    CALL("make a process that shares memory", 56, 220, V(CLONE_VM | SIGCHLD)),
    CALL("make a thread in new namespaces", 56, 220, V(0x3d0f00 | CLONE_NEWUSER)),
    CALL("trace another process", 101, 117, V(PTRACE_SEIZE), .warden_at = 2, .entered = JAIL_HELD_BY_STANDARD),
    CALL("be traced", 101, 117, V(PTRACE_TRACEME)),
    CALL("read another's memory", 310, 270, V([2] = 1, [4] = 1), P([1] = &act_memory, [3] = &act_memory),
         .warden_at = 1, .entered = JAIL_HELD_BY_STANDARD),
    CALL("write another's memory", 311, 271, V([2] = 1, [4] = 1), P([1] = &act_memory, [3] = &act_memory),
         .warden_at = 1, .entered = JAIL_HELD_BY_STANDARD),
    CALL("signal the warden", 62, 129, V(0), .warden_at = 1, .entered = JAIL_HELD_BY_STRICT),
    CALL("signal a thread", 200, 130, V(0), .warden_at = 1, .entered = JAIL_HELD_BY_STRICT),
    CALL("signal a thread of a process", 234, 131, V(0), .warden_at = 1),
    CALL("signal with a value", 129, 138, V(0), P([2] = act_room), .warden_at = 1, .entered = JAIL_HELD_BY_STANDARD),
    CALL("get hold of a process", 434, 434, V(0), .warden_at = 1, .entered = JAIL_HELD_BY_STRICT),
    CALL("signal by a descriptor", 424, 424, V(0)),
    CALL("take another's descriptor", 438, 438, V(0)),
    CALL("advise another's memory", 440, 440, V(0, 0, 1, 4), P([1] = &act_memory)),
    CALL("reap another's memory", 448, 448, V(0)),
    CALL("ask for the parent", 110, 173, V(0)),
    CALL("set a limit", 302, 261, V(0, RLIMIT_FSIZE), P([2] = act_zeros)),
    CALL("set a priority", 141, 140, V(0)),
    CALL("set the scheduler", 144, 119, V(0), P([2] = act_zeros)),
    CALL("set the CPUs", 203, 122, V(0, 8), P([2] = act_room)),
    CALL("set the priority of input and output", 251, 30, V(1)),
    CALL("set the personality", 135, 92, V(0xffffffff)),
    CALL("compare processes", 312, 272, V(1, 1)),

    /* Network */
    CALL("make an internet socket", 41, 198, V(AF_INET, SOCK_STREAM)),
    CALL("make a datagram socket", 41, 198, V(AF_INET6, SOCK_DGRAM)),
    CALL("make a raw socket", 41, 198, V(AF_INET, SOCK_RAW, 1), .entered = JAIL_HELD_BY_STANDARD),
    CALL("make a unix socket", 41, 198, V(AF_UNIX, SOCK_STREAM)),
    CALL("make a netlink socket", 41, 198, V(AF_NETLINK, SOCK_RAW)),
    CALL("make a pair of sockets", 53, 199, V(AF_UNIX, SOCK_STREAM), P([3] = act_room)),
    CALL("connect", 42, 203, V(SPARK_JAIL_FIRST_FD, [2] = sizeof act_address), P([1] = &act_address)),
    {.name = "connect to this machine over TCP",
     .number = {42, 203},
     .run = act_connect,
     .entered = JAIL_HELD_BY_STRICT},
    CALL("bind an address", 49, 200, V(SPARK_JAIL_FIRST_FD, [2] = sizeof act_address), P([1] = &act_address)),
    CALL("listen", 50, 201, V(SPARK_JAIL_FIRST_FD, 1)),
    CALL("send to an address", 44, 206, V(SPARK_JAIL_FIRST_FD, [2] = 1, [5] = sizeof act_address),
         P([1] = act_room, [4] = &act_address)),
    CALL("send many", 307, 269, V(0), P([1] = act_room)),
    CALL("receive many", 299, 243, V(0), P([1] = act_room)),
    CALL("receive a descriptor from a client", 47, 212, V(0), P([1] = act_room)),
    CALL("attach a filter to a socket", 54, 208, V(SPARK_JAIL_FIRST_FD, SOL_SOCKET, SO_ATTACH_FILTER, [4] = 16),
         P([3] = act_zeros)),
    CALL("bind a socket to a device", 54, 208, V(SPARK_JAIL_FIRST_FD, SOL_SOCKET, SO_BINDTODEVICE, [4] = 1),
         P([3] = act_empty)),
    CALL("get hold of the peer's process", 55, 209, V(SPARK_JAIL_FIRST_FD, SOL_SOCKET, 77),
         P([3] = act_room, [4] = act_room)),

    /* Memory */
    CALL("make memory executable", 10, 226, V([1] = ACT_PAGE, [2] = PROT_READ | PROT_EXEC), P(act_page),
         .entered = JAIL_HELD_BY_MDWE),
    CALL("make memory executable, with a key", 329, 288,
         V([1] = ACT_PAGE, [2] = PROT_READ | PROT_EXEC, [3] = UINT64_MAX), P(act_page)),
    CALL("map executable memory", 9, 222,
         V(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX),
         .entered = JAIL_HELD_BY_MDWE),
    CALL("map a file", 9, 222, V(0, 4096, PROT_READ, MAP_PRIVATE, SPARK_JAIL_FIRST_FD)),
    CALL("map shared memory", 9, 222, V(0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, UINT64_MAX)),
    CALL("map memory", 9, 222, V(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX)),
    CALL("unmap memory", 11, 215, V([1] = ACT_PAGE), P(act_page)),
    CALL("grow the heap", 12, 214, V(0)),
    CALL("seal memory", 462, 462, V([1] = ACT_PAGE), P(act_page)),
    CALL("get shared memory", 29, 194, V(0, 4096, 01600)),
    CALL("get a semaphore", 64, 190, V(0, 1, 01600)),
    CALL("get a message queue", 68, 186, V(0, 01600)),
    CALL("open a message queue", 240, 180, V([1] = O_RDONLY), P("spark")),
    CALL("handle page faults", 323, 282, V(0)),

    /* The system */
    CALL("mount", 165, 40, V(0), P("none", "/", "tmpfs"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("mount, the new way", 430, 430, V(0), P("tmpfs"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("copy a tree of mounts", 428, 428, V(AT_CWD, [2] = 1), P([1] = "/"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("change a mount", 442, 442, V(AT_CWD, [2] = 0, [4] = 32), P([1] = "/", [3] = act_zeros)),
    CALL("unmount", 166, 39, V([1] = MNT_DETACH), P("/"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("change the root", 161, 51, P("/"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("swap the root", 155, 41, P("/", "/"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("make a namespace", 272, 97, V(CLONE_NEWUSER)),
    CALL("make a mount namespace", 272, 97, V(CLONE_NEWNS), .entered = JAIL_HELD_BY_STANDARD),
    CALL("enter a namespace", 308, 268, V(0)),
    CALL("load a BPF program", 321, 280, V(0, [2] = sizeof act_zeros), P([1] = act_zeros)),
    CALL("make a ring of calls", 425, 425, V(1), P([1] = act_room)),
    CALL("count events", 298, 241, V([1] = 0, [2] = UINT64_MAX, [3] = UINT64_MAX), P(act_zeros)),
    CALL("use keys", 250, 219, V(KEYCTL_GET_KEYRING_ID, UINT64_MAX)),
    CALL("add a key", 248, 217, V([3] = 0, [4] = UINT64_MAX), P("user", "spark", act_room)),
    CALL("ask for a key", 249, 218, V([3] = UINT64_MAX), P("user", "spark")),
    CALL("add a module", 175, 105, V([1] = 1), P(act_room, [2] = act_empty), .entered = JAIL_HELD_BY_STANDARD),
    CALL("add a module by a descriptor", 313, 273, V(0), P([1] = act_empty), .entered = JAIL_HELD_BY_STANDARD),
    CALL("load another kernel", 246, 104, V(0), .entered = JAIL_HELD_BY_STANDARD),
    CALL("reboot", 169, 142, V(0), .entered = JAIL_HELD_BY_STANDARD),
    CALL("set the time", 227, 112, V(CLOCK_REALTIME), P([1] = &act_soon), .entered = JAIL_HELD_BY_STANDARD),
    CALL("set the host's name", 170, 161, V([1] = 1), P("x"), .entered = JAIL_HELD_BY_STANDARD),
    CALL("read the kernel's log", 103, 116, V(3, [2] = sizeof act_room), P([1] = act_room)),
    CALL("ask for the system's name", 63, 160, P(act_room)),
    CALL("keep accounts", 163, 89, P(act_nowhere), .entered = JAIL_HELD_BY_STANDARD),
    CALL("use ports", 172, NO, V(3), .entered = JAIL_HELD_BY_STANDARD),
    CALL("change segments", 154, NO, V(1), P([1] = act_room)),

    /* Privileges */
    CALL("become root", 105, 146, V(0)),
    CALL("become root's group", 106, 144, V(0)),
    CALL("become another user", 117, 147, V(1, 1, 1), .entered = JAIL_HELD_BY_STANDARD),
    CALL("change groups", 116, 159, V(0), .entered = JAIL_HELD_BY_STANDARD),
    CALL("take capabilities", 126, 91, P(act_zeros, act_zeros)),
    CALL("become dumpable", 157, 167, V(PR_SET_DUMPABLE, 1)),
    CALL("take the strict mode of seccomp", 317, 277, V(SECCOMP_SET_MODE_STRICT)),
    CALL("have system calls reported", 317, 277, V(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER),
         P([2] = act_zeros)),
    CALL("make a Landlock ruleset", 444, 444, V([1] = 8), P(act_zeros)),
    CALL("set a segment's base", 158, NO, V(0x1003),
         P([1] = act_room)), /* ARCH_GET_FS: harmless, and as forbidden as setting */

    /* Time, signals, waiting */
    CALL("make a timer", 222, 107, V(0), P([2] = act_room)),
    CALL("make a timer with a descriptor", 283, 85, V(0)),
    CALL("set an alarm", 38, 103, V(0), P([1] = act_zeros)),
    CALL("make a descriptor for signals", 289, 74, V(UINT64_MAX, [2] = 8), P([1] = act_zeros)),
    CALL("wait with priority inheritance", 202, 98, V([1] = FUTEX_LOCK_PI, [3] = 0), P(act_room)),
    CALL("move those who wait", 202, 98, V([1] = FUTEX_CMP_REQUEUE_PI), P(act_room, [4] = act_room)),
    CALL("wait for many", 449, 449, V([1] = 0), P(act_room)),

    /* Numbers */
    CALL("an x32 call", 0x40000001, 0x40000001, V(1, [2] = 0), P([1] = act_empty)),
    CALL("a call that does not exist", 9999, 9999, V(0)),
#if defined(__x86_64__)
    {.name = "a 32-bit call", .number = {9999, 9999}, .run = act_32_bits, .any_signal = true},
#endif

    /* What a cell needs (where the table allows it), so that the rest shows something */
    CALL("tell the time", 228, 113, V(CLOCK_MONOTONIC), P([1] = act_room)),
    CALL("wake a thread", 202, 98, V([1] = FUTEX_WAKE_PRIVATE, [2] = 1), P(act_room)),
    CALL("write", 1, 64, V(1, [2] = 0), P([1] = act_room)),
    CALL("let others run", 24, 124, V(0)),
    CALL("draw random bytes", 318, 278, V([1] = 8), P(act_room)),
    CALL("wait a moment", 35, 101, P(&act_soon)),
    CALL("ask how much there is to read", 16, 29, V(SPARK_JAIL_FIRST_FD, FIONREAD), P([2] = act_room)),

    /* The guard of memory: an engine after ready */
    {.name = "malloc", .number = {NO, NO}, .run = act_malloc, .guard = JAIL_GUARD_REFUSES},
    {.name = "realloc", .number = {NO, NO}, .run = act_realloc, .guard = JAIL_GUARD_REFUSES},
    {.name = "strdup", .number = {NO, NO}, .run = act_strdup, .guard = JAIL_GUARD_REFUSES},
    {.name = "free what was there before", .number = {NO, NO}, .run = act_free, .guard = JAIL_GUARD_ALLOWS},
};

const jail_act *spark__jail_acts(uint32_t *n)
{
    *n = SPARK_COUNT(acts);
    return acts;
}

void spark__jail_act_args(const jail_act *a, pid_t warden, uint64_t args[6])
{
    for (int i = 0; i < 6; i++) args[i] = a->pointer[i] ? (uint64_t)(uintptr_t)a->pointer[i] : a->value[i];
    if (a->warden_at) args[a->warden_at - 1] = (uint64_t)warden;
}
