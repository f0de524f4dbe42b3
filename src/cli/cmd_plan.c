/* cmd_plan.c - spark plan: the memory sum of `spark serve` with the same settings, before anything is served. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/cell.h"
#include "cli/cli_config.h"
#include "serve/cell_plan.h"
#include "serve/config_write.h"

static bool plan_json;

static const cli_option plan_options[] = {
    {"--json", CLI_FLAG, &plan_json, NULL, "print one JSON object", 0, 0, NULL},
    CLI_CONFIG_OPTIONS{NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

typedef struct plan_model {
    const spark_config_model *config;
    cell_config cell;
    cell_plan plan;
    uint64_t budget; /* what is left for it; UINT64_MAX: there is no budget */
    bool on_use, fits;
    spark_err why;
} plan_model;

typedef struct plan_all {
    spark_config *config;
    cell_front front;
    plan_model models[SPARK_MAX_SERVED];
    uint64_t planned; /* front, and all that is loaded at start */
    uint64_t most;    /* with all that is loaded on use; never above a budget that suffices */
    bool fits;
} plan_all;

/* ---- MODEL... without a name is served by the name of its file ---- */

static int plan_take_models(const cli_args *args)
{
    for (uint32_t i = 0; i < args->n; i++) {
        if (cli_config_models.n == CLI_MAX_TEXTS) return cli_usage("plan", "more than %d models", (int)CLI_MAX_TEXTS);
        const char *text = cli_config_named(args->item[i]);
        if (!text) return cli_no_memory("plan");
        cli_config_models.item[cli_config_models.n++] = text; /* for as long as the process lives */
    }
    return CLI_OK;
}

/* ---- Before the cell: settings are the operator's own, models are not. The cell gets the former as one text. ---- */

static const char plan_settings[] = "the settings";

static int plan_pass_settings(const spark_config *c)
{
    char *text = NULL;
    spark_err err = {0};
    if (spark_config_write(c, &text, &err).code != SPARK_OK) return cli_fail("plan", &err, NULL);
    const size_t len = strlen(text);
    const int fd = memfd_create("settings", MFD_CLOEXEC);
    const bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0;
    free(text);
    if (!ok) {
        cli_note("plan: cannot make a memory file: %s", strerror(errno));
        if (fd >= 0) close(fd);
        return CLI_FAILED;
    }
    cli_files_add(CLI_FILE_TEXT, plan_settings, true, fd, 0);
    return CLI_OK;
}

static int plan_files(const cli_args *args)
{
    spark_config *c = NULL;
    int code = plan_take_models(args);
    if (code == CLI_OK) code = cli_config_load("plan", &c);
    if (code != CLI_OK) return code;
    if (c->origin[SPARK_SET_jail].source != SPARK_FROM_DEFAULT) cli_jail_wish = c->jail; /* the same choices */
    for (uint32_t i = 0; i < c->n_models; i++)
        if (c->models[i].file) cli_name_model(c->models[i].file);
    code = plan_pass_settings(c);
    spark_config_destroy(&c);
    return code;
}

static int plan_take_settings(spark_config **out)
{
    cli_bytes text = {0};
    spark_err err = {0};
    if (!cli_read_file(plan_settings, &text)) return CLI_FAILED;
    spark_status s = spark_config_create(out, &err);
    if (s.code == SPARK_OK)
        s = spark_config_add_file(*out, (spark_bytes){(const uint8_t *)text.ptr, text.len}, plan_settings, &err);
    if (s.code == SPARK_OK) s = spark_config_finish(*out, &err);
    free(text.ptr);
    return s.code == SPARK_OK ? CLI_OK : cli_fail("plan", &err, NULL);
}

/* ---- The sum, by the same functions as the service ---- */

/* Each model is opened twice, for its wish and for what it gets: heads only, and never two at once. */
static int plan_open(plan_model *m, spark_model **out)
{
    const cli_model_options o = {.n_threads = m->cell.n_threads, .cpu = m->cell.cpu[0] ? m->cell.cpu : NULL};
    const int code = cli_open(m->config->file, &o, false, out);
    if (code != CLI_OK) return code;
    spark_err err = {0};
    if (cell_plan_make(&m->plan, &m->cell, *out, &err).code == SPARK_OK) return CLI_OK;
    const int failed = cli_fail(m->config->name, &err, NULL);
    return err.code == SPARK_E_ARGUMENT ? CLI_USAGE : failed; /* as 'spark serve' ends then */
}

static int plan_wish(plan_model *m)
{
    spark_model *model = NULL;
    const int code = plan_open(m, &model);
    spark_model_close(&model);
    return code;
}

static int plan_fit(plan_model *m)
{
    spark_model *model = NULL;
    int code = CLI_OK;
    m->fits = m->budget >= m->plan.most.planned;
    if (m->fits) return CLI_OK;
    code = plan_open(m, &model);
    if (code == CLI_OK) m->fits = cell_plan_fit(&m->plan, &m->cell, model, m->budget, &m->why).code == SPARK_OK;
    if (!m->fits) m->plan.memory = m->plan.least;
    spark_model_close(&model);
    return code;
}

/* As the warden does: what is loaded at start shares the budget; what is loaded on use must fit beside it. */
static void plan_divide(plan_all *p)
{
    cell_wish wish[SPARK_MAX_SERVED];
    plan_model *of[SPARK_MAX_SERVED];
    uint32_t n = 0;
    const uint64_t budget = p->config->memory;
    uint64_t left = budget > p->front.planned ? budget - p->front.planned : 0;
    for (uint32_t i = 0; i < p->config->n_models; i++) {
        plan_model *m = &p->models[i];
        m->budget = UINT64_MAX;
        if (m->on_use) continue;
        of[n] = m;
        wish[n++] = (cell_wish){.least = m->plan.least.planned, .most = m->plan.most.planned};
    }
    if (budget == 0) return;
    cell_share(wish, n, left);
    for (uint32_t i = 0; i < n; i++) {
        of[i]->budget = wish[i].granted;
        left -= left < wish[i].granted ? left : wish[i].granted;
    }
    for (uint32_t i = 0; i < p->config->n_models; i++)
        if (p->models[i].on_use) p->models[i].budget = left;
}

static int plan_sum_all(plan_all *p)
{
    const uint32_t n = p->config->n_models;
    int code = CLI_OK;
    p->front = cell_front_plan(p->config);
    p->fits = p->config->memory == 0 || p->front.planned < p->config->memory;
    p->planned = p->front.planned;
    for (uint32_t i = 0; i < n && code == CLI_OK; i++) {
        plan_model *m = &p->models[i];
        m->config = &p->config->models[i];
        m->on_use = m->config->load != 0;
        cell_config_of(&m->cell, p->config, m->config);
        code = plan_wish(m);
    }
    if (code == CLI_OK) plan_divide(p);
    for (uint32_t i = 0; i < n && code == CLI_OK; i++) {
        plan_model *m = &p->models[i];
        code = plan_fit(m);
        p->fits = p->fits && m->fits;
        uint64_t *sum = m->on_use ? &p->most : &p->planned;
        *sum += m->plan.memory.planned;
    }
    p->most += p->planned;
    const uint64_t budget = p->config->memory; /* within it one makes room for another */
    if (budget && p->fits && p->most > budget) p->most = budget;
    return code;
}

/* ---- Printing ---- */

static void plan_put_sums(cli_out *o, const plan_all *p)
{
    char size[32];
    const bool later = p->most > p->planned;
    cli_putf(o, "\nsum%s: %s", later ? " at start" : "", cli_size(p->planned, size));
    if (later) cli_putf(o, "\nsum at most, with models loaded on use: %s", cli_size(p->most, size));
    if (p->config->memory)
        cli_putf(o, p->fits ? " of a budget of %s" : ", more than the budget of %s", cli_size(p->config->memory, size));
    cli_put(o, "\n", 1);
}

static void plan_put_text(cli_out *o, const plan_all *p)
{
    char text[CELL_MEMORY_TEXT], size[32], other[32], replies[32];
    for (uint32_t i = 0; i < p->config->n_models; i++) {
        const plan_model *m = &p->models[i];
        const cell_memory *s = &m->plan.memory;
        cli_putf(o, "model ");
        cli_put(o, m->config->name, strlen(m->config->name));
        cli_putf(o, "%s: ", m->on_use ? " (loaded on use)" : "");
        cli_put(o, cell_memory_text(s, text), strlen(text));
        if (m->fits)
            cli_putf(o,
                     "\n  context %" PRIu64 ", %" PRIu64 " requests at once, room for %" PRIu64
                     " whole context%s, %" PRIu64 " threads\n",
                     s->n_ctx, s->n_running, cell_memory_contexts(s), cell_memory_contexts(s) == 1 ? "" : "s",
                     s->n_threads);
        else
            cli_putf(o,
                     "\n  DOES NOT FIT: this is the least, for one context of %" PRIu64 ", and the budget leaves %s\n",
                     s->n_ctx, cli_size(m->budget, size));
    }
    cli_putf(o, "front and warden: %s", cli_size(p->front.planned, size));
    if (p->front.planned < p->front.wish)
        cli_putf(o, ", which the front cannot exceed (%s if all its limits were reached), %s of it for answers",
                 cli_size(p->front.wish, other), cli_size(p->front.replies, replies));
    else
        cli_putf(o, " (%u connections, %s of bodies, %s of answers)", p->config->max_connections,
                 cli_size(p->config->max_bodies, other), cli_size(p->front.replies, replies));
    plan_put_sums(o, p);
}

static void plan_put_sum(cli_out *o, const cell_memory *s)
{
#define PLAN_FIELD(name, words) cli_putf(o, ",\"" #name "\":%" PRIu64, s->name);
    CELL_MEMORY_FACTS(PLAN_FIELD)
    CELL_MEMORY_PARTS(PLAN_FIELD)
#undef PLAN_FIELD
    cli_putf(o, ",\"whole_contexts\":%" PRIu64, cell_memory_contexts(s));
}

static void plan_put_json(cli_out *o, const plan_all *p)
{
    cli_putf(o,
             "{\"budget\":%" PRIu64 ",\"planned\":%" PRIu64 ",\"planned_at_most\":%" PRIu64
             ",\"fits\":%s,\"front\":{\"planned\":%" PRIu64 ",\"wish\":%" PRIu64 ",\"replies\":%" PRIu64
             "},\"models\":[",
             p->config->memory, p->planned, p->most, p->fits ? "true" : "false", p->front.planned, p->front.wish,
             p->front.replies);
    for (uint32_t i = 0; i < p->config->n_models; i++) {
        const plan_model *m = &p->models[i];
        cli_putf(o, "%s{\"name\":", i ? "," : "");
        cli_put_json(o, m->config->name, strlen(m->config->name));
        cli_putf(o, ",\"file\":");
        if (m->config->file)
            cli_put_json(o, m->config->file, strlen(m->config->file));
        else
            cli_putf(o, "null");
        cli_putf(o, ",\"load\":\"%s\",\"fits\":%s,\"least\":%" PRIu64 ",\"most\":%" PRIu64, m->on_use ? "use" : "start",
                 m->fits ? "true" : "false", m->plan.least.planned, m->plan.most.planned);
        plan_put_sum(o, &m->plan.memory);
        cli_putf(o, "}");
    }
    cli_putf(o, "]}\n");
}

static int plan_complain(const plan_all *p)
{
    for (uint32_t i = 0; i < p->config->n_models; i++) {
        const plan_model *m = &p->models[i];
        if (!m->fits)
            return cli_fail(m->config->name, &m->why,
                            "raise --memory, or lower --ctx, --parallel or --max-connections");
    }
    cli_note("plan: the budget is less than front and warden take; raise --memory");
    return CLI_FAILED;
}

static int plan_run(const cli_args *args)
{
    static plan_all p; /* large, and needed once */
    cli_out o = {0};
    (void)args;
    int code = plan_take_settings(&p.config);
    if (code == CLI_OK) code = plan_sum_all(&p);
    if (code == CLI_OK) {
        if (plan_json)
            plan_put_json(&o, &p);
        else
            plan_put_text(&o, &p);
        code = cli_write(o.ptr, o.len);
        if (code == CLI_OK && !p.fits) code = plan_complain(&p);
    }
    cli_out_free(&o);
    spark_config_destroy(&p.config);
    return code;
}

const cli_command cli_command_plan = {
    .name = "plan",
    .args = "[MODEL...]",
    .summary = "print the memory that 'spark serve' would take, before anything is served",
    .details =
        "Takes the settings of 'spark serve', and files of models besides. Reads the heads of files, never the "
        "weights.\n"
        "With --memory it tells how the budget is divided: every model gets room for one whole context, and what is\n"
        "left makes room for more. The service reserves exactly this: the sum at start before anything is served, and "
        "with\n"
        "models loaded on use never more than the sum at most. Exit 1 if something does not fit.",
    .examples = "spark plan model.gguf --ctx 8192\n"
                "spark plan --config /etc/spark/spark.conf --json\n"
                "spark plan --model a=one.gguf --model b=two.gguf --memory 12G",
    .options = plan_options,
    .run = plan_run,
    .files = plan_files,
};
