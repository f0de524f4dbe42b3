/* vocab_fuzz.c - aims at spark_tokenizer_load: a vocabulary made of the input, of any family, then a text on it. Whatever
 * loads must encode and decode without leaving the vocabulary.
 * Input: model, pre-tokenizer and option bytes, the three special ids, then tokens and merges (see fuzz_read), then text. */
#include "text/tokenizer_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CLAIM(x)                                                                                                  \
    do {                                                                                                               \
        if (!(x)) abort();                                                                                             \
    } while (0)

typedef struct fuzz_input {
    const uint8_t *p;
    size_t left;
} fuzz_input;

static uint8_t fuzz_byte(fuzz_input *in)
{
    if (in->left == 0) return 0;
    in->left--;
    return *in->p++;
}

/* A string of up to 15 bytes, without NUL: length in the low bits of the first byte, the rest of it is returned. */
static uint8_t fuzz_string(fuzz_input *in, char *out)
{
    const uint8_t head = fuzz_byte(in);
    size_t n = 0;
    for (unsigned i = 0; i < (head & 15u) && in->left > 0; i++) {
        const uint8_t c = fuzz_byte(in);
        if (c) out[n++] = (char)c;
    }
    out[n] = 0;
    return head >> 4;
}

static uint32_t fuzz_id(fuzz_input *in)
{
    const uint8_t b = fuzz_byte(in);
    return b == 0xFF ? SPARK_TOKEN_NONE : b;
}

static void fuzz_read(fuzz_input *in, fixture_spec *s, char merges[64][16])
{
    static const char *const models[] = {"llama", "gpt2", "bert", "llama", "gpt2"};
    static const char *const pres[] = {"gpt-2", "llama-bpe", "deepseek-llm", "tekken", "default"};
    static const float scores[] = {0, -1, -2, -3, 1e30f, -1e30f, -0.0f, -1.5f};
    const uint8_t options = fuzz_byte(in);
    fixture_common(s, models[fuzz_byte(in) % SPARK_COUNT(models)]);
    s->pre = pres[fuzz_byte(in) % SPARK_COUNT(pres)];
    s->with_types = options & 1;
    s->with_scores = options & 2;
    s->with_merges = options & 4;
    s->add_bos = options & 8 ? options & 16 : -1;
    s->add_eos = options & 32 ? options & 16 : -1;
    s->space_prefix = options & 64 ? options & 16 : -1;
    s->name = options & 128 ? "phi-3" : NULL;
    s->bos = fuzz_id(in);
    s->eos = fuzz_id(in);
    s->unk = fuzz_id(in);
    const unsigned n = fuzz_byte(in);
    for (unsigned i = 0; i < n && in->left > 0; i++) {
        char text[16];
        const uint8_t rest = fuzz_string(in, text);
        fixture_add(s, text, rest % 8, scores[(rest + i) % SPARK_COUNT(scores)]);
    }
    const unsigned n_merges = fuzz_byte(in) % 64;
    for (unsigned i = 0; i < n_merges && in->left > 0; i++) {
        fuzz_string(in, merges[i]);
        s->merges[s->n_merges++] = merges[i];
    }
}

static void fuzz_text(const fixture *f, spark_bytes text, unsigned flags)
{
    spark_ids ids = {0};
    spark_text back = {0};
    uint8_t buf[SPARK_TOKENIZER_PIECE];
    FUZZ_CLAIM(spark_ok(spark_tokenizer_encode(f->t, text, flags, &ids, NULL)));
    FUZZ_CLAIM(spark_ok(spark_tokenizer_decode(f->t, ids.ids, ids.n, &back, NULL))); /* so every id is in range */
    for (uint32_t i = 0; i < spark_tokenizer_n_vocab(f->t); i++) {
        const spark_bytes piece = spark_tokenizer_piece(f->t, i, true, buf);
        FUZZ_CLAIM(piece.len <= spark_tokenizer_token(f->t, i).len);
    }
    spark_ids_free(&ids);
    spark_text_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static fixture_spec s;
    char merges[64][16];
    fuzz_input in = {data, size};
    fixture f;
    spark_err err = {0};
    fuzz_read(&in, &s, merges);
    if (spark_ok(fixture_open(&f, &s, &err)))
        for (unsigned flags = 0; flags < 8; flags++) fuzz_text(&f, (spark_bytes){in.p, in.left}, flags);
    else
        FUZZ_CLAIM(err.text[0] != 0 && f.t == NULL);
    fixture_close(&f);
    return 0;
}
