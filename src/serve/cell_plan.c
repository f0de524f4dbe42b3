/* cell_plan.c - see cell_plan.h. */
#include "serve/cell_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "serve/wire.h"

enum {
    PLAN_KV_BLOCK = 128,
    PLAN_TEXT_MIN = 256 << 10, /* bytes of one request's text that memory is planned for: at least, */
    PLAN_TEXT_TOKEN = 16,      /* and for each token of the context: four times what a token of prose has */
    PLAN_PROGRAM = 4 << 20, /* code that runs (shared by all processes), stacks, libraries: measured 3.4 to 3.9 MiB */
    PLAN_PUBLIC = 1 << 20,  /* tokens of the public prefix, at most */
    PLAN_STREAM = 12,       /* of a stream in the engine cell, by link */
    PLAN_FRONT = 16 << 20,  /* front and warden with nobody connected: measured 10 MiB */
    PLAN_CONNECTION = 10 << 10, /* measured 9 KiB, 18 KiB under TLS */
    PLAN_CONNECTION_TLS = 20 << 10,
    PLAN_FRONT_LEAST = 48 << 20, /* of a budget; and the links to the engines */
    PLAN_FRONT_PART = 8,         /* of a budget, at most its eighth */
    PLAN_REPLIES_PART = 4,       /* and of what it is given, replies a quarter */
    PLAN_COPY_SWELL = 4,         /* a list of short ids doubles, and an arena's last chunk may be half empty */
    PLAN_COPY_LEAST = 64 << 10,
    PLAN_COPY_MOST = 64 << 20,
    PLAN_SLACK = 64 << 20,
    PLAN_SLACK_THREAD = (64 + 8) << 20, /* glibc's arena of a thread, its stack */
};

/* ---- The sum on its way to the warden ---- */

void cell_memory_put(uint8_t out[CELL_MEMORY_BYTES], const cell_memory *m)
{
#define PLAN_PUT(name, words) spark_store_u64(out, m->name), out += 8;
    CELL_MEMORY_FACTS(PLAN_PUT)
    CELL_MEMORY_PARTS(PLAN_PUT)
#undef PLAN_PUT
}

cell_memory cell_memory_get(const uint8_t in[CELL_MEMORY_BYTES])
{
    cell_memory m;
#define PLAN_GET(name, words) m.name = spark_load_u64(in), in += 8;
    CELL_MEMORY_FACTS(PLAN_GET)
    CELL_MEMORY_PARTS(PLAN_GET)
#undef PLAN_GET
    return m;
}

static const char *plan_mib(uint64_t bytes, char buf[24])
{
    snprintf(buf, 24, bytes >= 10u << 20 ? "%.0f" : "%.1f", (double)bytes / (1 << 20));
    return buf;
}

const char *cell_memory_text(const cell_memory *m, char buf[CELL_MEMORY_TEXT])
{
    char number[24];
    int at = snprintf(buf, CELL_MEMORY_TEXT, "%s MiB", plan_mib(m->planned, number));
    const char *between = " = ";
#define PLAN_TEXT(name, words)                                                                                         \
    if (at < CELL_MEMORY_TEXT)                                                                                         \
        at += snprintf(buf + at, (size_t)(CELL_MEMORY_TEXT - at), "%s%s %s", between, words,                           \
                       plan_mib(m->name, number));                                                                     \
    between = " + ";
    CELL_MEMORY_PARTS(PLAN_TEXT)
#undef PLAN_TEXT
    return buf;
}

/* ---- One engine ---- */

void cell_config_of(cell_config *out, const spark_config *c, const spark_config_model *m)
{
    static const uint32_t kinds[] = {SPARK_KV_TYPE_F16, SPARK_KV_TYPE_F32, SPARK_KV_TYPE_Q8_0}; /* choices of `kv` */
    cell_config_defaults(out);
    snprintf(out->name, sizeof out->name, "%s", m->name);
    if (c->cpu) snprintf(out->cpu, sizeof out->cpu, "%s", c->cpu);
    if (m->threads) out->n_threads = m->threads;
    out->n_ctx = m->ctx;
    out->n_running = m->parallel;
    out->n_waiting = m->queue;
    out->itl_target_us = (uint32_t)(c->itl_target * 1000);
    out->kv = kinds[m->kv];
    out->prefix_cache = m->prefix_cache;
    out->has_public = m->public_prefix != NULL;
}

static uint64_t plan_links(void)
{
    return spark_wire_bytes(SPARK_WIRE_ENGINE, 0) + spark_wire_bytes(SPARK_WIRE_ENGINE, SPARK_WIRE_STREAMS) +
           (uint64_t)SPARK_WIRE_STREAMS * PLAN_STREAM;
}

static spark_status plan_sum(cell_memory *out, const cell_plan *p, const cell_config *c, const spark_model *m,
                             uint32_t n_pages, spark_err *err)
{
    spark_engine_memory e;
    spark_memory net;
    spark_plan base;
    spark_engine_options o = p->engine;
    const spark_session_options so = {.n_ctx = o.n_ctx, .kv = (spark_kv_choice)c->kv};
    const spark_shape shape = {
        .n_ctx = o.n_ctx, .n_seqs = 1, .n_batch = 1, .n_logits = 1, .n_threads = c->n_threads, .kv_type = o.kv_type};
    o.n_pages = n_pages;
    SPARK_TRY(spark_model_plan(m, &so, &base, err));
    SPARK_TRY(spark_net_plan(m->net, &shape, &net, err));
    SPARK_TRY(spark_engine_plan(m->net, m->tokenizer, &o, c->n_threads, &e, err));
    *out = (cell_memory){.weights = base.weights,
                         .kv = e.kv,
                         .compute = e.scratch,
                         .requests = e.requests,
                         .text = p->text,
                         .vocabulary = base.vocabulary + (c->has_public ? PLAN_PUBLIC : 0),
                         .links = plan_links(),
                         .program = PLAN_PROGRAM,
                         .n_ctx = o.n_ctx,
                         .n_running = o.n_running,
                         .n_pages = n_pages,
                         .n_threads = c->n_threads};
    bool ok = true;
#define PLAN_ADD(name, words) ok = ok && spark_add_u64(out->planned, out->name, &out->planned);
    CELL_MEMORY_PARTS(PLAN_ADD)
#undef PLAN_ADD
    SPARK_CHECK(ok && spark_add_u64(out->weights, out->vocabulary + out->links + out->program, &out->loading) &&
                    spark_add_u64(out->loading, net.loading, &out->loading),
                err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the plan exceeds what a computer can address");
    if (out->planned < out->loading)
        out->planned = out->loading; /* the buffers of loading are given back before the rest is taken */
    return SPARK_SUCCESS;
}

spark_status cell_plan_make(cell_plan *out, const cell_config *c, const spark_model *m, spark_err *err)
{
    const spark_session_options so = {.n_ctx = c->n_ctx, .n_batch = c->n_batch, .kv = (spark_kv_choice)c->kv};
    spark_shape shape;
    cell_plan p = {0};
    SPARK_TRY(api_session_shape(m, &so, &shape, err));
    const uint64_t waiting = (uint64_t)c->n_waiting * shape.n_ctx; /* more could never wait */
    const uint64_t tokens = c->waiting_tokens < waiting ? c->waiting_tokens : waiting;
    const uint64_t one = spark_div_up(shape.n_ctx, PLAN_KV_BLOCK), all = one * c->n_running;
    p.engine = (spark_engine_options){.n_ctx = shape.n_ctx,
                                      .n_running = c->n_running,
                                      .n_waiting = c->n_waiting,
                                      .waiting_tokens = tokens > shape.n_ctx ? (uint32_t)tokens : shape.n_ctx,
                                      .n_batch = shape.n_batch > c->n_running ? shape.n_batch : c->n_running,
                                      .itl_target_us = c->itl_target_us ? c->itl_target_us : SPARK_ITL_AUTO,
                                      .kv_type = shape.kv_type,
                                      .n_pages = (uint32_t)all,
                                      .prefix_cache = c->prefix_cache};
    SPARK_CHECK(all <= UINT32_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%u requests of %u positions are too many",
                c->n_running, shape.n_ctx);
    size_t text = (size_t)shape.n_ctx * PLAN_TEXT_TOKEN;
    text = text < PLAN_TEXT_MIN ? PLAN_TEXT_MIN : text > SPARK_WIRE_ASK_MAX ? SPARK_WIRE_ASK_MAX : text;
    p.text = api_text_scratch_bytes(m, shape.n_ctx, text);
    SPARK_TRY(plan_sum(&p.least, &p, c, m, (uint32_t)one, err));
    SPARK_TRY(plan_sum(&p.most, &p, c, m, (uint32_t)all, err));
    p.memory = p.most;
    *out = p;
    return SPARK_SUCCESS;
}

spark_status cell_plan_fit(cell_plan *p, const cell_config *c, const spark_model *m, uint64_t budget, spark_err *err)
{
    const cell_memory *least = &p->least;
    if (p->most.planned <= budget) return SPARK_SUCCESS;
    char all[24], weights[24], kv[24], rest[24], left[24];
    SPARK_CHECK(least->planned <= budget, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE,
                "needs %s MiB (weights %s, keys and values of one context of %" PRIu64
                " tokens %s, rest %s), and the budget leaves %s MiB",
                plan_mib(least->planned, all), plan_mib(least->weights, weights), least->n_ctx, plan_mib(least->kv, kv),
                plan_mib(least->planned - least->weights - least->kv, rest), plan_mib(budget, left));
    uint64_t n = least->n_pages;
    if (p->most.n_pages > n) { /* between the two a page costs the same, but for the roundings of tables */
        const uint64_t page = spark_div_up(p->most.planned - least->planned, p->most.n_pages - n);
        n += page ? (budget - least->planned) / page : 0;
    }
    p->memory = *least;
    for (; n > least->n_pages; n--) {
        SPARK_TRY(plan_sum(&p->memory, p, c, m, (uint32_t)n, err));
        if (p->memory.planned <= budget) break;
        p->memory = *least;
    }
    p->engine.n_pages = (uint32_t)p->memory.n_pages;
    return SPARK_SUCCESS;
}

/* ---- All together ---- */

void cell_share(cell_wish *w, uint32_t n, uint64_t left)
{
    uint64_t lack = 0;
    bool fits = true;
    for (uint32_t i = 0; i < n; i++) {
        const bool ok = w[i].least <= left;
        w[i].granted = ok ? w[i].least : left;
        left -= ok ? w[i].least : 0;
        lack += ok ? w[i].most - w[i].least : 0;
        fits = fits && ok;
    }
    if (!fits || lack == 0) return; /* who fails makes room, or is told: nobody gets more meanwhile */
    const double part = left < lack ? (double)left / (double)lack : 1;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t more = w[i].most - w[i].least, share = part < 1 ? (uint64_t)((double)more * part) : more;
        w[i].granted += share;
    }
}

/* Answers that are kept for --log-prompts: of all that may run or wait at once. */
static uint64_t plan_answers(const spark_config *c)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < c->n_models; i++) n += (uint64_t)c->models[i].parallel + c->models[i].queue;
    return c->log_prompts ? n * CELL_LOG_TEXT : 0;
}

uint64_t cell_copy_most(const spark_config *c)
{
    const uint64_t swollen = PLAN_COPY_SWELL * c->max_body + PLAN_COPY_LEAST;
    return swollen < PLAN_COPY_MOST ? swollen : PLAN_COPY_MOST;
}

cell_front cell_front_plan(const spark_config *c)
{
    const uint64_t links = (uint64_t)c->n_models * spark_wire_bytes(SPARK_WIRE_CLIENT, SPARK_WIRE_STREAMS);
    const uint64_t connections = (uint64_t)c->max_connections * (c->tls_cert ? PLAN_CONNECTION_TLS : PLAN_CONNECTION);
    const uint64_t least = PLAN_FRONT_LEAST + links, part = c->memory / PLAN_FRONT_PART;
    const uint64_t one = c->max_body + SPARK_MAX_JSON_MEMORY + cell_copy_most(c); /* body, its values, its copy */
    const uint64_t bodies = c->max_bodies > one ? c->max_bodies : one;
    cell_front f = {.wish = PLAN_FRONT + links + connections + bodies + c->max_replies + plan_answers(c),
                    .replies = c->max_replies};
    f.planned = f.wish;
    if (!c->memory || f.planned <= part) return f;
    f.planned = part > least ? part : least;
    if (f.planned < f.wish && f.replies > f.planned / PLAN_REPLIES_PART) f.replies = f.planned / PLAN_REPLIES_PART;
    return f;
}

uint64_t cell_address_slack(uint32_t n_threads) { return PLAN_SLACK + (uint64_t)n_threads * PLAN_SLACK_THREAD; }
