/* buffers.c - the two growing outputs of this room: ids and bytes. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_internal.h"

/* Doubles *cap until it is at least `need`, elements of `size` bytes; the old memory stays on failure. */
static spark_status buffer_grow(void **ptr, size_t *cap, size_t need, size_t size, spark_err *err)
{
    size_t n = *cap ? *cap : 64;
    while (n < need && n <= SIZE_MAX / 2 / size) n *= 2;
    SPARK_CHECK(n >= need, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "output of %zu elements is too large", need);
    void *p = realloc(*ptr, n * size);
    SPARK_CHECK(p, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for an output of %zu bytes", n * size);
    *ptr = p;
    *cap = n;
    return SPARK_SUCCESS;
}

spark_status spark__ids_grow(spark_ids *ids, size_t n, spark_err *err)
{
    SPARK_CHECK(n <= SIZE_MAX - ids->n, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "output is too large");
    void *p = ids->ids;
    SPARK_TRY(buffer_grow(&p, &ids->cap, ids->n + n, sizeof *ids->ids, err));
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
    free(ids->ids);
    *ids = (spark_ids){0};
}

spark_status spark_text_append(spark_text *t, spark_bytes b, spark_err *err)
{
    if (b.len > t->cap - t->len) {
        SPARK_CHECK(b.len <= SIZE_MAX - t->len, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "output is too large");
        void *p = t->ptr;
        SPARK_TRY(buffer_grow(&p, &t->cap, t->len + b.len, 1, err));
        t->ptr = p;
    }
    if (b.len) memcpy(t->ptr + t->len, b.ptr, b.len);
    t->len += b.len;
    return SPARK_SUCCESS;
}

void spark_text_free(spark_text *t)
{
    free(t->ptr);
    *t = (spark_text){0};
}
