/* keys_internal.h - what makes and reads the text of keys. For keys*.c and their tests. */
#ifndef SPARK_SERVE_KEYS_INTERNAL_H
#define SPARK_SERVE_KEYS_INTERNAL_H

#include "serve/keys.h"

/* out[n] characters of base32 (RFC 4648, small letters) of the bits of in[n_in], missing bits being 0. */
void spark__base32(const uint8_t *in, size_t n_in, char *out, size_t n);
/* The seven characters that end a key's text. */
void spark__key_sum(const char *text, size_t len, char out[SPARK_KEY_SUM]);
/* HMAC-SHA-256 under the salt of a kind of text. false: no memory. */
SPARK_MUST_CHECK bool spark__key_hash(const uint8_t salt[SPARK_KEY_DIGEST], const char *kind, const char *text,
                                      size_t len, uint8_t out[SPARK_KEY_DIGEST]);
/* The salt of a table. */
const uint8_t *spark__keys_salt(const spark_keys *k);

#endif
