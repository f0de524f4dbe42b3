/* template.h - chat templates: the Jinja that released models use, run as the hostile program it is.
 * Nouns:   spark_template, a compiled template; a rendering, bounded in steps, depth, memory and output.
 * Promise: the text is byte for byte what Jinja2 with the settings of the Hugging Face libraries gives (trim_blocks,
 *          lstrip_blocks, sandbox, tojson without ASCII escapes, raise_exception, strftime_now), or an error with line
 *          and column. No attribute leads anywhere but into the data that was handed in.
 * Threads: a compiled template is immutable. */
#ifndef SPARK_TEXT_TEMPLATE_H
#define SPARK_TEXT_TEMPLATE_H

#include <jansson.h>
#include <time.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "text/tokenizer.h"

typedef struct spark_template spark_template;

/* Compiles; the result and all it needs lie in `a` (the source is copied). */
SPARK_MUST_CHECK spark_status spark_template_compile(spark_template **out, spark_bytes source, spark_arena *a,
                                                     spark_err *err);

/* One piece of a rendering. `trusted` is true for the template's own text and for the variables whose names end in
 * "_token" (bos_token, eos_token: the model's own), false for what came out of strings, keys, lists or objects of any
 * other variable (a user's text): only trusted runs may have special tokens parsed. Runs may cut a word: the text
 * between two special tokens is to be encoded as one, whatever its runs. */
typedef spark_run spark_template_run;

typedef struct spark_rendering {
    spark_text text;
    spark_template_run *runs; /* cover the text in order, without gaps */
    size_t n_runs, cap_runs;
    spark_arena *arena; /* where all of it lies; NULL = heap */
} spark_rendering;
void spark_rendering_free(spark_rendering *r);

/* Renders with the variables of `vars` (a JSON object: messages, tools, bos_token, eos_token, add_generation_prompt, ...).
 * What is absent is undefined, but tools and documents are None, as the Hugging Face libraries hand them in.
 * `now` is what strftime_now sees (broken-down local time); NULL: a template that asks for it fails.
 * raise_exception gives SPARK_E_REFUSED with the template's message; any other failure SPARK_E_FORMAT or SPARK_E_LIMIT,
 * with line and column. On error *out is empty. */
SPARK_MUST_CHECK spark_status spark_template_render(const spark_template *t, const json_t *vars, const struct tm *now,
                                                    spark_rendering *out, spark_err *err);

/* The same wholly within arena `a`, which grows by the rendering and by all values made on the way (also on error); the heap is not
 * touched. What does not fit is SPARK_E_LIMIT. */
SPARK_MUST_CHECK spark_status spark_template_render_within(const spark_template *t, const json_t *vars,
                                                           const struct tm *now, spark_arena *a, spark_rendering *out,
                                                           spark_err *err);

#endif
