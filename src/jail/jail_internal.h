/* jail_internal.h - what the files of this room share. */
#ifndef SPARK_JAIL_JAIL_INTERNAL_H
#define SPARK_JAIL_JAIL_INTERNAL_H

#include <linux/filter.h>

#include "jail/jail.h"

#if defined(__x86_64__)
#define JAIL_ARCH_HERE SPARK_JAIL_X86_64
#else
#define JAIL_ARCH_HERE SPARK_JAIL_AARCH64
#endif

/* ---- filter.c ---- */

enum { JAIL_MAX_FILTER = 1024 };
/* The table as a program for seccomp; returns its length in instructions. */
uint32_t spark__jail_filter(spark_jail_arch arch, spark_jail_role role, spark_jail_phase phase,
                            struct sock_filter out[JAIL_MAX_FILTER]);
/* install.c (alone, so that a test can put a wrong one in its place): for every thread; 0 or an errno. */
int spark__jail_install(spark_jail_role role, spark_jail_phase phase);

/* ---- enter.c ---- */

/* Every door but the filter, as far as `level` has it; goes on after a refusal, which the report shows. */
void spark__jail_close_doors(const spark_jail_spec *spec, spark_jail_report *report);
void spark__jail_limit_threads(const spark_jail_spec *spec);
/* Maps the ids that the caller had before into its new user namespace; 0 or an errno. */
int spark__jail_map(uid_t uid, gid_t gid);

/* ---- start.c ---- */

/* fork() into a pid namespace if the level has one: directly, or by way of a user namespace, which *user_namespace tells (the child
 * must then map itself). Returns the pid, 0 in the child, or -errno. No code of libc's runs at fork: the child makes system calls only. */
pid_t spark__jail_fork(spark_jail_level level, int *pidfd, bool *user_namespace);
/* The same start, for a trial. */
spark_status spark__jail_start(spark_jail_cell *out, const spark_jail_spec *spec, bool trial, spark_err *err);

/* ---- acts.c ---- */

/* Which doors hold an act already before there is a filter: trials of SPARK_JAIL_ENTERED. */
typedef enum jail_held { JAIL_NOT_HELD, JAIL_HELD_BY_STRICT, JAIL_HELD_BY_STANDARD, JAIL_HELD_BY_MDWE } jail_held;
typedef enum jail_guarded { JAIL_NO_GUARD, JAIL_GUARD_REFUSES, JAIL_GUARD_ALLOWS } jail_guarded;

typedef struct jail_act {
    const char *name;
    int32_t number[SPARK_JAIL_N_ARCHS]; /* -1: none on that architecture */
    uint64_t value[6];
    const void *pointer[6]; /* where it is not NULL, instead of value */
    uint8_t warden_at;      /* the argument, counted from 1, that is the warden's pid as the warden sees it */
    long (*run)(void);      /* instead of the one call: several; what it returns is a call's return */
    bool any_signal;        /* killed by another signal than SIGSYS is right too */
    jail_held entered;
    jail_guarded
        guard; /* an act of malloc's, not of a system call's: only in a serving engine of a program with the guard */
} jail_act;

const jail_act *spark__jail_acts(uint32_t *n);
void spark__jail_act_args(const jail_act *a, pid_t warden, uint64_t args[6]);
extern void *spark__jail_old_block; /* memory from before ready, for the act that frees it */

/* ---- trial.c ---- */

/* What the prover sends to a trial cell, and what comes back if the cell lives on. */
typedef struct jail_order {
    uint32_t act;
    spark_jail_phase phase;
    pid_t warden;
} jail_order;
typedef struct jail_answer {
    uint32_t stage; /* JAIL_STAGE_...: first READY or FAILED, then LIVED */
    int32_t error;  /* the act's errno, 0 = it succeeded */
    bool mdwe;      /* among the doors */
    char text[128]; /* why the doors could not be closed */
} jail_answer;
enum { JAIL_STAGE_READY = 1, JAIL_STAGE_FAILED, JAIL_STAGE_LIVED };

/* The life of a trial cell. Never returns. */
_Noreturn void spark__jail_trial_main(const spark_jail_spec *spec);

/* ---- guard.c: only in programs that are linked with it ---- */

SPARK_WEAK void spark__malloc_guard_arm(void);

#endif
