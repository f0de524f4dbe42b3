/* jinja_text.c - text with provenance: growing bytes that know which of them came from the user, views into them that
 * carry this along at no cost, characters and their case. Appending to the newest view of a text happens in place, so a
 * template that collects its output in a variable stays linear. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja_internal.h"

enum { TEXT_BYTES_A_STEP = 64 }; /* copying and searching this much counts like evaluating one node */

spark_status spark__j_text_new(j_ctx *j, size_t cap, j_text **out)
{
    j_text *t = NULL;
    SPARK_TRY(J_NEW(j, 1, &t));
    if (cap) SPARK_TRY(J_NEW(j, cap, &t->data));
    t->cap = cap;
    *out = t;
    return SPARK_SUCCESS;
}

static spark_status text_reserve(j_ctx *j, j_text *t, size_t more)
{
    if (more > SPARK_MAX_TEMPLATE_OUTPUT || t->len + more > SPARK_MAX_TEMPLATE_OUTPUT)
        return spark__j_fail(j, SPARK_E_LIMIT, "text grows beyond %u bytes", SPARK_MAX_TEMPLATE_OUTPUT);
    SPARK_TRY(spark__j_steps(j, more / TEXT_BYTES_A_STEP));
    if (more <= t->cap - t->len) return SPARK_SUCCESS;
    uint8_t *data = NULL;
    size_t cap = t->cap * 2;
    if (cap < t->len + more) cap = t->len + more;
    if (cap < 64) cap = 64;
    SPARK_TRY(J_NEW(j, cap, &data));
    if (t->len) memcpy(data, t->data, t->len);
    t->data = data; /* views keep the old bytes, which the arena still holds */
    t->cap = cap;
    return SPARK_SUCCESS;
}

/* Marks bytes [begin, end) as foreign; begin is not before the end of the last span. */
static spark_status text_mark(j_ctx *j, j_text *t, size_t begin, size_t end)
{
    if (begin == end) return SPARK_SUCCESS;
    if (t->n_spans && t->spans[t->n_spans - 1].end == begin) {
        t->spans[t->n_spans - 1].end = end;
        return SPARK_SUCCESS;
    }
    if (t->n_spans == t->cap_spans) {
        j_span *spans = NULL;
        const size_t cap = t->cap_spans ? t->cap_spans * 2 : 4;
        SPARK_TRY(J_NEW(j, cap, &spans));
        if (t->n_spans) memcpy(spans, t->spans, t->n_spans * sizeof *spans);
        t->spans = spans;
        t->cap_spans = cap;
    }
    t->spans[t->n_spans++] = (j_span){begin, end};
    return SPARK_SUCCESS;
}

spark_status spark__j_text_add(j_ctx *j, j_text *t, spark_bytes b, bool foreign)
{
    SPARK_TRY(text_reserve(j, t, b.len));
    if (b.len) memcpy(t->data + t->len, b.ptr, b.len);
    t->len += b.len;
    return foreign ? text_mark(j, t, t->len - b.len, t->len) : SPARK_SUCCESS;
}

spark_status spark__j_text_char(j_ctx *j, j_text *t, uint32_t cp, bool foreign)
{
    uint8_t utf8[SPARK_UTF8_MAX];
    const size_t n = spark_utf8_encode(cp, utf8);
    return spark__j_text_add(j, t, (spark_bytes){utf8, n}, foreign);
}

spark_status spark__j_text_fmt(j_ctx *j, j_text *t, bool foreign, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) return spark__j_fail(j, SPARK_E_LIMIT, "formatted number is too long");
    return spark__j_text_add(j, t, (spark_bytes){(const uint8_t *)text, (size_t)n}, foreign);
}

/* The first span of t that ends behind byte `at`. */
static size_t text_span_at(const j_text *t, size_t at)
{
    size_t low = 0, high = t->n_spans;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (t->spans[mid].end > at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

spark_status spark__j_text_str(j_ctx *j, j_text *t, const j_str *s)
{
    if (!s->home) return spark__j_text_add(j, t, spark__j_bytes(s), s->foreign);
    const j_text home = *s->home; /* may be t itself, and change below */
    const size_t at = t->len, offset = s->off, end = offset + s->len;
    SPARK_TRY(spark__j_text_add(j, t, spark__j_bytes(s), false));
    for (size_t i = text_span_at(&home, offset); i < home.n_spans && home.spans[i].begin < end; i++) {
        const size_t b = home.spans[i].begin > offset ? home.spans[i].begin - offset : 0;
        const size_t e = home.spans[i].end < end ? home.spans[i].end - offset : s->len;
        SPARK_TRY(text_mark(j, t, at + b, at + e));
        SPARK_TRY(spark__j_steps(j, 1));
    }
    return SPARK_SUCCESS;
}

bool spark__j_str_foreign(const j_str *s, size_t begin, size_t end)
{
    if (begin >= end) return false;
    if (!s->home) return s->foreign;
    const size_t i = text_span_at(s->home, s->off + begin);
    return i < s->home->n_spans && s->home->spans[i].begin < s->off + end;
}

static spark_status str_make(j_ctx *j, j_str value, j_val *out)
{
    j_str *s = NULL;
    SPARK_TRY(J_NEW(j, 1, &s));
    *s = value;
    if (!s->ptr) s->ptr = (const uint8_t *)""; /* an empty text has a place too: arithmetic on NULL is undefined */
    *out = (j_val){.type = J_STR, .u.s = s};
    return SPARK_SUCCESS;
}

spark_status spark__j_str_new(j_ctx *j, spark_bytes b, bool foreign, j_val *out)
{
    return str_make(j, (j_str){.ptr = b.ptr, .len = b.len, .foreign = foreign}, out);
}

spark_status spark__j_text_done(j_ctx *j, j_text *t, j_val *out)
{
    return str_make(j, (j_str){.ptr = t->data, .len = t->len, .home = t}, out);
}

spark_status spark__j_str_sub(j_ctx *j, const j_str *s, size_t begin, size_t end, j_val *out)
{
    j_str sub = *s;
    sub.ptr = s->ptr + begin;
    sub.off += begin;
    sub.len = end - begin;
    return str_make(j, sub, out);
}

spark_status spark__j_str_concat(j_ctx *j, const j_str *a, const j_str *b, j_val *out)
{
    const bool markup = a->markup || b->markup;
    j_text *t = a->home;
    size_t off = a->off;
    /* In place, if nothing stands behind `a` and it is not just the tail of something much longer. */
    if (!t || a->off + a->len != t->len || a->off > a->len) {
        const size_t len = a->len + b->len; /* two strings in memory: cannot wrap */
        SPARK_TRY(spark__j_text_new(j, 0, &t));
        SPARK_TRY(text_reserve(j, t, len + len / 4 + 16));
        SPARK_TRY(spark__j_text_str(j, t, a));
        off = 0;
    }
    SPARK_TRY(spark__j_text_str(j, t, b));
    return str_make(
        j, (j_str){.ptr = t->data ? t->data + off : NULL, .len = t->len - off, .home = t, .off = off, .markup = markup},
        out);
}

/* ---- characters -------------------------------------------------------------------------------------------------- */

size_t spark__j_str_char(const j_str *s, size_t at, uint32_t *cp)
{
    const size_t n = spark_utf8_decode(s->ptr + at, s->len - at, cp);
    if (n == 0) *cp = 0xfffd; /* cannot be: every string is valid */
    return n ? n : 1;
}

j_chars spark__j_chars(const j_str *s)
{
    return (j_chars){.s = s, .span = s->home ? text_span_at(s->home, s->off) : 0, .foreign = s->foreign};
}

bool spark__j_chars_next(j_chars *c)
{
    const j_str *s = c->s;
    if (c->pos >= s->len) return false;
    if (s->home) {
        const size_t at = s->off + c->pos;
        while (c->span < s->home->n_spans && s->home->spans[c->span].end <= at) c->span++;
        c->foreign = c->span < s->home->n_spans && s->home->spans[c->span].begin <= at;
    }
    c->pos += spark__j_str_char(s, c->pos, &c->cp);
    return true;
}

size_t spark__j_str_count(const j_str *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->len; i++) n += (s->ptr[i] & 0xc0) != 0x80;
    return n;
}

size_t spark__j_str_at(const j_str *s, size_t n)
{
    for (size_t i = 0; i < s->len; i++) {
        if ((s->ptr[i] & 0xc0) == 0x80) continue;
        if (n-- == 0) return i;
    }
    return s->len;
}

bool spark__j_is_space(uint32_t cp) /* str.isspace of Python */
{
    return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32) || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f ||
           cp == 0x3000;
}

bool spark__j_is_word(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return cp == '_' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
           (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

size_t spark__j_space_prefix(spark_bytes b)
{
    size_t at = 0;
    uint32_t cp = 0;
    for (size_t n; (n = spark_utf8_decode(b.ptr + at, b.len - at, &cp)) != 0 && spark__j_is_space(cp);) at += n;
    return at;
}

/* Where the character that ends at `end` (> 0) begins. */
static size_t text_char_before(spark_bytes b, size_t end)
{
    size_t at = end - 1;
    while (at > 0 && (b.ptr[at] & 0xc0) == 0x80) at--;
    return at;
}

size_t spark__j_space_suffix(spark_bytes b)
{
    size_t end = b.len;
    uint32_t cp = 0;
    while (end > 0) {
        const size_t at = text_char_before(b, end);
        if (spark_utf8_decode(b.ptr + at, end - at, &cp) == 0 || !spark__j_is_space(cp)) break;
        end = at;
    }
    return b.len - end;
}

size_t spark__j_find_bytes(spark_bytes hay, spark_bytes needle, size_t from)
{
    if (from > hay.len || needle.len > hay.len - from) return SIZE_MAX;
    if (needle.len == 0) return from;
    const uint8_t *p = memmem(hay.ptr + from, hay.len - from, needle.ptr, needle.len); /* linear in glibc */
    return p ? (size_t)(p - hay.ptr) : SIZE_MAX;
}

/* ---- case -------------------------------------------------------------------------------------------------------- */

/* The unconditional one-to-many upper cases of Unicode's SpecialCasing.txt; utf8proc has the one-to-one. */
static const struct {
    uint16_t from, to[3];
} text_upper_special[] = {
    {0x00df, {0x0053, 0x0053}},         {0x0149, {0x02bc, 0x004e}},         {0x01f0, {0x004a, 0x030c}},
    {0x0390, {0x0399, 0x0308, 0x0301}}, {0x03b0, {0x03a5, 0x0308, 0x0301}}, {0x0587, {0x0535, 0x0552}},
    {0x1e96, {0x0048, 0x0331}},         {0x1e97, {0x0054, 0x0308}},         {0x1e98, {0x0057, 0x030a}},
    {0x1e99, {0x0059, 0x030a}},         {0x1e9a, {0x0041, 0x02be}},         {0x1f50, {0x03a5, 0x0313}},
    {0x1f52, {0x03a5, 0x0313, 0x0300}}, {0x1f54, {0x03a5, 0x0313, 0x0301}}, {0x1f56, {0x03a5, 0x0313, 0x0342}},
    {0x1f80, {0x1f08, 0x0399}},         {0x1f81, {0x1f09, 0x0399}},         {0x1f82, {0x1f0a, 0x0399}},
    {0x1f83, {0x1f0b, 0x0399}},         {0x1f84, {0x1f0c, 0x0399}},         {0x1f85, {0x1f0d, 0x0399}},
    {0x1f86, {0x1f0e, 0x0399}},         {0x1f87, {0x1f0f, 0x0399}},         {0x1f88, {0x1f08, 0x0399}},
    {0x1f89, {0x1f09, 0x0399}},         {0x1f8a, {0x1f0a, 0x0399}},         {0x1f8b, {0x1f0b, 0x0399}},
    {0x1f8c, {0x1f0c, 0x0399}},         {0x1f8d, {0x1f0d, 0x0399}},         {0x1f8e, {0x1f0e, 0x0399}},
    {0x1f8f, {0x1f0f, 0x0399}},         {0x1f90, {0x1f28, 0x0399}},         {0x1f91, {0x1f29, 0x0399}},
    {0x1f92, {0x1f2a, 0x0399}},         {0x1f93, {0x1f2b, 0x0399}},         {0x1f94, {0x1f2c, 0x0399}},
    {0x1f95, {0x1f2d, 0x0399}},         {0x1f96, {0x1f2e, 0x0399}},         {0x1f97, {0x1f2f, 0x0399}},
    {0x1f98, {0x1f28, 0x0399}},         {0x1f99, {0x1f29, 0x0399}},         {0x1f9a, {0x1f2a, 0x0399}},
    {0x1f9b, {0x1f2b, 0x0399}},         {0x1f9c, {0x1f2c, 0x0399}},         {0x1f9d, {0x1f2d, 0x0399}},
    {0x1f9e, {0x1f2e, 0x0399}},         {0x1f9f, {0x1f2f, 0x0399}},         {0x1fa0, {0x1f68, 0x0399}},
    {0x1fa1, {0x1f69, 0x0399}},         {0x1fa2, {0x1f6a, 0x0399}},         {0x1fa3, {0x1f6b, 0x0399}},
    {0x1fa4, {0x1f6c, 0x0399}},         {0x1fa5, {0x1f6d, 0x0399}},         {0x1fa6, {0x1f6e, 0x0399}},
    {0x1fa7, {0x1f6f, 0x0399}},         {0x1fa8, {0x1f68, 0x0399}},         {0x1fa9, {0x1f69, 0x0399}},
    {0x1faa, {0x1f6a, 0x0399}},         {0x1fab, {0x1f6b, 0x0399}},         {0x1fac, {0x1f6c, 0x0399}},
    {0x1fad, {0x1f6d, 0x0399}},         {0x1fae, {0x1f6e, 0x0399}},         {0x1faf, {0x1f6f, 0x0399}},
    {0x1fb2, {0x1fba, 0x0399}},         {0x1fb3, {0x0391, 0x0399}},         {0x1fb4, {0x0386, 0x0399}},
    {0x1fb6, {0x0391, 0x0342}},         {0x1fb7, {0x0391, 0x0342, 0x0399}}, {0x1fbc, {0x0391, 0x0399}},
    {0x1fc2, {0x1fca, 0x0399}},         {0x1fc3, {0x0397, 0x0399}},         {0x1fc4, {0x0389, 0x0399}},
    {0x1fc6, {0x0397, 0x0342}},         {0x1fc7, {0x0397, 0x0342, 0x0399}}, {0x1fcc, {0x0397, 0x0399}},
    {0x1fd2, {0x0399, 0x0308, 0x0300}}, {0x1fd3, {0x0399, 0x0308, 0x0301}}, {0x1fd6, {0x0399, 0x0342}},
    {0x1fd7, {0x0399, 0x0308, 0x0342}}, {0x1fe2, {0x03a5, 0x0308, 0x0300}}, {0x1fe3, {0x03a5, 0x0308, 0x0301}},
    {0x1fe4, {0x03a1, 0x0313}},         {0x1fe6, {0x03a5, 0x0342}},         {0x1fe7, {0x03a5, 0x0308, 0x0342}},
    {0x1ff2, {0x1ffa, 0x0399}},         {0x1ff3, {0x03a9, 0x0399}},         {0x1ff4, {0x038f, 0x0399}},
    {0x1ff6, {0x03a9, 0x0342}},         {0x1ff7, {0x03a9, 0x0342, 0x0399}}, {0x1ffc, {0x03a9, 0x0399}},
    {0xfb00, {0x0046, 0x0046}},         {0xfb01, {0x0046, 0x0049}},         {0xfb02, {0x0046, 0x004c}},
    {0xfb03, {0x0046, 0x0046, 0x0049}}, {0xfb04, {0x0046, 0x0046, 0x004c}}, {0xfb05, {0x0053, 0x0054}},
    {0xfb06, {0x0053, 0x0054}},         {0xfb13, {0x0544, 0x0546}},         {0xfb14, {0x0544, 0x0535}},
    {0xfb15, {0x0544, 0x053b}},         {0xfb16, {0x054e, 0x0546}},         {0xfb17, {0x0544, 0x053d}},
};

uint32_t spark__j_upper_char(uint32_t cp, uint32_t out[3])
{
    for (size_t i = 0; cp >= 0xdf && i < SPARK_COUNT(text_upper_special); i++) {
        if (text_upper_special[i].from != cp) continue;
        uint32_t n = 0;
        while (n < 3 && text_upper_special[i].to[n]) {
            out[n] = text_upper_special[i].to[n];
            n++;
        }
        return n;
    }
    out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
    return 1;
}

uint32_t spark__j_lower_char(uint32_t cp, uint32_t out[3])
{
    if (cp == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    return 1;
}

static bool text_is_letter(uint32_t cp)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LT;
}

/* Small sigma at the end of a word has a form of its own: a letter before it, none behind. */
static bool text_final_sigma(const j_chars *at, bool letter_before)
{
    j_chars next = *at;
    return letter_before && !(spark__j_chars_next(&next) && text_is_letter(next.cp));
}

/* What separates words for Jinja's `title` filter, whose pattern is ([-\s({\[<]+). */
static bool text_title_separator(uint32_t cp)
{
    return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || spark__j_is_space(cp);
}

/* Whether the next character becomes upper case, after having seen `letter` (the last one was a cased letter) and
 * `first` (it begins the text or, for Jinja's title, a word). */
static bool text_goes_up(j_case how, bool first, bool letter, uint32_t cp)
{
    if (how == J_CASE_UPPER) return true;
    if (how == J_CASE_LOWER) return false;
    if (how == J_CASE_TITLE) return !letter;
    if (how == J_CASE_SWAP) return utf8proc_islower((utf8proc_int32_t)cp) != 0;
    return first;
}

spark_status spark__j_str_case(j_ctx *j, const j_str *s, j_case how, j_val *out)
{
    j_text *t = NULL;
    bool first = true, letter = false;
    SPARK_TRY(spark__j_text_new(j, s->len, &t));
    SPARK_TRY(spark__j_steps(j, s->len / 4));
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c);) {
        uint32_t to[3];
        uint32_t n = 0;
        if (text_goes_up(how, first, letter, c.cp)) {
            n = spark__j_upper_char(c.cp, to);
            if (n > 1 &&
                (how == J_CASE_TITLE || how == J_CASE_CAPITALIZE)) { /* title case: only the first is a capital */
                for (uint32_t i = 1; i < n; i++) to[i] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)to[i]);
            } else if (n == 1 && how != J_CASE_UPPER && how != J_CASE_JINJA_TITLE) {
                to[0] = how == J_CASE_SWAP ? to[0] : (uint32_t)utf8proc_totitle((utf8proc_int32_t)c.cp);
            }
        } else if (how == J_CASE_SWAP && !utf8proc_isupper((utf8proc_int32_t)c.cp)) {
            to[n++] = c.cp;
        } else {
            n = spark__j_lower_char(c.cp, to);
            if (c.cp == 0x3a3 && text_final_sigma(&c, letter)) to[0] = 0x3c2;
        }
        for (uint32_t i = 0; i < n; i++) SPARK_TRY(spark__j_text_char(j, t, to[i], c.foreign));
        first = how == J_CASE_JINJA_TITLE && text_title_separator(c.cp);
        letter = text_is_letter(c.cp);
    }
    return str_make(j, (j_str){.ptr = t->data, .len = t->len, .home = t, .markup = s->markup}, out);
}
