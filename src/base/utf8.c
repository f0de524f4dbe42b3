/* utf8.c - decoding with the well-formed byte ranges of Unicode table 3-7. */
#include "base/utf8.h"

/* Length announced by a first byte, and the range its second byte must lie in; 0 = no first byte. */
static size_t utf8_lead(uint8_t b, uint8_t *lo, uint8_t *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (b < 0x80) return 1;
    if (b < 0xc2) return 0;
    if (b < 0xe0) return 2;
    if (b < 0xf0) {
        if (b == 0xe0) *lo = 0xa0; /* overlong */
        if (b == 0xed) *hi = 0x9f; /* surrogates */
        return 3;
    }
    if (b > 0xf4) return 0;
    if (b == 0xf0) *lo = 0x90; /* overlong */
    if (b == 0xf4) *hi = 0x8f; /* above U+10FFFF */
    return 4;
}

size_t spark_utf8_decode(const uint8_t *p, size_t len, uint32_t *cp)
{
    if (len == 0) return 0;
    uint8_t lo = 0, hi = 0;
    const size_t n = utf8_lead(p[0], &lo, &hi);
    if (n == 0 || n > len) return 0;
    if (n == 1) {
        *cp = p[0];
        return 1;
    }
    if (p[1] < lo || p[1] > hi) return 0;
    uint32_t c = (uint32_t)p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    *cp = c;
    return n;
}

size_t spark_utf8_encode(uint32_t cp, uint8_t out[4])
{
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xc0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xe0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (cp & 0x3f));
    return 4;
}

size_t spark_utf8_valid_prefix(const uint8_t *p, size_t len, size_t max_chars)
{
    size_t at = 0;
    for (size_t chars = 0; chars < max_chars && at < len; chars++) {
        uint32_t cp = 0;
        const size_t n = spark_utf8_decode(p + at, len - at, &cp);
        if (n == 0) break;
        at += n;
    }
    return at;
}

bool spark_utf8_is_valid(const uint8_t *p, size_t len) { return spark_utf8_valid_prefix(p, len, SIZE_MAX) == len; }

size_t spark_utf8_incomplete_tail(const uint8_t *p, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        const uint8_t b = p[len - back];
        if ((b & 0xc0) == 0x80) continue; /* a continuation byte: look further left for its lead */
        uint8_t lo = 0, hi = 0;
        if (utf8_lead(b, &lo, &hi) <= back) return 0;
        return back == 1 || (p[len - back + 1] >= lo && p[len - back + 1] <= hi) ? back : 0;
    }
    return 0;
}
