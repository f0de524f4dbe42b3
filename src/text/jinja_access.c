/* jinja_access.c - the only ways from one value to another: obj.name, obj[key], obj[a:b:c]. This is the sandbox: nothing
 * is reached here but data, the methods in the tables of jinja_methods.c, and what a loop tells about itself.
 * Order of look-up: SandboxedEnvironment.getattr and getitem of Jinja2 (attributes first for a dot, keys for brackets). */
#include <string.h>

#include "text/jinja_internal.h"

static spark_status access_undefined(j_ctx *j, j_val obj, j_undef value, j_val *out)
{
    j_undef *u = NULL;
    SPARK_TRY(J_NEW(j, 1, &u));
    value.owner = spark__j_type_name(obj);
    *u = value;
    *out = (j_val){.type = J_UNDEFINED, .u.undef = u};
    return SPARK_SUCCESS;
}

static spark_status access_loop_item(j_ctx *j, const j_loop *l, bool exists, size_t index, const char *hint, j_val *out)
{
    if (!exists) return spark__j_undefined_hint(j, hint, out);
    *out = l->items[index];
    return SPARK_SUCCESS;
}

/* What `loop` tells; J_MISSING for names it does not know. */
static spark_status access_loop(j_ctx *j, const j_loop *l, spark_bytes name, j_val *out)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"index", (int64_t)l->index + 1},
        {"index0", (int64_t)l->index},
        {"length", (int64_t)l->n},
        {"revindex", (int64_t)(l->n - l->index)},
        {"depth0", l->depth0},
        {"revindex0", (int64_t)(l->n - l->index) - 1},
        {"depth", (int64_t)l->depth0 + 1},
    };
    *out = (j_val){.type = J_MISSING};
    for (size_t i = 0; i < SPARK_COUNT(numbers); i++)
        if (spark_bytes_is(name, numbers[i].name)) *out = spark__j_int(numbers[i].value);
    if (spark_bytes_is(name, "first")) *out = spark__j_bool(l->index == 0);
    if (spark_bytes_is(name, "last")) *out = spark__j_bool(l->index + 1 == l->n);
    if (spark_bytes_is(name, "previtem"))
        return access_loop_item(j, l, l->index > 0, l->index - 1, "there is no previous item", out);
    if (spark_bytes_is(name, "nextitem"))
        return access_loop_item(j, l, l->index + 1 < l->n, l->index + 1, "there is no next item", out);
    return SPARK_SUCCESS;
}

static spark_status access_method(j_ctx *j, j_val obj, const j_builtin *fn, j_val *out)
{
    j_method *m = NULL;
    SPARK_TRY(J_NEW(j, 1, &m));
    *m = (j_method){obj, fn};
    *out = (j_val){.type = J_METHOD, .u.method = m};
    return SPARK_SUCCESS;
}

/* What Python's getattr would find; J_MISSING if nothing. */
static spark_status access_attribute(j_ctx *j, j_val obj, spark_bytes name, j_val *out)
{
    bool mutates = false;
    const j_builtin *fn = spark__j_method_of(obj, name, &mutates);
    const bool dunder = name.len > 4 && memcmp(name.ptr, "__", 2) == 0 && memcmp(name.ptr + name.len - 2, "__", 2) == 0;
    *out = (j_val){.type = J_MISSING};
    if (mutates || dunder) return access_undefined(j, obj, (j_undef){.why = J_UNDEF_UNSAFE, .name = name}, out);
    if (fn) return access_method(j, obj, fn, out);
    if (obj.type == J_LOOP) return access_loop(j, obj.u.loop, name, out);
    if (obj.type == J_NAMESPACE) *out = spark__j_dict_find(obj.u.ns->dict, name);
    if (obj.type == J_TUPLE && obj.u.list->group && spark_bytes_is(name, "grouper")) *out = obj.u.list->items[0];
    if (obj.type == J_TUPLE && obj.u.list->group && spark_bytes_is(name, "list")) *out = obj.u.list->items[1];
    if (obj.type == J_CYCLER && spark_bytes_is(name, "current")) *out = obj.u.cycler->values[obj.u.cycler->pos];
    return SPARK_SUCCESS;
}

spark_status spark__j_getattr(j_ctx *j, j_val obj, spark_bytes name, j_val *out)
{
    if (obj.type == J_UNDEFINED) return spark__j_fail_undefined(j, obj);
    SPARK_TRY(spark__j_steps(j, name.len / 64));
    SPARK_TRY(access_attribute(j, obj, name, out));
    if (out->type == J_MISSING && obj.type == J_DICT) *out = spark__j_dict_find(obj.u.dict, name);
    if (out->type != J_MISSING) return SPARK_SUCCESS;
    return access_undefined(j, obj, (j_undef){.why = J_UNDEF_ATTR, .name = name}, out);
}

/* Item `i` of a sequence, counted from the end if negative; J_MISSING outside. */
static spark_status access_index(j_ctx *j, j_val obj, int64_t i, j_val *out)
{
    size_t n = 0;
    *out = (j_val){.type = J_MISSING};
    if (!spark__j_length(obj, &n)) return SPARK_SUCCESS;
    if (obj.type == J_STR) SPARK_TRY(spark__j_steps(j, obj.u.s->len / 32));
    if (i < 0) i += (int64_t)n;
    if (i < 0 || (uint64_t)i >= n) return SPARK_SUCCESS;
    if (obj.type == J_LIST || obj.type == J_TUPLE) {
        *out = obj.u.list->items[i];
    } else if (obj.type == J_RANGE) {
        *out = spark__j_int(obj.u.range->start + i * obj.u.range->step);
    } else if (obj.type == J_STR) {
        uint32_t cp = 0;
        const size_t begin = spark__j_str_at(obj.u.s, (size_t)i);
        return spark__j_str_sub(j, obj.u.s, begin, begin + spark__j_str_char(obj.u.s, begin, &cp), out);
    }
    return SPARK_SUCCESS;
}

spark_status spark__j_getitem(j_ctx *j, j_val obj, j_val key, j_val *out)
{
    if (obj.type == J_UNDEFINED) return spark__j_fail_undefined(j, obj);
    *out = (j_val){.type = J_MISSING};
    if (key.type == J_STR) SPARK_TRY(spark__j_steps(j, key.u.s->len / 64));
    if (obj.type == J_DICT)
        SPARK_TRY(spark__j_dict_get(j, obj.u.dict, key, out));
    else if (spark__j_is_integer(key))
        SPARK_TRY(access_index(j, obj, spark__j_integer(key), out));
    if (out->type == J_MISSING && key.type == J_STR) SPARK_TRY(access_attribute(j, obj, spark__j_bytes(key.u.s), out));
    if (out->type != J_MISSING) return SPARK_SUCCESS;
    if (key.type == J_STR)
        return access_undefined(j, obj, (j_undef){.why = J_UNDEF_ATTR, .name = spark__j_bytes(key.u.s)}, out);
    if (spark__j_is_integer(key))
        return access_undefined(j, obj, (j_undef){.why = J_UNDEF_INDEX, .index = spark__j_integer(key)}, out);
    return spark__j_undefined_hint(j, "no such element", out);
}

/* One bound of a slice, brought into [low, high] as PySlice_AdjustIndices does. */
static int64_t access_bound(j_val v, int64_t absent, int64_t n, int64_t low, int64_t high)
{
    if (v.type == J_NONE) return absent;
    int64_t i = spark__j_integer(v);
    if (i < 0) i = i < -n ? low : i + n; /* n is small: no overflow */
    return i < low ? low : i > high ? high : i;
}

/* Characters start, start + step, ... of a string; step is not 1. */
static spark_status access_stride(j_ctx *j, const j_str *s, int64_t start, int64_t step, size_t n, j_val *out)
{
    j_list chars;
    j_text *t = NULL;
    SPARK_TRY(spark__j_items(j, (j_val){.type = J_STR, .u.s = s}, &chars));
    SPARK_TRY(spark__j_text_new(j, s->len, &t));
    for (size_t i = 0; i < n; i++) SPARK_TRY(spark__j_text_str(j, t, chars.items[start + (int64_t)i * step].u.s));
    return spark__j_text_done(j, t, out);
}

spark_status spark__j_slice(j_ctx *j, j_val obj, const j_val bounds[3], j_val *out)
{
    size_t length = 0;
    if (obj.type == J_UNDEFINED) return spark__j_fail_undefined(j, obj);
    for (int i = 0; i < 3; i++)
        if (bounds[i].type != J_NONE && !spark__j_is_integer(bounds[i]))
            return spark__j_undefined_hint(j, "slice indices must be integers or None", out);
    const bool list = obj.type == J_LIST || obj.type == J_TUPLE;
    if ((!list && obj.type != J_STR && obj.type != J_RANGE) || !spark__j_length(obj, &length))
        return spark__j_undefined_hint(j, "value cannot be sliced", out);
    const int64_t step = bounds[2].type == J_NONE ? 1 : spark__j_integer(bounds[2]), n = (int64_t)length;
    if (step == 0) return spark__j_fail(j, SPARK_E_FORMAT, "slice step cannot be zero");
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    const int64_t start = access_bound(bounds[0], step < 0 ? high : low, n, low, high);
    const int64_t stop = access_bound(bounds[1], step < 0 ? low : high, n, low, high);
    const uint64_t stride = step < 0 ? 0 - (uint64_t)step : (uint64_t)step;
    const int64_t distance = step < 0 ? start - stop : stop - start;
    const size_t count = distance > 0 ? (size_t)(((uint64_t)distance - 1) / stride + 1) : 0;
    if (obj.type == J_STR) {
        SPARK_TRY(spark__j_steps(j, obj.u.s->len / 32));
        if (step != 1 && count > 0) return access_stride(j, obj.u.s, start, count > 1 ? step : 1, count, out);
        const size_t begin = spark__j_str_at(obj.u.s, (size_t)start);
        const size_t end = count ? spark__j_str_at(obj.u.s, (size_t)stop) : begin;
        return spark__j_str_sub(j, obj.u.s, begin, end, out);
    }
    j_list items;
    SPARK_TRY(spark__j_items(j, obj, &items));
    SPARK_TRY(spark__j_list_new(j, obj.type == J_TUPLE ? J_TUPLE : J_LIST, count, out));
    out->u.list->foreign = list && obj.u.list->foreign;
    for (size_t i = 0; i < count; i++) {
        const int64_t at = start + (i ? (int64_t)i * step : 0);
        out->u.list->items[i] = items.items[at];
    }
    return spark__j_steps(j, count / 8);
}
