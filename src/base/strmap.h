/* strmap.h - a map from byte strings to 32-bit numbers: built once, then read by any number of threads.
 * Keys are borrowed and must outlive the map. The hash is keyed (SipHash-1-3 with a key drawn once a process, with its
 * first map), so a file that chooses its own keys cannot make look-ups slow; the order of nothing depends on it. */
#ifndef SPARK_BASE_STRMAP_H
#define SPARK_BASE_STRMAP_H

#include "base/arena.h"

typedef struct spark_strmap spark_strmap;

/* An empty map with room for `capacity` keys, in arena a. */
SPARK_MUST_CHECK spark_status spark_strmap_create(spark_strmap **out, uint32_t capacity, spark_arena *a,
                                                  spark_err *err);

/* Adds a key if it is new and there is room. Returns its value: `value` if added, the present one if it was there. */
uint32_t spark_strmap_put(spark_strmap *m, spark_bytes key, uint32_t value);

/* The value of a key, or SPARK_STRMAP_NONE. */
#define SPARK_STRMAP_NONE UINT32_MAX
uint32_t spark_strmap_get(const spark_strmap *m, spark_bytes key);

#endif
