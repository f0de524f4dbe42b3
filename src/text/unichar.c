/* unichar.c - classes of characters; ASCII from a table, the rest from utf8proc. */
#include "text/unichar.h"

#include <utf8proc.h>

/* Bits of unichar.h for U+0000 to U+007F. */
const uint16_t spark__ascii_class[128] = {
    256, 256, 256, 256, 256, 256, 256, 256, 256, 384, 384, 384, 384, 384, 256, 256, 256, 256, 256, 256, 256, 256,
    256, 256, 256, 256, 256, 256, 256, 256, 256, 256, 128, 32,  32,  32,  64,  32,  32,  32,  32,  32,  32,  64,
    32,  32,  32,  32,  8,   8,   8,   8,   8,   8,   8,   8,   8,   8,   32,  32,  64,  64,  64,  32,  32,  1,
    1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,   1,
    1,   1,   1,   32,  32,  32,  64,  32,  64,  2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   2,
    2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   2,   32,  64,  32,  64,  256,
};

static uint32_t unichar_is_space(uint32_t cp)
{
    switch (cp) { /* White_Space of PropList.txt beyond ASCII; U+2000 to U+200A below */
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000: return SPARK__SPACE;
    default: return cp >= 0x2000 && cp <= 0x200A ? SPARK__SPACE : 0;
    }
}

static uint32_t unichar_category(uint32_t cp)
{
    static const uint16_t class_of[] = {
        [UTF8PROC_CATEGORY_CN] = SPARK__OTHER,
        [UTF8PROC_CATEGORY_LU] = SPARK__UPPER,
        [UTF8PROC_CATEGORY_LL] = SPARK__LOWER,
        [UTF8PROC_CATEGORY_LT] = SPARK__UPPER,
        [UTF8PROC_CATEGORY_LM] = SPARK__UNCASED,
        [UTF8PROC_CATEGORY_LO] = SPARK__UNCASED,
        [UTF8PROC_CATEGORY_MN] = SPARK__MARK | SPARK__NONSPACING,
        [UTF8PROC_CATEGORY_MC] = SPARK__MARK,
        [UTF8PROC_CATEGORY_ME] = SPARK__MARK,
        [UTF8PROC_CATEGORY_ND] = SPARK__NUMBER,
        [UTF8PROC_CATEGORY_NL] = SPARK__NUMBER,
        [UTF8PROC_CATEGORY_NO] = SPARK__NUMBER,
        [UTF8PROC_CATEGORY_PC] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_PD] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_PS] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_PE] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_PI] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_PF] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_PO] = SPARK__PUNCT,
        [UTF8PROC_CATEGORY_SM] = SPARK__SYMBOL,
        [UTF8PROC_CATEGORY_SC] = SPARK__SYMBOL,
        [UTF8PROC_CATEGORY_SK] = SPARK__SYMBOL,
        [UTF8PROC_CATEGORY_SO] = SPARK__SYMBOL,
        [UTF8PROC_CATEGORY_ZS] = SPARK__OTHER,
        [UTF8PROC_CATEGORY_ZL] = SPARK__OTHER,
        [UTF8PROC_CATEGORY_ZP] = SPARK__OTHER,
        [UTF8PROC_CATEGORY_CC] = SPARK__CONTROL,
        [UTF8PROC_CATEGORY_CF] = SPARK__CONTROL,
        [UTF8PROC_CATEGORY_CS] = SPARK__CONTROL,
        [UTF8PROC_CATEGORY_CO] = SPARK__CONTROL,
    };
    return class_of[utf8proc_category((utf8proc_int32_t)cp)];
}

uint32_t spark__char_class(uint32_t cp)
{
    if (cp < 128) return spark__ascii_class[cp];
    return unichar_category(cp) | unichar_is_space(cp);
}

uint32_t spark__char_lower(uint32_t cp)
{
    if (cp < 128) return cp - 'A' < 26u ? cp + 32 : cp;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

size_t spark__char_nfd(uint32_t cp, uint32_t *out)
{
    utf8proc_int32_t buf[SPARK__NFD_MAX];
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, buf, SPARK__NFD_MAX, UTF8PROC_DECOMPOSE,
                                                       &boundary);
    out[0] = cp;
    if (n < 1 || n > (utf8proc_ssize_t)SPARK__NFD_MAX) return 1; /* cannot be: the longest in Unicode has four */
    for (utf8proc_ssize_t i = 0; i < n; i++) out[i] = (uint32_t)buf[i];
    return (size_t)n;
}

spark__char spark__char_wide(const uint8_t *p, size_t len)
{
    uint32_t cp = 0;
    const size_t n = spark_utf8_decode(p, len, &cp);
    if (n == 0) return (spark__char){0xFFFD, SPARK__SYMBOL, 1};
    return (spark__char){cp, spark__char_class(cp), (uint32_t)n};
}
