/* cmd_config.c - spark config: every setting of the service, its value, and where it came from. */
#include <string.h>

#include "cli/cli_config.h"

static bool config_json;

static const cli_option config_options[] = {
    {"--json", CLI_FLAG, &config_json, NULL, "print one JSON object", 0, 0, NULL},
    CLI_CONFIG_OPTIONS{NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static const char *const config_sources[] = {"default", "general", "file", "environment", "flag"};

/* ---- As a file ---- */

/* "name = value  # source", or "# name is not set"; what a reader of settings takes as it is. */
static void config_put_pair(cli_out *o, const char *name, const char *value, const spark_origin *origin)
{
    const size_t begin = o->len;
    if (*value || strcmp(name, "file") == 0) /* a model's file, empty: the embedded model */
        cli_putf(o, "%s = ", name);
    else
        cli_putf(o, "# %s =", name);
    cli_put(o, value, strlen(value));
    do cli_put(o, " ", 1);
    while (o->len - begin < 40);
    cli_putf(o, "# %s", config_sources[origin->source]);
    if (origin->line) cli_putf(o, ", line %u", origin->line);
    cli_put(o, "\n", 1);
}

static bool config_put_text(cli_out *o, const spark_config *c)
{
    const char *value = NULL;
    spark_err err = {0};
    cli_putf(o, "# Settings of spark %s. This is a file of settings itself.\n", spark_version());
    if (c->path) {
        cli_putf(o, "# file: ");
        cli_put_json(o, c->path, strlen(c->path));
        cli_put(o, "\n", 1);
    }
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++) {
        if (spark_config_text(c, NULL, (spark_setting_id)id, c->arena, &value, &err).code != SPARK_OK) return false;
        config_put_pair(o, spark_settings[id].name, value, &c->origin[id]);
    }
    for (uint32_t m = 0; m < c->n_models; m++) {
        const spark_config_model *model = &c->models[m];
        const spark_config_list file = {&model->file, model->file != NULL};
        cli_put(o, "\n", 1);
        cli_putf(o, "[model %s]\n", model->name);
        if (spark_config_list_text(&file, c->arena, &value, &err).code != SPARK_OK) return false;
        config_put_pair(o, "file", value, &model->file_origin);
        for (uint32_t id = 0; id < SPARK_N_MODEL_SETTINGS; id++) {
            if (spark_config_text(c, model, (spark_setting_id)id, c->arena, &value, &err).code != SPARK_OK)
                return false;
            config_put_pair(o, spark_settings[id].name, value, &model->origin[id]);
        }
    }
    return true;
}

/* ---- As JSON ---- */

static void config_put_origin(cli_out *o, const spark_origin *origin)
{
    cli_putf(o, ",\"source\":\"%s\"", config_sources[origin->source]);
    if (origin->line) cli_putf(o, ",\"line\":%u", origin->line);
}

static void config_put_string(cli_out *o, const char *text)
{
    if (text)
        cli_put_json(o, text, strlen(text));
    else
        cli_put(o, "null", 4);
}

static bool config_put_setting(cli_out *o, const spark_config *c, const spark_config_model *m, uint32_t id)
{
    const spark_setting *s = &spark_settings[id];
    spark_config_list v = {0};
    spark_err err = {0};
    if (spark_config_value(c, m, (spark_setting_id)id, c->arena, &v, &err).code != SPARK_OK) return false;
    cli_putf(o, "%s{\"name\":\"%s\",\"value\":", id ? "," : "", s->name);
    if (s->kind == SPARK_SETTING_LIST) {
        cli_put(o, "[", 1);
        for (uint32_t i = 0; i < v.n; i++) {
            if (i) cli_put(o, ",", 1);
            config_put_string(o, v.item[i]);
        }
        cli_put(o, "]", 1);
    } else if (s->kind == SPARK_SETTING_U32) {
        cli_putf(o, "%s", v.item[0]);
    } else if (s->kind == SPARK_SETTING_BOOL) {
        cli_putf(o, "%s", strcmp(v.item[0], "yes") == 0 ? "true" : "false");
    } else {
        config_put_string(o, v.n ? v.item[0] : NULL);
    }
    config_put_origin(o, m ? &m->origin[id] : &c->origin[id]);
    cli_put(o, "}", 1);
    return true;
}

static bool config_put_json(cli_out *o, const spark_config *c)
{
    cli_putf(o, "{\"file\":");
    config_put_string(o, c->path);
    cli_putf(o, ",\"settings\":[");
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++)
        if (!config_put_setting(o, c, NULL, id)) return false;
    cli_putf(o, "],\"models\":[");
    for (uint32_t m = 0; m < c->n_models; m++) {
        const spark_config_model *model = &c->models[m];
        cli_putf(o, "%s{\"name\":", m ? "," : "");
        config_put_string(o, model->name);
        cli_putf(o, ",\"file\":");
        config_put_string(o, model->file);
        config_put_origin(o, &model->file_origin);
        cli_putf(o, ",\"settings\":[");
        for (uint32_t id = 0; id < SPARK_N_MODEL_SETTINGS; id++)
            if (!config_put_setting(o, c, model, id)) return false;
        cli_putf(o, "]}");
    }
    cli_putf(o, "]}\n");
    return true;
}

/* ---- The table, for docs/CONFIG.md ---- */

static void config_put_cell(cli_out *o, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') cli_put(o, "\\", 1);
        cli_put(o, text, 1);
    }
}

static const char *config_kind(const spark_setting *s)
{
    static const char *const kinds[] = {
        [SPARK_SETTING_BOOL] = "yes, no", [SPARK_SETTING_U32] = "number",       [SPARK_SETTING_SIZE] = "size",
        [SPARK_SETTING_MS] = "time (ms)", [SPARK_SETTING_SECONDS] = "time (s)", [SPARK_SETTING_CHOICE] = "",
        [SPARK_SETTING_TEXT] = "text",    [SPARK_SETTING_LIST] = "list"};
    return s->choices ? s->choices : kinds[s->kind];
}

static void config_put_reference(cli_out *o)
{
    char variable[64];
    cli_putf(o, "| setting | flag | variable | value | default | meaning |\n|---|---|---|---|---|---|\n");
    for (uint32_t id = 0; id < SPARK_N_SETTINGS; id++) {
        const spark_setting *s = &spark_settings[id];
        cli_putf(o, "| `%s`%s | `%s%s%s` | `%s` | ", s->name, id < SPARK_N_MODEL_SETTINGS ? " (M)" : "", s->flag,
                 s->arg ? " " : "", s->arg ? s->arg : "", spark_setting_variable(s, variable));
        config_put_cell(o, config_kind(s));
        cli_putf(o, " | %s | ", s->fallback);
        config_put_cell(o, s->help);
        cli_put(o, " |\n", 3);
    }
}

static int config_show(cli_out *o)
{
    spark_config *c = NULL;
    const int code = cli_config_load("config", &c);
    if (code != CLI_OK) return code;
    const bool ok = config_json ? config_put_json(o, c) : config_put_text(o, c);
    spark_config_destroy(&c);
    return ok ? CLI_OK : cli_no_memory("config");
}

static int config_run(const cli_args *args)
{
    cli_out o = {0};
    int code = CLI_OK;
    if (args->n != 1) return cli_usage("config", "show or reference is expected");
    if (strcmp(args->item[0], "show") == 0)
        code = config_show(&o);
    else if (strcmp(args->item[0], "reference") == 0)
        config_put_reference(&o);
    else
        return cli_usage("config", "'%s' is neither show nor reference", args->item[0]);
    if (code == CLI_OK) code = cli_write(o.ptr, o.len);
    cli_out_free(&o);
    return code;
}

const cli_command cli_command_config = {
    .name = "config",
    .args = "show|reference",
    .summary = "show every setting of the service and where it came from",
    .details = "A setting comes from a flag, else from its variable (SPARK_CTX for ctx), else from the file of "
               "--config, else it is\n"
               "the default. 'show' takes the flags of 'spark serve', checks all values (and opens none of the files "
               "they name), and\n"
               "prints what it would use; its output is a file of settings. 'reference' prints the table of all "
               "settings (Markdown).",
    .examples = "spark config show --config serve.conf\n"
                "spark config show --json --model demo= --memory 6G",
    .options = config_options,
    .run = config_run,
};
