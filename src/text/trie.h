/* trie.h - a set of byte strings that finds the longest of them at a position in linear time.
 * Nouns:   spark__trie, built once, then read by any number of threads.
 * Two forms: forward, for one look at one place (WordPiece); and backward, an Aho-Corasick automaton over the reversed
 *          strings: read a text from its end, and after each byte it tells the longest string that begins there. So the
 *          leftmost-longest occurrences of all special tokens cost one pass, whatever the strings are. */
#ifndef SPARK_TEXT_TRIE_H
#define SPARK_TEXT_TRIE_H

#include "base/arena.h"

#define SPARK__TRIE_NONE UINT32_MAX

typedef struct spark__trie_entry {
    spark_bytes text; /* not empty */
    uint32_t id;
    bool always; /* also found by a walk that asks for the `always` strings only */
} spark__trie_entry;

typedef struct spark__trie spark__trie;

/* Sorts `entries` in place and builds; of equal texts the lowest id stays. Memory is in `a`. */
SPARK_MUST_CHECK spark_status spark__trie_build(spark__trie **out, spark__trie_entry *entries, size_t n, bool backward,
                                                spark_arena *a, spark_err *err);

/* Forward: the id of the longest string that p[0..len) begins with, its length in *match; NONE if there is none. */
uint32_t spark__trie_longest(const spark__trie *t, const uint8_t *p, size_t len, size_t *match);

/* Backward: the state after one more byte to the left (the state before the first is 0), and what begins at that byte. */
uint32_t spark__trie_step(const spark__trie *t, uint32_t state, uint8_t byte);
uint32_t spark__trie_begins(const spark__trie *t, uint32_t state, bool all);
/* Backward: the state without its last bytes of text, one step on the way to the shorter strings that begin at the same
 * place; 0 at the end of it. *here is the string that the state is, or NONE. */
uint32_t spark__trie_shorten(const spark__trie *t, uint32_t state, uint32_t *here);

#endif
