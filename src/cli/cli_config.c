/* cli_config.c - settings gathered from file, environment and flags. */
#include "cli/cli_config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cli_setting cli_settings[SPARK_N_SETTINGS];
cli_texts cli_config_models, cli_config_model_sets;
const char *cli_config_path;

/* A setting that is wrong is wrong usage, wherever it stands. */
static int config_fail(const char *what, const spark_err *err, const char *todo)
{
    const int code = cli_fail(what, err, todo);
    return err->code == SPARK_E_REFUSED || err->code == SPARK_E_MEMORY ? code : CLI_USAGE;
}

static int config_options_file(spark_config *c)
{
    const char *variable = getenv("SPARK_CONFIG");
    const char *path = cli_config_path ? cli_config_path : variable && *variable ? variable : NULL;
    cli_bytes text = {0};
    spark_err err = {0};
    if (!path) return CLI_OK;
    cli_name_text(path);
    if (!cli_read_file(path, &text)) return CLI_USAGE;
    const spark_status s = spark_config_add_file(c, (spark_bytes){(const uint8_t *)text.ptr, text.len}, path, &err);
    free(text.ptr);
    return s.code == SPARK_OK ? CLI_OK : config_fail(path, &err, "docs/CONFIG.md tells the form");
}

static spark_status config_options_flag(spark_config *c, spark_setting_id id, spark_err *err)
{
    const cli_setting *given = &cli_settings[id];
    const spark_setting *s = &spark_settings[id];
    const char *other = strcmp(s->fallback, "yes") == 0 ? "no" : "yes";
    if (given->flag) return spark_config_add_flag(c, id, &other, 1, err);
    if (given->text) return spark_config_add_flag(c, id, &given->text, 1, err);
    if (given->texts.n) return spark_config_add_flag(c, id, given->texts.item, given->texts.n, err);
    return (spark_status){SPARK_OK};
}

static spark_status config_options_flags(spark_config *c, spark_err *err)
{
    spark_status s = {SPARK_OK};
    for (uint32_t id = 0; id < SPARK_N_SETTINGS && s.code == SPARK_OK; id++)
        s = config_options_flag(c, (spark_setting_id)id, err);
    for (uint32_t i = 0; i < cli_config_models.n && s.code == SPARK_OK; i++)
        s = spark_config_add_model(c, cli_config_models.item[i], err);
    for (uint32_t i = 0; i < cli_config_model_sets.n && s.code == SPARK_OK; i++)
        s = spark_config_set_model(c, cli_config_model_sets.item[i], err);
    return s;
}

/* What is served, and where, if nobody says: the embedded model, on a socket in the runtime directory and on loopback TCP. */
static spark_status config_defaults(spark_config *c, spark_err *err)
{
    char path[256] = "";
    const char *items[2] = {"tcp:127.0.0.1:8080", path}, *runtime = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
    spark_status s = {SPARK_OK};
    if (c->n_models == 0) s = spark_config_add_model(c, "demo=", err);
    if (s.code != SPARK_OK || c->listen.n) return s;
    if (runtime && *runtime) snprintf(path, sizeof path, "unix:%s/spark.sock", runtime);
    s = spark_config_add_flag(c, SPARK_SET_listen, items, path[0] ? 2 : 1, err);
    c->origin[SPARK_SET_listen].source = SPARK_FROM_DEFAULT;
    return s;
}

int cli_config_load(const char *command, spark_config **out)
{
    spark_config *c = NULL;
    spark_err err = {0};
    if (spark_config_create(&c, &err).code != SPARK_OK) return cli_fail(command, &err, NULL);
    int code = config_options_file(c);
    if (code == CLI_OK && spark_config_add_environment(c, environ, &err).code != SPARK_OK)
        code = cli_usage(command, "%s", err.text);
    if (code == CLI_OK && config_options_flags(c, &err).code != SPARK_OK) code = cli_usage(command, "%s", err.text);
    if (code == CLI_OK && config_defaults(c, &err).code != SPARK_OK) code = config_fail(command, &err, NULL);
    if (code == CLI_OK && spark_config_finish(c, &err).code != SPARK_OK)
        code = config_fail(err.line && c->path ? c->path : command, &err, NULL);
    if (code != CLI_OK) {
        spark_config_destroy(&c);
        return code;
    }
    *out = c;
    return CLI_OK;
}

char *cli_config_named(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t len = strlen(base);
    if (len > 5 && strcmp(base + len - 5, ".gguf") == 0) len -= 5;
    if (len > SPARK_MAX_SERVED_NAME) len = SPARK_MAX_SERVED_NAME;
    char *text = malloc(len + strlen(path) + 2);
    if (!text) return NULL;
    for (size_t i = 0; i < len; i++) {
        const char c = base[i];
        const bool ok = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        text[i] = ok || strchr("._:@+-", c) ? c : '-';
    }
    text[len] = '=';
    memcpy(text + len + 1, path, strlen(path) + 1);
    return text;
}
