/* rules.c - the one table of system calls: who may make which, when, and with what arguments.
 * Everything that is not here ends the process. Each row names who needs it; a row that nobody needs must go.
 * The busiest calls stand first: the filter looks through the rows in this order.
 *
 * Columns: engine opening, engine serving, front opening, front serving, tool (a command, which has one phase). An engine and a tool ask
 * for AMX (arch_prctl) when the model is opened, after the filter: the one call is let through there, so that spark_isa_has needs to know
 * nothing of jails. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "jail/jail_internal.h"

/* ---- Conditions ---- */

#define LOW   UINT64_C(0xffffffff) /* arguments that the kernel reads as 32 bits */
#define EVERY UINT64_MAX

#define CONDITION(id, text) static const spark_jail_condition if_##id = {text, SPARK_COUNT(clauses_##id), clauses_##id}
#define IS(arg, value)                                                                                                 \
    {                                                                                                                  \
        1,                                                                                                             \
        {                                                                                                              \
            {                                                                                                          \
                arg, LOW, value                                                                                        \
            }                                                                                                          \
        }                                                                                                              \
    }

/* Droppable: what glibc 2.41 keeps the state of getrandom in. */
#define MMAP_OF(type)                                                                                                  \
    {                                                                                                                  \
        3,                                                                                                             \
        {                                                                                                              \
            {2, EVERY & ~(uint64_t)(PROT_READ | PROT_WRITE), 0},                                                       \
                {3, MAP_ANONYMOUS | MAP_TYPE, MAP_ANONYMOUS | (type)}, {4, LOW, LOW},                                  \
        }                                                                                                              \
    }
static const spark_jail_clause clauses_mmap[] = {MMAP_OF(MAP_PRIVATE), MMAP_OF(8 /* MAP_DROPPABLE */)};
CONDITION(mmap, "anonymous, private or droppable, not executable");

static const spark_jail_clause clauses_mprotect[] = {{1, {{2, EVERY & ~(uint64_t)(PROT_READ | PROT_WRITE), 0}}}};
CONDITION(mprotect, "not executable");

static const spark_jail_clause clauses_mremap[] = {IS(3, MREMAP_MAYMOVE)};
CONDITION(mremap, "MREMAP_MAYMOVE");

static const spark_jail_clause clauses_madvise[] = {
#ifdef SPARK_SANITIZED
    IS(2, MADV_NOHUGEPAGE), /* shadow of new stacks */
#endif
    IS(2, MADV_DONTNEED),
    IS(2, MADV_FREE),
    IS(2, MADV_HUGEPAGE),
    IS(2, MADV_DONTDUMP),
    IS(2, 23 /* MADV_POPULATE_WRITE */),
    IS(2, 102 /* MADV_GUARD_INSTALL: glibc 2.42, thread stacks */),
    IS(2, 103 /* MADV_GUARD_REMOVE */)};
CONDITION(madvise, "DONTNEED, FREE, HUGEPAGE, DONTDUMP, POPULATE_WRITE, GUARD_*");

/* Priority inheritance and requeueing, where the kernel's futex bugs were, stay shut. Bits: PRIVATE and CLOCK_REALTIME may be set. */
#define FUTEX_IS(op)                                                                                                   \
    {                                                                                                                  \
        1,                                                                                                             \
        {                                                                                                              \
            {                                                                                                          \
                1, LOW & ~(uint64_t)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), op                                    \
            }                                                                                                          \
        }                                                                                                              \
    }
static const spark_jail_clause clauses_futex[] = {FUTEX_IS(FUTEX_WAIT), FUTEX_IS(FUTEX_WAKE),
                                                  FUTEX_IS(FUTEX_WAIT_BITSET), FUTEX_IS(FUTEX_WAKE_BITSET)};
CONDITION(futex, "wait and wake");

/* Exactly what pthread_create asks for: no process, no namespace. */
static const spark_jail_clause clauses_clone[] = {
    {1,
     {{0, EVERY,
       CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
           CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID}}}};
CONDITION(clone, "threads only");

static const spark_jail_clause clauses_arch_prctl[] = {
    {2, {{0, LOW, 0x1023 /* ARCH_REQ_XCOMP_PERM */}, {1, EVERY, 18 /* XFEATURE_XTILEDATA */}}}};
CONDITION(arch_prctl, "ARCH_REQ_XCOMP_PERM of tile data");

static const spark_jail_clause clauses_seccomp[] = {
    {2, {{0, LOW, 1 /* SECCOMP_SET_MODE_FILTER */}, {1, EVERY, 1 /* SECCOMP_FILTER_FLAG_TSYNC */}}}};
CONDITION(seccomp, "a further filter, all threads");

static const spark_jail_clause clauses_prctl[] = {IS(0, PR_SET_NAME)};
CONDITION(prctl, "PR_SET_NAME");

#ifdef SPARK_SANITIZED /* asks for each new thread, by its number */
static const spark_jail_clause clauses_affinity[] = {{0}};
#else
static const spark_jail_clause clauses_affinity[] = {IS(0, 0)};
#endif
CONDITION(affinity, "of itself");

static const spark_jail_clause clauses_rusage[] = {IS(0, RUSAGE_SELF)};
CONDITION(rusage, "of itself");

static const spark_jail_clause clauses_ioctl[] = {IS(1, FIONREAD), IS(1, FIONBIO)};
CONDITION(ioctl, "FIONREAD, FIONBIO");

static const spark_jail_clause clauses_fcntl[] = {IS(1, F_GETFD), IS(1, F_SETFD), IS(1, F_GETFL), IS(1, F_SETFL)};
CONDITION(fcntl, "F_GETFD, F_SETFD, F_GETFL, F_SETFL");

static const spark_jail_clause clauses_link[] = {IS(0, SPARK_JAIL_FIRST_FD)};
CONDITION(link, "on descriptor 3, the link to the warden");

static const spark_jail_clause clauses_unaddressed[] = {{1, {{4, EVERY, 0}}}};
CONDITION(unaddressed, "to the connected peer");

#define OPTION(level, name)                                                                                            \
    {                                                                                                                  \
        2,                                                                                                             \
        {                                                                                                              \
            {1, LOW, level}, { 2, LOW, name }                                                                          \
        }                                                                                                              \
    }
static const spark_jail_clause clauses_setsockopt[] = {
    OPTION(IPPROTO_TCP, TCP_NODELAY),  OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT), OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
    OPTION(IPPROTO_TCP, TCP_KEEPIDLE), OPTION(IPPROTO_TCP, TCP_KEEPINTVL),     OPTION(IPPROTO_TCP, TCP_KEEPCNT),
    OPTION(SOL_SOCKET, SO_KEEPALIVE),  OPTION(SOL_SOCKET, SO_LINGER),          OPTION(SOL_SOCKET, SO_SNDBUF),
    OPTION(SOL_SOCKET, SO_RCVBUF)};
CONDITION(setsockopt, "TCP: NODELAY, NOTSENT_LOWAT, USER_TIMEOUT, KEEP*; SO_KEEPALIVE, LINGER, SNDBUF, RCVBUF");

static const spark_jail_clause clauses_getsockopt[] = {
    OPTION(SOL_SOCKET, SO_ERROR), OPTION(SOL_SOCKET, SO_TYPE), OPTION(SOL_SOCKET, SO_ACCEPTCONN),
    OPTION(SOL_SOCKET, SO_PEERCRED), OPTION(IPPROTO_TCP, TCP_NODELAY)};
CONDITION(getsockopt, "SO_ERROR, SO_TYPE, SO_ACCEPTCONN, SO_PEERCRED, TCP_NODELAY");

/* ---- Rows ---- */

/* The number of this machine's architecture must be the one of the system's headers, or this does not compile. */
#define PIN(number, name) ((number) + 0 * (int)sizeof(char[(number) == SYS_##name ? 1 : -1]))
#define NOT_HERE          (-1)
#if defined(__x86_64__)
#define BOTH(name, x86, arm)                                                                                           \
#name, { PIN(x86, name), arm }
#define X86(name, x86)                                                                                                 \
#name, { PIN(x86, name), NOT_HERE }
#elif defined(__aarch64__)
#define BOTH(name, x86, arm)                                                                                           \
#name, { x86, PIN(arm, name) }
#define X86(name, x86)                                                                                                 \
#name, { x86, NOT_HERE }
#else
#error "the jail knows x86-64 and aarch64"
#endif

#define YES SPARK_JAIL_ALLOW
#define NO  SPARK_JAIL_KILL
#define ERR SPARK_JAIL_DENY
#ifdef SPARK_SANITIZED /* the sanitizers' runtimes map, ask and open late; such builds promise nothing of their jail */
#define SAN     YES
#define SAN_ERR ERR
#else
#define SAN     NO
#define SAN_ERR NO
#endif
#define ROLES(eo, es, fo, fs, t)                                                                                       \
    {                                                                                                                  \
        {eo, es}, {fo, fs}, { t, NO }                                                                                  \
    }

static const spark_jail_rule rules[] = {
    /* Every cell, all its life */
    {BOTH(futex, 202, 98), ROLES(YES, YES, YES, YES, YES), &if_futex, 0, "threads wait for each other"},
    {BOTH(read, 0, 63), ROLES(YES, YES, YES, YES, YES), NULL, 0, "wire, files, sockets"},
    {BOTH(write, 1, 64), ROLES(YES, YES, YES, YES, YES), NULL, 0, "wire, sockets, results, messages on stderr"},
    {BOTH(readv, 19, 65), ROLES(YES, YES, YES, YES, NO), NULL, 0, "wire; libevent's buffers"},
    {BOTH(writev, 20, 66), ROLES(YES, YES, YES, YES, NO), NULL, 0, "wire; libevent's buffers"},
    {X86(poll, 7), ROLES(YES, YES, YES, YES, NO), NULL, 0, "waits for the wire"},
    {BOTH(ppoll, 271, 73), ROLES(YES, YES, YES, YES, NO), NULL, 0, "waits for the wire"},
    {BOTH(clock_gettime, 228, 113), ROLES(YES, YES, YES, YES, YES), NULL, 0, "time, where the vDSO cannot tell it"},
    {BOTH(sched_yield, 24, 124), ROLES(YES, YES, YES, YES, YES), NULL, 0, "threads that spin"},
    {BOTH(restart_syscall, 219, 128), ROLES(YES, YES, YES, YES, YES), NULL, 0,
     "the kernel's own: a wait goes on after SIGSTOP"},
    {BOTH(rt_sigreturn, 15, 139), ROLES(YES, YES, YES, YES, YES), NULL, 0, "end of a signal handler"},
    {BOTH(exit, 60, 93), ROLES(YES, YES, YES, YES, YES), NULL, 0, "end of a thread"},
    {BOTH(exit_group, 231, 94), ROLES(YES, YES, YES, YES, YES), NULL, 0, "end of the process"},

    /* The front's service */
    {X86(epoll_wait, 232), ROLES(NO, NO, YES, YES, NO), NULL, 0, "libevent's loop"},
    {BOTH(epoll_pwait, 281, 22), ROLES(NO, NO, YES, YES, NO), NULL, 0, "libevent's loop"},
    {BOTH(epoll_ctl, 233, 21), ROLES(NO, NO, YES, YES, NO), NULL, 0, "libevent's loop"},
    {BOTH(accept4, 288, 242), ROLES(NO, NO, YES, YES, NO), NULL, 0, "clients; the listening sockets are the warden's"},
    {BOTH(ioctl, 16, 29), ROLES(NO, NO, YES, YES, NO), &if_ioctl, 0, "libevent asks how much there is to read"},
    {BOTH(recvfrom, 45, 207), ROLES(NO, NO, YES, YES, NO), NULL, 0, "looks at a connection's first bytes"},
    {BOTH(sendto, 44, 206), ROLES(NO, NO, YES, YES, NO), &if_unaddressed, 0, "send"},
    {BOTH(recvmsg, 47, 212), ROLES(NO, NO, YES, YES, NO), &if_link, 0, "engines and listeners that the warden passes"},
    {BOTH(sendmsg, 46, 211), ROLES(NO, NO, YES, YES, NO), NULL, 0, "replies; messages to the warden"},
    {BOTH(shutdown, 48, 210), ROLES(NO, NO, YES, YES, NO), NULL, 0, "ends connections"},
    {BOTH(setsockopt, 54, 208), ROLES(NO, NO, YES, YES, NO), &if_setsockopt, 0, "connections"},
    {BOTH(getsockopt, 55, 209), ROLES(NO, NO, YES, YES, NO), &if_getsockopt, 0, "connections"},
    {BOTH(getsockname, 51, 204), ROLES(NO, NO, YES, YES, NO), NULL, 0, "which listener"},
    {BOTH(getpeername, 52, 205), ROLES(NO, NO, YES, YES, NO), NULL, 0, "the client's address"},
    {BOTH(fcntl, 72, 25), ROLES(NO, NO, YES, YES, NO), &if_fcntl, 0, "libevent makes sockets non-blocking"},
    {BOTH(gettimeofday, 96, 169), ROLES(NO, NO, YES, YES, NO), NULL, 0, "libevent, where the vDSO cannot tell it"},
    {BOTH(nanosleep, 35, 101), ROLES(NO, NO, YES, YES, NO), NULL, 0, "waits"},
    {BOTH(clock_nanosleep, 230, 115), ROLES(NO, NO, YES, YES, NO), NULL, 0, "waits"},
    {BOTH(getpid, 39, 172), ROLES(SAN, SAN, YES, YES, SAN), NULL, 0, "OpenSSL looks whether it was forked"},

    /* Memory, files at hand: an engine's until it is ready */
    {BOTH(close, 3, 57), ROLES(YES, SAN, YES, YES, YES), NULL, 0, "the model file once read; connections"},
    {BOTH(mmap, 9, 222), ROLES(YES, SAN, YES, YES, YES), &if_mmap, 0, "memory"},
    {BOTH(munmap, 11, 215), ROLES(YES, SAN, YES, YES, YES), NULL, 0, "memory"},
    {BOTH(mremap, 25, 216), ROLES(YES, SAN, YES, YES, YES), &if_mremap, 0, "realloc of large blocks"},
    {BOTH(brk, 12, 214), ROLES(YES, SAN, YES, YES, YES), NULL, 0, "malloc; free as well"},
    {BOTH(madvise, 28, 233), ROLES(YES, SAN, YES, YES, YES), &if_madvise, 0, "huge pages; free"},
    {BOTH(mprotect, 10, 226), ROLES(YES, SAN, YES, SAN, YES), &if_mprotect, 0, "guard pages, thread stacks"},
    {BOTH(mlock, 149, 228), ROLES(NO, NO, YES, NO, NO), NULL, 0, "the TLS key"},
    {BOTH(mlock2, 325, 284), ROLES(NO, NO, YES, NO, NO), NULL, 0, "the TLS key (OpenSSL's secure heap)"},
    {BOTH(getrandom, 318, 278), ROLES(YES, SAN, YES, YES, YES), NULL, 0, "keys of hash tables; TLS"},
    {BOTH(getrusage, 98, 165), ROLES(YES, NO, YES, YES, YES), &if_rusage, 0, "memory and time used, for metrics"},
    {BOTH(pread64, 17, 67), ROLES(YES, NO, NO, NO, YES), NULL, 0, "the model file"},
    {BOTH(lseek, 8, 62), ROLES(YES, NO, NO, NO, YES), NULL, 0, "its size"},
    {BOTH(fstat, 5, 80), ROLES(YES, NO, NO, NO, YES), NULL, 0, "its kind and size"},
    {BOTH(newfstatat, 262, 79), ROLES(ERR, SAN_ERR, ERR, NO, ERR), NULL, EACCES,
     "glibc's fstat and stdio, which go on without; it could ask for any path"},
    {BOTH(sysinfo, 99, 179), ROLES(YES, SAN, YES, YES, YES), NULL, 0, "glibc's qsort asks how much memory there is"},
    {BOTH(sched_getaffinity, 204, 123), ROLES(YES, SAN, YES, NO, YES), &if_affinity, 0, "how many CPUs"},

    /* Threads, libraries that start, the next filter */
    {BOTH(clone, 56, 220), ROLES(YES, NO, YES, NO, YES), &if_clone, 0, "pthread_create"},
    {BOTH(clone3, 435, 435), ROLES(ERR, NO, ERR, NO, ERR), NULL, ENOSYS,
     "pthread_create then takes clone, whose flags can be seen"},
    {BOTH(set_robust_list, 273, 99), ROLES(YES, NO, YES, NO, YES), NULL, 0, "a new thread"},
    {BOTH(rseq, 334, 293), ROLES(YES, NO, YES, NO, YES), NULL, 0, "a new thread"},
    {BOTH(gettid, 186, 178), ROLES(YES, SAN, YES, NO, YES), NULL, 0, "a new thread"},
    {BOTH(prctl, 157, 167), ROLES(YES, NO, YES, NO, NO), &if_prctl, 0, "names of threads"},
    {BOTH(rt_sigprocmask, 14, 135), ROLES(YES, SAN, YES, NO, YES), NULL, 0, "a new thread"},
    {BOTH(rt_sigaction, 13, 134), ROLES(YES, SAN, YES, NO, YES), NULL, 0,
     "libevent and OpenSSL at start; a tool that Ctrl-C stops"},
    {BOTH(epoll_create1, 291, 20), ROLES(NO, NO, YES, NO, NO), NULL, 0, "libevent at start"},
    {BOTH(eventfd2, 290, 19), ROLES(NO, NO, YES, NO, NO), NULL, 0, "libevent at start"},
    {BOTH(pipe2, 293, 59), ROLES(NO, NO, YES, NO, NO), NULL, 0, "libevent at start"},
    {BOTH(seccomp, 317, 277), ROLES(YES, NO, YES, NO, NO), &if_seccomp, 0, "the filter of serving"},
    {X86(arch_prctl, 158), ROLES(YES, NO, NO, NO, YES), &if_arch_prctl, 0,
     "asks for AMX tiles when the model is opened"},
#ifdef SPARK_SANITIZED
    {BOTH(sigaltstack, 131, 132), ROLES(YES, YES, YES, YES, YES), NULL, 0, "sanitizers"},
    {BOTH(openat, 257, 56), ROLES(ERR, ERR, ERR, ERR, ERR), NULL, EACCES, "sanitizers' reports"},
#endif
};

const spark_jail_rule *spark_jail_rules(uint32_t *n)
{
    *n = SPARK_COUNT(rules);
    return rules;
}

/* ---- What the table says ---- */

static bool rules_clause_met(const spark_jail_clause *c, const uint64_t args[6])
{
    for (uint8_t i = 0; i < c->n_tests; i++)
        if ((args[c->tests[i].arg] & c->tests[i].mask) != c->tests[i].value) return false;
    return true;
}

static bool rules_met(const spark_jail_condition *c, const uint64_t args[6])
{
    if (!c) return true;
    for (uint8_t i = 0; i < c->n_clauses; i++)
        if (rules_clause_met(&c->clauses[i], args)) return true;
    return false;
}

spark_jail_effect spark_jail_judge(spark_jail_arch arch, spark_jail_role role, spark_jail_phase phase, int32_t number,
                                   const uint64_t args[6], int *deny_errno)
{
    for (size_t i = 0; i < SPARK_COUNT(rules); i++) {
        const spark_jail_rule *r = &rules[i];
        if (r->number[arch] != number || number < 0) continue;
        const spark_jail_effect e = r->effect[role][phase];
        if (e == SPARK_JAIL_DENY && deny_errno) *deny_errno = r->deny_errno;
        return e == SPARK_JAIL_ALLOW && !rules_met(r->condition, args) ? SPARK_JAIL_KILL : e;
    }
    return SPARK_JAIL_KILL;
}

/* ---- Names ---- */

const char *spark_jail_level_name(spark_jail_level level)
{
    return level == SPARK_JAIL_STRICT ? "strict" : level == SPARK_JAIL_STANDARD ? "standard" : "off";
}

const char *spark_jail_role_name(spark_jail_role role)
{
    return role == SPARK_JAIL_ENGINE ? "engine" : role == SPARK_JAIL_FRONT ? "front" : "tool";
}

bool spark_jail_has_phase(spark_jail_role role, spark_jail_phase phase)
{
    return role != SPARK_JAIL_TOOL || phase != SPARK_JAIL_SERVING;
}

const char *spark_jail_phase_name(spark_jail_phase phase)
{
    return phase == SPARK_JAIL_OPENING ? "opening" : phase == SPARK_JAIL_SERVING ? "serving" : "entered";
}
