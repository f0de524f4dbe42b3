/* utf8.h - UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef SPARK_BASE_UTF8_H
#define SPARK_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPARK_UTF8_MAX 4u /* bytes of the longest character */

/* Bytes of `p` up to the end of at most `max_chars` valid characters; stops before the first invalid byte. */
size_t spark_utf8_valid_prefix(const uint8_t *p, size_t len, size_t max_chars);

/* Decodes one character. Returns its bytes (1-4), or 0 if `p` does not begin with a valid one. */
size_t spark_utf8_decode(const uint8_t *p, size_t len, uint32_t *cp);

/* Encodes `cp` (valid, at most U+10FFFF) into out[4]; returns its bytes. */
size_t spark_utf8_encode(uint32_t cp, uint8_t out[4]);

/* Bytes at the end of p[0..len) that begin a character whose remaining bytes are missing (0-3).
 * A stream holds these back until the rest arrives. */
size_t spark_utf8_incomplete_tail(const uint8_t *p, size_t len);

/* Whether all of p[0..len) is valid. */
bool spark_utf8_is_valid(const uint8_t *p, size_t len);

#endif
