/* cmd_inspect.c - spark inspect: what a file holds and what running it would take; reads no weights. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "cli/cli.h"

static cli_model_options inspect_model;
static bool inspect_json, inspect_tensors;

static const cli_option inspect_options[] = {
    CLI_MODEL_OPTIONS(inspect_model),
    {"--tensors", CLI_FLAG, &inspect_tensors, NULL, "list every tensor", 0, 0, NULL},
    {"--json", CLI_FLAG, &inspect_json, NULL, "print one JSON object (always with all tensors)", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

enum { INSPECT_TEXT = 60, INSPECT_ARRAY = 6 }; /* bytes of a string and elements of an array that text output shows */

/* ---- Values as JSON; in text output long ones are cut, and say so ---- */

static void inspect_put_number(cli_out *o, const spark_gguf_value *v)
{
    switch (v->kind) {
    case SPARK_GGUF_BOOL: cli_putf(o, "%s", v->as.u ? "true" : "false"); return;
    case SPARK_GGUF_I8:
    case SPARK_GGUF_I16:
    case SPARK_GGUF_I32:
    case SPARK_GGUF_I64: cli_putf(o, "%" PRId64, v->as.i); return;
    case SPARK_GGUF_F32:
    case SPARK_GGUF_F64: {
        const double x = v->as.f;
        if (x - x != 0)
            cli_putf(o, "\"%s\"", x != x ? "nan" : x > 0 ? "inf" : "-inf"); /* JSON has no such numbers */
        else
            cli_putf(o, "%.9g", x);
        return;
    }
    case SPARK_GGUF_U8:
    case SPARK_GGUF_U16:
    case SPARK_GGUF_U32:
    case SPARK_GGUF_U64:
    case SPARK_GGUF_STRING:
    case SPARK_GGUF_ARRAY: break;
    }
    cli_putf(o, "%" PRIu64, v->as.u);
}

static void inspect_put_string(cli_out *o, spark_bytes s, bool whole)
{
    const size_t n = whole || s.len <= INSPECT_TEXT ? s.len : INSPECT_TEXT;
    cli_put_json(o, (const char *)s.ptr, n);
    if (n < s.len) cli_putf(o, "... (%zu bytes)", s.len);
}

static void inspect_put_array(cli_out *o, const spark_gguf_value *v, bool whole)
{
    const uint64_t n = v->n < INSPECT_ARRAY ? v->n : INSPECT_ARRAY;
    size_t pos = 0;
    if (whole) cli_putf(o, "{\"n\":%" PRIu64 ",\"kind\":\"%s\",\"first\":", v->n, spark_gguf_kind_name(v->elem));
    cli_put(o, "[", 1);
    for (uint64_t i = 0; i < n; i++) {
        if (i) cli_put(o, ",", 1);
        if (v->elem == SPARK_GGUF_STRING)
            inspect_put_string(o, spark_gguf_next_string(v, &pos), whole);
        else if (v->elem == SPARK_GGUF_F32 || v->elem == SPARK_GGUF_F64) {
            const spark_gguf_value e = {.kind = SPARK_GGUF_F64, .as.f = spark_gguf_array_f64(v, i)};
            inspect_put_number(o, &e);
        } else
            cli_putf(o, "%" PRId64, spark_gguf_array_i64(v, i));
    }
    cli_put(o, "]", 1);
    if (whole)
        cli_put(o, "}", 1);
    else if (n < v->n)
        cli_putf(o, " ... (%" PRIu64 " %s)", v->n, spark_gguf_kind_name(v->elem));
}

static void inspect_put_value(cli_out *o, const spark_gguf_value *v, bool whole)
{
    if (v->kind == SPARK_GGUF_STRING)
        inspect_put_string(o, v->as.s, whole);
    else if (v->kind == SPARK_GGUF_ARRAY)
        inspect_put_array(o, v, whole);
    else
        inspect_put_number(o, v);
}

/* ---- Sections ---- */

static void inspect_put_keys(cli_out *o, const spark_gguf *g)
{
    if (inspect_json)
        cli_putf(o, "\"metadata\":{");
    else
        cli_putf(o, "GGUF version %u, %u keys, %u tensors\n\nMetadata\n", spark_gguf_version(g), spark_gguf_n_keys(g),
                 spark_gguf_n_tensors(g));
    for (uint32_t i = 0; i < spark_gguf_n_keys(g); i++) {
        const spark_gguf_key *k = spark_gguf_key_at(g, i);
        if (inspect_json) {
            if (i) cli_put(o, ",", 1);
            cli_put_json(o, (const char *)k->name.ptr, k->name.len);
            cli_put(o, ":", 1);
        } else {
            cli_put(o, "  ", 2);
            cli_put_json(o, (const char *)k->name.ptr, k->name.len); /* quoted: a name from a file may hold anything */
            cli_put(o, " = ", 3);
        }
        inspect_put_value(o, &k->value, inspect_json);
        if (!inspect_json) cli_put(o, "\n", 1);
    }
    if (inspect_json) cli_put(o, "}", 1);
}

static void inspect_put_tensor(cli_out *o, const spark_gguf_tensor *t)
{
    const char *type = spark_type_lookup(t->type)->name;
    if (inspect_json) {
        cli_put(o, "{\"name\":", 8);
        cli_put_json(o, (const char *)t->name.ptr, t->name.len);
        cli_putf(o, ",\"type\":\"%s\",\"shape\":[", type);
        for (uint32_t d = 0; d < t->n_dims; d++) cli_putf(o, "%s%" PRIu64, d ? "," : "", t->dims[d]);
        cli_putf(o, "],\"offset\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", t->offset, t->n_bytes);
        return;
    }
    cli_put(o, "  ", 2);
    cli_put_json(o, (const char *)t->name.ptr, t->name.len);
    cli_putf(o, "  %s [", type);
    for (uint32_t d = 0; d < t->n_dims; d++) cli_putf(o, "%s%" PRIu64, d ? " x " : "", t->dims[d]);
    cli_put(o, "]\n", 2);
}

/* How many tensors and bytes of each type. */
static void inspect_put_types(cli_out *o, const spark_gguf *g)
{
    uint64_t count[SPARK_N_TYPES] = {0}, bytes[SPARK_N_TYPES] = {0};
    char size[32];
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        count[t->type]++;
        bytes[t->type] += t->n_bytes;
    }
    cli_putf(o, "\nTensors\n");
    for (uint32_t type = 0; type < SPARK_N_TYPES; type++)
        if (count[type])
            cli_putf(o, "  %-8s %5" PRIu64 " tensors, %s\n", spark_type_lookup(type)->name, count[type],
                     cli_size(bytes[type], size));
}

static void inspect_put_tensors(cli_out *o, const spark_gguf *g)
{
    const uint32_t n = spark_gguf_n_tensors(g);
    if (!inspect_json) inspect_put_types(o, g);
    if (!inspect_json && !inspect_tensors) return;
    if (inspect_json) cli_putf(o, ",\"tensors\":[");
    for (uint32_t i = 0; i < n; i++) {
        if (inspect_json && i) cli_put(o, ",", 1);
        inspect_put_tensor(o, spark_gguf_tensor_at(g, i));
    }
    if (inspect_json) cli_put(o, "]", 1);
}

static int inspect_put_plan(cli_out *o, const spark_model *m)
{
    static const char *const kv_names[] = {"f16", "f32", "q8_0"};
    spark_session_options options;
    spark_description d;
    spark_plan p;
    spark_err err = {0};
    spark_session_options_defaults(&options);
    options.n_ctx = inspect_model.n_ctx;
    options.kv = (spark_kv_choice)inspect_model.kv;
    spark_model_describe(m, &d);
    if (spark_model_plan(m, &options, &p, &err).code != SPARK_OK) return cli_fail("plan", &err, NULL);
    if (inspect_json) {
        cli_putf(o,
                 ",\"model\":{\"arch\":\"%s\",\"layers\":%u,\"embedding\":%u,\"vocabulary\":%u,\"context\":%u,"
                 "\"parameters\":%" PRIu64 ",\"chat_template\":%s}",
                 d.arch, d.n_layers, d.n_embd, d.n_vocab, d.n_ctx_train, d.n_params,
                 d.has_chat_template ? "true" : "false");
        cli_putf(o,
                 ",\"plan\":{\"ctx\":%u,\"kv_type\":\"%s\",\"threads\":%u,\"weights\":%" PRIu64 ",\"kv\":%" PRIu64
                 ",\"scratch\":%" PRIu64 ",\"vocabulary\":%" PRIu64 ",\"total\":%" PRIu64 "}",
                 p.n_ctx, kv_names[inspect_model.kv], p.n_threads, p.weights, p.kv, p.scratch, p.vocabulary, p.total);
        cli_putf(o, ",\"numerics_profile\":%d", SPARK_NUMERICS_PROFILE);
        return CLI_OK;
    }
    char a[32], b[32], c[32], v[32], t[32];
    cli_putf(o, "\nModel\n  %s, %u layers of %u, vocabulary %u, context %u, %.3g parameters, %s chat template\n",
             d.arch, d.n_layers, d.n_embd, d.n_vocab, d.n_ctx_train, (double)d.n_params,
             d.has_chat_template ? "has a" : "no");
    cli_putf(o,
             "\nMemory plan (context %u, %s keys and values, %u threads)\n  weights %s + KV %s + scratch %s + "
             "vocabulary %s = %s\n\nNumerics profile %d\n",
             p.n_ctx, kv_names[inspect_model.kv], p.n_threads, cli_size(p.weights, a), cli_size(p.kv, b),
             cli_size(p.scratch, c), cli_size(p.vocabulary, v), cli_size(p.total, t), SPARK_NUMERICS_PROFILE);
    return CLI_OK;
}

static int inspect_files(const cli_args *args)
{
    if (args->n > 1) return cli_usage("inspect", "one FILE is expected");
    if (args->n) cli_name_model(args->item[0]);
    return CLI_OK;
}

static int inspect_run(const cli_args *args)
{
    const char *path = args->n ? args->item[0] : NULL;
    spark_model_options options;
    spark_model *m = NULL;
    spark_err err = {0};
    cli_out o = {0};
    spark_model_options_defaults(&options);
    options.n_threads = inspect_model.n_threads;
    options.cpu = inspect_model.cpu;
    const spark_status s = spark__model_examine(&m, path, &options, &err);
    const spark_gguf *g = m ? spark__model_gguf(m) : NULL;
    if (inspect_json) cli_put(&o, "{", 1);
    if (g) inspect_put_keys(&o, g);
    if (g) inspect_put_tensors(&o, g);
    int code = s.code == SPARK_OK ? inspect_put_plan(&o, m) : cli_fail(path ? path : "embedded model", &err, NULL);
    if (inspect_json) cli_put(&o, "}\n", 2);
    if (g && cli_write(o.ptr, o.len) != CLI_OK) code = CLI_FAILED;
    cli_out_free(&o);
    spark_model_close(&m);
    return code;
}

const cli_command cli_command_inspect = {
    .name = "inspect",
    .args = "[FILE]",
    .summary = "show metadata, tensors and the memory plan of a model",
    .details =
        "Reads the head of the file, never the weights. Prints what it can, and exits with 1 and the reason whenever\n"
        "'spark run' would refuse the file at load. Long texts and arrays are shortened; --json has whole texts.",
    .examples = "spark inspect model.gguf --ctx 8192 --kv q8_0\n"
                "spark inspect model.gguf --json",
    .options = inspect_options,
    .run = inspect_run,
    .files = inspect_files,
};
