/* front_prompts.c - what was asked and answered, as lines of the log: only where the operator has said --log-prompts. A prompt is told when
 * its request goes to an engine or is refused, an answer when it ends; both carry the id of their `request` line, which comes last.
 * At most CELL_LOG_TEXT bytes of each are told, over as many lines (`part`) as they take. What is kept for it is wiped when freed. */
#include "base/utf8.h"
#include "serve/front_internal.h"

/* more: there was more than `text`. */
static void prompts_tell(const front_choice *c, const char *event, const char *form, spark_bytes text, bool more)
{
    spark_log *l = c->job->visit->f->log;
    for (uint64_t part = 0, taken = 1; taken && (part == 0 || text.len); part++) {
        spark_log_begin(l, SPARK_LOG_INFO, event);
        spark_log_text(l, "request", http_request_id(c->job->visit->x));
        spark_log_u64(l, "choice", c->index);
        spark_log_u64(l, "part", part);
        spark_log_text(l, "form", form);
        taken = spark_log_private(l, "text", text);
        text = (spark_bytes){text.ptr + taken, text.len - taken};
        if (more && text.len == 0) spark_log_cut(l);
        spark_log_end(l);
    }
}

static spark_bytes prompts_begin_of(spark_bytes text, size_t max, bool *more)
{
    *more = text.len > max;
    if (*more) text.len = max - spark_utf8_incomplete_tail(text.ptr, max);
    return text;
}

static void prompts_tell_ids(const front_choice *c, const spark_ask *a)
{
    api_out o;
    api_out_init(&o, CELL_LOG_TEXT);
    for (uint32_t i = 0; i < a->n_ids && !o.failed; i++) api_out_fmt(&o, "%s%u", i ? "," : "", a->ids[i]);
    prompts_tell(c, "prompt", "ids", api_out_bytes(&o), o.failed);
    api_out_free(&o);
}

static void prompts_tell_ask(const front_choice *c, const spark_ask *a)
{
    const bool chat = a->kind == SPARK_ASK_CHAT || a->kind == SPARK_ASK_TEMPLATE;
    bool more = false;
    if (a->n_ids) prompts_tell_ids(c, a);
    if (!a->text.len && a->n_ids) return;
    const spark_bytes text = prompts_begin_of(a->text, CELL_LOG_TEXT, &more);
    prompts_tell(c, "prompt", chat ? "messages" : "text", text, more);
}

void front_prompts_asked(front_job *j)
{
    if (!j->choices || j->told || !spark_log_takes_private(j->visit->f->log)) return;
    j->told = true;
    for (uint32_t i = 0; i < j->call.n_asks; i += j->call.n_each) prompts_tell_ask(&j->choices[i], &j->call.asks[i]);
}

void front_prompts_said(front_choice *c, spark_bytes text)
{
    bool more = false;
    if (c->said_more || !spark_log_takes_private(c->job->visit->f->log)) return;
    c->said.max = CELL_LOG_TEXT;
    const spark_bytes fits = prompts_begin_of(text, CELL_LOG_TEXT - c->said.len, &more);
    api_out_raw(&c->said, fits.ptr, fits.len);
    c->said_more = more || c->said.failed;
}

void front_prompts_answered(front_choice *c, bool whole)
{
    const bool has_text = c->job->call.asks[c->index].kind != SPARK_ASK_TOKENIZE;
    if (spark_log_takes_private(c->job->visit->f->log) && has_text && (whole || c->said.len))
        prompts_tell(c, "answer", "text", api_out_bytes(&c->said), c->said_more);
    api_out_free(&c->said);
}
