/* config_fuzz.c - aims at spark_text_next, spark_text_items, spark_config_add_file and finish: any bytes as a file of settings. What is
 * taken is written as `config show` does and must be read back the same. */
#include <stdio.h>
#include <stdlib.h>

#include "serve/config.h"
#include "serve/config_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All values as a file. */
static char *fuzz_write(const spark_config *c, size_t *len)
{
    char *out = NULL;
    FILE *f = open_memstream(&out, len);
    const char *text = NULL;
    char quoted[2 * SPARK_MAX_SETTING_LINE + 8];
    if (!f) abort();
    for (uint32_t i = 0; i < SPARK_N_SETTINGS; i++) {
        if (!spark_ok(spark_config_text(c, NULL, (spark_setting_id)i, c->arena, &text, NULL))) abort();
        if (*text) fprintf(f, "%s = %s\n", spark_settings[i].name, text);
    }
    for (uint32_t m = 0; m < c->n_models; m++) {
        const spark_config_model *model = &c->models[m];
        fprintf(f, "[model %s]\n", model->name);
        if (model->file) {
            spark_text_quote(quoted, sizeof quoted, model->file);
            fprintf(f, "file = %s\n", quoted);
        } else {
            fprintf(f, "file =\n");
        }
        for (uint32_t i = 0; i < SPARK_N_MODEL_SETTINGS; i++) {
            if (!spark_ok(spark_config_text(c, model, (spark_setting_id)i, c->arena, &text, NULL))) abort();
            if (*text) fprintf(f, "%s = %s\n", spark_settings[i].name, text);
        }
    }
    fclose(f);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    spark_config *c = NULL, *again = NULL;
    spark_err err = {0};
    if (!spark_ok(spark_config_create(&c, &err)) || !spark_ok(spark_config_create(&again, &err))) abort();
    if (!spark_ok(spark_config_add_file(c, (spark_bytes){data, size}, "fuzz", &err))) {
        if (err.code == SPARK_E_FORMAT && err.line == 0) abort(); /* every mistake has its place */
    } else if (spark_ok(spark_config_finish(c, &err))) {
        size_t len = 0, len2 = 0;
        char *text = fuzz_write(c, &len);
        /* A list of many short items takes ", " between them: it may then be longer than a line may be. */
        const bool read = spark_ok(
            spark_config_add_file(again, (spark_bytes){(const uint8_t *)text, len}, "fuzz", &err));
        if (!read && !strstr(err.text, "at most")) abort();
        if (read) {
            if (!spark_ok(spark_config_finish(again, &err))) abort();
            char *text2 = fuzz_write(again, &len2);
            if (len != len2 || memcmp(text, text2, len) != 0) abort();
            free(text2);
        }
        free(text);
    }
    spark_config_destroy(&c);
    spark_config_destroy(&again);
    return 0;
}
