/* held.c - see held.h. */
#include "serve/held.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum { BLOCK_LEAST = 512, BLOCK_OF_MALLOC = 16 };

/* ---- The sum ---- */

bool held_may(const held_share *s, uint64_t n)
{
    if (!s) return true;
    const held_sum *sum = s->sum;
    const bool little = s->last || (n <= HELD_LITTLE && s->used <= HELD_LITTLE - n);
    const uint64_t max = sum->max - (little ? 0 : sum->max / HELD_RESERVED_PART);
    return sum->used <= max && n <= max - sum->used;
}

bool held_take(held_share *s, uint64_t n)
{
    if (!s) return true;
    if (!held_may(s, n)) {
        s->refused = true;
        return false;
    }
    s->used += n;
    s->sum->used += n;
    return true;
}

void held_give(held_share *s, uint64_t n)
{
    if (!s) return;
    assert(n <= s->used && n <= s->sum->used);
    s->used -= n;
    s->sum->used -= n;
}

void held_refund(held_share *s, uint64_t n)
{
    held_give(s, n);
    if (s) s->refused = true;
}

/* ---- Blocks ---- */

static uint64_t block_cost(const held_block *k) { return sizeof *k + k->cap + BLOCK_OF_MALLOC; }

enum { BLOCK_OWN = sizeof(held_block) + BLOCK_OF_MALLOC };

/* As large as all before it, within bounds: little is wasted on little, and much takes few. */
static size_t block_size(size_t before, size_t n)
{
    const size_t size = (n > before ? n : before) + BLOCK_OWN;
    return size < BLOCK_LEAST ? BLOCK_LEAST : size > HELD_BLOCK_MOST ? HELD_BLOCK_MOST : size;
}

uint64_t held_more(const held_bytes *b, size_t n)
{
    const size_t room = b->last ? b->last->cap - b->last->len : 0;
    if (n <= room) return 0;
    const size_t size = block_size(b->len + room, n - room);
    return n - room <= size - BLOCK_OWN ? size : (uint64_t)(n - room) + n / 1024 + HELD_BLOCK_MOST;
}

static held_block *block_add(held_bytes *b, held_share *s, size_t n)
{
    const size_t size = block_size(b->len, n);
    if (!held_take(s, size)) return NULL;
    held_block *k = malloc(size - BLOCK_OF_MALLOC);
    if (!k) {
        held_refund(s, size);
        return NULL;
    }
    *k = (held_block){.cap = (uint32_t)(size - BLOCK_OWN)};
    if (b->last)
        b->last->next = k;
    else
        b->first = k;
    b->last = k;
    return k;
}

bool held_append(held_bytes *b, held_share *s, const void *p, size_t n)
{
    const uint8_t *from = p;
    while (n > 0) {
        held_block *k = b->last;
        if ((!k || k->len == k->cap) && !(k = block_add(b, s, n))) return false;
        const size_t room = k->cap - k->len, take = n < room ? n : room;
        memcpy(k->bytes + k->len, from, take);
        k->len += (uint32_t)take;
        b->len += take;
        from += take;
        n -= take;
    }
    return true;
}

void held_drop(held_bytes *b, held_share *s, size_t n)
{
    assert(n <= b->len);
    b->len -= n;
    while (b->first) {
        held_block *k = b->first;
        const size_t there = k->len - k->at, take = n < there ? n : there;
        k->at += (uint32_t)take;
        n -= take;
        if (k->at < k->len) return;
        b->first = k->next;
        if (!k->next) b->last = NULL;
        held_give(s, block_cost(k));
        explicit_bzero(k->bytes, k->len); /* it held what people asked, and were answered */
        free(k);
    }
}

void held_move(held_bytes *to, held_bytes *from)
{
    if (!from->first) return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->len += from->len;
    *from = (held_bytes){0};
}

size_t held_view(const held_bytes *b, struct iovec *v, size_t n)
{
    size_t at = 0;
    for (held_block *k = b->first; k && at < n; k = k->next)
        if (k->len > k->at) v[at++] = (struct iovec){k->bytes + k->at, k->len - k->at};
    return at;
}
