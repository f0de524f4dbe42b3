/* main.c - finds the command, reads its options, runs it. */
#include <signal.h>
#include <string.h>

#include "cli/cell.h"
#include "serve/cell_main.h"

static int main_help(int argc, char **argv)
{
    const cli_command *c = argc > 0 ? cli_find_command(argv[0]) : NULL;
    if (argc > 0 && !c) {
        fprintf(stderr, "spark: unknown command '%s'; 'spark --help' lists them\n", argv[0]);
        return CLI_USAGE;
    }
    if (c)
        cli_help_command(c, stdout);
    else
        cli_help_all(stdout);
    return cli_flush();
}

int main(int argc, char **argv)
{
    static cli_args args; /* large, and needed once */
    spark_jail_spec cell;
    if (spark_jail_is_cell(argc, argv, &cell))
        return cell.role == SPARK_JAIL_TOOL ? cli_tool_main(&cell) : spark_cell_main(&cell);
    signal(SIGPIPE, SIG_IGN); /* a reader that left is an error of the write, said in one line */
    if (argc < 2) {
        cli_help_all(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return main_help(argc - 2, argv + 2);
    const cli_command *c = strcmp(name, "--version") == 0 ? &cli_command_version : cli_find_command(name);
    if (!c) {
        fprintf(stderr, "spark: unknown command '%s'; 'spark --help' lists them\n", name);
        return CLI_USAGE;
    }
    if (c->defaults) c->defaults();
    const int parsed = cli_parse(c, argc - 2, argv + 2, &args);
    if (parsed < 0) return cli_flush(); /* --help */
    if (parsed != CLI_OK) return parsed;
    const int code = c->files ? cli_run(c, argc - 1, argv + 1, &args) : c->run(&args);
    const int flushed = cli_flush();
    return code != CLI_OK ? code : flushed;
}
