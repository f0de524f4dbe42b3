/* strmap.c - open addressing, linear probing, at most half full. SipHash: Aumasson, Bernstein 2012. */
#include "base/strmap.h"

#include <assert.h>
#include <pthread.h>
#include <sys/random.h>

#include "base/clock.h"

typedef struct strmap_slot {
    spark_bytes key; /* ptr NULL = free */
    uint32_t hash, value;
} strmap_slot;

struct spark_strmap {
    strmap_slot *slots;
    uint32_t mask, used, capacity;
};

/* One key for all maps of the process: drawn with the first map, so later ones need no system call (a cell may not make it). */
static uint64_t strmap_key[2];
static pthread_once_t strmap_drawn = PTHREAD_ONCE_INIT;

static void strmap_draw(void)
{
    if (getrandom(strmap_key, sizeof strmap_key, GRND_NONBLOCK) == (ssize_t)sizeof strmap_key) return;
    strmap_key[0] = spark_clock_ns(); /* early boot: still not the file's choice */
    strmap_key[1] = (uint64_t)(uintptr_t)&strmap_key * 0x9E3779B97F4A7C15u;
}

static uint64_t strmap_rotl(uint64_t x, int n) { return x << n | x >> (64 - n); }

static void strmap_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = strmap_rotl(v[1], 13) ^ v[0];
    v[0] = strmap_rotl(v[0], 32);
    v[2] += v[3];
    v[3] = strmap_rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = strmap_rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = strmap_rotl(v[1], 17) ^ v[2];
    v[2] = strmap_rotl(v[2], 32);
}

static uint32_t strmap_hash(const uint64_t key[2], spark_bytes b)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
                     key[1] ^ 0x7465646279746573u};
    size_t i = 0;
    for (; i + 8 <= b.len; i += 8) {
        const uint64_t m = spark_load_u64(b.ptr + i);
        v[3] ^= m;
        strmap_round(v);
        v[0] ^= m;
    }
    uint64_t last = (uint64_t)b.len << 56;
    for (size_t j = 0; i + j < b.len; j++) last |= (uint64_t)b.ptr[i + j] << (8 * j);
    v[3] ^= last;
    strmap_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int r = 0; r < 3; r++) strmap_round(v);
    const uint64_t h = v[0] ^ v[1] ^ v[2] ^ v[3];
    return (uint32_t)(h ^ h >> 32);
}

spark_status spark_strmap_create(spark_strmap **out, uint32_t capacity, spark_arena *a, spark_err *err)
{
    SPARK_CHECK(capacity <= 1u << 30, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%u keys are too many", capacity);
    spark_strmap *m = NULL;
    SPARK_TRY(SPARK_NEW(a, 1, &m, err));
    uint32_t n = 8;
    while (n < 2 * capacity) n *= 2;
    SPARK_TRY(SPARK_NEW(a, n, &m->slots, err));
    m->mask = n - 1;
    m->capacity = capacity;
    pthread_once(&strmap_drawn, strmap_draw);
    *out = m;
    return SPARK_SUCCESS;
}

/* The slot that holds the key, or the free one where it belongs. */
static strmap_slot *strmap_find(const spark_strmap *m, spark_bytes key, uint32_t hash)
{
    for (uint32_t i = hash & m->mask;; i = (i + 1) & m->mask) {
        strmap_slot *s = &m->slots[i];
        if (!s->key.ptr || (s->hash == hash && spark_bytes_equal(s->key, key))) return s;
    }
}

uint32_t spark_strmap_put(spark_strmap *m, spark_bytes key, uint32_t value)
{
    static const uint8_t empty = 0;
    if (!key.ptr) key.ptr = &empty;
    const uint32_t hash = strmap_hash(strmap_key, key);
    strmap_slot *s = strmap_find(m, key, hash);
    if (s->key.ptr) return s->value;
    assert(m->used < m->capacity);
    m->used++;
    *s = (strmap_slot){key, hash, value};
    return value;
}

uint32_t spark_strmap_get(const spark_strmap *m, spark_bytes key)
{
    const strmap_slot *s = strmap_find(m, key, strmap_hash(strmap_key, key));
    return s->key.ptr ? s->value : SPARK_STRMAP_NONE;
}
