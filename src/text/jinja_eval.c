/* jinja_eval.c - expressions: one function a kind of node, in a table. Also the limits every rendering runs under, and
 * how anything callable is called. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_internal.h"

/* ---- limits and errors ------------------------------------------------------------------------------------------- */

void spark__j_err(j_ctx *j, spark_code code, const char *fmt, ...)
{
    char text[SPARK_ERR_TEXT];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    spark__j_err_at(j->err, j->t->src, j->at, code, "%s", text);
}

spark_status spark__j_steps(j_ctx *j, uint64_t n)
{
    j->steps += n;
    if (j->steps <= SPARK_MAX_TEMPLATE_STEPS) return SPARK_SUCCESS;
    return spark__j_fail(j, SPARK_E_LIMIT, "rendering takes more than %u steps", SPARK_MAX_TEMPLATE_STEPS);
}

spark_status spark__j_enter(j_ctx *j)
{
    SPARK_TRY(spark__j_steps(j, 1));
    if (++j->depth <= SPARK_MAX_TEMPLATE_STACK) return SPARK_SUCCESS;
    return spark__j_fail(j, SPARK_E_LIMIT, "more than %u nested evaluations", SPARK_MAX_TEMPLATE_STACK);
}

spark_status spark__j_alloc(j_ctx *j, size_t count, size_t size, void **out)
{
    const spark_status s = spark_arena_alloc(j->a, count, size, _Alignof(max_align_t), out, NULL);
    if (spark_ok(s)) return s;
    if (s.code == SPARK_E_MEMORY) return spark__j_fail(j, s.code, "no memory for the template's values");
    return spark__j_fail(j, SPARK_E_LIMIT, "values need more than %zu bytes", spark_arena_max(j->a));
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

const j_builtin *spark__j_find(const j_builtin *table, size_t n, spark_bytes name)
{
    for (size_t i = 0; i < n; i++)
        if (spark_bytes_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* The position of `key` in "a,b,c", or -1. */
static int eval_param(const char *params, spark_bytes key)
{
    for (int i = 0; *params; i++) {
        const size_t n = strcspn(params, ",");
        if (key.len == n && memcmp(params, key.ptr, n) == 0) return i;
        params += n + (params[n] == ',');
    }
    return -1;
}

static uint32_t eval_n_params(const char *params)
{
    uint32_t n = *params != 0;
    for (; *params; params++) n += *params == ',';
    return n;
}

spark_status spark__j_invoke(j_ctx *j, const j_builtin *fn, const char *kind, j_val self, const j_args *args,
                             j_val *out)
{
    j_val bound[J_MAX_PARAMS] = {{.type = J_MISSING}};
    if (!fn->fn) return spark__j_fail(j, SPARK_E_FORMAT, "%s '%s' is not supported", kind, fn->name);
    if (!fn->params) return fn->fn(j, self, args, out);
    const uint32_t n = eval_n_params(fn->params);
    if (args->n_pos > n)
        return spark__j_fail(j, SPARK_E_FORMAT, "%s '%s' takes at most %u arguments, got %u", kind, fn->name, n,
                             args->n_pos);
    assert((args->pos || args->n_pos == 0) && (args->named || args->n_named == 0));
    for (uint32_t i = 0; i < args->n_pos; i++) bound[i] = args->pos[i];
    for (uint32_t i = 0; i < args->n_named; i++) {
        const int at = eval_param(fn->params, args->keys[i]);
        const int len = args->keys[i].len < 60 ? (int)args->keys[i].len : 60;
        if (at < 0 || bound[at].type != J_MISSING)
            return spark__j_fail(j, SPARK_E_FORMAT, "%s '%s' got an unexpected argument '%.*s'", kind, fn->name, len,
                                 (const char *)args->keys[i].ptr);
        bound[at] = args->named[i];
    }
    for (uint32_t i = 0; i < fn->n_required; i++)
        if (bound[i].type == J_MISSING)
            return spark__j_fail(j, SPARK_E_FORMAT, "%s '%s' needs %u arguments", kind, fn->name, fn->n_required);
    return fn->fn(j, self, &(j_args){.pos = bound, .n_pos = n}, out);
}

static spark_status eval_call_value(j_ctx *j, j_val callee, const j_args *args, j_val *out)
{
    if (callee.type == J_UNDEFINED) return spark__j_fail_undefined(j, callee);
    if (callee.type == J_MACRO) return spark__j_call_macro(j, callee.u.macro, args, out);
    if (callee.type == J_FUNCTION) return spark__j_invoke(j, callee.u.fn, "function", (j_val){0}, args, out);
    if (callee.type == J_METHOD)
        return spark__j_invoke(j, callee.u.method->fn, "method", callee.u.method->self, args, out);
    if (callee.type == J_LOOP && args->n_pos == 1 && args->n_named == 0)
        return spark__j_call_loop(j, callee.u.loop, args->pos[0], out);
    if (callee.type == J_JOINER) {
        j_cycler *joiner = callee.u.cycler;
        if (joiner->pos++ > 0) {
            *out = joiner->values[0];
            return SPARK_SUCCESS;
        }
        return spark__j_str_new(j, (spark_bytes){0}, false, out);
    }
    return spark__j_fail(j, SPARK_E_FORMAT, "'%s' object is not callable", spark__j_type_name(callee));
}

spark_status spark__j_call(j_ctx *j, j_val callee, const j_args *args, j_val *out)
{
    const uint32_t at = j->at;
    if (j->calls >= SPARK_MAX_TEMPLATE_DEPTH)
        return spark__j_fail(j, SPARK_E_LIMIT, "calls nest deeper than %u", SPARK_MAX_TEMPLATE_DEPTH);
    j->calls++;
    SPARK_TRY(eval_call_value(j, callee, args, out));
    j->calls--;
    j->at = at;
    return SPARK_SUCCESS;
}

/* ---- expressions ------------------------------------------------------------------------------------------------- */

static spark_status eval_const(j_ctx *j, const j_node *n, j_val *out)
{
    (void)j;
    *out = n->value;
    return SPARK_SUCCESS;
}

static spark_status eval_name(j_ctx *j, const j_node *n, j_val *out)
{
    *out = spark__j_lookup(j, n->sym);
    return out->type == J_MISSING ? spark__j_undefined_name(j, n->name, out) : SPARK_SUCCESS;
}

static spark_status eval_arith(j_ctx *j, const j_node *n, j_val *out)
{
    SPARK_TRY(spark__j_eval(j, n->kids[0], out));
    for (uint32_t i = 1; i < n->n; i++) {
        j_val right;
        SPARK_TRY(spark__j_eval(j, n->kids[i], &right));
        j->at = n->at;
        SPARK_TRY(spark__j_binary(j, (j_tok)n->ops[i - 1], *out, right, out));
    }
    return SPARK_SUCCESS;
}

static spark_status eval_concat(j_ctx *j, const j_node *n, j_val *out)
{
    j_text *t = NULL;
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    for (uint32_t i = 0; i < n->n; i++) {
        j_val v;
        SPARK_TRY(spark__j_eval(j, n->kids[i], &v));
        SPARK_TRY(spark__j_add_value(j, t, v));
    }
    return spark__j_text_done(j, t, out);
}

/* The value that decides, as in Python; `stop` is the truth that ends it. */
static spark_status eval_logic(j_ctx *j, const j_node *n, j_val *out)
{
    const bool stop = n->kind == JN_OR;
    for (uint32_t i = 0; i < n->n; i++) {
        SPARK_TRY(spark__j_eval(j, n->kids[i], out));
        if (spark__j_truth(*out) == stop) break;
    }
    return SPARK_SUCCESS;
}

static spark_status eval_not(j_ctx *j, const j_node *n, j_val *out)
{
    SPARK_TRY(spark__j_eval(j, n->kids[0], out));
    *out = spark__j_bool(!spark__j_truth(*out));
    return SPARK_SUCCESS;
}

static spark_status eval_sign(j_ctx *j, const j_node *n, j_val *out)
{
    j_val v;
    SPARK_TRY(spark__j_eval(j, n->kids[0], &v));
    j->at = n->at;
    if (v.type == J_UNDEFINED) return spark__j_fail_undefined(j, v);
    if (!spark__j_is_number(v))
        return spark__j_fail(j, SPARK_E_FORMAT, "bad operand type for unary %c: '%s'", n->kind == JN_NEG ? '-' : '+',
                             spark__j_type_name(v));
    if (v.type == J_FLOAT)
        *out = spark__j_float(n->kind == JN_NEG ? -v.u.f : v.u.f);
    else if (n->kind == JN_NEG)
        return spark__j_binary(j, JT_SUB, spark__j_int(0), v, out);
    else
        *out = spark__j_int(spark__j_integer(v));
    return SPARK_SUCCESS;
}

static spark_status eval_compare_one(j_ctx *j, j_tok op, j_val a, j_val b, bool *out)
{
    if (op == JT_EQ || op == JT_NE) SPARK_TRY(spark__j_equal(j, a, b, out));
    if (op == JT_IN || op == JT_NOT_IN) SPARK_TRY(spark__j_contains(j, b, a, out));
    if (op == JT_NE || op == JT_NOT_IN) *out = !*out;
    if (op == JT_LT) return spark__j_less(j, a, b, "<", out);
    if (op == JT_GT) return spark__j_less(j, b, a, ">", out);
    if (op == JT_LE || op == JT_GE) { /* not the negation of the other: NaN */
        bool same = false;
        SPARK_TRY(op == JT_LE ? spark__j_less(j, a, b, "<=", out) : spark__j_less(j, b, a, ">=", out));
        if (!*out) SPARK_TRY(spark__j_equal(j, a, b, &same));
        *out = *out || same;
    }
    return SPARK_SUCCESS;
}

static spark_status eval_compare(j_ctx *j, const j_node *n, j_val *out)
{
    j_val left, right;
    bool holds = true;
    SPARK_TRY(spark__j_eval(j, n->kids[0], &left));
    for (uint32_t i = 1; i < n->n && holds; i++, left = right) {
        SPARK_TRY(spark__j_eval(j, n->kids[i], &right));
        j->at = n->at;
        SPARK_TRY(eval_compare_one(j, (j_tok)n->ops[i - 1], left, right, &holds));
    }
    *out = spark__j_bool(holds);
    return SPARK_SUCCESS;
}

static spark_status eval_cond(j_ctx *j, const j_node *n, j_val *out)
{
    SPARK_TRY(spark__j_eval(j, n->kids[0], out));
    if (spark__j_truth(*out)) return spark__j_eval(j, n->kids[1], out);
    if (n->kids[2]) return spark__j_eval(j, n->kids[2], out);
    return spark__j_undefined_hint(j, "the inline if-expression evaluated to false and no else section was defined",
                                   out);
}

static spark_status eval_attr(j_ctx *j, const j_node *n, j_val *out)
{
    j_val object;
    SPARK_TRY(spark__j_eval(j, n->kids[0], &object));
    j->at = n->at;
    return spark__j_getattr(j, object, n->name, out);
}

static spark_status eval_item(j_ctx *j, const j_node *n, j_val *out)
{
    j_val object, key, bounds[3];
    SPARK_TRY(spark__j_eval(j, n->kids[0], &object));
    if (n->kids[1]->kind != JN_SLICE) {
        SPARK_TRY(spark__j_eval(j, n->kids[1], &key));
        j->at = n->at;
        return spark__j_getitem(j, object, key, out);
    }
    for (int i = 0; i < 3; i++) {
        bounds[i] = spark__j_none();
        if (n->kids[1]->kids[i]) SPARK_TRY(spark__j_eval(j, n->kids[1]->kids[i], &bounds[i]));
    }
    j->at = n->at;
    return spark__j_slice(j, object, bounds, out);
}

static spark_status eval_slice(j_ctx *j, const j_node *n, j_val *out) /* inside of a tuple of subscripts */
{
    (void)n;
    return spark__j_undefined_hint(j, "a slice is not a value", out);
}

/* Arguments are kids[1..]; what is before the last n_keys has no name. */
static spark_status eval_args(j_ctx *j, const j_node *n, j_args *out)
{
    j_val *values = NULL;
    const uint32_t count = n->n - 1;
    *out = (j_args){.n_pos = count - n->n_keys, .n_named = n->n_keys, .keys = n->keys};
    if (count == 0) return SPARK_SUCCESS;
    SPARK_TRY(J_NEW(j, count, &values));
    for (uint32_t i = 0; i < count; i++) SPARK_TRY(spark__j_eval(j, n->kids[i + 1], &values[i]));
    out->pos = values;
    out->named = values + out->n_pos;
    return SPARK_SUCCESS;
}

static spark_status eval_call(j_ctx *j, const j_node *n, j_val *out)
{
    j_val callee;
    j_args args;
    SPARK_TRY(spark__j_eval(j, n->kids[0], &callee));
    SPARK_TRY(eval_args(j, n, &args));
    j->at = n->at;
    return spark__j_call(j, callee, &args, out);
}

static spark_status eval_builtin(j_ctx *j, const j_node *n, j_val *out)
{
    const char *kind = n->kind == JN_FILTER ? "filter" : "test";
    const int len = n->name.len < 80 ? (int)n->name.len : 80;
    j_val input = j->block;
    j_args args;
    if (n->kids[0]) SPARK_TRY(spark__j_eval(j, n->kids[0], &input));
    SPARK_TRY(eval_args(j, n, &args));
    j->at = n->at;
    if (!n->fn) return spark__j_fail(j, SPARK_E_FORMAT, "no %s named '%.*s'", kind, len, (const char *)n->name.ptr);
    return spark__j_invoke(j, n->fn, kind, input, &args, out);
}

static spark_status eval_sequence(j_ctx *j, const j_node *n, j_val *out)
{
    SPARK_TRY(spark__j_list_new(j, n->kind == JN_LIST ? J_LIST : J_TUPLE, n->n, out));
    for (uint32_t i = 0; i < n->n; i++) SPARK_TRY(spark__j_eval(j, n->kids[i], &out->u.list->items[i]));
    return SPARK_SUCCESS;
}

static spark_status eval_dict(j_ctx *j, const j_node *n, j_val *out)
{
    j_dict *d = NULL;
    SPARK_TRY(spark__j_dict_new(j, n->n / 2, &d));
    for (uint32_t i = 0; i < n->n; i += 2) {
        j_val key, val;
        SPARK_TRY(spark__j_eval(j, n->kids[i], &key));
        SPARK_TRY(spark__j_eval(j, n->kids[i + 1], &val));
        j->at = n->at;
        SPARK_TRY(spark__j_dict_put(j, d, key, val));
    }
    *out = (j_val){.type = J_DICT, .u.dict = d};
    return SPARK_SUCCESS;
}

spark_status spark__j_eval(j_ctx *j, const j_node *node, j_val *out)
{
    typedef spark_status eval_fn(j_ctx * j, const j_node *n, j_val *out);
    static eval_fn *const table[JN_N_EXPR] = {
        [JN_CONST] = eval_const,  [JN_NAME] = eval_name,       [JN_ARITH] = eval_arith,    [JN_CONCAT] = eval_concat,
        [JN_AND] = eval_logic,    [JN_OR] = eval_logic,        [JN_NOT] = eval_not,        [JN_NEG] = eval_sign,
        [JN_POS] = eval_sign,     [JN_COMPARE] = eval_compare, [JN_COND] = eval_cond,      [JN_ATTR] = eval_attr,
        [JN_ITEM] = eval_item,    [JN_SLICE] = eval_slice,     [JN_CALL] = eval_call,      [JN_FILTER] = eval_builtin,
        [JN_TEST] = eval_builtin, [JN_LIST] = eval_sequence,   [JN_TUPLE] = eval_sequence, [JN_DICT] = eval_dict,
    };
    j->at = node->at;
    SPARK_TRY(spark__j_enter(j));
    SPARK_TRY(table[node->kind](j, node, out));
    j->depth--;
    return SPARK_SUCCESS;
}
