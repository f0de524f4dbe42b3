/* stops.c - a short window of bytes and plain search: it never holds more than the longest stop string and one piece. */
#include "engine/stops.h"

#include <assert.h>
#include <string.h>

#include "base/spark_limits.h"
#include "base/utf8.h"

spark_status spark_stops_create(spark_stops *out, const spark_bytes *stops, size_t n, size_t max_piece, spark_arena *a,
                                spark_err *err)
{
    SPARK_CHECK(n <= SPARK_MAX_STOPS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%zu stop strings: at most %u are allowed",
                n, SPARK_MAX_STOPS);
    spark_stops s = {.n = n};
    for (size_t i = 0; i < n; i++) {
        SPARK_CHECK(stops[i].len >= 1 && stops[i].len <= SPARK_MAX_STOP_BYTES, err, SPARK_E_ARGUMENT, i,
                    "stop string %zu has %zu bytes: 1 to %u are allowed", i + 1, stops[i].len, SPARK_MAX_STOP_BYTES);
        SPARK_CHECK(spark_utf8_is_valid(stops[i].ptr, stops[i].len), err, SPARK_E_ARGUMENT, i,
                    "stop string %zu is not UTF-8", i + 1);
        if (stops[i].len > s.longest) s.longest = stops[i].len;
    }
    s.cap = s.longest + SPARK_UTF8_MAX + max_piece;
    SPARK_TRY(SPARK_NEW(a, s.cap, &s.held, err));
    SPARK_TRY(SPARK_NEW(a, n, &s.stops, err));
    if (n) memcpy(s.stops, stops, n * sizeof *stops);
    *out = s;
    return SPARK_SUCCESS;
}

/* Where the first complete stop string begins, or len. */
static size_t stops_find(const spark_stops *s)
{
    size_t best = s->len;
    for (size_t i = 0; i < s->n; i++) {
        const uint8_t *at = s->len ? memmem(s->held, s->len, s->stops[i].ptr, s->stops[i].len) : NULL;
        if (at && (size_t)(at - s->held) < best) best = (size_t)(at - s->held);
    }
    return best;
}

/* Bytes at the end that begin a stop string. */
static size_t stops_prefix_tail(const spark_stops *s)
{
    size_t longest = 0;
    for (size_t i = 0; i < s->n; i++) {
        const size_t max = s->stops[i].len - 1 < s->len ? s->stops[i].len - 1 : s->len;
        for (size_t n = max; n > longest; n--)
            if (memcmp(s->held + s->len - n, s->stops[i].ptr, n) == 0) longest = n;
    }
    return longest;
}

/* What the last call handed out goes; what waits moves to the front. */
static void stops_drop_shown(spark_stops *s)
{
    memmove(s->held, s->held + s->shown, s->len - s->shown);
    s->len -= s->shown;
    s->shown = 0;
}

bool spark_stops_push(spark_stops *s, spark_bytes piece, spark_bytes *ready)
{
    stops_drop_shown(s);
    assert(piece.len <= s->cap - s->len);
    if (piece.len) memcpy(s->held + s->len, piece.ptr, piece.len);
    s->len += piece.len;
    const size_t at = stops_find(s);
    const bool stopped = at < s->len;
    size_t keep = 0;
    if (!stopped) {
        keep = stops_prefix_tail(s);
        const size_t cut = spark_utf8_incomplete_tail(s->held,
                                                      s->len - keep); /* never half a character before a tail */
        keep += cut;
    }
    s->shown = stopped ? at : s->len - keep;
    *ready = (spark_bytes){s->held, s->shown};
    if (stopped) s->len = s->shown;
    return stopped;
}

spark_bytes spark_stops_finish(spark_stops *s)
{
    stops_drop_shown(s);
    s->shown = s->len - spark_utf8_incomplete_tail(s->held, s->len);
    return (spark_bytes){s->held, s->shown};
}
