/* config_write.c - the settings in force as one file: how the warden tells them to the front. */
#include "serve/config_write.h"

#include <stdio.h>
#include <stdlib.h>

static spark_status write_settings(FILE *out, const spark_config *c, const spark_config_model *m, spark_arena *a,
                                   spark_err *err)
{
    const uint32_t n = m ? (uint32_t)SPARK_N_MODEL_SETTINGS : (uint32_t)SPARK_N_SETTINGS;
    for (uint32_t i = 0; i < n; i++) {
        const spark_origin *o = m ? &m->origin[i] : &c->origin[i];
        const char *text = NULL;
        if (o->source == SPARK_FROM_DEFAULT || o->source == SPARK_FROM_GENERAL) continue;
        SPARK_TRY(spark_config_text(c, m, (spark_setting_id)i, a, &text, err));
        fprintf(out, "%s = %s\n", spark_settings[i].name, text);
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

static spark_status write_all(FILE *out, const spark_config *c, spark_arena *a, spark_err *err)
{
    SPARK_TRY(write_settings(out, c, NULL, a, err));
    for (uint32_t k = 0; k < c->n_models; k++) {
        fprintf(out, "[model %s]\n", c->models[k].name);
        if (c->models[k].file) {
            fputs("file = ", out);
            write_quoted(out, c->models[k].file);
        }
        SPARK_TRY(write_settings(out, c, &c->models[k], a, err));
    }
    return SPARK_SUCCESS;
}

spark_status spark_config_write(const spark_config *c, char **out, spark_err *err)
{
    char *text = NULL;
    size_t len = 0;
    spark_arena *a = NULL;
    SPARK_TRY(spark_arena_create(&a, 1 << 20, err));
    FILE *f = open_memstream(&text, &len);
    spark_status s = f ? write_all(f, c, a, err) : spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    if (f && fclose(f) != 0 && spark_ok(s)) s = spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    spark_arena_destroy(&a);
    if (spark_ok(s))
        *out = text;
    else
        free(text);
    return s;
}
