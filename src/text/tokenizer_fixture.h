/* tokenizer_fixture.h - small vocabularies written as GGUF bytes and loaded again. For tests and fuzz targets only.
 * Nouns: fixture, a loaded tokenizer with all it borrows from; fixture_spec, what the file says. */
#ifndef SPARK_TEXT_TOKENIZER_FIXTURE_H
#define SPARK_TEXT_TOKENIZER_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "format/gguf_write.h"
#include "text/tokenizer.h"

#define FIXTURE_MAX 512

typedef struct fixture_token {
    char text[40];
    int32_t type; /* 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
    float score;
} fixture_token;

typedef struct fixture_spec {
    const char *model, *pre, *name;
    fixture_token tokens[FIXTURE_MAX];
    uint32_t n;
    const char *merges[64];
    uint32_t n_merges;
    bool with_types, with_scores, with_merges;
    int add_bos, add_eos, space_prefix; /* -1: not in the file */
    uint32_t bos, eos, unk;             /* SPARK_TOKEN_NONE: not in the file */
} fixture_spec;

typedef struct fixture {
    spark_arena *arena;
    spark_text file;
    spark_tokenizer *t;
} fixture;

SPARK_UNUSED static uint32_t fixture_add(fixture_spec *s, const char *text, int32_t type, float score)
{
    snprintf(s->tokens[s->n].text, sizeof s->tokens[s->n].text, "%s", text);
    s->tokens[s->n].type = type;
    s->tokens[s->n].score = score;
    return s->n++;
}

static spark_status fixture_sink(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    return spark_text_append(ctx, (spark_bytes){bytes, n}, err);
}

/* The writer borrows the arrays until the head is written, so that happens here too. */
static spark_status fixture_put(fixture *f, const fixture_spec *s, spark_gguf_writer *w, spark_err *err)
{
    spark_bytes texts[FIXTURE_MAX], merges[64];
    int32_t types[FIXTURE_MAX];
    float scores[FIXTURE_MAX];
    for (uint32_t i = 0; i < s->n; i++) {
        texts[i] = spark_bytes_of(s->tokens[i].text);
        types[i] = s->tokens[i].type;
        scores[i] = s->tokens[i].score;
    }
    for (uint32_t i = 0; i < s->n_merges; i++) merges[i] = spark_bytes_of(s->merges[i]);
    SPARK_TRY(spark_gguf_put_string(w, "general.architecture", SPARK_BYTES_LITERAL("llama"), err));
    if (s->name) SPARK_TRY(spark_gguf_put_string(w, "general.name", spark_bytes_of(s->name), err));
    if (s->model) SPARK_TRY(spark_gguf_put_string(w, "tokenizer.ggml.model", spark_bytes_of(s->model), err));
    if (s->pre) SPARK_TRY(spark_gguf_put_string(w, "tokenizer.ggml.pre", spark_bytes_of(s->pre), err));
    SPARK_TRY(spark_gguf_put_strings(w, "tokenizer.ggml.tokens", texts, s->n, err));
    if (s->add_bos >= 0) SPARK_TRY(spark_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", s->add_bos, err));
    if (s->add_eos >= 0) SPARK_TRY(spark_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", s->add_eos, err));
    if (s->space_prefix >= 0)
        SPARK_TRY(spark_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", s->space_prefix, err));
    if (s->bos != SPARK_TOKEN_NONE) SPARK_TRY(spark_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", s->bos, err));
    if (s->eos != SPARK_TOKEN_NONE) SPARK_TRY(spark_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", s->eos, err));
    if (s->unk != SPARK_TOKEN_NONE) SPARK_TRY(spark_gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", s->unk, err));
    if (s->with_merges) SPARK_TRY(spark_gguf_put_strings(w, "tokenizer.ggml.merges", merges, s->n_merges, err));
    if (s->with_types)
        SPARK_TRY(spark_gguf_put_array(w, "tokenizer.ggml.token_type", SPARK_GGUF_I32, s->n, types, err));
    if (s->with_scores) SPARK_TRY(spark_gguf_put_array(w, "tokenizer.ggml.scores", SPARK_GGUF_F32, s->n, scores, err));
    return spark_gguf_write_head(w, fixture_sink, &f->file, err);
}

/* The file of a spec, in f->file. */
SPARK_UNUSED static spark_status fixture_write(fixture *f, const fixture_spec *s, spark_err *err)
{
    spark_gguf_writer *w = NULL;
    SPARK_TRY(spark_gguf_writer_create(&w, 32, 1, f->arena, err));
    return fixture_put(f, s, w, err);
}

/* Writes, opens and loads. Free with fixture_close whatever comes back. */
SPARK_UNUSED static spark_status fixture_open(fixture *f, const fixture_spec *s, spark_err *err)
{
    spark_gguf *g = NULL;
    *f = (fixture){0};
    SPARK_TRY(spark_arena_create(&f->arena, (size_t)64 << 20, err));
    SPARK_TRY(fixture_write(f, s, err));
    const spark_gguf_file file = {{f->file.ptr, f->file.len}, f->file.len};
    SPARK_TRY(spark_gguf_open(&g, &file, 1, f->arena, err));
    return spark_tokenizer_load(&f->t, g, f->arena, err);
}

SPARK_UNUSED static void fixture_close(fixture *f)
{
    spark_arena_destroy(&f->arena);
    spark_text_free(&f->file);
}

static void fixture_common(fixture_spec *s, const char *model)
{
    *s = (fixture_spec){.model = model, .with_types = true, .add_bos = -1, .add_eos = -1, .space_prefix = -1};
    s->bos = s->eos = s->unk = SPARK_TOKEN_NONE;
}

/* SentencePiece: <unk> <s> </s>, byte tokens, then words of "hello world", 3 user-defined, 1 more control token. */
SPARK_UNUSED static void fixture_spm(fixture_spec *s)
{
    static const char *const words[] = {"\xE2\x96\x81",
                                        "h",
                                        "e",
                                        "l",
                                        "o",
                                        "w",
                                        "r",
                                        "d",
                                        "he",
                                        "ll",
                                        "llo",
                                        "hello",
                                        "\xE2\x96\x81h",
                                        "\xE2\x96\x81hello",
                                        "wo",
                                        "rld",
                                        "ld",
                                        "world",
                                        "\xE2\x96\x81\xE2\x96\x81",
                                        "\xC3\xA9",
                                        "s",
                                        "<",
                                        ">",
                                        "/",
                                        "</",
                                        "s>"};
    char byte[8];
    fixture_common(s, "llama");
    s->with_scores = true;
    fixture_add(s, "<unk>", 2, 0);
    fixture_add(s, "<s>", 3, 0);
    fixture_add(s, "</s>", 3, 0);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(byte, sizeof byte, "<0x%02X>", i);
        fixture_add(s, byte, 6, 0);
    }
    for (unsigned i = 0; i < SPARK_COUNT(words); i++)
        fixture_add(s, words[i], 1, -(float)(strlen(words[i]) < 2 ? 900 : i));
    fixture_add(s, "<tool>", 4, 0);
    fixture_add(s, "<tool>>", 4, 0);
    fixture_add(s, "  ", 4, 0);
    fixture_add(s, "<|im_end|>", 3, 0);
}

/* Byte-level BPE with the given pre-tokenizer: 256 bytes, a few merges, <|endoftext|> control, <tool> user-defined. */
SPARK_UNUSED static void fixture_bpe(fixture_spec *s, const char *pre)
{
    static const char *const merges[] = {"h e",
                                         "l l",
                                         "he ll",
                                         "hell o",
                                         "\xC4\xA0 hello",
                                         "1 2",
                                         "12 3",
                                         "\xC4\xA0 \xC4\xA0",
                                         "a a",
                                         "aa aa",
                                         "l o",
                                         "\xC3\x83 \xC2\xA9",
                                         "e x"};
    static const char *const made[] = {
        "he", "ll",   "hell", "hello",           "\xC4\xA0hello", "12", "123", "\xC4\xA0\xC4\xA0",
        "aa", "aaaa", "lo",   "\xC3\x83\xC2\xA9"}; /* "ex" is in no token */
    fixture_common(s, "gpt2");
    s->pre = pre;
    s->with_merges = true;
    for (uint32_t b = 0, other = 256; b < 256; b++) { /* bytes as printable characters, in the order of the bytes */
        const bool itself = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
        const uint32_t cp = itself ? b : other++;
        char text[3] = {(char)cp, 0, 0};
        if (cp > 127) {
            text[0] = (char)(0xC0 | cp >> 6);
            text[1] = (char)(0x80 | (cp & 63));
        }
        fixture_add(s, text, 1, 0);
    }
    for (uint32_t i = 0; i < SPARK_COUNT(made); i++) fixture_add(s, made[i], 1, 0);
    for (uint32_t i = 0; i < SPARK_COUNT(merges); i++) s->merges[s->n_merges++] = merges[i];
    s->bos = s->eos = fixture_add(s, "<|endoftext|>", 3, 0);
    fixture_add(s, "<tool>", 4, 0);
}

/* WordPiece. */
SPARK_UNUSED static void fixture_wpm(fixture_spec *s)
{
    static const char *const words[] = {"hello", "wor", "elan", ",", "!", "\xE4\xB8\x80", "a", "$", "\xCE\xB1"};
    char text[16];
    fixture_common(s, "bert");
    fixture_add(s, "[PAD]", 3, 0);
    s->unk = fixture_add(s, "[UNK]", 3, 0);
    s->bos = fixture_add(s, "[CLS]", 3, 0);
    for (uint32_t i = 0; i < 99; i++) { /* [SEP] keeps its usual place, 102 */
        snprintf(text, sizeof text, "[unused%u]", i);
        fixture_add(s, text, 1, 0);
    }
    fixture_add(s, "[SEP]", 3, 0);
    for (uint32_t i = 0; i < SPARK_COUNT(words); i++) {
        snprintf(text, sizeof text, "\xE2\x96\x81%s", words[i]);
        fixture_add(s, text, 1, 0);
    }
    fixture_add(s, "ld", 1, 0);
    fixture_add(s, "a", 1, 0);
}

#endif
