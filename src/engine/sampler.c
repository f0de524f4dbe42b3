/* sampler.c - the chain: copy, bias, penalties, candidates in order, steps, draw.
 * Sorting works on 64-bit keys whose upper half orders like the logit (descending) and whose lower half is the id, so equal
 * logits fall in the order of their ids without a comparison. */
#include "engine/sampler.h"

#include <assert.h>
#include <float.h>
#include <string.h>

#include "base/checked.h"
#include "base/fpenv.h"
#include "base/spark_limits.h"
#include "engine/philox.h"
#include "engine/sampler_internal.h"
#include "kern/ref/sqrt.h"

enum { DRAW_TOKEN, DRAW_XTC }; /* counters of spark_uniform at one position */

/* ---- Keys and order ---- */

static uint64_t sampler_key(float logit, uint32_t id)
{
    uint32_t u;
    logit += 0.0f; /* -0 and +0 are equal logits */
    memcpy(&u, &logit, sizeof u);
    u = u >> 31 ? u : ~u & 0x7fffffffu; /* larger logits get smaller keys */
    return (uint64_t)u << 32 | id;
}

/* The logit of a key, but that -0 has become +0. */
static float sampler_logit(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    float logit;
    u = u >> 31 ? u : ~u & 0x7fffffffu;
    memcpy(&logit, &u, sizeof logit);
    return logit;
}

enum {
    SORT_BITS = 11,
    SORT_DIGITS = 3,
    SORT_VALUES = 1 << SORT_BITS
}; /* 3 digits are the upper half, and a spare bit */

static inline uint32_t sort_digit(uint64_t key, int digit)
{
    return (uint32_t)(key >> (32 + digit * SORT_BITS)) & (SORT_VALUES - 1);
}

/* Least-significant-digit radix sort of the upper halves; stable, so ids stay ascending. Two buffers swap. */
static void sampler_sort(spark_sampler *s, uint32_t n)
{
    uint32_t at[SORT_DIGITS][SORT_VALUES] = {0};
    for (const uint64_t *key = s->keys; key < s->keys + n; key++)
        for (int d = 0; d < SORT_DIGITS; d++) at[d][sort_digit(*key, d)]++;
    for (int d = 0; d < SORT_DIGITS; d++) {
        uint32_t sum = 0;
        for (uint32_t v = 0; v < SORT_VALUES; v++) {
            const uint32_t count = at[d][v];
            at[d][v] = sum;
            sum += count;
        }
        uint64_t *restrict to = s->spare, *restrict from = s->keys;
        for (uint32_t i = 0; i < n; i++) to[at[d][sort_digit(from[i], d)]++] = from[i];
        s->keys = to;
        s->spare = from;
    }
}

static void heap_sift_down(uint64_t *heap, uint32_t n, uint32_t i)
{
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (heap[i] >= heap[child]) return;
        const uint64_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

enum { SAMPLER_BLOCK = 64 }; /* logits that are passed over at once if their largest is too small */

static float sampler_block_max(const float *x)
{
    float lane[16];
    memcpy(lane, x, sizeof lane);
    for (uint32_t i = 16; i < SAMPLER_BLOCK; i += 16)
        for (uint32_t j = 0; j < 16; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++) lane[j] = lane[j + half] > lane[j] ? lane[j + half] : lane[j];
    return lane[0];
}

/* The next id from `id` on whose logit is larger than `than`, or n. */
static uint32_t sampler_next_above(const float *logits, uint32_t n, uint32_t id, float than)
{
    assert(id <= n);
    while (n - id >= SAMPLER_BLOCK && !(sampler_block_max(logits + id) > than)) id += SAMPLER_BLOCK;
    while (id < n && !(logits[id] > than)) id++;
    return id;
}

/* The keys of the k largest logits >= floor, sorted (k >= 1); returns how many there are. A heap of the k best so far, its
 * worst on top: a later id must have a larger logit than that to enter. */
static uint32_t sampler_top(spark_sampler *s, const float *logits, float floor, uint32_t k)
{
    uint64_t *keys = s->keys;
    uint32_t n = 0, id = 0;
    for (; id < s->n_vocab && n < k; id++)
        if (logits[id] >= floor) keys[n++] = sampler_key(logits[id], id);
    for (uint32_t i = n / 2; i-- > 0;) heap_sift_down(keys, n, i);
    while (n == k && (id = sampler_next_above(logits, s->n_vocab, id, logits[(uint32_t)keys[0]])) < s->n_vocab) {
        keys[0] = sampler_key(logits[id], id);
        heap_sift_down(keys, n, 0);
        id++;
    }
    for (uint32_t m = n; m > 1;) {
        const uint64_t worst = keys[0];
        keys[0] = keys[--m];
        keys[m] = worst;
        heap_sift_down(keys, m, 0);
    }
    return n;
}

static void sampler_list_fill(spark_sampler *s, uint32_t n)
{
    const uint64_t *restrict keys = s->keys;
    uint32_t *restrict id = s->list.id;
    float *restrict logit = s->list.logit;
    for (uint32_t i = 0; i < n; i++) {
        id[i] = (uint32_t)keys[i];
        logit[i] = sampler_logit(keys[i]);
    }
    s->list.n = n;
}

/* Keys of all logits >= floor, ascending by id. */
static uint32_t sampler_keys(spark_sampler *s, const float *logits, float floor)
{
    uint64_t *restrict keys = s->keys;
    uint32_t n = 0;
    for (uint32_t id = 0; id < s->n_vocab; id++)
        if (logits[id] >= floor) keys[n++] = sampler_key(logits[id], id);
    return n;
}

/* ---- The chain ---- */

static uint32_t sampler_argmax(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t id = 1; (id = sampler_next_above(logits, n, id, logits[best])) < n; id++) best = id;
    return best;
}

/* 32 virtual lanes, folded (NUMERICS, "Sums over a row"), of (x - mean)^2 over logits that are not forbidden. */
static float sampler_sigma(const float *logits, uint32_t n, uint32_t *n_allowed)
{
    float mean = 0;
    *n_allowed = 0;
    for (int pass = 0;; pass++) {
        float lane[32] = {0};
        uint32_t count = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (logits[i] == -__builtin_inff()) continue;
            const float d = logits[i] - mean;
            lane[i % 32] += pass == 0 ? d : d * d;
            count++;
        }
        for (uint32_t half = 16; half > 0; half /= 2)
            for (uint32_t j = 0; j < half; j++) lane[j] += lane[j + half];
        if (count == 0) return 0;
        *n_allowed = count;
        if (pass == 1) return spark_sqrtf(lane[0] / (float)count);
        mean = lane[0] / (float)count;
    }
}

/* The first candidates: top_n_sigma and top_k together, because neither needs the full order; and min_p, where nothing between
 * reads those that it would drop. */
static void sampler_candidates(spark_sampler *s, const spark_sampling *p)
{
    float floor = -FLT_MAX; /* forbidden tokens (-inf) never become candidates */
    if (p->top_n_sigma > 0) {
        uint32_t n_allowed = 0;
        const float sigma = sampler_sigma(s->view, s->n_vocab, &n_allowed);
        floor = s->view[sampler_argmax(s->view, s->n_vocab)] - p->top_n_sigma * sigma;
    }
    if (p->min_p > 0 && p->typical_p >= 1 && p->top_p >= 1 && p->min_keep <= 1) {
        const float least = s->view[sampler_argmax(s->view, s->n_vocab)] + spark_logf(p->min_p);
        if (least > floor) floor = least;
    }
    const uint32_t k = p->top_k > p->min_keep ? p->top_k : p->min_keep;
    if (p->top_k > 0 && k < s->n_vocab) {
        sampler_list_fill(s, sampler_top(s, s->view, floor, k));
    } else {
        const uint32_t n = sampler_keys(s, s->view, floor);
        sampler_sort(s, n);
        sampler_list_fill(s, n);
    }
}

/* Whether only the temperature shapes the distribution (what OpenAI's clients ask for unless told), moderately. */
static bool sampler_is_plain(const spark_sampling *p)
{
    return p->temperature >= 0.01f && p->top_n_sigma <= 0 && p->top_k == 0 && p->typical_p >= 1 && p->top_p >= 1 &&
           p->min_p <= 0 && p->xtc_probability <= 0 && p->dynatemp_range <= 0;
}

enum { QUICK_TOP = 256 /* candidates, among which most draws fall */, QUICK_LANES = 16 };

/* to = x / t; false: one of them is so large or (and not forbidden) so low that it may overflow, which means greedy by definition. */
static bool quick_quotients(float *restrict to, const float *restrict x, uint32_t n, float t)
{
    uint32_t far[QUICK_LANES] = {0}, i = 0, any = 0;
    for (; n - i >= QUICK_LANES; i += QUICK_LANES)
        for (uint32_t j = 0; j < QUICK_LANES; j++) {
            far[j] |= (x[i + j] > 1e30f) | ((x[i + j] < -1e30f) & (x[i + j] != -__builtin_inff()));
            to[i + j] = x[i + j] / t;
        }
    for (; i < n; i++) {
        any |= (x[i] > 1e30f) | ((x[i] < -1e30f) & (x[i] != -__builtin_inff()));
        to[i] = x[i] / t;
    }
    for (uint32_t j = 0; j < QUICK_LANES; j++) any |= far[j];
    return any == 0;
}

static double quick_sum(const float *x, uint32_t n)
{
    double lane[QUICK_LANES] = {0}, sum = 0;
    uint32_t i = 0;
    for (; n - i >= QUICK_LANES; i += QUICK_LANES)
        for (uint32_t j = 0; j < QUICK_LANES; j++) lane[j] += (double)x[i + j];
    for (; i < n; i++) sum += (double)x[i];
    for (uint32_t j = 0; j < QUICK_LANES; j++) sum += lane[j];
    return sum;
}

/* The draw of sampler_pick among all tokens, most often without sorting them; false: it cannot be told so.
 *
 * By definition token k of the order is drawn if c[k-1] <= u < c[k], c the running sums of e[k] * (1 / S), and S the float
 * sum of all e over 32 lanes in that order, which only a sort can give. But S lies near the true sum T: a sum of m positive
 * terms in any order is wrong by less than m units of 2^-24 (Higham 2002, 4.2), and a lane has n / 32 of them. With e / T from
 * a sum in another order (in double) and that bound, u either lies between two of the first running sums for certain, or
 * the sort decides. The share of the latter is about the bound (3e-4 for 152k tokens) by the number of likely tokens. */
static bool sampler_pick_quickly(spark_sampler *s, float t, double u, uint32_t *id)
{
    const uint32_t n = s->n_vocab;
    float *p = s->list.p;
    if (n <= QUICK_TOP || !quick_quotients(p, s->view, n, t)) return false;
    (void)s->kern->softmax(p, n);
    const double total = quick_sum(p, n);
    const uint32_t units = n / 32 + 64; /* 64: folding, rounding of p and of quotients here */
    const double wrong = units * 0x1.04p-24;
    const uint32_t n_top = sampler_top(s, s->view, -FLT_MAX, QUICK_TOP);
    double before = 0;
    for (uint32_t k = 0; k < n_top; k++) {
        const uint32_t candidate = (uint32_t)s->keys[k];
        const double after = before + (double)p[candidate] / total;
        if (u < after * (1 - wrong)) {
            *id = candidate;
            return u >= before * (1 + wrong);
        }
        if (u < after * (1 + wrong)) return false;
        before = after;
    }
    return false;
}

/* The first candidate at which the running sum of probabilities passes u. */
static uint32_t sampler_pick(const spark_sampler *s, sampler_list *l, double u)
{
    spark__list_softmax(s, l);
    double sum = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        sum += (double)l->p[i];
        if (sum > u) return l->id[i];
    }
    return l->id[l->n - 1]; /* u lies within the rounding of the sum below 1 */
}

static uint32_t sampler_chain(spark_sampler *s, const spark_sampling *p, const uint32_t *history, size_t n_history)
{
    spark__sampler_penalties(s, p, history, n_history);
    spark__sampler_dry(s, p, history, n_history);
    if (p->temperature <= 0) return sampler_argmax(s->view, s->n_vocab);
    const double u = spark_uniform(p->seed, n_history, DRAW_TOKEN);
    sampler_list *l = &s->list;
    uint32_t id;
    if (sampler_is_plain(p) && sampler_pick_quickly(s, p->temperature, u, &id)) return id;
    sampler_candidates(s, p);
    if (l->n == 0) return sampler_argmax(s->view, s->n_vocab); /* every token is forbidden: the least id */
    spark__list_typical(s, l, p->typical_p, p->min_keep);
    spark__list_top_p(s, l, p->top_p, p->min_keep);
    spark__list_min_p(l, p->min_p, p->min_keep);
    spark__list_xtc(s, l, p, spark_uniform(p->seed, n_history, DRAW_XTC));
    spark__list_temperature(s, l, p);
    return sampler_pick(s, l, u);
}

/* Whether penalties or dry may change a logit. */
static bool sampler_changes(const spark_sampling *p)
{
    return p->repeat_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0 || p->dry_multiplier != 0;
}

uint32_t spark_sampler_draw(spark_sampler *s, const spark_sampling *p, const spark_logit_bias *bias, size_t n_bias,
                            const float *logits, const uint32_t *history, size_t n_history)
{
    const spark_fpenv saved = spark_fpenv_enter();
    s->view = logits;
    if (n_bias > 0 || sampler_changes(p)) { /* a copy of a large vocabulary takes as long as the draw */
        memcpy(s->logits, logits, s->n_vocab * sizeof *logits);
        for (size_t i = 0; i < n_bias; i++) s->logits[bias[i].id] += bias[i].bias;
        s->view = s->logits;
    }
    const uint32_t id = sampler_chain(s, p, history, n_history);
    spark_fpenv_leave(saved);
    return id;
}

float spark_sampler_logprobs(spark_sampler *s, const float *logits, uint32_t id, spark_logprob *top, uint32_t n_top)
{
    const spark_fpenv saved = spark_fpenv_enter();
    const float max = logits[sampler_argmax(logits, s->n_vocab)];
    float lane[32] = {0};
    for (uint32_t i = 0; i < s->n_vocab; i++) lane[i % 32] += spark_expf(logits[i] - max);
    for (uint32_t half = 16; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++) lane[j] += lane[j + half];
    const float norm = spark_logf(lane[0]);
    if (n_top > 0) {
        const uint32_t n = sampler_top(s, logits, -FLT_MAX, n_top);
        assert(n == n_top);
        (void)n;
    }
    for (uint32_t i = 0; i < n_top; i++) {
        const uint32_t t = (uint32_t)s->keys[i];
        top[i] = (spark_logprob){t, logits[t] - max - norm};
    }
    const float result = logits[id] - max - norm;
    spark_fpenv_leave(saved);
    return result;
}

/* ---- Making and checking ---- */

/* llama.cpp's, which its users know. Of the public API, and here because samplers own what it fills in. */
void spark_generate_options_defaults(spark_generate_options *o)
{
    *o = (spark_generate_options){
        .sampling = {.temperature = 0.8f,
                     .dynatemp_exponent = 1,
                     .top_k = 40,
                     .top_p = 0.95f,
                     .min_p = 0.05f,
                     .typical_p = 1,
                     .top_n_sigma = -1,
                     .xtc_threshold = 0.1f,
                     .penalty_last_n = 64,
                     .repeat_penalty = 1,
                     .dry_base = 1.75f,
                     .dry_allowed_length = 2,
                     .dry_last_n = 64},
    };
}

static bool sampling_in(float x, float lo, float hi) { return x >= lo && x <= hi; } /* false for NaN */

spark_status spark_sampling_check(const spark_sampling *p, const spark_logit_bias *bias, size_t n_bias,
                                  uint32_t n_vocab, spark_err *err)
{
    const struct {
        const char *name;
        float value, lo, hi;
    } rows[] = {
        {"temperature", p->temperature, 0, 1e4f},
        {"dynatemp_range", p->dynatemp_range, 0, 1e4f},
        {"dynatemp_exponent", p->dynatemp_exponent, 0, 1e4f},
        {"top_p", p->top_p, 0, 1},
        {"min_p", p->min_p, 0, 1},
        {"typical_p", p->typical_p, 0, 1},
        {"top_n_sigma", p->top_n_sigma, -1, 1e4f},
        {"xtc_probability", p->xtc_probability, 0, 1},
        {"xtc_threshold", p->xtc_threshold, 0, 1},
        {"repeat_penalty", p->repeat_penalty, 1e-3f, 1e3f},
        {"frequency_penalty", p->frequency_penalty, -1e3f, 1e3f},
        {"presence_penalty", p->presence_penalty, -1e3f, 1e3f},
        {"dry_multiplier", p->dry_multiplier, 0, 1e3f},
        {"dry_base", p->dry_base, 1, 1e3f},
    };
    for (size_t i = 0; i < SPARK_COUNT(rows); i++)
        SPARK_CHECK(sampling_in(rows[i].value, rows[i].lo, rows[i].hi), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                    "%s is %g: %g to %g is allowed", rows[i].name, (double)rows[i].value, (double)rows[i].lo,
                    (double)rows[i].hi);
    SPARK_CHECK(n_bias <= SPARK_MAX_LOGIT_BIAS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu logit biases: at most %u are allowed", n_bias, SPARK_MAX_LOGIT_BIAS);
    for (size_t i = 0; i < n_bias; i++) {
        SPARK_CHECK(bias[i].id < n_vocab, err, SPARK_E_ARGUMENT, i,
                    "logit bias for token %u, but the vocabulary has %u tokens", bias[i].id, n_vocab);
        SPARK_CHECK(bias[i].bias == -__builtin_inff() || sampling_in(bias[i].bias, -1e6f, 1e6f), err, SPARK_E_ARGUMENT,
                    i, "logit bias of token %u is %g: -1e6 to 1e6, or -inf, is allowed", bias[i].id,
                    (double)bias[i].bias);
    }
    return SPARK_SUCCESS;
}

/* Where the parts lie behind the struct, each on a cache line of its own. */
typedef struct sampler_layout {
    size_t logits, keys, spare, list_logit, list_p, list_id, score, counts, runs, total;
} sampler_layout;

static size_t sampler_take(size_t *at, size_t bytes)
{
    const size_t begin = *at;
    *at += spark_round_up(bytes, 64);
    return begin;
}

static sampler_layout sampler_lay_out(uint32_t n_vocab, uint32_t n_ctx)
{
    const size_t words = n_vocab * sizeof(uint32_t), keys = n_vocab * sizeof(uint64_t);
    size_t at = spark_round_up(sizeof(spark_sampler), 64);
    sampler_layout l = {.logits = sampler_take(&at, words),
                        .keys = sampler_take(&at, keys),
                        .spare = sampler_take(&at, keys),
                        .list_logit = sampler_take(&at, words),
                        .list_p = sampler_take(&at, words),
                        .list_id = sampler_take(&at, words),
                        .score = sampler_take(&at, words),
                        .counts = sampler_take(&at, words),
                        .runs = sampler_take(&at, n_ctx * sizeof(uint32_t))};
    l.total = at;
    return l;
}

size_t spark_sampler_bytes(uint32_t n_vocab, uint32_t n_ctx) { return sampler_lay_out(n_vocab, n_ctx).total; }

spark_sampler *spark_sampler_place(void *memory, const spark_kern *kern, uint32_t n_vocab, uint32_t n_ctx,
                                   const uint8_t *breaks)
{
    const sampler_layout l = sampler_lay_out(n_vocab, n_ctx);
    uint8_t *base = memory;
    spark_sampler *s = memory;
    *s = (spark_sampler){.kern = kern,
                         .n_vocab = n_vocab,
                         .n_ctx = n_ctx,
                         .breaks = breaks,
                         .logits = (float *)(void *)(base + l.logits),
                         .keys = (uint64_t *)(void *)(base + l.keys),
                         .spare = (uint64_t *)(void *)(base + l.spare),
                         .list = {.logit = (float *)(void *)(base + l.list_logit),
                                  .p = (float *)(void *)(base + l.list_p),
                                  .id = (uint32_t *)(void *)(base + l.list_id)},
                         .score = (float *)(void *)(base + l.score),
                         .counts = (uint32_t *)(void *)(base + l.counts),
                         .runs = (uint32_t *)(void *)(base + l.runs)};
    memset(s->counts, 0, n_vocab * sizeof *s->counts);
    return s;
}

spark_status spark_sampler_create(spark_sampler **out, const spark_kern *kern, uint32_t n_vocab, uint32_t n_ctx,
                                  const uint8_t *breaks, spark_arena *a, spark_err *err)
{
    void *memory = NULL;
    SPARK_TRY(spark_arena_alloc(a, 1, spark_sampler_bytes(n_vocab, n_ctx), 64, &memory, err));
    *out = spark_sampler_place(memory, kern, n_vocab, n_ctx, breaks);
    return SPARK_SUCCESS;
}
