/* gguf_internal.h - what the sources of GGUF share: the key table, the struct behind spark_gguf, and the rules that the
 * reader and the writer must hold alike. */
#ifndef SPARK_FORMAT_GGUF_INTERNAL_H
#define SPARK_FORMAT_GGUF_INTERNAL_H

#include "base/strmap.h"
#include "format/gguf.h"

#define GGUF_MAGIC             "GGUF"
#define GGUF_DEFAULT_ALIGNMENT 32u
#define GGUF_N_KINDS           13u
#define GGUF_KEY_ALIGNMENT     "general.alignment"

/* For "%.*s": a name of a file, short enough to leave room for what is wrong with it. */
#define GGUF_SHOW(b) (int)((b).len < 80 ? (b).len : 80), (const char *)(b).ptr

/* The offset that errors speak of: where the entry with this name begins (with its length) in the head at `base`. */
static inline uint64_t spark__gguf_entry_at(const uint8_t *base, spark_bytes name)
{
    return (uint64_t)(name.ptr - base) - 8;
}

/* The keys of one file, whose head begins at `base`. */
typedef struct spark__gguf_keys {
    spark_gguf_key *at;
    uint32_t n;
    const uint8_t *base;
    spark_strmap *map;
} spark__gguf_keys;

struct spark_gguf {
    uint32_t version, split_count, n_tensors;
    spark__gguf_keys keys; /* of the first file */
    spark_gguf_tensor *tensors;
    spark_strmap *tensor_map; /* NULL: opened for its keys alone */
};

/* Bytes of one element, 0 for STRING and ARRAY. */
uint32_t spark__gguf_kind_bytes(spark_gguf_kind kind);

/* Names are valid UTF-8 of 1 to SPARK_MAX_GGUF_NAME bytes without control characters. `what`: "key", "tensor name". */
SPARK_MUST_CHECK spark_status spark__gguf_check_name(spark_bytes name, const char *what, uint64_t at, spark_err *err);
/* A power of two from 8 to SPARK_MAX_ALIGNMENT. */
SPARK_MUST_CHECK spark_status spark__gguf_check_alignment(const spark_gguf_value *v, uint64_t at, uint32_t *out,
                                                          spark_err *err);
/* Fills n_bytes from type and dims: whole blocks, nothing empty, nothing that wraps. */
SPARK_MUST_CHECK spark_status spark__gguf_measure(spark_gguf_tensor *t, uint64_t at, spark_err *err);

const spark_gguf_value *spark__gguf_keys_find(const spark__gguf_keys *k, const char *key);
SPARK_MUST_CHECK spark_status spark__gguf_keys_u32(const spark__gguf_keys *k, const char *key, uint32_t min,
                                                   uint32_t max, uint32_t *out, bool *found, spark_err *err);

/* What `mine`, the keys of file `index` of `n_files`, says about the split. `first` are the keys of file 0.
 * *out_count: how many files the model has. */
SPARK_MUST_CHECK spark_status spark__gguf_check_split(const spark__gguf_keys *first, const spark__gguf_keys *mine,
                                                      uint32_t index, uint32_t n_files, uint32_t n_tensors,
                                                      uint32_t *out_count, spark_err *err);

#endif
