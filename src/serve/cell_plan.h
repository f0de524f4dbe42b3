/* cell_plan.h - the memory sum of the service, known before anything of it is taken.
 * Nouns:   cell_memory, the sum of one engine; cell_plan, how an engine will be made, and the sums of its least and its most; a share,
 *          what one engine gets of the budget.
 * Promise: `spark plan`, the engine and the warden use these functions and no others, so what is printed is what is kept.
 * Not here: taking memory (engine_cell.c), deciding when (warden_cells.c). */
#ifndef SPARK_SERVE_CELL_PLAN_H
#define SPARK_SERVE_CELL_PLAN_H

#include "api/api_internal.h"
#include "engine/engine.h"
#include "serve/cell_config.h"
#include "serve/config.h"

/* Of one engine, in bytes; `planned` is what it takes at most, also while it loads. */
#define CELL_MEMORY_PARTS(X)                                                                                           \
    X(weights, "weights")                                                                                              \
    X(kv, "keys and values")                                                                                           \
    X(compute, "scratch of computing")                                                                                 \
    X(requests, "requests")                                                                                            \
    X(text, "text")                                                                                                    \
    X(vocabulary, "vocabulary")                                                                                        \
    X(links, "links")                                                                                                  \
    X(program, "program")
#define CELL_MEMORY_FACTS(X) X(planned, "") X(loading, "") X(n_ctx, "") X(n_running, "") X(n_pages, "") X(n_threads, "")

typedef struct cell_memory {
#define CELL_MEMORY_FIELD(name, words) uint64_t name;
    CELL_MEMORY_FACTS(CELL_MEMORY_FIELD)
    CELL_MEMORY_PARTS(CELL_MEMORY_FIELD)
#undef CELL_MEMORY_FIELD
} cell_memory;

/* Before the JSON of READY, which the warden does not parse: every field as 64 bits. */
enum { CELL_MEMORY_BYTES = sizeof(cell_memory) };
void cell_memory_put(uint8_t out[CELL_MEMORY_BYTES], const cell_memory *m);
cell_memory cell_memory_get(const uint8_t in[CELL_MEMORY_BYTES]);
/* How many requests of the whole context the pages hold at once. */
static inline uint64_t cell_memory_contexts(const cell_memory *m)
{
    const uint64_t one = (m->n_ctx + 127) / 128;
    return one ? m->n_pages / one : 0;
}
/* "1.23 GiB = 0.41 weights + ..." for people, into buf. */
enum { CELL_MEMORY_TEXT = 320 };
const char *cell_memory_text(const cell_memory *m, char buf[CELL_MEMORY_TEXT]);

typedef struct cell_plan {
    spark_engine_options engine;
    size_t text;             /* bytes that the text of one request may take at a time */
    cell_memory least, most; /* pages for one whole context; for all requests that run */
    cell_memory memory;      /* with the pages of `engine` */
} cell_plan;

/* The settings of an engine as the warden tells it (links and files are the warden's to add). */
void cell_config_of(cell_config *out, const spark_config *c, const spark_config_model *m);
/* What an engine with these settings takes; the model is open, its weights need not be loaded. memory = most. */
SPARK_MUST_CHECK spark_status cell_plan_make(cell_plan *out, const cell_config *c, const spark_model *m,
                                             spark_err *err);
/* Takes as many pages as fit `budget` bytes. E_MEMORY with the sum if not even the least does. */
SPARK_MUST_CHECK spark_status cell_plan_fit(cell_plan *p, const cell_config *c, const spark_model *m, uint64_t budget,
                                            spark_err *err);

/* Divides `left` bytes: everybody's least first, in the order given; what remains in proportion to what each lacks of its most. Who does not
 * even get his least is given all that was left then, which tells him what is missing. */
typedef struct cell_wish {
    uint64_t least, most, granted;
} cell_wish;
void cell_share(cell_wish *w, uint32_t n, uint64_t left);

/* Bytes of each prompt, and of each answer, that --log-prompts logs; an answer is kept until it ends. */
enum { CELL_LOG_TEXT = 16 << 10 };

/* Front and warden. */
typedef struct cell_front {
    uint64_t wish;    /* what they take when every limit of the settings is reached */
    uint64_t planned; /* that, or under a budget at most an eighth of it, but enough for a few hundred clients */
    uint64_t replies; /* of it for all replies: max_replies, but never more than a part of what is planned */
} cell_front;
cell_front cell_front_plan(const spark_config *c);
/* What the front keeps at most of a body once it is parsed. */
uint64_t cell_copy_most(const spark_config *c);

/* Addresses that a process maps beside its plan: the program, thread stacks, what malloc keeps for each thread. For RLIMIT_AS. */
uint64_t cell_address_slack(uint32_t n_threads);

#endif
