/* control.h - the warden's link to the front: one message a packet, with descriptors where a kind has some.
 * The front believes the warden; the warden reads of the front nothing but the fixed head.
 * Order at start: SETTINGS, KEYS, TLS, LISTEN..., MODEL..., GO; the front answers UP. Later: MODEL, KEYS, DRAIN as things happen. */
#ifndef SPARK_SERVE_CONTROL_H
#define SPARK_SERVE_CONTROL_H

#include <stdbool.h>

#include "base/bytes.h"

typedef enum control_kind {
    /* from the warden */
    CONTROL_SETTINGS, /* text: the settings in the form of the configuration file */
    CONTROL_KEYS,     /* fd: the key file, for reading; arg 1: there is none. text: an error to be logged instead */
    CONTROL_TLS,      /* fds: certificate chain, private key, and perhaps the CA of clients */
    CONTROL_LISTEN,   /* fd: a listening socket; arg: CONTROL_LISTEN_ bits */
    CONTROL_MODEL,    /* arg: model; value: control_model_state; READY has the link as fd; text: why it failed */
    CONTROL_GO,       /* all is told: serve */
    CONTROL_JAIL,     /* text: JSON of what holds, for the page and metrics */
    CONTROL_DRAIN,
    /* from the front */
    CONTROL_UP,
    CONTROL_LOAD, /* arg: model that a request waits for */
    CONTROL_UNLOAD, /* arg: model that nobody asked for within its time, or that is LEAVING; nothing is sent to its engine any more */
    CONTROL_SWITCHED, /* arg: model; new requests go to the link of the last MODEL READY */
    CONTROL_USED,     /* arg: model that was asked for; value: when, on the monotonic clock. At most once a second */
    CONTROL_DRAINED,
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
