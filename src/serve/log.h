/* log.h - what happened, one line an event, on a descriptor that may be slow.
 * Nouns:   spark_log, one writer; spark_log_line, an event being put together.
 * Promise: a line is whole or absent, at most SPARK_LOG_LINE bytes, and holds no byte that could be taken for another line or for a
 *          terminal's command. Writing never waits: what the reader does not take is dropped, counted, and told of later. Texts of prompts and
 *          answers go through spark_log_private, which writes them only if the operator said so; nothing else may be given them.
 * Form:    JSON (one object a line): "ts" (RFC 3339, UTC, milliseconds), "level", "event", then fields in the order they were put;
 *          "cut": true if fields did not fit or were shortened; "repeats": N if N events of that name were held back. Or text for a terminal:
 *          time, level, event, name=value.
 * Threads: one. Not here: who opens descriptors. A cell gets its log as descriptor 2, made by spark_log_nonblocking in the warden. */
#ifndef SPARK_SERVE_LOG_H
#define SPARK_SERVE_LOG_H

#include <stdbool.h>

#include "base/bytes.h"

enum {
    SPARK_LOG_LINE = 4096,
    SPARK_LOG_TEXT = 512,
    SPARK_LOG_PRIVATE = 2048
}; /* bytes of a line, of a field, of a private field; a pipe
                                                                                  takes 4096 (PIPE_BUF) whole */

typedef enum spark_log_level { SPARK_LOG_ERROR, SPARK_LOG_WARN, SPARK_LOG_INFO, SPARK_LOG_DEBUG } spark_log_level;
typedef enum spark_log_format {
    SPARK_LOG_AUTO,
    SPARK_LOG_JSON,
    SPARK_LOG_READABLE
} spark_log_format; /* as the choices of config.h */

typedef struct spark_log spark_log;
typedef struct spark_log_clock {
    uint64_t ns; /* monotonic, for rates */
    int64_t s;   /* since 1970 */
    int32_t ms;
} spark_log_clock;

typedef struct spark_log_options {
    int fd; /* borrowed */
    spark_log_level level;
    spark_log_format format;
    bool prompts;
    const char *cell;             /* a field of every line; NULL = none */
    spark_log_clock (*now)(void); /* NULL = the system's */
} spark_log_options;

SPARK_MUST_CHECK spark_status spark_log_create(spark_log **out, const spark_log_options *o, spark_err *err);
void spark_log_destroy(spark_log **l);
bool spark_log_on(const spark_log *l, spark_log_level level);
uint64_t spark_log_dropped(const spark_log *l); /* lines that nobody took, since create */

/* A descriptor of the same file that does not block, whoever else has it: a pipe or terminal is opened anew, so that the flag is ours alone; a
 * socket (the journal) is set; a file needs nothing. Opens /proc/self/fd: for the warden, before any door. Returns fd itself if there
 * is no better; the caller closes it if it is another. */
int spark_log_nonblocking(int fd);

/* ---- Lines: begin, fields, end. With l NULL or the level off nothing happens. Names of events and fields are ours: a-z 0-9 _ ---- */

void spark_log_begin(spark_log *l, spark_log_level level, const char *event);
/* The same for what an outsider can cause at will: of one event 20 lines at once and then 5 a second; the rest is counted. */
void spark_log_begin_limited(spark_log *l, spark_log_level level, const char *event);
void spark_log_text(spark_log *l, const char *name, const char *value); /* NULL = the field is left out */
void spark_log_bytes(spark_log *l, const char *name, spark_bytes value);
void spark_log_u64(spark_log *l, const char *name, uint64_t value);
void spark_log_i64(spark_log *l, const char *name, int64_t value);
void spark_log_ms(spark_log *l, const char *name, uint64_t ns); /* as milliseconds with three digits */
/* Whether texts of prompts and answers are written at all, and with them the lines that hold them (of the level info). */
bool spark_log_takes_private(const spark_log *l);
/* As much of a text as a field takes, at most SPARK_LOG_PRIVATE bytes as written, whole characters; returns how many bytes of `value` those
 * are (of any text at least one), 0 if nothing was written. The rest goes on a next line, or spark_log_cut tells that there is more. */
size_t spark_log_private(spark_log *l, const char *name, spark_bytes value);
void spark_log_cut(spark_log *l);
void spark_log_end(spark_log *l);

/* The usual line of the warden and the front: what happened to a model, and why. Both may be NULL. */
static inline void spark_log_event(spark_log *l, spark_log_level level, const char *event, const char *model,
                                   const char *why)
{
    spark_log_begin(l, level, event);
    spark_log_text(l, "model", model);
    spark_log_text(l, "why", why);
    spark_log_end(l);
}

/* One line of plain words: level, event and "message". */
void spark_log_say(spark_log *l, spark_log_level level, const char *event, const char *fmt, ...) SPARK_PRINTF(4, 5);

/* Once a second or so: tells of what was held back or dropped when no other line did. */
void spark_log_tick(spark_log *l);

/* The line of an answered request. Texts may be NULL, numbers 0: such fields are left out, save those of `status` and `total`. */
typedef struct spark_log_request {
    const char *id, *method, *route, *key, *address, *model, *finish, *reason;
    int status;
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    uint64_t queue_ns, prompt_ns, ttft_ns, decode_ns, total_ns, bytes_in, bytes_out;
} spark_log_request;
void spark_log_answered(spark_log *l, const spark_log_request *r);

#endif
