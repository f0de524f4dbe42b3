/* jinja_globals.c - the functions a template finds by name: range, namespace, dict, cycler, joiner of Jinja2, and
 * raise_exception and strftime_now of the Hugging Face libraries. */
#include "text/jinja_internal.h"

static spark_status global_range(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    int64_t v[3] = {0, 0, 1};
    j_range *r = NULL;
    (void)self;
    if (a->n_pos < 1 || a->n_pos > 3 || a->n_named)
        return spark__j_fail(j, SPARK_E_FORMAT, "range takes 1 to 3 numbers");
    for (uint32_t i = 0; i < a->n_pos; i++) {
        if (a->pos[i].type == J_UNDEFINED) return spark__j_fail_undefined(j, a->pos[i]);
        if (!spark__j_is_integer(a->pos[i]))
            return spark__j_fail(j, SPARK_E_FORMAT, "'%s' object cannot be interpreted as an integer",
                                 spark__j_type_name(a->pos[i]));
        v[a->n_pos == 1 ? 1 : i] = spark__j_integer(a->pos[i]);
    }
    if (v[2] == 0) return spark__j_fail(j, SPARK_E_FORMAT, "range() arg 3 must not be zero");
    const uint64_t stride = v[2] < 0 ? 0 - (uint64_t)v[2] : (uint64_t)v[2];
    const bool some = v[2] < 0 ? v[0] > v[1] : v[0] < v[1];
    const uint64_t distance = v[2] < 0 ? (uint64_t)v[0] - (uint64_t)v[1] : (uint64_t)v[1] - (uint64_t)v[0];
    const uint64_t n = some ? (distance - 1) / stride + 1 : 0;
    if (n > SPARK_MAX_TEMPLATE_RANGE)
        return spark__j_fail(j, SPARK_E_LIMIT, "range of more than %u items", SPARK_MAX_TEMPLATE_RANGE);
    SPARK_TRY(J_NEW(j, 1, &r));
    *r = (j_range){v[0], v[1], v[2], (size_t)n};
    *out = (j_val){.type = J_RANGE, .u.range = r};
    return SPARK_SUCCESS;
}

/* dict(other, a=1): pairs of a mapping or of two-item sequences, then the named ones. */
static spark_status global_make_dict(j_ctx *j, const j_args *a, j_dict **out)
{
    SPARK_TRY(spark__j_dict_new(j, a->n_named, out));
    if (a->n_pos > 1) return spark__j_fail(j, SPARK_E_FORMAT, "dict takes at most 1 positional argument");
    if (a->n_pos == 1 && a->pos[0].type == J_DICT) {
        const j_dict *d = a->pos[0].u.dict;
        SPARK_TRY(spark__j_steps(j, d->n));
        for (size_t i = 0; i < d->n; i++) SPARK_TRY(spark__j_dict_put(j, *out, d->pairs[i].key, d->pairs[i].val));
    } else if (a->n_pos == 1) {
        j_list pairs, pair;
        if (a->pos[0].type == J_UNDEFINED) return spark__j_fail_undefined(j, a->pos[0]);
        SPARK_TRY(spark__j_items(j, a->pos[0], &pairs));
        for (size_t i = 0; i < pairs.n; i++) {
            SPARK_TRY(spark__j_items(j, pairs.items[i], &pair));
            if (pair.n != 2) return spark__j_fail(j, SPARK_E_FORMAT, "dict needs pairs");
            SPARK_TRY(spark__j_dict_put(j, *out, pair.items[0], pair.items[1]));
        }
    }
    for (uint32_t i = 0; i < a->n_named; i++) {
        j_val key;
        SPARK_TRY(spark__j_str_new(j, a->keys[i], false, &key));
        SPARK_TRY(spark__j_dict_put(j, *out, key, a->named[i]));
    }
    return SPARK_SUCCESS;
}

static spark_status global_dict(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_dict *d = NULL;
    (void)self;
    SPARK_TRY(global_make_dict(j, a, &d));
    *out = (j_val){.type = J_DICT, .u.dict = d};
    return SPARK_SUCCESS;
}

static spark_status global_namespace(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_namespace *ns = NULL;
    (void)self;
    SPARK_TRY(J_NEW(j, 1, &ns));
    SPARK_TRY(global_make_dict(j, a, &ns->dict));
    *out = (j_val){.type = J_NAMESPACE, .u.ns = ns};
    return SPARK_SUCCESS;
}

static spark_status global_raise(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_val text;
    (void)self, (void)out;
    SPARK_TRY(spark__j_str_of(j, a->pos[0], &text));
    const int len = text.u.s->len < SPARK_ERR_TEXT ? (int)text.u.s->len : SPARK_ERR_TEXT;
    return spark__j_fail(j, SPARK_E_REFUSED, "%.*s", len, text.u.s->ptr ? (const char *)text.u.s->ptr : "");
}

static spark_status global_now(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    (void)self;
    if (a->pos[0].type != J_STR) return spark__j_fail(j, SPARK_E_FORMAT, "strftime_now needs a format");
    return spark__j_strftime(j, a->pos[0].u.s, out);
}

static spark_status global_cycler(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_cycler *c = NULL;
    (void)self;
    if (a->n_pos == 0 || a->n_named) return spark__j_fail(j, SPARK_E_FORMAT, "cycler needs at least one item");
    SPARK_TRY(J_NEW(j, 1, &c));
    *c = (j_cycler){a->pos, a->n_pos, 0}; /* the arguments live as long as the rendering */
    *out = (j_val){.type = J_CYCLER, .u.cycler = c};
    return SPARK_SUCCESS;
}

static spark_status global_joiner(j_ctx *j, j_val self, const j_args *a, j_val *out)
{
    j_cycler *c = NULL;
    j_val *sep = NULL;
    (void)self;
    SPARK_TRY(J_NEW(j, 1, &c));
    SPARK_TRY(J_NEW(j, 1, &sep));
    *sep = a->pos[0];
    if (sep->type == J_MISSING) SPARK_TRY(spark__j_str_new(j, SPARK_BYTES_LITERAL(", "), false, sep));
    *c = (j_cycler){sep, 1, 0};
    *out = (j_val){.type = J_JOINER, .u.cycler = c};
    return SPARK_SUCCESS;
}

static const j_builtin global_table[] = {
    {"cycler", global_cycler, NULL, 0},       {"dict", global_dict, NULL, 0},
    {"joiner", global_joiner, "sep", 0},      {"lipsum", NULL, NULL, 0},
    {"namespace", global_namespace, NULL, 0}, {"raise_exception", global_raise, "message", 1},
    {"range", global_range, NULL, 0},         {"strftime_now", global_now, "format", 1},
};

const j_builtin *spark__j_global(spark_bytes name)
{
    return spark__j_find(global_table, SPARK_COUNT(global_table), name);
}
