/* log.c - lines put together in one buffer, and written without waiting. */
#include "serve/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "serve/config_time.h"

enum {
    LOG_TAIL = 64,    /* kept free for what ends a line: cut, repeats, brace */
    LOG_LIMITED = 64, /* names of limited events */
    LOG_BURST = 20,
    LOG_A_SECOND = 5
};

typedef struct log_limit {
    const char *event; /* ours: a constant */
    spark_log_level level;
    uint64_t held, at_ns, level_ns; /* level_ns: time saved up; one line costs 1/LOG_A_SECOND s */
} log_limit;

struct spark_log {
    spark_log_options o;
    bool json, ask_room; /* ask_room: the descriptor may block, so poll comes before each write */
    char line[SPARK_LOG_LINE];
    size_t len;
    bool open, cut, private; /* private: the line holds what people asked, and is wiped when it is out */
    uint64_t repeats;
    char rest[SPARK_LOG_LINE]; /* of a line that a socket took in part */
    size_t rest_len;
    uint64_t dropped, untold;
    log_limit limits[LOG_LIMITED];
    uint32_t n_limits;
};

static const char *const log_levels[] = {"error", "warn", "info", "debug"};

static spark_log_clock log_system_clock(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t);
    return (spark_log_clock){spark_clock_ns(), t.tv_sec, (int32_t)(t.tv_nsec / 1000000)};
}

spark_status spark_log_create(spark_log **out, const spark_log_options *o, spark_err *err)
{
    spark_log *l = calloc(1, sizeof *l);
    SPARK_CHECK(l, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the log");
    l->o = *o;
    if (!l->o.now) l->o.now = log_system_clock;
    const bool terminal = o->format == SPARK_LOG_AUTO && isatty(o->fd);
    l->json = o->format == SPARK_LOG_JSON || (o->format == SPARK_LOG_AUTO && !terminal);
    const int flags = fcntl(o->fd, F_GETFL);
    l->ask_room = flags < 0 || !(flags & O_NONBLOCK);
    *out = l;
    return SPARK_SUCCESS;
}

void spark_log_destroy(spark_log **l)
{
    free(*l);
    *l = NULL;
}

bool spark_log_on(const spark_log *l, spark_log_level level) { return l && level <= l->o.level; }
uint64_t spark_log_dropped(const spark_log *l) { return l->dropped; }

int spark_log_nonblocking(int fd)
{
    struct stat st;
    char path[64];
    if (fstat(fd, &st) != 0 || S_ISREG(st.st_mode)) return fd;
    const int flags = fcntl(fd, F_GETFL);
    if (S_ISSOCK(st.st_mode)) {
        if (flags >= 0) (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        return fd;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int own = open(path, O_WRONLY | O_NONBLOCK | O_APPEND | O_NOCTTY | O_CLOEXEC);
    return own >= 0 ? own : fd;
}

/* ---- Writing ---- */

static bool log_room(const spark_log *l)
{
    struct pollfd p = {.fd = l->o.fd, .events = POLLOUT};
    return !l->ask_room || (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT));
}

/* Bytes that were taken; 0 if none were. */
static size_t log_write_once(const spark_log *l, const char *p, size_t n)
{
    if (!log_room(l)) return 0;
    const ssize_t put = write(l->o.fd, p, n);
    return put > 0 ? (size_t)put : 0;
}

/* A line goes whole, or is dropped: what a socket took a part of is kept, and goes before anything else. */
static bool log_write(spark_log *l, const char *p, size_t n)
{
    if (l->rest_len) {
        const size_t put = log_write_once(l, l->rest, l->rest_len);
        l->rest_len -= put;
        memmove(l->rest, l->rest + put, l->rest_len);
        if (l->rest_len) return false;
    }
    const size_t put = log_write_once(l, p, n);
    if (l->o.prompts) explicit_bzero(l->rest, sizeof l->rest);
    if (put == 0) return false;
    l->rest_len = n - put;
    memcpy(l->rest, p + put, l->rest_len);
    return true;
}

/* ---- Bytes into the line ---- */

/* Whether n more bytes fit before what ends a line; if not, the field is left out. */
static bool log_fits(spark_log *l, size_t n)
{
    if (SPARK_LOG_LINE - LOG_TAIL - l->len >= n) return true;
    l->cut = true;
    return false;
}

static void log_put(spark_log *l, const char *p, size_t n)
{
    assert(n <= SPARK_LOG_LINE - l->len);
    memcpy(l->line + l->len, p, n);
    l->len += n;
}

static void log_put_text(spark_log *l, const char *s) { log_put(l, s, strlen(s)); }

/* Characters that move a cursor or turn text around: control codes (C0, C1), line and paragraph separators, bidirectional marks. */
static bool log_is_odd(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || (cp >= 0x200e && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069) || cp == 0x61c || cp == 0xfeff;
}

/* One character escaped as JSON wants it, into out[6 + 1]; returns its bytes. *used: bytes of p it came from. */
static size_t log_escape(const uint8_t *p, size_t len, char out[8], size_t *used)
{
    uint32_t cp = 0;
    *used = spark_utf8_decode(p, len, &cp);
    if (*used == 0) {
        *used = 1;
        memcpy(out, "\xef\xbf\xbd", 3); /* U+FFFD for a byte that is no UTF-8 */
        return 3;
    }
    if (log_is_odd(cp)) return (size_t)snprintf(out, 8, "\\u%04x", cp & 0xffff);
    if (cp == '"' || cp == '\\') {
        out[0] = '\\';
        out[1] = (char)cp;
        return 2;
    }
    memcpy(out, p, *used);
    return *used;
}

/* As many characters of v as go before `end` of the line, with `more` bytes free behind them; how many bytes of v those are. */
static size_t log_put_chars(spark_log *l, spark_bytes v, size_t end, size_t more)
{
    size_t i = 0;
    for (size_t used = 0; i < v.len; i += used) {
        char text[8];
        const size_t n = log_escape(v.ptr + i, v.len - i, text, &used);
        if (l->len + n + more > end) break;
        log_put(l, text, n);
    }
    return i;
}

static size_t log_end_of(const spark_log *l, size_t max)
{
    const size_t left = SPARK_LOG_LINE - LOG_TAIL - l->len;
    return l->len + (max < left ? max : left);
}

/* A value in quotes, of at most max bytes; what is longer ends in "...". Texts without blanks or marks stand bare in the readable form. */
static void log_put_value(spark_log *l, spark_bytes v, size_t max)
{
    bool bare = !l->json && v.len > 0;
    for (size_t i = 0; bare && i < v.len; i++) bare = v.ptr[i] > ' ' && v.ptr[i] < 0x7f && !strchr("\"\\=", v.ptr[i]);
    const size_t end = log_end_of(l, max);
    if (!bare) log_put(l, "\"", 1);
    if (log_put_chars(l, v, end, 4) < v.len) {
        log_put(l, "...", 3);
        l->cut = true;
    }
    if (!bare) log_put(l, "\"", 1);
}

/* `,"name":` or ` name=`; false if the line is closed or full. */
static bool log_field(spark_log *l, const char *name, size_t room)
{
    if (!l || !l->open || !log_fits(l, strlen(name) + 4 + room)) return false;
    log_put_text(l, l->json ? ",\"" : " ");
    log_put_text(l, name);
    log_put_text(l, l->json ? "\":" : "=");
    return true;
}

static void SPARK_PRINTF(3, 4) log_number(spark_log *l, const char *name, const char *fmt, ...)
{
    char text[48];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0 && log_field(l, name, (size_t)n)) log_put(l, text, (size_t)n);
}

/* ---- Lines ---- */

static void log_head(spark_log *l, spark_log_level level, const char *event)
{
    char ts[32];
    const spark_log_clock now = l->o.now();
    spark_time_write(now.s, now.ms, ts);
    l->len = 0;
    l->open = true;
    l->cut = l->private = false;
    l->repeats = 0;
    if (l->json) {
        log_put_text(l, "{\"ts\":\"");
        log_put_text(l, ts);
        log_put_text(l, "\",\"level\":\"");
        log_put_text(l, log_levels[level]);
        log_put_text(l, "\",\"event\":\"");
        log_put_text(l, event);
        log_put_text(l, "\"");
    } else {
        log_put_text(l, ts + 11); /* the day is known to who watches */
        log_put_text(l, " ");
        log_put_text(l, log_levels[level]);
        log_put_text(l, " ");
        log_put_text(l, event);
    }
    if (l->o.cell) spark_log_text(l, "cell", l->o.cell);
}

/* Closes the line and writes it. */
static bool log_finish(spark_log *l)
{
    char tail[LOG_TAIL];
    int n = 0;
    if (l->repeats)
        n += snprintf(tail, sizeof tail, l->json ? ",\"repeats\":%" PRIu64 : " repeats=%" PRIu64, l->repeats);
    n += snprintf(tail + n, sizeof tail - (size_t)n, "%s%s\n",
                  !l->cut   ? ""
                  : l->json ? ",\"cut\":true"
                            : " cut=true",
                  l->json ? "}" : "");
    log_put(l, tail, (size_t)n);
    l->open = false;
    const bool out = log_write(l, l->line, l->len);
    if (l->private) explicit_bzero(l->line, l->len);
    return out;
}

/* Says how many lines were lost, as soon as there is room again. */
static void log_tell_dropped(spark_log *l)
{
    if (l->untold == 0) return;
    log_head(l, SPARK_LOG_WARN, "log_dropped");
    spark_log_u64(l, "lines", l->untold);
    if (log_finish(l)) l->untold = 0;
}

void spark_log_begin(spark_log *l, spark_log_level level, const char *event)
{
    if (!l) return;
    assert(!l->open);
    if (!spark_log_on(l, level)) return;
    log_tell_dropped(l);
    log_head(l, level, event);
}

void spark_log_end(spark_log *l)
{
    if (!l || !l->open) return;
    if (log_finish(l)) return;
    l->dropped++;
    l->untold++;
}

/* ---- Limits ---- */

static log_limit *log_limit_of(spark_log *l, const char *event, uint64_t now)
{
    for (uint32_t i = 0; i < l->n_limits; i++)
        if (strcmp(l->limits[i].event, event) == 0) return &l->limits[i];
    assert(l->n_limits < LOG_LIMITED); /* events are ours, and few */
    if (l->n_limits == LOG_LIMITED) return &l->limits[0];
    l->limits[l->n_limits] = (log_limit){
        .event = event, .at_ns = now, .level_ns = UINT64_C(1000000000) / LOG_A_SECOND * LOG_BURST};
    return &l->limits[l->n_limits++];
}

/* Whether one more line of it may go. */
static bool log_take(log_limit *m, uint64_t now)
{
    const uint64_t cost = UINT64_C(1000000000) / LOG_A_SECOND, full = cost * LOG_BURST,
                   past = now > m->at_ns ? now - m->at_ns : 0;
    m->level_ns = past > full - m->level_ns ? full : m->level_ns + past;
    m->at_ns = now;
    if (m->level_ns < cost) return false;
    m->level_ns -= cost;
    return true;
}

void spark_log_begin_limited(spark_log *l, spark_log_level level, const char *event)
{
    if (!spark_log_on(l, level)) return;
    const uint64_t now = l->o.now().ns;
    log_limit *m = log_limit_of(l, event, now);
    m->level = level;
    if (!log_take(m, now)) {
        m->held++;
        return;
    }
    spark_log_begin(l, level, event);
    l->repeats = m->held;
    m->held = 0;
}

void spark_log_tick(spark_log *l)
{
    if (!l) return;
    assert(!l->open);
    log_tell_dropped(l);
    for (uint32_t i = 0; i < l->n_limits; i++) {
        log_limit *m = &l->limits[i];
        if (m->held == 0 || !log_take(m, l->o.now().ns)) continue;
        spark_log_begin(l, m->level, m->event);
        l->repeats = m->held;
        m->held = 0;
        spark_log_end(l);
    }
}

/* ---- Fields ---- */

void spark_log_bytes(spark_log *l, const char *name, spark_bytes value)
{
    if (log_field(l, name, 8)) log_put_value(l, value, SPARK_LOG_TEXT);
}

void spark_log_text(spark_log *l, const char *name, const char *value)
{
    if (value) spark_log_bytes(l, name, spark_bytes_of(value));
}

bool spark_log_takes_private(const spark_log *l) { return spark_log_on(l, SPARK_LOG_INFO) && l->o.prompts; }

size_t spark_log_private(spark_log *l, const char *name, spark_bytes value)
{
    if (!l || !l->o.prompts || !log_field(l, name, 16)) return 0;
    l->private = true;
    const size_t end = log_end_of(l, SPARK_LOG_PRIVATE);
    log_put(l, "\"", 1);
    const size_t taken = log_put_chars(l, value, end, 1);
    log_put(l, "\"", 1);
    return taken;
}

void spark_log_cut(spark_log *l)
{
    if (l) l->cut = true;
}

void spark_log_u64(spark_log *l, const char *name, uint64_t value) { log_number(l, name, "%" PRIu64, value); }
void spark_log_i64(spark_log *l, const char *name, int64_t value) { log_number(l, name, "%" PRId64, value); }

void spark_log_ms(spark_log *l, const char *name, uint64_t ns)
{
    log_number(l, name, "%" PRIu64 ".%03" PRIu64, ns / 1000000, ns / 1000 % 1000);
}

void spark_log_say(spark_log *l, spark_log_level level, const char *event, const char *fmt, ...)
{
    char text[SPARK_LOG_TEXT];
    va_list args;
    if (!spark_log_on(l, level)) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    spark_log_begin(l, level, event);
    spark_log_text(l, "message", text);
    spark_log_end(l);
}

static void log_count(spark_log *l, const char *name, uint64_t n)
{
    if (n) spark_log_u64(l, name, n);
}

static void log_time(spark_log *l, const char *name, uint64_t ns)
{
    if (ns) spark_log_ms(l, name, ns);
}

void spark_log_answered(spark_log *l, const spark_log_request *r)
{
    spark_log_begin(l, SPARK_LOG_INFO, "request");
    spark_log_text(l, "request", r->id);
    spark_log_text(l, "method", r->method);
    spark_log_text(l, "route", r->route);
    spark_log_i64(l, "status", r->status);
    spark_log_text(l, "key", r->key);
    spark_log_text(l, "address", r->address);
    spark_log_text(l, "model", r->model);
    spark_log_text(l, "finish", r->finish);
    spark_log_text(l, "reason", r->reason);
    log_count(l, "prompt_tokens", r->prompt_tokens);
    log_count(l, "cached_tokens", r->cached_tokens);
    log_count(l, "completion_tokens", r->completion_tokens);
    log_time(l, "queue_ms", r->queue_ns);
    log_time(l, "prompt_ms", r->prompt_ns);
    log_time(l, "ttft_ms", r->ttft_ns);
    log_time(l, "decode_ms", r->decode_ns);
    spark_log_ms(l, "total_ms", r->total_ns);
    log_count(l, "bytes_in", r->bytes_in);
    log_count(l, "bytes_out", r->bytes_out);
    spark_log_end(l);
}
