/* cmd_serve.c - spark serve: settings from four sources, then the warden. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "serve/keys_file.h"
#include "serve/warden.h"

static bool serve_flags[SPARK_N_SETTINGS];
static const char *serve_texts[SPARK_N_SETTINGS];
static cli_texts serve_lists[SPARK_N_SETTINGS], serve_models, serve_model_sets;
static const char *serve_file;

#define SERVE_KIND_BOOL    CLI_FLAG
#define SERVE_KIND_U32     CLI_TEXT
#define SERVE_KIND_SIZE    CLI_TEXT
#define SERVE_KIND_MS      CLI_TEXT
#define SERVE_KIND_SECONDS CLI_TEXT
#define SERVE_KIND_CHOICE  CLI_TEXT
#define SERVE_KIND_TEXT    CLI_TEXT
#define SERVE_KIND_LIST    CLI_TEXTS

#define SERVE_VALUE_BOOL(name)    &serve_flags[SPARK_SET_##name]
#define SERVE_VALUE_U32(name)     &serve_texts[SPARK_SET_##name]
#define SERVE_VALUE_SIZE(name)    &serve_texts[SPARK_SET_##name]
#define SERVE_VALUE_MS(name)      &serve_texts[SPARK_SET_##name]
#define SERVE_VALUE_SECONDS(name) &serve_texts[SPARK_SET_##name]
#define SERVE_VALUE_CHOICE(name)  &serve_texts[SPARK_SET_##name]
#define SERVE_VALUE_TEXT(name)    &serve_texts[SPARK_SET_##name]
#define SERVE_VALUE_LIST(name)    &serve_lists[SPARK_SET_##name]

static const cli_option serve_options[] = {
    {"--model", CLI_TEXTS, &serve_models, "NAME=FILE",
     "a model and the name clients call it by (several); none: the model inside the program, as 'demo'", 0, 0, NULL},
    {"--model-set", CLI_TEXTS, &serve_model_sets, "NAME.SETTING=VALUE", "a setting for one model alone (several)", 0, 0,
     NULL},
    {"--config", CLI_TEXT, &serve_file, "FILE", "settings from a file; flags and SPARK_ variables go before it", 0, 0,
     NULL},
#define SERVE_OPTION(name, kind, flag, arg, fallback, min, max, choices, help)                                         \
    {flag, SERVE_KIND_##kind, SERVE_VALUE_##kind(name), arg, help, 0, 0, NULL},
    SPARK_ALL_SETTINGS(SERVE_OPTION)
#undef SERVE_OPTION
        {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

#define SERVE_TRY(what, call, err)                                                                                     \
    do {                                                                                                               \
        if (!spark_ok(call)) return cli_fail((what), (err), NULL);                                                     \
    } while (0)

/* ---- Settings ---- */

static spark_status serve_add_flags(spark_config *c, spark_err *err)
{
    for (uint32_t i = 0; i < SPARK_N_SETTINGS; i++) {
        const spark_setting *s = &spark_settings[i];
        const char *turned = strcmp(s->fallback, "yes") == 0 ? "no" : "yes";
        const spark_setting_id id = (spark_setting_id)i;
        if (serve_texts[i]) SPARK_TRY(spark_config_add_flag(c, id, &serve_texts[i], 1, err));
        if (serve_flags[i]) SPARK_TRY(spark_config_add_flag(c, id, &turned, 1, err));
        if (serve_lists[i].n) SPARK_TRY(spark_config_add_flag(c, id, serve_lists[i].item, serve_lists[i].n, err));
    }
    for (uint32_t i = 0; i < serve_models.n; i++) SPARK_TRY(spark_config_add_model(c, serve_models.item[i], err));
    for (uint32_t i = 0; i < serve_model_sets.n; i++)
        SPARK_TRY(spark_config_set_model(c, serve_model_sets.item[i], err));
    return SPARK_SUCCESS;
}

/* A socket in the runtime directory, and loopback TCP. */
static spark_status serve_default_listen(spark_config *c, spark_err *err)
{
    static char path[256];
    const char *items[2] = {"tcp:127.0.0.1:8080", path}, *runtime = getenv("XDG_RUNTIME_DIR");
    if (c->listen.n) return SPARK_SUCCESS;
    if (geteuid() == 0) runtime = "/run";
    if (runtime && *runtime) snprintf(path, sizeof path, "unix:%s/spark.sock", runtime);
    return spark_config_add_flag(c, SPARK_SET_listen, items, path[0] ? 2 : 1, err);
}

static int serve_settings(spark_config **out, spark_err *err)
{
    extern char **environ;
    cli_bytes file = {0};
    SERVE_TRY("serve", spark_config_create(out, err), err);
    if (serve_file) {
        if (!cli_read_file(serve_file, &file)) return CLI_FAILED;
        const spark_status s = spark_config_add_file(*out, (spark_bytes){(const uint8_t *)file.ptr, file.len},
                                                     serve_file, err);
        free(file.ptr);
        SERVE_TRY(serve_file, s, err);
    }
    SERVE_TRY("serve", spark_config_add_environment(*out, environ, err), err);
    SERVE_TRY("serve", serve_add_flags(*out, err), err);
    if ((*out)->n_models == 0) SERVE_TRY("serve", spark_config_add_model(*out, "demo=", err), err);
    SERVE_TRY("serve", serve_default_listen(*out, err), err);
    SERVE_TRY("serve", spark_config_finish(*out, err), err);
    return CLI_OK;
}

/* ---- A key for those who brought none ---- */

static char serve_key[SPARK_KEY_TEXT + 1];

static int serve_mint(const spark_config *c, uint8_t **file, size_t *len)
{
    spark_key_wish w;
    spark_err err = {0};
    bool tcp = false;
    for (uint32_t i = 0; i < c->listen.n; i++) tcp |= c->listens[i].path == NULL;
    if (c->keys || c->no_auth || !tcp) return CLI_OK;
    spark_key_wish_defaults(&w);
    w.name = "first";
    w.routes |= 1u << SPARK_ROUTE_METRICS;
    SERVE_TRY("serve", spark_key_mint(&w, time(NULL), serve_key, file, len, &err), &err);
    return CLI_OK;
}

/* Where it listens, and a line ready to paste. */
static void serve_banner(const spark_config *c)
{
    for (uint32_t i = 0; i < c->listen.n; i++) {
        const spark_listen *l = &c->listens[i];
        if (l->path) {
            cli_note("listening on %s", l->text);
            continue;
        }
        const bool v6 = strchr(l->host, ':') != NULL;
        const char *scheme = c->tls_cert ? "https" : "http";
        cli_note("listening on %s://%s%s%s:%u", scheme, v6 ? "[" : "", l->host, v6 ? "]" : "", l->port);
        if (i > 0 && c->listens[i - 1].path == NULL) continue;
        if (serve_key[0]) cli_note("a key for this run, shown once: %s", serve_key);
        cli_note("try: curl %s://%s%s%s:%u/v1/chat/completions%s%s%s -H 'Content-Type: application/json' -d "
                 "'{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'",
                 scheme, v6 ? "[" : "", l->host, v6 ? "]" : "", l->port,
                 serve_key[0] ? " -H 'Authorization: Bearer " : "", serve_key, serve_key[0] ? "'" : "",
                 c->models[0].name);
    }
    explicit_bzero(serve_key, sizeof serve_key);
}

static int serve_run(const cli_args *args)
{
    spark_config *c = NULL;
    spark_err err = {0};
    uint8_t *keys = NULL;
    size_t len = 0;
    if (args->n) return cli_usage("serve", "'%s' is no option; models are given by --model NAME=FILE", args->item[0]);
    int code = serve_settings(&c, &err);
    if (code == CLI_OK) code = serve_mint(c, &keys, &len);
    if (code == CLI_OK && !spark_ok(spark_warden_run(c, (spark_bytes){keys, len}, serve_banner, &code, &err)))
        code = cli_fail("serve", &err, NULL);
    if (keys) explicit_bzero(keys, len);
    free(keys);
    spark_config_destroy(&c);
    return code;
}

const cli_command cli_command_serve = {
    .name = "serve",
    .args = "",
    .summary = "serve models to many clients at once: OpenAI and Ollama APIs, each model in a cell of its own",
    .details =
        "Three kinds of process: the warden opens files and sockets, the front meets clients, one engine a model "
        "computes. None of\n"
        "the latter two can open anything ('spark jail' shows it). Without --keys a key is made for loopback TCP and "
        "printed once.\n"
        "Ready is when GET /health/ready answers 200. SIGTERM drains, SIGHUP reads keys and changed model files anew.",
    .examples =
        "spark serve --model chat=model.gguf\n"
        "spark serve --model a=one.gguf --model b=two.gguf --memory 12G --keys keys.txt\n"
        "spark serve --model m=model.gguf --listen tcp:0.0.0.0:8443 --keys keys.txt --tls-cert c.pem --tls-key k.pem",
    .options = serve_options,
    .run = serve_run,
};
