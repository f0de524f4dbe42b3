/* config_write.c - the settings in force as one file: how the warden tells them to the front. */
#include "serve/config_write.h"

#include <stdio.h>
#include <stdlib.h>

#include "serve/control.h"

enum { WRITE_ONE_MAX = 16 << 20 }; /* of one setting; the arguments of a program, all together, have less */

/* The setting that takes most, for whoever must shorten something. */
typedef struct write_longest {
    const char *name, *model; /* model NULL: of no model */
    const spark_origin *origin;
    size_t len;
} write_longest;

static void write_compare(write_longest *l, const char *name, const spark_config_model *m, const spark_origin *o,
                          const char *text)
{
    if (strlen(text) > l->len)
        *l = (write_longest){.name = name, .model = m ? m->name : NULL, .origin = o, .len = strlen(text)};
}

/* Two settings are always written: the warden decides them after the sum was looked at. */
static bool write_always(const spark_config_model *m, uint32_t id)
{
    return !m && (id == SPARK_SET_log_format || id == SPARK_SET_max_connections);
}

static spark_status write_settings(FILE *out, const spark_config *c, const spark_config_model *m, spark_arena *a,
                                   write_longest *longest, spark_err *err)
{
    const uint32_t n = m ? (uint32_t)SPARK_N_MODEL_SETTINGS : (uint32_t)SPARK_N_SETTINGS;
    for (uint32_t i = 0; i < n; i++) {
        const spark_origin *o = m ? &m->origin[i] : &c->origin[i];
        const spark_mark mark = spark_arena_mark(a);
        const char *text = NULL;
        if ((o->source == SPARK_FROM_DEFAULT || o->source == SPARK_FROM_GENERAL) && !write_always(m, i)) continue;
        SPARK_TRY(spark_config_text(c, m, (spark_setting_id)i, a, &text, err));
        fprintf(out, "%s = %s\n", spark_settings[i].name, text);
        write_compare(longest, spark_settings[i].name, m, o, text);
        spark_arena_reset(a, mark);
    }
    return SPARK_SUCCESS;
}

/* A value in quotes, as config_text.h has them. */
static void write_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\') fputc('\\', out);
        fputc(*p, out);
    }
    fputs("\"\n", out);
}

static spark_status write_all(FILE *out, const spark_config *c, spark_arena *a, write_longest *longest, spark_err *err)
{
    SPARK_TRY(write_settings(out, c, NULL, a, longest, err));
    for (uint32_t k = 0; k < c->n_models; k++) {
        fprintf(out, "[model %s]\n", c->models[k].name);
        if (c->models[k].file) {
            fputs("file = ", out);
            write_quoted(out, c->models[k].file);
            write_compare(longest, "file", &c->models[k], &c->models[k].file_origin, c->models[k].file);
        } else {
            fputs("file =\n", out);
        }
        SPARK_TRY(write_settings(out, c, &c->models[k], a, longest, err));
    }
    return SPARK_SUCCESS;
}

static spark_status write_text(const spark_config *c, char **out, size_t *n, write_longest *longest, spark_err *err)
{
    char *text = NULL;
    size_t len = 0;
    spark_arena *a = NULL;
    SPARK_TRY(spark_arena_create(&a, WRITE_ONE_MAX, err));
    FILE *f = open_memstream(&text, &len);
    spark_status s = f ? write_all(f, c, a, longest, err)
                       : spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    if (f && fclose(f) != 0 && spark_ok(s)) s = spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    spark_arena_destroy(&a);
    if (!spark_ok(s)) {
        free(text);
        return s;
    }
    *out = text;
    *n = len;
    return SPARK_SUCCESS;
}

spark_status spark_config_write(const spark_config *c, char **out, spark_err *err)
{
    size_t len = 0;
    write_longest longest = {0};
    return write_text(c, out, &len, &longest, err);
}

spark_status spark_config_fits(const spark_config *c, spark_err *err)
{
    static const char *const sources[] = {"default", "general value", "file", "environment", "flag"};
    char *text = NULL, line[32] = "";
    size_t len = 0;
    write_longest l = {0};
    SPARK_TRY(write_text(c, &text, &len, &l, err));
    free(text);
    if (len <= CONTROL_TEXT_MAX) return SPARK_SUCCESS;
    if (l.origin->line) snprintf(line, sizeof line, ", line %u", l.origin->line);
    return spark_fail(err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                      "the settings have %zu bytes when written down, of at most %d: shorten lists and paths, or serve "
                      "fewer models (the longest: %s%s%.40s, %zu bytes, from the %s%s)",
                      len, CONTROL_TEXT_MAX, l.name, l.model ? " of model " : "", l.model ? l.model : "", l.len,
                      sources[l.origin->source], line);
}
