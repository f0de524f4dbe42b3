/* buffers.c - the two growing outputs of this room, ids and bytes, and where they grow. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_internal.h"

spark_status spark__buffer_resize(spark_arena *a, void **ptr, size_t old_bytes, size_t new_bytes, spark_err *err)
{
    if (a) return spark_arena_extend(a, ptr, old_bytes, new_bytes, _Alignof(max_align_t), err);
    void *p = realloc(*ptr, new_bytes);
    SPARK_CHECK(p, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for an output of %zu bytes", new_bytes);
    *ptr = p;
    return SPARK_SUCCESS;
}

void spark__buffer_free(const spark_arena *a, void *ptr)
{
    if (!a) free(ptr);
}

spark_status spark__buffer_grow(spark_arena *a, void **ptr, size_t *cap, size_t need, size_t size, spark_err *err)
{
    if (need <= *cap) return SPARK_SUCCESS;
    size_t n = *cap ? *cap : need > 64 ? need : 64;
    while (n < need && n <= SIZE_MAX / 2 / size) n *= 2;
    SPARK_CHECK(n >= need, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "output of %zu elements is too large", need);
    if (a && !spark_ok(spark__buffer_resize(a, ptr, *cap * size, n * size, NULL))) {
        n = need; /* the last of what was planned */
        SPARK_TRY(spark__buffer_resize(a, ptr, *cap * size, n * size, err));
    }
    if (!a) SPARK_TRY(spark__buffer_resize(NULL, ptr, *cap * size, n * size, err));
    *cap = n;
    return SPARK_SUCCESS;
}

spark_status spark__ids_grow(spark_ids *ids, size_t n, spark_err *err)
{
    SPARK_CHECK(n <= SIZE_MAX - ids->n, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "output is too large");
    void *p = ids->ids;
    SPARK_TRY(spark__buffer_grow(ids->arena, &p, &ids->cap, ids->n + n, sizeof *ids->ids, err));
    ids->ids = p;
    return SPARK_SUCCESS;
}

spark_status spark_ids_push(spark_ids *ids, uint32_t id, spark_err *err)
{
    SPARK_TRY(spark__ids_reserve(ids, 1, err));
    ids->ids[ids->n++] = id;
    return SPARK_SUCCESS;
}

void spark_ids_free(spark_ids *ids)
{
    spark__buffer_free(ids->arena, ids->ids);
    *ids = (spark_ids){0};
}

spark_status spark__text_reserve(spark_text *t, size_t n, spark_err *err)
{
    if (n <= t->cap - t->len) return SPARK_SUCCESS;
    SPARK_CHECK(n <= SIZE_MAX - t->len, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "output is too large");
    void *p = t->ptr;
    SPARK_TRY(spark__buffer_grow(t->arena, &p, &t->cap, t->len + n, 1, err));
    t->ptr = p;
    return SPARK_SUCCESS;
}

spark_status spark_text_append(spark_text *t, spark_bytes b, spark_err *err)
{
    SPARK_TRY(spark__text_reserve(t, b.len, err));
    if (b.len) memcpy(t->ptr + t->len, b.ptr, b.len);
    t->len += b.len;
    return SPARK_SUCCESS;
}

void spark_text_free(spark_text *t)
{
    spark__buffer_free(t->arena, t->ptr);
    *t = (spark_text){0};
}
