/* cell_card.c - see cell_card.h. */
#include "serve/cell_card.h"

#include <string.h>

enum {
    CARD_TYPES = 64, /* ids of types lie below */
    CARD_TEMPLATE_MAX =
        512 << 10, /* bytes of a template that is shown: in JSON it may become six times as long, and must fit READY */
};

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

char *cell_card_text(const spark_model *m, const spark_engine_options *o)
{
    spark_description d;
    spark_bytes template = {0};
    spark_model_describe(m, &d);
    if (m->chat) (void)!spark_ok(spark_gguf_get_string(m->gguf, "tokenizer.chat_template", &template, NULL, NULL));
    json_t *card = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "arch", d.arch,
                             "quantization", card_quantization(m->gguf), "cpu", spark_isa_name(m->isa), "tokenizer",
                             d.tokenizer, "n_params", (json_int_t)d.n_params, "file_bytes", (json_int_t)d.file_bytes,
                             "n_ctx", (json_int_t)o->n_ctx, "n_ctx_train", (json_int_t)d.n_ctx_train, "n_embd",
                             (json_int_t)d.n_embd, "n_vocab", (json_int_t)d.n_vocab, "n_layers", (json_int_t)d.n_layers,
                             "n_slots", (json_int_t)o->n_running, "n_waiting", (json_int_t)o->n_waiting, "n_pages",
                             (json_int_t)o->n_pages);
    if (card && m->chat) { /* a template that is no UTF-8 or too long is not shown; it works all the same */
        json_t *text = template.len > CARD_TEMPLATE_MAX ? NULL : json_stringn((const char *)template.ptr, template.len);
        json_object_set_new(card, "chat_template", text ? text : json_string(""));
    }
    char *out = card ? json_dumps(card, JSON_COMPACT) : NULL;
    json_decref(card);
    return out;
}
