/* cli.h - what every command shares: options from a table, errors in one line, opening a model, progress.
 * Commands hold no logic: they read options, call the library, print. stdout is the result and nothing else.
 * Help, man pages and completions are made from the same tables, so they cannot disagree. */
#ifndef SPARK_CLI_CLI_H
#define SPARK_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/compiler.h"
#include "spark/spark.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_REFUSED = 3 }; /* exit codes (CLI.md) */

/* ---- Commands and options (options.c, help.c) ---- */

typedef enum cli_kind {
    CLI_FLAG,  /* bool, set to true */
    CLI_U32,   /* uint32_t in [min, max] */
    CLI_U64,   /* uint64_t */
    CLI_F32,   /* float in [min, max] */
    CLI_TEXT,  /* const char * */
    CLI_TEXTS, /* cli_texts, the option may be given several times */
    CLI_CHOICE /* uint32_t, index into `choices` */
} cli_kind;

enum { CLI_MAX_TEXTS = 64, CLI_MAX_ARGS = 4096 };

typedef struct cli_texts {
    const char *item[CLI_MAX_TEXTS];
    uint32_t n;
} cli_texts;

typedef struct cli_option {
    const char *name; /* "--temp", or "-n" */
    cli_kind kind;
    void *value;
    const char *arg; /* how help names the value: "N"; NULL for flags */
    const char *help;
    double min, max;
    const char *choices; /* CLI_CHOICE: "f16|f32|q8_0" */
} cli_option;

typedef struct cli_args {
    const char *item[CLI_MAX_ARGS];
    uint32_t n;
} cli_args;

typedef struct cli_command {
    const char *name, *args, *summary, *details, *examples;
    const cli_option *options; /* the last one has no name */
    void (*defaults)(void);    /* called before options are read; may be NULL */
    int (*run)(const cli_args *args);
    int (*files)(
        const cli_args
            *args); /* names the files that run will open; such a command runs in a cell. An exit code. May be NULL */
    int (*finish)(const cli_args *args,
                  int code); /* outside of the cell, after run gave `code`; returns the exit code. May be NULL */
    bool edits_lines;        /* asks for lines (cli_read_line) */
} cli_command;

extern const cli_command cli_command_serve, cli_command_run, cli_command_chat, cli_command_inspect,
    cli_command_tokenize, cli_command_score, cli_command_bench, cli_command_quantize, cli_command_jail, cli_command_key,
    cli_command_plan, cli_command_config, cli_command_version, cli_command_completion, cli_command_man;
extern const cli_command *const cli_commands[]; /* NULL-terminated, in the order of help */

const cli_command *cli_find_command(const char *name);

/* Reads options in any order; what is not an option goes to *args; "--" ends options, "-" is an argument.
 * On a mistake prints one line and returns CLI_USAGE. --help prints the help and returns -1. */
int cli_parse(const cli_command *c, int argc, char **argv, cli_args *args);

void cli_help_all(FILE *out);
void cli_help_command(const cli_command *c, FILE *out);
void cli_man_page(const cli_command *c, FILE *out); /* NULL: spark(1) */

/* ---- Messages (common.c) ---- */

/* "spark: what: why (where); what to do" on stderr; `todo` may be NULL. Returns the exit code for the error. */
int cli_fail(const char *what, const spark_err *err, const char *todo);
/* A usage mistake: one line, exit code 2. */
void cli_usage_print(const char *command, const char *fmt, ...) SPARK_PRINTF(2, 3);
#define cli_usage(command, ...)                                                                                        \
    ((void)(cli_usage_print((command), __VA_ARGS__)), (int)CLI_USAGE) /* seen to be no CLI_OK */
/* No memory: one line, exit code 1. */
static inline int cli_no_memory(const char *command)
{
    fprintf(stderr, "spark: %s: out of memory\n", command);
    return CLI_FAILED;
}
/* A note on stderr: "spark: ...". */
void cli_note(const char *fmt, ...) SPARK_PRINTF(1, 2);

/* Progress of long work: a bar on a terminal, nothing in a pipe. `ctx` is what it is called ("loading"). */
bool cli_progress(void *what, uint64_t done, uint64_t total);

/* Bytes as "1.2 GiB" into buf. */
const char *cli_size(uint64_t bytes, char buf[32]);

/* ---- Input (common.c) ---- */

typedef struct cli_bytes {
    char *ptr; /* malloc'd, NUL behind the end */
    size_t len;
} cli_bytes;
/* Reads a whole file that was named, "-" being stdin, of at most SPARK_MAX_TEXT bytes. Prints the error itself; false then. */
bool cli_read_file(const char *path, cli_bytes *out);
/* Ids from "1,2,3" (spaces allowed). Prints the error itself. */
bool cli_parse_ids(const char *command, const char *text, spark_tokens *out);

/* Whether a text that goes into JSON is UTF-8 (else it would be changed on the way). Prints the error itself. */
bool cli_check_utf8(const char *command, const char *what, const char *text, size_t len);

/* Writes all of it to stdout; on failure (a closed pipe) says so and returns CLI_FAILED. */
int cli_write(const void *data, size_t len);
int cli_flush(void);

/* ---- Model (common.c) ---- */

/* The options that every command with a model has. */
typedef struct cli_model_options {
    uint32_t n_threads, n_ctx, kv;
    const char *cpu;
} cli_model_options;
#define CLI_MODEL_OPTIONS(o)                                                                                           \
    {"--threads", CLI_U32, &(o).n_threads, "N", "threads to use (default: every CPU the process may use)", 1,          \
     256,         NULL},                                                                                               \
        {"--ctx", CLI_U32,  &(o).n_ctx, "N", "context in tokens (default: the model's, at most 4096)",                 \
         1,       16777216, NULL},                                                                                     \
        {"--kv", CLI_CHOICE, &(o).kv, "TYPE", "how keys and values are stored (default f16)", 0, 0, "f16|f32|q8_0"},   \
        {"--cpu", CLI_TEXT, &(o).cpu, "LEVEL", "highest CPU level to use; results are the same on all", 0, 0, NULL},   \
        CLI_JAIL_OPTION

/* Opens MODEL (a path; NULL = the embedded model), prints what goes wrong. Returns an exit code. */
int cli_open(const char *path, const cli_model_options *o, bool vocab_only, spark_model **out);
/* Loads weights with a progress bar and makes a session. n_ctx 0 = default; n_logits as in spark_session_options. */
int cli_load(spark_model *m, const cli_model_options *o, uint32_t n_logits, spark_session **out);

/* ---- In a cell or not (cell_files.c, cell_tool.c; cell.h tells how) ---- */

typedef enum cli_file_kind { CLI_FILE_MODEL, CLI_FILE_TEXT, CLI_FILE_OUTPUT } cli_file_kind;

/* By `files` of a command: they are opened now, and what went wrong is told to whom opens them later. */
void cli_name_model(const char *path);              /* of a model in several files, all */
void cli_name_text(const char *path);               /* "-" needs no name */
void cli_name_output(const char *path);             /* not cut yet: cli_finish_output */
void cli_name_descriptor(const char *path, int fd); /* an output that is open already */

/* By `run`: NULL, or -1, with errno if it could not be opened or was not named. The stream is the table's: flush it, do not close it. */
FILE *cli_open_file(cli_file_kind kind, const char *path);
int cli_model_descriptor(const char *path);
bool cli_is_file(const char *path); /* whether something was there, of what was named as a model */

/* By `finish`: cuts an ordinary file behind what was written, or removes it if `code` is no CLI_OK. Returns the exit code. */
int cli_finish_output(const char *path, int code);

bool cli_in_cell(void);
bool cli_is_terminal(int fd); /* of 0, 1, 2 */

/* A handler for a signal that a user sends; NULL: as usual. Only SIGINT, SIGTERM, SIGHUP. */
void cli_catch(int signal_number, void (*handler)(int));
bool cli_is_ignored(int signal_number);
void cli_die_of(int signal_number); /* as if there were no handler */

/* A line of what a user types at the terminal, malloc'd; NULL at the end. `more`: it goes on from the line before. */
char *cli_read_line(bool more);

/* What --jail demands. */
enum { CLI_JAIL_STRICT, CLI_JAIL_STANDARD, CLI_JAIL_OFF, CLI_JAIL_BEST };
extern uint32_t cli_jail_wish;
#define CLI_JAIL_OPTION                                                                                                \
    {                                                                                                                  \
        "--jail", CLI_CHOICE, &cli_jail_wish, "LEVEL",                                                                 \
            "demand this level of the model's cell (default: the strongest granted)", 0, 0, "strict|standard|off"      \
    }

/* ---- JSON (json_out.c): text of any bytes as a JSON string, invalid UTF-8 as U+FFFD ---- */

/* Appends to a growing buffer; a failed allocation ends the process with a message (this is the command, not the library). */
typedef struct cli_out {
    char *ptr;
    size_t len, cap;
} cli_out;
void cli_put(cli_out *o, const void *data, size_t len);
void cli_putf(cli_out *o, const char *fmt, ...) SPARK_PRINTF(2, 3);
void cli_put_json(cli_out *o, const char *text, size_t len);
void cli_out_free(cli_out *o);

#endif
