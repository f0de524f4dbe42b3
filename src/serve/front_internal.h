/* front_internal.h - what the front keeps: models and links to their engines, visits (requests with a key), jobs (visits that wait for
 * an engine) and their choices (one stream each).
 *
 *   exchange --user--> visit --> job --> choice <-- link (by slot)
 *
 * Invariants: 1. a visit ends once: by its reply or by on_gone; then its place at the gate is given back; 2. a choice that is open
 * is in its link's table, and in no other; one that is let go is cancelled and leaves NULL there; 3. only the current link of
 * a model gets new asks; older ones live until their last stream ends. */
#ifndef SPARK_SERVE_FRONT_INTERNAL_H
#define SPARK_SERVE_FRONT_INTERNAL_H

#include <event2/event.h>

#include "jail/jail.h"
#include "serve/api.h"
#include "serve/cell_config.h"
#include "serve/cell_plan.h"
#include "serve/config.h"
#include "serve/control.h"
#include "serve/front.h"
#include "serve/http.h"
#include "serve/keys_gate.h"
#include "serve/log.h"
#include "serve/messages.h"
#include "serve/metrics.h"

enum {
    FRONT_CLIENT_GONE = 499, /* in place of a status, as nginx has it */
    FRONT_STREAMS = SPARK_WIRE_STREAMS,
    FRONT_WINDOW = 64 << 10,   /* bytes that an engine may be ahead of a reply that is kept whole */
    FRONT_SWELL = 32,          /* a piece of a stream is at most so many times longer as JSON, on average */
    FRONT_GRACE_MS = 2000,     /* an engine that does not keep a request's time is waited for so long */
    FRONT_SILENCE_MS = 15000,  /* after which a stream gets a sign of life */
    FRONT_LOAD_MS = 300000,    /* a request waits so long for its model to load */
    FRONT_ALLOW_MAX = 1024,    /* of the names of headers in a reply to a preflight */
    FRONT_GREET_TICKS = 3000,  /* of 100 ms: an engine's first word comes after the pass that it had begun */
    FRONT_OUT_MAX = 64 << 20,  /* bytes of one body; all together: max_replies */
    FRONT_OUT_KEPT = 16 << 10, /* bytes that a stream keeps for its next event */
};

typedef struct front front;
typedef struct front_link front_link;
typedef struct front_job front_job;
typedef struct front_live front_live;

typedef struct front_choice {
    front_job *job;
    uint32_t index;
    front_link *link; /* NULL: not open */
    uint64_t stream;
    uint32_t window;   /* bytes that the engine may be ahead */
    uint32_t owed;     /* those of them that are not granted (again) yet */
    uint64_t token_ns; /* when its last token came */
    bool handed;       /* how long the hand-over took was counted */
    bool said_more;    /* than is kept */
    api_out said;      /* the answer until now, for --log-prompts; else empty */
} front_choice;

struct front_link {
    front *f;
    uint32_t model;
    int fd;
    uint32_t engine; /* the warden's number of it */
    uint32_t ticks;  /* until it was ready */
    bool ready, retired;
    bool released;   /* the warden knows that nobody waits for it any more */
    bool cancel_due; /* a CANCEL found no room */
    spark_wire *wire;
    struct event *readable, *writable;
    front_choice *choices[FRONT_STREAMS];
    spark_engine_stats stats;
    front_link *next;
};

typedef struct front_model {
    const spark_config_model *config;
    control_model_state state;
    char why[SPARK_ERR_TEXT];
    front_link *link; /* NULL: none is ready */
    spark_arena *card_arena;
    api_card card;
    cell_memory memory;                      /* of its engine's plan */
    uint64_t used_ns, told_used_ns, keep_ms; /* keep_ms: SPARK_FOREVER = it stays */
    uint32_t n_jobs;
} front_model;

/* A request that came in by a key, or by a door that asks for none. */
typedef struct front_visit {
    front *f;
    http_exchange *x;
    api_match match;
    api_query query;
    spark_gate_verdict who; /* number 0: no key was asked */
    front_job *job;
} front_visit;

struct front_job {
    front_visit *visit;
    spark_arena *arena;
    api_call call;
    api_reply *reply;
    api_out out;
    front_model *model;
    front_choice *choices; /* [call.n_asks] */
    size_t held;           /* bytes of choices and reply, counted among replies */
    bool waits, waited;    /* for its model */
    bool begun;            /* the head of a stream is out */
    bool ended_by_length;
    bool told;                   /* its prompts stand in the log */
    spark_finished_message last; /* of the choice that ended last: times for the log */
    uint64_t began_ns, first_ns, last_ns;
    uint64_t limit_ms; /* from began_ns; 0: none */
    front_job *prev, *next;
};

/* What a listener lets in: CONTROL_LISTEN_ bits. */
typedef struct front_door {
    const front *f;
    uint32_t bits;
} front_door;

struct front {
    struct event_base *base;
    struct event *control_event, *timer;
    int control;
    const spark_jail_spec *spec;
    spark_config *config;
    spark_log *log;
    spark_gate *gate;
    bool has_keys;
    http_server *server;
    struct ssl_ctx_st *tls;
    http_listener listeners[SPARK_MAX_SETTING_LIST];
    front_door doors[SPARK_MAX_SETTING_LIST]; /* their tags */
    uint32_t n_listeners;
    front_model models[SPARK_MAX_SERVED];
    uint32_t n_models;
    uint32_t slots[SPARK_MAX_SERVED]; /* of the models, in metrics */
    spark_metrics *metrics;
    front_live *live;
    front_link *links;
    front_job *jobs;
    bool going, draining, started_once, told_drained;
    char fingerprint[64];
    char *jail_json;
    uint64_t seed;
    uint8_t control_buf[CONTROL_HEAD + CONTROL_TEXT_MAX];
};

/* front_card.c: texts are copied to the arena. Fills what an engine knows: not name, created_s, loaded, expires_s. */
SPARK_MUST_CHECK spark_status cell_card_parse(api_card *out, spark_bytes ready, spark_arena *a, spark_err *err);

/* front_links.c */
void front_link_add(front *f, uint32_t model, uint32_t engine, int fd);
void front_link_retire(front *f, uint32_t model); /* no new asks on its links, those included that are not ready yet */
SPARK_MUST_CHECK spark_status front_ask(front_choice *c, front_link *l, const spark_ask *a, spark_err *err);
void front_choice_release(front_choice *c); /* cancels what runs and forgets it */
void front_choice_grant(front_choice *c);
void front_links_sweep(front *f); /* every tick: closes links that nobody needs */

/* front_jobs.c */
/* The call of a body, in an arena made for it (the caller's, also where it fails), within what max_bodies leaves. */
bool front_parse(const front_visit *v, api_call *out, spark_arena **a, api_error *e);
void front_job_start(front_visit *v);
void front_job_gone(front_job *j); /* its client left */
void front_job_room(front_job *j);
void front_job_event(front_choice *c, const spark_wire_frame *frame); /* STARTED, PIECE, DATA, FINISHED, FAILED */
void front_job_lost(front_choice *c);                                 /* its engine ended */
void front_model_changed(front *f, front_model *m);                   /* jobs that waited for it */
void front_model_unload(front *f, front_model *m); /* asks the warden, and sends its engine no more */
void front_jobs_tick(front *f);

/* front_visits.c */
extern const http_handler front_handler;
void front_visit_end(front_visit *v); /* after its reply, or when its client left */
/* Replies with what CORS wants besides. fields may be NULL. */
void front_reply(front *f, http_exchange *x, int status, const char *type, spark_bytes body, const http_field *fields,
                 size_t n);
void front_reply_error(front *f, http_exchange *x, api_dialect d, const api_error *e);
/* The same of what was made in *out, which it takes: held bytes move. e: an error with fields (Retry-After), or NULL. */
void front_reply_made(front *f, http_exchange *x, int status, const char *type, api_out *out, const api_error *e);
enum { FRONT_FIELDS = 8 };
/* CORS fields of this exchange into out[FRONT_FIELDS]; how many. */
size_t front_cors(const front *f, http_exchange *x, http_field *out);
front_model *front_model_find(front *f, spark_bytes name);
void front_tell(front *f, control_kind kind, uint32_t arg);
void front_tell_value(front *f, control_kind kind, uint32_t arg, uint64_t value);
bool front_is_ready(const front *f);

/* front_metrics.c */
void front_metrics_request(front *f, const front_job *j, int status,
                           const api_error *e); /* e: NULL if it was answered */
/* The engine says when it had the request: any time between that and now is believed. */
void front_metrics_started(front_choice *c, uint64_t took_ns);
void front_metrics_token(front_job *j, front_choice *c, uint64_t now_ns); /* a token came */
SPARK_MUST_CHECK spark_status front_metrics_start(front *f, spark_err *err);
void front_metrics_answer(front *f, const api_route *r, int status); /* r NULL: no route, not counted */
/* What the warden counts, or sees, of a cell: a model's engine, or CONTROL_THE_FRONT. */
void front_metrics_cell(front *f, spark_metric m, uint32_t cell, uint64_t n);
void front_metrics_refresh(front *f); /* gauges, before they are read */
void front_metrics_finished(const front_job *j, const spark_finished_message *m);
void front_metrics_refused(front *f, const char *reason);
/* The same, by the code of an error; one that is no refusal is not counted. Not of the gate, which has its own words. */
void front_metrics_refused_by(front *f, const api_error *e);
void front_metrics_print(front *f, api_out *out);

/* front_prompts.c: nothing of it without --log-prompts */
void front_prompts_asked(front_job *j); /* once; later calls do nothing */
void front_prompts_said(front_choice *c, spark_bytes text);
void front_prompts_answered(front_choice *c, bool whole); /* whole: also if it is empty. Lets go of what was kept */

/* front_live.c */
SPARK_MUST_CHECK spark_status front_live_start(front *f, spark_err *err);
void front_live_tick(front *f, uint64_t now_ns);
void front_live_print(front *f, api_out *o);

/* front_page.c */
SPARK_MUST_CHECK spark_status front_page_start(const front *f, spark_err *err);
void front_page(front *f, http_exchange *x);

#endif
