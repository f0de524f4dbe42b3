/* text.c - public tokenizing and chat rendering: JSON in, tokens out. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_internal.h"
#include "base/spark_limits.h"

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

spark_status spark_model_tokenize(const spark_model *m, const char *text, size_t len, unsigned flags, spark_tokens *out,
                                  spark_err *err)
{
    spark_ids ids = {0};
    const unsigned how = (flags & SPARK_TOKENIZE_SPECIAL ? SPARK_ENCODE_SPECIAL : 0u) |
                         (flags & SPARK_TOKENIZE_ADD ? SPARK_ENCODE_ADD : 0u);
    const spark_status s = spark_tokenizer_encode(m->tokenizer, (spark_bytes){(const uint8_t *)text, len}, how, &ids,
                                                  err);
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

static spark_status chat_set_token(const spark_model *m, json_t *vars, const char *key, uint32_t id, spark_err *err)
{
    spark_bytes text = {0};
    if (id != SPARK_TOKEN_NONE) text = spark_tokenizer_token(m->tokenizer, id);
    json_t *value = json_stringn(text.len ? (const char *)text.ptr : "", text.len);
    SPARK_CHECK(value && json_object_set_new(vars, key, value) == 0, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "the text of %s cannot be handed to the chat template", key);
    return SPARK_SUCCESS;
}

/* Parses the caller's variables and fills in what the model knows. */
static spark_status chat_vars(const spark_model *m, const char *json, size_t len, json_t **out, spark_err *err)
{
    json_error_t why;
    json_t *vars = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    SPARK_CHECK(vars, err, SPARK_E_FORMAT, (uint64_t)(why.position > 0 ? why.position : 0),
                "the chat is not valid JSON: %s", why.text);
    spark_status s = json_is_object(vars) && json_is_array(json_object_get(vars, "messages"))
                         ? SPARK_SUCCESS
                         : spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                                      "the chat must be a JSON object with an array \"messages\"");
    if (spark_ok(s)) s = chat_set_token(m, vars, "bos_token", spark_tokenizer_bos(m->tokenizer), err);
    if (spark_ok(s)) s = chat_set_token(m, vars, "eos_token", spark_tokenizer_eos(m->tokenizer), err);
    if (spark_ok(s) && !json_object_get(vars, "add_generation_prompt"))
        json_object_set_new(vars, "add_generation_prompt", json_true());
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

static spark_status chat_tokenize(const spark_model *m, spark_rendering *r, spark_tokens *out, spark_err *err)
{
    spark_ids ids = {0};
    spark_status s = spark_tokenizer_encode_runs(m->tokenizer, (spark_bytes){r->text.ptr, r->text.len}, r->runs,
                                                 r->n_runs, &ids, err);
    if (spark_ok(s)) s = chat_add_bos(m, &ids, err);
    if (spark_ok(s))
        *out = (spark_tokens){ids.ids, ids.n};
    else
        spark_ids_free(&ids);
    return s;
}

spark_status spark_model_chat(const spark_model *m, const char *vars, size_t len, spark_tokens *out, spark_buffer *text,
                              spark_err *err)
{
    if (!m->chat && err) *err = m->chat_err;
    SPARK_TRY(m->chat_status);
    json_t *values = NULL;
    SPARK_TRY(chat_vars(m, vars, len, &values, err));
    const time_t seconds = time(NULL);
    struct tm now = {0};
    localtime_r(&seconds, &now);
    spark_rendering r = {0};
    spark_tokens ids = {0};
    spark_status s = spark_template_render(m->chat, values, &now, &r, err);
    json_decref(values);
    if (spark_ok(s)) s = chat_tokenize(m, &r, &ids, err);
    if (spark_ok(s) && text) s = text_hand_over(&r.text, text, err);
    if (spark_ok(s))
        *out = ids;
    else
        spark_tokens_free(&ids);
    spark_rendering_free(&r);
    return s;
}
