/* config.c - the table of settings, and the sources they come from. What must fit together is checked in config_check.c. */
#include "serve/config.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/config_check.h"
#include "serve/config_text.h"
#include "serve/config_value.h"

const spark_setting spark_settings[SPARK_N_SETTINGS] = {
#define CONFIG_ROW(name, kind, flag, arg, fallback, min, max, choices, help)                                           \
    [SPARK_SET_##name] = {#name, SPARK_SETTING_##kind, flag, arg, fallback, min, max, choices, help},
    SPARK_ALL_SETTINGS(CONFIG_ROW)
#undef CONFIG_ROW
};

static const size_t config_offset[SPARK_N_SETTINGS] = {
#define CONFIG_OFFSET(name, ...) [SPARK_SET_##name] = offsetof(spark_config, name),
    SPARK_ALL_SETTINGS(CONFIG_OFFSET)
#undef CONFIG_OFFSET
};

static const size_t config_model_offset[SPARK_N_MODEL_SETTINGS] = {
#define CONFIG_OFFSET(name, ...) [SPARK_MODEL_SET_##name] = offsetof(spark_config_model, name),
    SPARK_MODEL_SETTINGS(CONFIG_OFFSET)
#undef CONFIG_OFFSET
};

static const size_t config_size[] = {
    [SPARK_SETTING_BOOL] = sizeof(bool),         [SPARK_SETTING_U32] = sizeof(uint32_t),
    [SPARK_SETTING_SIZE] = sizeof(uint64_t),     [SPARK_SETTING_MS] = sizeof(uint64_t),
    [SPARK_SETTING_SECONDS] = sizeof(uint64_t),  [SPARK_SETTING_CHOICE] = sizeof(uint32_t),
    [SPARK_SETTING_TEXT] = sizeof(const char *), [SPARK_SETTING_LIST] = sizeof(spark_config_list),
};

/* Variables that begin with SPARK_ and are no settings of the server: of the command line, of tests and of the build. */
static const char *const config_other_variables[] = {"SPARK_CONFIG",       "SPARK_TEST_DATA",   "SPARK_SOURCE",
                                                     "SPARK_BINARY",       "SPARK_ASAN_BINARY", "SPARK_SYNTHETIC",
                                                     "SPARK_TEST_VERBOSE", "SPARK_TEST_GOLDEN"};

/* Where a value stands, for errors. */
typedef struct config_place {
    spark_setting_source source;
    const char *what; /* the name, variable or flag */
    uint32_t line, column;
} config_place;

static spark_status config_fail(const config_place *p, spark_err *err, const char *why)
{
    if (p->line) return spark_text_fail(err, p->line, p->column, "%s: %s", p->what, why);
    return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "%s: %s", p->what, why);
}

/* "unknown setting; 'listen' is near" */
typedef struct config_nearest {
    const char *wanted, *best;
    unsigned distance;
} config_nearest;

static void config_near(config_nearest *n, const char *candidate)
{
    const unsigned d = spark_text_distance(n->wanted, candidate, 3);
    if (spark_text_is_near(n->wanted, candidate) && (!n->best || d < n->distance))
        *n = (config_nearest){n->wanted, candidate, d};
}

/* ---- Values ---- */

static void *config_field(spark_config *c, spark_config_model *m, uint32_t id)
{
    if (m) {
        assert(id < SPARK_N_MODEL_SETTINGS);
        return (char *)m + config_model_offset[id];
    }
    return (char *)c + config_offset[id];
}

/* Checks the items of a setting, and takes them unless a higher source spoke before. */
static spark_status config_put(spark_config *c, spark_config_model *m, uint32_t id, const char *const *items,
                               uint32_t n, const config_place *p, spark_err *err)
{
    const spark_setting *s = &spark_settings[id];
    spark_origin *origin = m ? &m->origin[id] : &c->origin[id];
    char why[SPARK_VALUE_WHY];
    union {
        uint64_t u;
        bool b;
        const char *text;
        spark_config_list list;
    } value = {.list = {items, n}};
    if (p->line && origin->source == SPARK_FROM_FILE) {
        snprintf(why, sizeof why, "it stands in line %u already", origin->line);
        return config_fail(p, err, why);
    }
    if (s->kind != SPARK_SETTING_LIST) {
        if (n == 0) return config_fail(p, err, "a value is missing");
        if (!spark__value_read(s, items[0], &value, why)) return config_fail(p, err, why);
    } else if (!spark__list_check(s, items, n, why)) {
        return config_fail(p, err, why);
    }
    if (origin->source > p->source) return SPARK_SUCCESS;
    *origin = (spark_origin){p->source, p->line};
    memcpy(config_field(c, m, id), &value, config_size[s->kind]);
    return SPARK_SUCCESS;
}

/* A copy of a text and of a list of them in the config's arena; refuses what could not be written in the file. */
static spark_status config_keep(spark_config *c, const char *const *items, uint32_t n, const char *const **out,
                                const config_place *p, spark_err *err)
{
    const char **copy = NULL;
    if (n > SPARK_MAX_SETTING_LIST) return config_fail(p, err, "more than 64 values");
    SPARK_TRY(SPARK_NEW(c->arena, n, &copy, err));
    for (uint32_t i = 0; i < n; i++) {
        spark_bytes kept;
        if (!spark_text_is_clean(items[i])) return config_fail(p, err, "not UTF-8, or a control character in it");
        SPARK_TRY(spark_arena_copy(c->arena, spark_bytes_of(items[i]), &kept, err));
        copy[i] = (const char *)kept.ptr;
    }
    *out = copy;
    return SPARK_SUCCESS;
}

/* ---- Models ---- */

static spark_config_model *config_model(spark_config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].name, name) == 0) return &c->models[i];
    return NULL;
}

static bool config_name_ok(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-";
    const size_t len = strlen(name);
    return len > 0 && len <= SPARK_MAX_SERVED_NAME && strspn(name, allowed) == len;
}

/* The model of that name, made if it is new. `name` is in the arena. */
static spark_status config_add_model(spark_config *c, const char *name, spark_config_model **out, const config_place *p,
                                     spark_err *err)
{
    char why[SPARK_VALUE_WHY];
    spark_config_model *m = config_model(c, name);
    if (!m && !config_name_ok(name)) {
        snprintf(why, sizeof why, "'%.128s' is no name for a model: 1 to %u of A-Z a-z 0-9 . _ : / @ + -", name,
                 SPARK_MAX_SERVED_NAME);
        return config_fail(p, err, why);
    }
    if (!m && c->n_models == SPARK_MAX_SERVED) return config_fail(p, err, "more than 64 models");
    if (!m) {
        m = &c->models[c->n_models++];
        m->name = name;
    }
    *out = m;
    return SPARK_SUCCESS;
}

/* NAME=FILE; text is in the arena. */
static spark_status config_put_model(spark_config *c, const char *text, const config_place *p, spark_err *err)
{
    const char *equals = strchr(text, '=');
    spark_config_model *m = NULL;
    spark_bytes name;
    if (!equals) return config_fail(p, err, "NAME=FILE is expected");
    SPARK_TRY(spark_arena_copy(c->arena, (spark_bytes){(const uint8_t *)text, (size_t)(equals - text)}, &name, err));
    SPARK_TRY(config_add_model(c, (const char *)name.ptr, &m, p, err));
    if (p->source != SPARK_FROM_FILE && m->file_origin.source == p->source)
        return config_fail(p, err, "the same name twice");
    if (m->file_origin.source > p->source) return SPARK_SUCCESS;
    m->file_origin = (spark_origin){p->source, 0};
    m->file = equals[1] ? equals + 1 : NULL;
    return SPARK_SUCCESS;
}

spark_status spark_config_add_model(spark_config *c, const char *text, spark_err *err)
{
    const config_place p = {SPARK_FROM_FLAG, "--model", 0, 0};
    const char *const *kept = NULL;
    SPARK_TRY(config_keep(c, &text, 1, &kept, &p, err));
    return config_put_model(c, kept[0], &p, err);
}

/* The row of a model's setting, or SPARK_N_MODEL_SETTINGS. */
static uint32_t config_find_model_setting(spark_bytes name)
{
    uint32_t id = 0;
    while (id < SPARK_N_MODEL_SETTINGS && !spark_bytes_is(name, spark_settings[id].name)) id++;
    return id;
}

static spark_status config_unknown_model_setting(spark_bytes name, const config_place *p, spark_err *err)
{
    char why[SPARK_VALUE_WHY], text[65];
    snprintf(text, sizeof text, "%.*s", (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
    config_nearest near = {.wanted = text};
    config_near(&near, "file");
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++) {
        if (id < SPARK_N_MODEL_SETTINGS) config_near(&near, spark_settings[id].name);
        if (id >= SPARK_N_MODEL_SETTINGS && spark_bytes_is(name, spark_settings[id].name))
            return config_fail(p, err, "holds for the whole server: it belongs before the first [model ...]");
    }
    snprintf(why, sizeof why, "no setting of a model%s%s%s", near.best ? "; did you mean '" : "",
             near.best ? near.best : "", near.best ? "'?" : "");
    return config_fail(p, err, why);
}

/* NAME.SETTING=VALUE. A name may hold dots, a setting does not: the last dot before '=' counts. */
spark_status spark_config_set_model(spark_config *c, const char *text, spark_err *err)
{
    const config_place p = {SPARK_FROM_FLAG, "--model-set", 0, 0};
    const char *const *kept = NULL;
    SPARK_TRY(config_keep(c, &text, 1, &kept, &p, err));
    const char *equals = strchr(kept[0], '='), *dot = equals;
    while (dot && dot > kept[0] && *dot != '.') dot--;
    if (!equals || dot == kept[0]) return config_fail(&p, err, "NAME.SETTING=VALUE is expected, as in demo.ctx=8192");
    const spark_bytes setting = {(const uint8_t *)dot + 1, (size_t)(equals - dot - 1)};
    spark_config_model *m = NULL;
    spark_bytes name;
    SPARK_TRY(spark_arena_copy(c->arena, (spark_bytes){(const uint8_t *)kept[0], (size_t)(dot - kept[0])}, &name, err));
    SPARK_TRY(config_add_model(c, (const char *)name.ptr, &m, &p, err));
    const uint32_t id = config_find_model_setting(setting);
    if (id == SPARK_N_MODEL_SETTINGS) return config_unknown_model_setting(setting, &p, err);
    const char *value = equals + 1;
    const char *const *items = NULL;
    SPARK_TRY(config_keep(c, &value, 1, &items, &p, err));
    return config_put(c, m, id, items, 1, &p, err);
}

/* ---- The file ---- */

static spark_status config_unknown(const config_place *p, spark_err *err)
{
    char why[SPARK_VALUE_WHY];
    config_nearest near = {.wanted = p->what};
    if (strcmp(p->what, "file") == 0) return config_fail(p, err, "belongs under a heading [model NAME]");
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++) config_near(&near, spark_settings[id].name);
    if (near.best)
        snprintf(why, sizeof why, "no such setting; did you mean '%s'?", near.best);
    else
        snprintf(why, sizeof why, "no such setting; 'spark config show' lists them");
    return config_fail(p, err, why);
}

static spark_status config_heading(spark_config *c, const spark_text_line *l, spark_config_model **model,
                                   spark_err *err)
{
    const config_place p = {SPARK_FROM_FILE, "model", l->line, l->value_column};
    const char *name = NULL;
    char why[64];
    if (!spark_bytes_is(l->name, "model"))
        return spark_text_fail(err, l->line, l->column, "[%.*s]: only headings [model NAME] are known",
                               (int)(l->name.len < 64 ? l->name.len : 64), (const char *)l->name.ptr);
    SPARK_TRY(spark_text_item(l, &name, c->arena, err));
    SPARK_TRY(config_add_model(c, name, model, &p, err));
    if ((*model)->line) {
        snprintf(why, sizeof why, "it has a heading in line %u already", (*model)->line);
        return config_fail(&p, err, why);
    }
    (*model)->line = l->line;
    return SPARK_SUCCESS;
}

static spark_status config_model_file(spark_config *c, spark_config_model *m, const spark_text_line *l,
                                      const config_place *p, spark_err *err)
{
    const char *value = ""; /* written out empty: the embedded model */
    char why[64];
    if (l->value.len) SPARK_TRY(spark_text_item(l, &value, c->arena, err));
    if (m->file_origin.source == SPARK_FROM_FILE) {
        snprintf(why, sizeof why, "it stands in line %u already", m->file_origin.line);
        return config_fail(p, err, why);
    }
    if (m->file_origin.source > SPARK_FROM_FILE) return SPARK_SUCCESS;
    m->file = *value ? value : NULL;
    m->file_origin = (spark_origin){SPARK_FROM_FILE, l->line};
    return SPARK_SUCCESS;
}

static spark_status config_pair(spark_config *c, spark_config_model *m, const spark_text_line *l, spark_err *err)
{
    const char **items = NULL;
    uint32_t n = 0, id = 0;
    spark_bytes name;
    SPARK_TRY(spark_arena_copy(c->arena, l->name, &name, err));
    config_place p = {SPARK_FROM_FILE, (const char *)name.ptr, l->line, l->column};
    if (m && spark_bytes_is(l->name, "file")) return config_model_file(c, m, l, &p, err);
    if (m) {
        id = config_find_model_setting(l->name);
        if (id == SPARK_N_MODEL_SETTINGS) return config_unknown_model_setting(l->name, &p, err);
    } else {
        while (id < SPARK_N_SETTINGS && !spark_bytes_is(l->name, spark_settings[id].name)) id++;
        if (id == SPARK_N_SETTINGS) return config_unknown(&p, err);
    }
    const bool list = spark_settings[id].kind == SPARK_SETTING_LIST;
    SPARK_TRY(SPARK_NEW(c->arena, list ? SPARK_MAX_SETTING_LIST : 1, &items, err));
    if (list) {
        SPARK_TRY(spark_text_items(l, items, SPARK_MAX_SETTING_LIST, &n, c->arena, err));
    } else {
        SPARK_TRY(spark_text_item(l, items, c->arena, err));
        n = 1;
    }
    p.column = l->value_column;
    return config_put(c, m, id, items, n, &p, err);
}

spark_status spark_config_add_file(spark_config *c, spark_bytes text, const char *path, spark_err *err)
{
    spark_text t = {.bytes = text};
    spark_text_line l;
    spark_config_model *m = NULL;
    spark_bytes kept;
    SPARK_CHECK(!c->path, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "only one file of settings can be read");
    SPARK_CHECK(text.len <= SPARK_MAX_CONFIG_BYTES, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu bytes of settings: at most %u are read", text.len, SPARK_MAX_CONFIG_BYTES);
    SPARK_TRY(spark_arena_copy(c->arena, spark_bytes_of(path), &kept, err));
    c->path = (const char *)kept.ptr;
    for (;;) {
        SPARK_TRY(spark_text_next(&t, &l, err));
        if (l.kind == SPARK_TEXT_END) return SPARK_SUCCESS;
        SPARK_TRY(l.kind == SPARK_TEXT_HEADING ? config_heading(c, &l, &m, err) : config_pair(c, m, &l, err));
    }
}

/* ---- The environment ---- */

const char *spark_setting_variable(const spark_setting *s, char out[64])
{
    size_t n = (size_t)snprintf(out, 64, "SPARK_");
    for (const char *at = s->name; *at && n < 63; at++)
        out[n++] = (char)(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at);
    out[n] = 0;
    return out;
}

/* The items of a variable: a list is written as in the file, anything else is the value as it is. */
static spark_status config_variable_items(spark_config *c, bool list, const char *value, const char *const **items,
                                          uint32_t *n, const config_place *p, spark_err *err)
{
    if (!list) {
        *n = 1;
        return config_keep(c, &value, 1, items, p, err);
    }
    if (!spark_text_is_clean(value)) return config_fail(p, err, "not UTF-8, or a control character in it");
    if (strlen(value) > SPARK_MAX_SETTING_LINE) return config_fail(p, err, "more than 4096 bytes");
    const spark_text_line l = {.kind = SPARK_TEXT_PAIR, .name = spark_bytes_of("it"), .value = spark_bytes_of(value)};
    const char **out = NULL;
    spark_err e = {0};
    SPARK_TRY(SPARK_NEW(c->arena, SPARK_MAX_SETTING_LIST, &out, err));
    if (!spark_ok(spark_text_items(&l, out, SPARK_MAX_SETTING_LIST, n, c->arena, &e)))
        return config_fail(p, err, e.text);
    *items = out;
    return SPARK_SUCCESS;
}

static spark_status config_unknown_variable(const char *name, spark_err *err)
{
    char near_text[64], candidate[64];
    config_nearest near = {.wanted = name + strlen("SPARK_")};
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++) {
        const char *before = near.best;
        config_near(&near, spark_setting_variable(&spark_settings[id], candidate) + strlen("SPARK_"));
        if (near.best != before) near.best = memcpy(near_text, near.best, strlen(near.best) + 1);
    }
    if (near.best)
        return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                          "the variable %.64s is no setting; did you mean SPARK_%s?", name, near.best);
    return spark_fail(
        err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
        "the variable %.64s is no setting: unset it (Kubernetes makes such variables for a service named spark: "
        "enableServiceLinks: false)",
        name);
}

static spark_status config_variable(spark_config *c, const char *name, const char *value, spark_err *err)
{
    char variable[64];
    const config_place p = {SPARK_FROM_ENVIRONMENT, name, 0, 0};
    const char *const *items = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < SPARK_COUNT(config_other_variables); i++)
        if (strcmp(name, config_other_variables[i]) == 0) return SPARK_SUCCESS;
    if (strcmp(name, "SPARK_MODEL") == 0) {
        SPARK_TRY(config_variable_items(c, true, value, &items, &n, &p, err));
        for (uint32_t i = 0; i < n; i++) SPARK_TRY(config_put_model(c, items[i], &p, err));
        return SPARK_SUCCESS;
    }
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++)
        if (strcmp(name, spark_setting_variable(&spark_settings[id], variable)) == 0) {
            SPARK_TRY(
                config_variable_items(c, spark_settings[id].kind == SPARK_SETTING_LIST, value, &items, &n, &p, err));
            return config_put(c, NULL, id, items, n, &p, err);
        }
    return config_unknown_variable(name, err);
}

spark_status spark_config_add_environment(spark_config *c, char *const *environment, spark_err *err)
{
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        char name[65];
        if (strncmp(*environment, "SPARK_", 6) != 0 || !equals) continue;
        snprintf(name, sizeof name, "%.*s", (int)(equals - *environment < 64 ? equals - *environment : 64),
                 *environment);
        SPARK_TRY(config_variable(c, name, equals + 1, err));
    }
    return SPARK_SUCCESS;
}

/* ---- Flags ---- */

spark_status spark_config_add_flag(spark_config *c, spark_setting_id id, const char *const *items, uint32_t n,
                                   spark_err *err)
{
    assert(id < SPARK_N_SETTINGS);
    const config_place p = {SPARK_FROM_FLAG, spark_settings[id].flag, 0, 0};
    const char *const *kept = NULL;
    SPARK_TRY(config_keep(c, items, n, &kept, &p, err));
    return config_put(c, NULL, id, kept, n, &p, err);
}

/* ---- Life ---- */

static spark_status config_defaults(spark_config *c, spark_err *err)
{
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++) {
        const spark_setting *s = &spark_settings[id];
        const config_place p = {SPARK_FROM_DEFAULT, s->name, 0, 0};
        if (*s->fallback) SPARK_TRY(config_put(c, NULL, id, &s->fallback, 1, &p, err));
    }
    return SPARK_SUCCESS;
}

spark_status spark_config_create(spark_config **out, spark_err *err)
{
    spark_arena *a = NULL;
    spark_config *c = NULL;
    /* Each setting comes once: what a file can make it keep is a few times its own megabyte. */
    SPARK_TRY(spark_arena_create(&a, (size_t)64 << 20, err));
    spark_status s = SPARK_NEW(a, 1, &c, err);
    if (spark_ok(s)) {
        c->arena = a;
        s = config_defaults(c, err);
    }
    if (!spark_ok(s)) {
        spark_arena_destroy(&a);
        return s;
    }
    *out = c;
    return s;
}

void spark_config_destroy(spark_config **c)
{
    if (!*c) return;
    spark_arena *a = (*c)->arena; /* the config itself lies in it */
    *c = NULL;
    spark_arena_destroy(&a);
}

/* The embedded model is served by a name only where somebody said so: a name without a file is more often a typing mistake. */
static spark_status config_check_name(const spark_config *c, const spark_config_model *m, spark_err *err)
{
    const bool demo = strcmp(m->name, "demo") == 0;
    if (m->file_origin.source != SPARK_FROM_DEFAULT || (demo && (m->line || c->n_models == 1))) return SPARK_SUCCESS;
    config_nearest near = {.wanted = m->name};
    if (!demo && (m->line || c->n_models == 1)) config_near(&near, "demo");
    for (uint32_t i = 0; i < c->n_models; i++)
        if (c->models[i].file_origin.source != SPARK_FROM_DEFAULT || (c->models[i].line && !m->line))
            config_near(&near, c->models[i].name);
    const char *before = near.best ? "; did you mean '" : "", *best = near.best ? near.best : "",
               *behind = near.best ? "'?" : "";
    if (m->line)
        return spark_text_fail(err, m->line, 1,
                               "[model %s] has no file%s%s%s ('file =' with nothing behind it: the embedded model)",
                               m->name, before, best, behind);
    return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "--model-set: no model '%s' is served%s%s%s", m->name,
                      before, best, behind);
}

spark_status spark_config_finish(spark_config *c, spark_err *err)
{
    for (uint32_t i = 0; i < c->n_models; i++) SPARK_TRY(config_check_name(c, &c->models[i], err));
    for (uint32_t i = 0; i < c->n_models; i++)
        for (uint32_t id = 0; id < SPARK_N_MODEL_SETTINGS; id++) {
            spark_config_model *m = &c->models[i];
            if (m->origin[id].source != SPARK_FROM_DEFAULT) continue;
            memcpy(config_field(c, m, id), config_field(c, NULL, id), config_size[spark_settings[id].kind]);
            m->origin[id] = (spark_origin){SPARK_FROM_GENERAL, 0};
        }
    return spark__config_check(c, err);
}

/* ---- Showing ---- */

spark_status spark_config_value(const spark_config *c, const spark_config_model *model, spark_setting_id id,
                                spark_arena *a, spark_config_list *out, spark_err *err)
{
    const spark_setting *s = &spark_settings[id];
    const void *field = model ? (const char *)model + config_model_offset[id] : (const char *)c + config_offset[id];
    const char **one = NULL;
    char text[64];
    spark_bytes kept;
    if (s->kind == SPARK_SETTING_LIST) {
        *out = *(const spark_config_list *)field;
        return SPARK_SUCCESS;
    }
    SPARK_TRY(SPARK_NEW(a, 1, &one, err));
    if (s->kind == SPARK_SETTING_TEXT) {
        one[0] = *(const char *const *)field;
        *out = (spark_config_list){one, one[0] != NULL};
        return SPARK_SUCCESS;
    }
    spark__value_write(s, field, text);
    SPARK_TRY(spark_arena_copy(a, spark_bytes_of(text), &kept, err));
    one[0] = (const char *)kept.ptr;
    *out = (spark_config_list){one, 1};
    return SPARK_SUCCESS;
}

spark_status spark_config_list_text(const spark_config_list *v, spark_arena *a, const char **out, spark_err *err)
{
    char *text = NULL;
    size_t size = 1, at = 0;
    for (uint32_t i = 0; i < v->n; i++) size += spark_text_quote(NULL, 0, v->item[i]) + 2;
    SPARK_TRY(SPARK_NEW(a, size, &text, err));
    for (uint32_t i = 0; i < v->n; i++) {
        at += (size_t)snprintf(text + at, size - at, "%s", i ? ", " : "");
        at += spark_text_quote(text + at, size - at, v->item[i]);
    }
    *out = text;
    return SPARK_SUCCESS;
}

spark_status spark_config_text(const spark_config *c, const spark_config_model *model, spark_setting_id id,
                               spark_arena *a, const char **out, spark_err *err)
{
    spark_config_list v = {0};
    SPARK_TRY(spark_config_value(c, model, id, a, &v, err));
    return spark_config_list_text(&v, a, out, err);
}
