/* http_parse.c - see http_parse.h. The head; targets are in http_target.c, bodies in http_body.c. */
#include "serve/http_parse.h"

#include <stdlib.h>

#include "serve/http_parse_internal.h"

enum {
    HEAD_FIRST = 1024,
    HEAD_KEPT = 4096,
    FIELDS_FIRST = 16,
    LINE_SLACK = 48 /* of a request line beside its target */
};

bool http__fail(http_parser *p, int status, const char *code, const char *message)
{
    p->state = HTTP_PARSE_FAILED;
    p->status = status;
    p->code = code;
    p->message = message;
    return false;
}

bool http__malformed(http_parser *p, const char *message) { return http__fail(p, 400, "malformed_request", message); }

static bool parse_no_memory(http_parser *p)
{
    return http__fail(p, 503, "out_of_memory", "no memory for this request");
}

bool http__is_token(uint8_t c)
{
    static const char others[] = "!#$%&'*+-.^_`|~"; /* RFC 9110, 5.6.2 */
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c && memchr(others, c, sizeof others - 1));
}

bool http__equals_nocase(spark_bytes a, const char *lower)
{
    const size_t n = strlen(lower);
    if (a.len != n) return false;
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = a.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)lower[i]) return false;
    }
    return true;
}

static spark_bytes parse_text(const http_parser *p, uint32_t at, uint32_t len)
{
    return (spark_bytes){(const uint8_t *)p->head + at, len};
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

void http_parser_init(http_parser *p, const http_parse_limits *limits, http_budget *budget)
{
    *p = (http_parser){.limits = *limits, .budget = budget, .host = UINT32_MAX};
}

void http_parser_keep(http_parser *p, uint64_t bytes)
{
    if (p->budget) p->budget->used += bytes - p->kept - p->body_cap;
    free(p->body);
    p->body = NULL;
    p->body_len = p->body_cap = 0;
    p->kept = bytes;
}

uint64_t http_parser_left(const http_parser *p)
{
    const http_budget *b = p->budget;
    if (!b || b->used == p->body_cap + p->kept) return UINT64_MAX;
    return b->used < b->max ? b->max - b->used : 0;
}

void http_parser_reset(http_parser *p)
{
    char *head = p->head;
    uint32_t cap = p->head_cap;
    http_parser_keep(p, 0);
    if (cap > HEAD_KEPT) {
        free(head);
        head = NULL;
        cap = 0;
    }
    http_pair *fields = p->fields;
    const uint32_t cap_fields = p->cap_fields;
    /* Not the query's pairs: n_query guards them, and clearing them cost a tenth of a small request. */
    const http_parse_limits limits = p->limits;
    http_budget *budget = p->budget;
    memset(p, 0, offsetof(http_parser, query));
    memset((char *)p + offsetof(http_parser, method), 0, sizeof *p - offsetof(http_parser, method));
    p->limits = limits;
    p->budget = budget;
    p->head = head;
    p->head_cap = cap;
    p->fields = fields;
    p->cap_fields = cap_fields;
    p->host = UINT32_MAX;
}

void http_parser_free(http_parser *p)
{
    http_parser_keep(p, 0);
    free(p->head);
    free(p->fields);
    p->head = NULL;
    p->fields = NULL;
    p->head_cap = p->head_len = p->cap_fields = p->n_fields = 0;
}

bool http_parser_began(const http_parser *p) { return p->head_len > 0 || p->state != HTTP_PARSE_HEAD; }

/* ---- The request line -------------------------------------------------------------------------------------------- */

/* In the order of http_method. */
static const char *const parse_methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};

const char *http_parser_method_text(const http_parser *p) { return parse_methods[p->method]; }

static bool parse_version(http_parser *p, spark_bytes v)
{
    if (v.len != 8 || memcmp(v.ptr, "HTTP/", 5) != 0 || v.ptr[5] < '0' || v.ptr[5] > '9' || v.ptr[6] != '.' ||
        v.ptr[7] < '0' || v.ptr[7] > '9')
        return http__malformed(p, "the request line does not end with a version of HTTP");
    if (v.ptr[5] != '1' || v.ptr[7] > '1')
        return http__fail(p, 505, "version_not_supported", "this server speaks HTTP/1.1 and HTTP/1.0");
    p->minor = (uint8_t)(v.ptr[7] - '0');
    return true;
}

static bool parse_method(http_parser *p, spark_bytes m)
{
    for (size_t i = 0; i < SPARK_COUNT(parse_methods); i++)
        if (spark_bytes_is(m, parse_methods[i])) {
            p->method = (http_method)i;
            return true;
        }
    return http__fail(p, 501, "method_not_implemented", "this method is not known here");
}

/* method SP target SP version: exactly two spaces. RFC 9112, 3. */
static bool parse_request_line(http_parser *p, spark_bytes line)
{
    const uint8_t *first = memchr(line.ptr, ' ', line.len);
    const size_t method_len = first ? (size_t)(first - line.ptr) : 0;
    if (method_len == 0) return http__malformed(p, "the request line has no method and target");
    for (size_t i = 0; i < method_len; i++)
        if (!http__is_token(line.ptr[i]))
            return http__malformed(p, "the method contains a character that is not allowed");
    const uint8_t *target = first + 1;
    const size_t rest = line.len - method_len - 1;
    const uint8_t *second = memchr(target, ' ', rest);
    if (!second || second == target) return http__malformed(p, "the request line has no target or no version");
    const size_t target_len = (size_t)(second - target);
    if (!parse_version(p, (spark_bytes){second + 1, rest - target_len - 1})) return false;
    if (!parse_method(p, (spark_bytes){line.ptr, method_len})) return false;
    if (target_len > p->limits.max_url) return http__fail(p, 414, "url_too_long", "the request's target is too long");
    p->target = p->line + (uint32_t)method_len + 1;
    p->target_len = (uint32_t)target_len;
    return true;
}

/* ---- Header lines ------------------------------------------------------------------------------------------------ */

static bool parse_more_fields(http_parser *p)
{
    if (p->n_fields >= p->limits.max_headers)
        return http__fail(p, 431, "too_many_headers", "the request has too many header fields");
    if (p->n_fields < p->cap_fields) return true;
    const uint32_t cap = p->cap_fields ? p->cap_fields * 2 : FIELDS_FIRST;
    http_pair *more = realloc(p->fields, cap * sizeof *more);
    if (!more) return parse_no_memory(p);
    p->fields = more;
    p->cap_fields = cap;
    return true;
}

/* name ":" OWS value OWS; the name is made lower case where it stands. RFC 9112, 5. */
static bool parse_field_line(http_parser *p, uint32_t begin, uint32_t end)
{
    uint32_t at = begin;
    while (at < end && http__is_token((uint8_t)p->head[at])) {
        if (p->head[at] >= 'A' && p->head[at] <= 'Z') p->head[at] = (char)(p->head[at] | 0x20);
        at++;
    }
    if (at == begin || at == end || p->head[at] != ':')
        return http__malformed(p, "a header line is not a name, a colon and a value");
    if (!parse_more_fields(p)) return false;
    http_pair *f = &p->fields[p->n_fields++];
    *f = (http_pair){.name = begin, .name_len = at - begin};
    at++;
    while (at < end && (p->head[at] == ' ' || p->head[at] == '\t')) at++;
    while (end > at && (p->head[end - 1] == ' ' || p->head[end - 1] == '\t')) end--;
    f->value = at;
    f->value_len = end - at;
    return true;
}

/* ---- The second reading ------------------------------------------------------------------------------------------ */

static int second_span(http_parser *p, const char *at, size_t len)
{
    if (p->second_len == 0) p->second_at = at;
    if (p->second_at + p->second_len != at) return -1; /* a value in pieces: a folded line, which we had refused */
    p->second_len += len;
    return 0;
}

static bool second_is(http_parser *p, uint32_t at, uint32_t len)
{
    while (p->second_len && (p->second_at[p->second_len - 1] == ' ' || p->second_at[p->second_len - 1] == '\t'))
        p->second_len--;
    const bool same = p->second_len == len && (len == 0 || p->second_at == p->head + at);
    p->second_len = 0;
    return same;
}

static int second_on_span(llhttp_t *l, const char *at, size_t len) { return second_span(l->data, at, len); }

static int second_on_url_complete(llhttp_t *l)
{
    http_parser *p = l->data;
    return second_is(p, p->target, p->target_len) ? 0 : -1;
}

static int second_on_name_complete(llhttp_t *l)
{
    http_parser *p = l->data;
    if (p->state == HTTP_PARSE_BODY) { /* a trailer */
        p->second_len = 0;
        return 0;
    }
    const http_pair *f = &p->fields[p->second_field];
    return p->second_field < p->n_fields && second_is(p, f->name, f->name_len) ? 0 : -1;
}

static int second_on_value_complete(llhttp_t *l)
{
    http_parser *p = l->data;
    if (p->state == HTTP_PARSE_BODY) {
        p->second_len = 0;
        return 0;
    }
    const http_pair *f = &p->fields[p->second_field++];
    return second_is(p, f->value, f->value_len) ? 0 : -1;
}

static int second_on_trailer_span(llhttp_t *l, const char *at, size_t len)
{
    http_parser *p = l->data;
    return p->state == HTTP_PARSE_BODY ? 0 : second_span(p, at, len);
}

static int second_on_headers_complete(llhttp_t *l)
{
    (void)l;
    return HPE_PAUSED;
}

static int second_on_body(llhttp_t *l, const char *at, size_t len)
{
    (void)at;
    ((http_parser *)l->data)->second_body += len;
    return 0;
}

static int second_on_message_complete(llhttp_t *l)
{
    ((http_parser *)l->data)->second_done = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t second_settings = {
    .on_url = second_on_span,
    .on_url_complete = second_on_url_complete,
    .on_header_field = second_on_trailer_span,
    .on_header_field_complete = second_on_name_complete,
    .on_header_value = second_on_trailer_span,
    .on_header_value_complete = second_on_value_complete,
    .on_headers_complete = second_on_headers_complete,
    .on_body = second_on_body,
    .on_message_complete = second_on_message_complete,
};

/* llhttp reads the whole head and must find the very fields, at the very places. */
static bool second_reads_head(http_parser *p)
{
    llhttp_init(&p->second, HTTP_REQUEST, &second_settings);
    p->second.data = p;
    p->second_field = 0;
    p->second_len = 0;
    const llhttp_errno_t e = llhttp_execute(&p->second, p->head, p->head_len);
    if (e != HPE_PAUSED || llhttp_get_error_pos(&p->second) != p->head + p->head_len ||
        p->second_field != p->n_fields || llhttp_get_http_major(&p->second) != 1 ||
        llhttp_get_http_minor(&p->second) != p->minor ||
        strcmp(llhttp_method_name((llhttp_method_t)llhttp_get_method(&p->second)), parse_methods[p->method]) != 0)
        return http__malformed(p, "the request's head is not well-formed");
    return true;
}

static bool second_agrees_on_body(http_parser *p)
{
    const bool chunked = (p->second.flags & F_CHUNKED) != 0;
    const uint64_t length = p->second.flags & F_CONTENT_LENGTH ? p->second.content_length : 0;
    if (chunked != p->chunked || length != p->content_length)
        return http__malformed(p, "the length of the request's body is ambiguous");
    llhttp_resume(&p->second);
    return true;
}

/* ---- What the fields say ----------------------------------------------------------------------------------------- */

/* Two of these would be two meanings; of all others a second one continues the list. */
static bool parse_is_single(spark_bytes name)
{
    static const char *const single[] = {
        "host",   "content-length", "transfer-encoding", "authorization", "content-type", "origin",
        "expect", "x-api-key",      "content-encoding",  "user-agent",    "referer",      "date",
        "cookie", "from",           "max-forwards",      "range",         "if-range"};
    for (size_t i = 0; i < SPARK_COUNT(single); i++)
        if (spark_bytes_is(name, single[i])) return true;
    return false;
}

static bool parse_content_length(http_parser *p, spark_bytes v)
{
    uint64_t n = 0;
    if (v.len == 0) return http__malformed(p, "Content-Length is empty");
    for (size_t i = 0; i < v.len; i++) {
        if (v.ptr[i] < '0' || v.ptr[i] > '9') return http__malformed(p, "Content-Length is not one number");
        const unsigned digit = v.ptr[i] - '0';
        if (n > (UINT64_MAX - digit) / 10) return http__malformed(p, "Content-Length is out of range");
        n = n * 10 + digit;
    }
    p->content_length = n;
    return true;
}

/* RFC 9112, 6.3: a request whose last coding is not chunked has no length; one with others before it could be read, but not by us. */
static bool parse_transfer_encoding(http_parser *p, spark_bytes v)
{
    static const char chunked[] = "chunked";
    const size_t n = sizeof chunked - 1;
    if (p->minor == 0) return http__malformed(p, "HTTP/1.0 has no transfer codings");
    if (v.len < n || !http__equals_nocase((spark_bytes){v.ptr + v.len - n, n}, chunked))
        return http__malformed(p, "the last transfer coding is not chunked");
    if (v.len > n && memchr(v.ptr, ',', v.len))
        return http__fail(p, 501, "transfer_coding_not_implemented", "the only transfer coding known here is chunked");
    if (v.len > n) return http__malformed(p, "the last transfer coding is not chunked");
    p->chunked = true;
    return true;
}

static bool parse_expect(http_parser *p, spark_bytes v)
{
    if (!http__equals_nocase(v, "100-continue"))
        return http__fail(p, 417, "expectation_failed", "the only expectation known here is 100-continue");
    p->expects_continue = p->minor > 0;
    return true;
}

static spark_bytes parse_trim(spark_bytes t)
{
    for (; t.len && (*t.ptr == ' ' || *t.ptr == '\t'); t.len--) t.ptr++;
    while (t.len && (t.ptr[t.len - 1] == ' ' || t.ptr[t.len - 1] == '\t')) t.len--;
    return t;
}

static void parse_connection(spark_bytes v, bool *close, bool *keep)
{
    for (size_t at = 0; at < v.len;) {
        size_t end = at;
        while (end < v.len && v.ptr[end] != ',') end++;
        const spark_bytes t = parse_trim((spark_bytes){v.ptr + at, end - at});
        if (http__equals_nocase(t, "close")) *close = true;
        if (http__equals_nocase(t, "keep-alive")) *keep = true;
        at = end + 1;
    }
}

static bool parse_field_means(http_parser *p, uint32_t i, bool *close, bool *keep, bool *has_length)
{
    const http_pair *f = &p->fields[i];
    const spark_bytes name = parse_text(p, f->name, f->name_len), value = parse_text(p, f->value, f->value_len);
    if (spark_bytes_is(name, "host")) {
        p->host = i;
        if (!http_host_is_valid(value))
            return http__malformed(p, "Host is not a name or address with an optional port");
    } else if (spark_bytes_is(name, "content-length")) {
        *has_length = true;
        return parse_content_length(p, value);
    } else if (spark_bytes_is(name, "transfer-encoding")) {
        return parse_transfer_encoding(p, value);
    } else if (spark_bytes_is(name, "expect")) {
        return parse_expect(p, value);
    } else if (spark_bytes_is(name, "connection")) {
        parse_connection(value, close, keep);
    }
    return true;
}

static bool parse_fields(http_parser *p)
{
    bool close = false, keep = false, has_length = false;
    for (uint32_t i = 0; i < p->n_fields; i++)
        if (!parse_field_means(p, i, &close, &keep, &has_length)) return false;
    if (p->host == UINT32_MAX && p->minor > 0) return http__malformed(p, "HTTP/1.1 demands a Host");
    if (p->chunked && has_length) return http__malformed(p, "Content-Length beside Transfer-Encoding");
    p->keep_alive = !close && (p->minor > 0 || keep);
    if (p->content_length == 0 && !p->chunked) p->expects_continue = false;
    return true;
}

/* ---- The head as a whole ----------------------------------------------------------------------------------------- */

static bool parse_room(http_parser *p, uint32_t need)
{
    if (need <= p->head_cap) return true;
    uint32_t cap = p->head_cap ? p->head_cap : HEAD_FIRST;
    while (cap < need) cap *= 2;
    char *more = realloc(p->head, cap);
    if (!more) return parse_no_memory(p);
    p->head = more;
    p->head_cap = cap;
    return true;
}

static bool parse_same_name(const http_parser *p, const http_pair *a, const http_pair *b)
{
    return spark_bytes_equal(parse_text(p, a->name, a->name_len), parse_text(p, b->name, b->name_len));
}

/* Adds the value of a later field of the same name: the joined text is built behind the head. */
static bool parse_join(http_parser *p, http_pair *to, const http_pair *more)
{
    if (!parse_room(p, p->head_len + to->value_len + more->value_len + 3)) return false;
    const uint32_t begin = p->head_len;
    memcpy(p->head + begin, p->head + to->value, to->value_len);
    memcpy(p->head + begin + to->value_len, ", ", 2);
    memcpy(p->head + begin + to->value_len + 2, p->head + more->value, more->value_len);
    to->value = begin;
    to->value_len += more->value_len + 2;
    p->head_len += to->value_len + 1; /* and its NUL */
    return true;
}

/* Fields that come again: refused, or joined. Bounded: a join copies at most the head, and needs two bytes of head for each field. */
static bool parse_repeated(http_parser *p)
{
    const uint32_t whole = p->head_len;
    for (uint32_t i = 0; i < p->n_fields; i++)
        for (uint32_t j = i + 1; j < p->n_fields;) {
            if (!parse_same_name(p, &p->fields[i], &p->fields[j])) {
                j++;
                continue;
            }
            if (parse_is_single(parse_text(p, p->fields[i].name, p->fields[i].name_len)))
                return http__malformed(p, "a header field that may come once came twice");
            if (p->head_len > whole + 4 * p->limits.max_head)
                return http__fail(p, 431, "headers_too_large", "too many repeated header fields");
            if (!parse_join(p, &p->fields[i], &p->fields[j])) return false;
            memmove(&p->fields[j], &p->fields[j + 1], (p->n_fields - j - 1) * sizeof p->fields[0]);
            p->n_fields--;
        }
    return true;
}

/* Each text becomes a C string: what followed it (colon, space, CR) is no longer needed. */
static void parse_terminate(http_parser *p)
{
    for (uint32_t i = 0; i < p->n_fields; i++) {
        p->head[p->fields[i].name + p->fields[i].name_len] = 0;
        p->head[p->fields[i].value + p->fields[i].value_len] = 0;
    }
}

static bool parse_head_end(http_parser *p)
{
    if (!second_reads_head(p) || !parse_fields(p) || !second_agrees_on_body(p)) return false;
    if (!parse_repeated(p)) return false;
    if (p->content_length > p->limits.max_body)
        return http__fail(p, 413, "body_too_large", "the request's body is too large");
    if (!http__target_read(p)) return false;
    parse_terminate(p);
    p->state = HTTP_PARSE_ACCEPT;
    return true;
}

/* A line is complete, CR and LF are its last bytes. */
static bool parse_line_end(http_parser *p)
{
    const uint32_t begin = p->line, end = p->head_len - 2;
    if (p->n_lines == 0 && begin == end) { /* RFC 9112, 2.2: one blank line may come before a request */
        if (p->blank_skipped) return http__malformed(p, "blank lines instead of a request");
        p->blank_skipped = true;
        p->head_len = 0;
        return true;
    }
    if (begin == end) return parse_head_end(p);
    const bool ok = p->n_lines == 0 ? parse_request_line(p, parse_text(p, begin, end - begin))
                                    : parse_field_line(p, begin, end);
    p->n_lines++;
    p->line = p->head_len;
    return ok;
}

static bool parse_head_byte(http_parser *p, uint8_t c)
{
    if (p->head_len >= p->limits.max_head)
        return http__fail(p, 431, "headers_too_large", "the request's head is too large");
    if (p->n_lines == 0 && p->head_len >= p->limits.max_url + LINE_SLACK)
        return http__fail(p, 414, "url_too_long", "the request line is too long");
    if (p->head_len == p->line && p->n_lines > 0 && (c == ' ' || c == '\t'))
        return http__malformed(p, "a header line begins with a space");
    if (!parse_room(p, p->head_len + 1)) return false;
    p->head[p->head_len++] = (char)c;
    if (p->after_cr) {
        p->after_cr = false;
        return c == '\n' ? parse_line_end(p) : http__malformed(p, "a CR without LF");
    }
    if (c == '\r')
        p->after_cr = true;
    else if (c == '\n')
        return http__malformed(p, "a line ends with a bare LF");
    else if ((c < 0x20 && c != '\t') || c == 0x7f)
        return http__malformed(p, "a control character in the request's head");
    return true;
}

/* Bytes that are nothing special, as many as follow one another inside one line: most of a head. */
static size_t parse_head_plain(http_parser *p, const uint8_t *in, size_t len)
{
    const uint32_t line_max = p->n_lines == 0 ? p->limits.max_url + LINE_SLACK : UINT32_MAX;
    const uint32_t max = line_max < p->limits.max_head ? line_max : p->limits.max_head;
    if (p->after_cr || p->head_len == p->line || p->head_len >= max) return 0;
    if (len > max - p->head_len) len = max - p->head_len;
    size_t n = 0;
    while (n < len && in[n] >= 0x20 && in[n] != 0x7f) n++;
    if (n == 0 || !parse_room(p, p->head_len + (uint32_t)n)) return 0;
    memcpy(p->head + p->head_len, in, n);
    p->head_len += (uint32_t)n;
    return n;
}

static size_t parse_head(http_parser *p, spark_bytes in)
{
    size_t at = 0;
    while (at < in.len && p->state == HTTP_PARSE_HEAD) {
        at += parse_head_plain(p, in.ptr + at, in.len - at);
        if (at == in.len) break;
        const uint8_t c = in.ptr[at++];
        if (!parse_head_byte(p, c)) break;
    }
    return at;
}

size_t http_parser_feed(http_parser *p, spark_bytes in)
{
    if (p->state == HTTP_PARSE_HEAD) return parse_head(p, in);
    if (p->state == HTTP_PARSE_BODY) return http__body_feed(p, in);
    return 0;
}

void http_parser_accept(http_parser *p)
{
    if (p->state != HTTP_PARSE_ACCEPT) return;
    p->left = p->chunked ? 0 : p->content_length;
    p->state = p->chunked || p->left ? HTTP_PARSE_BODY : HTTP_PARSE_DONE;
}

void http_parser_lower_max_body(http_parser *p, uint64_t max)
{
    if (max < p->limits.max_body) p->limits.max_body = max;
    if (p->state == HTTP_PARSE_ACCEPT && p->content_length > p->limits.max_body)
        http__fail(p, 413, "body_too_large", "the request's body is too large");
}

/* ---- Looking things up ------------------------------------------------------------------------------------------- */

static spark_bytes parse_find(const http_parser *p, const http_pair *pairs, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (spark_bytes_is(parse_text(p, pairs[i].name, pairs[i].name_len), name))
            return parse_text(p, pairs[i].value, pairs[i].value_len);
    return (spark_bytes){NULL, 0};
}

spark_bytes http_parser_header(const http_parser *p, const char *lower_name)
{
    return parse_find(p, p->fields, p->n_fields, lower_name);
}
spark_bytes http_parser_query(const http_parser *p, const char *name)
{
    return parse_find(p, p->query, p->n_query, name);
}
bool http_parser_query_at(const http_parser *p, uint32_t i, spark_bytes *name, spark_bytes *value)
{
    if (i >= p->n_query) return false;
    *name = parse_text(p, p->query[i].name, p->query[i].name_len);
    *value = parse_text(p, p->query[i].value, p->query[i].value_len);
    return true;
}
spark_bytes http_parser_path(const http_parser *p) { return parse_text(p, p->target, p->path_len); }
