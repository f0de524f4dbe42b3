/* engine_cache.c - full pages of keys and values that earlier prompts and answers have left, found by their tokens.
 *
 * A page is known by (its tenant, or "shared with all"; the page before it; its 128 tokens). All three are compared, not
 * only their hash, so a collision costs time and never gives wrong keys. The page before it is known likewise, so equality
 * reaches back to the first token.
 *
 * Invariants: 1. the cache holds each page it knows once (spark_kv_page_hold); 2. a sequence that has a known page has all
 * known pages before it: spark__cache_add replaces a page that another request has computed meanwhile by that one (equal bits,
 * law 1); 3. so a page without users has no user behind it either, and in the list of unused pages each stands nearer to the
 * old end than the page before it: what is evicted is never the beginning of what stays. */
#include <assert.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "engine/engine_internal.h"
#include "text/keyed_hash.h"

/* What a page is looked up by. */
typedef struct cache_key {
    uint64_t tenant; /* 0 if shared */
    bool shared;
    uint32_t parent, hash;
    const uint32_t *tokens;
} cache_key;

void spark__cache_create(spark_engine *e)
{
    engine_cache *c = &e->cache;
    c->oldest = c->newest = ENGINE_NONE;
    if (!e->options.prefix_cache) return;
    c->pages = (engine_page *)(void *)((uint8_t *)e->memory.ptr + e->at.pages);
    c->buckets = (uint32_t *)(void *)((uint8_t *)e->memory.ptr + e->at.buckets);
    c->mask = e->at.n_buckets - 1;
    memset(c->buckets, 0xff, e->at.n_buckets * sizeof *c->buckets);
    if (getrandom(c->seed, sizeof c->seed, GRND_NONBLOCK) == (ssize_t)sizeof c->seed) return;
    c->seed[0] = spark_clock_ns(); /* early boot: still nothing that a client chose */
    c->seed[1] = (uint64_t)(uintptr_t)e;
}

static uint32_t cache_hash(const engine_cache *c, const cache_key *k)
{
    uint64_t h = spark__mix(c->seed[0] ^ k->tenant, c->seed[1] ^ ((uint64_t)k->parent << 1 | k->shared));
    for (uint32_t i = 0; i < SPARK_KV_BLOCK; i += 4) {
        const uint64_t a = (uint64_t)k->tokens[i] << 32 | k->tokens[i + 1],
                       b = (uint64_t)k->tokens[i + 2] << 32 | k->tokens[i + 3];
        h = spark__mix(h ^ a ^ c->seed[0], b ^ c->seed[1]) ^ h >> 32;
    }
    return (uint32_t)(h ^ h >> 32);
}

/* The key of page `index` of a request whose page before is `parent`. */
static cache_key cache_key_of(const spark_engine *e, const engine_request *r, uint32_t index, uint32_t parent,
                              const uint32_t *tokens)
{
    const bool shared = (index + 1) * SPARK_KV_BLOCK <= r->n_public;
    cache_key k = {
        .tenant = shared ? 0 : e->tenants[r->tenant].id, .shared = shared, .parent = parent, .tokens = tokens};
    k.hash = cache_hash(&e->cache, &k);
    return k;
}

static uint32_t cache_find(const engine_cache *c, const cache_key *k)
{
    for (uint32_t i = c->buckets[k->hash & c->mask]; i != ENGINE_NONE; i = c->pages[i].next) {
        const engine_page *p = &c->pages[i];
        if (p->hash == k->hash && p->parent == k->parent && p->shared == k->shared && p->tenant == k->tenant &&
            memcmp(p->tokens, k->tokens, sizeof p->tokens) == 0)
            return i;
    }
    return ENGINE_NONE;
}

/* ---- The list of pages that no sequence has ---- */

static void cache_unlink(engine_cache *c, uint32_t page)
{
    engine_page *p = &c->pages[page];
    if (!p->unused) return;
    *(p->older == ENGINE_NONE ? &c->oldest : &c->pages[p->older].newer) = p->newer;
    *(p->newer == ENGINE_NONE ? &c->newest : &c->pages[p->newer].older) = p->older;
    p->unused = false;
    c->n_unused--;
}

static void cache_link_newest(engine_cache *c, uint32_t page)
{
    engine_page *p = &c->pages[page];
    assert(p->cached && !p->unused);
    p->older = c->newest;
    p->newer = ENGINE_NONE;
    *(c->newest == ENGINE_NONE ? &c->oldest : &c->pages[c->newest].newer) = page;
    c->newest = page;
    p->unused = true;
    c->n_unused++;
}

bool spark__cache_evict(spark_engine *e)
{
    engine_cache *c = &e->cache;
    const uint32_t page = c->oldest;
    if (page == ENGINE_NONE) return false;
    engine_page *p = &c->pages[page];
    cache_unlink(c, page);
    uint32_t *at = &c->buckets[p->hash & c->mask];
    while (*at != page) at = &c->pages[*at].next;
    *at = p->next;
    memset(p, 0, sizeof *p); /* somebody's words */
    spark_kv_page_release(e->kv, page);
    return true;
}

/* ---- What requests do ---- */

static bool cache_serves(const spark_engine *e, const engine_request *r) { return e->cache.pages && r->cache; }

/* The last prompt token is always computed: its logits are wanted. */
static uint32_t cache_most(const engine_request *r) { return (r->n - 1) / SPARK_KV_BLOCK; }

/* Tokens of page i, if those before it were asked for: a waiting prompt lies in a chain of blocks of a page each. */
static const uint32_t *cache_tokens(const spark_engine *e, const engine_request *r, uint32_t i, uint32_t *block)
{
    if (r->desk != ENGINE_NONE) return engine_desk_of(e, r)->tokens + (size_t)i * SPARK_KV_BLOCK;
    *block = i == 0 ? r->blocks : e->block_next[*block];
    return (const uint32_t *)(const void *)(e->blocks + (size_t)*block * ENGINE_BLOCK);
}

uint32_t spark__cache_look(const spark_engine *e, const engine_request *r, uint32_t *n_unused)
{
    uint32_t parent = ENGINE_NONE, block = ENGINE_NONE, n = 0;
    *n_unused = 0;
    if (!cache_serves(e, r)) return 0;
    for (; n < cache_most(r); n++) {
        const cache_key k = cache_key_of(e, r, n, parent, cache_tokens(e, r, n, &block));
        const uint32_t page = cache_find(&e->cache, &k);
        if (page == ENGINE_NONE) break;
        *n_unused += e->cache.pages[page].unused;
        parent = page;
    }
    return n;
}

void spark__cache_adopt(spark_engine *e, engine_request *r)
{
    if (!cache_serves(e, r) || spark_kv_length(e->kv, r->seq) != r->n_known * SPARK_KV_BLOCK) return;
    for (uint32_t i = r->n_known; i < cache_most(r); i++) {
        const cache_key k = cache_key_of(e, r, i, i ? r->known : ENGINE_NONE,
                                         engine_desk_of(e, r)->tokens + (size_t)i * SPARK_KV_BLOCK);
        const uint32_t page = cache_find(&e->cache, &k);
        if (page == ENGINE_NONE) return;
        cache_unlink(&e->cache, page);
        spark_kv_adopt(e->kv, r->seq, &page, 1);
        r->known = page;
        r->n_known++;
        const uint32_t length = r->n_known * SPARK_KV_BLOCK;
        if (r->n_billed < length) r->n_billed = length; /* nobody has to compute it */
    }
}

static void cache_insert(spark_engine *e, const cache_key *k, uint32_t page)
{
    engine_cache *c = &e->cache;
    engine_page *p = &c->pages[page];
    assert(!p->cached);
    *p = (engine_page){.tenant = k->tenant,
                       .shared = k->shared,
                       .parent = k->parent,
                       .hash = k->hash,
                       .next = c->buckets[k->hash & c->mask],
                       .cached = true};
    memcpy(p->tokens, k->tokens, sizeof p->tokens);
    c->buckets[k->hash & c->mask] = page;
    spark_kv_page_hold(e->kv, page);
}

void spark__cache_add(spark_engine *e, engine_request *r)
{
    if (!cache_serves(e, r)) return;
    const uint32_t n_full = spark_kv_length(e->kv, r->seq) / SPARK_KV_BLOCK;
    for (uint32_t i = r->n_known; i < n_full; i++) {
        const cache_key k = cache_key_of(e, r, i, i ? r->known : ENGINE_NONE,
                                         engine_desk_of(e, r)->tokens + (size_t)i * SPARK_KV_BLOCK);
        uint32_t page = cache_find(&e->cache, &k);
        if (page == ENGINE_NONE) {
            page = spark_kv_page(e->kv, r->seq, i);
            cache_insert(e, &k, page);
        } else {
            cache_unlink(&e->cache, page);
            spark_kv_replace(e->kv, r->seq, i, page);
        }
        r->known = page;
        r->n_known++;
    }
}

void spark__cache_leave(spark_engine *e, const engine_request *r)
{
    if (!e->cache.pages) return;
    for (uint32_t i = engine_pages(spark_kv_length(e->kv, r->seq)); i-- > 0;) { /* the last becomes the oldest */
        const uint32_t page = spark_kv_page(e->kv, r->seq, i);
        if (e->cache.pages[page].cached && spark_kv_page_users(e->kv, page) == 2) cache_link_newest(&e->cache, page);
    }
}
