/* cmd_bench.c - spark bench: how fast this machine runs a model, beside what it could do at best. */
#include <inttypes.h>
#include <string.h>

#include "base/pool.h"
#include "cli/bench_measure.h"
#include "cli/cli.h"

static cli_model_options bench_model;
static uint32_t bench_pp, bench_tg, bench_batch, bench_depth, bench_reps;
static bool bench_json;

static const cli_option bench_options[] = {
    {"--pp", CLI_U32, &bench_pp, "N", "evaluate a prompt of N tokens; 0 = no such test (default 512)", 0, 16777216,
     NULL},
    {"--tg", CLI_U32, &bench_tg, "N", "generate N tokens; 0 = no such test (default 128)", 0, 16777216, NULL},
    {"--batch", CLI_U32, &bench_batch, "B", "generate for B sequences at once; the speed is that of all (default 1)", 1,
     4096, NULL},
    {"--depth", CLI_U32, &bench_depth, "N", "begin with N tokens in each sequence (default 0)", 0, 16777216, NULL},
    {"--reps", CLI_U32, &bench_reps, "N", "how often to measure (default 5)", 1, BENCH_MAX_REPS, NULL},
    {"--threads", CLI_U32, &bench_model.n_threads, "N", "threads to use (default: every CPU the process may use)", 1,
     256, NULL},
    {"--ctx", CLI_U32, &bench_model.n_ctx, "N", "context in tokens (default: what the tests need)", 1, 16777216, NULL},
    {"--kv", CLI_CHOICE, &bench_model.kv, "TYPE", "how keys and values are stored (default f16)", 0, 0, "f16|f32|q8_0"},
    {"--cpu", CLI_TEXT, &bench_model.cpu, "LEVEL", "highest CPU level to use; results are the same on all", 0, 0, NULL},
    CLI_JAIL_OPTION,
    {"--json", CLI_FLAG, &bench_json, NULL, "print one JSON object", 0, 0, NULL},
    {NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static void bench_defaults(void)
{
    bench_pp = 512;
    bench_tg = 128;
    bench_batch = 1;
    bench_reps = 5;
}

#define BENCH_CPUINFO "/proc/cpuinfo"

/* The processor's own name, "" if the system does not tell. */
static void bench_cpu_name(char *out, size_t cap)
{
    char line[256];
    FILE *f = cli_open_file(CLI_FILE_TEXT, BENCH_CPUINFO);
    out[0] = 0;
    while (f && !out[0] && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, cap, "%s", colon + 1 + strspn(colon + 1, " "));
    }
}

/* ---- Printing ------------------------------------------------------------------------------------------------------- */

static void bench_put_machine(cli_out *o, const spark_model *m)
{
    char cpu[256];
    bench_cpu_name(cpu, sizeof cpu);
    cli_putf(o, "\"machine\":{\"cpu\":");
    cli_put_json(o, cpu, strlen(cpu));
    cli_putf(o, ",\"cpus\":%u,\"level\":\"%s\",\"build\":", spark_cpu_count(), spark_isa_name(m->isa));
    cli_put_json(o, spark_build_info(), strlen(spark_build_info()));
    cli_putf(o, ",\"version\":\"%s\"}", spark_version());
}

static void bench_put_limits(cli_out *o, const bench_limits *l, uint32_t n_threads)
{
    cli_putf(o, ",\"limits\":{\"gmacs_per_thread\":{");
    bool first = true;
    for (int i = 0; i < SPARK_N_LIMITS; i++) {
        if (l->gmacs[i] <= 0) continue; /* this CPU has no such instruction */
        cli_putf(o, "%s\"%s\":%.1f", first ? "" : ",", spark_limit_name((spark_limit)i), l->gmacs[i]);
        first = false;
    }
    cli_putf(o, "},\"int8_gmacs\":%.1f,\"f32_gmacs\":%.1f,\"read_gbs\":{\"1\":%.1f", l->int8, l->f32, l->read_one);
    if (n_threads > 1) cli_putf(o, ",\"%" PRIu32 "\":%.1f", n_threads, l->read_all);
    cli_putf(o, "}}");
}

static int bench_print_json(const spark_model *m, const spark_description *d, const bench_report *b)
{
    cli_out o = {0};
    const uint32_t n_threads = m->options.n_threads;
    cli_put(&o, "{", 1);
    bench_put_machine(&o, m);
    bench_put_limits(&o, &b->limits, n_threads);
    cli_putf(&o, ",\"model\":{\"name\":");
    cli_put_json(&o, d->name, strlen(d->name));
    cli_putf(&o, ",\"arch\":\"%s\",\"bytes\":%" PRIu64 ",\"parameters\":%" PRIu64 "}", d->arch, d->file_bytes,
             d->n_params);
    cli_putf(&o, ",\"memory\":{\"plan\":%" PRIu64 ",\"peak\":%" PRIu64 "},\"load_s\":%.3f,\"results\":[", b->plan_bytes,
             b->peak_bytes, b->load_s);
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        cli_putf(&o,
                 "%s{\"test\":\"%s\",\"median_tps\":%.3f,\"min_tps\":%.3f,\"max_tps\":%.3f,\"threads\":%" PRIu32
                 ",\"reps\":%" PRIu32,
                 i ? "," : "", r->name, r->median, r->min, r->max, n_threads, bench_reps);
        cli_putf(&o, ",\"cpu_tps\":%.3f,\"gmacs\":%.2f,\"gbs\":%.2f", r->cpu_median, r->gmacs, r->gbytes);
        if (r->fraction > 0)
            cli_putf(&o, ",\"limit\":\"%s\",\"limit_fraction\":%.4f", r->by_memory ? "memory" : "arithmetic",
                     r->fraction);
        cli_putf(&o, "}");
    }
    cli_putf(&o, "]}\n");
    const int code = cli_write(o.ptr, o.len);
    cli_out_free(&o);
    return code;
}

static void bench_print_result(const bench_result *r)
{
    printf("%-14s %10.2f  %10.2f %10.2f  ", r->name, r->median, r->min, r->max);
    if (r->by_memory)
        printf("%7.1f GB/s", r->gbytes);
    else
        printf("%7.1f GMAC/s", r->gmacs);
    if (r->fraction > 0)
        printf(", %.0f %% of what %s allows", 100 * r->fraction, r->by_memory ? "memory" : "arithmetic");
    putchar('\n');
}

static int bench_print(const spark_model *m, const spark_description *d, const bench_report *b)
{
    char cpu[256], size[32], plan[32], peak[32];
    const bench_limits *l = &b->limits;
    bench_cpu_name(cpu, sizeof cpu);
    printf("machine  %s, %u CPUs, level %s\n", cpu[0] ? cpu : "unknown CPU", spark_cpu_count(), spark_isa_name(m->isa));
    printf("build    spark %s, %s\n", spark_version(), spark_build_info());
    printf("model    %s, %s, %.3g parameters; loaded in %.2f s\n", d->name[0] ? d->name : d->arch,
           cli_size(d->file_bytes, size), (double)d->n_params, b->load_s);
    printf("memory   %s planned, %s at the peak\n", cli_size(b->plan_bytes, plan), cli_size(b->peak_bytes, peak));
    for (int i = 0; i < SPARK_N_LIMITS; i++)
        if (l->gmacs[i] > 0)
            printf("limit    %-34s %7.1f GMAC/s a thread\n", spark_limit_name((spark_limit)i), l->gmacs[i]);
    printf("limit    %-34s %7.1f GB/s\n", "memory read, 1 thread", l->read_one);
    if (m->options.n_threads > 1)
        printf("limit    memory read, %3" PRIu32 " threads           %7.1f GB/s\n", m->options.n_threads, l->read_all);
    printf("\n%-14s %10s  %10s %10s   (tokens a second; %" PRIu32 " runs, %" PRIu32 " thread%s)\n", "test", "median",
           "min", "max", bench_reps, m->options.n_threads, m->options.n_threads > 1 ? "s" : "");
    for (uint32_t i = 0; i < b->n_results; i++) bench_print_result(&b->results[i]);
    return CLI_OK;
}

/* ---- The command ---------------------------------------------------------------------------------------------------- */

static int bench_files(const cli_args *args)
{
    if (args->n > 1) return cli_usage("bench", "one MODEL is expected");
    if (bench_pp == 0 && bench_tg == 0) return cli_usage("bench", "--pp 0 and --tg 0 leave nothing to measure");
    if (args->n) cli_name_model(args->item[0]);
    cli_name_text(BENCH_CPUINFO);
    return CLI_OK;
}

static int bench_run(const cli_args *args)
{
    static bench_report report;
    char what[] = "bench";
    const char *path = args->n ? args->item[0] : NULL;
    const bench_plan plan = {.n_prompt = bench_pp,
                             .n_gen = bench_tg,
                             .n_seqs = bench_batch,
                             .depth = bench_depth,
                             .n_reps = bench_reps,
                             .n_ctx = bench_model.n_ctx,
                             .kv = (spark_kv_choice)bench_model.kv,
                             .in_cell = cli_in_cell(),
                             .progress = cli_progress,
                             .progress_ctx = what};
    spark_model *m = NULL;
    spark_description d;
    spark_err err = {0};
    int code = cli_open(path, &bench_model, false, &m);
    if (code != CLI_OK) return code;
    spark_model_describe(m, &d);
    if (bench_measure(m, &plan, &report, &err).code != SPARK_OK)
        code = cli_fail("bench", &err, NULL);
    else
        code = bench_json ? bench_print_json(m, &d, &report) : bench_print(m, &d, &report);
    spark_model_close(&m);
    return code;
}

const cli_command cli_command_bench = {
    .name = "bench",
    .args = "[MODEL]",
    .summary = "measure speed, beside the physical limits of this machine",
    .details =
        "Evaluates a prompt (pp) and generates (tg) with random tokens, like llama-bench, and prints the median, least "
        "and\n"
        "greatest speed. tg128@16 means 16 sequences at once, tg32+8192 a sequence that already has 8192 tokens. Then "
        "the\n"
        "limits are measured: multiplications a second of this CPU's own instructions, and what memory delivers. What\n"
        "arithmetic allows is counted in vector instructions (vpdpbusd where the CPU has it); AMX tiles may pass 100 "
        "%.",
    .examples = "spark bench model.gguf\n"
                "spark bench model.gguf --pp 0 --tg 32 --batch 16 --json\n"
                "spark bench model.gguf --tg 32 --depth 8192 --kv q8_0",
    .options = bench_options,
    .defaults = bench_defaults,
    .run = bench_run,
    .files = bench_files,
};
