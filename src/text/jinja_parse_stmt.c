/* jinja_parse_stmt.c - statements of the template language into a tree: {% if %}, {% for %}, {% set %} and their kin.
 * A tag that needs another file (include, import, extends) or that nobody knows is an error that names it. */
#include <string.h>

#include "text/jinja_internal.h"

typedef spark_status stmt_parser(j_parser *p, const j_token *at, j_node **out);

/* Statements until a tag whose name is one of `ends` (a list of up to 3, NULL-padded; none: the end of the template).
 * That tag's name is then the current token. */
static spark_status stmt_body(j_parser *p, const char *const ends[3], j_node **out);

static spark_status stmt_body_until(j_parser *p, const char *end, j_node **out)
{
    const char *const ends[3] = {end, NULL, NULL};
    SPARK_TRY(stmt_body(p, ends, out));
    p->tok++;
    return SPARK_SUCCESS;
}

static spark_status stmt_block_end(j_parser *p) { return spark__j_parse_expect(p, JT_BLOCK_END, "the end of the tag"); }

static spark_status stmt_if(j_parser *p, const j_token *at, j_node **out)
{
    static const char *const ends[3] = {"elif", "else", "endif"};
    j_kids kids = {0};
    j_node *node = NULL;
    bool more = true;
    while (more) {
        p->soft++;
        SPARK_TRY(spark__j_parse_tuple(p, &node));
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
        SPARK_TRY(stmt_block_end(p));
        SPARK_TRY(stmt_body(p, ends, &node));
        p->soft--;
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
        more = spark__j_parse_is_name(p->tok, "elif");
        if (more) p->tok++;
    }
    const bool has_else = spark__j_parse_is_name(p->tok, "else");
    p->tok++;
    if (has_else) {
        SPARK_TRY(stmt_block_end(p));
        p->soft++;
        SPARK_TRY(stmt_body_until(p, "endif", &node));
        p->soft--;
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
    }
    return spark__j_kids_close(p, &kids, JN_IF, at, out);
}

static spark_status stmt_for(j_parser *p, const j_token *at, j_node **out)
{
    static const char *const ends[3] = {"else", "endfor", NULL};
    SPARK_TRY(spark__j_parse_node(p, JN_FOR, at, 5, out));
    j_node **kids = (*out)->kids;
    SPARK_TRY(spark__j_parse_target(p, false, &kids[0]));
    if (!spark__j_parse_is_name(p->tok, "in")) return spark__j_parse_fail(p, p->tok, "expected 'in'");
    p->tok++;
    SPARK_TRY(spark__j_parse_iterable(p, &kids[1]));
    if (spark__j_parse_is_name(p->tok, "if")) {
        p->tok++;
        SPARK_TRY(spark__j_parse_expr(p, &kids[2]));
    }
    if (spark__j_parse_is_name(p->tok, "recursive")) {
        p->tok++;
        (*out)->flags = J_FOR_RECURSIVE;
    }
    SPARK_TRY(stmt_block_end(p));
    p->loops++;
    SPARK_TRY(stmt_body(p, ends, &kids[3]));
    p->loops--;
    const bool has_else = spark__j_parse_is_name(p->tok, "else");
    p->tok++;
    if (!has_else) return SPARK_SUCCESS;
    SPARK_TRY(stmt_block_end(p));
    return stmt_body_until(p, "endfor", &kids[4]);
}

static spark_status stmt_set(j_parser *p, const j_token *at, j_node **out)
{
    j_node *target = NULL;
    SPARK_TRY(spark__j_parse_target(p, true, &target));
    if (p->tok->type == JT_ASSIGN) {
        p->tok++;
        SPARK_TRY(spark__j_parse_node(p, JN_SET, at, 2, out));
        (*out)->kids[0] = target;
        return spark__j_parse_tuple(p, &(*out)->kids[1]);
    }
    SPARK_TRY(spark__j_parse_node(p, JN_SET_BLOCK, at, 3, out));
    (*out)->kids[0] = target;
    SPARK_TRY(spark__j_parse_block_filter(p, false, &(*out)->kids[1]));
    SPARK_TRY(stmt_block_end(p));
    return stmt_body_until(p, "endset", &(*out)->kids[2]);
}

/* (a, b=1) behind the name of a macro or behind `call`; kids[0] stays free for the body. */
static spark_status stmt_signature(j_parser *p, const j_token *at, j_node **out)
{
    j_kids defaults = {0};
    uint32_t *syms = NULL;
    SPARK_TRY(spark__j_kids_push(p, &defaults, NULL));
    SPARK_TRY(spark__j_parse_expect(p, JT_LPAREN, "'('"));
    const j_token *first = p->tok;
    uint32_t n = 0;
    for (const j_token *t = first; t->type != JT_BLOCK_END && t->type != JT_END; t++) n++; /* more than enough */
    SPARK_TRY(SPARK_NEW(p->a, n, &syms, p->err));
    while (p->tok->type != JT_RPAREN) {
        j_node *value = NULL;
        if (p->tok != first) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        const j_token *name = p->tok;
        SPARK_TRY(spark__j_parse_expect(p, JT_NAME, "a parameter name"));
        SPARK_TRY(spark__j_parse_symbol(p, name->text, &syms[defaults.n - 1]));
        if (p->tok->type == JT_ASSIGN) {
            p->tok++;
            SPARK_TRY(spark__j_parse_expr(p, &value));
        } else if (defaults.n > 1 && defaults.v[defaults.n - 1]) {
            return spark__j_parse_fail(p, name, "parameter without a default after one with a default");
        }
        SPARK_TRY(spark__j_kids_push(p, &defaults, value));
    }
    p->tok++;
    SPARK_TRY(spark__j_kids_close(p, &defaults, JN_MACRO, at, out));
    (*out)->syms = syms;
    return SPARK_SUCCESS;
}

/* The body of a macro: what it uses of varargs, kwargs, caller is its own, and so are its loops. */
static spark_status stmt_macro_body(j_parser *p, const char *end, j_node *macro)
{
    const uint32_t loops = p->loops;
    const uint8_t uses = p->macro_uses;
    p->loops = 0;
    p->macro_uses = 0;
    SPARK_TRY(stmt_block_end(p));
    SPARK_TRY(stmt_body_until(p, end, &macro->kids[0]));
    macro->flags = p->macro_uses;
    p->loops = loops;
    p->macro_uses = uses;
    return SPARK_SUCCESS;
}

static spark_status stmt_macro(j_parser *p, const j_token *at, j_node **out)
{
    const j_token *name = p->tok;
    SPARK_TRY(spark__j_parse_expect(p, JT_NAME, "the macro's name"));
    SPARK_TRY(stmt_signature(p, at, out));
    (*out)->name = name->text;
    SPARK_TRY(spark__j_parse_symbol(p, name->text, &(*out)->sym));
    return stmt_macro_body(p, "endmacro", *out);
}

static spark_status stmt_call(j_parser *p, const j_token *at, j_node **out)
{
    j_node *macro = NULL, *call = NULL;
    if (p->tok->type == JT_LPAREN) {
        SPARK_TRY(stmt_signature(p, at, &macro));
    } else {
        SPARK_TRY(spark__j_parse_node(p, JN_MACRO, at, 1, &macro));
    }
    macro->name = SPARK_BYTES_LITERAL("caller");
    const j_token *call_at = p->tok;
    SPARK_TRY(spark__j_parse_expr(p, &call));
    if (call->kind != JN_CALL) return spark__j_parse_fail(p, call_at, "expected a call");
    SPARK_TRY(stmt_macro_body(p, "endcall", macro));
    SPARK_TRY(spark__j_parse_node(p, JN_CALL_BLOCK, at, 2, out));
    (*out)->kids[0] = call;
    (*out)->kids[1] = macro;
    return SPARK_SUCCESS;
}

static spark_status stmt_filter(j_parser *p, const j_token *at, j_node **out)
{
    SPARK_TRY(spark__j_parse_node(p, JN_FILTER_BLOCK, at, 2, out));
    SPARK_TRY(spark__j_parse_block_filter(p, true, &(*out)->kids[0]));
    SPARK_TRY(stmt_block_end(p));
    return stmt_body_until(p, "endfilter", &(*out)->kids[1]);
}

static spark_status stmt_with(j_parser *p, const j_token *at, j_node **out)
{
    j_kids kids = {0};
    j_node *node = NULL;
    while (p->tok->type != JT_BLOCK_END) {
        if (kids.n) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        SPARK_TRY(spark__j_parse_node(p, JN_NAME, p->tok, 0, &node));
        node->name = p->tok->text;
        SPARK_TRY(spark__j_parse_expect(p, JT_NAME, "a name"));
        SPARK_TRY(spark__j_parse_symbol(p, node->name, &node->sym));
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
        SPARK_TRY(spark__j_parse_expect(p, JT_ASSIGN, "'='"));
        SPARK_TRY(spark__j_parse_expr(p, &node));
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
    }
    p->tok++;
    SPARK_TRY(stmt_body_until(p, "endwith", &node));
    SPARK_TRY(spark__j_kids_push(p, &kids, node));
    return spark__j_kids_close(p, &kids, JN_WITH, at, out);
}

static spark_status stmt_generation(j_parser *p, const j_token *at, j_node **out)
{
    SPARK_TRY(stmt_block_end(p));
    SPARK_TRY(spark__j_parse_node(p, JN_SCOPE, at, 1, out));
    return stmt_body_until(p, "endgeneration", &(*out)->kids[0]);
}

static spark_status stmt_print(j_parser *p, const j_token *at, j_node **out)
{
    j_kids kids = {0};
    j_node *node = NULL;
    while (p->tok->type != JT_BLOCK_END) {
        if (kids.n) SPARK_TRY(spark__j_parse_expect(p, JT_COMMA, "','"));
        SPARK_TRY(spark__j_parse_expr(p, &node));
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
    }
    return spark__j_kids_close(p, &kids, JN_OUTPUT, at, out);
}

static spark_status stmt_jump(j_parser *p, const j_token *at, j_node **out)
{
    const bool is_break = spark__j_parse_is_name(at, "break");
    if (p->loops == 0) return spark__j_parse_fail(p, at, "'%s' outside of a loop", is_break ? "break" : "continue");
    return spark__j_parse_node(p, is_break ? JN_BREAK : JN_CONTINUE, at, 0, out);
}

static spark_status stmt_dispatch(j_parser *p, j_node **out)
{
    static const struct {
        const char *name;
        stmt_parser *parse;
    } tags[] = {
        {"if", stmt_if},       {"for", stmt_for},       {"set", stmt_set},       {"macro", stmt_macro},
        {"call", stmt_call},   {"filter", stmt_filter}, {"with", stmt_with},     {"generation", stmt_generation},
        {"print", stmt_print}, {"break", stmt_jump},    {"continue", stmt_jump},
    };
    const j_token *at = p->tok;
    const int n = at->text.len < 60 ? (int)at->text.len : 60;
    SPARK_TRY(spark__j_parse_expect(p, JT_NAME, "the name of a tag"));
    for (size_t i = 0; i < SPARK_COUNT(tags); i++)
        if (spark_bytes_is(at->text, tags[i].name)) return tags[i].parse(p, at, out);
    return spark__j_parse_fail(p, at, "unknown tag '%.*s'", n, (const char *)at->text.ptr);
}

/* Whether an `a if b` may stand inside of the tag: what is in its branches counts as a branch. The first token is
 * left out: it is the name of a statement, or cannot be an `if` with something before it. */
static bool stmt_has_condition(const j_token *begin)
{
    if (begin[1].type == JT_END) return false;
    for (const j_token *t = begin + 2; t->type != JT_BLOCK_END && t->type != JT_VAR_END && t->type != JT_END; t++)
        if (spark__j_parse_is_name(t, "if")) return true;
    return false;
}

/* {{ expr }}, text, or {% statement %}: one of them. */
static spark_status stmt_one(j_parser *p, j_node **out)
{
    const j_token *at = p->tok++;
    if (at->type == JT_DATA) {
        j_str *s = NULL;
        SPARK_TRY(SPARK_NEW(p->a, 1, &s, p->err));
        *s = (j_str){.ptr = at->text.ptr, .len = at->text.len};
        SPARK_TRY(spark__j_parse_node(p, JN_OUTPUT, at, 1, out));
        SPARK_TRY(spark__j_parse_node(p, JN_CONST, at, 0, &(*out)->kids[0]));
        (*out)->kids[0]->value = (j_val){.type = J_STR, .u.s = s};
        return SPARK_SUCCESS;
    }
    p->conditional = stmt_has_condition(at);
    if (at->type == JT_VAR_BEGIN) {
        SPARK_TRY(spark__j_parse_node(p, JN_OUTPUT, at, 1, out));
        SPARK_TRY(spark__j_parse_tuple(p, &(*out)->kids[0]));
        return spark__j_parse_expect(p, JT_VAR_END, "the end of the expression");
    }
    SPARK_TRY(stmt_dispatch(p, out));
    return stmt_block_end(p);
}

static spark_status stmt_body(j_parser *p, const char *const ends[3], j_node **out)
{
    const j_token *at = p->tok;
    j_kids kids = {0};
    SPARK_TRY(spark__j_parse_enter(p));
    while (p->tok->type != JT_END) {
        j_node *node = NULL;
        for (int i = 0; i < 3 && ends[i]; i++) {
            if (p->tok->type != JT_BLOCK_BEGIN || !spark__j_parse_is_name(p->tok + 1, ends[i])) continue;
            p->tok++;
            p->depth--;
            return spark__j_kids_close(p, &kids, JN_BODY, at, out);
        }
        SPARK_TRY(stmt_one(p, &node));
        SPARK_TRY(spark__j_kids_push(p, &kids, node));
    }
    if (ends[0])
        return spark__j_parse_fail(p, p->tok, "unexpected end of template, expected '%s'",
                                   ends[2]   ? ends[2]
                                   : ends[1] ? ends[1]
                                             : ends[0]);
    p->depth--;
    return spark__j_kids_close(p, &kids, JN_BODY, at, out);
}

spark_status spark__j_parse(spark_template *t, const j_token *tokens, spark_arena *a, spark_arena *tmp, spark_err *err)
{
    static const char *const fixed[J_N_FIXED_SYMS] = {"loop", "varargs", "kwargs", "caller"};
    static const char *const no_ends[3] = {NULL, NULL, NULL};
    j_parser p = {.t = t, .tok = tokens, .a = a, .tmp = tmp, .err = err};
    uint32_t n = J_N_FIXED_SYMS, sym = 0;
    for (const j_token *tok = tokens; tok->type != JT_END; tok++) n += tok->type == JT_NAME;
    SPARK_TRY(spark_strmap_create(&p.syms, n, tmp, err));
    SPARK_TRY(SPARK_NEW(a, n, &t->symbols, err));
    for (int i = 0; i < J_N_FIXED_SYMS; i++) SPARK_TRY(spark__j_parse_symbol(&p, spark_bytes_of(fixed[i]), &sym));
    return stmt_body(&p, no_ends, &t->body);
}
