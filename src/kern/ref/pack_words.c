/* pack_words.c - transposes words of 16 rows; plain C for architectures without a version of their own. */
#include "kern/panel.h"

void spark__pack_words(uint8_t *lines, const uint8_t *const *rows, uint32_t n_words)
{
    for (uint32_t j = 0; j < n_words; j++)
        for (uint32_t r = 0; r < PANEL_ROWS; r++) memcpy(lines + j * PANEL_LINE + 4 * r, rows[r] + 4 * (size_t)j, 4);
}
