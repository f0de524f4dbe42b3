/* front_card.c - reads what an engine says of its model (cell_card.c writes it). */
#include <string.h>

#include "serve/front_internal.h"

static spark_status card_number(const json_t *o, const char *name, uint64_t max, uint64_t *out, spark_err *err)
{
    const json_t *v = json_object_get(o, name);
    SPARK_CHECK(json_is_integer(v) && json_integer_value(v) >= 0 && (uint64_t)json_integer_value(v) <= max, err,
                SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "description of a model: '%s' is missing or out of range", name);
    *out = (uint64_t)json_integer_value(v);
    return SPARK_SUCCESS;
}

static spark_status card_text(const json_t *o, const char *name, spark_arena *a, const char **out, spark_err *err)
{
    const json_t *v = json_object_get(o, name);
    spark_bytes copy;
    SPARK_CHECK(json_is_string(v), err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "description of a model: '%s' is missing",
                name);
    SPARK_TRY(
        spark_arena_copy(a, (spark_bytes){(const uint8_t *)json_string_value(v), json_string_length(v)}, &copy, err));
    *out = (const char *)copy.ptr;
    return SPARK_SUCCESS;
}

static spark_status card_read(api_card *c, const json_t *o, spark_arena *a, spark_err *err)
{
    uint64_t v = 0;
    SPARK_TRY(card_text(o, "arch", a, &c->arch, err));
    SPARK_TRY(card_text(o, "quantization", a, &c->quantization, err));
    SPARK_TRY(card_number(o, "n_params", INT64_MAX, &c->n_params, err));
    SPARK_TRY(card_number(o, "file_bytes", INT64_MAX, &c->file_bytes, err));
#define CARD_U32(name)                                                                                                 \
    SPARK_TRY(card_number(o, #name, UINT32_MAX, &v, err));                                                             \
    c->name = (uint32_t)v;
    CARD_U32(n_ctx)
    CARD_U32(n_ctx_train)
    CARD_U32(n_embd)
    CARD_U32(n_vocab)
    CARD_U32(n_layers)
    CARD_U32(n_slots)
#undef CARD_U32
    if (json_object_get(o, "chat_template")) SPARK_TRY(card_text(o, "chat_template", a, &c->chat_template, err));
    return SPARK_SUCCESS;
}

spark_status cell_card_parse(api_card *out, spark_bytes ready, spark_arena *a, spark_err *err)
{
    api_card c = *out;
    json_error_t why;
    const spark_bytes text = {ready.ptr + CELL_MEMORY_BYTES, ready.len - CELL_MEMORY_BYTES};
    SPARK_TRY(api_json_check(text, err));
    json_t *o = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    SPARK_CHECK(o, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "description of a model: %s", why.text);
    c.memory_bytes = cell_memory_get(ready.ptr).planned;
    const spark_status s = card_read(&c, o, a, err);
    json_decref(o);
    if (spark_ok(s)) *out = c;
    return s;
}
