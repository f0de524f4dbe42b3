/* word_cache.h - what each word became when it last stood in the text, for one encode call. A word of up to 32 bytes that
 * became up to 7 tokens keeps a slot, until another word of the same slot takes it.
 * Promise: a hit gives the ids that the family would compute, since the ids of a word depend on its bytes alone; memory is
 * bounded and grows with the text; the hash is keyed, so a text cannot aim at one slot (which would only cost time).
 * Threads: belongs to one call. */
#ifndef SPARK_TEXT_WORD_CACHE_H
#define SPARK_TEXT_WORD_CACHE_H

#include <stdlib.h>

#include "text/buffers.h"
#include "text/keyed_hash.h"
#include "text/tokenizer.h"

#define SPARK__CACHE_SLOTS    16384u /* at most: 1 MiB, which a core's second-level cache holds */
#define SPARK__CACHE_TEXT     16u    /* bytes of text a slot: a short text does not pay for a large table */
#define SPARK__CACHE_MIN_TEXT 512u   /* bytes: in a shorter text hardly a word comes again */
#define SPARK__CACHE_WORD     32u    /* bytes */
#define SPARK__CACHE_IDS      7u

/* The bytes of a word: of one length, equal keys are equal words. */
typedef struct spark__cache_key {
    spark__ends head, tail; /* tail: 0 up to 16 bytes */
} spark__cache_key;

typedef struct spark__cached {
    spark__cache_key key;
    uint16_t len; /* of the word; 0: free */
    uint16_t n;
    uint32_t ids[SPARK__CACHE_IDS];
} spark__cached;
_Static_assert(sizeof(spark__cached) == 64, "a slot is a cache line");

typedef struct spark__word_cache {
    spark__cached *slots; /* NULL: the text is too short for one */
    uint64_t mask;
    uint64_t seed[2];
    spark_arena *arena; /* NULL = heap */
} spark__word_cache;

/* Slots for a text of this length; 0: none. */
static inline size_t spark__word_cache_slots(size_t text_bytes)
{
    size_t n = text_bytes < SPARK__CACHE_MIN_TEXT ? 0 : 1;
    while (n > 0 && n < SPARK__CACHE_SLOTS && n <= text_bytes / SPARK__CACHE_TEXT / 2) n *= 2;
    return n;
}

static inline size_t spark__word_cache_bytes(size_t text_bytes)
{
    return spark__word_cache_slots(text_bytes) * sizeof(spark__cached);
}

/* A cache for a text of this length, in arena a if there is one; to be freed also on error. */
static inline spark_status spark__word_cache_create(spark__word_cache *c, size_t text_bytes, const uint64_t seed[2],
                                                    spark_arena *a, spark_err *err)
{
    const size_t n = spark__word_cache_slots(text_bytes);
    *c = (spark__word_cache){.seed = {seed[0], seed[1]}, .arena = a};
    if (n == 0) return SPARK_SUCCESS;
    c->mask = n - 1;
    if (a) return spark_arena_alloc(a, n, sizeof *c->slots, sizeof *c->slots, (void **)&c->slots, err);
    c->slots = aligned_alloc(sizeof *c->slots, n * sizeof *c->slots);
    SPARK_CHECK(c->slots, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for a cache of %zu words", n);
    memset(c->slots, 0, n * sizeof *c->slots);
    return SPARK_SUCCESS;
}

static inline void spark__word_cache_free(spark__word_cache *c)
{
    spark__buffer_free(c->arena, c->slots);
    *c = (spark__word_cache){0};
}

/* Whether a word of this length may have a slot. */
SPARK_INLINE bool spark__word_cache_takes(const spark__word_cache *c, size_t len)
{
    return c->slots && len - 1 < SPARK__CACHE_WORD;
}

SPARK_INLINE spark__cache_key spark__word_cache_key(spark_bytes word)
{
    if (word.len <= 16) return (spark__cache_key){.head = spark__load_ends(word.ptr, word.len)};
    return (spark__cache_key){spark__load_ends(word.ptr, 16), spark__load_ends(word.ptr + word.len - 16, 16)};
}

/* The one slot where a word can be. */
SPARK_INLINE spark__cached *spark__word_cache_slot(const spark__word_cache *c, const spark__cache_key *key, size_t len)
{
    uint64_t h = spark__mix(key->head.first ^ c->seed[0] ^ len, key->head.last ^ c->seed[1]);
    if (len > 16) h = spark__mix(key->tail.first ^ h, key->tail.last ^ c->seed[1]);
    return &c->slots[(h ^ h >> 32) & c->mask];
}

SPARK_INLINE bool spark__word_cache_hit(const spark__cached *slot, const spark__cache_key *key, size_t len)
{
    return slot->len == len && slot->key.head.first == key->head.first && slot->key.head.last == key->head.last &&
           slot->key.tail.first == key->tail.first && slot->key.tail.last == key->tail.last;
}

/* Keeps what a word became: ids->ids[before..ids->n), if they are few enough. */
SPARK_INLINE void spark__word_cache_put(spark__cached *slot, const spark__cache_key *key, size_t len,
                                        const spark_ids *ids, size_t before)
{
    const size_t n = ids->n - before;
    if (n > SPARK__CACHE_IDS) return;
    *slot = (spark__cached){.key = *key, .len = (uint16_t)len, .n = (uint16_t)n};
    if (n > 0) memcpy(slot->ids, ids->ids + before, n * sizeof *slot->ids);
}

#endif
