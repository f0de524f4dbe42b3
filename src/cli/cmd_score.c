/* cmd_score.c - spark score: how likely a text is to a model (perplexity), or the logits themselves. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "kern/kern.h"

enum { SCORE_ROWS = 32 }; /* logits computed at once */

static cli_model_options score_model;
static const char *score_ids, *score_logits;
static bool score_json;

static const cli_option score_options[] = {
    CLI_MODEL_OPTIONS(score_model),
    {"--tokens", CLI_TEXT, &score_ids, "1,2,3", "exactly these ids instead of FILE; nothing is added", 0, 0, NULL},
    {"--logits", CLI_TEXT, &score_logits, "OUT.npy", "write float32 [n_tokens][n_vocab]; row i follows token i", 0, 0,
     NULL},
    {"--json", CLI_FLAG, &score_json, NULL, "print one JSON object", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

/* Where results go while windows are scored. */
typedef struct score_state {
    spark_session *s;
    uint32_t n_vocab;
    float *rows; /* [SCORE_ROWS][n_vocab] */
    FILE *npy;   /* or NULL */
    double sum_nll;
    uint64_t n_scored;
} score_state;

/* -log softmax(row)[id], in double, with functions whose bits are the same everywhere. */
static double score_nll(const float *row, uint32_t n, uint32_t id)
{
    float max = row[0];
    double sum = 0;
    for (uint32_t i = 1; i < n; i++) max = row[i] > max ? row[i] : max;
    for (uint32_t i = 0; i < n; i++) sum += spark_exp64((double)row[i] - (double)max);
    return spark_log64(sum) + (double)max - (double)row[id];
}

/* One window: logits in steps of SCORE_ROWS; every token but the first is scored by the row before it. */
static int score_window(score_state *st, const uint32_t *ids, size_t n)
{
    spark_err err = {0};
    spark_session_reset(st->s);
    for (size_t at = 0; at < n; at += SCORE_ROWS) {
        const size_t rows = n - at < SCORE_ROWS ? n - at : SCORE_ROWS;
        if (spark_session_score(st->s, ids + at, rows, st->rows, &err).code != SPARK_OK)
            return cli_fail("score", &err, NULL);
        for (size_t i = 0; i < rows && at + i + 1 < n; i++) {
            st->sum_nll += score_nll(st->rows + i * st->n_vocab, st->n_vocab, ids[at + i + 1]);
            st->n_scored++;
        }
        if (st->npy && fwrite(st->rows, sizeof(float) * st->n_vocab, rows, st->npy) != rows) {
            fprintf(stderr, "spark: cannot write '%s': %s\n", score_logits, strerror(errno));
            return CLI_FAILED;
        }
    }
    return CLI_OK;
}

/* ---- The .npy file: format 1.0, header padded so that data begin at a multiple of 64 ---- */

static FILE *score_open_npy(size_t n_rows, uint32_t n_vocab)
{
    char dict[128], header[128];
    FILE *f = cli_open_file(CLI_FILE_OUTPUT, score_logits);
    if (!f) {
        fprintf(stderr, "spark: cannot write '%s': %s\n", score_logits, strerror(errno));
        return NULL;
    }
    snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %u), }", n_rows, n_vocab);
    const size_t total = (10 + strlen(dict) + 1 + 63) / 64 * 64, len = total - 10;
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)(len & 255);
    header[9] = (char)(len >> 8);
    memset(header + 10, ' ', len);
    memcpy(header + 10, dict, strlen(dict));
    header[total - 1] = '\n';
    fwrite(header, 1, total, f); /* a full disk shows at the first row or at close */
    return f;
}

static int score_flush_npy(FILE *f, int code)
{
    if (!f || (fflush(f) == 0 && code == CLI_OK)) return code;
    if (code == CLI_OK) fprintf(stderr, "spark: cannot write '%s': %s\n", score_logits, strerror(errno));
    return CLI_FAILED;
}

/* ---- Windows ---- */

/* Windows of n_ctx tokens; each after the first begins with the BOS that the first has, if the vocabulary adds one. */
static int score_windows(score_state *st, const spark_tokens *t, uint32_t n_ctx, bool bos)
{
    uint32_t *window = calloc(n_ctx, sizeof *window);
    int code = window ? CLI_OK : cli_no_memory("score");
    for (size_t at = 0; at < t->n && code == CLI_OK;) {
        const size_t head = bos && at > 0, room = n_ctx - head, n = t->n - at < room ? t->n - at : room;
        if (head) window[0] = t->ids[0];
        memcpy(window + head, t->ids + at, n * sizeof *window);
        code = score_window(st, window, head + n);
        at += n;
        char what[] = "scoring";
        cli_progress(what, at, t->n);
    }
    free(window);
    return code;
}

static int score_print(const score_state *st, size_t n_tokens)
{
    const double mean = st->n_scored ? st->sum_nll / (double)st->n_scored : 0;
    if (!st->n_scored) /* one token and --logits: there is no mean of nothing */
        printf(score_json ? "{\"tokens\":%zu,\"scored\":0,\"mean_nll\":null,\"perplexity\":null}\n"
                          : "%zu token, 0 tokens scored\n",
               n_tokens);
    else if (score_json)
        printf("{\"tokens\":%zu,\"scored\":%" PRIu64 ",\"mean_nll\":%.9g,\"perplexity\":%.9g}\n", n_tokens,
               st->n_scored, mean, spark_exp64(mean));
    else
        printf("%" PRIu64 " tokens scored, mean negative log-likelihood %.6f, perplexity %.4f\n", st->n_scored, mean,
               spark_exp64(mean));
    return CLI_OK;
}

static int score_tokens(const cli_args *args, const spark_model *m, spark_tokens *out, bool *bos)
{
    spark_err err = {0};
    cli_bytes text = {0};
    *bos = false;
    if (score_ids) return cli_parse_ids("score", score_ids, out) ? CLI_OK : CLI_USAGE;
    if (!cli_read_file(args->item[1], &text)) return CLI_FAILED;
    spark_tokens empty = {0};
    int code = CLI_OK;
    if (spark_model_tokenize(m, text.ptr, text.len, SPARK_TOKENIZE_ADD, out, &err).code != SPARK_OK)
        code = cli_fail(args->item[1], &err, NULL);
    if (code == CLI_OK && spark_model_tokenize(m, "", 0, SPARK_TOKENIZE_ADD, &empty, &err).code == SPARK_OK)
        *bos = empty.n > 0 && out->n > 0 && out->ids[0] == empty.ids[0]; /* what is added to nothing is the BOS */
    spark_tokens_free(&empty);
    free(text.ptr);
    return code;
}

static int score_all(spark_model *m, const spark_tokens *t, bool bos)
{
    spark_description d;
    spark_model_describe(m, &d);
    const uint32_t n_ctx = score_model.n_ctx ? score_model.n_ctx : d.default_ctx;
    if (n_ctx < 2) return cli_usage("score", "--ctx must be at least 2");
    if (t->n < 2 && !(score_logits && t->n == 1)) {
        fprintf(stderr,
                "spark: score: there is nothing to score: %zu tokens, and the first of a window never is; give a "
                "longer text\n",
                t->n);
        return CLI_FAILED;
    }
    if (score_ids && t->n > n_ctx) return cli_usage("score", "%zu tokens do not fit a context of %u", t->n, n_ctx);
    if (score_logits && t->n > n_ctx)
        return cli_usage("score", "--logits takes one window: %zu tokens, context %u", t->n, n_ctx);
    score_state st = {.n_vocab = d.n_vocab, .rows = calloc((size_t)SCORE_ROWS * d.n_vocab, sizeof(float))};
    int code = st.rows ? cli_load(m, &score_model, SCORE_ROWS, &st.s) : cli_no_memory("score");
    if (code == CLI_OK && score_logits && !(st.npy = score_open_npy(t->n, d.n_vocab))) code = CLI_FAILED;
    if (code == CLI_OK) code = score_windows(&st, t, n_ctx, bos);
    code = score_flush_npy(st.npy, code);
    if (code == CLI_OK) code = score_print(&st, t->n);
    spark_session_destroy(&st.s);
    free(st.rows);
    return code;
}

static int score_files(const cli_args *args)
{
    if (args->n != (score_ids ? 1u : 2u))
        return cli_usage("score", "MODEL and FILE (or MODEL and --tokens) are expected");
    cli_name_model(args->item[0]);
    if (!score_ids) cli_name_text(args->item[1]);
    if (score_logits) cli_name_output(score_logits);
    return CLI_OK;
}

static int score_finish(const cli_args *args, int code)
{
    (void)args;
    return score_logits ? cli_finish_output(score_logits, code) : code;
}

static int score_run(const cli_args *args)
{
    spark_model *m = NULL;
    spark_tokens t = {0};
    bool bos = false;
    int code = cli_open(args->item[0], &score_model, false, &m);
    if (code == CLI_OK) code = score_tokens(args, m, &t, &bos);
    if (code == CLI_OK) code = score_all(m, &t, bos);
    spark_tokens_free(&t);
    spark_model_close(&m);
    return code;
}

const cli_command cli_command_score = {
    .name = "score",
    .args = "MODEL FILE",
    .summary = "how likely a text is: log-likelihood, perplexity, logits",
    .details =
        "The text is cut into windows of --ctx tokens without overlap, each beginning with BOS where the vocabulary\n"
        "asks for it; the first token of a window is not scored. FILE - is standard input.",
    .examples = "spark score model.gguf text.txt --ctx 512\n"
                "spark score model.gguf --tokens 1,15043,3186 --logits out.npy",
    .options = score_options,
    .run = score_run,
    .files = score_files,
    .finish = score_finish,
};
