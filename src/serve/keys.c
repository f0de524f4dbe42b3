/* keys.c - the key file's meaning, and the search for a presented key. */
#include "serve/keys.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/spark_limits.h"
#include "serve/config_text.h"
#include "serve/config_time.h"
#include "serve/keys_internal.h"

struct spark_keys {
    spark_arena *arena;
    uint8_t salt[SPARK_KEY_DIGEST];
    spark_key *keys; /* [n], by number */
    uint32_t n;
    uint64_t *numbers; /* [n] of them, for the search */
};

static const char *const keys_route_names[SPARK_N_ROUTE_CLASSES] = {
#define KEYS_ROUTE(name, text) [SPARK_ROUTE_##name] = text,
    SPARK_ROUTE_CLASSES(KEYS_ROUTE)
#undef KEYS_ROUTE
};

const char *spark_route_class_name(spark_route_class c) { return keys_route_names[c]; }

/* ---- Text and hashes ---- */

static const char keys_alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

void spark__base32(const uint8_t *in, size_t n_in, char *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned value = 0;
        for (size_t bit = 5 * i; bit < 5 * i + 5; bit++)
            value = value << 1 | (bit / 8 < n_in ? (unsigned)in[bit / 8] >> (7 - bit % 8) & 1u : 0u);
        out[i] = keys_alphabet[value];
    }
}

/* The value of a character, 32 and more if it is none. Branches on no secret: of a key only id and sum are read so. */
static unsigned keys_digit(char c)
{
    return c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') : c >= '2' && c <= '7' ? (unsigned)(c - '2') + 26 : 32;
}

/* Ten characters as 50 bits; false if one is no base32. */
static bool keys_number(const char *id, uint64_t *out)
{
    uint64_t n = 0;
    unsigned bad = 0;
    for (size_t i = 0; i < SPARK_KEY_ID; i++) {
        const unsigned d = keys_digit(id[i]);
        bad |= d & 32;
        n = n << 5 | (d & 31);
    }
    *out = n;
    return bad == 0;
}

void spark__key_sum(const char *text, size_t len, char out[SPARK_KEY_SUM])
{
    uint32_t crc = UINT32_MAX; /* CRC-32 of ISO 3309 */
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)text[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    crc = ~crc;
    const uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    spark__base32(bytes, sizeof bytes, out, SPARK_KEY_SUM);
}

bool spark__key_hash(const uint8_t salt[SPARK_KEY_DIGEST], const char *kind, const char *text, size_t len,
                     uint8_t out[SPARK_KEY_DIGEST])
{
    uint8_t message[16 + SPARK_MAX_SETTING_LINE] = {
        0}; /* the kind, filled with zeros, then the text: no two kinds meet */
    unsigned n = 0;
    assert(len <= SPARK_MAX_SETTING_LINE && strlen(kind) < 16);
    memcpy(message, kind, strlen(kind));
    memcpy(message + 16, text, len);
    const uint8_t *ok = HMAC(EVP_sha256(), salt, SPARK_KEY_DIGEST, message, 16 + len, out, &n);
    OPENSSL_cleanse(message, 16 + len);
    return ok != NULL && n == SPARK_KEY_DIGEST;
}

const uint8_t *spark__keys_salt(const spark_keys *k) { return k->salt; }

void spark_keys_warm(void)
{
    const uint8_t salt[SPARK_KEY_DIGEST] = {0};
    uint8_t out[SPARK_KEY_DIGEST];
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    (void)!spark__key_hash(salt, "warm", "", 0, out);
}

/* ---- The file ---- */

typedef enum keys_field_kind {
    KEYS_NAME,
    KEYS_HASH,
    KEYS_TIME,
    KEYS_MODELS,
    KEYS_ROUTES,
    KEYS_COUNT,
    KEYS_PRIORITY,
    KEYS_TENANT,
    KEYS_RIGHT,
    KEYS_FLAG
} keys_field_kind;

/* The lines of a key. A row's place in this table is its bit in keys_reader.seen. */
static const struct {
    const char *name;
    keys_field_kind kind;
    size_t offset;
    uint32_t max; /* COUNT; RIGHT: the route class */
    bool required;
} keys_fields[] = {
    {"name", KEYS_NAME, offsetof(spark_key, name), 0, false},
    {"hash", KEYS_HASH, offsetof(spark_key, digest), 0, true},
    {"created", KEYS_TIME, offsetof(spark_key, created), 0, true},
    {"expires", KEYS_TIME, offsetof(spark_key, expires), 0, true},
    {"revoked", KEYS_TIME, offsetof(spark_key, revoked), 0, false},
    {"models", KEYS_MODELS, 0, 0, true},
    {"routes", KEYS_ROUTES, 0, 0, true},
    {"requests_per_minute", KEYS_COUNT, offsetof(spark_key, requests_per_minute), SPARK_MAX_KEY_RATE, false},
    {"tokens_per_minute", KEYS_COUNT, offsetof(spark_key, tokens_per_minute), SPARK_MAX_KEY_RATE, false},
    {"max_context", KEYS_COUNT, offsetof(spark_key, max_context), SPARK_MAX_CTX, false},
    {"max_parallel", KEYS_COUNT, offsetof(spark_key, max_parallel), 65536, false},
    {"priority", KEYS_PRIORITY, offsetof(spark_key, priority), 1000, false},
    {"tenant", KEYS_TENANT, offsetof(spark_key, tenant_name), 0, false},
    {"metrics", KEYS_RIGHT, 0, SPARK_ROUTE_METRICS, false},
    {"admin", KEYS_RIGHT, 0, SPARK_ROUTE_ADMIN, false},
};
enum { KEYS_N_FIELDS = sizeof keys_fields / sizeof keys_fields[0] };

typedef struct keys_reader {
    spark_keys *k;
    spark_text text;
    spark_text_line line;
    spark_key *key;          /* whose lines are being read */
    uint32_t key_line, seen; /* its heading; bits of keys_fields */
    bool version, salt;
    uint32_t *lines; /* of each key's heading */
} keys_reader;

#define keys_fail(r, err, ...) spark_text_fail((err), (r)->line.line, (r)->line.value_column, __VA_ARGS__)

static int keys_hex(uint8_t c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static spark_status keys_read_bytes(const keys_reader *r, uint8_t out[SPARK_KEY_DIGEST], spark_err *err)
{
    const spark_bytes v = r->line.value;
    if (v.len != 2 * SPARK_KEY_DIGEST)
        return keys_fail(r, err, "64 digits of hex are expected, not %zu characters", v.len);
    for (size_t i = 0; i < SPARK_KEY_DIGEST; i++) {
        const int high = keys_hex(v.ptr[2 * i]), low = keys_hex(v.ptr[2 * i + 1]);
        if (high < 0 || low < 0) return keys_fail(r, err, "a digit of hex (0-9, a-f) is expected");
        out[i] = (uint8_t)(high << 4 | low);
    }
    return SPARK_SUCCESS;
}

static spark_status keys_read_time(const keys_reader *r, int64_t *out, spark_err *err)
{
    const char *text = NULL;
    SPARK_TRY(spark_text_item(&r->line, &text, r->k->arena, err));
    if (strcmp(text, "never") == 0) {
        *out = 0;
        return SPARK_SUCCESS;
    }
    if (!spark_time_read(text, out) || *out == 0)
        return keys_fail(r, err, "'%.40s' is no time, as in 2027-01-31T12:00:00Z, and not 'never'", text);
    return SPARK_SUCCESS;
}

static spark_status keys_read_number(const keys_reader *r, uint32_t max, bool sign, int64_t *out, spark_err *err)
{
    const char *text = NULL;
    int64_t n = 0;
    SPARK_TRY(spark_text_item(&r->line, &text, r->k->arena, err));
    const bool minus = sign && text[0] == '-';
    const char *digits = text + minus;
    const size_t len = strlen(digits);
    if (len == 0 || len > 10 || strspn(digits, "0123456789") != len)
        return keys_fail(r, err, "'%.40s' is no whole number", text);
    for (; *digits; digits++) n = n * 10 + (*digits - '0');
    if (n > max)
        return keys_fail(r, err, "'%.40s' is out of range: %s%u to %u is allowed", text, sign ? "-" : "",
                         sign ? max : 0, max);
    *out = minus ? -n : n;
    return SPARK_SUCCESS;
}

static spark_status keys_read_flag(const keys_reader *r, bool *out, spark_err *err)
{
    if (!spark_bytes_is(r->line.value, "yes") && !spark_bytes_is(r->line.value, "no"))
        return keys_fail(r, err, "yes or no is expected");
    *out = spark_bytes_is(r->line.value, "yes");
    return SPARK_SUCCESS;
}

/* "*", or a list of names. */
static spark_status keys_read_models(const keys_reader *r, spark_err *err)
{
    const char **items = NULL;
    uint32_t n = 0;
    SPARK_TRY(SPARK_NEW(r->k->arena, SPARK_MAX_SETTING_LIST, &items, err));
    SPARK_TRY(spark_text_items(&r->line, items, SPARK_MAX_SETTING_LIST, &n, r->k->arena, err));
    if (n == 0) return keys_fail(r, err, "'*' or names of models are expected");
    for (uint32_t i = 0; i < n; i++) {
        const size_t len = strlen(items[i]);
        if (len == 0 || len > SPARK_MAX_SERVED_NAME)
            return keys_fail(r, err, "a name of a model has 1 to %u bytes", SPARK_MAX_SERVED_NAME);
        if (strcmp(items[i], "*") == 0 && n > 1) return keys_fail(r, err, "'*' stands alone");
    }
    r->key->n_models = strcmp(items[0], "*") == 0 ? 0 : n;
    r->key->models = items;
    return SPARK_SUCCESS;
}

static spark_status keys_read_routes(const keys_reader *r, spark_err *err)
{
    const char *items[SPARK_N_ROUTE_CLASSES];
    uint32_t n = 0, routes = 0;
    SPARK_TRY(spark_text_items(&r->line, items, SPARK_ROUTE_METRICS, &n, r->k->arena, err));
    if (n == 0)
        return keys_fail(r, err, "'*' or some of generate, tokenize, models, embed are expected ('none' allows none)");
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = 0;
        while (c < SPARK_ROUTE_METRICS && strcmp(items[i], keys_route_names[c]) != 0) c++;
        const bool alone = strcmp(items[i], "*") == 0 || strcmp(items[i], "none") == 0;
        if ((c == SPARK_ROUTE_METRICS && !alone) || (alone && n > 1))
            return keys_fail(r, err, "'%.40s' is none of generate, tokenize, models, embed; '*' and 'none' stand alone",
                             items[i]);
        if (c < SPARK_ROUTE_METRICS) routes |= 1u << c;
        if (strcmp(items[i], "*") == 0) routes |= (1u << SPARK_ROUTE_METRICS) - 1;
    }
    r->key->routes |= routes;
    return SPARK_SUCCESS;
}

static spark_status keys_read_text(const keys_reader *r, const char **out, spark_err *err)
{
    SPARK_TRY(spark_text_item(&r->line, out, r->k->arena, err));
    if (strlen(*out) == 0 || strlen(*out) > SPARK_MAX_SERVED_NAME)
        return keys_fail(r, err, "1 to %u bytes are expected", SPARK_MAX_SERVED_NAME);
    return SPARK_SUCCESS;
}

static spark_status keys_read_field(const keys_reader *r, uint32_t f, spark_err *err)
{
    char *field = (char *)r->key + keys_fields[f].offset;
    const uint32_t max = keys_fields[f].max;
    int64_t n = 0;
    bool yes = false;
    switch (keys_fields[f].kind) {
    case KEYS_NAME:
    case KEYS_TENANT: return keys_read_text(r, (const char **)field, err);
    case KEYS_HASH: return keys_read_bytes(r, (uint8_t *)field, err);
    case KEYS_TIME: return keys_read_time(r, (int64_t *)field, err);
    case KEYS_MODELS: return keys_read_models(r, err);
    case KEYS_ROUTES: return keys_read_routes(r, err);
    case KEYS_COUNT:
        SPARK_TRY(keys_read_number(r, max, false, &n, err));
        *(uint32_t *)field = (uint32_t)n;
        return SPARK_SUCCESS;
    case KEYS_PRIORITY:
        SPARK_TRY(keys_read_number(r, max, true, &n, err));
        *(int32_t *)field = (int32_t)n;
        return SPARK_SUCCESS;
    case KEYS_FLAG: return keys_read_flag(r, (bool *)field, err);
    case KEYS_RIGHT: break;
    }
    SPARK_TRY(keys_read_flag(r, &yes, err));
    r->key->routes |= (uint32_t)yes << max;
    return SPARK_SUCCESS;
}

static spark_status keys_unknown(const keys_reader *r, spark_err *err)
{
    char name[65];
    const char *best = NULL;
    unsigned distance = 4;
    snprintf(name, sizeof name, "%.*s", (int)(r->line.name.len < 64 ? r->line.name.len : 64),
             (const char *)r->line.name.ptr);
    for (uint32_t f = 0; r->key && f < KEYS_N_FIELDS; f++) {
        const unsigned d = spark_text_distance(name, keys_fields[f].name, 3);
        if (d < distance) {
            best = keys_fields[f].name;
            distance = d;
        }
    }
    return spark_text_fail(err, r->line.line, r->line.column, "'%s' is nothing that %s has%s%s%s", name,
                           r->key ? "a key" : "the head of a key file", best ? "; did you mean '" : "",
                           best ? best : "", best ? "'?" : "");
}

static spark_status keys_pair(keys_reader *r, spark_err *err)
{
    uint32_t f = 0;
    if (!r->key) {
        bool *seen = spark_bytes_is(r->line.name, "version") ? &r->version
                     : spark_bytes_is(r->line.name, "salt")  ? &r->salt
                                                             : NULL;
        if (!seen) return keys_unknown(r, err);
        if (*seen) return keys_fail(r, err, "it stands there twice");
        *seen = true;
        if (seen == &r->salt) return keys_read_bytes(r, r->k->salt, err);
        if (!spark_bytes_is(r->line.value, "1")) return keys_fail(r, err, "only version 1 of key files is known");
        return SPARK_SUCCESS;
    }
    while (f < KEYS_N_FIELDS && !spark_bytes_is(r->line.name, keys_fields[f].name)) f++;
    if (f == KEYS_N_FIELDS) return keys_unknown(r, err);
    if (r->seen >> f & 1) return keys_fail(r, err, "'%s' stands there twice", keys_fields[f].name);
    r->seen |= 1u << f;
    return keys_read_field(r, f, err);
}

/* What a key must have, and what follows from it. */
static spark_status keys_end_key(keys_reader *r, spark_err *err)
{
    uint8_t digest[SPARK_KEY_DIGEST];
    spark_key *key = r->key;
    if (!key) return SPARK_SUCCESS;
    for (uint32_t f = 0; f < KEYS_N_FIELDS; f++)
        if (keys_fields[f].required && !(r->seen >> f & 1))
            return spark_text_fail(err, r->key_line, 1, "key %s has no '%s'", key->id, keys_fields[f].name);
    if (!key->name) key->name = key->id;
    const bool own = !key->tenant_name;
    const char *tenant = own ? key->id : key->tenant_name;
    SPARK_CHECK(spark__key_hash(r->k->salt, own ? "own tenant" : "tenant", tenant, strlen(tenant), digest), err,
                SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory to hash a tenant");
    key->tenant = spark_load_u64(digest);
    if (key->tenant == 0) key->tenant = 1;
    return SPARK_SUCCESS;
}

static spark_status keys_begin_key(keys_reader *r, spark_err *err)
{
    const char *id = NULL;
    SPARK_TRY(keys_end_key(r, err));
    if (!spark_bytes_is(r->line.name, "key"))
        return spark_text_fail(err, r->line.line, r->line.column, "only headings [key ID] are known");
    if (!r->version || !r->salt)
        return spark_text_fail(err, r->line.line, 1, "'version' and 'salt' come before the first key");
    if (r->k->n == SPARK_MAX_KEYS) return spark_text_fail(err, r->line.line, 1, "more than %u keys", SPARK_MAX_KEYS);
    SPARK_TRY(spark_text_item(&r->line, &id, r->k->arena, err));
    r->key = &r->k->keys[r->k->n];
    if (strlen(id) != SPARK_KEY_ID || !keys_number(id, &r->key->number))
        return keys_fail(r, err, "'%.40s' is no id: ten of a-z and 2-7", id);
    memcpy(r->key->id, id, SPARK_KEY_ID + 1);
    r->lines[r->k->n++] = r->line.line;
    r->key_line = r->line.line;
    r->seen = 0;
    return SPARK_SUCCESS;
}

static int keys_order(const void *a, const void *b)
{
    const uint64_t x = ((const spark_key *)a)->number, y = ((const spark_key *)b)->number;
    return (x > y) - (x < y);
}

static int keys_order_numbers(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* An id that stands there twice: where it does so for the second time. */
static spark_status keys_twice(const keys_reader *r, uint64_t number, spark_err *err)
{
    uint32_t i = 0;
    for (uint32_t times = 0; i < r->k->n; i++) {
        times += r->k->keys[i].number == number;
        if (times == 2) break;
    }
    return spark_text_fail(err, r->lines[i], 1, "the id %s stands in this file twice", r->k->keys[i].id);
}

static spark_status keys_finish(keys_reader *r, spark_err *err)
{
    spark_keys *k = r->k;
    SPARK_TRY(keys_end_key(r, err));
    if (!r->version || !r->salt)
        return spark_text_fail(err, r->text.line ? r->text.line : 1, 1,
                               "'version' or 'salt' is missing: this is no key file");
    SPARK_TRY(SPARK_NEW(k->arena, k->n, &k->numbers, err));
    for (uint32_t i = 0; i < k->n; i++) k->numbers[i] = k->keys[i].number;
    qsort(k->numbers, k->n, sizeof *k->numbers, keys_order_numbers);
    for (uint32_t i = 1; i < k->n; i++)
        if (k->numbers[i] == k->numbers[i - 1]) return keys_twice(r, k->numbers[i], err);
    qsort(k->keys, k->n, sizeof *k->keys, keys_order);
    return SPARK_SUCCESS;
}

/* How many keys there can be: lines that begin one. */
static uint32_t keys_estimate(spark_bytes file)
{
    uint32_t n = 0;
    for (size_t i = 0; i < file.len && n < SPARK_MAX_KEYS; i++) n += file.ptr[i] == '[';
    return n;
}

static spark_status keys_read(keys_reader *r, spark_bytes file, spark_err *err)
{
    SPARK_CHECK(file.len <= SPARK_MAX_KEYS_BYTES, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "a key file of %zu bytes: at most %u are read", file.len, SPARK_MAX_KEYS_BYTES);
    const uint32_t most = keys_estimate(file) + 1;
    SPARK_TRY(SPARK_NEW(r->k->arena, most, &r->k->keys, err));
    SPARK_TRY(SPARK_NEW(r->k->arena, most, &r->lines, err));
    for (;;) {
        SPARK_TRY(spark_text_next(&r->text, &r->line, err));
        if (r->line.kind == SPARK_TEXT_END) return keys_finish(r, err);
        SPARK_TRY(r->line.kind == SPARK_TEXT_HEADING ? keys_begin_key(r, err) : keys_pair(r, err));
    }
}

spark_status spark_keys_parse(spark_keys **out, spark_bytes file, spark_err *err)
{
    spark_arena *a = NULL;
    spark_keys *k = NULL;
    SPARK_TRY(spark_arena_create(&a, (size_t)128 << 20, err)); /* 4096 keys of 64 models each, 8 MB of text unquoted */
    spark_status s = SPARK_NEW(a, 1, &k, err);
    if (spark_ok(s)) {
        k->arena = a;
        keys_reader r = {.k = k, .text = {.bytes = file}};
        s = keys_read(&r, file, err);
    }
    if (!spark_ok(s)) {
        spark_arena_destroy(&a);
        return s;
    }
    *out = k;
    return s;
}

void spark_keys_destroy(spark_keys **k)
{
    if (!*k) return;
    spark_arena *a = (*k)->arena;
    OPENSSL_cleanse((*k)->salt, sizeof(*k)->salt);
    *k = NULL;
    spark_arena_destroy(&a);
}

uint32_t spark_keys_count(const spark_keys *k) { return k->n; }
const spark_key *spark_keys_at(const spark_keys *k, uint32_t i) { return &k->keys[i]; }

/* ---- Finding ---- */

const spark_key *spark_keys_by_number(const spark_keys *k, uint64_t number)
{
    uint32_t at = 0, step = 1;
    while (step <= k->n / 2) step *= 2;
    for (; step; step /= 2)
        if (at + step <= k->n && k->numbers[at + step - 1] < number) at += step;
    return at < k->n && k->numbers[at] == number ? &k->keys[at] : NULL;
}

/* Hashes what was presented, whatever it is, and compares the whole of it with some digest, whether there is a key or not: the
 * only thing that time tells is what the client itself sent. */
const spark_key *spark_keys_find(const spark_keys *k, spark_bytes presented, const spark_key **known)
{
    static const uint8_t nobody[SPARK_KEY_DIGEST] = {0};
    enum { AT_ID = 9, AT_DASH = AT_ID + SPARK_KEY_ID, AT_SECRET = AT_DASH + 1, AT_SUM = AT_SECRET + SPARK_KEY_SECRET };
    char text[SPARK_KEY_TEXT] = {0}, sum[SPARK_KEY_SUM], bound[SPARK_KEY_ID + SPARK_KEY_SECRET];
    uint8_t digest[SPARK_KEY_DIGEST] = {0};
    uint64_t number = 0;
    if (presented.len) memcpy(text, presented.ptr, presented.len < sizeof text ? presented.len : sizeof text);
    const bool shaped = (presented.len == sizeof text) & (memcmp(text, SPARK_KEY_PREFIX, AT_ID) == 0) &
                        (text[AT_DASH] == '-');
    const bool named = keys_number(text + AT_ID, &number);
    memcpy(bound, text + AT_ID, SPARK_KEY_ID);
    memcpy(bound + SPARK_KEY_ID, text + AT_SECRET, SPARK_KEY_SECRET);
    spark__key_sum(text, AT_SUM, sum);
    const bool hashed = spark__key_hash(k->salt, "key", bound, sizeof bound, digest);
    const spark_key *found = spark_keys_by_number(k, number);
    const bool candidate = shaped & named & (found != NULL);
    const int differs = CRYPTO_memcmp(digest, candidate ? found->digest : nobody, sizeof digest);
    const int mistyped = CRYPTO_memcmp(sum, text + AT_SUM, sizeof sum);
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(bound, sizeof bound);
    *known = candidate ? found : NULL;
    const bool right = candidate & hashed & (differs == 0) & (mistyped == 0);
    return right ? found : NULL;
}

bool spark_key_allows_route(const spark_key *k, spark_route_class route) { return k->routes >> route & 1; }

bool spark_key_allows_model(const spark_key *k, const char *model)
{
    for (uint32_t i = 0; i < k->n_models; i++)
        if (strcmp(k->models[i], model) == 0) return true;
    return k->n_models == 0;
}
