/* http_body.c - the body of a request: a known number of bytes, or chunks (RFC 9112, 7.1).
 * Chunks are decoded here; llhttp reads the same bytes and must come to the same count and the same end. */
#include <stdlib.h>

#include "serve/http_parse_internal.h"

enum { BODY_FIRST = 4096, CHUNK_MAX_DIGITS = 16 };

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_END
};

/* Capacity is a function of the need alone, so that cuts do not show in what the budget refuses. */
static bool body_room(http_parser *p, uint64_t need)
{
    if (need <= p->body_cap) return true;
    uint64_t cap = BODY_FIRST;
    while (cap < need) cap *= 2;
    if (!p->chunked && cap > p->content_length) cap = p->content_length;
    if (p->budget && (p->budget->used > p->budget->max || cap - p->body_cap > p->budget->max - p->budget->used))
        return http__fail(p, 503, "overloaded", "too many request bodies at once; try again");
    uint8_t *more = realloc(p->body, cap);
    if (!more) return http__fail(p, 503, "out_of_memory", "no memory for this request");
    if (p->budget) p->budget->used += cap - p->body_cap;
    p->body = more;
    p->body_cap = (size_t)cap;
    return true;
}

static size_t body_take(http_parser *p, spark_bytes in)
{
    const size_t n = in.len < p->left ? in.len : (size_t)p->left;
    if (n == 0 || !body_room(p, p->body_len + (uint64_t)n)) return 0;
    memcpy(p->body + p->body_len, in.ptr, n);
    p->body_len += n;
    p->left -= n;
    return n;
}

/* ---- Chunks ------------------------------------------------------------------------------------------------------ */

static bool chunk_size_byte(http_parser *p, uint8_t c)
{
    const uint8_t l = c | 0x20;
    const bool digit = c >= '0' && c <= '9', letter = l >= 'a' && l <= 'f';
    if (digit || letter) {
        if (++p->chunk_digits > CHUNK_MAX_DIGITS) return http__malformed(p, "a chunk size has too many digits");
        p->left = p->left << 4 | (unsigned)(digit ? c - '0' : l - 'a' + 10);
        return true;
    }
    if (p->chunk_digits == 0) return http__malformed(p, "a chunk size is not a hexadecimal number");
    if (c == ';')
        p->chunk_state = CHUNK_EXTENSION;
    else if (c == '\r')
        p->chunk_state = CHUNK_SIZE_LF;
    else
        return http__malformed(p, "a chunk size is not a hexadecimal number");
    return true;
}

static bool chunk_extension_byte(http_parser *p, uint8_t c)
{
    if (c == '\r') {
        p->chunk_state = CHUNK_SIZE_LF;
        return true;
    }
    if ((c < 0x20 && c != '\t') || c == 0x7f) return http__malformed(p, "a control character in a chunk extension");
    if (++p->extension_bytes > SPARK_MAX_HTTP_CHUNK_EXTENSIONS)
        return http__malformed(p, "chunk extensions are too long");
    return true;
}

static bool chunk_size_end(http_parser *p)
{
    if (p->left == 0) {
        p->chunk_state = TRAILER_START;
        return true;
    }
    if (p->left > p->limits.max_body || p->body_len > p->limits.max_body - p->left)
        return http__fail(p, 413, "body_too_large", "the request's body is too large");
    p->chunk_state = CHUNK_DATA;
    return true;
}

/* ---- Trailers: read, bounded and dropped ------------------------------------------------------------------------- */

static bool trailer_is_forbidden(const http_parser *p) /* RFC 9110, 6.5.1 */
{
    static const char *const names[] = {
        "content-length", "transfer-encoding", "host", "connection", "expect", "authorization",
        "content-type",   "content-encoding",  "te",   "trailer",    "upgrade"};
    for (size_t i = 0; i < SPARK_COUNT(names); i++)
        if (p->trailer_name_len == strlen(names[i]) && memcmp(p->trailer_name, names[i], p->trailer_name_len) == 0)
            return true;
    return false;
}

static bool trailer_byte(http_parser *p, uint8_t c)
{
    if (++p->trailer_bytes > SPARK_MAX_HTTP_TRAILERS)
        return http__fail(p, 431, "trailers_too_large", "the request's trailers are too large");
    if (p->chunk_state == TRAILER_VALUE) {
        if (c == '\r')
            p->chunk_state = TRAILER_LF;
        else if ((c < 0x20 && c != '\t') || c == 0x7f)
            return http__malformed(p, "a control character in a trailer");
        return true;
    }
    if (p->chunk_state == TRAILER_START) {
        p->trailer_name_len = 0;
        if (c == '\r') {
            p->chunk_state = CHUNK_END_LF;
            return true;
        }
        p->chunk_state = TRAILER_NAME;
    }
    if (c == ':' && p->trailer_name_len > 0) {
        if (trailer_is_forbidden(p)) return http__malformed(p, "a field that is not allowed in a trailer");
        p->chunk_state = TRAILER_VALUE;
        return true;
    }
    if (!http__is_token(c)) return http__malformed(p, "a trailer is not a name, a colon and a value");
    if (p->trailer_name_len < sizeof p->trailer_name)
        p->trailer_name[p->trailer_name_len] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    p->trailer_name_len++;
    return true;
}

static bool chunk_expect(http_parser *p, uint8_t c, uint8_t wanted, uint8_t next)
{
    if (c != wanted) return http__malformed(p, "chunked coding: CR LF expected");
    p->chunk_state = next;
    return true;
}

static bool chunk_byte(http_parser *p, uint8_t c)
{
    switch ((enum chunk_state)p->chunk_state) {
    case CHUNK_SIZE: return chunk_size_byte(p, c);
    case CHUNK_EXTENSION: return chunk_extension_byte(p, c);
    case CHUNK_SIZE_LF: return chunk_expect(p, c, '\n', CHUNK_SIZE) && chunk_size_end(p);
    case CHUNK_DATA_CR: return chunk_expect(p, c, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        p->chunk_digits = 0;
        p->left = 0;
        return chunk_expect(p, c, '\n', CHUNK_SIZE);
    case TRAILER_LF: return chunk_expect(p, c, '\n', TRAILER_START);
    case CHUNK_END_LF: return chunk_expect(p, c, '\n', CHUNK_END);
    case TRAILER_START:
    case TRAILER_NAME:
    case TRAILER_VALUE: return trailer_byte(p, c);
    case CHUNK_DATA:
    case CHUNK_END: break;
    }
    return true;
}

/* Our reading; returns the bytes that were in order. */
static size_t chunk_read(http_parser *p, spark_bytes in)
{
    size_t at = 0;
    while (at < in.len && p->chunk_state != CHUNK_END) {
        if (p->chunk_state == CHUNK_DATA) {
            const size_t n = body_take(p, (spark_bytes){in.ptr + at, in.len - at});
            if (n == 0) return at;
            at += n;
            if (p->left == 0) p->chunk_state = CHUNK_DATA_CR;
        } else {
            if (!chunk_byte(p, in.ptr[at])) return at;
            at++;
        }
    }
    return at;
}

static size_t chunk_feed(http_parser *p, spark_bytes in)
{
    const size_t used = chunk_read(p, in);
    const http_parse_state ours = p->state;
    p->state = HTTP_PARSE_BODY; /* tells llhttp's callbacks that fields are trailers */
    const llhttp_errno_t e = used ? llhttp_execute(&p->second, (const char *)in.ptr, used) : HPE_OK;
    p->state = ours;
    /* An earlier error wins: what we refused lies behind what llhttp was shown. */
    const bool end = p->chunk_state == CHUNK_END;
    const bool agreed = end ? e == HPE_PAUSED && p->second_done &&
                                  llhttp_get_error_pos(&p->second) == (const char *)in.ptr + used
                            : e == HPE_OK && !p->second_done;
    if (!agreed || p->second_body != p->body_len) {
        http__malformed(p, "the chunks of the request's body are not well-formed");
        return used;
    }
    if (p->state == HTTP_PARSE_FAILED) return used;
    if (end) p->state = HTTP_PARSE_DONE;
    return used;
}

size_t http__body_feed(http_parser *p, spark_bytes in)
{
    if (p->chunked) return chunk_feed(p, in);
    const size_t n = body_take(p, in);
    if (p->left == 0 && p->state == HTTP_PARSE_BODY) p->state = HTTP_PARSE_DONE;
    return n;
}
