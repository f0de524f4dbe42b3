/* jinja_exec.c - statements: output, branches, loops, assignments, macros, and the scopes names live in.
 * Names are found from the inside out; for-bodies, macros, with, call and filter blocks have scopes of their own, if has
 * none. What the template sets at its top goes to j_ctx.root, where macros see it when they run. */
#include <string.h>

#include "text/jinja_internal.h"

/* ---- scopes ------------------------------------------------------------------------------------------------------ */

j_val spark__j_lookup(j_ctx *j, uint32_t sym)
{
    for (const j_scope *s = j->scope; s; s = s->outer) {
        j->steps += s->n / 16; /* a scope of thousands of names: the next node will notice */
        for (uint32_t i = 0; i < s->n; i++)
            if (s->slots[i].sym == sym) return s->slots[i].val;
    }
    return j->root[sym];
}

static spark_status exec_set(j_ctx *j, uint32_t sym, j_val v)
{
    j_scope *s = j->scope;
    if (!s) {
        j->root[sym] = v;
        return SPARK_SUCCESS;
    }
    SPARK_TRY(spark__j_steps(j, s->n / 16));
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->slots[i].sym != sym) continue;
        s->slots[i].val = v;
        return SPARK_SUCCESS;
    }
    if (s->n == s->cap) {
        j_slot *slots = NULL;
        const uint32_t cap = s->cap ? s->cap * 2 : 4;
        SPARK_TRY(J_NEW(j, cap, &slots));
        if (s->n) memcpy(slots, s->slots, s->n * sizeof *slots);
        s->slots = slots;
        s->cap = cap;
    }
    s->slots[s->n++] = (j_slot){sym, v};
    return SPARK_SUCCESS;
}

static spark_status exec_push_scope(j_ctx *j, j_scope *outer)
{
    j_scope *s = NULL;
    SPARK_TRY(J_NEW(j, 1, &s));
    s->outer = outer;
    j->scope = s;
    return SPARK_SUCCESS;
}

/* Runs `body` with a sink of its own; its text is the value. */
static spark_status exec_capture(j_ctx *j, const j_node *body, j_val *out)
{
    j_text *t = NULL, *sink = j->sink;
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    j->sink = t;
    SPARK_TRY(spark__j_exec(j, body));
    j->sink = sink;
    return spark__j_text_done(j, t, out);
}

/* The same in a scope inside of the present one. */
static spark_status exec_capture_scoped(j_ctx *j, const j_node *body, j_val *out)
{
    j_scope *outer = j->scope;
    SPARK_TRY(exec_push_scope(j, outer));
    SPARK_TRY(exec_capture(j, body, out));
    j->scope = outer;
    return SPARK_SUCCESS;
}

/* ---- assignment -------------------------------------------------------------------------------------------------- */

static spark_status exec_assign(j_ctx *j, const j_node *target, j_val v)
{
    if (target->kind == JN_NAME) return exec_set(j, target->sym, v);
    if (target->kind == JN_NSREF) {
        const j_val ns = spark__j_lookup(j, target->sym);
        j_val key;
        j->at = target->at;
        if (ns.type != J_NAMESPACE)
            return spark__j_fail(j, SPARK_E_FORMAT, "cannot assign attribute on non-namespace object");
        SPARK_TRY(spark__j_str_new(j, target->name, false, &key));
        return spark__j_dict_put(j, ns.u.ns->dict, key, v);
    }
    j_list items;
    j->at = target->at;
    if (v.type == J_UNDEFINED) return spark__j_fail_undefined(j, v);
    SPARK_TRY(spark__j_items(j, v, &items));
    if (items.n != target->n)
        return spark__j_fail(j, SPARK_E_FORMAT, "cannot unpack %zu values into %u names", items.n, target->n);
    for (uint32_t i = 0; i < target->n; i++) {
        SPARK_TRY(spark__j_enter(j));
        SPARK_TRY(exec_assign(j, target->kids[i], items.items[i]));
        j->depth--;
    }
    return SPARK_SUCCESS;
}

static spark_status exec_set_value(j_ctx *j, const j_node *n)
{
    j_val v;
    SPARK_TRY(spark__j_eval(j, n->kids[1], &v));
    return exec_assign(j, n->kids[0], v);
}

static spark_status exec_set_block(j_ctx *j, const j_node *n)
{
    j_val v;
    SPARK_TRY(exec_capture_scoped(j, n->kids[2], &v));
    if (n->kids[1]) {
        j->block = v;
        SPARK_TRY(spark__j_eval(j, n->kids[1], &v));
    }
    return exec_assign(j, n->kids[0], v);
}

/* ---- output and branches ----------------------------------------------------------------------------------------- */

spark_status spark__j_output(j_ctx *j, j_val v) { return spark__j_add_value(j, j->sink, v); }

static spark_status exec_output(j_ctx *j, const j_node *n)
{
    for (uint32_t i = 0; i < n->n; i++) {
        j_val v;
        SPARK_TRY(spark__j_eval(j, n->kids[i], &v));
        j->at = n->at;
        SPARK_TRY(spark__j_output(j, v));
    }
    return SPARK_SUCCESS;
}

static spark_status exec_body(j_ctx *j, const j_node *n)
{
    for (uint32_t i = 0; i < n->n && j->flow == J_FLOW_NEXT; i++) SPARK_TRY(spark__j_exec(j, n->kids[i]));
    return SPARK_SUCCESS;
}

static spark_status exec_if(j_ctx *j, const j_node *n)
{
    uint32_t i = 0;
    for (; i + 1 < n->n; i += 2) {
        j_val v;
        SPARK_TRY(spark__j_eval(j, n->kids[i], &v));
        if (spark__j_truth(v)) return spark__j_exec(j, n->kids[i + 1]);
    }
    return i < n->n ? spark__j_exec(j, n->kids[i]) : SPARK_SUCCESS;
}

static spark_status exec_filter_block(j_ctx *j, const j_node *n)
{
    j_val v;
    SPARK_TRY(exec_capture_scoped(j, n->kids[1], &v));
    j->block = v;
    SPARK_TRY(spark__j_eval(j, n->kids[0], &v));
    return spark__j_output(j, v);
}

/* Values are computed outside, names live inside. */
static spark_status exec_with(j_ctx *j, const j_node *n)
{
    j_scope *outer = j->scope;
    j_val *values = NULL;
    const uint32_t count = n->n / 2;
    SPARK_TRY(J_NEW(j, count, &values));
    for (uint32_t i = 0; i < count; i++) SPARK_TRY(spark__j_eval(j, n->kids[2 * i + 1], &values[i]));
    SPARK_TRY(exec_push_scope(j, outer));
    for (uint32_t i = 0; i < count; i++) SPARK_TRY(exec_assign(j, n->kids[2 * i], values[i]));
    SPARK_TRY(spark__j_exec(j, n->kids[n->n - 1]));
    j->scope = outer;
    return SPARK_SUCCESS;
}

static spark_status exec_scope(j_ctx *j, const j_node *n)
{
    j_scope *outer = j->scope;
    SPARK_TRY(exec_push_scope(j, outer));
    SPARK_TRY(spark__j_exec(j, n->kids[0]));
    j->scope = outer;
    return SPARK_SUCCESS;
}

static spark_status exec_jump(j_ctx *j, const j_node *n)
{
    j->flow = n->kind == JN_BREAK ? J_FLOW_BREAK : J_FLOW_CONTINUE;
    return SPARK_SUCCESS;
}

/* ---- loops ------------------------------------------------------------------------------------------------------- */

/* Keeps the items for which the loop's own condition holds. */
static spark_status exec_loop_filter(j_ctx *j, const j_node *n, j_list *items)
{
    j_scope *outer = j->scope;
    j_val *kept = NULL;
    size_t count = 0;
    SPARK_TRY(J_NEW(j, items->n, &kept));
    for (size_t i = 0; i < items->n; i++) {
        j_val v;
        SPARK_TRY(exec_push_scope(j, outer));
        SPARK_TRY(exec_assign(j, n->kids[0], items->items[i]));
        SPARK_TRY(spark__j_eval(j, n->kids[2], &v));
        if (spark__j_truth(v)) kept[count++] = items->items[i];
    }
    j->scope = outer;
    *items = (j_list){.items = kept, .n = count};
    return SPARK_SUCCESS;
}

static spark_status exec_loop_body(j_ctx *j, const j_node *n, j_loop *loop)
{
    const j_val self = {.type = J_LOOP, .u.loop = loop};
    uint32_t closures = j->closures;
    SPARK_TRY(exec_push_scope(j, loop->outer));
    for (; loop->index < loop->n; loop->index++) {
        if (closures != j->closures) { /* a macro holds on to the last scope */
            SPARK_TRY(exec_push_scope(j, loop->outer));
            closures = j->closures;
        }
        j->scope->n = 0;
        SPARK_TRY(exec_set(j, J_SYM_LOOP, self));
        SPARK_TRY(exec_assign(j, n->kids[0], loop->items[loop->index]));
        SPARK_TRY(spark__j_exec(j, n->kids[3]));
        const bool stop = j->flow == J_FLOW_BREAK;
        j->flow = J_FLOW_NEXT;
        if (stop) break;
    }
    return SPARK_SUCCESS;
}

static spark_status exec_loop(j_ctx *j, const j_node *n, j_val iterable, j_scope *outer, uint32_t depth0)
{
    j_list items;
    j_loop *loop = NULL;
    j_scope *before = j->scope;
    j->at = n->kids[1]->at;
    SPARK_TRY(spark__j_items(j, iterable, &items));
    j->scope = outer;
    if (n->kids[2]) SPARK_TRY(exec_loop_filter(j, n, &items));
    if (items.n) {
        SPARK_TRY(J_NEW(j, 1, &loop));
        *loop = (j_loop){.items = items.items, .n = items.n, .depth0 = depth0, .node = n, .outer = outer};
        SPARK_TRY(exec_loop_body(j, n, loop));
    } else if (n->kids[4]) {
        SPARK_TRY(exec_push_scope(j, outer));
        SPARK_TRY(spark__j_exec(j, n->kids[4]));
    }
    j->scope = before;
    return SPARK_SUCCESS;
}

static spark_status exec_for(j_ctx *j, const j_node *n)
{
    j_val iterable;
    SPARK_TRY(spark__j_eval(j, n->kids[1], &iterable));
    return exec_loop(j, n, iterable, j->scope, 0);
}

spark_status spark__j_call_loop(j_ctx *j, const j_loop *loop, j_val iterable, j_val *out)
{
    j_text *t = NULL, *sink = j->sink;
    if (!(loop->node->flags & J_FOR_RECURSIVE))
        return spark__j_fail(j, SPARK_E_FORMAT, "the loop must have the 'recursive' marker to be called");
    SPARK_TRY(spark__j_text_new(j, 0, &t));
    j->sink = t;
    SPARK_TRY(exec_loop(j, loop->node, iterable, loop->outer, loop->depth0 + 1));
    j->sink = sink;
    return spark__j_text_done(j, t, out);
}

/* ---- macros ------------------------------------------------------------------------------------------------------ */

static spark_status exec_make_macro(j_ctx *j, const j_node *n, j_val *out)
{
    j_macro *m = NULL;
    SPARK_TRY(J_NEW(j, 1, &m));
    *m = (j_macro){n, j->scope};
    j->closures++;
    *out = (j_val){.type = J_MACRO, .u.macro = m};
    return SPARK_SUCCESS;
}

static spark_status exec_macro(j_ctx *j, const j_node *n)
{
    j_val m;
    SPARK_TRY(exec_make_macro(j, n, &m));
    return exec_set(j, n->sym, m);
}

/* The named argument for symbol `sym`, or its index in *at = n_named if there is none. */
static uint32_t exec_named(const j_ctx *j, const j_args *args, uint32_t sym)
{
    uint32_t i = 0;
    while (i < args->n_named && !spark_bytes_equal(args->keys[i], j->t->symbols[sym])) i++;
    return i;
}

/* Arguments that no parameter takes: into varargs and kwargs if the macro uses these, else an error. */
static spark_status exec_macro_rest(j_ctx *j, const j_node *n, const j_args *args, uint32_t n_params)
{
    const int len = n->name.len < 60 ? (int)n->name.len : 60;
    const char *name = (const char *)n->name.ptr;
    const uint32_t taken = args->n_pos < n_params ? args->n_pos : n_params;
    j_dict *rest = NULL;
    j_val v;
    if (taken < args->n_pos && !(n->flags & J_MACRO_VARARGS))
        return spark__j_fail(j, SPARK_E_FORMAT, "macro '%.*s' takes not more than %u argument(s)", len, name, n_params);
    if (n->flags & J_MACRO_VARARGS) {
        SPARK_TRY(spark__j_list(j, J_TUPLE, args->pos + taken, args->n_pos - taken, &v));
        SPARK_TRY(exec_set(j, J_SYM_VARARGS, v));
    }
    SPARK_TRY(spark__j_dict_new(j, 0, &rest));
    for (uint32_t i = 0; i < args->n_named; i++) {
        const int key_len = args->keys[i].len < 60 ? (int)args->keys[i].len : 60;
        bool known = spark_bytes_is(args->keys[i], "caller") && (n->flags & J_MACRO_CALLER);
        for (uint32_t p = 0; p < n_params && !known; p++)
            known = spark_bytes_equal(args->keys[i], j->t->symbols[n->syms[p]]);
        if (known) continue;
        if (!(n->flags & J_MACRO_KWARGS))
            return spark__j_fail(j, SPARK_E_FORMAT, "macro '%.*s' takes no keyword argument '%.*s'", len, name, key_len,
                                 (const char *)args->keys[i].ptr);
        SPARK_TRY(spark__j_str_new(j, args->keys[i], false, &v));
        SPARK_TRY(spark__j_dict_put(j, rest, v, args->named[i]));
    }
    if (n->flags & J_MACRO_KWARGS) SPARK_TRY(exec_set(j, J_SYM_KWARGS, (j_val){.type = J_DICT, .u.dict = rest}));
    return SPARK_SUCCESS;
}

static spark_status exec_bind(j_ctx *j, const j_node *n, const j_args *args)
{
    const uint32_t n_params = n->n - 1;
    SPARK_TRY(spark__j_steps(j, (uint64_t)n_params * args->n_named / 4));
    for (uint32_t i = 0; i < n_params; i++) {
        const uint32_t named = exec_named(j, args, n->syms[i]);
        j_val v;
        if (i < args->n_pos && named < args->n_named)
            return spark__j_fail(j, SPARK_E_FORMAT, "macro got an argument twice");
        if (i < args->n_pos)
            v = args->pos[i];
        else if (named < args->n_named)
            v = args->named[named];
        else if (n->kids[i + 1])
            SPARK_TRY(spark__j_eval(j, n->kids[i + 1], &v));
        else
            SPARK_TRY(spark__j_undefined_hint(j, "a parameter was not provided", &v));
        SPARK_TRY(exec_set(j, n->syms[i], v));
    }
    if (n->flags & J_MACRO_CALLER) {
        const uint32_t named = exec_named(j, args, J_SYM_CALLER);
        j_val caller = {.type = J_UNDEFINED};
        if (named < args->n_named)
            caller = args->named[named];
        else
            SPARK_TRY(spark__j_undefined_hint(j, "No caller defined", &caller));
        SPARK_TRY(exec_set(j, J_SYM_CALLER, caller));
    }
    return exec_macro_rest(j, n, args, n_params);
}

spark_status spark__j_call_macro(j_ctx *j, const j_macro *m, const j_args *args, j_val *out)
{
    j_scope *scope = j->scope;
    const j_val block = j->block;
    SPARK_TRY(exec_push_scope(j, m->closure));
    SPARK_TRY(exec_bind(j, m->node, args));
    SPARK_TRY(exec_capture(j, m->node->kids[0], out));
    j->scope = scope;
    j->block = block;
    return SPARK_SUCCESS;
}

/* {% call f(x) %}body{% endcall %}: f(x, caller=macro of the body). */
static spark_status exec_call_block(j_ctx *j, const j_node *n)
{
    const j_node *call = n->kids[0];
    const uint32_t count = call->n - 1;
    j_val callee, v, *values = NULL;
    spark_bytes *keys = NULL;
    SPARK_TRY(spark__j_eval(j, call->kids[0], &callee));
    SPARK_TRY(J_NEW(j, (size_t)count + 1, &values));
    SPARK_TRY(J_NEW(j, (size_t)call->n_keys + 1, &keys));
    for (uint32_t i = 0; i < count; i++) SPARK_TRY(spark__j_eval(j, call->kids[i + 1], &values[i]));
    for (uint32_t i = 0; i < call->n_keys; i++) keys[i] = call->keys[i];
    keys[call->n_keys] = SPARK_BYTES_LITERAL("caller");
    SPARK_TRY(exec_make_macro(j, n->kids[1], &values[count]));
    j_args args = {.pos = values, .n_pos = count - call->n_keys, .n_named = call->n_keys + 1, .keys = keys};
    args.named = values + args.n_pos;
    j->at = n->at;
    SPARK_TRY(spark__j_call(j, callee, &args, &v));
    return spark__j_output(j, v);
}

spark_status spark__j_exec(j_ctx *j, const j_node *node)
{
    typedef spark_status exec_fn(j_ctx * j, const j_node *n);
    static exec_fn *const table[JN_N_KINDS] = {
        [JN_BODY] = exec_body,     [JN_OUTPUT] = exec_output,         [JN_IF] = exec_if,
        [JN_FOR] = exec_for,       [JN_SET] = exec_set_value,         [JN_SET_BLOCK] = exec_set_block,
        [JN_MACRO] = exec_macro,   [JN_CALL_BLOCK] = exec_call_block, [JN_FILTER_BLOCK] = exec_filter_block,
        [JN_WITH] = exec_with,     [JN_SCOPE] = exec_scope,           [JN_BREAK] = exec_jump,
        [JN_CONTINUE] = exec_jump,
    };
    j->at = node->at;
    SPARK_TRY(spark__j_enter(j));
    SPARK_TRY(table[node->kind](j, node));
    j->depth--;
    return SPARK_SUCCESS;
}
