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
/* Installs it for every thread; 0 or an errno. */
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

/* ---- trial.c ---- */

/* The life of a trial cell. Never returns. */
_Noreturn void spark__jail_trial_main(const spark_jail_spec *spec);

/* ---- guard.c: only in programs that are linked with it ---- */

SPARK_WEAK void spark__malloc_guard_arm(void);

#endif
