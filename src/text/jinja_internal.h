/* jinja_internal.h - what the files of the template interpreter share; nobody outside of text/jinja_*.c and template.c.
 *
 *   source --lex--> tokens --parse--> tree of j_node --exec/eval--> j_text (bytes + which of them are foreign)
 *
 * Nouns:   j_node, one statement or expression; j_val, a value of 16 bytes; j_str, a view into bytes with provenance;
 *          j_text, growing bytes with the ranges that came from the user; j_ctx, one rendering.
 * Rules:   values are immutable (HF's sandbox refuses what would change them); only namespace, loop, cycler, joiner and
 *          one-shot iterators have state. Everything of a rendering lies in one arena and dies with it.
 *          "foreign" = came from the caller's data: never may it be taken for a special token. */
#ifndef SPARK_TEXT_JINJA_INTERNAL_H
#define SPARK_TEXT_JINJA_INTERNAL_H

#include "base/spark_limits.h"
#include "base/strmap.h"
#include "text/template.h"

/* ---- tokens -------------------------------------------------------------------------------------------------- */

typedef enum j_tok {
    JT_DATA, /* text outside of tags, white space already stripped as the tags around it ask */
    JT_BLOCK_BEGIN,
    JT_BLOCK_END,
    JT_VAR_BEGIN,
    JT_VAR_END,
    JT_NAME,
    JT_STRING, /* text: escapes decoded */
    JT_INT,
    JT_FLOAT,
    JT_ADD,
    JT_SUB,
    JT_MUL,
    JT_DIV,
    JT_FLOORDIV,
    JT_MOD,
    JT_POW,
    JT_TILDE,
    JT_LBRACKET,
    JT_RBRACKET,
    JT_LPAREN,
    JT_RPAREN,
    JT_LBRACE,
    JT_RBRACE,
    JT_EQ,
    JT_NE,
    JT_GT,
    JT_GE,
    JT_LT,
    JT_LE,
    JT_ASSIGN,
    JT_DOT,
    JT_COLON,
    JT_PIPE,
    JT_COMMA,
    JT_SEMICOLON,
    JT_END,
    /* not tokens of the lexer, but operators of a comparison */
    JT_IN,
    JT_NOT_IN,
} j_tok;

typedef struct j_token {
    j_tok type;
    uint32_t at; /* byte of the normalized source */
    spark_bytes text;
    union {
        int64_t i;
        double f;
    } num;
} j_token;

/* Source as the rest sees it: \r\n and \r became \n, one newline at the end is gone. */
SPARK_MUST_CHECK spark_status spark__j_normalize(spark_bytes source, spark_arena *a, spark_bytes *out, spark_err *err);
/* Tokens in `tmp`, closed by JT_END; decoded strings in `a`. */
SPARK_MUST_CHECK spark_status spark__j_lex(spark_bytes src, spark_arena *a, spark_arena *tmp, j_token **out, size_t *n,
                                           spark_err *err);
/* Fills err with line and column of byte `at` of src. The spark__j_fail macros are the status to hand back as well:
 * like spark_fail, so that compilers and analysers see that it is never OK. */
void spark__j_err_at(spark_err *err, spark_bytes src, size_t at, spark_code code, const char *fmt, ...)
    SPARK_PRINTF(5, 6);
#define spark__j_fail_at(err, src, at, code, ...)                                                                      \
    ((void)(spark__j_err_at((err), (src), (at), (code), __VA_ARGS__)), (spark_status){(code)})

/* ---- values -------------------------------------------------------------------------------------------------- */

typedef enum j_type {
    J_MISSING, /* an argument that was not given, a slot that was never set; templates never see it */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_RANGE,
    J_VIEW, /* dict.items() and kin: has a length, no subscripts */
    J_ITER, /* generators: walked once, no length */
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_FUNCTION,
    J_METHOD,
    J_CYCLER,
    J_JOINER,
    J_N_TYPES
} j_type;

typedef struct j_span {
    size_t begin, end;
} j_span;

/* Growing bytes. Spans are the foreign ranges: ascending, not touching. What a view has seen never changes: appending
 * only adds behind it (and may lengthen the last span, which views cut at their own end). */
typedef struct j_text {
    uint8_t *data;
    size_t len, cap;
    j_span *spans;
    size_t n_spans, cap_spans;
} j_text;

/* A run of valid UTF-8. If home is NULL, all of it has one provenance, `foreign`. */
typedef struct j_str {
    const uint8_t *ptr;
    size_t len;
    j_text *home;
    size_t off; /* of ptr[0] in home; home->data itself may have moved on */
    bool foreign;
    bool markup; /* went through `safe` or `escape`: + escapes its partner, as markupsafe does */
} j_str;

typedef struct j_val {
    j_type type;
    union {
        bool b;
        int64_t i;
        double f;
        const j_str *s;
        struct j_list *list; /* LIST, TUPLE, VIEW, ITER */
        struct j_dict *dict;
        const struct j_range *range;
        const struct j_undef *undef; /* may be NULL: no message */
        struct j_namespace *ns;
        struct j_loop *loop;
        const struct j_macro *macro;
        const struct j_builtin *fn;
        const struct j_method *method;
        struct j_cycler *cycler;
    } u;
} j_val;

typedef struct j_list {
    j_val *items;
    size_t n;
    size_t pos;       /* ITER: how many are consumed */
    const char *name; /* VIEW, ITER: what Python calls it */
    bool foreign;     /* came from the caller's data */
    bool group;       /* TUPLE: of groupby, has .grouper and .list */
} j_list;

typedef struct j_pair {
    j_val key, val;
} j_pair;

typedef struct j_dict {
    j_pair *pairs; /* in order of insertion */
    size_t n, cap;
    spark_strmap *index; /* of the string keys, once there are more than a few */
    bool foreign;
} j_dict;

typedef struct j_range {
    int64_t start, stop, step;
    size_t n;
} j_range;

typedef struct j_undef {
    enum { J_UNDEF_NAME, J_UNDEF_ATTR, J_UNDEF_INDEX, J_UNDEF_HINT, J_UNDEF_UNSAFE } why;
    const char *owner; /* "dict object" */
    spark_bytes name;
    int64_t index;
} j_undef;

typedef struct j_namespace {
    j_dict *dict;
} j_namespace;

typedef struct j_cycler { /* joiner: values[0] is the separator, pos tells whether it was used */
    const j_val *values;
    size_t n, pos;
} j_cycler;

/* ---- tree ---------------------------------------------------------------------------------------------------- */

typedef enum j_kind {
    JN_CONST,   /* value */
    JN_NAME,    /* sym */
    JN_ARITH,   /* kids[0] ops[0] kids[1] ops[1] ...: one level of precedence, from the left */
    JN_CONCAT,  /* kids */
    JN_AND,     /* kids */
    JN_OR,      /* kids */
    JN_NOT,     /* kids[0] */
    JN_NEG,     /* kids[0] */
    JN_POS,     /* kids[0] */
    JN_COMPARE, /* kids, ops */
    JN_COND,    /* condition, then, else or NULL */
    JN_ATTR,    /* kids[0].name */
    JN_ITEM,    /* kids[0][kids[1]] */
    JN_SLICE,   /* start, stop, step, each may be NULL */
    JN_CALL,    /* kids[0](rest, the last n_keys of them named) */
    JN_FILTER,  /* kids[0] (NULL: the text of the block) | fn(rest) */
    JN_TEST,    /* kids[0] is fn(rest) */
    JN_LIST,    /* kids */
    JN_TUPLE,   /* kids */
    JN_DICT,    /* key, value, key, value, ... */
    JN_N_EXPR,
    JN_BODY = JN_N_EXPR, /* kids */
    JN_OUTPUT,           /* kids: expressions; JN_CONST for text */
    JN_IF,               /* condition, body, condition, body, ..., [else body] */
    JN_FOR,              /* target, iterable, test or NULL, body, else or NULL; flag: recursive */
    JN_SET,              /* target, value */
    JN_SET_BLOCK,        /* target, filter or NULL, body */
    JN_NSREF,            /* sym.name, as target */
    JN_MACRO,            /* body, defaults or NULL; syms: the parameters; sym: its name */
    JN_CALL_BLOCK,       /* call, macro */
    JN_FILTER_BLOCK,     /* filter, body */
    JN_WITH,             /* target, value, ..., body */
    JN_SCOPE,            /* body: {% generation %} */
    JN_BREAK,
    JN_CONTINUE,
    JN_N_KINDS
} j_kind;

enum { J_MACRO_VARARGS = 1, J_MACRO_KWARGS = 2, J_MACRO_CALLER = 4, J_FOR_RECURSIVE = 8 }; /* j_node.flags */

typedef struct j_node {
    j_kind kind;
    uint32_t at;
    uint32_t n, n_keys, sym;
    uint8_t flags;
    struct j_node **kids;
    const uint8_t *ops;      /* ARITH, COMPARE: j_tok */
    const spark_bytes *keys; /* CALL, FILTER, TEST: names of the last n_keys arguments */
    const uint32_t *syms;
    spark_bytes name;
    j_val value;
    const struct j_builtin *fn;
} j_node;

/* Names that the interpreter itself binds; they are the first symbols of every template. */
enum { J_SYM_LOOP, J_SYM_VARARGS, J_SYM_KWARGS, J_SYM_CALLER, J_N_FIXED_SYMS };

struct spark_template {
    spark_bytes src; /* normalized */
    j_node *body;
    spark_bytes *symbols;
    uint32_t n_symbols;
};

SPARK_MUST_CHECK spark_status spark__j_parse(spark_template *t, const j_token *tokens, spark_arena *a, spark_arena *tmp,
                                             spark_err *err);

/* The parser, split over two files: expressions and statements. */
typedef struct j_parser {
    spark_template *t;
    const j_token *tok; /* the current one */
    spark_arena *a, *tmp;
    spark_strmap *syms;
    spark_err *err;
    uint32_t depth;   /* of rules being parsed */
    uint32_t loops;   /* for-bodies around us, within this macro */
    uint32_t soft;    /* branches around us: an unknown filter in one fails only when it is reached, as in Jinja2 */
    bool conditional; /* the tag being parsed has an `a if b` somewhere: likewise */
    uint8_t macro_uses;
} j_parser;

void spark__j_parse_err(j_parser *p, const j_token *at, const char *fmt, ...) SPARK_PRINTF(3, 4);
#define spark__j_parse_fail(p, at, ...)                                                                                \
    ((void)(spark__j_parse_err((p), (at), __VA_ARGS__)), (spark_status){SPARK_E_FORMAT})
SPARK_MUST_CHECK spark_status spark__j_parse_enter(j_parser *p);
SPARK_MUST_CHECK spark_status spark__j_parse_expect(j_parser *p, j_tok type, const char *what);
SPARK_MUST_CHECK spark_status spark__j_parse_node(j_parser *p, j_kind kind, const j_token *at, uint32_t n,
                                                  j_node **out);
SPARK_MUST_CHECK spark_status spark__j_parse_symbol(j_parser *p, spark_bytes name, uint32_t *out);
SPARK_MUST_CHECK spark_status spark__j_parse_expr(j_parser *p, j_node **out);
/* expr, expr, ...: a tuple if there is a comma. */
SPARK_MUST_CHECK spark_status spark__j_parse_tuple(j_parser *p, j_node **out);
/* What a loop walks: the same without `a if b`, because there `if` begins the loop's own condition. */
SPARK_MUST_CHECK spark_status spark__j_parse_iterable(j_parser *p, j_node **out);
/* name or (name, ...) to assign to; `ns`: ns.attr is allowed. */
SPARK_MUST_CHECK spark_status spark__j_parse_target(j_parser *p, bool ns, j_node **out);
/* filter | filter ... applied to the text of a block. */
SPARK_MUST_CHECK spark_status spark__j_parse_block_filter(j_parser *p, bool inline_start, j_node **out);
SPARK_MUST_CHECK spark_status spark__j_parse_postfix(j_parser *p, j_node **node);
bool spark__j_parse_is_name(const j_token *t, const char *name);

/* Kids collected one by one, then fixed in the arena. */
typedef struct j_kids {
    j_node **v;
    uint32_t n, cap;
} j_kids;
SPARK_MUST_CHECK spark_status spark__j_kids_push(j_parser *p, j_kids *k, j_node *node);
SPARK_MUST_CHECK spark_status spark__j_kids_close(j_parser *p, const j_kids *k, j_kind kind, const j_token *at,
                                                  j_node **out);

/* ---- a rendering --------------------------------------------------------------------------------------------- */

typedef struct j_slot {
    uint32_t sym;
    j_val val;
} j_slot;

typedef struct j_scope {
    struct j_scope *outer; /* NULL: what it lacks is in j_ctx.root */
    j_slot *slots;
    uint32_t n, cap;
} j_scope;

typedef struct j_macro {
    const j_node *node;
    j_scope *closure;
} j_macro;

typedef struct j_loop {
    const j_val *items;
    size_t n, index;
    uint32_t depth0;
    const j_node *node;
    j_scope *outer;
    j_list *changed; /* what loop.changed() saw last */
} j_loop;

typedef struct j_ctx {
    const spark_template *t;
    spark_arena *a;
    spark_err *err;
    const struct tm *now;
    j_val *root; /* by symbol: the variables and globals, then what the template sets at its top */
    j_scope *scope;
    j_text *sink;
    j_val block; /* the text a block filter works on */
    uint64_t steps;
    uint32_t depth, calls, closures;
    uint32_t at; /* where in the source we are, for errors */
    enum { J_FLOW_NEXT, J_FLOW_BREAK, J_FLOW_CONTINUE } flow;
} j_ctx;

typedef struct j_args {
    const j_val *pos;
    uint32_t n_pos, n_named;
    const spark_bytes *keys;
    const j_val *named;
} j_args;

/* A filter, test, method or global function. `params` names what it takes ("width,first,blank"): then fn sees exactly
 * that many positions, J_MISSING where nothing was given; NULL: fn reads the arguments itself. */
typedef spark_status j_fn(j_ctx *j, j_val self, const j_args *args, j_val *out);
typedef struct j_builtin {
    const char *name;
    j_fn *fn; /* NULL: known to Python, refused here */
    const char *params;
    uint8_t n_required;
} j_builtin;
enum { J_MAX_PARAMS = 4 };

typedef struct j_method {
    j_val self;
    const j_builtin *fn;
} j_method;

const j_builtin *spark__j_find(const j_builtin *table, size_t n, spark_bytes name);
const j_builtin *spark__j_filter(spark_bytes name);
const j_builtin *spark__j_test(spark_bytes name);
const j_builtin *spark__j_global(spark_bytes name);
/* `kind` for messages: "filter", "test", "function", "method". */
SPARK_MUST_CHECK spark_status spark__j_invoke(j_ctx *j, const j_builtin *fn, const char *kind, j_val self,
                                              const j_args *args, j_val *out);
/* Calls any callable value. */
SPARK_MUST_CHECK spark_status spark__j_call(j_ctx *j, j_val callee, const j_args *args, j_val *out);

void spark__j_err(j_ctx *j, spark_code code, const char *fmt, ...) SPARK_PRINTF(3, 4);
#define spark__j_fail(j, code, ...) ((void)(spark__j_err((j), (code), __VA_ARGS__)), (spark_status){(code)})
SPARK_MUST_CHECK spark_status spark__j_steps(j_ctx *j, uint64_t n); /* work done, in the unit of one node */
SPARK_MUST_CHECK spark_status spark__j_enter(j_ctx *j);             /* one level deeper; leave with j->depth-- */
SPARK_MUST_CHECK spark_status spark__j_alloc(j_ctx *j, size_t count, size_t size, void **out);
#define J_NEW(j, count, ptr) spark__j_alloc((j), (count), sizeof **(ptr), (void **)(ptr))

/* statements and expressions */
SPARK_MUST_CHECK spark_status spark__j_eval(j_ctx *j, const j_node *node, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_exec(j_ctx *j, const j_node *node);
SPARK_MUST_CHECK spark_status spark__j_call_macro(j_ctx *j, const j_macro *m, const j_args *args, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_call_loop(j_ctx *j, const j_loop *loop, j_val iterable, j_val *out);
j_val spark__j_lookup(j_ctx *j, uint32_t sym); /* J_MISSING if nowhere */
SPARK_MUST_CHECK spark_status spark__j_output(j_ctx *j, j_val v);

/* ---- text with provenance (jinja_text.c) ------------------------------------------------------------------------- */

SPARK_MUST_CHECK spark_status spark__j_text_new(j_ctx *j, size_t cap, j_text **out);
SPARK_MUST_CHECK spark_status spark__j_text_add(j_ctx *j, j_text *t, spark_bytes b, bool foreign);
SPARK_MUST_CHECK spark_status spark__j_text_str(j_ctx *j, j_text *t, const j_str *s);
SPARK_MUST_CHECK spark_status spark__j_text_char(j_ctx *j, j_text *t, uint32_t cp, bool foreign);
SPARK_MUST_CHECK spark_status spark__j_text_fmt(j_ctx *j, j_text *t, bool foreign, const char *fmt, ...)
    SPARK_PRINTF(4, 5);
SPARK_MUST_CHECK spark_status spark__j_text_done(j_ctx *j, j_text *t, j_val *out); /* all of it as a string */

SPARK_MUST_CHECK spark_status spark__j_str_new(j_ctx *j, spark_bytes b, bool foreign, j_val *out); /* borrows b */
SPARK_MUST_CHECK spark_status spark__j_str_sub(j_ctx *j, const j_str *s, size_t begin, size_t end, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_str_concat(j_ctx *j, const j_str *a, const j_str *b, j_val *out);
bool spark__j_str_foreign(const j_str *s, size_t begin, size_t end); /* any byte of it */
static inline spark_bytes spark__j_bytes(const j_str *s) { return (spark_bytes){s->ptr, s->len}; }

/* Walks the characters of a string. */
typedef struct j_chars {
    const j_str *s;
    size_t pos;  /* byte of the next character */
    size_t span; /* of home, the first that may matter */
    uint32_t cp;
    bool foreign;
} j_chars;
j_chars spark__j_chars(const j_str *s);
bool spark__j_chars_next(j_chars *c);
size_t spark__j_str_count(const j_str *s);                         /* characters */
size_t spark__j_str_char(const j_str *s, size_t at, uint32_t *cp); /* bytes of the character that begins at `at` */
size_t spark__j_str_at(const j_str *s, size_t n);                  /* byte where character n begins, at most len */
size_t spark__j_space_prefix(spark_bytes b);                       /* bytes of white space at the begin */
size_t spark__j_space_suffix(spark_bytes b);                       /* and at the end */
size_t spark__j_find_bytes(spark_bytes hay, spark_bytes needle, size_t from); /* SIZE_MAX if not there */
bool spark__j_is_space(uint32_t cp);
bool spark__j_is_word(uint32_t cp); /* \w of Python */
/* Case of one character, Python's full mapping: up to 3 characters. */
uint32_t spark__j_upper_char(uint32_t cp, uint32_t out[3]);
uint32_t spark__j_lower_char(uint32_t cp, uint32_t out[3]);
typedef enum j_case {
    J_CASE_UPPER,
    J_CASE_LOWER,
    J_CASE_TITLE,
    J_CASE_CAPITALIZE,
    J_CASE_SWAP,
    J_CASE_JINJA_TITLE
} j_case;
SPARK_MUST_CHECK spark_status spark__j_str_case(j_ctx *j, const j_str *s, j_case how, j_val *out);

/* ---- values (jinja_value.c) -------------------------------------------------------------------------------------- */

static inline j_val spark__j_none(void) { return (j_val){.type = J_NONE}; }
static inline j_val spark__j_bool(bool b) { return (j_val){.type = J_BOOL, .u.b = b}; }
static inline j_val spark__j_int(int64_t i) { return (j_val){.type = J_INT, .u.i = i}; }
static inline j_val spark__j_float(double f) { return (j_val){.type = J_FLOAT, .u.f = f}; }
static inline bool spark__j_is_number(j_val v) { return v.type == J_BOOL || v.type == J_INT || v.type == J_FLOAT; }
static inline bool spark__j_is_integer(j_val v) { return v.type == J_BOOL || v.type == J_INT; }
static inline int64_t spark__j_integer(j_val v) { return v.type == J_BOOL ? v.u.b : v.u.i; }
static inline double spark__j_double(j_val v) { return v.type == J_FLOAT ? v.u.f : (double)spark__j_integer(v); }

const char *spark__j_type_name(j_val v); /* as Python says: "str", "dict", "NoneType" */
SPARK_MUST_CHECK spark_status spark__j_from_json(j_ctx *j, const json_t *json, bool foreign, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_undefined_hint(j_ctx *j, const char *hint, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_undefined_name(j_ctx *j, spark_bytes name, j_val *out);
void spark__j_err_undefined(j_ctx *j, j_val v); /* the error of using it */
#define spark__j_fail_undefined(j, v) ((void)(spark__j_err_undefined((j), (v))), (spark_status){SPARK_E_FORMAT})
bool spark__j_truth(j_val v);
SPARK_MUST_CHECK spark_status spark__j_tainted(j_ctx *j, j_val v, bool *out); /* holds text of the caller's data */
SPARK_MUST_CHECK spark_status spark__j_equal(j_ctx *j, j_val a, j_val b, bool *out);
SPARK_MUST_CHECK spark_status spark__j_less(j_ctx *j, j_val a, j_val b, const char *op, bool *out);
SPARK_MUST_CHECK spark_status spark__j_contains(j_ctx *j, j_val box, j_val item, bool *out);
/* Length, for what Python's len() takes; else false. */
bool spark__j_length(j_val v, size_t *out);
/* All items of anything that can be walked. What J_ITER has left is consumed. */
SPARK_MUST_CHECK spark_status spark__j_items(j_ctx *j, j_val v, j_list *out);
SPARK_MUST_CHECK spark_status spark__j_list(j_ctx *j, j_type type, const j_val *items, size_t n, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_list_new(j_ctx *j, j_type type, size_t n, j_val *out); /* of J_MISSING */
SPARK_MUST_CHECK spark_status spark__j_iter(j_ctx *j, const char *name, j_list items, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_dict_new(j_ctx *j, size_t cap, j_dict **out);
SPARK_MUST_CHECK spark_status spark__j_dict_put(j_ctx *j, j_dict *d, j_val key, j_val val);
SPARK_MUST_CHECK spark_status spark__j_dict_get(j_ctx *j, const j_dict *d, j_val key, j_val *out); /* or J_MISSING */
j_val spark__j_dict_find(const j_dict *d, spark_bytes key); /* J_MISSING if not there */
/* jinja_access.c */
SPARK_MUST_CHECK spark_status spark__j_getattr(j_ctx *j, j_val obj, spark_bytes name, j_val *out); /* obj.name */
SPARK_MUST_CHECK spark_status spark__j_getitem(j_ctx *j, j_val obj, j_val key, j_val *out);        /* obj[key] */
SPARK_MUST_CHECK spark_status spark__j_slice(j_ctx *j, j_val obj, const j_val bounds[3], j_val *out);
SPARK_MUST_CHECK spark_status spark__j_binary(j_ctx *j, j_tok op, j_val a, j_val b, j_val *out); /* jinja_arith.c */
const j_builtin *spark__j_method_of(j_val v, spark_bytes name, bool *mutates);                   /* jinja_methods.c */

/* ---- text forms (jinja_format.c) --------------------------------------------------------------------------------- */

enum { J_FLOAT_CHARS = 32 };
void spark__j_float_repr(double f, char out[J_FLOAT_CHARS]);
int spark__j_fixed(double f, int precision, char *out, size_t size);            /* "%.*f" with a point in any locale */
bool spark__j_parse_double(spark_bytes text, double *out);                      /* the whole text must be a number */
SPARK_MUST_CHECK spark_status spark__j_str_of(j_ctx *j, j_val v, j_val *out);   /* str(v) */
SPARK_MUST_CHECK spark_status spark__j_add_value(j_ctx *j, j_text *t, j_val v); /* appends str(v) */
SPARK_MUST_CHECK spark_status spark__j_add_repr(j_ctx *j, j_text *t, j_val v, bool foreign);
typedef struct j_json_style {
    const j_str *item_sep, *key_sep, *indent; /* NULL: Python's default; indent NULL: on one line */
    bool ascii, sort_keys;
} j_json_style;
SPARK_MUST_CHECK spark_status spark__j_json(j_ctx *j, j_val v, const j_json_style *style, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_escape(j_ctx *j, const j_str *s, j_val *out); /* HTML, gives markup */
/* 'text' % args and 'text'.format(args) (jinja_printf.c) */
SPARK_MUST_CHECK spark_status spark__j_percent(j_ctx *j, const j_str *fmt, j_val args, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_format(j_ctx *j, const j_str *fmt, const j_args *args, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_strftime(j_ctx *j, const j_str *fmt, j_val *out);
SPARK_MUST_CHECK spark_status spark__j_sort(j_ctx *j, j_val *keys, j_val *vals, size_t n, bool reverse); /* stable */

#endif
