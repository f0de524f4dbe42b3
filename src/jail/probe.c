/* probe.c - which level this system grants: a child tries everything and tells.
 * The child is a fork without exec, so that any program may ask; it closes its doors as a cell does and ends. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail_internal.h"

/* Both filters, one upon the other as in a cell. */
static void probe_filters(spark_jail_report *r)
{
    int error = spark__jail_install(SPARK_JAIL_ENGINE, SPARK_JAIL_OPENING);
    if (!error) error = spark__jail_install(SPARK_JAIL_ENGINE, SPARK_JAIL_SERVING);
    if (!error) return;
    for (uint32_t i = 0; i < r->n_means; i++)
        if (strcmp(r->means[i].name, "seccomp") == 0) r->means[i].holds = false;
    r->level = SPARK_JAIL_OFF;
}

static _Noreturn void probe_child(int out, spark_jail_level level, uid_t uid, gid_t gid, bool user_namespace)
{
    spark_jail_report r = {0};
    const spark_jail_spec spec = {
        .role = SPARK_JAIL_ENGINE, .level = level, .n_threads = 1, .uid = spark_jail_uid(0), .name = "probe"};
    const int unmapped = user_namespace ? spark__jail_map(uid, gid) : 0;
    if (unmapped) { /* as in a container's root that lacks CAP_SETFCAP */
        (void)!write(out, &unmapped, sizeof unmapped);
        _exit(0);
    }
    spark__jail_close_doors(&spec, &r);
    probe_filters(&r);
    (void)!write(out, &r, sizeof r); /* less than a pipe holds; its pointers are the parent's as well */
    _exit(0);
}

/* What the child says: a report, or the errno that kept it from its namespaces. */
static spark_status probe_hear(spark_jail_report *out, int pipe, int *refused, spark_err *err)
{
    ssize_t n;
    do n = read(pipe, out, sizeof *out);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof *refused) memcpy(refused, out, sizeof *refused);
    SPARK_CHECK(n == (ssize_t)sizeof *out || n == (ssize_t)sizeof *refused, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                "the trial of the jail ended before it told anything");
    return SPARK_SUCCESS;
}

static spark_status probe_level(spark_jail_report *out, spark_jail_level level, int *refused, spark_err *err)
{
    int ends[2], pidfd = -1;
    bool user_namespace = false;
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    spark_status s = SPARK_SUCCESS;
    SPARK_CHECK(pipe2(ends, O_CLOEXEC) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "no pipe: %s", strerror(errno));
    const pid_t pid = spark__jail_fork(level, &pidfd, &user_namespace);
    if (pid == 0) probe_child(ends[1], level, uid, gid, user_namespace);
    close(ends[1]);
    *refused = pid < 0 ? -pid : 0;
    if (pid > 0) {
        s = probe_hear(out, ends[0], refused, err);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        close(pidfd);
    }
    close(ends[0]);
    return s;
}

/* Where not even the fork is granted, or its ids cannot be mapped, all namespaces are missing for that reason. */
static void probe_add_missing(spark_jail_report *r, int refused)
{
    if (r->n_means == SPARK_JAIL_MAX_MEANS) return;
    spark_jail_means *m = &r->means[r->n_means++];
    *m = (spark_jail_means){.name = "user and pid namespace", .required = {false, false, true}};
    const char *why = strerror(refused);
    snprintf(m->why, sizeof m->why, "clone: %s", why);
}

spark_status spark_jail_probe(spark_jail_report *out, spark_err *err)
{
    spark_jail_report r = {0};
    int refused = 0;
    SPARK_TRY(probe_level(&r, SPARK_JAIL_STRICT, &refused, err));
    if (refused) {
        int again = 0;
        SPARK_TRY(probe_level(&r, SPARK_JAIL_STANDARD, &again, err));
        SPARK_CHECK(!again, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "no process for a trial of the jail: %s",
                    strerror(again));
        probe_add_missing(&r, refused);
    }
    *out = r;
    return SPARK_SUCCESS;
}

spark_status spark_jail_probe_at(spark_jail_report *out, spark_jail_level level, spark_err *err)
{
    spark_jail_report r = {0};
    int refused = 0;
    if (level != SPARK_JAIL_OFF) SPARK_TRY(probe_level(&r, level, &refused, err));
    SPARK_CHECK(!refused, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "level %s cannot be had here: %s",
                spark_jail_level_name(level), strerror(refused));
    *out = r;
    return SPARK_SUCCESS;
}
