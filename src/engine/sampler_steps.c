/* sampler_steps.c - each step of the chain by itself, as llama.cpp's users know it. */
#include <float.h>
#include <string.h>

#include "engine/sampler_internal.h"

/* ---- On the logits ---- */

/* Keskar et al. 2019 for repeat; frequency and presence as in the OpenAI API. */
void spark__sampler_penalties(spark_sampler *s, const spark_sampling *p, const uint32_t *history, size_t n_history)
{
    const bool off = p->repeat_penalty == 1 && p->frequency_penalty == 0 && p->presence_penalty == 0;
    const size_t n = n_history < p->penalty_last_n ? n_history : p->penalty_last_n;
    if (off || n == 0) return;
    const uint32_t *last = history + (n_history - n);
    for (size_t i = 0; i < n; i++) s->counts[last[i]]++;
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = last[i], count = s->counts[id];
        if (count == 0) continue; /* done at its first occurrence */
        s->counts[id] = 0;
        float x = s->logits[id];
        x = x <= 0 ? x * p->repeat_penalty : x / p->repeat_penalty;
        s->logits[id] = x - (float)count * p->frequency_penalty - p->presence_penalty;
    }
}

/* runs[i] = how many tokens before the last i tokens equal the tokens at the end (the Z function of the reversed text). */
static void dry_runs(uint32_t *runs, const uint32_t *text, uint32_t n)
{
    uint32_t left = 0, right = 0; /* the match that reaches farthest: reversed positions [left, right) */
    runs[0] = n;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t z = i < right ? (runs[i - left] < right - i ? runs[i - left] : right - i) : 0;
        while (i + z < n && text[n - 1 - z] == text[n - 1 - i - z]) z++;
        runs[i] = z;
        if (i + z > right) {
            left = i;
            right = i + z;
        }
    }
}

static float dry_power(float base, uint32_t n)
{
    float x = 1;
    while (n-- > 0 && x < FLT_MAX / base) x *= base;
    return x;
}

/* "Don't repeat yourself" (p-e-w): the token that would go on a repetition of length >= allowed loses
 * multiplier * base^(length - allowed). A breaker token ends what counts as one repetition. */
void spark__sampler_dry(spark_sampler *s, const spark_sampling *p, const uint32_t *history, size_t n_history)
{
    const size_t n_last = n_history < p->dry_last_n ? n_history : p->dry_last_n;
    const uint32_t n = (uint32_t)(n_last < s->n_ctx ? n_last : s->n_ctx);
    if (p->dry_multiplier == 0 || n <= p->dry_allowed_length) return;
    const uint32_t *text = history + (n_history - n);
    uint32_t longest = 0;
    while (longest < n && !(s->breaks && s->breaks[text[n - 1 - longest]])) longest++;
    if (longest < p->dry_allowed_length) return;
    dry_runs(s->runs, text, n);
    for (uint32_t i = 1; i < n; i++) {
        const uint32_t length = s->runs[i] < longest ? s->runs[i] : longest, next = text[n - i];
        if (length >= p->dry_allowed_length && length + 1 > s->counts[next]) s->counts[next] = length + 1;
    }
    for (uint32_t i = 1; i < n; i++) {
        const uint32_t next = text[n - i], length = s->counts[next];
        if (length == 0) continue;
        s->counts[next] = 0;
        s->logits[next] -= p->dry_multiplier * dry_power(p->dry_base, length - 1 - p->dry_allowed_length);
    }
}

/* ---- On sorted candidates ---- */

void spark__list_softmax(const spark_sampler *s, sampler_list *l)
{
    memcpy(l->p, l->logit, l->n * sizeof *l->p);
    (void)s->kern->softmax(l->p, l->n);
}

/* -sum of p ln p, in order; p = 0 adds nothing. */
static float list_entropy(const sampler_list *l)
{
    float h = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if (l->p[i] > 0) h -= l->p[i] * spark_logf(l->p[i]);
    return h;
}

/* Keeps candidate i if keep[i]: marks are in score, nonzero = keep. The order stays. */
static void list_keep_marked(sampler_list *l, const float *mark)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if (mark[i] == 0) continue;
        l->logit[n] = l->logit[i];
        l->id[n++] = l->id[i];
    }
    l->n = n;
}

static void list_swap(uint32_t *order, uint32_t a, uint32_t b)
{
    const uint32_t swap = order[a];
    order[a] = order[b];
    order[b] = swap;
}

/* Whether candidate a comes after b in the order of scores; ties by place in the list. */
static bool list_after(const float *score, uint32_t a, uint32_t b)
{
    if (score[a] == score[b]) return a > b;
    return score[a] > score[b];
}

static void list_sift(uint32_t *order, const float *score, uint32_t i, uint32_t n)
{
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && list_after(score, order[child + 1], order[child])) child++;
        if (!list_after(score, order[child], order[i])) return;
        list_swap(order, i, child);
    }
}

/* Heap sort of order[0..n) by score, ascending: no recursion, no bad case. */
static void list_order(uint32_t *order, const float *score, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n / 2; i-- > 0;) list_sift(order, score, i, n);
    for (uint32_t end = n; end > 1;) {
        list_swap(order, 0, --end);
        list_sift(order, score, 0, end);
    }
}

/* Meister et al. 2022: the candidates whose surprise is nearest to the expected one, up to mass p. */
void spark__list_typical(spark_sampler *s, sampler_list *l, float p, uint32_t min_keep)
{
    if (p >= 1 || l->n == 0) return;
    spark__list_softmax(s, l);
    const float h = list_entropy(l);
    for (uint32_t i = 0; i < l->n; i++) {
        const float d = l->p[i] > 0 ? -spark_logf(l->p[i]) - h : FLT_MAX;
        s->score[i] = d < 0 ? -d : d;
    }
    uint32_t *order = (uint32_t *)s->spare; /* n_vocab 64-bit words: room for n_vocab ids */
    list_order(order, s->score, l->n);
    float sum = 0;
    uint32_t n = 0;
    while (n < l->n) {
        sum += l->p[order[n++]];
        if (sum > p && n >= min_keep) break;
    }
    for (uint32_t i = 0; i < l->n; i++) s->score[i] = 0;
    for (uint32_t i = 0; i < n; i++) s->score[order[i]] = 1;
    list_keep_marked(l, s->score);
}

/* Holtzman et al. 2020: the fewest first candidates with mass p. */
void spark__list_top_p(const spark_sampler *s, sampler_list *l, float p, uint32_t min_keep)
{
    if (p >= 1) return;
    spark__list_softmax(s, l);
    float sum = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        sum += l->p[i];
        if (sum >= p && i + 1 >= min_keep) {
            l->n = i + 1;
            return;
        }
    }
}

/* Nguyen et al. 2024: candidates at least p times as likely as the first. */
void spark__list_min_p(sampler_list *l, float p, uint32_t min_keep)
{
    if (p <= 0 || l->n == 0) return;
    const float floor = l->logit[0] + spark_logf(p);
    uint32_t n = 0;
    while (n < l->n && (n < min_keep || n == 0 || l->logit[n] >= floor)) n++;
    l->n = n;
}

/* "Exclude top choices" (p-e-w): with some probability drop all candidates above the threshold save the least of them. */
void spark__list_xtc(const spark_sampler *s, sampler_list *l, const spark_sampling *p, double uniform)
{
    if (p->xtc_probability <= 0 || p->xtc_threshold > 0.5f || l->n < 2 || uniform > (double)p->xtc_probability) return;
    spark__list_softmax(s, l);
    uint32_t last = 0;
    while (last + 1 < l->n && l->p[last + 1] >= p->xtc_threshold) last++;
    if (last == 0 || l->n - last < p->min_keep) return;
    memmove(l->logit, l->logit + last, (l->n - last) * sizeof *l->logit);
    memmove(l->id, l->id + last, (l->n - last) * sizeof *l->id);
    l->n -= last;
}

/* x^y for x in (0, 1]. */
static float list_power(float x, float y) { return x <= 0 ? 0 : spark_expf(y * spark_logf(x)); }

/* Logits / temperature; with a range, the temperature follows the entropy (dynamic temperature, kalomaze). */
void spark__list_temperature(const spark_sampler *s, sampler_list *l, const spark_sampling *p)
{
    float t = p->temperature;
    if (p->dynatemp_range > 0 && l->n > 1) {
        const float lo = t > p->dynatemp_range ? t - p->dynatemp_range : 0, hi = t + p->dynatemp_range;
        spark__list_softmax(s, l);
        const float share = list_entropy(l) / spark_logf((float)l->n);
        t = lo + (hi - lo) * list_power(share < 1 ? share : 1, p->dynatemp_exponent);
    }
    const float first = l->n ? l->logit[0] : 0, last = l->n ? l->logit[l->n - 1] : 0; /* sorted: the largest values */
    const float most = first > -last ? first : -last;
    if (t <= 0 || most > FLT_MAX * t) l->n = l->n ? 1 : 0; /* greedy, or so near that quotients would be infinite */
    for (uint32_t i = 0; i < l->n && l->n > 1; i++) l->logit[i] = l->logit[i] / t;
}
