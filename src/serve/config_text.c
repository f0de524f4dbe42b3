/* config_text.c - lines of settings: cut, checked, unquoted. */
#include "serve/config_text.h"

#include <stdio.h>

#include "base/spark_limits.h"
#include "base/utf8.h"

static bool text_blank(uint8_t c) { return c == ' ' || c == '\t'; }
static bool text_name_byte(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

/* Characters before `at`, and one: what an editor calls the column. */
static uint32_t text_column(spark_bytes line, size_t at)
{
    uint32_t n = 1;
    for (size_t i = 0; i < at && i < line.len; i++) n += (line.ptr[i] & 0xc0) != 0x80;
    return n;
}

static spark_status text_check(spark_bytes line, uint32_t number, spark_err *err)
{
    if (line.len > SPARK_MAX_SETTING_LINE)
        return spark_text_fail(err, number, 1, "a line of %zu bytes: at most %u are allowed", line.len,
                               SPARK_MAX_SETTING_LINE);
    const size_t valid = spark_utf8_valid_prefix(line.ptr, line.len, SIZE_MAX);
    if (valid < line.len) return spark_text_fail(err, number, text_column(line, valid), "this is not UTF-8");
    for (size_t i = 0; i < line.len; i++)
        if ((line.ptr[i] < 0x20 && line.ptr[i] != '\t') || line.ptr[i] == 0x7f)
            return spark_text_fail(err, number, text_column(line, i), "a control character (0x%02x)", line.ptr[i]);
    return SPARK_SUCCESS;
}

/* Where the comment of line[from..] begins, or its end: a '#' outside quotes, first in the line or after a blank. */
static size_t text_comment(spark_bytes line, size_t from)
{
    bool quoted = false;
    for (size_t i = from; i < line.len; i++) {
        const uint8_t c = line.ptr[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (c == '#' && !quoted && (i == 0 || text_blank(line.ptr[i - 1])))
            return i;
    }
    return line.len;
}

static spark_bytes text_trim(spark_bytes line, size_t *begin, size_t end)
{
    while (*begin < end && text_blank(line.ptr[*begin])) (*begin)++;
    while (end > *begin && text_blank(line.ptr[end - 1])) end--;
    return (spark_bytes){line.ptr + *begin, end - *begin};
}

static spark_status text_cut(spark_bytes line, spark_text_line *out, spark_err *err)
{
    size_t begin = 0, end = text_comment(line, 0);
    spark_bytes body = text_trim(line, &begin, end);
    end = begin + body.len;
    out->kind = SPARK_TEXT_END;
    if (body.len == 0) return SPARK_SUCCESS;
    const bool heading = body.ptr[0] == '[';
    if (heading && line.ptr[end - 1] != ']')
        return spark_text_fail(err, out->line, text_column(line, end), "']' is missing");
    size_t at = begin + heading;
    end -= heading;
    while (at < end && text_blank(line.ptr[at])) at++;
    const size_t name = at;
    while (at < end && text_name_byte(line.ptr[at])) at++;
    out->name = (spark_bytes){line.ptr + name, at - name};
    out->column = text_column(line, name);
    if (at == name)
        return spark_text_fail(err, out->line, out->column, "%s is expected: a-z, 0-9 and '_'",
                               heading ? "a word" : "a name, then '='");
    if (heading && at < end && !text_blank(line.ptr[at]))
        return spark_text_fail(err, out->line, text_column(line, at), "a blank is expected after '%.*s'",
                               (int)(at - name), line.ptr + name);
    while (at < end && text_blank(line.ptr[at])) at++;
    if (!heading && (at == end || line.ptr[at] != '='))
        return spark_text_fail(err, out->line, text_column(line, at), "'=' is expected after '%.*s'",
                               (int)out->name.len, out->name.ptr);
    at += !heading;
    out->value = text_trim(line, &at, end);
    out->value_column = text_column(line, at);
    out->kind = heading ? SPARK_TEXT_HEADING : SPARK_TEXT_PAIR;
    return SPARK_SUCCESS;
}

spark_status spark_text_next(spark_text *t, spark_text_line *out, spark_err *err)
{
    *out = (spark_text_line){0};
    while (t->pos < t->bytes.len) {
        spark_bytes line = {t->bytes.ptr + t->pos, t->bytes.len - t->pos};
        const uint8_t *nl = memchr(line.ptr, '\n', line.len);
        if (nl) line.len = (size_t)(nl - line.ptr);
        t->pos += line.len + (nl != NULL);
        if (nl && line.len && line.ptr[line.len - 1] == '\r') line.len--;
        out->line = ++t->line;
        SPARK_TRY(text_check(line, t->line, err));
        SPARK_TRY(text_cut(line, out, err));
        if (out->kind != SPARK_TEXT_END) return SPARK_SUCCESS;
    }
    return SPARK_SUCCESS;
}

/* ---- Values ---- */

/* A quoted item at value[*at] == '"' into out; *at moves behind the closing quote. */
static spark_status text_quoted(const spark_text_line *l, size_t *at, char *out, size_t *len, spark_err *err)
{
    const spark_bytes v = l->value;
    size_t i = *at + 1;
    for (; i < v.len && v.ptr[i] != '"'; i++) {
        if (v.ptr[i] == '\\') {
            i++;
            if (i == v.len || (v.ptr[i] != '"' && v.ptr[i] != '\\'))
                return spark_text_fail(err, l->line, l->value_column + text_column(v, i) - 1,
                                       "after '\\' only '\"' and '\\' are allowed");
        }
        out[(*len)++] = (char)v.ptr[i];
    }
    if (i == v.len)
        return spark_text_fail(err, l->line, l->value_column + text_column(v, *at) - 1, "this quote is never closed");
    *at = i + 1;
    return SPARK_SUCCESS;
}

static spark_status text_bare(const spark_text_line *l, size_t *at, char *out, size_t *len, spark_err *err)
{
    const spark_bytes v = l->value;
    const size_t begin = *at;
    while (*at < v.len && v.ptr[*at] != ',' && v.ptr[*at] != '"') out[(*len)++] = (char)v.ptr[(*at)++];
    if (*at < v.len && v.ptr[*at] == '"')
        return spark_text_fail(err, l->line, l->value_column + text_column(v, *at) - 1,
                               "a quote in the middle: quote the whole value");
    while (*len && text_blank((uint8_t)out[*len - 1])) (*len)--;
    if (*len == 0)
        return spark_text_fail(err, l->line, l->value_column + text_column(v, begin) - 1, "a value is missing here");
    return SPARK_SUCCESS;
}

spark_status spark_text_items(const spark_text_line *l, const char **out, uint32_t max, uint32_t *n, spark_arena *a,
                              spark_err *err)
{
    const spark_bytes v = l->value;
    size_t at = 0;
    *n = 0;
    while (v.len) {
        char *item = NULL;
        size_t len = 0;
        while (at < v.len && text_blank(v.ptr[at])) at++;
        if (*n == max)
            return spark_text_fail(
                err, l->line, l->value_column + text_column(v, at) - 1,
                max == 1 ? "one value is expected; quote it if there is a comma in it" : "more than %u values", max);
        SPARK_TRY(SPARK_NEW(a, v.len - at + 1, &item, err));
        SPARK_TRY(at < v.len && v.ptr[at] == '"' ? text_quoted(l, &at, item, &len, err)
                                                 : text_bare(l, &at, item, &len, err));
        item[len] = 0;
        out[(*n)++] = item;
        while (at < v.len && text_blank(v.ptr[at])) at++;
        if (at == v.len) break;
        if (v.ptr[at] != ',')
            return spark_text_fail(err, l->line, l->value_column + text_column(v, at) - 1, "',' is expected here");
        at++;
    }
    return SPARK_SUCCESS;
}

spark_status spark_text_item(const spark_text_line *l, const char **out, spark_arena *a, spark_err *err)
{
    uint32_t n = 0;
    SPARK_TRY(spark_text_items(l, out, 1, &n, a, err));
    if (n == 0)
        return spark_text_fail(err, l->line, l->value_column, "'%.*s' needs a value", (int)l->name.len, l->name.ptr);
    return SPARK_SUCCESS;
}

bool spark_text_is_clean(const char *value)
{
    for (const char *at = value; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) return false;
    return spark_utf8_is_valid((const uint8_t *)value, strlen(value));
}

/* Bare values lose blanks at their ends and end at a comma; '#' after a blank, '"' and ']' mean something else. */
static bool text_needs_quotes(const char *v)
{
    const size_t len = strlen(v);
    return len == 0 || strpbrk(v, "\",#[]") != NULL || text_blank((uint8_t)v[0]) || text_blank((uint8_t)v[len - 1]);
}

size_t spark_text_quote(char *out, size_t cap, const char *value)
{
    if (!text_needs_quotes(value)) return (size_t)snprintf(out, cap, "%s", value);
    size_t n = 0;
    const size_t room = cap ? cap - 1 : 0;
#define TEXT_PUT(c)                                                                                                    \
    do {                                                                                                               \
        if (n < room) out[n] = (c);                                                                                    \
        n++;                                                                                                           \
    } while (0)
    TEXT_PUT('"');
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') TEXT_PUT('\\');
        TEXT_PUT(*value);
    }
    TEXT_PUT('"');
#undef TEXT_PUT
    if (cap) out[n < room ? n : room] = 0;
    return n;
}

unsigned spark_text_distance(const char *a, const char *b, unsigned max)
{
    unsigned rows[3][65]; /* of the letter, of the one before, of the one before that */
    const size_t la = strlen(a), lb = strlen(b);
    if (la > 64 || lb > 64) return max + 1;
    for (unsigned j = 0; j <= lb; j++) rows[0][j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3], *higher = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            const unsigned change = above[j - 1] + (a[i - 1] != b[j - 1]);
            unsigned best = above[j] < row[j - 1] ? above[j] + 1 : row[j - 1] + 1;
            if (change < best) best = change;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && higher[j - 2] + 1 < best)
                best = higher[j - 2] + 1;
            row[j] = best;
        }
    }
    const unsigned d = rows[la % 3][lb];
    return d > max ? max + 1 : d;
}

bool spark_text_is_near(const char *a, const char *b)
{
    const size_t len = strlen(a);
    const unsigned most = len < 6 ? 1 : len < 9 ? 2 : 3;
    return spark_text_distance(a, b, most) <= most;
}
