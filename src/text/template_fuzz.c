/* template_fuzz.c - aims at spark_template_compile and spark_template_render: any bytes as a template, rendered with
 * fixed variables. Besides crashes it checks what a rendering promises: valid UTF-8, runs that cover it, and that a
 * second rendering gives the same. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char fuzz_vars[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be <b>brief</b>.\", \"n\": 2},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \" h\\u00e9llo \\ud83d\\ude42 \"}]},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"type\": \"function\", \"function\":"
    " {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, true, null, \"x,y,,z\"]}}}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}],"
    " \"words\": [\"pear\", \"Apple\", \"fig\", \"\"], \"d\": {\"b\": 1, \"A\": \"two\", \"items\": 3}, \"n\": 7, "
    "\"x\": -2.5,"
    " \"s\": \"one two\\nthree \\u0130\\u03a3\", \"bos_token\": \"<s>\", \"eos_token\": \"</s>\","
    " \"add_generation_prompt\": true}";

static void fuzz_check(const spark_rendering *r)
{
    size_t at = 0;
    if (!spark_utf8_is_valid(r->text.ptr, r->text.len)) abort();
    for (size_t i = 0; i < r->n_runs; i++) {
        if (r->runs[i].begin != at || r->runs[i].end <= at) abort();
        at = r->runs[i].end;
    }
    if (at != r->text.len) abort();
}

static void fuzz_same(const spark_rendering *a, const spark_rendering *b)
{
    if (a->text.len != b->text.len || a->n_runs != b->n_runs) abort();
    if (a->text.len && memcmp(a->text.ptr, b->text.ptr, a->text.len) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct tm now = {
        .tm_year = 126, .tm_mday = 15, .tm_hour = 9, .tm_min = 30, .tm_wday = 4, .tm_yday = 14};
    static json_t *vars;
    spark_template *t = NULL;
    spark_arena *a = NULL;
    spark_err err = {0};
    spark_rendering first = {0}, second = {0};
    if (!vars) vars = json_loads(fuzz_vars, 0, NULL);
    if (!vars || spark_arena_create(&a, 64u << 20, &err).code != SPARK_OK) abort();
    if (spark_template_compile(&t, (spark_bytes){data, size}, a, &err).code == SPARK_OK) {
        const spark_status s = spark_template_render(t, vars, &now, &first, &err);
        fuzz_check(&first);
        if (spark_template_render(t, vars, &now, &second, &err).code != s.code) abort();
        fuzz_same(&first, &second);
    } else if (err.code == SPARK_OK) {
        abort();
    }
    spark_rendering_free(&first);
    spark_rendering_free(&second);
    spark_arena_destroy(&a);
    return 0;
}
