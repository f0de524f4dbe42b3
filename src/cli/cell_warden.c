/* cell_warden.c - the process that the user started, while the command runs in a cell: it waits, passes signals on, edits lines. Nothing
 * that the cell says is trusted; nothing foreign is read here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "cli/cell.h"
#include "serve/poll.h"

const char *const cell_variables[] = {"SPARK_CPU", "TZ", "TZDIR", NULL};

typedef struct cell_result {
    bool granted; /* false: no level of the jail is granted, and none was demanded; nothing ran */
    int code;
    int signal; /* not 0: what ended the cell was asked for by this signal */
} cell_result;

typedef struct warden_state {
    const cli_command *c;
    int argc;
    char **argv;
    spark_jail_cell cell;
    int link, signals; /* this end; a signalfd */
    sigset_t before;   /* the mask as it was */
    bool ready;
    spark_jail_level level;
    int asked;                /* the last signal that was passed on */
    char why[SPARK_ERR_TEXT]; /* why the level before cannot be had */
    bool refused;             /* by the cell */
    bool broke_rules;
} warden_state;

/* ---- What the cell is told first ---- */

static void warden_put(cli_out *o, const char *text) { cli_put(o, text, strlen(text) + 1); }

static void warden_put_number(cli_out *o, unsigned long n)
{
    char text[24];
    snprintf(text, sizeof text, "%lu", n);
    warden_put(o, text);
}

static void warden_put_all(const warden_state *w, cli_out *o)
{
    for (const char *const *name = cell_variables; *name; name++) {
        const char *value = getenv(*name);
        if (value) cli_put(o, "=", 1);
        warden_put(o, value ? value : "");
    }
    warden_put_number(o, (unsigned long)w->argc);
    for (int i = 0; i < w->argc; i++) warden_put(o, w->argv[i]);
    warden_put_number(o, cli_named.n);
    for (uint32_t i = 0; i < cli_named.n; i++) {
        const cli_file *f = &cli_named.at[i];
        char text[64];
        snprintf(text, sizeof text, "%d %d %d", (int)f->kind, f->exists, f->fd < 0 ? f->error : 0);
        warden_put(o, text);
        warden_put(o, f->path);
    }
}

static bool warden_tell(const warden_state *w)
{
    cli_out o = {0};
    warden_put_all(w, &o);
    const uint32_t len = (uint32_t)o.len;
    const bool told = cell_write(w->link, &len, sizeof len) && cell_write(w->link, o.ptr, o.len);
    cli_out_free(&o);
    return told;
}

/* ---- Starting ---- */

/* The link, and the files that could be opened, in order. */
static spark_status warden_start(warden_state *w, spark_jail_level level, spark_err *err)
{
    enum { UIDS = 2048 }; /* apart from those of `serve`, which counts from 0 */
    static int fds[SPARK_JAIL_MAX_FDS];
    int pair[2];
    uint32_t n = 1;
    for (uint32_t i = 0; i < cli_named.n; i++) {
        if (cli_named.at[i].fd < 0) continue;
        SPARK_CHECK(n < SPARK_JAIL_MAX_FDS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "too many files");
        fds[n++] = cli_named.at[i].fd;
    }
    SPARK_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                "no sockets: %s", strerror(errno));
    fds[0] = pair[1];
    const spark_jail_spec spec = {.role = SPARK_JAIL_TOOL,
                                  .level = level,
                                  .fds = fds,
                                  .n_fds = n,
                                  .uid = spark_jail_uid(UIDS + (uint32_t)getpid() % UIDS),
                                  .name = w->c->name};
    const spark_status s = spark_jail_start(&w->cell, &spec, err);
    close(pair[1]);
    w->link = pair[0];
    if (!spark_ok(s)) close(pair[0]);
    return s;
}

/* ---- Signals ---- */

/* What stops a terminal's job stops the cell first, because as the first process of its namespace it does not stop by itself. */
static const int warden_stops[] = {SIGTSTP, SIGTTIN, SIGTTOU, 0};

static spark_status warden_take_signals(warden_state *w, spark_err *err)
{
    sigset_t set;
    sigemptyset(&set);
    for (const int *s = cell_signals; *s; s++) sigaddset(&set, *s);
    for (const int *s = warden_stops; *s; s++) sigaddset(&set, *s);
    sigprocmask(SIG_BLOCK, &set, &w->before);
    w->signals = signalfd(-1, &set, SFD_CLOEXEC);
    SPARK_CHECK(w->signals >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "no signalfd: %s", strerror(errno));
    return SPARK_SUCCESS;
}

static void warden_stop(const warden_state *w, int signal_number)
{
    sigset_t one, blocked;
    kill(w->cell.pid, SIGSTOP);
    sigemptyset(&one);
    sigaddset(&one, signal_number);
    raise(signal_number); /* pending, until it is let through */
    sigprocmask(SIG_UNBLOCK, &one, &blocked);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    kill(w->cell.pid, SIGCONT);
}

static void warden_on_signal(warden_state *w)
{
    struct signalfd_siginfo info;
    if (read(w->signals, &info, sizeof info) != (ssize_t)sizeof info) return;
    const int number = (int)info.ssi_signo;
    for (const int *s = warden_stops; *s; s++)
        if (*s == number) {
            warden_stop(w, number);
            return;
        }
    w->asked = number;
    kill(w->cell.pid, cell_signal(number));
}

/* ---- The cell's words ---- */

static void warden_edit(const warden_state *w, char word)
{
    char *line = cli_edit_line(word == CELL_MORE ? ". " : "> ", &w->before);
    const uint32_t len = line ? (uint32_t)strlen(line) + 1 : 0;
    if (cell_write(w->link, &len, sizeof len) && line) (void)!cell_write(w->link, line, len - 1); /* it may be gone */
    free(line);
}

/* false: the link has ended. */
static bool warden_on_word(warden_state *w)
{
    char word = 0;
    char why[CELL_WHY] = {0};
    if (!cell_read(w->link, &word, 1)) return false;
    const bool line = word == CELL_LINE || word == CELL_MORE;
    if (!w->ready && word == CELL_READY) {
        w->ready = true;
        if (w->level == SPARK_JAIL_STANDARD && cli_jail_wish == CLI_JAIL_BEST)
            cli_note("%s: the jail is not strict here, but standard: %s", w->c->name, w->why);
    } else if (!w->ready && word == CELL_REFUSED && cell_read(w->link, why, sizeof why)) {
        w->refused = true;
        snprintf(w->why, sizeof w->why, "%.*s", CELL_WHY - 1, why);
    } else if (w->ready && line && w->c->edits_lines && cli_is_terminal(STDIN_FILENO) && cli_is_terminal(STDOUT_FILENO))
        warden_edit(w, word);
    else {
        w->broke_rules = true;
        kill(w->cell.pid, SIGKILL);
        return false;
    }
    return true;
}

/* Until the cell has ended; its wait status. Signals wait until it is ready to hear them; words go before signals, so that Ctrl-C at the
 * end of an answer is one at the prompt. */
static int warden_wait(warden_state *w)
{
    enum { ENDED, WORD, SIGNAL, N };
    int status = 0, ready = 0;
    spark_err err = {0};
    for (bool open = true;;) {
        struct pollfd p[N] = {[ENDED] = {w->cell.pidfd, POLLIN, 0},
                              [WORD] = {open ? w->link : -1, POLLIN, 0},
                              [SIGNAL] = {w->ready ? w->signals : -1, POLLIN, 0}};
        if (!spark_ok(spark_poll(p, N, -1, &ready,
                                 &err))) { /* it would never be heard: better no answer than none for ever */
            (void)cli_fail(w->c->name, &err, NULL);
            kill(w->cell.pid, SIGKILL);
            break;
        }
        if (p[WORD].revents)
            open = warden_on_word(w);
        else if (p[ENDED].revents)
            break;
        else if (p[SIGNAL].revents)
            warden_on_signal(w);
    }
    while (waitpid(w->cell.pid, &status, 0) < 0 && errno == EINTR) {
    }
    close(w->cell.pidfd);
    close(w->link);
    return status;
}

/* ---- One level, then the next ---- */

static int warden_judge(const warden_state *w, int status)
{
    const char *clear = cli_is_terminal(STDERR_FILENO) ? "\r\033[K" : ""; /* a progress bar may stand there */
    if (w->broke_rules)
        fprintf(stderr, "%sspark: %s: the cell broke the rules of its link and was ended; do not trust this model\n",
                clear, w->c->name);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        fprintf(stderr,
                "%sspark: %s: the cell made a system call that it may not make, and was ended (SIGSYS); do not trust "
                "this model\n",
                clear, w->c->name);
    else if (WIFSIGNALED(status))
        fprintf(stderr, "%sspark: %s: the cell that reads the model was ended by signal %d (SIG%s)\n", clear,
                w->c->name, WTERMSIG(status), sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    return w->broke_rules || WIFSIGNALED(status) ? CLI_FAILED : WEXITSTATUS(status);
}

/* false: this level cannot be had; w->why tells the reason. */
static bool warden_try(warden_state *w, spark_jail_level level, cell_result *out)
{
    spark_err err = {0};
    w->ready = w->refused = false;
    w->level = level;
    if (!spark_ok(warden_start(w, level, &err))) {
        snprintf(w->why, sizeof w->why, "%s", err.text);
        return false;
    }
    (void)!warden_tell(w); /* if the cell has gone, its end tells more */
    const int status = warden_wait(w);
    if (w->refused) return false;
    *out = (cell_result){.granted = true, .code = warden_judge(w, status)};
    if (w->asked && WIFEXITED(status) && out->code == 128 + w->asked) out->signal = w->asked;
    return true;
}

/* The strongest level that is granted, or the demanded one and nothing less. */
static cell_result warden_run(warden_state *w)
{
    cell_result r = {0};
    const bool strict = cli_jail_wish != CLI_JAIL_STANDARD, standard = cli_jail_wish != CLI_JAIL_STRICT;
    spark_err err = {0};
    if (!spark_ok(warden_take_signals(w, &err))) {
        r = (cell_result){.granted = true, .code = cli_fail(w->c->name, &err, NULL)};
        return r;
    }
    if (strict && warden_try(w, SPARK_JAIL_STRICT, &r)) return r;
    if (standard && warden_try(w, SPARK_JAIL_STANDARD, &r)) return r;
    if (cli_jail_wish == CLI_JAIL_BEST) {
        cli_note("%s: no level of the jail is granted here, so there is none: %s", w->c->name, w->why);
        return r;
    }
    fprintf(stderr, "spark: %s: %s; 'spark jail' tells what is granted here\n", w->c->name, w->why);
    return (cell_result){.granted = true, .code = CLI_REFUSED};
}

/* Signals stay blocked until what the cell wrote is in its place. */
int cli_run(const cli_command *c, int argc, char **argv, const cli_args *args)
{
    warden_state w = {.c = c, .argc = argc, .argv = argv, .signals = -1};
    cell_result r = {0};
    int code = c->files(args);
    if (code != CLI_OK) return code;
    if (cli_jail_wish != CLI_JAIL_OFF) r = warden_run(&w);
    if (!r.granted) {
        if (w.signals >= 0) sigprocmask(SIG_SETMASK, &w.before, NULL);
        api_files_opener(cli_model_descriptor);
        r.code = c->run(args);
    }
    code = c->finish ? c->finish(args, r.code) : r.code;
    if (w.signals >= 0) sigprocmask(SIG_SETMASK, &w.before, NULL);
    if (r.signal) cli_die_of(r.signal);
    return code;
}
