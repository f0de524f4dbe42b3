/* arena.h - memory with one lifetime: what is made together dies together.
 * Nouns:   spark_arena, a growing list of zeroed chunks with a maximum, or one region of memory planned by the caller;
 *          spark_mark, a point to fall back to.
 * Promise: what alloc returns is zeroed, aligned as asked, and valid until destroy or a reset to an earlier mark.
 * Threads: one at a time. */
#ifndef SPARK_BASE_ARENA_H
#define SPARK_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

typedef struct spark_arena spark_arena;

typedef struct spark_mark {
    void *chunk;
    size_t used, total;
} spark_mark;

/* An arena that refuses to grow beyond max_bytes. */
SPARK_MUST_CHECK spark_status spark_arena_create(spark_arena **out, size_t max_bytes, spark_err *err);
/* An arena inside memory[0..bytes), borrowed until destroy; what the memory holds does not matter. Its bookkeeping lies in
 * there too. Nothing is ever asked of the system: where it is full, allocations fail with E_LIMIT and name the maximum. */
SPARK_MUST_CHECK spark_status spark_arena_create_within(spark_arena **out, void *memory, size_t bytes, spark_err *err);
/* Its large chunks lie in huge pages, made with mprotect: for what lives as long as its process, not for a front that serves, whose
 * filter ends it for that call. */
void spark_arena_use_huge_pages(spark_arena *a);
void spark_arena_destroy(spark_arena **a); /* NULL inside is fine. A region is zeroed as far as it was used */

/* Zeroed memory for `count` objects of `size` bytes; `align` is a power of two up to 4096. count or size 0 gives a valid pointer. */
SPARK_MUST_CHECK spark_status spark_arena_alloc(spark_arena *a, size_t count, size_t size, size_t align, void **out,
                                                spark_err *err);

/* Typed form: SPARK_TRY(SPARK_NEW(arena, count, &typed_pointer, err)). */
#define SPARK_NEW(arena, count, ptr, err)                                                                              \
    spark_arena_alloc((arena), (count), sizeof **(ptr), _Alignof(max_align_t), (void **)(ptr), (err))

/* Makes an allocation larger: in place if it is the newest and there is room behind it, else by a copy; the old one then lies
 * idle until a reset. *ptr (NULL with old_bytes 0 for none) came from alloc with `align`; the added bytes are zeroed. */
SPARK_MUST_CHECK spark_status spark_arena_extend(spark_arena *a, void **ptr, size_t old_bytes, size_t new_bytes,
                                                 size_t align, spark_err *err);

/* Makes room for allocations of `bytes` in all (alignment included), so that they will take nothing from the system. */
SPARK_MUST_CHECK spark_status spark_arena_reserve(spark_arena *a, size_t bytes, spark_err *err);

/* A NUL-terminated copy of b; the terminator is not counted in out->len. */
SPARK_MUST_CHECK spark_status spark_arena_copy(spark_arena *a, spark_bytes b, spark_bytes *out, spark_err *err);

spark_mark spark_arena_mark(const spark_arena *a);
void spark_arena_reset(spark_arena *a, spark_mark m); /* frees (and under ASan poisons) all that came after the mark */
size_t spark_arena_bytes(const spark_arena *a);       /* bytes taken from the system; of a region, all of it */
size_t spark_arena_max(const spark_arena *a);

#endif
