/* cmd_jail.c - spark jail: which level of the jail this system grants, and the proof: every forbidden act, tried. */
#include <string.h>

#include "cli/cli.h"
#include "jail/jail.h"

static bool jail_json, jail_table;
static uint32_t jail_level; /* index into the choices */

enum { JAIL_BEST, JAIL_STRICT, JAIL_STANDARD };

static void jail_defaults(void)
{
    jail_json = jail_table = false;
    jail_level = JAIL_BEST;
}

static const cli_option jail_options[] = {
    {"--level", CLI_CHOICE, &jail_level, "LEVEL",
     "demand this level, exit 3 without it (default: the strongest granted here)", 0, 0, "best|strict|standard"},
    {"--json", CLI_FLAG, &jail_json, NULL, "print one JSON object", 0, 0, NULL},
    {"--table", CLI_FLAG, &jail_table, NULL, "print the table of system calls (Markdown) and try nothing", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

/* ---- The table ---- */

static const char *jail_cell(const spark_jail_rule *r, spark_jail_role role, spark_jail_phase phase)
{
    switch (r->effect[role][phase]) {
    case SPARK_JAIL_ALLOW: return r->condition ? "if" : "yes";
    case SPARK_JAIL_DENY: return "errno";
    case SPARK_JAIL_KILL: break;
    }
    return "";
}

static int jail_print_table(void)
{
    uint32_t n = 0;
    const spark_jail_rule *rules = spark_jail_rules(&n);
    printf(
        "| call | engine opening | engine serving | front opening | front serving | tool | only if | who needs it |\n"
        "|---|---|---|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < n; i++) {
        const spark_jail_rule *r = &rules[i];
        printf("| %s |", r->syscall);
        for (spark_jail_role role = 0; role < SPARK_JAIL_N_ROLES; role++)
            for (spark_jail_phase phase = 0; phase < SPARK_JAIL_N_PHASES; phase++)
                if (spark_jail_has_phase(role, phase)) printf(" %s |", jail_cell(r, role, phase));
        printf(" %s | %s |\n", r->condition ? r->condition->words : "", r->reason);
    }
    return CLI_OK;
}

/* ---- What happened, as text and as JSON ---- */

typedef struct jail_run {
    cli_out json;
    uint32_t n_trials, n_held, n_controls;
    spark_jail_role role;
    spark_jail_phase phase;
} jail_run;

static const char *const jail_verdicts[] = {[SPARK_JAIL_KILLED] = "killed",
                                            [SPARK_JAIL_FAILED] = "failed",
                                            [SPARK_JAIL_NOTHING_THERE] = "nothing there",
                                            [SPARK_JAIL_ALLOWED] = "allowed"};

/* "SIGSYS", "ENOENT"; empty if there is no such number. */
static void jail_number(const spark_jail_trial *t, char out[32])
{
    const char *name = NULL, *prefix = "";
    if (t->verdict == SPARK_JAIL_KILLED) {
        name = sigabbrev_np(t->number);
        prefix = "SIG";
    } else if (t->verdict != SPARK_JAIL_ALLOWED) {
        name = strerrorname_np(t->number);
    }
    snprintf(out, 32, "%s%s", name ? prefix : "", name ? name : "");
}

static void jail_put_text(cli_out *o, const char *text) { cli_put_json(o, text, strlen(text)); }

static void jail_trial_json(jail_run *run, const spark_jail_trial *t, const char *number)
{
    cli_putf(&run->json, "%s{\"role\":\"%s\",\"phase\":\"%s\",\"act\":", run->n_trials ? "," : "",
             spark_jail_role_name(t->role), spark_jail_phase_name(t->phase));
    jail_put_text(&run->json, t->act);
    cli_putf(&run->json, ",\"verdict\":\"%s\",\"by\":\"%s\",\"control\":%s,\"right\":%s}", jail_verdicts[t->verdict],
             number, t->control ? "true" : "false", t->right ? "true" : "false");
}

static void jail_trial_text(jail_run *run, const spark_jail_trial *t, const char *number)
{
    static const char *const stages[] = {[SPARK_JAIL_OPENING] = "opening",
                                         [SPARK_JAIL_SERVING] = "serving",
                                         [SPARK_JAIL_ENTERED] = "before the filters"};
    if (run->n_trials == 0 || t->role != run->role || t->phase != run->phase)
        printf("\n%s, %s\n", spark_jail_role_name(t->role), stages[t->phase]);
    printf("  %-14s %-9s %s%s%s\n", jail_verdicts[t->verdict], number, t->act, t->control ? " (a cell needs it)" : "",
           t->right ? "" : "   <-- WRONG");
}

static void jail_on_trial(void *ctx, const spark_jail_trial *t)
{
    jail_run *run = ctx;
    char number[32];
    jail_number(t, number);
    if (jail_json)
        jail_trial_json(run, t, number);
    else
        jail_trial_text(run, t, number);
    run->n_trials++;
    run->n_controls += t->control;
    run->n_held += t->right && !t->control;
    run->role = t->role;
    run->phase = t->phase;
}

static void jail_means_json(cli_out *o, const spark_jail_report *r, spark_jail_level level)
{
    cli_putf(o, "{\"reachable\":\"%s\",\"level\":\"%s\",\"means\":[", spark_jail_level_name(r->level),
             spark_jail_level_name(level));
    for (uint32_t i = 0; i < r->n_means; i++) {
        const spark_jail_means *m = &r->means[i];
        cli_putf(o, "%s{\"name\":\"%s\",\"holds\":%s,\"standard\":%s,\"strict\":%s,\"detail\":", i ? "," : "", m->name,
                 m->holds ? "true" : "false", m->required[SPARK_JAIL_STANDARD] ? "true" : "false",
                 m->required[SPARK_JAIL_STRICT] ? "true" : "false");
        jail_put_text(o, m->why);
        cli_put(o, "}", 1);
    }
    cli_put(o, "],\"trials\":[", 12);
}

static void jail_means_text(const spark_jail_report *r, spark_jail_level level)
{
    printf("strongest level granted here: %s\n", spark_jail_level_name(r->level));
    for (uint32_t i = 0; i < r->n_means; i++) {
        const spark_jail_means *m = &r->means[i];
        const char *need = m->required[SPARK_JAIL_STANDARD] ? ""
                           : m->required[SPARK_JAIL_STRICT] ? " (strict needs it)"
                                                            : " (no level needs it)";
        printf(*m->why ? "  %-4s %-25s %s%s\n" : "  %-4s %s%s%s\n", m->holds ? "yes" : "NO", m->name, m->why,
               m->holds ? "" : need);
    }
    if (level != SPARK_JAIL_OFF) printf("\ntrials at level %s:\n", spark_jail_level_name(level));
}

/* ---- The command ---- */

static int jail_refused(const spark_jail_report *r, spark_jail_level level)
{
    const spark_jail_means *m = spark_jail_missing(r, level);
    fprintf(stderr, "spark: jail: level %s is not granted here: %s: %s; %s\n", spark_jail_level_name(level),
            m ? m->name : "seccomp", m ? m->why : "it cannot be had",
            r->level == SPARK_JAIL_STANDARD ? "'--level standard' can be had" : "no level can be had on this system");
    return CLI_REFUSED;
}

static int jail_prove(const spark_jail_report *r, spark_jail_level level)
{
    jail_run run = {0};
    spark_err err = {0};
    uint32_t n_wrong = 0;
    if (jail_json)
        jail_means_json(&run.json, r, level);
    else
        jail_means_text(r, level);
    if (!spark_ok(spark_jail_prove(level, jail_on_trial, &run, &n_wrong, &err))) {
        cli_out_free(&run.json);
        return cli_fail("jail", &err, NULL);
    }
    if (jail_json) {
        cli_putf(&run.json, "],\"held\":%u,\"controls\":%u,\"wrong\":%u}\n", run.n_held, run.n_controls, n_wrong);
        (void)cli_write(run.json.ptr, run.json.len);
    } else {
        printf("\n%u trials at level %s: %u forbidden acts held, %u needed acts tried, %u wrong\n", run.n_trials,
               spark_jail_level_name(level), run.n_held, run.n_controls, n_wrong);
    }
    cli_out_free(&run.json);
    if (n_wrong == 0) return CLI_OK;
    fprintf(stderr, "spark: jail: %u of %u acts did not go as the table demands; do not serve foreign models here\n",
            n_wrong, run.n_trials);
    return CLI_FAILED;
}

static int jail_main(const cli_args *args)
{
    spark_jail_report r;
    spark_err err = {0};
    if (args->n) return cli_usage("jail", "no arguments are expected");
    if (jail_table) return jail_print_table();
    if (!spark_ok(spark_jail_probe(&r, &err))) return cli_fail("jail", &err, NULL);
    const spark_jail_level level = jail_level == JAIL_STRICT     ? SPARK_JAIL_STRICT
                                   : jail_level == JAIL_STANDARD ? SPARK_JAIL_STANDARD
                                                                 : r.level;
    if (level == SPARK_JAIL_OFF || level > r.level) {
        if (!jail_json) jail_means_text(&r, SPARK_JAIL_OFF);
        return jail_refused(&r, level == SPARK_JAIL_OFF ? SPARK_JAIL_STANDARD : level);
    }
    return jail_prove(&r, level);
}

const cli_command cli_command_jail = {
    .name = "jail",
    .args = "",
    .summary = "show what each cell may do on this machine, by trying every forbidden act",
    .details =
        "Foreign bytes (models, requests) are read in cells: processes that can open no file, no socket and no "
        "process.\n"
        "This command says which level of the jail this system grants and why not more, starts a cell for each act "
        "that\n"
        "is forbidden, tries it, and prints what happened: with all doors closed but the filter of system calls, "
        "while\n"
        "the cell opens (libraries warm up, the model is read), and while it serves. A tool is a command that reads a\n"
        "model: it has the doors of opening, for good.\n"
        "Exit 0: all went as it must; 1: some act did not; 3: the demanded level is not granted here.",
    .examples = "spark jail\nspark jail --level strict --json",
    .options = jail_options,
    .defaults = jail_defaults,
    .run = jail_main,
};
