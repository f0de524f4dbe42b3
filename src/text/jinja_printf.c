/* jinja_printf.c - the two ways of Python to fill values into a text: 'a %s' % x and 'a {}'.format(x); and strftime.
 * Text keeps its provenance on the way. Widths are bounded; what is rare is refused by name, not guessed. */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_internal.h"

enum { PRINTF_MAX_WIDTH = 65536, PRINTF_MAX_PRECISION = 100 };

/* The result; all of it is foreign if the format was, since then the user chose what to put where. */
static spark_status printf_done(j_ctx *j, const j_str *fmt, j_text *t, j_val *out)
{
    if (!spark__j_str_foreign(fmt, 0, fmt->len)) return spark__j_text_done(j, t, out);
    return spark__j_str_new(j, (spark_bytes){t->data, t->len}, true, out);
}

typedef struct printf_spec {
    uint32_t fill; /* 0: by type */
    uint8_t align; /* '<' '>' '^' '=' or 0: by type */
    uint8_t sign;  /* '+' ' ' or 0 */
    bool alt, zero;
    uint8_t group;     /* ',' '_' or 0 */
    int64_t width;     /* 0: none */
    int64_t precision; /* -1: none */
    uint8_t type;      /* 0: none */
} printf_spec;

static spark_status printf_fill(j_ctx *j, j_text *t, uint32_t cp, int64_t n)
{
    SPARK_TRY(spark__j_steps(j, (uint64_t)n / 8));
    for (int64_t i = 0; i < n; i++) SPARK_TRY(spark__j_text_char(j, t, cp, false));
    return SPARK_SUCCESS;
}

/* A text in its field. For numbers, '=' puts the filling behind the sign (and 0x). */
static spark_status printf_padded(j_ctx *j, j_text *t, const j_str *s, const printf_spec *spec, bool number)
{
    const int64_t len = (int64_t)spark__j_str_count(s), pad = spec->width > len ? spec->width - len : 0;
    const uint32_t fill = spec->fill ? spec->fill : spec->zero ? '0' : ' ';
    const uint8_t align = spec->align ? spec->align : number ? (spec->zero ? '=' : '>') : '<';
    if (pad > PRINTF_MAX_WIDTH) return spark__j_fail(j, SPARK_E_LIMIT, "field is wider than %d", PRINTF_MAX_WIDTH);
    if (align == '=') {
        size_t head = s->len && (s->ptr[0] == '-' || s->ptr[0] == '+' || s->ptr[0] == ' ') ? 1 : 0;
        if (s->len > head + 1 && s->ptr[head] == '0' && (s->ptr[head + 1] | 32) > '9') head += 2;
        j_val part;
        SPARK_TRY(spark__j_str_sub(j, s, 0, head, &part));
        SPARK_TRY(spark__j_text_str(j, t, part.u.s));
        SPARK_TRY(printf_fill(j, t, fill, pad));
        SPARK_TRY(spark__j_str_sub(j, s, head, s->len, &part));
        return spark__j_text_str(j, t, part.u.s);
    }
    const int64_t left = align == '<' ? 0 : align == '>' ? pad : pad / 2;
    SPARK_TRY(printf_fill(j, t, fill, left));
    SPARK_TRY(spark__j_text_str(j, t, s));
    return printf_fill(j, t, fill, pad - left);
}

static spark_status printf_text(j_ctx *j, j_text *t, j_val v, const printf_spec *spec)
{
    j_val s = v;
    if (spec->precision >= 0)
        SPARK_TRY(spark__j_str_sub(j, v.u.s, 0, spark__j_str_at(v.u.s, (size_t)spec->precision), &s));
    return printf_padded(j, t, s.u.s, spec, false);
}

/* Digits of |v| in `base` at the end of buf; returns where they begin. */
static size_t printf_digits(uint64_t v, unsigned base, bool upper, uint8_t group, char *buf, size_t size)
{
    size_t at = size;
    const unsigned every = base == 10 ? 3 : 4;
    for (unsigned n = 0; v || n == 0; v /= base, n++) {
        if (group && n && n % every == 0) buf[--at] = (char)group;
        buf[--at] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[v % base];
    }
    return at;
}

static spark_status printf_int(j_ctx *j, j_text *t, int64_t v, const printf_spec *spec)
{
    char buf[128];
    const uint8_t type = spec->type | 32;
    const unsigned base = type == 'x' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    size_t at = printf_digits(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, base, spec->type == 'X', spec->group, buf, 100);
    while (spec->precision >= 0 && 100 - at < (uint64_t)spec->precision && at > 8) buf[--at] = '0';
    if (spec->alt && base != 10) {
        buf[--at] = (char)spec->type;
        buf[--at] = '0';
    }
    if (v < 0 || spec->sign) buf[--at] = v < 0 ? '-' : (char)spec->sign;
    const j_str s = {.ptr = (const uint8_t *)buf + at, .len = 100 - at};
    return printf_padded(j, t, &s, spec, true);
}

static spark_status printf_float(j_ctx *j, j_text *t, double f, const printf_spec *spec)
{
    char buf[512], fmt[8] = "%+#.*f";
    const char *point = localeconv()->decimal_point;
    size_t n = 0;
    const bool percent = spec->type == '%';
    if (spec->group) return spark__j_fail(j, SPARK_E_FORMAT, "grouping of a float is not supported");
    if (spec->precision > PRINTF_MAX_PRECISION)
        return spark__j_fail(j, SPARK_E_LIMIT, "more than %d digits", PRINTF_MAX_PRECISION);
    fmt[n++] = '%';
    if (spec->sign) fmt[n++] = (char)spec->sign;
    if (spec->alt) fmt[n++] = '#';
    memcpy(fmt + n, ".*", 2);
    fmt[n + 2] = percent ? 'f' : (char)spec->type;
    fmt[n + 3] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(buf, sizeof buf, fmt, (int)(spec->precision < 0 ? 6 : spec->precision), percent ? f * 100 : f);
#pragma GCC diagnostic pop
    char *where = strstr(buf, point); /* of the process's locale */
    if (where && strlen(point) == 1) *where = '.';
    n = strlen(buf);
    if (percent) buf[n++] = '%';
    const j_str s = {.ptr = (const uint8_t *)buf, .len = n};
    return printf_padded(j, t, &s, spec, true);
}

static bool printf_is_float_type(uint8_t c) { return c && memchr("eEfFgG", c, 6); }

/* ---- % ----------------------------------------------------------------------------------------------------------- */

/* Where the next values come from. */
typedef struct printf_args {
    j_val all;
    size_t used;
} printf_args;

static spark_status percent_next(j_ctx *j, printf_args *a, j_val *out)
{
    const bool tuple = a->all.type == J_TUPLE;
    if (a->used >= (tuple ? a->all.u.list->n : 1))
        return spark__j_fail(j, SPARK_E_FORMAT, "not enough arguments for format string");
    *out = tuple ? a->all.u.list->items[a->used] : a->all;
    a->used++;
    return SPARK_SUCCESS;
}

/* A number at *at, or a star. */
static spark_status percent_number(j_ctx *j, spark_bytes f, size_t *at, printf_args *args, int64_t *out)
{
    *out = 0;
    if (*at < f.len && f.ptr[*at] == '*') {
        j_val v;
        (*at)++;
        SPARK_TRY(percent_next(j, args, &v));
        if (!spark__j_is_integer(v)) return spark__j_fail(j, SPARK_E_FORMAT, "* wants int");
        *out = spark__j_integer(v);
        if (*out < 0) *out = 0;
        return SPARK_SUCCESS;
    }
    for (; *at < f.len && f.ptr[*at] >= '0' && f.ptr[*at] <= '9'; (*at)++)
        if (*out <= PRINTF_MAX_WIDTH) *out = *out * 10 + (f.ptr[*at] - '0');
    return SPARK_SUCCESS;
}

static spark_status percent_spec(j_ctx *j, spark_bytes f, size_t *at, printf_args *args, printf_spec *spec)
{
    for (; *at < f.len && memchr("-+ #0", f.ptr[*at], 5); (*at)++) {
        const uint8_t c = f.ptr[*at];
        if (c == '-') spec->align = '<';
        if (c == '+' || (c == ' ' && !spec->sign)) spec->sign = c;
        if (c == '#') spec->alt = true;
        if (c == '0') spec->zero = true;
    }
    if (spec->align) spec->zero = false;
    SPARK_TRY(percent_number(j, f, at, args, &spec->width));
    if (*at < f.len && f.ptr[*at] == '.') {
        (*at)++;
        SPARK_TRY(percent_number(j, f, at, args, &spec->precision));
    }
    while (*at < f.len && memchr("hlL", f.ptr[*at], 3)) (*at)++;
    if (*at >= f.len) return spark__j_fail(j, SPARK_E_FORMAT, "incomplete format");
    spec->type = f.ptr[(*at)++];
    return SPARK_SUCCESS;
}

static spark_status percent_value(j_ctx *j, j_text *t, j_val v, printf_spec *spec)
{
    const uint8_t c = spec->type;
    if (c == 's' || c == 'r' || c == 'c') {
        j_val s = v;
        if (c == 'r') {
            j_text *repr = NULL;
            bool foreign = false;
            SPARK_TRY(spark__j_text_new(j, 0, &repr));
            SPARK_TRY(spark__j_tainted(j, v, &foreign));
            SPARK_TRY(spark__j_add_repr(j, repr, v, foreign));
            SPARK_TRY(spark__j_text_done(j, repr, &s));
        } else if (c == 's') {
            SPARK_TRY(spark__j_str_of(j, v, &s));
        } else if (v.type != J_STR || spark__j_str_count(v.u.s) != 1) {
            return spark__j_fail(j, SPARK_E_FORMAT, "%%c requires a single character");
        }
        spec->zero = false;
        if (!spec->align) spec->align = '>';
        return printf_text(j, t, s, spec);
    }
    if (v.type == J_UNDEFINED) return spark__j_fail_undefined(j, v);
    if (!memchr("diuoxXeEfFgG", c, 12))
        return spark__j_fail(j, SPARK_E_FORMAT, "unsupported format character '%c'", c < 0x80 ? c : '?');
    if (!spark__j_is_number(v))
        return spark__j_fail(j, SPARK_E_FORMAT, "%%%c format: a number is required, not %s", c, spark__j_type_name(v));
    if (printf_is_float_type(c)) return printf_float(j, t, spark__j_double(v), spec);
    if (v.type == J_FLOAT && (memchr("oxX", c, 3) || !(v.u.f > -9e18 && v.u.f < 9e18)))
        return spark__j_fail(j, SPARK_E_FORMAT, "%%%c format: an integer is required", c);
    return printf_int(j, t, v.type == J_FLOAT ? (int64_t)v.u.f : spark__j_integer(v), spec);
}

/* %(name): the value of that key. */
static spark_status percent_key(j_ctx *j, spark_bytes f, size_t *at, const printf_args *args, j_val *out)
{
    const size_t end = spark__j_find_bytes(f, SPARK_BYTES_LITERAL(")"), *at);
    if (end == SIZE_MAX) return spark__j_fail(j, SPARK_E_FORMAT, "incomplete format key");
    if (args->all.type != J_DICT) return spark__j_fail(j, SPARK_E_FORMAT, "format requires a mapping");
    *out = spark__j_dict_find(args->all.u.dict, (spark_bytes){f.ptr + *at + 1, end - *at - 1});
    if (out->type == J_MISSING) return spark__j_fail(j, SPARK_E_FORMAT, "format key is not in the mapping");
    *at = end + 1;
    return SPARK_SUCCESS;
}

spark_status spark__j_percent(j_ctx *j, const j_str *fmt, j_val args, j_val *out)
{
    const spark_bytes f = spark__j_bytes(fmt);
    printf_args values = {.all = args};
    j_text *t = NULL;
    j_val part, v = {.type = J_MISSING};
    SPARK_TRY(spark__j_text_new(j, fmt->len, &t));
    for (size_t at = 0; at < f.len;) {
        const size_t next = spark__j_find_bytes(f, SPARK_BYTES_LITERAL("%"), at);
        const size_t end = next == SIZE_MAX ? f.len : next;
        SPARK_TRY(spark__j_steps(j, 1));
        SPARK_TRY(spark__j_str_sub(j, fmt, at, end, &part));
        SPARK_TRY(spark__j_text_str(j, t, part.u.s));
        at = end + 1;
        if (next == SIZE_MAX) break;
        if (at < f.len && f.ptr[at] == '%') {
            SPARK_TRY(spark__j_str_sub(j, fmt, at, at + 1, &part));
            SPARK_TRY(spark__j_text_str(j, t, part.u.s));
            at++;
            continue;
        }
        printf_spec spec = {.precision = -1};
        const bool keyed = at < f.len && f.ptr[at] == '(';
        if (keyed) SPARK_TRY(percent_key(j, f, &at, &values, &v));
        SPARK_TRY(percent_spec(j, f, &at, &values, &spec));
        if (!keyed) SPARK_TRY(percent_next(j, &values, &v));
        SPARK_TRY(percent_value(j, t, v, &spec));
    }
    const bool mapping = args.type == J_DICT || args.type == J_LIST;
    if (!mapping && values.used < (args.type == J_TUPLE ? args.u.list->n : 1))
        return spark__j_fail(j, SPARK_E_FORMAT, "not all arguments converted during string formatting");
    return printf_done(j, fmt, t, out);
}

/* ---- format ------------------------------------------------------------------------------------------------------ */

typedef struct format_state {
    const j_args *args;
    uint32_t next; /* automatic numbering */
    bool automatic, manual;
} format_state;

static bool format_is_align(uint8_t c) { return c == '<' || c == '>' || c == '^' || c == '='; }

static size_t format_int(spark_bytes b, size_t at, int64_t *out)
{
    *out = 0;
    for (; at < b.len && b.ptr[at] >= '0' && b.ptr[at] <= '9'; at++)
        if (*out <= PRINTF_MAX_WIDTH) *out = *out * 10 + (b.ptr[at] - '0');
    return at;
}

/* [[fill]align][sign][#][0][width][grouping][.precision][type] */
static spark_status format_spec(j_ctx *j, spark_bytes b, printf_spec *spec)
{
    const j_str text = {.ptr = b.ptr, .len = b.len};
    j_chars c = spark__j_chars(&text);
    size_t at = 0;
    *spec = (printf_spec){.precision = -1};
    if (spark__j_chars_next(&c) && c.pos < b.len && format_is_align(b.ptr[c.pos])) {
        spec->fill = c.cp;
        spec->align = b.ptr[c.pos];
        at = c.pos + 1;
    } else if (b.len && format_is_align(b.ptr[0])) {
        spec->align = b.ptr[at++];
    }
    if (at < b.len && memchr("+- ", b.ptr[at], 3)) {
        spec->sign = b.ptr[at] == '-' ? 0 : b.ptr[at];
        at++;
    }
    if (at < b.len && b.ptr[at] == '#') spec->alt = b.ptr[at++];
    if (at < b.len && b.ptr[at] == '0') spec->zero = b.ptr[at++];
    at = format_int(b, at, &spec->width);
    if (at < b.len && (b.ptr[at] == ',' || b.ptr[at] == '_')) spec->group = b.ptr[at++];
    if (at < b.len && b.ptr[at] == '.') {
        const size_t digits = at + 1;
        at = format_int(b, digits, &spec->precision);
        if (at == digits) return spark__j_fail(j, SPARK_E_FORMAT, "format specifier missing precision");
    }
    if (at < b.len) spec->type = b.ptr[at++];
    if (at != b.len) return spark__j_fail(j, SPARK_E_FORMAT, "invalid format specifier");
    return SPARK_SUCCESS;
}

static spark_status format_value(j_ctx *j, j_text *t, j_val v, spark_bytes spec_text)
{
    printf_spec spec;
    SPARK_TRY(format_spec(j, spec_text, &spec));
    if (spec_text.len == 0) return spark__j_add_value(j, t, v);
    if (v.type == J_STR && (spec.type == 0 || spec.type == 's')) return printf_text(j, t, v, &spec);
    if (spark__j_is_number(v)) {
        if (printf_is_float_type(spec.type) || spec.type == '%') return printf_float(j, t, spark__j_double(v), &spec);
        if (spark__j_is_integer(v) && (spec.type == 0 || memchr("dxXob", spec.type, 5)))
            return printf_int(j, t, spark__j_integer(v), &spec);
        if (v.type == J_FLOAT && spec.type == 0 && spec.precision < 0 && !spec.group) {
            j_val s;
            SPARK_TRY(spark__j_str_of(j, v, &s));
            return printf_padded(j, t, s.u.s, &spec, true);
        }
    }
    return spark__j_fail(j, SPARK_E_FORMAT, "unsupported format for a value of type %s", spark__j_type_name(v));
}

/* name, number or nothing, then .attribute and [key]. */
static spark_status format_field(j_ctx *j, format_state *st, spark_bytes name, j_val *out)
{
    size_t at = 0;
    int64_t index = 0;
    while (at < name.len && name.ptr[at] != '.' && name.ptr[at] != '[') at++;
    const spark_bytes first = {name.ptr, at};
    const bool number = format_int(first, 0, &index) == at;
    st->automatic = st->automatic || at == 0;
    st->manual = st->manual || (at && number);
    if (st->automatic && st->manual)
        return spark__j_fail(j, SPARK_E_FORMAT, "cannot mix automatic and manual field numbering");
    *out = (j_val){.type = J_MISSING};
    if (at == 0) index = st->next++;
    if (number && index < st->args->n_pos) *out = st->args->pos[index];
    for (uint32_t i = 0; i < st->args->n_named && !number; i++)
        if (spark_bytes_equal(st->args->keys[i], first)) *out = st->args->named[i];
    if (out->type == J_MISSING) return spark__j_fail(j, SPARK_E_FORMAT, "no argument for a field of format()");
    while (at < name.len) {
        const bool item = name.ptr[at++] == '[';
        const size_t begin = at;
        while (at < name.len && (item ? name.ptr[at] != ']' : name.ptr[at] != '.' && name.ptr[at] != '[')) at++;
        const spark_bytes part = {name.ptr + begin, at - begin};
        j_val key;
        if (item) at++;
        SPARK_TRY(spark__j_str_new(j, part, false, &key));
        if (item && part.len && format_int(part, 0, &index) == part.len) key = spark__j_int(index);
        SPARK_TRY(item ? spark__j_getitem(j, *out, key, out) : spark__j_getattr(j, *out, part, out));
    }
    return SPARK_SUCCESS;
}

static spark_status format_replacement(j_ctx *j, format_state *st, j_text *t, spark_bytes field)
{
    size_t colon = 0, bang = 0;
    j_val v;
    while (colon < field.len && field.ptr[colon] != ':') colon++;
    bang = colon;
    if (bang >= 2 && field.ptr[bang - 2] == '!') bang -= 2;
    const uint8_t conversion = bang < colon ? field.ptr[bang + 1] : 0;
    if (conversion && conversion != 's' && conversion != 'r')
        return spark__j_fail(j, SPARK_E_FORMAT, "unknown conversion specifier");
    SPARK_TRY(format_field(j, st, (spark_bytes){field.ptr, bang}, &v));
    if (conversion == 's') SPARK_TRY(spark__j_str_of(j, v, &v));
    if (conversion == 'r') {
        j_text *repr = NULL;
        bool foreign = false;
        SPARK_TRY(spark__j_text_new(j, 0, &repr));
        SPARK_TRY(spark__j_tainted(j, v, &foreign));
        SPARK_TRY(spark__j_add_repr(j, repr, v, foreign));
        SPARK_TRY(spark__j_text_done(j, repr, &v));
    }
    const size_t spec = colon < field.len ? colon + 1 : colon;
    return format_value(j, t, v, (spark_bytes){field.ptr + spec, field.len - spec});
}

spark_status spark__j_format(j_ctx *j, const j_str *fmt, const j_args *args, j_val *out)
{
    const spark_bytes f = spark__j_bytes(fmt);
    format_state st = {.args = args};
    j_text *t = NULL;
    j_val part;
    SPARK_TRY(spark__j_text_new(j, fmt->len, &t));
    for (size_t at = 0; at < f.len;) {
        size_t end = at;
        while (end < f.len && f.ptr[end] != '{' && f.ptr[end] != '}') end++;
        const bool twice = end + 1 < f.len && f.ptr[end] == f.ptr[end + 1];
        SPARK_TRY(spark__j_steps(j, 1));
        SPARK_TRY(spark__j_str_sub(j, fmt, at, end + twice, &part));
        SPARK_TRY(spark__j_text_str(j, t, part.u.s));
        at = end + 1 + twice;
        if (end == f.len || twice) continue;
        if (f.ptr[end] == '}') return spark__j_fail(j, SPARK_E_FORMAT, "single '}' encountered in format string");
        while (at < f.len && f.ptr[at] != '}' && f.ptr[at] != '{') at++;
        if (at == f.len) return spark__j_fail(j, SPARK_E_FORMAT, "expected '}' before end of string");
        if (f.ptr[at] == '{') return spark__j_fail(j, SPARK_E_FORMAT, "fields within fields are not supported");
        SPARK_TRY(format_replacement(j, &st, t, (spark_bytes){f.ptr + end + 1, at - end - 1}));
        at++;
    }
    return printf_done(j, fmt, t, out);
}

/* ---- strftime ---------------------------------------------------------------------------------------------------- */

/* English names whatever the locale: the same request gives the same bytes. */
static const char *const time_days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const time_months[] = {"January", "February", "March",     "April",   "May",      "June",
                                          "July",    "August",   "September", "October", "November", "December"};

static spark_status time_number(j_ctx *j, j_text *t, int v, int width, uint8_t flag, bool foreign)
{
    if (flag == '-') width = 1;
    if (flag == '_') return spark__j_text_fmt(j, t, foreign, "%*d", width, v);
    return spark__j_text_fmt(j, t, foreign, "%0*d", width, v);
}

static spark_status time_name(j_ctx *j, j_text *t, const char *name, bool whole, bool foreign)
{
    spark_bytes b = spark_bytes_of(name);
    if (!whole) b.len = 3;
    return spark__j_text_add(j, t, b, foreign);
}

static spark_status time_directive(j_ctx *j, j_text *t, uint8_t c, uint8_t flag, bool foreign)
{
    static const struct {
        char c;
        const char *expansion;
    } composed[] = {{'D', "mdy/"}, {'F', "Ymd-"}, {'T', "HMS:"}, {'X', "HMS:"}, {'x', "mdy/"}, {'R', "HM:"}};
    const struct tm *n = j->now;
    const int hour12 = n->tm_hour % 12 ? n->tm_hour % 12 : 12;
    const struct {
        char c;
        int value, width;
    } numbers[] = {{'d', n->tm_mday, 2},
                   {'e', n->tm_mday, 2},
                   {'m', n->tm_mon + 1, 2},
                   {'H', n->tm_hour, 2},
                   {'I', hour12, 2},
                   {'M', n->tm_min, 2},
                   {'S', n->tm_sec, 2},
                   {'j', n->tm_yday + 1, 3},
                   {'Y', n->tm_year + 1900, 4},
                   {'w', n->tm_wday, 1},
                   {'y', (n->tm_year + 1900) % 100, 2},
                   {'u', n->tm_wday ? n->tm_wday : 7, 1},
                   {'f', 0, 6}};
    if (n->tm_year < -1900 || n->tm_year > 8099 || n->tm_wday < 0 || n->tm_wday > 6 || n->tm_mon < 0 || n->tm_mon > 11)
        return spark__j_fail(j, SPARK_E_ARGUMENT, "the time given for strftime_now is not a valid one");
    for (size_t i = 0; i < SPARK_COUNT(numbers); i++)
        if (c == (uint8_t)numbers[i].c)
            return time_number(j, t, numbers[i].value, numbers[i].width, c == 'e' && !flag ? '_' : flag, foreign);
    for (size_t i = 0; i < SPARK_COUNT(composed); i++) {
        const char *e = composed[i].expansion;
        const size_t len = strlen(e);
        for (size_t k = 0; c == (uint8_t)composed[i].c && k + 1 < len; k++) {
            if (k) SPARK_TRY(spark__j_text_char(j, t, (uint8_t)e[len - 1], foreign));
            SPARK_TRY(time_directive(j, t, (uint8_t)e[k], 0, foreign));
        }
        if (c == (uint8_t)composed[i].c) return SPARK_SUCCESS;
    }
    if (c == 'a' || c == 'A') return time_name(j, t, time_days[n->tm_wday], c == 'A', foreign);
    if (c == 'b' || c == 'B' || c == 'h') return time_name(j, t, time_months[n->tm_mon], c == 'B', foreign);
    if (c == 'p') return spark__j_text_add(j, t, spark_bytes_of(n->tm_hour < 12 ? "AM" : "PM"), foreign);
    if (c == '%') return spark__j_text_char(j, t, '%', foreign);
    if (c == 'z' || c == 'Z') return SPARK_SUCCESS; /* the local time of Python is naive */
    return spark__j_fail(j, SPARK_E_FORMAT, "strftime directive '%%%c' is not supported", c > 32 && c < 127 ? c : '?');
}

spark_status spark__j_strftime(j_ctx *j, const j_str *fmt, j_val *out)
{
    j_text *t = NULL;
    const spark_bytes f = spark__j_bytes(fmt);
    const bool foreign = spark__j_str_foreign(fmt, 0, fmt->len);
    if (!j->now) return spark__j_fail(j, SPARK_E_ARGUMENT, "strftime_now: no time was given");
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    SPARK_TRY(spark__j_steps(j, f.len));
    for (size_t at = 0; at < f.len;) {
        if (f.ptr[at] != '%' || at + 1 == f.len) {
            SPARK_TRY(spark__j_text_add(j, t, (spark_bytes){f.ptr + at++, 1}, foreign));
            continue;
        }
        at++;
        const uint8_t flag = (f.ptr[at] == '-' || f.ptr[at] == '_') && at + 1 < f.len ? f.ptr[at++] : 0;
        SPARK_TRY(time_directive(j, t, f.ptr[at++], flag, foreign));
    }
    return spark__j_text_done(j, t, out);
}
