/* jinja_parse.c - expressions of the template language into a tree: the grammar of jinja2/parser.py 3.1. Operators of one
 * level become one node with many kids, so long sums make no deep trees; every rule that can call itself is counted. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_internal.h"

/* ---- shared with the statements ---------------------------------------------------------------------------------- */

void spark__j_parse_err(j_parser *p, const j_token *at, const char *fmt, ...)
{
    char text[SPARK_ERR_TEXT];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    spark__j_err_at(p->err, p->t->src, at->at, SPARK_E_FORMAT, "%s", text);
}

spark_status spark__j_parse_enter(j_parser *p)
{
    /* One level of nesting goes through up to three counted rules: expression, unary, primary. */
    if (++p->depth <= 4 * SPARK_MAX_TEMPLATE_DEPTH) return SPARK_SUCCESS;
    return spark__j_fail_at(p->err, p->t->src, p->tok->at, SPARK_E_LIMIT, "nested deeper than %u",
                            SPARK_MAX_TEMPLATE_DEPTH);
}

static spark_status parse_unexpected(j_parser *p, const char *what)
{
    if (p->tok->type == JT_END) return spark__j_parse_fail(p, p->tok, "unexpected end of template, expected %s", what);
    const int n = p->tok->text.len < 60 ? (int)p->tok->text.len : 60;
    return spark__j_parse_fail(p, p->tok, "expected %s, got '%.*s'", what, n, (const char *)p->tok->text.ptr);
}

spark_status spark__j_parse_expect(j_parser *p, j_tok type, const char *what)
{
    if (p->tok->type != type) return parse_unexpected(p, what);
    p->tok++;
    return SPARK_SUCCESS;
}

static bool parse_skip(j_parser *p, j_tok type)
{
    if (p->tok->type != type) return false;
    p->tok++;
    return true;
}

bool spark__j_parse_is_name(const j_token *t, const char *name)
{
    return t->type == JT_NAME && spark_bytes_is(t->text, name);
}

static bool parse_skip_name(j_parser *p, const char *name)
{
    if (!spark__j_parse_is_name(p->tok, name)) return false;
    p->tok++;
    return true;
}

spark_status spark__j_parse_node(j_parser *p, j_kind kind, const j_token *at, uint32_t n, j_node **out)
{
    j_node *node = NULL;
    SPARK_TRY(SPARK_NEW(p->a, 1, &node, p->err));
    if (n) SPARK_TRY(SPARK_NEW(p->a, n, &node->kids, p->err));
    node->kind = kind;
    node->at = at->at;
    node->n = n;
    *out = node;
    return SPARK_SUCCESS;
}

spark_status spark__j_parse_symbol(j_parser *p, spark_bytes name, uint32_t *out)
{
    *out = spark_strmap_put(p->syms, name, p->t->n_symbols);
    if (*out == p->t->n_symbols) p->t->symbols[p->t->n_symbols++] = name;
    return SPARK_SUCCESS;
}

spark_status spark__j_kids_push(j_parser *p, j_kids *k, j_node *node)
{
    if (k->n == k->cap) {
        j_node **v = NULL;
        const uint32_t cap = k->cap ? k->cap * 2 : 4;
        SPARK_TRY(SPARK_NEW(p->tmp, cap, &v, p->err));
        if (k->n) memcpy(v, k->v, k->n * sizeof *v);
        k->v = v;
        k->cap = cap;
    }
    k->v[k->n++] = node;
    return SPARK_SUCCESS;
}

spark_status spark__j_kids_close(j_parser *p, const j_kids *k, j_kind kind, const j_token *at, j_node **out)
{
    SPARK_TRY(spark__j_parse_node(p, kind, at, k->n, out));
    if (k->n) memcpy((*out)->kids, k->v, k->n * sizeof *k->v);
    return SPARK_SUCCESS;
}

/* ---- primaries --------------------------------------------------------------------------------------------------- */

static spark_status parse_const(j_parser *p, const j_token *at, j_val value, j_node **out)
{
    SPARK_TRY(spark__j_parse_node(p, JN_CONST, at, 0, out));
    (*out)->value = value;
    return SPARK_SUCCESS;
}

static spark_status parse_str(j_parser *p, const j_token *at, spark_bytes b, j_node **out)
{
    j_str *s = NULL;
    SPARK_TRY(SPARK_NEW(p->a, 1, &s, p->err));
    *s = (j_str){.ptr = b.ptr, .len = b.len};
    return parse_const(p, at, (j_val){.type = J_STR, .u.s = s}, out);
}

/* Adjacent strings are one. */
static spark_status parse_strings(j_parser *p, j_node **out)
{
    const j_token *at = p->tok;
    size_t len = 0;
    while (p->tok->type == JT_STRING) len += (p->tok++)->text.len;
    if (p->tok == at + 1) return parse_str(p, at, at->text, out);
    uint8_t *joined = NULL;
    SPARK_TRY(SPARK_NEW(p->a, len, &joined, p->err));
    size_t n = 0;
    for (const j_token *t = at; t < p->tok; t++) {
        if (t->text.len) memcpy(joined + n, t->text.ptr, t->text.len);
        n += t->text.len;
    }
    return parse_str(p, at, (spark_bytes){joined, n}, out);
}

static spark_status parse_name(j_parser *p, j_node **out)
{
    const j_token *at = p->tok++;
    const struct {
        const char *name;
        j_val value;
    } constants[] = {{"true", spark__j_bool(true)},   {"True", spark__j_bool(true)}, {"false", spark__j_bool(false)},
                     {"False", spark__j_bool(false)}, {"none", spark__j_none()},     {"None", spark__j_none()}};
    for (size_t i = 0; i < SPARK_COUNT(constants); i++)
        if (spark_bytes_is(at->text, constants[i].name)) return parse_const(p, at, constants[i].value, out);
    SPARK_TRY(spark__j_parse_node(p, JN_NAME, at, 0, out));
    (*out)->name = at->text;
    if (spark_bytes_is(at->text, "varargs")) p->macro_uses |= J_MACRO_VARARGS;
    if (spark_bytes_is(at->text, "kwargs")) p->macro_uses |= J_MACRO_KWARGS;
    if (spark_bytes_is(at->text, "caller")) p->macro_uses |= J_MACRO_CALLER;
    return spark__j_parse_symbol(p, at->text, &(*out)->sym);
}

static spark_status parse_list(j_parser *p, j_node **out)
{
    const j_token *at = p->tok++;
    j_kids kids = {0};
    j_node *item = NULL;
    while (p->tok->type != JT_RBRACKET) {
        if (kids.n) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        if (p->tok->type == JT_RBRACKET) break;
        SPARK_TRY(spark__j_parse_expr(p, &item));
        SPARK_TRY(spark__j_kids_push(p, &kids, item));
    }
    p->tok++;
    return spark__j_kids_close(p, &kids, JN_LIST, at, out);
}

static spark_status parse_dict(j_parser *p, j_node **out)
{
    const j_token *at = p->tok++;
    j_kids kids = {0};
    j_node *item = NULL;
    while (p->tok->type != JT_RBRACE) {
        if (kids.n) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        if (p->tok->type == JT_RBRACE) break;
        SPARK_TRY(spark__j_parse_expr(p, &item));
        SPARK_TRY(spark__j_kids_push(p, &kids, item));
        SPARK_TRY(spark__j_parse_expect(p, JT_COLON, "':'"));
        SPARK_TRY(spark__j_parse_expr(p, &item));
        SPARK_TRY(spark__j_kids_push(p, &kids, item));
    }
    p->tok++;
    return spark__j_kids_close(p, &kids, JN_DICT, at, out);
}

static bool parse_at_tuple_end(const j_parser *p, const char *end)
{
    const j_tok t = p->tok->type;
    return t == JT_VAR_END || t == JT_BLOCK_END || t == JT_RPAREN || (end && spark__j_parse_is_name(p->tok, end));
}

static spark_status parse_primary(j_parser *p, j_node **out);

typedef spark_status parse_rule(j_parser *p, j_node **out);

/* item [, item]*; `empty` allows (), `end` is a name that ends it. */
static spark_status parse_tuple(j_parser *p, bool empty, parse_rule *rule, const char *end, j_node **out)
{
    const j_token *at = p->tok;
    j_kids kids = {0};
    bool tuple = false;
    for (;;) {
        j_node *item = NULL;
        if (kids.n) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        if (parse_at_tuple_end(p, end)) break;
        SPARK_TRY(rule(p, &item));
        SPARK_TRY(spark__j_kids_push(p, &kids, item));
        if (p->tok->type != JT_COMMA) break;
        tuple = true;
    }
    if (!tuple && kids.n) {
        *out = kids.v[0];
        return SPARK_SUCCESS;
    }
    if (!tuple && !empty) return parse_unexpected(p, "an expression");
    return spark__j_kids_close(p, &kids, JN_TUPLE, at, out);
}

spark_status spark__j_parse_tuple(j_parser *p, j_node **out)
{
    return parse_tuple(p, false, spark__j_parse_expr, NULL, out);
}

static spark_status parse_or(j_parser *p, j_node **out);

spark_status spark__j_parse_iterable(j_parser *p, j_node **out)
{
    return parse_tuple(p, false, parse_or, "recursive", out);
}

static spark_status parse_primary(j_parser *p, j_node **out)
{
    const j_token *at = p->tok;
    SPARK_TRY(spark__j_parse_enter(p));
    if (at->type == JT_NAME) {
        SPARK_TRY(parse_name(p, out));
    } else if (at->type == JT_STRING) {
        SPARK_TRY(parse_strings(p, out));
    } else if (at->type == JT_INT || at->type == JT_FLOAT) {
        p->tok++;
        SPARK_TRY(parse_const(p, at, at->type == JT_INT ? spark__j_int(at->num.i) : spark__j_float(at->num.f), out));
    } else if (at->type == JT_LPAREN) {
        p->tok++;
        SPARK_TRY(parse_tuple(p, true, spark__j_parse_expr, NULL, out));
        SPARK_TRY(spark__j_parse_expect(p, JT_RPAREN, "')'"));
    } else if (at->type == JT_LBRACKET) {
        SPARK_TRY(parse_list(p, out));
    } else if (at->type == JT_LBRACE) {
        SPARK_TRY(parse_dict(p, out));
    } else {
        return parse_unexpected(p, "an expression");
    }
    p->depth--;
    return SPARK_SUCCESS;
}

/* ---- behind a primary: subscripts, calls, filters, tests --------------------------------------------------------- */

/* (expr, expr, name=expr): pushed behind what kids holds already; the names go to the node. */
static spark_status parse_args(j_parser *p, j_kids *kids, const spark_bytes **keys, uint32_t *n_keys)
{
    const uint32_t before = kids->n;
    spark_bytes *names = NULL;
    uint32_t cap = 0;
    p->tok++;
    while (p->tok->type != JT_RPAREN) {
        j_node *arg = NULL;
        if (kids->n > before) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        if (p->tok->type == JT_RPAREN) break;
        if (p->tok->type == JT_MUL || p->tok->type == JT_POW)
            return spark__j_parse_fail(p, p->tok, "unpacking of arguments with * or ** is not supported");
        if (p->tok->type == JT_NAME && p->tok[1].type == JT_ASSIGN) {
            if (*n_keys == cap) {
                spark_bytes *more = NULL;
                cap = cap ? cap * 2 : 4;
                SPARK_TRY(SPARK_NEW(p->a, cap, &more, p->err));
                if (*n_keys) memcpy(more, names, *n_keys * sizeof *names);
                names = more;
            }
            names[(*n_keys)++] = p->tok->text;
            p->tok += 2;
        } else if (*n_keys) {
            return spark__j_parse_fail(p, p->tok, "argument without a name after one with a name");
        }
        SPARK_TRY(spark__j_parse_expr(p, &arg));
        SPARK_TRY(spark__j_kids_push(p, kids, arg));
    }
    p->tok++;
    *keys = names;
    return SPARK_SUCCESS;
}

static spark_status parse_with_args(j_parser *p, j_kind kind, const j_token *at, j_node *first, j_node **out)
{
    j_kids kids = {0};
    const spark_bytes *keys = NULL;
    uint32_t n_keys = 0;
    SPARK_TRY(spark__j_kids_push(p, &kids, first));
    if (p->tok->type == JT_LPAREN) SPARK_TRY(parse_args(p, &kids, &keys, &n_keys));
    SPARK_TRY(spark__j_kids_close(p, &kids, kind, at, out));
    (*out)->keys = keys;
    (*out)->n_keys = n_keys;
    return SPARK_SUCCESS;
}

/* [expr], [a:b:c]: one subscript. */
static spark_status parse_subscribed(j_parser *p, j_node **out)
{
    const j_token *at = p->tok;
    j_node *parts[3] = {NULL, NULL, NULL};
    if (p->tok->type != JT_COLON) SPARK_TRY(spark__j_parse_expr(p, &parts[0]));
    if (p->tok->type != JT_COLON) {
        *out = parts[0];
        return SPARK_SUCCESS;
    }
    for (int i = 1; i < 3 && parse_skip(p, JT_COLON); i++)
        if (p->tok->type != JT_COLON && p->tok->type != JT_RBRACKET && p->tok->type != JT_COMMA)
            SPARK_TRY(spark__j_parse_expr(p, &parts[i]));
    SPARK_TRY(spark__j_parse_node(p, JN_SLICE, at, 3, out));
    memcpy((*out)->kids, parts, sizeof parts);
    return SPARK_SUCCESS;
}

static spark_status parse_item(j_parser *p, j_node *object, j_node **out)
{
    const j_token *at = p->tok++;
    j_kids kids = {0};
    j_node *key = NULL;
    do {
        SPARK_TRY(parse_subscribed(p, &key));
        SPARK_TRY(spark__j_kids_push(p, &kids, key));
    } while (parse_skip(p, JT_COMMA));
    SPARK_TRY(spark__j_parse_expect(p, JT_RBRACKET, "']'"));
    if (kids.n > 1) SPARK_TRY(spark__j_kids_close(p, &kids, JN_TUPLE, at, &key));
    SPARK_TRY(spark__j_parse_node(p, JN_ITEM, at, 2, out));
    (*out)->kids[0] = object;
    (*out)->kids[1] = key;
    return SPARK_SUCCESS;
}

static spark_status parse_attribute(j_parser *p, j_node *object, j_node **out)
{
    const j_token *at = p->tok++, *name = p->tok;
    if (name->type == JT_NAME) {
        p->tok++;
        SPARK_TRY(spark__j_parse_node(p, JN_ATTR, at, 1, out));
        (*out)->name = name->text;
    } else if (name->type == JT_INT) {
        p->tok++;
        SPARK_TRY(spark__j_parse_node(p, JN_ITEM, at, 2, out));
        SPARK_TRY(parse_const(p, name, spark__j_int(name->num.i), &(*out)->kids[1]));
    } else {
        return parse_unexpected(p, "a name or number");
    }
    (*out)->kids[0] = object;
    return SPARK_SUCCESS;
}

spark_status spark__j_parse_postfix(j_parser *p, j_node **node)
{
    for (;;) {
        if (p->tok->type == JT_DOT)
            SPARK_TRY(parse_attribute(p, *node, node));
        else if (p->tok->type == JT_LBRACKET)
            SPARK_TRY(parse_item(p, *node, node));
        else if (p->tok->type == JT_LPAREN)
            SPARK_TRY(parse_with_args(p, JN_CALL, p->tok, *node, node));
        else
            return SPARK_SUCCESS;
    }
}

/* name or name.name: the whole as it stands in the source. */
static spark_status parse_dotted(j_parser *p, spark_bytes *out)
{
    const j_token *first = p->tok;
    SPARK_TRY(spark__j_parse_expect(p, JT_NAME, "a name"));
    while (parse_skip(p, JT_DOT)) SPARK_TRY(spark__j_parse_expect(p, JT_NAME, "a name"));
    const spark_bytes last = p->tok[-1].text;
    *out = (spark_bytes){first->text.ptr, (size_t)(last.ptr + last.len - first->text.ptr)};
    return SPARK_SUCCESS;
}

/* Fills in what a filter or test is; one that nobody knows is an error here, or inside of a branch when reached. */
static spark_status parse_resolve(j_parser *p, const j_token *at, j_node *node, const j_builtin *fn, const char *kind)
{
    const int n = node->name.len < 80 ? (int)node->name.len : 80;
    node->fn = fn;
    if (fn || p->soft || p->conditional) return SPARK_SUCCESS;
    return spark__j_parse_fail(p, at, "no %s named '%.*s'", kind, n, (const char *)node->name.ptr);
}

static spark_status parse_filter(j_parser *p, j_node *input, j_node **out)
{
    const j_token *at = p->tok;
    spark_bytes name;
    SPARK_TRY(parse_dotted(p, &name));
    SPARK_TRY(parse_with_args(p, JN_FILTER, at, input, out));
    (*out)->name = name;
    return parse_resolve(p, at, *out, spark__j_filter(name), "filter");
}

spark_status spark__j_parse_block_filter(j_parser *p, bool inline_start, j_node **out)
{
    *out = NULL;
    if (inline_start) SPARK_TRY(parse_filter(p, NULL, out));
    while (parse_skip(p, JT_PIPE)) SPARK_TRY(parse_filter(p, *out, out));
    return SPARK_SUCCESS;
}

/* Whether an argument without parentheses follows a test, as in `is divisibleby 3`. */
static bool parse_at_test_argument(const j_parser *p)
{
    const j_token *t = p->tok;
    if (spark__j_parse_is_name(t, "else") || spark__j_parse_is_name(t, "or") || spark__j_parse_is_name(t, "and"))
        return false;
    return t->type == JT_NAME || t->type == JT_STRING || t->type == JT_INT || t->type == JT_FLOAT ||
           t->type == JT_LBRACKET || t->type == JT_LBRACE;
}

static spark_status parse_test(j_parser *p, j_node *input, j_node **out)
{
    const j_token *at = p->tok++;
    const bool negated = parse_skip_name(p, "not");
    const j_token *name_at = p->tok;
    spark_bytes name;
    SPARK_TRY(parse_dotted(p, &name));
    if (parse_at_test_argument(p)) {
        if (spark__j_parse_is_name(p->tok, "is"))
            return spark__j_parse_fail(p, p->tok, "tests with 'is' cannot be chained");
        j_node *arg = NULL;
        SPARK_TRY(parse_primary(p, &arg));
        SPARK_TRY(spark__j_parse_postfix(p, &arg));
        SPARK_TRY(spark__j_parse_node(p, JN_TEST, at, 2, out));
        (*out)->kids[0] = input;
        (*out)->kids[1] = arg;
    } else {
        SPARK_TRY(parse_with_args(p, JN_TEST, at, input, out));
    }
    (*out)->name = name;
    SPARK_TRY(parse_resolve(p, name_at, *out, spark__j_test(name), "test"));
    if (!negated) return SPARK_SUCCESS;
    j_node *test = *out;
    SPARK_TRY(spark__j_parse_node(p, JN_NOT, at, 1, out));
    (*out)->kids[0] = test;
    return SPARK_SUCCESS;
}

/* ---- operators --------------------------------------------------------------------------------------------------- */

static spark_status parse_unary(j_parser *p, bool with_filter, j_node **out)
{
    const j_token *at = p->tok;
    SPARK_TRY(spark__j_parse_enter(p));
    if (at->type == JT_SUB || at->type == JT_ADD) {
        j_node *operand = NULL;
        p->tok++;
        SPARK_TRY(parse_unary(p, false, &operand));
        SPARK_TRY(spark__j_parse_node(p, at->type == JT_SUB ? JN_NEG : JN_POS, at, 1, out));
        (*out)->kids[0] = operand;
    } else {
        SPARK_TRY(parse_primary(p, out));
    }
    SPARK_TRY(spark__j_parse_postfix(p, out));
    while (with_filter) {
        if (parse_skip(p, JT_PIPE))
            SPARK_TRY(parse_filter(p, *out, out));
        else if (spark__j_parse_is_name(p->tok, "is"))
            SPARK_TRY(parse_test(p, *out, out));
        else if (p->tok->type == JT_LPAREN)
            SPARK_TRY(parse_with_args(p, JN_CALL, p->tok, *out, out));
        else
            break;
    }
    p->depth--;
    return SPARK_SUCCESS;
}

/* Binary operators by level, loosest first; every level is left-associative, ** too (as in Jinja2). */
static bool parse_is_operator(j_tok t, unsigned level)
{
    if (level == 0) return t == JT_ADD || t == JT_SUB;
    if (level == 1) return t == JT_TILDE;
    if (level == 2) return t == JT_MUL || t == JT_DIV || t == JT_FLOORDIV || t == JT_MOD;
    return t == JT_POW;
}

static spark_status parse_arith(j_parser *p, unsigned level, j_node **out)
{
    if (level == 4) return parse_unary(p, true, out);
    const j_token *at = p->tok;
    j_kids kids = {0};
    SPARK_TRY(parse_arith(p, level + 1, out));
    if (!parse_is_operator(p->tok->type, level)) return SPARK_SUCCESS;
    const j_token *first_op = p->tok;
    SPARK_TRY(spark__j_kids_push(p, &kids, *out));
    j_kids ops = {0}; /* the tokens' places, to know the operators again */
    while (parse_is_operator(p->tok->type, level)) {
        SPARK_TRY(spark__j_kids_push(p, &ops, (j_node *)p->tok));
        p->tok++;
        SPARK_TRY(parse_arith(p, level + 1, out));
        SPARK_TRY(spark__j_kids_push(p, &kids, *out));
    }
    SPARK_TRY(spark__j_kids_close(p, &kids, level == 1 ? JN_CONCAT : JN_ARITH, level == 1 ? at : first_op, out));
    uint8_t *codes = NULL;
    SPARK_TRY(SPARK_NEW(p->a, ops.n, &codes, p->err));
    for (uint32_t i = 0; i < ops.n; i++) codes[i] = (uint8_t)((const j_token *)ops.v[i])->type;
    (*out)->ops = codes;
    return SPARK_SUCCESS;
}

/* The comparison operator here, JT_END if there is none; *n tells its tokens. */
static j_tok parse_comparison(const j_parser *p, uint32_t *n)
{
    const j_tok t = p->tok->type;
    *n = 1;
    if (t >= JT_EQ && t <= JT_LE) return t;
    if (spark__j_parse_is_name(p->tok, "in")) return JT_IN;
    *n = 2;
    if (spark__j_parse_is_name(p->tok, "not") && spark__j_parse_is_name(p->tok + 1, "in")) return JT_NOT_IN;
    return JT_END;
}

static spark_status parse_compare(j_parser *p, j_node **out)
{
    const j_token *at = p->tok;
    uint32_t n = 0, n_ops = 0, cap = 0;
    uint8_t *ops = NULL;
    j_kids kids = {0};
    SPARK_TRY(parse_arith(p, 0, out));
    SPARK_TRY(spark__j_kids_push(p, &kids, *out));
    for (j_tok op; (op = parse_comparison(p, &n)) != JT_END;) {
        if (n_ops == cap) {
            uint8_t *more = NULL;
            cap = cap ? cap * 2 : 4;
            SPARK_TRY(SPARK_NEW(p->a, cap, &more, p->err));
            if (n_ops) memcpy(more, ops, n_ops);
            ops = more;
            if (n_ops == 0) at = p->tok;
        }
        ops[n_ops++] = (uint8_t)op;
        p->tok += n;
        SPARK_TRY(parse_arith(p, 0, out));
        SPARK_TRY(spark__j_kids_push(p, &kids, *out));
    }
    if (n_ops == 0) return SPARK_SUCCESS;
    SPARK_TRY(spark__j_kids_close(p, &kids, JN_COMPARE, at, out));
    (*out)->ops = ops;
    return SPARK_SUCCESS;
}

static spark_status parse_not(j_parser *p, j_node **out)
{
    const j_token *at = p->tok;
    uint32_t n = 0;
    while (parse_skip_name(p, "not")) n++;
    SPARK_TRY(parse_compare(p, out));
    if (n == 0) return SPARK_SUCCESS;
    for (n = n % 2 == 0 ? 2 : 1; n > 0; n--) { /* not not x is bool(x), and so is every longer chain one of the two */
        j_node *inner = *out;
        SPARK_TRY(spark__j_parse_node(p, JN_NOT, at, 1, out));
        (*out)->kids[0] = inner;
    }
    return SPARK_SUCCESS;
}

/* a or b or c, a and b and c */
static spark_status parse_logic(j_parser *p, j_kind kind, j_node **out)
{
    const char *word = kind == JN_OR ? "or" : "and";
    const j_token *at = p->tok;
    j_kids kids = {0};
    do {
        SPARK_TRY(kind == JN_OR ? parse_logic(p, JN_AND, out) : parse_not(p, out));
        SPARK_TRY(spark__j_kids_push(p, &kids, *out));
    } while (parse_skip_name(p, word));
    return kids.n == 1 ? SPARK_SUCCESS : spark__j_kids_close(p, &kids, kind, at, out);
}

static spark_status parse_or(j_parser *p, j_node **out) { return parse_logic(p, JN_OR, out); }

spark_status spark__j_parse_expr(j_parser *p, j_node **out)
{
    SPARK_TRY(spark__j_parse_enter(p));
    const j_token *begin = p->tok;
    const uint32_t depth = p->depth;
    spark_status s = parse_logic(p, JN_OR, out);
    while (spark_ok(s) && parse_skip_name(p, "if")) {
        j_node *then = *out, *cond = NULL, *other = NULL;
        s = parse_logic(p, JN_OR, &cond);
        if (spark_ok(s) && parse_skip_name(p, "else")) s = spark__j_parse_expr(p, &other);
        if (spark_ok(s)) s = spark__j_parse_node(p, JN_COND, begin, 3, out);
        if (!spark_ok(s)) break;
        (*out)->kids[0] = cond;
        (*out)->kids[1] = then;
        (*out)->kids[2] = other;
    }
    p->depth = depth - 1;
    return s;
}

/* ---- targets ----------------------------------------------------------------------------------------------------- */

static spark_status parse_check_target(j_parser *p, const j_token *at, const j_node *node)
{
    if (node->kind == JN_NAME || node->kind == JN_NSREF) return SPARK_SUCCESS;
    if (node->kind != JN_TUPLE) return spark__j_parse_fail(p, at, "cannot assign to this expression");
    for (uint32_t i = 0; i < node->n; i++) {
        SPARK_TRY(spark__j_parse_enter(p));
        SPARK_TRY(parse_check_target(p, at, node->kids[i]));
        p->depth--;
    }
    return SPARK_SUCCESS;
}

spark_status spark__j_parse_target(j_parser *p, bool ns, j_node **out)
{
    const j_token *at = p->tok;
    if (ns && at->type == JT_NAME && at[1].type == JT_DOT) {
        p->tok += 2;
        SPARK_TRY(spark__j_parse_node(p, JN_NSREF, at, 0, out));
        (*out)->name = p->tok->text;
        SPARK_TRY(spark__j_parse_symbol(p, at->text, &(*out)->sym));
        return spark__j_parse_expect(p, JT_NAME, "a name");
    }
    SPARK_TRY(parse_tuple(p, false, parse_primary, "in", out));
    return parse_check_target(p, at, *out);
}
