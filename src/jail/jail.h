/* jail.h - what a process may do, closed by itself, step by step, and shown by trying.
 * Nouns:   a role (which cell), a phase (opening: libraries warm up, the model is read; serving: for good), a level (how
 *          strong), a report (what was obtained, and what was not and why); a cell, a child process behind its doors.
 * Promise: what a role may not do in a phase ends the process (SIGSYS) or fails with the errno in the table; the table in
 *          jail/rules.c is the only source of filters, of `spark jail`, of the tests and of the page in ARCHITECTURE.md.
 * Order:   namespaces, drop uid and capabilities, Landlock, warm-up, threads, rlimits, first filter (TSYNC), foreign bytes, second
 *          filter. Other orders fail. Linux; elsewhere every level but OFF is refused with E_UNSUPPORTED. */
#ifndef SPARK_JAIL_JAIL_H
#define SPARK_JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

typedef enum spark_jail_level {
    SPARK_JAIL_OFF,      /* nothing */
    SPARK_JAIL_STANDARD, /* seccomp in two phases, no_new_privs, non-dumpable, rlimits, Landlock */
    SPARK_JAIL_STRICT    /* and user, pid, net, ipc, mount (empty root) namespaces */
} spark_jail_level;

typedef enum spark_jail_role { SPARK_JAIL_ENGINE, SPARK_JAIL_FRONT, SPARK_JAIL_N_ROLES } spark_jail_role;
typedef enum spark_jail_phase { SPARK_JAIL_OPENING, SPARK_JAIL_SERVING, SPARK_JAIL_N_PHASES } spark_jail_phase;

/* One means of the jail: name, whether it holds, else why not. */
typedef struct spark_jail_means {
    const char *name; /* "seccomp", "landlock", "user namespace", ... */
    bool required[SPARK_JAIL_STRICT + 1];
    bool holds;
    char why[128]; /* "unshare: Operation not permitted"; Landlock: "ABI 7" where it holds */
} spark_jail_means;

enum { SPARK_JAIL_MAX_MEANS = 16 };
typedef struct spark_jail_report {
    spark_jail_level level; /* the strongest of which every means holds */
    uint32_t n_means;
    spark_jail_means means[SPARK_JAIL_MAX_MEANS];
} spark_jail_report;

/* What this system grants, found by trying in a child that exits (about 10 ms; nothing stays changed). */
SPARK_MUST_CHECK spark_status spark_jail_probe(spark_jail_report *out, spark_err *err);

/* ---- The warden's side ---- */

typedef struct spark_jail_spec {
    spark_jail_role role;
    spark_jail_level level;
    const int *fds; /* [n_fds]: become descriptors 3, 4, ... of the cell; all others are closed, 0-2 are /dev/null, /dev/null, stderr */
    uint32_t n_fds;
    uint32_t n_threads;     /* that the cell may have, itself included: RLIMIT_NPROC and the filter of the opening phase follow */
    uint64_t max_memory;    /* RLIMIT_AS in bytes, 0 = none */
    uint32_t max_files;     /* descriptors the cell may have (a front: its connections), for RLIMIT_NOFILE */
    uid_t uid;              /* started as root: the cell runs as this user and group (spark_jail_uid); else ignored */
    const char *name;       /* "engine demo": process title of the cell, for ps */
} spark_jail_spec;

typedef struct spark_jail_cell {
    pid_t pid;
    int pidfd; /* readable when the cell ended; owned by the caller */
} spark_jail_cell;

/* Starts this same program again (a descriptor of it, fresh address space: nothing of the warden's memory is in it) as a cell. main()
 * hands over to spark_jail_cell_main when argv[0] is "spark-cell". No secret may be passed but by the wire. */
SPARK_MUST_CHECK spark_status spark_jail_start(spark_jail_cell *out, const spark_jail_spec *spec, spark_err *err);
/* A uid for a cell of root's: distinct for cell 0, 1, ... (61184 + cell; systemd's range of dynamic users). */
uid_t spark_jail_uid(uint32_t cell);

/* ---- The cell's side ---- */

/* True if this process was started as a cell; fills the spec (fds: n_fds counts from 3). First thing in main. */
bool spark_jail_is_cell(int argc, char **argv, spark_jail_spec *out);

/* Before threads are made: finishes namespaces (mounts, uid), capabilities, no_new_privs, non-dumpable, Landlock, rlimits of files and
 * core; and warms what libc would open late (time zone, malloc arenas, random). Fails if the level cannot be had. */
SPARK_MUST_CHECK spark_status spark_jail_enter(const spark_jail_spec *spec, spark_jail_report *report, spark_err *err);
/* Once all threads run: RLIMIT_NPROC, and the filter of OPENING for every thread. */
SPARK_MUST_CHECK spark_status spark_jail_open_phase(const spark_jail_spec *spec, spark_err *err);
/* For good: the filter of SERVING. From now on, in an engine, malloc and its kin abort (spark_jail_malloc_guard). */
SPARK_MUST_CHECK spark_status spark_jail_serve_phase(const spark_jail_spec *spec, spark_err *err);

/* ---- Proof ---- */

typedef enum spark_jail_verdict { SPARK_JAIL_KILLED, SPARK_JAIL_FAILED, SPARK_JAIL_NOTHING_THERE, SPARK_JAIL_ALLOWED } spark_jail_verdict;
typedef struct spark_jail_trial {
    const char *act;      /* "open a file for reading", ... */
    spark_jail_role role;
    spark_jail_phase phase;
    spark_jail_verdict verdict;
    int number; /* signal or errno */
    bool right; /* as the table demands at this level */
} spark_jail_trial;

/* Starts cells of each role and tries every forbidden act in each phase (at least the 38 of the table), one child an act. Calls
 * on_trial for each. E_REFUSED if any verdict is wrong. */
SPARK_MUST_CHECK spark_status spark_jail_prove(spark_jail_level level, void (*on_trial)(void *ctx, const spark_jail_trial *t),
                                               void *ctx, spark_err *err);

/* The rules as a table, for pages and tests. */
typedef struct spark_jail_rule {
    const char *syscall;
    bool allowed[SPARK_JAIL_N_ROLES][SPARK_JAIL_N_PHASES];
    const char *condition; /* on arguments, in words; NULL = none */
    const char *reason;    /* who needs it */
} spark_jail_rule;
const spark_jail_rule *spark_jail_rules(uint32_t *n);

#endif
