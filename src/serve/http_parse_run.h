/* http_parse_run.h - reads bytes as a connection would, cut anywhere, and sums up what they mean. For tests and fuzzing. */
#ifndef SPARK_SERVE_HTTP_PARSE_RUN_H
#define SPARK_SERVE_HTTP_PARSE_RUN_H

#include <stdlib.h>

#include "serve/http_parse.h"

typedef struct parse_outcome {
    uint64_t meaning; /* hash of all that the requests say */
    uint32_t n_requests;
    http_parse_state state; /* of the last, incomplete or refused one */
    int status;
    const char *code, *message;
    bool keeps; /* of the last complete one */
    uint64_t n_body;
} parse_outcome;

static inline uint64_t outcome_mix(uint64_t h, spark_bytes b)
{
    h = (h ^ b.len) * 0x100000001b3u;
    for (size_t i = 0; i < b.len; i++) h = (h ^ b.ptr[i]) * 0x100000001b3u;
    return h;
}

static inline void outcome_add(parse_outcome *o, const http_parser *p)
{
    uint64_t h = outcome_mix(o->meaning, http_parser_path(p));
    h = outcome_mix(h, spark_bytes_of(http_parser_method_text(p)));
    for (uint32_t i = 0; i < p->n_fields; i++) {
        h = outcome_mix(h, (spark_bytes){(const uint8_t *)p->head + p->fields[i].name, p->fields[i].name_len});
        h = outcome_mix(h, (spark_bytes){(const uint8_t *)p->head + p->fields[i].value, p->fields[i].value_len});
    }
    for (uint32_t i = 0; i < p->n_query; i++) {
        h = outcome_mix(h, (spark_bytes){(const uint8_t *)p->head + p->query[i].name, p->query[i].name_len});
        h = outcome_mix(h, (spark_bytes){(const uint8_t *)p->head + p->query[i].value, p->query[i].value_len});
    }
    h = outcome_mix(h, (spark_bytes){p->body, p->body_len});
    h = outcome_mix(h, (spark_bytes){&p->minor, 1});
    o->meaning = h ^ (p->keep_alive ? 1 : 0) ^ (p->expects_continue ? 2 : 0);
    o->n_requests++;
    o->keeps = p->keep_alive;
    o->n_body += p->body_len;
}

/* Cuts: the next piece has next_cut(ctx) bytes (at least 1). Each piece lies alone in memory, so that a read beyond it is seen. */
static inline parse_outcome parse_run(spark_bytes in, const http_parse_limits *limits, size_t (*next_cut)(void *),
                                      void *ctx)
{
    parse_outcome o = {.state = HTTP_PARSE_HEAD};
    http_budget budget = {.max = 1u << 20};
    http_parser p;
    http_parser_init(&p, limits, &budget);
    for (size_t at = 0; at < in.len && p.state != HTTP_PARSE_FAILED;) {
        size_t n = next_cut(ctx);
        if (n > in.len - at) n = in.len - at;
        uint8_t *piece = malloc(n);
        if (!piece) abort();
        memcpy(piece, in.ptr + at, n);
        for (size_t used = 0; used < n && p.state != HTTP_PARSE_FAILED;) {
            used += http_parser_feed(&p, (spark_bytes){piece + used, n - used});
            if (p.state == HTTP_PARSE_ACCEPT) http_parser_accept(&p);
            if (p.state != HTTP_PARSE_DONE) continue;
            outcome_add(&o, &p);
            http_parser_reset(&p);
        }
        free(piece);
        at += n;
    }
    o.state = p.state;
    o.status = p.status;
    o.code = p.code;
    o.message = p.message;
    http_parser_free(&p);
    if (budget.used != 0) abort();
    return o;
}

static inline bool outcome_same(const parse_outcome *a, const parse_outcome *b)
{
    return a->meaning == b->meaning && a->n_requests == b->n_requests && a->state == b->state &&
           a->status == b->status && a->code == b->code && a->message == b->message && a->keeps == b->keeps &&
           a->n_body == b->n_body;
}

#endif
