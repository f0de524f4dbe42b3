/* cmd_quantize.c - spark quantize: writes a model again with smaller weights. */
#include "cli/cli.h"

static uint32_t quantize_type, quantize_threads;
static bool quantize_force;

static const cli_option quantize_options[] = {
    {"--type", CLI_CHOICE, &quantize_type, "TYPE", "number format of the weights", 0, 0, "Q8_0|Q4_0|Q4_K|Q6_K|F16|BF16"},
    {"--threads", CLI_U32, &quantize_threads, "N", "threads to use (default: every CPU the process may use)", 1, 256, NULL},
    {"--force", CLI_FLAG, &quantize_force, NULL, "replace OUT if it exists", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static int quantize_run(const cli_args *args)
{
    if (args->n != 2) return cli_usage("quantize", "IN and OUT are expected");
    cli_note("quantize: not built yet");
    return CLI_FAILED;
}

const cli_command cli_command_quantize = {
    .name = "quantize",
    .args = "IN OUT --type TYPE",
    .summary = "write a model again with smaller weights",
    .examples = "spark quantize model-f16.gguf model-q4.gguf --type Q4_K",
    .options = quantize_options,
    .run = quantize_run,
};
