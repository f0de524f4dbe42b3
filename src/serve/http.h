/* http.h - HTTP/1.1 for a service that meets hostile clients: connections, TLS, strict parsing, bounded replies.
 * Nouns:   http_server, listening sockets and connections on one libevent loop; http_exchange, one request and its reply.
 * Promise: what reaches on_head and on_request is one well-formed request with exactly one meaning (RFC 9112, strict; http_parse.h);
 *          everything else gets its 4xx as JSON and a closed connection, at bounded cost. An exchange whose client left is told so at
 *          once: FIN (also half-close), RST or TLS close, before, while and after the reply is written; of a request that a RST has overtaken
 *          the handler hears nothing. A slow reader costs its own
 *          buffer; all such buffers and all replies being made have one bound. Requests on one connection are answered one after the
 *          other, the next once the reader has the reply before.
 * Not here: routes, keys, JSON of requests. Threads: one, the loop's. No callback runs inside a call of this header, save inside
 *          http_server_destroy (on_gone). System calls after start: accept4, close, shutdown, setsockopt(SO_LINGER), getsockopt(SO_ERROR), recvfrom, sendto,
 *          sendmsg, epoll_*, and of TLS getrandom and getpid; memory by malloc. */
#ifndef SPARK_SERVE_HTTP_H
#define SPARK_SERVE_HTTP_H

#include "serve/held.h"

struct event_base;
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */
typedef struct http_server http_server;
typedef struct http_exchange http_exchange;

/* Any other method is answered with 501 here. */
typedef enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_PATCH
} http_method;

typedef struct http_limits {
    /* 0 = no limit of its own. At max_connections the connection that idles longest makes room; if none idles, 503. Addresses over
     * their limit get 429; an IPv6 address counts as its /64, unix sockets are not counted, proxies neither. */
    uint32_t max_connections, max_connections_per_address;
    uint32_t max_head, max_headers, max_url; /* bytes, count, bytes */
    uint64_t max_body;
    uint64_t max_bodies;  /* bytes of all bodies held together; more: 503 */
    uint64_t max_replies; /* of all replies: gathered in http_reply_share, or waiting for their readers */
    /* First byte (of a new connection: its accept) to end of head, handshake included; whole body; between requests; no progress of a write. */
    uint32_t head_ms, body_ms, idle_ms, write_ms;
    uint32_t write_scarce_ms; /* instead of write_ms, while replies hold more than three quarters of max_replies */
    /* Bytes a second on average, looked at after so long: slowloris. In every write_ms a reader takes so much too, or all that waits. */
    uint32_t min_body_rate, min_body_rate_after_ms;
    uint32_t max_backlog; /* bytes of a streamed reply that its reader has not taken: http_reply_room tells 0 */
} http_limits;
void http_limits_defaults(http_limits *l);

/* Every callback may be NULL, save on_request. They may answer any exchange; they must not destroy the server. */
typedef struct http_handler {
    /* The head is complete, nothing of the body was read. Do nothing to go on, or answer at once (401, 404, 413...): then the body is
     * not wanted, and a connection with a body under way is closed. */
    void (*on_head)(void *ctx, http_exchange *x);
    void (*on_request)(void *ctx, http_exchange *x); /* body complete. Answer now or later */
    /* More than half of max_backlog had been waiting, now it is less: there is room again. */
    void (*on_room)(void *ctx, http_exchange *x);
    /* After on_head and before the reply's end: the client left, broke the protocol or was too slow. x is not valid afterwards. */
    void (*on_gone)(void *ctx, http_exchange *x);
    /* Somebody was turned away here, with this status: a request that is none, too large or too slow; or a whole connection. */
    void (*on_refused)(void *ctx, int status, bool connection);
    /* A TLS handshake failed, by what the client sent; one that only connected and went is not told of. Texts: for the call. */
    void (*on_tls_failed)(void *ctx, const char *address, const char *why);
    void *ctx;
} http_handler;

SPARK_MUST_CHECK spark_status http_server_create(http_server **out, struct event_base *base, const http_limits *l,
                                                 const http_handler *h, spark_err *err);
void http_server_destroy(http_server **s); /* every open exchange gets its on_gone; closes all sockets */

/* Accepts on a listening socket (moves; the warden made it). */
typedef struct http_listener {
    int fd;
    struct ssl_ctx_st *tls; /* borrowed; NULL = plain */
    /* A connection must begin with a PROXY protocol v2 header, whose source is then the client's address. may_proxy tells whether
     * this peer is believed ("10.0.0.1", "unix"); others are closed. NULL: whoever can connect. */
    bool proxy_protocol;
    bool (*may_proxy)(void *tag, const char *address);
    bool is_unix;
    void *tag; /* for the handler */
} http_listener;
SPARK_MUST_CHECK spark_status http_server_listen(http_server *s, const http_listener *l, spark_err *err);
/* What listeners with TLS borrow from now on (a renewed certificate); connections that are there stay as they are. */
void http_server_use_tls(http_server *s, struct ssl_ctx_st *tls);
/* Drain: closes the listeners and the idle connections, answers what runs and what still comes with Connection: close. */
void http_server_stop_listening(http_server *s);
uint32_t http_server_connections(const http_server *s);
uint64_t http_server_accepted(const http_server *s);  /* since create */
uint64_t http_server_replies(const http_server *s);   /* bytes held, of max_replies */
uint32_t http_server_exchanges(const http_server *s); /* given to the handler and not yet answered in full */

/* ---- TLS --------------------------------------------------------------------------------------------------------- */

/* Before the first door closes: does what OpenSSL would otherwise do late (no configuration file, random numbers seeded, error texts
 * loaded, one handshake made in memory), so that nothing is opened afterwards. Also what the C library opens late (time zone). */
SPARK_MUST_CHECK spark_status http_warm(spark_err *err);
/* TLS 1.3 only, no tickets, no resumption. PEM bytes (chain with the leaf first; key without password). With client_ca (may be empty)
 * a client must show a certificate that one of these authorities signed. The bytes are not kept; the caller wipes the key. */
SPARK_MUST_CHECK spark_status http_tls_create(struct ssl_ctx_st **out, spark_bytes cert, spark_bytes key,
                                              spark_bytes client_ca, spark_err *err);
void http_tls_destroy(struct ssl_ctx_st **tls);
int64_t http_tls_expires_s(
    struct ssl_ctx_st
        *tls); /* when its certificate, or the first of its chain, ends, since 1970; 0: none, or unknown */

/* ---- The request (valid until the reply ended or on_gone). Texts end with NUL. ------------------------------------ */

http_method http_request_method(const http_exchange *x);
const char *http_request_method_text(const http_exchange *x);
spark_bytes http_request_path(
    const http_exchange *x); /* percent-decoded UTF-8 without NUL, "." and ".." segments; begins with '/', or is "*" */
/* The i-th parameter of the query, percent-decoded UTF-8 without NUL; no name comes twice. False: there are no more. */
bool http_request_query(const http_exchange *x, uint32_t i, spark_bytes *name, spark_bytes *value);
spark_bytes http_request_header(const http_exchange *x,
                                const char *lower_name); /* ptr NULL = absent; repeated list headers joined by ", " */
spark_bytes http_request_body(const http_exchange *x);
/* The body was read: its memory is given back, and `bytes` that the handler keeps of it count among bodies in its place, until the
 * exchange ends. */
void http_request_keep(http_exchange *x, uint64_t bytes);
/* How many bytes may be taken beside all bodies that are held (max_bodies); UINT64_MAX if there are none but this one's. */
uint64_t http_request_bodies_left(const http_exchange *x);
/* In on_head: this route takes no more than so many bytes of body; 413 otherwise (the handler gets on_gone, not on_request). */
void http_request_max_body(http_exchange *x, uint64_t max);
const char *http_request_address(const http_exchange *x); /* "203.0.113.7", "unix"; for limits and logs */
const char *
http_request_tls_name(const http_exchange *x); /* subject of a verified client certificate (RFC 2253), or NULL */
const http_listener *http_request_listener(const http_exchange *x);
const char *http_request_id(const http_exchange *x); /* ours: "req-" and 16 hex digits; sent back as X-Request-Id */
void http_exchange_set(http_exchange *x, void *user);
void *http_exchange_get(const http_exchange *x);
uint64_t http_exchange_began_ns(const http_exchange *x); /* first byte of the head; spark_clock_ns */
/* From on_request on: when its last byte was read (of a pipelined request: or its turn came). */
uint64_t http_exchange_whole_ns(const http_exchange *x);

/* ---- The reply (x is not valid after reply, end and abort) --------------------------------------------------------- */

typedef struct http_field {
    const char *name, *value;
} http_field;
/* A whole reply. Headers Date, Content-Length, Connection, X-Request-Id, X-Content-Type-Options: nosniff, and Cache-Control: no-store
 * (unless among the fields) come by themselves. body is copied. HEAD gets the head alone. Control characters in fields become '?'. */
void http_reply(http_exchange *x, int status, const char *content_type, spark_bytes body, const http_field *fields,
                size_t n_fields);
/* Where a handler counts what it gathers of this reply; what waits for the reader counts there too. Valid as long as x; also in on_gone,
 * and until the call after its reply. */
held_share *http_reply_share(http_exchange *x);
/* As http_reply, of bytes that were counted there; they move. */
void http_reply_held(http_exchange *x, int status, const char *content_type, held_bytes *body, const http_field *fields,
                     size_t n_fields);
/* A reply whose length is not known: chunked (to 1.0 clients: until close). Each write is sent at once. */
void http_reply_begin(http_exchange *x, int status, const char *content_type, const http_field *fields,
                      size_t n_fields);
/* Always taken, so that a last event finds its way; but who writes on without room loses the connection at twice max_backlog, and who
 * writes what http_reply_may denies may lose it at once. */
void http_reply_write(http_exchange *x, spark_bytes data);
bool http_reply_may(http_exchange *x, size_t n); /* whether so much more may wait for the reader, by max_replies */
void http_reply_end(http_exchange *x, spark_bytes last_words); /* these may be empty; what is kept for such is theirs */
void http_reply_abort(
    http_exchange *x); /* something broke midway: close without the last chunk, so that the client sees it */
/* Bytes that may still be written before max_backlog; 0 also where something waits and replies take half of max_replies. */
size_t http_reply_room(const http_exchange *x);

#endif
