/* front_jobs.c - requests that ask an engine: from a parsed body to streams, from events to a reply. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "serve/front_internal.h"

#define FRONT_LOAD_FAILED "it cannot be loaded; its operator finds the reason in the log"

static uint64_t unix_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Not predictable is not asked for: only that requests without a seed differ. */
static uint64_t front_seed(front *f)
{
    uint64_t z = f->seed += 0x9e3779b97f4a7c15u; /* splitmix64, Steele et al. 2014 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- The end of a job ---- */

/* status: of the answer; 499 = the client left before it. e: why it is none, or NULL. */
static void job_account(front_job *j, int status, const api_error *e)
{
    front_visit *v = j->visit;
    uint64_t prompt = 0, cached = 0, drawn = 0;
    const uint64_t now = spark_clock_ns();
    if (j->reply) api_reply_counts(j->reply, &prompt, &cached, &drawn);
    front_prompts_asked(j);
    for (uint32_t i = 0; j->choices && i < j->call.n_asks; i++) front_prompts_answered(&j->choices[i], false);
    if (v->who.number) spark_gate_charge(v->f->gate, v->who.number, (int64_t)(prompt + drawn), spark_gate_now());
    spark_log_answered(v->f->log, &(spark_log_request){.id = http_request_id(v->x),
                                                       .method = http_request_method_text(v->x),
                                                       .route = v->match.route->path,
                                                       .key = v->who.id[0] ? v->who.id : NULL,
                                                       .address = http_request_address(v->x),
                                                       .model = j->model ? j->model->config->name : NULL,
                                                       .reason = e ? e->code : NULL,
                                                       .status = status,
                                                       .prompt_tokens = (uint32_t)prompt,
                                                       .cached_tokens = (uint32_t)cached,
                                                       .completion_tokens = (uint32_t)drawn,
                                                       .queue_ns = j->last.queue_us * 1000,
                                                       .prompt_ns = j->last.prompt_us * 1000,
                                                       .ttft_ns = j->first_ns ? j->first_ns - j->began_ns : 0,
                                                       .decode_ns = j->last.decode_us * 1000,
                                                       .total_ns = now - j->began_ns});
    front_metrics_request(v->f, j, status, e);
}

/* Lets go of everything; streams that run are cancelled. The exchange was answered, or its client left. */
static void job_free(front_job *j)
{
    front *f = j->visit->f;
    for (uint32_t i = 0; j->choices && i < j->call.n_asks; i++) {
        front_choice_release(&j->choices[i]);
        api_out_free(&j->choices[i].said);
    }
    if (j->model) {
        j->model->n_jobs--;
        j->model->used_ns = spark_clock_ns();
    }
    if (j->prev)
        j->prev->next = j->next;
    else
        f->jobs = j->next;
    if (j->next) j->next->prev = j->prev;
    api_reply_destroy(&j->reply);
    api_out_free(&j->out);
    spark_arena_destroy(&j->arena);
    free(j->choices);
    held_give(j->out.share, j->held);
    j->visit->job = NULL;
    free(j);
}

static void job_end(front_job *j)
{
    front_visit *v = j->visit;
    job_free(j);
    front_visit_end(v);
}

/* An answer before any engine was asked. */
static void job_refuse(front_job *j, const api_error *e)
{
    front_visit *v = j->visit;
    job_account(j, e->status, e);
    job_free(j);
    front_reply_error(v->f, v->x, v->match.dialect, e);
    front_visit_end(v);
}

/* ---- Sending what the reply has made ---- */

static void job_send_whole(front_job *j)
{
    front_visit *v = j->visit;
    const api_error *e = api_reply_error(j->reply);
    job_account(j, api_reply_status(j->reply), e);
    if (e && !j->out.len)
        front_reply_error(v->f, v->x, v->match.dialect, e);
    else
        front_reply_made(v->f, v->x, api_reply_status(j->reply), api_reply_type(j->reply), &j->out, e);
    job_end(j);
}

/* What has come is more than may wait for its reader, by the sum of all: the stream ends here and says so. False: not even that. */
static bool job_overflows(front_job *j, bool *last)
{
    api_error e;
    if (!j->out.failed && (j->out.len == 0 || http_reply_may(j->visit->x, j->out.len))) return false;
    if (*last) return j->out.failed;
    http_reply_share(j->visit->x)->last = *last = true;
    api_out_clear(&j->out);
    j->out.failed = false;
    api_error_held(&e);
    api_reply_failed(j->reply, 0, &e, &j->out);
    return j->out.failed;
}

static void job_send_stream(front_job *j, bool last)
{
    front_visit *v = j->visit;
    const bool broken = job_overflows(j, &last);
    if (!j->begun) {
        http_field fields[FRONT_FIELDS];
        size_t n = front_cors(v->f, v->x, fields);
        fields[n++] = (http_field){"X-Accel-Buffering", "no"}; /* proxies that know it pass each piece on at once */
        http_reply_begin(v->x, 200, api_reply_type(j->reply), fields, n);
        j->begun = true;
    }
    if (!last && !broken) {
        http_reply_write(v->x, api_out_bytes(&j->out));
        if (j->out.len) j->last_ns = spark_clock_ns();
        if (j->out.cap > FRONT_OUT_KEPT) api_out_free(&j->out);
        api_out_clear(&j->out);
        return;
    }
    job_account(j, api_reply_status(j->reply), api_reply_error(j->reply));
    if (broken)
        http_reply_abort(v->x);
    else
        http_reply_end(v->x, api_out_bytes(&j->out));
    job_end(j);
}

/* May end the job. */
static void job_send(front_job *j)
{
    switch (api_reply_phase(j->reply)) {
    case API_WAITING: return;
    case API_STREAMING: job_send_stream(j, false); return;
    case API_DONE: job_send_stream(j, true); return;
    case API_WHOLE: job_send_whole(j); return;
    }
}

/* ---- Asking ---- */

/* What the front decides, and no client. */
static void job_fill(const front_job *j, spark_ask *a)
{
    const spark_gate_verdict *who = &j->visit->who;
    const uint64_t gone_ms = (spark_clock_ns() - j->began_ns) / 1000000;
    const uint64_t left = j->limit_ms > gone_ms ? j->limit_ms - gone_ms : 1; /* it may have waited for its model */
    a->tenant = who->tenant;
    a->priority = who->priority;
    a->deadline_ms = j->limit_ms == 0 ? 0 : left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
    if (who->max_context && (a->n_ctx == 0 || a->n_ctx > who->max_context)) a->n_ctx = who->max_context;
}

/* How far ahead the engine may be of each choice. What it may send without new credit, written as JSON, must fit what may wait for
 * the reader: http_reply_write would cut off a reader that is only slow. */
static uint32_t job_window(const front_job *j)
{
    const uint64_t share = j->visit->f->config->max_backlog / FRONT_SWELL / j->call.n_asks;
    if (!j->call.stream || share > FRONT_WINDOW) return FRONT_WINDOW;
    return share < SPARK_WIRE_FIRST_CREDIT ? SPARK_WIRE_FIRST_CREDIT : (uint32_t)share;
}

/* The model is there: asks go out. A refusal of one of them is the reply of all. May end the job. */
static void job_ask(front_job *j)
{
    spark_err err = {0};
    api_error e = {0};
    j->waits = false;
    front_prompts_asked(j);
    if (!api_call_check(&j->call, &j->model->card, &e)) {
        job_refuse(j, &e);
        return;
    }
    for (uint32_t i = 0; i < j->call.n_asks; i++) {
        job_fill(j, &j->call.asks[i]);
        j->choices[i].window = job_window(j);
        const spark_status s = front_ask(&j->choices[i], j->model->link, &j->call.asks[i], &err);
        if (spark_ok(s)) continue;
        api_error_from(&e, &err, err.code == SPARK_E_LIMIT ? 1000 : 0);
        job_refuse(j, &e);
        return;
    }
}

/* A call that only loads or unloads. */
static void job_loaded(front_job *j)
{
    front_visit *v = j->visit;
    api_error e;
    http_reply_share(v->x)->last = true; /* a few words, and what was asked for is done */
    api_print_loaded(&j->out, &j->call, j->model->config->name, unix_ns());
    if (j->out.failed) {
        api_error_held(&e);
        job_refuse(j, &e);
        return;
    }
    job_account(j, 200, NULL);
    front_reply_made(v->f, v->x, 200, "application/json", &j->out, NULL);
    job_end(j);
}

static void job_go(front_job *j)
{
    if (j->call.n_asks == 0)
        job_loaded(j);
    else
        job_ask(j);
}

/* Why is the operator's business: it names files and sizes. */
static void job_unavailable(front_job *j, const char *what)
{
    api_error e;
    if (j->visit->f->draining) what = "the server is shutting down";
    api_error_set(&e, 503, "model_unavailable", "", "model '%s' is not available: %s", j->model->config->name, what);
    e.retry_ms = 2000;
    job_refuse(j, &e);
}

/* Its time is over and no engine has it. */
static void job_expire(front_job *j)
{
    api_error e;
    api_error_set(&e, 504, "deadline_exceeded", "", "the request's time passed while model '%s' was loading",
                  j->model->config->name);
    job_refuse(j, &e);
}

static void job_want(front_job *j)
{
    front_model *m = j->model;
    front *f = j->visit->f;
    j->waits = j->waited = true;
    if (m->state != CONTROL_MODEL_LOADING) front_tell(f, CONTROL_LOAD, (uint32_t)(m - f->models));
    m->state = CONTROL_MODEL_LOADING;
}

/* How long the model stays, as its last client has it: others use it too, so for less than the operator's time it takes a right of
 * its own. */
static void job_keep(const front_job *j, bool may_unload)
{
    front_model *m = j->model;
    const uint64_t least = may_unload ? 0 : m->config->keep_alive;
    if (j->call.keep_alive_ms == API_KEEP_DEFAULT) return;
    m->keep_ms = j->call.keep_alive_ms < 0 ? SPARK_FOREVER : (uint64_t)j->call.keep_alive_ms;
    if (m->keep_ms < least) m->keep_ms = least;
}

/* Now, or once the model is loaded. */
static void job_begin(front_job *j)
{
    front_model *m = j->model;
    front *f = j->visit->f;
    const bool may_unload = spark_gate_right(f->gate, j->visit->who.number, SPARK_ROUTE_ADMIN);
    if (j->call.load == API_LOAD_NO_MORE && !may_unload) {
        api_error e;
        api_error_set(&e, 403, "permission_denied", "keep_alive",
                      "to unload a model takes a key with the right 'admin'; without requests it goes by itself");
        job_refuse(j, &e);
        return;
    }
    job_keep(j, may_unload);
    if (j->call.load == API_LOAD_NO_MORE) {
        front_model_unload(f, m);
        job_loaded(j);
        return;
    }
    if (m->link) {
        job_go(j);
        return;
    }
    if (m->state == CONTROL_MODEL_FAILED &&
        m->config->load == SPARK_LOAD_AT_START) { /* the warden tries again in its own time */
        job_unavailable(j, FRONT_LOAD_FAILED);
        return;
    }
    job_want(j);
}

void front_model_changed(front *f, front_model *m)
{
    for (front_job *j = f->jobs, *next; j; j = next) {
        next = j->next;
        if (!j->waits || j->model != m) continue;
        if (m->link)
            job_go(j);
        else if (m->state == CONTROL_MODEL_FAILED)
            job_unavailable(j, FRONT_LOAD_FAILED);
        else
            job_want(j); /* it went away under those who wait for it */
    }
}

/* What was sent before the warden hears of it is answered still; what comes now waits for the next engine. One that the operator
 * wants loaded stays. */
void front_model_unload(front *f, front_model *m)
{
    const uint32_t number = (uint32_t)(m - f->models);
    if (m->config->load == SPARK_LOAD_AT_START) return;
    if (m->link) m->state = CONTROL_MODEL_ABSENT;
    front_link_retire(f, number);
    front_tell(f, CONTROL_UNLOAD, number);
}

/* ---- From the body ---- */

static bool parse_later(api_error *e)
{
    api_error_set(e, 503, "overloaded", "", "too many request bodies at once; try again");
    e->retry_ms = 1000;
    return false;
}

/* Body, values and copy lie there at once; then only the copy. A request that is alone may: the plan has room for one. */
bool front_parse(const front_visit *v, api_call *out, spark_arena **a, api_error *e)
{
    spark_err err;
    const spark_bytes body = http_request_body(v->x);
    const uint64_t left = http_request_bodies_left(v->x), values = api_parse_bytes(body),
                   most = cell_copy_most(v->f->config);
    if (left <= values) return parse_later(e);
    const uint64_t copy = left - values < most ? left - values : most;
    if (!spark_ok(spark_arena_create(a, (size_t)copy, &err))) return api_error_from(e, &err, 0), false;
    if (api_call_parse(out, v->match.route, body, http_request_header(v->x, "content-type"), *a, e)) return true;
    return copy < most && e->status == 503 ? parse_later(e) : false;
}

static front_job *job_create(front_visit *v)
{
    front_job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    j->visit = v;
    j->began_ns = spark_clock_ns();
    api_out_init(&j->out, FRONT_OUT_MAX);
    j->out.share = http_reply_share(v->x);
    j->next = v->f->jobs;
    if (j->next) j->next->prev = j;
    v->f->jobs = j;
    v->job = j;
    return j;
}

/* The model that was asked for, if the key may use it. What a key may not use does not exist for it. */
static bool job_find_model(front_job *j, api_error *e)
{
    front_visit *v = j->visit;
    front_model *m = front_model_find(v->f, j->call.model);
    if (v->who.number) {
        char name[CELL_NAME_MAX];
        const size_t n = j->call.model.len < sizeof name - 1 ? j->call.model.len : sizeof name - 1;
        if (n) memcpy(name, j->call.model.ptr, n);
        name[n] = '\0';
        if (!spark_gate_model(v->f->gate, m ? m->config->name : name, spark_gate_now(), &v->who)) {
            api_error_set(e, v->who.status, v->who.code, "model", "%s", v->who.message);
            return false;
        }
    }
    if (!m) {
        api_error_model(e, j->call.model);
        return false;
    }
    j->model = m;
    m->n_jobs++;
    m->used_ns = spark_clock_ns();
    return true;
}

/* The shorter of what the client and what the operator gives it. */
static bool job_limit(front_job *j, api_error *e)
{
    const spark_config *c = j->visit->f->config;
    uint32_t asked = 0;
    if (!api_timeout_parse(http_request_header(j->visit->x, "x-request-timeout-ms"), &asked, e)) return false;
    j->limit_ms = asked && (c->request_timeout == 0 || asked < c->request_timeout) ? asked : c->request_timeout;
    return true;
}

static bool job_prepare(front_job *j, api_error *e)
{
    front_visit *v = j->visit;
    spark_err err = {0};
    if (!job_limit(j, e)) return false;
    if (!front_parse(v, &j->call, &j->arena, e)) return false;
    http_request_keep(v->x, spark_arena_bytes(j->arena));
    j->out.in_blocks = !j->call.stream; /* an event goes out at once, and together */
    if (!job_find_model(j, e)) return false;
    api_call_seed(&j->call, front_seed(v->f));
    if (j->call.n_asks == 0) return true;
    const api_reply_options o = {.call = &j->call,
                                 .model = j->model->config->name,
                                 .id = http_request_id(v->x),
                                 .fingerprint = v->f->fingerprint,
                                 .unix_ns = unix_ns,
                                 .share = j->out.share};
    const size_t held = j->call.n_asks * sizeof *j->choices + api_reply_bytes(j->call.n_asks);
    if (!held_take(j->out.share, held)) return api_error_held(e), false;
    j->held = held;
    j->choices = calloc(j->call.n_asks, sizeof *j->choices);
    spark_status s = j->choices ? api_reply_create(&j->reply, &o, &err)
                                : spark_fail(&err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    for (uint32_t i = 0; j->choices && i < j->call.n_asks; i++) j->choices[i] = (front_choice){.job = j, .index = i};
    if (!spark_ok(s)) api_error_from(e, &err, 0);
    return spark_ok(s);
}

void front_job_start(front_visit *v)
{
    api_error e = {0};
    front_job *j = job_create(v);
    if (!j) {
        api_error_set(&e, 503, "overloaded", "", "out of memory");
        front_reply_error(v->f, v->x, v->match.dialect, &e);
        front_visit_end(v);
        return;
    }
    if (job_prepare(j, &e))
        job_begin(j);
    else
        job_refuse(j, &e);
}

/* ---- Events ---- */

static void job_grant(front_job *j)
{
    if (j->call.stream && j->begun && http_reply_room(j->visit->x) == 0) return; /* its reader is slow: later */
    for (uint32_t i = 0; i < j->call.n_asks; i++) front_choice_grant(&j->choices[i]);
}

static spark_status job_piece(front_choice *c, spark_bytes payload, spark_err *err)
{
    static spark_piece_message m; /* 130 KB of pointers; one thread */
    front_job *j = c->job;
    SPARK_TRY(spark_get_piece(&m, payload, err));
    const uint64_t now = spark_clock_ns();
    if (m.has_token) front_metrics_token(j, c, now);
    if (!j->first_ns && m.has_token) j->first_ns = now;
    c->owed += (uint32_t)payload.len;
    front_prompts_said(c, m.text);
    api_reply_piece(j->reply, c->index, &m, &j->out);
    if (!j->call.stream || !j->begun || http_reply_room(j->visit->x) > 0) front_choice_grant(c);
    return SPARK_SUCCESS;
}

static void job_fail(front_choice *c, const char *what, const spark_err *why)
{
    api_error e;
    api_error_set(&e, 500, "engine_failed", "", "the engine's answer is malformed: %s: %s", what, why->text);
    api_reply_failed(c->job->reply, c->index, &e, &c->job->out);
}

void front_job_event(front_choice *c, const spark_wire_frame *frame)
{
    front_job *j = c->job;
    spark_started_message started;
    spark_finished_message finished;
    spark_failed_message failed;
    spark_err err = {0};
    api_error e = {0};
    switch ((int)frame->type) {
    case SPARK_WIRE_STARTED:
        if (spark_ok(spark_get_started(&started, frame->payload, &err))) {
            front_metrics_started(c, started.took_ns);
            api_reply_started(j->reply, c->index, started.n_prompt, started.n_cached, &j->out);
            break;
        }
        job_fail(c, "its start", &err);
        break;
    case SPARK_WIRE_PIECE:
        if (!spark_ok(job_piece(c, frame->payload, &err))) job_fail(c, "a piece of text", &err);
        break;
    case SPARK_WIRE_DATA:
        if (!j->call.context && j->call.asks[c->index].kind > SPARK_ASK_TOKENIZE) front_prompts_said(c, frame->payload);
        api_reply_data(j->reply, c->index, frame->payload, &j->out);
        break;
    case SPARK_WIRE_FINISHED:
        if (spark_ok(spark_get_finished(&finished, frame->payload, &err))) {
            api_reply_finished(j->reply, c->index, &finished, &j->out);
            j->last = finished;
            j->ended_by_length |= finished.finish == SPARK_FINISH_LENGTH;
            front_metrics_finished(j, &finished);
            front_prompts_answered(c, true);
            break;
        }
        job_fail(c, "its end", &err);
        break;
    case SPARK_WIRE_FAILED:
        if (!spark_ok(spark_get_failed(&failed, frame->payload, &err))) {
            job_fail(c, "its failure", &err);
            break;
        }
        api_error_from(&e, &failed.err, failed.retry_ms);
        api_error_advise(&e, &j->call);
        api_reply_failed(j->reply, c->index, &e, &j->out);
        break;
    default: return;
    }
    job_send(j);
}

void front_job_lost(front_choice *c)
{
    front_job *j = c->job;
    api_error e;
    api_error_set(&e, 503, "engine_failed", "",
                  "the engine of model '%s' ended unexpectedly; it is being started again", j->model->config->name);
    e.retry_ms = 1000;
    api_reply_failed(j->reply, c->index, &e, &j->out);
    job_send(j);
}

void front_job_gone(front_job *j)
{
    job_account(j, FRONT_CLIENT_GONE, NULL);
    job_free(j);
}

void front_job_room(front_job *j) { job_grant(j); }

/* The engine ends what takes too long. One that does not even do that is not waited for. */
static bool job_is_late(const front_job *j, uint64_t now, uint64_t grace_ms)
{
    return j->limit_ms && (now - j->began_ns) / 1000000 >= j->limit_ms + grace_ms;
}

static void job_give_up(front_job *j)
{
    api_error e;
    api_error_set(&e, 504, "deadline_exceeded", "",
                  "the request was not done within its time, and its engine is silent");
    api_reply_failed(j->reply, 0, &e, &j->out);
    job_send(j);
}

void front_jobs_tick(front *f)
{
    const uint64_t now = spark_clock_ns();
    for (front_job *j = f->jobs, *next; j; j = next) {
        next = j->next;
        if (j->waits) {
            if (job_is_late(j, now, 0))
                job_expire(j);
            else if (now - j->began_ns > (uint64_t)FRONT_LOAD_MS * 1000000)
                job_unavailable(j, "it did not load in time");
            continue;
        }
        if (job_is_late(j, now, FRONT_GRACE_MS)) {
            job_give_up(j);
            continue;
        }
        job_grant(j); /* what found no room in the link */
        if (!j->call.stream || !j->reply ||
            now - (j->last_ns ? j->last_ns : j->began_ns) < (uint64_t)FRONT_SILENCE_MS * 1000000)
            continue;
        api_reply_ping(j->reply, &j->out);
        if (j->out.len) job_send_stream(j, false);
    }
}
