/* engine_equal_test.c - an engine full of requests gives what a session of its own gives to each: tokens, text as it was handed
 * out, log-probabilities, the reason of the end. On the embedded demo model (skipped where the build has none). */
#include <string.h>

#include "api/api_internal.h"
#include "base/checked.h"
#include "base/test.h"
#include "engine/engine.h"

enum { N_CTX = 144, MAX_TEXT = 16384, N_CASES = 14 };

static spark_model *model;
static uint32_t n_vocab;

static int open_model(void **state)
{
    (void)state;
    spark_model_options o;
    spark_description d;
    spark_err err = {0};
    spark_model_options_defaults(&o);
    o.n_threads = 1; /* engine_test has the threads */
    if (spark_model_open_embedded(&model, &o, &err).code == SPARK_E_UNSUPPORTED) return 0;
    if (!model || spark_model_load(model, NULL, NULL, &err).code) return -1;
    spark_model_describe(model, &d);
    n_vocab = d.n_vocab;
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    spark_model_close(&model);
    return 0;
}

/* All that can be observed of one generation. */
typedef struct said {
    uint32_t ids[N_CTX + 1], text_end[N_CTX + 1]; /* bytes shown after each token */
    uint32_t n, n_tokens;
    char text[MAX_TEXT];
    uint32_t len;
    float logprob[N_CTX + 1];
    spark_logprob top[N_CTX + 1][3];
    spark_finish finish;
    bool stop_string;
    uint32_t which_stop;
} said;

typedef struct equal_case {
    const char *prompt;
    spark_tokens ids;
    spark_generate_options o;
    const char *stops[2];
    spark_logit_bias bias[2];
    char stop_text[8];
    said session, engine;
} equal_case;

static equal_case cases[N_CASES];

static void said_piece(said *s, const spark_piece *p)
{
    assert_true(s->len + p->len < MAX_TEXT);
    memcpy(s->text + s->len, p->text, p->len);
    s->len += (uint32_t)p->len;
    if (!p->has_token) return;
    assert_true(s->n <= N_CTX);
    s->ids[s->n] = p->id;
    s->text_end[s->n] = s->len;
    s->logprob[s->n] = p->n_top ? p->logprob : 0;
    if (p->n_top) memcpy(s->top[s->n], p->top, (p->n_top < 3 ? p->n_top : 3) * sizeof *p->top);
    s->n++;
}

static bool on_piece(void *ctx, const spark_piece *piece)
{
    said_piece(ctx, piece);
    return true;
}

static void run_session(equal_case *c, spark_kv_choice kv)
{
    spark_session_options so;
    spark_session *s = NULL;
    spark_generate_result result;
    spark_err err = {0};
    spark_session_options_defaults(&so);
    so.n_ctx = N_CTX;
    so.kv = kv;
    c->session = (said){0};
    c->o.on_piece = on_piece;
    c->o.ctx = &c->session;
    assert_ok(spark_session_create(&s, model, &so, NULL));
    assert_ok(spark_session_feed(s, c->ids.ids, c->ids.n, NULL));
    if (!spark_ok(spark_session_generate(s, &c->o, &result, &err))) fail_msg("%s", err.text);
    c->session.finish = result.finish;
    c->session.n_tokens = result.n_tokens;
    spark_session_destroy(&s);
}

/* Cases of many kinds; every fourth gets a stop string out of what it says without one. */
static void make_cases(spark_kv_choice kv)
{
    static const char *const prompts[] = {"Once upon a time", "The little dog",
                                          "One day, Lily and her mother went to the",
                                          "\xe2\x82\xac 5 and more: ", "He said: \""};
    for (uint32_t i = 0; i < N_CASES; i++) {
        equal_case *c = &cases[i];
        *c = (equal_case){.prompt = prompts[i % SPARK_COUNT(prompts)]};
        assert_ok(spark_model_tokenize(model, c->prompt, strlen(c->prompt), SPARK_TOKENIZE_ADD, &c->ids, NULL));
        spark_generate_options_defaults(&c->o);
        c->o.max_tokens = i % 7 == 0 ? 0 : 20 + i;
        c->o.ignore_eog = i % 3 == 0;
        c->o.n_logprobs = i % 4;
        c->o.sampling.seed = i;
        if (i % 6 == 1) c->o.sampling.temperature = 0;
        if (i % 6 == 2) c->o.sampling.repeat_penalty = 1.2f;
        if (i % 6 == 3) c->o.sampling.dry_multiplier = 0.8f;
        if (i % 6 == 4) {
            c->o.sampling.top_k = 0;
            c->o.sampling.typical_p = 0.9f;
            c->o.sampling.temperature = 1.5f;
        }
        if (i % 6 == 5) c->o.sampling.xtc_probability = 0.5f;
        c->bias[0] = (spark_logit_bias){300 + i, 4};
        c->bias[1] = (spark_logit_bias){301 + i, -__builtin_inff()};
        c->o.logit_bias = c->bias;
        c->o.n_logit_bias = i % 3;
        run_session(c, kv);
        if (i % 4 != 3 || c->session.len < 40) continue;
        uint32_t at = 20, n = 5;
        while (((uint8_t)c->session.text[at] & 0xc0) == 0x80) at++;
        while (((uint8_t)c->session.text[at + n] & 0xc0) == 0x80) n++;
        memcpy(c->stop_text, c->session.text + at, n);
        c->stops[0] = "nowhere to be found";
        c->stops[1] = c->stop_text;
        c->o.stops = c->stops;
        c->o.n_stops = 2;
        run_session(c, kv);
    }
}

static void listen(spark_engine *e)
{
    for (spark_event v; spark_engine_event(e, &v);) {
        said *s = &cases[v.id].engine;
        if (v.kind == SPARK_EVENT_PIECE) said_piece(s, &v.piece);
        if (v.kind == SPARK_EVENT_FAILED) fail_msg("%s", v.err.text);
        if (v.kind != SPARK_EVENT_FINISHED) continue;
        s->finish = v.finish;
        s->n_tokens = v.n_tokens;
        s->stop_string = v.stop_string;
        s->which_stop = v.which_stop;
    }
}

static void compare(const equal_case *c)
{
    const said *a = &c->session, *b = &c->engine;
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_memory_equal(a->text_end, b->text_end, a->n * sizeof *a->text_end);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->text, b->text, a->len);
    assert_memory_equal(a->logprob, b->logprob, a->n * sizeof *a->logprob);
    assert_memory_equal(a->top, b->top, sizeof a->top);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->n_tokens, b->n_tokens);
    if (b->finish == SPARK_FINISH_STOP)
        assert_int_equal(b->stop_string, c->o.n_stops > 0 && !spark_model_is_eog(model, b->ids[b->n - 1]));
    if (b->stop_string) assert_int_equal(b->which_stop, 1);
}

static void run_engine(spark_kv_type kv, uint32_t n_pages, uint32_t n_batch, bool cache)
{
    const spark_engine_options o = {.n_ctx = N_CTX,
                                    .n_running = 16,
                                    .n_waiting = N_CASES,
                                    .waiting_tokens = 1000,
                                    .n_pages = n_pages,
                                    .n_batch = n_batch,
                                    .itl_target_us = 2000,
                                    .kv_type = kv,
                                    .prefix_cache = cache};
    const spark_engine_parts parts = {.net = model->net,
                                      .kern = &model->kern,
                                      .tokenizer = model->tokenizer,
                                      .dry_breaks = model->dry_breaks,
                                      .pool = model->pool,
                                      .isa = model->isa};
    spark_engine *e = NULL;
    assert_ok(spark_engine_create(&e, &parts, &o, NULL));
    for (uint32_t i = 0; i < N_CASES; i++) {
        equal_case *c = &cases[i];
        const spark_request r = {.id = i,
                                 .tenant = i % 2,
                                 .prompt = c->ids.ids,
                                 .n_prompt = (uint32_t)c->ids.n,
                                 .cache = true,
                                 .generate = c->o};
        c->engine = (said){0};
        assert_ok(spark_engine_submit(e, &r, NULL, NULL));
        if (i % 3 == 0) (void)spark_engine_step(e);
        listen(e);
    }
    while (spark_engine_step(e)) listen(e);
    spark_engine_destroy(&e);
    for (uint32_t i = 0; i < N_CASES; i++) compare(&cases[i]);
}

static void test_an_engine_gives_every_request_what_a_session_would(void **state)
{
    (void)state;
    static const struct {
        spark_kv_choice choice;
        spark_kv_type type;
    } kinds[] = {{SPARK_KV_TYPE_F16, SPARK_KV_F16}, {SPARK_KV_TYPE_Q8_0, SPARK_KV_Q8_0}};
    if (!model) skip();
    for (size_t k = 0; k < SPARK_COUNT(kinds); k++) {
        uint32_t n_stopped = 0;
        make_cases(kinds[k].choice);
        run_engine(kinds[k].type, 0, 64, true);
        for (uint32_t i = 0; i < N_CASES; i++) n_stopped += cases[i].engine.stop_string;
        assert_true(n_stopped > 0); /* or it was not shown */
        if (k == 0) run_engine(kinds[k].type, 6, 17, false);
        for (uint32_t i = 0; i < N_CASES; i++) spark_tokens_free(&cases[i].ids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_engine_gives_every_request_what_a_session_would),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
