/* tokenizer_test.c - the tokenizers on small vocabularies made here: what becomes which token, what is refused, and that
 * no text is slow. Special tokens: tokenizer_special_test.c; the published vectors: tokenizer_vectors_test.c. */
#include <math.h>

#include "base/clock.h"
#include "text/pretok.h"
#include "text/tokenizer_expect.h"
#include "text/trie.h"

/* ---- SPM ---- */

static void test_spm_merges_by_score_and_marks_spaces(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    tt_expect(&f, "hello world", 0, PH "hello|" PH "|world");
    tt_expect(&f, "hello", SPARK_ENCODE_CONTINUE, "hello");
    tt_expect(&f, "", 0, "");
    tt_expect(&f, "hello", SPARK_ENCODE_ADD, "<s>|" PH "hello");
    tt_expect(&f, "", SPARK_ENCODE_ADD, "<s>");
    fixture_close(&f);
}

static void test_spm_without_space_prefix_adds_none(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    s.space_prefix = 0;
    s.add_eos = 1;
    tt_open(&f, &s);
    tt_expect(&f, "hello", SPARK_ENCODE_ADD, "<s>|hello|</s>");
    tt_round_trip(&f, SPARK_BYTES_LITERAL(" hello"), SPARK_ENCODE_ADD);
    fixture_close(&f);
}

static void test_spm_writes_unknown_characters_as_bytes(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    tt_expect(&f, "\xC3\xA9", SPARK_ENCODE_CONTINUE, "\xC3\xA9");
    tt_expect(&f, "\xE4\xB8\x80", SPARK_ENCODE_CONTINUE, "<0xE4>|<0xB8>|<0x80>");
    tt_expect(&f, "\xE4he", SPARK_ENCODE_CONTINUE, "<0xE4>|he"); /* invalid UTF-8 does not swallow what follows */
    tt_round_trip(&f, SPARK_BYTES_LITERAL("\xFF\xC3(\xE2\x96 \xF0\x9F\0x"), 0);
    fixture_close(&f);
}

static void test_spm_without_byte_tokens_says_unknown_once_a_character(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    for (uint32_t i = 3; i < 259; i++) {
        snprintf(s.tokens[i].text, sizeof s.tokens[i].text, "byte%u", i);
        s.tokens[i].type = 1;
    }
    tt_open(&f, &s);
    tt_expect(&f, "\xE4\xB8\x80h", SPARK_ENCODE_CONTINUE, "<unk>|h");
    fixture_close(&f);
}

static void test_spm_never_makes_control_unknown_or_byte_tokens_of_text(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    tt_expect(&f, "</s>", SPARK_ENCODE_CONTINUE, "</|s>");
    tt_expect(&f, "</s>", SPARK_ENCODE_CONTINUE | SPARK_ENCODE_SPECIAL, "</s>");
    tt_expect(&f, "<unk>", SPARK_ENCODE_CONTINUE, "<|<0x75>|<0x6E>|<0x6B>|>");
    tt_expect(&f, "<0x41>", SPARK_ENCODE_CONTINUE, "<|<0x30>|<0x78>|<0x34>|<0x31>|>");
    fixture_close(&f);
}

static void test_spm_merges_across_a_space_where_a_token_does(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    fixture_add(&s, "o" PH, 1, 5);
    fixture_add(&s, "o" PH "w", 1, 4);
    tt_open(&f, &s);
    tt_expect(&f, "o world", SPARK_ENCODE_CONTINUE, "o" PH "w|o|rld");
    fixture_close(&f);
}

/* ---- BPE ---- */

static void test_bpe_merges_by_rank(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    tt_expect(&f, "hello hello", 0, "hello|\xC4\xA0hello");
    tt_expect(&f, "hellohell", 0, "hello|hell");
    tt_expect(&f, "aaaaa", 0, "aaaa|a");
    tt_expect(&f, "\xC3\xA9", 0, "\xC3\x83\xC2\xA9");
    tt_expect(&f, "ex", 0, "e|x"); /* the merge makes what no token is: bytes again */
    fixture_close(&f);
}

/* What is made by several merges is made only of the halves they name, with the rank of each. */
static void test_bpe_takes_every_merge_that_makes_a_token(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    fixture_add(&s, "xyz", 1, 0);
    fixture_add(&s, "yz", 1, 0);
    s.merges[s.n_merges++] = "xy z"; /* "xy" is no token and made below: a symbol of its own */
    s.merges[s.n_merges++] = "x yz";
    s.merges[s.n_merges++] = "x yz"; /* twice: the first holds */
    s.merges[s.n_merges++] = "y z";
    tt_open(&f, &s);
    tt_expect(&f, "xyz", 0, "xyz"); /* y z, then x yz */
    fixture_close(&f);
    s.merges[s.n_merges - 3] = s.merges[s.n_merges - 2] = "q q"; /* only "xy z" is left, and nothing makes "xy" */
    tt_open(&f, &s);
    tt_expect(&f, "xyz", 0, "x|yz");
    fixture_close(&f);
    s.merges[s.n_merges - 1] = "x y";
    tt_open(&f, &s);
    tt_expect(&f, "xyz", 0, "xyz"); /* by way of a symbol that is no token */
    tt_expect(&f, "xy", 0, "x|y");
    fixture_close(&f);
}

static void test_bpe_ignores_merges_for_whole_words_where_the_family_says_so(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "llama-bpe");
    fixture_add(&s, "axe", 1, 0); /* no merge leads to it */
    fixture_add(&s, "bye", 3, 0);
    tt_open(&f, &s);
    tt_expect(&f, "axe", 0, "axe");
    tt_expect(&f, "axes", 0, "a|x|e|s");
    tt_expect(&f, "bye", 0, "b|y|e"); /* a control token even then not */
    tt_expect(&f, "bye", SPARK_ENCODE_SPECIAL, "bye");
    tt_expect(&f, "a", SPARK_ENCODE_ADD, "<|endoftext|>|a");
    fixture_close(&f);
}

static void test_bpe_brings_any_bytes_back(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "qwen2");
    tt_open(&f, &s);
    uint8_t bytes[1024];
    uint32_t x = 12345;
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(tt_random(&x) >> 24);
        tt_round_trip(&f, (spark_bytes){bytes, sizeof bytes}, 0);
    }
    for (unsigned b = 0; b < 256; b++) {
        uint8_t buf[SPARK_TOKENIZER_PIECE];
        const spark_bytes piece = spark_tokenizer_piece(f.t, b, false, buf); /* token b of the fixture is byte b */
        assert_int_equal(piece.len, 1);
        assert_int_equal(piece.ptr[0], b);
    }
    fixture_close(&f);
}

/* ---- pre-tokenizers ---- */

typedef struct tt_words {
    char shown[512];
    size_t n;
} tt_words;

static spark_status tt_word(void *ctx, spark_bytes word, spark_err *err)
{
    tt_words *w = ctx;
    (void)err;
    w->n += (size_t)snprintf(w->shown + w->n, sizeof w->shown - w->n, "[%.*s]", (int)word.len, (const char *)word.ptr);
    return SPARK_SUCCESS;
}

static void test_pretokenizers_cut_as_their_expressions_do(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *text, *words;
    } cases[] = {
        {"gpt-2", "I'm  12345 it's!!  \n x", "[I]['m][ ][ 12345][ it]['s][!!][  \n][ x]"},
        {"gpt-2", "We'LL go\n\n", "[We]['][LL][ go][\n\n]"},
        {"llama-bpe", "We'LL 12345\t!?\n\nx  ", "[We]['LL][ ][123][45][\t][!?\n\n][x][  ]"},
        {"llama-bpe", "a\n \n b", "[a][\n \n][ b]"},
        {"qwen2", "x123 $y", "[x][1][2][3][ $][y]"},
        {"qwen35",
         "a\xCC\x81"
         "b",
         "[a\xCC\x81"
         "b]"},
        {"qwen2",
         "a\xCC\x81"
         "b",
         "[a][\xCC\x81"
         "b]"},
        {"starcoder", "ab12 3", "[ab][1][2][ ][3]"},
        {"falcon", "a+b 12345 x", "[a][+][b][ ][123][45][ x]"},
        {"default", "a`b+c 1234", "[a][`][b][+][c][ ][123][4]"},
        {"seed-coder", "a!\n", "[a][!][\n]"},
        {"minicpm5", "a  1234", "[a][  ][123][4]"},
        {"tekken", "HelloWORLDfoo 12/\n", "[Hello][WORLDfoo][ ][1][2][/\n]"},
        {"tekken", "\xD0\x9F\xD0\xA0\xD0\xB8\xD0\x92",
         "[\xD0\x9F\xD0\xA0\xD0\xB8][\xD0\x92]"}, /* cases of any script */
        {"gpt-4o", "CamelCase'S DON'T 1234", "[Camel][Case'S][ DON'T][ ][123][4]"},
        {"gpt-4o",
         "\xE4\xB8\x80"
         "AB",
         "[\xE4\xB8\x80][AB]"}, /* steps back to the last uncased letter */
        {"deepseek-llm", "Hi there\n 42 !?  ", "[Hi][ there][\n][ ][42][ !?][  ]"},
        {"deepseek-coder", "Hi 42 !?", "[Hi][ ][4][2][ !?]"},
        {"deepseek-v3", "a 1234.x (y)\x01\x02z", "[a][ ][123][4][.x][ (][y][)][\x01][\x02z]"},
        {"poro-chat", "Hei, maailma!", "[Hei][,][ maailma][!]"},
        {"viking", "a1 b", "[a][1][ b]"},
    };
    for (size_t i = 0; i < SPARK_COUNT(cases); i++) {
        tt_words w = {0};
        spark__pretok t;
        if (!spark__pretok_find(spark_bytes_of(cases[i].pre), &t)) fail_msg("no pre-tokenizer %s", cases[i].pre);
        assert_ok(spark__pretok_run(&t, spark_bytes_of(cases[i].text), tt_word, &w, NULL));
        if (strcmp(w.shown, cases[i].words) != 0)
            fail_msg("%s: '%s' gives %s, not %s", cases[i].pre, cases[i].text, w.shown, cases[i].words);
    }
}

static void test_unknown_pretokenizer_is_named(void **state)
{
    (void)state;
    fixture_spec s;
    fixture_bpe(&s, "frobnicate");
    tt_refused(&s, SPARK_E_UNSUPPORTED, "frobnicate");
    s.pre = "gpt";
    tt_refused(&s, SPARK_E_UNSUPPORTED, "tokenizer.ggml.pre");
    s.pre = "gpt-2 phi-2";
    tt_refused(&s, SPARK_E_UNSUPPORTED, "tokenizer.ggml.pre");
    s.pre = "";
    tt_refused(&s, SPARK_E_UNSUPPORTED, "tokenizer.ggml.pre");
}

/* ---- WordPiece ---- */

static void test_wpm_normalizes_and_takes_longest_pieces(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_wpm(&s);
    tt_open(&f, &s);
    tt_expect(&f, "Hello,  WORLD!", 0, PH "hello|" PH ",|" PH "wor|ld|" PH "!");
    tt_expect(&f, "\xC3\x89lan e\xCC\x81lan", 0, PH "elan|" PH "elan");
    tt_expect(&f, "hellox a", 0, "[UNK]|" PH "a");
    tt_expect(&f,
              "a\xE4\xB8\x80"
              "a$",
              0, PH "a|" PH "\xE4\xB8\x80|" PH "a|" PH "$");
    tt_expect(&f, "aa\xCE\x91", 0, "[UNK]");
    tt_expect(&f,
              "\xCE\x91 a\x01\xFF"
              "a",
              0, PH "\xCE\xB1|" PH "a|a"); /* control and invalid bytes vanish */
    tt_expect(&f, "a", SPARK_ENCODE_ADD, "[CLS]|" PH "a|[SEP]");
    tt_expect(&f, "[CLS]", 0, "[UNK]|[UNK]|[UNK]");
    tt_expect(&f, "[CLS]", SPARK_ENCODE_SPECIAL, "[CLS]");
    fixture_close(&f);
}

static void test_wpm_decodes_words_with_spaces_between(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_wpm(&s);
    tt_open(&f, &s);
    tt_round_trip(&f, SPARK_BYTES_LITERAL("hello world a"), SPARK_ENCODE_ADD);
    fixture_close(&f);
}

/* ---- decoding ---- */

static void test_decode_names_the_index_of_an_id_outside_the_vocabulary(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    spark_text out = {0};
    spark_err err = {0};
    const uint32_t ids[] = {'a', s.n, 'b'};
    assert_code(spark_tokenizer_decode(f.t, ids, 3, &out, &err), SPARK_E_ARGUMENT);
    assert_int_equal(err.at, 1);
    assert_int_equal(out.len, 0);
    spark_text_free(&out);
    fixture_close(&f);
}

static void test_a_piece_of_a_control_token_is_empty_unless_asked_for(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    uint8_t buf[SPARK_TOKENIZER_PIECE];
    fixture_spm(&s);
    tt_open(&f, &s);
    assert_int_equal(spark_tokenizer_piece(f.t, 1, false, buf).len, 0);
    assert_int_equal(spark_tokenizer_piece(f.t, 1, true, buf).len, 3);
    assert_int_equal(spark_tokenizer_piece(f.t, s.n, true, buf).len, 0);
    const uint32_t hello = spark_tokenizer_find(f.t, SPARK_BYTES_LITERAL(PH "hello"));
    assert_true(spark_bytes_is(spark_tokenizer_piece(f.t, hello, false, buf), " hello"));
    assert_int_equal(spark_tokenizer_find(f.t, SPARK_BYTES_LITERAL("absent")), SPARK_TOKEN_NONE);
    fixture_close(&f);
}

/* ---- hostile vocabularies ---- */

static void test_missing_keys_are_named(void **state)
{
    (void)state;
    fixture_spec s;
    fixture_spm(&s);
    s.with_scores = false;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.scores");
    fixture_bpe(&s, "gpt-2");
    s.with_merges = false;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.merges");
    fixture_bpe(&s, "gpt-2");
    s.model = NULL;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.model");
    s.model = "rwkv";
    tt_refused(&s, SPARK_E_UNSUPPORTED, "rwkv");
    fixture_bpe(&s, "llama-bpe");
    s.bos = SPARK_TOKEN_NONE;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.bos_token_id");
    fixture_bpe(&s, "gpt-2");
    s.eos = SPARK_TOKEN_NONE;
    s.add_eos = 1;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.eos_token_id");
    fixture_spm(&s);
    s.n = 0;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.tokens");
    fixture_wpm(&s);
    s.n = 50; /* the defaults do not reach */
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.seperator_token_id");
}

static void test_special_ids_outside_the_vocabulary_are_named(void **state)
{
    (void)state;
    fixture_spec s;
    fixture_spm(&s);
    s.bos = s.n;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.bos_token_id");
    fixture_spm(&s);
    s.eos = UINT32_MAX - 1;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.eos_token_id");
}

static void test_nonsense_in_scores_bytes_and_merges_is_refused(void **state)
{
    (void)state;
    fixture_spec s;
    fixture_spm(&s);
    s.tokens[270].score = NAN;
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.scores");
    fixture_spm(&s);
    s.tokens[270].type = 6;
    tt_refused(&s, SPARK_E_FORMAT, "token 270");
    fixture_bpe(&s, "gpt-2");
    s.merges[2] = "nothing";
    tt_refused(&s, SPARK_E_FORMAT, "tokenizer.ggml.merges");
}

static void test_duplicate_empty_and_undecodable_tokens_do_no_harm(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    fixture_add(&s, "hello", 1, 0);
    fixture_add(&s, "", 1, 0);
    fixture_add(&s, "", 3, 0);
    fixture_add(&s, "", 4, 0);
    fixture_add(&s, "<tool>", 3, 0);
    fixture_add(&s, "\xFF\xE4", 1, 0);
    fixture_add(&s, "two words", 1, 0);
    s.merges[s.n_merges++] = "\xFF h";
    s.merges[s.n_merges++] = "h \xE4\xB8\x80";
    s.merges[s.n_merges++] = "z ";
    s.merges[s.n_merges++] = "h e";
    tt_open(&f, &s);
    spark_ids ids = {0};
    assert_ok(spark_tokenizer_encode(f.t, SPARK_BYTES_LITERAL("hello<tool>"), 0, &ids, NULL));
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 256 + 3); /* of equal tokens the first */
    tt_round_trip(&f, SPARK_BYTES_LITERAL("two words \xFF\xE4<tool>"), SPARK_ENCODE_SPECIAL);
    spark_ids_free(&ids);
    fixture_close(&f);
}

static void test_a_failed_encode_leaves_the_ids_as_they_were(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    spark_ids ids = {0};
    assert_ok(spark_ids_push(&ids, 7, NULL));
    const uint8_t byte = 0;
    assert_code(spark_tokenizer_encode(f.t, (spark_bytes){&byte, (size_t)1 << 40}, 0, &ids, NULL), SPARK_E_LIMIT);
    assert_int_equal(ids.n, 1);
    spark_ids_free(&ids);
    fixture_close(&f);
}

/* ---- words that come again ---- */

/* A blank and up to 40 letters into out; the same word for the same number. */
static size_t tt_make_word(uint32_t number, uint8_t *out)
{
    const uint32_t letters = 1 + tt_random(&number) % 40;
    out[0] = ' ';
    for (uint32_t k = 0; k < letters; k++) out[k + 1] = (uint8_t) "hello"[(tt_random(&number) >> 24) % 5];
    return letters + 1;
}

/* A text of words must become what its words become one by one, each in a call of its own, which remembers nothing. */
static void tt_words_again(const fixture *f, unsigned flags)
{
    enum { WORDS = 60000, KNOWN = 200 };
    spark_text text = {0};
    spark_ids want = {0}, got = {0};
    uint32_t x = 1;
    for (uint32_t i = 0; i < WORDS; i++) {
        uint8_t word[48];
        const uint32_t number = i % 3 ? (tt_random(&x) >> 16) % KNOWN : KNOWN + i; /* and new ones, to take slots */
        const spark_bytes one = {word, tt_make_word(number, word)};
        assert_ok(spark_tokenizer_encode(f->t, one, flags, &want, NULL));
        assert_ok(spark_text_append(&text, one, NULL));
    }
    assert_ok(spark_tokenizer_encode(f->t, (spark_bytes){text.ptr, text.len}, flags, &got, NULL));
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.ids, want.ids, want.n * sizeof *want.ids);
    spark_ids_free(&want);
    spark_ids_free(&got);
    spark_text_free(&text);
}

static void test_words_that_come_again_become_the_same_tokens(void **state)
{
    (void)state;
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    tt_words_again(&f, SPARK_ENCODE_CONTINUE);
    fixture_close(&f);
    fixture_bpe(&s, "gpt-2");
    tt_open(&f, &s);
    tt_words_again(&f, 0);
    fixture_close(&f);
    fixture_wpm(&s);
    tt_open(&f, &s);
    tt_words_again(&f, 0);
    fixture_close(&f);
}

/* ---- time ---- */

static void tt_fill(uint8_t *p, size_t n, int kind)
{
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        tt_random(&x);
        switch (kind) {
        case 0: p[i] = 'a'; break;
        case 1: p[i] = ' '; break;
        case 2: p[i] = i % 2 ? 0x81 : 0xCC; break;             /* combining marks */
        case 3: p[i] = (uint8_t)('a' + (x >> 24) % 26); break; /* one long word */
        case 4: p[i] = (uint8_t)(x >> 24); break;
        case 5: p[i] = (uint8_t) "<tool"[i % 5]; break;
        case 6: p[i] = i % 2 ? '\r' : '\n'; break;
        default: p[i] = i % 3 == 0 ? 0xE2 : i % 3 == 1 ? 0x96 : 0x81; break;
        }
    }
}

/* Under a sanitizer all is many times slower, so the texts are shorter there: still 100 times what a quadratic step could
 * hide in. */
#ifdef SPARK_SANITIZED
#define TT_LONG 1000000
#else
#define TT_LONG 10000000
#endif

/* n bytes of anything in a bounded time: generous for a loaded machine, far below anything quadratic. */
static void tt_time(const fixture *f, const char *name, size_t n)
{
    uint8_t *text = malloc(n);
    for (int kind = 0; kind < 8; kind++) {
        spark_ids ids = {0};
        tt_fill(text, n, kind);
        const uint64_t begin = spark_clock_ns();
        assert_ok(spark_tokenizer_encode(f->t, (spark_bytes){text, n}, SPARK_ENCODE_SPECIAL, &ids, NULL));
        const double seconds = (double)(spark_clock_ns() - begin) / 1e9;
        if (seconds > 20) fail_msg("%s: kind %d takes %.1f s", name, kind, seconds);
        spark_ids_free(&ids);
    }
    free(text);
}

static void test_10_mb_of_anything_is_tokenized_in_linear_time(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2", "deepseek-llm", "gpt-4o", "deepseek-v3", "falcon"};
    fixture_spec s;
    fixture f;
    fixture_spm(&s);
    tt_open(&f, &s);
    tt_time(&f, "spm", TT_LONG);
    fixture_close(&f);
    fixture_wpm(&s);
    tt_open(&f, &s);
    tt_time(&f, "wpm", TT_LONG);
    fixture_close(&f);
    for (size_t i = 0; i < SPARK_COUNT(pres); i++) {
        fixture_bpe(&s, pres[i]);
        tt_open(&f, &s);
        tt_time(&f, pres[i], i == 0 ? TT_LONG : TT_LONG / 20); /* the others share the merging */
        fixture_close(&f);
    }
}

/* ---- trie ---- */

static void test_trie_finds_what_a_naive_search_finds(void **state)
{
    (void)state;
    uint32_t x = 99;
    for (int round = 0; round < 300; round++) {
        spark_arena *a = NULL;
        spark__trie *forward = NULL, *backward = NULL;
        spark__trie_entry entries[12], copy[12];
        uint8_t bytes[12 * 6], text[40];
        assert_ok(spark_arena_create(&a, 1 << 20, NULL));
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)('a' + (tt_random(&x) >> 24) % 2);
        for (size_t i = 0; i < sizeof text; i++) text[i] = (uint8_t)('a' + (tt_random(&x) >> 24) % 2);
        for (uint32_t i = 0; i < 12; i++)
            entries[i] = (spark__trie_entry){{bytes + (size_t)i * 6, 1 + (i * 7 + (size_t)round) % 6}, i, i % 3 == 0};
        memcpy(copy, entries, sizeof copy);
        assert_ok(spark__trie_build(&forward, copy, 12, false, a, NULL));
        assert_ok(spark__trie_build(&backward, copy, 12, true, a, NULL));
        uint32_t at = 0;
        for (size_t i = sizeof text; i-- > 0;) {
            size_t best[2] = {0, 0}, match = 0;
            at = spark__trie_step(backward, at, text[i]);
            for (uint32_t k = 0; k < 12; k++) {
                const spark_bytes t = entries[k].text;
                if (t.len > sizeof text - i || memcmp(text + i, t.ptr, t.len) != 0) continue;
                if (t.len > best[1]) best[1] = t.len;
            }
            const uint32_t all = spark__trie_begins(backward, at, true),
                           always = spark__trie_begins(backward, at, false);
            assert_int_equal(all == SPARK__TRIE_NONE ? 0 : entries[all].text.len, best[1]);
            if (always != SPARK__TRIE_NONE) assert_true(entries[always].always && entries[always].text.len <= best[1]);
            (void)spark__trie_longest(forward, text + i, sizeof text - i, &match);
            assert_int_equal(match, best[1]);
        }
        spark_arena_destroy(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm_merges_by_score_and_marks_spaces),
        cmocka_unit_test(test_spm_without_space_prefix_adds_none),
        cmocka_unit_test(test_spm_writes_unknown_characters_as_bytes),
        cmocka_unit_test(test_spm_without_byte_tokens_says_unknown_once_a_character),
        cmocka_unit_test(test_spm_never_makes_control_unknown_or_byte_tokens_of_text),
        cmocka_unit_test(test_spm_merges_across_a_space_where_a_token_does),
        cmocka_unit_test(test_bpe_merges_by_rank),
        cmocka_unit_test(test_bpe_takes_every_merge_that_makes_a_token),
        cmocka_unit_test(test_bpe_ignores_merges_for_whole_words_where_the_family_says_so),
        cmocka_unit_test(test_bpe_brings_any_bytes_back),
        cmocka_unit_test(test_pretokenizers_cut_as_their_expressions_do),
        cmocka_unit_test(test_unknown_pretokenizer_is_named),
        cmocka_unit_test(test_wpm_normalizes_and_takes_longest_pieces),
        cmocka_unit_test(test_wpm_decodes_words_with_spaces_between),
        cmocka_unit_test(test_decode_names_the_index_of_an_id_outside_the_vocabulary),
        cmocka_unit_test(test_a_piece_of_a_control_token_is_empty_unless_asked_for),
        cmocka_unit_test(test_missing_keys_are_named),
        cmocka_unit_test(test_special_ids_outside_the_vocabulary_are_named),
        cmocka_unit_test(test_nonsense_in_scores_bytes_and_merges_is_refused),
        cmocka_unit_test(test_duplicate_empty_and_undecodable_tokens_do_no_harm),
        cmocka_unit_test(test_a_failed_encode_leaves_the_ids_as_they_were),
        cmocka_unit_test(test_words_that_come_again_become_the_same_tokens),
        cmocka_unit_test(test_10_mb_of_anything_is_tokenized_in_linear_time),
        cmocka_unit_test(test_trie_finds_what_a_naive_search_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
