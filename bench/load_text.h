/* load_text.h - the requests that load-generator sends: random words of a fixed list, so that no two prompts share a prefix
 * unless asked. Request number n of a seed has the same words on every server. */
#ifndef SPARK_BENCH_LOAD_TEXT_H
#define SPARK_BENCH_LOAD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct load_text {
    const char *host, *key, *model; /* key NULL = none */
    const char *extra;              /* members of the JSON body, as text: "\"top_k\": 1"; NULL = none */
    bool chat;                      /* /v1/chat/completions, else /v1/completions */
    double temperature;
    uint64_t seed;
    double tokens_per_word, tokens_around; /* as load_calibrate found: of the words, of what stands around them */
    uint32_t shared_tokens;                /* the first so many are the same in all prompts */
} load_text;

/* How many words make a prompt of so many tokens; at least one. */
uint32_t load_text_words(const load_text *t, uint32_t n_tokens);
/* A streaming request, to be freed by the caller. */
char *load_text_request(const load_text *t, uint64_t number, uint32_t n_words, uint32_t max_tokens, size_t *len);
char *load_text_get(const load_text *t, const char *path, size_t *len);
/* What a server says of two sizes of prompts: tokens = around + per_word * words. false: that is no line that rises. */
bool load_text_fit(load_text *t, double words_a, double tokens_a, double words_b, double tokens_b);

#endif
