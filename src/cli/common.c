/* common.c - messages, input, output and models for all commands. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/spark_limits.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "kern/kern.h"

/* ---- Messages ---- */

static int common_exit_code(spark_code code) { return code == SPARK_E_REFUSED ? CLI_REFUSED : CLI_FAILED; }

static bool common_bar; /* a progress bar stands on the current line of the terminal */

static void common_clear_bar(void)
{
    if (common_bar) fputs("\r\033[K", stderr);
    common_bar = false;
}

int cli_fail(const char *what, const spark_err *err, const char *todo)
{
    char where[64] = "";
    if (err->line)
        snprintf(where, sizeof where, " (line %u, column %u)", err->line, err->column);
    else if (err->at != SPARK_ERR_NOWHERE && err->code == SPARK_E_FORMAT)
        snprintf(where, sizeof where, " (at byte %" PRIu64 ")", err->at);
    else if (err->at != SPARK_ERR_NOWHERE)
        snprintf(where, sizeof where, " (at %" PRIu64 ")", err->at);
    common_clear_bar();
    fprintf(stderr, "spark: %s: %s%s%s%s\n", what, err->text, where, todo ? "; " : "", todo ? todo : "");
    return common_exit_code(err->code);
}

void cli_usage_print(const char *command, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "spark: %s: ", command);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "; see 'spark %s --help'\n", command);
    va_end(args);
}

void cli_note(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("spark: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

bool cli_progress(void *what, uint64_t done, uint64_t total)
{
    static uint64_t shown_ns, began_ns;
    enum { WIDTH = 30 };
    if (!cli_is_terminal(STDERR_FILENO) || total == 0) return true;
    const uint64_t now = spark_clock_ns();
    if (done == 0) began_ns = now;
    if (now - began_ns < 200000000u) return true; /* what is quick needs no bar */
    if (done < total && now - shown_ns < 100000000u) return true;
    shown_ns = now;
    if (done >= total) {
        common_clear_bar();
        return true;
    }
    common_bar = true;
    const int filled = (int)(done * WIDTH / total);
    fprintf(stderr, "\r%s [%.*s%.*s] %3d%%", (const char *)what, filled, "##############################",
            WIDTH - filled, "                              ", (int)(done * 100 / total));
    return true;
}

const char *cli_size(uint64_t bytes, char buf[32])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    size_t u = 0;
    for (; x >= 1024 && u + 1 < SPARK_COUNT(unit); u++) x /= 1024;
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", x, unit[u]);
    return buf;
}

/* ---- Input and output ---- */

static bool common_read_all(FILE *f, const char *path, cli_bytes *out)
{
    size_t cap = 1 << 16, len = 0;
    char *ptr = malloc(cap + 1);
    while (ptr && len <= SPARK_MAX_TEXT) {
        len += fread(ptr + len, 1, cap - len, f);
        if (len < cap) break;
        char *bigger = realloc(ptr, cap * 2 + 1);
        if (!bigger) free(ptr);
        ptr = bigger;
        cap *= 2;
    }
    if (!ptr || ferror(f) || len > SPARK_MAX_TEXT) {
        fprintf(stderr, "spark: cannot read '%s': %s\n", path,
                !ptr                   ? "no memory"
                : len > SPARK_MAX_TEXT ? "it is over 1 GiB"
                                       : strerror(errno));
        free(ptr);
        return false;
    }
    ptr[len] = 0;
    *out = (cli_bytes){ptr, len};
    return true;
}

bool cli_read_file(const char *path, cli_bytes *out)
{
    if (strcmp(path, "-") == 0) return common_read_all(stdin, "standard input", out);
    FILE *f = cli_open_file(CLI_FILE_TEXT, path);
    if (f) return common_read_all(f, path, out);
    fprintf(stderr, "spark: cannot open '%s': %s\n", path, strerror(errno));
    return false;
}

bool cli_parse_ids(const char *command, const char *text, spark_tokens *out)
{
    size_t cap = strlen(text) / 2 + 1, n = 0;
    uint32_t *ids = calloc(cap, sizeof *ids);
    for (const char *at = text; ids && *(at += strspn(at, ", \t\r\n"));) {
        char *end = NULL;
        errno = 0;
        const unsigned long long id = *at >= '0' && *at <= '9' ? strtoull(at, &end, 10) : ULLONG_MAX;
        if (errno || id > UINT32_MAX || !strchr(", \t\r\n", *end)) {
            cli_usage_print(command, "'%.16s' is no token id (at character %zu)", at, (size_t)(at - text));
            free(ids);
            return false;
        }
        ids[n++] = (uint32_t)id;
        at = end;
    }
    if (!ids) cli_usage_print(command, "no memory for %zu ids", cap);
    *out = (spark_tokens){ids, n};
    return ids != NULL;
}

bool cli_check_utf8(const char *command, const char *what, const char *text, size_t len)
{
    const size_t valid = spark_utf8_valid_prefix((const uint8_t *)text, len, SIZE_MAX);
    if (valid < len)
        fprintf(stderr, "spark: %s: %s is not UTF-8 (at byte %zu)%s\n", command, what, valid,
                strcmp(command, "run") == 0 ? "; --raw takes bytes as they are" : "");
    return valid == len;
}

int cli_write(const void *data, size_t len)
{
    if (len == 0 || fwrite(data, 1, len, stdout) == len) return CLI_OK;
    fprintf(stderr, "spark: cannot write to standard output: %s\n", strerror(errno));
    return CLI_FAILED;
}

int cli_flush(void)
{
    if (fflush(stdout) == 0) return CLI_OK;
    fprintf(stderr, "spark: cannot write to standard output: %s\n", strerror(errno));
    return CLI_FAILED;
}

/* ---- Models ---- */

uint32_t cli_jail_wish = CLI_JAIL_BEST;

int cli_open(const char *path, const cli_model_options *o, bool vocab_only, spark_model **out)
{
    spark_model_options options;
    spark_err err = {0};
    spark_model_options_defaults(&options);
    options.n_threads = o->n_threads;
    options.cpu = o->cpu;
    options.vocab_only = vocab_only;
    const char *wish = getenv("SPARK_CPU"); /* kern takes an unknown level for scalar: here it is a mistake */
    if (wish && *wish && spark_isa_by_name(wish) < 0) {
        fprintf(stderr,
                "spark: SPARK_CPU is '%s', which is no CPU level; 'spark version' tells the best of this machine\n",
                wish);
        return CLI_FAILED;
    }
    if (path && !cli_is_file(path) && !strchr(path, '/') && !strchr(path, '.')) {
        fprintf(stderr,
                "spark: no file '%s', and names of a model store are not supported yet; give the path of a GGUF file\n",
                path);
        return CLI_FAILED;
    }
    const spark_status s = path ? spark_model_open(out, path, &options, &err)
                                : spark_model_open_embedded(out, &options, &err);
    return s.code == SPARK_OK ? CLI_OK : cli_fail(path ? path : "embedded model", &err, NULL);
}

int cli_load(spark_model *m, const cli_model_options *o, uint32_t n_logits, spark_session **out)
{
    spark_session_options options;
    spark_err err = {0};
    char what[] = "loading";
    spark_session_options_defaults(&options);
    options.n_ctx = o->n_ctx;
    options.kv = (spark_kv_choice)o->kv;
    options.n_logits = n_logits;
    spark_plan plan;
    if (spark_model_plan(m, &options, &plan, &err).code != SPARK_OK) return cli_fail("plan", &err, NULL);
    if (spark_model_load(m, cli_progress, what, &err).code != SPARK_OK) return cli_fail("load", &err, NULL);
    return spark_session_create(out, m, &options, &err).code == SPARK_OK ? CLI_OK : cli_fail("session", &err, NULL);
}
