/* load_modes.c - see load_modes.h. A mode is a function `next` that says what a free client does, and sometimes a clock. */
#include "load_modes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/philox.h"

static const uint64_t mode_second = 1000000000;

/* What every mode's `next` sees. */
typedef struct mode_run {
    const load_options *o;
    load_loop loop;
    load_group group, others; /* others: kept time's */
    uint64_t number;          /* of the next request: its words follow from it */
    uint32_t *done;           /* [clients] requests given out to each */
    uint64_t deadline;        /* no request starts after it; 0 = none */
    char *get;                /* the one GET request, shared */
    size_t get_len;
    /* open loop */
    uint64_t *arrivals, began;
    uint32_t n_due, n_sent; /* arrivals that have come; that a client has taken */
    uint32_t *idle, n_idle;
    /* kept time */
    int phase;
    uint64_t phase_began, phase_end;
    uint64_t n_before;         /* pieces of the observers when the phase began */
    uint64_t n_warm, n_loaded; /* and what they got in those */
    uint64_t loaded_ns;
    bool compared; /* the control run is whole */
    load_samples warm, control, loaded;
} mode_run;

/* ---- The server's processes ------------------------------------------------------------------------------------------ */

static bool usage_of_process(int pid, load_usage *u)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *after = strrchr(text, ')'); /* the name may hold anything */
    unsigned long user = 0, system_time = 0;
    if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system_time) != 2)
        return false;
    u->cpu_s += (double)(user + system_time) / (double)sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (!(f = fopen(path, "r"))) return false;
    unsigned long kib;
    while (fgets(text, sizeof text, f)) {
        if (sscanf(text, "VmRSS: %lu", &kib) == 1) u->rss += kib * 1024;
        if (sscanf(text, "VmHWM: %lu", &kib) == 1) u->peak += kib * 1024;
    }
    fclose(f);
    return true;
}

load_usage load_usage_of(const load_options *o)
{
    load_usage u = {0};
    for (uint32_t i = 0; i < o->n_pids; i++) u.n_alive += usage_of_process(o->pids[i], &u);
    return u;
}

static double mode_own_cpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ---- Results as JSON ------------------------------------------------------------------------------------------------- */

static json_t *json_samples(load_samples *s)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)s->n, "mean", load_mean(s), "p50",
                     load_percentile(s, 50), "p95", load_percentile(s, 95), "p99", load_percentile(s, 99), "max",
                     load_percentile(s, 100));
}

static json_t *json_errors(const load_group *g)
{
    json_t *errors = json_object();
    for (int e = 0; e < LOAD_N_ENDS; e++)
        if (e != LOAD_OK && e != LOAD_CANCELLED && g->ends[e])
            json_object_set_new(errors, load_end_text((load_end)e), json_integer((json_int_t)g->ends[e]));
    return errors;
}

static json_t *json_statuses(const load_group *g)
{
    json_t *statuses = json_object();
    for (int i = 0; i < 600; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        if (g->statuses[i]) json_object_set_new(statuses, name, json_integer((json_int_t)g->statuses[i]));
    }
    return statuses;
}

static json_t *json_group(load_group *g)
{
    const double seconds = g->ended_ns > g->began_ns ? (double)(g->ended_ns - g->began_ns) / 1e9 : 0;
    const double rate = seconds > 0 ? 1 / seconds : 0;
    json_t *j = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "requests", (json_int_t)g->n_started, "ok",
                          (json_int_t)g->ends[LOAD_OK], "cancelled", (json_int_t)g->ends[LOAD_CANCELLED], "errors",
                          (json_int_t)load_group_errors(g), "silent", (json_int_t)g->n_silent, "reconnected",
                          (json_int_t)g->n_reconnected, "seconds", seconds);
    json_object_set_new(j, "kinds_of_error", json_errors(g));
    json_object_set_new(j, "statuses", json_statuses(g));
    if (g->example[0]) json_object_set_new(j, "first_error", json_string(g->example));
    json_object_set_new(j, "requests_per_s", json_real((double)g->ends[LOAD_OK] * rate));
    json_object_set_new(j, "prompt_tokens", json_integer((json_int_t)g->prompt_tokens));
    json_object_set_new(j, "completion_tokens", json_integer((json_int_t)g->completion_tokens));
    json_object_set_new(j, "pieces", json_integer((json_int_t)g->n_pieces));
    json_object_set_new(j, "prompt_tokens_per_s", json_real((double)g->prompt_tokens * rate));
    json_object_set_new(j, "tokens_per_s", json_real((double)g->completion_tokens * rate));
    if (g->first_ms.n) json_object_set_new(j, "first_ms", json_samples(&g->first_ms));
    if (g->gap_ms.n) json_object_set_new(j, "gap_ms", json_samples(&g->gap_ms));
    if (g->total_ms.n) json_object_set_new(j, "total_ms", json_samples(&g->total_ms));
    return j;
}

/* ---- One run of the loop --------------------------------------------------------------------------------------------- */

static void mode_open(mode_run *m, const load_options *o, const load_target *t, uint32_t n_clients, load_next next)
{
    *m = (mode_run){.o = o};
    load_loop_open(&m->loop, t, n_clients);
    m->loop.next = next;
    m->loop.ctx = m;
    m->loop.timeout_ns = (uint64_t)(o->timeout * 1e9);
    m->loop.fresh = o->fresh;
    m->done = load_grow(NULL, n_clients, sizeof *m->done);
    memset(m->done, 0, n_clients * sizeof *m->done);
}

static void mode_close(mode_run *m)
{
    load_loop_close(&m->loop);
    load_group_free(&m->group);
    load_group_free(&m->others);
    load_samples_free(&m->warm);
    load_samples_free(&m->control);
    load_samples_free(&m->loaded);
    free(m->done);
    free(m->get);
    free(m->arrivals);
    free(m->idle);
}

/* Runs it, and what the server's processes used meanwhile. */
static json_t *mode_measure(mode_run *m)
{
    const load_usage before = load_usage_of(m->o);
    const double own = mode_own_cpu();
    load_loop_run(&m->loop);
    const double own_after = mode_own_cpu();
    const load_usage after = load_usage_of(m->o);
    json_t *j = json_group(&m->group);
    json_object_set_new(j, "generator_cpu_s", json_real(own_after - own));
    if (m->o->n_pids)
        json_object_set_new(j, "server",
                            json_pack("{s:f, s:I, s:I, s:I, s:i}", "cpu_s", after.cpu_s - before.cpu_s, "rss_before",
                                      (json_int_t)before.rss, "rss", (json_int_t)after.rss, "peak",
                                      (json_int_t)after.peak, "processes", (int)after.n_alive));
    return j;
}

static void mode_prompt(mode_run *m, load_job *job, load_group *g, uint32_t prompt, uint32_t max_new)
{
    const load_text *t = &m->o->text;
    *job = (load_job){.group = g, .owned = true, .is_stream = true};
    job->bytes = load_text_request(t, m->number++, load_text_words(t, prompt), max_new, &job->len);
}

/* ---- closed: N clients, each with R requests one after the other ------------------------------------------------------ */

static bool closed_next(void *ctx, load_client *c, load_job *job)
{
    mode_run *m = ctx;
    if (m->deadline ? m->loop.now >= m->deadline : m->done[c->index] >= m->o->requests) return false;
    m->done[c->index]++;
    mode_prompt(m, job, &m->group, m->o->prompt, m->o->max_new);
    return true;
}

static json_t *closed_run(const load_options *o, const load_target *t)
{
    mode_run m;
    mode_open(&m, o, t, o->clients, closed_next);
    if (o->seconds > 0) m.deadline = spark_clock_ns() + (uint64_t)(o->seconds * 1e9);
    json_t *j = mode_measure(&m);
    mode_close(&m);
    return j;
}

/* ---- open: arrivals come when they come, whether the server keeps up or not -------------------------------------------- */

static void open_take(mode_run *m, load_job *job)
{
    mode_prompt(m, job, &m->group, m->o->prompt, m->o->max_new);
    job->due_ns = m->began + m->arrivals[m->n_sent++];
}

static bool open_next(void *ctx, load_client *c, load_job *job)
{
    mode_run *m = ctx;
    if (m->n_sent < m->n_due) {
        open_take(m, job);
        return true;
    }
    m->idle[m->n_idle++] = c->index;
    return false;
}

static void open_time(void *ctx)
{
    mode_run *m = ctx;
    while (m->n_due < m->o->requests && m->began + m->arrivals[m->n_due] <= m->loop.now) {
        m->n_due++;
        if (!m->n_idle) continue; /* waits for a client, and the wait counts */
        load_job job;
        open_take(m, &job);
        load_start(&m->loop.clients[m->idle[--m->n_idle]], &job);
    }
    m->loop.wake_ns = m->n_due < m->o->requests ? m->began + m->arrivals[m->n_due] : 0;
}

static json_t *open_run(const load_options *o, const load_target *t)
{
    mode_run m;
    mode_open(&m, o, t, o->clients, open_next);
    m.arrivals = load_grow(NULL, o->requests, sizeof *m.arrivals);
    m.idle = load_grow(NULL, o->clients, sizeof *m.idle);
    load_poisson(o->text.seed, o->rate, o->requests, m.arrivals);
    m.loop.on_time = open_time;
    m.began = spark_clock_ns();
    m.loop.wake_ns = m.began + m.arrivals[0];
    json_t *j = mode_measure(&m);
    json_object_set_new(j, "rate", json_real(o->rate));
    mode_close(&m);
    return j;
}

static void mode_sleep(double seconds)
{
    const struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

/* ---- kept: do streams stall while others send long prompts? -------------------------------------------------------------
 * Clients 0 .. clients-1 observe: they decode all the time, for two seconds alone, then beside the rest, which send prompts of the
 * sizes in turn, without pause, until all that were begun in time are computed; then once more from the beginning, and alone as many
 * tokens: what a token takes grows with those before it, so both runs are over the same positions. */

#define KEPT_REST                                                                                                      \
    5.0 /* seconds before it all: servers put their memory in order while they are idle, as in any service that runs for long */

enum { KEPT_WARM, KEPT_LOADED, KEPT_LAST, KEPT_AGAIN, KEPT_CONTROL, KEPT_OVER };

static bool kept_next(void *ctx, load_client *c, load_job *job)
{
    mode_run *m = ctx;
    const load_options *o = m->o;
    if (c->index < o->clients) {
        if (m->phase == KEPT_OVER) return false;
        mode_prompt(m, job, &m->group, o->prompt, o->max_new);
        return true;
    }
    if (m->phase != KEPT_LOADED || m->loop.now >= m->phase_end) return false;
    const uint32_t turn = (c->index - o->clients) + m->done[c->index]++;
    mode_prompt(m, job, &m->others, o->prompts[turn % o->n_prompts], o->other_new);
    return true;
}

/* Every observer has got a piece since `since` (0: ever in this request), or is between two requests. */
static bool kept_all_heard(const mode_run *m, uint64_t since)
{
    for (uint32_t i = 0; i < m->o->clients; i++) {
        const load_client *c = &m->loop.clients[i];
        if (c->state > LOAD_PAUSED && (c->n_pieces == 0 || c->last_ns < since)) return false;
    }
    return true;
}

static void kept_start_others(mode_run *m)
{
    for (uint32_t i = m->o->clients; i < m->loop.n_clients; i++) {
        load_job job;
        if (m->loop.clients[i].state == LOAD_IDLE && kept_next(m, &m->loop.clients[i], &job))
            load_start(&m->loop.clients[i], &job);
    }
}

static bool kept_others_done(const mode_run *m)
{
    for (uint32_t i = m->o->clients; i < m->loop.n_clients; i++)
        if (m->loop.clients[i].state > LOAD_PAUSED) return false;
    return true;
}

/* Pieces that the observers have got so far. */
static uint64_t kept_pieces(const mode_run *m)
{
    uint64_t n = m->group.n_pieces; /* of requests that have ended */
    for (uint32_t i = 0; i < m->o->clients; i++)
        if (m->loop.clients[i].state > LOAD_PAUSED) n += m->loop.clients[i].n_pieces;
    return n;
}

static void kept_enter(mode_run *m, int phase, load_samples *gaps, double seconds)
{
    m->phase = phase;
    m->group.gaps = gaps;
    m->phase_began = m->loop.now;
    m->phase_end = m->loop.now + (uint64_t)(seconds * 1e9);
    m->n_before = kept_pieces(m);
}

static void kept_drop(mode_run *m, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) load_drop(&m->loop.clients[i]);
}

/* Each phase ends when it has what it is for, or when its time is up, so that a server that says nothing more holds none for ever; the
 * loaded one lasts its time, and until the others are answered (--timeout). */
static void kept_time(void *ctx)
{
    mode_run *m = ctx;
    const uint64_t now = m->loop.now, n_got = kept_pieces(m) - m->n_before, lasted = now - m->phase_began;
    const bool late = now >= m->phase_end;
    m->loop.wake_ns = now + mode_second / 50;
    if (m->phase == KEPT_WARM && (late || (kept_all_heard(m, 1) && lasted >= 2 * mode_second))) {
        m->n_warm = n_got;
        kept_enter(m, KEPT_LOADED, &m->loaded, m->o->seconds);
        kept_start_others(m);
    } else if (m->phase == KEPT_LOADED && late && kept_others_done(m)) {
        m->loaded_ns = lasted;
        m->n_loaded = n_got;
        kept_enter(m, KEPT_LAST, &m->loaded, 60); /* a gap that is still open belongs to the others */
    } else if (m->phase == KEPT_LAST && (late || kept_all_heard(m, m->phase_began))) {
        kept_drop(m, m->o->clients);
        kept_enter(m, KEPT_AGAIN, &m->warm, 60);
    } else if (m->phase == KEPT_AGAIN && (late || (kept_all_heard(m, 1) && n_got >= m->n_warm))) {
        kept_enter(m, KEPT_CONTROL, &m->control, 60 + 2 * (double)m->loaded_ns / 1e9);
    } else if (m->phase == KEPT_CONTROL && (late || n_got >= m->n_loaded)) {
        m->compared = n_got > 0 && n_got >= m->n_loaded;
        m->phase = KEPT_OVER;
        m->loop.wake_ns = 0;
        kept_drop(m, m->loop.n_clients);
    }
}

/* Without a whole control run there is nothing to compare with: its figures are left out. */
static json_t *kept_run(const load_options *o, const load_target *t)
{
    mode_run m;
    mode_sleep(KEPT_REST);
    mode_open(&m, o, t, o->clients + o->others, kept_next);
    m.loop.on_time = kept_time;
    m.loop.now = spark_clock_ns();
    kept_enter(&m, KEPT_WARM, &m.warm, 60);
    m.loop.wake_ns = m.loop.now + mode_second / 50;
    json_t *j = json_object(), *observers = mode_measure(&m);
    json_object_set_new(j, "observers", observers);
    json_object_set_new(j, "others", json_group(&m.others));
    json_object_set_new(j, "loaded_gap_ms", json_samples(&m.loaded));
    if (m.compared) {
        const double p50 = load_percentile(&m.control, 50), worst = load_percentile(&m.control, 100);
        json_object_set_new(j, "control_gap_ms", json_samples(&m.control));
        json_object_set_new(j, "p99_over_control_p50", json_real(load_percentile(&m.loaded, 99) / p50));
        json_object_set_new(j, "worst_over_control_worst", json_real(load_percentile(&m.loaded, 100) / worst));
    }
    mode_close(&m);
    return j;
}

/* ---- burst, health, idle: GET requests ---------------------------------------------------------------------------------- */

static bool get_next(void *ctx, load_client *c, load_job *job)
{
    mode_run *m = ctx;
    if (m->deadline ? m->loop.now >= m->deadline : m->done[c->index] > 0) return false;
    m->done[c->index]++;
    *job = (load_job){.group = &m->group, .bytes = m->get, .len = m->get_len};
    return true;
}

static void get_open(mode_run *m, const load_options *o, const load_target *t)
{
    mode_open(m, o, t, o->clients, get_next);
    m->get = load_text_get(&o->text, o->path, &m->get_len);
}

/* Fresh connections, all at once: none may be reset, and the last answer tells how long the burst was felt. */
static json_t *burst_run(const load_options *o, const load_target *t)
{
    mode_run m;
    get_open(&m, o, t);
    json_t *j = mode_measure(&m);
    mode_close(&m);
    return j;
}

static json_t *health_run(const load_options *o, const load_target *t)
{
    mode_run m;
    get_open(&m, o, t);
    m.deadline = spark_clock_ns() + (uint64_t)((o->seconds > 0 ? o->seconds : 5) * 1e9);
    json_t *j = mode_measure(&m);
    const double cpu = json_real_value(json_object_get(json_object_get(j, "server"), "cpu_s"));
    if (cpu > 0) json_object_set_new(j, "requests_per_server_cpu_s", json_real((double)m.group.ends[LOAD_OK] / cpu));
    mode_close(&m);
    return j;
}

/* Connections that have asked once and now say nothing. */
static json_t *idle_run(const load_options *o, const load_target *t)
{
    mode_run m;
    get_open(&m, o, t);
    json_t *j = mode_measure(&m);
    mode_sleep(o->seconds > 0 ? o->seconds : 2);
    const load_usage after = load_usage_of(o);
    const json_int_t before = json_integer_value(json_object_get(json_object_get(j, "server"), "rss_before"));
    json_object_set_new(j, "closed_by_server", json_integer(load_loop_closed(&m.loop)));
    if (o->n_pids) json_object_set_new(j, "rss_of_connections", json_integer((json_int_t)after.rss - before));
    mode_close(&m);
    return j;
}

/* ---- soak: requests of all sizes, and clients that go away in every way ------------------------------------------------- */

static bool soak_next(void *ctx, load_client *c, load_job *job)
{
    mode_run *m = ctx;
    const load_options *o = m->o;
    if (m->loop.now >= m->deadline) return false;
    (void)c;
    const uint64_t n = m->number, seed = o->text.seed;
    const uint32_t prompt = 1 + (uint32_t)(spark_uniform(seed, n, 2) * o->prompt);
    const uint32_t max_new = 1 + (uint32_t)(spark_uniform(seed, n, 3) * o->max_new);
    mode_prompt(m, job, &m->group, prompt, max_new);
    if (spark_uniform(seed, n, 4) < o->leave) {
        job->leave = LOAD_LEAVE_FIN + (load_leave)(spark_uniform(seed, n, 5) * 3);
        job->leave_after = (uint32_t)(spark_uniform(seed, n, 6) * max_new);
    }
    return true;
}

static json_t *soak_run(const load_options *o, const load_target *t)
{
    mode_run m;
    mode_open(&m, o, t, o->clients, soak_next);
    m.deadline = spark_clock_ns() + (uint64_t)((o->seconds > 0 ? o->seconds : 60) * 1e9);
    json_t *j = mode_measure(&m);
    mode_close(&m);
    return j;
}

/* ---- How long are words? -------------------------------------------------------------------------------------------------- */

static bool calibrate_next(void *ctx, load_client *c, load_job *job)
{
    mode_run *m = ctx;
    (void)c;
    if (m->done[0] >= m->n_due) return false;
    m->done[0]++;
    *job = (load_job){.group = &m->group, .owned = true, .is_stream = true};
    job->bytes = load_text_request(&m->o->text, m->number++, m->n_sent, 1, &job->len);
    return true;
}

/* Mean prompt tokens of `times` requests of `words` words; 0 if one failed or the server does not say. */
static double calibrate_mean(const load_options *o, const load_target *t, uint32_t words, uint32_t times)
{
    mode_run m;
    mode_open(&m, o, t, 1, calibrate_next);
    m.number = UINT64_MAX / 2 + words; /* prompts that no mode sends */
    m.n_due = times;
    m.n_sent = words;
    load_loop_run(&m.loop);
    const double mean = m.group.ends[LOAD_OK] == times ? (double)m.group.prompt_tokens / times : 0;
    if (m.group.example[0]) fprintf(stderr, "load-generator: while asking how long words are: %s\n", m.group.example);
    mode_close(&m);
    return mean;
}

bool load_calibrate(load_options *o, const load_target *t)
{
    o->text.shared_tokens = 0; /* restored by the caller's copy */
    const double few = calibrate_mean(o, t, 4, 4), many = few > 0 ? calibrate_mean(o, t, 32, 8) : 0;
    return few > 0 && many > 0 && load_text_fit(&o->text, 4, few, 32, many);
}

const load_mode load_modes[] = {
    {"closed", "N clients, each sends its next request when the last has ended", closed_run, true},
    {"open", "Poisson arrivals at --rate; latencies count from when a request was due", open_run, true},
    {"kept", "observers decode while others send long prompts without pause", kept_run, true},
    {"burst", "N fresh connections at once, one GET each", burst_run, false},
    {"health", "GET requests one after the other on N kept connections", health_run, false},
    {"idle", "N connections that ask once and stay", idle_run, false},
    {"soak", "requests of all sizes for --seconds, some clients leave midway", soak_run, true},
    {0},
};
