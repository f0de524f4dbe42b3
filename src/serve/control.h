/* control.h - the warden's link to the front: one message a packet, with descriptors where a kind has some.
 * The front believes the warden; the warden reads of the front nothing but the fixed head.
 * Order at start: SETTINGS, KEYS, TLS, LISTEN..., MODEL..., GO; the front answers UP, which says TAKEN, too. Later: MODEL, KEYS, TLS, DRAIN as things happen.
 * Engines have numbers, so that what crosses the end of one is not taken for a word on the next. */
#ifndef SPARK_SERVE_CONTROL_H
#define SPARK_SERVE_CONTROL_H

#include <stdbool.h>

#include "base/bytes.h"

typedef enum control_kind {
    /* from the warden */
    CONTROL_SETTINGS, /* text: the settings in the form of the configuration file */
    /* fds: the key file; certificate chain, private key, and perhaps the CA of clients. After the start answered with TAKEN; or without fds and
     * arg CONTROL_UNREAD: they could not be read, what was there before counts on */
    CONTROL_KEYS,
    CONTROL_TLS,
    CONTROL_LISTEN, /* fd: a listening socket; arg: CONTROL_LISTEN_ bits */
    CONTROL_MODEL,  /* arg: model; value: control_model_value; READY has the link as fd; text: why it failed */
    CONTROL_GO,     /* all is told: serve */
    CONTROL_JAIL,   /* text: JSON of what holds, for the page and metrics */
    CONTROL_DRAIN,
    CONTROL_PING,      /* answered with PONG */
    CONTROL_RESTARTED, /* arg: model, or CONTROL_THE_FRONT; value: how often it ended by itself and was started again */
    CONTROL_RESIDENT,  /* arg: as before; value: bytes of memory that its processes have */
    /* from the front */
    CONTROL_UP,
    CONTROL_TAKEN, /* arg: KEYS or TLS; value 1: what came last holds from now on, 0: it cannot be used */
    CONTROL_LOAD,  /* arg: model that a request waits for */
    CONTROL_UNLOAD, /* arg: model that nobody asked for within its time, or that is LEAVING; nothing is sent to its engine any more */
    CONTROL_SWITCHED, /* arg: model; value: engine. New requests go to it */
    CONTROL_REFUSED, /* arg: model; value: engine, with CONTROL_CLOSED if its link is closed; else what it says is of no use */
    CONTROL_RELEASED, /* arg: model; value: engine. Nobody waits for it any more, nor will */
    CONTROL_USED,     /* arg: model that was asked for; value: when, on the monotonic clock. At most once a second */
    CONTROL_DRAINED,
    CONTROL_PONG,
    CONTROL_N_KINDS
} control_kind;

enum {
    CONTROL_LISTEN_UNIX = 1,
    CONTROL_LISTEN_TLS = 2,
    CONTROL_LISTEN_PROXY = 4,
    CONTROL_LISTEN_OPEN = 8 /* no key asked */
};
typedef enum control_model_state {
    CONTROL_MODEL_ABSENT,
    CONTROL_MODEL_LOADING,
    CONTROL_MODEL_READY,
    CONTROL_MODEL_FAILED,
    CONTROL_MODEL_LEAVING /* its memory is wanted: send it no more, and answer with UNLOAD; then its engine is told to go */
} control_model_state;

#define CONTROL_THE_FRONT UINT32_MAX
enum { CONTROL_UNREAD = 1, CONTROL_FILE_MAX = 16 << 20 /* bytes of a file of secrets */ };
#define CONTROL_CLOSED ((uint64_t)1 << 32)

/* The value of MODEL: the state, and the number of the engine that is READY. */
static inline uint64_t control_model_value(control_model_state s, uint32_t engine)
{
    return (uint64_t)s | (uint64_t)engine << 32;
}
static inline control_model_state control_model_state_of(uint64_t value)
{
    return (control_model_state)(uint32_t)value;
}
static inline uint32_t control_model_engine(uint64_t value) { return (uint32_t)(value >> 32); }

enum {
    CONTROL_HEAD = 16,
    CONTROL_TEXT_MAX = 160 << 10,
    CONTROL_FDS_MAX = 4,
    CONTROL_PATIENCE_MS = 5000 /* for an other end that does not read */
};

typedef struct control_message {
    control_kind kind;
    uint32_t arg;
    uint64_t value;
    spark_bytes text;
    int fds[CONTROL_FDS_MAX];
    uint32_t n_fds;
} control_message;

/* A connected pair, close-on-exec; [1] is the front's. */
SPARK_MUST_CHECK spark_status control_pair(int fds[2], spark_err *err);
/* Sends one message, waiting while the other end is full, but not for ever: E_IO. Descriptors stay the caller's. */
SPARK_MUST_CHECK spark_status control_send(int fd, const control_message *m, spark_err *err);
/* Receives one message into buf (CONTROL_HEAD + CONTROL_TEXT_MAX); text is borrowed from it, fds are the caller's from now on. *has false:
 * none is there now; *closed: the other end is gone. */
SPARK_MUST_CHECK spark_status control_receive(int fd, uint8_t *buf, control_message *out, bool *has, bool *closed,
                                              spark_err *err);

#endif
