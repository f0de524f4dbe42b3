/* cell_files.c - the files that a command line names, opened before anything foreign is read, and answered from a table afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/spark_limits.h"
#include "cli/cell.h"
#include "format/gguf.h"

cli_files cli_named;

/* ---- Naming ---- */

cli_file *cli_files_add(cli_file_kind kind, const char *path, bool exists, int fd, int error)
{
    cli_file *bigger = realloc(cli_named.at, (cli_named.n + 1) * sizeof *bigger);
    char *copy = strdup(path);
    if (!bigger || !copy) exit(cli_no_memory("command line"));
    cli_named.at = bigger;
    cli_file *f = &cli_named.at[cli_named.n++];
    *f = (cli_file){.kind = kind, .path = copy, .exists = exists, .fd = fd, .error = error};
    return f;
}

/* Not in the place of a standard stream that was closed: what is written there is not for a file. */
static int files_open(const char *path, int flags)
{
    const int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0666);
    if (fd < 0 || fd > STDERR_FILENO) return fd;
    const int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    close(fd);
    return higher;
}

static cli_file *files_name(cli_file_kind kind, const char *path, int flags)
{
    struct stat st;
    const bool exists = stat(path, &st) == 0;
    const int fd = files_open(path, flags), error = fd < 0 ? errno : 0;
    return cli_files_add(kind, path, exists, fd, error);
}

/* How many files a model has that is named like one of several; 1 for any other name. What they hold decides the parser. */
static uint32_t files_count(const char *path)
{
    enum { TAIL = sizeof "-of-00003.gguf" - 1 };
    const size_t len = strlen(path);
    const char *tail = len > TAIL ? path + len - TAIL : "";
    if (strncmp(tail, "-of-", 4) != 0 || strcmp(tail + 9, ".gguf") != 0 || strspn(tail + 4, "0123456789") != 5)
        return 1;
    return (uint32_t)strtoul(tail + 4, NULL, 10);
}

void cli_name_model(const char *path)
{
    const uint32_t count = files_count(path);
    files_name(CLI_FILE_MODEL, path, O_RDONLY | O_NONBLOCK); /* not to hang on a FIFO; no effect on a regular file */
    for (uint32_t i = 0; count > 1 && count <= SPARK_MAX_GGUF_SPLITS && i < count; i++) {
        char sibling[4096];
        if (spark_gguf_split_path(path, i, count, sibling, sizeof sibling, NULL).code != SPARK_OK) return;
        if (strcmp(sibling, path) != 0) files_name(CLI_FILE_MODEL, sibling, O_RDONLY | O_NONBLOCK);
    }
}

void cli_name_text(const char *path)
{
    if (strcmp(path, "-") != 0) files_name(CLI_FILE_TEXT, path, O_RDONLY);
}

void cli_name_output(const char *path)
{
    cli_file *f = files_name(CLI_FILE_OUTPUT, path, O_WRONLY | O_CREAT);
    f->created = !f->exists && f->fd >= 0;
}

void cli_name_descriptor(const char *path, int fd) { cli_files_add(CLI_FILE_OUTPUT, path, true, fd, 0); }

/* ---- Answering ---- */

static cli_file *files_find(cli_file_kind kind, const char *path)
{
    for (uint32_t i = 0; i < cli_named.n; i++)
        if (cli_named.at[i].kind == kind && strcmp(cli_named.at[i].path, path) == 0) return &cli_named.at[i];
    return NULL;
}

bool cli_is_file(const char *path)
{
    const cli_file *f = files_find(CLI_FILE_MODEL, path);
    return f && f->exists;
}

int cli_model_descriptor(const char *path)
{
    const cli_file *f = files_find(CLI_FILE_MODEL, path);
    errno = !f ? EACCES : f->error; /* not named: no command may open it */
    return f ? f->fd : -1;
}

static bool files_make_stream(cli_file *f)
{
    if (!f->stream && f->fd >= 0) f->stream = fdopen(f->fd, f->kind == CLI_FILE_OUTPUT ? "wb" : "rb");
    return f->stream != NULL;
}

void cli_files_make_streams(void)
{
    for (uint32_t i = 0; i < cli_named.n; i++)
        if (cli_named.at[i].kind != CLI_FILE_MODEL && cli_named.at[i].fd >= 0 && !files_make_stream(&cli_named.at[i]))
            exit(cli_no_memory("command line"));
}

FILE *cli_open_file(cli_file_kind kind, const char *path)
{
    cli_file *f = files_find(kind, path);
    errno = !f ? EACCES : f->error;
    return f && files_make_stream(f) ? f->stream : NULL;
}

/* ---- Afterwards ---- */

/* Half a file would be taken for a whole one; what was not begun stays as it was. A device is not ours to cut or to remove. The offset
 * is the cell's as well: so far it wrote. */
int cli_finish_output(const char *path, int code)
{
    struct stat st;
    const cli_file *f = files_find(CLI_FILE_OUTPUT, path);
    if (!f || f->fd < 0 || fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode)) return code;
    const off_t end = lseek(f->fd, 0, SEEK_CUR);
    if (code == CLI_OK && end >= 0 && ftruncate(f->fd, end) == 0) return code;
    if (code == CLI_OK) {
        fprintf(stderr, "spark: cannot write '%s': %s\n", path, strerror(errno));
        code = CLI_FAILED;
    }
    if (f->created || end != 0) (void)remove(path);
    return code;
}
