/* pack_words.c - transposes words of 16 rows and splits lines; plain C for architectures without a version of their own. */
#include "kern/panel.h"

void spark__pack_words(uint8_t *lines, const uint8_t *const *rows, size_t off, uint32_t n_words)
{
    for (uint32_t j = 0; j < n_words; j++)
        for (uint32_t r = 0; r < PANEL_ROWS; r++)
            memcpy(lines + (size_t)j * PANEL_LINE + 4 * (size_t)r, rows[r] + off + 4 * (size_t)j, 4);
}

int spark__pack_split(const uint8_t *line, uint8_t *out, uint16_t exponent)
{
    uint32_t word[PANEL_ROWS], bad = 0;
    uint16_t low[PANEL_ROWS], high[PANEL_ROWS];
    memcpy(word, line, sizeof word);
    for (unsigned i = 0; i < PANEL_ROWS; i++) {
        low[i] = (uint16_t)word[i];
        high[i] = (uint16_t)(word[i] >> 16);
    }
    for (unsigned i = 0; i < PANEL_ROWS; i++)
        bad |= (uint32_t)((low[i] & exponent) == exponent) | (uint32_t)((high[i] & exponent) == exponent);
    memcpy(out, low, sizeof low);
    memcpy(out + sizeof low, high, sizeof high);
    return bad == 0;
}
