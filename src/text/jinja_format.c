/* jinja_format.c - values as text: str(), repr(), json.dumps() as Python writes them. What holds anything of the user's
 * becomes foreign as a whole, brackets and quotes included: nothing is gained by trusting the punctuation. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/jinja_internal.h"

#define ADD(literal) SPARK_TRY(spark__j_text_add(j, t, SPARK_BYTES_LITERAL(literal), foreign))

/* ---- floating-point numbers -------------------------------------------------------------------------------------- */

bool spark__j_parse_double(spark_bytes text, double *out)
{
    char buf[160]; /* strtod wants the decimal point of the process's locale, whatever it is */
    const char *point = localeconv()->decimal_point;
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char c = (char)text.ptr[i];
        const bool allowed = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == 'e' || c == 'E' || c == '.';
        const size_t need = c == '.' ? strlen(point) : 1;
        if (!allowed || n + need >= sizeof buf) return false;
        memcpy(buf + n, c == '.' ? point : &c, need);
        n += need;
    }
    buf[n] = 0;
    char *end = buf;
    *out = strtod(buf, &end);
    return n > 0 && end == buf + n;
}

int spark__j_fixed(double f, int precision, char *out, size_t size)
{
    const int n = snprintf(out, size, "%.*f", precision, f);
    char *point = strstr(out, localeconv()->decimal_point);
    if (point) *point = '.';
    return n < 0 ? 0 : n;
}

/* The shortest digits that read back as the same number, and the power of ten of the first one. */
static int format_shortest(double f, char digits[24], int *exponent)
{
    char buf[64];
    for (int precision = f < 2.3e-308 ? 0 : 14; precision <= 16; precision++) { /* subnormals have few digits */
        snprintf(buf, sizeof buf, "%.*e", precision, f);
        if (strtod(buf, NULL) == f) break;
    }
    const char *e = strchr(buf, 'e');
    int n = 0;
    for (const char *p = buf; p < e && n < 23; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    *exponent = (int)strtol(e + 1, NULL, 10);
    return n;
}

void spark__j_float_repr(double f, char out[J_FLOAT_CHARS])
{
    char digits[24] = "";
    int exponent = 0, at = 0;
    if (f != f || f - f != 0) {
        snprintf(out, J_FLOAT_CHARS, "%s", f != f ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    const bool negative = bits >> 63; /* of -0.0 too */
    const int n = format_shortest(negative ? -f : f, digits, &exponent);
    if (negative) out[at++] = '-';
    if (exponent >= -4 && exponent < 16) { /* Python's float_repr_style 'short' */
        for (int i = exponent < 0 ? exponent : 0; i < n || i <= exponent; i++) {
            if (i == exponent + 1) out[at++] = '.';
            out[at++] = i >= 0 && i < n ? digits[i] : '0';
            if (i == exponent && i + 1 >= n) {
                out[at++] = '.';
                out[at++] = '0';
            }
        }
        out[at] = 0;
        return;
    }
    out[at++] = digits[0];
    if (n > 1) out[at++] = '.';
    memcpy(out + at, digits + 1, (size_t)(n - 1));
    at += n - 1;
    snprintf(out + at, (size_t)(J_FLOAT_CHARS - at), "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
}

/* ---- str and repr ------------------------------------------------------------------------------------------------ */

static bool format_printable(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return cp == ' ' || !(c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CS ||
                          c == UTF8PROC_CATEGORY_CO || c == UTF8PROC_CATEGORY_CN || c == UTF8PROC_CATEGORY_ZL ||
                          c == UTF8PROC_CATEGORY_ZP || c == UTF8PROC_CATEGORY_ZS);
}

static spark_status format_repr_char(j_ctx *j, j_text *t, uint32_t cp, uint32_t quote, bool foreign)
{
    if (cp == quote || cp == '\\') return spark__j_text_fmt(j, t, foreign, "\\%c", (int)cp);
    if (cp == '\n' || cp == '\r' || cp == '\t')
        return spark__j_text_fmt(j, t, foreign, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    if (cp < 0x7f && cp >= 0x20) return spark__j_text_char(j, t, cp, foreign);
    if (format_printable(cp)) return spark__j_text_char(j, t, cp, foreign);
    if (cp < 0x100) return spark__j_text_fmt(j, t, foreign, "\\x%02x", (unsigned)cp);
    if (cp < 0x10000) return spark__j_text_fmt(j, t, foreign, "\\u%04x", (unsigned)cp);
    return spark__j_text_fmt(j, t, foreign, "\\U%08x", (unsigned)cp);
}

static spark_status format_repr_str(j_ctx *j, j_text *t, const j_str *s, bool foreign)
{
    const bool single = s->len && memchr(s->ptr, '\'', s->len), pair = s->len && memchr(s->ptr, '"', s->len);
    const uint32_t quote = single && !pair ? '"' : '\'';
    SPARK_TRY(spark__j_steps(j, s->len / 8));
    if (s->markup) ADD("Markup(");
    SPARK_TRY(spark__j_text_char(j, t, quote, foreign));
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c);)
        SPARK_TRY(format_repr_char(j, t, c.cp, quote, foreign));
    SPARK_TRY(spark__j_text_char(j, t, quote, foreign));
    if (s->markup) ADD(")");
    return SPARK_SUCCESS;
}

static spark_status format_repr_items(j_ctx *j, j_text *t, const j_list *list, bool foreign)
{
    for (size_t i = 0; i < list->n; i++) {
        if (i) ADD(", ");
        SPARK_TRY(spark__j_add_repr(j, t, list->items[i], foreign));
    }
    return SPARK_SUCCESS;
}

static spark_status format_repr_dict(j_ctx *j, j_text *t, const j_dict *d, bool foreign)
{
    ADD("{");
    for (size_t i = 0; i < d->n; i++) {
        if (i) ADD(", ");
        SPARK_TRY(spark__j_add_repr(j, t, d->pairs[i].key, foreign));
        ADD(": ");
        SPARK_TRY(spark__j_add_repr(j, t, d->pairs[i].val, foreign));
    }
    ADD("}");
    return SPARK_SUCCESS;
}

static spark_status format_repr_range(j_ctx *j, j_text *t, const j_range *r, bool foreign)
{
    if (r->step == 1)
        return spark__j_text_fmt(j, t, foreign, "range(%lld, %lld)", (long long)r->start, (long long)r->stop);
    return spark__j_text_fmt(j, t, foreign, "range(%lld, %lld, %lld)", (long long)r->start, (long long)r->stop,
                             (long long)r->step);
}

static spark_status format_repr_container(j_ctx *j, j_text *t, j_val v, bool foreign)
{
    if (v.type == J_DICT) return format_repr_dict(j, t, v.u.dict, foreign);
    if (v.type == J_NAMESPACE) {
        ADD("<Namespace ");
        SPARK_TRY(format_repr_dict(j, t, v.u.ns->dict, foreign));
        ADD(">");
        return SPARK_SUCCESS;
    }
    if (v.type == J_VIEW) SPARK_TRY(spark__j_text_fmt(j, t, foreign, "%s(", v.u.list->name));
    SPARK_TRY(spark__j_text_char(j, t, v.type == J_TUPLE ? '(' : '[', foreign));
    SPARK_TRY(format_repr_items(j, t, v.u.list, foreign));
    if (v.type == J_TUPLE && v.u.list->n == 1) ADD(",");
    SPARK_TRY(spark__j_text_char(j, t, v.type == J_TUPLE ? ')' : ']', foreign));
    if (v.type == J_VIEW) ADD(")");
    return SPARK_SUCCESS;
}

spark_status spark__j_add_repr(j_ctx *j, j_text *t, j_val v, bool foreign)
{
    char number[J_FLOAT_CHARS];
    if (v.type == J_UNDEFINED) ADD("Undefined");
    if (v.type == J_NONE) ADD("None");
    if (v.type == J_BOOL && v.u.b) ADD("True");
    if (v.type == J_BOOL && !v.u.b) ADD("False");
    if (v.type <= J_BOOL) return SPARK_SUCCESS;
    if (v.type == J_INT) return spark__j_text_fmt(j, t, foreign, "%lld", (long long)v.u.i);
    if (v.type == J_FLOAT) {
        spark__j_float_repr(v.u.f, number);
        return spark__j_text_fmt(j, t, foreign, "%s", number);
    }
    if (v.type == J_STR) return format_repr_str(j, t, v.u.s, foreign);
    if (v.type == J_LOOP)
        return spark__j_text_fmt(j, t, foreign, "<LoopContext %zu/%zu>", v.u.loop->index + 1, v.u.loop->n);
    if (v.type == J_MACRO)
        return spark__j_text_fmt(j, t, foreign, "<Macro '%.*s'>", (int)v.u.macro->node->name.len,
                                 (const char *)v.u.macro->node->name.ptr);
    if (v.type == J_RANGE) return format_repr_range(j, t, v.u.range, foreign);
    if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT || v.type == J_VIEW || v.type == J_NAMESPACE) {
        SPARK_TRY(spark__j_enter(j));
        SPARK_TRY(format_repr_container(j, t, v, foreign));
        j->depth--;
        return SPARK_SUCCESS;
    }
    /* Python would print an address or the like: no two runs would give the same text. */
    return spark__j_fail(j, SPARK_E_FORMAT, "a %s has no text of its own", spark__j_type_name(v));
}

spark_status spark__j_add_value(j_ctx *j, j_text *t, j_val v)
{
    bool foreign = false;
    if (v.type == J_STR) return spark__j_text_str(j, t, v.u.s);
    if (v.type == J_UNDEFINED) return SPARK_SUCCESS;
    SPARK_TRY(spark__j_tainted(j, v, &foreign));
    return spark__j_add_repr(j, t, v, foreign);
}

spark_status spark__j_str_of(j_ctx *j, j_val v, j_val *out)
{
    if (v.type == J_STR) {
        *out = v;
        return SPARK_SUCCESS;
    }
    j_text *t = NULL;
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    SPARK_TRY(spark__j_add_value(j, t, v));
    return spark__j_text_done(j, t, out);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

typedef struct format_json {
    j_text *t;
    const j_json_style *style;
    uint32_t level;
    bool foreign;
} format_json;

static spark_status json_add(j_ctx *j, const format_json *f, const char *s)
{
    return spark__j_text_add(j, f->t, spark_bytes_of(s), f->foreign);
}

static spark_status json_char(j_ctx *j, const format_json *f, uint32_t cp)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *p = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (p) return spark__j_text_fmt(j, f->t, f->foreign, "\\%c", to[p - from]);
    if (cp >= 0x20 && (cp < 0x7f || !f->style->ascii)) return spark__j_text_char(j, f->t, cp, f->foreign);
    if (cp < 0x10000) return spark__j_text_fmt(j, f->t, f->foreign, "\\u%04x", (unsigned)cp);
    return spark__j_text_fmt(j, f->t, f->foreign, "\\u%04x\\u%04x", 0xd800 + (unsigned)((cp - 0x10000) >> 10),
                             0xdc00 + (unsigned)((cp - 0x10000) & 0x3ff));
}

static spark_status json_str(j_ctx *j, const format_json *f, const j_str *s)
{
    SPARK_TRY(spark__j_steps(j, s->len / 8));
    SPARK_TRY(json_add(j, f, "\""));
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c);) SPARK_TRY(json_char(j, f, c.cp));
    return json_add(j, f, "\"");
}

static spark_status json_newline(j_ctx *j, const format_json *f)
{
    if (!f->style->indent) return SPARK_SUCCESS;
    SPARK_TRY(json_add(j, f, "\n"));
    for (uint32_t i = 0; i < f->level; i++)
        SPARK_TRY(spark__j_text_add(j, f->t, spark__j_bytes(f->style->indent), f->foreign));
    return SPARK_SUCCESS;
}

/* What stands between two items. */
static spark_status json_separator(j_ctx *j, const format_json *f, size_t i)
{
    const j_str *sep = f->style->item_sep;
    if (i && sep) SPARK_TRY(spark__j_text_add(j, f->t, spark__j_bytes(sep), f->foreign));
    if (i && !sep) SPARK_TRY(json_add(j, f, f->style->indent ? "," : ", "));
    return json_newline(j, f);
}

static spark_status json_value(j_ctx *j, format_json *f, j_val v);

static spark_status json_list(j_ctx *j, format_json *f, const j_list *list)
{
    if (list->n == 0) return json_add(j, f, "[]");
    SPARK_TRY(json_add(j, f, "["));
    f->level++;
    for (size_t i = 0; i < list->n; i++) {
        SPARK_TRY(json_separator(j, f, i));
        SPARK_TRY(json_value(j, f, list->items[i]));
    }
    f->level--;
    SPARK_TRY(json_newline(j, f));
    return json_add(j, f, "]");
}

static spark_status json_key(j_ctx *j, format_json *f, j_val key)
{
    if (key.type == J_STR) {
        SPARK_TRY(json_str(j, f, key.u.s));
    } else if (spark__j_is_number(key) || key.type == J_NONE) {
        SPARK_TRY(json_add(j, f, "\""));
        SPARK_TRY(json_value(j, f, key));
        SPARK_TRY(json_add(j, f, "\""));
    } else {
        return spark__j_fail(j, SPARK_E_FORMAT, "keys must be str, int, float, bool or None, not %s",
                             spark__j_type_name(key));
    }
    const j_str *sep = f->style->key_sep;
    return sep ? spark__j_text_add(j, f->t, spark__j_bytes(sep), f->foreign) : json_add(j, f, ": ");
}

static spark_status json_sorted(j_ctx *j, const j_dict *d, j_val **keys, j_val **vals)
{
    SPARK_TRY(J_NEW(j, d->n, keys));
    SPARK_TRY(J_NEW(j, d->n, vals));
    for (size_t i = 0; i < d->n; i++) {
        (*keys)[i] = d->pairs[i].key;
        (*vals)[i] = d->pairs[i].val;
    }
    return spark__j_sort(j, *keys, *vals, d->n, false);
}

static spark_status json_dict(j_ctx *j, format_json *f, const j_dict *d)
{
    j_val *keys = NULL, *vals = NULL;
    if (d->n == 0) return json_add(j, f, "{}");
    if (f->style->sort_keys) SPARK_TRY(json_sorted(j, d, &keys, &vals));
    SPARK_TRY(json_add(j, f, "{"));
    f->level++;
    for (size_t i = 0; i < d->n; i++) {
        SPARK_TRY(json_separator(j, f, i));
        SPARK_TRY(json_key(j, f, keys ? keys[i] : d->pairs[i].key));
        SPARK_TRY(json_value(j, f, vals ? vals[i] : d->pairs[i].val));
    }
    f->level--;
    SPARK_TRY(json_newline(j, f));
    return json_add(j, f, "}");
}

static spark_status json_value(j_ctx *j, format_json *f, j_val v)
{
    char number[J_FLOAT_CHARS];
    if (v.type == J_STR) return json_str(j, f, v.u.s);
    if (v.type == J_NONE) return json_add(j, f, "null");
    if (v.type == J_BOOL) return json_add(j, f, v.u.b ? "true" : "false");
    if (v.type == J_INT) return spark__j_text_fmt(j, f->t, f->foreign, "%lld", (long long)v.u.i);
    if (v.type == J_FLOAT) {
        spark__j_float_repr(v.u.f, number);
        if (v.u.f != v.u.f) return json_add(j, f, "NaN");
        return json_add(j, f, v.u.f - v.u.f != 0 ? (v.u.f < 0 ? "-Infinity" : "Infinity") : number);
    }
    if (v.type != J_LIST && v.type != J_TUPLE && v.type != J_DICT)
        return spark__j_fail(j, SPARK_E_FORMAT, "Object of type %s is not JSON serializable", spark__j_type_name(v));
    SPARK_TRY(spark__j_enter(j));
    SPARK_TRY(v.type == J_DICT ? json_dict(j, f, v.u.dict) : json_list(j, f, v.u.list));
    j->depth--;
    return SPARK_SUCCESS;
}

spark_status spark__j_json(j_ctx *j, j_val v, const j_json_style *style, j_val *out)
{
    format_json f = {.style = style};
    SPARK_TRY(spark__j_text_new(j, 0, &f.t));
    SPARK_TRY(spark__j_tainted(j, v, &f.foreign));
    SPARK_TRY(json_value(j, &f, v));
    return spark__j_text_done(j, f.t, out);
}

/* ---- HTML -------------------------------------------------------------------------------------------------------- */

static spark_status format_escape_char(j_ctx *j, j_text *t, uint32_t cp, bool foreign)
{
    static const struct {
        char c;
        const char *text;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    for (size_t i = 0; i < SPARK_COUNT(entities); i++)
        if (cp == (uint32_t)entities[i].c) return spark__j_text_add(j, t, spark_bytes_of(entities[i].text), foreign);
    return spark__j_text_char(j, t, cp, foreign);
}

spark_status spark__j_escape(j_ctx *j, const j_str *s, j_val *out)
{
    j_text *t = NULL;
    SPARK_TRY(spark__j_text_new(j, s->len, &t));
    SPARK_TRY(spark__j_steps(j, s->len / 8));
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c);)
        SPARK_TRY(s->markup ? spark__j_text_char(j, t, c.cp, c.foreign) : format_escape_char(j, t, c.cp, c.foreign));
    SPARK_TRY(spark__j_text_done(j, t, out));
    j_str *marked = (j_str *)out->u.s; /* made just above, nobody else has seen it */
    marked->markup = true;
    return SPARK_SUCCESS;
}
