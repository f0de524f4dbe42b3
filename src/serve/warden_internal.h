/* warden_internal.h - what the warden keeps: models and their files, running engines (instances), the front. */
#ifndef SPARK_SERVE_WARDEN_INTERNAL_H
#define SPARK_SERVE_WARDEN_INTERNAL_H

#include "jail/jail.h"
#include "serve/cell_config.h"
#include "serve/cell_plan.h"
#include "serve/control.h"
#include "serve/log.h"
#include "serve/warden.h"
#include "serve/wire.h"

enum {
    WARDEN_INSTANCES = 2 * SPARK_MAX_SERVED, /* each model and its successor */
    WARDEN_BACKOFF_MS = 100,
    WARDEN_BACKOFF_MAX_MS = 30000,
    WARDEN_FRONT_FILES = 256,       /* descriptors of the front beside its connections */
    WARDEN_LEAST_CONNECTIONS = 256, /* with descriptors for fewer, if not asked for so few, it does not start */
    WARDEN_OWN_FILES =
        64, /* of the warden: standard, signals, log, the front's; both ends of links while an engine starts */
    WARDEN_HEALTHY_MS = 60000, /* who ran so long starts again at once */
    WARDEN_TICK_MS = 1000,
    WARDEN_SILENCE_MS = 120000, /* an engine that loads and says nothing for so long hangs */
    WARDEN_REFUSED_TICKS = 2,   /* an engine that the front refuses may have ended already: it is ended after so many */
    WARDEN_FRONT_SLACK =
        8 << 20,       /* addresses of the front that are no memory: less than the program has pages it never runs */
    WARDEN_TLS_ON = 0, /* choice of the setting `tls` */
};

#define WARDEN_ENDS "the server is shutting down"

typedef enum instance_state { INSTANCE_FREE, INSTANCE_LOADING, INSTANCE_READY, INSTANCE_DRAINING } instance_state;

/* warden_model_files.c: files of a model, open. */
typedef struct warden_opened warden_opened;

/* One engine cell. */
typedef struct warden_instance {
    instance_state state;
    uint32_t model, cell_number;
    spark_jail_cell cell;
    int link;
    spark_wire *wire;
    int fronts[CELL_FRONT_LINKS]; /* our ends of its links to fronts; -1: handed out */
    uint32_t next_front;
    bool waits; /* under a budget: it told its wish and waits for its grant */
    cell_wish wish;
    uint64_t planned, started_ns; /* planned: what it was granted, then what it takes; 0: nothing yet */
    bool greeted;                 /* it was READY: it answers PING */
    bool taken;                   /* the front sends requests to it */
    bool released;                /* it drains, and nobody waits for it any more */
    uint32_t given_to;            /* the front that got its last link */
    /* Ticks of ours (we may stand still, and it with us): since it was heard; since it was released; since it was refused, 0: it was not */
    uint32_t quiet, drain, refused;
    warden_opened *opened; /* what it came of, until the front takes it; NULL: of what the model keeps */
} warden_instance;

typedef struct warden_model {
    const spark_config_model *config;
    warden_instance *current, *other; /* other: loads to take the place of current, or drains since that was done */
    bool wanted;                      /* loaded at start, or a request waits for it */
    bool leaving;                     /* current is evicted, once the front has let go of it */
    bool look_again;                  /* a reload was asked for that could not be made yet */
    warden_opened *kept; /* files of the last engine that the front took; closed once that is put out; NULL: none yet */
    uint64_t retry_ns, backoff_ms, used_ns;
    uint64_t restarts, resident; /* resident: as the front was told */
} warden_model;

/* warden_files.c: a set of files that go to the front together. */
typedef struct warden_bytes {
    uint8_t *ptr;
    size_t len, mapped;
} warden_bytes;
enum { WARDEN_FILES = 3 };
typedef struct warden_files {
    control_kind kind;
    const char *path[WARDEN_FILES]; /* [n]; NULL: minted, of no file */
    bool secret[WARDEN_FILES];
    uint32_t n;
    warden_bytes held[WARDEN_FILES];    /* what the front last accepted, if is_held: a new one starts with them */
    warden_bytes offered[WARDEN_FILES]; /* what it was given since and has not answered, if is_offered */
    bool is_held, is_offered;
    bool due, again; /* to be offered, once the front is up; for the second time, since one ended over it */
} warden_files;
typedef enum warden_set { WARDEN_KEYS, WARDEN_TLS, WARDEN_SETS } warden_set;

typedef struct warden {
    spark_config *config;
    spark_log *log;
    warden_files files[WARDEN_SETS];
    spark_jail_level level;
    warden_model models[SPARK_MAX_SERVED];
    warden_instance instances[WARDEN_INSTANCES];
    int listeners[SPARK_MAX_SETTING_LIST];
    uint32_t listener_bits[SPARK_MAX_SETTING_LIST], n_listeners;
    bool front_alive, front_up, draining, drained, stop, announced;
    spark_jail_cell front;
    int control;
    uint64_t front_retry_ns, front_backoff_ms, front_started_ns, drain_end_ns;
    uint64_t tick_ns, front_restarts, front_resident;
    uint32_t front_quiet, fronts_started, cells_started;
    char *jail_json;
    cell_front front_memory;
    int exit_code;
} warden;

/* warden_cells.c */
SPARK_MUST_CHECK spark_status warden_start_front(warden *w, spark_err *err);
/* Starts loading a model from the files `opened`, which move; NULL: from those kept. E_MEMORY in the plan comes later, by its link. */
SPARK_MUST_CHECK spark_status warden_start_engine(warden *w, uint32_t model, warden_opened *opened, spark_err *err);
/* Divides what the budget leaves among the engines that wait for it, once all that start have told their wishes. */
void warden_grant(warden *w);
void warden_read_engine(warden *w, warden_instance *i);  /* its link has something */
void warden_engine_ended(warden *w, warden_instance *i); /* its process is gone */
void warden_drain_engine(const warden *w, warden_instance *i);
void warden_kill_engine(const warden_instance *i);
/* What the front says of an engine by its number; one that is gone is passed over. */
void warden_engine_switched(warden *w, uint32_t model, uint64_t engine);
void warden_engine_refused(warden *w, uint32_t model, uint64_t engine);
void warden_engine_released(warden *w, uint32_t model, uint64_t engine);
/* Tells the front how a model stands. */
void warden_tell_model(warden *w, uint32_t model, const char *why);
void warden_tell_restarts(warden *w, uint32_t model); /* or CONTROL_THE_FRONT */

/* The memory sum of all that is loaded: before anything is served, and whenever that changes by another model or a new file. What models
 * that are loaded on use will take is not known before (their files are not read): all together at most the budget, if there is one. */
void warden_log_plan(const warden *w);

/* warden_watch.c: once every WARDEN_TICK_MS asks the cells whether they are there, ends those that are not, and looks what they have. */
void warden_tick(warden *w);
/* Milliseconds from now on the clock, backing off. */
/* "exit 1", "signal 9" */
enum { WARDEN_STATUS_TEXT = 24 };
const char *warden_status_text(int status, char buf[WARDEN_STATUS_TEXT]);
uint64_t warden_backoff(uint64_t *backoff_ms, uint64_t ran_ms);

/* Everything that was told to the front at its start, told (again). */
SPARK_MUST_CHECK spark_status warden_tell_all(warden *w, spark_err *err);
SPARK_MUST_CHECK spark_status warden_tell(warden *w, const control_message *m);

/* warden_model_files.c */
uint32_t warden_opened_count(const spark_config_model *m); /* descriptors of a set, known before it is opened */
SPARK_MUST_CHECK spark_status warden_opened_open(warden_opened **out, const spark_config_model *m, spark_err *err);
void warden_opened_destroy(warden_opened **o);
/* Puts them into fds, at their beginning; they stay the set's. How many: those of the model (n_files), then perhaps the public prefix. */
uint32_t warden_opened_give(const warden_opened *o, int *fds);
uint32_t warden_opened_n_files(const warden_opened *o);

/* What an engine starts from: *opened NULL: what is kept, which is E_STATE if it was written to meanwhile. */
SPARK_MUST_CHECK spark_status warden_model_open(const warden *w, warden_model *m, warden_opened **opened,
                                                spark_err *err);
/* A reload of a model that runs: whether its paths lead to other files by now, then they are *opened. Why they cannot be had is told. */
bool warden_model_is_other(const warden *w, const warden_model *m, warden_opened **opened);
/* E_IO: what an engine has read was written to meanwhile. */
SPARK_MUST_CHECK spark_status warden_model_check_read(const warden *w, const warden_instance *i, spark_err *err);
void warden_model_accept(warden_model *m, warden_instance *i); /* the front took it */
void warden_model_put_out(warden_model *m);                    /* the next engine opens by path */
/* An engine of other files than those kept cannot be used, and no engine runs: one of those kept can be started. */
bool warden_model_falls_back(const warden_model *m, const warden_instance *i);

/* warden_files.c */
SPARK_MUST_CHECK spark_status warden_files_open(warden *w, spark_bytes minted, spark_err *err); /* reads none yet */
void warden_files_close(warden *w);                                                             /* wipes them */
/* To a front that starts: what is held, with a word in the log of each file that is another by now; without, the files, and what is wrong
 * with one is an error. */
SPARK_MUST_CHECK spark_status warden_files_start(warden *w, spark_err *err);
void warden_files_reload(warden *w); /* the operator says: look at the files */
void warden_files_offer(warden *w);  /* what is due, if the front can take it now; for every turn */
void warden_files_taken(warden *w, control_kind kind, bool can_be_used); /* the front's answer */
void warden_files_front_up(warden *w);
void warden_files_front_ended(warden *w);

#endif
