/* kv.c - pages of keys and values: which sequence has which pages, shared by fork and adopt, copied before one of two
 * owners writes.
 *
 * Invariants: 1. a sequence of length L has exactly ceil(L / 128) pages; 2. refs[p] = how many sequences have page p plus
 * how often it is held, and p is free if and only if that is 0; 3. a page that is written has one owner (spark__kv_append
 * sees to it); 4. whoever needs pages takes all of them or, if there are too few, none and changes nothing. With
 * n_seqs * pages_per_seq pages of which none is held, a sequence within its context always finds one. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "model/model_internal.h"

static uint32_t kv_pages(uint32_t length) { return (uint32_t)spark_div_up(length, SPARK_KV_BLOCK); }

spark_status spark__kv_sizes(const spark_net *n, const spark_shape *s, net_kv_sizes *out, spark_err *err)
{
    const spark_net_info *i = &n->info;
    SPARK_CHECK(s->n_ctx >= 1 && s->n_ctx <= SPARK_MAX_CTX && s->n_seqs >= 1 && s->n_seqs <= SPARK_MAX_SEQS &&
                    s->kv_type < SPARK_N_KV_TYPES,
                err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u positions of %u sequences: 1 to %u of 1 to %u are allowed", s->n_ctx, s->n_seqs, SPARK_MAX_CTX,
                SPARK_MAX_SEQS);
    net_kv_sizes z = {.block = spark_kv_block_bytes(s->kv_type, i->head_dim_k, i->head_dim_v),
                      .pages_per_seq = kv_pages(s->n_ctx)};
    z.page = z.block * i->n_layers * i->n_heads_kv;                    /* < 2^23 * 2^10 * 2^10 */
    z.n_pages = s->n_pages ? s->n_pages : s->n_seqs * z.pages_per_seq; /* < 2^12 * 2^17 */
    SPARK_CHECK(z.n_pages <= SPARK_MAX_KV_PAGES, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u pages of keys and values: at most %u are allowed", z.n_pages, SPARK_MAX_KV_PAGES);
    SPARK_CHECK(spark_mul_size(z.page, z.n_pages, &z.tables) && z.tables <= SIZE_MAX / 2, err, SPARK_E_LIMIT,
                SPARK_ERR_NOWHERE, "%u pages of keys and values of %zu bytes take more memory than can be addressed",
                z.n_pages, z.page);
    z.length = z.tables + spark_round_up(sizeof(spark_kv), 64);
    z.before = z.length + s->n_seqs * sizeof(uint32_t);
    z.table = z.before + s->n_seqs * sizeof(uint32_t);
    z.refs = z.table + (size_t)s->n_seqs * z.pages_per_seq * sizeof(uint32_t);
    z.free_list = z.refs + z.n_pages * sizeof(uint32_t);
    z.total = z.free_list + z.n_pages * sizeof(uint32_t);
    *out = z;
    return SPARK_SUCCESS;
}

spark_status spark_kv_create(spark_kv **out, const spark_net *n, const spark_shape *s, spark_err *err)
{
    net_kv_sizes z;
    spark_pages memory = {0};
    SPARK_TRY(spark__kv_sizes(n, s, &z, err));
    SPARK_TRY(spark_pages_alloc(&memory, z.total, "keys and values", err));
    uint8_t *base = memory.ptr;
    spark_kv *kv = (spark_kv *)(void *)(base + z.tables);
    *kv = (spark_kv){.net = n,
                     .type = s->kv_type,
                     .n_ctx = s->n_ctx,
                     .n_seqs = s->n_seqs,
                     .pages_per_seq = z.pages_per_seq,
                     .n_pages = z.n_pages,
                     .n_free = z.n_pages,
                     .block_bytes = z.block,
                     .page_bytes = z.page,
                     .memory = memory,
                     .pages = base,
                     .length = (uint32_t *)(void *)(base + z.length),
                     .before = (uint32_t *)(void *)(base + z.before),
                     .table = (uint32_t *)(void *)(base + z.table),
                     .refs = (uint32_t *)(void *)(base + z.refs),
                     .free_list = (uint32_t *)(void *)(base + z.free_list)};
    for (uint32_t i = 0; i < z.n_pages; i++) kv->free_list[i] = z.n_pages - 1 - i; /* page 0 is taken first */
    *out = kv;
    return SPARK_SUCCESS;
}

void spark_kv_destroy(spark_kv **kv)
{
    if (!*kv) return;
    spark_pages memory = (*kv)->memory; /* the struct lies in it */
    spark_pages_free(&memory);
    *kv = NULL;
}

const spark_pages *spark_kv_memory(const spark_kv *kv) { return &kv->memory; }

uint32_t spark_kv_length(const spark_kv *kv, uint32_t seq)
{
    assert(seq < kv->n_seqs);
    return kv->length[seq];
}

static uint32_t *kv_row(spark_kv *kv, uint32_t seq) { return kv->table + (size_t)seq * kv->pages_per_seq; }

static uint32_t kv_take(spark_kv *kv)
{
    assert(kv->n_free > 0);
    const uint32_t page = kv->free_list[--kv->n_free];
    kv->refs[page] = 1;
    return page;
}

static void kv_release(spark_kv *kv, uint32_t page)
{
    assert(kv->refs[page] > 0);
    if (--kv->refs[page] == 0) kv->free_list[kv->n_free++] = page;
}

static void kv_copy(spark_kv *kv, uint32_t to, uint32_t from)
{
    memcpy(kv->pages + to * kv->page_bytes, kv->pages + from * kv->page_bytes, kv->page_bytes);
}

void spark_kv_truncate(spark_kv *kv, uint32_t seq, uint32_t length)
{
    assert(seq < kv->n_seqs);
    if (length >= kv->length[seq]) return;
    for (uint32_t i = kv_pages(length); i < kv_pages(kv->length[seq]); i++) kv_release(kv, kv_row(kv, seq)[i]);
    kv->length[seq] = length;
}

spark_status spark_kv_fork(spark_kv *kv, uint32_t from, uint32_t to, uint32_t length, spark_err *err)
{
    SPARK_CHECK(from < kv->n_seqs && to < kv->n_seqs && from != to, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "sequence %u cannot be forked to %u: there are %u", from, to, kv->n_seqs);
    SPARK_CHECK(kv->length[to] == 0, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "sequence %u is not empty", to);
    SPARK_CHECK(length <= kv->length[from], err, SPARK_E_ARGUMENT, kv->length[from],
                "sequence %u has %u positions, not %u", from, kv->length[from], length);
    const uint32_t full = length / SPARK_KV_BLOCK, *source = kv_row(kv, from);
    uint32_t *target = kv_row(kv, to);
    SPARK_CHECK(length % SPARK_KV_BLOCK == 0 || kv->n_free > 0, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE,
                "no page is free for the end of sequence %u", to);
    for (uint32_t i = 0; i < full; i++) {
        target[i] = source[i];
        kv->refs[source[i]]++;
    }
    if (length % SPARK_KV_BLOCK != 0) {
        target[full] = kv_take(kv);
        kv_copy(kv, target[full], source[full]);
    }
    kv->length[to] = length;
    return SPARK_SUCCESS;
}

/* ---- Pages by number ---- */

uint32_t spark_kv_pages(const spark_kv *kv) { return kv->n_pages; }
uint32_t spark_kv_pages_free(const spark_kv *kv) { return kv->n_free; }

uint32_t spark_kv_page(const spark_kv *kv, uint32_t seq, uint32_t index)
{
    assert(seq < kv->n_seqs && index < kv_pages(kv->length[seq]));
    return kv->table[(size_t)seq * kv->pages_per_seq + index];
}

uint32_t spark_kv_page_users(const spark_kv *kv, uint32_t page)
{
    assert(page < kv->n_pages);
    return kv->refs[page];
}

void spark_kv_page_hold(spark_kv *kv, uint32_t page)
{
    assert(page < kv->n_pages && kv->refs[page] > 0); /* a free page holds nothing worth keeping */
    kv->refs[page]++;
}

void spark_kv_page_release(spark_kv *kv, uint32_t page)
{
    assert(page < kv->n_pages);
    kv_release(kv, page);
}

void spark_kv_adopt(spark_kv *kv, uint32_t seq, const uint32_t *pages, uint32_t n)
{
    assert(seq < kv->n_seqs && kv->length[seq] % SPARK_KV_BLOCK == 0);
    const uint32_t first = kv->length[seq] / SPARK_KV_BLOCK;
    assert(n <= kv->n_ctx / SPARK_KV_BLOCK - first);
    for (uint32_t i = 0; i < n; i++) {
        spark_kv_page_hold(kv, pages[i]);
        kv_row(kv, seq)[first + i] = pages[i];
    }
    kv->length[seq] += n * SPARK_KV_BLOCK;
}

void spark_kv_replace(spark_kv *kv, uint32_t seq, uint32_t index, uint32_t page)
{
    assert(seq < kv->n_seqs && index < kv->length[seq] / SPARK_KV_BLOCK);
    uint32_t *own = &kv_row(kv, seq)[index];
    spark_kv_page_hold(kv, page);
    kv_release(kv, *own);
    *own = page;
}

/* ---- Appending ---- */

/* Set in before[seq] while pages are counted: the sequence will copy its last page and leave the shared one. */
#define KV_COPIES (1u << 31)
_Static_assert(SPARK_MAX_CTX < KV_COPIES, "a count of rows must leave room for the mark");

/* Checks that the rows are possible and every sequence has room for its own; before[] counts them. */
static spark_status kv_check(spark_kv *kv, const spark_row *rows, uint32_t n, spark_err *err)
{
    const uint32_t n_vocab = kv->net->info.n_vocab;
    for (uint32_t r = 0; r < n; r++) {
        SPARK_CHECK(rows[r].seq < kv->n_seqs, err, SPARK_E_ARGUMENT, r, "row %u: sequence %u of %u", r, rows[r].seq,
                    kv->n_seqs);
        SPARK_CHECK(rows[r].token < n_vocab, err, SPARK_E_ARGUMENT, r,
                    "row %u: token %u is outside the vocabulary of %u", r, rows[r].token, n_vocab);
        kv->before[rows[r].seq] = 0;
    }
    for (uint32_t r = 0; r < n; r++) {
        const uint32_t seq = rows[r].seq;
        SPARK_CHECK(++kv->before[seq] <= kv->n_ctx - kv->length[seq], err, SPARK_E_CONTEXT, r,
                    "the context of %u positions is full", kv->n_ctx);
    }
    return SPARK_SUCCESS;
}

/* The page that the next row of the sequence would share with another owner, or NULL. */
static uint32_t *kv_shared_refs(spark_kv *kv, uint32_t seq)
{
    const uint32_t length = kv->length[seq];
    return length % SPARK_KV_BLOCK == 0 ? NULL : &kv->refs[kv_row(kv, seq)[length / SPARK_KV_BLOCK]];
}

/* Pages that the rows need. Of those who share a page the last one to write may keep it: refs[] counts down as they leave
 * in thought, and is set back. */
static uint32_t kv_pages_needed(spark_kv *kv, const spark_row *rows, uint32_t n)
{
    uint32_t need = 0;
    for (uint32_t r = 0; r < n; r++) kv->before[rows[r].seq] = 0;
    for (uint32_t r = 0; r < n; r++) {
        const uint32_t seq = rows[r].seq;
        uint32_t *refs = kv->before[seq] == 0 ? kv_shared_refs(kv, seq) : NULL;
        if (refs && *refs > 1) {
            kv->before[seq] = KV_COPIES;
            (*refs)--;
            need++;
        }
        need += (kv->length[seq] + (kv->before[seq]++ & ~KV_COPIES)) % SPARK_KV_BLOCK == 0;
    }
    for (uint32_t r = 0; r < n; r++) {
        const uint32_t seq = rows[r].seq;
        if (kv->before[seq] & KV_COPIES) (*kv_shared_refs(kv, seq))++;
        kv->before[seq] &= ~KV_COPIES;
    }
    return need;
}

spark_status spark__kv_append(spark_kv *kv, const spark_row *rows, uint32_t n, uint32_t *position, spark_err *err)
{
    SPARK_TRY(kv_check(kv, rows, n, err));
    const uint32_t need = kv_pages_needed(kv, rows, n);
    SPARK_CHECK(need <= kv->n_free, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE,
                "these rows need %u pages of keys and values, and %u of %u are free", need, kv->n_free, kv->n_pages);
    for (uint32_t r = 0; r < n; r++) kv->before[rows[r].seq] = kv->length[rows[r].seq];
    for (uint32_t r = 0; r < n; r++) {
        const uint32_t seq = rows[r].seq, index = kv->length[seq] / SPARK_KV_BLOCK;
        uint32_t *page = &kv_row(kv, seq)[index];
        if (kv->length[seq] % SPARK_KV_BLOCK == 0) {
            *page = kv_take(kv);
        } else if (kv->refs[*page] > 1) { /* shared, and cut back into since */
            const uint32_t own = kv_take(kv);
            kv_copy(kv, own, *page);
            kv_release(kv, *page);
            *page = own;
        }
        position[r] = kv->length[seq]++;
    }
    return SPARK_SUCCESS;
}

void spark__kv_undo(spark_kv *kv, const spark_row *rows, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) spark_kv_truncate(kv, rows[r].seq, kv->before[rows[r].seq]);
}
