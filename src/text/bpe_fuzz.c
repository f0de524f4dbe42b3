/* bpe_fuzz.c - aims at the pre-tokenizers and at spark_tokenizer_encode and _decode of byte-level BPE vocabularies; see
 * tokenizer_fuzz.h. */
#include "text/tokenizer_fixture.h"

#define FUZZ_LOSSLESS 1
#define FUZZ_NAIVE    0

static void fuzz_spec(fixture_spec *s, uint8_t choice)
{
    static const char *const pres[8] = {"gpt-2",        "llama-bpe",   "qwen35", "gpt-4o",
                                        "deepseek-llm", "deepseek-v3", "falcon", "viking"};
    fixture_bpe(s, pres[choice]);
}

#include "text/tokenizer_fuzz.h"
