/* jinja_methods.c - value.method(arguments): the methods of str, dict, list and tuple that do not change their object,
 * and those of loop and cycler. What would change an object is named here too, and refused as the sandbox refuses it. */
#include <string.h>
#include <utf8proc.h>

#include "text/jinja_internal.h"

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static bool method_given(j_val v) { return v.type != J_MISSING && v.type != J_NONE; }

static spark_status method_need_str(j_ctx *j, j_val v, const j_str **out)
{
    if (v.type == J_UNDEFINED) return spark__j_fail_undefined(j, v);
    if (v.type != J_STR) return spark__j_fail(j, SPARK_E_FORMAT, "must be str, not %s", spark__j_type_name(v));
    *out = v.u.s;
    return SPARK_SUCCESS;
}

static spark_status method_int(j_ctx *j, j_val v, int64_t absent, int64_t *out)
{
    *out = absent;
    if (!method_given(v)) return SPARK_SUCCESS;
    if (!spark__j_is_integer(v))
        return spark__j_fail(j, SPARK_E_FORMAT, "'%s' object cannot be interpreted as an integer",
                             spark__j_type_name(v));
    *out = spark__j_integer(v);
    return SPARK_SUCCESS;
}

/* Bytes [*begin, *end) that the optional characters start and stop select. */
static spark_status method_window(j_ctx *j, const j_str *s, j_val start, j_val stop, size_t *begin, size_t *end)
{
    int64_t b = 0, e = INT64_MAX;
    *begin = 0;
    *end = s->len;
    if (!method_given(start) && !method_given(stop)) return SPARK_SUCCESS;
    SPARK_TRY(spark__j_steps(j, s->len / 32));
    const int64_t n = (int64_t)spark__j_str_count(s);
    SPARK_TRY(method_int(j, start, 0, &b));
    SPARK_TRY(method_int(j, stop, n, &e));
    if (b < 0) b = b < -n ? 0 : b + n;
    if (e < 0) e = e < -n ? 0 : e + n;
    *begin = spark__j_str_at(s, (size_t)(b > n ? n : b));
    *end = spark__j_str_at(s, (size_t)(e > n ? n : e));
    if (b > n || *end < *begin) *begin = *end = SIZE_MAX; /* nothing is found there, not even '' */
    return SPARK_SUCCESS;
}

/* ---- stripping --------------------------------------------------------------------------------------------------- */

static bool method_in_set(uint32_t cp, const j_str *set)
{
    if (!set) return spark__j_is_space(cp);
    for (j_chars c = spark__j_chars(set); spark__j_chars_next(&c);)
        if (c.cp == cp) return true;
    return false;
}

static spark_status method_strip(j_ctx *j, const j_str *s, j_val chars, bool left, bool right, j_val *out)
{
    const j_str *set = NULL;
    size_t begin = 0, end = s->len;
    if (method_given(chars)) SPARK_TRY(method_need_str(j, chars, &set));
    const uint64_t cost = set ? set->len / 16 + 1 : 0;
    for (j_chars c = spark__j_chars(s); left && spark__j_chars_next(&c) && method_in_set(c.cp, set); begin = c.pos)
        SPARK_TRY(spark__j_steps(j, cost));
    while (right && end > begin) {
        uint32_t cp = 0;
        size_t at = end - 1;
        while (at > begin && (s->ptr[at] & 0xc0) == 0x80) at--;
        SPARK_TRY(spark__j_steps(j, cost));
        (void)spark__j_str_char(s, at, &cp);
        if (!method_in_set(cp, set)) break;
        end = at;
    }
    SPARK_TRY(spark__j_steps(j, (s->len - (end - begin)) / 16));
    return spark__j_str_sub(j, s, begin, end, out);
}

static spark_status str_strip(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_strip(j, self.u.s, a->pos[0], true, true, out);
}

static spark_status str_lstrip(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_strip(j, self.u.s, a->pos[0], true, false, out);
}

static spark_status str_rstrip(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_strip(j, self.u.s, a->pos[0], false, true, out);
}

/* ---- splitting and joining --------------------------------------------------------------------------------------- */

/* A list that grows. */
typedef struct method_parts {
    j_val *v;
    size_t n, cap;
} method_parts;

static spark_status method_add_part(j_ctx *j, method_parts *p, const j_str *s, size_t begin, size_t end)
{
    if (p->n == p->cap) {
        j_val *v = NULL;
        const size_t cap = p->cap ? p->cap * 2 : 8;
        SPARK_TRY(J_NEW(j, cap, &v));
        if (p->n) memcpy(v, p->v, p->n * sizeof *v);
        p->v = v;
        p->cap = cap;
    }
    SPARK_TRY(spark__j_steps(j, 1));
    return spark__j_str_sub(j, s, begin, end, &p->v[p->n++]);
}

static spark_status method_split_space(j_ctx *j, const j_str *s, int64_t max, method_parts *out)
{
    size_t begin = 0;
    bool word = false;
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c);) {
        const size_t n = c.pos; /* end of this character */
        const bool space = spark__j_is_space(c.cp);
        size_t at = n - 1;
        while (at > 0 && (s->ptr[at] & 0xc0) == 0x80) at--;
        if (!space && !word) {
            begin = at;
            word = true;
            if (max >= 0 && (int64_t)out->n == max) return method_add_part(j, out, s, begin, s->len);
        } else if (space && word) {
            SPARK_TRY(method_add_part(j, out, s, begin, at));
            word = false;
        }
    }
    return word ? method_add_part(j, out, s, begin, s->len) : SPARK_SUCCESS;
}

static spark_status str_split(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s, *sep = NULL;
    method_parts parts = {0};
    int64_t max = -1;
    SPARK_TRY(method_int(j, a->pos[1], -1, &max));
    SPARK_TRY(spark__j_steps(j, s->len / 64));
    if (!method_given(a->pos[0])) {
        SPARK_TRY(method_split_space(j, s, max, &parts));
        return spark__j_list(j, J_LIST, parts.v, parts.n, out);
    }
    SPARK_TRY(method_need_str(j, a->pos[0], &sep));
    if (sep->len == 0) return spark__j_fail(j, SPARK_E_FORMAT, "empty separator");
    size_t begin = 0;
    for (size_t at; max < 0 || (int64_t)parts.n < max; begin = at + sep->len) {
        at = spark__j_find_bytes(spark__j_bytes(s), spark__j_bytes(sep), begin);
        if (at == SIZE_MAX) break;
        SPARK_TRY(method_add_part(j, &parts, s, begin, at));
    }
    SPARK_TRY(method_add_part(j, &parts, s, begin, s->len));
    return spark__j_list(j, J_LIST, parts.v, parts.n, out);
}

/* The last place of `needle` that ends at or before `end`. Quadratic only in the needle, which the steps count. */
static spark_status method_rfind(j_ctx *j, spark_bytes hay, spark_bytes needle, size_t begin, size_t end, size_t *out)
{
    *out = SIZE_MAX;
    if (needle.len > end - begin) return SPARK_SUCCESS;
    for (size_t at = end - needle.len + 1; at-- > begin;) {
        if (needle.len && hay.ptr[at] != needle.ptr[0]) continue;
        SPARK_TRY(spark__j_steps(j, needle.len / 32 + 1));
        if (needle.len && memcmp(hay.ptr + at, needle.ptr, needle.len) != 0) continue;
        *out = at;
        break;
    }
    return SPARK_SUCCESS;
}

static spark_status str_rsplit(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s, *sep = NULL;
    method_parts parts = {0};
    int64_t max = -1;
    SPARK_TRY(method_int(j, a->pos[1], -1, &max));
    if (max < 0) return str_split(j, self, a, out);
    if (!method_given(a->pos[0]))
        return spark__j_fail(j, SPARK_E_FORMAT, "rsplit by white space with a limit is not supported");
    SPARK_TRY(method_need_str(j, a->pos[0], &sep));
    if (sep->len == 0) return spark__j_fail(j, SPARK_E_FORMAT, "empty separator");
    size_t end = s->len, at = 0;
    while ((int64_t)parts.n < max) {
        SPARK_TRY(method_rfind(j, spark__j_bytes(s), spark__j_bytes(sep), 0, end, &at));
        if (at == SIZE_MAX) break;
        SPARK_TRY(method_add_part(j, &parts, s, at + sep->len, end));
        end = at;
    }
    SPARK_TRY(method_add_part(j, &parts, s, 0, end));
    SPARK_TRY(spark__j_list_new(j, J_LIST, parts.n, out));
    for (size_t i = 0; i < parts.n; i++) out->u.list->items[i] = parts.v[parts.n - 1 - i];
    return SPARK_SUCCESS;
}

static bool method_is_line_end(uint32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

static spark_status str_splitlines(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s;
    const bool keep = a->n_pos && spark__j_truth(a->pos[0]);
    method_parts parts = {0};
    size_t begin = 0, before = 0;
    SPARK_TRY(spark__j_steps(j, s->len / 8));
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c); before = c.pos) {
        if (!method_is_line_end(c.cp)) continue;
        if (c.cp == '\r' && c.pos < s->len && s->ptr[c.pos] == '\n') (void)spark__j_chars_next(&c);
        SPARK_TRY(method_add_part(j, &parts, s, begin, keep ? c.pos : before));
        begin = c.pos;
    }
    if (begin < s->len) SPARK_TRY(method_add_part(j, &parts, s, begin, s->len));
    return spark__j_list(j, J_LIST, parts.v, parts.n, out);
}

static spark_status method_partition(j_ctx *j, j_val self, const j_args *a, bool last, j_val *out)
{
    const j_str *s = self.u.s, *sep = NULL;
    size_t at = 0;
    SPARK_TRY(method_need_str(j, a->pos[0], &sep));
    if (sep->len == 0) return spark__j_fail(j, SPARK_E_FORMAT, "empty separator");
    SPARK_TRY(spark__j_steps(j, s->len / 64));
    at = spark__j_find_bytes(spark__j_bytes(s), spark__j_bytes(sep), 0);
    if (last) SPARK_TRY(method_rfind(j, spark__j_bytes(s), spark__j_bytes(sep), 0, s->len, &at));
    const bool found = at != SIZE_MAX;
    const size_t head = found ? at : last ? 0 : s->len, tail = found ? at + sep->len : head;
    SPARK_TRY(spark__j_list_new(j, J_TUPLE, 3, out));
    SPARK_TRY(spark__j_str_sub(j, s, 0, head, &out->u.list->items[0]));
    SPARK_TRY(spark__j_str_sub(j, s, head, tail, &out->u.list->items[1]));
    return spark__j_str_sub(j, s, tail, s->len, &out->u.list->items[2]);
}

static spark_status str_partition(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_partition(j, self, a, false, out);
}

static spark_status str_rpartition(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_partition(j, self, a, true, out);
}

static spark_status str_join(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_list items;
    j_text *t = NULL;
    SPARK_TRY(spark__j_items(j, a->pos[0], &items));
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    for (size_t i = 0; i < items.n; i++) {
        const j_str *part = NULL;
        SPARK_TRY(method_need_str(j, items.items[i], &part));
        SPARK_TRY(spark__j_steps(j, 1));
        if (i) SPARK_TRY(spark__j_text_str(j, t, self.u.s));
        SPARK_TRY(spark__j_text_str(j, t, part));
    }
    return spark__j_text_done(j, t, out);
}

/* ---- searching --------------------------------------------------------------------------------------------------- */

static spark_status method_affix(j_ctx *j, j_val self, const j_args *a, bool suffix, j_val *out)
{
    const j_str *s = self.u.s;
    const j_val *candidates = &a->pos[0];
    size_t n = 1, begin = 0, end = 0;
    bool found = false;
    if (a->pos[0].type == J_TUPLE) {
        candidates = a->pos[0].u.list->items;
        n = a->pos[0].u.list->n;
    }
    SPARK_TRY(method_window(j, s, a->pos[1], a->pos[2], &begin, &end));
    for (size_t i = 0; i < n && !found; i++) {
        const j_str *p = NULL;
        SPARK_TRY(method_need_str(j, candidates[i], &p));
        if (begin == SIZE_MAX || p->len > end - begin) continue;
        SPARK_TRY(spark__j_steps(j, p->len / 64 + 1));
        found = p->len == 0 || memcmp(s->ptr + (suffix ? end - p->len : begin), p->ptr, p->len) == 0;
    }
    *out = spark__j_bool(found);
    return SPARK_SUCCESS;
}

static spark_status str_startswith(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_affix(j, self, a, false, out);
}

static spark_status str_endswith(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_affix(j, self, a, true, out);
}

/* Character index of the first or last occurrence, -1 if there is none. */
static spark_status method_find(j_ctx *j, j_val self, const j_args *a, bool last, int64_t *out)
{
    const j_str *s = self.u.s, *sub = NULL;
    size_t begin = 0, end = 0, at = SIZE_MAX;
    *out = -1;
    SPARK_TRY(method_need_str(j, a->pos[0], &sub));
    SPARK_TRY(method_window(j, s, a->pos[1], a->pos[2], &begin, &end));
    if (begin == SIZE_MAX) return SPARK_SUCCESS;
    SPARK_TRY(spark__j_steps(j, s->len / 32));
    at = spark__j_find_bytes((spark_bytes){s->ptr, end}, spark__j_bytes(sub), begin);
    if (last && at != SIZE_MAX) SPARK_TRY(method_rfind(j, spark__j_bytes(s), spark__j_bytes(sub), begin, end, &at));
    if (at != SIZE_MAX) *out = (int64_t)spark__j_str_count(&(j_str){.ptr = s->ptr, .len = at});
    return SPARK_SUCCESS;
}

static spark_status str_find(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    *out = spark__j_int(0);
    return method_find(j, self, a, false, &out->u.i);
}

static spark_status str_rfind(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    *out = spark__j_int(0);
    return method_find(j, self, a, true, &out->u.i);
}

static spark_status str_index(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    SPARK_TRY(str_find(j, self, a, out));
    return out->u.i < 0 ? spark__j_fail(j, SPARK_E_FORMAT, "substring not found") : SPARK_SUCCESS;
}

static spark_status str_rindex(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    SPARK_TRY(str_rfind(j, self, a, out));
    return out->u.i < 0 ? spark__j_fail(j, SPARK_E_FORMAT, "substring not found") : SPARK_SUCCESS;
}

static spark_status str_count(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s, *sub = NULL;
    size_t begin = 0, end = 0;
    int64_t n = 0;
    SPARK_TRY(method_need_str(j, a->pos[0], &sub));
    SPARK_TRY(method_window(j, s, a->pos[1], a->pos[2], &begin, &end));
    SPARK_TRY(spark__j_steps(j, s->len / 32));
    *out = spark__j_int(0);
    if (begin == SIZE_MAX) return SPARK_SUCCESS;
    if (sub->len == 0) {
        *out = spark__j_int((int64_t)spark__j_str_count(&(j_str){.ptr = s->ptr + begin, .len = end - begin}) + 1);
        return SPARK_SUCCESS;
    }
    for (size_t at = begin; (at = spark__j_find_bytes((spark_bytes){s->ptr, end}, spark__j_bytes(sub), at)) != SIZE_MAX;
         at += sub->len)
        n++;
    *out = spark__j_int(n);
    return spark__j_steps(j, (uint64_t)n / 8);
}

/* ---- making new text --------------------------------------------------------------------------------------------- */

/* '' is found before every character and at the end. */
static spark_status method_replace_empty(j_ctx *j, const j_str *s, const j_str *new, int64_t max, j_text *t)
{
    size_t begin = 0;
    j_val part;
    for (j_chars c = spark__j_chars(s);; begin = c.pos) {
        if (max != 0) SPARK_TRY(spark__j_text_str(j, t, new));
        if (max > 0) max--;
        SPARK_TRY(spark__j_steps(j, 1));
        if (!spark__j_chars_next(&c)) return SPARK_SUCCESS;
        SPARK_TRY(spark__j_str_sub(j, s, begin, c.pos, &part));
        SPARK_TRY(spark__j_text_str(j, t, part.u.s));
    }
}

static spark_status str_replace(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s, *old = NULL, *new = NULL;
    int64_t max = -1;
    size_t at = 0;
    j_text *t = NULL;
    j_val part;
    SPARK_TRY(method_need_str(j, a->pos[0], &old));
    SPARK_TRY(method_need_str(j, a->pos[1], &new));
    SPARK_TRY(method_int(j, a->pos[2], -1, &max));
    SPARK_TRY(spark__j_steps(j, s->len / 64));
    SPARK_TRY(spark__j_text_new(j, s->len, &t));
    if (old->len == 0) {
        SPARK_TRY(method_replace_empty(j, s, new, max, t));
        return spark__j_text_done(j, t, out);
    }
    for (; max != 0; max -= max > 0) {
        const size_t found = spark__j_find_bytes(spark__j_bytes(s), spark__j_bytes(old), at);
        if (found == SIZE_MAX) break;
        SPARK_TRY(spark__j_steps(j, 1));
        SPARK_TRY(spark__j_str_sub(j, s, at, found, &part));
        SPARK_TRY(spark__j_text_str(j, t, part.u.s));
        /* What takes the place of the user's text is the user's: he chose where it stands. */
        if (spark__j_str_foreign(s, found, found + old->len))
            SPARK_TRY(spark__j_text_add(j, t, spark__j_bytes(new), true));
        else
            SPARK_TRY(spark__j_text_str(j, t, new));
        at = found + old->len;
    }
    SPARK_TRY(spark__j_str_sub(j, s, at, s->len, &part));
    SPARK_TRY(spark__j_text_str(j, t, part.u.s));
    return spark__j_text_done(j, t, out);
}

static spark_status str_removeprefix(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s, *p = NULL;
    SPARK_TRY(method_need_str(j, a->pos[0], &p));
    SPARK_TRY(spark__j_steps(j, p->len / 64));
    const bool has = p->len && p->len <= s->len && memcmp(s->ptr, p->ptr, p->len) == 0;
    return spark__j_str_sub(j, s, has ? p->len : 0, s->len, out);
}

static spark_status str_removesuffix(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s, *p = NULL;
    SPARK_TRY(method_need_str(j, a->pos[0], &p));
    SPARK_TRY(spark__j_steps(j, p->len / 64));
    const bool has = p->len && p->len <= s->len && memcmp(s->ptr + s->len - p->len, p->ptr, p->len) == 0;
    return spark__j_str_sub(j, s, 0, s->len - (has ? p->len : 0), out);
}

#define METHOD_CASE(name, how)                                                                                         \
    static spark_status name(j_ctx *j, j_val self, const j_args *a, j_val *out)                                        \
    {                                                                                                                  \
        (void)a;                                                                                                       \
        return spark__j_str_case(j, self.u.s, how, out);                                                               \
    }
METHOD_CASE(str_upper, J_CASE_UPPER)
METHOD_CASE(str_lower, J_CASE_LOWER)
METHOD_CASE(str_title, J_CASE_TITLE)
METHOD_CASE(str_capitalize, J_CASE_CAPITALIZE)
METHOD_CASE(str_swapcase, J_CASE_SWAP)

/* Fills up to a width: `left` and `right` tell where; with both, Python gives the odd one to the left if width is odd. */
static spark_status method_pad(j_ctx *j, j_val self, const j_args *a, bool left, bool right, j_val *out)
{
    const j_str *s = self.u.s, *fill = &(j_str){.ptr = (const uint8_t *)" ", .len = 1};
    int64_t width = 0;
    j_text *t = NULL;
    SPARK_TRY(method_int(j, a->pos[0], 0, &width));
    if (a->pos[1].type != J_MISSING) SPARK_TRY(method_need_str(j, a->pos[1], &fill));
    if (spark__j_str_count(fill) != 1)
        return spark__j_fail(j, SPARK_E_FORMAT, "the fill character must be exactly one character long");
    const int64_t n = (int64_t)spark__j_str_count(s), pad = width > n ? width - n : 0;
    if (pad > SPARK_MAX_TEMPLATE_OUTPUT)
        return spark__j_fail(j, SPARK_E_LIMIT, "text grows beyond %u bytes", SPARK_MAX_TEMPLATE_OUTPUT);
    const int64_t before = !left ? 0 : !right ? pad : pad / 2 + (pad & width & 1);
    SPARK_TRY(spark__j_steps(j, (uint64_t)pad / 8));
    SPARK_TRY(spark__j_text_new(j, s->len, &t));
    for (int64_t i = 0; i < before; i++) SPARK_TRY(spark__j_text_str(j, t, fill));
    SPARK_TRY(spark__j_text_str(j, t, s));
    for (int64_t i = before; i < pad; i++) SPARK_TRY(spark__j_text_str(j, t, fill));
    return spark__j_text_done(j, t, out);
}

static spark_status str_center(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_pad(j, self, a, true, true, out);
}

static spark_status str_ljust(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_pad(j, self, a, false, true, out);
}

static spark_status str_rjust(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return method_pad(j, self, a, true, false, out);
}

static spark_status str_zfill(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    const j_str *s = self.u.s;
    const bool sign = s->len && (s->ptr[0] == '+' || s->ptr[0] == '-');
    int64_t width = 0;
    j_val head, tail, zeros[2];
    SPARK_TRY(method_int(j, a->pos[0], 0, &width));
    zeros[0] = spark__j_int(width > 0 ? width - sign : 0);
    SPARK_TRY(spark__j_str_new(j, SPARK_BYTES_LITERAL("0"), false, &zeros[1]));
    SPARK_TRY(spark__j_str_sub(j, s, 0, sign, &head));
    SPARK_TRY(spark__j_str_sub(j, s, sign, s->len, &tail));
    SPARK_TRY(method_pad(j, tail, &(j_args){.pos = zeros, .n_pos = 2}, true, false, &tail));
    return spark__j_str_concat(j, head.u.s, tail.u.s, out);
}

static spark_status str_format(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    return spark__j_format(j, self.u.s, a, out);
}

/* ---- kinds of characters ----------------------------------------------------------------------------------------- */

typedef bool method_is(uint32_t cp);

static bool method_is_alpha(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool method_is_decimal(uint32_t cp) { return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND; }

static bool method_is_digit(uint32_t cp) /* and superscripts, circled digits: those of the Latin range are enough */
{
    return method_is_decimal(cp) || cp == 0xb2 || cp == 0xb3 || cp == 0xb9 ||
           (cp >= 0x2070 && cp <= 0x2089 && cp != 0x2071);
}

static bool method_is_alnum(uint32_t cp) { return cp != '_' && spark__j_is_word(cp); }
static bool method_is_numeric(uint32_t cp) { return method_is_alnum(cp) && !method_is_alpha(cp); }
static bool method_is_ascii(uint32_t cp) { return cp < 0x80; }

/* True if every character is, and (unless `empty`) there is one. */
static spark_status method_all(j_ctx *j, j_val self, method_is *is, bool empty, j_val *out)
{
    bool all = empty || self.u.s->len > 0;
    SPARK_TRY(spark__j_steps(j, self.u.s->len / 8));
    for (j_chars c = spark__j_chars(self.u.s); all && spark__j_chars_next(&c);) all = is(c.cp);
    *out = spark__j_bool(all);
    return SPARK_SUCCESS;
}

#define METHOD_ALL(name, is, empty)                                                                                    \
    static spark_status name(j_ctx *j, j_val self, const j_args *a, j_val *out)                                        \
    {                                                                                                                  \
        (void)a;                                                                                                       \
        return method_all(j, self, is, empty, out);                                                                    \
    }
METHOD_ALL(str_isalpha, method_is_alpha, false)
METHOD_ALL(str_isalnum, method_is_alnum, false)
METHOD_ALL(str_isascii, method_is_ascii, true)
METHOD_ALL(str_isdecimal, method_is_decimal, false)
METHOD_ALL(str_isdigit, method_is_digit, false)
METHOD_ALL(str_isnumeric, method_is_numeric, false)
METHOD_ALL(str_isspace, spark__j_is_space, false)

static spark_status method_by_test(j_ctx *j, j_val self, const char *test, j_val *out)
{
    return spark__j_invoke(j, spark__j_test(spark_bytes_of(test)), "method", self, &(j_args){0}, out);
}

static spark_status str_islower(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return method_by_test(j, self, "lower", out);
}

static spark_status str_isupper(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return method_by_test(j, self, "upper", out);
}

/* ---- dict, list, tuple ------------------------------------------------------------------------------------------- */

static spark_status dict_get(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    SPARK_TRY(spark__j_dict_get(j, self.u.dict, a->pos[0], out));
    if (out->type == J_MISSING) *out = a->pos[1].type == J_MISSING ? spark__j_none() : a->pos[1];
    return SPARK_SUCCESS;
}

/* keys(), values(), items(): `which` is 0, 1, 2. */
static spark_status method_view(j_ctx *j, const j_dict *d, int which, j_val *out)
{
    static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
    SPARK_TRY(spark__j_list_new(j, J_VIEW, d->n, out));
    out->u.list->name = names[which];
    out->u.list->foreign = d->foreign;
    for (size_t i = 0; i < d->n; i++) {
        const j_val pair[2] = {d->pairs[i].key, d->pairs[i].val};
        if (which == 2)
            SPARK_TRY(spark__j_list(j, J_TUPLE, pair, 2, &out->u.list->items[i]));
        else
            out->u.list->items[i] = pair[which];
    }
    return spark__j_steps(j, d->n / 8);
}

static spark_status dict_keys(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return method_view(j, self.u.dict, 0, out);
}

static spark_status dict_values(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return method_view(j, self.u.dict, 1, out);
}

static spark_status dict_items(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)a;
    return method_view(j, self.u.dict, 2, out);
}

static spark_status method_copy(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)j, (void)a;
    *out = self; /* nothing can change it */
    return SPARK_SUCCESS;
}

static spark_status list_index(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    for (size_t i = 0; i < self.u.list->n; i++) {
        bool same = false;
        SPARK_TRY(spark__j_steps(j, 1));
        SPARK_TRY(spark__j_equal(j, self.u.list->items[i], a->pos[0], &same));
        *out = spark__j_int((int64_t)i);
        if (same) return SPARK_SUCCESS;
    }
    return spark__j_fail(j, SPARK_E_FORMAT, "value is not in list");
}

static spark_status list_count(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    *out = spark__j_int(0);
    for (size_t i = 0; i < self.u.list->n; i++) {
        bool same = false;
        SPARK_TRY(spark__j_steps(j, 1));
        SPARK_TRY(spark__j_equal(j, self.u.list->items[i], a->pos[0], &same));
        out->u.i += same;
    }
    return SPARK_SUCCESS;
}

/* ---- loop, cycler ------------------------------------------------------------------------------------------------ */

static spark_status loop_cycle(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    if (a->n_pos == 0) return spark__j_fail(j, SPARK_E_FORMAT, "no items for cycling given");
    *out = a->pos[self.u.loop->index % a->n_pos];
    return SPARK_SUCCESS;
}

static spark_status loop_changed(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_val now;
    bool same = false;
    SPARK_TRY(spark__j_list(j, J_TUPLE, a->pos, a->n_pos, &now));
    if (self.u.loop->changed)
        SPARK_TRY(spark__j_equal(j, now, (j_val){.type = J_TUPLE, .u.list = self.u.loop->changed}, &same));
    self.u.loop->changed = now.u.list;
    *out = spark__j_bool(!same);
    return SPARK_SUCCESS;
}

static spark_status cycler_next(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)j, (void)a;
    *out = self.u.cycler->values[self.u.cycler->pos];
    self.u.cycler->pos = (self.u.cycler->pos + 1) % self.u.cycler->n;
    return SPARK_SUCCESS;
}

static spark_status cycler_reset(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)j, (void)a;
    self.u.cycler->pos = 0;
    *out = spark__j_none();
    return SPARK_SUCCESS;
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static const j_builtin method_of_str[] = {
    {"capitalize", str_capitalize, "", 0},
    {"casefold", NULL, NULL, 0},
    {"center", str_center, "width,fillchar", 1},
    {"count", str_count, "sub,start,end", 1},
    {"encode", NULL, NULL, 0},
    {"endswith", str_endswith, "suffix,start,end", 1},
    {"expandtabs", NULL, NULL, 0},
    {"find", str_find, "sub,start,end", 1},
    {"format", str_format, NULL, 0},
    {"format_map", NULL, NULL, 0},
    {"index", str_index, "sub,start,end", 1},
    {"isalnum", str_isalnum, "", 0},
    {"isalpha", str_isalpha, "", 0},
    {"isascii", str_isascii, "", 0},
    {"isdecimal", str_isdecimal, "", 0},
    {"isdigit", str_isdigit, "", 0},
    {"isidentifier", NULL, NULL, 0},
    {"islower", str_islower, "", 0},
    {"isnumeric", str_isnumeric, "", 0},
    {"isprintable", NULL, NULL, 0},
    {"isspace", str_isspace, "", 0},
    {"istitle", NULL, NULL, 0},
    {"isupper", str_isupper, "", 0},
    {"join", str_join, "iterable", 1},
    {"ljust", str_ljust, "width,fillchar", 1},
    {"lower", str_lower, "", 0},
    {"lstrip", str_lstrip, "chars", 0},
    {"maketrans", NULL, NULL, 0},
    {"partition", str_partition, "sep", 1},
    {"removeprefix", str_removeprefix, "prefix", 1},
    {"removesuffix", str_removesuffix, "suffix", 1},
    {"replace", str_replace, "old,new,count", 2},
    {"rfind", str_rfind, "sub,start,end", 1},
    {"rindex", str_rindex, "sub,start,end", 1},
    {"rjust", str_rjust, "width,fillchar", 1},
    {"rpartition", str_rpartition, "sep", 1},
    {"rsplit", str_rsplit, "sep,maxsplit", 0},
    {"rstrip", str_rstrip, "chars", 0},
    {"split", str_split, "sep,maxsplit", 0},
    {"splitlines", str_splitlines, "keepends", 0},
    {"startswith", str_startswith, "prefix,start,end", 1},
    {"strip", str_strip, "chars", 0},
    {"swapcase", str_swapcase, "", 0},
    {"title", str_title, "", 0},
    {"translate", NULL, NULL, 0},
    {"upper", str_upper, "", 0},
    {"zfill", str_zfill, "width", 1},
};
static const j_builtin method_of_dict[] = {
    {"copy", method_copy, "", 0}, {"fromkeys", NULL, NULL, 0}, {"get", dict_get, "key,default", 1},
    {"items", dict_items, "", 0}, {"keys", dict_keys, "", 0},  {"values", dict_values, "", 0},
};
static const j_builtin method_of_list[] = {
    {"index", list_index, "value", 1},
    {"count", list_count, "value", 1},
    {"copy", method_copy, "", 0},
};
static const j_builtin method_of_loop[] = {{"cycle", loop_cycle, NULL, 0}, {"changed", loop_changed, NULL, 0}};
static const j_builtin method_of_cycler[] = {{"next", cycler_next, "", 0}, {"reset", cycler_reset, "", 0}};

/* What ImmutableSandboxedEnvironment refuses. */
static bool method_mutates(j_type type, spark_bytes name)
{
    static const char *const of_list[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
    for (size_t i = 0; type == J_LIST && i < SPARK_COUNT(of_list); i++)
        if (spark_bytes_is(name, of_list[i])) return true;
    for (size_t i = 0; type == J_DICT && i < SPARK_COUNT(of_dict); i++)
        if (spark_bytes_is(name, of_dict[i])) return true;
    return false;
}

const j_builtin *spark__j_method_of(j_val v, spark_bytes name, bool *mutates)
{
    *mutates = method_mutates(v.type, name);
    if (v.type == J_STR) return spark__j_find(method_of_str, SPARK_COUNT(method_of_str), name);
    if (v.type == J_DICT) return spark__j_find(method_of_dict, SPARK_COUNT(method_of_dict), name);
    if (v.type == J_LIST) return spark__j_find(method_of_list, SPARK_COUNT(method_of_list), name);
    if (v.type == J_TUPLE) return spark__j_find(method_of_list, SPARK_COUNT(method_of_list) - 1, name);
    if (v.type == J_LOOP) return spark__j_find(method_of_loop, SPARK_COUNT(method_of_loop), name);
    if (v.type == J_CYCLER) return spark__j_find(method_of_cycler, SPARK_COUNT(method_of_cycler), name);
    return NULL;
}
