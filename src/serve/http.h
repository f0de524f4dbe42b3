/* http.h - HTTP/1.1 for a service that meets hostile clients: connections, TLS, strict parsing, bounded replies.
 * Nouns:   http_server, listening sockets and connections on one libevent loop; http_exchange, one request and its reply.
 * Promise: what reaches on_request is one well-formed request with exactly one meaning (RFC 9112, strict); everything else got its
 *          4xx and a closed connection, at bounded cost. An exchange whose client left is told so at once: FIN (also half-close), RST or TLS
 *          close, before, while and after the reply is written. A slow reader costs its own buffer, which is bounded.
 * Not here: routes, keys, JSON. Threads: one, the loop's. */
#ifndef SPARK_SERVE_HTTP_H
#define SPARK_SERVE_HTTP_H

#include <stdbool.h>

#include "base/bytes.h"

struct event_base;
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */
typedef struct http_server http_server;
typedef struct http_exchange http_exchange;

typedef enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER
} http_method;

typedef struct http_limits {
    uint32_t max_connections, max_connections_per_address; /* 0 = no limit of its own */
    uint32_t max_head, max_headers, max_url;               /* bytes, count, bytes */
    uint64_t max_body;
    uint64_t max_bodies;                          /* bytes of all bodies being received together */
    uint32_t head_ms, body_ms, idle_ms, write_ms; /* whole head; whole body; between requests; no progress of a write */
    uint32_t min_body_rate;                       /* bytes a second, after 5 s: slowloris */
    uint32_t max_backlog;   /* bytes of a reply that its reader has not taken; more: http_reply_room tells 0 */
    uint32_t max_pipelined; /* requests after the one being answered: 1 waits in the socket, more are not read */
} http_limits;
void http_limits_defaults(http_limits *l);

typedef struct http_handler {
    /* The head is complete (nothing of the body was read): NULL to go on, or answer at once (401, 404, 413...) with http_reply, which
     * also decides that the body is not wanted. */
    void (*on_head)(void *ctx, http_exchange *x);
    void (*on_request)(void *ctx, http_exchange *x); /* body complete. Answer now or later */
    void (*on_room)(void *ctx, http_exchange *x);    /* the reader took something: there is room again */
    void (*on_gone)(void *ctx, http_exchange *x);    /* the client left before the end; x is not valid afterwards */
    void *ctx;
} http_handler;

SPARK_MUST_CHECK spark_status http_server_create(http_server **out, struct event_base *base, const http_limits *l,
                                                 const http_handler *h, spark_err *err);
void http_server_destroy(http_server **s);
/* Accepts on a listening socket (moves; the warden made it). tls NULL = plain. With proxy_protocol, a connection must begin with a PROXY
 * protocol v2 header and its source is the client's address. trusted: whether Host and Origin need no check (unix socket). */
typedef struct http_listener {
    int fd;
    struct ssl_ctx_st *tls;
    bool proxy_protocol, is_unix;
    void *tag; /* for the handler */
} http_listener;
SPARK_MUST_CHECK spark_status http_server_listen(http_server *s, const http_listener *l, spark_err *err);
void http_server_stop_listening(
    http_server *s); /* drain: close the listeners, answer what runs with Connection: close */
uint32_t http_server_connections(const http_server *s);
uint32_t http_server_exchanges(const http_server *s); /* not yet answered in full */

/* ---- The request (valid until the reply ended or on_gone) ---- */
http_method http_request_method(const http_exchange *x);
const char *http_request_method_text(const http_exchange *x);
spark_bytes http_request_path(
    const http_exchange *x); /* percent-decoded, normalised ("." and ".." refused), no query; no NUL in it */
spark_bytes http_request_query(const http_exchange *x, const char *name); /* decoded value; ptr NULL = absent */
spark_bytes http_request_header(const http_exchange *x,
                                const char *lower_name); /* ptr NULL = absent; repeated list headers joined by ", " */
spark_bytes http_request_body(const http_exchange *x);
const char *http_request_address(const http_exchange *x);  /* "203.0.113.7", "unix"; for limits and logs */
const char *http_request_tls_name(const http_exchange *x); /* subject of a verified client certificate, or NULL */
const http_listener *http_request_listener(const http_exchange *x);
const char *http_request_id(const http_exchange *x); /* ours: "req-" and 16 hex digits; sent back as X-Request-Id */
void http_exchange_set(http_exchange *x, void *user);
void *http_exchange_get(const http_exchange *x);
uint64_t http_exchange_began_ns(const http_exchange *x); /* first byte of the head */

/* ---- The reply ---- */
typedef struct http_field {
    const char *name, *value;
} http_field;
/* A whole reply. Headers Date, Content-Length, Connection, X-Request-Id, X-Content-Type-Options: nosniff, Cache-Control: no-store come by themselves. body is copied.
 * HEAD gets the head alone. */
void http_reply(http_exchange *x, int status, const char *content_type, spark_bytes body, const http_field *fields,
                size_t n_fields);
/* A reply whose length is not known: chunked (to 1.0 clients: until close). Each write is flushed. */
void http_reply_begin(http_exchange *x, int status, const char *content_type, const http_field *fields,
                      size_t n_fields);
void http_reply_write(http_exchange *x, spark_bytes data);
void http_reply_end(http_exchange *x);
void http_reply_abort(
    http_exchange *x); /* something broke midway: close without the last chunk, so that the client sees it */
size_t http_reply_room(const http_exchange *x); /* bytes that may still be written before max_backlog */

#endif
