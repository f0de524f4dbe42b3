/* warden_watch.c - the warden's clock: whether cells still answer, whether those that should end do, and what memory they have.
 *
 * A cell is asked (PING) once what was asked before is answered; whatever it says counts as an answer. What is counted are ticks of ours, and a
 * tick that comes late counts for nobody: whoever stopped the warden (SIGSTOP of all, a machine put to sleep) stopped the cells too. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/warden_internal.h"

static uint32_t watch_ticks(uint64_t ms) { return (uint32_t)((ms + WARDEN_TICK_MS - 1) / WARDEN_TICK_MS); }

/* ---- Who does not answer ---- */

/* How many ticks an engine may be silent; 0: for ever. One that loads tells how far it is, and one that waits for its grant has nothing to tell. */
static uint32_t watch_patience(const warden *w, const warden_instance *i)
{
    if (i->state == INSTANCE_LOADING) return i->waits ? 0 : watch_ticks(WARDEN_SILENCE_MS);
    return watch_ticks(w->config->watchdog);
}

static void watch_end(const warden *w, const warden_instance *i, const char *event)
{
    spark_log_event(w->log, SPARK_LOG_ERROR, event, w->models[i->model].config->name, NULL);
    warden_kill_engine(i);
}

static void watch_engine(warden *w, warden_instance *i)
{
    const uint32_t patience = watch_patience(w, i), drain = watch_ticks(w->config->drain_timeout);
    if (i->quiet++ == 0 && i->greeted && i->link >= 0)
        (void)!spark_ok(spark_wire_put(i->wire, SPARK_WIRE_PING, 0, (spark_bytes){0}, (spark_bytes){0}, NULL));
    if (i->link >= 0) (void)!spark_ok(spark_wire_write(i->wire, i->link, NULL)); /* one that is gone will be reaped */
    if (patience && i->quiet == patience + 1) watch_end(w, i, "engine_silent");
    if (i->state == INSTANCE_DRAINING && i->released) {
        if (i->drain == drain) watch_end(w, i, "engine_not_drained"); /* once: it goes when the kernel lets it */
        i->drain++;
    }
    if (i->refused == WARDEN_REFUSED_TICKS) watch_end(w, i, "engine_refused");
    if (i->refused) i->refused++;
}

static void watch_front(warden *w)
{
    const uint32_t patience = watch_ticks(w->front_up ? w->config->watchdog
                                                      : WARDEN_SILENCE_MS); /* it warms before it listens */
    if (!w->front_alive) return;
    if (w->front_quiet++ == 0) (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_PING}));
    if (!patience || w->front_quiet != patience + 1) return;
    spark_log_event(w->log, SPARK_LOG_ERROR, "front_silent", NULL, NULL);
    kill(w->front.pid, SIGKILL);
}

/* ---- What they have ---- */

/* Bytes of memory of a process; 0: it is not told (gone, or /proc is hidden). */
static uint64_t watch_resident(pid_t pid)
{
    char path[40], text[128];
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%*u %llu", &pages) != 1) return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Tells the front, if it is some other number by more than a hundredth. */
static void watch_tell_resident(warden *w, uint32_t cell, uint64_t bytes, uint64_t *told)
{
    const uint64_t apart = bytes > *told ? bytes - *told : *told - bytes;
    if (apart <= *told / 100) return;
    *told = bytes;
    (void)!spark_ok(warden_tell(w, &(control_message){.kind = CONTROL_RESIDENT, .arg = cell, .value = bytes}));
}

static void watch_memory(warden *w)
{
    uint64_t of_model[SPARK_MAX_SERVED] = {0};
    if (!w->front_up || w->front_quiet > 1) return; /* it has not answered: no more is heaped on it */
    for (uint32_t k = 0; k < WARDEN_INSTANCES; k++) {
        const warden_instance *i = &w->instances[k];
        if (i->state != INSTANCE_FREE) of_model[i->model] += watch_resident(i->cell.pid);
    }
    watch_tell_resident(w, CONTROL_THE_FRONT, watch_resident(w->front.pid), &w->front_resident);
    for (uint32_t k = 0; k < w->config->n_models; k++) watch_tell_resident(w, k, of_model[k], &w->models[k].resident);
}

void warden_tick(warden *w)
{
    const uint64_t now = spark_clock_ns(), tick = (uint64_t)WARDEN_TICK_MS * 1000000;
    if (now < w->tick_ns) return;
    const bool late = now - w->tick_ns > tick;
    w->tick_ns = now + tick;
    if (late) return;
    for (uint32_t k = 0; k < WARDEN_INSTANCES; k++)
        if (w->instances[k].state != INSTANCE_FREE) watch_engine(w, &w->instances[k]);
    watch_front(w);
    watch_memory(w);
}
