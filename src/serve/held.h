/* held.h - the bytes of replies, and the one sum of all of them.
 * Nouns:   held_sum, how much all replies of a server may take together; held_share, what one connection has of it, gathered or waiting for
 *          its reader; held_bytes, bytes in blocks: they grow without being copied, move without being copied, and go block by block.
 * Promise: the sum is never passed. What would pass it is refused, and nobody else loses anything. An eighth of it is kept for those who
 *          hold little and for last words, so that a few large replies, or slow readers of them, do not turn away everybody.
 * Not here: who refuses with which words (api_reply.c, front_jobs.c). Threads: none of its own. */
#ifndef SPARK_SERVE_HELD_H
#define SPARK_SERVE_HELD_H

#include <stdbool.h>

#include "base/bytes.h"

struct iovec;

typedef struct held_sum {
    uint64_t used, max;
} held_sum;

enum { HELD_LITTLE = 64 << 10, HELD_RESERVED_PART = 8 };

typedef struct held_share {
    held_sum *sum;
    uint64_t used;
    bool last;    /* what it takes now are last words */
    bool refused; /* something did not fit the sum, or memory */
} held_share;

/* NULL instead of a share: nothing is counted. */
bool held_may(const held_share *s, uint64_t n);
bool held_take(held_share *s, uint64_t n);
void held_give(held_share *s, uint64_t n);
void held_refund(held_share *s, uint64_t n); /* what was taken, where memory had none: as if it had been refused */
/* Half is gone: who can wait, waits. What is under way to him still fits. */
static inline bool held_is_scarce(const held_share *s) { return s->sum->used > s->sum->max / 2; }
/* Three quarters are gone: who does not take what waits for him lets others in. */
static inline bool held_is_full(const held_sum *s) { return s->used > s->max - s->max / 4; }
/* Nobody else holds anything: to try again later would not help. */
static inline bool held_is_alone(const held_share *s) { return s->used == s->sum->used; }

typedef struct held_block {
    struct held_block *next;
    uint32_t at, len, cap; /* bytes[at..len) are there still */
    uint8_t bytes[];
} held_block;

enum { HELD_BLOCK_MOST = 64 << 10 }; /* with its head */

typedef struct held_bytes {
    held_block *first, *last;
    size_t len;
} held_bytes;

/* What held_append of n bytes takes of the sum: exactly, where one block is enough, else no more than this. */
uint64_t held_more(const held_bytes *b, size_t n);
/* False: the sum or memory did not suffice; a part may have been added. */
bool held_append(held_bytes *b, held_share *s, const void *p, size_t n);
void held_drop(held_bytes *b, held_share *s, size_t n); /* the first n; blocks that are done go, wiped */
static inline void held_free(held_bytes *b, held_share *s) { held_drop(b, s, b->len); }
void held_move(held_bytes *to, held_bytes *from); /* to the end of `to`; both are of one share */
/* The first bytes, for a system call; how many of `v` are filled. Borrowed until the next change. */
size_t held_view(const held_bytes *b, struct iovec *v, size_t n);

#endif
