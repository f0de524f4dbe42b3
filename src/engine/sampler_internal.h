/* sampler_internal.h - the candidates that the steps of a draw hand on. */
#ifndef SPARK_ENGINE_SAMPLER_INTERNAL_H
#define SPARK_ENGINE_SAMPLER_INTERNAL_H

#include "engine/sampler.h"

/* Sorted candidates: logit descending, then id ascending. */
typedef struct sampler_list {
    float *logit, *p; /* p is valid after list_softmax */
    uint32_t *id;
    uint32_t n;
} sampler_list;

struct spark_sampler {
    const spark_kern *kern;
    uint32_t n_vocab, n_ctx;
    const uint8_t *breaks;
    float *logits;     /* [n_vocab] the copy that bias and penalties change */
    const float *view; /* what candidates are taken from: that copy, or the caller's logits if nothing changes them */
    uint64_t *keys, *spare; /* [n_vocab] sort keys: order of the logit above, id below */
    sampler_list list;      /* [n_vocab] */
    float *score;           /* [n_vocab] second order of typical_p */
    uint32_t *runs;         /* [n_ctx] lengths of repetitions for dry */
    uint32_t *counts;       /* [n_vocab] occurrences for penalties; zero between draws */
};

/* Bias and penalties: they change s->logits. */
void spark__sampler_penalties(spark_sampler *s, const spark_sampling *p, const uint32_t *history, size_t n_history);
void spark__sampler_dry(spark_sampler *s, const spark_sampling *p, const uint32_t *history, size_t n_history);

/* Steps on sorted candidates: they shorten the list, or change its logits keeping the order. */
void spark__list_softmax(const spark_sampler *s, sampler_list *l);
void spark__list_typical(spark_sampler *s, sampler_list *l, float p, uint32_t min_keep);
void spark__list_top_p(const spark_sampler *s, sampler_list *l, float p, uint32_t min_keep);
void spark__list_min_p(sampler_list *l, float p, uint32_t min_keep);
void spark__list_xtc(const spark_sampler *s, sampler_list *l, const spark_sampling *p, double uniform);
void spark__list_temperature(const spark_sampler *s, sampler_list *l, const spark_sampling *p);

#endif
