/* wire.h - frames between two processes of ours that do not trust each other.
 * Nouns:   a frame, type, stream and payload; a stream, one request, opened by ASK and closed by FINISHED or FAILED; spark_wire, one end.
 * Promise: a frame is handed out whole, and only if its type may come from that side in the state that link and stream are in,
 *          with a payload within its bounds; anything else breaks the link for good, with the reason. Bytes only: no pointers, no
 *          descriptors. Memory is fixed at create; work is linear in bytes. An engine sends a stream no more than it has credit
 *          for, so a slow reader stops its own stream and no other.
 * Frame:   u32 payload bytes, u16 type, u16 zero, u64 stream; little endian; then the payload.
 * Streams: the client names them slot + generation << 32; a slot's generation grows with each use, so a frame that crosses
 *          the end of its stream is known for what it is.
 * Not here: what payloads mean (ask.h, messages.h), descriptors' readiness. Threads: one caller. */
#ifndef SPARK_SERVE_WIRE_H
#define SPARK_SERVE_WIRE_H

#include <stdbool.h>

#include "base/bytes.h"

typedef struct spark_wire spark_wire;

typedef enum spark_wire_side {
    SPARK_WIRE_CLIENT, /* asks: the warden, or the front */
    SPARK_WIRE_ENGINE, /* answers */
    SPARK_WIRE_N_SIDES
} spark_wire_side;

/* When a frame may come: of a link, or of a stream. */
typedef enum spark_wire_when {
    SPARK_WIRE_LINK_NEW,        /* nothing has been said */
    SPARK_WIRE_LINK_CONFIGURED, /* CONFIG was, READY was not */
    SPARK_WIRE_LINK_READY,
    SPARK_WIRE_LINK_ANY,
    SPARK_WIRE_STREAM_NEW,
    SPARK_WIRE_STREAM_OPEN, /* from ASK to FINISHED or FAILED */
} spark_wire_when;

enum {
    SPARK_WIRE_STREAMS = 4096,     /* open at once on one link, at most */
    SPARK_WIRE_FIRST_CREDIT = 128, /* bytes that a new stream may be sent; the client grants more if it can take more */
    SPARK_WIRE_HEAD = 16,          /* bytes before a payload */
    SPARK_WIRE_ASK_MAX = 4 << 20,  /* one request: the longest context in use takes about 1 MiB of text */
    SPARK_WIRE_PIECE_MAX = 132 << 10,                /* a token of 64 KiB, and the texts of 64 logprobs */
    SPARK_WIRE_OVERDRAFT = 2 * SPARK_WIRE_PIECE_MAX, /* what one step of the engine may add once credit is used up */
};

/* name, sender, when, least and largest payload */
#define SPARK_WIRE_FRAMES(X)                                                                                           \
    X(CONFIG, CLIENT, LINK_NEW, 2, 64 << 10)     /* what to open and how, JSON */                                      \
    X(PROGRESS, ENGINE, LINK_CONFIGURED, 16, 16) /* bytes of weights loaded, and of all */                             \
    X(READY, ENGINE, LINK_CONFIGURED, 112,                                                                             \
      4 << 20)                             /* memory, and the model described; the link is open for streams */         \
    X(BROKEN, ENGINE, LINK_ANY, 16, 1024)  /* the model cannot be served, and why; nothing follows */                  \
    X(DRAIN, CLIENT, LINK_ANY, 0, 0)       /* finish what runs, take no more, exit */                                  \
    X(STATS, ENGINE, LINK_READY, 160, 160) /* gauges, every 100 ms, while something changes */                         \
    X(ASK, CLIENT, STREAM_NEW, 8, SPARK_WIRE_ASK_MAX)                                                                  \
    X(CANCEL, CLIENT, STREAM_OPEN, 0, 0)                                                                               \
    X(CREDIT, CLIENT, STREAM_OPEN, 4, 4) /* so many bytes more */                                                      \
    X(STARTED, ENGINE, STREAM_OPEN, 16, 16)                                                                            \
    X(PIECE, ENGINE, STREAM_OPEN, 4, SPARK_WIRE_PIECE_MAX)                                                             \
    X(DATA, ENGINE, STREAM_OPEN, 0,                                                                                    \
      SPARK_WIRE_ASK_MAX) /* an answer that is not generated: text, or ids; once, needs no credit */                   \
    X(FINISHED, ENGINE, STREAM_OPEN, 40, 40) /* closes the stream */                                                   \
    X(FAILED, ENGINE, STREAM_OPEN, 16, 1024) /* closes it: why */                                                      \
    X(PLAN, ENGINE, LINK_CONFIGURED, 16,                                                                               \
      16) /* under a budget: bytes that the engine needs at least, and takes at most */                                \
    X(GRANT, CLIENT, LINK_CONFIGURED, 8, 8) /* bytes that it may take */                                               \
    X(PING, CLIENT, LINK_READY, 0, 0)       /* of the warden: are you there? */                                        \
    X(PONG, ENGINE, LINK_READY, 0, 0)       /* I am; also now and then during a long pass */

typedef enum spark_wire_type {
#define SPARK_WIRE_ENUM(name, from, when, min, max) SPARK_WIRE_##name,
    SPARK_WIRE_FRAMES(SPARK_WIRE_ENUM)
#undef SPARK_WIRE_ENUM
        SPARK_WIRE_N_TYPES
} spark_wire_type;

typedef struct spark_wire_frame {
    spark_wire_type type;
    uint64_t stream;     /* 0 for frames of the link */
    spark_bytes payload; /* borrowed until the next call */
} spark_wire_frame;

/* One end of a link for at most n_streams streams (to SPARK_WIRE_STREAMS; 0: none is ever opened, and no frame
 * is larger than 64 KiB). `configured`: a second link to an engine, which
 * knows its configuration from the first and begins with READY. */
SPARK_MUST_CHECK spark_status spark_wire_create(spark_wire **out, spark_wire_side side, uint32_t n_streams,
                                                bool configured, spark_err *err);
void spark_wire_reset(spark_wire *w);                              /* as created, for another link */
size_t spark_wire_bytes(spark_wire_side side, uint32_t n_streams); /* that create takes, for the plan */
void spark_wire_destroy(spark_wire **w);

/* ---- In ---- */

/* Reads once what a non-blocking descriptor has. *closed: the other end is gone. E_IO if it cannot be read. */
SPARK_MUST_CHECK spark_status spark_wire_read(spark_wire *w, int fd, bool *closed, spark_err *err);
/* The same from memory; takes what fits and returns how much (tests, fuzzing). */
size_t spark_wire_feed(spark_wire *w, spark_bytes in);
/* The next whole frame; *has false: more bytes are needed. E_FORMAT breaks the link: every later call fails so too. Frames that
 * crossed the end of their stream (CANCEL, CREDIT) are passed over. */
SPARK_MUST_CHECK spark_status spark_wire_next(spark_wire *w, spark_wire_frame *out, bool *has, spark_err *err);

/* ---- Out ---- */

/* A new stream's name, for ASK (client). E_LIMIT: all are in use. It is open once its ASK is put. */
SPARK_MUST_CHECK spark_status spark_wire_open(spark_wire *w, uint64_t *stream, spark_err *err);
/* Puts a frame of up to two parts in line. E_LIMIT: there is no room now, nothing was put. The rules of the table are
 * asserted: breaking them is our own mistake. PIECE may be put while credit is above -SPARK_WIRE_OVERDRAFT; whoever sends stops making
 * more once it is 0. */
SPARK_MUST_CHECK spark_status spark_wire_put(spark_wire *w, spark_wire_type type, uint64_t stream, spark_bytes head,
                                             spark_bytes tail, spark_err *err);
size_t spark_wire_room(const spark_wire *w);    /* payload bytes that put takes now */
size_t spark_wire_pending(const spark_wire *w); /* bytes that wait to be written */
/* Writes once as much as a non-blocking descriptor takes. E_IO: the other end is gone. */
SPARK_MUST_CHECK spark_status spark_wire_write(spark_wire *w, int fd, spark_err *err);
spark_bytes spark_wire_peek(const spark_wire *w); /* what waits, in one run (tests) */
void spark_wire_wrote(spark_wire *w, size_t n);   /* so much of it is gone */

/* ---- Streams ---- */

bool spark_wire_is_open(const spark_wire *w, uint64_t stream);
int64_t spark_wire_credit(const spark_wire *w, uint64_t stream); /* what the engine may still send; below 1: nothing */
uint32_t spark_wire_n_open(const spark_wire *w);
static inline uint32_t spark_wire_slot(uint64_t stream) { return (uint32_t)stream; } /* below n_streams */
/* Walks the open streams: the next one whose slot is >= *slot, which moves on; false: no more. */
bool spark_wire_next_open(const spark_wire *w, uint32_t *slot, uint64_t *stream);

#endif
