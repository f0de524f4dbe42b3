/* wpm_fuzz.c - aims at spark_tokenizer_encode and _decode of WordPiece vocabularies; see tokenizer_fuzz.h. */
#include "text/tokenizer_fixture.h"

#define FUZZ_LOSSLESS 0 /* it normalizes, and what it does not know is [UNK] */
#define FUZZ_NAIVE    0

static void fuzz_spec(fixture_spec *s, uint8_t choice)
{
    (void)choice;
    fixture_wpm(s);
}

#include "text/tokenizer_fuzz.h"
