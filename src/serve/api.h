/* api.h - the dialects that clients speak: request bodies to asks, events of an engine to reply bytes. Pure functions over bytes.
 * Nouns:   api_route, one row of the one table of routes; api_call, a checked request: asks for an engine and the shape of the
 *          answer; api_card, what is known of a served model; api_reply, the answer being made; api_error, a refusal.
 * Promise: every field of every route is honoured, accepted because its value changes nothing, or refused by name (docs/API.md is
 *          made from the same tables). Bodies cost time linear in their length and bounded memory, whatever they hold; replies
 *          are valid JSON whatever a model says.
 * Order:   api_route_find -> (key) -> api_call_parse -> api_call_check -> api_call_seed -> one ask a choice to the engine ->
 *          api_reply_create -> the events of each choice -> the bytes of `out`, sent as api_reply_phase tells.
 * Not here: sockets, keys, clocks, randomness: they come in. Threads: none of its own, no shared state. */
#ifndef SPARK_SERVE_API_H
#define SPARK_SERVE_API_H

#include "base/spark_limits.h"
#include "serve/ask.h"
#include "serve/held.h"
#include "serve/messages.h"

/* ---- Bytes being written ---- */

/* Grows to max; then, or without memory, `failed` stays true and nothing more is added. Its bytes lie together, or in blocks, where they
 * grow and move without copies. All that it takes is counted in a share, if it has one. */
typedef struct api_out {
    uint8_t *ptr; /* NULL in blocks */
    size_t len, cap, max;
    held_share *share; /* borrowed; NULL: not counted */
    held_bytes blocks;
    bool in_blocks, failed;
} api_out;
void api_out_init(api_out *o, size_t max);
void api_out_init_held(api_out *o, size_t max, held_share *share); /* in blocks */
void api_out_free(api_out *o);                                     /* wiped: it held what people asked */
void api_out_clear(api_out *o);
static inline spark_bytes api_out_bytes(const api_out *o) { return (spark_bytes){o->ptr, o->len}; } /* not in blocks */
/* All of `from`, which is in blocks and of the same share, to the end of o; from is empty then. */
void api_out_move(api_out *o, api_out *from);
void api_out_raw(api_out *o, const void *bytes, size_t len);
void api_out_str(api_out *o, const char *s);                           /* as it is */
void api_out_fmt(api_out *o, const char *fmt, ...) SPARK_PRINTF(2, 3); /* at most 500 bytes */
void api_out_chars(api_out *o, spark_bytes s);   /* the inside of a JSON string; what is not UTF-8 becomes U+FFFD */
void api_out_text(api_out *o, spark_bytes s);    /* a JSON string */
void api_out_cstr(api_out *o, const char *s);    /* a JSON string; null for NULL */
void api_out_float(api_out *o, double x);        /* a JSON number that reads back as the same float */
void api_out_time(api_out *o, uint64_t unix_ns); /* a JSON string: RFC 3339 in UTC, nanoseconds */

/* ---- Routes ---- */

typedef enum api_dialect { API_PLAIN, API_OPENAI, API_OLLAMA, API_LLAMA, API_N_DIALECTS } api_dialect;

typedef enum api_access {
    API_OPEN,    /* anyone: health, and the page without its data */
    API_METRICS, /* a key with that scope */
    API_KEY,
} api_access;

typedef enum api_handler {
    API_ROOT, /* the page, or API_ROOT_TEXT */
    API_HEALTH,
    API_LIVE,
    API_READY,
    API_STARTUP,
    API_METRICS_TEXT,
    API_WATCH,  /* load, latency, memory and jail as JSON */
    API_MODELS, /* these: api_print_* of cards */
    API_MODEL,
    API_TAGS,
    API_SHOW,
    API_PS,
    API_VERSION,
    API_PROPS,
    API_SLOTS,
    API_CHAT, /* from here: api_call_parse makes asks */
    API_COMPLETIONS,
    API_OLLAMA_CHAT,
    API_OLLAMA_GENERATE,
    API_COMPLETION,
    API_TOKENIZE,
    API_DETOKENIZE,
    API_APPLY_TEMPLATE,
    API_FORBIDDEN, /* 403, by policy: api_route_refusal */
    API_LATER,     /* 501, by name: api_route_refusal */
} api_handler;

typedef struct api_route {
    const char *method, *path; /* a last segment in braces takes the rest of the path */
    api_access access;
    api_handler handler;
    api_dialect dialect; /* of its errors too */
    const char *note;
} api_route;

extern const api_route api_routes[];
extern const size_t api_n_routes;

typedef struct api_match {
    const api_route *route; /* NULL: nothing of that name, or not by this method */
    int status;             /* 200, 404, 405 */
    spark_bytes id;         /* what stood for {id} */
    api_dialect dialect;    /* to answer in, also for 404 and 405 */
    char allow[48];         /* for the header Allow, 405 */
} api_match;
/* HEAD finds what GET finds. Path as http_request_path gives it. */
api_match api_route_find(const char *method, spark_bytes path);

/* The answer of Ollama's server at "/", which its clients and many tools look for; without --page it is ours. Who accepts HTML, a person
 * with a browser, is told more below that line. */
#define API_ROOT_TEXT "Ollama is running"
#define API_ROOT_MORE                                                                                                  \
    "\n\nThis is SPARK; the line above is for programs that look for it. There is no page here: it is off unless the " \
    "server is started with --page (in its file: page = yes).\n"                                                       \
    "Clients of OpenAI take this address with /v1 as their base URL, those of Ollama without. docs/API.md lists all "  \
    "routes, GET /health tells whether the models are ready.\n"

/* ---- Errors ---- */

typedef struct api_error {
    int status;
    const char *type, *code; /* OpenAI's words; code may be NULL */
    char param[64];          /* the field, or "" */
    char message[SPARK_ERR_TEXT + 128];
    uint32_t retry_ms; /* 0 = no advice; else Retry-After and retry-after-ms */
    bool no_retry;     /* send "x-should-retry: false": OpenAI's clients would try again for nothing */
} api_error;
void api_error_set(api_error *e, int status, const char *code, const char *param, const char *fmt, ...)
    SPARK_PRINTF(5, 6);
void api_error_match(api_error *e, const api_match *m, const char *method, spark_bytes path); /* 404 or 405 */
void api_route_refusal(api_error *e, const api_route *r);                                     /* FORBIDDEN, LATER */
void api_error_model(api_error *e, spark_bytes name);                                         /* 404 model_not_found */
/* 503: all replies together hold what they may. */
void api_error_held(api_error *e);
/* What FAILED of an engine, or an error of the front's own, is to a client: one table of spark_code. retry_ms != 0 tells that the
 * scheduler refused for now (then E_LIMIT and E_REFUSED are 429 and 503, else 400). */
void api_error_from(api_error *e, const spark_err *err, uint32_t retry_ms);
struct api_call;
/* Of a model that has no template for this call: says what to ask instead. Other errors stay. */
void api_error_advise(api_error *e, const struct api_call *call);
/* The body, as this dialect writes errors. */
void api_print_error(api_out *o, api_dialect d, const api_error *e);

/* ---- Headers ---- */

/* What of a request's head is read, and what clients send besides; names with commas are several. */
typedef struct api_header {
    const char *name;
    bool honoured; /* else its value changes nothing */
    const char *note;
} api_header;
extern const api_header api_headers[];
extern const size_t api_n_headers;
#define API_TIMEOUT_HEADER "X-Request-Timeout-Ms"
/* The time that a client gives its request; ptr NULL: *ms is 0, no bound. False: *e tells why. */
bool api_timeout_parse(spark_bytes header, uint32_t *ms, api_error *e);

/* ---- Query parameters ---- */

typedef struct api_query {
    spark_bytes model; /* empty: none was named. Borrowed */
    bool fail_on_no_slot;
} api_query;
/* One parameter, decoded, of a route; *q began as zeros. False: *e tells why it is refused. */
bool api_query_take(api_query *q, const api_route *r, spark_bytes name, spark_bytes value, api_error *e);

/* ---- Requests ---- */

typedef enum api_load { API_LOAD_NONE, API_LOAD_NOW, API_LOAD_NO_MORE } api_load;
#define API_KEEP_DEFAULT INT64_MIN
#define API_KEEP_FOREVER INT64_C(-1)

typedef struct api_call {
    const api_route *route;
    spark_bytes model; /* as asked; empty: none was named (llama-server's routes), the front's first one */
    spark_ask
        *asks; /* [n_asks], prompt after prompt, n of each; tenant, priority, deadline_ms are the front's to fill */
    uint32_t n_asks, n_each; /* n_asks 0 with `load`: answer by api_print_loaded */
    api_load load;
    int64_t keep_alive_ms; /* how long the model stays after this */
    bool stream, include_usage, include_obfuscation;
    bool logprobs, return_tokens, context, pieces;
    uint32_t n_top; /* alternatives to show with logprobs */
    bool verbose;   /* show */
} api_call;

/* Before a JSON parser sees it: nested too deep, or of more values than memory is meant for. E_LIMIT. */
SPARK_MUST_CHECK spark_status api_json_check(spark_bytes b, spark_err *err);

/* Everything in *out lives in arena `a`; the body may go afterwards. False: *e tells why, in a form for api_print_error.
 * content_type may be NULL. Handlers that take a body: API_SHOW and API_CHAT to API_APPLY_TEMPLATE. */
bool api_call_parse(api_call *out, const api_route *route, spark_bytes body, spark_bytes content_type, spark_arena *a,
                    api_error *e);
/* Bytes that the values of such a body take at most while it is parsed. */
uint64_t api_parse_bytes(spark_bytes body);
/* Gives the choices of a request without a seed their own, from a number of the system's; the others stay. */
void api_call_seed(api_call *c, uint64_t random);

/* ---- Models ---- */

typedef struct api_card {
    const char *name, *arch, *quantization; /* "qwen2", "Q4_0" */
    const char *digest;                     /* 64 hex digits, SHA-256 of the file; NULL: not known */
    const char *chat_template;              /* may be NULL: then it cannot chat */
    uint64_t n_params, file_bytes, memory_bytes;
    uint32_t n_ctx, n_ctx_train, n_embd, n_vocab, n_layers;
    uint32_t n_slots;   /* requests that it decodes at once */
    uint64_t created_s; /* of the file */
    bool loaded;
    uint64_t expires_s; /* when it will be unloaded; 0 = never */
} api_card;

/* Whether a client means this model: its name, or with Ollama's ":latest". */
bool api_card_is(const api_card *c, spark_bytes asked);
/* What the model cannot give: a longer context than planned (num_ctx). */
bool api_call_check(const api_call *call, const api_card *c, api_error *e);

void api_print_models(api_out *o, const api_card *cards, size_t n);
void api_print_model(api_out *o, const api_card *c);
void api_print_tags(api_out *o, const api_card *cards, size_t n);
void api_print_ps(api_out *o, const api_card *cards, size_t n); /* prints those that are loaded */
void api_print_show(api_out *o, const api_card *c);
void api_print_version(api_out *o);
void api_print_props(api_out *o, const api_card *c);
void api_print_slots(api_out *o, const api_card *c, uint32_t n_running);
void api_print_health(api_out *o, bool ok); /* not ok: goes with 503 */
void api_print_loaded(api_out *o, const api_call *call, const char *model, uint64_t unix_ns); /* preload, unload */

/* ---- Replies ---- */

typedef struct api_reply api_reply;

typedef struct api_reply_options {
    const api_call *call;    /* must outlive the reply, as must the rest */
    const char *model;       /* as it is called */
    const char *id;          /* of the request: "req-0123..."; becomes chatcmpl-..., cmpl-... */
    const char *fingerprint; /* system_fingerprint: build and numerics */
    uint64_t (*unix_ns)(void);
    uint64_t load_ns;  /* time spent on loading the model for this request */
    held_share *share; /* counts what is kept of the reply until it is whole; NULL: nobody counts */
} api_reply_options;

typedef enum api_phase {
    API_WAITING,   /* nothing to send yet; status not decided */
    API_STREAMING, /* begin with 200 and the type, if not begun; send out */
    API_DONE,      /* as STREAMING, and these are the last bytes. After an error: cancel what still runs */
    API_WHOLE, /* out is the body of a whole reply with api_reply_status: an answer or an error. Cancel what still runs */
} api_phase;

/* One reply for all choices of a call with asks. E_MEMORY. */
SPARK_MUST_CHECK spark_status api_reply_create(api_reply **out, const api_reply_options *o, spark_err *err);
size_t api_reply_bytes(uint32_t n_asks); /* of a reply that holds no answers yet */
void api_reply_destroy(api_reply **r);   /* wipes what it held */

/* Events of choice i (0 to n_asks - 1), in the order in which its stream brings them; each appends to `out` what may be sent now.
 * Events after DONE or WHOLE are ignored. A reply that cannot be made (too long, no memory) ends as an error would. */
void api_reply_started(api_reply *r, uint32_t i, uint32_t n_prompt, uint32_t n_cached, api_out *out);
void api_reply_piece(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *out);
void api_reply_data(api_reply *r, uint32_t i, spark_bytes payload, api_out *out);
void api_reply_finished(api_reply *r, uint32_t i, const spark_finished_message *m, api_out *out);
/* Of the engine (api_error_from) or of the front (model gone, draining). */
void api_reply_failed(api_reply *r, uint32_t i, const api_error *e, api_out *out);
/* A sign of life while nothing comes: a comment, where the dialect has one. Only while STREAMING or a stream that waits. */
void api_reply_ping(api_reply *r, api_out *out);

api_phase api_reply_phase(const api_reply *r);
int api_reply_status(const api_reply *r);
const char *api_reply_type(const api_reply *r);       /* Content-Type */
const api_error *api_reply_error(const api_reply *r); /* NULL: none; for headers and logs */
/* Tokens until now, for quotas and logs. */
void api_reply_counts(const api_reply *r, uint64_t *n_prompt, uint64_t *n_cached, uint64_t *n_generated);

/* ---- The classes of fields, for docs/API.md and its test ---- */

/* Writes the tables of routes and fields as Markdown. */
void api_print_reference(api_out *o);

#endif
