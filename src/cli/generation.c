/* generation.c - sampling options as the user wrote them, and Ctrl-C. */
#include "cli/generation.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void cli_generation_defaults(cli_generation *g)
{
    spark_generate_options_defaults(&g->options);
    uint32_t drawn = 0; /* short enough to be typed again */
    if (getrandom(&drawn, sizeof drawn, 0) == (ssize_t)sizeof drawn) g->seed = drawn;
}

static bool generation_bias(const char *text, spark_logit_bias *out)
{
    char *end = NULL;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    const unsigned long id = strtoul(text, &end, 10);
    if (errno || id > UINT32_MAX || (*end != '=' && *end != '+' && *end != '-')) return false;
    const char *number = *end == '=' ? end + 1 : end; /* llama.cpp's form: ID+BIAS, ID-BIAS */
    if (strcmp(number, "-inf") == 0) {
        *out = (spark_logit_bias){(uint32_t)id, -__builtin_inff()};
        return true;
    }
    if (!*number || strspn(number, "0123456789.eE+-") != strlen(number)) return false;
    *out = (spark_logit_bias){(uint32_t)id, strtof(number, &end)};
    return !errno && *end == 0;
}

int cli_generation_finish(cli_generation *g, const char *command)
{
    for (uint32_t i = 0; i < g->biases.n; i++)
        if (!generation_bias(g->biases.item[i], &g->bias[i]))
            return cli_usage(command, "--logit-bias takes ID=BIAS with a number or -inf, not '%s'", g->biases.item[i]);
    for (uint32_t i = 0; i < g->stops.n; i++)
        if (!*g->stops.item[i]) return cli_usage(command, "--stop takes a text that is not empty");
    g->options.sampling.seed = g->seed;
    g->options.stops = g->stops.item;
    g->options.n_stops = g->stops.n;
    g->options.logit_bias = g->bias;
    g->options.n_logit_bias = g->biases.n;
    return CLI_OK;
}

static _Atomic(spark_session *) generation_session;

static void generation_interrupt(int sig)
{
    spark_session *s = atomic_exchange(&generation_session, NULL);
    if (s) {
        spark_session_cancel(s);
        return;
    }
    (void)sig;
    cli_die_of(SIGINT);
}

void cli_interrupt_cancels(spark_session *s)
{
    atomic_store(&generation_session, s);
    cli_catch(SIGINT, s ? generation_interrupt : NULL);
}
