/* api_internal.h - what the files of the dialects share: tables of fields and their readers; the reply's insides. */
#ifndef SPARK_SERVE_API_INTERNAL_H
#define SPARK_SERVE_API_INTERNAL_H

#include <jansson.h>

#include "serve/api.h"

/* ---- Fields of bodies ---- */

typedef enum api_class { API_HONOURED, API_NEUTRAL, API_REFUSED } api_class;

/* Types of JSON values. */
enum {
    API_TEXT = 1,
    API_NUMBER = 2,
    API_BOOL = 4,
    API_LIST = 8,
    API_OBJECT = 16,
    API_ANY = 31,
};

/* Values of a refused field that ask for nothing, and are therefore accepted. null always is. */
enum {
    API_IF_FALSE = 1,
    API_IF_EMPTY = 2, /* "", [] or {} */
    API_IF_ZERO = 4,
    API_IF_ONE = 8,
    API_IF_MINUS_ONE = 16,
    API_IF_TRUE = 32,
    API_IF_NONE = 64,  /* "none" */
    API_IF_AUTO = 128, /* "auto", "default" */
};

/* A parameter of the query, and the routes that know it. */
typedef struct api_parameter {
    const char *name;  /* NULL: any that stands in no row above */
    uint32_t handlers; /* bits */
    api_class cls;
    uint8_t unless; /* API_REFUSED: values that ask for nothing, and are accepted */
    const char *note;
} api_parameter;
enum {
    API_UNLESS_OFF = 1,   /* 0, false */
    API_UNLESS_AS_IT_IS,  /* 1, true where a model is loaded for the request anyway; else 0, false */
    API_UNLESS_THIS_FORM, /* the name of the form that /metrics has */
};
extern const api_parameter api_parameters[];
extern const size_t api_n_parameters;
void api_print_parameters(api_out *o); /* their table, as Markdown */

typedef struct api_reader api_reader;
typedef struct api_field api_field;
typedef bool api_read(api_reader *r, const api_field *f, json_t *v);

struct api_field {
    const char *name;
    api_class cls;
    uint8_t kinds;   /* types it may have */
    uint8_t neutral; /* API_REFUSED: values that ask for nothing */
    api_read *read;  /* API_HONOURED */
    size_t at;       /* in api_reader, for the common readers */
    double lo, hi;
    const char *note;
};

typedef struct api_fields {
    const char *title; /* in docs/API.md */
    const api_field *rows;
    size_t n;
} api_fields;

/* A body being read. */
struct api_reader {
    api_call *call;
    spark_ask ask; /* what all asks of the call share */
    spark_arena *arena;
    api_error *error;
    const char *where;                                 /* "options." and the like: goes before names in errors */
    json_t *vars;                                      /* template variables being collected (owned) */
    json_t *messages, *prompt, *options, *kwargs;      /* borrowed from the body; NULL = absent */
    json_t *part_content, *part_name, *part_reasoning; /* of the message being read; the same */
    spark_bytes system, cache_salt, content;
    uint32_t n, best_of, max_tokens, max_completion_tokens, n_probs, top_logprobs;
    bool has_best_of, has_max_tokens, has_max_completion_tokens, has_top_logprobs, has_logprobs, has_seed;
    bool stream_options, raw, generation_prompt, has_generation_prompt, no_thinking;
};

#define API_AT(member) offsetof(api_reader, member)
#define API_FIELDS(title, rows)                                                                                        \
    {                                                                                                                  \
        title, rows, SPARK_COUNT(rows)                                                                                 \
    }

/* Reads every key of an object by the tables; false: *r->error is set. */
bool api_read_object(api_reader *r, json_t *object, const api_fields *const *sets, size_t n_sets);
bool api_bad(api_reader *r, const char *code, const char *field, const char *fmt, ...)
    SPARK_PRINTF(4, 5); /* 400; is false */

/* Common readers. */
bool api_read_float(api_reader *r, const api_field *f, json_t *v);
bool api_read_count(api_reader *r, const api_field *f, json_t *v);  /* uint32_t in [lo, hi] */
bool api_read_last_n(api_reader *r, const api_field *f, json_t *v); /* the same; -1 = the whole context */
bool api_read_top_k(api_reader *r, const api_field *f, json_t *v);  /* below 0 = 0 = off */
bool api_read_stream(api_reader *r, const api_field *f, json_t *v);
bool api_read_max(api_reader *r, const api_field *f, json_t *v); /* tokens: 1 and more; below 0 = no maximum */
bool api_read_bool(api_reader *r, const api_field *f, json_t *v);
bool api_read_text(api_reader *r, const api_field *f, json_t *v);  /* spark_bytes */
bool api_read_value(api_reader *r, const api_field *f, json_t *v); /* json_t *, for later */
bool api_read_seed(api_reader *r, const api_field *f, json_t *v);
bool api_read_stop(api_reader *r, const api_field *f, json_t *v);
bool api_read_bias(api_reader *r, const api_field *f, json_t *v); /* {"id": bias} or [[id, bias or false], ...] */
bool api_read_model(api_reader *r, const api_field *f,
                    json_t *v); /* also by Ollama's old word for it, `name`: then both say the same */
/* An integer in [lo, hi], also written 1.0. */
bool api_integer(api_reader *r, const char *field, const json_t *v, int64_t lo, int64_t hi, int64_t *out);

bool api_copy(api_reader *r, const json_t *text, spark_bytes *out);
/* Copies ids; `what` names the field. */
bool api_ids(api_reader *r, const char *what, json_t *list, const uint32_t **ids, uint32_t *n);
bool api_no_memory(api_reader *r);

/* Checks messages and puts them, in one form for templates, into r->vars. */
bool api_take_messages(api_reader *r, json_t *messages, bool may_be_empty);
/* Puts r->vars as the text of the ask. */
bool api_take_vars(api_reader *r, spark_ask_kind kind);
/* One ask for each of n_prompts, n_each times: r->ask with its own prompt and seed. */
bool api_make_asks(api_reader *r, uint32_t n_prompts, uint32_t n_each);
/* prompt: text, list of ids, list of texts, list of lists of ids. `n` of each. */
bool api_take_prompts(api_reader *r, uint32_t n);
bool api_need_model(api_reader *r);

extern const api_fields api_fields_message, api_fields_sampling;
bool api_parse_chat(api_reader *r, json_t *body);
bool api_parse_completions(api_reader *r, json_t *body);
bool api_parse_apply_template(api_reader *r, json_t *body);
bool api_parse_ollama_chat(api_reader *r, json_t *body);
bool api_parse_ollama_generate(api_reader *r, json_t *body);
bool api_parse_show(api_reader *r, json_t *body);
bool api_parse_completion(api_reader *r, json_t *body);
bool api_parse_tokenize(api_reader *r, json_t *body);
bool api_parse_detokenize(api_reader *r, json_t *body);
/* For the reference: every table there is. */
extern const api_fields *const api_openai_tables[], *const api_ollama_tables[], *const api_llama_tables[];
extern const size_t api_n_openai_tables, api_n_ollama_tables, api_n_llama_tables;

/* ---- The insides of a reply ---- */

/* One answer being made. What a stream has sent is not kept. */
typedef struct api_choice {
    api_out text;                  /* as it came, whole replies */
    api_out probs;                 /* log-probabilities as JSON, elements of a list */
    api_out values, tops, offsets; /* /v1/completions: its other lists */
    api_out ids; /* u32 each: of the answer (whole replies of llama-server), or of prompt and answer (`context`) */
    bool started, finished, has_data;
    uint32_t n_prompt, n_cached, n_pieces;
    size_t n_chars; /* characters of tokens until now, for text_offset */
    spark_finished_message end;
} api_choice;

struct api_reply {
    api_reply_options o;
    const struct api_voice *voice;
    api_choice *choices;
    uint32_t n, n_started, n_finished;
    uint64_t created_s, began_ns;
    api_phase phase;
    api_error error;
    bool has_error;
    size_t held; /* bytes in choices */
};

/* How a route answers. Functions of a stream are NULL where there is none. */
typedef struct api_voice {
    const char *stream_type, *ping;
    bool every_token; /* a piece without text is sent too */
    void (*started)(api_reply *r, uint32_t i, api_out *o);
    void (*piece)(api_reply *r, uint32_t i, const spark_piece_message *m, api_out *o);
    void (*finished)(api_reply *r, uint32_t i, api_out *o); /* last words of a choice */
    void (*end)(api_reply *r, api_out *o);                  /* of all; may be NULL */
    void (*error)(api_reply *r, api_out *o);                /* after which nothing comes */
    void (*whole)(api_reply *r, api_out *o);
    void (*keep)(api_choice *c, const spark_piece_message *m, uint32_t n_top); /* log-probabilities of a whole reply */
} api_voice;

extern const api_voice api_voice_chat, api_voice_completions, api_voice_ollama_chat, api_voice_ollama_generate,
    api_voice_completion, api_voice_tokenize, api_voice_detokenize, api_voice_template;

const char *api_finish_word(const spark_finished_message *m); /* stop, length */
/* {"token":..,"logprob":..,"bytes":[..] and with_top ,"top_logprobs":[..]}; with_id puts "id" first. */
void api_print_token(api_out *o, const spark_token_text *t, bool with_id);
void api_print_probs(api_out *o, const spark_piece_message *m, uint32_t n_top, bool with_id);
void api_keep_probs(api_choice *c, const spark_piece_message *m, uint32_t n_top); /* those, with commas between */
void api_keep_probs_id(api_choice *c, const spark_piece_message *m, uint32_t n_top);
void api_print_logprob(api_out *o, float x);
void api_print_ids(api_out *o, const api_out *ids); /* [1,2,...] */
size_t api_out_count_chars(spark_bytes s);

#endif
