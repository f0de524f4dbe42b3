/* pretok.c - the scanners and the table. The expression that a row or rule stands for is quoted beside it; letters in
 * them are Unicode classes, \s is White_Space, alternatives are tried in order. Source of the expressions: the
 * tokenizer.json files of the models, and for GGUF names the llama.cpp list of tokenizer.ggml.pre. */
#include "text/pretok.h"

#include "text/unichar.h"

typedef struct pre_range {
    uint32_t lo, hi;
} pre_range;

/* Characters by class, or in a sorted list of ranges. */
typedef struct pre_set {
    uint32_t class;
    const pre_range *ranges;
    uint16_t n_ranges;
    bool negate;
} pre_set;

typedef enum pre_prefix { PRE_NOTHING, PRE_BLANK, PRE_SPACE } pre_prefix; /* none, " ?", "\s?" */
typedef enum pre_contraction { PRE_NONE, PRE_LOWER, PRE_ANY, PRE_ANY_AFTER } pre_contraction;
typedef enum pre_tail { PRE_NO_TAIL, PRE_NEWLINES, PRE_NEWLINES_SLASH } pre_tail; /* "", "[\r\n]*", "[\r\n/]*" */

typedef struct pre_stage pre_stage;
/* What a stage says of ASCII: spark__pretok.in and .begins, and its bit in them. */
typedef struct pre_ascii {
    const uint8_t *in, *begins;
    uint8_t bit;
} pre_ascii;

/* The end of the piece at pos. */
typedef size_t pre_step(const pre_stage *s, const pre_ascii *a, const uint8_t *p, size_t pos, size_t end);

struct pre_stage {
    pre_step *step;
    /* pre_runs: prefix set{min,max}; pre_words: max digits of a piece (0 = all) */
    pre_set set;
    uint32_t min, max;
    pre_prefix prefix; /* pre_words: before letters; PRE_BLANK also before digits, else one [^\r\n\p{L}\p{N}] */
    pre_contraction contraction; /* pre_words, as the rest */
    pre_tail tail;               /* after punctuation */
    uint32_t letters;            /* classes that make a word */
    bool cased;                  /* a capital after a small letter begins a new word */
    bool newlines;               /* \s*[\r\n]+ before \s+(?!\S) */
};

typedef struct pre_row {
    const char *names; /* separated by blanks */
    bool ignore_merges, add_bos;
    pre_stage stages[SPARK__PRETOK_STAGES]; /* up to the first without step */
} pre_row;

static bool pre_in(const pre_set *set, spark__char c)
{
    if (c.len == 0) return false;
    bool in = (c.class & set->class) != 0;
    if (!in && set->n_ranges > 0) {
        size_t lo = 0, hi = set->n_ranges;
        while (lo < hi) {
            const size_t mid = lo + (hi - lo) / 2;
            if (c.cp > set->ranges[mid].hi)
                lo = mid + 1;
            else
                hi = mid;
        }
        in = lo < set->n_ranges && c.cp >= set->ranges[lo].lo;
    }
    return in != set->negate;
}

/* A run of at least s->min and at most max (0 = any) characters of the set that starts at pos: its end, or pos. */
static size_t pre_run(const pre_stage *s, const pre_ascii *a, uint32_t max, const uint8_t *p, size_t pos, size_t end)
{
    size_t at = pos;
    uint32_t n = 0;
    for (; at < end && (max == 0 || n < max); n++) {
        if (SPARK_LIKELY(p[at] < 0x80)) {
            if (!(a->in[p[at]] & a->bit)) break;
            at++;
        } else {
            const spark__char c = spark__char_wide(p + at, end - at);
            if (!pre_in(&s->set, c)) break;
            at += c.len;
        }
    }
    return n >= s->min ? at : pos;
}

static bool pre_is_prefix(const pre_stage *s, spark__char c)
{
    return (s->prefix == PRE_BLANK && c.cp == ' ') || (s->prefix == PRE_SPACE && (c.class & SPARK__SPACE));
}

/* The match at pos with its prefix, or pos. */
static size_t pre_runs_match(const pre_stage *s, const pre_ascii *a, uint32_t max, const uint8_t *p, size_t pos,
                             size_t end)
{
    const spark__char c = spark__char_at(p, pos, end);
    if (pre_is_prefix(s, c)) {
        const size_t at = pre_run(s, a, max, p, pos + c.len, end);
        if (at > pos + c.len) return at;
    }
    return pre_run(s, a, max, p, pos, end);
}

/* Runs of a set; everything between two of them is one piece. */
static size_t pre_runs(const pre_stage *s, const pre_ascii *a, const uint8_t *p, size_t pos, size_t end)
{
    size_t at = pre_runs_match(s, a, s->max, p, pos, end);
    if (at > pos) return at;
    do { /* a gap ends where the shortest match begins */
        at += spark__char_at(p, at, end).len;
        while (at < end && p[at] < 0x80 && !(a->begins[p[at]] & a->bit)) at++;
    } while (at < end && pre_runs_match(s, a, s->min, p, at, end) == at);
    return at;
}

/* \s+$ */
static size_t pre_space_at_end(const pre_stage *s, const pre_ascii *a, const uint8_t *p, size_t pos, size_t end)
{
    (void)a;
    (void)s;
    size_t begin = pos; /* of the last run of white space */
    for (size_t at = pos; at < end;) {
        const spark__char c = spark__char_at(p, at, end);
        at += c.len;
        if (!(c.class & SPARK__SPACE)) begin = at;
    }
    return begin > pos ? begin : end;
}

/* 's 't 're 've 'm 'll 'd at pos: its end, or pos. */
static size_t pre_contract(const uint8_t *p, size_t pos, size_t end, bool any_case)
{
    if (end - pos < 2 || p[pos] != '\'') return pos;
    const uint8_t fold = any_case ? 0x20 : 0;
    const uint8_t a = p[pos + 1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return pos + 2;
    if (end - pos < 3) return pos;
    const uint8_t b = p[pos + 2] | fold;
    return (b == 'e' && (a == 'r' || a == 'v')) || (b == 'l' && a == 'l') ? pos + 3 : pos;
}

static size_t pre_class_run(const uint8_t *p, size_t pos, size_t end, uint32_t class)
{
    for (;;) {
        const spark__char c = spark__char_at(p, pos, end);
        if (!(c.class & class)) return pos;
        pos += c.len;
    }
}

#define PRE_CAPITAL (SPARK__UPPER | SPARK__UNCASED | SPARK__MARK)
#define PRE_SMALL   (SPARK__LOWER | SPARK__UNCASED | SPARK__MARK)

/* [capital]*[small]+ at pos (need_small), or [capital]+[small]*: the end, or pos. Both classes hold the uncased ones, so
 * without a small letter behind the capitals the expression steps back to their last uncased one. */
static size_t pre_cased_word(const uint8_t *p, size_t pos, size_t end, bool need_small)
{
    size_t at = pos, after_uncased = pos;
    for (;;) {
        const spark__char c = spark__char_at(p, at, end);
        if (!(c.class & PRE_CAPITAL)) break;
        at += c.len;
        if (c.class & PRE_SMALL) after_uncased = at;
    }
    if (!need_small) return at;
    const size_t small = pre_class_run(p, at, end, PRE_SMALL);
    return small > at ? small : after_uncased;
}

/* The word of a cased rule at pos, or pos: small-letter form first, each with the prefix first. */
static size_t pre_cased(const pre_stage *s, const uint8_t *p, size_t pos, size_t end)
{
    const spark__char c = spark__char_at(p, pos, end);
    const bool prefix = c.cp != '\r' && c.cp != '\n' && !(c.class & (SPARK__LETTER | SPARK__NUMBER));
    for (int form = 0; form < 2; form++) {
        for (int with = prefix; with >= 0; with--) {
            const size_t from = pos + (with ? c.len : 0);
            const size_t at = pre_cased_word(p, from, end, form == 0);
            if (at > from) return s->contraction == PRE_ANY_AFTER ? pre_contract(p, at, end, true) : at;
        }
    }
    return pos;
}

/* Letters with their prefix at pos, or pos. */
static size_t pre_letters(const pre_stage *s, const uint8_t *p, size_t pos, size_t end, spark__char c)
{
    if (s->cased) return pre_cased(s, p, pos, end);
    if (c.class & s->letters) return pre_class_run(p, pos, end, s->letters);
    const bool prefix = s->prefix == PRE_BLANK ? c.cp == ' '
                                               : c.cp != '\r' && c.cp != '\n' && !(c.class & SPARK__NUMBER);
    if (!prefix) return pos;
    const size_t at = pre_class_run(p, pos + c.len, end, s->letters);
    return at > pos + c.len ? at : pos;
}

static size_t pre_digits(const pre_stage *s, const uint8_t *p, size_t pos, size_t end, spark__char c)
{
    const size_t from = s->prefix == PRE_BLANK && c.cp == ' ' ? pos + 1 : pos;
    size_t at = from;
    for (uint32_t n = 0; s->max == 0 || n < s->max; n++) {
        const spark__char d = spark__char_at(p, at, end);
        if (!(d.class & SPARK__NUMBER)) break;
        at += d.len;
    }
    return at > from ? at : pos;
}

/* " ?[^\s\p{L}\p{N}]+" and its tail at pos, or pos. */
static size_t pre_punct(const pre_stage *s, const uint8_t *p, size_t pos, size_t end, spark__char c)
{
    const size_t from = c.cp == ' ' ? pos + 1 : pos;
    const uint32_t other = (SPARK__MARK | SPARK__PUNCT | SPARK__SYMBOL | SPARK__CONTROL | SPARK__OTHER) & ~s->letters;
    size_t at = from;
    for (;;) {
        const spark__char d = spark__char_at(p, at, end);
        if (!(d.class & other) || (d.class & SPARK__SPACE)) break;
        at += d.len;
    }
    if (at == from) return pos;
    while (at < end && s->tail != PRE_NO_TAIL &&
           (p[at] == '\r' || p[at] == '\n' || (s->tail == PRE_NEWLINES_SLASH && p[at] == '/')))
        at++;
    return at;
}

/* "\s*[\r\n]+" where asked for, "\s+(?!\S)", "\s+" at pos, or pos. */
static size_t pre_space(const uint8_t *p, size_t pos, size_t end, bool newlines)
{
    size_t at = pos, last = pos, after_newline = pos;
    for (;;) {
        const spark__char c = spark__char_at(p, at, end);
        if (!(c.class & SPARK__SPACE)) break;
        last = at;
        at += c.len;
        if (c.cp == '\r' || c.cp == '\n') after_newline = at;
    }
    if (newlines && after_newline > pos) return after_newline;
    return at < end && last > pos ? last : at; /* the last one stays with the word that follows */
}

/* The rules that descend from GPT-2's: contraction, letters, digits, punctuation, space. */
static size_t pre_words(const pre_stage *s, const pre_ascii *a, const uint8_t *p, size_t pos, size_t end)
{
    (void)a;
    if (s->contraction == PRE_LOWER || s->contraction == PRE_ANY) {
        const size_t at = pre_contract(p, pos, end, s->contraction == PRE_ANY);
        if (at > pos) return at;
    }
    const spark__char c = spark__char_at(p, pos, end);
    size_t at = pre_letters(s, p, pos, end, c);
    if (at == pos) at = pre_digits(s, p, pos, end, c);
    if (at == pos) at = pre_punct(s, p, pos, end, c);
    if (at == pos) at = pre_space(p, pos, end, s->newlines);
    return at > pos ? at : pos + c.len;
}

/* [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t pre_deepseek3_match(const uint8_t *p, size_t pos, size_t end)
{
    const spark__char c = spark__char_at(p, pos, end);
    const uint32_t word = SPARK__LETTER | SPARK__MARK, punct = SPARK__PUNCT | SPARK__SYMBOL;
    size_t at = pos + c.len;
    if (c.cp < 128 && (c.class & punct)) {
        while (at < end && (p[at] | 0x20) - 'a' < 26 && (p[at] | 0x20) >= 'a') at++;
        if (at > pos + 1) return at;
    }
    if (c.class & word) return pre_class_run(p, pos, end, word);
    if (c.cp != '\r' && c.cp != '\n' && !(c.class & punct)) {
        at = pre_class_run(p, pos + c.len, end, word);
        if (at > pos + c.len) return at;
    }
    const size_t from = c.cp == ' ' ? pos + 1 : pos;
    at = pre_class_run(p, from, end, punct);
    if (at > from) {
        while (at < end && (p[at] == '\r' || p[at] == '\n')) at++;
        return at;
    }
    return pre_space(p, pos, end, true);
}

static size_t pre_deepseek3(const pre_stage *s, const pre_ascii *a, const uint8_t *p, size_t pos, size_t end)
{
    (void)a;
    (void)s;
    size_t at = pre_deepseek3_match(p, pos, end);
    if (at > pos) return at;
    /* What matches nothing is a control character, a digit or unassigned; look ahead by characters, not by matches. */
    const uint32_t starts = SPARK__LETTER | SPARK__MARK | SPARK__PUNCT | SPARK__SYMBOL | SPARK__SPACE;
    for (;;) {
        const spark__char c = spark__char_at(p, at, end), next = spark__char_at(p, at + c.len, end);
        if (c.len == 0 || (at > pos && ((c.class & starts) || (next.class & (SPARK__LETTER | SPARK__MARK))))) return at;
        at += c.len;
    }
}

/* The ranges of DeepSeek LLM's expressions: cased letters of Unicode 12 or so, punctuation of three widths, East Asian. */
static const pre_range pre_deepseek_cased[] = {
    {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},       {0xD8, 0xF6},
    {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},     {0x295, 0x2AF},     {0x370, 0x373},
    {0x376, 0x376},     {0x377, 0x377},     {0x37B, 0x37D},     {0x37F, 0x37F},     {0x386, 0x386},
    {0x388, 0x38A},     {0x38C, 0x38C},     {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},
    {0x48A, 0x52F},     {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};
static const pre_range pre_deepseek_punct[] = {
    {'!', '/'}, {':', '~'}, {0x2018, 0x201F}, {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E},
};
static const pre_range pre_deepseek_asian[] = {{0x800, 0x9FA5}, {0xAC00, 0xD7FF}};
static const pre_range pre_deepseek3_asian[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}};
static const pre_range pre_newline[] = {{'\n', '\n'}, {'\r', '\r'}};
static const pre_range pre_falcon_signs[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'},
                                             {'`', '`'}, {'|', '|'}, {'~', '~'}};
static const pre_range pre_default_signs[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'|', '|'}, {'~', '~'}};
static const pre_range pre_ascii_digit[] = {{'0', '9'}};
/* (|.,!?)…。，、।۔، */
static const pre_range pre_poro_stop[] = {
    {'!', '!'},     {'(', ')'},     {',', ','},     {'.', '.'},       {'?', '?'},       {'|', '|'},
    {0x60C, 0x60C}, {0x6D4, 0x6D4}, {0x964, 0x964}, {0x2026, 0x2026}, {0x3001, 0x3002}, {0xFF0C, 0xFF0C},
};

#define PRE_RANGES(list) .ranges = (list), .n_ranges = SPARK_COUNT(list)
#define PRE_RUNS(...)                                                                                                  \
    {                                                                                                                  \
        .step = pre_runs, .min = 1, __VA_ARGS__                                                                        \
    }
/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
#define PRE_GPT2                                                                                                       \
    {                                                                                                                  \
        .step = pre_words, .contraction = PRE_LOWER, .prefix = PRE_BLANK, .letters = SPARK__LETTER                     \
    }
/* (?i:'s|'t|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
#define PRE_LLAMA3(max_digits)                                                                                         \
    {                                                                                                                  \
        .step = pre_words, .contraction = PRE_ANY, .letters = SPARK__LETTER, .max = (max_digits),                      \
        .tail = PRE_NEWLINES, .newlines = true                                                                         \
    }
/* [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+, the same with + and *, each with the
 * contraction if any, \p{N}{1,max}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
#define PRE_CASED(max_digits, contract)                                                                                \
    {                                                                                                                  \
        .step = pre_words, .cased = true, .contraction = (contract), .letters = SPARK__LETTER, .max = (max_digits),    \
        .tail = PRE_NEWLINES_SLASH, .newlines = true                                                                   \
    }

static const pre_row pre_table[] = {
    {.names = "default",
     .stages = {PRE_RUNS(.set = {.class = SPARK__PUNCT, PRE_RANGES(pre_default_signs)}),
                PRE_GPT2,
                PRE_RUNS(.set = {.class = SPARK__NUMBER}),
                {.step = pre_runs, .set = {PRE_RANGES(pre_ascii_digit)}, .min = 3, .max = 3}}},
    {.names = "gpt-2 phi-2 mpt olmo jais trillion granite-docling jina-es jina-de jina-v1-en jina-v2-es jina-v2-de "
              "jina-v2-code roberta-bpe gigachat a.x-4.0 mellum modern-bert exaone4",
     .stages = {PRE_GPT2}},
    {.names = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .ignore_merges = true,
     .add_bos = true,
     .stages = {PRE_LLAMA3(3)}},
    {.names = "dbrx smaug-bpe glm4 chatglm-bpe", .stages = {PRE_LLAMA3(3)}},
    {.names = "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 bailingmoe bailingmoe2 "
              "llada-moe",
     .stages = {PRE_LLAMA3(1)}},
    {.names = "qwen35", /* as qwen2 with [\p{L}\p{M}] for \p{L} */
     .stages = {{.step = pre_words,
                 .contraction = PRE_ANY,
                 .letters = SPARK__LETTER | SPARK__MARK,
                 .max = 1,
                 .tail = PRE_NEWLINES,
                 .newlines = true}}},
    {.names = "seed-coder", /* as qwen2, no newlines after punctuation */
     .stages = {{.step = pre_words, .contraction = PRE_ANY, .letters = SPARK__LETTER, .max = 1, .newlines = true}}},
    {.names = "minicpm5",
     .ignore_merges = true,
     .stages = {PRE_RUNS(.set = {.class = SPARK__NUMBER}, .max = 3), PRE_LLAMA3(0)}},
    {.names = "tekken", .ignore_merges = true, .add_bos = true, .stages = {PRE_CASED(1, PRE_NONE)}},
    {.names = "gpt-4o llama4 kanana2 talkie minimax-m2", .stages = {PRE_CASED(3, PRE_ANY_AFTER)}},
    {.names = "falcon", /* the last: [0-9][0-9][0-9] */
     .stages = {PRE_RUNS(.set = {.class = SPARK__PUNCT, PRE_RANGES(pre_falcon_signs)}),
                PRE_GPT2,
                {.step = pre_runs, .set = {PRE_RANGES(pre_ascii_digit)}, .min = 3, .max = 3}}},
    {.names = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
     .stages = {PRE_RUNS(.set = {.class = SPARK__NUMBER}, .max = 1), PRE_GPT2}},
    {.names = "deepseek-llm",
     .stages = {PRE_RUNS(.set = {PRE_RANGES(pre_newline)}, .max = 1),
                PRE_RUNS(.set = {PRE_RANGES(pre_deepseek_cased)}, .prefix = PRE_SPACE),
                PRE_RUNS(.set = {PRE_RANGES(pre_deepseek_punct)}, .prefix = PRE_SPACE),
                {.step = pre_space_at_end},
                PRE_RUNS(.set = {PRE_RANGES(pre_deepseek_asian)}),
                PRE_RUNS(.set = {.class = SPARK__NUMBER})}},
    {.names = "deepseek-coder",
     .stages = {PRE_RUNS(.set = {PRE_RANGES(pre_newline)}, .max = 1),
                PRE_RUNS(.set = {.class = SPARK__LETTER}, .prefix = PRE_SPACE),
                PRE_RUNS(.set = {.class = SPARK__PUNCT}, .prefix = PRE_SPACE),
                PRE_RUNS(.set = {PRE_RANGES(pre_deepseek_asian)}),
                PRE_RUNS(.set = {.class = SPARK__NUMBER}, .max = 1)}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm",
     .stages = {PRE_RUNS(.set = {.class = SPARK__NUMBER}, .max = 3),
                PRE_RUNS(.set = {PRE_RANGES(pre_deepseek3_asian)}),
                {.step = pre_deepseek3}}},
    {.names = "poro-chat bloom gpt3-finnish",
     .stages = {PRE_RUNS(.set = {.class = SPARK__SPACE, PRE_RANGES(pre_poro_stop), .negate = true},
                         .prefix = PRE_BLANK)}},
    {.names = "viking",
     .stages = {PRE_RUNS(.set = {.class = SPARK__SPACE, PRE_RANGES(pre_poro_stop), .negate = true},
                         .prefix = PRE_BLANK),
                PRE_RUNS(.set = {.class = SPARK__NUMBER}, .max = 1)}},
};

static const pre_row *pre_find(spark_bytes name)
{
    for (size_t i = 0; i < SPARK_COUNT(pre_table); i++) {
        for (const char *p = pre_table[i].names; *p;) {
            const size_t len = strcspn(p, " ");
            if (spark_bytes_equal(name, (spark_bytes){(const uint8_t *)p, len})) return &pre_table[i];
            p += len + (p[len] == ' ');
        }
    }
    return NULL;
}

static size_t pre_n_stages(const pre_row *row)
{
    size_t n = 0;
    while (n < SPARK__PRETOK_STAGES && row->stages[n].step) n++;
    return n;
}

bool spark__pretok_find(spark_bytes name, spark__pretok *out)
{
    const pre_row *row = pre_find(name);
    if (!row) return false;
    *out = (spark__pretok){.row = row};
    for (size_t k = 0; k < pre_n_stages(row); k++) {
        const pre_stage *s = &row->stages[k];
        for (uint8_t cp = 0; cp < 128; cp++) {
            const spark__char c = spark__char_at(&cp, 0, 1);
            const bool in = pre_in(&s->set, c);
            out->in[cp] |= (uint8_t)(in << k);
            out->begins[cp] |= (uint8_t)((in || pre_is_prefix(s, c)) << k);
        }
    }
    return true;
}

bool spark__pretok_ignores_merges(const spark__pretok *t) { return t->row->ignore_merges; }
bool spark__pretok_adds_bos(const spark__pretok *t) { return t->row->add_bos; }

spark_status spark__pretok_run(const spark__pretok *t, spark_bytes text, spark__pretok_word *word, void *ctx,
                               spark_err *err)
{
    /* ends[k]: where the piece ends that stage k cuts; a stage goes on until it has used up the piece of the one before. */
    size_t ends[SPARK__PRETOK_STAGES + 1] = {text.len}, pos = 0;
    const size_t n = pre_n_stages(t->row);
    const pre_stage *stages = t->row->stages;
    size_t level = 0;
    while (pos < text.len) {
        for (; level < n; level++) {
            const pre_ascii a = {t->in, t->begins, (uint8_t)(1u << level)};
            ends[level + 1] = stages[level].step(&stages[level], &a, text.ptr, pos, ends[level]);
        }
        SPARK_TRY(word(ctx, (spark_bytes){text.ptr + pos, ends[n] - pos}, err));
        pos = ends[n];
        while (level > 0 && pos == ends[level]) level--;
    }
    return SPARK_SUCCESS;
}
