/* cell_card.c - see cell_card.h. */
#include "serve/cell_card.h"

#include <string.h>

enum { CARD_TYPES = 64 }; /* ids of types lie below */

/* The type that holds most bytes of the weights: what people call the file by. */
static const char *card_quantization(const spark_gguf *g)
{
    uint64_t bytes[CARD_TYPES] = {0};
    uint32_t best = 0;
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        if ((unsigned)t->type < CARD_TYPES) bytes[t->type] += t->n_bytes;
    }
    for (uint32_t i = 1; i < CARD_TYPES; i++)
        if (bytes[i] > bytes[best]) best = i;
    return spark_type_lookup(best)->name;
}

char *cell_card_text(const spark_model *m, const spark_engine_options *o, const cell_config *c)
{
    spark_description d;
    spark_bytes template = {0};
    spark_model_describe(m, &d);
    if (m->chat) (void)!spark_ok(spark_gguf_get_string(m->gguf, "tokenizer.chat_template", &template, NULL, NULL));
    json_t *card = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "arch", d.arch,
                             "quantization", card_quantization(m->gguf), "cpu", spark_isa_name(m->isa), "tokenizer", d.tokenizer,
                             "n_params", (json_int_t)d.n_params, "file_bytes", (json_int_t)d.file_bytes, "n_ctx",
                             (json_int_t)o->n_ctx, "n_ctx_train", (json_int_t)d.n_ctx_train, "n_embd", (json_int_t)d.n_embd,
                             "n_vocab", (json_int_t)d.n_vocab, "n_layers", (json_int_t)d.n_layers, "n_slots",
                             (json_int_t)o->n_running, "n_waiting", (json_int_t)o->n_waiting, "n_pages", (json_int_t)o->n_pages);
    if (card && m->chat) { /* a template that is no UTF-8 is not shown; it works all the same */
        json_t *text = json_stringn((const char *)template.ptr, template.len);
        json_object_set_new(card, "chat_template", text ? text : json_string(""));
    }
    (void)c;
    char *out = card ? json_dumps(card, JSON_COMPACT) : NULL;
    json_decref(card);
    return out;
}

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
    SPARK_CHECK(json_is_string(v), err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "description of a model: '%s' is missing", name);
    SPARK_TRY(spark_arena_copy(a, (spark_bytes){(const uint8_t *)json_string_value(v), json_string_length(v)}, &copy, err));
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
    CARD_U32(n_ctx) CARD_U32(n_ctx_train) CARD_U32(n_embd) CARD_U32(n_vocab) CARD_U32(n_layers) CARD_U32(n_slots)
#undef CARD_U32
    if (json_object_get(o, "chat_template")) SPARK_TRY(card_text(o, "chat_template", a, &c->chat_template, err));
    return SPARK_SUCCESS;
}

spark_status cell_card_parse(api_card *out, spark_bytes ready, spark_arena *a, spark_err *err)
{
    api_card c = *out;
    json_error_t why;
    json_t *o = json_loadb((const char *)ready.ptr + CELL_MEMORY_BYTES, ready.len - CELL_MEMORY_BYTES,
                           JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    SPARK_CHECK(o, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "description of a model: %s", why.text);
    c.memory_bytes = cell_memory_get(ready.ptr).planned;
    const spark_status s = card_read(&c, o, a, err);
    json_decref(o);
    if (spark_ok(s)) *out = c;
    return s;
}
