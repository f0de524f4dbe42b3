/* load_http.h - reads what a server answers: HTTP/1.1 responses and server-sent events, fed in pieces of any size.
 * Promise: the events and the end are the same however the bytes were cut. Bounded: a line of a head has a maximum, an event
 * too. Not here: requests, sockets. */
#ifndef SPARK_BENCH_LOAD_HTTP_H
#define SPARK_BENCH_LOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_MAX_LINE = 8192, LOAD_MAX_EVENT = 4 << 20 };

/* ---- Server-sent events: one call an event, with the text of its data lines ---- */

typedef void (*load_event)(void *ctx, const char *data, size_t len);

typedef struct load_sse {
    char *text;            /* data of the event so far, then the line being read */
    size_t len, line, cap; /* bytes in all; where the line begins */
    bool after_cr;         /* a line feed now belongs to the carriage return before it */
    bool has_data;
} load_sse;

void load_sse_reset(load_sse *s); /* keeps its memory */
void load_sse_free(load_sse *s);
/* false: an event is over LOAD_MAX_EVENT. */
bool load_sse_feed(load_sse *s, const char *p, size_t n, load_event on_event, void *ctx);

/* ---- A response ---- */

typedef enum load_http_state {
    LOAD_HTTP_STATUS,
    LOAD_HTTP_HEADER,
    LOAD_HTTP_LENGTH, /* a body of known length */
    LOAD_HTTP_CLOSE,  /* a body until the connection ends */
    LOAD_HTTP_CHUNK_SIZE,
    LOAD_HTTP_CHUNK,
    LOAD_HTTP_CHUNK_END,
    LOAD_HTTP_TRAILER,
    LOAD_HTTP_DONE,
    LOAD_HTTP_BAD
} load_http_state;

typedef struct load_http {
    load_http_state state;
    int status;
    bool keep_alive, chunked, has_length, is_stream; /* is_stream: Content-Type is text/event-stream */
    uint64_t left;
    size_t n_line, n_lines;
    char line[LOAD_MAX_LINE];
} load_http;

typedef void (*load_body)(void *ctx, const char *p, size_t n);

void load_http_reset(load_http *h);
/* Reads on; bytes taken come back (all of them unless the response ended: then state is DONE or BAD). Interim responses
 * (1xx) are passed over. */
size_t load_http_feed(load_http *h, const char *p, size_t n, load_body on_body, void *ctx);
/* The connection ended: whether the response was whole. */
bool load_http_eof(load_http *h);

#endif
