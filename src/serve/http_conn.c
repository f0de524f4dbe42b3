/* http_conn.c - one connection: bytes in, requests handed out, the end. http_internal.h draws its states. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/http_internal.h"

/* A turn of one connection: so many reads, and so many bytes of heads a read (some hundred pipelined requests), then the others. */
enum { READS_A_TURN = 4, HEADS_A_READ = 16384, LINGER_BYTES = 1 << 20 };

/* ---- Begin and end ----------------------------------------------------------------------------------------------- */

static void conn_fired(evutil_socket_t fd, short what, void *arg)
{
    http_conn *c = arg;
    (void)fd;
    if (what & EV_READ) c->readable = true;
    if (what & EV_WRITE) c->writable = true;
    if (what & EV_CLOSED) c->peer_closed = c->readable = true;
    http__conn_drive(c);
}

void http__conn_start(http_server *s, http_listening *l, int fd, const http_address *a, bool counted)
{
    http_conn *c = calloc(1, sizeof *c);
    if (!c) {
        if (counted) http__address_leave(s, a);
        close(fd);
        return;
    }
    c->server = s;
    c->listening = l;
    c->fd = fd;
    c->share.sum = &s->replies;
    c->address = *a;
    c->counted = counted;
    c->proxy_due = l->l.proxy_protocol;
    c->handshake_due = l->l.tls != NULL;
    http_address_text(a, c->address_text);
    http_link_append(&s->all, &c->all);
    s->n_conns++;
    s->n_accepted++;
    const bool watched = event_assign(&c->ev, s->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
                                      conn_fired, c) == 0 &&
                         event_add(&c->ev, NULL) == 0;
    if (!watched) {
        http__conn_free(c);
        return;
    }
    http__wait(c, HTTP_WAIT_HEAD, true);
}

/* The exchange is over, for whatever reason; the handler is told if it does not know. */
static void conn_end_exchange(http_conn *c)
{
    http_exchange *x = c->x;
    if (!x) return;
    c->x = NULL;
    c->share.last = c->share.refused = false;
    if (x->known) {
        x->known = false;
        c->server->n_known--;
        if (c->server->handler.on_gone) c->server->handler.on_gone(c->server->handler.ctx, x);
    }
    http__exchange_give(c->server, x);
}

/* Closing with a reset tells a client whose reply has no other sign of its end that it is not whole. */
static void conn_reset(http_conn *c)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void http__conn_free(http_conn *c)
{
    http_server *s = c->server;
    c->driving = true; /* what on_gone calls does not reach this connection any more */
    conn_end_exchange(c);
    http_link_remove(&c->all);
    http_link_remove(&c->wait);
    http_link_remove(&c->ready);
    if (c->ev.ev_base) event_del(&c->ev);
    SSL_free(c->ssl);
    close(c->fd);
    if (c->counted) http__address_leave(s, &c->address);
    s->n_conns--;
    free(c->ahead);
    http__out_free(c);
    free(c->tls_name);
    free(c);
    http__resume_accepting(s);
}

/* ---- Bytes in ---------------------------------------------------------------------------------------------------- */

/* As recv: what is there, 0 at the end, -1 for nothing now (or broken). */
static ssize_t conn_recv(http_conn *c, uint8_t *to, size_t len)
{
    const bool secure = c->ssl && !c->handshake_due;
    const ssize_t n = secure ? http__tls_read(c, to, len) : recv(c->fd, to, len, 0);
    if (n > 0) {
        /* A short read emptied the socket: the next byte comes with its own edge. Not so if a FIN is waiting behind it. */
        if (!secure && (size_t)n < len && !c->peer_closed) c->readable = false;
        return n;
    }
    if (n == 0) {
        c->eof = true;
        return 0;
    }
    if (errno == EINTR) return conn_recv(c, to, len);
    if (errno == EAGAIN)
        c->readable = false;
    else
        c->broken = true;
    return -1;
}

static bool conn_keep(http_conn *c, const uint8_t *p, size_t len)
{
    uint8_t *more = len ? realloc(c->ahead, c->ahead_len + len) : c->ahead;
    if (len && !more) {
        c->broken = true;
        return false;
    }
    c->ahead = more;
    if (len) memcpy(c->ahead + c->ahead_len, p, len);
    c->ahead_len += (uint32_t)len;
    return true;
}

/* While a request is being answered: reads on, so as to see the end, but not for ever. */
static void conn_read_ahead(http_conn *c)
{
    while (c->readable && !c->eof && !c->broken && c->ahead_len < SPARK_MAX_HTTP_AHEAD) {
        const ssize_t n = conn_recv(c, c->server->scratch, SPARK_MAX_HTTP_AHEAD - c->ahead_len);
        if (n > 0 && !conn_keep(c, c->server->scratch, (size_t)n)) return;
    }
}

/* ---- PROXY protocol ---------------------------------------------------------------------------------------------- */

/* Returns the bytes of the header; 0 if it is not complete (then all were kept) or wrong. */
static size_t conn_proxy(http_conn *c, spark_bytes in)
{
    http_address client;
    size_t used = 0;
    const http_proxy_result r = http_proxy_read(in, &client, &used);
    if (r == HTTP_PROXY_MORE) {
        (void)conn_keep(c, in.ptr, in.len);
        return 0;
    }
    if (r == HTTP_PROXY_BAD || (r == HTTP_PROXY_CLIENT && !http__address_enter(c->server, &client))) {
        c->broken = true;
        return 0;
    }
    c->proxy_due = false;
    if (r == HTTP_PROXY_CLIENT) {
        c->counted = true;
        c->address = client;
        http_address_text(&client, c->address_text);
    }
    return used;
}

/* Before TLS, no byte behind the header may be taken off the socket. */
static void conn_proxy_before_tls(http_conn *c)
{
    uint8_t buffer[HTTP_PROXY_MAX];
    const ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_PEEK);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
            c->readable = false;
        else
            c->broken = true;
        return;
    }
    const size_t used = conn_proxy(c, (spark_bytes){buffer, (size_t)n});
    c->ahead_len = 0; /* peeked at, not taken */
    if (used)
        (void)!recv(c->fd, buffer, used, 0);
    else
        c->readable = false; /* the next packet brings an edge */
}

/* ---- Requests ---------------------------------------------------------------------------------------------------- */

static void exchange_id(http_server *s, char out[21])
{
    static const char hex[] = "0123456789abcdef";
    uint64_t v = s->id_key + s->id_next++ * 0x9E3779B97F4A7C15u; /* splitmix64: a bijection, so no id comes twice */
    v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
    v = (v ^ v >> 27) * 0x94D049BB133111EBu;
    v ^= v >> 31;
    memcpy(out, "req-", 4);
    for (int i = 0; i < 16; i++) out[4 + i] = hex[v >> (60 - 4 * i) & 15];
    out[20] = 0;
}

static bool conn_begin_exchange(http_conn *c)
{
    http_exchange *x = http__exchange_take(c->server);
    if (!x) {
        c->broken = true;
        return false;
    }
    x->conn = c;
    x->began_ns = spark_clock_ns();
    exchange_id(c->server, x->id);
    c->x = x;
    return true;
}

/* The handler hears of it no more; the rest is ours. */
static void conn_refuse(http_conn *c)
{
    http_exchange *x = c->x;
    const http_parser *p = &x->parser;
    const int status = p->status;
    if (x->known) {
        x->known = false;
        c->server->n_known--;
        if (c->server->handler.on_gone) c->server->handler.on_gone(c->server->handler.ctx, x);
    }
    if (x->begun)
        c->broken = true; /* a reply was under way: only a reset can take it back */
    else
        http__error(x, status, p->code, p->message);
}

static void conn_head(http_conn *c)
{
    http_exchange *x = c->x;
    http_server *s = c->server;
    x->known = true;
    s->n_known++;
    if (s->handler.on_head) s->handler.on_head(s->handler.ctx, x);
    if (x->ended || x->parser.state == HTTP_PARSE_FAILED) return;
    http_parser_accept(&x->parser);
    x->body_began_ns = spark_clock_ns();
}

/* The kernel still hands out what came before a reset, and libevent passes its EPOLLERR on as "readable": the request of a client that
 * is gone would be counted, and wait for an engine. */
static bool conn_is_reset(const http_conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0;
}

/* What the handler is told next is a request's begin or its end. */
static bool conn_has_news(const http_exchange *x)
{
    return x->parser.state == HTTP_PARSE_ACCEPT || (x->parser.state == HTTP_PARSE_DONE && !x->asked && !x->begun);
}

/* Hands on what can be handed on. Returns the bytes of `in` that are used; stops when a request is being answered. */
static size_t conn_parse(http_conn *c, spark_bytes in)
{
    http_server *s = c->server;
    size_t at = 0;
    bool looked = false; /* once for all that was read at a time */
    while (!c->broken && !c->closing) {
        if (!c->x && (at == in.len || c->out.len)) break; /* the next one waits until the reader has this reply */
        if (!c->x && !conn_begin_exchange(c)) break;
        http_exchange *x = c->x;
        if (x->parser.state == HTTP_PARSE_HEAD || x->parser.state == HTTP_PARSE_BODY) {
            at += http_parser_feed(&x->parser, (spark_bytes){in.ptr + at, in.len - at});
            if (at == in.len && (x->parser.state == HTTP_PARSE_HEAD || x->parser.state == HTTP_PARSE_BODY)) break;
        }
        if (!looked && conn_has_news(x)) {
            looked = true;
            c->broken = conn_is_reset(c);
            if (c->broken) break;
        }
        if (x->parser.state == HTTP_PARSE_ACCEPT) {
            conn_head(c);
            if (x->parser.state == HTTP_PARSE_BODY && x->parser.expects_continue && at == in.len && !x->begun)
                http__continue(x);
        }
        if (x->parser.state == HTTP_PARSE_FAILED && !x->ended) conn_refuse(c);
        if (x->parser.state == HTTP_PARSE_DONE && !x->asked && !x->begun) {
            x->asked = true;
            x->whole_ns = c->read_ns;
            s->handler.on_request(s->handler.ctx, x);
        }
        if (x->ended)
            conn_end_exchange(c);
        else if (x->asked || x->begun)
            break;
    }
    return at;
}

/* Takes what was read before and what is there now. False: nothing more for the moment. */
static bool conn_take(http_conn *c)
{
    uint8_t *scratch = c->server->scratch;
    size_t len = c->ahead_len;
    const bool waiting = len > 0 && !c->proxy_due;
    if (len) memcpy(scratch, c->ahead, len);
    if (!waiting) { /* else what is here comes first */
        if (!c->readable) return false;
        const bool in_body = c->x && c->x->parser.state == HTTP_PARSE_BODY;
        const ssize_t n = conn_recv(c, scratch + len, in_body ? HTTP_SCRATCH : HEADS_A_READ);
        if (n <= 0) return false;
        len += (size_t)n;
    }
    c->read_ns = spark_clock_ns();
    free(c->ahead);
    c->ahead = NULL;
    c->ahead_len = 0;
    size_t at = 0;
    if (c->proxy_due && (at = conn_proxy(c, (spark_bytes){scratch, len})) == 0) return !c->broken;
    at += conn_parse(c, (spark_bytes){scratch + at, len - at});
    if (at < len && c->closing)
        c->unread = true;
    else if (at < len && !c->broken)
        (void)conn_keep(c, scratch + at, len - at);
    return true;
}

/* ---- Driving ----------------------------------------------------------------------------------------------------- */

static bool conn_is_answering(const http_conn *c) { return c->x && (c->x->asked || c->x->begun); }

/* A reply is being thought about or written: is the client still there, and does it take what it gets? */
static void conn_watch(http_conn *c)
{
    http_exchange *x = c->x;
    http_server *s = c->server;
    conn_read_ahead(c);
    if (c->eof || c->peer_closed) c->broken = true;
    if (c->broken || x->ended) return;
    if (x->starved && c->out.len <= s->limits.max_backlog / 2) {
        x->starved = false;
        if (s->handler.on_room) s->handler.on_room(s->handler.ctx, x);
    }
}

static void conn_linger(http_conn *c)
{
    while (c->readable && !c->eof && !c->broken && c->lingered < LINGER_BYTES) {
        /* Past TLS, the bytes themselves do not matter any more. */
        const ssize_t n = recv(c->fd, c->server->scratch, HTTP_SCRATCH, 0);
        if (n > 0)
            c->lingered += (uint64_t)n;
        else if (n == 0)
            c->eof = true;
        else if (errno == EAGAIN)
            c->readable = false;
        else if (errno != EINTR)
            c->broken = true;
    }
    if (c->eof || c->broken || c->lingered >= LINGER_BYTES) c->dead = true;
}

/* The output is gone. A client that has sent more than was read would be reset by close, and lose the reply: it gets our FIN first. */
static void conn_closed_output(http_conn *c)
{
    if (c->ssl && !c->handshake_due && !c->aborting) http__tls_goodbye(c);
    if (!c->unread && !c->readable) {
        c->dead = true;
        return;
    }
    shutdown(c->fd, SHUT_WR);
    c->lingering = true;
    http__wait(c, HTTP_WAIT_LINGER, true);
    conn_linger(c);
}

static bool conn_handshake(http_conn *c)
{
    if (c->proxy_due) conn_proxy_before_tls(c);
    if (c->proxy_due || c->broken) return false;
    if (!c->ssl && !(c->ssl = http__tls_accept(c->listening->l.tls, &c->fd))) c->broken = true;
    const int done = c->broken ? -1 : http__tls_handshake(c);
    if (done < 0) c->broken = true;
    if (done > 0) c->handshake_due = false;
    return done > 0;
}

/* One round; false: nothing more can be done now. */
static bool conn_step(http_conn *c)
{
    if (c->handshake_due) return conn_handshake(c);
    if (c->lingering) {
        conn_linger(c);
        return false;
    }
    if (c->out.len && c->writable) http__conn_flush(c);
    if (c->broken) return false;
    if (c->x && c->x->ended) conn_end_exchange(c);
    if (c->closing && !c->x) {
        if (c->out.len == 0) conn_closed_output(c);
        return false;
    }
    if (conn_is_answering(c)) {
        conn_watch(c);
        return !c->broken && c->x->ended;
    }
    if (!c->x && c->out.len) return false; /* who does not read its replies is asked for no more requests */
    if (conn_take(c)) return true;
    if (c->eof && c->out.len && !c->x) return c->closing = true; /* a reply that is whole goes out whole */
    if (c->eof) c->broken = true;
    return false;
}

static void conn_set_wait(http_conn *c)
{
    const http_exchange *x = c->x;
    if (c->lingering) return;
    if (x && !x->ended && x->parser.state == HTTP_PARSE_BODY && !x->begun)
        http__wait(c, HTTP_WAIT_BODY, false);
    else if (c->handshake_due || c->proxy_due || (x && x->parser.state == HTTP_PARSE_HEAD))
        http__wait(c, HTTP_WAIT_HEAD, x && c->served && x->began_ns > c->wait_since);
    else if (c->out.len)
        http__wait(c, HTTP_WAIT_WRITE, false);
    else if (x)
        http__wait(c, HTTP_WAIT_NONE, false);
    else
        http__wait(c, c->served ? HTTP_WAIT_IDLE : HTTP_WAIT_HEAD, false);
}

void http__conn_drive(http_conn *c)
{
    if (c->driving) return;
    c->driving = true;
    int rounds = 0;
    while (!c->dead && !c->broken && conn_step(c))
        if (++rounds == READS_A_TURN) break;
    c->driving = false;
    const bool idle = !c->x && !c->out.len && !c->ahead_len && c->served;
    if (c->broken) {
        if (c->x || c->out.len) conn_reset(c);
        c->dead = true;
    } else if (c->server->draining && idle && !c->lingering && !c->readable) {
        c->dead = true;
    }
    if (c->dead) {
        http__conn_free(c);
        return;
    }
    if (rounds == READS_A_TURN) http__ready(c);
    conn_set_wait(c);
}

/* ---- Too slow ---------------------------------------------------------------------------------------------------- */

static bool body_is_too_slow(const http_conn *c)
{
    const http_exchange *x = c->x;
    const uint64_t ms = (spark_clock_ns() - x->body_began_ns) / 1000000u;
    const http_limits *l = &c->server->limits;
    if (ms >= l->body_ms) return true;
    return ms >= l->min_body_rate_after_ms && (uint64_t)x->parser.body_len * 1000 < (uint64_t)l->min_body_rate * ms;
}

void http__conn_expire(http_conn *c, http_wait kind)
{
    http_exchange *x = c->x;
    if (kind == HTTP_WAIT_BODY && x && !body_is_too_slow(c)) {
        http__wait(c, HTTP_WAIT_BODY, true);
        return;
    }
    if ((kind == HTTP_WAIT_HEAD || kind == HTTP_WAIT_BODY) && x && !x->begun && !c->handshake_due) {
        x->parser.state = HTTP_PARSE_FAILED;
        x->parser.status = 408;
        x->parser.code = "request_timeout";
        x->parser.message = kind == HTTP_WAIT_HEAD ? "the request's head took too long"
                                                   : "the request's body took too long";
        c->driving = true;
        conn_refuse(c);
        c->driving = false;
        http__conn_drive(c);
        return;
    }
    if (kind == HTTP_WAIT_WRITE) conn_reset(c);
    http__conn_free(c);
}
