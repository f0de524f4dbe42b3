/* gguf_write.h - writes a GGUF v3 file front to back: keys and tensors are announced, then the head, then the data.
 * Nouns:   spark_gguf_writer, the head in the making; spark_gguf_sink, where the bytes go (a file, a buffer).
 * Promise: what it lets through, spark_gguf_open accepts and reads back as it was put; it sees to padding and offsets.
 * Opens nothing, keeps no weights. Order of calls: create, put_*, write_head, write_data..., write_end.
 * Threads: one at a time. */
#ifndef SPARK_FORMAT_GGUF_WRITE_H
#define SPARK_FORMAT_GGUF_WRITE_H

#include "format/gguf.h"

typedef struct spark_gguf_writer spark_gguf_writer;

/* Takes the next n bytes of the file. Its failure stops the writing and is passed on. */
typedef spark_status spark_gguf_sink(void *ctx, const void *bytes, size_t n, spark_err *err);

/* A writer with room for that many keys and tensors. Memory comes from `a`. */
SPARK_MUST_CHECK spark_status spark_gguf_writer_create(spark_gguf_writer **out, uint32_t max_keys, uint32_t max_tensors,
                                                       spark_arena *a, spark_err *err);

/* Metadata, in the order of the calls. Names and strings are copied; the bytes of arrays are borrowed until the head is
 * written. Refused: a name that is there already or that a reader would refuse, and more than max_keys.
 * The key general.alignment (u32, before the first tensor) decides the alignment of the data. */
SPARK_MUST_CHECK spark_status spark_gguf_put_key(spark_gguf_writer *w, const spark_gguf_key *k, spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_put_u32(spark_gguf_writer *w, const char *name, uint32_t value,
                                                 spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_put_f32(spark_gguf_writer *w, const char *name, float value, spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_put_bool(spark_gguf_writer *w, const char *name, bool value, spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_put_string(spark_gguf_writer *w, const char *name, spark_bytes value,
                                                    spark_err *err);
/* n numbers or booleans of kind `elem`, as they lie in a file (little endian). */
SPARK_MUST_CHECK spark_status spark_gguf_put_array(spark_gguf_writer *w, const char *name, spark_gguf_kind elem,
                                                   uint64_t n, const void *elems, spark_err *err);
SPARK_MUST_CHECK spark_status spark_gguf_put_strings(spark_gguf_writer *w, const char *name, const spark_bytes *strings,
                                                     uint64_t n, spark_err *err); /* copied */

/* Announces the next tensor; data follows in this order, each aligned. The name is copied. */
SPARK_MUST_CHECK spark_status spark_gguf_put_tensor(spark_gguf_writer *w, spark_bytes name, spark_type type,
                                                    uint32_t n_dims, const uint64_t *dims, spark_err *err);

/* Bytes of the whole file, and the tensors as a reader will see them (offset from the start of the file). Final once
 * nothing more is put. */
uint64_t spark_gguf_writer_size(const spark_gguf_writer *w);
spark_gguf_tensor spark_gguf_writer_tensor(const spark_gguf_writer *w, uint32_t i);

/* Writes everything before the data; nothing can be put afterwards. */
SPARK_MUST_CHECK spark_status spark_gguf_write_head(spark_gguf_writer *w, spark_gguf_sink *sink, void *ctx,
                                                    spark_err *err);
/* The next n bytes of tensor data, in pieces of any size; a piece may end or begin inside a tensor or span several.
 * Padding is added where a tensor ends. */
SPARK_MUST_CHECK spark_status spark_gguf_write_data(spark_gguf_writer *w, const void *bytes, uint64_t n,
                                                    spark_err *err);
/* Fails unless every byte that was announced has been written. */
SPARK_MUST_CHECK spark_status spark_gguf_write_end(const spark_gguf_writer *w, spark_err *err);

#endif
