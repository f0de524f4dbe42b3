/* pack_words_sse2.c - transposes words of 16 rows, four by four, and splits lines. SSE2 is part of every x86-64, so there is no other level:
 * packing is bound by memory. */
#include <emmintrin.h>

#include "kern/panel.h"

static __m128i pack_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }
static void pack_store(uint8_t *p, __m128i x) { _mm_store_si128((__m128i *)p, x); }

/* Words j..j+3 of rows 4q..4q+3. */
static void pack_4x4(uint8_t *lines, const uint8_t *const *rows, size_t off, size_t j, unsigned q)
{
    const size_t at = off + 4 * j;
    const __m128i a = pack_load(rows[4 * q] + at), b = pack_load(rows[4 * q + 1] + at);
    const __m128i c = pack_load(rows[4 * q + 2] + at), d = pack_load(rows[4 * q + 3] + at);
    const __m128i ab = _mm_unpacklo_epi32(a, b), AB = _mm_unpackhi_epi32(a, b);
    const __m128i cd = _mm_unpacklo_epi32(c, d), CD = _mm_unpackhi_epi32(c, d);
    uint8_t *to = lines + j * PANEL_LINE + (size_t)16 * q;
    pack_store(to, _mm_unpacklo_epi64(ab, cd));
    pack_store(to + PANEL_LINE, _mm_unpackhi_epi64(ab, cd));
    pack_store(to + 2 * (size_t)PANEL_LINE, _mm_unpacklo_epi64(AB, CD));
    pack_store(to + 3 * (size_t)PANEL_LINE, _mm_unpackhi_epi64(AB, CD));
}

void spark__pack_words(uint8_t *lines, const uint8_t *const *rows, size_t off, uint32_t n_words)
{
    uint32_t j = 0;
    for (; j + 4 <= n_words; j += 4)
        for (unsigned q = 0; q < 4; q++) pack_4x4(lines, rows, off, j, q);
    for (; j < n_words; j++)
        for (uint32_t r = 0; r < PANEL_ROWS; r++)
            memcpy(lines + j * (size_t)PANEL_LINE + 4 * (size_t)r, rows[r] + off + 4 * (size_t)j, 4);
}

int spark__pack_split(const uint8_t *line, uint8_t *out, uint16_t exponent)
{
    const __m128i ones = _mm_set1_epi16((short)exponent);
    __m128i word[4], bad = _mm_setzero_si128();
    for (unsigned i = 0; i < 4; i++) {
        word[i] = _mm_load_si128((const __m128i *)(const void *)(line + (size_t)16 * i));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi16(_mm_and_si128(word[i], ones), ones));
    }
    for (unsigned i = 0; i < 2; i++) { /* sign-extended halves pass through the saturating pack */
        const __m128i a = word[2 * i], b = word[2 * i + 1];
        const __m128i low = _mm_packs_epi32(_mm_srai_epi32(_mm_slli_epi32(a, 16), 16),
                                            _mm_srai_epi32(_mm_slli_epi32(b, 16), 16));
        pack_store(out + (size_t)16 * i, low);
        pack_store(out + (size_t)16 * i + PANEL_LINE / 2,
                   _mm_packs_epi32(_mm_srai_epi32(a, 16), _mm_srai_epi32(b, 16)));
    }
    return _mm_movemask_epi8(bad) == 0;
}
