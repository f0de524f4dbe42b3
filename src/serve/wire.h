/* wire.h - frames between two processes of ours that do not trust each other.
 * Nouns:   a frame, length, type, stream, payload; spark_wire, one end: what came in, what goes out.
 * Promise: a frame is handed out whole, only if its type may come from that side, in the state the stream (or the link) is in, and is no
 *          longer than its maximum; anything else breaks the link for good, with the reason. Bytes only, no pointers, no descriptors.
 *          Memory is fixed at create; work is linear in bytes. A sender obeys credit: an engine sends a stream no more PIECE bytes than
 *          the other end granted, so a slow reader stops its own stream and no other.
 * The table of frames is in wire.c; ARCHITECTURE.md shows it. Not here: what payloads mean (ask.h, wire_messages.h); poll or loops. */
#ifndef SPARK_SERVE_WIRE_H
#define SPARK_SERVE_WIRE_H

#include <stdbool.h>

#include "base/bytes.h"

typedef struct spark_wire spark_wire;

typedef enum spark_wire_side {
    SPARK_WIRE_CLIENT, /* asks: warden or front */
    SPARK_WIRE_ENGINE, /* answers */
    SPARK_WIRE_N_SIDES
} spark_wire_side;

/* name, sender, where it is allowed, largest payload */
#define SPARK_WIRE_FRAMES(X)                                                                                           \
    X(CONFIG, CLIENT, LINK_NEW, 1u << 16)      /* once, first: what to open and how */                                 \
    X(PROGRESS, ENGINE, LINK_CONFIGURED, 16)   /* bytes loaded, in all */                                              \
    X(READY, ENGINE, LINK_CONFIGURED, 1u << 22) /* the model's description; the link is open for streams */              \
    X(BROKEN, ENGINE, LINK_ANY, 4096)          /* the model cannot be served: why. Nothing follows */                  \
    X(DRAIN, CLIENT, LINK_ANY, 0)              /* finish what runs, take no more, exit */                              \
    X(STATS, ENGINE, LINK_READY, 1024)         /* gauges, at most every 100 ms */                                      \
    X(ASK, CLIENT, STREAM_NEW, 4u << 20)       /* opens a stream: spark_ask */                                         \
    X(CANCEL, CLIENT, STREAM_OPEN, 0)                                                                                  \
    X(CREDIT, CLIENT, STREAM_OPEN, 4)          /* so many bytes more of PIECE and DATA */                              \
    X(STARTED, ENGINE, STREAM_OPEN, 64)                                                                                \
    X(PIECE, ENGINE, STREAM_STARTED, 1u << 17) /* text and token */                                                    \
    X(DATA, ENGINE, STREAM_OPEN, 1u << 16)     /* a part of an answer that is no generation: text or ids */            \
    X(FINISHED, ENGINE, STREAM_OPEN, 256)      /* closes the stream */                                                 \
    X(FAILED, ENGINE, STREAM_OPEN, 1024)       /* closes it with an error */

typedef enum spark_wire_type {
#define SPARK_WIRE_ENUM(name, from, where, max) SPARK_WIRE_##name,
    SPARK_WIRE_FRAMES(SPARK_WIRE_ENUM)
#undef SPARK_WIRE_ENUM
        SPARK_WIRE_N_TYPES
} spark_wire_type;

typedef struct spark_wire_frame {
    spark_wire_type type;
    uint64_t stream;     /* 0 for frames of the link */
    spark_bytes payload; /* borrowed until the next call */
} spark_wire_frame;

/* Most streams open at once on a link, and the credit each starts with. */
#define SPARK_WIRE_STREAMS 4096u
#define SPARK_WIRE_CREDIT  (64u << 10)

SPARK_MUST_CHECK spark_status spark_wire_create(spark_wire **out, spark_wire_side side, uint32_t max_streams, spark_err *err);
size_t spark_wire_bytes(spark_wire_side side, uint32_t max_streams); /* what create takes */
void spark_wire_destroy(spark_wire **w);

#endif
