/* text.c - public tokenizing and chat rendering: JSON in, tokens out; the same for cells, without a heap. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_internal.h"
#include "base/spark_limits.h"
#include "text/json_heap.h"

void spark_tokens_free(spark_tokens *t)
{
    free(t->ids);
    *t = (spark_tokens){0};
}

void spark_buffer_free(spark_buffer *b)
{
    free(b->ptr);
    *b = (spark_buffer){0};
}

static unsigned text_flags(unsigned flags)
{
    return (flags & SPARK_TOKENIZE_SPECIAL ? SPARK_ENCODE_SPECIAL : 0u) |
           (flags & SPARK_TOKENIZE_ADD ? SPARK_ENCODE_ADD : 0u);
}

spark_status spark_model_tokenize(const spark_model *m, const char *text, size_t len, unsigned flags, spark_tokens *out,
                                  spark_err *err)
{
    spark_ids ids = {0};
    const spark_status s = spark_tokenizer_encode(m->tokenizer, (spark_bytes){(const uint8_t *)text, len},
                                                  text_flags(flags), &ids, err);
    if (spark_ok(s))
        *out = (spark_tokens){ids.ids, ids.n};
    else
        spark_ids_free(&ids);
    return s;
}

/* Hands a text over to the caller, with a NUL behind it. */
static spark_status text_hand_over(spark_text *t, spark_buffer *out, spark_err *err)
{
    SPARK_TRY(spark_text_append(t, (spark_bytes){(const uint8_t *)"", 1}, err));
    *out = (spark_buffer){(char *)t->ptr, t->len - 1};
    *t = (spark_text){0};
    return SPARK_SUCCESS;
}

spark_status spark_model_detokenize(const spark_model *m, const uint32_t *ids, size_t n, spark_buffer *out,
                                    spark_err *err)
{
    spark_text text = {0};
    spark_status s = spark_tokenizer_decode(m->tokenizer, ids, n, &text, err);
    if (spark_ok(s)) s = text_hand_over(&text, out, err);
    spark_text_free(&text);
    return s;
}

bool spark_model_is_eog(const spark_model *m, uint32_t id)
{
    return id < spark_tokenizer_n_vocab(m->tokenizer) && spark_tokenizer_is_eog(m->tokenizer, id);
}

/* ---- Chat ---- */

/* What to say when jansson gave nothing: in a cell that may be for want of planned memory. */
static spark_status chat_json_failed(spark_err *err, spark_err instead)
{
    spark_err full;
    if (spark_json_heap_was_full(&full)) instead = full;
    if (err) *err = instead;
    return (spark_status){instead.code};
}

static spark_status chat_set(json_t *vars, const char *key, json_t *value, spark_err *err)
{
    spark_err why;
    if (value && json_object_set_new(vars, key, value) == 0) return SPARK_SUCCESS;
    spark_err_set(&why, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "%s cannot be handed to the chat template", key);
    return chat_json_failed(err, why);
}

static spark_status chat_set_token(const spark_model *m, json_t *vars, const char *key, uint32_t id, spark_err *err)
{
    spark_bytes text = {0};
    if (id != SPARK_TOKEN_NONE) text = spark_tokenizer_token(m->tokenizer, id);
    return chat_set(vars, key, json_stringn(text.len ? (const char *)text.ptr : "", text.len), err);
}

/* Fills in what the model knows. */
static spark_status chat_complete(const spark_model *m, json_t *vars, spark_err *err)
{
    SPARK_CHECK(json_is_object(vars) && json_is_array(json_object_get(vars, "messages")), err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "the chat must be a JSON object with an array \"messages\"");
    SPARK_TRY(chat_set_token(m, vars, "bos_token", spark_tokenizer_bos(m->tokenizer), err));
    SPARK_TRY(chat_set_token(m, vars, "eos_token", spark_tokenizer_eos(m->tokenizer), err));
    if (json_object_get(vars, "add_generation_prompt")) return SPARK_SUCCESS;
    return chat_set(vars, "add_generation_prompt", json_true(), err);
}

/* The caller's variables, completed. */
static spark_status chat_vars(const spark_model *m, spark_bytes json, json_t **out, spark_err *err)
{
    json_error_t why;
    json_t *vars = spark_json_heap_load(json, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!vars) {
        spark_err invalid;
        spark_err_set(&invalid, SPARK_E_FORMAT, (uint64_t)(why.position > 0 ? why.position : 0),
                      "the chat is not valid JSON: %s", why.text);
        return chat_json_failed(err, invalid);
    }
    const spark_status s = chat_complete(m, vars, err);
    if (spark_ok(s))
        *out = vars;
    else
        json_decref(vars);
    return s;
}

/* BOS where the vocabulary asks for one and the template has not written it itself. */
static spark_status chat_add_bos(const spark_model *m, spark_ids *ids, spark_err *err)
{
    const uint32_t bos = spark_tokenizer_bos(m->tokenizer);
    if (!spark_tokenizer_adds_bos(m->tokenizer) || bos == SPARK_TOKEN_NONE || (ids->n > 0 && ids->ids[0] == bos))
        return SPARK_SUCCESS;
    SPARK_TRY(spark_ids_push(ids, bos, err));
    memmove(ids->ids + 1, ids->ids, (ids->n - 1) * sizeof *ids->ids);
    ids->ids[0] = bos;
    return SPARK_SUCCESS;
}

static spark_status chat_tokenize(const spark_model *m, const spark_rendering *r, spark_ids *out, spark_err *err)
{
    SPARK_TRY(spark_tokenizer_encode_runs(m->tokenizer, (spark_bytes){r->text.ptr, r->text.len}, r->runs, r->n_runs,
                                          out, err));
    return chat_add_bos(m, out, err);
}

/* On the heap, or (a) in an arena. */
static spark_status chat_render(const spark_model *m, spark_bytes vars, spark_arena *a, spark_rendering *out,
                                spark_err *err)
{
    if (!m->chat && err) *err = m->chat_err;
    SPARK_TRY(m->chat_status);
    json_t *values = NULL;
    SPARK_TRY(chat_vars(m, vars, &values, err));
    const time_t seconds = time(NULL);
    struct tm now = {0};
    localtime_r(&seconds, &now);
    const spark_status s = a ? spark_template_render_within(m->chat, values, &now, a, out, err)
                             : spark_template_render(m->chat, values, &now, out, err);
    json_decref(values);
    return s;
}

spark_status spark_model_chat(const spark_model *m, const char *vars, size_t len, spark_tokens *out, spark_buffer *text,
                              spark_err *err)
{
    spark_rendering r = {0};
    spark_ids ids = {0};
    SPARK_TRY(chat_render(m, (spark_bytes){(const uint8_t *)vars, len}, NULL, &r, err));
    spark_status s = chat_tokenize(m, &r, &ids, err);
    if (spark_ok(s) && text) s = text_hand_over(&r.text, text, err);
    if (spark_ok(s))
        *out = (spark_tokens){ids.ids, ids.n};
    else
        spark_ids_free(&ids);
    spark_rendering_free(&r);
    return s;
}

/* ---- For cells ---- */

void api_text_prepare_cell(void)
{
    const time_t now = time(NULL), month = 30 * 24 * 3600;
    struct tm local;
    tzset();
    for (int i = 0; i <= 24; i++) { /* the names of summer and winter time are allocated when they are first met */
        const time_t then = now + i * month;
        localtime_r(&then, &local);
    }
    spark_json_heap_install();
    spark_json_heap_use(NULL);
}

spark_status api_chat_ids(const spark_model *m, spark_bytes vars, spark_arena *scratch, spark_ids *ids,
                          spark_text *text, spark_err *err)
{
    spark_rendering r = {0};
    spark_ids got = {.arena = scratch};
    spark_json_heap_use(scratch);
    spark_status s = chat_render(m, vars, scratch, &r, err);
    spark_json_heap_use(NULL);
    if (spark_ok(s)) s = chat_tokenize(m, &r, &got, err);
    if (!spark_ok(s)) return s;
    *ids = got;
    if (text) *text = r.text;
    return s;
}

spark_status api_text_ids(const spark_model *m, spark_bytes text, unsigned flags, spark_arena *scratch, spark_ids *ids,
                          spark_err *err)
{
    spark_ids got = {.arena = scratch};
    SPARK_TRY(spark_tokenizer_encode(m->tokenizer, text, text_flags(flags), &got, err));
    *ids = got;
    return SPARK_SUCCESS;
}

spark_status api_detokenize(const spark_model *m, const uint32_t *ids, size_t n, spark_arena *scratch, spark_text *text,
                            spark_err *err)
{
    spark_text got = {.arena = scratch};
    SPARK_TRY(spark_tokenizer_decode(m->tokenizer, ids, n, &got, err));
    *text = got;
    return SPARK_SUCCESS;
}

/* What the scratch covers:
 *  - a text: all that encoding can take (spark_tokenizer_encode_bytes), be it one single word;
 *  - ids: pieces of SCRATCH_PIECE bytes each (the longest of released vocabularies are runs of 128 blanks), or shorter if the
 *    vocabulary has none so long;
 *  - a chat: SCRATCH_JSON bytes for each byte of JSON and SCRATCH_VALUES for its values in the template and the rendering, then
 *    encoding a text of the length of the JSON and SCRATCH_TEMPLATE more, the template's own words. With half a megabyte of
 *    JSON that makes 69 bytes a byte; ChatML took 41 where all messages are of a few letters, 13 to 16 where they are long.
 * Not covered, and refused with E_LIMIT then: JSON of empty objects and lists (up to 100 bytes a byte), templates that blow up. */
enum { SCRATCH_PIECE = 128, SCRATCH_JSON = 16, SCRATCH_TEMPLATE = 64 << 10, SCRATCH_VALUES = 4 << 20 };

size_t api_text_scratch_bytes(const spark_model *m, uint32_t n_ctx, size_t max_text)
{
    if (max_text > SPARK_MAX_TEXT_SCRATCH / SCRATCH_JSON) return SPARK_MAX_TEXT_SCRATCH;
    const size_t chat = max_text * SCRATCH_JSON + SCRATCH_VALUES +
                        spark_tokenizer_encode_bytes(max_text + SCRATCH_TEMPLATE);
    const size_t longest = spark_tokenizer_longest_piece(m->tokenizer);
    const size_t decode = n_ctx * (longest < SCRATCH_PIECE ? longest : SCRATCH_PIECE) + SCRATCH_TEMPLATE;
    const size_t most = chat > decode ? chat : decode;
    return most < SPARK_MAX_TEXT_SCRATCH ? most : SPARK_MAX_TEXT_SCRATCH;
}
