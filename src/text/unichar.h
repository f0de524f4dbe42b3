/* unichar.h - what a tokenizer asks about a character: general category, white space, lower case, decomposition.
 * Source: Unicode through utf8proc; white space is the property White_Space, as the training side's \s has it. */
#ifndef SPARK_TEXT_UNICHAR_H
#define SPARK_TEXT_UNICHAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/utf8.h"

/* Classes of a character, as bits. Every character has at least one. */
enum {
    SPARK__UPPER = 1,         /* Lu Lt */
    SPARK__LOWER = 2,         /* Ll */
    SPARK__UNCASED = 4,       /* Lm Lo */
    SPARK__LETTER = 7,        /* \p{L} */
    SPARK__NUMBER = 8,        /* \p{N} */
    SPARK__MARK = 16,         /* \p{M} */
    SPARK__PUNCT = 32,        /* \p{P} */
    SPARK__SYMBOL = 64,       /* \p{S} */
    SPARK__SPACE = 128,       /* \s */
    SPARK__CONTROL = 256,     /* Cc Cf Co Cs */
    SPARK__NONSPACING = 1024, /* Mn, beside SPARK__MARK */
    SPARK__OTHER = 512,       /* Cn, and separators that are no white space */
};

typedef struct spark__char {
    uint32_t cp;    /* U+FFFD for a byte that begins no valid character */
    uint32_t class; /* 0 past the end */
    uint32_t len;   /* bytes, 0 past the end */
} spark__char;

extern const uint16_t spark__ascii_class[128];
uint32_t spark__char_class(uint32_t cp);
uint32_t spark__char_lower(uint32_t cp); /* simple lower case */

#define SPARK__NFD_MAX 8u
/* Full canonical decomposition of one character into out[SPARK__NFD_MAX]; returns how many. */
size_t spark__char_nfd(uint32_t cp, uint32_t *out);

spark__char spark__char_wide(const uint8_t *p, size_t len);

/* The character at p[pos], not looking at or beyond p[end]. */
SPARK_INLINE spark__char spark__char_at(const uint8_t *p, size_t pos, size_t end)
{
    if (pos >= end) return (spark__char){UINT32_MAX, 0, 0};
    if (SPARK_LIKELY(p[pos] < 0x80)) return (spark__char){p[pos], spark__ascii_class[p[pos]], 1};
    return spark__char_wide(p + pos, end - pos);
}

#endif
