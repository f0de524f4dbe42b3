/* http_reply.c - bytes out: heads, whole and streamed replies, errors. A reply that fits the socket is one system call and no copy. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "serve/http_internal.h"

enum {
    OUT_VIEW = 16,         /* blocks for one system call, or one record: the small ones come first */
    LITTLE_BODY = 4 << 10, /* a refusal's: it may have what is kept for last words */
};

/* ---- Output ------------------------------------------------------------------------------------------------------ */

static void conn_break(http_conn *c)
{
    c->broken = true;
    http__ready(c);
}

/* As send: -1 for nothing now (then not writable any more) or broken. */
static ssize_t conn_write(http_conn *c, struct iovec *v, size_t n)
{
    const struct msghdr m = {.msg_iov = v, .msg_iovlen = n};
    const ssize_t r = c->ssl ? http__tls_write(c, v->iov_base, v->iov_len) : sendmsg(c->fd, &m, MSG_NOSIGNAL);
    if (r >= 0) return r;
    if (errno == EAGAIN)
        c->writable = false;
    else if (errno != EINTR)
        conn_break(c);
    return -1;
}

void http__out_free(http_conn *c)
{
    held_free(&c->out, &c->share);
    if (c->record_held) held_give(&c->share, HTTP_TLS_RECORD);
    c->record_held = false;
}

/* The begin of what waits. Under TLS one record: what OpenSSL could not send of it must come first again, and is this. */
static ssize_t out_send(http_conn *c)
{
    struct iovec v[OUT_VIEW];
    const size_t n = held_view(&c->out, v, OUT_VIEW);
    if (!c->ssl) return conn_write(c, v, n);
    size_t len = 0;
    for (size_t i = 0; i < n && len < HTTP_TLS_RECORD; i++) {
        const size_t room = HTTP_TLS_RECORD - len, take = v[i].iov_len < room ? v[i].iov_len : room;
        memcpy(c->server->record + len, v[i].iov_base, take);
        len += take;
    }
    struct iovec one = {c->server->record, len};
    return conn_write(c, &one, 1);
}

/* What a reader must take in each write_ms: one that takes a byte now and then would hold its reply for ever. */
static uint64_t out_least(const http_conn *c)
{
    const http_limits *l = &c->server->limits;
    const uint64_t least = (uint64_t)l->min_body_rate * l->write_ms / 1000;
    return least ? least : 1;
}

void http__conn_flush(http_conn *c)
{
    while (c->out.len && c->writable && !c->broken) {
        const ssize_t n = out_send(c);
        if (n <= 0) continue;
        held_drop(&c->out, &c->share, (size_t)n);
        c->taken += (size_t)n;
        if (c->wait_kind == HTTP_WAIT_WRITE && c->taken >= out_least(c)) http__wait(c, HTTP_WAIT_WRITE, true);
    }
    if (c->out.len == 0) http__out_free(c);
}

static void out_append(http_conn *c, const uint8_t *p, size_t len)
{
    assert(p && len > 0);
    if (c->ssl && !c->record_held) c->record_held = held_take(&c->share, HTTP_TLS_RECORD);
    if ((c->ssl && !c->record_held) || !held_append(&c->out, &c->share, p, len)) conn_break(c);
}

/* The pieces as one record, where they fit in one. */
static size_t send_secure(http_conn *c, const struct iovec *v, size_t n)
{
    uint8_t *record = c->server->record;
    size_t len = 0, sent = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < v[i].iov_len;) {
            const size_t room = HTTP_TLS_RECORD - len, left = v[i].iov_len - at, take = left < room ? left : room;
            assert(v[i].iov_base);
            memcpy(record + len, (const uint8_t *)v[i].iov_base + at, take);
            len += take;
            at += take;
            const bool last = i + 1 == n && at == v[i].iov_len;
            if (len < HTTP_TLS_RECORD && !last) continue;
            struct iovec one = {record, len};
            const ssize_t r = conn_write(c, &one, 1);
            if (r > 0) sent += (size_t)r;
            if (r < (ssize_t)len) return sent;
            len = 0;
        }
    return sent;
}

static void conn_send(http_conn *c, struct iovec *v, size_t n)
{
    if (c->broken) return;
    size_t sent = 0;
    if (c->out.len == 0 && c->writable) {
        const ssize_t r = c->ssl ? (ssize_t)send_secure(c, v, n) : conn_write(c, v, n);
        if (r > 0) sent = (size_t)r;
    }
    for (size_t i = 0; i < n && !c->broken; i++) {
        const size_t skip = sent < v[i].iov_len ? sent : v[i].iov_len;
        sent -= skip;
        if (skip < v[i].iov_len) out_append(c, (const uint8_t *)v[i].iov_base + skip, v[i].iov_len - skip);
    }
    if (c->out.len && !c->driving) http__ready(c); /* its timer must run */
}

/* sendmsg does not write to what it sends, but its type cannot say so. */
static struct iovec iov_of(const void *p, size_t len)
{
    const union {
        const void *from;
        void *base;
    } u = {.from = p};
    return (struct iovec){u.base, len};
}

/* ---- Heads ------------------------------------------------------------------------------------------------------- */

static const char *reply_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {411, "Length Required"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {417, "Expectation Failed"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {499, "Client Closed Request"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < SPARK_COUNT(reasons); i++)
        if (reasons[i].status == status) return reasons[i].text;
    return "Status";
}

/* "Sun, 06 Nov 1994 08:49:37 GMT"; computed here, because the C library would open the time zone's file. */
static void date_format(int64_t t, char out[40])
{
    static const char days[] = "ThuFriSatSunMonTueWed", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const int64_t day = t / 86400, s = t % 86400;
    /* Civil date of a day number (Howard Hinnant, chrono-compatible algorithms), for days since 1970-01-01. */
    const int64_t z = day + 719468, era = z / 146097, doe = z % 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365,
                  doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    const int64_t d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9, y = yoe + era * 400 + (m <= 2);
    snprintf(out, 40, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + day % 7 * 3, (int)d % 100, months + (m - 1) * 3,
             (int)y % 10000, (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
}

static const char *server_date(http_server *s)
{
    const int64_t now = (int64_t)time(NULL);
    if (now != s->date_s) {
        s->date_s = now;
        date_format(now, s->date);
    }
    return s->date;
}

typedef struct reply_text {
    char *p;
    size_t len, cap;
} reply_text;

static void put(reply_text *t, const char *p, size_t len)
{
    assert(t->len + len <= t->cap);
    memcpy(t->p + t->len, p, len);
    t->len += len;
}
static void put_text(reply_text *t, const char *s) { put(t, s, strlen(s)); }
#define PUT_LITERAL(t, s) put((t), (s), sizeof(s) - 1)

static void put_number(reply_text *t, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    put(t, digits + at, sizeof digits - at);
}

/* Names and values may hold what a client wrote: it cannot begin a line of its own. */
static void put_field(reply_text *t, const char *name, const char *value)
{
    const size_t begin = t->len;
    put_text(t, name);
    const size_t colon = t->len;
    PUT_LITERAL(t, ": ");
    put_text(t, value);
    for (size_t i = begin; i < t->len; i++)
        if ((uint8_t)t->p[i] < 0x20 || t->p[i] == 0x7f || (i < colon && t->p[i] == ':')) t->p[i] = '?';
    PUT_LITERAL(t, "\r\n");
}

static bool field_is(const char *name, const char *lower) { return strcasecmp(name, lower) == 0; }

enum { HEAD_FIXED = 640 }; /* all that does not depend on fields, with the longest texts */

static size_t head_size(const char *content_type, const http_field *fields, size_t n)
{
    size_t size = HEAD_FIXED + (content_type ? strlen(content_type) : 0);
    for (size_t i = 0; i < n; i++) size += strlen(fields[i].name) + strlen(fields[i].value) + 4;
    return size;
}

/* length: UINT64_MAX = none is said. */
static void put_head(reply_text *t, http_server *s, int status, const char *connection, const char *id,
                     const char *content_type, uint64_t length)
{
    if (status == 200) {
        PUT_LITERAL(t, "HTTP/1.1 200 OK\r\nDate: ");
    } else {
        PUT_LITERAL(t, "HTTP/1.1 ");
        put_number(t, (uint64_t)status);
        PUT_LITERAL(t, " ");
        put_text(t, reply_reason(status));
        PUT_LITERAL(t, "\r\nDate: ");
    }
    put_text(t, server_date(s));
    PUT_LITERAL(t, "\r\n");
    if (content_type) put_field(t, "Content-Type", content_type);
    if (length != UINT64_MAX) {
        PUT_LITERAL(t, "Content-Length: ");
        put_number(t, length);
        PUT_LITERAL(t, "\r\n");
    }
    put_text(t, connection);
    if (id) {
        PUT_LITERAL(t, "X-Request-Id: ");
        put_text(t, id);
        PUT_LITERAL(t, "\r\n");
    }
    PUT_LITERAL(t, "X-Content-Type-Options: nosniff\r\n");
}

static void put_fields(reply_text *t, const http_field *fields, size_t n)
{
    bool cache = false;
    for (size_t i = 0; i < n; i++) {
        if (field_is(fields[i].name, "cache-control")) cache = true;
        put_field(t, fields[i].name, fields[i].value);
    }
    if (!cache) PUT_LITERAL(t, "Cache-Control: no-store\r\n");
    PUT_LITERAL(t, "\r\n");
}

/* Whether the connection ends with this reply. */
static bool reply_closes(http_exchange *x)
{
    const http_parser *p = &x->parser;
    const bool body_under_way = p->state == HTTP_PARSE_BODY ||
                                (p->state == HTTP_PARSE_ACCEPT && (p->chunked || p->content_length));
    if (body_under_way || p->state == HTTP_PARSE_FAILED) x->conn->unread = true;
    return body_under_way || p->state == HTTP_PARSE_FAILED || !p->keep_alive || x->conn->server->draining;
}

/* Composes the head and sends it with what follows: bytes, or held ones, which move. */
static void reply_send_head(http_exchange *x, int status, const char *content_type, uint64_t length,
                            const http_field *fields, size_t n_fields, spark_bytes body, held_bytes *moves)
{
    http_conn *c = x->conn;
    http_server *s = c->server;
    const size_t size = head_size(content_type, fields, n_fields);
    reply_text t = {.p = size <= sizeof s->head ? s->head : malloc(size), .cap = size};
    if (!t.p) {
        conn_break(c);
        return;
    }
    const bool closes = c->closing;
    const char *connection = closes                 ? "Connection: close\r\n"
                             : x->parser.minor == 0 ? "Connection: keep-alive\r\n"
                                                    : "";
    put_head(&t, s, status, connection, x->id, content_type, length);
    if (x->chunked) PUT_LITERAL(&t, "Transfer-Encoding: chunked\r\n");
    put_fields(&t, fields, n_fields);
    struct iovec v[2] = {iov_of(t.p, t.len), iov_of(body.ptr, body.len)};
    if (moves) {
        if (!c->broken) out_append(c, (const uint8_t *)t.p, t.len);
        if (!c->broken) held_move(&c->out, moves);
        http__conn_flush(c);
    } else {
        conn_send(c, v, body.len ? 2 : 1);
    }
    if (t.p != s->head) free(t.p);
}

/* ---- Replies ----------------------------------------------------------------------------------------------------- */

static void reply_ended(http_exchange *x)
{
    http_conn *c = x->conn;
    x->ended = true;
    c->served = true;
    if (x->known) {
        x->known = false;
        c->server->n_known--;
    }
    http__ready(c);
}

static void reply_started(http_exchange *x, int status)
{
    x->begun = true;
    x->bodyless = x->parser.method == HTTP_HEAD || status == 204 || status == 304;
    if (reply_closes(x)) x->conn->closing = true;
}

static void reply_whole(http_exchange *x, int status, const char *content_type, spark_bytes body, held_bytes *moves,
                        const http_field *fields, size_t n_fields)
{
    assert(!x->begun && !x->ended);
    held_share *share = &x->conn->share;
    const uint64_t len = moves ? moves->len : body.len;
    const bool no_length = status == 204 || status == 304;
    reply_started(x, status);
    share->last = moves || len <= LITTLE_BODY; /* of held ones, only the head is new */
    if (x->bodyless && moves) held_free(moves, share);
    reply_send_head(x, status, content_type, no_length ? UINT64_MAX : len, fields, n_fields,
                    x->bodyless ? (spark_bytes){NULL, 0} : body, moves);
    if (moves) held_free(moves, share); /* if it could not go */
    reply_ended(x);
}

void http_reply(http_exchange *x, int status, const char *content_type, spark_bytes body, const http_field *fields,
                size_t n_fields)
{
    reply_whole(x, status, content_type, body, NULL, fields, n_fields);
}

void http_reply_held(http_exchange *x, int status, const char *content_type, held_bytes *body, const http_field *fields,
                     size_t n_fields)
{
    reply_whole(x, status, content_type, (spark_bytes){NULL, 0}, body, fields, n_fields);
}

held_share *http_reply_share(http_exchange *x) { return &x->conn->share; }

void http_reply_begin(http_exchange *x, int status, const char *content_type, const http_field *fields, size_t n_fields)
{
    assert(!x->begun && !x->ended);
    reply_started(x, status);
    x->streaming = true;
    x->chunked = x->parser.minor > 0 && status != 204 && status != 304;
    if (x->parser.minor == 0) x->conn->closing = true; /* its end is the connection's */
    reply_send_head(x, status, content_type, UINT64_MAX, fields, n_fields, (spark_bytes){NULL, 0}, NULL);
}

void http_reply_write(http_exchange *x, spark_bytes data)
{
    http_conn *c = x->conn;
    assert(x->streaming && !x->ended);
    if (data.len == 0 || x->bodyless) return;
    char size[20];
    int n = 0;
    if (x->chunked) n = snprintf(size, sizeof size, "%zx\r\n", data.len);
    struct iovec v[3] = {iov_of(size, (size_t)n), iov_of(data.ptr, data.len), iov_of("\r\n", 2)};
    if (x->chunked)
        conn_send(c, v, 3);
    else
        conn_send(c, v + 1, 1);
    if (c->out.len > c->server->limits.max_backlog / 2) x->starved = true;
    if (c->out.len > 2 * (uint64_t)c->server->limits.max_backlog) conn_break(c);
}

bool http_reply_may(http_exchange *x, size_t n)
{
    enum { FRAME = 32 }; /* of a chunk */
    const http_conn *c = x->conn;
    const uint64_t record = c->ssl && !c->record_held ? HTTP_TLS_RECORD : 0,
                   more = held_more(&c->out, n + FRAME) + record;
    return c->out.len == 0 || more == 0 ||
           held_may(&c->share, more); /* where nothing waits, the socket takes it as a rule */
}

void http_reply_end(http_exchange *x, spark_bytes last_words)
{
    assert(x->streaming && !x->ended);
    x->conn->share.last = true;
    http_reply_write(x, last_words);
    struct iovec last = iov_of("0\r\n\r\n", 5);
    if (x->chunked && !x->bodyless) conn_send(x->conn, &last, 1);
    reply_ended(x);
}

void http_reply_abort(http_exchange *x)
{
    http_conn *c = x->conn;
    assert(!x->ended);
    c->closing = c->aborting = true;
    if (!x->chunked) c->broken = true; /* only a reset says that this was not all */
    reply_ended(x);
}

size_t http_reply_room(const http_exchange *x)
{
    const http_conn *c = x->conn;
    const size_t max = c->server->limits.max_backlog;
    if (c->broken || c->out.len >= max || (c->out.len && held_is_scarce(&c->share))) return 0;
    return max - c->out.len;
}

/* ---- Our own replies --------------------------------------------------------------------------------------------- */

static int error_body(int status, const char *code, const char *message, char *out, size_t cap)
{
    const char *type = status == 429 ? "rate_limit_exceeded" : status >= 500 ? "server_error" : "invalid_request_error";
    return snprintf(out, cap, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}\n",
                    message, type, code);
}

void http__error(http_exchange *x, int status, const char *code, const char *message)
{
    static const http_field later = {"Retry-After", "1"};
    const http_handler *h = &x->conn->server->handler;
    char body[400];
    if (h->on_refused) h->on_refused(h->ctx, status, false);
    const int n = error_body(status, code, message, body, sizeof body);
    x->parser.keep_alive = false;
    x->parser.state = HTTP_PARSE_FAILED;
    http_reply(x, status, "application/json", (spark_bytes){(const uint8_t *)body, (size_t)n}, &later,
               status == 503 ? 1 : 0);
}

size_t http__refusal(http_server *s, int status, const char *code, const char *message, char *out, size_t cap)
{
    static const http_field later = {"Retry-After", "1"};
    char body[200];
    const int n = error_body(status, code, message, body, sizeof body);
    reply_text t = {.p = out, .cap = cap};
    put_head(&t, s, status, "Connection: close\r\n", NULL, "application/json", (uint64_t)n);
    put_fields(&t, &later, 1);
    put(&t, body, (size_t)n);
    return t.len;
}

void http__continue(http_exchange *x)
{
    struct iovec v = iov_of("HTTP/1.1 100 Continue\r\n\r\n", 25);
    conn_send(x->conn, &v, 1);
}

/* ---- The request, for the handler -------------------------------------------------------------------------------- */

http_method http_request_method(const http_exchange *x) { return x->parser.method; }
const char *http_request_method_text(const http_exchange *x) { return http_parser_method_text(&x->parser); }
spark_bytes http_request_path(const http_exchange *x) { return http_parser_path(&x->parser); }
bool http_request_query(const http_exchange *x, uint32_t i, spark_bytes *name, spark_bytes *value)
{
    return http_parser_query_at(&x->parser, i, name, value);
}
spark_bytes http_request_header(const http_exchange *x, const char *lower_name)
{
    return http_parser_header(&x->parser, lower_name);
}
spark_bytes http_request_body(const http_exchange *x) { return (spark_bytes){x->parser.body, x->parser.body_len}; }
void http_request_keep(http_exchange *x, uint64_t bytes) { http_parser_keep(&x->parser, bytes); }
uint64_t http_request_bodies_left(const http_exchange *x) { return http_parser_left(&x->parser); }
void http_request_max_body(http_exchange *x, uint64_t max) { http_parser_lower_max_body(&x->parser, max); }
const char *http_request_address(const http_exchange *x) { return x->conn->address_text; }
const char *http_request_tls_name(const http_exchange *x) { return x->conn->tls_name; }
const http_listener *http_request_listener(const http_exchange *x) { return &x->conn->listening->l; }
const char *http_request_id(const http_exchange *x) { return x->id; }
void http_exchange_set(http_exchange *x, void *user) { x->user = user; }
void *http_exchange_get(const http_exchange *x) { return x->user; }
uint64_t http_exchange_began_ns(const http_exchange *x) { return x->began_ns; }
uint64_t http_exchange_whole_ns(const http_exchange *x) { return x->whole_ns; }
