/* jinja_value.c - values as Python has them: made from JSON, compared, walked, put into lists and dicts. Every walk
 * counts its steps and its depth, because a template can build a value that contains itself 2^60 times over. */
#include <assert.h>
#include <string.h>

#include "text/jinja_internal.h"

enum {
    VALUE_INDEX_FROM = 8,
    VALUE_KEY_ITEMS = 64
}; /* pairs of a dict that are simply walked; items of a tuple as key */

const char *spark__j_type_name(j_val v)
{
    static const char *const names[J_N_TYPES] = {
        "missing",   "Undefined", "NoneType",    "bool",  "int",      "float",
        "str",       "list",      "tuple",       "dict",  "range",    "view",
        "generator", "Namespace", "LoopContext", "Macro", "function", "builtin_function_or_method",
        "Cycler",    "Joiner",
    };
    if ((v.type == J_VIEW || v.type == J_ITER) && v.u.list->name) return v.u.list->name;
    return names[v.type];
}

/* ---- undefined --------------------------------------------------------------------------------------------------- */

static spark_status value_undefined(j_ctx *j, j_undef value, j_val *out)
{
    j_undef *u = NULL;
    SPARK_TRY(J_NEW(j, 1, &u));
    *u = value;
    *out = (j_val){.type = J_UNDEFINED, .u.undef = u};
    return SPARK_SUCCESS;
}

spark_status spark__j_undefined_hint(j_ctx *j, const char *hint, j_val *out)
{
    return value_undefined(j, (j_undef){.why = J_UNDEF_HINT, .owner = hint}, out);
}

spark_status spark__j_undefined_name(j_ctx *j, spark_bytes name, j_val *out)
{
    return value_undefined(j, (j_undef){.why = J_UNDEF_NAME, .name = name}, out);
}

void spark__j_err_undefined(j_ctx *j, j_val v)
{
    const j_undef *u = v.u.undef;
    if (!u) {
        spark__j_err(j, SPARK_E_FORMAT, "value is undefined");
        return;
    }
    const int len = u->name.len < 200 ? (int)u->name.len : 200;
    const char *name = u->name.ptr ? (const char *)u->name.ptr : "";
    const bool none = u->owner && strcmp(u->owner, "NoneType") == 0;
    const char *owner = none ? "None" : u->owner, *object = none ? "" : " object";
    switch (u->why) {
    case J_UNDEF_NAME: spark__j_err(j, SPARK_E_FORMAT, "'%.*s' is undefined", len, name); break;
    case J_UNDEF_HINT: spark__j_err(j, SPARK_E_FORMAT, "%s", u->owner); break;
    case J_UNDEF_INDEX:
        spark__j_err(j, SPARK_E_FORMAT, "%s%s has no element %lld", owner, object, (long long)u->index);
        break;
    case J_UNDEF_UNSAFE:
        spark__j_err(j, SPARK_E_FORMAT, "access to attribute '%.*s' of '%s%s' is unsafe", len, name, owner, object);
        break;
    case J_UNDEF_ATTR:
        spark__j_err(j, SPARK_E_FORMAT, "'%s%s' has no attribute '%.*s'", owner, object, len, name);
        break;
    }
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

spark_status spark__j_list_new(j_ctx *j, j_type type, size_t n, j_val *out)
{
    j_list *list = NULL;
    SPARK_TRY(J_NEW(j, 1, &list));
    if (n) SPARK_TRY(J_NEW(j, n, &list->items));
    list->n = n;
    *out = (j_val){.type = type, .u.list = list};
    return SPARK_SUCCESS;
}

spark_status spark__j_list(j_ctx *j, j_type type, const j_val *items, size_t n, j_val *out)
{
    SPARK_TRY(spark__j_list_new(j, type, n, out));
    if (n) memcpy(out->u.list->items, items, n * sizeof *items);
    return spark__j_steps(j, n / 8);
}

spark_status spark__j_iter(j_ctx *j, const char *name, j_list items, j_val *out)
{
    j_list *list = NULL;
    SPARK_TRY(J_NEW(j, 1, &list));
    *list = (j_list){.items = items.items, .n = items.n, .name = name};
    *out = (j_val){.type = J_ITER, .u.list = list};
    return SPARK_SUCCESS;
}

/* ---- dicts ------------------------------------------------------------------------------------------------------- */

spark_status spark__j_dict_new(j_ctx *j, size_t cap, j_dict **out)
{
    j_dict *d = NULL;
    SPARK_TRY(J_NEW(j, 1, &d));
    if (cap) SPARK_TRY(J_NEW(j, cap, &d->pairs));
    d->cap = cap;
    *out = d;
    return SPARK_SUCCESS;
}

j_val spark__j_dict_find(const j_dict *d, spark_bytes key)
{
    if (d->index) {
        const uint32_t i = spark_strmap_get(d->index, key);
        if (i == SPARK_STRMAP_NONE) return (j_val){.type = J_MISSING};
        return d->pairs[i].val;
    }
    for (size_t i = 0; i < d->n; i++)
        if (d->pairs[i].key.type == J_STR && spark_bytes_equal(spark__j_bytes(d->pairs[i].key.u.s), key))
            return d->pairs[i].val;
    return (j_val){.type = J_MISSING};
}

/* The pair with this key, or NULL. */
static spark_status dict_slot(j_ctx *j, const j_dict *d, j_val key, j_pair **out)
{
    *out = NULL;
    if (key.type == J_STR) SPARK_TRY(spark__j_steps(j, key.u.s->len / 64));
    if (key.type == J_STR && d->index) {
        const uint32_t i = spark_strmap_get(d->index, spark__j_bytes(key.u.s));
        if (i != SPARK_STRMAP_NONE) *out = &d->pairs[i];
        return SPARK_SUCCESS;
    }
    SPARK_TRY(spark__j_steps(j, d->n / 8));
    for (size_t i = 0; i < d->n; i++) {
        bool same = false;
        SPARK_TRY(spark__j_equal(j, d->pairs[i].key, key, &same));
        if (!same) continue;
        *out = &d->pairs[i];
        break;
    }
    return SPARK_SUCCESS;
}

/* Python's hash(): what holds a list or a dict cannot be a key. */
static bool value_is_key(j_val v)
{
    if (v.type == J_LIST || v.type == J_DICT || v.type == J_VIEW) return false;
    if (v.type != J_TUPLE) return true;
    for (size_t i = 0; i < v.u.list->n; i++) /* long tuples, and tuples in tuples: nobody needs them as keys */
        if (v.u.list->items[i].type >= J_LIST || i == VALUE_KEY_ITEMS) return false;
    return true;
}

spark_status spark__j_dict_get(j_ctx *j, const j_dict *d, j_val key, j_val *out)
{
    j_pair *pair = NULL;
    *out = (j_val){.type = J_MISSING};
    if (value_is_key(key)) SPARK_TRY(dict_slot(j, d, key, &pair));
    if (pair) *out = pair->val;
    return SPARK_SUCCESS;
}

static spark_status dict_index(j_ctx *j, j_dict *d)
{
    if (d->cap > UINT32_MAX) return spark__j_fail(j, SPARK_E_LIMIT, "dict is too large");
    if (spark_strmap_create(&d->index, (uint32_t)d->cap, j->a, NULL).code != SPARK_OK)
        return spark__j_fail(j, SPARK_E_LIMIT, "values need more than %zu bytes", spark_arena_max(j->a));
    for (size_t i = 0; i < d->n; i++)
        if (d->pairs[i].key.type == J_STR)
            (void)spark_strmap_put(d->index, spark__j_bytes(d->pairs[i].key.u.s), (uint32_t)i);
    return SPARK_SUCCESS;
}

spark_status spark__j_dict_put(j_ctx *j, j_dict *d, j_val key, j_val val)
{
    j_pair *pair = NULL;
    if (!value_is_key(key)) return spark__j_fail(j, SPARK_E_FORMAT, "unhashable type: '%s'", spark__j_type_name(key));
    SPARK_TRY(dict_slot(j, d, key, &pair));
    if (pair) {
        pair->val = val;
        return SPARK_SUCCESS;
    }
    if (d->n == d->cap) {
        j_pair *pairs = NULL;
        const size_t cap = d->cap ? d->cap * 2 : 4;
        SPARK_TRY(J_NEW(j, cap, &pairs));
        if (d->n) memcpy(pairs, d->pairs, d->n * sizeof *pairs);
        d->pairs = pairs;
        d->cap = cap;
        d->index = NULL;
    }
    d->pairs[d->n++] = (j_pair){key, val};
    if (d->index) {
        if (key.type == J_STR) (void)spark_strmap_put(d->index, spark__j_bytes(key.u.s), (uint32_t)(d->n - 1));
        return SPARK_SUCCESS;
    }
    return d->n > VALUE_INDEX_FROM ? dict_index(j, d) : SPARK_SUCCESS;
}

/* ---- from JSON --------------------------------------------------------------------------------------------------- */

static spark_status value_from_array(j_ctx *j, const json_t *json, bool foreign, j_val *out)
{
    SPARK_TRY(spark__j_list_new(j, J_LIST, json_array_size(json), out));
    out->u.list->foreign = foreign;
    for (size_t i = 0; i < out->u.list->n; i++)
        SPARK_TRY(spark__j_from_json(j, json_array_get(json, i), foreign, &out->u.list->items[i]));
    return SPARK_SUCCESS;
}

static spark_status value_from_object(j_ctx *j, const json_t *json, bool foreign, j_val *out)
{
    j_dict *d = NULL;
    json_t *object = (json_t *)json; /* jansson's iterator asks for a mutable one but does not write */
    SPARK_TRY(spark__j_dict_new(j, json_object_size(json), &d));
    d->foreign = foreign;
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        const spark_bytes name = {(const uint8_t *)json_object_iter_key(it), json_object_iter_key_len(it)};
        j_pair pair;
        SPARK_TRY(spark__j_str_new(j, name, foreign, &pair.key));
        SPARK_TRY(spark__j_from_json(j, json_object_iter_value(it), foreign, &pair.val));
        d->pairs[d->n++] = pair; /* an object's keys differ */
    }
    *out = (j_val){.type = J_DICT, .u.dict = d};
    return d->n > VALUE_INDEX_FROM ? dict_index(j, d) : SPARK_SUCCESS;
}

spark_status spark__j_from_json(j_ctx *j, const json_t *json, bool foreign, j_val *out)
{
    if (json_is_string(json)) {
        const spark_bytes b = {(const uint8_t *)json_string_value(json), json_string_length(json)};
        return spark__j_str_new(j, b, foreign, out);
    }
    if (json_is_array(json) || json_is_object(json)) {
        if (j->depth >= SPARK_MAX_JSON_DEPTH)
            return spark__j_fail(j, SPARK_E_LIMIT, "variables nest deeper than %u", SPARK_MAX_JSON_DEPTH);
        j->depth++;
        SPARK_TRY(json_is_array(json) ? value_from_array(j, json, foreign, out)
                                      : value_from_object(j, json, foreign, out));
        j->depth--;
        return SPARK_SUCCESS;
    }
    if (json_is_integer(json))
        *out = spark__j_int(json_integer_value(json));
    else if (json_is_real(json))
        *out = spark__j_float(json_real_value(json));
    else if (json_is_boolean(json))
        *out = spark__j_bool(json_is_true(json));
    else
        *out = spark__j_none();
    return SPARK_SUCCESS;
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

bool spark__j_length(j_val v, size_t *out)
{
    *out = 0;
    if (v.type == J_UNDEFINED) return true;
    if (v.type == J_STR)
        *out = spark__j_str_count(v.u.s);
    else if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_VIEW)
        *out = v.u.list->n;
    else if (v.type == J_DICT)
        *out = v.u.dict->n;
    else if (v.type == J_RANGE)
        *out = v.u.range->n;
    else if (v.type == J_LOOP)
        *out = v.u.loop->n;
    else
        return false;
    return true;
}

bool spark__j_truth(j_val v)
{
    size_t n = 0;
    if (v.type == J_NONE || v.type == J_MISSING) return false;
    if (v.type == J_BOOL) return v.u.b;
    if (v.type == J_INT) return v.u.i != 0;
    if (v.type == J_FLOAT) return !(v.u.f == 0);
    if (v.type == J_STR) return v.u.s->len != 0;
    if (spark__j_length(v, &n)) return n != 0;
    return true;
}

spark_status spark__j_tainted(j_ctx *j, j_val v, bool *out)
{
    *out = false;
    SPARK_TRY(spark__j_enter(j));
    if (v.type == J_STR) {
        *out = spark__j_str_foreign(v.u.s, 0, v.u.s->len);
    } else if (v.type == J_DICT || v.type == J_NAMESPACE) {
        const j_dict *d = v.type == J_DICT ? v.u.dict : v.u.ns->dict;
        *out = d->foreign;
        for (size_t i = 0; i < d->n && !*out; i++) {
            SPARK_TRY(spark__j_tainted(j, d->pairs[i].key, out));
            if (!*out) SPARK_TRY(spark__j_tainted(j, d->pairs[i].val, out));
        }
    } else if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_VIEW || v.type == J_ITER) {
        *out = v.u.list->foreign;
        for (size_t i = 0; i < v.u.list->n && !*out; i++) SPARK_TRY(spark__j_tainted(j, v.u.list->items[i], out));
    }
    j->depth--;
    return SPARK_SUCCESS;
}

/* ---- comparisons ------------------------------------------------------------------------------------------------- */

static spark_status value_equal_dicts(j_ctx *j, const j_dict *a, const j_dict *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++) {
        j_pair *other = NULL;
        SPARK_TRY(dict_slot(j, b, a->pairs[i].key, &other));
        *out = other != NULL;
        if (other) SPARK_TRY(spark__j_equal(j, a->pairs[i].val, other->val, out));
    }
    return SPARK_SUCCESS;
}

static spark_status value_equal_lists(j_ctx *j, const j_list *a, const j_list *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++) SPARK_TRY(spark__j_equal(j, a->items[i], b->items[i], out));
    return SPARK_SUCCESS;
}

spark_status spark__j_equal(j_ctx *j, j_val a, j_val b, bool *out)
{
    if (spark__j_is_number(a) && spark__j_is_number(b)) {
        *out = spark__j_is_integer(a) && spark__j_is_integer(b) ? spark__j_integer(a) == spark__j_integer(b)
                                                                : spark__j_double(a) == spark__j_double(b);
        return SPARK_SUCCESS;
    }
    *out = false;
    if (a.type != b.type) return SPARK_SUCCESS;
    if (a.type == J_STR) {
        *out = spark_bytes_equal(spark__j_bytes(a.u.s), spark__j_bytes(b.u.s));
        return a.u.s->len == b.u.s->len ? spark__j_steps(j, a.u.s->len / 256) : SPARK_SUCCESS;
    }
    SPARK_TRY(spark__j_enter(j));
    if (a.type == J_NONE || a.type == J_UNDEFINED)
        *out = true;
    else if (a.type == J_LIST || a.type == J_TUPLE)
        SPARK_TRY(value_equal_lists(j, a.u.list, b.u.list, out));
    else if (a.type == J_DICT)
        SPARK_TRY(value_equal_dicts(j, a.u.dict, b.u.dict, out));
    else if (a.type == J_RANGE)
        *out = a.u.range->n == b.u.range->n &&
               (a.u.range->n == 0 ||
                (a.u.range->start == b.u.range->start && (a.u.range->n == 1 || a.u.range->step == b.u.range->step)));
    else
        *out = a.u.list == b.u.list; /* identity: all members are pointers */
    j->depth--;
    return SPARK_SUCCESS;
}

static spark_status value_less_lists(j_ctx *j, const j_list *a, const j_list *b, const char *op, bool *out)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool same = false;
        SPARK_TRY(spark__j_equal(j, a->items[i], b->items[i], &same));
        if (!same) return spark__j_less(j, a->items[i], b->items[i], op, out);
    }
    *out = a->n < b->n;
    return SPARK_SUCCESS;
}

spark_status spark__j_less(j_ctx *j, j_val a, j_val b, const char *op, bool *out)
{
    *out = false;
    if (spark__j_is_number(a) && spark__j_is_number(b)) {
        *out = spark__j_is_integer(a) && spark__j_is_integer(b) ? spark__j_integer(a) < spark__j_integer(b)
                                                                : spark__j_double(a) < spark__j_double(b);
        return SPARK_SUCCESS;
    }
    if (a.type == J_STR && b.type == J_STR) { /* the order of UTF-8 is the order of characters */
        const size_t n = a.u.s->len < b.u.s->len ? a.u.s->len : b.u.s->len;
        const int c = n ? memcmp(a.u.s->ptr, b.u.s->ptr, n) : 0;
        *out = c != 0 ? c < 0 : a.u.s->len < b.u.s->len;
        return spark__j_steps(j, n / 256);
    }
    if (a.type == J_UNDEFINED) return spark__j_fail_undefined(j, a);
    if (b.type == J_UNDEFINED) return spark__j_fail_undefined(j, b);
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        SPARK_TRY(spark__j_enter(j));
        SPARK_TRY(value_less_lists(j, a.u.list, b.u.list, op, out));
        j->depth--;
        return SPARK_SUCCESS;
    }
    return spark__j_fail(j, SPARK_E_FORMAT, "'%s' not supported between instances of '%s' and '%s'", op,
                         spark__j_type_name(a), spark__j_type_name(b));
}

spark_status spark__j_contains(j_ctx *j, j_val box, j_val item, bool *out)
{
    *out = false;
    if (box.type == J_STR) {
        if (item.type == J_UNDEFINED) return spark__j_fail_undefined(j, item);
        if (item.type != J_STR)
            return spark__j_fail(j, SPARK_E_FORMAT, "'in <string>' requires string as left operand, not %s",
                                 spark__j_type_name(item));
        *out = spark__j_find_bytes(spark__j_bytes(box.u.s), spark__j_bytes(item.u.s), 0) != SIZE_MAX;
        return spark__j_steps(j, box.u.s->len / 64);
    }
    if (box.type == J_DICT) {
        j_val found;
        if (!value_is_key(item))
            return spark__j_fail(j, SPARK_E_FORMAT, "unhashable type: '%s'", spark__j_type_name(item));
        SPARK_TRY(spark__j_dict_get(j, box.u.dict, item, &found));
        *out = found.type != J_MISSING;
        return SPARK_SUCCESS;
    }
    j_list items;
    SPARK_TRY(spark__j_items(j, box, &items));
    assert(items.items || items.n == 0);
    SPARK_TRY(spark__j_steps(j, items.n / 8));
    for (size_t i = 0; i < items.n && !*out; i++) SPARK_TRY(spark__j_equal(j, items.items[i], item, out));
    return SPARK_SUCCESS;
}

/* ---- walking ----------------------------------------------------------------------------------------------------- */

static spark_status value_items_of_str(j_ctx *j, const j_str *s, j_list *out)
{
    out->n = spark__j_str_count(s);
    SPARK_TRY(spark__j_steps(j, out->n));
    SPARK_TRY(J_NEW(j, out->n, &out->items));
    size_t i = 0, begin = 0;
    for (j_chars c = spark__j_chars(s); spark__j_chars_next(&c); begin = c.pos)
        SPARK_TRY(spark__j_str_sub(j, s, begin, c.pos, &out->items[i++]));
    return SPARK_SUCCESS;
}

spark_status spark__j_items(j_ctx *j, j_val v, j_list *out)
{
    *out = (j_list){0};
    if (v.type == J_UNDEFINED) return SPARK_SUCCESS;
    if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_VIEW) {
        *out = *v.u.list;
        return SPARK_SUCCESS;
    }
    if (v.type == J_ITER) {
        *out = (j_list){.items = v.u.list->items ? v.u.list->items + v.u.list->pos : NULL,
                        .n = v.u.list->n - v.u.list->pos};
        v.u.list->pos = v.u.list->n;
        return SPARK_SUCCESS;
    }
    if (v.type == J_STR) return value_items_of_str(j, v.u.s, out);
    if (v.type == J_DICT) {
        out->n = v.u.dict->n;
        SPARK_TRY(J_NEW(j, out->n, &out->items));
        for (size_t i = 0; i < out->n; i++) out->items[i] = v.u.dict->pairs[i].key;
        return spark__j_steps(j, out->n / 8);
    }
    if (v.type == J_RANGE) {
        out->n = v.u.range->n;
        SPARK_TRY(J_NEW(j, out->n, &out->items));
        for (size_t i = 0; i < out->n; i++)
            out->items[i] = spark__j_int(v.u.range->start + (int64_t)i * v.u.range->step);
        return spark__j_steps(j, out->n / 8);
    }
    return spark__j_fail(j, SPARK_E_FORMAT, "'%s' object is not iterable", spark__j_type_name(v));
}

/* Stable merge of two sorted halves, by key; `reverse` keeps equal ones in their order, as Python does. */
static spark_status value_merge(j_ctx *j, const j_pair *from, j_pair *to, size_t mid, size_t n, bool reverse)
{
    size_t a = 0, b = mid;
    for (size_t i = 0; i < n; i++) {
        bool take_b = a == mid;
        if (a < mid && b < n)
            SPARK_TRY(reverse ? spark__j_less(j, from[a].key, from[b].key, "<", &take_b)
                              : spark__j_less(j, from[b].key, from[a].key, "<", &take_b));
        to[i] = take_b ? from[b++] : from[a++];
    }
    return spark__j_steps(j, n);
}

spark_status spark__j_sort(j_ctx *j, j_val *keys, j_val *vals, size_t n, bool reverse)
{
    j_pair *a = NULL, *b = NULL;
    SPARK_TRY(J_NEW(j, n, &a));
    SPARK_TRY(J_NEW(j, n, &b));
    for (size_t i = 0; i < n; i++) a[i] = (j_pair){keys[i], vals[i]};
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t i = 0; i < n; i += 2 * width) {
            const size_t left = n - i, m = left < 2 * width ? left : 2 * width;
            SPARK_TRY(value_merge(j, a + i, b + i, width < m ? width : m, m, reverse));
        }
        j_pair *swap = a;
        a = b;
        b = swap;
    }
    for (size_t i = 0; i < n; i++) {
        keys[i] = a[i].key;
        vals[i] = a[i].val;
    }
    return SPARK_SUCCESS;
}
