/* api_out.c - bytes being written: growth with a maximum, and JSON's few forms. */
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "serve/api.h"

void api_out_init(api_out *o, size_t max) { *o = (api_out){.max = max}; }

void api_out_init_held(api_out *o, size_t max, held_share *share)
{
    *o = (api_out){.max = max, .share = share, .in_blocks = true};
}

static void out_wipe(void *p, size_t len)
{
    if (p) explicit_bzero(p, len);
}

void api_out_free(api_out *o)
{
    out_wipe(o->ptr, o->cap);
    free(o->ptr);
    held_give(o->share, o->cap);
    held_free(&o->blocks, o->share);
    *o = (api_out){.max = o->max, .share = o->share, .in_blocks = o->in_blocks};
}

void api_out_clear(api_out *o)
{
    held_free(&o->blocks, o->share);
    o->len = 0;
}

/* Moves to a larger block: realloc would leave the old bytes behind. */
static bool out_grow(api_out *o, size_t more)
{
    size_t cap = o->cap ? o->cap : 256;
    if (o->failed || more > o->max - o->len) {
        o->failed = true;
        return false;
    }
    while (cap - o->len < more) cap = cap > o->max / 2 ? o->max : cap * 2;
    const bool counted = held_take(o->share, cap); /* for a moment both are there */
    uint8_t *p = counted ? malloc(cap) : NULL;
    if (!p) {
        if (counted) held_refund(o->share, cap);
        o->failed = true;
        return false;
    }
    if (o->len) memcpy(p, o->ptr, o->len);
    out_wipe(o->ptr, o->cap);
    free(o->ptr);
    held_give(o->share, o->cap);
    o->ptr = p;
    o->cap = cap;
    return true;
}

static void out_add_blocks(api_out *o, const void *bytes, size_t len)
{
    if (len > o->max - o->len || !held_append(&o->blocks, o->share, bytes, len)) o->failed = true;
    o->len = o->blocks.len;
}

void api_out_move(api_out *o, api_out *from)
{
    assert(from->in_blocks);
    if (o->in_blocks && !o->failed && from->len <= o->max - o->len) {
        held_move(&o->blocks, &from->blocks);
        o->len = o->blocks.len;
    } else {
        for (const held_block *k = from->blocks.first; k; k = k->next) api_out_raw(o, k->bytes + k->at, k->len - k->at);
    }
    o->failed |= from->failed;
    api_out_clear(from);
}

void api_out_raw(api_out *o, const void *bytes, size_t len)
{
    if (len == 0 || o->failed) return;
    if (o->in_blocks) {
        out_add_blocks(o, bytes, len);
        return;
    }
    if (len > o->cap - o->len && !out_grow(o, len)) return;
    memcpy(o->ptr + o->len, bytes, len);
    o->len += len;
}

void api_out_str(api_out *o, const char *s) { api_out_raw(o, s, strlen(s)); }

void api_out_fmt(api_out *o, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < sizeof line); /* only numbers and short words of ours */
    if (n > 0) api_out_raw(o, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

static void out_escape(api_out *o, uint8_t c)
{
    static const char *const shorts[32] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};
    if (c == '"' || c == '\\') {
        const char two[2] = {'\\', (char)c};
        api_out_raw(o, two, 2);
    } else if (c < 32 && shorts[c]) {
        api_out_raw(o, shorts[c], 2);
    } else {
        api_out_fmt(o, "\\u%04x", c);
    }
}

void api_out_chars(api_out *o, spark_bytes s)
{
    size_t begin = 0, i = 0;
    while (i < s.len) {
        const uint8_t c = s.ptr[i];
        uint32_t cp;
        const size_t n = c < 0x80 ? 1 : spark_utf8_decode(s.ptr + i, s.len - i, &cp);
        if (n > 0 && c >= 32 && c != '"' && c != '\\' && c != 127) {
            i += n;
            continue;
        }
        api_out_raw(o, s.ptr + begin, i - begin);
        if (n == 0)
            api_out_str(o, "\xef\xbf\xbd");
        else
            out_escape(o, c);
        begin = ++i;
    }
    if (s.len > begin) api_out_raw(o, s.ptr + begin, s.len - begin);
}

void api_out_text(api_out *o, spark_bytes s)
{
    api_out_raw(o, "\"", 1);
    api_out_chars(o, s);
    api_out_raw(o, "\"", 1);
}

void api_out_cstr(api_out *o, const char *s)
{
    if (s)
        api_out_text(o, spark_bytes_of(s));
    else
        api_out_str(o, "null");
}

void api_out_float(api_out *o, double x)
{
    if (!isfinite(x)) x = x > 0 ? 3.4e38 : -3.4e38; /* JSON has no word for it; callers care before */
    api_out_fmt(o, "%.9g", x);
}

/* Days since 1970 to a date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days. */
static void out_date(api_out *o, uint64_t days)
{
    const uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    const uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    const uint64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    api_out_fmt(o, "%04" PRIu64 "-%02" PRIu64 "-%02" PRIu64, yoe + era * 400 + (month <= 2), month, day);
}

void api_out_time(api_out *o, uint64_t unix_ns)
{
    const uint64_t s = unix_ns / 1000000000, in_day = s % 86400;
    api_out_raw(o, "\"", 1);
    out_date(o, s / 86400);
    api_out_fmt(o, "T%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%09" PRIu64 "Z\"", in_day / 3600, in_day / 60 % 60,
                in_day % 60, unix_ns % 1000000000);
}
