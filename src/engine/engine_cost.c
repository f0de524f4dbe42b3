/* engine_cost.c - how long a pass will take, learned from those that were made.
 *
 * Time is taken as linear in the pass itself, its decoding rows, its prompt rows, and the positions that each of them reads.
 * That is true only near where it was measured (few rows cost next to nothing while memory is the limit), and there it is
 * learned: each pass corrects the weights by its error, in proportion to what it consisted of (normalised least mean
 * squares), so a kind of pass that comes again is predicted well after three or four of it. */
#include "engine/engine_internal.h"

#define COST_STEP 0.4 /* share of an error that is corrected at once */
/* A pass that took longer than the prediction by more than this share of it was disturbed: it counts no more than that. */
#define COST_OUTLIER 1.0
/* Aimed at, of the target, as the scatter of passes should stay below it: at first; at least; how much lower after a pass
 * that took more than COST_LATE of the target, and how much higher after any other. So one pass in a hundred is late, as far
 * as aiming lower helps. */
#define COST_AIM        0.95
#define COST_AIM_LEAST  0.7
#define COST_LATE       1.1
#define COST_AIM_LOWER  0.02
#define COST_AIM_HIGHER (COST_AIM_LOWER / 99)
/* SPARK_ITL_AUTO: streams are slowed by prompts to this many times what they take alone. Below the half more that is
 * promised: a row at a great depth costs more than the average that is learned. */
#define COST_AUTO 1.4

enum { COST_TILE = 4 /* rows of a prompt are given in so many: kernels take them together */ };

static void cost_parts(const engine_mix *m, double part[COST_N])
{
    part[COST_PASS] = 1;
    part[COST_DECODE] = m->n_decode;
    part[COST_DECODE_DEPTH] = m->decode_depth / 1024;
    part[COST_PROMPT] = m->n_prompt;
    part[COST_PROMPT_DEPTH] = m->prompt_depth / 1024;
}

double spark__cost_of(const engine_cost *c, const engine_mix *m)
{
    double part[COST_N], sum = 0;
    cost_parts(m, part);
    for (int i = 0; i < COST_N; i++) sum += c->ns[i] * part[i];
    return sum;
}

uint32_t spark__cost_rows(const engine_cost *c, const engine_mix *m, uint32_t depth, double target_ns)
{
    const double aim = COST_AIM - c->below_aim, room = aim * target_ns - spark__cost_of(c, m);
    const double row = c->ns[COST_PROMPT] + c->ns[COST_PROMPT_DEPTH] * depth / 1024;
    if (!c->prompt_seen || room <= 0 || row <= 0)
        return m->n_prompt == 0 ? COST_TILE : 0; /* a prompt never stands still */
    const double n = room / row;
    if (n < (double)COST_TILE) return m->n_prompt == 0 ? COST_TILE : 0;
    return n > SPARK_MAX_BATCH ? SPARK_MAX_BATCH : (uint32_t)n / COST_TILE * COST_TILE;
}

double spark__cost_target(const engine_cost *c, const engine_mix *m, uint32_t target_us)
{
    if (target_us != SPARK_ITL_AUTO) return target_us * 1e3;
    const engine_mix alone = {.n_decode = m->n_decode, .decode_depth = m->decode_depth};
    return COST_AUTO * spark__cost_of(c, &alone);
}

void spark__cost_judge(engine_cost *c, double target_ns, uint64_t ns)
{
    c->below_aim += (double)ns > COST_LATE * target_ns ? COST_AIM_LOWER : -COST_AIM_HIGHER;
    if (c->below_aim < 0) c->below_aim = 0;
    if (c->below_aim > COST_AIM - COST_AIM_LEAST) c->below_aim = COST_AIM - COST_AIM_LEAST;
}

/* The first pass of a kind: all that is not explained belongs to its rows. */
static void cost_begin(engine_cost *c, const engine_mix *m, double ns)
{
    const double left = ns - spark__cost_of(c, m), rest = left > ns / 8 ? left : ns / 8;
    if (m->n_decode && !c->decode_seen) {
        const double share = m->n_prompt ? rest * m->n_decode / (m->n_decode + m->n_prompt) : rest;
        c->ns[COST_PASS] = share / 2;
        c->ns[COST_DECODE] = share / 2 / m->n_decode;
    }
    if (m->n_prompt && !c->prompt_seen) c->ns[COST_PROMPT] = rest / (m->n_prompt + (c->decode_seen ? 0 : m->n_decode));
    c->decode_seen |= m->n_decode > 0;
    c->prompt_seen |= m->n_prompt > 0;
}

void spark__cost_learn(engine_cost *c, const engine_mix *m, uint64_t ns)
{
    double part[COST_N], square = 0;
    if (ns == 0 || m->n_decode + m->n_prompt == 0) return; /* a clock that stands still tells nothing */
    if ((m->n_decode && !c->decode_seen) || (m->n_prompt && !c->prompt_seen)) {
        cost_begin(c, m, (double)ns);
        return;
    }
    const double expected = spark__cost_of(c, m);
    double error = (double)ns - expected;
    if (error > COST_OUTLIER * expected) error = COST_OUTLIER * expected;
    cost_parts(m, part);
    for (int i = 0; i < COST_N; i++) square += part[i] * part[i];
    for (int i = 0; i < COST_N; i++) {
        c->ns[i] += COST_STEP * error * part[i] / square;
        if (c->ns[i] < 0) c->ns[i] = 0;
    }
}

void spark__cost_learn_run(engine_cost *c, uint64_t ns)
{
    c->run_ns = c->run_ns == 0 ? (double)ns : c->run_ns + ((double)ns - c->run_ns) / 8;
}
