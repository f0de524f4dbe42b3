/* jail.h - what a process may do, closed by itself, step by step, and shown by trying.
 * Nouns:   a role (which cell: an engine, the front, or a tool: a command that reads a model, run whole as a cell), a phase (opening: libraries warm up, the model is read; serving: for good), a level (how
 *          strong), a report (what was obtained, and what was not and why); a cell, a child process behind its doors.
 * Promise: what a role may not do in a phase ends the process (SIGSYS) or fails with the errno in the table; the table in
 *          jail/rules.c is the only source of filters, of `spark jail`, of the tests and of the page in ARCHITECTURE.md.
 * Order:   (warden) pid namespace, descriptors, exec; (cell) warm-up of what opens files, uid, namespaces, capabilities,
 *          Landlock, rlimits; threads; RLIMIT_NPROC and the first filter (TSYNC); foreign bytes; the second filter.
 *          Other orders fail. Linux only. */
#ifndef SPARK_JAIL_JAIL_H
#define SPARK_JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/spark_limits.h"
#include "base/status.h"

typedef enum spark_jail_level {
    SPARK_JAIL_OFF,      /* nothing */
    SPARK_JAIL_STANDARD, /* seccomp in two phases, no_new_privs, non-dumpable, no capabilities, rlimits, Landlock */
    SPARK_JAIL_STRICT    /* and user, pid, net, ipc, uts, mount (empty root) namespaces */
} spark_jail_level;

typedef enum spark_jail_role {
    SPARK_JAIL_ENGINE,
    SPARK_JAIL_FRONT,
    SPARK_JAIL_TOOL, /* keeps stdin, stdout and stderr of its warden; has one phase: the filter of OPENING stays */
    SPARK_JAIL_N_ROLES
} spark_jail_role;
typedef enum spark_jail_phase {
    SPARK_JAIL_OPENING,
    SPARK_JAIL_SERVING,
    SPARK_JAIL_N_PHASES,
    SPARK_JAIL_ENTERED =
        SPARK_JAIL_N_PHASES /* trials only: all doors but the filter are closed, to show what they hold */
} spark_jail_phase;

const char *spark_jail_level_name(spark_jail_level level);
const char *spark_jail_role_name(spark_jail_role role);
const char *spark_jail_phase_name(spark_jail_phase phase);
bool spark_jail_has_phase(spark_jail_role role, spark_jail_phase phase);

/* One means of the jail: name, whether it holds, else why not. */
typedef struct spark_jail_means {
    const char *name; /* "seccomp", "landlock", "user namespace", ... */
    bool required[SPARK_JAIL_STRICT + 1];
    bool holds;
    char why[128]; /* "unshare: Operation not permitted"; Landlock: "ABI 7" where it holds */
} spark_jail_means;

enum { SPARK_JAIL_MAX_MEANS = 20 };
typedef struct spark_jail_report {
    spark_jail_level level; /* the strongest of which every means holds */
    uint32_t n_means;
    spark_jail_means means[SPARK_JAIL_MAX_MEANS];
} spark_jail_report;

/* The first means that `level` demands and that does not hold; NULL if it can be had. */
const spark_jail_means *spark_jail_missing(const spark_jail_report *r, spark_jail_level level);

/* What this system grants, found by trying in a child that exits (about 10 ms; nothing stays changed). */
SPARK_MUST_CHECK spark_status spark_jail_probe(spark_jail_report *out, spark_err *err);
/* What cells of one level have here: the means that this level uses, the same way. Of OFF none. */
SPARK_MUST_CHECK spark_status spark_jail_probe_at(spark_jail_report *out, spark_jail_level level, spark_err *err);

/* ---- The warden's side ---- */

enum {
    SPARK_JAIL_MAX_FDS = SPARK_MAX_GGUF_SPLITS + 16, /* a model in parts, and the links */
    SPARK_JAIL_FIRST_FD = 3
};

typedef struct spark_jail_spec {
    spark_jail_role role;
    spark_jail_level level;
    const int *
        fds; /* [n_fds]: become descriptors 3, 4, ... of the cell; all others are closed, 0-2 are /dev/null, /dev/null, stderr
                     * (a tool: the warden's own). The first is the link to the warden: descriptors may be received (recvmsg) from it alone */
    uint32_t n_fds;
    uint32_t
        n_threads; /* that the cell may have, itself included: for RLIMIT_NPROC, 0 = as the user may. Where the uid is shared with other
                          * processes (level standard, not started as root) those count too: make threads before open_phase */
    uint64_t max_memory; /* RLIMIT_AS in bytes, 0 = none */
    uint32_t
        max_files; /* descriptors the cell may have (a front: its connections), for RLIMIT_NOFILE; 0 = those given and 32 more */
    uid_t uid;        /* started as root: the cell runs as this user and group (spark_jail_uid); else ignored */
    const char *name; /* "engine demo": process title of the cell, for ps; at most 63 bytes */
} spark_jail_spec;

typedef struct spark_jail_cell {
    pid_t pid;
    int pidfd; /* readable when the cell ended; owned by the caller, who also waits for pid */
} spark_jail_cell;

/* Starts this same program again (a descriptor of it, fresh address space, empty environment: nothing of the warden's memory is in it)
 * as a cell; returns once the exec succeeded. Secrets go by the wire. A cell ends (SIGKILL) with the thread that started it:
 * start cells from one that lives as long as the program. As pid 1 of its namespace a cell ignores SIGTERM: ask it by the wire,
 * then kill it. E_REFUSED if the level cannot be had. */
SPARK_MUST_CHECK spark_status spark_jail_start(spark_jail_cell *out, const spark_jail_spec *spec, spark_err *err);
/* A uid for a cell of root's: distinct for cell 0, 1, ... (61184 + cell; systemd's range of dynamic users, 4336 of them). */
uid_t spark_jail_uid(uint32_t cell);

/* ---- The cell's side ---- */

/* True if this process was started as a cell; fills the spec (fds NULL: they are 3 ... 2 + n_fds). First thing in main. A trial
 * cell (spark_jail_prove) does its act here and never returns. */
bool spark_jail_is_cell(int argc, char **argv, spark_jail_spec *out);

/* Before threads are made: warms what libc would open late (time zone), then closes every door but the filter: uid, namespaces, an
 * empty root, capabilities, no_new_privs, non-dumpable, Landlock, rlimits. Fills the report; E_REFUSED if the level cannot be had. */
SPARK_MUST_CHECK spark_status spark_jail_enter(const spark_jail_spec *spec, spark_jail_report *report, spark_err *err);
/* Once all threads run, each in its own function already (a thread that is still being born makes calls that SERVING refuses):
 * RLIMIT_NPROC, and the filter of OPENING for every thread. */
SPARK_MUST_CHECK spark_status spark_jail_open_phase(const spark_jail_spec *spec, spark_err *err);
/* For good: the filter of SERVING (a tool has none: nothing changes). From now on, in an engine, malloc and its kin end the process with one line (at every level;
 * in programs that link jail/guard.c, as the release binary does). free does nothing then, and reaches no system call. */
SPARK_MUST_CHECK spark_status spark_jail_serve_phase(const spark_jail_spec *spec, spark_err *err);

/* ---- The rules as a table, for filters, pages and tests ---- */

typedef enum spark_jail_arch { SPARK_JAIL_X86_64, SPARK_JAIL_AARCH64, SPARK_JAIL_N_ARCHS } spark_jail_arch;

typedef enum spark_jail_effect {
    SPARK_JAIL_KILL,  /* the process ends by SIGSYS: also everything that is not in the table */
    SPARK_JAIL_ALLOW, /* if the condition holds, else KILL */
    SPARK_JAIL_DENY   /* fails with the rule's errno: for calls of libc that go on without */
} spark_jail_effect;

/* A condition is met if every test of one of its clauses is: (args[arg] & mask) == value. */
typedef struct spark_jail_test {
    uint8_t arg;
    uint64_t mask, value;
} spark_jail_test;
enum { SPARK_JAIL_MAX_TESTS = 3 };
typedef struct spark_jail_clause {
    uint8_t n_tests;
    spark_jail_test tests[SPARK_JAIL_MAX_TESTS];
} spark_jail_clause;
typedef struct spark_jail_condition {
    const char *words;
    uint8_t n_clauses;
    const spark_jail_clause *clauses;
} spark_jail_condition;

typedef struct spark_jail_rule {
    const char *syscall;
    int32_t number[SPARK_JAIL_N_ARCHS]; /* -1: that architecture has no such call */
    spark_jail_effect effect[SPARK_JAIL_N_ROLES][SPARK_JAIL_N_PHASES];
    const spark_jail_condition *condition; /* NULL = none */
    int deny_errno;
    const char *reason; /* who needs it */
} spark_jail_rule;
const spark_jail_rule *spark_jail_rules(uint32_t *n);

/* What the table says to one call; *deny_errno (may be NULL) is set for DENY. */
spark_jail_effect spark_jail_judge(spark_jail_arch arch, spark_jail_role role, spark_jail_phase phase, int32_t number,
                                   const uint64_t args[6], int *deny_errno);

/* ---- Proof ---- */

typedef enum spark_jail_verdict {
    SPARK_JAIL_KILLED, /* by the signal `number` */
    SPARK_JAIL_FAILED, /* with the errno `number` */
    SPARK_JAIL_NOTHING_THERE, /* the same, and because nothing of that name exists in the cell (ENOENT, ESRCH, ENETUNREACH, ...) */
    SPARK_JAIL_ALLOWED
} spark_jail_verdict;
typedef struct spark_jail_trial {
    const char *act; /* "open a file for reading", ... */
    spark_jail_role role;
    spark_jail_phase phase;
    spark_jail_verdict verdict;
    int number;   /* signal or errno */
    bool control; /* an act that the cell needs: it must be allowed, or the other trials would show nothing */
    bool right;   /* as the table demands at this level */
} spark_jail_trial;

/* Starts cells of each role and tries every forbidden act in each phase, one cell an act. Calls on_trial for each; *n_wrong counts
 * those that are not right. Errors: the level cannot be had (E_REFUSED), or a cell could not be started. */
SPARK_MUST_CHECK spark_status spark_jail_prove(spark_jail_level level,
                                               void (*on_trial)(void *ctx, const spark_jail_trial *t), void *ctx,
                                               uint32_t *n_wrong, spark_err *err);

#endif
