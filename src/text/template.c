/* template.c - the two doors of the template interpreter: compile and render. */
#include "text/template.h"

#include <string.h>

#include "text/buffers.h"
#include "text/jinja_internal.h"

static spark_status template_compile(spark_template *t, spark_bytes source, spark_arena *a, spark_arena *tmp,
                                     spark_err *err)
{
    j_token *tokens = NULL;
    size_t n = 0;
    SPARK_TRY(spark__j_normalize(source, a, &t->src, err));
    SPARK_TRY(spark__j_lex(t->src, a, tmp, &tokens, &n, err));
    return spark__j_parse(t, tokens, a, tmp, err);
}

spark_status spark_template_compile(spark_template **out, spark_bytes source, spark_arena *a, spark_err *err)
{
    spark_template *t = NULL;
    spark_arena *tmp = NULL;
    SPARK_TRY(SPARK_NEW(a, 1, &t, err));
    SPARK_TRY(spark_arena_create(&tmp, SPARK_MAX_TEMPLATE_MEMORY, err));
    const spark_status s = template_compile(t, source, a, tmp, err);
    spark_arena_destroy(&tmp);
    if (spark_ok(s)) *out = t;
    return s;
}

/* bos_token, eos_token and their kin come from the model's own files, like the template. */
static bool template_is_trusted(spark_bytes name)
{
    static const char suffix[] = "_token";
    const size_t n = sizeof suffix - 1;
    return name.len > n && memcmp(name.ptr + name.len - n, suffix, n) == 0;
}

/* The value of every name the template mentions, before it runs. */
static spark_status template_bind(j_ctx *j, const json_t *vars)
{
    SPARK_TRY(J_NEW(j, j->t->n_symbols, &j->root));
    for (uint32_t i = 0; i < j->t->n_symbols; i++) {
        const spark_bytes name = j->t->symbols[i];
        const json_t *json = json_object_getn(vars, (const char *)name.ptr, name.len);
        const j_builtin *global = spark__j_global(name);
        if (json)
            SPARK_TRY(spark__j_from_json(j, json, !(json_is_string(json) && template_is_trusted(name)), &j->root[i]));
        else if (global)
            j->root[i] = (j_val){.type = J_FUNCTION, .u.fn = global};
        else if (spark_bytes_is(name, "tools") || spark_bytes_is(name, "documents"))
            j->root[i] = spark__j_none(); /* apply_chat_template always hands in both */
    }
    return SPARK_SUCCESS;
}

static spark_status template_push_run(spark_rendering *r, size_t end, bool trusted, spark_err *err)
{
    const size_t begin = r->n_runs ? r->runs[r->n_runs - 1].end : 0;
    if (begin == end) return SPARK_SUCCESS;
    if (r->n_runs == r->cap_runs) {
        void *runs = r->runs;
        SPARK_TRY(spark__buffer_grow(r->arena, &runs, &r->cap_runs, r->n_runs + 1, sizeof *r->runs, err));
        r->runs = runs;
    }
    r->runs[r->n_runs++] = (spark_template_run){begin, end, trusted};
    return SPARK_SUCCESS;
}

static spark_status template_deliver(const j_text *t, spark_rendering *out, spark_err *err)
{
    if (out->arena) /* that of t, which lives as long */
        out->text = (spark_text){t->data, t->len, t->cap, out->arena};
    else
        SPARK_TRY(spark_text_append(&out->text, (spark_bytes){t->data, t->len}, err));
    for (size_t i = 0; i < t->n_spans; i++) {
        SPARK_TRY(template_push_run(out, t->spans[i].begin, true, err));
        SPARK_TRY(template_push_run(out, t->spans[i].end, false, err));
    }
    return template_push_run(out, t->len, true, err);
}

static spark_status template_run(j_ctx *j, const json_t *vars, spark_rendering *out)
{
    SPARK_TRY(template_bind(j, vars));
    SPARK_TRY(spark__j_text_new(j, 0, &j->sink));
    SPARK_TRY(spark__j_exec(j, j->t->body));
    return template_deliver(j->sink, out, j->err);
}

spark_status spark_template_render_within(const spark_template *t, const json_t *vars, const struct tm *now,
                                          spark_arena *a, spark_rendering *out, spark_err *err)
{
    j_ctx j = {.t = t, .a = a, .err = err, .now = now};
    *out = (spark_rendering){.arena = a, .text.arena = a};
    SPARK_CHECK(json_is_object(vars), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the variables of a template must be a JSON object");
    const spark_status s = template_run(&j, vars, out);
    if (!spark_ok(s)) *out = (spark_rendering){0};
    return s;
}

spark_status spark_template_render(const spark_template *t, const json_t *vars, const struct tm *now,
                                   spark_rendering *out, spark_err *err)
{
    j_ctx j = {.t = t, .err = err, .now = now};
    *out = (spark_rendering){0};
    SPARK_CHECK(json_is_object(vars), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the variables of a template must be a JSON object");
    SPARK_TRY(spark_arena_create(&j.a, SPARK_MAX_TEMPLATE_MEMORY, err));
    const spark_status s = template_run(&j, vars, out);
    spark_arena_destroy(&j.a);
    if (!spark_ok(s)) spark_rendering_free(out);
    return s;
}

void spark_rendering_free(spark_rendering *r)
{
    spark_text_free(&r->text);
    spark__buffer_free(r->arena, r->runs);
    *r = (spark_rendering){0};
}
