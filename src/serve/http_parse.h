/* http_parse.h - bytes from a connection become one request with exactly one meaning, or a refusal. No sockets, no clock.
 * Nouns:   http_parser, one request being read: its head, then its body.
 * Promise: the same bytes give the same result, however they are cut. Each head and each chunk is read twice, by our strict grammar
 *          and by llhttp; where the two do not see the same, the request is refused. Work is linear in bytes, memory is bounded by limits.
 *
 *     HEAD --head complete--> ACCEPT --http_parser_accept--> BODY --last byte--> DONE
 *       \                                             \-- no body --> DONE
 *        `--> FAILED from everywhere: status, code and message say what to answer; nothing more is read from that connection
 *
 * Refused although RFC 9112 would let it pass: bare CR or LF, obs-fold, more than one blank line before a request, empty Host, lists in
 * Content-Length, any transfer coding but one "chunked", raw characters in a target that RFC 3986 does not allow there, targets with a
 * fragment, paths with ".", "..", backslash, control characters or invalid UTF-8, one query parameter given twice. */
#ifndef SPARK_SERVE_HTTP_PARSE_H
#define SPARK_SERVE_HTTP_PARSE_H

/* llhttp's enumerators have the names of ours. */
#define HTTP_GET     LLHTTP_GET
#define HTTP_HEAD    LLHTTP_HEAD
#define HTTP_POST    LLHTTP_POST
#define HTTP_PUT     LLHTTP_PUT
#define HTTP_DELETE  LLHTTP_DELETE
#define HTTP_OPTIONS LLHTTP_OPTIONS
#define HTTP_PATCH   LLHTTP_PATCH
#include <llhttp.h>
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_POST
#undef HTTP_PUT
#undef HTTP_DELETE
#undef HTTP_OPTIONS
#undef HTTP_PATCH

#include "base/spark_limits.h"
#include "serve/http.h"

typedef struct http_parse_limits {
    uint32_t max_head, max_headers, max_url;
    uint64_t max_body;
} http_parse_limits;

typedef struct http_budget {
    uint64_t used, max; /* bytes of bodies held by all parsers that share it */
} http_budget;

typedef enum http_parse_state {
    HTTP_PARSE_HEAD,
    HTTP_PARSE_ACCEPT,
    HTTP_PARSE_BODY,
    HTTP_PARSE_DONE,
    HTTP_PARSE_FAILED
} http_parse_state;

/* Offsets, because the head's buffer moves while it grows. */
typedef struct http_pair {
    uint32_t name, name_len, value, value_len;
} http_pair;

typedef struct http_parser {
    http_parse_limits limits;
    http_budget *budget; /* borrowed; NULL = none */
    http_parse_state state;

    /* head: raw bytes; once accepted names are lower case, path and query decoded, and each text ends with NUL */
    char *head;
    uint32_t head_len, head_cap;
    uint32_t line, n_lines; /* begin of the line being read; lines complete */
    bool after_cr, blank_skipped;
    uint32_t target, target_len, path_len, n_query;
    http_pair *fields;
    uint32_t n_fields, cap_fields, host; /* host: index, or UINT32_MAX */
    http_pair query[SPARK_MAX_HTTP_QUERY];

    /* what the head says; valid from ACCEPT on */
    http_method method;
    uint8_t minor; /* HTTP/1.minor */
    bool keep_alive, expects_continue, chunked;
    uint64_t content_length;

    /* body */
    uint8_t *body;
    size_t body_len, body_cap;
    uint64_t kept; /* bytes that count in place of a body that is gone */
    uint64_t left; /* bytes missing: of the content, or of the chunk */
    uint8_t chunk_state, chunk_digits;
    uint32_t extension_bytes, trailer_bytes, trailer_name_len;
    char trailer_name[24];

    /* llhttp's reading */
    llhttp_t second;
    uint32_t second_field;
    const char *second_at;
    size_t second_len;
    uint64_t second_body;
    bool second_done;

    /* FAILED */
    int status;
    const char *code, *message; /* constant texts */
} http_parser;

void http_parser_init(http_parser *p, const http_parse_limits *limits, http_budget *budget);
void http_parser_reset(http_parser *p); /* for the next request; keeps a head buffer of ordinary size */
void http_parser_free(http_parser *p);

/* Takes bytes while in HEAD or BODY and returns how many: all of them, unless the state became another one. */
size_t http_parser_feed(http_parser *p, spark_bytes in);
void http_parser_accept(http_parser *p); /* ACCEPT -> BODY or DONE */
/* The head is accepted, but no more than this many bytes of body: 413 otherwise. In ACCEPT. */
void http_parser_lower_max_body(http_parser *p, uint64_t max);
/* Frees the body; so many bytes count in its place until the reset. */
void http_parser_keep(http_parser *p, uint64_t bytes);
/* Bytes that may be taken beside all that is held; UINT64_MAX, where nobody else holds any. */
uint64_t http_parser_left(const http_parser *p);
bool http_parser_began(const http_parser *p); /* a byte of a request was seen */

spark_bytes http_parser_path(const http_parser *p);
const char *http_parser_method_text(const http_parser *p);
spark_bytes http_parser_header(const http_parser *p, const char *lower_name);
spark_bytes http_parser_query(const http_parser *p, const char *name);
bool http_parser_query_at(const http_parser *p, uint32_t i, spark_bytes *name, spark_bytes *value); /* false: no i-th */

/* Parts, for tests: decodes %XX in place (and '+' to space). False: a bad escape or a NUL. */
bool http_percent_decode(char *text, uint32_t *len, bool plus_is_space);
bool http_host_is_valid(spark_bytes host);

#endif
