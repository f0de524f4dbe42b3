/* json_out.c - building the few JSON answers of the commands: one growing buffer, strings escaped as RFC 8259 says. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cli/cli.h"

static void out_reserve(cli_out *o, size_t more)
{
    if (o->cap - o->len > more) return;
    size_t cap = o->cap ? o->cap : 256;
    while (cap - o->len <= more) cap *= 2;
    char *bigger = realloc(o->ptr, cap);
    if (!bigger) {
        fputs("spark: out of memory for the answer\n", stderr);
        exit(CLI_FAILED);
    }
    o->ptr = bigger;
    o->cap = cap;
}

void cli_put(cli_out *o, const void *data, size_t len)
{
    out_reserve(o, len);
    if (len) memcpy(o->ptr + o->len, data, len);
    o->len += len;
    o->ptr[o->len] = 0;
}

void cli_putf(cli_out *o, const char *fmt, ...)
{
    char text[512]; /* numbers and names only; longer texts go through cli_put */
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cli_put(o, text, n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void out_escape(cli_out *o, unsigned char c)
{
    static const char short_form[] = "\b"
                                     "b\t"
                                     "t\n"
                                     "n\f"
                                     "f\r"
                                     "r\""
                                     "\"\\"
                                     "\\";
    for (const char *s = short_form; *s; s += 2)
        if ((unsigned char)*s == c) {
            const char pair[2] = {'\\', s[1]};
            cli_put(o, pair, 2);
            return;
        }
    cli_putf(o, "\\u%04x", c);
}

void cli_put_json(cli_out *o, const char *text, size_t len)
{
    cli_put(o, "\"", 1);
    for (size_t i = 0; i < len;) {
        uint32_t cp = 0;
        const size_t n = spark_utf8_decode((const uint8_t *)text + i, len - i, &cp);
        if (n == 0)
            cli_put(o, "\xef\xbf\xbd", 3);
        else if (cp < 0x20 || cp == '"' || cp == '\\')
            out_escape(o, (unsigned char)cp);
        else
            cli_put(o, text + i, n);
        i += n ? n : 1;
    }
    cli_put(o, "\"", 1);
}

void cli_out_free(cli_out *o)
{
    free(o->ptr);
    *o = (cli_out){0};
}
