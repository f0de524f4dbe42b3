/* trial.c - a cell that tries one act: it closes its doors as every cell does, says so, does it, and tells if it lived on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail_internal.h"

static void trial_tell(const jail_answer *a)
{
    if (write(SPARK_JAIL_FIRST_FD, a, sizeof *a) != (ssize_t)sizeof *a) _exit(1);
}

static spark_status trial_close_doors(const spark_jail_spec *spec, spark_jail_phase phase, bool *mdwe, spark_err *err)
{
    spark_jail_report report;
    SPARK_TRY(spark_jail_enter(spec, &report, err));
    for (uint32_t i = 0; i < report.n_means; i++)
        if (strcmp(report.means[i].name, "no new executable memory") == 0) *mdwe = report.means[i].holds;
    if (phase == SPARK_JAIL_ENTERED) return SPARK_SUCCESS;
    SPARK_TRY(spark_jail_open_phase(spec, err));
    return phase == SPARK_JAIL_SERVING ? spark_jail_serve_phase(spec, err) : SPARK_SUCCESS;
}

static int trial_act(const jail_act *a, pid_t warden)
{
    uint64_t args[6];
    spark__jail_act_args(a, warden, args);
    const int32_t number = a->number[JAIL_ARCH_HERE];
    errno = 0;
    const long r = a->run ? a->run() : syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    return r == -1 ? errno : 0;
}

_Noreturn void spark__jail_trial_main(const spark_jail_spec *spec)
{
    jail_order order;
    jail_answer answer = {.stage = JAIL_STAGE_READY};
    spark_err err = {0};
    uint32_t n = 0;
    const jail_act *acts = spark__jail_acts(&n);
    if (read(SPARK_JAIL_FIRST_FD, &order, sizeof order) != (ssize_t)sizeof order || order.act >= n) _exit(1);
    spark__jail_old_block = malloc(100000); /* NOLINT(clang-analyzer-unix.Malloc): freed by an act, or by the end */
    if (acts[order.act].guard)
        (void)dup2(SPARK_JAIL_FIRST_FD, STDERR_FILENO); /* the prover looks for the guard's line */
    if (!spark_ok(trial_close_doors(spec, order.phase, &answer.mdwe, &err))) {
        answer.stage = JAIL_STAGE_FAILED;
        memcpy(answer.text, err.text, sizeof answer.text - 1);
        trial_tell(&answer);
        _exit(1);
    }
    trial_tell(&answer);
    answer.error = trial_act(&acts[order.act], order.warden);
    answer.stage = JAIL_STAGE_LIVED;
    trial_tell(&answer);
    _exit(0);
}
