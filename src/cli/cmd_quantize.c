/* cmd_quantize.c - spark quantize: writes a model again with smaller weights. OUT appears whole or not at all: the bytes go
 * to a file beside it, which takes the name once it is complete and on the disk. The file is made and named outside of the cell. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/requantize.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "kern/types.h"

#define QUANTIZE_TYPES "Q8_0|Q4_0|Q4_K|Q6_K|F16|BF16"
#define QUANTIZE_NONE  UINT32_MAX /* no --type was given */

static uint32_t quantize_type, quantize_threads;
static bool quantize_force;

static const cli_option quantize_options[] = {
    {"--type", CLI_CHOICE, &quantize_type, "TYPE", "number format of the weight matrices", 0, 0, QUANTIZE_TYPES},
    {"--threads", CLI_U32, &quantize_threads, "N", "threads to use (default: every CPU the process may use)", 1, 256,
     NULL},
    CLI_JAIL_OPTION,
    {"--force", CLI_FLAG, &quantize_force, NULL, "replace OUT if it exists", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

/* The choice that --type made, as a type. */
static spark_type quantize_chosen(void)
{
    static const spark_type types[] = {SPARK_TYPE_Q8_0, SPARK_TYPE_Q4_0, SPARK_TYPE_Q4_K,
                                       SPARK_TYPE_Q6_K, SPARK_TYPE_F16,  SPARK_TYPE_BF16};
    return types[quantize_type];
}

/* ---- The file beside OUT ---------------------------------------------------------------------------------------- */

static char *quantize_temp; /* OUT.XXXXXX, while there is such a file */
static int quantize_fd = -1;

static int quantize_complain(const char *path)
{
    fprintf(stderr, "spark: cannot write '%s': %s\n", path, strerror(errno));
    return CLI_FAILED;
}

static int quantize_exists(const char *out)
{
    fprintf(stderr, "spark: '%s' exists; add --force to replace it\n", out);
    return CLI_FAILED;
}

/* Before hours of work: may OUT be made at all? */
static int quantize_check_out(const char *out)
{
    struct stat st;
    if (stat(out, &st) != 0) return CLI_OK;
    if (!S_ISREG(st.st_mode)) {
        fprintf(stderr, "spark: '%s' is no ordinary file; choose another name\n", out);
        return CLI_FAILED;
    }
    return quantize_force ? CLI_OK : quantize_exists(out);
}

static int quantize_create(const char *out)
{
    const size_t len = strlen(out) + sizeof ".XXXXXX";
    char *temp = malloc(len);
    if (!temp) return quantize_complain(out);
    snprintf(temp, len, "%s.XXXXXX", out);
    quantize_fd = mkostemp(temp, O_CLOEXEC);
    if (quantize_fd < 0) {
        free(temp);
        return quantize_complain(out);
    }
    quantize_temp = temp;
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(quantize_fd, 0666 & ~mask) != 0)
        return quantize_complain(out); /* mkstemp makes it private; a new file is as others are */
    cli_name_descriptor(out, quantize_fd);
    return CLI_OK;
}

typedef struct quantize_file {
    const char *out;
    FILE *f;
} quantize_file;

static spark_status quantize_sink(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    const quantize_file *q = ctx;
    SPARK_CHECK(fwrite(bytes, 1, n, q->f) == n, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot write '%s': %s", q->out,
                strerror(errno));
    return SPARK_SUCCESS;
}

/* The new name reaches the disk with the folder that holds it. A file system that cannot do that says EINVAL: no harm done. */
static void quantize_sync_folder(const char *out)
{
    const char *slash = strrchr(out, '/');
    char *folder = slash ? strndup(out, (size_t)(slash - out) + 1) : strdup(".");
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

/* Gives the file its name. Without --force an OUT that came meanwhile stays. */
static int quantize_publish(const char *out)
{
    const bool written = fsync(quantize_fd) == 0;
    if (!written) return quantize_complain(out);
    int failed = quantize_force ? rename(quantize_temp, out)
                                : renameat2(AT_FDCWD, quantize_temp, AT_FDCWD, out, RENAME_NOREPLACE);
    if (failed && !quantize_force && (errno == EINVAL || errno == ENOSYS)) { /* this file system has no such rename */
        if (access(out, F_OK) == 0) return quantize_exists(out);
        failed = rename(quantize_temp, out);
    }
    if (failed) return errno == EEXIST ? quantize_exists(out) : quantize_complain(out);
    free(quantize_temp);
    quantize_temp = NULL;
    quantize_sync_folder(out);
    return CLI_OK;
}

/* Whatever was not published goes away. */
static void quantize_discard(void)
{
    if (quantize_temp) unlink(quantize_temp);
    free(quantize_temp);
    quantize_temp = NULL;
}

/* ---- Ctrl-C: the work ends at the next slice, and the half file with it ----------------------------------------- */

static volatile sig_atomic_t quantize_stopped;

static void quantize_on_signal(int signal_number) { quantize_stopped = signal_number; }

static void quantize_catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < SPARK_COUNT(signals); i++)
        if (!cli_is_ignored(signals[i])) cli_catch(signals[i], quantize_on_signal);
}

/* Signals from the start: the file beside OUT is there before the work begins. */
static void quantize_defaults(void)
{
    quantize_type = QUANTIZE_NONE;
    quantize_catch_signals();
}

static bool quantize_progress(void *what, uint64_t done, uint64_t total)
{
    return cli_progress(what, done, total) && !quantize_stopped;
}

static void quantize_note(void *ctx, spark_bytes tensor, spark_type type, const char *why)
{
    (void)ctx;
    cli_note("%.*s takes %s: %s", (int)tensor.len, (const char *)tensor.ptr, spark_type_lookup(type)->name, why);
}

/* ---- The command ------------------------------------------------------------------------------------------------ */

static int quantize_write(spark_model *m, const char *in, quantize_file *q)
{
    char what[] = "quantizing";
    spark_err err = {0};
    const spark_requantize_options o = {
        .type = quantize_chosen(),
        .n_threads = quantize_threads ? quantize_threads : spark_cpu_count(),
        .note = quantize_note,
        .progress = quantize_progress,
        .ctx = what,
    };
    if (!q->f) return quantize_complain(q->out);
    if (spark__model_requantize(m, &o, quantize_sink, q, &err).code != SPARK_OK)
        return cli_fail(in, &err, err.code == SPARK_E_CANCELLED ? "nothing was written" : NULL);
    return fflush(q->f) == 0 ? CLI_OK : quantize_complain(q->out);
}

static int quantize_report(const char *in, const char *out)
{
    struct stat before, after;
    char a[32], b[32];
    if (stat(in, &before) != 0 || stat(out, &after) != 0) return CLI_OK;
    cli_note("%s: %s, from %s of the file named", out, cli_size((uint64_t)after.st_size, b),
             cli_size((uint64_t)before.st_size, a));
    return CLI_OK;
}

static int quantize_files(const cli_args *args)
{
    if (args->n != 2) return cli_usage("quantize", "IN and OUT are expected");
    if (quantize_type == QUANTIZE_NONE) return cli_usage("quantize", "--type is missing: one of %s", QUANTIZE_TYPES);
    int code = quantize_check_out(args->item[1]);
    if (code != CLI_OK) return code;
    cli_name_model(args->item[0]);
    code = quantize_create(args->item[1]);
    if (code != CLI_OK) quantize_discard();
    return code;
}

static int quantize_finish(const cli_args *args, int code)
{
    if (code == CLI_OK) code = quantize_publish(args->item[1]);
    quantize_discard();
    return code == CLI_OK ? quantize_report(args->item[0], args->item[1]) : code;
}

static int quantize_run(const cli_args *args)
{
    const cli_model_options reading = {.n_threads = quantize_threads};
    spark_model *m = NULL;
    quantize_file q = {.out = args->item[1], .f = cli_open_file(CLI_FILE_OUTPUT, args->item[1])};
    int code = cli_open(args->item[0], &reading, false, &m);
    if (code == CLI_OK) code = quantize_write(m, args->item[0], &q);
    spark_model_close(&m);
    return code;
}

const cli_command cli_command_quantize = {
    .name = "quantize",
    .args = "IN OUT --type TYPE",
    .summary = "write a model again with smaller weights",
    .details = "IN holds F32, F16 or BF16 weights; of a split model name any of its files. Vectors (norms, biases), "
               "routers and\n"
               "the vocabulary are copied. Q4_0 and Q4_K write the matrix behind the logits (output, or the embedding "
               "where both\n"
               "are one) as Q6_K. Rows that are no multiple of 256 take Q5_0 instead of Q4_K and Q8_0 instead of Q6_K; "
               "rows that\n"
               "are no multiple of 32 take F16. Whatever differs from TYPE is named on stderr. OUT appears whole or "
               "not at all.",
    .examples = "spark quantize model-f16.gguf model-q4_k.gguf --type Q4_K\n"
                "spark quantize model-00001-of-00003.gguf model-q8_0.gguf --type Q8_0 --force",
    .options = quantize_options,
    .defaults = quantize_defaults,
    .run = quantize_run,
    .files = quantize_files,
    .finish = quantize_finish,
};
