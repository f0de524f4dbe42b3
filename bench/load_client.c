/* load_client.c - see load_client.h. Sockets are watched edge-triggered: one epoll_ctl a connection, as requests are short.
 * States of a client: IDLE -> (CONNECTING ->) WRITING -> READING -> IDLE; PAUSED for a moment after an error. */
#include "load_client.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

enum { LOAD_READ = 64 * 1024, LOAD_EVENTS = 256 };
static const uint64_t load_tick_ns = 50 * 1000 * 1000; /* how often pauses and time limits are looked at */

const char *load_end_text(load_end e)
{
    static const char *const texts[] = {
#define LOAD_END_TEXT(name, text) text,
        LOAD_END_LIST(LOAD_END_TEXT)
#undef LOAD_END_TEXT
    };
    return texts[e];
}

/* ---- Where the server is ------------------------------------------------------------------------------------------- */

static const char *target_unix(load_target *t, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof a.sun_path) return "the path of the unix socket is empty or too long";
    memcpy(a.sun_path, path, strlen(path) + 1);
    memcpy(&t->address, &a, sizeof a);
    t->len = sizeof a;
    snprintf(t->host, sizeof t->host, "localhost");
    return NULL;
}

const char *load_target_parse(load_target *t, const char *text)
{
    *t = (load_target){0};
    if (strncmp(text, "unix:", 5) == 0) return target_unix(t, text + 5);
    if (strncmp(text, "tcp:", 4) == 0) text += 4;
    if (strncmp(text, "http://", 7) == 0) text += 7;
    snprintf(t->host, sizeof t->host, "%s", text);
    char *slash = strchr(t->host, '/');
    if (slash) *slash = 0;
    char name[sizeof t->host];
    memcpy(name, t->host, sizeof name);
    char *port = strrchr(name, ':');
    if (!port || port == name) return "an address is tcp:HOST:PORT or unix:PATH";
    *port++ = 0;
    char *host = name;
    if (host[0] == '[' && port[-2] == ']') { /* [::1] */
        host++;
        port[-2] = 0;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0 || !found) return "no such host or port";
    memcpy(&t->address, found->ai_addr, found->ai_addrlen);
    t->len = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

/* ---- The end of a request ------------------------------------------------------------------------------------------- */

void load_group_free(load_group *g)
{
    load_samples_free(&g->first_ms);
    load_samples_free(&g->gap_ms);
    load_samples_free(&g->total_ms);
}

uint64_t load_group_errors(const load_group *g)
{
    uint64_t n = 0;
    for (int e = 0; e < LOAD_N_ENDS; e++)
        if (e != LOAD_OK && e != LOAD_CANCELLED) n += g->ends[e];
    return n;
}

static double client_ms(uint64_t from, uint64_t to) { return to > from ? (double)(to - from) / 1e6 : 0; }

static void client_disconnect(load_client *c)
{
    if (c->fd >= 0) close(c->fd); /* epoll forgets it */
    c->fd = -1;
}

static void client_make_ready(load_client *c)
{
    if (c->in_ready) return;
    c->in_ready = true;
    c->loop->ready[c->loop->n_ready++] = c;
}

static void client_count(load_client *c, load_end end, const char *why)
{
    load_group *g = c->job.group;
    g->ends[end]++;
    g->ended_ns = c->loop->now;
    if (c->http.status > 0 && c->http.status < 600) g->statuses[c->http.status]++;
    g->prompt_tokens += c->prompt_tokens;
    g->completion_tokens += c->completion_tokens ? c->completion_tokens : c->n_pieces;
    g->n_pieces += c->n_pieces;
    if (end == LOAD_OK) {
        load_samples_add(&g->total_ms, client_ms(c->due_ns, c->loop->now));
        g->n_silent += c->job.is_stream && c->n_pieces == 0;
    } else if (end != LOAD_CANCELLED && !g->example[0]) {
        char status[16] = "";
        if (end == LOAD_STATUS) snprintf(status, sizeof status, " %d", c->http.status);
        snprintf(g->example, sizeof g->example, "%s%s%s%s%s%.*s", load_end_text(end), status, why ? ": " : "",
                 why ? why : "", c->n_note ? ": " : "", (int)c->n_note, c->note);
    }
}

/* The request is over. A connection that cannot serve the next one is closed. */
static void client_finish(load_client *c, load_end end, const char *why)
{
    client_count(c, end, why);
    if (c->job.owned) free(c->job.bytes);
    c->job.bytes = NULL;
    c->loop->n_busy--;
    if (end != LOAD_OK || !c->http.keep_alive || c->loop->fresh) client_disconnect(c);
    c->state = end == LOAD_OK || end == LOAD_CANCELLED ? LOAD_IDLE : LOAD_PAUSED;
    if (c->state == LOAD_IDLE) client_make_ready(c); /* else the tick does: no storm of requests against a wall */
}

void load_drop(load_client *c)
{
    if (c->state <= LOAD_PAUSED) return;
    client_finish(c, LOAD_CANCELLED, NULL);
    client_disconnect(c);
}

/* ---- Connecting and sending ------------------------------------------------------------------------------------------ */

static void client_send(load_client *c);

static void client_connect(load_client *c)
{
    load_loop *l = c->loop;
    const int family = l->target->address.ss_family, one = 1;
    c->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        client_finish(c, LOAD_CONNECT, strerror(errno));
        return;
    }
    if (family != AF_UNIX) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->n_connections++;
    c->reused = false;
    c->state = LOAD_CONNECTING;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    const int connected = connect(c->fd, (const struct sockaddr *)&l->target->address, l->target->len);
    if ((connected != 0 && errno != EINPROGRESS) || epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) != 0) {
        client_finish(c, LOAD_CONNECT, strerror(errno));
        return;
    }
    if (connected == 0) {
        c->state = LOAD_WRITING;
        client_send(c);
    }
}

/* Forgets what was read of an answer, before the request is sent (again). */
static void client_rewind(load_client *c)
{
    load_http_reset(&c->http);
    load_sse_reset(&c->sse);
    c->n_sent = c->n_read = c->n_note = 0;
    c->leaving = c->saw_done = c->bad_event = c->server_error = false;
    c->n_pieces = c->prompt_tokens = c->completion_tokens = 0;
}

void load_start(load_client *c, const load_job *job)
{
    const uint64_t now = spark_clock_ns();
    c->job = *job;
    c->start_ns = now;
    c->due_ns = job->due_ns ? job->due_ns : now;
    c->loop->n_busy++;
    job->group->n_started++;
    if (!job->group->began_ns) job->group->began_ns = now;
    client_rewind(c);
    if (c->fd < 0) {
        client_connect(c);
        return;
    }
    c->reused = true;
    c->state = LOAD_WRITING;
    client_send(c);
}

/* The other side went away. A kept connection may just have timed out there: then once more, on a fresh one. */
static void client_lost(load_client *c, load_end end, const char *why)
{
    if (c->leaving) {
        client_finish(c, LOAD_CANCELLED, NULL);
    } else if (c->reused && c->n_read == 0) {
        c->job.group->n_reconnected++;
        client_disconnect(c);
        client_rewind(c);
        client_connect(c);
    } else {
        client_finish(c, end, why);
    }
}

static void client_leave(load_client *c)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    c->leaving = true;
    if (c->job.leave == LOAD_LEAVE_HALF) {
        shutdown(c->fd, SHUT_WR); /* and read on until the server ends it */
        return;
    }
    if (c->job.leave == LOAD_LEAVE_RST) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    client_finish(c, LOAD_CANCELLED, NULL);
}

static void client_send(load_client *c)
{
    while (c->n_sent < c->job.len) {
        const ssize_t n = send(c->fd, c->job.bytes + c->n_sent, c->job.len - c->n_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return; /* EPOLLOUT will tell */
        if (n < 0) {
            client_lost(c, LOAD_RESET, strerror(errno));
            return;
        }
        c->n_sent += (size_t)n;
    }
    c->state = LOAD_READING;
    if (c->job.leave != LOAD_STAY && c->job.leave_after == 0) client_leave(c);
}

static void client_writable(load_client *c)
{
    if (c->state == LOAD_CONNECTING) {
        int problem = 0;
        socklen_t len = sizeof problem;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &len);
        if (problem) {
            client_finish(c, problem == ECONNRESET ? LOAD_RESET : LOAD_CONNECT, strerror(problem));
            return;
        }
        c->state = LOAD_WRITING;
    }
    client_send(c);
}

/* ---- Reading --------------------------------------------------------------------------------------------------------- */

static void client_piece(load_client *c)
{
    load_group *g = c->job.group;
    const uint64_t now = c->loop->now;
    if (c->n_pieces == 0)
        load_samples_add(&g->first_ms, client_ms(c->due_ns, now));
    else
        load_samples_add(g->gaps ? g->gaps : &g->gap_ms, client_ms(c->last_ns, now));
    c->last_ns = now;
    c->n_pieces++;
}

static uint64_t event_number(const json_t *usage, const char *name)
{
    const json_int_t v = json_integer_value(json_object_get(usage, name));
    return v > 0 ? (uint64_t)v : 0;
}

/* Text that an event brings, of a chat, its reasoning, or a completion. */
static size_t event_text(const json_t *event)
{
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const json_t *delta = json_object_get(choice, "delta");
    return json_string_length(json_object_get(delta, "content")) +
           json_string_length(json_object_get(delta, "reasoning_content")) +
           json_string_length(json_object_get(choice, "text"));
}

static void client_note(load_client *c, const char *p, size_t n)
{
    for (size_t i = 0; i < n && c->n_note < sizeof c->note; i++)
        c->note[c->n_note++] = p[i] >= ' ' && p[i] < 127 ? p[i] : ' ';
}

static void client_event(void *ctx, const char *data, size_t len)
{
    load_client *c = ctx;
    if (len == 6 && memcmp(data, "[DONE]", 6) == 0) {
        c->saw_done = true;
        return;
    }
    json_t *event = json_loadb(data, len, 0, NULL);
    const json_t *usage = json_object_get(event, "usage");
    if (!json_is_object(event) || c->saw_done) c->bad_event = true;
    if (json_object_get(event, "error")) {
        c->server_error = true;
        client_note(c, data, len);
    }
    if (json_is_object(usage)) {
        c->prompt_tokens = event_number(usage, "prompt_tokens");
        c->completion_tokens = event_number(usage, "completion_tokens");
    }
    if (event_text(event) > 0) client_piece(c);
    json_decref(event);
}

static void client_body(void *ctx, const char *p, size_t n)
{
    load_client *c = ctx;
    if (c->http.status >= 300)
        client_note(c, p, n);
    else if (c->job.is_stream && c->http.is_stream && !load_sse_feed(&c->sse, p, n, client_event, c))
        c->bad_event = true;
}

/* The response is whole: what it was worth. */
static void client_answered(load_client *c)
{
    if (c->leaving)
        client_finish(c, LOAD_CANCELLED, NULL);
    else if (c->http.status >= 300)
        client_finish(c, LOAD_STATUS, NULL);
    else if (c->server_error)
        client_finish(c, LOAD_IN_STREAM, NULL);
    else if (c->bad_event || (c->job.is_stream && !c->saw_done))
        client_finish(c, LOAD_PROTOCOL,
                      c->bad_event ? "an event is no JSON object" : "the stream ended without [DONE]");
    else
        client_finish(c, LOAD_OK, NULL);
}

/* What was read goes on its way. */
static void client_feed(load_client *c, const char *p, size_t n)
{
    c->n_read += n;
    const size_t used = load_http_feed(&c->http, p, n, client_body, c);
    if (c->http.state == LOAD_HTTP_BAD)
        client_finish(c, LOAD_PROTOCOL, "HTTP");
    else if (c->http.state == LOAD_HTTP_DONE && used < n)
        client_finish(c, LOAD_PROTOCOL, "bytes after the answer");
    else if (c->http.state == LOAD_HTTP_DONE)
        client_answered(c);
    else if (!c->leaving && c->job.leave != LOAD_STAY && c->n_pieces >= c->job.leave_after)
        client_leave(c);
}

static void client_ended(load_client *c)
{
    if (load_http_eof(&c->http)) {
        client_answered(c);
        return;
    }
    client_lost(c, LOAD_CUT, NULL);
}

/* `ended`: the event said that the end is there too; then a short read is not the last one. */
static void client_readable(load_client *c, bool ended)
{
    static char buffer[LOAD_READ];
    const uint32_t connection = c->n_connections;
    while (c->fd >= 0 && c->n_connections == connection) {
        const ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        c->loop->now = spark_clock_ns();
        if (c->state != LOAD_WRITING && c->state != LOAD_READING) { /* idle: closed there, or says what nobody asked */
            client_disconnect(c);
            return;
        }
        if (n < 0)
            client_lost(c, LOAD_RESET, strerror(errno));
        else if (n == 0)
            client_ended(c);
        else
            client_feed(c, buffer, (size_t)n);
        if (n > 0 && (size_t)n < sizeof buffer && !ended) return; /* drained; an end that follows is a new edge */
    }
}

/* ---- The loop -------------------------------------------------------------------------------------------------------- */

static void loop_die(const char *what)
{
    fprintf(stderr, "load-generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

void load_loop_open(load_loop *l, const load_target *t, uint32_t n_clients)
{
    struct rlimit files;
    *l = (load_loop){.target = t, .n_clients = n_clients, .timeout_ns = UINT64_MAX};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (files.rlim_cur != RLIM_INFINITY && files.rlim_cur < n_clients + 32u) {
        fprintf(stderr,
                "load-generator: %u clients need as many descriptors, and the limit is %llu; raise it with ulimit -n\n",
                n_clients, (unsigned long long)files.rlim_cur);
        exit(1);
    }
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (l->epoll < 0 || l->timer < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &e) != 0) loop_die("epoll");
    l->clients = load_grow(NULL, n_clients, sizeof *l->clients);
    l->ready = load_grow(NULL, n_clients, sizeof(load_client *));
    memset(l->clients, 0, n_clients * sizeof *l->clients);
    for (uint32_t i = 0; i < n_clients; i++) {
        load_client *c = &l->clients[i];
        c->loop = l;
        c->index = i;
        c->fd = -1;
        load_http_reset(&c->http);
    }
}

void load_loop_close(load_loop *l)
{
    for (uint32_t i = 0; i < l->n_clients; i++) {
        client_disconnect(&l->clients[i]);
        load_sse_free(&l->clients[i].sse);
    }
    free(l->clients);
    free(l->ready);
    close(l->timer);
    close(l->epoll);
    *l = (load_loop){0};
}

/* Every client that has nothing to do is asked what comes next. */
static void loop_serve_ready(load_loop *l)
{
    while (l->n_ready) {
        load_client *c = l->ready[--l->n_ready];
        load_job job = {0};
        c->in_ready = false;
        if (c->state == LOAD_IDLE && l->next(l->ctx, c, &job)) load_start(c, &job);
    }
}

static void loop_tick(load_loop *l)
{
    for (uint32_t i = 0; i < l->n_clients; i++) {
        load_client *c = &l->clients[i];
        if (c->state == LOAD_PAUSED) {
            c->state = LOAD_IDLE;
            client_make_ready(c);
        } else if (c->state > LOAD_PAUSED && l->now - c->start_ns > l->timeout_ns && l->now > c->start_ns) {
            client_finish(c, LOAD_TIMEOUT, NULL);
        }
    }
}

/* The timer rings for the tick or for the owner's own time, whichever comes first. */
static void loop_set_timer(load_loop *l, uint64_t tick)
{
    const uint64_t at = l->wake_ns && l->wake_ns < tick ? l->wake_ns : tick;
    if (at == l->timer_at) return;
    l->timer_at = at;
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)}};
    timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void loop_dispatch(load_loop *l, const struct epoll_event *e)
{
    load_client *c = e->data.ptr;
    uint64_t rings;
    if (!c) {
        if (read(l->timer, &rings, sizeof rings) < 0 && errno != EAGAIN) loop_die("timer");
        l->timer_at = 0;
        return;
    }
    const uint32_t connection = c->n_connections;
    if ((e->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && (c->state == LOAD_CONNECTING || c->state == LOAD_WRITING))
        client_writable(c);
    const bool ended = e->events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP);
    if ((ended || (e->events & EPOLLIN)) && c->n_connections == connection) client_readable(c, ended);
}

static bool loop_is_paused(const load_loop *l)
{
    for (uint32_t i = 0; i < l->n_clients; i++)
        if (l->clients[i].state == LOAD_PAUSED) return true;
    return false;
}

void load_loop_run(load_loop *l)
{
    struct epoll_event events[LOAD_EVENTS];
    uint64_t tick = spark_clock_ns() + load_tick_ns;
    for (uint32_t i = l->n_clients; i-- > 0;) client_make_ready(&l->clients[i]); /* the first is asked first */
    for (;;) {
        l->now = spark_clock_ns();
        if (l->now >= tick) {
            loop_tick(l);
            tick = l->now + load_tick_ns;
        }
        if (l->wake_ns && l->now >= l->wake_ns) l->on_time(l->ctx);
        loop_serve_ready(l);
        if (!l->n_busy && !l->wake_ns && !loop_is_paused(l)) return;
        loop_set_timer(l, tick);
        const int n = epoll_wait(l->epoll, events, LOAD_EVENTS, -1);
        if (n < 0 && errno != EINTR) loop_die("epoll_wait");
        for (int i = 0; i < n; i++) loop_dispatch(l, &events[i]);
    }
}

uint32_t load_loop_closed(const load_loop *l)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_clients; i++) {
        char byte;
        const int fd = l->clients[i].fd;
        const ssize_t got = fd < 0 ? 0 : recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        n += got == 0 || (got < 0 && errno != EAGAIN);
    }
    return n;
}
