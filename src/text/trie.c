/* trie.c - states are numbered in breadth-first order over the sorted strings, so the children of a state lie side by
 * side, sorted, and a failure link always leads to a lower number. Source: Aho, Corasick 1975. */
#include "text/trie.h"

#include <stdlib.h>

#include "base/spark_limits.h"

struct spark__trie {
    uint32_t root[256]; /* child of the root for each byte, 0 = none */
    uint32_t *first;    /* [n] first child */
    uint16_t *n_child;  /* [n] */
    uint8_t *label;     /* [n] byte that leads to the state */
    uint32_t *here;     /* [n] id of the string that ends in the state */
    uint32_t *fail;     /* [n] backward only, as the next two */
    uint32_t *all;      /* [n] id of the longest string that is a suffix of the state */
    uint32_t *always;   /* [n] the same among the `always` strings */
    uint32_t n;
    bool backward;
};

/* The sorted entries that share the prefix which a state stands for. */
typedef struct trie_range {
    uint32_t lo, hi, depth;
} trie_range;

static int trie_byte(const spark__trie_entry *e, uint32_t depth, bool backward)
{
    if (depth >= e->text.len) return -1;
    return e->text.ptr[backward ? e->text.len - 1 - depth : depth];
}

static int trie_order(const spark__trie_entry *a, const spark__trie_entry *b, bool backward)
{
    for (uint32_t d = 0;; d++) {
        const int x = trie_byte(a, d, backward), y = trie_byte(b, d, backward);
        if (x != y) return x < y ? -1 : 1;
        if (x < 0) return a->id < b->id ? -1 : a->id > b->id;
    }
}

static int trie_order_forward(const void *a, const void *b) { return trie_order(a, b, false); }
static int trie_order_backward(const void *a, const void *b) { return trie_order(a, b, true); }

/* States of the trie over sorted entries: each adds what it does not share with its neighbour. */
static uint64_t trie_count(const spark__trie_entry *entries, size_t n, bool backward)
{
    uint64_t states = 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t shared = 0;
        if (i > 0)
            while (shared < entries[i].text.len &&
                   trie_byte(&entries[i], shared, backward) == trie_byte(&entries[i - 1], shared, backward))
                shared++;
        states += entries[i].text.len - shared;
    }
    return states;
}

static uint32_t trie_child(const spark__trie *t, uint32_t state, uint8_t byte)
{
    if (state == 0) return t->root[byte];
    uint32_t lo = t->first[state], hi = lo + t->n_child[state];
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (t->label[mid] == byte) return mid;
        if (t->label[mid] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

/* Makes the children of one state; `next` is the first free number. */
static uint32_t trie_expand(spark__trie *t, trie_range *range, const spark__trie_entry *entries, uint32_t state,
                            uint32_t next)
{
    const trie_range r = range[state];
    uint32_t i = r.lo;
    while (i < r.hi && entries[i].text.len == r.depth) {
        if (t->here[state] == SPARK__TRIE_NONE && r.depth > 0) {
            t->here[state] = entries[i].id;
            if (t->backward && entries[i].always) t->always[state] = entries[i].id;
        }
        i++;
    }
    t->first[state] = next;
    while (i < r.hi) {
        const int byte = trie_byte(&entries[i], r.depth, t->backward);
        const uint32_t lo = i;
        while (i < r.hi && trie_byte(&entries[i], r.depth, t->backward) == byte) i++;
        range[next] = (trie_range){lo, i, r.depth + 1};
        t->label[next] = (uint8_t)byte;
        if (state == 0) t->root[byte] = next;
        t->n_child[state]++;
        next++;
    }
    return next;
}

/* Failure links and the longest suffixes; a parent and every failure target come before their state. */
static void trie_link(spark__trie *t)
{
    for (uint32_t s = 0; s < t->n; s++) {
        t->all[s] = t->here[s] != SPARK__TRIE_NONE ? t->here[s] : t->all[t->fail[s]];
        if (t->always[s] == SPARK__TRIE_NONE) t->always[s] = t->always[t->fail[s]];
        for (uint32_t c = t->first[s]; c < t->first[s] + t->n_child[s]; c++)
            t->fail[c] = s == 0 ? 0 : spark__trie_step(t, t->fail[s], t->label[c]);
    }
}

static spark_status trie_alloc(spark__trie *t, spark_arena *a, spark_err *err)
{
    SPARK_TRY(SPARK_NEW(a, t->n, &t->first, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->n_child, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->label, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->here, err));
    memset(t->here, 0xFF, t->n * sizeof *t->here);
    if (!t->backward) return SPARK_SUCCESS;
    SPARK_TRY(SPARK_NEW(a, t->n, &t->fail, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->all, err));
    SPARK_TRY(SPARK_NEW(a, t->n, &t->always, err));
    t->all[0] = SPARK__TRIE_NONE;
    memset(t->always, 0xFF, t->n * sizeof *t->always);
    return SPARK_SUCCESS;
}

spark_status spark__trie_build(spark__trie **out, spark__trie_entry *entries, size_t n, bool backward, spark_arena *a,
                               spark_err *err)
{
    if (n > 1) qsort(entries, n, sizeof *entries, backward ? trie_order_backward : trie_order_forward);
    const uint64_t states = trie_count(entries, n, backward);
    SPARK_CHECK(n <= SPARK_MAX_VOCAB && states <= SPARK_MAX_GGUF_HEAD, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "the token texts need %llu states, over the limit %u", (unsigned long long)states, SPARK_MAX_GGUF_HEAD);
    spark__trie *t = NULL;
    SPARK_TRY(SPARK_NEW(a, 1, &t, err));
    t->n = (uint32_t)states;
    t->backward = backward;
    SPARK_TRY(trie_alloc(t, a, err));
    trie_range *range = malloc(t->n * sizeof *range);
    SPARK_CHECK(range, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %u states", t->n);
    range[0] = (trie_range){0, (uint32_t)n, 0};
    uint32_t next = 1;
    for (uint32_t s = 0; s < next; s++) next = trie_expand(t, range, entries, s, next);
    free(range);
    if (backward) trie_link(t);
    *out = t;
    return SPARK_SUCCESS;
}

uint32_t spark__trie_longest(const spark__trie *t, const uint8_t *p, size_t len, size_t *match)
{
    uint32_t state = 0, best = SPARK__TRIE_NONE;
    *match = 0;
    for (size_t i = 0; i < len; i++) {
        state = trie_child(t, state, p[i]);
        if (state == 0) break;
        if (t->here[state] == SPARK__TRIE_NONE) continue;
        best = t->here[state];
        *match = i + 1;
    }
    return best;
}

uint32_t spark__trie_step(const spark__trie *t, uint32_t state, uint8_t byte)
{
    while (state != 0) {
        const uint32_t child = trie_child(t, state, byte);
        if (child != 0) return child;
        state = t->fail[state];
    }
    return t->root[byte];
}

uint32_t spark__trie_begins(const spark__trie *t, uint32_t state, bool all)
{
    return all ? t->all[state] : t->always[state];
}

uint32_t spark__trie_shorten(const spark__trie *t, uint32_t state, uint32_t *here)
{
    const uint32_t shorter = t->fail[state];
    *here = t->here[shorter];
    return shorter;
}
