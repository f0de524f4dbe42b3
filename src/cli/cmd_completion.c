/* cmd_completion.c - spark completion: scripts for the shells, made from the tables of the commands. */
#include <string.h>

#include "cli/cli.h"

static const cli_option completion_options[] = {{NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL}};

static void completion_names(const char *separator)
{
    for (const cli_command *const *c = cli_commands; *c; c++)
        printf("%s%s", c == cli_commands ? "" : separator, (*c)->name);
}

/* A help text inside a shell word: quotes and brackets would end it. */
static void completion_plain(const char *text, const char *taken)
{
    for (; *text; text++) putchar(strchr(taken, *text) ? ' ' : *text);
}

static void completion_bash(void)
{
    printf("# bash completion for spark: source <(spark completion bash)\n_spark() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '");
    completion_names(" ");
    printf("' -- \"$cur\"))\n        return\n    fi\n    case \"${COMP_WORDS[1]} $prev\" in\n");
    for (const cli_command *const *c = cli_commands; *c; c++)
        for (const cli_option *o = (*c)->options; o->name; o++)
            if (o->choices) {
                printf("    '%s %s') COMPREPLY=($(compgen -W '", (*c)->name, o->name);
                completion_plain(o->choices, "|");
                printf("' -- \"$cur\")); return ;;\n");
            }
    printf("    esac\n    case \"${COMP_WORDS[1]}\" in\n");
    for (const cli_command *const *c = cli_commands; *c; c++) {
        printf("    %s) words='--help", (*c)->name);
        for (const cli_option *o = (*c)->options; o->name; o++) printf(" %s", o->name);
        if (strcmp((*c)->name, "completion") == 0) printf(" bash zsh fish");
        printf("' ;;\n");
    }
    printf("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\") $(compgen -f -- \"$cur\"))\n}\n"
           "complete -o filenames -F _spark spark\n");
}

static void completion_zsh(void)
{
    printf("#compdef spark\n# zsh completion for spark: save as _spark in a folder of $fpath\n_spark() {\n    if (( "
           "CURRENT == 2 )); then\n"
           "        local -a commands=(");
    for (const cli_command *const *c = cli_commands; *c; c++) {
        printf("\n            '%s:", (*c)->name);
        completion_plain((*c)->summary, "':");
        putchar('\'');
    }
    printf("\n        )\n        _describe command commands\n        return\n    fi\n    case $words[2] in\n");
    for (const cli_command *const *c = cli_commands; *c; c++) {
        printf("    %s) _arguments '--help[print help]'", (*c)->name);
        for (const cli_option *o = (*c)->options; o->name; o++) {
            printf(" \\\n        '%s%s[", o->kind == CLI_TEXTS ? "*" : "", o->name);
            completion_plain(o->help, "'[]:");
            printf("]%s%s'", o->arg ? ":" : "", o->arg ? o->arg : "");
        }
        printf(" '*:file:_files' ;;\n");
    }
    printf("    esac\n}\n_spark \"$@\"\n");
}

static void completion_fish(void)
{
    printf("# fish completion for spark: spark completion fish | source\n");
    for (const cli_command *const *c = cli_commands; *c; c++) {
        printf("complete -c spark -n __fish_use_subcommand -f -a %s -d '", (*c)->name);
        completion_plain((*c)->summary, "'");
        printf("'\n");
        for (const cli_option *o = (*c)->options; o->name; o++) {
            const bool is_long = strncmp(o->name, "--", 2) == 0;
            printf("complete -c spark -n '__fish_seen_subcommand_from %s' %s %s%s -d '", (*c)->name,
                   is_long ? "-l" : "-s", o->name + (is_long ? 2 : 1), o->arg ? " -r" : "");
            completion_plain(o->help, "'");
            printf("'\n");
        }
    }
}

static int completion_run(const cli_args *args)
{
    if (args->n != 1) return cli_usage("completion", "name one shell: bash, zsh or fish");
    if (strcmp(args->item[0], "bash") == 0)
        completion_bash();
    else if (strcmp(args->item[0], "zsh") == 0)
        completion_zsh();
    else if (strcmp(args->item[0], "fish") == 0)
        completion_fish();
    else
        return cli_usage("completion", "no completion for '%s': bash, zsh or fish", args->item[0]);
    return CLI_OK;
}

const cli_command cli_command_completion = {
    .name = "completion",
    .args = "bash|zsh|fish",
    .summary = "print a completion script for a shell",
    .examples = "source <(spark completion bash)",
    .options = completion_options,
    .run = completion_run,
};
