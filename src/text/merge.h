/* merge.h - byte-pair merging of one word: always the pair of lowest rank, of equal ranks the leftmost.
 * Symbols are a linked list in an array; the rank of each symbol with its right neighbour is a leaf of a tournament tree
 * of fan 16. A merge changes at most three leaves, so n symbols cost O(n log16 n), with no stale entries, and a short word
 * is a linear scan of one tree node. Included by each family with its own pair(): the calls are inlined. */
#ifndef SPARK_TEXT_MERGE_H
#define SPARK_TEXT_MERGE_H

#include "base/bytes.h"
#include "text/buffers.h"

#define SPARK__NO_RANK      UINT32_MAX /* this pair does not merge */
#define SPARK__MERGE_FAN    16u
#define SPARK__MERGE_LEVELS 8u /* 16^8 = 2^32 symbols */

typedef struct spark__symbol {
    uint32_t id;         /* token or symbol number; the family's */
    uint32_t begin;      /* byte in the word */
    uint32_t prev, next; /* index; UINT32_MAX before the first, n after the last */
    uint32_t made;       /* what merging with `next` gives, while that pair has a rank */
} spark__symbol;

typedef struct spark__merger {
    spark__symbol *symbols; /* [n + 1]: the last one only tells where the word ends */
    uint32_t *tree;         /* levels of minima, leaves first, each padded to the fan; behind the symbols */
    size_t cap;
    spark_arena *arena; /* NULL = heap */
    uint32_t n;
    uint32_t *level[SPARK__MERGE_LEVELS];
    uint32_t n_levels;
} spark__merger;

/* The rank of two neighbours, or SPARK__NO_RANK; *made is what they become. */
typedef uint32_t spark__merge_pair(const void *ctx, const spark__merger *m, uint32_t left, uint32_t right,
                                   uint32_t *made);

SPARK_INLINE size_t spark__merger_bytes(size_t cap)
{
    if (cap == 0) return 0;
    return (cap + 1) * sizeof(spark__symbol) +
           (cap + cap / 8 + SPARK__MERGE_FAN * SPARK__MERGE_LEVELS) * sizeof(uint32_t);
}

/* Makes room for n symbols; what is there is lost. */
static inline spark_status spark__merger_reserve(spark__merger *m, size_t n, spark_err *err)
{
    if (n <= m->cap) return SPARK_SUCCESS;
    SPARK_CHECK(n < UINT32_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "a word of %zu symbols is too long", n);
    const size_t cap = n < 256 ? 256 : n + n / 4; /* generous for short words, near the need for huge ones */
    void *block = m->symbols;
    SPARK_TRY(spark__buffer_resize(m->arena, &block, spark__merger_bytes(m->cap), spark__merger_bytes(cap), err));
    m->symbols = block;
    m->cap = cap;
    m->tree = (uint32_t *)(m->symbols + cap + 1);
    return SPARK_SUCCESS;
}

static inline void spark__merger_free(spark__merger *m)
{
    spark__buffer_free(m->arena, m->symbols);
    *m = (spark__merger){0};
}

SPARK_INLINE uint32_t spark__merge_min(const uint32_t *group)
{
    uint32_t min = group[0];
    for (uint32_t i = 1; i < SPARK__MERGE_FAN; i++) min = group[i] < min ? group[i] : min;
    return min;
}

/* Lays out the levels over the leaves, which are filled, and computes the minima. */
SPARK_INLINE void spark__merge_build(spark__merger *m)
{
    uint32_t *at = m->tree;
    uint32_t n = m->n;
    m->n_levels = 0;
    for (;;) {
        uint32_t *level = at;
        const uint32_t groups = n / SPARK__MERGE_FAN + (n % SPARK__MERGE_FAN != 0);
        for (uint32_t i = n; i < groups * SPARK__MERGE_FAN; i++) level[i] = SPARK__NO_RANK;
        m->level[m->n_levels++] = level;
        if (groups <= 1) return;
        at += (size_t)groups * SPARK__MERGE_FAN;
        for (uint32_t g = 0; g < groups; g++) at[g] = spark__merge_min(level + (size_t)g * SPARK__MERGE_FAN);
        n = groups;
    }
}

SPARK_INLINE void spark__merge_set(spark__merger *m, uint32_t leaf, uint32_t rank)
{
    uint32_t old = m->level[0][leaf];
    m->level[0][leaf] = rank;
    for (uint32_t k = 1; k < m->n_levels && rank != old; k++) {
        const uint32_t group = leaf / SPARK__MERGE_FAN;
        const uint32_t min = m->level[k][group];
        uint32_t now = min;
        if (rank < min)
            now = rank;
        else if (old == min)
            now = spark__merge_min(m->level[k - 1] + (size_t)group * SPARK__MERGE_FAN);
        m->level[k][group] = now;
        leaf = group;
        old = min;
        rank = now;
    }
}

/* The leftmost leaf of lowest rank, or UINT32_MAX if no pair is left. */
SPARK_INLINE uint32_t spark__merge_best(const spark__merger *m)
{
    uint32_t at = 0;
    const uint32_t min = spark__merge_min(m->level[m->n_levels - 1]);
    if (min == SPARK__NO_RANK) return UINT32_MAX;
    for (uint32_t k = m->n_levels; k-- > 0;) {
        at *= SPARK__MERGE_FAN;
        while (m->level[k][at] != min) at++;
    }
    return at;
}

/* Merges symbols[0..n), whose id and begin are set, and symbols[n].begin. Then walk by next from 0 to n. `first` is asked about
 * the neighbours as they are at the beginning, most of all that are asked about; `pair` about all later ones. */
SPARK_INLINE void spark__merge_run(spark__merger *m, uint32_t n, spark__merge_pair *first, spark__merge_pair *pair,
                                   const void *ctx)
{
    spark__symbol *s = m->symbols;
    m->n = n;
    for (uint32_t i = 0; i < n; i++) {
        s[i].prev = i - 1; /* UINT32_MAX for the first */
        s[i].next = i + 1;
    }
    for (uint32_t i = 0; i + 1 < n; i++) m->tree[i] = first(ctx, m, i, i + 1, &s[i].made);
    m->tree[n - 1] = SPARK__NO_RANK;
    spark__merge_build(m);
    for (uint32_t left; (left = spark__merge_best(m)) != UINT32_MAX;) {
        const uint32_t gone = s[left].next, right = s[gone].next, before = s[left].prev;
        s[left].id = s[left].made;
        s[left].next = right;
        if (right < n) s[right].prev = left;
        spark__merge_set(m, gone, SPARK__NO_RANK);
        if (before != UINT32_MAX) spark__merge_set(m, before, pair(ctx, m, before, left, &s[before].made));
        spark__merge_set(m, left, right < n ? pair(ctx, m, left, right, &s[left].made) : SPARK__NO_RANK);
    }
}

#endif
