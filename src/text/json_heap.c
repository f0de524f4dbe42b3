/* json_heap.c - jansson's allocator for cells: an arena. */
#include "text/json_heap.h"

#include <setjmp.h>

static spark_arena *json_heap;
static bool json_heap_installed, json_heap_full, json_heap_loading;
static spark_err json_heap_err;
static jmp_buf json_heap_out; /* of a load: all it holds is memory of the arena, so it can be left anywhere */

static void *json_heap_alloc(size_t n)
{
    void *p = NULL;
    if (json_heap && spark_ok(spark_arena_alloc(json_heap, n, 1, _Alignof(max_align_t), &p, &json_heap_err))) return p;
    if (!json_heap)
        spark_err_set(&json_heap_err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "no memory was planned for JSON here");
    json_heap_full = true;
    if (json_heap_loading) longjmp(json_heap_out, 1);
    return NULL;
}

static void json_heap_free(void *p) { (void)p; }

void spark_json_heap_install(void)
{
    json_object_seed(0); /* reads /dev/urandom now rather than at the first object */
    json_set_alloc_funcs(json_heap_alloc, json_heap_free);
    json_heap_installed = true;
}

void spark_json_heap_use(spark_arena *a)
{
    json_heap = a;
    json_heap_full = false;
}

json_t *spark_json_heap_load(spark_bytes text, size_t flags, json_error_t *why)
{
    if (!json_heap_installed) return json_loadb((const char *)text.ptr, text.len, flags, why);
    json_heap_loading = true;
    json_t *volatile value = NULL;
    if (setjmp(json_heap_out) == 0) value = json_loadb((const char *)text.ptr, text.len, flags, why);
    json_heap_loading = false;
    return value;
}

bool spark_json_heap_was_full(spark_err *err)
{
    if (json_heap_full && err) *err = json_heap_err;
    return json_heap_full;
}
