/* load_client.h - many clients of one server on one epoll loop, each with one connection and one request at a time.
 * Nouns:   load_target, where the server listens; load_job, one request to send; load_group, what came of all requests of a
 *          kind; load_loop, the clients, asking their owner what to do next.
 * Promise: time is taken when bytes are read, and latencies count from when a request was due, not from when it could be
 *          sent: waiting for a free client is not forgotten.
 * Not here: which requests, how many, when (load_modes.c). Threads: one. */
#ifndef SPARK_BENCH_LOAD_CLIENT_H
#define SPARK_BENCH_LOAD_CLIENT_H

#include <sys/socket.h>

#include "load_http.h"
#include "load_stats.h"

typedef struct load_target {
    struct sockaddr_storage address;
    socklen_t len;
    char host[256]; /* for the Host header */
} load_target;

/* "tcp:HOST:PORT", "http://HOST:PORT" or "unix:PATH". NULL, or what is wrong with it. */
const char *load_target_parse(load_target *t, const char *text);

#define LOAD_END_LIST(X)                                                                                               \
    X(OK, "ok")                                                                                                        \
    X(CANCELLED, "cancelled by us")                                                                                    \
    X(CONNECT, "connect failed")                                                                                       \
    X(RESET, "connection reset")                                                                                       \
    X(CUT, "answer cut short")                                                                                         \
    X(STATUS, "refused with a status")                                                                                 \
    X(PROTOCOL, "malformed answer")                                                                                    \
    X(IN_STREAM, "error in the stream")                                                                                \
    X(TIMEOUT, "no end in time")

typedef enum load_end {
#define LOAD_END_ENUM(name, text) LOAD_##name,
    LOAD_END_LIST(LOAD_END_ENUM)
#undef LOAD_END_ENUM
        LOAD_N_ENDS
} load_end;
const char *load_end_text(load_end e);

typedef struct load_group {
    load_samples first_ms, gap_ms, total_ms;
    load_samples *gaps;           /* where gaps go; NULL = gap_ms */
    uint64_t n_started, n_silent; /* silent: ended well without a visible piece (so without a time to the first) */
    uint64_t n_reconnected;       /* a kept connection had been closed: sent again on a fresh one */
    uint64_t ends[LOAD_N_ENDS];
    uint64_t statuses[600];
    uint64_t prompt_tokens, completion_tokens, n_pieces; /* tokens as the server's usage says, else pieces */
    uint64_t began_ns, ended_ns;                         /* first start, last end */
    char example[400];                                   /* the first error's words */
} load_group;

typedef enum load_leave { LOAD_STAY, LOAD_LEAVE_FIN, LOAD_LEAVE_RST, LOAD_LEAVE_HALF } load_leave;

typedef struct load_job {
    load_group *group;
    char *bytes; /* the whole request; freed at the end if `owned` */
    size_t len;
    bool owned, is_stream;
    uint64_t due_ns;  /* 0 = now */
    load_leave leave; /* how to go away after `leave_after` pieces (0: once it is sent) */
    uint32_t leave_after;
} load_job;

typedef enum load_state { LOAD_IDLE, LOAD_PAUSED, LOAD_CONNECTING, LOAD_WRITING, LOAD_READING } load_state;

typedef struct load_client {
    struct load_loop *loop;
    uint32_t index;
    int fd; /* -1 = none */
    load_state state;
    bool reused, leaving, saw_done, bad_event, server_error, in_ready;
    uint32_t n_connections;
    load_job job;
    size_t n_sent, n_read;
    uint64_t due_ns, start_ns, last_ns;
    uint64_t n_pieces, prompt_tokens, completion_tokens;
    load_http http;
    load_sse sse;
    char note[200]; /* start of an error's body */
    size_t n_note;
} load_client;

/* What comes next for a client that has nothing to do: true and a job, or false (it stays idle until load_start). */
typedef bool (*load_next)(void *ctx, load_client *c, load_job *job);

typedef struct load_loop {
    const load_target *target;
    load_client *clients;
    uint32_t n_clients, n_busy;
    load_next next;
    void (*on_time)(void *ctx); /* called when wake_ns has come; may set it anew */
    void *ctx;
    uint64_t wake_ns;    /* 0 = never */
    uint64_t timeout_ns; /* of one request */
    bool fresh;          /* a new connection for each request */
    uint64_t now;        /* when bytes were last read, or the loop woke */
    int epoll, timer;
    uint64_t timer_at; /* when it will ring; 0 = it rang */
    load_client **ready;
    uint32_t n_ready;
} load_loop;

/* Ends the program if the system grants no descriptors for n_clients. */
void load_loop_open(load_loop *l, const load_target *t, uint32_t n_clients);
/* Asks every client for its first job and runs until none has one and wake_ns is 0. */
void load_loop_run(load_loop *l);
void load_loop_close(load_loop *l);

/* Starts a job on an idle client. */
void load_start(load_client *c, const load_job *job);
/* Goes away from what runs, without asking for a next job; counted as cancelled. */
void load_drop(load_client *c);
/* Connections that the server has closed meanwhile. */
uint32_t load_loop_closed(const load_loop *l);

void load_group_free(load_group *g);
uint64_t load_group_errors(const load_group *g); /* all ends but OK and CANCELLED */

#endif
