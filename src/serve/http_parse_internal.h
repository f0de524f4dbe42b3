/* http_parse_internal.h - what http_parse.c, http_target.c and http_body.c share. */
#ifndef SPARK_SERVE_HTTP_PARSE_INTERNAL_H
#define SPARK_SERVE_HTTP_PARSE_INTERNAL_H

#include "serve/http_parse.h"

/* Both return false. */
bool http__fail(http_parser *p, int status, const char *code, const char *message);
bool http__malformed(http_parser *p, const char *message); /* 400 */

bool http__is_token(uint8_t c); /* RFC 9110: tchar */
bool http__equals_nocase(spark_bytes a, const char *lower);
bool http__target_read(http_parser *p); /* the target's forms; decodes path and query where they stand */
size_t http__body_feed(http_parser *p, spark_bytes in);

#endif
