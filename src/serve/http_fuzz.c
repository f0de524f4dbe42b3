/* http_fuzz.c - aims at http_parser_feed (heads, targets, chunks) and http_proxy_read. The first two bytes choose the cuts, the rest
 * comes from a client. Besides crashes: every way of cutting gives the same requests, and what was accepted, written out plainly,
 * is read again as the same single request (it had one meaning). */
#include <stdio.h>
#include <stdlib.h>

#include "serve/http_address.h"
#include "serve/http_parse_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const http_parse_limits fuzz_limits = {.max_head = 1024, .max_headers = 12, .max_url = 200, .max_body = 2048};

static size_t fuzz_whole(void *ctx)
{
    (void)ctx;
    return SIZE_MAX;
}

static size_t fuzz_each(void *ctx)
{
    (void)ctx;
    return 1;
}

static size_t fuzz_cut(void *ctx)
{
    uint32_t *s = ctx;
    *s = *s * 1664525u + 1013904223u;
    return 1 + (*s >> 16) % ((*s & 0x300) ? 9 : 200);
}

/* The first request, once it is complete. */
static bool fuzz_first(http_parser *p, spark_bytes in)
{
    http_parser_init(p, &fuzz_limits, NULL);
    const size_t head = http_parser_feed(p, in);
    if (p->state != HTTP_PARSE_ACCEPT) return false;
    http_parser_accept(p);
    if (p->state == HTTP_PARSE_BODY) http_parser_feed(p, (spark_bytes){in.ptr + head, in.len - head});
    return p->state == HTTP_PARSE_DONE;
}

static size_t fuzz_escape(const char *from, size_t len, char *to)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += (size_t)snprintf(to + n, 4, from[i] == '/' ? "/" : "%%%02x", (uint8_t)from[i]);
    return n;
}

/* Written with Content-Length, each character of the path escaped. */
static void fuzz_again(const http_parser *p)
{
    static char text[16384];
    static const http_parse_limits wide = {.max_head = 8192, .max_headers = 12, .max_url = 4096, .max_body = 2048};
    if (p->path_len == 1 && p->head[p->target] == '*') return;
    size_t n = (size_t)snprintf(text, sizeof text, "%s ", http_parser_method_text(p));
    n += fuzz_escape(p->head + p->target, p->path_len, text + n);
    n += (size_t)snprintf(text + n, sizeof text - n, " HTTP/1.%d\r\n", p->minor);
    if (p->host != UINT32_MAX)
        n += (size_t)snprintf(text + n, sizeof text - n, "Host: %s\r\n",
                              (const char *)http_parser_header(p, "host").ptr);
    n += (size_t)snprintf(text + n, sizeof text - n, "Content-Length: %zu\r\n\r\n", p->body_len);
    if (p->body_len) memcpy(text + n, p->body, p->body_len);
    http_parser again;
    http_parser_init(&again, &wide, NULL);
    size_t at = http_parser_feed(&again, (spark_bytes){(const uint8_t *)text, n});
    if (again.state != HTTP_PARSE_ACCEPT || at != n) abort();
    http_parser_accept(&again);
    at += http_parser_feed(&again, (spark_bytes){(const uint8_t *)p->body, p->body_len});
    if (again.state != HTTP_PARSE_DONE || !spark_bytes_equal(http_parser_path(p), http_parser_path(&again)) ||
        again.body_len != p->body_len || (p->body_len && memcmp(again.body, p->body, p->body_len) != 0))
        abort();
    http_parser_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    uint32_t seed = (uint32_t)(data[0] << 8 | data[1]);
    const spark_bytes in = {data + 2, size - 2};
    const parse_outcome whole = parse_run(in, &fuzz_limits, fuzz_whole, NULL);
    const parse_outcome each = parse_run(in, &fuzz_limits, fuzz_each, NULL);
    const parse_outcome cut = parse_run(in, &fuzz_limits, fuzz_cut, &seed);
    if (!outcome_same(&whole, &each) || !outcome_same(&whole, &cut)) abort();
    http_parser p;
    if (fuzz_first(&p, in)) fuzz_again(&p);
    http_parser_free(&p);
    http_address a;
    size_t used = 0;
    const http_proxy_result r = http_proxy_read(in, &a, &used);
    if ((r == HTTP_PROXY_LOCAL || r == HTTP_PROXY_CLIENT) && (used > in.len || used > HTTP_PROXY_MAX)) abort();
    return 0;
}
