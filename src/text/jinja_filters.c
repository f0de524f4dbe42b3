/* jinja_filters.c - `value | filter(arguments)`: those of Jinja2, with tojson as the Hugging Face libraries define it.
 * Generators of Python are computed at once here, but still walk only once and have no length. */
#include <string.h>

#include "text/jinja_internal.h"

static bool filter_flag(j_val v, bool absent) { return v.type == J_MISSING ? absent : spark__j_truth(v); }

/* The value as a string, markup kept (soft_str). */
static spark_status filter_str(j_ctx *j, j_val v, const j_str **out)
{
    j_val s;
    SPARK_TRY(spark__j_str_of(j, v, &s));
    *out = s.u.s;
    return SPARK_SUCCESS;
}

static spark_status filter_int_arg(j_ctx *j, j_val v, int64_t absent, int64_t *out)
{
    *out = absent;
    if (v.type == J_MISSING) return SPARK_SUCCESS;
    if (!spark__j_is_integer(v))
        return spark__j_fail(j, SPARK_E_FORMAT, "'%s' object cannot be interpreted as an integer",
                             spark__j_type_name(v));
    *out = spark__j_integer(v);
    return SPARK_SUCCESS;
}

/* ---- getters: attribute="a.b.0" ---------------------------------------------------------------------------------- */

static spark_status filter_path(j_ctx *j, j_val item, spark_bytes path, j_val *out)
{
    *out = item;
    for (size_t at = 0; at <= path.len;) {
        size_t end = at;
        int64_t n = 0;
        bool digits = true;
        for (; end < path.len && path.ptr[end] != '.'; end++) {
            digits = digits && path.ptr[end] >= '0' && path.ptr[end] <= '9' && n < 1000000000;
            if (digits) n = n * 10 + (path.ptr[end] - '0');
        }
        j_val key = spark__j_int(n);
        if (!digits || end == at) SPARK_TRY(spark__j_str_new(j, (spark_bytes){path.ptr + at, end - at}, false, &key));
        SPARK_TRY(spark__j_getitem(j, *out, key, out));
        at = end + 1;
    }
    return SPARK_SUCCESS;
}

/* What `attribute` selects of an item; the item itself if there is none. */
static spark_status filter_get(j_ctx *j, j_val item, j_val attribute, j_val absent, j_val *out)
{
    SPARK_TRY(spark__j_steps(j, 1));
    *out = item;
    if (attribute.type == J_MISSING || attribute.type == J_NONE) return SPARK_SUCCESS;
    if (attribute.type == J_STR) SPARK_TRY(spark__j_steps(j, attribute.u.s->len / 16));
    if (attribute.type == J_STR)
        SPARK_TRY(filter_path(j, item, spark__j_bytes(attribute.u.s), out));
    else
        SPARK_TRY(spark__j_getitem(j, item, attribute, out));
    if (out->type == J_UNDEFINED && absent.type != J_MISSING && absent.type != J_NONE) *out = absent;
    return SPARK_SUCCESS;
}

/* The same as a key to compare by: texts in lower case unless case matters. */
static spark_status filter_key(j_ctx *j, j_val item, j_val attribute, bool case_sensitive, j_val *out)
{
    SPARK_TRY(filter_get(j, item, attribute, (j_val){.type = J_MISSING}, out));
    if (out->type != J_STR || case_sensitive) return SPARK_SUCCESS;
    return spark__j_str_case(j, out->u.s, J_CASE_LOWER, out);
}

/* sort(attribute="a,b"): a list of keys. */
static spark_status filter_sort_key(j_ctx *j, j_val item, j_val attribute, bool case_sensitive, j_val *out)
{
    if (attribute.type != J_STR || attribute.u.s->len == 0 || !memchr(attribute.u.s->ptr, ',', attribute.u.s->len))
        return filter_key(j, item, attribute, case_sensitive, out);
    const spark_bytes all = spark__j_bytes(attribute.u.s);
    size_t n = 1, part = 0, begin = 0;
    for (size_t i = 0; i < all.len; i++) n += all.ptr[i] == ',';
    SPARK_TRY(spark__j_list_new(j, J_LIST, n, out));
    for (size_t i = 0; i <= all.len; i++) {
        if (i < all.len && all.ptr[i] != ',') continue;
        j_val name;
        SPARK_TRY(spark__j_str_sub(j, attribute.u.s, begin, i, &name));
        SPARK_TRY(filter_key(j, item, name, case_sensitive, &out->u.list->items[part++]));
        begin = i + 1;
    }
    return SPARK_SUCCESS;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static spark_status filter_case(j_ctx *j, j_val self, j_case how, j_val *out)
{
    const j_str *s = NULL;
    SPARK_TRY(filter_str(j, self, &s));
    return spark__j_str_case(j, s, how, out);
}

static spark_status filter_upper(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return filter_case(j, self, J_CASE_UPPER, out);
}

static spark_status filter_lower(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return filter_case(j, self, J_CASE_LOWER, out);
}

static spark_status filter_title(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return filter_case(j, self, J_CASE_JINJA_TITLE, out);
}

static spark_status filter_capitalize(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return filter_case(j, self, J_CASE_CAPITALIZE, out);
}

/* Filters that are a method of the text: self as text, then the method with the same arguments. */
static spark_status filter_by_method(j_ctx *j, j_val self, const char *method, const j_args *a, j_val *out)
{
    bool mutates = false;
    j_val s;
    uint32_t n = a->n_pos;
    SPARK_TRY(spark__j_str_of(j, self, &s));
    while (n > 0 && (a->pos[n - 1].type == J_MISSING || a->pos[n - 1].type == J_NONE)) n--;
    const j_builtin *fn = spark__j_method_of(s, spark_bytes_of(method), &mutates);
    return spark__j_invoke(j, fn, "filter", s, &(j_args){.pos = a->pos, .n_pos = n}, out);
}

static spark_status filter_trim(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_by_method(j, self, "strip", a, out);
}

static spark_status filter_replace(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_val args[3] = {a->pos[0], a->pos[1], a->pos[2]};
    SPARK_TRY(spark__j_str_of(j, a->pos[0], &args[0])); /* str(old), str(new) */
    SPARK_TRY(spark__j_str_of(j, a->pos[1], &args[1]));
    return filter_by_method(j, self, "replace", &(j_args){.pos = args, .n_pos = 3}, out);
}

static spark_status filter_center(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_val width = a->pos[0].type == J_MISSING ? spark__j_int(80) : a->pos[0];
    return filter_by_method(j, self, "center", &(j_args){.pos = &width, .n_pos = 1}, out);
}

static spark_status filter_string(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return spark__j_str_of(j, self, out);
}

static spark_status filter_safe(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_val s;
    (void)a;
    SPARK_TRY(spark__j_str_of(j, self, &s));
    SPARK_TRY(spark__j_str_sub(j, s.u.s, 0, s.u.s->len, out));
    j_str *marked = (j_str *)out->u.s; /* made just above */
    marked->markup = true;
    return SPARK_SUCCESS;
}

static spark_status filter_escape(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = NULL;
    (void)a;
    SPARK_TRY(filter_str(j, self, &s));
    return spark__j_escape(j, s, out);
}

static spark_status filter_format(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = NULL;
    j_val args;
    SPARK_TRY(filter_str(j, self, &s));
    if (a->n_named && a->n_pos)
        return spark__j_fail(j, SPARK_E_FORMAT, "can't handle positional and keyword arguments at the same time");
    SPARK_TRY(spark__j_list(j, J_TUPLE, a->pos, a->n_pos, &args));
    if (a->n_named) {
        j_dict *d = NULL;
        SPARK_TRY(spark__j_dict_new(j, a->n_named, &d));
        for (uint32_t i = 0; i < a->n_named; i++) {
            j_val key;
            SPARK_TRY(spark__j_str_new(j, a->keys[i], false, &key));
            SPARK_TRY(spark__j_dict_put(j, d, key, a->named[i]));
        }
        args = (j_val){.type = J_DICT, .u.dict = d};
    }
    return spark__j_percent(j, s, args, out);
}

static spark_status filter_indent(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const bool first = filter_flag(a->pos[1], false), blank = filter_flag(a->pos[2], false);
    bool mutates = false;
    int64_t width = 4;
    j_val s, lines, indent = a->pos[0];
    j_text *t = NULL;
    SPARK_TRY(spark__j_str_of(j, self, &s));
    if (indent.type != J_STR) {
        SPARK_TRY(filter_int_arg(j, indent, 4, &width));
        SPARK_TRY(spark__j_str_new(j, SPARK_BYTES_LITERAL(" "), false, &indent));
        SPARK_TRY(spark__j_binary(j, JT_MUL, indent, spark__j_int(width), &indent));
    }
    const j_builtin *split = spark__j_method_of(s, SPARK_BYTES_LITERAL("splitlines"), &mutates);
    SPARK_TRY(spark__j_invoke(j, split, "filter", s, &(j_args){0}, &lines));
    const j_list *v = lines.u.list;
    const uint8_t *last = s.u.s->len ? s.u.s->ptr + s.u.s->len - 1 : NULL;
    const bool ends = !last || *last == '\n'; /* Jinja adds a newline before it splits: then an empty line is last */
    SPARK_TRY(spark__j_text_new(j, s.u.s->len, &t));
    const size_t n = v->n + (ends && s.u.s->len ? 1 : 0) + (last ? 0 : 1);
    for (size_t i = 0; i < n; i++) {
        const bool empty = i >= v->n || v->items[i].u.s->len == 0;
        if (i) SPARK_TRY(spark__j_text_add(j, t, SPARK_BYTES_LITERAL("\n"), false));
        if (i ? blank || !empty : first) SPARK_TRY(spark__j_text_str(j, t, indent.u.s));
        if (i < v->n) SPARK_TRY(spark__j_text_str(j, t, v->items[i].u.s));
    }
    return spark__j_text_done(j, t, out);
}

static spark_status filter_join(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *sep = NULL;
    j_list items;
    j_text *t = NULL;
    if (a->pos[0].type != J_MISSING) SPARK_TRY(filter_str(j, a->pos[0], &sep));
    SPARK_TRY(spark__j_items(j, self, &items));
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    for (size_t i = 0; i < items.n; i++) {
        j_val v;
        SPARK_TRY(filter_get(j, items.items[i], a->pos[1], (j_val){.type = J_MISSING}, &v));
        if (i && sep) SPARK_TRY(spark__j_text_str(j, t, sep));
        SPARK_TRY(spark__j_add_value(j, t, v));
    }
    return spark__j_text_done(j, t, out);
}

static spark_status filter_wordcount(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = NULL;
    int64_t n = 0;
    bool inside = false;
    (void)a;
    SPARK_TRY(filter_str(j, self, &s));
    SPARK_TRY(spark__j_steps(j, s->len / 8));
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c);) {
        const bool word = spark__j_is_word(c.cp);
        n += word && !inside;
        inside = word;
    }
    *out = spark__j_int(n);
    return SPARK_SUCCESS;
}

static spark_status filter_tojson(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_json_style style = {.ascii = filter_flag(a->pos[0], false), .sort_keys = filter_flag(a->pos[3], false)};
    const j_val indent = a->pos[1], separators = a->pos[2];
    j_val text;
    if (indent.type == J_STR) {
        style.indent = indent.u.s;
    } else if (indent.type != J_MISSING && indent.type != J_NONE) {
        int64_t n = 0;
        SPARK_TRY(filter_int_arg(j, indent, 0, &n));
        SPARK_TRY(spark__j_str_new(j, SPARK_BYTES_LITERAL(" "), false, &text));
        SPARK_TRY(spark__j_binary(j, JT_MUL, text, spark__j_int(n), &text));
        style.indent = text.u.s;
    }
    if (separators.type == J_TUPLE || separators.type == J_LIST) {
        const j_list *l = separators.u.list;
        if (l->n != 2 || l->items[0].type != J_STR || l->items[1].type != J_STR)
            return spark__j_fail(j, SPARK_E_FORMAT, "separators must be two strings");
        style.item_sep = l->items[0].u.s;
        style.key_sep = l->items[1].u.s;
    } else if (separators.type != J_MISSING && separators.type != J_NONE) {
        return spark__j_fail(j, SPARK_E_FORMAT, "separators must be two strings");
    }
    return spark__j_json(j, self, &style, out);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

/* int(text, base) of Python: white space around, a sign, a prefix that fits the base, single underscores. */
static bool filter_parse_int(spark_bytes b, int64_t base, int64_t *out, bool *too_big)
{
    const size_t head = spark__j_space_prefix(b);
    b = (spark_bytes){b.ptr + head, b.len - head};
    b.len -= spark__j_space_suffix(b);
    const bool negative = b.len && b.ptr[0] == '-';
    size_t at = b.len && (b.ptr[0] == '-' || b.ptr[0] == '+');
    int64_t v = 0;
    bool digit = false;
    if (b.len > at + 2 && b.ptr[at] == '0') {
        const int kind = b.ptr[at + 1] | 32, of = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : -1;
        if (of == base || (base == 0 && of > 0)) at += 2;
        if (base == 0 && of > 0) base = of;
    }
    if (base == 0) base = 10;
    for (; at < b.len; at++) {
        const int c = b.ptr[at], low = c | 32;
        const int d = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'z' ? low - 'a' + 10 : 99;
        if (c == '_' && digit && at + 1 < b.len && b.ptr[at + 1] != '_') continue;
        if (d >= base) return false;
        digit = true;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_sub_overflow(v, (int64_t)d, &v)) *too_big = true;
    }
    if (digit && !negative && v == INT64_MIN) *too_big = true;
    *out = negative || *too_big ? v : -v;
    return digit;
}

static bool filter_parse_float(spark_bytes b, double *out)
{
    const size_t head = spark__j_space_prefix(b);
    b = (spark_bytes){b.ptr + head, b.len - head};
    b.len -= spark__j_space_suffix(b);
    return spark__j_parse_double(b, out);
}

static spark_status filter_int(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    double f = 0;
    int64_t v = 0, base = 10;
    bool too_big = false, ok = false;
    SPARK_TRY(filter_int_arg(j, a->pos[1], 10, &base));
    if (self.type == J_UNDEFINED) return spark__j_fail_undefined(j, self);
    if (self.type == J_STR) SPARK_TRY(spark__j_steps(j, self.u.s->len / 16));
    *out = a->pos[0].type == J_MISSING ? spark__j_int(0) : a->pos[0];
    if (spark__j_is_integer(self)) {
        *out = spark__j_int(spark__j_integer(self));
    } else if (self.type == J_STR && (base == 0 || (base >= 2 && base <= 36)) &&
               filter_parse_int(spark__j_bytes(self.u.s), base, &v, &too_big)) {
        if (too_big) return spark__j_fail(j, SPARK_E_LIMIT, "integer needs more than 64 bits");
        *out = spark__j_int(v);
    } else {
        if (self.type == J_FLOAT) f = self.u.f;
        ok = self.type == J_FLOAT || (self.type == J_STR && filter_parse_float(spark__j_bytes(self.u.s), &f));
        if (ok && f - f == 0) {
            if (!(f > -9.2e18 && f < 9.2e18)) return spark__j_fail(j, SPARK_E_LIMIT, "integer needs more than 64 bits");
            *out = spark__j_int((int64_t)f);
        }
    }
    return SPARK_SUCCESS;
}

static spark_status filter_float(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    double f = 0;
    if (self.type == J_UNDEFINED) return spark__j_fail_undefined(j, self);
    if (self.type == J_STR) SPARK_TRY(spark__j_steps(j, self.u.s->len / 16));
    *out = a->pos[0].type == J_MISSING ? spark__j_float(0) : a->pos[0];
    if (spark__j_is_number(self)) *out = spark__j_float(spark__j_double(self));
    if (self.type == J_STR && filter_parse_float(spark__j_bytes(self.u.s), &f)) *out = spark__j_float(f);
    return SPARK_SUCCESS;
}

static spark_status filter_need_number(j_ctx *j, j_val v)
{
    if (v.type == J_UNDEFINED) return spark__j_fail_undefined(j, v);
    if (spark__j_is_number(v)) return SPARK_SUCCESS;
    return spark__j_fail(j, SPARK_E_FORMAT, "a number is needed, not a value of type %s", spark__j_type_name(v));
}

static spark_status filter_abs(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    SPARK_TRY(filter_need_number(j, self));
    *out = self.type == J_BOOL ? spark__j_int(self.u.b) : self;
    if (self.type == J_INT && self.u.i < 0) return spark__j_binary(j, JT_SUB, spark__j_int(0), self, out);
    if (self.type == J_FLOAT && self.u.f < 0) *out = spark__j_float(-self.u.f);
    return SPARK_SUCCESS;
}

static spark_status filter_round(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    int64_t precision = 0;
    char text[400];
    double scale = 1;
    SPARK_TRY(filter_need_number(j, self));
    SPARK_TRY(filter_int_arg(j, a->pos[0], 0, &precision));
    const j_val method = a->pos[1];
    if (precision < 0 || precision > 20) return spark__j_fail(j, SPARK_E_FORMAT, "round: precision must be 0 to 20");
    if (method.type == J_MISSING || (method.type == J_STR && spark_bytes_is(spark__j_bytes(method.u.s), "common"))) {
        *out = self.type == J_BOOL ? spark__j_int(self.u.b) : self;
        if (self.type != J_FLOAT || self.u.f - self.u.f != 0) return SPARK_SUCCESS;
        const int n = spark__j_fixed(self.u.f, (int)precision, text, sizeof text);
        double rounded = self.u.f; /* the decimal text rounds exactly, as Python's round does */
        (void)(spark__j_parse_double((spark_bytes){(const uint8_t *)text, (size_t)n}, &rounded));
        *out = spark__j_float(rounded);
        return SPARK_SUCCESS;
    }
    const bool ceil = method.type == J_STR && spark_bytes_is(spark__j_bytes(method.u.s), "ceil");
    if (!ceil && !(method.type == J_STR && spark_bytes_is(spark__j_bytes(method.u.s), "floor")))
        return spark__j_fail(j, SPARK_E_FORMAT, "method must be common, ceil or floor");
    for (int64_t i = 0; i < precision; i++) scale *= 10;
    const double f = spark__j_double(self) * scale;
    if (!(f > -9e15 && f < 9e15)) { /* no fraction left */
        *out = spark__j_float(f / scale);
        return SPARK_SUCCESS;
    }
    double whole = (double)(int64_t)f;
    if (ceil && whole < f) whole += 1;
    if (!ceil && whole > f) whole -= 1;
    *out = spark__j_float(whole / scale);
    return SPARK_SUCCESS;
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

static spark_status filter_length(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    size_t n = 0;
    (void)a;
    if (!spark__j_length(self, &n))
        return spark__j_fail(j, SPARK_E_FORMAT, "object of type '%s' has no len()", spark__j_type_name(self));
    if (self.type == J_STR) SPARK_TRY(spark__j_steps(j, self.u.s->len / 64));
    *out = spark__j_int((int64_t)n);
    return SPARK_SUCCESS;
}

static spark_status filter_list(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items;
    (void)a;
    SPARK_TRY(spark__j_items(j, self, &items));
    SPARK_TRY(spark__j_list(j, J_LIST, items.items, items.n, out));
    out->u.list->foreign = items.foreign;
    return SPARK_SUCCESS;
}

static spark_status filter_first(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items;
    (void)a;
    if (self.type == J_ITER) { /* takes one, leaves the rest */
        j_list *l = self.u.list;
        if (l->pos == l->n) return spark__j_undefined_hint(j, "No first item, sequence was empty.", out);
        *out = l->items[l->pos++];
        return SPARK_SUCCESS;
    }
    if (self.type == J_STR && self.u.s->len) return spark__j_getitem(j, self, spark__j_int(0), out);
    SPARK_TRY(spark__j_items(j, self, &items));
    if (items.n == 0) return spark__j_undefined_hint(j, "No first item, sequence was empty.", out);
    *out = items.items[0];
    return SPARK_SUCCESS;
}

static spark_status filter_last(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items;
    (void)a;
    if (self.type == J_ITER)
        return spark__j_fail(j, SPARK_E_FORMAT, "'%s' object is not reversible", spark__j_type_name(self));
    if (self.type == J_STR && self.u.s->len) return spark__j_getitem(j, self, spark__j_int(-1), out);
    SPARK_TRY(spark__j_items(j, self, &items));
    if (items.n == 0) return spark__j_undefined_hint(j, "No last item, sequence was empty.", out);
    *out = items.items[items.n - 1];
    return SPARK_SUCCESS;
}

static spark_status filter_reverse(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items, reversed;
    (void)a;
    const j_val bounds[3] = {spark__j_none(), spark__j_none(), spark__j_int(-1)};
    if (self.type == J_STR) return spark__j_slice(j, self, bounds, out);
    SPARK_TRY(spark__j_items(j, self, &items));
    reversed = items;
    SPARK_TRY(J_NEW(j, items.n, &reversed.items));
    for (size_t i = 0; i < items.n; i++) reversed.items[i] = items.items[items.n - 1 - i];
    SPARK_TRY(spark__j_steps(j, items.n / 8));
    return spark__j_iter(j, "list_reverseiterator", reversed, out);
}

static spark_status filter_sort(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const bool reverse = filter_flag(a->pos[0], false), case_sensitive = filter_flag(a->pos[1], false);
    j_list items;
    j_val *keys = NULL;
    SPARK_TRY(spark__j_items(j, self, &items));
    SPARK_TRY(spark__j_list(j, J_LIST, items.items, items.n, out));
    SPARK_TRY(J_NEW(j, items.n, &keys));
    for (size_t i = 0; i < items.n; i++)
        SPARK_TRY(filter_sort_key(j, items.items[i], a->pos[2], case_sensitive, &keys[i]));
    out->u.list->foreign = items.foreign;
    return spark__j_sort(j, keys, out->u.list->items, items.n, reverse);
}

static spark_status filter_need_dict(j_ctx *j, j_val self)
{
    if (self.type == J_UNDEFINED) return spark__j_fail_undefined(j, self);
    if (self.type == J_DICT) return SPARK_SUCCESS;
    return spark__j_fail(j, SPARK_E_FORMAT, "Can only get item pairs from a mapping, not from %s",
                         spark__j_type_name(self));
}

static spark_status filter_pairs(j_ctx *j, const j_dict *d, j_list *out)
{
    *out = (j_list){.n = d->n};
    SPARK_TRY(J_NEW(j, d->n, &out->items));
    for (size_t i = 0; i < d->n; i++) {
        const j_val pair[2] = {d->pairs[i].key, d->pairs[i].val};
        SPARK_TRY(spark__j_list(j, J_TUPLE, pair, 2, &out->items[i]));
    }
    return spark__j_steps(j, d->n);
}

static spark_status filter_items(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list pairs = {0};
    (void)a;
    if (self.type != J_UNDEFINED) {
        SPARK_TRY(filter_need_dict(j, self));
        SPARK_TRY(filter_pairs(j, self.u.dict, &pairs));
    }
    return spark__j_iter(j, "generator", pairs, out);
}

static spark_status filter_dictsort(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const bool case_sensitive = filter_flag(a->pos[0], false), reverse = filter_flag(a->pos[2], false);
    int64_t by = 0;
    j_list pairs;
    j_val *keys = NULL;
    if (a->pos[1].type != J_MISSING) {
        by = a->pos[1].type == J_STR && spark_bytes_is(spark__j_bytes(a->pos[1].u.s), "value");
        if (!by && !(a->pos[1].type == J_STR && spark_bytes_is(spark__j_bytes(a->pos[1].u.s), "key")))
            return spark__j_fail(j, SPARK_E_FORMAT, "You can only sort by either \"key\" or \"value\"");
    }
    SPARK_TRY(filter_need_dict(j, self));
    SPARK_TRY(filter_pairs(j, self.u.dict, &pairs));
    SPARK_TRY(J_NEW(j, pairs.n, &keys));
    for (size_t i = 0; i < pairs.n; i++)
        SPARK_TRY(
            filter_key(j, pairs.items[i].u.list->items[by], (j_val){.type = J_MISSING}, case_sensitive, &keys[i]));
    SPARK_TRY(spark__j_sort(j, keys, pairs.items, pairs.n, reverse));
    return spark__j_list(j, J_LIST, pairs.items, pairs.n, out);
}

static spark_status filter_unique(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const bool case_sensitive = filter_flag(a->pos[0], false);
    j_list items, kept = {0};
    j_dict *seen = NULL;
    SPARK_TRY(spark__j_items(j, self, &items));
    SPARK_TRY(J_NEW(j, items.n, &kept.items));
    SPARK_TRY(spark__j_dict_new(j, 0, &seen));
    for (size_t i = 0; i < items.n; i++) {
        j_val key;
        const size_t before = seen->n;
        SPARK_TRY(filter_key(j, items.items[i], a->pos[1], case_sensitive, &key));
        SPARK_TRY(spark__j_dict_put(j, seen, key, spark__j_none()));
        if (seen->n > before) kept.items[kept.n++] = items.items[i];
    }
    return spark__j_iter(j, "generator", kept, out);
}

static spark_status filter_extreme(j_ctx *j, j_val self, const j_args *a, bool max, j_val *out)
{
    const bool case_sensitive = filter_flag(a->pos[0], false);
    j_list items;
    j_val best = {.type = J_MISSING};
    SPARK_TRY(spark__j_items(j, self, &items));
    if (items.n == 0) return spark__j_undefined_hint(j, "No aggregated item, sequence was empty.", out);
    for (size_t i = 0; i < items.n; i++) {
        j_val key;
        bool better = i == 0;
        SPARK_TRY(filter_key(j, items.items[i], a->pos[1], case_sensitive, &key));
        if (i) SPARK_TRY(max ? spark__j_less(j, best, key, ">", &better) : spark__j_less(j, key, best, "<", &better));
        if (!better) continue;
        best = key;
        *out = items.items[i];
    }
    return SPARK_SUCCESS;
}

static spark_status filter_min(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_extreme(j, self, a, false, out);
}

static spark_status filter_max(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_extreme(j, self, a, true, out);
}

static spark_status filter_sum(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items;
    *out = a->pos[1].type == J_MISSING ? spark__j_int(0) : a->pos[1];
    if (out->type == J_STR) return spark__j_fail(j, SPARK_E_FORMAT, "sum() can't sum strings");
    SPARK_TRY(spark__j_items(j, self, &items));
    for (size_t i = 0; i < items.n; i++) {
        j_val v;
        SPARK_TRY(filter_get(j, items.items[i], a->pos[0], (j_val){.type = J_MISSING}, &v));
        SPARK_TRY(spark__j_binary(j, JT_ADD, *out, v, out));
    }
    return SPARK_SUCCESS;
}

static spark_status filter_batch(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    int64_t size = 0;
    j_list items, rows = {0};
    SPARK_TRY(filter_int_arg(j, a->pos[0], 0, &size));
    SPARK_TRY(spark__j_items(j, self, &items));
    if (size < 1 || (uint64_t)size > SPARK_MAX_TEMPLATE_RANGE)
        return spark__j_fail(j, SPARK_E_FORMAT, "batch: the size must be 1 to %u", SPARK_MAX_TEMPLATE_RANGE);
    const size_t per = (size_t)size;
    SPARK_TRY(J_NEW(j, items.n / per + 1, &rows.items));
    for (size_t i = 0; i < items.n; i += per) {
        const size_t n = items.n - i < per ? items.n - i : per;
        const bool fill = n < per && a->pos[1].type != J_MISSING && a->pos[1].type != J_NONE;
        j_val *row = &rows.items[rows.n++];
        SPARK_TRY(spark__j_list_new(j, J_LIST, fill ? per : n, row));
        for (size_t k = 0; k < row->u.list->n; k++) row->u.list->items[k] = k < n ? items.items[i + k] : a->pos[1];
    }
    return spark__j_iter(j, "generator", rows, out);
}

static spark_status filter_slice(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    int64_t slices = 0;
    j_list items, rows = {0};
    SPARK_TRY(filter_int_arg(j, a->pos[0], 0, &slices));
    SPARK_TRY(spark__j_items(j, self, &items));
    if (slices < 1 || (uint64_t)slices > SPARK_MAX_TEMPLATE_RANGE)
        return spark__j_fail(j, SPARK_E_FORMAT, "slice: the number must be 1 to %u", SPARK_MAX_TEMPLATE_RANGE);
    const size_t n = (size_t)slices, per = items.n / n, extra = items.n % n;
    SPARK_TRY(J_NEW(j, n, &rows.items));
    for (size_t i = 0, at = 0; i < n; i++) {
        const size_t len = per + (i < extra);
        const bool fill = a->pos[1].type != J_MISSING && a->pos[1].type != J_NONE && i >= extra;
        SPARK_TRY(spark__j_list_new(j, J_LIST, len + fill, &rows.items[i]));
        for (size_t k = 0; k < len; k++) rows.items[i].u.list->items[k] = items.items[at++];
        if (fill) rows.items[i].u.list->items[len] = a->pos[1];
        rows.n++;
    }
    return spark__j_iter(j, "generator", rows, out);
}

/* One group of the sorted items [begin, end). */
static spark_status filter_group(j_ctx *j, j_val key, const j_val *items, size_t n, j_val *out)
{
    j_val pair[2] = {key, {.type = J_MISSING}};
    SPARK_TRY(spark__j_list(j, J_LIST, items, n, &pair[1]));
    SPARK_TRY(spark__j_list(j, J_TUPLE, pair, 2, out));
    out->u.list->group = true;
    return SPARK_SUCCESS;
}

static spark_status filter_groupby(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const bool case_sensitive = filter_flag(a->pos[2], false);
    j_list items, sorted, groups = {0};
    j_val *keys = NULL;
    SPARK_TRY(spark__j_items(j, self, &items));
    sorted = items;
    SPARK_TRY(J_NEW(j, items.n, &keys));
    SPARK_TRY(J_NEW(j, items.n, &sorted.items));
    SPARK_TRY(J_NEW(j, items.n, &groups.items));
    for (size_t i = 0; i < items.n; i++) {
        sorted.items[i] = items.items[i];
        SPARK_TRY(filter_get(j, items.items[i], a->pos[0], a->pos[1], &keys[i]));
        if (!case_sensitive) SPARK_TRY(filter_key(j, keys[i], (j_val){.type = J_MISSING}, false, &keys[i]));
    }
    SPARK_TRY(spark__j_sort(j, keys, sorted.items, items.n, false));
    for (size_t i = 0, end; i < items.n; i = end) {
        bool same = true;
        j_val key;
        for (end = i + 1; end < items.n; end++) {
            SPARK_TRY(spark__j_equal(j, keys[i], keys[end], &same));
            if (!same) break;
        }
        SPARK_TRY(filter_get(j, sorted.items[i], a->pos[0], a->pos[1], &key)); /* with its own case */
        SPARK_TRY(filter_group(j, key, sorted.items + i, end - i, &groups.items[groups.n++]));
    }
    return spark__j_list(j, J_LIST, groups.items, groups.n, out);
}

/* ---- filters that take filters and tests ------------------------------------------------------------------------- */

static spark_status filter_map(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items = {0}, mapped = {0};
    j_val attribute = {.type = J_MISSING}, absent = {.type = J_MISSING};
    const j_builtin *fn = NULL;
    if (!spark__j_truth(self)) return spark__j_iter(j, "generator", mapped, out); /* not even the name is looked at */
    for (uint32_t i = 0; i < a->n_named && a->n_pos == 0; i++) {
        if (spark_bytes_is(a->keys[i], "attribute"))
            attribute = a->named[i];
        else if (spark_bytes_is(a->keys[i], "default"))
            absent = a->named[i];
        else
            return spark__j_fail(j, SPARK_E_FORMAT, "map: unexpected keyword argument");
    }
    if (a->n_pos && a->pos[0].type == J_STR) fn = spark__j_filter(spark__j_bytes(a->pos[0].u.s));
    if (!fn && attribute.type == J_MISSING)
        return spark__j_fail(j, SPARK_E_FORMAT, "map requires the name of a filter, or attribute=");
    SPARK_TRY(spark__j_items(j, self, &items));
    SPARK_TRY(J_NEW(j, items.n, &mapped.items));
    const j_args rest = {.pos = a->pos + (fn ? 1 : 0),
                         .n_pos = fn ? a->n_pos - 1 : 0,
                         .n_named = a->n_named,
                         .keys = a->keys,
                         .named = a->named};
    for (; mapped.n < items.n; mapped.n++) {
        SPARK_TRY(spark__j_enter(j));
        SPARK_TRY(fn ? spark__j_invoke(j, fn, "filter", items.items[mapped.n], &rest, &mapped.items[mapped.n])
                     : filter_get(j, items.items[mapped.n], attribute, absent, &mapped.items[mapped.n]));
        j->depth--;
    }
    return spark__j_iter(j, "generator", mapped, out);
}

/* select, reject (by_attribute: selectattr, rejectattr): keeps the items for which the test gives `keep`. */
static spark_status filter_pick(j_ctx *j, j_val self, const j_args *a, bool by_attribute, bool keep, j_val *out)
{
    const uint32_t skip = by_attribute ? 1 : 0;
    j_list items = {0}, kept = {0};
    const j_builtin *test = NULL;
    if (!spark__j_truth(self)) return spark__j_iter(j, "generator", kept, out); /* not even the test is looked at */
    if (by_attribute && a->n_pos == 0) return spark__j_fail(j, SPARK_E_FORMAT, "missing parameter for attribute name");
    if (a->n_pos > skip) {
        if (a->pos[skip].type == J_STR) test = spark__j_test(spark__j_bytes(a->pos[skip].u.s));
        if (!test) return spark__j_fail(j, SPARK_E_FORMAT, "no such test");
    }
    SPARK_TRY(spark__j_items(j, self, &items));
    SPARK_TRY(J_NEW(j, items.n, &kept.items));
    const j_args rest = {.pos = test ? a->pos + skip + 1 : NULL,
                         .n_pos = test ? a->n_pos - skip - 1 : 0,
                         .n_named = a->n_named,
                         .keys = a->keys,
                         .named = a->named};
    for (size_t i = 0; i < items.n; i++) {
        j_val v = items.items[i];
        SPARK_TRY(spark__j_enter(j));
        if (by_attribute) SPARK_TRY(filter_get(j, v, a->pos[0], (j_val){.type = J_MISSING}, &v));
        if (test) SPARK_TRY(spark__j_invoke(j, test, "test", v, &rest, &v));
        j->depth--;
        if (spark__j_truth(v) == keep) kept.items[kept.n++] = items.items[i];
    }
    return spark__j_iter(j, "generator", kept, out);
}

static spark_status filter_select(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_pick(j, self, a, false, true, out);
}

static spark_status filter_reject(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_pick(j, self, a, false, false, out);
}

static spark_status filter_selectattr(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_pick(j, self, a, true, true, out);
}

static spark_status filter_rejectattr(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return filter_pick(j, self, a, true, false, out);
}

static spark_status filter_default(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const bool replace = self.type == J_UNDEFINED || (filter_flag(a->pos[1], false) && !spark__j_truth(self));
    *out = self;
    if (!replace) return SPARK_SUCCESS;
    *out = a->pos[0];
    return out->type == J_MISSING ? spark__j_str_new(j, (spark_bytes){0}, false, out) : SPARK_SUCCESS;
}

static spark_status filter_attr(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    bool mutates = false;
    if (a->pos[0].type != J_STR) return spark__j_fail(j, SPARK_E_FORMAT, "attr needs a name");
    const spark_bytes name = spark__j_bytes(a->pos[0].u.s);
    if (self.type == J_DICT && !spark__j_method_of(self, name, &mutates) && !mutates)
        return spark__j_undefined_hint(j, "dict object has no such attribute", out); /* never a key */
    return spark__j_getattr(j, self, name, out);
}

static const j_builtin filter_table[] = {
    {"abs", filter_abs, "", 0},
    {"attr", filter_attr, "name", 1},
    {"batch", filter_batch, "linecount,fill_with", 1},
    {"capitalize", filter_capitalize, "", 0},
    {"center", filter_center, "width", 0},
    {"count", filter_length, "", 0},
    {"d", filter_default, "default_value,boolean", 0},
    {"default", filter_default, "default_value,boolean", 0},
    {"dictsort", filter_dictsort, "case_sensitive,by,reverse", 0},
    {"e", filter_escape, "", 0},
    {"escape", filter_escape, "", 0},
    {"first", filter_first, "", 0},
    {"float", filter_float, "default", 0},
    {"format", filter_format, NULL, 0},
    {"groupby", filter_groupby, "attribute,default,case_sensitive", 1},
    {"indent", filter_indent, "width,first,blank", 0},
    {"int", filter_int, "default,base", 0},
    {"items", filter_items, "", 0},
    {"join", filter_join, "d,attribute", 0},
    {"last", filter_last, "", 0},
    {"length", filter_length, "", 0},
    {"list", filter_list, "", 0},
    {"lower", filter_lower, "", 0},
    {"map", filter_map, NULL, 0},
    {"max", filter_max, "case_sensitive,attribute", 0},
    {"min", filter_min, "case_sensitive,attribute", 0},
    {"reject", filter_reject, NULL, 0},
    {"rejectattr", filter_rejectattr, NULL, 0},
    {"replace", filter_replace, "old,new,count", 2},
    {"reverse", filter_reverse, "", 0},
    {"round", filter_round, "precision,method", 0},
    {"safe", filter_safe, "", 0},
    {"select", filter_select, NULL, 0},
    {"selectattr", filter_selectattr, NULL, 0},
    {"slice", filter_slice, "slices,fill_with", 1},
    {"sort", filter_sort, "reverse,case_sensitive,attribute", 0},
    {"string", filter_string, "", 0},
    {"sum", filter_sum, "attribute,start", 0},
    {"title", filter_title, "", 0},
    {"tojson", filter_tojson, "ensure_ascii,indent,separators,sort_keys", 0},
    {"trim", filter_trim, "chars", 0},
    {"unique", filter_unique, "case_sensitive,attribute", 0},
    {"upper", filter_upper, "", 0},
    {"wordcount", filter_wordcount, "", 0},
    /* of Jinja2, but of no use in a prompt: refused when reached */
    {"filesizeformat", NULL, NULL, 0},
    {"forceescape", NULL, NULL, 0},
    {"pprint", NULL, NULL, 0},
    {"random", NULL, NULL, 0},
    {"striptags", NULL, NULL, 0},
    {"truncate", NULL, NULL, 0},
    {"urlencode", NULL, NULL, 0},
    {"urlize", NULL, NULL, 0},
    {"wordwrap", NULL, NULL, 0},
    {"xmlattr", NULL, NULL, 0},
};

const j_builtin *spark__j_filter(spark_bytes name)
{
    return spark__j_find(filter_table, SPARK_COUNT(filter_table), name);
}
