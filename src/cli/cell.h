/* cell.h - commands that read a model do so in a cell (jail.h, role TOOL): the process that the user started is the warden. It reads the
 * command line, opens what is named there, starts this program again behind its doors, hands over descriptors and arguments, passes
 * signals on, edits lines, and returns the exit code. In the cell the same command runs as it always did; every file that it opens is
 * answered from the table of what was named. With --jail off the table is the same, and the command runs in the process itself.
 *
 *     warden                                cell
 *     names, opens (cell_files.c)
 *     starts, sends arguments  ---------->  reads them, closes its doors (cell_tool.c)
 *     (cell_warden.c)          <----------  READY, or why the level cannot be had
 *     signals: SIGRTMIN + n    ---------->  stops, or ends with 128 + n
 *     edits a line             <--------->  LINE, MORE (chat on a terminal)
 *     exit code: renames, removes           ends
 *
 * What a cell says after READY may be hostile: one byte out of two, or it is ended. */
#ifndef SPARK_CLI_CELL_H
#define SPARK_CLI_CELL_H

#include <signal.h>

#include "cli/cli.h"
#include "jail/jail.h"

/* ---- The table of files (cell_files.c) ---- */

typedef struct cli_file {
    cli_file_kind kind;
    char *path;
    bool exists;  /* there was something of that name */
    int fd;       /* -1: it could not be opened */
    int error;    /* then why */
    FILE *stream; /* of fd, made when first needed, or before the door; not of a model's files */
    bool created; /* an output that was not there before */
} cli_file;

typedef struct cli_files {
    cli_file *at;
    uint32_t n;
} cli_files;
extern cli_files cli_named;

/* An entry as the warden sent it; the path is copied. */
cli_file *cli_files_add(cli_file_kind kind, const char *path, bool exists, int fd, int error);
/* The streams of texts and outputs, made now: in a cell there are no system calls for it later. */
void cli_files_make_streams(void);

/* ---- Both sides ---- */

/* What the cell says. */
enum { CELL_READY = 'r', CELL_REFUSED = 'x', CELL_LINE = '>', CELL_MORE = '.' };
enum { CELL_LINK = SPARK_JAIL_FIRST_FD, CELL_WHY = 256 }; /* behind REFUSED: so many bytes, NUL at the end */

/* What the warden says first: a length (uint32_t), then texts, each with its NUL: the variables; how many arguments, and these; how many files,
 * and for each "kind exists error" and its path. Then, for each line asked for, its length + 1 (uint32_t, 0 = the end) and its bytes. */
extern const char
    *const cell_variables[]; /* that a command heeds; sent as "=value", or "" if not set. NULL at the end */

/* Signals that the warden passes on, 0 at the end. The cell ignores the plain ones, which a terminal sends to both. */
extern const int cell_signals[];
static inline int cell_signal(int signal_number) { return SIGRTMIN + signal_number; }

/* The whole of `len` bytes; false at the end of the link, or on an error. */
bool cell_write(int fd, const void *data, size_t len);
bool cell_read(int fd, void *data, size_t len);

/* ---- The warden (cell_warden.c) ---- */

/* Runs a command that names files, in a cell unless --jail off; argv begins with its name. Returns the exit code, or ends by the signal
 * that ended the cell. */
int cli_run(const cli_command *c, int argc, char **argv, const cli_args *args);

/* ---- The cell (cell_tool.c) ---- */

/* The life of a cell of the role TOOL; returns the exit code. */
int cli_tool_main(const spark_jail_spec *spec);

/* ---- Lines (cell_line.c) ---- */

/* A line from the terminal, edited by the user; malloc'd, NULL at the end. Ctrl-C loses the line, a second one is the end. `mask`: signals
 * that are blocked while it edits (NULL: as it is). */
char *cli_edit_line(const char *prompt, const sigset_t *mask);

#endif
