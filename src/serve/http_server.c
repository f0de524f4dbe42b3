/* http_server.c - listeners, limits, timers, and the memory that connections share. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/http_internal.h"

enum {
    ACCEPTS_A_TURN = 256,   /* then others get their turn */
    FREE_EXCHANGES = 128,   /* kept for reuse */
    PAUSE_MS = 100,         /* after accept failed for want of descriptors or memory */
    BODY_CHECK_MS = 1000,   /* how often a body's rate is looked at */
    LINGER_MS = 1000,       /* how long a client may take to close after our FIN */
    NOT_SENT_BYTES = 131072 /* the kernel takes no more than this beyond what the reader's window allows */
};

void http_limits_defaults(http_limits *l)
{
    *l = (http_limits){
        .max_connections = 10000,
        .max_connections_per_address = 256,
        .max_head = 16384,
        .max_headers = 100,
        .max_url = 8192,
        .max_body = 16u << 20,
        .max_bodies = 256u << 20,
        .max_replies = 64u << 20,
        .head_ms = 10000,
        .body_ms = 60000,
        .idle_ms = 75000,
        .write_ms = 30000,
        .write_scarce_ms = 5000,
        .min_body_rate = 1024,
        .min_body_rate_after_ms = 5000,
        .max_backlog = 262144,
    };
}

uint32_t http_server_connections(const http_server *s) { return s->n_conns; }
uint64_t http_server_accepted(const http_server *s) { return s->n_accepted; }
uint64_t http_server_replies(const http_server *s) { return s->replies.used; }
uint32_t http_server_exchanges(const http_server *s) { return s->n_known; }

/* ---- Exchanges are reused: a request on a connection that stays allocates nothing -------------------------------- */

http_exchange *http__exchange_take(http_server *s)
{
    http_exchange *x = s->free_exchanges;
    if (x) {
        s->free_exchanges = x->next_free;
        s->n_free--;
        return x;
    }
    x = malloc(sizeof *x);
    if (x) {
        memset(x, 0, offsetof(http_exchange, parser));
        http_parser_init(&x->parser, &s->parse_limits, &s->bodies);
    }
    return x;
}

void http__exchange_give(http_server *s, http_exchange *x)
{
    if (s->n_free == FREE_EXCHANGES) {
        http_parser_free(&x->parser);
        free(x);
        return;
    }
    http_parser_reset(&x->parser);
    x->parser.limits = s->parse_limits;
    memset(x, 0, offsetof(http_exchange, parser));
    x->next_free = s->free_exchanges;
    s->free_exchanges = x;
    s->n_free++;
}

/* ---- Connections for each address -------------------------------------------------------------------------------- */

static http_address address_group(const http_address *a)
{
    http_address g = *a;
    if (g.len == 16) memset(g.bytes + 8, 0, 8); /* who has an IPv6 address has a /64 */
    return g;
}

static http_count **address_bucket(http_server *s, const http_address *g)
{
    uint64_t h = s->hash_key ^ g->len;
    for (int i = 0; i < 16; i += 8) {
        h = (h ^ spark_load_u64(g->bytes + i)) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return &s->addresses[(h >> 32) % HTTP_ADDRESS_BUCKETS];
}

static http_count **address_find(http_server *s, const http_address *g)
{
    http_count **at = address_bucket(s, g);
    while (*at && memcmp(&(*at)->address, g, sizeof *g) != 0) at = &(*at)->next;
    return at;
}

bool http__address_enter(http_server *s, const http_address *a)
{
    const http_address g = address_group(a);
    http_count **at = address_find(s, &g);
    if (!*at) {
        *at = calloc(1, sizeof **at);
        if (!*at) return false;
        (*at)->address = g;
    }
    if (s->limits.max_connections_per_address && (*at)->n >= s->limits.max_connections_per_address) return false;
    (*at)->n++;
    return true;
}

void http__address_leave(http_server *s, const http_address *a)
{
    const http_address g = address_group(a);
    http_count **at = address_find(s, &g), *c = *at;
    if (!c || --c->n > 0) return;
    *at = c->next;
    free(c);
}

/* ---- Timers: one event; each kind of waiting has one duration, so the first of each list is the next to expire ---- */

static void timer_arm(http_server *s, uint64_t at_ns, uint64_t now)
{
    if (at_ns >= s->timer_at) return;
    const uint64_t us = at_ns > now ? (at_ns - now) / 1000 + 1000 : 1000;
    const struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    s->timer_at = at_ns;
    if (event_add(&s->timer, &tv) != 0) s->timer_at = UINT64_MAX; /* no memory: the next call tries again */
}

/* How long a wait of this kind may take now. */
static uint64_t wait_most(const http_server *s, http_wait kind)
{
    const uint64_t scarce = (uint64_t)s->limits.write_scarce_ms * 1000000u;
    return kind == HTTP_WAIT_WRITE && scarce < s->wait_ns[kind] && held_is_full(&s->replies) ? scarce
                                                                                             : s->wait_ns[kind];
}

/* When to look at the first of those who wait: readers now and then, as replies may become scarce meanwhile. */
static uint64_t wait_look(const http_server *s, http_wait kind, uint64_t due, uint64_t now)
{
    const uint64_t soon = now + (uint64_t)s->limits.write_scarce_ms * 1000000u / 4;
    return kind == HTTP_WAIT_WRITE && soon < due ? soon : due;
}

void http__wait(http_conn *c, http_wait kind, bool anew)
{
    http_server *s = c->server;
    if (c->wait_kind == kind && !anew) return;
    http_link_remove(&c->wait);
    c->wait_kind = (uint8_t)kind;
    if (kind == HTTP_WAIT_NONE) return;
    c->wait_since = spark_clock_ns();
    c->taken = 0;
    http_link_append(&s->waits[kind], &c->wait);
    timer_arm(s, wait_look(s, kind, c->wait_since + wait_most(s, kind), c->wait_since), c->wait_since);
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
    http_server *s = arg;
    (void)fd;
    (void)what;
    s->timer_at = UINT64_MAX;
    uint64_t next = UINT64_MAX;
    const uint64_t now = spark_clock_ns();
    for (int k = HTTP_WAIT_NONE + 1; k < HTTP_N_WAITS; k++) {
        http_link *list = &s->waits[k];
        while (list->next != list) {
            http_conn *c = HTTP_CONN_OF(list->next, wait);
            const uint64_t due = c->wait_since + wait_most(s, (http_wait)k);
            if (due > now) {
                const uint64_t look = wait_look(s, (http_wait)k, due, now);
                if (look < next) next = look;
                break;
            }
            http_link_remove(&c->wait);
            c->wait_kind = HTTP_WAIT_NONE;
            http__conn_expire(c, (http_wait)k);
        }
    }
    if (next != UINT64_MAX) timer_arm(s, next, now);
}

/* ---- Connections that have something to do without news from epoll ----------------------------------------------- */

void http__ready(http_conn *c)
{
    if (http_link_in(&c->ready) || c->driving) return;
    http_link_append(&c->server->ready, &c->ready);
    event_active(&c->server->kick, EV_TIMEOUT, 0);
}

static void kick_fired(evutil_socket_t fd, short what, void *arg)
{
    http_server *s = arg;
    (void)fd;
    (void)what;
    http_link *last =
        s->ready.prev; /* what becomes ready meanwhile waits for the next turn, so that epoll is heard too */
    while (s->ready.next != &s->ready) {
        http_link *l = s->ready.next;
        const bool stop = l == last;
        http_link_remove(l);
        http__conn_drive(HTTP_CONN_OF(l, ready));
        if (stop) break;
    }
    if (s->ready.next != &s->ready) event_active(&s->kick, EV_TIMEOUT, 0);
}

/* ---- Accepting --------------------------------------------------------------------------------------------------- */

/* No descriptors or no memory: accept would fail again at once, and the listener stays readable. */
static void accept_pause(http_server *s)
{
    const struct timeval tv = {.tv_usec = PAUSE_MS * 1000};
    if (s->paused || event_add(&s->resume, &tv) != 0) return;
    s->paused = true;
    for (http_listening *l = s->listeners; l; l = l->next)
        if (l->l.fd >= 0) event_del(&l->ev);
}

void http__resume_accepting(http_server *s)
{
    if (!s->paused) return;
    s->paused = false;
    event_del(&s->resume);
    for (http_listening *l = s->listeners; l; l = l->next)
        if (l->l.fd >= 0 && event_add(&l->ev, NULL) != 0) accept_pause(s);
}

static void resume_fired(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    http__resume_accepting(arg);
}

/* A constant answer at a constant price; a TLS client only sees the close. */
static void accept_refuse(http_listening *l, int fd, int status, const char *code, const char *message)
{
    const http_handler *h = &l->server->handler;
    char reply[640];
    if (h->on_refused) h->on_refused(h->ctx, status, true);
    if (!l->l.tls) {
        const size_t n = http__refusal(l->server, status, code, message, reply, sizeof reply);
        if (send(fd, reply, n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
            shutdown(fd, SHUT_WR);
            /* What came already is taken: unread bytes would make close a reset, and the client might not see why. */
            (void)!recv(fd, l->server->scratch, HTTP_SCRATCH, MSG_DONTWAIT);
        }
    }
    close(fd);
}

static bool accept_room(http_server *s)
{
    if (!s->limits.max_connections || s->n_conns < s->limits.max_connections) return true;
    http_link *idle = &s->waits[HTTP_WAIT_IDLE];
    if (idle->next == idle) return false;
    http__conn_expire(HTTP_CONN_OF(idle->next, wait), HTTP_WAIT_IDLE);
    return true;
}

static void accept_one(http_listening *l, int fd, const struct sockaddr *sa)
{
    http_server *s = l->server;
    const http_address a = http_address_of(sa);
    const bool counted = a.len > 0 && !l->l.proxy_protocol;
    if (l->l.proxy_protocol && l->l.may_proxy) {
        char text[HTTP_ADDRESS_TEXT];
        http_address_text(&a, text);
        if (!l->l.may_proxy(l->l.tag, text)) {
            close(fd);
            return;
        }
    }
    if (!accept_room(s)) {
        accept_refuse(l, fd, 503, "overloaded", "too many connections; try again");
        return;
    }
    if (counted && !http__address_enter(s, &a)) {
        accept_refuse(l, fd, 429, "too_many_connections", "too many connections from this address");
        return;
    }
    http__conn_start(s, l, fd, &a, counted);
}

/* What befell one connection before it was taken (accept(2)); all else is ours, would come again at once, and has to wait. */
static bool accept_error_is_the_clients(int e)
{
    static const int theirs[] = {EINTR,     ECONNABORTED, EPROTO,       EPERM,      ENETDOWN,    ENOPROTOOPT,
                                 EHOSTDOWN, ENONET,       EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, ETIMEDOUT};
    for (size_t i = 0; i < SPARK_COUNT(theirs); i++)
        if (e == theirs[i]) return true;
    return false;
}

static void accept_fired(evutil_socket_t listener, short what, void *arg)
{
    http_listening *l = arg;
    (void)what;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof sa;
        const int fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(l, fd, (const struct sockaddr *)&sa);
        } else if (errno == EAGAIN) {
            return;
        } else if (!accept_error_is_the_clients(errno)) { /* no descriptors, no memory */
            accept_pause(l->server);
            return;
        }
    }
}

/* What an accepted socket inherits: nothing of it needs a call for each connection. */
static void listener_options(const http_listener *l)
{
    const int on = 1, idle = 30, interval = 10, count = 3, not_sent = NOT_SENT_BYTES;
    if (l->is_unix) return;
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &not_sent, sizeof not_sent);
    (void)setsockopt(l->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on); /* a client whose machine died is gone too */
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

spark_status http_server_listen(http_server *s, const http_listener *l, spark_err *err)
{
    http_listening *n = calloc(1, sizeof *n);
    if (!n) return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for a listener");
    n->l = *l;
    n->server = s;
    evutil_make_socket_nonblocking(l->fd);
    listener_options(l);
    if (event_assign(&n->ev, s->base, l->fd, EV_READ | EV_PERSIST, accept_fired, n) != 0 ||
        event_add(&n->ev, NULL) != 0) {
        free(n);
        return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "a listening socket cannot be watched");
    }
    n->next = s->listeners;
    s->listeners = n;
    return SPARK_SUCCESS;
}

/* The records stay: connections refer to them. */
static void listeners_close(http_server *s)
{
    for (http_listening *l = s->listeners; l; l = l->next) {
        if (l->l.fd < 0) continue;
        event_del(&l->ev);
        close(l->l.fd);
        l->l.fd = -1;
    }
}

void http_server_use_tls(http_server *s, struct ssl_ctx_st *tls)
{
    for (http_listening *l = s->listeners; l; l = l->next)
        if (l->l.tls) l->l.tls = tls;
}

void http_server_stop_listening(http_server *s)
{
    s->draining = true;
    if (s->paused) event_del(&s->resume);
    s->paused = false;
    listeners_close(s);
    for (http_link *l = s->waits[HTTP_WAIT_IDLE].next; l != &s->waits[HTTP_WAIT_IDLE]; l = l->next)
        http__ready(HTTP_CONN_OF(l, wait));
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

static void server_set(http_server *s, struct event_base *base, const http_limits *l, const http_handler *h)
{
    s->base = base;
    s->limits = *l;
    s->handler = *h;
    s->parse_limits = (http_parse_limits){l->max_head, l->max_headers, l->max_url, l->max_body};
    s->bodies.max = l->max_bodies;
    s->replies.max = l->max_replies;
    s->timer_at = UINT64_MAX;
    http_link_init(&s->all);
    http_link_init(&s->ready);
    for (int k = 0; k < HTTP_N_WAITS; k++) http_link_init(&s->waits[k]);
    uint32_t check = l->body_ms < BODY_CHECK_MS ? l->body_ms : BODY_CHECK_MS;
    if (l->min_body_rate_after_ms < check) check = l->min_body_rate_after_ms;
    const uint32_t ms[HTTP_N_WAITS] = {0, l->head_ms, check, l->idle_ms, l->write_ms, LINGER_MS};
    for (int k = 0; k < HTTP_N_WAITS; k++) s->wait_ns[k] = (uint64_t)ms[k] * 1000000u;
}

spark_status http_server_create(http_server **out, struct event_base *base, const http_limits *l, const http_handler *h,
                                spark_err *err)
{
    SPARK_CHECK(h->on_request, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "a server needs on_request");
    SPARK_CHECK(l->max_head >= 512 && l->max_head <= (1u << 24) && l->max_url >= 1 && l->max_url <= l->max_head &&
                    l->max_body <= SIZE_MAX / 4,
                err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "HTTP limits that do not fit together");
    SPARK_CHECK((event_base_get_features(base) & (EV_FEATURE_EARLY_CLOSE | EV_FEATURE_ET)) ==
                    (EV_FEATURE_EARLY_CLOSE | EV_FEATURE_ET),
                err, SPARK_E_UNSUPPORTED, SPARK_ERR_NOWHERE,
                "the event loop cannot tell when a client leaves (it is not epoll)");
    http_server *s = calloc(1, sizeof *s);
    if (!s) return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for a server");
    server_set(s, base, l, h);
    uint64_t keys[2];
    if (getrandom(keys, sizeof keys, 0) != (ssize_t)sizeof keys ||
        event_assign(&s->timer, base, -1, 0, timer_fired, s) != 0 ||
        event_assign(&s->kick, base, -1, 0, kick_fired, s) != 0 ||
        event_assign(&s->resume, base, -1, 0, resume_fired, s) != 0) {
        free(s);
        return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "the HTTP server cannot be set up");
    }
    s->id_key = keys[0];
    s->hash_key = keys[1];
    *out = s;
    return SPARK_SUCCESS;
}

static void server_free_addresses(http_server *s)
{
    for (size_t i = 0; i < HTTP_ADDRESS_BUCKETS; i++)
        while (s->addresses[i]) {
            http_count *c = s->addresses[i];
            s->addresses[i] = c->next;
            free(c);
        }
}

void http_server_destroy(http_server **server)
{
    http_server *s = *server;
    if (!s) return;
    *server = NULL;
    listeners_close(s);
    while (s->all.next != &s->all) http__conn_free(HTTP_CONN_OF(s->all.next, all));
    event_del(&s->timer);
    event_del(&s->kick);
    event_del(&s->resume);
    while (s->free_exchanges) {
        http_exchange *x = s->free_exchanges;
        s->free_exchanges = x->next_free;
        http_parser_free(&x->parser);
        free(x);
    }
    while (s->listeners) {
        http_listening *l = s->listeners;
        s->listeners = l->next;
        free(l);
    }
    server_free_addresses(s);
    free(s);
}
