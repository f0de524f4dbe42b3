/* cmd_serve.c - spark serve: settings from four sources, then the warden. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli_config.h"
#include "serve/keys_file.h"
#include "serve/sockets.h"
#include "serve/warden.h"

static const cli_option serve_options[] = {
    CLI_CONFIG_OPTIONS{NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

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
    w.routes |= 1u << SPARK_ROUTE_METRICS | 1u << SPARK_ROUTE_ADMIN; /* whoever starts the service has it */
    return spark_ok(spark_key_mint(&w, time(NULL), serve_key, file, len, &err)) ? CLI_OK
                                                                                : cli_fail("serve", &err, NULL);
}

/* A curl line for one address, ready to paste where this run made a key and asks for no certificate of the client. An address that means "every" is asked as localhost, which a
 * certificate may name. */
static void serve_print_try(const spark_config *c, const spark_listen *l)
{
    const bool tells_stories = c->models[0].file == NULL; /* the embedded model has no chat template */
    const bool every = strcmp(l->host, "0.0.0.0") == 0 || strcmp(l->host, "::") == 0, v6 = strchr(l->host, ':') != NULL;
    const char *key = serve_key[0] ? serve_key : c->keys ? "$KEY" : "", *quote = serve_key[0] ? "'" : "\"";
    char host[64], auth[128] = "";
    snprintf(host, sizeof host, "%s%s%s", v6 && !every ? "[" : "", every ? "localhost" : l->host,
             v6 && !every ? "]" : "");
    if (key[0]) snprintf(auth, sizeof auth, " -H %sAuthorization: Bearer %s%s", quote, key, quote);
    if (c->tls_client_ca)
        cli_note("clients need a certificate signed by %s: the next line takes it from the file $CERT, its key from "
                 "$CERT_KEY",
                 c->tls_client_ca);
    cli_note("try: curl %s%s%s%s%s://%s:%u/v1/%scompletions%s -H 'Content-Type: application/json' -d "
             "'{\"model\":\"%s\",%s}'",
             c->tls_cert ? "--cacert '" : "", c->tls_cert ? c->tls_cert : "", c->tls_cert ? "' " : "",
             c->tls_client_ca ? "--cert \"$CERT\" --key \"$CERT_KEY\" " : "", c->tls_cert ? "https" : "http", host,
             l->port, tells_stories ? "" : "chat/", auth, c->models[0].name,
             tells_stories ? "\"prompt\":\"Once upon a time\",\"max_tokens\":60"
                           : "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]");
    explicit_bzero(auth, sizeof auth);
}

static void serve_banner(const spark_config *c)
{
    const spark_listen *open = NULL; /* the first that curl can reach */
    bool proxied = false;
    for (uint32_t i = 0; i < c->listen.n; i++) {
        const spark_listen *l = &c->listens[i];
        if (l->path) {
            cli_note("listening on %s", l->text);
            continue;
        }
        const bool v6 = strchr(l->host, ':') != NULL;
        cli_note("listening on %s://%s%s%s:%u", c->tls_cert ? "https" : "http", v6 ? "[" : "", l->host, v6 ? "]" : "",
                 l->port);
        if (spark_config_proxied(c, l))
            proxied = true;
        else if (!open)
            open = l;
    }
    if (serve_key[0]) cli_note("a key for this run, shown once: %s", serve_key);
    if (open)
        serve_print_try(c, open);
    else if (proxied)
        cli_note("no line to try: proxies alone connect here (--proxy), and curl does not speak their PROXY protocol "
                 "v2; ask "
                 "through one");
    explicit_bzero(serve_key, sizeof serve_key);
}

/* What was meant by arguments, as it has to be written. */
static int serve_explain(const cli_args *args)
{
    spark_listen l;
    cli_out o = {0};
    char address[80];
    snprintf(address, sizeof address, "tcp:%.70s", args->item[0]);
    if (spark_ok(spark_listen_parse(args->item[0], &l, NULL)) || spark_ok(spark_listen_parse(address, &l, NULL)))
        return cli_usage("serve", "'%s' is no option: --listen %s", args->item[0], l.text);
    for (uint32_t i = 0; i < args->n; i++) {
        char *named = cli_config_named(args->item[i]);
        if (!named) {
            cli_out_free(&o);
            return cli_no_memory("serve");
        }
        const char *quote = strpbrk(named, " \t'\"\\$`*?[](){}<>|&;#!~") ? "'" : "";
        cli_putf(&o, " --model %s", quote);
        for (const char *p = named; *p; p++) cli_put(&o, *p == '\'' ? "'\\''" : p, *p == '\'' ? 4 : 1);
        cli_putf(&o, "%s", quote);
        free(named);
    }
    const int code = cli_usage("serve", "models are given by name: spark serve%.*s", (int)o.len, o.ptr);
    cli_out_free(&o);
    return code;
}

static int serve_run(const cli_args *args)
{
    spark_config *c = NULL;
    spark_err err = {0};
    uint8_t *keys = NULL;
    size_t len = 0;
    if (args->n) return serve_explain(args);
    int code = cli_config_load("serve", &c);
    if (code == CLI_OK && !spark_ok(spark_config_inherit(c, &err))) code = cli_fail("serve", &err, NULL);
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
