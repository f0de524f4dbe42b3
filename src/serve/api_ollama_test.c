/* api_ollama_test.c - Ollama's routes: bodies to asks, events to replies. */
#include "serve/dialect_test.h"

/* ---- Bodies ---- */

static void test_ollama_chat_defaults_and_options(void **s)
{
    (void)s;
    world w = taken("/api/chat", "{" HI "}");
    const spark_sampling *p = &w.call.asks[0].generate.sampling;
    assert_true(w.call.stream && p->temperature == 0.8f && p->top_p == 0.9f && p->min_p == 0);
    assert_int_equal(p->top_k, 40);
    assert_int_equal(p->penalty_last_n, 64);
    assert_true(w.call.keep_alive_ms == API_KEEP_DEFAULT);
    world_end(&w);
    w = taken("/api/chat", "{" HI ", \"stream\": false, \"keep_alive\": \"1h30m\", \"think\": false, \"format\": \"\", "
                           "\"options\": {\"num_ctx\": 2048,"
                           " \"num_predict\": -2, \"seed\": 3, \"stop\": [\"x\"], \"num_gpu\": 99, \"mirostat\": 0, "
                           "\"top_k\": 0, \"repeat_last_n\": -1}}");
    assert_false(w.call.stream);
    assert_int_equal(w.call.keep_alive_ms, 5400000);
    assert_int_equal(w.call.asks[0].n_ctx, 2048);
    assert_int_equal(w.call.asks[0].generate.max_tokens, 0);
    assert_int_equal(w.call.asks[0].generate.sampling.seed, 3);
    assert_int_equal(w.call.asks[0].generate.sampling.penalty_last_n, SPARK_MAX_CTX);
    json_t *v = vars_of(&w);
    assert_true(json_is_false(json_object_get(v, "enable_thinking")));
    json_decref(v);
    world_end(&w);
}

static void test_ollama_keep_alive_reads_go_durations(void **s)
{
    (void)s;
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"300", 300000}, {"0", 0},        {"-1", -1},         {"1.5", 1500},      {"\"5m\"", 300000},
                {"\"0\"", 0},    {"\"-1m\"", -1}, {"\"1.5s\"", 1500}, {"\"250ms\"", 250}, {"\"24h\"", 86400000},
                {"1e300", -1}};
    static const char *const bad[] = {"\"\"", "\"5\"", "\"m\"", "\"5x\"", "\"5m3\"", "true", "\"-\"", "\"5mm\"", "[]"};
    char body[256];
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        snprintf(body, sizeof body, "{\"model\": \"m\", \"keep_alive\": %s}", rows[i].text);
        world w = taken("/api/generate", body);
        assert_int_equal(w.call.keep_alive_ms, rows[i].ms);
        assert_int_equal(w.call.n_asks, 0);
        assert_int_equal(w.call.load, rows[i].ms == 0 ? API_LOAD_NO_MORE : API_LOAD_NOW);
        world_end(&w);
    }
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        snprintf(body, sizeof body, "{\"model\": \"m\", \"keep_alive\": %s}", bad[i]);
        world w = parse("/api/generate", body);
        assert_int_equal(w.e.status, 400);
        world_end(&w);
    }
}

static void test_ollama_generate_makes_a_turn_or_takes_it_raw(void **s)
{
    (void)s;
    world w = taken(
        "/api/generate",
        "{\"model\": \"m\", \"prompt\": \"p\", \"system\": \"s\", \"context\": [1, 2], \"template\": \"\"}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_CHAT);
    assert_int_equal(w.call.asks[0].n_ids, 2);
    assert_true(w.call.context && w.call.asks[0].prompt_ids);
    json_t *v = vars_of(&w);
    assert_string_equal(message_text(v, 0, "content"), "s");
    assert_string_equal(message_text(v, 1, "content"), "p");
    json_decref(v);
    world_end(&w);
    w = taken("/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"raw\": true}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TEXT);
    assert_true(w.call.asks[0].parse_special);
    assert_false(w.call.context);
    world_end(&w);
    refused("/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"raw\": true, \"context\": [1]}", 400,
            "invalid_value", "raw");
    refused("/api/generate", "{\"model\": \"m\", \"prompt\": \"p\", \"template\": \"{{ .Prompt }}\"}", 400,
            "unsupported_parameter", "template");
    refused("/api/chat", "{" HI ", \"format\": \"json\"}", 400, "unsupported_parameter", "format");
    refused("/api/chat", "{" HI ", \"think\": true}", 400, "unsupported_parameter", "think");
    refused("/api/chat", "{" HI ", \"options\": {\"mirostat\": 2}}", 400, "unsupported_parameter", "options.mirostat");
    refused("/api/chat", "{" HI ", \"options\": {\"temprature\": 2}}", 400, "unknown_parameter", "options.temprature");
    refused("/api/chat", "{" HI ", \"options\": {\"num_ctx\": 0}}", 400, "invalid_value", "options.num_ctx");
    refused("/api/chat", "{" HI ", \"truncate\": true}", 400, "unsupported_parameter", "truncate");
}

static void test_show_takes_the_old_name(void **s)
{
    (void)s;
    world w = taken("/api/show", "{\"name\": \"m\"}");
    assert_true(spark_bytes_is(w.call.model, "m"));
    world_end(&w);
    refused("/api/show", "{\"name\": \"old\", \"model\": \"m\"}", 400, "invalid_value", "model");
    refused("/api/show", "{\"model\": \"m\", \"name\": \"old\"}", 400, "invalid_value", "name");
    w = taken("/api/show", "{\"name\": \"m\", \"model\": \"m\", \"verbose\": false}");
    assert_true(spark_bytes_is(w.call.model, "m"));
    world_end(&w);
    refused("/api/show", "{}", 400, "missing_required_parameter", "model");
}

/* ---- Replies ---- */

static void test_ollama_replies_as_lines_or_one(void **s)
{
    (void)s;
    answer x = answer_all("/api/chat", "{" HI "}");
    assert_string_equal(api_reply_type(x.r), "application/x-ndjson");
    json_t *v = answer_events(&x, false);
    assert_int_equal(json_array_size(v), 3);
    assert_string_equal(text_at(v, "0.created_at"), "2026-01-01T00:00:00.123456789Z");
    assert_string_equal(text_at(v, "0.message.content"), "Hel\"lo");
    assert_true(json_is_false(at_path(v, "0.done")));
    assert_true(json_is_true(at_path(v, "2.done")));
    assert_string_equal(text_at(v, "2.done_reason"), "stop");
    assert_int_equal(int_at(v, "2.eval_count"), 3);
    assert_int_equal(int_at(v, "2.eval_duration"), 3000000);
    assert_int_equal(int_at(v, "2.load_duration"), 5);
    json_decref(v);
    answer_end(&x);
}

static void test_ollama_generate_gives_its_context(void **s)
{
    (void)s;
    static const uint8_t prompt[8] = {7, 0, 0, 0, 8, 1, 0, 0};
    answer x = answer_to("/api/generate",
                         "{\"model\": \"m\", \"prompt\": \"p\", \"stream\": false, \"logprobs\": true}");
    answer_begin(&x);
    api_reply_data(x.r, 0, (spark_bytes){prompt, sizeof prompt}, &x.out);
    answer_run(&x);
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "response"), "Hel\"lo w\xc3\xb6rld\n");
    assert_int_equal(json_array_size(at_path(v, "context")), 4);
    assert_int_equal(int_at(v, "context.1"), 264);
    assert_int_equal(int_at(v, "context.2"), 100);
    assert_int_equal(json_array_size(at_path(v, "logprobs")), 2);
    json_decref(v);
    answer_end(&x);
}

static void test_ollama_load_and_unload_answer_at_once(void **s)
{
    (void)s;
    api_out o;
    api_out_init(&o, 1 << 12);
    world w = taken("/api/generate", "{\"model\": \"m\", \"keep_alive\": 0}");
    api_print_loaded(&o, &w.call, "m", test_now());
    json_t *v = json_loadb((const char *)o.ptr, o.len, 0, NULL);
    assert_string_equal(text_at(v, "done_reason"), "unload");
    assert_string_equal(text_at(v, "response"), "");
    json_decref(v);
    world_end(&w);
    api_out_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ollama_chat_defaults_and_options),
        cmocka_unit_test(test_ollama_keep_alive_reads_go_durations),
        cmocka_unit_test(test_ollama_generate_makes_a_turn_or_takes_it_raw),
        cmocka_unit_test(test_show_takes_the_old_name),
        cmocka_unit_test(test_ollama_replies_as_lines_or_one),
        cmocka_unit_test(test_ollama_generate_gives_its_context),
        cmocka_unit_test(test_ollama_load_and_unload_answer_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
