/* sampler.h - from logits to a token: llama.cpp's steps in llama.cpp's order, with defined bits.
 * Promise: the token is a function of (logits, parameters, seed, position, the tokens before it) and of nothing else.
 * Order of candidates everywhere: logit descending, then id ascending. Threads: one caller. */
#ifndef SPARK_ENGINE_SAMPLER_H
#define SPARK_ENGINE_SAMPLER_H

#include "base/arena.h"
#include "kern/kern.h"
#include "spark/spark.h"

typedef struct spark_sampler spark_sampler;

/* Work space for n_vocab logits and up to n_ctx tokens of history, in arena a. `breaks[id]` (n_vocab bytes, borrowed, may
 * be NULL) marks the tokens that end a repetition for dry. */
SPARK_MUST_CHECK spark_status spark_sampler_create(spark_sampler **out, const spark_kern *kern, uint32_t n_vocab,
                                                   uint32_t n_ctx, const uint8_t *breaks, spark_arena *a,
                                                   spark_err *err);

/* The same in memory of the caller: spark_sampler_bytes of it, at a multiple of 64, borrowed for the sampler's life. */
size_t spark_sampler_bytes(uint32_t n_vocab, uint32_t n_ctx);
spark_sampler *spark_sampler_place(void *memory, const spark_kern *kern, uint32_t n_vocab, uint32_t n_ctx,
                                   const uint8_t *breaks);

/* Refuses parameters that are out of range, not finite, or name ids outside the vocabulary. */
SPARK_MUST_CHECK spark_status spark_sampling_check(const spark_sampling *p, const spark_logit_bias *bias, size_t n_bias,
                                                   uint32_t n_vocab, spark_err *err);

/* Draws the token that follows history[0..n_history) (at most n_ctx tokens). Parameters must have been checked;
 * logits are finite. */
uint32_t spark_sampler_draw(spark_sampler *s, const spark_sampling *p, const spark_logit_bias *bias, size_t n_bias,
                            const float *logits, const uint32_t *history, size_t n_history);

/* Log-probabilities of the softmax of raw logits: of `id`, and of the n_top largest (written in order). */
float spark_sampler_logprobs(spark_sampler *s, const float *logits, uint32_t id, spark_logprob *top, uint32_t n_top);

#endif
