/* buffers.h - where the growing outputs and tables of this room take their memory: the heap, or an arena that the caller
 * planned (an engine cell has no heap). What lies in an arena is freed by its owner's reset and by nothing here. */
#ifndef SPARK_TEXT_BUFFERS_H
#define SPARK_TEXT_BUFFERS_H

#include "base/arena.h"

/* Makes *ptr (NULL for none) new_bytes long, aligned for any type; the old bytes stay. On failure nothing changes. */
SPARK_MUST_CHECK spark_status spark__buffer_resize(spark_arena *a, void **ptr, size_t old_bytes, size_t new_bytes,
                                                   spark_err *err);
void spark__buffer_free(const spark_arena *a, void *ptr);

/* Makes *cap, counted in elements of `size` bytes, at least `need`: what is asked for first, then by doubling; in an arena that
 * has no room for that, exactly `need`. */
SPARK_MUST_CHECK spark_status spark__buffer_grow(spark_arena *a, void **ptr, size_t *cap, size_t need, size_t size,
                                                 spark_err *err);

#endif
