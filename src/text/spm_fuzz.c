/* spm_fuzz.c - aims at spark_tokenizer_encode and _decode of SPM vocabularies; see tokenizer_fuzz.h. */
#include "text/tokenizer_fixture.h"

#define FUZZ_LOSSLESS 1
#define FUZZ_NAIVE    1

static void fuzz_spec(fixture_spec *s, uint8_t choice)
{
    fixture_spm(s);
    if (choice & 1) s->space_prefix = 0;
    if (choice & 2) fixture_add(s, "o\xE2\x96\x81w", 1, -3); /* a token across a space */
    if (choice & 4)
        for (uint32_t i = 259; i < s->n; i++) s->tokens[i].score = -1; /* all alike: the leftmost wins */
}

#include "text/tokenizer_fuzz.h"
