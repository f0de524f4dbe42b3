/* api_cards_test.c - models as each dialect shows them, and the bytes that all replies are written with. */
#include "serve/dialect_test.h"
#include "serve/front_internal.h"

/* ---- Cards ---- */

static const api_card test_card = {.name = "tiny",
                                   .arch = "llama",
                                   .quantization = "Q4_0",
                                   .chat_template = "{{ \"x\" }}",
                                   .n_params = 494032768,
                                   .file_bytes = 1000,
                                   .memory_bytes = 2000,
                                   .n_ctx = 4096,
                                   .n_ctx_train = 32768,
                                   .n_embd = 896,
                                   .n_vocab = 1000,
                                   .n_layers = 24,
                                   .n_slots = 4,
                                   .created_s = 1767225600,
                                   .loaded = true};

static json_t *printed(api_out *o)
{
    json_t *v = json_loadb((const char *)o->ptr, o->len, JSON_REJECT_DUPLICATES, NULL);
    if (!v) fail_msg("not JSON: %.*s", (int)o->len, (const char *)o->ptr);
    api_out_free(o);
    return v;
}

static void test_cards_in_each_form(void **s)
{
    (void)s;
    api_out o;
    api_out_init(&o, 1 << 20);
    const api_card cards[] = {test_card, test_card};
    api_print_models(&o, cards, 2);
    json_t *v = printed(&o);
    assert_string_equal(text_at(v, "data.1.id"), "tiny");
    assert_string_equal(text_at(v, "data.0.object"), "model");
    assert_int_equal(int_at(v, "data.0.meta.n_ctx"), 4096);
    json_decref(v);
    api_print_tags(&o, cards, 2);
    v = printed(&o);
    assert_string_equal(text_at(v, "models.0.details.parameter_size"), "494.03M");
    assert_int_equal(strlen(text_at(v, "models.0.digest")), 64);
    json_decref(v);
    api_print_ps(&o, cards, 1);
    v = printed(&o);
    assert_int_equal(int_at(v, "models.0.context_length"), 4096);
    json_decref(v);
    api_print_show(&o, &cards[0]);
    v = printed(&o);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(v, "model_info"), "llama.context_length")),
                     32768);
    json_decref(v);
    api_print_props(&o, &cards[0]);
    v = printed(&o);
    assert_int_equal(int_at(v, "default_generation_settings.params.top_k"), 40);
    assert_int_equal(int_at(v, "total_slots"), 4);
    json_decref(v);
    api_print_slots(&o, &cards[0], 1);
    v = printed(&o);
    assert_true(json_is_true(at_path(v, "0.is_processing")) && json_is_false(at_path(v, "3.is_processing")));
    json_decref(v);
    api_print_version(&o);
    json_decref(printed(&o));
    api_print_health(&o, false);
    v = printed(&o);
    assert_string_equal(text_at(v, "error.type"), "unavailable_error");
    json_decref(v);
}

static void test_a_model_that_was_never_loaded_is_shown_without_what_is_not_known(void **s)
{
    (void)s;
    const api_card bare = {.name = "later"};
    api_out o;
    api_out_init(&o, 1 << 16);
    void (*const one[])(api_out *, const api_card *) = {api_print_show, api_print_model, api_print_props};
    for (size_t i = 0; i < SPARK_COUNT(one); i++) {
        one[i](&o, &bare);
        json_decref(printed(&o));
    }
    api_print_tags(&o, &bare, 1);
    json_decref(printed(&o));
    api_print_show(&o, &bare);
    json_t *v = printed(&o);
    assert_int_equal(json_object_size(json_object_get(v, "model_info")), 1);
    json_decref(v);
}

static void test_names_match_with_latest(void **s)
{
    (void)s;
    assert_true(api_card_is(&test_card, spark_bytes_of("tiny")));
    assert_true(api_card_is(&test_card, spark_bytes_of("tiny:latest")));
    assert_false(api_card_is(&test_card, spark_bytes_of("tiny:7b")));
    assert_false(api_card_is(&test_card, spark_bytes_of("tin")));
    assert_false(api_card_is(&test_card, spark_bytes_of("")));
}

static void test_longer_context_than_planned_is_refused(void **s)
{
    (void)s;
    api_error e;
    world w = taken("/api/chat", "{" HI ", \"options\": {\"num_ctx\": 4097}}");
    assert_false(api_call_check(&w.call, &test_card, &e));
    assert_int_equal(e.status, 400);
    assert_string_equal(e.code, "context_length_exceeded");
    world_end(&w);
    w = taken("/api/chat", "{" HI ", \"options\": {\"num_ctx\": 4096}}");
    assert_true(api_call_check(&w.call, &test_card, &e));
    world_end(&w);
}

static void test_times_are_rfc_3339(void **s)
{
    (void)s;
    static const struct {
        uint64_t ns;
        const char *text;
    } rows[] = {{0, "\"1970-01-01T00:00:00.000000000Z\""},
                {951782400000000000, "\"2000-02-29T00:00:00.000000000Z\""},
                {4107542399999999999, "\"2100-02-28T23:59:59.999999999Z\""},
                {1709251199000000001, "\"2024-02-29T23:59:59.000000001Z\""}};
    for (size_t i = 0; i < SPARK_COUNT(rows); i++) {
        api_out o;
        api_out_init(&o, 100);
        api_out_time(&o, rows[i].ns);
        assert_int_equal(o.len, strlen(rows[i].text));
        assert_memory_equal(o.ptr, rows[i].text, o.len);
        api_out_free(&o);
    }
}

static void test_out_stops_at_its_maximum(void **s)
{
    (void)s;
    api_out o;
    api_out_init(&o, 300);
    for (size_t i = 0; i < 100; i++) api_out_str(&o, "four");
    assert_true(o.failed);
    assert_int_equal(o.len, 300);
    api_out_free(&o);
}

/* A description of a model as READY brings it, with `more` as one field more. */
static spark_code card_of(const char *more, size_t len)
{
    static const char fields[] =
        "{\"arch\":\"llama\",\"quantization\":\"q8_0\",\"n_params\":1,\"file_bytes\":1,\"n_ctx\":1,"
        "\"n_ctx_train\":1,\"n_embd\":1,\"n_vocab\":1,\"n_layers\":1,\"n_slots\":1,\"more\":";
    const size_t n = CELL_MEMORY_BYTES + strlen(fields) + len + 1;
    uint8_t *bytes = calloc(1, n);
    spark_arena *a = NULL;
    api_card c = {0};
    assert_non_null(bytes);
    assert_ok(spark_arena_create(&a, 1 << 20, NULL));
    memcpy(bytes + CELL_MEMORY_BYTES, fields, strlen(fields));
    memcpy(bytes + CELL_MEMORY_BYTES + strlen(fields), more, len);
    bytes[n - 1] = '}';
    const spark_status s = cell_card_parse(&c, (spark_bytes){bytes, n}, a, NULL);
    if (spark_ok(s)) assert_string_equal(c.arch, "llama");
    spark_arena_destroy(&a);
    free(bytes);
    return s.code;
}

static void test_a_description_of_a_model_is_bounded_before_it_is_parsed(void **s)
{
    (void)s;
    const size_t n = 3000000;
    char *wide = malloc(n);
    assert_non_null(wide);
    assert_int_equal(card_of("[[{}]]", 6), SPARK_OK);
    wide[0] = '[';
    for (size_t i = 1; i + 3 <= n; i += 3) memcpy(wide + i, "{},", 3);
    wide[n - 2] = '0';
    wide[n - 1] = ']';
    assert_int_equal(card_of(wide, n), SPARK_E_LIMIT);
    memset(wide, '[', n / 2);
    memset(wide + n / 2, ']', n / 2);
    assert_int_equal(card_of(wide, n), SPARK_E_LIMIT);
    free(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cards_in_each_form),
        cmocka_unit_test(test_a_description_of_a_model_is_bounded_before_it_is_parsed),
        cmocka_unit_test(test_a_model_that_was_never_loaded_is_shown_without_what_is_not_known),
        cmocka_unit_test(test_names_match_with_latest),
        cmocka_unit_test(test_longer_context_than_planned_is_refused),
        cmocka_unit_test(test_times_are_rfc_3339),
        cmocka_unit_test(test_out_stops_at_its_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
