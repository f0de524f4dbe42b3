/* load_fuzz.c - aims at load_http_feed and load_sse_feed: any bytes as an answer. Besides crashes it checks their promise:
 * fed at once or cut at places that the input itself names, the events, the status and the end are the same. */
#include <stdlib.h>
#include <string.h>

#include "load_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct fuzz_heard {
    load_http http;
    load_sse sse;
    uint64_t hash; /* of all events and where they end */
    size_t used;
} fuzz_heard;

static void fuzz_mix(fuzz_heard *h, uint64_t v) { h->hash = (h->hash ^ v) * 0x100000001b3u; }

static void fuzz_event(void *ctx, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) fuzz_mix(ctx, (uint8_t)p[i]);
    fuzz_mix(ctx, 256);
}

static void fuzz_body(void *ctx, const char *p, size_t n)
{
    fuzz_heard *h = ctx;
    if (!load_sse_feed(&h->sse, p, n, fuzz_event, h)) fuzz_mix(h, 257);
}

static void fuzz_hear(fuzz_heard *h, const uint8_t *data, size_t size, size_t step)
{
    memset(h, 0, sizeof *h);
    load_http_reset(&h->http);
    while (h->used < size) {
        const size_t left = size - h->used, n = step && step < left ? step : left;
        char *piece = malloc(n); /* exact size, so that ASan sees one byte too far */
        if (!piece) abort();
        memcpy(piece, data + h->used, n);
        const size_t used = load_http_feed(&h->http, piece, n, fuzz_body, h);
        free(piece);
        h->used += used;
        if (used < n) break;
    }
    load_sse_free(&h->sse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static fuzz_heard whole, cut;
    if (size == 0) return 0;
    const size_t step = 1 + data[size - 1] % 17; /* the last byte is part of the answer too */
    fuzz_hear(&whole, data, size, 0);
    fuzz_hear(&cut, data, size, step);
    if (whole.hash != cut.hash || whole.http.state != cut.http.state || whole.http.status != cut.http.status) abort();
    if (whole.http.state != LOAD_HTTP_BAD && whole.used != cut.used) abort();
    return 0;
}
