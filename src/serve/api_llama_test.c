/* api_llama_test.c - llama-server's routes: bodies to asks, events to replies. */
#include "serve/dialect_test.h"

/* ---- Bodies ---- */

static void test_completion_defaults_are_llamacpps(void **s)
{
    (void)s;
    world w = taken("/completion", "{\"prompt\": \"p\", \"n_predict\": -1, \"id_slot\": -1, \"logit_bias\": [[5, 1.5], "
                                   "[6, false]], \"temperature\": -1,"
                                   " \"n_probs\": 2, \"n_keep\": 4, \"grammar\": \"\", \"cache_prompt\": false, "
                                   "\"return_tokens\": true, \"seed\": -1}");
    const spark_ask *a = w.call.asks;
    assert_true(a->generate.sampling.top_p == 0.95f && a->generate.sampling.min_p == 0.05f &&
                a->generate.sampling.temperature == 0);
    assert_int_equal(a->generate.max_tokens, 0);
    assert_int_equal(a->generate.n_logprobs, 2);
    assert_true(a->generate.logit_bias[1].bias == -INFINITY);
    assert_false(a->cache);
    assert_true(a->random_seed && w.call.return_tokens && w.call.model.len == 0);
    world_end(&w);
    refused("/completion", "{\"prompt\": \"p\", \"n_predict\": 0}", 400, "invalid_value", "n_predict");
    refused("/completion", "{\"prompt\": \"p\", \"grammar\": \"root ::= x\"}", 400, "unsupported_parameter", "grammar");
    refused("/completion", "{\"prompt\": \"p\", \"logit_bias\": [[\"Hello\", 1]]}", 400, "invalid_value", "logit_bias");
    refused("/completion", "{\"prompt\": \"p\", \"samplers\": [\"top_k\"]}", 400, "unsupported_parameter", "samplers");
    refused("/completion", "{\"prompt\": [12, \"x\", 3]}", 400, "invalid_type", "prompt");
}

static void test_tokenize_detokenize_and_template(void **s)
{
    (void)s;
    world w = taken("/tokenize", "{\"content\": \"x\", \"with_pieces\": true}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TOKENIZE);
    assert_true(!w.call.asks[0].add_special && w.call.asks[0].parse_special && w.call.asks[0].pieces);
    world_end(&w);
    w = taken("/detokenize", "{\"tokens\": [1, 2]}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_DETOKENIZE);
    assert_int_equal(w.call.asks[0].n_ids, 2);
    world_end(&w);
    w = taken("/apply-template", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"stop\": [\"a\"], "
                                 "\"add_generation_prompt\": false}");
    assert_int_equal(w.call.asks[0].kind, SPARK_ASK_TEMPLATE);
    assert_int_equal(w.call.asks[0].generate.n_stops, 0);
    json_t *v = vars_of(&w);
    assert_true(json_is_false(json_object_get(v, "add_generation_prompt")));
    json_decref(v);
    world_end(&w);
    refused("/tokenize", "{}", 400, "missing_required_parameter", "content");
    refused("/detokenize", "{\"tokens\": [\"x\"]}", 400, "invalid_type", "tokens");
    refused("/apply-template", "{}", 400, "missing_required_parameter", "messages");
}

/* ---- Replies ---- */

static void test_llama_reply_tells_why_it_stopped(void **s)
{
    (void)s;
    answer x = answer_all("/completion",
                          "{\"prompt\": \"p\", \"stop\": [\"END\"], \"n_probs\": 1, \"return_tokens\": true}");
    json_t *v = answer_json(&x);
    assert_string_equal(text_at(v, "stop_type"), "word");
    assert_string_equal(text_at(v, "stopping_word"), "END");
    assert_string_equal(text_at(v, "prompt"), "p");
    assert_int_equal(int_at(v, "tokens.1"), 101);
    assert_int_equal(int_at(v, "tokens_evaluated"), 10);
    assert_int_equal(int_at(v, "completion_probabilities.0.id"), 100);
    assert_int_equal(int_at(v, "timings.predicted_n"), 3);
    assert_int_equal(int_at(v, "timings.prompt_n"), 6);
    assert_string_equal(text_at(v, "generation_settings.stop.0"), "END");
    json_decref(v);
    answer_end(&x);
    x = answer_all("/completion", "{\"prompt\": [\"p\", \"q\"], \"stream\": true}");
    v = answer_events(&x, true);
    assert_int_equal(json_array_size(v), 6);
    assert_true(json_is_true(at_path(v, "5.stop")));
    assert_int_equal(int_at(v, "5.index"), 1);
    json_decref(v);
    answer_end(&x);
    x = answer_all("/completion", "{\"prompt\": [\"p\", \"q\"]}");
    v = answer_json(&x);
    assert_int_equal(json_array_size(v), 2);
    json_decref(v);
    answer_end(&x);
}

static json_t *answer_data(const char *path, const char *body, const void *data, size_t len)
{
    answer x = answer_to(path, body);
    answer_begin(&x);
    api_reply_data(x.r, 0, (spark_bytes){data, len}, &x.out);
    api_reply_finished(x.r, 0, &answer_finish, &x.out);
    assert_int_equal(api_reply_phase(x.r), API_WHOLE);
    json_t *v = answer_json(&x);
    answer_end(&x);
    return v;
}

static void test_data_becomes_tokens_or_text(void **s)
{
    (void)s;
    json_t *v = answer_data("/tokenize", "{\"content\": \"x\"}", "\1\0\0\0\0\1\0\0", 8);
    assert_int_equal(int_at(v, "tokens.1"), 256);
    json_decref(v);
    v = answer_data("/tokenize", "{\"content\": \"x\", \"with_pieces\": true}", "\1\0\0\0\2\0hi\2\0\0\0\1\0\xc3", 15);
    assert_string_equal(text_at(v, "tokens.0.piece"), "hi");
    assert_int_equal(int_at(v, "tokens.1.piece.0"), 0xc3);
    assert_int_equal(json_array_size(at_path(v, "tokens")), 2);
    json_decref(v);
    v = answer_data("/detokenize", "{\"tokens\": [1]}",
                    "a\xff"
                    "b",
                    3);
    assert_string_equal(text_at(v, "content"), "a\xef\xbf\xbd"
                                               "b");
    json_decref(v);
    v = answer_data("/apply-template", "{" HI "}", "<s>hi", 5);
    assert_string_equal(text_at(v, "prompt"), "<s>hi");
    json_decref(v);
}

static void test_malformed_data_of_an_engine_is_an_error(void **s)
{
    (void)s;
    static const char *const bodies[] = {"{\"content\": \"x\"}", "{\"content\": \"x\", \"with_pieces\": true}"};
    for (size_t i = 0; i < 2; i++) {
        answer x = answer_to("/tokenize", bodies[i]);
        answer_begin(&x);
        api_reply_data(x.r, 0, SPARK_BYTES_LITERAL("\1\0\0\0\2\0h"), &x.out);
        assert_int_equal(api_reply_phase(x.r), API_WHOLE);
        assert_int_equal(api_reply_status(x.r), 500);
        answer_end(&x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completion_defaults_are_llamacpps),
        cmocka_unit_test(test_tokenize_detokenize_and_template),
        cmocka_unit_test(test_llama_reply_tells_why_it_stopped),
        cmocka_unit_test(test_data_becomes_tokens_or_text),
        cmocka_unit_test(test_malformed_data_of_an_engine_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
