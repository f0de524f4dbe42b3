/* ask.c - spark_ask to bytes and back. Little endian, one layout:
 *   u8 version, u8 kind, u16 flags, i32 priority, u64 tenant, u32 deadline_ms, n_ctx, max_tokens, n_logprobs,
 *   the sampling table (u64 seed, then 4 bytes each), u32 bytes of text, ids, stops, biases, then those four in that order;
 *   a stop is u16 length and bytes, a bias u32 id and f32.
 * One writing for each ask: what decode takes, encode gives back byte for byte. */
#include "serve/ask.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/spark_limits.h"
#include "base/utf8.h"

enum { ASK_VERSION = 1 };

enum {
    ASK_ADD_SPECIAL = 1,
    ASK_PARSE_SPECIAL = 2,
    ASK_PIECES = 4,
    ASK_PROMPT_IDS = 8,
    ASK_ECHO = 16,
    ASK_CACHE = 32,
    ASK_RANDOM_SEED = 64,
    ASK_IGNORE_EOG = 128,
    ASK_ALL_FLAGS = 255
};

/* Every field of spark_sampling that takes four bytes, in order of the layout: type, name. */
#define ASK_SAMPLING(X)                                                                                                \
    X(f32, temperature)                                                                                                \
    X(f32, dynatemp_range)                                                                                             \
    X(f32, dynatemp_exponent)                                                                                          \
    X(u32, top_k)                                                                                                      \
    X(f32, top_p)                                                                                                      \
    X(f32, min_p)                                                                                                      \
    X(f32, typical_p)                                                                                                  \
    X(f32, top_n_sigma)                                                                                                \
    X(f32, xtc_probability)                                                                                            \
    X(f32, xtc_threshold)                                                                                              \
    X(u32, min_keep)                                                                                                   \
    X(u32, penalty_last_n)                                                                                             \
    X(f32, repeat_penalty)                                                                                             \
    X(f32, frequency_penalty)                                                                                          \
    X(f32, presence_penalty)                                                                                           \
    X(f32, dry_multiplier)                                                                                             \
    X(f32, dry_base)                                                                                                   \
    X(u32, dry_allowed_length)                                                                                         \
    X(u32, dry_last_n)

#define ASK_COUNT(type, name) +1
enum { ASK_N_SAMPLING = 0 ASK_SAMPLING(ASK_COUNT) };
enum { ASK_HEAD = 4 + 4 + 8 + 4 * 4 + 8 + 4 * ASK_N_SAMPLING + 4 * 4 };
_Static_assert(sizeof(spark_sampling) == 8 + 4 * ASK_N_SAMPLING + 4 + 64,
               "a new sampling field belongs into ASK_SAMPLING");

void spark_ask_defaults(spark_ask *a)
{
    *a = (spark_ask){.add_special = true, .cache = true};
    spark_generate_options_defaults(&a->generate);
}

/* ---- Checking ---- */

/* Which parts a kind has; the others must be empty. */
static const struct ask_parts {
    bool text, ids, flags; /* flags: add_special and parse_special mean something */
    bool generates;
} ask_kinds[SPARK_ASK_N_KINDS] = {
    [SPARK_ASK_CHAT] = {.text = true, .ids = true, .generates = true},
    [SPARK_ASK_TEXT] = {.text = true, .flags = true, .generates = true},
    [SPARK_ASK_IDS] = {.ids = true, .generates = true},
    [SPARK_ASK_TOKENIZE] = {.text = true, .flags = true},
    [SPARK_ASK_DETOKENIZE] = {.ids = true},
    [SPARK_ASK_TEMPLATE] = {.text = true},
};

static spark_status ask_check_parts(const spark_ask *a, spark_err *err)
{
    SPARK_CHECK((unsigned)a->kind < SPARK_ASK_N_KINDS, err, SPARK_E_FORMAT, 1, "kind %u is unknown", (unsigned)a->kind);
    const struct ask_parts *p = &ask_kinds[a->kind];
    SPARK_CHECK(p->text || a->text.len == 0, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "text where ids are asked for");
    SPARK_CHECK(p->ids || a->n_ids == 0, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "ids where text is asked for");
    SPARK_CHECK(a->kind == SPARK_ASK_TOKENIZE || !a->pieces, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "pieces where nothing is tokenized");
    SPARK_CHECK(p->generates || (!a->prompt_ids && !a->echo && a->generate.n_stops == 0 &&
                                 a->generate.n_logit_bias == 0 && a->generate.n_logprobs == 0),
                err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "parameters of generation where nothing is generated");
    SPARK_CHECK(spark_utf8_is_valid(a->text.ptr, a->text.len), err, SPARK_E_FORMAT,
                spark_utf8_valid_prefix(a->text.ptr, a->text.len, SIZE_MAX), "the text is not valid UTF-8");
    return SPARK_SUCCESS;
}

static spark_status ask_check_stops(const spark_generate_options *g, spark_err *err)
{
    SPARK_CHECK(g->n_stops <= SPARK_MAX_STOPS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu stop strings: at most %u are allowed", g->n_stops, SPARK_MAX_STOPS);
    for (size_t i = 0; i < g->n_stops; i++) {
        const size_t n = strlen(g->stops[i]);
        SPARK_CHECK(n >= 1 && n <= SPARK_MAX_STOP_BYTES, err, SPARK_E_LIMIT, i,
                    "a stop string of %zu bytes: 1 to %u are allowed", n, SPARK_MAX_STOP_BYTES);
        SPARK_CHECK(spark_utf8_is_valid((const uint8_t *)g->stops[i], n), err, SPARK_E_FORMAT, i,
                    "a stop string is not valid UTF-8");
    }
    return SPARK_SUCCESS;
}

static bool ask_is_f32(float x) { return isfinite(x); }
static bool ask_is_u32(uint32_t x)
{
    (void)x;
    return true;
}

spark_status spark_ask_check(const spark_ask *a, spark_err *err)
{
    const spark_generate_options *g = &a->generate;
    SPARK_TRY(ask_check_parts(a, err));
    SPARK_TRY(ask_check_stops(g, err));
#define ASK_IS(type, name)                                                                                             \
    SPARK_CHECK(ask_is_##type(g->sampling.name), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, #name " is not finite");
    ASK_SAMPLING(ASK_IS)
#undef ASK_IS
    SPARK_CHECK(g->n_logit_bias <= SPARK_MAX_LOGIT_BIAS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%zu logit biases: at most %u are allowed", g->n_logit_bias, SPARK_MAX_LOGIT_BIAS);
    for (size_t i = 0; i < g->n_logit_bias; i++)
        SPARK_CHECK(isfinite(g->logit_bias[i].bias) || g->logit_bias[i].bias == -INFINITY, err, SPARK_E_ARGUMENT, i,
                    "a logit bias is neither finite nor -inf");
    SPARK_CHECK(g->n_logprobs <= SPARK_MAX_LOGPROBS, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "%u log-probabilities a token: at most %u are allowed", g->n_logprobs, SPARK_MAX_LOGPROBS);
    SPARK_CHECK(a->n_ids <= SPARK_MAX_ASK / 4 && a->text.len <= SPARK_MAX_ASK && spark_ask_size(a) <= SPARK_MAX_ASK,
                err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "the request takes more than %u bytes", SPARK_MAX_ASK);
    return SPARK_SUCCESS;
}

/* ---- Writing ---- */

size_t spark_ask_size(const spark_ask *a)
{
    size_t n = ASK_HEAD + a->text.len + 4 * (size_t)a->n_ids + 8 * a->generate.n_logit_bias;
    for (size_t i = 0; i < a->generate.n_stops; i++) n += 2 + strlen(a->generate.stops[i]);
    return n;
}

static uint8_t *put_u16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v) { return put_u16(put_u16(p, v & 0xffff), v >> 16); }
static uint8_t *put_u64(uint8_t *p, uint64_t v) { return put_u32(put_u32(p, (uint32_t)v), (uint32_t)(v >> 32)); }

static uint8_t *put_f32(uint8_t *p, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return put_u32(p, u);
}

static uint8_t *put_run(uint8_t *p, const void *bytes, size_t len)
{
    if (len) memcpy(p, bytes, len);
    return p + len;
}

static unsigned ask_flags(const spark_ask *a)
{
    return (a->add_special ? ASK_ADD_SPECIAL : 0u) | (a->parse_special ? ASK_PARSE_SPECIAL : 0u) |
           (a->pieces ? ASK_PIECES : 0u) | (a->prompt_ids ? ASK_PROMPT_IDS : 0u) | (a->echo ? ASK_ECHO : 0u) |
           (a->cache ? ASK_CACHE : 0u) | (a->random_seed ? ASK_RANDOM_SEED : 0u) |
           (a->generate.ignore_eog ? ASK_IGNORE_EOG : 0u);
}

static uint8_t *ask_put_sampling(uint8_t *p, const spark_sampling *s)
{
    p = put_u64(p, s->seed);
#define ASK_PUT(type, name) p = put_##type(p, s->name);
    ASK_SAMPLING(ASK_PUT)
#undef ASK_PUT
    return p;
}

size_t spark_ask_encode(const spark_ask *a, uint8_t *out)
{
    assert(spark_ok(spark_ask_check(a, NULL))); /* ours to check before */
    const spark_generate_options *g = &a->generate;
    uint8_t *p = out;
    *p++ = ASK_VERSION;
    *p++ = (uint8_t)a->kind;
    p = put_u16(p, ask_flags(a));
    p = put_u32(p, (uint32_t)a->priority);
    p = put_u64(p, a->tenant);
    p = put_u32(p, a->deadline_ms);
    p = put_u32(p, a->n_ctx);
    p = put_u32(p, g->max_tokens);
    p = put_u32(p, g->n_logprobs);
    p = ask_put_sampling(p, &g->sampling);
    p = put_u32(p, (uint32_t)a->text.len);
    p = put_u32(p, a->n_ids);
    p = put_u32(p, (uint32_t)g->n_stops);
    p = put_u32(p, (uint32_t)g->n_logit_bias);
    p = put_run(p, a->text.ptr, a->text.len);
    for (uint32_t i = 0; i < a->n_ids; i++) p = put_u32(p, a->ids[i]);
    for (size_t i = 0; i < g->n_stops; i++) {
        const size_t n = strlen(g->stops[i]);
        p = put_run(put_u16(p, n), g->stops[i], n);
    }
    for (size_t i = 0; i < g->n_logit_bias; i++) p = put_f32(put_u32(p, g->logit_bias[i].id), g->logit_bias[i].bias);
    return (size_t)(p - out);
}

/* ---- Reading ---- */

typedef struct ask_counts {
    uint32_t text, ids, stops, bias;
} ask_counts;

static spark_status ask_get_f32(spark_cursor *c, float *out, spark_err *err)
{
    spark_bytes b;
    SPARK_TRY(spark_cursor_take(c, 4, &b, err));
    *out = spark_load_f32(b.ptr);
    return SPARK_SUCCESS;
}

static spark_status ask_get_u32(spark_cursor *c, uint32_t *out, spark_err *err)
{
    return spark_cursor_u32(c, out, err);
}

static spark_status ask_get_head(spark_cursor *c, spark_ask *a, spark_err *err)
{
    uint8_t version = 0, kind = 0;
    uint16_t flags = 0;
    uint32_t priority = 0;
    spark_sampling *s = &a->generate.sampling;
    SPARK_TRY(spark_cursor_u8(c, &version, err));
    SPARK_CHECK(version == ASK_VERSION, err, SPARK_E_FORMAT, 0, "version %u of a request, not %d", version,
                ASK_VERSION);
    SPARK_TRY(spark_cursor_u8(c, &kind, err));
    SPARK_TRY(spark_cursor_u16(c, &flags, err));
    SPARK_CHECK((flags & ~(unsigned)ASK_ALL_FLAGS) == 0, err, SPARK_E_FORMAT, 2, "unknown flags %#x", flags);
    SPARK_TRY(spark_cursor_u32(c, &priority, err));
    a->kind = (spark_ask_kind)kind;
    memcpy(&a->priority, &priority, sizeof priority);
    a->add_special = flags & ASK_ADD_SPECIAL;
    a->parse_special = flags & ASK_PARSE_SPECIAL;
    a->pieces = flags & ASK_PIECES;
    a->prompt_ids = flags & ASK_PROMPT_IDS;
    a->echo = flags & ASK_ECHO;
    a->cache = flags & ASK_CACHE;
    a->random_seed = flags & ASK_RANDOM_SEED;
    a->generate.ignore_eog = flags & ASK_IGNORE_EOG;
    SPARK_TRY(spark_cursor_u64(c, &a->tenant, err));
    SPARK_TRY(spark_cursor_u32(c, &a->deadline_ms, err));
    SPARK_TRY(spark_cursor_u32(c, &a->n_ctx, err));
    SPARK_TRY(spark_cursor_u32(c, &a->generate.max_tokens, err));
    SPARK_TRY(spark_cursor_u32(c, &a->generate.n_logprobs, err));
    SPARK_TRY(spark_cursor_u64(c, &s->seed, err));
#define ASK_GET(type, name) SPARK_TRY(ask_get_##type(c, &s->name, err));
    ASK_SAMPLING(ASK_GET)
#undef ASK_GET
    return SPARK_SUCCESS;
}

/* Counts are believed only if so much still follows. */
static spark_status ask_get_counts(spark_cursor *c, ask_counts *n, spark_err *err)
{
    SPARK_TRY(spark_cursor_u32(c, &n->text, err));
    SPARK_TRY(spark_cursor_u32(c, &n->ids, err));
    SPARK_TRY(spark_cursor_u32(c, &n->stops, err));
    SPARK_TRY(spark_cursor_u32(c, &n->bias, err));
    const uint64_t least = (uint64_t)n->text + 4 * (uint64_t)n->ids + 3 * (uint64_t)n->stops + 8 * (uint64_t)n->bias;
    SPARK_CHECK(least <= spark_cursor_left(c), err, SPARK_E_FORMAT, spark_cursor_pos(c),
                "the counts of a request claim %llu bytes or more, but %zu follow", (unsigned long long)least,
                spark_cursor_left(c));
    SPARK_CHECK(n->stops <= SPARK_MAX_STOPS && n->bias <= SPARK_MAX_LOGIT_BIAS, err, SPARK_E_LIMIT, spark_cursor_pos(c),
                "%u stop strings and %u logit biases: at most %u and %u are allowed", n->stops, n->bias,
                SPARK_MAX_STOPS, SPARK_MAX_LOGIT_BIAS);
    return SPARK_SUCCESS;
}

static spark_status ask_get_prompt(spark_cursor *c, const ask_counts *n, spark_ask *out, spark_arena *a, spark_err *err)
{
    spark_bytes text;
    uint32_t *ids = NULL;
    SPARK_TRY(spark_cursor_take(c, n->text, &text, err));
    SPARK_TRY(spark_arena_copy(a, text, &out->text, err));
    SPARK_TRY(SPARK_NEW(a, n->ids, &ids, err));
    for (uint32_t i = 0; i < n->ids; i++) SPARK_TRY(spark_cursor_u32(c, &ids[i], err));
    out->ids = ids;
    out->n_ids = n->ids;
    return SPARK_SUCCESS;
}

static spark_status ask_get_lists(spark_cursor *c, const ask_counts *n, spark_generate_options *g, spark_arena *a,
                                  spark_err *err)
{
    const char **stops = NULL;
    spark_logit_bias *bias = NULL;
    SPARK_TRY(SPARK_NEW(a, n->stops, &stops, err));
    SPARK_TRY(SPARK_NEW(a, n->bias, &bias, err));
    for (uint32_t i = 0; i < n->stops; i++) {
        uint16_t len = 0;
        spark_bytes text, copy;
        SPARK_TRY(spark_cursor_u16(c, &len, err));
        SPARK_TRY(spark_cursor_take(c, len, &text, err));
        SPARK_CHECK(!memchr(text.ptr, 0, text.len), err, SPARK_E_FORMAT, i, "a stop string holds a zero byte");
        SPARK_TRY(spark_arena_copy(a, text, &copy, err));
        stops[i] = (const char *)copy.ptr;
    }
    for (uint32_t i = 0; i < n->bias; i++) {
        SPARK_TRY(spark_cursor_u32(c, &bias[i].id, err));
        SPARK_TRY(ask_get_f32(c, &bias[i].bias, err));
    }
    g->stops = stops;
    g->n_stops = n->stops;
    g->logit_bias = bias;
    g->n_logit_bias = n->bias;
    return SPARK_SUCCESS;
}

spark_status spark_ask_decode(spark_ask *out, spark_bytes in, spark_arena *a, spark_err *err)
{
    spark_ask got = {0};
    ask_counts n = {0};
    spark_cursor c = spark_cursor_at(in);
    SPARK_CHECK(in.len <= SPARK_MAX_ASK, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "a request of %zu bytes: at most %u are allowed", in.len, SPARK_MAX_ASK);
    SPARK_TRY(ask_get_head(&c, &got, err));
    SPARK_TRY(ask_get_counts(&c, &n, err));
    SPARK_TRY(ask_get_prompt(&c, &n, &got, a, err));
    SPARK_TRY(ask_get_lists(&c, &n, &got.generate, a, err));
    SPARK_CHECK(spark_cursor_left(&c) == 0, err, SPARK_E_FORMAT, spark_cursor_pos(&c), "%zu bytes follow a request",
                spark_cursor_left(&c));
    SPARK_TRY(spark_ask_check(&got, err));
    *out = got;
    return SPARK_SUCCESS;
}
