/* http_target.c - the target of a request: its form, path and query. RFC 9112, 3.2; RFC 3986. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "serve/http_parse_internal.h"

static int target_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    const char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

bool http_percent_decode(char *text, uint32_t *len, bool plus_is_space)
{
    uint32_t to = 0;
    for (uint32_t at = 0; at < *len; at++) {
        char c = text[at];
        if (c == '%') {
            const int high = *len - at > 2 ? target_hex(text[at + 1]) : -1,
                      low = high >= 0 ? target_hex(text[at + 2]) : -1;
            if (low < 0 || (high | low) == 0) return false;
            c = (char)(high << 4 | low);
            at += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        text[to++] = c;
    }
    *len = to;
    return true;
}

/* ---- Host -------------------------------------------------------------------------------------------------------- */

static bool host_port_is_valid(const uint8_t *p, size_t len)
{
    uint32_t n = 0;
    if (len == 0) return true;
    if (p[0] != ':' || len > 6) return false;
    for (size_t i = 1; i < len; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        n = n * 10 + (p[i] - '0');
    }
    return n <= 65535;
}

static bool host_is_ipv6(const uint8_t *p, size_t len)
{
    char text[46];
    struct in6_addr a;
    if (len == 0 || len >= sizeof text) return false;
    memcpy(text, p, len);
    text[len] = 0;
    return inet_pton(AF_INET6, text, &a) == 1;
}

/* A name of letters, digits, '-', '.', '_', an IPv4 address, or an IPv6 address in brackets; then ":port" or nothing. */
bool http_host_is_valid(spark_bytes h)
{
    if (h.len == 0 || h.len > 255 + 6) return false;
    if (h.ptr[0] == '[') {
        const uint8_t *end = memchr(h.ptr, ']', h.len);
        if (!end) return false;
        const size_t inside = (size_t)(end - h.ptr) - 1;
        return host_is_ipv6(h.ptr + 1, inside) && host_port_is_valid(end + 1, h.len - inside - 2);
    }
    size_t n = 0;
    while (n < h.len && h.ptr[n] != ':') {
        const uint8_t c = h.ptr[n++];
        if (!((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    return n > 0 && host_port_is_valid(h.ptr + n, h.len - n);
}

/* ---- Forms ------------------------------------------------------------------------------------------------------- */

/* RFC 3986: pchar, '/', and in a query '?'. */
static bool target_char(uint8_t c, bool in_query)
{
    static const char others[] = "-._~!$&'()*+,;=:@/%";
    if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) return true;
    return (in_query && c == '?') || (c && memchr(others, c, sizeof others - 1));
}

static bool target_chars(const char *p, uint32_t len)
{
    bool in_query = false;
    for (uint32_t i = 0; i < len; i++) {
        if (p[i] == '?' && !in_query)
            in_query = true;
        else if (!target_char((uint8_t)p[i], in_query))
            return false;
    }
    return true;
}

/* "http://authority/path": allowed if the authority is that of Host. The target then becomes the path behind it. */
static bool target_absolute(http_parser *p)
{
    const char *t = p->head + p->target;
    uint32_t at = 0;
    if (p->target_len > 7 && http__equals_nocase((spark_bytes){(const uint8_t *)t, 7}, "http://"))
        at = 7;
    else if (p->target_len > 8 && http__equals_nocase((spark_bytes){(const uint8_t *)t, 8}, "https://"))
        at = 8;
    else
        return http__malformed(p, "the request's target is neither a path nor an http URL");
    uint32_t end = at;
    while (end < p->target_len && t[end] != '/' && t[end] != '?') end++;
    const http_pair *host = p->host == UINT32_MAX ? NULL : &p->fields[p->host];
    if (!host || host->value_len != end - at) return http__malformed(p, "the request's URL and its Host differ");
    for (uint32_t i = 0; i < end - at; i++) {
        const char a = t[at + i], b = p->head[host->value + i];
        if ((a >= 'A' && a <= 'Z' ? (a | 0x20) : a) != (b >= 'A' && b <= 'Z' ? (b | 0x20) : b))
            return http__malformed(p, "the request's URL and its Host differ");
    }
    if (end == p->target_len || t[end] == '?') { /* no path: it is "/", put over the last byte of the authority */
        p->head[p->target + --end] = '/';
    }
    p->target += end;
    p->target_len -= end;
    return true;
}

/* ---- Path and query ---------------------------------------------------------------------------------------------- */

static bool path_segment_is_dots(const char *s, uint32_t len)
{
    return (len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.');
}

static bool path_read(http_parser *p)
{
    char *path = p->head + p->target;
    if (!http_percent_decode(path, &p->path_len, false)) return http__malformed(p, "a bad percent escape in the path");
    if (!spark_utf8_is_valid((const uint8_t *)path, p->path_len)) return http__malformed(p, "the path is not UTF-8");
    uint32_t segment = 1;
    for (uint32_t i = 1; i <= p->path_len; i++) {
        if (i == p->path_len || path[i] == '/') {
            if (path_segment_is_dots(path + segment, i - segment))
                return http__malformed(p, "the path has a segment \".\" or \"..\"");
            segment = i + 1;
        } else if ((uint8_t)path[i] < 0x20 || path[i] == 0x7f || path[i] == '\\') {
            return http__malformed(p, "the path has a backslash or a control character");
        }
    }
    return true;
}

static bool query_pair(http_parser *p, uint32_t begin, uint32_t end)
{
    if (begin == end) return true; /* "&&" */
    if (p->n_query == SPARK_MAX_HTTP_QUERY) return http__malformed(p, "too many query parameters");
    const char *eq = memchr(p->head + begin, '=', end - begin);
    http_pair q = {.name = begin, .name_len = eq ? (uint32_t)(eq - (p->head + begin)) : end - begin, .value = end};
    if (eq) q.value = q.name + q.name_len + 1;
    q.value_len = end - q.value;
    if (!http_percent_decode(p->head + q.name, &q.name_len, true) ||
        !http_percent_decode(p->head + q.value, &q.value_len, true))
        return http__malformed(p, "a bad percent escape in the query");
    const spark_bytes name = {(const uint8_t *)p->head + q.name, q.name_len};
    if (!spark_utf8_is_valid(name.ptr, name.len) ||
        !spark_utf8_is_valid((const uint8_t *)p->head + q.value, q.value_len))
        return http__malformed(p, "the query is not UTF-8");
    for (uint32_t i = 0; i < p->n_query; i++)
        if (spark_bytes_equal(name, (spark_bytes){(const uint8_t *)p->head + p->query[i].name, p->query[i].name_len}))
            return http__malformed(p, "a query parameter is given twice");
    p->query[p->n_query++] = q;
    return true;
}

static bool query_read(http_parser *p, uint32_t begin, uint32_t end)
{
    while (begin < end) {
        const char *amp = memchr(p->head + begin, '&', end - begin);
        const uint32_t stop = amp ? (uint32_t)(amp - p->head) : end;
        if (!query_pair(p, begin, stop)) return false;
        begin = stop + 1;
    }
    return true;
}

bool http__target_read(http_parser *p)
{
    if (p->target_len == 1 && p->head[p->target] == '*') {
        if (p->method != HTTP_OPTIONS) return http__malformed(p, "the target * is for OPTIONS");
        p->path_len = 1;
        p->head[p->target + 1] = 0;
        return true;
    }
    if (p->head[p->target] != '/' && !target_absolute(p)) return false;
    const uint32_t begin = p->target, end = p->target + p->target_len;
    if (!target_chars(p->head + begin, p->target_len))
        return http__malformed(p, "a character that is not allowed in the request's target");
    const char *mark = memchr(p->head + begin, '?', p->target_len);
    const uint32_t path_end = mark ? (uint32_t)(mark - p->head) : end;
    p->path_len = path_end - begin;
    if (!path_read(p) || (mark && !query_read(p, path_end + 1, end))) return false;
    p->head[begin + p->path_len] = 0;
    for (uint32_t i = 0; i < p->n_query; i++) { /* '=', '&' or the space behind the target make way */
        p->head[p->query[i].name + p->query[i].name_len] = 0;
        p->head[p->query[i].value + p->query[i].value_len] = 0;
    }
    return true;
}
