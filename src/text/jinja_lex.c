/* jinja_lex.c - a template's source into tokens: where tags begin and end, which white space around them goes, and
 * what stands inside them. Rules of jinja2/lexer.py 3.1 with trim_blocks and lstrip_blocks on. One pass, linear. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_internal.h"

typedef struct j_lexer {
    spark_bytes src;
    size_t pos;
    bool line_start; /* the last token ended with a newline (or there was none yet) */
    spark_arena *a, *tmp;
    spark_err *err;
    j_token *v;
    size_t n, cap;
} j_lexer;

void spark__j_err_at(spark_err *err, spark_bytes src, size_t at, spark_code code, const char *fmt, ...)
{
    char text[SPARK_ERR_TEXT];
    uint32_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < src.len; i++) {
        if (src.ptr[i] == '\n') {
            line++;
            column = 1;
        } else if ((src.ptr[i] & 0xc0) != 0x80) {
            column++;
        }
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    spark_err_set_line(err, code, line, column, "%s", text);
}

#define LEX_FAIL(l, at, ...) return spark__j_fail_at((l)->err, (l)->src, (at), SPARK_E_FORMAT, __VA_ARGS__)

spark_status spark__j_normalize(spark_bytes source, spark_arena *a, spark_bytes *out, spark_err *err)
{
    SPARK_CHECK(source.len <= SPARK_MAX_TEMPLATE_BYTES, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "template has %zu bytes, at most %u are allowed", source.len, SPARK_MAX_TEMPLATE_BYTES);
    const size_t valid = spark_utf8_valid_prefix(source.ptr, source.len, SIZE_MAX);
    if (valid != source.len) return spark__j_fail_at(err, source, valid, SPARK_E_FORMAT, "template is not UTF-8");
    spark_bytes copy;
    SPARK_TRY(spark_arena_copy(a, source, &copy, err));
    uint8_t *p = (uint8_t *)copy.ptr; /* ours: just allocated */
    size_t n = 0;
    for (size_t i = 0; i < copy.len; i++) {
        if (p[i] == '\r' && i + 1 < copy.len && p[i + 1] == '\n') continue;
        p[n++] = p[i] == '\r' ? '\n' : p[i];
    }
    if (n > 0 && p[n - 1] == '\n') n--; /* keep_trailing_newline is off */
    *out = (spark_bytes){p, n};
    return SPARK_SUCCESS;
}

static bool lex_at(const j_lexer *l, size_t pos, const char *s)
{
    const size_t n = strlen(s);
    return pos <= l->src.len && l->src.len - pos >= n && memcmp(l->src.ptr + pos, s, n) == 0;
}

static uint8_t lex_byte(const j_lexer *l, size_t pos) { return pos < l->src.len ? l->src.ptr[pos] : 0; }

static spark_bytes lex_range(const j_lexer *l, size_t begin, size_t end)
{
    return (spark_bytes){l->src.ptr + begin, end - begin};
}

static size_t lex_skip_space(const j_lexer *l, size_t pos)
{
    return pos + spark__j_space_prefix(lex_range(l, pos, l->src.len));
}

static spark_status lex_push(j_lexer *l, j_token t)
{
    if (l->n == l->cap) {
        j_token *v = NULL;
        const size_t cap = l->cap ? l->cap * 2 : 256;
        SPARK_TRY(SPARK_NEW(l->tmp, cap, &v, l->err));
        if (l->n) memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = t;
    return SPARK_SUCCESS;
}

static spark_status lex_push_simple(j_lexer *l, j_tok type, size_t at, size_t end)
{
    l->pos = end;
    return lex_push(l, (j_token){.type = type, .at = (uint32_t)at, .text = lex_range(l, at, end)});
}

/* Text before a tag; `sign` is what follows the two opening bytes, `block` whether lstrip_blocks speaks of this tag. */
static spark_status lex_push_data(j_lexer *l, size_t begin, size_t end, uint8_t sign, bool block)
{
    spark_bytes text = lex_range(l, begin, end);
    if (sign == '-') {
        text.len -= spark__j_space_suffix(text);
    } else if (sign != '+' && block) {
        size_t line = text.len;
        while (line > 0 && text.ptr[line - 1] != '\n') line--;
        const spark_bytes tail = {text.ptr + line, text.len - line};
        if ((line > 0 || l->line_start) && spark__j_space_prefix(tail) == tail.len) text.len = line;
    }
    if (text.len == 0) return SPARK_SUCCESS;
    return lex_push(l, (j_token){.type = JT_DATA, .at = (uint32_t)begin, .text = text});
}

/* ---- inside of tags ---------------------------------------------------------------------------------------------- */

static bool lex_is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
static bool lex_is_name(uint8_t c) { return c == '_' || lex_is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'z'); }

static int lex_digit(uint8_t c)
{
    if (lex_is_digit(c)) return c - '0';
    const int low = c | 32;
    return low >= 'a' && low <= 'z' ? low - 'a' + 10 : 99;
}

/* The end of digits of `base`, single underscores between them; pos itself if there is none. */
static size_t lex_digits(const j_lexer *l, size_t pos, int base)
{
    size_t p = pos;
    while (lex_digit(lex_byte(l, p)) < base ||
           (p > pos && lex_byte(l, p) == '_' && lex_digit(lex_byte(l, p + 1)) < base))
        p++;
    return p;
}

static spark_status lex_int(j_lexer *l, size_t begin, size_t end, int base)
{
    int64_t v = 0;
    const size_t at = base == 10 ? begin : begin + 2;
    for (size_t p = at; p < end; p++) {
        if (l->src.ptr[p] == '_') continue;
        const int d = lex_digit(l->src.ptr[p]);
        if (v > (INT64_MAX - d) / base)
            return spark__j_fail_at(l->err, l->src, begin, SPARK_E_LIMIT, "integer needs more than 64 bits");
        v = v * base + d;
    }
    l->pos = end;
    return lex_push(l, (j_token){.type = JT_INT, .at = (uint32_t)begin, .text = lex_range(l, begin, end), .num.i = v});
}

static spark_status lex_float(j_lexer *l, size_t begin, size_t end)
{
    char text[128];
    size_t n = 0;
    double f = 0;
    for (size_t p = begin; p < end && n < sizeof text; p++)
        if (l->src.ptr[p] != '_') text[n++] = (char)l->src.ptr[p];
    if (n == sizeof text || !spark__j_parse_double((spark_bytes){(const uint8_t *)text, n}, &f))
        LEX_FAIL(l, begin, "number has too many digits");
    l->pos = end;
    return lex_push(l,
                    (j_token){.type = JT_FLOAT, .at = (uint32_t)begin, .text = lex_range(l, begin, end), .num.f = f});
}

static spark_status lex_number(j_lexer *l)
{
    const size_t at = l->pos;
    const size_t digits = lex_digits(l, at, 10);
    size_t end = digits;
    if (lex_byte(l, end) == '.' && lex_is_digit(lex_byte(l, end + 1))) end = lex_digits(l, end + 1, 10);
    if ((lex_byte(l, end) | 32) == 'e') {
        const uint8_t sign = lex_byte(l, end + 1);
        const size_t exponent = end + 1 + (sign == '+' || sign == '-');
        if (lex_is_digit(lex_byte(l, exponent))) end = lex_digits(l, exponent, 10);
    }
    const bool after_dot = at > 0 && l->src.ptr[at - 1] == '.'; /* a.0.1 is two subscripts */
    if (end != digits && !after_dot) return lex_float(l, at, end);
    if (lex_byte(l, at) != '0') return lex_int(l, at, digits, 10);
    const int kind = lex_byte(l, at + 1) | 32;
    const int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    if (base != 10 && lex_digits(l, at + 2, base) > at + 2) return lex_int(l, at, lex_digits(l, at + 2, base), base);
    size_t zeros = at;
    while (lex_byte(l, zeros) == '0') zeros++;
    return lex_int(l, at, zeros, 10);
}

/* Up to `max` digits of `base` at p; returns how many. */
static unsigned lex_escape_digits(const uint8_t *p, size_t left, unsigned max, int base, uint32_t *cp)
{
    unsigned n = 0;
    *cp = 0;
    while (n < max && n < left && lex_digit(p[n]) < base) *cp = *cp * (uint32_t)base + (uint32_t)lex_digit(p[n++]);
    return n;
}

/* One escape at p (behind the backslash): bytes consumed, what it stands for appended to out. 0 if it is malformed.
 * Unknown escapes keep their backslash, as in Python. */
static size_t lex_escape(const uint8_t *p, size_t left, uint8_t *out, size_t *n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *simple = p[0] ? strchr(from, p[0]) : NULL;
    uint32_t cp = 0;
    size_t used = 1;
    if (p[0] == '\n') return 1;
    if (simple) {
        out[(*n)++] = (uint8_t)to[simple - from];
        return 1;
    }
    if (p[0] >= '0' && p[0] <= '7') {
        used = lex_escape_digits(p, left, 3, 8, &cp);
    } else if (p[0] == 'x' || p[0] == 'u' || p[0] == 'U') {
        const unsigned want = p[0] == 'x' ? 2 : p[0] == 'u' ? 4 : 8;
        if (lex_escape_digits(p + 1, left - 1, want, 16, &cp) != want) return 0;
        used = 1 + want;
    } else if (p[0] == 'N') {
        return 0;
    } else {
        out[(*n)++] = '\\';
        return SIZE_MAX; /* nothing consumed: the character follows as it is */
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) return 0;
    *n += spark_utf8_encode(cp, out + *n);
    return used;
}

static spark_status lex_string(j_lexer *l)
{
    const size_t at = l->pos;
    const uint8_t quote = l->src.ptr[at];
    size_t end = at + 1;
    bool escapes = false;
    for (; end < l->src.len && l->src.ptr[end] != quote; end++) {
        if (l->src.ptr[end] != '\\') continue;
        escapes = true;
        end++;
    }
    if (end >= l->src.len) LEX_FAIL(l, at, "string is not closed");
    spark_bytes text = lex_range(l, at + 1, end);
    if (escapes) {
        uint8_t *out = NULL;
        size_t n = 0;
        SPARK_TRY(SPARK_NEW(l->a, text.len + 1, &out, l->err)); /* no escape is shorter than what it stands for */
        for (size_t i = 0; i < text.len;) {
            if (text.ptr[i] != '\\') {
                out[n++] = text.ptr[i++];
                continue;
            }
            const size_t used = lex_escape(text.ptr + i + 1, text.len - i - 1, out, &n);
            if (used == 0) LEX_FAIL(l, at + 1 + i, "escape in a string that cannot be decoded");
            i += used == SIZE_MAX ? 1 : 1 + used;
        }
        text = (spark_bytes){out, n};
    }
    l->pos = end + 1;
    return lex_push(l, (j_token){.type = JT_STRING, .at = (uint32_t)at, .text = text});
}

static const struct {
    char text[3];
    j_tok type;
} lex_operators[] = {
    /* longest first */
    {"//", JT_FLOORDIV}, {"**", JT_POW},      {"==", JT_EQ},    {"!=", JT_NE},    {">=", JT_GE},    {"<=", JT_LE},
    {"+", JT_ADD},       {"-", JT_SUB},       {"*", JT_MUL},    {"/", JT_DIV},    {"%", JT_MOD},    {"~", JT_TILDE},
    {"[", JT_LBRACKET},  {"]", JT_RBRACKET},  {"(", JT_LPAREN}, {")", JT_RPAREN}, {"{", JT_LBRACE}, {"}", JT_RBRACE},
    {">", JT_GT},        {"<", JT_LT},        {"=", JT_ASSIGN}, {".", JT_DOT},    {":", JT_COLON},  {"|", JT_PIPE},
    {",", JT_COMMA},     {";", JT_SEMICOLON},
};

/* Brackets must pair up inside of one tag; `}}` inside of braces does not end it. */
typedef struct lex_brackets {
    uint8_t open[SPARK_MAX_TEMPLATE_DEPTH];
    uint32_t n;
} lex_brackets;

static spark_status lex_bracket(j_lexer *l, lex_brackets *b)
{
    const uint8_t c = l->src.ptr[l->pos];
    if (c == '(' || c == '[' || c == '{') {
        if (b->n == SPARK_MAX_TEMPLATE_DEPTH)
            return spark__j_fail_at(l->err, l->src, l->pos, SPARK_E_LIMIT, "brackets nest deeper than %u",
                                    SPARK_MAX_TEMPLATE_DEPTH);
        b->open[b->n++] = c == '(' ? ')' : (uint8_t)(c + 2); /* ASCII: [ \ ] and { | } */
    } else if (c == ')' || c == ']' || c == '}') {
        if (b->n == 0) LEX_FAIL(l, l->pos, "unexpected '%c'", c);
        const uint8_t want = b->open[--b->n];
        if (c != want) LEX_FAIL(l, l->pos, "unexpected '%c', expected '%c'", c, want);
    }
    return SPARK_SUCCESS;
}

static spark_status lex_operator(j_lexer *l, lex_brackets *b)
{
    for (size_t i = 0; i < SPARK_COUNT(lex_operators); i++) {
        if (!lex_at(l, l->pos, lex_operators[i].text)) continue;
        SPARK_TRY(lex_bracket(l, b));
        return lex_push_simple(l, lex_operators[i].type, l->pos, l->pos + strlen(lex_operators[i].text));
    }
    LEX_FAIL(l, l->pos, "unexpected character in a tag");
}

/* The end of a tag at the present position, with the white space it takes along; 0 if there is none. */
static size_t lex_tag_end(const j_lexer *l, const char *close, bool block)
{
    const size_t p = l->pos;
    const uint8_t c = lex_byte(l, p);
    if (c == '-' && lex_at(l, p + 1, close)) return lex_skip_space(l, p + 3);
    if (block && c == '+' && lex_at(l, p + 1, close)) return p + 3;
    if (!lex_at(l, p, close)) return 0;
    return p + 2 + (block && lex_byte(l, p + 2) == '\n'); /* trim_blocks */
}

static spark_status lex_tag(j_lexer *l, bool block)
{
    lex_brackets brackets = {.n = 0};
    const size_t begin = l->pos;
    const char *close = block ? "%}" : "}}";
    SPARK_TRY(lex_push_simple(l, block ? JT_BLOCK_BEGIN : JT_VAR_BEGIN, begin,
                              begin + 2 + (lex_byte(l, begin + 2) == '-' || lex_byte(l, begin + 2) == '+')));
    for (;;) {
        l->pos = lex_skip_space(l, l->pos);
        if (l->pos >= l->src.len) LEX_FAIL(l, begin, "tag is not closed");
        const size_t end = brackets.n == 0 ? lex_tag_end(l, close, block) : 0;
        if (end) return lex_push_simple(l, block ? JT_BLOCK_END : JT_VAR_END, l->pos, end);
        const uint8_t c = l->src.ptr[l->pos];
        if (lex_is_digit(c)) {
            SPARK_TRY(lex_number(l));
        } else if (lex_is_name(c)) {
            size_t p = l->pos;
            while (lex_is_name(lex_byte(l, p))) p++;
            SPARK_TRY(lex_push_simple(l, JT_NAME, l->pos, p));
        } else if (c == '\'' || c == '"') {
            SPARK_TRY(lex_string(l));
        } else {
            SPARK_TRY(lex_operator(l, &brackets));
        }
    }
}

/* ---- outside of tags --------------------------------------------------------------------------------------------- */

static spark_status lex_comment(j_lexer *l)
{
    const size_t begin = l->pos;
    const uint8_t sign = lex_byte(l, begin + 2);
    const size_t inner = begin + 2 + (sign == '-' || sign == '+');
    const size_t end = spark__j_find_bytes(l->src, SPARK_BYTES_LITERAL("#}"), inner);
    if (inner == l->src.len) { /* Jinja2 lets this pass if nothing at all follows */
        l->pos = inner;
        return SPARK_SUCCESS;
    }
    if (end == SIZE_MAX) LEX_FAIL(l, begin, "comment is not closed");
    const uint8_t last = end > inner ? l->src.ptr[end - 1] : 0;
    l->pos = end + 2;
    if (last == '-')
        l->pos = lex_skip_space(l, l->pos);
    else if (last != '+' && lex_byte(l, l->pos) == '\n')
        l->pos++;
    return SPARK_SUCCESS;
}

/* {% word %} at pos, any signs and spaces: the end of the tag, 0 if it is something else. `trim`: a plain end takes one
 * newline along (endraw does, raw does not). */
static size_t lex_bare_tag(const j_lexer *l, size_t pos, const char *word, bool trim)
{
    if (!lex_at(l, pos, "{%")) return 0;
    pos += 2;
    if (lex_byte(l, pos) == '-' || lex_byte(l, pos) == '+') pos++;
    pos = lex_skip_space(l, pos);
    if (!lex_at(l, pos, word)) return 0;
    pos = lex_skip_space(l, pos + strlen(word));
    if (lex_at(l, pos, "-%}")) return lex_skip_space(l, pos + 3);
    if (trim && lex_at(l, pos, "+%}")) return pos + 3;
    if (!lex_at(l, pos, "%}")) return 0;
    return pos + 2 + (trim && lex_byte(l, pos + 2) == '\n');
}

static spark_status lex_raw(j_lexer *l, size_t body)
{
    const size_t begin = l->pos;
    l->line_start = l->src.ptr[body - 1] == '\n';
    l->pos = body;
    if (body == l->src.len) return SPARK_SUCCESS; /* Jinja2 lets this pass if nothing at all follows */
    for (size_t p = body;; p += 2) {
        p = spark__j_find_bytes(l->src, SPARK_BYTES_LITERAL("{%"), p);
        if (p == SIZE_MAX) LEX_FAIL(l, begin, "raw block is not closed");
        const size_t end = lex_bare_tag(l, p, "endraw", true);
        if (!end) continue;
        l->pos = end;
        return lex_push_data(l, body, p, lex_byte(l, p + 2), true);
    }
}

/* The next {{ {% or {#, or the end. */
static size_t lex_next_tag(const j_lexer *l)
{
    for (size_t p = l->pos; p + 1 < l->src.len; p++) {
        const uint8_t *brace = memchr(l->src.ptr + p, '{', l->src.len - 1 - p);
        if (!brace) break;
        p = (size_t)(brace - l->src.ptr);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') return p;
    }
    return l->src.len;
}

spark_status spark__j_lex(spark_bytes src, spark_arena *a, spark_arena *tmp, j_token **out, size_t *n, spark_err *err)
{
    j_lexer l = {.src = src, .line_start = true, .a = a, .tmp = tmp, .err = err};
    while (l.pos < src.len) {
        const size_t tag = lex_next_tag(&l);
        const uint8_t kind = lex_byte(&l, tag + 1);
        if (tag == src.len)
            SPARK_TRY(lex_push_data(&l, l.pos, tag, '+', false));
        else
            SPARK_TRY(lex_push_data(&l, l.pos, tag, lex_byte(&l, tag + 2), kind != '{'));
        l.pos = tag;
        if (tag == src.len) break;
        const size_t raw = lex_bare_tag(&l, tag, "raw", false);
        if (raw)
            SPARK_TRY(lex_raw(&l, raw));
        else if (kind == '#')
            SPARK_TRY(lex_comment(&l));
        else
            SPARK_TRY(lex_tag(&l, kind == '%'));
        l.line_start = src.ptr[l.pos - 1] == '\n';
    }
    SPARK_TRY(lex_push(&l, (j_token){.type = JT_END, .at = (uint32_t)src.len}));
    *out = l.v;
    *n = l.n;
    return SPARK_SUCCESS;
}
