/* engine_cell_internal.h - the state of an engine cell, shared by its start and loop (engine_cell.c), and its asks and
 * events (engine_cell_asks.c). */
#ifndef SPARK_SERVE_ENGINE_CELL_INTERNAL_H
#define SPARK_SERVE_ENGINE_CELL_INTERNAL_H

#include "api/api_internal.h"
#include "engine/engine.h"
#include "serve/ask.h"
#include "serve/cell_card.h"
#include "serve/cell_config.h"
#include "serve/cell_plan.h"
#include "serve/messages.h"

enum { CELL_WARDEN, CELL_FRONT, CELL_N_LINKS };
enum {
    CELL_FIRST_FD = 3,
    CELL_STATS_MS = 100,
    CELL_PULSE_MS = 500,                   /* how often the warden hears of a pass that takes long */
    CELL_ROOM = SPARK_WIRE_ASK_MAX + 4096, /* in the line out before an ask is looked at: the largest answer at once */
};

typedef struct cell_link {
    int fd;    /* -1: not open */
    bool used; /* something was asked: a greeting that nobody takes keeps nobody waiting */
    bool more; /* frames may be there that were not looked at, for want of room */
    spark_wire *wire;
} cell_link;

/* What the end of a stream needs to tell, by slot. */
typedef struct cell_stream {
    uint32_t n_prompt, n_cached;
    uint64_t took_ns; /* from the wire */
    bool held;
} cell_stream;

typedef struct engine_cell {
    cell_config config;
    spark_pool *pool;
    spark_model *model;
    spark_engine *engine;
    spark_arena *scratch; /* the text of one ask at a time */
    uint32_t n_ctx;
    uint32_t *public_ids, n_public; /* how prompts begin that all tenants share */
    cell_link links[CELL_N_LINKS];
    cell_stream *streams; /* [SPARK_WIRE_STREAMS], of the front; the warden asks nothing */
    uint32_t next_front;  /* how many links of fronts were used up */
    uint8_t *ready;       /* payload of READY */
    size_t ready_len;
    spark_piece_message piece;
    uint8_t piece_head[SPARK_PIECE_HEAD_MAX];
    uint64_t next_stats_ns, next_pulse_ns;
    bool stats_due;             /* something changed since the last STATS */
    bool draining, events_wait; /* events_wait: the engine has events that a line out had no room for */
} engine_cell;

/* Requests are known to the engine by stream and link: slots take 12 bits, the link stands above them. */
static inline uint64_t cell_request_id(uint32_t link, uint64_t stream) { return stream | (uint64_t)link << 31; }
static inline uint32_t cell_request_link(uint64_t id) { return (uint32_t)(id >> 31) & 1; }
static inline uint64_t cell_request_stream(uint64_t id) { return id & ~((uint64_t)1 << 31); }

/* Reads the operator's system prompt and finds how a prompt with it begins (engine_cell_public.c). */
SPARK_MUST_CHECK spark_status cell_read_public(engine_cell *c, int fd, spark_err *err);
/* How many tokens of a prompt are public. */
uint32_t cell_public_length(const engine_cell *c, const uint32_t *ids, uint32_t n);

/* Answers an ASK, or gives it to the engine; a failure goes to the stream. */
void cell_take_ask(engine_cell *c, uint32_t link, const spark_wire_frame *f);
/* Passes the engine's events on while there is room; c->events_wait tells that some are left. */
void cell_pass_events(engine_cell *c);

#endif
