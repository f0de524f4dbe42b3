/* gguf_keys.c - reading an opened GGUF: keys with the type and range that the caller expects, arrays, tensors by name.
 * Everything here rests on what gguf.c has checked; what remains to fail is a key that is not what somebody wants. */
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "format/gguf_internal.h"

static const char *const gkeys_kind_names[GGUF_N_KINDS] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                           "bool", "string", "array", "u64", "i64", "f64"};

const char *spark_gguf_kind_name(spark_gguf_kind kind)
{
    return (uint32_t)kind < GGUF_N_KINDS ? gkeys_kind_names[kind] : "unknown";
}

uint32_t spark_gguf_split_count(const spark_gguf *g) { return g->split_count; }
uint32_t spark_gguf_version(const spark_gguf *g) { return g->version; }
uint32_t spark_gguf_n_keys(const spark_gguf *g) { return g->keys.n; }
uint32_t spark_gguf_n_tensors(const spark_gguf *g) { return g->n_tensors; }

const spark_gguf_key *spark_gguf_key_at(const spark_gguf *g, uint32_t i)
{
    assert(i < g->keys.n);
    return &g->keys.at[i];
}

const spark_gguf_tensor *spark_gguf_tensor_at(const spark_gguf *g, uint32_t i)
{
    assert(i < spark_gguf_n_tensors(g));
    return &g->tensors[i];
}

const spark_gguf_tensor *spark_gguf_tensor_find(const spark_gguf *g, const char *name)
{
    const uint32_t i = g->tensor_map ? spark_strmap_get(g->tensor_map, spark_bytes_of(name)) : SPARK_STRMAP_NONE;
    return i == SPARK_STRMAP_NONE ? NULL : &g->tensors[i];
}

const spark_gguf_value *spark__gguf_keys_find(const spark__gguf_keys *k, const char *key)
{
    const uint32_t i = spark_strmap_get(k->map, spark_bytes_of(key));
    return i == SPARK_STRMAP_NONE ? NULL : &k->at[i].value;
}

const spark_gguf_value *spark_gguf_find(const spark_gguf *g, const char *key)
{
    return spark__gguf_keys_find(&g->keys, key);
}

/* Where the key of this value stands in its file. */
static uint64_t gkeys_at(const spark__gguf_keys *k, const spark_gguf_value *v)
{
    const spark_gguf_key *key = (const spark_gguf_key *)(const void *)((const char *)v -
                                                                       offsetof(spark_gguf_key, value));
    return spark__gguf_entry_at(k->base, key->name);
}

static const spark_gguf_value *gkeys_look(const spark__gguf_keys *k, const char *key, bool *found)
{
    const spark_gguf_value *v = spark__gguf_keys_find(k, key);
    if (found) *found = v != NULL;
    return v;
}

static spark_status gkeys_wrong_kind(const spark__gguf_keys *k, const spark_gguf_value *v, const char *key,
                                     const char *expected, spark_err *err)
{
    return spark_fail(err, SPARK_E_FORMAT, gkeys_at(k, v), "key '%s' is of kind %s, expected %s", key,
                      spark_gguf_kind_name(v->kind), expected);
}

static bool gkeys_is_unsigned(spark_gguf_kind k)
{
    return k == SPARK_GGUF_U8 || k == SPARK_GGUF_U16 || k == SPARK_GGUF_U32 || k == SPARK_GGUF_U64;
}

static bool gkeys_is_signed(spark_gguf_kind k)
{
    return k == SPARK_GGUF_I8 || k == SPARK_GGUF_I16 || k == SPARK_GGUF_I32 || k == SPARK_GGUF_I64;
}

spark_status spark__gguf_keys_u32(const spark__gguf_keys *k, const char *key, uint32_t min, uint32_t max, uint32_t *out,
                                  bool *found, spark_err *err)
{
    const spark_gguf_value *v = gkeys_look(k, key, found);
    if (!v) return SPARK_SUCCESS;
    const bool is_signed = gkeys_is_signed(v->kind);
    if (!is_signed && !gkeys_is_unsigned(v->kind)) return gkeys_wrong_kind(k, v, key, "an integer", err);
    SPARK_CHECK(!is_signed || v->as.i >= 0, err, SPARK_E_FORMAT, gkeys_at(k, v),
                "key '%s' is %" PRId64 ", allowed is %" PRIu32 " to %" PRIu32, key, v->as.i, min, max);
    const uint64_t u = is_signed ? (uint64_t)v->as.i : v->as.u;
    SPARK_CHECK(u >= min && u <= max, err, SPARK_E_FORMAT, gkeys_at(k, v),
                "key '%s' is %" PRIu64 ", allowed is %" PRIu32 " to %" PRIu32, key, u, min, max);
    *out = (uint32_t)u;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_get_u32(const spark_gguf *g, const char *key, uint32_t min, uint32_t max, uint32_t *out,
                                bool *found, spark_err *err)
{
    return spark__gguf_keys_u32(&g->keys, key, min, max, out, found, err);
}

spark_status spark_gguf_get_f32(const spark_gguf *g, const char *key, float *out, bool *found, spark_err *err)
{
    const spark_gguf_value *v = gkeys_look(&g->keys, key, found);
    if (!v) return SPARK_SUCCESS;
    if (v->kind != SPARK_GGUF_F32 && v->kind != SPARK_GGUF_F64)
        return gkeys_wrong_kind(&g->keys, v, key, "a float", err);
    const float f = (float)v->as.f; /* an f64 beyond the range becomes infinite and is refused with the rest */
    SPARK_CHECK(isfinite(f), err, SPARK_E_FORMAT, gkeys_at(&g->keys, v), "key '%s' is %g, not a finite float", key,
                v->as.f);
    *out = f;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_get_bool(const spark_gguf *g, const char *key, bool *out, bool *found, spark_err *err)
{
    const spark_gguf_value *v = gkeys_look(&g->keys, key, found);
    if (!v) return SPARK_SUCCESS;
    if (v->kind != SPARK_GGUF_BOOL) return gkeys_wrong_kind(&g->keys, v, key, "bool", err);
    *out = v->as.u != 0;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_get_string(const spark_gguf *g, const char *key, spark_bytes *out, bool *found, spark_err *err)
{
    const spark_gguf_value *v = gkeys_look(&g->keys, key, found);
    if (!v) return SPARK_SUCCESS;
    if (v->kind != SPARK_GGUF_STRING) return gkeys_wrong_kind(&g->keys, v, key, "string", err);
    *out = v->as.s;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_get_array(const spark_gguf *g, const char *key, spark_gguf_kind elem, spark_gguf_value *out,
                                  bool *found, spark_err *err)
{
    const spark_gguf_value *v = gkeys_look(&g->keys, key, found);
    if (!v) return SPARK_SUCCESS;
    if (v->kind != SPARK_GGUF_ARRAY) return gkeys_wrong_kind(&g->keys, v, key, "an array", err);
    SPARK_CHECK(v->elem == elem, err, SPARK_E_FORMAT, gkeys_at(&g->keys, v), "key '%s' is an array of %s, expected %s",
                key, spark_gguf_kind_name(v->elem), spark_gguf_kind_name(elem));
    *out = *v;
    return SPARK_SUCCESS;
}

static const uint8_t *gkeys_element(const spark_gguf_value *array, uint64_t i)
{
    assert(array->kind == SPARK_GGUF_ARRAY && array->elem != SPARK_GGUF_STRING && i < array->n);
    return array->as.s.ptr + i * spark__gguf_kind_bytes(array->elem);
}

static double gkeys_f64(const uint8_t *p)
{
    const uint64_t u = spark_load_u64(p);
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

static int64_t gkeys_clamp(double d)
{
    if (isnan(d)) return 0;
    if (d >= 0x1p63) return INT64_MAX;
    return d < -0x1p63 ? INT64_MIN : (int64_t)d;
}

int64_t spark_gguf_array_i64(const spark_gguf_value *array, uint64_t i)
{
    const uint8_t *p = gkeys_element(array, i);
    uint64_t u = 0;
    switch (array->elem) {
    case SPARK_GGUF_U8:
    case SPARK_GGUF_BOOL: return p[0];
    case SPARK_GGUF_I8: return (int8_t)p[0];
    case SPARK_GGUF_U16: return spark_load_u16(p);
    case SPARK_GGUF_I16: return (int16_t)spark_load_u16(p);
    case SPARK_GGUF_U32: return spark_load_u32(p);
    case SPARK_GGUF_I32: return (int32_t)spark_load_u32(p);
    case SPARK_GGUF_U64: u = spark_load_u64(p); return u > INT64_MAX ? INT64_MAX : (int64_t)u;
    case SPARK_GGUF_I64: return (int64_t)spark_load_u64(p);
    case SPARK_GGUF_F32: return gkeys_clamp((double)spark_load_f32(p));
    case SPARK_GGUF_F64: return gkeys_clamp(gkeys_f64(p));
    case SPARK_GGUF_STRING:
    case SPARK_GGUF_ARRAY: break;
    }
    assert(0 && "not numbers");
    return 0;
}

double spark_gguf_array_f64(const spark_gguf_value *array, uint64_t i)
{
    const uint8_t *p = gkeys_element(array, i);
    if (array->elem == SPARK_GGUF_F32) return (double)spark_load_f32(p);
    if (array->elem == SPARK_GGUF_F64) return gkeys_f64(p);
    if (array->elem == SPARK_GGUF_U64) return (double)spark_load_u64(p);
    return (double)spark_gguf_array_i64(array, i);
}
