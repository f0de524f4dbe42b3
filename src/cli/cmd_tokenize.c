/* cmd_tokenize.c - spark tokenize: text to ids and back, from the vocabulary alone. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static cli_model_options tokenize_model;
static bool tokenize_no_bos, tokenize_special, tokenize_decode, tokenize_json;
static const char *tokenize_file, *tokenize_jsonl;

static const cli_option tokenize_options[] = {
    {"--file", CLI_TEXT, &tokenize_file, "F", "read the text (or ids) from a file, - for standard input", 0, 0, NULL},
    {"--jsonl", CLI_TEXT, &tokenize_jsonl, "F",
     "every line of F is a JSON string (with --decode: an array of ids); one line out for each", 0, 0, NULL},
    {"--no-bos", CLI_FLAG, &tokenize_no_bos, NULL, "add no special tokens", 0, 0, NULL},
    {"--special", CLI_FLAG, &tokenize_special, NULL, "texts of special tokens become those tokens", 0, 0, NULL},
    {"--decode", CLI_FLAG, &tokenize_decode, NULL, "the way back: ids in, bytes out", 0, 0, NULL},
    {"--json", CLI_FLAG, &tokenize_json, NULL, "print one JSON object", 0, 0, NULL},
    CLI_JAIL_OPTION,
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static void tokenize_put_ids(cli_out *o, const spark_tokens *t, const char *separator)
{
    for (size_t i = 0; i < t->n; i++) cli_putf(o, "%s%u", i ? separator : "", t->ids[i]);
}

static int tokenize_encode_one(const spark_model *m, const char *text, size_t len, cli_out *o)
{
    spark_err err = {0};
    spark_tokens t = {0};
    const unsigned flags = (tokenize_no_bos ? 0u : SPARK_TOKENIZE_ADD) |
                           (tokenize_special ? SPARK_TOKENIZE_SPECIAL : 0u);
    if (spark_model_tokenize(m, text, len, flags, &t, &err).code != SPARK_OK) return cli_fail("tokenize", &err, NULL);
    if (tokenize_json) cli_put(o, "{\"ids\":[", 8);
    tokenize_put_ids(o, &t, tokenize_json ? "," : " ");
    cli_put(o, tokenize_json ? "]}\n" : "\n", tokenize_json ? 3 : 1);
    spark_tokens_free(&t);
    return CLI_OK;
}

/* as_json: a JSON string and a newline; else the bytes as they are. */
static int tokenize_decode_one(const spark_model *m, const spark_tokens *t, bool as_json, cli_out *o)
{
    spark_err err = {0};
    spark_buffer b = {0};
    if (spark_model_detokenize(m, t->ids, t->n, &b, &err).code != SPARK_OK) return cli_fail("decode", &err, NULL);
    if (tokenize_json) cli_put(o, "{\"text\":", 8);
    if (as_json || tokenize_json)
        cli_put_json(o, b.ptr, b.len);
    else
        cli_put(o, b.ptr, b.len);
    if (tokenize_json) cli_put(o, "}", 1);
    if (as_json || tokenize_json) cli_put(o, "\n", 1);
    spark_buffer_free(&b);
    return CLI_OK;
}

/* ---- One line of --jsonl ---- */

static bool tokenize_line_ids(const json_t *v, spark_tokens *t)
{
    if (!json_is_array(v)) return false;
    t->n = json_array_size(v);
    t->ids = calloc(t->n + 1, sizeof *t->ids);
    for (size_t i = 0; t->ids && i < t->n; i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > UINT32_MAX) return false;
        t->ids[i] = (uint32_t)json_integer_value(id);
    }
    return t->ids != NULL;
}

static int tokenize_line(const spark_model *m, const char *line, size_t len, size_t number, cli_out *o)
{
    json_error_t why;
    spark_tokens t = {0};
    json_t *v = json_loadb(line, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    const bool usable = v && (tokenize_decode ? tokenize_line_ids(v, &t) : json_is_string(v));
    int code = CLI_FAILED;
    if (!usable)
        fprintf(stderr, "spark: %s: line %zu is not a JSON %s%s%s\n", tokenize_jsonl, number,
                tokenize_decode ? "array of ids" : "string", v ? "" : ": ", v ? "" : why.text);
    else if (tokenize_decode)
        code = tokenize_decode_one(m, &t, true, o);
    else
        code = tokenize_encode_one(m, json_string_value(v), json_string_length(v), o);
    spark_tokens_free(&t);
    json_decref(v);
    return code;
}

static int tokenize_lines(const spark_model *m, const cli_bytes *in, cli_out *o)
{
    size_t number = 0;
    for (size_t at = 0; at < in->len;) {
        const char *end = memchr(in->ptr + at, '\n', in->len - at);
        const size_t len = end ? (size_t)(end - in->ptr) - at : in->len - at;
        number++;
        const int code = tokenize_line(m, in->ptr + at, len, number, o); /* a blank line too is no JSON string */
        if (code != CLI_OK) return code;
        at += len + 1;
    }
    return CLI_OK;
}

static int tokenize_text(const spark_model *m, const char *text, size_t len, cli_out *o)
{
    spark_tokens t = {0};
    if (!tokenize_decode) return tokenize_encode_one(m, text, len, o);
    if (!cli_parse_ids("tokenize", text, &t)) return CLI_USAGE;
    const int code = tokenize_decode_one(m, &t, false, o);
    spark_tokens_free(&t);
    return code;
}

static int tokenize_files(const cli_args *args)
{
    const char *file = tokenize_jsonl ? tokenize_jsonl : tokenize_file;
    if (args->n < 1 || args->n > 2)
        return cli_usage("tokenize", "MODEL and at most one TEXT are expected; quote a text of several words");
    if ((tokenize_jsonl && tokenize_file) || (file && args->n == 2))
        return cli_usage("tokenize", "give one of TEXT, --file and --jsonl");
    cli_name_model(args->item[0]);
    if (file) cli_name_text(file);
    return CLI_OK;
}

static int tokenize_run(const cli_args *args)
{
    const char *file = tokenize_jsonl ? tokenize_jsonl : tokenize_file;
    const bool has_text = args->n == 2 && strcmp(args->item[1], "-") != 0;
    spark_model *m = NULL;
    cli_bytes in = {0};
    cli_out out = {0};
    int code = cli_open(args->item[0], &tokenize_model, true, &m);
    if (code == CLI_OK && !has_text && !cli_read_file(file ? file : "-", &in)) code = CLI_FAILED;
    if (code == CLI_OK && tokenize_jsonl)
        code = tokenize_lines(m, &in, &out);
    else if (code == CLI_OK)
        code = tokenize_text(m, has_text ? args->item[1] : in.ptr, has_text ? strlen(args->item[1]) : in.len, &out);
    const int written = cli_write(out.ptr, out.len); /* lines before a bad one stand */
    cli_out_free(&out);
    free(in.ptr);
    spark_model_close(&m);
    return code != CLI_OK ? code : written;
}

const cli_command cli_command_tokenize = {
    .name = "tokenize",
    .args = "MODEL [TEXT]",
    .summary = "text to token ids, or ids to text",
    .details =
        "Prints ids separated by one space. Works from the vocabulary alone, for any architecture. Special tokens\n"
        "that the vocabulary asks for are added; special tokens inside the text are text unless --special is given.\n"
        "Without TEXT, --file or --jsonl, standard input is read.",
    .examples = "spark tokenize model.gguf \"Hello world\"\n"
                "spark tokenize model.gguf --decode \"1 22557 1526\"\n"
                "spark tokenize model.gguf --jsonl texts.jsonl --no-bos",
    .options = tokenize_options,
    .run = tokenize_run,
    .files = tokenize_files,
};
