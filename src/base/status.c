/* status.c - error texts: formatted once, made safe to print. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const char *const status_texts[SPARK_N_CODES] = {
#define STATUS_TEXT(name, text) [SPARK_##name] = text,
    SPARK_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
};

const char *spark_code_text(spark_code code)
{
    return (unsigned)code < SPARK_N_CODES ? status_texts[code] : "unknown status";
}

/* Names from a file may hold control bytes or half a character: one '?' for each byte of those. */
static void status_clean(char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len;) {
        const size_t n = spark_utf8_valid_prefix((const uint8_t *)text + i, len - i, 1);
        const int control = (unsigned char)text[i] < 0x20 || text[i] == 0x7f;
        if (n == 0 || control) text[i] = '?';
        i += n == 0 ? 1 : n;
    }
}

static void SPARK_PRINTF(3, 0) status_fill(spark_err *err, spark_code code, const char *fmt, va_list args)
{
    err->code = code;
    err->at = SPARK_ERR_NOWHERE;
    err->line = err->column = 0;
    vsnprintf(err->text, sizeof err->text, fmt, args);
    status_clean(err->text);
}

void spark_err_set(spark_err *err, spark_code code, uint64_t at, const char *fmt, ...)
{
    va_list args;
    if (!err) return;
    va_start(args, fmt);
    status_fill(err, code, fmt, args);
    va_end(args);
    err->at = at;
}

void spark_err_set_line(spark_err *err, spark_code code, uint32_t line, uint32_t column, const char *fmt, ...)
{
    va_list args;
    if (!err) return;
    va_start(args, fmt);
    status_fill(err, code, fmt, args);
    va_end(args);
    err->line = line;
    err->column = column;
}
