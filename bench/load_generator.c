/* load_generator.c - load-generator MODE --url URL [options]: loads a server that speaks HTTP/1.1 and OpenAI's API, ours or
 * another, and says what its clients saw. One thread. bench/serve runs it against several servers in turn.
 * stdout: the JSON object (--json), else a table. Exit: 0 measured, 1 nothing worked, 2 usage. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "load_modes.h"

typedef enum option_kind { OPT_FLAG, OPT_TEXT, OPT_COUNT, OPT_REAL, OPT_PIDS, OPT_PROMPTS } option_kind;

static load_options generator_options = {
    .text = {.model = "default", .chat = true, .seed = 1},
    .clients = 16,
    .requests = 4,
    .prompt = 90,
    .max_new = 64,
    .rate = 1,
    .timeout = 300,
    .others = 2,
    .other_new = 1,
    .prompts = {1000, 4000},
    .n_prompts = 2,
    .leave = 0.2,
    .path = "/health",
};
static const char *generator_url;
static bool generator_completions, generator_json;
static uint32_t generator_seed = 1;
static double generator_per_word;

static const struct generator_option {
    const char *name, *argument, *about;
    option_kind kind;
    void *to;
} generator_table[] = {
    {"url", "URL", "tcp:HOST:PORT, http://HOST:PORT or unix:PATH", OPT_TEXT, &generator_url},
    {"model", "NAME", "the model's name in requests", OPT_TEXT, &generator_options.text.model},
    {"key", "KEY", "sent as Authorization: Bearer KEY", OPT_TEXT, &generator_options.text.key},
    {"completions", NULL, "/v1/completions instead of /v1/chat/completions", OPT_FLAG, &generator_completions},
    {"extra", "MEMBERS", "more members of each request's JSON: '\"top_k\": 40'", OPT_TEXT,
     &generator_options.text.extra},
    {"temperature", "T", "of each request (default 0)", OPT_REAL, &generator_options.text.temperature},
    {"clients", "N", "clients at once (open: at most; kept: observers; burst, idle: connections; default 16)",
     OPT_COUNT, &generator_options.clients},
    {"requests", "R", "closed: of each client; open: of all (default 4)", OPT_COUNT, &generator_options.requests},
    {"prompt", "P", "tokens of a prompt (default 90)", OPT_COUNT, &generator_options.prompt},
    {"new", "M", "tokens to generate (default 64)", OPT_COUNT, &generator_options.max_new},
    {"rate", "HZ", "open: arrivals a second", OPT_REAL, &generator_options.rate},
    {"seconds", "S", "how long (kept: others begin prompts; closed: instead of --requests)", OPT_REAL,
     &generator_options.seconds},
    {"timeout", "S", "a request without an end is an error after so long (default 300)", OPT_REAL,
     &generator_options.timeout},
    {"others", "N", "kept: clients that send prompts (default 2)", OPT_COUNT, &generator_options.others},
    {"other-new", "M", "kept: tokens that they ask for (default 1)", OPT_COUNT, &generator_options.other_new},
    {"prompts", "P,P", "kept: sizes of their prompts in turn (default 1000,4000)", OPT_PROMPTS, NULL},
    {"shared-prefix", "P", "the first P tokens of all prompts are the same (default 0)", OPT_COUNT,
     &generator_options.text.shared_tokens},
    {"leave", "PART", "soak: part of the requests that are left midway (default 0.2)", OPT_REAL,
     &generator_options.leave},
    {"fresh", NULL, "a new connection for each request", OPT_FLAG, &generator_options.fresh},
    {"path", "PATH", "burst, health, idle: what to GET (default /health)", OPT_TEXT, &generator_options.path},
    {"pid", "PID,PID", "the server's processes, to tell their processor time and memory", OPT_PIDS, NULL},
    {"seed", "N", "of words and arrivals (default 1)", OPT_COUNT, &generator_seed},
    {"tokens-per-word", "X", "do not ask the server how long words are", OPT_REAL, &generator_per_word},
    {"json", NULL, "one JSON object instead of a table", OPT_FLAG, &generator_json},
};
enum { GENERATOR_OPTIONS = sizeof generator_table / sizeof generator_table[0] };

static _Noreturn void generator_usage(const char *problem)
{
    FILE *out = problem ? stderr : stdout;
    if (problem) fprintf(out, "load-generator: %s; see load-generator --help\n", problem);
    if (problem) exit(2);
    fputs("load-generator MODE --url URL [options]\n\nmodes:\n", out);
    for (const load_mode *m = load_modes; m->name; m++) fprintf(out, "  %-8s %s\n", m->name, m->about);
    fputs("\noptions:\n", out);
    for (size_t i = 0; i < GENERATOR_OPTIONS; i++) {
        const struct generator_option *o = &generator_table[i];
        fprintf(out, "  --%s%s%-*s %s\n", o->name, o->argument ? " " : "",
                (int)(24 - strlen(o->name) - (o->argument ? 1 : 0)), o->argument ? o->argument : "", o->about);
    }
    exit(0);
}

/* Up to `cap` numbers with commas between; how many, 0 if it is no such list. */
static uint32_t generator_list(const char *text, uint32_t cap, uint32_t *out)
{
    uint32_t n = 0;
    for (char *end = NULL;; text = end + 1) {
        errno = 0;
        const unsigned long v = strtoul(text, &end, 10);
        if (end == text || errno || v == 0 || v > INT32_MAX || n == cap) return 0;
        out[n++] = (uint32_t)v;
        if (*end == 0) return n;
        if (*end != ',') return 0;
    }
}

static bool generator_set(const struct generator_option *o, const char *value)
{
    char *end = NULL;
    load_options *g = &generator_options;
    uint32_t pids[64];
    if (o->kind == OPT_FLAG) {
        *(bool *)o->to = true;
        return true;
    }
    if (o->kind == OPT_TEXT) {
        *(const char **)o->to = value;
        return true;
    }
    if (o->kind == OPT_COUNT) {
        uint32_t *to = o->to;
        if (strcmp(value, "0") != 0) return generator_list(value, 1, to) == 1;
        *to = 0;
        return o->to == &g->text.shared_tokens || o->to == &generator_seed || o->to == &g->others;
    }
    if (o->kind == OPT_REAL) {
        const double v = strtod(value, &end);
        *(double *)o->to = v;
        return end != value && *end == 0 && v >= 0 && v < 1e9;
    }
    if (o->kind == OPT_PROMPTS) return (g->n_prompts = generator_list(value, 8, g->prompts)) > 0;
    g->n_pids = generator_list(value, 64, pids);
    for (uint32_t i = 0; i < g->n_pids; i++) g->pids[i] = (int)pids[i];
    return g->n_pids > 0;
}

static const load_mode *generator_arguments(int argc, char **argv)
{
    struct option longs[GENERATOR_OPTIONS + 2] = {{"help", no_argument, NULL, 'h'}};
    for (int i = 0; i < GENERATOR_OPTIONS; i++) {
        const int wants = generator_table[i].argument ? required_argument : no_argument;
        longs[i + 1] = (struct option){generator_table[i].name, wants, NULL, 256 + i};
    }
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'h') generator_usage(NULL);
        if (c < 256) exit(2); /* getopt said why */
        char problem[200];
        const struct generator_option *o = &generator_table[c - 256];
        snprintf(problem, sizeof problem, "--%s %s: bad value '%s'", o->name, o->argument ? o->argument : "",
                 optarg ? optarg : "");
        if (!generator_set(o, optarg)) generator_usage(problem);
    }
    if (optind + 1 != argc) generator_usage("say one mode");
    for (const load_mode *m = load_modes; m->name; m++)
        if (strcmp(m->name, argv[optind]) == 0) return m;
    generator_usage("unknown mode");
}

/* What cannot work is said before anything is sent. */
static void generator_check(const load_mode *mode, load_target *target)
{
    load_options *o = &generator_options;
    if (!generator_url) generator_usage("--url is missing");
    const char *problem = load_target_parse(target, generator_url);
    if (problem) generator_usage(problem);
    if (strcmp(mode->name, "open") == 0 && !(o->rate > 0)) generator_usage("--rate must be above 0");
    if (strcmp(mode->name, "kept") == 0 && !(o->seconds > 0)) o->seconds = 30;
    if (o->text.key && strpbrk(o->text.key, "\r\n")) generator_usage("a key is one line");
    if (o->text.extra) {
        char *object = NULL;
        if (asprintf(&object, "{%s}", o->text.extra) < 0) exit(1);
        json_t *parsed = json_loads(object, 0, NULL);
        if (!parsed) generator_usage("--extra is no list of JSON members");
        json_decref(parsed);
        free(object);
    }
    o->text.chat = !generator_completions;
    o->text.seed = generator_seed;
    o->text.host = target->host;
}

/* ---- The table: one line a figure, nested objects indented ------------------------------------------------------------ */

static void generator_print(const json_t *j, int depth)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)j, name, v)
    {
        printf("%*s%-*s", 2 * depth, "", 28 - 2 * depth, name);
        if (json_is_object(v) && json_object_get(v, "p50")) {
            printf(" n %-7" JSON_INTEGER_FORMAT " mean %-9.2f p50 %-9.2f p95 %-9.2f p99 %-9.2f max %.2f\n",
                   json_integer_value(json_object_get(v, "n")), json_real_value(json_object_get(v, "mean")),
                   json_real_value(json_object_get(v, "p50")), json_real_value(json_object_get(v, "p95")),
                   json_real_value(json_object_get(v, "p99")), json_real_value(json_object_get(v, "max")));
        } else if (json_is_object(v)) {
            putchar('\n');
            generator_print(v, depth + 1);
        } else if (json_is_string(v)) {
            printf(" %s\n", json_string_value(v));
        } else {
            printf(json_is_real(v) ? " %.2f\n" : " %.0f\n", json_number_value(v));
        }
    }
}

static bool generator_worked(const json_t *j)
{
    const json_t *main_group = json_object_get(j, "observers") ? json_object_get(j, "observers") : j;
    return json_integer_value(json_object_get(main_group, "ok")) +
               json_integer_value(json_object_get(main_group, "cancelled")) >
           0;
}

int main(int argc, char **argv)
{
    load_target target;
    load_options *o = &generator_options;
    const load_mode *mode = generator_arguments(argc, argv);
    generator_check(mode, &target);
    signal(SIGPIPE, SIG_IGN);
    spark_thread_wakes_soon(); /* as if it ran on a machine of its own: it measures the server's delays, not its own */
    if (mode->calibrates) {
        const uint32_t shared = o->text.shared_tokens;
        o->text.tokens_per_word = generator_per_word > 0 ? generator_per_word : 1;
        if (!(generator_per_word > 0) && !load_calibrate(o, &target)) {
            fputs("load-generator: the server does not tell how many tokens a prompt has; give --tokens-per-word\n",
                  stderr);
            return 1;
        }
        o->text.shared_tokens = shared;
    }
    json_t *j = mode->run(o, &target);
    json_object_set_new(j, "mode", json_string(mode->name));
    if (mode->calibrates) json_object_set_new(j, "tokens_per_word", json_real(o->text.tokens_per_word));
    const bool worked = generator_worked(j);
    if (generator_json) {
        json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else {
        generator_print(j, 0);
    }
    json_decref(j);
    return worked ? 0 : 1;
}
