/* arena.c - chunks of doubling size, one allocation of the system for many of ours; or one chunk in borrowed memory.
 * Under ASan each allocation is followed by a poisoned red zone, and what a reset frees is poisoned too. */
#include "base/arena.h"

#include <assert.h>
#include <limits.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/pages.h"

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_POISON(p, n)   __asan_poison_memory_region((p), (n))
#define ARENA_UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
enum { ARENA_RED_ZONE = 16 };
#else
#define ARENA_POISON(p, n)   ((void)(p), (void)(n))
#define ARENA_UNPOISON(p, n) ((void)(p), (void)(n))
enum { ARENA_RED_ZONE = 0 };
#endif

enum { ARENA_FIRST_CHUNK = 4096, ARENA_LARGEST_STEP = 1 << 22 };

/* Chunks from this size on are whole huge pages: a vocabulary's tables are hit anywhere, and a huge page costs one fault where
 * small ones cost 512. (Not under ASan: its leak check looks for pointers in the heap only.) */
enum { ARENA_HUGE_FROM = ARENA_RED_ZONE ? INT_MAX : 1 << 20, ARENA_HUGE_PAGE = 2 << 20 };

typedef struct arena_chunk {
    struct arena_chunk *older;
    size_t size, used; /* bytes of data[] */
    size_t known;      /* from used to here data[] is zero; of a chunk of the system, all of it */
    spark_pages pages; /* where it lies; none: on the heap, or borrowed */
    alignas(max_align_t) uint8_t data[];
} arena_chunk;

struct spark_arena {
    arena_chunk *newest;
    size_t total, max; /* bytes of all chunks, headers included */
    bool within;       /* one chunk in borrowed memory, which also holds this */
    bool huge;
};

spark_status spark_arena_create(spark_arena **out, size_t max_bytes, spark_err *err)
{
    spark_arena *a = calloc(1, sizeof *a);
    SPARK_CHECK(a, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for an arena");
    a->max = max_bytes;
    *out = a;
    return SPARK_SUCCESS;
}

void spark_arena_use_huge_pages(spark_arena *a) { a->huge = true; }

spark_status spark_arena_create_within(spark_arena **out, void *memory, size_t bytes, spark_err *err)
{
    const size_t pad = (size_t)(-(uintptr_t)memory & (alignof(max_align_t) - 1));
    const size_t head = pad + spark_round_up(sizeof(spark_arena), alignof(max_align_t)); /* then the one chunk */
    SPARK_CHECK(bytes > head + sizeof(arena_chunk), err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu bytes are too few for an arena", bytes);
    spark_arena *a = (spark_arena *)((uint8_t *)memory + pad);
    arena_chunk *c = (arena_chunk *)((uint8_t *)memory + head);
    *c = (arena_chunk){.size = bytes - head - sizeof *c};
    *a = (spark_arena){.newest = c, .total = bytes, .max = bytes, .within = true};
    ARENA_POISON(c->data, c->size);
    *out = a;
    return SPARK_SUCCESS;
}

static void arena_give_back(arena_chunk *c)
{
    spark_pages pages = c->pages; /* c lies in them */
    if (pages.ptr)
        spark_pages_free(&pages);
    else
        free(c);
}

static void arena_free_until(spark_arena *a, const arena_chunk *keep)
{
    while (a->newest != keep) {
        arena_chunk *c = a->newest;
        a->newest = c->older;
        a->total -= sizeof *c + c->size;
        ARENA_UNPOISON(c->data, c->size);
        arena_give_back(c);
    }
}

/* Zeroes what lies behind `used` in a chunk: the promise to the next allocation, and the end of what it held. */
static void arena_cut(arena_chunk *c, size_t used)
{
    ARENA_UNPOISON(c->data + used, c->used - used);
    memset(c->data + used, 0, c->used - used);
    c->used = used;
    ARENA_POISON(c->data + used, c->size - used);
}

void spark_arena_destroy(spark_arena **a)
{
    if (!*a) return;
    if ((*a)->within) {
        arena_chunk *c = (*a)->newest;
        arena_cut(c, 0);
        ARENA_UNPOISON(c->data, c->size);
    } else {
        arena_free_until(*a, NULL);
        free(*a);
    }
    *a = NULL;
}

static spark_status arena_take(arena_chunk **out, size_t size, bool huge, spark_err *err)
{
    spark_pages pages = {0};
    if (huge) SPARK_TRY(spark_pages_alloc(&pages, sizeof(arena_chunk) + size, "an arena", err));
    arena_chunk *c = pages.ptr ? pages.ptr : calloc(1, sizeof *c + size);
    SPARK_CHECK(c, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %zu bytes", size);
    c->pages = pages;
    *out = c;
    return SPARK_SUCCESS;
}

/* A new chunk with room for `need` bytes: twice the last one, within reason and within the maximum. */
static spark_status arena_grow(spark_arena *a, size_t need, spark_err *err)
{
    SPARK_CHECK(!a->within, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu more bytes do not fit into the %zu bytes that were planned", need, a->max);
    size_t size = a->newest ? a->newest->size * 2 : ARENA_FIRST_CHUNK;
    if (size > ARENA_LARGEST_STEP) size = ARENA_LARGEST_STEP;
    const size_t left = a->max > a->total ? a->max - a->total : 0;
    const size_t room = left > sizeof(arena_chunk) ? left - sizeof(arena_chunk) : 0;
    if (size > room) size = room;
    if (size < need) size = need;
    const bool huge = a->huge && size >= ARENA_HUGE_FROM;
    if (huge) {
        const size_t whole = spark_round_up(size + sizeof(arena_chunk), ARENA_HUGE_PAGE) - sizeof(arena_chunk);
        if (whole <= room) size = whole;
    }
    SPARK_CHECK(size <= room, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu more bytes would exceed the limit of %zu bytes for this object", need, a->max);
    arena_chunk *c = NULL;
    SPARK_TRY(arena_take(&c, size, huge, err));
    c->older = a->newest;
    c->size = c->known = size;
    a->newest = c;
    a->total += sizeof *c + size;
    ARENA_POISON(c->data, c->size);
    return SPARK_SUCCESS;
}

/* Zeroes fresh bytes p[0..n) of a chunk, as far as that is not known of them. Padding and red zones before them stay as they
 * are: nothing reads them, and a cut zeroes them with the rest. */
static void arena_clear(arena_chunk *c, const uint8_t *p, size_t n)
{
    const size_t end = (size_t)(p - c->data) + n;
    if (end <= c->known) return;
    const size_t begin = end - n > c->known ? end - n : c->known;
    memset(c->data + begin, 0, end - begin);
    c->known = end;
}

spark_status spark_arena_alloc(spark_arena *a, size_t count, size_t size, size_t align, void **out, spark_err *err)
{
    assert(align != 0 && (align & (align - 1)) == 0 && align <= 4096);
    size_t bytes = 0, need = 0;
    SPARK_CHECK(spark_mul_size(count, size, &bytes) && spark_add_size(bytes, align + ARENA_RED_ZONE, &need) &&
                    need <= SIZE_MAX / 2,
                err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%zu objects of %zu bytes are too many", count, size);
    if (!a->newest || a->newest->size - a->newest->used < need) SPARK_TRY(arena_grow(a, need, err));
    arena_chunk *c = a->newest;
    const uintptr_t at = (uintptr_t)(c->data + c->used);
    const size_t pad = (size_t)(-at & (align - 1));
    uint8_t *p = c->data + c->used + pad;
    c->used += pad + bytes + ARENA_RED_ZONE;
    ARENA_UNPOISON(p, bytes);
    arena_clear(c, p, bytes);
    *out = p;
    return SPARK_SUCCESS;
}

spark_status spark_arena_extend(spark_arena *a, void **ptr, size_t old_bytes, size_t new_bytes, size_t align,
                                spark_err *err)
{
    arena_chunk *c = a->newest;
    uint8_t *p = *ptr;
    assert(new_bytes >= old_bytes);
    const size_t more = new_bytes - old_bytes;
    if (p && c && p + old_bytes + ARENA_RED_ZONE == c->data + c->used && more <= c->size - c->used) {
        c->used += more;
        ARENA_UNPOISON(p, new_bytes);
        arena_clear(c, p + old_bytes, more);
        return SPARK_SUCCESS;
    }
    void *grown = NULL;
    SPARK_TRY(spark_arena_alloc(a, new_bytes, 1, align, &grown, err));
    if (p && old_bytes) memcpy(grown, p, old_bytes);
    *ptr = grown;
    return SPARK_SUCCESS;
}

spark_status spark_arena_reserve(spark_arena *a, size_t bytes, spark_err *err)
{
    return a->newest && a->newest->size - a->newest->used >= bytes ? SPARK_SUCCESS : arena_grow(a, bytes, err);
}

spark_status spark_arena_copy(spark_arena *a, spark_bytes b, spark_bytes *out, spark_err *err)
{
    SPARK_CHECK(b.len < SIZE_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "text is too long");
    void *p = NULL;
    SPARK_TRY(spark_arena_alloc(a, b.len + 1, 1, 1, &p, err));
    if (b.len) memcpy(p, b.ptr, b.len);
    *out = (spark_bytes){p, b.len};
    return SPARK_SUCCESS;
}

spark_mark spark_arena_mark(const spark_arena *a)
{
    return (spark_mark){a->newest, a->newest ? a->newest->used : 0, a->total};
}

void spark_arena_reset(spark_arena *a, spark_mark m)
{
    if (!a->within) arena_free_until(a, m.chunk);
    if (a->newest) arena_cut(a->newest, m.used);
}

size_t spark_arena_bytes(const spark_arena *a) { return a->total; }
size_t spark_arena_max(const spark_arena *a) { return a->max; }
