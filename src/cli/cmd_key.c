/* cmd_key.c - spark key: API keys of the service. A key is printed once; the file keeps its hash. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "serve/config_time.h"
#include "serve/keys_file.h"

static const char *key_file, *key_name, *key_tenant, *key_priority, *key_expires;
static cli_texts key_models, key_routes;
static uint32_t key_rpm, key_tpm, key_context, key_parallel;
static bool key_json, key_metrics, key_admin, key_dry_run;

static const cli_option key_options[] = {
    {"--keys", CLI_TEXT, &key_file, "FILE", "the key file (also: SPARK_KEYS); 'new' makes it", 0, 0, NULL},
    {"--json", CLI_FLAG, &key_json, NULL, "print one JSON object", 0, 0, NULL},
    {"--name", CLI_TEXT, &key_name, "NAME", "new: whose key it is, for people (default: its id)", 0, 0, NULL},
    {"--model", CLI_TEXTS, &key_models, "NAME", "new: a model it may use (several; default: every one)", 0, 0, NULL},
    {"--route", CLI_TEXTS, &key_routes, "KIND", "new: what it may do (several; default: all of these)", 0, 0,
     "generate|tokenize|models|embed"},
    {"--requests-per-minute", CLI_U32, &key_rpm, "N", "new: at most N requests a minute (0: no limit)", 0, 50000000,
     NULL},
    {"--tokens-per-minute", CLI_U32, &key_tpm, "N", "new: at most N tokens a minute, prompt and answer (0: no limit)",
     0, 50000000, NULL},
    {"--max-context", CLI_U32, &key_context, "N", "new: at most N tokens in one request (0: no limit)", 0, 16777216,
     NULL},
    {"--max-parallel", CLI_U32, &key_parallel, "N", "new: at most N requests at once (0: no limit)", 0, 65536, NULL},
    {"--priority", CLI_TEXT, &key_priority, "N", "new: higher goes first, -1000 to 1000 (default 0)", 0, 0, NULL},
    {"--tenant", CLI_TEXT, &key_tenant, "NAME", "new: keys of one tenant share a prefix cache (default: alone)", 0, 0,
     NULL},
    {"--metrics", CLI_FLAG, &key_metrics, NULL, "new: may read /metrics and /spark/live", 0, 0, NULL},
    {"--admin", CLI_FLAG, &key_admin, NULL, "new: may unload models (keep_alive 0)", 0, 0, NULL},
    {"--expires", CLI_TEXT, &key_expires, "WHEN", "new: 90d, 12h, 2027-01-31, 2027-01-31T12:00:00Z or never (default)",
     0, 0, NULL},
    {"--dry-run", CLI_FLAG, &key_dry_run, NULL, "prune: tell what would go, and change nothing", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static const char *key_path(void)
{
    const char *variable = getenv("SPARK_KEYS");
    return key_file ? key_file : variable && *variable ? variable : NULL;
}

static int key_fail(const char *path, const spark_err *err)
{
    const int code = cli_fail(path, err, NULL);
    return err->code == SPARK_E_ARGUMENT ? CLI_USAGE : code;
}

static const char *key_state(const spark_key *k, int64_t now)
{
    return !spark_key_is_over(k, now) ? "valid" : k->revoked ? "revoked" : "expired";
}

static spark_status key_read(const char *path, spark_keys **out, spark_err *err)
{
    uint8_t *file = NULL;
    size_t len = 0;
    SPARK_TRY(spark_keys_read_file(path, &file, &len, err));
    const spark_status s = spark_keys_parse(out, (spark_bytes){file, len}, err);
    free(file);
    return s;
}

/* ---- New ---- */

/* "90d", "12h", a day or a time; false: it is none, or past. */
static bool key_read_expiry(const char *text, int64_t now, int64_t *out)
{
    const size_t digits = strspn(text, "0123456789");
    if (strcmp(text, "never") == 0) {
        *out = 0;
        return true;
    }
    if (digits > 0 && digits < 7 && (strcmp(text + digits, "d") == 0 || strcmp(text + digits, "h") == 0)) {
        *out = now + strtol(text, NULL, 10) * (text[digits] == 'd' ? 86400 : 3600);
        return *out > now && *out <= SPARK_TIME_MAX;
    }
    return spark_time_read(text, out) && *out > now;
}

static bool key_read_priority(const char *text, int32_t *out)
{
    char *end = NULL;
    const size_t minus = *text == '-', len = strlen(text + minus);
    if (len == 0 || len > 4 || strspn(text + minus, "0123456789") != len) return false;
    *out = (int32_t)strtol(text, &end, 10);
    return *out >= -1000 && *out <= 1000;
}

static int key_read_wish(spark_key_wish *w, int64_t now)
{
    spark_key_wish_defaults(w);
    if (key_routes.n) w->routes = 0;
    for (uint32_t i = 0; i < key_routes.n; i++) {
        uint32_t c = 0;
        while (c < SPARK_ROUTE_METRICS && strcmp(key_routes.item[i], spark_route_class_name((spark_route_class)c)) != 0)
            c++;
        if (c == SPARK_ROUTE_METRICS)
            return cli_usage("key", "--route is one of generate, tokenize, models, embed, not '%s'",
                             key_routes.item[i]);
        w->routes |= 1u << c;
    }
    if (key_metrics) w->routes |= 1u << SPARK_ROUTE_METRICS;
    if (key_admin) w->routes |= 1u << SPARK_ROUTE_ADMIN;
    if (key_expires && !key_read_expiry(key_expires, now, &w->expires))
        return cli_usage("key",
                         "--expires is 90d, 12h, a day or time to come (2027-01-31T12:00:00Z) or never, not '%s'",
                         key_expires);
    if (key_priority && !key_read_priority(key_priority, &w->priority))
        return cli_usage("key", "--priority is a whole number from -1000 to 1000, not '%s'", key_priority);
    w->name = key_name;
    w->models = key_models.item;
    w->n_models = key_models.n;
    w->requests_per_minute = key_rpm;
    w->tokens_per_minute = key_tpm;
    w->max_context = key_context;
    w->max_parallel = key_parallel;
    w->tenant = key_tenant;
    return CLI_OK;
}

static void key_put_time(cli_out *o, const char *name, int64_t s)
{
    char text[32];
    spark_time_write(s, -1, text);
    cli_putf(o, s ? "\"%s\":\"%s\"" : "\"%s\":null", name, text);
}

/* The key alone goes to stdout: `KEY=$(spark key new ...)`. */
static int key_print_new(const char *text, const char *path, const spark_key_wish *w)
{
    cli_out o = {0};
    if (key_json) {
        cli_putf(&o, "{\"id\":\"%.*s\",\"key\":\"%s\",", SPARK_KEY_ID, text + 9, text);
        key_put_time(&o, "expires", w->expires);
        cli_putf(&o, ",\"file\":");
        cli_put_json(&o, path, strlen(path));
        cli_putf(&o, "}\n");
    } else {
        cli_putf(&o, "%s\n", text);
    }
    int code = cli_write(o.ptr, o.len);
    if (code == CLI_OK) code = cli_flush();
    explicit_bzero(o.ptr, o.len);
    cli_out_free(&o);
    if (code != CLI_OK)
        cli_note("the key %.*s is in the file but could not be shown: revoke it", SPARK_KEY_ID, text + 9);
    else
        cli_note("key %.*s is in %s; it is shown this once. A running server takes it on SIGHUP", SPARK_KEY_ID,
                 text + 9, path);
    return code;
}

/* A name that a valid key has already: both work from now on, and the name alone revokes neither. */
static void key_warn_name(const char *path, int64_t now)
{
    spark_keys *k = NULL;
    if (!key_name || key_read(path, &k, NULL).code != SPARK_OK) return; /* none yet; or 'new' tells */
    for (uint32_t i = 0; i < spark_keys_count(k); i++) {
        const spark_key *key = spark_keys_at(k, i);
        if (strcmp(key->name, key_name) != 0 || spark_key_is_over(key, now)) continue;
        cli_note("key %s has this name too; it stays valid, and each is revoked by its id", key->id);
        break;
    }
    spark_keys_destroy(&k);
}

static int key_run_new(const char *path)
{
    const int64_t now = time(NULL);
    spark_key_wish w;
    spark_err err = {0};
    char text[SPARK_KEY_TEXT + 1];
    int code = key_read_wish(&w, now);
    if (code != CLI_OK) return code;
    key_warn_name(path, now);
    if (spark_key_new(path, &w, now, text, &err).code != SPARK_OK) return key_fail(path, &err);
    code = key_print_new(text, path, &w);
    explicit_bzero(text, sizeof text);
    return code;
}

/* ---- List ---- */

static void key_put_models(cli_out *o, const spark_key *k)
{
    for (uint32_t i = 0; i < k->n_models; i++) {
        if (i) cli_put(o, ",", 1);
        cli_put_json(o, k->models[i], strlen(k->models[i]));
    }
}

static void key_put_routes(cli_out *o, const spark_key *k, const char *quote)
{
    const char *before = "";
    for (uint32_t c = 0; c < SPARK_N_ROUTE_CLASSES; c++) {
        if (!spark_key_allows_route(k, (spark_route_class)c)) continue;
        cli_putf(o, "%s%s%s%s", before, quote, spark_route_class_name((spark_route_class)c), quote);
        before = ",";
    }
}

static void key_put_json(cli_out *o, const spark_key *k, int64_t now)
{
    cli_putf(o, "{\"id\":\"%s\",\"name\":", k->id);
    cli_put_json(o, k->name, strlen(k->name));
    cli_putf(o, ",\"state\":\"%s\",", key_state(k, now));
    key_put_time(o, "created", k->created);
    cli_put(o, ",", 1);
    key_put_time(o, "expires", k->expires);
    cli_put(o, ",", 1);
    key_put_time(o, "revoked", k->revoked);
    cli_putf(o, ",\"models\":");
    if (k->n_models) cli_put(o, "[", 1);
    key_put_models(o, k);
    cli_putf(o, "%s,\"routes\":[", k->n_models ? "]" : "null");
    key_put_routes(o, k, "\"");
    cli_putf(o,
             "],\"requests_per_minute\":%u,\"tokens_per_minute\":%u,\"max_context\":%u,\"max_parallel\":%u,"
             "\"priority\":%d,\"tenant\":",
             k->requests_per_minute, k->tokens_per_minute, k->max_context, k->max_parallel, k->priority);
    if (k->tenant_name)
        cli_put_json(o, k->tenant_name, strlen(k->tenant_name));
    else
        cli_put(o, "null", 4);
    cli_put(o, "}", 1);
}

static void key_put_limit(cli_out *o, const char *name, uint32_t n)
{
    if (n) cli_putf(o, " %s=%u", name, n);
}

static void key_put_line(cli_out *o, const spark_key *k, int64_t now)
{
    char expires[32] = "never";
    if (k->expires) spark_time_write(k->expires, -1, expires);
    cli_putf(o, "%s  %-7s  expires %-20s  ", k->id, key_state(k, now), expires);
    cli_put_json(o, k->name, strlen(k->name));
    cli_putf(o, "  routes=");
    key_put_routes(o, k, "");
    cli_putf(o, k->n_models ? " models=" : " models=*");
    key_put_models(o, k);
    key_put_limit(o, "requests_per_minute", k->requests_per_minute);
    key_put_limit(o, "tokens_per_minute", k->tokens_per_minute);
    key_put_limit(o, "max_context", k->max_context);
    key_put_limit(o, "max_parallel", k->max_parallel);
    if (k->priority) cli_putf(o, " priority=%d", k->priority);
    if (k->tenant_name) {
        cli_putf(o, " tenant=");
        cli_put_json(o, k->tenant_name, strlen(k->tenant_name));
    }
    cli_put(o, "\n", 1);
}

/* All keys, or those that are over: a line for each, or an object of which `more` is the end. */
static int key_print(const spark_keys *k, int64_t now, bool over_only, const char *more)
{
    cli_out o = {0};
    bool first = true;
    if (key_json) cli_putf(&o, "{\"keys\":[");
    for (uint32_t i = 0; i < spark_keys_count(k); i++) {
        const spark_key *key = spark_keys_at(k, i);
        if (over_only && !spark_key_is_over(key, now)) continue;
        if (key_json && !first) cli_put(&o, ",", 1);
        if (key_json)
            key_put_json(&o, key, now);
        else
            key_put_line(&o, key, now);
        first = false;
    }
    if (key_json) cli_putf(&o, "]%s}\n", more);
    const int code = cli_write(o.ptr, o.len);
    cli_out_free(&o);
    return code;
}

static int key_run_list(const char *path)
{
    spark_err err = {0};
    spark_keys *k = NULL;
    if (key_read(path, &k, &err).code != SPARK_OK) return key_fail(path, &err);
    const int code = key_print(k, time(NULL), false, "");
    spark_keys_destroy(&k);
    return code;
}

/* ---- Those that are over ---- */

static int key_run_revoke(const char *path, const char *which)
{
    spark_err err = {0};
    char id[SPARK_KEY_ID + 1];
    if (spark_key_revoke(path, which, time(NULL), id, &err).code != SPARK_OK) return key_fail(path, &err);
    if (key_json) printf("{\"id\":\"%s\",\"revoked\":true}\n", id);
    cli_note("key %s is revoked in %s; a running server learns it on SIGHUP", id, path);
    return CLI_OK;
}

static int key_run_prune(const char *path)
{
    const int64_t now = time(NULL);
    spark_err err = {0};
    spark_keys *k = NULL;
    uint32_t n = 0;
    const spark_status s = key_dry_run ? key_read(path, &k, &err) : spark_key_prune(path, now, &k, &err);
    if (s.code != SPARK_OK) return key_fail(path, &err);
    for (uint32_t i = 0; i < spark_keys_count(k); i++) n += spark_key_is_over(spark_keys_at(k, i), now);
    const int code = key_print(k, now, true, key_dry_run ? ",\"dry_run\":true" : ",\"dry_run\":false");
    if (n == 0)
        cli_note("no key in %s is revoked or expired", path);
    else
        cli_note("%u key%s %s out of %s", n, n == 1 ? "" : "s", key_dry_run ? "would go" : "went", path);
    spark_keys_destroy(&k);
    return code;
}

/* Options that say what a new key may do mean nothing to the others. */
static bool key_has_wish(void)
{
    return key_name || key_tenant || key_priority || key_expires || key_models.n || key_routes.n || key_rpm ||
           key_tpm || key_context || key_parallel || key_metrics || key_admin;
}

static int key_run(const cli_args *args)
{
    const char *act = args->n ? args->item[0] : "", *path = key_path();
    const bool is_new = strcmp(act, "new") == 0, is_list = strcmp(act, "list") == 0,
               is_revoke = strcmp(act, "revoke") == 0, is_prune = strcmp(act, "prune") == 0;
    if (!is_new && !is_list && !is_revoke && !is_prune)
        return cli_usage("key", "new, list, revoke or prune is expected");
    if (args->n != (is_revoke ? 2u : 1u))
        return cli_usage("key", is_revoke ? "revoke takes one ID or NAME" : "%s takes no arguments", act);
    if (!path) return cli_usage("key", "--keys FILE is needed");
    if (!is_new && key_has_wish()) return cli_usage("key", "only 'new' takes options that say what a key may do");
    if (!is_prune && key_dry_run) return cli_usage("key", "only 'prune' takes --dry-run");
    spark_keys_warm();
    if (is_revoke) return key_run_revoke(path, args->item[1]);
    return is_new ? key_run_new(path) : is_list ? key_run_list(path) : key_run_prune(path);
}

const cli_command cli_command_key = {
    .name = "key",
    .args = "new|list|revoke|prune [ID|NAME]",
    .summary = "make, list, revoke and prune API keys of the service",
    .details = "A new key is printed once, alone on standard output; the file keeps its hash and what it may do. The "
               "file is changed\n"
               "whole or not at all, and must be readable by its owner only. docs/KEYS.md tells its form. 'prune' "
               "takes revoked "
               "and\n"
               "expired keys out of it and prints them; whoever still presents one is then a stranger to the service.",
    .examples = "spark key new --keys keys --name ward-7 --model demo --requests-per-minute 60 --expires 90d\n"
                "spark key list --keys keys\n"
                "spark key revoke --keys keys ward-7\n"
                "spark key prune --keys keys --dry-run",
    .options = key_options,
    .run = key_run,
};
