/* options.c - reading options from the tables of the commands. Every mistake names the option, the value and what is allowed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "serve/config_text.h"

static const cli_option *options_find(const cli_command *c, const char *name, size_t len)
{
    for (const cli_option *o = c->options; o->name; o++)
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0) return o;
    return NULL;
}

/* A decimal number that is the whole text. */
static bool options_integer(const char *text, uint64_t *out)
{
    char *end = NULL;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == 0;
}

static bool options_float(const char *text, double *out)
{
    char *end = NULL;
    if (!*text || strspn(text, "0123456789.eE+-") != strlen(text)) return false; /* no hex, nan, inf, spaces */
    errno = 0;
    *out = strtod(text, &end);
    return errno == 0 && *end == 0;
}

static int options_set_number(const cli_command *c, const cli_option *o, const char *text)
{
    uint64_t integer = 0;
    double real = 0;
    const bool whole = o->kind != CLI_F32;
    if (whole ? !options_integer(text, &integer) : !options_float(text, &real))
        return cli_usage(c->name, "%s takes a %snumber, not '%s'", o->name, whole ? "whole " : "", text);
    if (whole) real = (double)integer;
    if (o->kind != CLI_U64 && (real < o->min || real > o->max))
        return cli_usage(c->name, "%s is %s: %.12g to %.12g is allowed", o->name, text, o->min, o->max);
    if (o->kind == CLI_U32)
        *(uint32_t *)o->value = (uint32_t)integer;
    else if (o->kind == CLI_U64)
        *(uint64_t *)o->value = integer;
    else
        *(float *)o->value = (float)real;
    return CLI_OK;
}

static int options_set_choice(const cli_command *c, const cli_option *o, const char *text)
{
    uint32_t index = 0;
    for (const char *at = o->choices; *at; index++) {
        const size_t len = strcspn(at, "|");
        if (strlen(text) == len && memcmp(at, text, len) == 0) {
            *(uint32_t *)o->value = index;
            return CLI_OK;
        }
        at += len + (at[len] == '|');
    }
    return cli_usage(c->name, "%s is one of %s, not '%s'", o->name, o->choices, text);
}

static int options_set(const cli_command *c, const cli_option *o, const char *text)
{
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->value = true; return CLI_OK;
    case CLI_TEXT: *(const char **)o->value = text; return CLI_OK;
    case CLI_CHOICE: return options_set_choice(c, o, text);
    case CLI_TEXTS: {
        cli_texts *list = o->value;
        if (list->n == CLI_MAX_TEXTS)
            return cli_usage(c->name, "%s may be given at most %d times", o->name, CLI_MAX_TEXTS);
        list->item[list->n++] = text;
        return CLI_OK;
    }
    case CLI_U32:
    case CLI_U64:
    case CLI_F32: break;
    }
    return options_set_number(c, o, text);
}

/* What other programs call an option of ours: its name here, and what to write if that is more. */
static const struct {
    const char *other, *name, *text;
} options_elsewhere[] = {
    {"--host", "--listen", "--listen tcp:127.0.0.1:8081"},
    {"--port", "--listen", "--listen tcp:127.0.0.1:8081"},
    {"--context", "--ctx", NULL},
    {"--ctx-size", "--ctx", NULL},
};

/* The option that was meant, as it should be written, or NULL. */
static const char *options_meant(const cli_command *c, const char *name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX;
    if (strlen(name) < 4) return NULL; /* "-n" is near everything */
    for (const cli_option *o = c->options; o->name; o++) {
        const unsigned d = spark_text_distance(name + 2, o->name + strspn(o->name, "-"), 3);
        if (!spark_text_is_near(name + 2, o->name + strspn(o->name, "-")) || d >= least) continue;
        least = d;
        best = o->name;
    }
    for (size_t i = 0; i < SPARK_COUNT(options_elsewhere); i++) {
        const unsigned d = spark_text_distance(name + 2, options_elsewhere[i].other + 2, 3);
        const char *here = options_elsewhere[i].name;
        if (!spark_text_is_near(name + 2, options_elsewhere[i].other + 2) || d >= least) continue;
        if (!options_find(c, here, strlen(here))) continue;
        least = d;
        best = options_elsewhere[i].text ? options_elsewhere[i].text : here;
    }
    return best;
}

static int options_unknown(const cli_command *c, const char *arg, size_t len)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), arg);
    const char *meant = strncmp(name, "--", 2) == 0 ? options_meant(c, name) : NULL;
    if (meant) return cli_usage(c->name, "unknown option '%s'; did you mean %s?", name, meant);
    return cli_usage(c->name, "unknown option '%.*s'", (int)len, arg);
}

/* One option at argv[*i]: "--name value", "--name=value" or "-n value". */
static int options_one(const cli_command *c, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    const size_t len = equals ? (size_t)(equals - arg) : strlen(arg);
    const cli_option *o = options_find(c, arg, len);
    if (!o) return options_unknown(c, arg, len);
    if (o->kind == CLI_FLAG) return equals ? cli_usage(c->name, "%s takes no value", o->name) : options_set(c, o, NULL);
    if (equals) return options_set(c, o, equals + 1);
    if (*i + 1 >= argc) return cli_usage(c->name, "%s needs a value: %s %s", o->name, o->name, o->arg);
    return options_set(c, o, argv[++*i]);
}

int cli_parse(const cli_command *c, int argc, char **argv, cli_args *args)
{
    bool options = true;
    args->n = 0;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (options && strcmp(arg, "--") == 0) {
            options = false;
        } else if (options && (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            cli_help_command(c, stdout);
            return -1;
        } else if (options && arg[0] == '-' && arg[1]) {
            const int code = options_one(c, argc, argv, &i);
            if (code != CLI_OK) return code;
        } else {
            if (args->n == CLI_MAX_ARGS) return cli_usage(c->name, "more than %d arguments", CLI_MAX_ARGS);
            args->item[args->n++] = arg;
        }
    }
    return CLI_OK;
}
