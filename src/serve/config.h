/* config.h - every setting of `spark serve`: one table, four sources.
 * Nouns:   spark_config, all settings with their values and where each came from; spark_setting, a row of the table.
 * Promise: flag > environment > file > default, whatever the order of the calls. Nothing is ignored: an unknown name, a second value, a
 *          value out of range is an error that names the place (line and column, variable or flag) and the nearest known name. A value
 *          that another source overrides is checked all the same.
 * Not here: opening files, reading the environment by itself. Threads: one until it is finished, then any number of readers.
 *
 * The text form is config_text.h's: `name = value`, then `[model NAME]` headings with what differs for one model. */
#ifndef SPARK_SERVE_CONFIG_H
#define SPARK_SERVE_CONFIG_H

#include "base/spark_limits.h"
#include "serve/config_net.h"

typedef struct spark_config_list {
    const char *const *item;
    uint32_t n;
} spark_config_list;

typedef enum spark_setting_kind {
    SPARK_SETTING_BOOL,    /* yes, no (on, off, true, false) */
    SPARK_SETTING_U32,     /* 42 */
    SPARK_SETTING_SIZE,    /* bytes: 4096, 512M, 6G (powers of 1024) */
    SPARK_SETTING_MS,      /* milliseconds: 500ms, 30s, 5m, 2h; a plain number is milliseconds */
    SPARK_SETTING_SECONDS, /* milliseconds too; a plain number is seconds */
    SPARK_SETTING_CHOICE,  /* index into `choices` */
    SPARK_SETTING_TEXT,    /* NULL = not set */
    SPARK_SETTING_LIST
} spark_setting_kind;

#define SPARK_SETTING_TYPE_BOOL    bool
#define SPARK_SETTING_TYPE_U32     uint32_t
#define SPARK_SETTING_TYPE_SIZE    uint64_t
#define SPARK_SETTING_TYPE_MS      uint64_t
#define SPARK_SETTING_TYPE_SECONDS uint64_t
#define SPARK_SETTING_TYPE_CHOICE  uint32_t
#define SPARK_SETTING_TYPE_TEXT    const char *
#define SPARK_SETTING_TYPE_LIST    spark_config_list

#define SPARK_FOREVER UINT64_MAX /* of a time whose row allows "forever" (its max) */

/* The table: name, kind, flag, how help names its value, default, min, max, choices, help.
 * The variable of `itl_target` is SPARK_ITL_TARGET, and so on. The flag of a BOOL takes no value and turns it from its default. The flag
 * of a LIST gives one item and may come again; a list from a higher source replaces the one from a lower.
 * The rows of the first group also stand under [model NAME]; there they count for that model alone. */
#define SPARK_MODEL_SETTINGS(X)                                                                                        \
    X(ctx, U32, "--ctx", "N", "0", 0, 16777216, NULL, "context of a request in tokens; 0: the model's, at most 4096")  \
    X(kv, CHOICE, "--kv", "TYPE", "f16", 0, 0, "f16|f32|q8_0", "how keys and values are stored")                       \
    X(threads, U32, "--threads", "N", "0", 0, 256, NULL, "threads that compute; 0: every CPU the process may use")     \
    X(parallel, U32, "--parallel", "N", "16", 1, 4096, NULL, "requests that decode at once")                           \
    X(queue, U32, "--queue", "N", "256", 0, 4096, NULL, "requests that may wait beside them; more get 429")            \
    X(load, CHOICE, "--load", "WHEN", "start", 0, 0, "start|use", "load a model at start, or on first use")            \
    X(keep_alive, SECONDS, "--keep-alive", "TIME", "5m", 0, SPARK_FOREVER, NULL,                                       \
      "how long a model loaded on use stays without requests; 'forever'")                                              \
    X(public_prefix, TEXT, "--public-prefix", "FILE", "", 0, 0, NULL,                                                  \
      "a system prompt whose keys and values all tenants share")                                                       \
    X(prefix_cache, BOOL, "--no-prefix-cache", NULL, "yes", 0, 0, NULL,                                                \
      "keys and values of earlier prompts are kept for later ones of the same tenant; the flag ends that")

#define SPARK_SERVER_SETTINGS(X)                                                                                       \
    X(listen, LIST, "--listen", "WHERE", "", 0, 0, NULL,                                                               \
      "unix:PATH or tcp:HOST:PORT; none: a socket in the runtime directory and tcp:127.0.0.1:8080")                    \
    X(keys, TEXT, "--keys", "FILE", "", 0, 0, NULL, "API keys, as 'spark key' writes them")                            \
    X(no_auth, BOOL, "--no-auth", NULL, "no", 0, 0, NULL, "loopback TCP needs no key; Host and Origin are checked")    \
    X(allowed_hosts, LIST, "--allowed-host", "HOST", "", 0, 0, NULL,                                                   \
      "values of Host accepted beside localhost and the addresses listened on")                                        \
    X(cors, LIST, "--cors", "ORIGIN", "", 0, 0, NULL, "pages of these origins may ask (https://app.example)")          \
    X(tls, CHOICE, "--tls", "WHAT", "on", 0, 0, "on|off", "off: said aloud that TCP beyond loopback goes without TLS") \
    X(tls_cert, TEXT, "--tls-cert", "FILE", "", 0, 0, NULL, "certificate chain, PEM")                                  \
    X(tls_key, TEXT, "--tls-key", "FILE", "", 0, 0, NULL, "its private key, PEM")                                      \
    X(tls_client_ca, TEXT, "--tls-client-ca", "FILE", "", 0, 0, NULL, "clients must show a certificate of this CA")    \
    X(proxies, LIST, "--proxy", "ADDRESS", "", 0, 0, NULL,                                                             \
      "proxies (10.0.0.0/8) that speak PROXY protocol v2; never locked out")                                           \
    X(page, BOOL, "--page", NULL, "no", 0, 0, NULL, "serve the page at /")                                             \
    X(memory, SIZE, "--memory", "SIZE", "0", 0, 1ull << 50, NULL,                                                      \
      "budget of everything together; 0: what the plan takes")                                                         \
    X(itl_target, MS, "--itl-target", "MS", "0", 0, 60000, NULL,                                                       \
      "time between tokens beside prompts; 0: long ones slow it by half, short ones go at once")                       \
    X(request_timeout, SECONDS, "--request-timeout", "TIME", "0", 0, 86400000, NULL,                                   \
      "a request that is not done by then fails; 0: no bound")                                                         \
    X(drain_timeout, SECONDS, "--drain-timeout", "S", "30s", 0, 3600000, NULL,                                         \
      "how long requests may finish after SIGTERM")                                                                    \
    X(watchdog, SECONDS, "--watchdog", "TIME", "60s", 0, 3600000, NULL,                                                \
      "a process that does not answer for so long is ended and started again; 0: never")                               \
    X(jail, CHOICE, "--jail", "LEVEL", "strict", 0, 0, "strict|standard|off", "less than this is refused")             \
    X(cpu, TEXT, "--cpu", "LEVEL", "", 0, 0, NULL, "highest CPU level to use; results are the same on all")            \
    X(log_level, CHOICE, "--log-level", "LEVEL", "info", 0, 0, "error|warn|info|debug", "what is logged")              \
    X(log_format, CHOICE, "--log-format", "FORM", "auto", 0, 0, "auto|json|text",                                      \
      "auto: text on a terminal, else JSON lines")                                                                     \
    X(log_prompts, BOOL, "--log-prompts", NULL, "no", 0, 0, NULL, "logs hold prompts and answers, 16 KiB of each")     \
    X(max_connections, U32, "--max-connections", "N", "10000", 1, 1000000, NULL, "connections at once")                \
    X(max_per_address, U32, "--max-per-address", "N", "0", 0, 1000000, NULL, "of one address; 0: no bound of its own") \
    X(max_head, SIZE, "--max-head", "SIZE", "32K", 1024, 1u << 20, NULL, "bytes of request line and headers")          \
    X(max_headers, U32, "--max-headers", "N", "100", 8, 1000, NULL, "headers of a request")                            \
    X(max_url, SIZE, "--max-url", "SIZE", "8K", 64, 65536, NULL, "bytes of a request's target")                        \
    X(max_body, SIZE, "--max-body", "SIZE", "4M", 1024, 1u << 30, NULL, "bytes of a request's body")                   \
    X(max_bodies, SIZE, "--max-bodies", "SIZE", "256M", 1024, 1ull << 40, NULL,                                        \
      "bytes of all bodies together, and of what they are parsed into")                                                \
    X(max_replies, SIZE, "--max-replies", "SIZE", "64M", 1u << 20, 1ull << 40, NULL,                                   \
      "bytes of all answers together, until their readers have them")                                                  \
    X(max_backlog, SIZE, "--max-backlog", "SIZE", "256K", 4096, 1u << 30, NULL,                                        \
      "bytes of an answer that its reader has not taken")                                                              \
    X(head_timeout, SECONDS, "--head-timeout", "TIME", "10s", 100, 3600000, NULL, "for a whole head")                  \
    X(body_timeout, SECONDS, "--body-timeout", "TIME", "60s", 100, 3600000, NULL, "for a whole body")                  \
    X(idle_timeout, SECONDS, "--idle-timeout", "TIME", "75s", 100, 86400000, NULL,                                     \
      "between two requests of a connection")                                                                          \
    X(write_timeout, SECONDS, "--write-timeout", "TIME", "60s", 100, 3600000, NULL, "for a reader that takes nothing") \
    X(min_body_rate, SIZE, "--min-body-rate", "SIZE", "1K", 0, 1u << 30, NULL,                                         \
      "bytes a second of a body (after 5 s) and of a reader of what waits; 0: no bound")

#define SPARK_ALL_SETTINGS(X) SPARK_MODEL_SETTINGS(X) SPARK_SERVER_SETTINGS(X)

typedef enum spark_setting_id {
#define SPARK_SETTING_ID(name, ...) SPARK_SET_##name,
    SPARK_ALL_SETTINGS(SPARK_SETTING_ID)
#undef SPARK_SETTING_ID
        SPARK_N_SETTINGS
} spark_setting_id;

enum {
#define SPARK_SETTING_ID(name, ...) SPARK_MODEL_SET_##name,
    SPARK_MODEL_SETTINGS(SPARK_SETTING_ID)
#undef SPARK_SETTING_ID
        SPARK_N_MODEL_SETTINGS
};

enum { SPARK_LOAD_AT_START = 0 }; /* the first choice of the setting `load` */

typedef struct spark_setting {
    const char *name;
    spark_setting_kind kind;
    const char *flag, *arg, *fallback; /* fallback: the default, as it would be written */
    uint64_t min, max;
    const char *choices, *help;
} spark_setting;
extern const spark_setting spark_settings[SPARK_N_SETTINGS];

/* Lowest first: a value replaces one of its own or a lower source. */
typedef enum spark_setting_source {
    SPARK_FROM_DEFAULT,
    SPARK_FROM_GENERAL,
    SPARK_FROM_FILE,
    SPARK_FROM_ENVIRONMENT,
    SPARK_FROM_FLAG
} spark_setting_source;

typedef struct spark_origin {
    spark_setting_source source; /* GENERAL: of a model, the value that counts for all models */
    uint32_t line;               /* FILE */
} spark_origin;

#define SPARK_SETTING_FIELD(name, kind, ...) SPARK_SETTING_TYPE_##kind name;

typedef struct spark_config_model {
    const char *name;
    const char *file; /* NULL = the embedded model */
    SPARK_MODEL_SETTINGS(SPARK_SETTING_FIELD)
    spark_origin file_origin, origin[SPARK_N_MODEL_SETTINGS];
    uint32_t line; /* of its heading, 0 = none */
} spark_config_model;

typedef struct spark_config {
    SPARK_ALL_SETTINGS(SPARK_SETTING_FIELD)
    spark_origin origin[SPARK_N_SETTINGS];
    const char *path; /* of the file that was read, or NULL */
    uint32_t n_models;
    spark_config_model models[SPARK_MAX_SERVED];
    spark_listen listens[SPARK_MAX_SETTING_LIST];  /* [listen.n], after finish */
    spark_net_range proxy[SPARK_MAX_SETTING_LIST]; /* [proxies.n], after finish */
    spark_arena *arena;
} spark_config;

/* All defaults. Everything that is later added is copied into its arena. */
SPARK_MUST_CHECK spark_status spark_config_create(spark_config **out, spark_err *err);
void spark_config_destroy(spark_config **c);

/* The settings of a file, once; `path` names it in `config show`. */
SPARK_MUST_CHECK spark_status spark_config_add_file(spark_config *c, spark_bytes text, const char *path,
                                                    spark_err *err);
/* Every SPARK_* variable of an environment ("NAME=value", NULL at the end). Lists are written as in the file. */
SPARK_MUST_CHECK spark_status spark_config_add_environment(spark_config *c, char *const *environment, spark_err *err);
/* What a flag gave: one value, or the items of a list in their order. */
SPARK_MUST_CHECK spark_status spark_config_add_flag(spark_config *c, spark_setting_id id, const char *const *items,
                                                    uint32_t n, spark_err *err);
/* --model NAME=FILE (FILE empty: the embedded model) and --model-set NAME.SETTING=VALUE, of a model that is named before finish. */
SPARK_MUST_CHECK spark_status spark_config_add_model(spark_config *c, const char *text, spark_err *err);
SPARK_MUST_CHECK spark_status spark_config_set_model(spark_config *c, const char *text, spark_err *err);

/* After the last source: models take what holds for all of them; addresses are read; what does not fit together is refused, and a model
 * that nobody gave a file (but for `demo`): its name is a typing mistake. E_REFUSED: a policy forbids it (TCP beyond loopback without
 * keys or TLS). Once. */
SPARK_MUST_CHECK spark_status spark_config_finish(spark_config *c, spark_err *err);

/* Whether who connects there must speak PROXY protocol; of settings that are finished. */
bool spark_config_proxied(const spark_config *c, const spark_listen *l);

/* The variable of a setting: SPARK_ITL_TARGET. */
const char *spark_setting_variable(const spark_setting *s, char out[64]);
/* A value as it would be written in the file: quoted where needed, times and sizes in their largest whole unit. model NULL = the
 * general value. The result is in `a`. */
SPARK_MUST_CHECK spark_status spark_config_text(const spark_config *c, const spark_config_model *model,
                                                spark_setting_id id, spark_arena *a, const char **out, spark_err *err);
/* The same for any items. */
SPARK_MUST_CHECK spark_status spark_config_list_text(const spark_config_list *v, spark_arena *a, const char **out,
                                                     spark_err *err);
/* The unquoted items of it, for JSON. */
SPARK_MUST_CHECK spark_status spark_config_value(const spark_config *c, const spark_config_model *model,
                                                 spark_setting_id id, spark_arena *a, spark_config_list *out,
                                                 spark_err *err);

#endif
