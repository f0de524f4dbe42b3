/* synthetic_model.c - synthetic-model SHAPE TYPE OUT.gguf [--seed N]: see synthetic.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "synthetic.h"

enum { SYN_PIECE = 256 * 1024 }; /* weights made at once: a multiple of every block */

typedef struct syn_job {
    const syn_shape *s;
    const syn_mix *m;
    uint64_t seed;
    FILE *f;
    spark_arena *a;
    spark_gguf_writer *w;
    syn_tensor *t;
    uint32_t n;
} syn_job;

/* ---- A byte-level BPE vocabulary: bytes, pairs of letters, then words that no text reaches (letters and digits are split
 * before), so that whatever random weights choose is text that a server must send ------------------------------------- */

/* ChatML, as most models of these shapes have it: servers know it. Its marks are plain text here. */
static const char syn_chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/* GPT-2's printable stand-in for a byte, as UTF-8. */
static int syn_byte_text(uint32_t byte, char out[4])
{
    uint32_t cp = byte, skipped = 0;
    const bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    for (uint32_t b = 0; b < byte; b++) skipped += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    if (!plain) cp = 256 + skipped;
    if (cp < 128) return snprintf(out, 4, "%c", (int)cp);
    return snprintf(out, 4, "%c%c", (int)(0xc0 | cp >> 6), (int)(0x80 | (cp & 63)));
}

static spark_status syn_vocabulary(syn_job *j, spark_err *err)
{
    enum { LETTERS = 26, PAIRS = LETTERS * LETTERS, CAP = 24 };
    const uint32_t n = j->s->n_vocab;
    spark_bytes *tokens = NULL, *merges = NULL;
    char *text = NULL, *merge_text = NULL;
    int32_t *types = NULL;
    SPARK_TRY(SPARK_NEW(j->a, n, &tokens, err));
    SPARK_TRY(SPARK_NEW(j->a, n, &types, err));
    SPARK_TRY(SPARK_NEW(j->a, (size_t)n * CAP, &text, err));
    SPARK_TRY(SPARK_NEW(j->a, PAIRS, &merges, err));
    SPARK_TRY(SPARK_NEW(j->a, PAIRS * 4, &merge_text, err));
    for (uint32_t i = 0; i < n; i++) {
        char *at = text + (size_t)i * CAP;
        const uint32_t pair = i - 256;
        if (i < 256)
            syn_byte_text(i, at);
        else if (pair < PAIRS)
            snprintf(at, CAP, "%c%c", 'a' + (char)(pair / LETTERS), 'a' + (char)(pair % LETTERS));
        else
            snprintf(at, CAP, i + 1 < n ? "\xc4\xa0w%u" : "<|end_%u|>", i); /* the first two bytes stand for a space */
        tokens[i] = spark_bytes_of(at);
        types[i] = i + 1 < n ? 1 : 3; /* normal, control */
    }
    for (uint32_t i = 0; i < PAIRS; i++) {
        snprintf(merge_text + 4 * i, 4, "%c %c", 'a' + (char)(i / LETTERS), 'a' + (char)(i % LETTERS));
        merges[i] = (spark_bytes){(const uint8_t *)merge_text + 4 * i, 3};
    }
    SPARK_TRY(spark_gguf_put_string(j->w, "tokenizer.ggml.model", spark_bytes_of("gpt2"), err));
    SPARK_TRY(spark_gguf_put_string(j->w, "tokenizer.ggml.pre", spark_bytes_of(j->s->pre), err));
    SPARK_TRY(spark_gguf_put_strings(j->w, "tokenizer.ggml.tokens", tokens, n, err));
    SPARK_TRY(spark_gguf_put_array(j->w, "tokenizer.ggml.token_type", SPARK_GGUF_I32, n, types, err));
    SPARK_TRY(spark_gguf_put_strings(j->w, "tokenizer.ggml.merges", merges, PAIRS, err));
    SPARK_TRY(spark_gguf_put_u32(j->w, "tokenizer.ggml.bos_token_id", n - 1, err));
    SPARK_TRY(spark_gguf_put_u32(j->w, "tokenizer.ggml.eos_token_id", n - 1, err));
    SPARK_TRY(spark_gguf_put_string(j->w, "tokenizer.chat_template", spark_bytes_of(syn_chat_template), err));
    return spark_gguf_put_bool(j->w, "tokenizer.ggml.add_bos_token", false, err);
}

/* ---- Keys ----------------------------------------------------------------------------------------------------------- */

static spark_status syn_put(syn_job *j, const char *key, uint32_t value, spark_err *err)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", j->s->arch, key);
    return spark_gguf_put_u32(j->w, name, value, err);
}

static spark_status syn_keys(syn_job *j, spark_err *err)
{
    const syn_shape *s = j->s;
    char name[96];
    snprintf(name, sizeof name, "synthetic %s %s", s->name, j->m->name);
    SPARK_TRY(spark_gguf_put_string(j->w, "general.architecture", spark_bytes_of(s->arch), err));
    SPARK_TRY(spark_gguf_put_string(j->w, "general.name", spark_bytes_of(name), err));
    SPARK_TRY(spark_gguf_put_u32(j->w, "general.file_type", j->m->file_type, err));
    SPARK_TRY(spark_gguf_put_u32(j->w, "general.quantization_version", 2, err));
    SPARK_TRY(syn_put(j, "context_length", s->n_ctx, err));
    SPARK_TRY(syn_put(j, "embedding_length", s->n_embd, err));
    SPARK_TRY(syn_put(j, "block_count", s->n_layers, err));
    SPARK_TRY(syn_put(j, "feed_forward_length", s->n_ff, err));
    SPARK_TRY(syn_put(j, "attention.head_count", s->n_heads, err));
    SPARK_TRY(syn_put(j, "attention.head_count_kv", s->n_heads_kv, err));
    SPARK_TRY(syn_put(j, "attention.key_length", s->head_dim, err));
    SPARK_TRY(syn_put(j, "attention.value_length", s->head_dim, err));
    SPARK_TRY(syn_put(j, "rope.dimension_count", s->head_dim, err));
    SPARK_TRY(syn_put(j, "vocab_size", s->n_vocab, err));
    if (s->n_experts) SPARK_TRY(syn_put(j, "expert_count", s->n_experts, err));
    if (s->n_experts) SPARK_TRY(syn_put(j, "expert_used_count", s->n_experts_used, err));
    if (s->n_experts && s->qk_norm) SPARK_TRY(syn_put(j, "expert_feed_forward_length", s->n_ff, err));
    snprintf(name, sizeof name, "%s.attention.layer_norm_rms_epsilon", s->arch);
    SPARK_TRY(spark_gguf_put_f32(j->w, name, s->eps, err));
    snprintf(name, sizeof name, "%s.rope.freq_base", s->arch);
    return spark_gguf_put_f32(j->w, name, s->rope_base, err);
}

/* ---- Data ----------------------------------------------------------------------------------------------------------- */

/* Llama 3.2's stretching of slow rotations: factor 32, made for 8192 positions, between 1 and 4 turns in those. */
static float syn_rope_factor(const syn_shape *s, uint32_t i)
{
    const double pi = 3.14159265358979323846, wave = 2 * pi * pow((double)s->rope_base, 2.0 * i / s->head_dim);
    const double turns = 8192 / wave, smooth = (turns - 1) / (4 - 1);
    if (turns > 4) return 1;
    return turns < 1 ? 32 : (float)(1 / ((1 - smooth) / 32 + smooth));
}

static spark_status syn_vector_data(syn_job *j, const syn_tensor *t, syn_random *r, spark_err *err)
{
    for (uint32_t i = 0; i < t->dims[0]; i++) {
        const float noise = syn_gauss(r);
        const float x = t->fill == SYN_NORM   ? 1 + 0.1f * noise
                        : t->fill == SYN_BIAS ? 0.1f * noise
                                              : syn_rope_factor(j->s, i);
        SPARK_TRY(spark_gguf_write_data(j->w, &x, sizeof x, err));
    }
    return SPARK_SUCCESS;
}

static spark_status syn_tensor_data(syn_job *j, uint32_t index, uint8_t *buffer, spark_err *err)
{
    const syn_tensor *t = &j->t[index];
    syn_random r = {j->seed * 0x2545f4914f6cdd1du + index};
    if (t->fill != SYN_MATRIX) return syn_vector_data(j, t, &r, err);
    const float sigma = 1 / sqrtf((float)t->dims[0]); /* keeps the size of what is multiplied */
    const uint64_t n = t->dims[0] * t->dims[1] * t->dims[2];
    for (uint64_t at = 0; at < n; at += SYN_PIECE) {
        const size_t piece = n - at < SYN_PIECE ? (size_t)(n - at) : SYN_PIECE;
        syn_weights(t->type, sigma, piece, buffer, &r);
        SPARK_TRY(spark_gguf_write_data(j->w, buffer, spark_type_row_bytes(spark_type_lookup(t->type), piece), err));
    }
    return SPARK_SUCCESS;
}

static spark_status syn_sink(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    SPARK_CHECK(fwrite(bytes, 1, n, ctx) == n, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "the disk is full or not writable");
    return SPARK_SUCCESS;
}

static spark_status syn_write(syn_job *j, spark_err *err)
{
    uint8_t *buffer = NULL;
    SPARK_TRY(SPARK_NEW(j->a, SYN_MAX_TENSORS, &j->t, err));
    SPARK_TRY(SPARK_NEW(j->a, SYN_PIECE * sizeof(float), &buffer, err));
    j->n = syn_tensors(j->s, j->m, j->t);
    SPARK_TRY(spark_gguf_writer_create(&j->w, 64, j->n, j->a, err));
    SPARK_TRY(syn_keys(j, err));
    SPARK_TRY(syn_vocabulary(j, err));
    for (uint32_t i = 0; i < j->n; i++)
        SPARK_TRY(
            spark_gguf_put_tensor(j->w, spark_bytes_of(j->t[i].name), j->t[i].type, j->t[i].n_dims, j->t[i].dims, err));
    SPARK_TRY(spark_gguf_write_head(j->w, syn_sink, j->f, err));
    for (uint32_t i = 0; i < j->n; i++) SPARK_TRY(syn_tensor_data(j, i, buffer, err));
    return spark_gguf_write_end(j->w, err);
}

/* ---- The command ---------------------------------------------------------------------------------------------------- */

static const syn_shape *syn_shape_of(const char *name)
{
    const syn_shape *s = syn_shapes;
    while (s->name && strcmp(s->name, name) != 0) s++;
    return s->name ? s : NULL;
}

static const syn_mix *syn_mix_of(const char *name)
{
    const syn_mix *m = syn_mixes;
    while (m->name && strcasecmp(m->name, name) != 0) m++;
    return m->name ? m : NULL;
}

static int syn_usage(void)
{
    fprintf(stderr, "usage: synthetic-model SHAPE TYPE OUT.gguf [--seed N]\nshapes:");
    for (const syn_shape *s = syn_shapes; s->name; s++) fprintf(stderr, " %s", s->name);
    fprintf(stderr, "\ntypes:");
    for (const syn_mix *m = syn_mixes; m->name; m++) fprintf(stderr, " %s", m->name);
    fputc('\n', stderr);
    return 2;
}

int main(int argc, char **argv)
{
    syn_job j = {.seed = 1};
    spark_err err = {0};
    char part[4096];
    if (argc != 4 && !(argc == 6 && strcmp(argv[4], "--seed") == 0)) return syn_usage();
    j.s = syn_shape_of(argv[1]);
    j.m = syn_mix_of(argv[2]);
    if (!j.s || !j.m || (size_t)snprintf(part, sizeof part, "%s.part", argv[3]) >= sizeof part) return syn_usage();
    if (argc == 6) j.seed = strtoull(argv[5], NULL, 10);
    j.f = fopen(part, "wb");
    if (!j.f) {
        perror(part);
        return 1;
    }
    spark_status st = spark_arena_create(&j.a, (size_t)1 << 30, &err);
    if (spark_ok(st)) st = syn_write(&j, &err);
    spark_arena_destroy(&j.a);
    const bool closed = fclose(j.f) == 0;
    if (spark_ok(st) && closed && rename(part, argv[3]) == 0) return 0;
    fprintf(stderr, "synthetic-model: %s: %s\n", argv[3], spark_ok(st) ? "cannot be written" : err.text);
    remove(part);
    return 1;
}
