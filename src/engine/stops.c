/* stops.c - a short window of bytes and plain search: it never holds more than the longest stop string and one piece. */
#include "engine/stops.h"

#include <assert.h>
#include <string.h>

#include "base/spark_limits.h"
#include "base/utf8.h"

spark_status spark_stops_check(const spark_bytes *stops, size_t n, spark_err *err)
{
    SPARK_CHECK(n <= SPARK_MAX_STOPS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%zu stop strings: at most %u are allowed",
                n, SPARK_MAX_STOPS);
    for (size_t i = 0; i < n; i++) {
        SPARK_CHECK(stops[i].len >= 1 && stops[i].len <= SPARK_MAX_STOP_BYTES, err, SPARK_E_ARGUMENT, i,
                    "stop string %zu has %zu bytes: 1 to %u are allowed", i + 1, stops[i].len, SPARK_MAX_STOP_BYTES);
        SPARK_CHECK(spark_utf8_is_valid(stops[i].ptr, stops[i].len), err, SPARK_E_ARGUMENT, i,
                    "stop string %zu is not UTF-8", i + 1);
    }
    return SPARK_SUCCESS;
}

size_t spark_stops_room(size_t longest, size_t max_piece) { return longest + SPARK_UTF8_MAX + max_piece; }

void spark_stops_begin(spark_stops *s, const spark_bytes *stops, size_t n, uint8_t *held, size_t cap)
{
    *s = (spark_stops){.stops = stops, .n = n, .cap = cap};
    s->held = held;
    for (size_t i = 0; i < n; i++)
        if (stops[i].len > s->longest) s->longest = stops[i].len;
}

spark_status spark_stops_create(spark_stops *out, const spark_bytes *stops, size_t n, size_t max_piece, spark_arena *a,
                                spark_err *err)
{
    spark_bytes *copy = NULL;
    uint8_t *held = NULL;
    size_t longest = 0;
    SPARK_TRY(spark_stops_check(stops, n, err));
    for (size_t i = 0; i < n; i++)
        if (stops[i].len > longest) longest = stops[i].len;
    const size_t cap = spark_stops_room(longest, max_piece);
    SPARK_TRY(SPARK_NEW(a, cap, &held, err));
    SPARK_TRY(SPARK_NEW(a, n, &copy, err));
    if (n) memcpy(copy, stops, n * sizeof *stops);
    spark_stops_begin(out, copy, n, held, cap);
    return SPARK_SUCCESS;
}

/* Where the first complete stop string begins, or len. */
static size_t stops_find(spark_stops *s)
{
    size_t best = s->len;
    for (size_t i = 0; i < s->n; i++) {
        const uint8_t *at = s->len ? memmem(s->held, s->len, s->stops[i].ptr, s->stops[i].len) : NULL;
        if (!at || (size_t)(at - s->held) >= best) continue;
        best = (size_t)(at - s->held);
        s->which = i;
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
    const uint8_t *rest = s->held + s->shown; /* stays in place: what push handed out last is still borrowed */
    const size_t n = s->len - s->shown;
    s->shown = s->len;
    return (spark_bytes){rest, n - spark_utf8_incomplete_tail(rest, n)};
}
