/* engine_cost.c - how long a pass will take, learned from those that were made.
 *
 * Time is taken as linear in the pass itself, its decoding rows, its prompt rows, and the positions that each of them reads.
 * That is true only near where it was measured (few rows cost next to nothing while memory is the limit), and there it is
 * learned: each pass corrects the weights by its error, in proportion to what it consisted of (normalised least mean
 * squares), so a kind of pass that comes again is predicted well after three or four of it. What streams take alone is the
 * measure of how much prompts may slow them, and passes with both tell only the sum: those teach what prompt rows take, and
 * now and then a pass without prompts looks at the rest.
 *
 * How long those wait who come is extrapolated, often from passes of few rows to whole batches, and errors there only cost
 * time while here they refuse. So it has an estimate of its own: a line through the passes with prompts, by least squares
 * that forget, and where they are too alike to draw one, a pass counts as much as COST_FEW rows. */
#include "engine/engine_internal.h"

#define COST_STEP 0.4 /* share of an error that is corrected at once */
/* A pass that took longer than the prediction by more than this share of it was disturbed: it counts no more than that. */
#define COST_OUTLIER 1.0
/* Aimed at, of the target, as the scatter of passes should stay below it: at first; at least; how much lower after a pass
 * that took more than COST_LATE of the target, and how much higher after any other. So one pass in a hundred is late, as far
 * as aiming lower helps. */
#define COST_AIM        0.95
#define COST_AIM_LEAST  0.7
#define COST_LATE       1.05 /* who reads the tokens sees some more: a tenth is what --itl-target may be off */
#define COST_AIM_LOWER  0.02
#define COST_AIM_HIGHER (COST_AIM_LOWER / 99)
/* SPARK_ITL_AUTO: streams are slowed by prompts to this many times what they take alone; COST_AIM of it is what they see, so
 * that the half more that is promised has room for scatter: a row at a great depth costs more than the average that is learned,
 * and COST_TILE of them come in any case. */
#define COST_AUTO 1.45
/* Of passes with prompts: the share of the past that each leaves; and one that took more than so many times as long as
 * predicted counts as if it had taken that: it was disturbed. */
#define COST_KEEP  (31.0 / 32)
#define COST_ODDLY 4.0
#define COST_FEW   16.0 /* rows that take about as long as the pass itself: weights are read once for all of them */

enum {
    COST_TILE = 2,       /* rows of a prompt are given in so many: kernels take them together */
    COST_LOOK = 64,      /* passes with streams and prompts, at most, between two of streams alone; fewer, down to */
    COST_LOOK_LEAST = 4, /* so many, after one that took more than a sixteenth more or less than was expected */
    COST_ENOUGH = 8,     /* passes with prompts, before anybody is refused by what they took */
    COST_SURE = 16       /* and so many at most are remembered, so that doubts can end it */
};

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

double spark__cost_target(const engine_cost *c, const engine_mix *m, uint32_t target_us)
{
    if (target_us != SPARK_ITL_AUTO) return target_us * 1e3;
    const engine_mix alone = {.n_decode = m->n_decode, .decode_depth = m->decode_depth};
    return COST_AUTO * spark__cost_of(c, &alone);
}

/* Down to whole tiles for the operator's target, which is a bound; to the nearest for the engine's own, which is a mean. */
uint32_t spark__cost_rows(const engine_cost *c, const engine_mix *m, uint32_t depth, uint32_t target_us)
{
    const double aim = (COST_AIM - c->below_aim) * spark__cost_target(c, m, target_us),
                 room = aim - spark__cost_of(c, m);
    const double row = c->ns[COST_PROMPT] + c->ns[COST_PROMPT_DEPTH] * depth / 1024;
    const uint32_t least = m->n_prompt == 0 ? COST_TILE : 0; /* a prompt never stands still */
    if (!c->prompt_seen || room <= 0 || row <= 0) return least;
    const double n = room / row + (target_us == SPARK_ITL_AUTO ? 0.5 * (double)COST_TILE : 0);
    if (n < (double)COST_TILE) return least;
    return n > SPARK_MAX_BATCH ? SPARK_MAX_BATCH : (uint32_t)n / COST_TILE * COST_TILE;
}

void spark__cost_judge(engine_cost *c, double target_ns, uint64_t ns)
{
    c->below_aim += (double)ns > COST_LATE * target_ns ? COST_AIM_LOWER : -COST_AIM_HIGHER;
    if (c->below_aim < 0) c->below_aim = 0;
    if (c->below_aim > COST_AIM - COST_AIM_LEAST) c->below_aim = COST_AIM - COST_AIM_LEAST;
}

bool spark__cost_look(engine_cost *c)
{
    if (c->n_mixed < (c->look ? c->look : COST_LOOK_LEAST)) return false;
    c->n_mixed = 0; /* whatever comes of it: prompts that must not wait may join */
    return true;
}

/* A pass of streams alone: how soon to look again. */
static void cost_looked(engine_cost *c, double expected, double error)
{
    const uint32_t twice = 2 * (c->look ? c->look : COST_LOOK_LEAST);
    const bool well = error < expected / 16 && error > -expected / 16;
    c->look = !well ? COST_LOOK_LEAST : twice < COST_LOOK ? twice : COST_LOOK;
    c->n_mixed = 0;
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

void spark__cost_prompts(const engine_cost *c, double *pass_ns, double *row_ns)
{
    *pass_ns = *row_ns = 0;
    if (c->sum_1 <= 0) return;
    /* Least of sum((t - pass - row * n)^2) + (pass - COST_FEW * row)^2: the last, so that there is always one. */
    const double a = c->sum_1 + 1, b = c->sum_n - COST_FEW, d = c->sum_nn + COST_FEW * COST_FEW;
    const double det = a * d - b * b;
    const double pass = (d * c->sum_t - b * c->sum_nt) / det, row = (a * c->sum_nt - b * c->sum_t) / det;
    if (row < 0)
        *pass_ns = c->sum_t / c->sum_1;
    else if (pass < 0)
        *row_ns = c->sum_nt / c->sum_nn;
    else {
        *pass_ns = pass;
        *row_ns = row;
    }
}

bool spark__cost_is_sure(const engine_cost *c) { return c->n_taught >= COST_ENOUGH; }

void spark__cost_doubt(engine_cost *c)
{
    if (c->n_taught > 0) c->n_taught--;
}

/* Decoding rows of such a pass count like its others. */
static void cost_learn_prompts(engine_cost *c, const engine_mix *m, double ns)
{
    const double n = (double)m->n_decode + m->n_prompt;
    double pass = 0, row = 0;
    spark__cost_prompts(c, &pass, &row);
    const double most = COST_ODDLY * (pass + row * n);
    if (spark__cost_is_sure(c) && ns > most) ns = most;
    c->sum_1 = COST_KEEP * c->sum_1 + 1;
    c->sum_n = COST_KEEP * c->sum_n + n;
    c->sum_nn = COST_KEEP * c->sum_nn + n * n;
    c->sum_t = COST_KEEP * c->sum_t + ns;
    c->sum_nt = COST_KEEP * c->sum_nt + ns * n;
    if (c->n_taught < COST_SURE) c->n_taught++;
}

/* What short prompts tell of depth is mostly noise, and all that a row costs must not end up there: they would begin with rows that
 * seem to cost nothing. 1,024 positions before it cost a row less than its products in every model that is more than a toy, so as much
 * is the bound; what such a pass takes stays as it was learned. */
static void cost_divide(engine_cost *c, const double part[COST_N])
{
    const double rows = part[COST_PROMPT], depth = part[COST_PROMPT_DEPTH];
    if (rows <= 0 || c->ns[COST_PROMPT_DEPTH] <= c->ns[COST_PROMPT]) return;
    c->ns[COST_PROMPT] = c->ns[COST_PROMPT_DEPTH] = (c->ns[COST_PROMPT] * rows + c->ns[COST_PROMPT_DEPTH] * depth) /
                                                    (rows + depth);
}

void spark__cost_learn(engine_cost *c, const engine_mix *m, uint64_t ns)
{
    double part[COST_N], square = 0;
    if (ns == 0 || m->n_decode + m->n_prompt == 0) return; /* a clock that stands still tells nothing */
    const bool cold = !c->warm;
    c->warm = true;
    if (cold) return;
    const bool both = m->n_decode && m->n_prompt;
    c->n_mixed += both;
    if (m->n_prompt) cost_learn_prompts(c, m, (double)ns);
    if ((m->n_decode && !c->decode_seen) || (m->n_prompt && !c->prompt_seen)) {
        cost_begin(c, m, (double)ns);
        return;
    }
    const double expected = spark__cost_of(c, m);
    double error = (double)ns - expected;
    if (m->n_prompt == 0) cost_looked(c, expected, error);
    if (error > COST_OUTLIER * expected) error = COST_OUTLIER * expected;
    cost_parts(m, part);
    const int first = both ? COST_PROMPT : COST_PASS;
    for (int i = first; i < COST_N; i++) square += part[i] * part[i];
    for (int i = first; i < COST_N; i++) {
        c->ns[i] += COST_STEP * error * part[i] / square;
        if (c->ns[i] < 0) c->ns[i] = 0;
    }
    cost_divide(c, part);
}

void spark__cost_learn_run(engine_cost *c, uint64_t ns)
{
    c->run_ns = c->run_ns == 0 ? (double)ns : c->run_ns + ((double)ns - c->run_ns) / 8;
}
