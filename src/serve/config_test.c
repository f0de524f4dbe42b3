/* config_test.c - settings from four sources: what is taken, what is refused and where, what belongs together. */
#include "serve/config.h"

#include <string.h>

#include "base/test.h"
#include "serve/config_text.h"

static spark_config *fresh(void)
{
    spark_config *c = NULL;
    assert_ok(spark_config_create(&c, NULL));
    return c;
}

static spark_config *from_file(const char *text)
{
    spark_config *c = fresh();
    spark_err err = {0};
    if (!spark_ok(spark_config_add_file(c, spark_bytes_of(text), "test.conf", &err)))
        fail_msg("%u:%u %s", err.line, err.column, err.text);
    return c;
}

/* The file is refused at that place, with that text in the message. */
static void refused(const char *text, uint32_t line, uint32_t column, const char *words)
{
    spark_config *c = fresh();
    spark_err err = {0};
    assert_code(spark_config_add_file(c, spark_bytes_of(text), "test.conf", &err), SPARK_E_FORMAT);
    if (err.line != line || err.column != column || !strstr(err.text, words))
        fail_msg("'%s': line %u column %u: %s; expected %u:%u '%s'", text, err.line, err.column, err.text, line, column,
                 words);
    spark_config_destroy(&c);
}

static void refused_flag(spark_setting_id id, const char *value, const char *words)
{
    spark_config *c = fresh();
    spark_err err = {0};
    assert_code(spark_config_add_flag(c, id, &value, 1, &err), SPARK_E_ARGUMENT);
    if (!strstr(err.text, words) || !strstr(err.text, spark_settings[id].flag))
        fail_msg("%s: expected '%s'", err.text, words);
    spark_config_destroy(&c);
}

/* finish gives this code and these words. */
static void finished(const char *text, spark_code code, const char *words)
{
    spark_config *c = from_file(text);
    spark_err err = {0};
    const spark_status s = spark_config_finish(c, &err);
    if (s.code != code || (words && !strstr(err.text, words)))
        fail_msg("'%s': code %d, %s", text, (int)s.code, err.text);
    spark_config_destroy(&c);
}

static void test_every_row_has_a_default_that_its_own_rules_accept(void **state)
{
    (void)state;
    spark_config *c = fresh();
    for (uint32_t i = 0; i < SPARK_N_SETTINGS; i++) {
        const spark_setting *s = &spark_settings[i];
        assert_non_null(s->name);
        assert_true(strncmp(s->flag, "--", 2) == 0 && s->help[0]);
        assert_true((s->kind == SPARK_SETTING_BOOL) == (s->arg == NULL));
        assert_int_equal(c->origin[i].source, SPARK_FROM_DEFAULT);
        for (uint32_t j = 0; j < i; j++) assert_true(strcmp(s->flag, spark_settings[j].flag) != 0);
    }
    assert_int_equal(c->parallel, 16);
    assert_int_equal(c->keep_alive, 300000);
    assert_int_equal(c->max_body, 4u << 20);
    assert_true(c->prefix_cache && !c->page && !c->keys);
    spark_config_destroy(&c);
}

/* The front is told all settings in one message: what does not fit is said here, and not by a front that cannot start. */
static void test_settings_that_no_message_holds_are_refused_with_the_longest(void **state)
{
    (void)state;
    enum { PATH = 4000, MODELS = 42 };
    static char text[MODELS * (PATH + 64) + 4096], path[PATH + 1];
    size_t at = (size_t)snprintf(text, sizeof text, "page = yes\n");
    memset(path, 'p', PATH);
    for (int i = 0; i < MODELS; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "[model m%d]\nfile = /%.*s\n", i, i == 7 ? PATH : PATH - 9,
                               path);
    finished(text, SPARK_E_LIMIT, "file of model m7, 4001 bytes, from the file, line 17)");
    *strstr(text, "[model m40]") = '\0'; /* 40 of them fit */
    finished(text, SPARK_OK, NULL);
}

static void test_a_watchdog_has_a_second_or_more_or_is_off(void **state)
{
    (void)state;
    finished("watchdog = 0\n", SPARK_OK, NULL);
    finished("watchdog = 1\n", SPARK_OK, NULL);
    finished("watchdog = 999ms\n", SPARK_E_ARGUMENT, "watchdog: 0 (never), or 1s to 1h");
}

static void test_a_higher_source_wins_whatever_the_order(void **state)
{
    (void)state;
    static char *env[] = {"HOME=/", "SPARK_PARALLEL=5", "SPARK_QUEUE=6", NULL};
    const char *nine = "9";
    for (int order = 0; order < 2; order++) {
        spark_config *c = fresh();
        if (order == 0) assert_ok(spark_config_add_flag(c, SPARK_SET_parallel, &nine, 1, NULL));
        if (order == 0) assert_ok(spark_config_add_environment(c, env, NULL));
        assert_ok(spark_config_add_file(c, spark_bytes_of("\nparallel = 2\nqueue = 3\nctx = 4\n"), "f", NULL));
        if (order == 1) assert_ok(spark_config_add_environment(c, env, NULL));
        if (order == 1) assert_ok(spark_config_add_flag(c, SPARK_SET_parallel, &nine, 1, NULL));
        assert_int_equal(c->parallel, 9);
        assert_int_equal(c->queue, 6);
        assert_int_equal(c->ctx, 4);
        assert_int_equal(c->origin[SPARK_SET_parallel].source, SPARK_FROM_FLAG);
        assert_int_equal(c->origin[SPARK_SET_queue].source, SPARK_FROM_ENVIRONMENT);
        assert_int_equal(c->origin[SPARK_SET_ctx].source, SPARK_FROM_FILE);
        assert_int_equal(c->origin[SPARK_SET_ctx].line, 4);
        assert_int_equal(c->origin[SPARK_SET_threads].source, SPARK_FROM_DEFAULT);
        spark_config_destroy(&c);
    }
}

static void test_a_bad_value_is_refused_though_a_flag_overrides_it(void **state)
{
    (void)state;
    const char *nine = "9";
    spark_config *c = fresh();
    assert_ok(spark_config_add_flag(c, SPARK_SET_parallel, &nine, 1, NULL));
    assert_code(spark_config_add_file(c, spark_bytes_of("parallel = none"), "f", NULL), SPARK_E_FORMAT);
    spark_config_destroy(&c);
}

static void test_sizes_and_times_are_read_in_their_units(void **state)
{
    (void)state;
    spark_config *c = from_file(
        "memory = 6G\nmax_body=512M # half\nmax_bodies = 1TiB\nitl_target = 50\ndrain_timeout = 5\n"
        "idle_timeout=5m\nhead_timeout = 500ms\nkeep_alive = forever\n");
    assert_true(c->memory == 6ull << 30 && c->max_body == 512ull << 20 && c->max_bodies == 1ull << 40);
    assert_int_equal(c->itl_target, 50);
    assert_int_equal(c->drain_timeout, 5000);
    assert_int_equal(c->idle_timeout, 300000);
    assert_int_equal(c->head_timeout, 500);
    assert_true(c->keep_alive == SPARK_FOREVER);
    spark_config_destroy(&c);
}

static void test_numbers_that_are_none_or_out_of_range_are_refused(void **state)
{
    (void)state;
    refused_flag(SPARK_SET_memory, "6GB", "no size");
    refused_flag(SPARK_SET_memory, "-1", "no size");
    refused_flag(SPARK_SET_memory, "", "no size");
    refused_flag(SPARK_SET_memory, "6 G", "no size");
    refused_flag(SPARK_SET_memory, "99999999999999999999", "no size");
    refused_flag(SPARK_SET_memory, "17179869184G", "no size");
    refused_flag(SPARK_SET_memory, "2048T", "0 to 1024T is allowed");
    refused_flag(SPARK_SET_drain_timeout, "forever", "no time");
    refused_flag(SPARK_SET_drain_timeout, "2h", "0 to 1h is allowed");
    refused_flag(SPARK_SET_drain_timeout, "1.5", "no time");
    refused_flag(SPARK_SET_itl_target, "61s", "0 to 1m is allowed");
    refused_flag(SPARK_SET_parallel, "0", "1 to 4096 is allowed");
    refused_flag(SPARK_SET_parallel, "4097", "1 to 4096 is allowed");
    refused_flag(SPARK_SET_parallel, "16x", "no whole number");
    refused_flag(SPARK_SET_kv, "q4", "f16|f32|q8_0");
    refused_flag(SPARK_SET_page, "maybe", "neither yes nor no");
    refused_flag(SPARK_SET_keys, "", "empty");
    refused_flag(SPARK_SET_keys, "a\nb", "control");
}

static void test_mistakes_of_a_file_are_named_by_line_and_column(void **state)
{
    (void)state;
    refused("parallel = 4\nparalel = 4\n", 2, 1, "did you mean 'parallel'?");
    refused("parallel = 4\n  parallel = 4\n", 2, 14, "line 1 already");
    refused("parallel = many", 1, 12, "no whole number");
    refused("zzzzzzzzzz = 1", 1, 1, "config show");
    refused("parallel", 1, 9, "'=' is expected");
    refused("parallel 4", 1, 10, "'=' is expected");
    refused("= 4", 1, 1, "a name");
    refused("Parallel = 4", 1, 1, "a name");
    refused("parallel = ", 1, 11, "needs a value");
    refused("parallel = 4, 5", 1, 15, "one value is expected");
    refused("keys = \"/a", 1, 8, "never closed");
    refused("keys = \"/a\\n\"", 1, 12, "only '\"' and '\\'");
    refused("keys = /a\"b\"", 1, 10, "quote the whole value");
    refused("keys = \"/a\" b", 1, 13, "',' is expected");
    refused("listen = tcp:127.0.0.1:1,", 1, 26, "missing");
    refused("listen = ,", 1, 10, "missing");
    refused("listen = tcp:somewhere:1", 1, 10, "nothing is looked up");
    refused("file = /m.gguf", 1, 1, "[model NAME]");
    refused("[model a]\nlisten = tcp:127.0.0.1:1", 2, 1, "before the first [model");
    refused("[model a]\nfil = /m", 2, 1, "did you mean 'file'?");
    refused("[model a]\nfile = /m\nfile = /n", 3, 1, "line 2 already");
    refused("[model a]\n[model a]", 2, 8, "line 1 already");
    refused("[model a]\nctx = 1\n[model b]\nctx = 1\nctx = 2", 5, 7, "line 4 already");
    refused("[model]", 1, 7, "needs a value");
    refused("[model a", 1, 9, "']' is missing");
    refused("[model a b!]", 1, 8, "no name for a model");
    refused("[server x]", 1, 2, "only headings [model NAME]");
    refused("[]", 1, 2, "a word");
    refused("keys = /\xff", 1, 9, "UTF-8");
    refused("keys = /a\x01", 1, 10, "control");
    refused("\xc3\xa9 = 1", 1, 1, "a name");
    refused("keys = \"\xc3\xa9\xc3\xa9\" x", 1, 13, "',' is expected"); /* columns are characters */
}

static void test_nul_bytes_and_long_lines_are_refused(void **state)
{
    (void)state;
    spark_err err = {0};
    spark_config *c = fresh();
    assert_code(spark_config_add_file(c, (spark_bytes){(const uint8_t *)"page = yes\0", 11}, "f", &err),
                SPARK_E_FORMAT);
    assert_int_equal(err.column, 11);
    spark_config_destroy(&c);
    char *line = malloc(SPARK_MAX_SETTING_LINE + 2);
    assert_non_null(line);
    memset(line, '#', SPARK_MAX_SETTING_LINE + 1);
    c = fresh();
    assert_code(spark_config_add_file(c, (spark_bytes){(const uint8_t *)line, SPARK_MAX_SETTING_LINE + 1}, "f", &err),
                SPARK_E_FORMAT);
    spark_config_destroy(&c);
    c = fresh();
    assert_ok(spark_config_add_file(c, (spark_bytes){(const uint8_t *)line, SPARK_MAX_SETTING_LINE}, "f", &err));
    spark_config_destroy(&c);
    free(line);
}

static void test_values_may_hold_blanks_hashes_and_quotes(void **state)
{
    (void)state;
    spark_config *c = from_file(
        "keys = /etc/a#b c   # comment\r\ncpu = \"a # \\\"b\\\\\" # comment\n\t[ model  a ] #x\nfile = /m n\n");
    assert_string_equal(c->keys, "/etc/a#b c");
    assert_string_equal(c->cpu, "a # \"b\\");
    assert_string_equal(c->models[0].name, "a");
    assert_string_equal(c->models[0].file, "/m n");
    spark_config_destroy(&c);
}

static void test_a_list_of_a_higher_source_replaces_the_lower(void **state)
{
    (void)state;
    static char *env[] = {"SPARK_CORS=https://c.example, \"http://d.example:80\"", NULL};
    const char *flags[] = {"https://e.example"};
    spark_config *c = from_file("cors = https://a.example,https://b.example");
    assert_int_equal(c->cors.n, 2);
    assert_string_equal(c->cors.item[1], "https://b.example");
    assert_ok(spark_config_add_environment(c, env, NULL));
    assert_int_equal(c->cors.n, 2);
    assert_string_equal(c->cors.item[1], "http://d.example:80");
    assert_ok(spark_config_add_flag(c, SPARK_SET_cors, flags, 1, NULL));
    assert_int_equal(c->cors.n, 1);
    spark_config_destroy(&c);
    refused("cors = https://a.example, https://a.example", 1, 8, "twice");
    refused("cors = *", 1, 8, "no origin");
    refused("cors = https://a.example/path", 1, 8, "no origin");
    refused("allowed_hosts = a/b", 1, 17, "no host");
    refused("proxies = 10.0.0.0/33", 1, 11, "no address");
}

static void test_models_come_from_all_sources_and_take_what_is_general(void **state)
{
    (void)state;
    static char *env[] = {"SPARK_MODEL=b=/env.gguf, c=/c.gguf", NULL};
    spark_config *c = from_file(
        "ctx = 1024\nkv = q8_0\n[model a]\nfile = /a.gguf\nctx = 2048\n[model b]\nfile = /b.gguf\n");
    assert_ok(spark_config_add_environment(c, env, NULL));
    assert_ok(spark_config_add_model(c, "d.v2=", NULL));
    assert_ok(spark_config_set_model(c, "d.v2.threads=3", NULL));
    assert_ok(spark_config_finish(c, NULL));
    assert_int_equal(c->n_models, 4);
    assert_int_equal(c->models[0].ctx, 2048);
    assert_int_equal(c->models[0].kv, 2);
    assert_int_equal(c->models[0].origin[SPARK_MODEL_SET_ctx].source, SPARK_FROM_FILE);
    assert_int_equal(c->models[0].origin[SPARK_MODEL_SET_kv].source, SPARK_FROM_GENERAL);
    assert_string_equal(c->models[1].file, "/env.gguf");
    assert_int_equal(c->models[1].ctx, 1024);
    assert_int_equal(c->models[1].parallel, 16);
    assert_string_equal(c->models[3].name, "d.v2");
    assert_null(c->models[3].file);
    assert_int_equal(c->models[3].threads, 3);
    spark_config_destroy(&c);
}

static void test_model_flags_that_say_nothing_are_refused(void **state)
{
    (void)state;
    spark_config *c = fresh();
    assert_code(spark_config_add_model(c, "/m.gguf", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_add_model(c, "=/m.gguf", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_add_model(c, "a b=/m.gguf", NULL), SPARK_E_ARGUMENT);
    assert_ok(spark_config_add_model(c, "a=/m.gguf", NULL));
    assert_code(spark_config_add_model(c, "a=/n.gguf", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_set_model(c, "a.ctx", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_set_model(c, "ctx=4", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_set_model(c, "a.ctxx=4", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_set_model(c, "a.ctx=four", NULL), SPARK_E_ARGUMENT);
    assert_code(spark_config_set_model(c, "a.listen=tcp:127.0.0.1:1", NULL), SPARK_E_ARGUMENT);
    spark_config_destroy(&c);
}

static void test_a_model_without_a_file_is_a_typing_mistake_and_the_near_name_is_told(void **state)
{
    (void)state;
    static const char *const refused_sets[][2] = {{"x.ctx=5", "no model 'x' is served"},
                                                  {"chta.ctx=5", "did you mean 'chat'?"},
                                                  {"demo.ctx=5", "no model 'demo' is served"}};
    for (size_t i = 0; i < SPARK_COUNT(refused_sets); i++) {
        spark_config *c = fresh();
        spark_err err = {0};
        assert_ok(spark_config_set_model(c, refused_sets[i][0], NULL)); /* the model may be named later */
        assert_ok(spark_config_add_model(c, "chat=/m.gguf", NULL));
        assert_code(spark_config_finish(c, &err), SPARK_E_ARGUMENT);
        if (!strstr(err.text, refused_sets[i][1])) fail_msg("%s: %s", refused_sets[i][0], err.text);
        spark_config_destroy(&c);
    }
    spark_config *c = fresh();
    assert_ok(spark_config_set_model(c, "x.ctx=5", NULL)); /* alone: not the embedded model by a new name */
    assert_code(spark_config_finish(c, NULL), SPARK_E_ARGUMENT);
    spark_config_destroy(&c);
    c = fresh();
    assert_ok(spark_config_set_model(c, "demo.ctx=5", NULL));
    assert_ok(spark_config_finish(c, NULL));
    spark_config_destroy(&c);
    finished("[model chat]\nfile = /m.gguf\n[model chta]\nctx = 5\n", SPARK_E_FORMAT, "did you mean 'chat'?");
    finished("[model dmeo]\n", SPARK_E_FORMAT, "did you mean 'demo'?");
    finished("[model chat]\n", SPARK_E_FORMAT, "'file =' with nothing behind it");
    finished("[model demo]\n[model chat]\nfile = /m.gguf\n", SPARK_OK, NULL);
    finished("[model chat]\nfile =\n[model other]\nfile = \"\" # so, too\n", SPARK_OK, NULL);
    c = from_file("[model chat]\nctx = 5\n"); /* a flag gives the file */
    assert_ok(spark_config_add_model(c, "chat=/m.gguf", NULL));
    assert_ok(spark_config_finish(c, NULL));
    spark_config_destroy(&c);
}

static void test_near_names_are_slips_and_no_other_words(void **state)
{
    (void)state;
    assert_int_equal(spark_text_distance("memroy", "memory", 3), 1);
    assert_int_equal(spark_text_distance("", "abc", 3), 3);
    assert_int_equal(spark_text_distance("kitten", "sitting", 3), 3);
    assert_int_equal(spark_text_distance("ca", "abc", 3), 3);
    assert_int_equal(spark_text_distance("aaaa", "bbbb", 3), 4);
    assert_true(spark_text_is_near("chta", "chat") && spark_text_is_near("ctxx", "ctx") &&
                spark_text_is_near("max-conections", "max-connections"));
    assert_false(spark_text_is_near("PORT", "CORS") || spark_text_is_near("x", "demo"));
}

static void test_more_models_than_the_limit_are_refused(void **state)
{
    (void)state;
    spark_config *c = fresh();
    char text[32];
    for (unsigned i = 0; i < SPARK_MAX_SERVED; i++) {
        snprintf(text, sizeof text, "m%u=/m", i);
        assert_ok(spark_config_add_model(c, text, NULL));
    }
    assert_code(spark_config_add_model(c, "one-more=/m", NULL), SPARK_E_ARGUMENT);
    spark_config_destroy(&c);
}

static void test_unknown_variables_are_refused_and_known_others_are_not(void **state)
{
    (void)state;
    static char *const bad[][2] = {{"SPARK_PARALEL=5", "did you mean SPARK_PARALLEL?"},
                                   {"SPARK_SERVICE_HOST=10.0.0.1", "enableServiceLinks"},
                                   {"SPARK_PORT=tcp://10.0.0.1:80", "enableServiceLinks"},
                                   {"SPARK_=", "unset it"},
                                   {"SPARK_PARALLEL=", "no whole number"},
                                   {"SPARK_KEYS=", "empty"},
                                   {"SPARK_KEYS=\xff", "UTF-8"},
                                   {"SPARK_CORS=https://a.example,", "missing"}};
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        char *env[] = {bad[i][0], NULL};
        spark_config *c = fresh();
        spark_err err = {0};
        assert_code(spark_config_add_environment(c, env, &err), SPARK_E_ARGUMENT);
        if (!strstr(err.text, bad[i][1])) fail_msg("%s: %s", bad[i][0], err.text);
        spark_config_destroy(&c);
    }
    static char *fine[] = {"SPARK_TEST_DATA=/x", "SPARK_CONFIG=/x", "SPARKLE=1", "NOVALUE", "SPARK_CPU=avx2", NULL};
    spark_config *c = fresh();
    assert_ok(spark_config_add_environment(c, fine, NULL));
    assert_string_equal(c->cpu, "avx2");
    spark_config_destroy(&c);
}

static void test_beyond_loopback_keys_and_tls_are_demanded(void **state)
{
    (void)state;
    finished("listen = tcp:0.0.0.0:80", SPARK_E_REFUSED, "demands keys");
    finished("listen = tcp:[::]:80\nkeys = /k", SPARK_E_REFUSED, "demands TLS");
    finished("listen = tcp:192.0.2.1:80\nno_auth = yes", SPARK_E_REFUSED, "loopback only");
    finished("listen = tcp:192.0.2.1:80\nkeys = /k\ntls_cert=/c\ntls_key=/d", SPARK_OK, NULL);
    finished("listen = tcp:192.0.2.1:80\nkeys = /k\ntls=off", SPARK_OK, NULL);
    finished("listen = tcp:127.0.0.1:80, tcp:[::1]:80, unix:/run/s.sock, tcp:localhost:81", SPARK_OK, NULL);
    finished("listen = tcp:127.0.0.1:80\nno_auth = yes", SPARK_OK, NULL);
    finished("listen = tcp:[::ffff:127.0.0.1]:80", SPARK_OK, NULL);
    finished("listen = tcp:[::ffff:192.0.2.1]:80", SPARK_E_REFUSED, "demands keys");
    finished("", SPARK_OK, NULL);
}

static void test_settings_that_exclude_each_other_are_refused(void **state)
{
    (void)state;
    finished("keys = /k\nno_auth = yes", SPARK_E_ARGUMENT, "exclude");
    finished("tls_cert = /c", SPARK_E_ARGUMENT, "tls_key is missing");
    finished("tls_key = /c", SPARK_E_ARGUMENT, "tls_cert is missing");
    finished("tls_client_ca = /c", SPARK_E_ARGUMENT, "needs tls_cert");
    finished("tls = off\ntls_cert = /c\ntls_key = /k", SPARK_E_ARGUMENT, "off");
    finished("max_body = 1G", SPARK_E_ARGUMENT, "max_bodies");
}

static void test_addresses_to_listen_on_are_read_whole_or_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "8080",
                                      "tcp:",
                                      "tcp:1.2.3.4",
                                      "tcp:1.2.3.4:",
                                      "tcp:1.2.3.4:65536",
                                      "tcp:::1:80",
                                      "tcp:[1.2.3.4]:80",
                                      "tcp:1.2.3.4:+1",
                                      "tcp:example.com:80",
                                      "tcp:[::1:80",
                                      "unix:",
                                      "unix:a",
                                      "udp:1.2.3.4:5",
                                      "tcp:01.2.3.4:80",
                                      "tcp:*:80",
                                      "tcp::80"};
    spark_listen l;
    for (size_t i = 0; i < SPARK_COUNT(bad); i++)
        if (spark_ok(spark_listen_parse(bad[i], &l, NULL))) fail_msg("'%s' was taken", bad[i]);
    spark_err err = {0};
    assert_code(spark_listen_parse("127.0.0.1:8081", &l, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "tcp:127.0.0.1:8081"));
    assert_ok(spark_listen_parse("tcp:[::1]:8080", &l, NULL));
    assert_string_equal(l.host, "::1");
    assert_true(l.port == 8080 && l.loopback && !l.path);
    assert_ok(spark_listen_parse("unix:/run/a", &l, NULL));
    assert_string_equal(l.path, "/run/a");
}

static void test_ranges_hold_what_lies_in_them(void **state)
{
    (void)state;
    spark_net_range r[3];
    assert_true(spark_net_parse("10.1.0.0/15", &r[0]) && spark_net_parse("2001:db8::/33", &r[1]) &&
                spark_net_parse("192.0.2.7", &r[2]));
    assert_true(spark_net_within("10.0.255.255", r, 3) && spark_net_within("10.1.2.3", r, 3) &&
                !spark_net_within("10.2.0.0", r, 3));
    assert_true(spark_net_within("2001:db8:7fff::1", r, 3) && !spark_net_within("2001:db8:8000::1", r, 3));
    assert_true(spark_net_within("::ffff:192.0.2.7", r, 3) && !spark_net_within("192.0.2.8", r, 3));
    assert_true(!spark_net_within("unix", r, 3) && !spark_net_within("", r, 3) && !spark_net_within("10.0.0.1", r, 0));
    assert_true(spark_net_parse("0.0.0.0/0", &r[0]));
    assert_true(spark_net_within("8.8.8.8", r, 1) && !spark_net_within("::1", r, 1));
    assert_false(spark_net_parse("10.0.0.0/", &r[0]) || spark_net_parse("10.0.0.0/0033", &r[0]) ||
                 spark_net_parse("unix", &r[0]));
}

/* What show prints, read again, gives the same. */
static void test_texts_of_values_are_read_back_the_same(void **state)
{
    (void)state;
    spark_config *c = from_file(
        "memory = 1536M\nitl_target = 1s\nkeep_alive = forever\nkeys = \"/a, # b\"\ncors = https://a.example\n"
        "page = on\nkv = f32\nhead_timeout=1500ms\nmin_body_rate=1000\n");
    char file[4096];
    size_t n = 0;
    for (uint32_t i = 0; i < SPARK_N_SETTINGS; i++) {
        const char *text = NULL;
        assert_ok(spark_config_text(c, NULL, (spark_setting_id)i, c->arena, &text, NULL));
        if (*text) n += (size_t)snprintf(file + n, sizeof file - n, "%s = %s\n", spark_settings[i].name, text);
    }
    assert_non_null(strstr(file, "memory = 1536M\n"));
    assert_non_null(strstr(file, "keys = \"/a, # b\"\n"));
    spark_config *again = from_file(file);
    for (uint32_t i = 0; i < SPARK_N_SETTINGS; i++) {
        const char *a = NULL, *b = NULL;
        assert_ok(spark_config_text(c, NULL, (spark_setting_id)i, c->arena, &a, NULL));
        assert_ok(spark_config_text(again, NULL, (spark_setting_id)i, again->arena, &b, NULL));
        assert_string_equal(a, b);
    }
    spark_config_destroy(&c);
    spark_config_destroy(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_has_a_default_that_its_own_rules_accept),
        cmocka_unit_test(test_a_higher_source_wins_whatever_the_order),
        cmocka_unit_test(test_settings_that_no_message_holds_are_refused_with_the_longest),
        cmocka_unit_test(test_a_watchdog_has_a_second_or_more_or_is_off),
        cmocka_unit_test(test_a_bad_value_is_refused_though_a_flag_overrides_it),
        cmocka_unit_test(test_sizes_and_times_are_read_in_their_units),
        cmocka_unit_test(test_numbers_that_are_none_or_out_of_range_are_refused),
        cmocka_unit_test(test_mistakes_of_a_file_are_named_by_line_and_column),
        cmocka_unit_test(test_nul_bytes_and_long_lines_are_refused),
        cmocka_unit_test(test_values_may_hold_blanks_hashes_and_quotes),
        cmocka_unit_test(test_a_list_of_a_higher_source_replaces_the_lower),
        cmocka_unit_test(test_models_come_from_all_sources_and_take_what_is_general),
        cmocka_unit_test(test_model_flags_that_say_nothing_are_refused),
        cmocka_unit_test(test_a_model_without_a_file_is_a_typing_mistake_and_the_near_name_is_told),
        cmocka_unit_test(test_near_names_are_slips_and_no_other_words),
        cmocka_unit_test(test_more_models_than_the_limit_are_refused),
        cmocka_unit_test(test_unknown_variables_are_refused_and_known_others_are_not),
        cmocka_unit_test(test_beyond_loopback_keys_and_tls_are_demanded),
        cmocka_unit_test(test_settings_that_exclude_each_other_are_refused),
        cmocka_unit_test(test_addresses_to_listen_on_are_read_whole_or_refused),
        cmocka_unit_test(test_ranges_hold_what_lies_in_them),
        cmocka_unit_test(test_texts_of_values_are_read_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
