/* load_http.c - see load_http.h. RFC 9112 for responses; the HTML standard, 9.2.6, for events. */
#include "load_http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "load_stats.h"

/* ---- Server-sent events -------------------------------------------------------------------------------------------- */

void load_sse_reset(load_sse *s)
{
    s->len = s->line = 0;
    s->after_cr = s->has_data = false;
}

void load_sse_free(load_sse *s)
{
    free(s->text);
    *s = (load_sse){0};
}

static bool sse_append(load_sse *s, const char *p, size_t n)
{
    if (n > LOAD_MAX_EVENT - s->len) return false;
    if (s->len + n > s->cap) {
        while (s->cap < s->len + n) s->cap = s->cap ? s->cap * 2 : 1024;
        s->text = load_grow(s->text, s->cap, 1);
    }
    if (n) memcpy(s->text + s->len, p, n);
    s->len += n;
    return true;
}

/* The line at s->line is complete: data is kept in its place, anything else forgotten; an empty line ends the event. */
static void sse_line(load_sse *s, load_event on_event, void *ctx)
{
    const size_t n = s->len - s->line;
    if (n == 0) {
        if (s->has_data) on_event(ctx, s->text, s->len ? s->len - 1 : 0); /* without the last line feed */
        s->len = s->line = 0;
        s->has_data = false;
        return;
    }
    char *line = s->text + s->line;
    if (n < 5 || memcmp(line, "data:", 5) != 0) {
        s->len = s->line;
        return;
    }
    const size_t skip = n > 5 && line[5] == ' ' ? 6 : 5;
    memmove(line, line + skip, n - skip);
    line[n - skip] = '\n'; /* skip is at least 5: there is room */
    s->len = s->line = s->line + n - skip + 1;
    s->has_data = true;
}

bool load_sse_feed(load_sse *s, const char *p, size_t n, load_event on_event, void *ctx)
{
    for (size_t i = 0; i < n;) {
        if (s->after_cr && p[i] == '\n') i++;
        s->after_cr = false;
        size_t end = i;
        while (end < n && p[end] != '\n' && p[end] != '\r') end++;
        if (!sse_append(s, p + i, end - i)) return false;
        if (end == n) break;
        s->after_cr = p[end] == '\r';
        sse_line(s, on_event, ctx);
        i = end + 1;
    }
    return true;
}

/* ---- A response ---------------------------------------------------------------------------------------------------- */

void load_http_reset(load_http *h)
{
    h->state = LOAD_HTTP_STATUS;
    h->status = 0;
    h->keep_alive = true;
    h->chunked = h->has_length = h->is_stream = false;
    h->left = 0;
    h->n_line = h->n_lines = 0;
}

static bool http_number(const char *p, unsigned base, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;
    for (;; p++, n++) {
        const char c = *p;
        const unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                           : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                           : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                  : 99;
        if (d >= base) break;
        if (v >> 56) return false;
        v = v * base + d;
    }
    while (*p == ' ' || *p == '\t') p++;
    *out = v;
    return n > 0 && (*p == 0 || (base == 16 && *p == ';')); /* chunk extensions are passed over */
}

static load_http_state http_status_line(load_http *h)
{
    uint64_t status = 0;
    if (strncmp(h->line, "HTTP/1.", 7) != 0 || (h->line[7] != '0' && h->line[7] != '1') || h->line[8] != ' ')
        return LOAD_HTTP_BAD;
    char digits[4] = {0};
    memcpy(digits, h->line + 9, 3);
    if (!http_number(digits, 10, &status) || status < 100) return LOAD_HTTP_BAD;
    h->status = (int)status;
    h->keep_alive = h->line[7] == '1';
    return LOAD_HTTP_HEADER;
}

/* The value of a header if the line is that one. */
static const char *http_value(const char *line, const char *name)
{
    const size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':') return NULL;
    const char *v = line + n + 1;
    while (*v == ' ' || *v == '\t') v++;
    return v;
}

static load_http_state http_header_line(load_http *h)
{
    const char *v;
    if ((v = http_value(h->line, "content-length"))) {
        if (h->has_length || !http_number(v, 10, &h->left)) return LOAD_HTTP_BAD;
        h->has_length = true;
    } else if ((v = http_value(h->line, "transfer-encoding"))) {
        if (strcasecmp(v, "chunked") != 0) return LOAD_HTTP_BAD;
        h->chunked = true;
    } else if ((v = http_value(h->line, "connection"))) {
        if (strcasecmp(v, "close") == 0) h->keep_alive = false;
        if (strcasecmp(v, "keep-alive") == 0) h->keep_alive = true;
    } else if ((v = http_value(h->line, "content-type"))) {
        h->is_stream = strncasecmp(v, "text/event-stream", 17) == 0;
    }
    return LOAD_HTTP_HEADER;
}

/* The head is complete: what follows it. */
static load_http_state http_after_head(load_http *h)
{
    if (h->status < 200) { /* 100 Continue and the like: the real one follows */
        load_http_reset(h);
        return LOAD_HTTP_STATUS;
    }
    if (h->chunked && h->has_length) return LOAD_HTTP_BAD;
    if (h->status == 204 || h->status == 304) return LOAD_HTTP_DONE;
    if (h->chunked) return LOAD_HTTP_CHUNK_SIZE;
    if (h->has_length) return h->left ? LOAD_HTTP_LENGTH : LOAD_HTTP_DONE;
    h->keep_alive = false;
    return LOAD_HTTP_CLOSE;
}

/* One whole line, without its end, decides the next state. */
static load_http_state http_line(load_http *h)
{
    if (h->state == LOAD_HTTP_STATUS) return http_status_line(h);
    if (h->state == LOAD_HTTP_HEADER) return h->n_line ? http_header_line(h) : http_after_head(h);
    if (h->state == LOAD_HTTP_CHUNK_SIZE) {
        if (!http_number(h->line, 16, &h->left)) return LOAD_HTTP_BAD;
        return h->left ? LOAD_HTTP_CHUNK : LOAD_HTTP_TRAILER;
    }
    if (h->state == LOAD_HTTP_CHUNK_END) return h->n_line ? LOAD_HTTP_BAD : LOAD_HTTP_CHUNK_SIZE;
    return h->n_line ? LOAD_HTTP_TRAILER : LOAD_HTTP_DONE;
}

/* Bytes of a line, up to and with its line feed. */
static size_t http_feed_line(load_http *h, const char *p, size_t n)
{
    const char *feed = memchr(p, '\n', n);
    const size_t take = feed ? (size_t)(feed - p) : n;
    if (take > sizeof h->line - 1 - h->n_line || h->n_lines > 1000) {
        h->state = LOAD_HTTP_BAD;
        return 0;
    }
    memcpy(h->line + h->n_line, p, take);
    h->n_line += take;
    if (!feed) return n;
    if (h->n_line && h->line[h->n_line - 1] == '\r') h->n_line--;
    h->line[h->n_line] = 0;
    const bool is_head = h->state == LOAD_HTTP_HEADER || h->state == LOAD_HTTP_TRAILER;
    if (is_head) h->n_lines++;
    h->state = http_line(h);
    h->n_line = 0;
    return take + 1;
}

static size_t http_feed_body(load_http *h, const char *p, size_t n, load_body on_body, void *ctx)
{
    const size_t take = h->state == LOAD_HTTP_CLOSE || h->left > n ? n : (size_t)h->left;
    on_body(ctx, p, take);
    if (h->state == LOAD_HTTP_CLOSE) return take;
    h->left -= take;
    if (h->left == 0) h->state = h->state == LOAD_HTTP_CHUNK ? LOAD_HTTP_CHUNK_END : LOAD_HTTP_DONE;
    return take;
}

size_t load_http_feed(load_http *h, const char *p, size_t n, load_body on_body, void *ctx)
{
    size_t at = 0;
    while (at < n && h->state != LOAD_HTTP_DONE && h->state != LOAD_HTTP_BAD) {
        const bool in_body = h->state == LOAD_HTTP_LENGTH || h->state == LOAD_HTTP_CLOSE || h->state == LOAD_HTTP_CHUNK;
        at += in_body ? http_feed_body(h, p + at, n - at, on_body, ctx) : http_feed_line(h, p + at, n - at);
    }
    return at;
}

bool load_http_eof(load_http *h)
{
    if (h->state == LOAD_HTTP_CLOSE) h->state = LOAD_HTTP_DONE;
    return h->state == LOAD_HTTP_DONE;
}
