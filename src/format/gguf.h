/* gguf.h - opens a GGUF file that may be hostile.
 * Nouns:   spark_gguf, one model whose every offset, size and string has been checked; it may span several split files.
 * Promise: after open succeeds, keys and tensor descriptions may be used without further bounds tests.
 * Bytes in, no file opened: the caller hands in the head of each file and its total size. Weights are not read here.
 * Not here: what a tensor means (model/bind.h). Threads: immutable after open. Source: ggml docs/gguf.md, v2 and v3. */
#ifndef SPARK_FORMAT_GGUF_H
#define SPARK_FORMAT_GGUF_H

#include <assert.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/compiler.h"
#include "kern/types.h"

typedef struct spark_gguf spark_gguf;

/* Ids as in the file. */
typedef enum spark_gguf_kind {
    SPARK_GGUF_U8,
    SPARK_GGUF_I8,
    SPARK_GGUF_U16,
    SPARK_GGUF_I16,
    SPARK_GGUF_U32,
    SPARK_GGUF_I32,
    SPARK_GGUF_F32,
    SPARK_GGUF_BOOL,
    SPARK_GGUF_STRING,
    SPARK_GGUF_ARRAY,
    SPARK_GGUF_U64,
    SPARK_GGUF_I64,
    SPARK_GGUF_F64
} spark_gguf_kind;

/* One metadata value. Strings and arrays borrow from the head that was handed in. */
typedef struct spark_gguf_value {
    spark_gguf_kind kind;
    spark_gguf_kind elem; /* ARRAY: kind of its elements (never ARRAY) */
    uint64_t n;           /* ARRAY: elements */
    union {
        uint64_t u;    /* U8..U64, BOOL (0 or 1) */
        int64_t i;     /* I8..I64 */
        double f;      /* F32, F64 */
        spark_bytes s; /* STRING; ARRAY: its raw bytes (strings: u64 length + bytes each, all checked) */
    } as;
} spark_gguf_value;

typedef struct spark_gguf_key {
    spark_bytes name; /* valid UTF-8, unique */
    spark_gguf_value value;
} spark_gguf_key;

typedef struct spark_gguf_tensor {
    spark_bytes name; /* valid UTF-8, unique */
    spark_type type;
    uint32_t n_dims;          /* 1-4 */
    uint64_t dims[4];         /* dims[0] = elements of a row; unused ones are 1 */
    uint32_t file;            /* index of the split file it lies in */
    uint64_t offset, n_bytes; /* from the start of that file; inside the file, not overlapping another tensor */
} spark_gguf_tensor;

/* One file of the model: its first bytes (at least the whole head, or the whole file) and its size. */
typedef struct spark_gguf_file {
    spark_bytes head;
    uint64_t size;
} spark_gguf_file;

/* How many bytes of the file its head needs, as far as `head` (a prefix of the file) tells: *out_need <= head.len means
 * that the head is complete; else read at least *out_need bytes and ask again (it grows by doubling, so asking is
 * linear; an empty prefix may be asked first). Fails at once on what cannot become a head: only its layout is judged
 * here, so that open_keys can be asked about a file whose tensors open refuses. */
SPARK_MUST_CHECK spark_status spark_gguf_head_size(spark_bytes head, uint64_t file_size, uint64_t *out_need,
                                                   spark_err *err);

/* Parses headers, metadata and tensor directories of all split files, in order (n_files = 1 for an ordinary model).
 * Heads must outlive the result and not change meanwhile (read them, do not map them); memory comes from `a`.
 * On error *out is untouched and `err` has the byte offset. */
SPARK_MUST_CHECK spark_status spark_gguf_open(spark_gguf **out, const spark_gguf_file *files, uint32_t n_files,
                                              spark_arena *a, spark_err *err);

/* The same for header and metadata of one file alone; its tensor directory is neither read nor needed, n_tensors is 0.
 * For what works without weights: tokenizing, and showing the keys of a file whose tensors are of an unknown kind. */
SPARK_MUST_CHECK spark_status spark_gguf_open_keys(spark_gguf **out, spark_gguf_file file, spark_arena *a,
                                                   spark_err *err);

/* split.count of a head that was parsed alone (1 if absent), to know how many files to open. A split file may be opened
 * alone (n_files = 1), then it shows its own tensors only; else all of them together, in order. */
uint32_t spark_gguf_split_count(const spark_gguf *g);

/* The path of file `index` (from 0) of the `count` files that `path`, one of them, belongs to:
 * "dir/x-00002-of-00003.gguf", 0, 3 -> "dir/x-00001-of-00003.gguf". Strings only; nothing is opened.
 * Fails if `path` does not end like that, does not speak of `count` files, or `out` (cap bytes) is too small. */
SPARK_MUST_CHECK spark_status spark_gguf_split_path(const char *path, uint32_t index, uint32_t count, char *out,
                                                    size_t cap, spark_err *err);

/* "u32", "string", ...; "unknown" for any other value. */
const char *spark_gguf_kind_name(spark_gguf_kind kind);

uint32_t spark_gguf_version(const spark_gguf *g);
uint32_t spark_gguf_n_keys(const spark_gguf *g);
const spark_gguf_key *spark_gguf_key_at(const spark_gguf *g, uint32_t i);
const spark_gguf_value *spark_gguf_find(const spark_gguf *g, const char *key); /* NULL if absent */
uint32_t spark_gguf_n_tensors(const spark_gguf *g);
const spark_gguf_tensor *spark_gguf_tensor_at(const spark_gguf *g, uint32_t i);
const spark_gguf_tensor *spark_gguf_tensor_find(const spark_gguf *g, const char *name); /* NULL if absent */

/* Typed reads of a key. Absent: *out is left as it is (put the default there first) and *found, if not NULL, is false.
 * A wrong kind, or a value outside [min, max], is an error that names the key. Integers of any width and sign are
 * taken, for f32 also f64. */
SPARK_MUST_CHECK spark_status spark_gguf_get_u32(const spark_gguf *g, const char *key, uint32_t min, uint32_t max,
                                                 uint32_t *out, bool *found, spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_get_f32(const spark_gguf *g, const char *key, float *out, bool *found,
                                                 spark_err *err); /* finite */
SPARK_MUST_CHECK spark_status spark_gguf_get_bool(const spark_gguf *g, const char *key, bool *out, bool *found,
                                                  spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_get_string(const spark_gguf *g, const char *key, spark_bytes *out, bool *found,
                                                    spark_err *err);
/* An array whose elements have kind `elem`. */
SPARK_MUST_CHECK spark_status spark_gguf_get_array(const spark_gguf *g, const char *key, spark_gguf_kind elem,
                                                   spark_gguf_value *out, bool *found, spark_err *err);

/* Walks the strings of an ARRAY of STRING in order: start with *pos = 0, call n times. */
#define SPARK_GGUF_AHEAD 2048 /* bytes: a walk over strings waits for memory, nothing else, so it is asked for early */
static inline spark_bytes spark_gguf_next_string(const spark_gguf_value *array, size_t *pos)
{
    assert(array->kind == SPARK_GGUF_ARRAY && array->elem == SPARK_GGUF_STRING);
    assert(*pos < array->as.s.len); /* called at most n times */
    const uint8_t *p = array->as.s.ptr + *pos;
    SPARK_PREFETCH(array->as.s.len - *pos > SPARK_GGUF_AHEAD ? p + SPARK_GGUF_AHEAD : p);
    const spark_bytes s = {p + 8, (size_t)spark_load_u64(p)};
    *pos += 8 + s.len;
    return s;
}
/* Element i < n of an ARRAY of numbers or booleans, as double or as int64 (exact for the integer kinds; what lies
 * outside int64 becomes the nearest one, NaN becomes 0). */
double spark_gguf_array_f64(const spark_gguf_value *array, uint64_t i);
int64_t spark_gguf_array_i64(const spark_gguf_value *array, uint64_t i);

#endif
