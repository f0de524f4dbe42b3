/* cell_tool.c - the cell's side: arguments from the warden, doors, then the command as it always ran. And what a command must ask in
 * another way because it may run in a cell: terminals, signals, lines. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "cli/cell.h"

static bool tool_is_cell;

bool cli_in_cell(void) { return tool_is_cell; }

/* ---- Link ---- */

bool cell_write(int fd, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

bool cell_read(int fd, void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = read(fd, (char *)data + done, len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* ---- Terminals: asked before the door ---- */

bool cli_is_terminal(int fd)
{
    static signed char known[STDERR_FILENO + 1]; /* 1: yes, -1: no */
    if (!known[fd]) known[fd] = isatty(fd) ? 1 : -1;
    return known[fd] > 0;
}

/* In a cell no stream can find out what it writes to. */
static void tool_settle_terminals(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) (void)cli_is_terminal(fd);
    (void)setvbuf(stdout, NULL, cli_is_terminal(STDOUT_FILENO) ? _IOLBF : _IOFBF, BUFSIZ);
}

/* ---- Signals: those that the warden passes on ---- */

const int cell_signals[] = {SIGINT, SIGTERM, SIGHUP, 0};

static _Noreturn void tool_end(int number) { _exit(128 + number - SIGRTMIN); }

bool cli_is_ignored(int signal_number)
{
    struct sigaction now;
    return sigaction(tool_is_cell ? cell_signal(signal_number) : signal_number, NULL, &now) == 0 &&
           now.sa_handler == SIG_IGN;
}

void cli_catch(int signal_number, void (*handler)(int))
{
    const struct sigaction action = {.sa_handler = handler        ? handler
                                                   : tool_is_cell ? tool_end
                                                                  : SIG_DFL,
                                     .sa_flags = SA_RESTART}; /* writes go on */
    sigaction(tool_is_cell ? cell_signal(signal_number) : signal_number, &action, NULL);
}

void cli_die_of(int signal_number)
{
    if (tool_is_cell) tool_end(cell_signal(signal_number));
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* What the user's shell had ignored stays ignored. */
static void tool_settle_signals(void)
{
    for (const int *s = cell_signals; *s; s++) {
        struct sigaction before;
        const bool ignored = sigaction(*s, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
        cli_catch(*s, ignored ? SIG_IGN : NULL);
        signal(*s, SIG_IGN);
    }
}

/* ---- Lines ---- */

char *cli_read_line(bool more)
{
    if (!tool_is_cell) return cli_edit_line(more ? ". " : "> ", NULL);
    const char word = more ? CELL_MORE : CELL_LINE;
    uint32_t len = 0;
    if (!cell_write(CELL_LINK, &word, 1) || !cell_read(CELL_LINK, &len, sizeof len) || len == 0) return NULL;
    char *line = malloc(len);
    if (!line) exit(cli_no_memory("chat"));
    if (!cell_read(CELL_LINK, line, len - 1)) exit(CLI_FAILED); /* the warden is gone */
    line[len - 1] = 0;
    return line;
}

/* ---- Start ---- */

typedef struct tool_texts {
    char *at, *end;
} tool_texts;

/* What the warden sent, as it sent it: this is its own program. */
static bool tool_receive(tool_texts *t)
{
    uint32_t len = 0;
    if (!cell_read(CELL_LINK, &len, sizeof len)) return false;
    char *text = malloc((size_t)len + 1);
    if (!text || !cell_read(CELL_LINK, text, len)) return false; /* NOLINT: the process ends */
    text[len] = 0;
    *t = (tool_texts){text, text + len};
    return true;
}

static char *tool_next(tool_texts *t)
{
    char *text = t->at;
    if (t->at < t->end) t->at += strlen(t->at) + 1;
    return text;
}

static int tool_take_arguments(tool_texts *t, char ***argv)
{
    const int n = (int)strtol(tool_next(t), NULL, 10);
    *argv = calloc((size_t)n + 1, sizeof **argv);
    if (!*argv) exit(cli_no_memory("command line"));
    for (int i = 0; i < n; i++) (*argv)[i] = tool_next(t);
    return n;
}

static void tool_take_variables(tool_texts *t)
{
    for (const char *const *name = cell_variables; *name; name++) {
        const char *value = tool_next(t);
        if (*value == '=') (void)setenv(*name, value + 1, 1);
    }
}

/* Descriptors stand behind the link, in the order of the files. */
static void tool_take_files(tool_texts *t)
{
    const unsigned long n = strtoul(tool_next(t), NULL, 10);
    int fd = CELL_LINK;
    for (unsigned long i = 0; i < n; i++) {
        char *at = tool_next(t);
        const cli_file_kind kind = (cli_file_kind)strtoul(at, &at, 10);
        const bool exists = strtoul(at, &at, 10) != 0;
        const int error = (int)strtol(at, &at, 10);
        cli_files_add(kind, tool_next(t), exists, error ? -1 : ++fd, error);
    }
    cli_files_make_streams();
}

/* What libraries would open late: jansson's random seed; the time zone, with its names, which spark_jail_enter reads as well. */
static void tool_warm_up(void)
{
    const time_t now = time(NULL);
    struct tm local;
    json_object_seed(0);
    tzset();
    (void)localtime_r(&now, &local);
}

static spark_status tool_close_doors(const spark_jail_spec *spec, spark_err *err)
{
    spark_jail_report report;
    SPARK_TRY(spark_jail_enter(spec, &report, err));
    return spark_jail_open_phase(spec, err);
}

/* The warden says it, or tries the next level. */
static int tool_refuse(const spark_err *err)
{
    char why[CELL_WHY] = {0};
    const char word = CELL_REFUSED;
    snprintf(why, sizeof why, "%s", err->text);
    (void)!(cell_write(CELL_LINK, &word, 1) && cell_write(CELL_LINK, why, sizeof why));
    return CLI_REFUSED;
}

static int tool_run(const cli_command *c, int argc, char **argv)
{
    static cli_args args; /* large, and needed once */
    const char word = CELL_READY;
    if (c->defaults) c->defaults();
    if (!c->files || cli_parse(c, argc, argv, &args) != CLI_OK)
        return CLI_USAGE; /* the warden has parsed them before */
    if (!cell_write(CELL_LINK, &word, 1)) return CLI_FAILED;
    const int code = c->run(&args), flushed = cli_flush();
    return code != CLI_OK ? code : flushed;
}

int cli_tool_main(const spark_jail_spec *spec)
{
    static tool_texts texts; /* arguments point into it, to the end */
    char **argv = NULL;
    spark_err err = {0};
    tool_is_cell = true;
    if (!tool_receive(&texts)) return CLI_FAILED;
    tool_take_variables(&texts);
    const int argc = tool_take_arguments(&texts, &argv);
    tool_take_files(&texts);
    tool_settle_terminals();
    tool_settle_signals();
    tool_warm_up();
    api_files_opener(cli_model_descriptor);
    const cli_command *c = argc > 0 ? cli_find_command(argv[0]) : NULL;
    int code = CLI_USAGE;
    if (!spark_ok(tool_close_doors(spec, &err)))
        code = tool_refuse(&err);
    else if (c)
        code = tool_run(c, argc - 1, argv + 1);
    free(argv);
    return code;
}
