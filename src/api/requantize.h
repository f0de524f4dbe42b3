/* requantize.h - a model's file written again in another number format.
 * Promise: memory does not grow with the tensors (slices of fixed size), and the bytes do not depend on the thread count.
 * Which tensor takes which format is decided here, once, by name and shape. Not here: where the bytes go. */
#ifndef SPARK_API_REQUANTIZE_H
#define SPARK_API_REQUANTIZE_H

#include "format/gguf_write.h"
#include "spark/spark.h"

/* Called for every tensor that takes another format than the one asked for, and why in a few words. */
typedef void spark_requantize_note(void *ctx, spark_bytes tensor, spark_type type, const char *why);

typedef struct spark_requantize_options {
    spark_type type; /* Q8_0, Q4_0, Q4_K, Q6_K, F16 or BF16 */
    uint32_t n_threads;
    spark_requantize_note *note; /* may be NULL */
    bool (*progress)(void *ctx, uint64_t done,
                     uint64_t total); /* bytes of weights read; false stops with E_CANCELLED */
    void *ctx;                        /* of note and progress */
} spark_requantize_options;

/* Writes the model (opened, not necessarily loaded) to the sink. Nothing reaches the sink before all is known to be
 * possible, save for values that a format cannot hold (E_NUMERIC names the tensor). E_UNSUPPORTED for a matrix that is
 * quantized already: quantizing twice adds up errors. */
SPARK_MUST_CHECK spark_status spark__model_requantize(spark_model *m, const spark_requantize_options *o,
                                                      spark_gguf_sink *sink, void *sink_ctx, spark_err *err);

#endif
