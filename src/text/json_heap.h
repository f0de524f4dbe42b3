/* json_heap.h - jansson without a heap, for cells. jansson takes its memory through two functions that are set for the whole
 * process; here they give from an arena and free nothing, so a reset of the arena frees a whole document at once.
 * Never install it in an embedder's process: it changes what every user of jansson there allocates from. One thread. */
#ifndef SPARK_TEXT_JSON_HEAP_H
#define SPARK_TEXT_JSON_HEAP_H

#include <jansson.h>

#include "base/arena.h"

/* Once, before the last door closes (jansson draws the seed of its hash tables from the system here). Values that were made
 * before are not freed by a later json_decref. */
void spark_json_heap_install(void);

/* What jansson takes from now on comes from `a`, borrowed until the next call; NULL: from nowhere, every allocation fails.
 * Values live until a's reset; they need no json_decref, and none may come after it. */
void spark_json_heap_use(spark_arena *a);

/* json_loadb with json_heap_use's arena: NULL as there, also where the arena is full. Use this and never json_loadb: jansson's
 * lexer goes on after an allocation has failed, and reads beyond its buffer. Without install it is json_loadb. */
json_t *spark_json_heap_load(spark_bytes text, size_t flags, json_error_t *why);

/* After a failure of jansson: whether it was for want of room in the arena; then err (may be NULL) has the arena's words. */
bool spark_json_heap_was_full(spark_err *err);

#endif
