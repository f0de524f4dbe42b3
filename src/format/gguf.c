/* gguf.c - reads header, metadata and tensor directory of GGUF files: bytes in, a checked description out.
 * One walker serves both questions: how long is the head (nothing is kept), and what does it say (tables in an arena).
 * Order of trust: a count is checked against what can follow it before anything is allocated; a tensor's type and shape
 * before its size is computed; its place in the file once the end of the directory is known; overlaps last.
 * Reading keys afterwards is in gguf_keys.c, what split files must agree on in gguf_split.c. */
#include "format/gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/compiler.h"
#include "base/spark_limits.h"
#include "base/utf8.h"
#include "format/gguf_internal.h"

enum {
    GGUF_HEADER_BYTES = 24, /* magic, version, tensor count, key count */
    GGUF_MIN_KEY = 14,      /* name length, one byte of name, kind, one byte of value */
    GGUF_MIN_TENSOR = 33,   /* name length, one byte of name, dimension count, one dimension, type, offset */
    GGUF_FIRST_READ = 65536 /* asking for less than this is not worth a read */
};

/* One file's head while it is walked. Invariant: pos <= head.len <= file_size, and pos <= SPARK_MAX_GGUF_HEAD. */
typedef struct gguf_reader {
    spark_cursor c;
    uint64_t file_size;
    uint64_t need; /* not 0: the walk stopped only because the head was cut here; this many bytes are needed */
    uint32_t version, n_keys, n_tensors, alignment;
} gguf_reader;

static const uint8_t gguf_kind_bytes[GGUF_N_KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

uint32_t spark__gguf_kind_bytes(spark_gguf_kind kind) { return gguf_kind_bytes[kind]; }

/* Makes sure that n more bytes are there. What the file does not have is an error; what merely was not handed in yet
 * is one too, but remembered in r->need. */
static spark_status gguf_need(gguf_reader *r, uint64_t n, const char *what, spark_err *err)
{
    const uint64_t at = r->c.pos;
    SPARK_CHECK(n <= r->file_size - at, err, SPARK_E_FORMAT, at, "the file ends at byte %" PRIu64 ", inside the %s",
                r->file_size, what);
    SPARK_CHECK(n <= SPARK_MAX_GGUF_HEAD - at, err, SPARK_E_LIMIT, at,
                "header, keys and directory exceed the limit of %u bytes", SPARK_MAX_GGUF_HEAD);
    if (n <= spark_cursor_left(&r->c)) return SPARK_SUCCESS;
    r->need = at + n;
    return spark_fail(err, SPARK_E_ARGUMENT, at, "only the first %zu bytes of the head were handed in", r->c.size);
}

static spark_status gguf_take(gguf_reader *r, uint64_t n, const char *what, spark_bytes *out, spark_err *err)
{
    SPARK_TRY(gguf_need(r, n, what, err));
    return spark_cursor_take(&r->c, n, out, err);
}

static spark_status gguf_u32(gguf_reader *r, const char *what, uint32_t *out, spark_err *err)
{
    SPARK_TRY(gguf_need(r, 4, what, err));
    return spark_cursor_u32(&r->c, out, err);
}

static spark_status gguf_u64(gguf_reader *r, const char *what, uint64_t *out, spark_err *err)
{
    SPARK_TRY(gguf_need(r, 8, what, err));
    return spark_cursor_u64(&r->c, out, err);
}

/* A count is believed only if that many smallest entries can still follow it in the file. */
static spark_status gguf_count(gguf_reader *r, uint64_t min_entry, uint32_t max, const char *what, uint32_t *out,
                               spark_err *err)
{
    assert(min_entry > 0);
    const uint64_t at = r->c.pos;
    uint64_t n = 0;
    SPARK_TRY(gguf_u64(r, what, &n, err));
    SPARK_CHECK(n <= (r->file_size - r->c.pos) / min_entry, err, SPARK_E_FORMAT, at,
                "%s %" PRIu64 " cannot fit into the rest of the file (%" PRIu64 " bytes)", what, n,
                r->file_size - r->c.pos);
    SPARK_CHECK(n <= max, err, SPARK_E_LIMIT, at, "%s %" PRIu64 " is over the limit of %u", what, n, max);
    *out = (uint32_t)n;
    return SPARK_SUCCESS;
}

static spark_status gguf_string(gguf_reader *r, uint32_t max, const char *what, spark_bytes *out, spark_err *err)
{
    uint32_t len = 0;
    SPARK_TRY(gguf_count(r, 1, max, what, &len, err));
    return gguf_take(r, len, what, out, err);
}

spark_status spark__gguf_check_name(spark_bytes name, const char *what, uint64_t at, spark_err *err)
{
    SPARK_CHECK(name.len > 0, err, SPARK_E_FORMAT, at, "empty %s", what);
    SPARK_CHECK(name.len <= SPARK_MAX_GGUF_NAME, err, SPARK_E_LIMIT, at, "%s of %zu bytes is over the limit of %u",
                what, name.len, SPARK_MAX_GGUF_NAME);
    SPARK_CHECK(spark_utf8_is_valid(name.ptr, name.len), err, SPARK_E_FORMAT, at, "%s is not UTF-8: '%.*s'", what,
                GGUF_SHOW(name));
    for (size_t i = 0; i < name.len; i++)
        SPARK_CHECK(name.ptr[i] >= 0x20 && name.ptr[i] != 0x7f, err, SPARK_E_FORMAT, at,
                    "%s has the control character 0x%02x", what, name.ptr[i]);
    return SPARK_SUCCESS;
}

/* ---- header ---- */

static bool gguf_starts(spark_bytes b, const char *with)
{
    const size_t n = strlen(with);
    return b.len >= n && memcmp(b.ptr, with, n) == 0;
}

/* People open the wrong file more often than a broken one: say what it is where the first bytes tell. */
static spark_status gguf_not_gguf(spark_bytes head, uint64_t file_size, spark_err *err)
{
    static const struct {
        const char *magic, *what;
    } known[] = {
        {"version https://git-lfs", "a Git LFS pointer, not the model: fetch it with 'git lfs pull'"},
        {"lmgg", "a GGML file of 2023, before GGUF; convert it"},
        {"tjgg", "a GGJT file of 2023, before GGUF; convert it"},
        {"fmgg", "a GGMF file of 2023, before GGUF; convert it"},
        {"FUGG", "a big-endian GGUF file, which is not supported"},
        {"PK\x03\x04", "a ZIP archive (a PyTorch checkpoint?)"},
    };
    for (size_t i = 0; i < SPARK_COUNT(known); i++)
        SPARK_CHECK(!gguf_starts(head, known[i].magic), err, SPARK_E_FORMAT, 0, "not a GGUF file but %s",
                    known[i].what);
    SPARK_CHECK(head.len >= 4, err, SPARK_E_FORMAT, 0, "not a GGUF file: only %" PRIu64 " bytes", file_size);
    return spark_fail(err, SPARK_E_FORMAT, 0, "not a GGUF file: it begins with %02x %02x %02x %02x", head.ptr[0],
                      head.ptr[1], head.ptr[2], head.ptr[3]);
}

static spark_status gguf_version(gguf_reader *r, spark_err *err)
{
    const uint64_t at = r->c.pos;
    SPARK_TRY(gguf_u32(r, "version", &r->version, err));
    const uint32_t v = r->version;
    SPARK_CHECK((v & 0xffff) != 0 || v == 0, err, SPARK_E_UNSUPPORTED, at,
                "a big-endian GGUF file, which is not supported; convert it to little endian");
    SPARK_CHECK(v != 1, err, SPARK_E_UNSUPPORTED, at, "GGUF version 1 (32-bit lengths) is not supported; convert it");
    SPARK_CHECK(v == 2 || v == 3, err, SPARK_E_UNSUPPORTED, at,
                "GGUF version %" PRIu32 " is not supported, only 2 and 3", v);
    return SPARK_SUCCESS;
}

/* Begins the walk: magic, version and both counts. */
static spark_status gguf_begin(gguf_reader *r, spark_gguf_file file, spark_err *err)
{
    *r = (gguf_reader){.c = spark_cursor_at(file.head), .file_size = file.size, .alignment = GGUF_DEFAULT_ALIGNMENT};
    SPARK_CHECK(file.head.len <= file.size, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%zu bytes handed in of a file of %" PRIu64, file.head.len, file.size);
    const bool all_there = file.head.len >= 4 || file.head.len == file.size;
    if (all_there && !gguf_starts(file.head, GGUF_MAGIC)) return gguf_not_gguf(file.head, file.size, err);
    spark_bytes magic;
    SPARK_TRY(gguf_take(r, 4, "magic", &magic, err));
    SPARK_TRY(gguf_version(r, err));
    SPARK_TRY(gguf_count(r, GGUF_MIN_TENSOR, SPARK_MAX_GGUF_TENSORS, "tensor count", &r->n_tensors, err));
    SPARK_TRY(gguf_count(r, GGUF_MIN_KEY, SPARK_MAX_GGUF_KEYS, "key count", &r->n_keys, err));
    assert(r->c.pos == GGUF_HEADER_BYTES);
    return SPARK_SUCCESS;
}

/* ---- metadata ---- */

static spark_status gguf_kind(gguf_reader *r, spark_gguf_kind *out, spark_err *err)
{
    const uint64_t at = r->c.pos;
    uint32_t kind = 0;
    SPARK_TRY(gguf_u32(r, "kind of a value", &kind, err));
    SPARK_CHECK(kind < GGUF_N_KINDS, err, SPARK_E_FORMAT, at, "unknown kind of value %" PRIu32, kind);
    *out = (spark_gguf_kind)kind;
    return SPARK_SUCCESS;
}

static spark_status gguf_bools(spark_bytes b, uint64_t at, spark_err *err)
{
    for (size_t i = 0; i < b.len; i++)
        SPARK_CHECK(b.ptr[i] <= 1, err, SPARK_E_FORMAT, at + i, "a boolean is %u, neither 0 nor 1", b.ptr[i]);
    return SPARK_SUCCESS;
}

/* Walks over strings as long as nothing is wrong with them, at most n; returns how many. What stops it is for gguf_string
 * to judge. Vocabularies have hundreds of thousands, so this loop is where the time of opening a file goes. */
static uint32_t gguf_skip_strings(gguf_reader *r, uint32_t n)
{
    const size_t size = r->c.size < SPARK_MAX_GGUF_HEAD ? r->c.size : SPARK_MAX_GGUF_HEAD;
    size_t pos = r->c.pos;
    uint32_t i = 0;
    for (; i < n && size - pos >= 8; i++) {
        const uint64_t len = spark_load_u64(r->c.base + pos);
        SPARK_PREFETCH(r->c.base + (size - pos > SPARK_GGUF_AHEAD ? pos + SPARK_GGUF_AHEAD : pos));
        if (len > SPARK_MAX_GGUF_STRING || len > size - pos - 8) break;
        pos += 8 + (size_t)len;
    }
    r->c.pos = pos;
    return i;
}

static spark_status gguf_array(gguf_reader *r, spark_gguf_value *v, spark_err *err)
{
    const uint64_t kind_at = r->c.pos;
    SPARK_TRY(gguf_kind(r, &v->elem, err));
    SPARK_CHECK(v->elem != SPARK_GGUF_ARRAY, err, SPARK_E_UNSUPPORTED, kind_at, "arrays of arrays are not supported");
    const uint32_t size = gguf_kind_bytes[v->elem];
    uint32_t n = 0;
    SPARK_TRY(gguf_count(r, size ? size : 8, SPARK_MAX_GGUF_ARRAY, "array length", &n, err));
    v->n = n;
    if (v->elem != SPARK_GGUF_STRING) {
        const uint64_t at = r->c.pos;
        SPARK_TRY(gguf_take(r, (uint64_t)n * size, "array", &v->as.s, err));
        return v->elem == SPARK_GGUF_BOOL ? gguf_bools(v->as.s, at, err) : SPARK_SUCCESS;
    }
    const size_t begin = r->c.pos;
    spark_bytes s;
    for (uint32_t i = gguf_skip_strings(r, n); i < n; i++)
        SPARK_TRY(gguf_string(r, SPARK_MAX_GGUF_STRING, "string length", &s, err));
    v->as.s = (spark_bytes){r->c.base + begin, r->c.pos - begin};
    return SPARK_SUCCESS;
}

static void gguf_decode(spark_gguf_value *v, const uint8_t *p)
{
    double d = 0;
    uint64_t u = 0;
    switch (v->kind) {
    case SPARK_GGUF_U8:
    case SPARK_GGUF_BOOL: v->as.u = p[0]; break;
    case SPARK_GGUF_I8: v->as.i = (int8_t)p[0]; break;
    case SPARK_GGUF_U16: v->as.u = spark_load_u16(p); break;
    case SPARK_GGUF_I16: v->as.i = (int16_t)spark_load_u16(p); break;
    case SPARK_GGUF_U32: v->as.u = spark_load_u32(p); break;
    case SPARK_GGUF_I32: v->as.i = (int32_t)spark_load_u32(p); break;
    case SPARK_GGUF_F32: v->as.f = (double)spark_load_f32(p); break;
    case SPARK_GGUF_U64: v->as.u = spark_load_u64(p); break;
    case SPARK_GGUF_I64: v->as.i = (int64_t)spark_load_u64(p); break;
    case SPARK_GGUF_F64:
        u = spark_load_u64(p);
        memcpy(&d, &u, sizeof d);
        v->as.f = d;
        break;
    case SPARK_GGUF_STRING:
    case SPARK_GGUF_ARRAY: assert(0 && "not a scalar"); break;
    }
}

static spark_status gguf_value(gguf_reader *r, spark_gguf_value *v, spark_err *err)
{
    SPARK_TRY(gguf_kind(r, &v->kind, err));
    if (v->kind == SPARK_GGUF_STRING) return gguf_string(r, SPARK_MAX_GGUF_STRING, "string length", &v->as.s, err);
    if (v->kind == SPARK_GGUF_ARRAY) return gguf_array(r, v, err);
    const uint64_t at = r->c.pos;
    spark_bytes raw;
    SPARK_TRY(gguf_take(r, gguf_kind_bytes[v->kind], "value", &raw, err));
    if (v->kind == SPARK_GGUF_BOOL) SPARK_TRY(gguf_bools(raw, at, err));
    gguf_decode(v, raw.ptr);
    return SPARK_SUCCESS;
}

spark_status spark__gguf_check_alignment(const spark_gguf_value *v, uint64_t at, uint32_t *out, spark_err *err)
{
    SPARK_CHECK(v->kind == SPARK_GGUF_U32, err, SPARK_E_FORMAT, at, GGUF_KEY_ALIGNMENT " is of kind %s, not u32",
                spark_gguf_kind_name(v->kind));
    const uint64_t a = v->as.u;
    SPARK_CHECK(a >= 8 && a <= SPARK_MAX_ALIGNMENT && (a & (a - 1)) == 0, err, SPARK_E_FORMAT, at,
                GGUF_KEY_ALIGNMENT " is %" PRIu64 ", not a power of two from 8 to %u", a, SPARK_MAX_ALIGNMENT);
    *out = (uint32_t)a;
    return SPARK_SUCCESS;
}

static spark_status gguf_key(gguf_reader *r, spark_gguf_key *k, spark_err *err)
{
    const uint64_t at = r->c.pos;
    SPARK_TRY(gguf_string(r, SPARK_MAX_GGUF_NAME, "key length", &k->name, err));
    SPARK_TRY(spark__gguf_check_name(k->name, "key", at, err));
    SPARK_TRY(gguf_value(r, &k->value, err));
    if (spark_bytes_is(k->name, GGUF_KEY_ALIGNMENT))
        SPARK_TRY(spark__gguf_check_alignment(&k->value, at, &r->alignment, err));
    return SPARK_SUCCESS;
}

static spark_status gguf_keys(gguf_reader *r, spark__gguf_keys *out, spark_arena *a, spark_err *err)
{
    out->n = r->n_keys;
    out->base = r->c.base;
    SPARK_TRY(SPARK_NEW(a, out->n, &out->at, err));
    SPARK_TRY(spark_strmap_create(&out->map, out->n, a, err));
    for (uint32_t i = 0; i < out->n; i++) {
        const uint64_t at = r->c.pos;
        spark_gguf_key *k = &out->at[i];
        SPARK_TRY(gguf_key(r, k, err));
        SPARK_CHECK(spark_strmap_put(out->map, k->name, i) == i, err, SPARK_E_FORMAT, at, "key '%.*s' is there twice",
                    GGUF_SHOW(k->name));
    }
    return SPARK_SUCCESS;
}

/* ---- tensor directory ---- */

/* The entry as written: its layout is checked, what it claims is not. The offset counts from the start of the data. */
static spark_status gguf_entry(gguf_reader *r, spark_gguf_tensor *t, spark_err *err)
{
    SPARK_TRY(gguf_string(r, SPARK_MAX_GGUF_NAME, "tensor name length", &t->name, err));
    const uint64_t dims_at = r->c.pos;
    SPARK_TRY(gguf_u32(r, "tensor directory", &t->n_dims, err));
    SPARK_CHECK(t->n_dims >= 1 && t->n_dims <= SPARK_MAX_DIMS, err, SPARK_E_FORMAT, dims_at,
                "tensor '%.*s' has %" PRIu32 " dimensions, expected 1 to %u", GGUF_SHOW(t->name), t->n_dims,
                SPARK_MAX_DIMS);
    for (uint32_t d = 0; d < SPARK_MAX_DIMS; d++) t->dims[d] = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) SPARK_TRY(gguf_u64(r, "tensor directory", &t->dims[d], err));
    uint32_t type = 0;
    SPARK_TRY(gguf_u32(r, "tensor directory", &type, err));
    t->type = (spark_type)type;
    return gguf_u64(r, "tensor directory", &t->offset, err);
}

/* Ids that ggml gave to types which are not weights here, or gave up: for the error text. */
static const char *gguf_foreign_type(uint32_t id)
{
    static const char *const names[] = {[4] = "Q4_2, removed from GGUF",
                                        [5] = "Q4_3, removed from GGUF",
                                        [9] = "Q8_1",
                                        [15] = "Q8_K",
                                        [24] = "I8",
                                        [25] = "I16",
                                        [26] = "I32",
                                        [27] = "I64",
                                        [28] = "F64",
                                        [31] = "Q4_0_4_4, removed",
                                        [32] = "Q4_0_4_8, removed",
                                        [33] = "Q4_0_8_8, removed",
                                        [36] = "IQ4_NL_4_4, removed",
                                        [37] = "IQ4_NL_4_8, removed",
                                        [38] = "IQ4_NL_8_8, removed",
                                        [40] = "NVFP4",
                                        [41] = "Q1_0",
                                        [42] = "Q2_0"};
    return id < SPARK_COUNT(names) && names[id] ? names[id] : "unknown";
}

spark_status spark__gguf_measure(spark_gguf_tensor *t, uint64_t at, spark_err *err)
{
    const uint32_t id = (uint32_t)t->type;
    const spark_type_info *info = spark_type_lookup(id);
    SPARK_CHECK(info, err, SPARK_E_UNSUPPORTED, at, "tensor '%.*s' is of type %" PRIu32 " (%s), which is not supported",
                GGUF_SHOW(t->name), id, gguf_foreign_type(id));
    uint64_t rows = 1, n = 0, bytes = 0;
    bool fits = true;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        SPARK_CHECK(t->dims[d] > 0, err, SPARK_E_FORMAT, at, "tensor '%.*s': dimension %" PRIu32 " is 0",
                    GGUF_SHOW(t->name), d);
        if (d > 0) fits = fits && spark_mul_u64(rows, t->dims[d], &rows);
    }
    SPARK_CHECK(t->dims[0] % info->block_elems == 0, err, SPARK_E_FORMAT, at,
                "tensor '%.*s': rows of %" PRIu64 " elements are not whole blocks of %s (%" PRIu32 " elements)",
                GGUF_SHOW(t->name), t->dims[0], info->name, info->block_elems);
    fits = fits && spark_mul_u64(rows, t->dims[0], &n) && n <= INT64_MAX; /* elements: consumers may count in signed */
    fits = fits && spark_mul_u64(n / info->block_elems, info->block_bytes, &bytes);
    SPARK_CHECK(fits, err, SPARK_E_FORMAT, at, "tensor '%.*s': its dimensions overflow", GGUF_SHOW(t->name));
    t->n_bytes = bytes;
    return SPARK_SUCCESS;
}

/* Sorts tensors by offset: heapsort, because its worst case is n log n and it needs no memory. */
static void gguf_sift(const spark_gguf_tensor **h, uint32_t top, uint32_t n)
{
    for (uint32_t child; (child = 2 * top + 1) < n; top = child) {
        if (child + 1 < n && h[child]->offset < h[child + 1]->offset) child++;
        if (h[top]->offset >= h[child]->offset) return;
        const spark_gguf_tensor *t = h[top];
        h[top] = h[child];
        h[child] = t;
    }
}

static void gguf_sort(const spark_gguf_tensor **h, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) gguf_sift(h, i, n);
    for (uint32_t end = n; end-- > 1;) {
        const spark_gguf_tensor *t = h[0];
        h[0] = h[end];
        h[end] = t;
        gguf_sift(h, 0, end);
    }
}

/* Every tensor has bytes of its own: two names for the same weights are refused, whatever the reason. */
static spark_status gguf_check_overlaps(const spark_gguf_tensor *t, uint32_t n, const uint8_t *base, spark_arena *a,
                                        spark_err *err)
{
    const spark_mark m = spark_arena_mark(a);
    const spark_gguf_tensor **order = NULL;
    SPARK_TRY(SPARK_NEW(a, n, &order, err));
    for (uint32_t i = 0; i < n; i++) order[i] = &t[i];
    gguf_sort(order, n);
    for (uint32_t i = 1; i < n; i++) {
        const spark_gguf_tensor *p = order[i - 1], *q = order[i];
        SPARK_CHECK(q->offset - p->offset >= p->n_bytes, err, SPARK_E_FORMAT, spark__gguf_entry_at(base, q->name),
                    "tensors '%.*s' and '%.*s' overlap at byte %" PRIu64, GGUF_SHOW(p->name), GGUF_SHOW(q->name),
                    q->offset);
    }
    spark_arena_reset(a, m);
    return SPARK_SUCCESS;
}

/* From offsets as written to offsets in the file, now that the end of the directory is known. */
static spark_status gguf_place(const gguf_reader *r, spark_gguf_tensor *t, uint32_t n, spark_err *err)
{
    uint64_t data = 0;
    SPARK_CHECK(spark_align_up(r->c.pos, r->alignment, &data), err, SPARK_E_FORMAT, r->c.pos, "the head is too long");
    const uint64_t room = r->file_size > data ? r->file_size - data : 0;
    for (uint32_t i = 0; i < n; i++, t++) {
        const uint64_t at = spark__gguf_entry_at(r->c.base, t->name);
        SPARK_CHECK(t->offset % r->alignment == 0, err, SPARK_E_FORMAT, at,
                    "tensor '%.*s': its offset %" PRIu64 " is no multiple of the alignment %" PRIu32,
                    GGUF_SHOW(t->name), t->offset, r->alignment);
        SPARK_CHECK(t->offset <= room && t->n_bytes <= room - t->offset, err, SPARK_E_FORMAT, at,
                    "tensor '%.*s': %" PRIu64 " bytes at offset %" PRIu64 " do not fit into the file's %" PRIu64
                    " bytes of data: the file is cut short, or the directory is wrong",
                    GGUF_SHOW(t->name), t->n_bytes, t->offset, room);
        t->offset += data;
    }
    return SPARK_SUCCESS;
}

/* The directory of split file `file`; its tensors follow those of the files before. */
static spark_status gguf_directory(gguf_reader *r, spark_gguf *g, uint32_t file, uint32_t first, spark_arena *a,
                                   spark_err *err)
{
    for (uint32_t i = first; i < first + r->n_tensors; i++) {
        const uint64_t at = r->c.pos;
        spark_gguf_tensor *t = &g->tensors[i];
        SPARK_TRY(gguf_entry(r, t, err));
        SPARK_TRY(spark__gguf_check_name(t->name, "tensor name", at, err));
        SPARK_CHECK(spark_strmap_put(g->tensor_map, t->name, i) == i, err, SPARK_E_FORMAT, at,
                    "tensor '%.*s' is there twice", GGUF_SHOW(t->name));
        SPARK_TRY(spark__gguf_measure(t, at, err));
        t->file = file;
    }
    SPARK_TRY(gguf_place(r, g->tensors + first, r->n_tensors, err));
    return gguf_check_overlaps(g->tensors + first, r->n_tensors, r->c.base, a, err);
}

/* ---- the three ways in ---- */

static spark_status gguf_walk(gguf_reader *r, spark_gguf_file file, spark_err *err)
{
    SPARK_TRY(gguf_begin(r, file, err));
    for (uint32_t i = 0; i < r->n_keys; i++) {
        spark_gguf_key k = {0};
        SPARK_TRY(gguf_key(r, &k, err));
    }
    for (uint32_t i = 0; i < r->n_tensors; i++) {
        spark_gguf_tensor t = {0};
        SPARK_TRY(gguf_entry(r, &t, err));
    }
    return SPARK_SUCCESS;
}

spark_status spark_gguf_head_size(spark_bytes head, uint64_t file_size, uint64_t *out_need, spark_err *err)
{
    gguf_reader r;
    spark_err why;
    const spark_status s = gguf_walk(&r, (spark_gguf_file){head, file_size}, &why);
    if (spark_ok(s)) {
        *out_need = r.c.pos;
        return s;
    }
    if (r.need == 0) {
        if (err) *err = why;
        return s;
    }
    /* Each ask begins anew, so the next prefix is at least twice as long: all asks together read under 4 heads. */
    uint64_t need = r.need > GGUF_FIRST_READ ? r.need : GGUF_FIRST_READ;
    if (need < 2 * (uint64_t)head.len) need = 2 * (uint64_t)head.len;
    if (need > file_size) need = file_size;
    if (need > SPARK_MAX_GGUF_HEAD) need = SPARK_MAX_GGUF_HEAD;
    assert(need > head.len && need >= r.need);
    *out_need = need;
    return SPARK_SUCCESS;
}

static spark_status gguf_first_keys(gguf_reader *r, spark_gguf *g, spark_gguf_file file, uint32_t n_files,
                                    uint32_t n_tensors, spark_arena *a, spark_err *err)
{
    SPARK_TRY(gguf_begin(r, file, err));
    SPARK_TRY(gguf_keys(r, &g->keys, a, err));
    g->version = r->version;
    return spark__gguf_check_split(&g->keys, &g->keys, 0, n_files, n_tensors, &g->split_count, err);
}

/* File `index` of several: its keys must agree with the first file's and are then forgotten. */
static spark_status gguf_later_keys(gguf_reader *r, spark_gguf *g, const spark_gguf_file *file, uint32_t index,
                                    uint32_t n_files, spark_arena *a, spark_err *err)
{
    const spark_mark m = spark_arena_mark(a);
    spark__gguf_keys mine = {0};
    uint32_t count = 0;
    SPARK_TRY(gguf_begin(r, *file, err));
    SPARK_TRY(gguf_keys(r, &mine, a, err));
    SPARK_TRY(spark__gguf_check_split(&g->keys, &mine, index, n_files, g->n_tensors, &count, err));
    spark_arena_reset(a, m);
    return SPARK_SUCCESS;
}

/* An offset alone says little when there are several files. */
static spark_status gguf_in_file(spark_status s, uint32_t index, uint32_t n_files, spark_err *err)
{
    if (spark_ok(s) || n_files == 1 || !err) return s;
    const spark_err inner = *err;
    return spark_fail(err, s.code, inner.at, "file %" PRIu32 " of %" PRIu32 ": %.200s", index + 1, n_files, inner.text);
}

/* How many tensors all files announce together; each count fits its own file. */
static spark_status gguf_sum_tensors(const spark_gguf_file *files, uint32_t n_files, uint32_t *out, spark_err *err)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n_files; i++) {
        gguf_reader r;
        SPARK_TRY(gguf_in_file(gguf_begin(&r, files[i], err), i, n_files, err));
        sum += r.n_tensors;
    }
    SPARK_CHECK(sum <= SPARK_MAX_GGUF_TENSORS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%" PRIu64 " tensors in %" PRIu32 " files are over the limit of %u", sum, n_files,
                SPARK_MAX_GGUF_TENSORS);
    *out = (uint32_t)sum;
    return SPARK_SUCCESS;
}

static spark_status gguf_open_all(spark_gguf **out, const spark_gguf_file *files, uint32_t n_files, spark_arena *a,
                                  spark_err *err)
{
    spark_gguf *g = NULL;
    uint32_t n_tensors = 0, first = 0;
    SPARK_CHECK(n_files >= 1 && n_files <= SPARK_MAX_GGUF_SPLITS, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%" PRIu32 " files, expected 1 to %u", n_files, SPARK_MAX_GGUF_SPLITS);
    SPARK_TRY(gguf_sum_tensors(files, n_files, &n_tensors, err));
    SPARK_TRY(SPARK_NEW(a, 1, &g, err));
    g->n_tensors = n_tensors;
    for (uint32_t i = 0; i < n_files; i++) {
        gguf_reader r;
        SPARK_TRY(gguf_in_file(i == 0 ? gguf_first_keys(&r, g, files[0], n_files, n_tensors, a, err)
                                      : gguf_later_keys(&r, g, &files[i], i, n_files, a, err),
                               i, n_files, err));
        if (i == 0) {
            SPARK_TRY(SPARK_NEW(a, n_tensors, &g->tensors, err));
            SPARK_TRY(spark_strmap_create(&g->tensor_map, n_tensors, a, err));
        }
        SPARK_TRY(gguf_in_file(gguf_directory(&r, g, i, first, a, err), i, n_files, err));
        first += r.n_tensors;
    }
    *out = g;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_open(spark_gguf **out, const spark_gguf_file *files, uint32_t n_files, spark_arena *a,
                             spark_err *err)
{
    const spark_mark m = spark_arena_mark(a);
    const spark_status s = gguf_open_all(out, files, n_files, a, err);
    if (!spark_ok(s)) spark_arena_reset(a, m);
    return s;
}

static spark_status gguf_open_first(spark_gguf **out, spark_gguf_file file, spark_arena *a, spark_err *err)
{
    spark_gguf *g = NULL;
    gguf_reader r;
    SPARK_TRY(SPARK_NEW(a, 1, &g, err));
    SPARK_TRY(gguf_first_keys(&r, g, file, 1, 0, a, err));
    *out = g;
    return SPARK_SUCCESS;
}

spark_status spark_gguf_open_keys(spark_gguf **out, spark_gguf_file file, spark_arena *a, spark_err *err)
{
    const spark_mark m = spark_arena_mark(a);
    const spark_status s = gguf_open_first(out, file, a, err);
    if (!spark_ok(s)) spark_arena_reset(a, m);
    return s;
}
