/* http_internal.h - what the files of the HTTP server share.
 *   http_server.c  listeners, limits, timers, memory that connections share
 *   http_conn.c    one connection: bytes in, requests handed out, the end
 *   http_reply.c   bytes out
 *   http_tls.c     OpenSSL
 *
 * One connection, driven by http__conn_drive whenever something changed (edge-triggered: epoll is told once in a connection's life):
 *
 *     [PROXY header] -> [TLS handshake] -> reading a request <-> being answered -> closing (output left) -> lingering -> freed
 *
 * Callbacks of the handler run in http__conn_drive and nowhere else; what the handler calls only notes and sends, and puts the
 * connection on the server's list of ready ones. A connection is freed at the end of its drive, by its timer, or with the server. */
#ifndef SPARK_SERVE_HTTP_INTERNAL_H
#define SPARK_SERVE_HTTP_INTERNAL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "serve/held.h"
#include "serve/http_address.h"
#include "serve/http_parse.h"

enum { HTTP_SCRATCH = 65536, HTTP_TLS_RECORD = 16384 };

typedef struct http_link {
    struct http_link *prev, *next; /* NULL, NULL: in no list */
} http_link;

/* Why a connection may not stay as it is for ever; each kind has one duration, so each list is in order of time. */
typedef enum http_wait {
    HTTP_WAIT_NONE,
    HTTP_WAIT_HEAD,
    HTTP_WAIT_BODY,
    HTTP_WAIT_IDLE,
    HTTP_WAIT_WRITE,
    HTTP_WAIT_LINGER,
    HTTP_N_WAITS
} http_wait;

typedef struct http_conn http_conn;

struct http_exchange {
    http_conn *conn;
    http_exchange *next_free;
    void *user;
    uint64_t began_ns, body_began_ns, whole_ns;
    char id[21];
    bool known;     /* the handler heard of it and has not ended it */
    bool asked;     /* on_request was called */
    bool begun;     /* a reply was begun */
    bool streaming; /* ... and its length is not known */
    bool chunked;   /* ... and goes in chunks */
    bool bodyless;  /* HEAD, 204, 304 */
    bool starved;   /* half of max_backlog waited: on_room is due */
    bool ended;
    http_parser parser;
};

typedef struct http_listening {
    http_listener l;
    http_server *server;
    struct event ev;
    struct http_listening *next;
} http_listening;

struct http_conn {
    struct event ev;
    http_server *server;
    http_listening *listening;
    SSL *ssl;
    http_exchange *x; /* the request being read or answered */
    http_link all, wait, ready;
    uint64_t wait_since;
    uint64_t taken;   /* bytes that the reader took since then */
    uint64_t read_ns; /* when the bytes being parsed were there to be taken */
    uint8_t *ahead;   /* bytes read, not yet parsed */
    held_bytes out;   /* to write */
    held_share share; /* those, and what the handler gathers */
    uint64_t lingered;
    char *tls_name;
    uint32_t ahead_len;
    int fd;
    http_address address;
    char address_text[HTTP_ADDRESS_TEXT];
    uint8_t wait_kind;
    bool counted;     /* in the table of addresses */
    bool record_held; /* OpenSSL keeps a record that the socket did not take: counted in the share */
    bool proxy_due, handshake_due;
    bool readable, writable; /* as far as we know */
    bool peer_closed;        /* epoll saw FIN */
    bool eof;                /* we read it */
    bool broken;             /* reset, or to be: nothing can be sent */
    bool closing;            /* nothing more is read; close when the output is gone */
    bool aborting;           /* ... without a last chunk or a TLS goodbye */
    bool lingering;          /* output gone, FIN sent: waiting for the client's */
    bool unread;             /* the client sent what nobody will read */
    bool served;             /* a request was answered */
    bool driving, dead;
};

enum { HTTP_ADDRESS_BUCKETS = 1024 };
typedef struct http_count {
    struct http_count *next;
    http_address address;
    uint32_t n;
} http_count;

struct http_server {
    struct event_base *base;
    http_limits limits;
    http_handler handler;
    http_parse_limits parse_limits;
    http_budget bodies;
    held_sum replies;
    http_listening *listeners;
    http_link all, ready, waits[HTTP_N_WAITS];
    uint64_t wait_ns[HTTP_N_WAITS];
    uint64_t timer_at; /* UINT64_MAX: not armed */
    struct event timer, kick, resume;
    http_exchange *free_exchanges;
    uint64_t n_accepted;
    uint32_t n_free, n_conns, n_known;
    bool draining, paused;
    uint64_t id_key, id_next, hash_key;
    http_count *addresses[HTTP_ADDRESS_BUCKETS];
    int64_t date_s;
    char date[40];
    uint8_t scratch[HTTP_SCRATCH + SPARK_MAX_HTTP_AHEAD];
    uint8_t record[HTTP_TLS_RECORD];
    char head[4096]; /* of the reply being made */
};

/* ---- lists ---- */
static inline void http_link_init(http_link *head) { head->prev = head->next = head; }
static inline bool http_link_in(const http_link *l) { return l->next != NULL; }
static inline void http_link_remove(http_link *l)
{
    if (!l->next) return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}
static inline void http_link_append(http_link *head, http_link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}
#define HTTP_CONN_OF(link, member) ((http_conn *)(void *)((char *)(link)-offsetof(http_conn, member)))

/* ---- http_server.c ---- */
http_exchange *http__exchange_take(http_server *s); /* NULL: no memory */
void http__exchange_give(http_server *s, http_exchange *x);
void http__wait(http_conn *c, http_wait kind, bool anew);
void http__ready(http_conn *c);                                  /* drive it soon */
bool http__address_enter(http_server *s, const http_address *a); /* false: over its limit (or no memory) */
void http__address_leave(http_server *s, const http_address *a);
void http__resume_accepting(http_server *s);

/* ---- http_conn.c ---- */
void http__conn_start(http_server *s, http_listening *l, int fd, const http_address *a, bool counted);
void http__conn_drive(http_conn *c);
void http__conn_expire(http_conn *c, http_wait kind); /* its time is over; may free it */
void http__conn_free(http_conn *c);

/* ---- http_reply.c ---- */
void http__error(http_exchange *x, int status, const char *code, const char *message); /* and closes */
void http__continue(http_exchange *x);
void http__conn_flush(http_conn *c);
void http__out_free(http_conn *c);
size_t http__refusal(http_server *s, int status, const char *code, const char *message, char *out,
                     size_t cap); /* a whole reply */

/* ---- http_tls.c: as recv and send; -1 with errno EAGAIN, EPROTO, ... ---- */
SSL *http__tls_accept(struct ssl_ctx_st *tls, int *fd); /* fd: borrowed for the SSL's life */
int http__tls_handshake(http_conn *c);                  /* 1 done, 0 not yet, -1 failed */
ssize_t http__tls_read(http_conn *c, uint8_t *to, size_t len);
ssize_t http__tls_write(http_conn *c, const uint8_t *from, size_t len);
void http__tls_goodbye(http_conn *c);

#endif
