/* help.c - help and man pages, made from the tables that the options are read by. */
#include <string.h>

#include "cli/cli.h"

const cli_command *const cli_commands[] = {
    &cli_command_run,      &cli_command_chat,       &cli_command_inspect, &cli_command_tokenize,
    &cli_command_score,    &cli_command_serve,      &cli_command_plan,    &cli_command_bench,
    &cli_command_quantize, &cli_command_jail,       &cli_command_key,     &cli_command_config,
    &cli_command_version,  &cli_command_completion, &cli_command_man,     NULL,
};

const cli_command *cli_find_command(const char *name)
{
    for (const cli_command *const *c = cli_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0) return *c;
    return NULL;
}

void cli_help_all(FILE *out)
{
    fprintf(out,
            "spark %s - language models on your own CPU: same bytes, nothing leaves the machine\n\n"
            "Usage: spark COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands:\n",
            spark_version());
    for (const cli_command *const *c = cli_commands; *c; c++) fprintf(out, "  %-11s %s\n", (*c)->name, (*c)->summary);
    fprintf(out, "\nA MODEL is a GGUF file; without one, commands use the small model inside this program.\n"
                 "'spark COMMAND --help' tells more. Try: spark run \"Once upon a time\"\n"
                 "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by policy.\n");
}

static void help_option(const cli_option *o, FILE *out)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    fprintf(out, "  %-22s %s", left, o->help);
    if (o->choices) fprintf(out, " [%s]", o->choices);
    fputc('\n', out);
}

void cli_help_command(const cli_command *c, FILE *out)
{
    fprintf(out, "Usage: spark %s [OPTIONS]%s%s\n\n%s\n", c->name, *c->args ? " " : "", c->args, c->summary);
    if (c->details) fprintf(out, "\n%s\n", c->details);
    fprintf(out, "\nOptions:\n");
    for (const cli_option *o = c->options; o->name; o++) help_option(o, out);
    fprintf(out, "  %-22s %s\n", "--help", "print this");
    fprintf(out, "\nExamples:\n");
    for (const char *at = c->examples; *at;) {
        const size_t len = strcspn(at, "\n");
        fprintf(out, "  %.*s\n", (int)len, at);
        at += len + (at[len] == '\n');
    }
}

/* ---- Man pages (man 7 man) ---- */

#define HELP_DATE "2026-11-21" /* of the last change to what the pages say */

/* Text with what roff would take for commands made harmless. */
static void man_text(const char *text, FILE *out)
{
    for (const char *at = text; *at; at++) {
        if ((*at == '.' || *at == '\'') && (at == text || at[-1] == '\n')) fputs("\\&", out);
        if (*at == '\\')
            fputs("\\e", out);
        else if (*at == '-')
            fputs("\\-", out);
        else
            fputc(*at, out);
    }
}

static void man_head(const char *title, const char *summary, FILE *out)
{
    fputs(".TH ", out);
    for (const char *at = title; *at; at++) fputc(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at, out);
    fprintf(out, " 1 \"" HELP_DATE "\" \"SPARK %s\" \"User Commands\"\n.SH NAME\n%s \\- ", spark_version(), title);
    man_text(summary, out);
    fputs("\n.SH SYNOPSIS\n", out);
}

static void man_options(const cli_command *c, FILE *out)
{
    fputs(".SH OPTIONS\n", out);
    for (const cli_option *o = c->options; o->name; o++) {
        fputs(".TP\n.B ", out);
        man_text(o->name, out);
        if (o->arg) fprintf(out, " \\fI%s\\fR", o->arg);
        fputc('\n', out);
        man_text(o->help, out);
        if (o->choices) {
            fputs(" (one of ", out);
            man_text(o->choices, out);
            fputc(')', out);
        }
        fputc('\n', out);
    }
    fputs(".TP\n.B \\-\\-help\nPrint a summary of the options.\n", out);
}

static void man_command(const cli_command *c, FILE *out)
{
    char title[64];
    snprintf(title, sizeof title, "spark-%s", c->name);
    man_head(title, c->summary, out);
    fprintf(out, ".B spark %s\n[OPTIONS] ", c->name);
    man_text(c->args, out);
    fputs("\n.SH DESCRIPTION\n", out);
    man_text(c->details ? c->details : c->summary, out);
    fputc('\n', out);
    man_options(c, out);
    fputs(".SH EXAMPLES\n.nf\n", out);
    man_text(c->examples, out);
    fputs(
        "\n.fi\n.SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage, 3 refused by policy.\n.SH SEE ALSO\n.BR spark (1)\n",
        out);
}

void cli_man_page(const cli_command *c, FILE *out)
{
    if (c) {
        man_command(c, out);
        return;
    }
    man_head("spark", "language models on your own CPU", out);
    fputs(".B spark\n.I COMMAND\n[OPTIONS] [ARGUMENTS]\n.SH DESCRIPTION\nSPARK runs language models (GGUF files) on "
          "ordinary CPUs. "
          "Results are the same bytes for any number of threads and any CPU; nothing is ever downloaded or sent.\n"
          "Results go to standard output, everything else to standard error.\n.SH COMMANDS\n",
          out);
    for (const cli_command *const *each = cli_commands; *each; each++) {
        fprintf(out, ".TP\n.BR spark\\-%s (1)\n", (*each)->name);
        man_text((*each)->summary, out);
        fputc('\n', out);
    }
    fputs(".SH ENVIRONMENT\n.TP\n.B SPARK_CPU\nThe highest CPU level to use (scalar, avx2, avx512, amx, neon, ...). It "
          "never changes a result.\n"
          ".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage, 3 refused by policy.\n",
          out);
}

/* ---- spark man: the roff source of a page; the build makes the pages with it ---- */

static int man_run(const cli_args *args)
{
    const cli_command *c = args->n ? cli_find_command(args->item[0]) : NULL;
    if (args->n > 1) return cli_usage("man", "one command is expected");
    if (args->n && !c) return cli_usage("man", "unknown command '%s'", args->item[0]);
    cli_man_page(c, stdout);
    return CLI_OK;
}

static const cli_option man_no_options[] = {{NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL}};

const cli_command cli_command_man = {
    .name = "man",
    .args = "[COMMAND]",
    .summary = "print a manual page (roff)",
    .details = "The page of a command, or spark(1). 'make install' installs them all; this is for a program that was "
               "copied alone.",
    .examples = "spark man serve | man -l -",
    .options = man_no_options,
    .run = man_run,
};
