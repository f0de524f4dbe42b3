/* api_openai_test.c - chat and completions as OpenAI's clients know them: bodies to asks, events to replies. */
#include "serve/dialect_test.h"

/* ---- Chat ---- */

static void test_chat_defaults_are_openais(void **s)
{
    (void)s;
    world w = taken(CHAT, "{" HI "}");
    const spark_ask *a = &w.call.asks[0];
    const spark_sampling *p = &a->generate.sampling;
    assert_int_equal(w.call.n_asks, 1);
    assert_int_equal(a->kind, SPARK_ASK_CHAT);
    assert_true(spark_bytes_is(w.call.model, "m"));
    assert_true(p->temperature == 1 && p->top_p == 1 && p->min_p == 0 && p->top_k == 0 && p->repeat_penalty == 1);
    assert_int_equal(p->penalty_last_n, SPARK_MAX_CTX);
    assert_int_equal(a->generate.max_tokens, 0);
    assert_true(a->random_seed && a->cache);
    assert_false(w.call.stream);
    world_end(&w);
}

static void test_chat_takes_all_that_openai_clients_send(void **s)
{
    (void)s;
    world w = taken(
        CHAT,
        "{" HI ", \"temperature\": 0.5, \"top_p\": 0.9, \"n\": 2, \"seed\": 7, \"stop\": [\"a\", \"\\u00e9\"],"
        " \"max_completion_tokens\": 5.0, \"presence_penalty\": -2, \"frequency_penalty\": 2, \"logit_bias\": {\"5\": "
        "-100, \"7\": 3},"
        " \"logprobs\": true, \"top_logprobs\": 3, \"stream\": true, \"stream_options\": {\"include_usage\": true},"
        " \"user\": \"u\", \"store\": false, \"metadata\": {\"a\": \"b\"}, \"tools\": [], \"tool_choice\": \"none\","
        " \"response_format\": {\"type\": \"text\"}, \"service_tier\": \"auto\", \"parallel_tool_calls\": true,"
        " \"modalities\": [\"text\"], \"reasoning_effort\": null, \"functions\": null, \"top_k\": -1, \"min_p\": 0.1,"
        " \"repetition_penalty\": 1.1, \"chat_template_kwargs\": {\"enable_thinking\": false}}");
    const spark_ask *a = w.call.asks;
    assert_int_equal(w.call.n_asks, 2);
    assert_int_equal(a[0].generate.sampling.seed, 7);
    assert_int_equal(a[1].generate.sampling.seed, 8);
    assert_false(a[0].random_seed);
    assert_int_equal(a[0].generate.max_tokens, 5);
    assert_int_equal(a[0].generate.n_stops, 2);
    assert_string_equal(a[0].generate.stops[1], "\xc3\xa9");
    assert_int_equal(a[0].generate.n_logit_bias, 2);
    assert_int_equal(a[0].generate.logit_bias[0].id, 5);
    assert_true(a[0].generate.logit_bias[0].bias == -100);
    assert_int_equal(a[0].generate.n_logprobs, 3);
    assert_int_equal(a[0].generate.sampling.top_k, 0);
    assert_true(a[0].generate.sampling.repeat_penalty == 1.1f && a[0].generate.sampling.min_p == 0.1f);
    assert_true(w.call.stream && w.call.include_usage && w.call.logprobs);
    json_t *v = vars_of(&w);
    assert_true(json_is_false(json_object_get(v, "enable_thinking")));
    json_decref(v);
    world_end(&w);
}

static void test_chat_messages_reach_the_template_in_one_form(void **s)
{
    (void)s;
    world w = taken(CHAT, "{\"model\": \"m\", \"messages\": [{\"role\": \"developer\", \"content\": \"d\"},"
                          "{\"role\": \"user\", \"name\": \"bob\", \"content\": [{\"type\": \"text\", \"text\": "
                          "\"a\"}, {\"type\": \"text\", \"text\": \"b\"}]},"
                          "{\"role\": \"assistant\", \"content\": null, \"refusal\": null, \"annotations\": [], "
                          "\"tool_calls\": [], \"reasoning\": \"hm\"},"
                          "{\"role\": \"user\", \"content\": \"z\\u0000\"}]}");
    json_t *v = vars_of(&w);
    assert_string_equal(message_text(v, 0, "role"), "system");
    assert_string_equal(message_text(v, 1, "content"), "a\nb");
    assert_string_equal(message_text(v, 1, "name"), "bob");
    assert_string_equal(message_text(v, 2, "content"), "");
    assert_string_equal(message_text(v, 2, "reasoning_content"), "hm");
    assert_int_equal(json_string_length(json_object_get(json_array_get(json_object_get(v, "messages"), 3), "content")),
                     2);
    assert_int_equal(json_object_size(v), 1);
    json_decref(v);
    world_end(&w);
}

static void test_chat_refuses_by_name(void **s)
{
    (void)s;
    static const struct {
        const char *fields, *code, *param;
    } rows[] = {
        {HI ", \"tools\": [{\"type\": \"function\"}]", "unsupported_parameter", "tools"},
        {HI ", \"tool_choice\": \"required\"", "unsupported_parameter", "tool_choice"},
        {HI ", \"response_format\": {\"type\": \"json_object\"}", "unsupported_parameter", "response_format"},
        {HI ", \"response_format\": {\"type\": \"text\", \"x\": 1}", "unsupported_parameter", "response_format"},
        {HI ", \"store\": true", "unsupported_parameter", "store"},
        {HI ", \"reasoning_effort\": \"low\"", "unsupported_parameter", "reasoning_effort"},
        {HI ", \"modalities\": [\"text\", \"audio\"]", "unsupported_parameter", "modalities"},
        {HI ", \"nonesuch\": 1", "unknown_parameter", "nonesuch"},
        {HI ", \"temperature\": \"hot\"", "invalid_type", "temperature"},
        {HI ", \"temperature\": -1", "invalid_value", "temperature"},
        {HI ", \"temperature\": 2.1", "invalid_value", "temperature"},
        {HI ", \"top_p\": 1.5", "invalid_value", "top_p"},
        {HI ", \"n\": 0", "invalid_value", "n"},
        {HI ", \"n\": 65", "invalid_value", "n"},
        {HI ", \"n\": 1.5", "invalid_type", "n"},
        {HI ", \"max_tokens\": \"many\"", "invalid_type", "max_tokens"},
        {HI ", \"max_tokens\": 0", "invalid_value", "max_tokens"},
        {HI ", \"max_tokens\": 3, \"max_completion_tokens\": 4", "invalid_value", "max_tokens"},
        {HI ", \"seed\": 1.5", "invalid_type", "seed"},
        {HI ", \"seed\": true", "invalid_type", "seed"},
        {HI ", \"stop\": 5", "invalid_type", "stop"},
        {HI ", \"stop\": \"\"", "invalid_value", "stop"},
        {HI ", \"stop\": [\"a\\u0000b\"]", "invalid_value", "stop"},
        {HI ", \"logit_bias\": {\"5\": 101}", "invalid_value", "logit_bias"},
        {HI ", \"logit_bias\": {\"x\": 1}", "invalid_value", "logit_bias"},
        {HI ", \"logit_bias\": {\"4294967296\": 1}", "invalid_value", "logit_bias"},
        {HI ", \"logit_bias\": {\"5\": false}", "invalid_value", "logit_bias"},
        {HI ", \"top_logprobs\": 2", "invalid_value", "top_logprobs"},
        {HI ", \"logprobs\": true, \"top_logprobs\": 21", "invalid_value", "top_logprobs"},
        {HI ", \"stream_options\": {\"include_usage\": true}", "invalid_value", "stream_options"},
        {HI ", \"stream\": true, \"stream_options\": {\"x\": true}", "unknown_parameter", "stream_options.x"},
        {HI ", \"stream\": 1", "invalid_type", "stream"},
        {HI ", \"priority\": 5", "unsupported_parameter", "priority"},
        {HI ", \"chat_template_kwargs\": {\"messages\": []}", "invalid_value", "chat_template_kwargs"},
        {"\"model\": \"m\"", "missing_required_parameter", "messages"},
        {"\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]", "missing_required_parameter", "model"},
        {"\"model\": \"\", \"messages\": []", "invalid_value", "model"},
        {"\"model\": \"m\", \"messages\": []", "invalid_value", "messages"},
        {"\"model\": \"m\", \"messages\": \"hi\"", "invalid_type", "messages"},
        {"\"model\": \"m\", \"messages\": [7]", "invalid_type", "messages[0]"},
        {"\"model\": \"m\", \"messages\": [{\"role\": 7, \"content\": \"x\"}]", "invalid_type", "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"king\", \"content\": \"x\"}]", "invalid_value",
         "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]", "unsupported_parameter",
         "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"content\": \"x\"}]", "missing_required_parameter", "messages[0].role"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"user\"}]", "missing_required_parameter", "messages[0].content"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": "
         "{\"url\": \"x\"}}]}]",
         "unsupported_parameter", "messages[0].content"},
        {"\"model\": \"m\", \"messages\": [{\"role\": \"assistant\", \"tool_calls\": [1]}]", "unsupported_parameter",
         "messages[0].tool_calls"},
    };
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        char body[1024];
        snprintf(body, sizeof body, "{%s}", rows[i].fields);
        refused(CHAT, body, 400, rows[i].code, rows[i].param);
    }
}

/* ---- Completions ---- */

static void test_completions_take_each_form_of_prompt(void **s)
{
    (void)s;
    world w = taken(TEXT, "{" ONCE "}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TEXT);
    assert_true(spark_bytes_is(w.call.asks[0].text, "Once"));
    assert_int_equal(w.call.asks[0].generate.max_tokens, 16);
    assert_true(w.call.asks[0].parse_special && w.call.asks[0].add_special);
    world_end(&w);
    w = taken(TEXT, "{\"model\": \"m\", \"prompt\": [1, 2.0, 3], \"max_tokens\": 3, \"echo\": true}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_IDS);
    assert_int_equal(w.call.asks[0].n_ids, 3);
    assert_int_equal(w.call.asks[0].ids[1], 2);
    assert_true(w.call.asks[0].echo);
    world_end(&w);
    w = taken(
        TEXT,
        "{\"model\": \"m\", \"prompt\": [\"a\", [1], \"\"], \"n\": 2, \"best_of\": 2, \"seed\": 10, \"suffix\": null}");
    assert_int_equal(w.call.n_asks, 6);
    assert_int_equal(w.call.n_each, 2);
    assert_true(spark_bytes_is(w.call.asks[1].text, "a"));
    assert_int_equal(w.call.asks[2].kind, SPARK_ASK_IDS);
    assert_int_equal(w.call.asks[3].generate.sampling.seed, 11); /* the second answer to the second prompt */
    assert_int_equal(w.call.asks[4].generate.sampling.seed, 10);
    world_end(&w);
}

static void test_completions_refuse_by_name(void **s)
{
    (void)s;
    refused(TEXT, "{\"model\": \"m\"}", 400, "missing_required_parameter", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": []}", 400, "invalid_value", "n");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [[]]}", 400, "invalid_type", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [1, \"a\"]}", 400, "invalid_type", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [-1]}", 400, "invalid_value", "prompt");
    refused(TEXT, "{\"model\": \"m\", \"prompt\": [4294967296]}", 400, "invalid_value", "prompt");
    refused(TEXT, "{" ONCE ", \"suffix\": \"x\"}", 400, "unsupported_parameter", "suffix");
    refused(TEXT, "{" ONCE ", \"best_of\": 3}", 400, "unsupported_parameter", "best_of");
    refused(TEXT, "{" ONCE ", \"echo\": true, \"logprobs\": 1}", 400, "unsupported_parameter", "logprobs");
    refused(TEXT, "{" ONCE ", \"logprobs\": true}", 400, "invalid_type", "logprobs");
    refused(TEXT, "{" ONCE ", \"messages\": []}", 400, "unknown_parameter", "messages");
}

static void test_seeds_of_the_system_go_only_where_none_was_asked(void **s)
{
    (void)s;
    world w = taken(TEXT, "{" ONCE ", \"n\": 3}");
    api_call_seed(&w.call, 100);
    assert_int_equal(w.call.asks[2].generate.sampling.seed, 102);
    api_call_seed(&w.call, UINT64_MAX);
    assert_true(w.call.asks[0].generate.sampling.seed < UINT64_C(1) << 53);
    world_end(&w);
    w = taken(TEXT, "{" ONCE ", \"seed\": 5}");
    api_call_seed(&w.call, 100);
    assert_int_equal(w.call.asks[0].generate.sampling.seed, 5);
    world_end(&w);
}

/* ---- Replies ---- */

static void test_chat_reply_has_what_the_contract_requires(void **s)
{
    (void)s;
    answer x = answer_all(CHAT, "{" HI ", \"n\": 2, \"logprobs\": true, \"top_logprobs\": 2}");
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    assert_int_equal(api_reply_status(x.r), 200);
    assert_string_equal(api_reply_type(x.r), "application/json");
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "id"), "chatcmpl-0123456789abcdef");
    assert_string_equal(text_at(v, "object"), "chat.completion");
    assert_int_equal(int_at(v, "created"), 1767225600);
    assert_string_equal(text_at(v, "choices.1.message.content"), "Hel\"lo w\xc3\xb6rld\n");
    assert_string_equal(text_at(v, "choices.0.message.role"), "assistant");
    assert_true(json_is_null(at_path(v, "choices.0.message.refusal")));
    assert_string_equal(text_at(v, "choices.0.finish_reason"), "stop");
    assert_int_equal(json_array_size(at_path(v, "choices.0.logprobs.content")), 2);
    assert_int_equal(json_array_size(at_path(v, "choices.0.logprobs.content.0.top_logprobs")), 2);
    assert_true(json_real_value(at_path(v, "choices.0.logprobs.content.0.logprob")) == -0.5);
    assert_true(json_number_value(at_path(v, "choices.0.logprobs.content.0.top_logprobs.1.logprob")) == -9999);
    assert_int_equal(int_at(v, "choices.0.logprobs.content.0.top_logprobs.1.bytes.1"), 0x82);
    assert_int_equal(int_at(v, "usage.prompt_tokens"), 10); /* once, for both answers */
    assert_int_equal(int_at(v, "usage.completion_tokens"), 6);
    assert_int_equal(int_at(v, "usage.total_tokens"), 16);
    assert_int_equal(int_at(v, "usage.prompt_tokens_details.cached_tokens"), 4);
    json_decref(v);
    answer_end(&x);
}

static void test_chat_stream_begins_with_the_role_and_ends_with_done(void **s)
{
    (void)s;
    answer x = answer_all(CHAT, "{" HI ", \"stream\": true, \"stream_options\": {\"include_usage\": true}}");
    assert_int_equal(api_reply_phase(x.r), API_DONE);
    assert_string_equal(api_reply_type(x.r), "text/event-stream");
    json_t *v = answer_events(&x, true);
    assert_int_equal(json_array_size(v), 6);
    assert_string_equal(text_at(v, "0.choices.0.delta.role"), "assistant");
    assert_string_equal(text_at(v, "0.choices.0.delta.content"), "");
    assert_string_equal(text_at(v, "1.choices.0.delta.content"), "Hel\"lo");
    assert_string_equal(text_at(v, "2.choices.0.delta.content"), " w\xc3\xb6rld\n");
    assert_int_equal(json_object_size(at_path(v, "3.choices.0.delta")), 0);
    assert_string_equal(text_at(v, "3.choices.0.finish_reason"), "stop");
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        snprintf(path, sizeof path, "%zu", i);
        json_t *chunk = at_path(v, path);
        assert_string_equal(text_at(chunk, "object"), "chat.completion.chunk");
        assert_string_equal(text_at(chunk, "id"), "chatcmpl-0123456789abcdef");
        assert_true(json_is_null(at_path(chunk, "usage")));
        if (i < 3) assert_true(json_is_null(at_path(chunk, "choices.0.finish_reason")));
    }
    assert_int_equal(json_array_size(at_path(v, "4.choices")), 0);
    assert_int_equal(int_at(v, "4.usage.total_tokens"), 13);
    assert_string_equal(text_at(v, "5"), "[DONE]");
    json_decref(v);
    answer_end(&x);
}

static void test_chat_stream_waits_for_its_first_event(void **s)
{
    (void)s;
    api_error e;
    answer x = answer_to(CHAT, "{" HI ", \"stream\": true}");
    answer_begin(&x);
    assert_int_equal(api_reply_phase(x.r), API_WAITING);
    api_error_set(&e, 429, "rate_limit_exceeded", NULL, "later");
    api_reply_failed(x.r, 0, &e, &x.out);
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    assert_int_equal(api_reply_status(x.r), 429);
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "error.code"), "rate_limit_exceeded");
    json_decref(v);
    answer_end(&x);
}

static void test_stream_of_many_choices_keeps_them_apart(void **s)
{
    (void)s;
    answer x = answer_all(TEXT, "{\"model\": \"m\", \"prompt\": [\"a\", \"b\"], \"n\": 2, \"stream\": true}");
    json_t *v = answer_events(&x, true);
    size_t of[4] = {0}, i;
    json_t *chunk;
    json_array_foreach(v, i, chunk)
    {
        if (json_is_string(chunk)) continue;
        const json_int_t k = int_at(chunk, "choices.0.index");
        assert_in_range(k, 0, 3);
        of[k]++;
        assert_null(json_object_get(chunk, "usage"));
    }
    for (i = 0; i < 4; i++) assert_int_equal(of[i], 3);
    assert_string_equal(text_at(v, "12"), "[DONE]");
    json_decref(v);
    answer_end(&x);
}

static void test_text_reply_has_the_old_logprobs(void **s)
{
    (void)s;
    answer x = answer_all(TEXT, "{" ONCE ", \"logprobs\": 3}");
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "object"), "text_completion");
    assert_string_equal(text_at(v, "choices.0.text"), "Hel\"lo w\xc3\xb6rld\n");
    assert_string_equal(text_at(v, "choices.0.logprobs.tokens.0"), "Hel\"lo");
    assert_int_equal(int_at(v, "choices.0.logprobs.text_offset.1"), 6);
    assert_int_equal(json_object_size(at_path(v, "choices.0.logprobs.top_logprobs.0")),
                     2); /* two of three have the same text */
    assert_non_null(json_object_get(at_path(v, "choices.0.logprobs.top_logprobs.0"), "bytes:\\xe2\\x82"));
    assert_int_equal(json_array_size(at_path(v, "choices.0.logprobs.token_logprobs")), 2);
    json_decref(v);
    answer_end(&x);
    x = answer_all(TEXT, "{" ONCE ", \"logprobs\": 1, \"stream\": true}");
    v = answer_events(&x, true);
    assert_int_equal(int_at(v, "1.choices.0.logprobs.text_offset.0"), 6);
    assert_int_equal(json_array_size(at_path(v, "1.choices.0.logprobs.tokens")), 1);
    json_decref(v);
    answer_end(&x);
}

static void test_obfuscated_chunks_have_like_lengths(void **s)
{
    (void)s;
    answer x = answer_all(CHAT, "{" HI ", \"stream\": true, \"stream_options\": {\"include_obfuscation\": true}}");
    char *text = strndup((const char *)x.out.ptr, x.out.len), *at = text;
    for (char *stop; (stop = strstr(at, "\n\n")) != NULL; at = stop + 2)
        if (strncmp(at, "data: [DONE]", 12) != 0) assert_int_equal((size_t)(stop + 2 - at) % 64, 0);
    free(text);
    json_t *v = answer_events(&x, true);
    assert_non_null(at_path(v, "1.obfuscation"));
    json_decref(v);
    answer_end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_defaults_are_openais),
        cmocka_unit_test(test_chat_takes_all_that_openai_clients_send),
        cmocka_unit_test(test_chat_messages_reach_the_template_in_one_form),
        cmocka_unit_test(test_chat_refuses_by_name),
        cmocka_unit_test(test_completions_take_each_form_of_prompt),
        cmocka_unit_test(test_completions_refuse_by_name),
        cmocka_unit_test(test_seeds_of_the_system_go_only_where_none_was_asked),
        cmocka_unit_test(test_chat_reply_has_what_the_contract_requires),
        cmocka_unit_test(test_chat_stream_begins_with_the_role_and_ends_with_done),
        cmocka_unit_test(test_chat_stream_waits_for_its_first_event),
        cmocka_unit_test(test_stream_of_many_choices_keeps_them_apart),
        cmocka_unit_test(test_text_reply_has_the_old_logprobs),
        cmocka_unit_test(test_obfuscated_chunks_have_like_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
