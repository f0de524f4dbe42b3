/* cmd_bench.c - spark bench: how fast this machine runs a model. */
#include "cli/cli.h"

static cli_model_options bench_model;
static uint32_t bench_pp = 512, bench_tg = 128, bench_batch = 1, bench_depth, bench_reps = 5;
static bool bench_json;

static const cli_option bench_options[] = {
    CLI_MODEL_OPTIONS(bench_model),
    {"--pp", CLI_U32, &bench_pp, "N", "evaluate a prompt of N tokens; 0 = no such test (default 512)", 0, 16777216, NULL},
    {"--tg", CLI_U32, &bench_tg, "N", "generate N tokens; 0 = no such test (default 128)", 0, 16777216, NULL},
    {"--batch", CLI_U32, &bench_batch, "B", "generate for B sequences at once (default 1)", 1, 4096, NULL},
    {"--depth", CLI_U32, &bench_depth, "N", "begin with N tokens in each sequence (default 0)", 0, 16777216, NULL},
    {"--reps", CLI_U32, &bench_reps, "N", "how often to measure (default 5)", 1, 1000, NULL},
    {"--json", CLI_FLAG, &bench_json, NULL, "print one JSON object", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static int bench_run(const cli_args *args)
{
    if (args->n > 1) return cli_usage("bench", "one MODEL is expected");
    cli_note("bench: not built yet");
    return CLI_FAILED;
}

const cli_command cli_command_bench = {
    .name = "bench",
    .args = "[MODEL]",
    .summary = "measure speed, beside the physical limits of this machine",
    .examples = "spark bench model.gguf\n"
                "spark bench model.gguf --pp 0 --tg 32 --batch 16 --json",
    .options = bench_options,
    .run = bench_run,
};
