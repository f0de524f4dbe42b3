/* prove.c - every forbidden act, tried in a cell of its own, and what happened.
 * Three stages of each role (two of a tool, which does not serve): all doors but the filter (what namespaces, uid, capabilities, Landlock hold alone), opening, serving. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail_internal.h"

enum { PROVE_PATIENCE_MS = 20000, PROVE_MAX_TEXT = 256 };

typedef enum prove_wish { PROVE_SKIP, PROVE_HELD, PROVE_KILLED, PROVE_GUARDED, PROVE_DENIED, PROVE_LIVES } prove_wish;

typedef struct prove_result {
    jail_answer ready, lived;
    bool has_lived, spoke; /* spoke: a line of the guard's */
    int status;            /* of waitpid */
} prove_result;

/* ---- What must happen ---- */

static prove_wish prove_entered(const jail_act *a, spark_jail_level level)
{
    switch (a->entered) {
    case JAIL_HELD_BY_STRICT: return level == SPARK_JAIL_STRICT ? PROVE_HELD : PROVE_SKIP;
    case JAIL_HELD_BY_STANDARD:
    case JAIL_HELD_BY_MDWE: return PROVE_HELD;
    case JAIL_NOT_HELD: break;
    }
    return PROVE_SKIP;
}

static prove_wish prove_guarded(const jail_act *a, spark_jail_role role, spark_jail_phase phase)
{
    if (role != SPARK_JAIL_ENGINE || phase != SPARK_JAIL_SERVING || !spark__malloc_guard_arm) return PROVE_SKIP;
    return a->guard == JAIL_GUARD_REFUSES ? PROVE_GUARDED : PROVE_LIVES;
}

static prove_wish prove_wanted(const jail_act *a, spark_jail_level level, spark_jail_role role, spark_jail_phase phase,
                               int *deny)
{
    uint64_t args[6];
    if (a->guard) return prove_guarded(a, role, phase);
    if (a->number[JAIL_ARCH_HERE] < 0) return PROVE_SKIP;
    if (phase == SPARK_JAIL_ENTERED) return prove_entered(a, level);
    spark__jail_act_args(a, getpid(), args);
    switch (spark_jail_judge(JAIL_ARCH_HERE, role, phase, a->number[JAIL_ARCH_HERE], args, deny)) {
    case SPARK_JAIL_ALLOW: return PROVE_LIVES;
    case SPARK_JAIL_DENY: return PROVE_DENIED;
    case SPARK_JAIL_KILL: break;
    }
    return PROVE_KILLED;
}

/* ---- What happens ---- */

/* One message of the cell: an answer, or a line of the guard's. False for the latter and at the cell's end. */
static bool prove_read(int link, jail_answer *out, bool *spoke)
{
    char bytes[PROVE_MAX_TEXT + sizeof *out];
    ssize_t n;
    struct pollfd ready = {.fd = link, .events = POLLIN};
    if (poll(&ready, 1, PROVE_PATIENCE_MS) <= 0) return false;
    do n = read(link, bytes, sizeof bytes - 1);
    while (n < 0 && errno == EINTR);
    if (n <= 0) return false;
    if (n == (ssize_t)sizeof *out) {
        memcpy(out, bytes, sizeof *out);
        return true;
    }
    bytes[n] = 0;
    *spoke = strstr(bytes, " after ready") && strchr(bytes, '\n') == bytes + n - 1;
    return false;
}

static spark_status prove_talk(prove_result *r, int link, const spark_jail_cell *cell, const jail_order *order,
                               spark_err *err)
{
    bool spoke = false;
    spark_status s = SPARK_SUCCESS;
    if (write(link, order, sizeof *order) != (ssize_t)sizeof *order || !prove_read(link, &r->ready, &spoke))
        s = spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "a trial cell ended before its doors were closed");
    else if (r->ready.stage != JAIL_STAGE_READY)
        s = spark_fail(err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "%.127s", r->ready.text);
    else
        r->has_lived = prove_read(link, &r->lived, &r->spoke);
    struct pollfd ended = {.fd = cell->pidfd, .events = POLLIN};
    if (poll(&ended, 1, PROVE_PATIENCE_MS) == 0) (void)kill(cell->pid, SIGKILL);
    while (waitpid(cell->pid, &r->status, 0) < 0 && errno == EINTR) {
    }
    return s;
}

static spark_status prove_try(prove_result *r, spark_jail_level level, spark_jail_role role, const jail_order *order,
                              spark_err *err)
{
    int pair[2];
    spark_jail_cell cell;
    *r = (prove_result){0};
    SPARK_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                "no sockets: %s", strerror(errno));
    const spark_jail_spec spec = {.role = role,
                                  .level = level,
                                  .fds = &pair[1],
                                  .n_fds = 1,
                                  .n_threads = 1,
                                  .uid = spark_jail_uid(0),
                                  .name = "trial"};
    spark_status s = spark__jail_start(&cell, &spec, true, err);
    close(pair[1]);
    if (spark_ok(s)) {
        s = prove_talk(r, pair[0], &cell, order, err);
        close(cell.pidfd);
    }
    close(pair[0]);
    return s;
}

/* ---- The verdict ---- */

static bool prove_is_absence(int error)
{
    return error == ENOENT || error == ESRCH || error == ENETUNREACH || error == ENXIO || error == ENODEV;
}

static void prove_verdict(spark_jail_trial *t, const prove_result *r)
{
    if (WIFSIGNALED(r->status)) {
        t->verdict = SPARK_JAIL_KILLED;
        t->number = WTERMSIG(r->status);
    } else if (!r->has_lived) {
        t->verdict = SPARK_JAIL_FAILED; /* it ended on its own, which no act does */
        t->number = 0;
    } else {
        t->number = r->lived.error;
        t->verdict = r->lived.error == 0                ? SPARK_JAIL_ALLOWED
                     : prove_is_absence(r->lived.error) ? SPARK_JAIL_NOTHING_THERE
                                                        : SPARK_JAIL_FAILED;
    }
}

static bool prove_was_killed(const spark_jail_trial *t, const jail_act *a, const prove_result *r)
{
#ifdef SPARK_SANITIZED /* a handler names the call there and ends the process */
    if (!r->has_lived) return true;
#else
    (void)r;
#endif
    return t->verdict == SPARK_JAIL_KILLED && (t->number == SIGSYS || a->any_signal);
}

static bool prove_is_right(const spark_jail_trial *t, const jail_act *a, prove_wish wish, int deny,
                           const prove_result *r)
{
    const bool killed = t->verdict == SPARK_JAIL_KILLED;
    switch (wish) {
    case PROVE_KILLED: return prove_was_killed(t, a, r);
    case PROVE_GUARDED: return killed && (t->number == SIGILL || t->number == SIGTRAP) && r->spoke;
    case PROVE_HELD: return t->verdict != SPARK_JAIL_ALLOWED && !killed && t->number != 0;
    case PROVE_DENIED: return t->verdict != SPARK_JAIL_ALLOWED && !killed && t->number == deny;
    case PROVE_LIVES: return t->verdict == SPARK_JAIL_ALLOWED;
    case PROVE_SKIP: break;
    }
    return true;
}

/* ---- All of them ---- */

typedef struct prove_run {
    spark_jail_level level;
    void (*on_trial)(void *ctx, const spark_jail_trial *t);
    void *ctx;
    uint32_t n_wrong;
} prove_run;

static spark_status prove_act(prove_run *run, uint32_t act, const jail_act *a, spark_jail_role role,
                              spark_jail_phase phase, spark_err *err)
{
    int deny = 0;
    prove_result r;
    const prove_wish wish = prove_wanted(a, run->level, role, phase, &deny);
    if (wish == PROVE_SKIP) return SPARK_SUCCESS;
    const jail_order order = {.act = act, .phase = phase, .warden = getpid()};
    SPARK_TRY(prove_try(&r, run->level, role, &order, err));
    if (phase == SPARK_JAIL_ENTERED && a->entered == JAIL_HELD_BY_MDWE && !r.ready.mdwe)
        return SPARK_SUCCESS; /* not promised here */
    spark_jail_trial t = {.act = a->name, .role = role, .phase = phase, .control = wish == PROVE_LIVES};
    prove_verdict(&t, &r);
    t.right = prove_is_right(&t, a, wish, deny, &r);
    run->n_wrong += !t.right;
    run->on_trial(run->ctx, &t);
    return SPARK_SUCCESS;
}

static spark_status prove_stage(prove_run *run, spark_jail_role role, spark_jail_phase phase, spark_err *err)
{
    uint32_t n = 0;
    const jail_act *acts = spark__jail_acts(&n);
    if (!spark_jail_has_phase(role, phase)) return SPARK_SUCCESS;
    for (uint32_t i = 0; i < n; i++) SPARK_TRY(prove_act(run, i, &acts[i], role, phase, err));
    return SPARK_SUCCESS;
}

spark_status spark_jail_prove(spark_jail_level level, void (*on_trial)(void *ctx, const spark_jail_trial *t), void *ctx,
                              uint32_t *n_wrong, spark_err *err)
{
    static const spark_jail_phase stages[] = {SPARK_JAIL_ENTERED, SPARK_JAIL_OPENING, SPARK_JAIL_SERVING};
    prove_run run = {.level = level, .on_trial = on_trial, .ctx = ctx};
    SPARK_CHECK(level != SPARK_JAIL_OFF, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "at level off there is nothing to prove");
    for (spark_jail_role role = 0; role < SPARK_JAIL_N_ROLES; role++)
        for (size_t i = 0; i < SPARK_COUNT(stages); i++) SPARK_TRY(prove_stage(&run, role, stages[i], err));
    *n_wrong = run.n_wrong;
    return SPARK_SUCCESS;
}
