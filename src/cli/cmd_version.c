/* cmd_version.c - spark version. */
#include "cli/cli.h"

#include "kern/kern.h"

static bool version_json;

static const cli_option version_options[] = {
    {"--json", CLI_FLAG, &version_json, NULL, "print one JSON object", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static int version_run(const cli_args *args)
{
    if (args->n) return cli_usage("version", "no arguments are expected");
    const char *cpu = spark_isa_name(spark_isa_best());
    if (version_json)
        printf("{\"version\":\"%s\",\"build\":\"%s\",\"cpu\":\"%s\",\"numerics_profile\":%d}\n", spark_version(),
               spark_build_info(), cpu, SPARK_NUMERICS_PROFILE);
    else
        printf("spark %s (%s), CPU level %s, numerics profile %d\n", spark_version(), spark_build_info(), cpu,
               SPARK_NUMERICS_PROFILE);
    return CLI_OK;
}

const cli_command cli_command_version = {
    .name = "version",
    .args = "",
    .summary = "print version, build, CPU level and numerics profile",
    .examples = "spark version --json",
    .options = version_options,
    .run = version_run,
};
