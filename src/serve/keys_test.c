/* keys_test.c - key files: what is read, what is refused and where; finding keys; changing the file. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/keys.h"

#include "base/clock.h"
#include "base/spark_limits.h"
#include "base/test.h"
#include "serve/config_time.h"
#include "serve/keys_file.h"
#include "serve/keys_file_internal.h"
#include "serve/keys_internal.h"

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD  "version = 1\nsalt = " HEX64 "\n"
#define KEY(id)                                                                                                        \
    "[key " id "]\nhash = " HEX64 "\ncreated = 2026-11-21T00:00:00Z\nexpires = never\nmodels = *\nroutes = *\n"
enum { NOW = 1795000000 };

static spark_keys *parsed(const char *text)
{
    spark_keys *k = NULL;
    spark_err err = {0};
    if (!spark_ok(spark_keys_parse(&k, spark_bytes_of(text), &err)))
        fail_msg("%u:%u %s", err.line, err.column, err.text);
    return k;
}

static void refused(const char *text, uint32_t line, const char *words)
{
    spark_keys *k = NULL;
    spark_err err = {0};
    const spark_status s = spark_keys_parse(&k, spark_bytes_of(text), &err);
    if (s.code != SPARK_E_FORMAT || err.line != line || !strstr(err.text, words))
        fail_msg("'%s': code %d line %u: %s; expected line %u '%s'", text, (int)s.code, err.line, err.text, line,
                 words);
    assert_null(k);
}

/* A table with the keys of a minted file; text gets the key. */
static spark_keys *minted(const spark_key_wish *w, char text[SPARK_KEY_TEXT + 1])
{
    spark_key_wish plain;
    spark_key_wish_defaults(&plain);
    uint8_t *file = NULL;
    size_t len = 0;
    spark_keys *k = NULL;
    assert_ok(spark_key_mint(w ? w : &plain, NOW, text, &file, &len, NULL));
    assert_ok(spark_keys_parse(&k, (spark_bytes){file, len}, NULL));
    free(file);
    return k;
}

/* ---- The file's text ---- */

static void test_every_line_of_a_key_is_read(void **state)
{
    (void)state;
    spark_keys *k = parsed(
        "# keys\n" HEAD "[key abcdefghij]\nname = \"ward, 7\"\nhash = " HEX64
        "\ncreated = 2026-11-21T18:48:14Z\nexpires = 2027-01-31\nrevoked = 2026-12-01T00:00:00Z\nmodels = a, \"b, c\"\n"
        "routes = models, generate\nrequests_per_minute = 60\ntokens_per_minute = 50000000\nmax_context = 8192\n"
        "max_parallel = 4\npriority = -5\ntenant = wards\nmetrics = yes\nadmin = no\n" KEY("2222222222"));
    assert_int_equal(spark_keys_count(k), 2);
    const spark_key *a = spark_keys_at(k, 0), *b = spark_keys_at(k, 1);
    assert_string_equal(a->name, "ward, 7");
    assert_true(a->digest[0] == 0 && a->digest[1] == 0x11 && a->digest[31] == 0xff);
    assert_int_equal(a->created, 1795286894);
    assert_int_equal(a->expires, 1801353600);
    assert_int_equal(a->revoked, 1796083200);
    assert_true(spark_key_allows_model(a, "b, c") && !spark_key_allows_model(a, "c"));
    assert_true(spark_key_allows_route(a, SPARK_ROUTE_GENERATE) && spark_key_allows_route(a, SPARK_ROUTE_METRICS));
    assert_false(spark_key_allows_route(a, SPARK_ROUTE_TOKENIZE) || spark_key_allows_route(a, SPARK_ROUTE_ADMIN));
    assert_true(a->requests_per_minute == 60 && a->tokens_per_minute == 50000000 && a->max_context == 8192 &&
                a->max_parallel == 4);
    assert_true(a->priority == -5);
    assert_string_equal(b->name, "2222222222");
    assert_true(spark_key_allows_model(b, "anything") && b->expires == 0 && b->requests_per_minute == 0);
    assert_true(spark_key_allows_route(b, SPARK_ROUTE_EMBED) && !spark_key_allows_route(b, SPARK_ROUTE_METRICS));
    assert_ptr_equal(spark_keys_by_number(k, b->number), b);
    assert_null(spark_keys_by_number(k, b->number + 1));
    spark_keys_destroy(&k);
}

static void test_tenants_are_shared_by_name_only_and_depend_on_the_salt(void **state)
{
    (void)state;
    const char *others =
        "[key ccccccccca]\nhash=" HEX64 "\ncreated=2026-01-01\nexpires=never\nmodels=*\nroutes=*\ntenant=t\n"
        "[key cccccccccb]\nhash=" HEX64 "\ncreated=2026-01-01\nexpires=never\nmodels=*\nroutes=*\ntenant=t\n"
        "[key cccccccccc]\nhash=" HEX64 "\ncreated=2026-01-01\nexpires=never\nmodels=*\nroutes=*\ntenant=ccccccccca\n"
        "[key cccccccccd]\nhash=" HEX64 "\ncreated=2026-01-01\nexpires=never\nmodels=*\nroutes=*\n"
        "[key ccccccccce]\nhash=" HEX64 "\ncreated=2026-01-01\nexpires=never\nmodels=*\nroutes=*\ntenant=cccccccccd\n";
    char text[4096];
    snprintf(text, sizeof text, "%s%s", HEAD, others);
    spark_keys *k = parsed(text);
    const uint64_t t = spark_keys_at(k, 0)->tenant;
    assert_true(t != 0 && spark_keys_at(k, 1)->tenant == t);
    assert_true(spark_keys_at(k, 2)->tenant != t);
    assert_true(spark_keys_at(k, 3)->tenant !=
                spark_keys_at(k, 4)->tenant); /* nobody joins a key by taking its id for a name */
    spark_keys_destroy(&k);
    text[19] = '1';
    k = parsed(text);
    assert_true(spark_keys_at(k, 0)->tenant != t);
    spark_keys_destroy(&k);
}

static void test_key_files_are_refused_with_the_line(void **state)
{
    (void)state;
    refused("", 1, "no key file");
    refused("version = 1\n", 1, "no key file");
    refused("version = 2\n", 1, "version 1");
    refused("version = 1\nversion = 1\n", 2, "twice");
    refused("version = 1\nsalt = 00\n", 2, "64 digits");
    refused("version = 1\nsalt = zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", 2, "hex");
    refused("version = 1\nsalt = 0011223344556677889AABBCCDDEEFF00112233445566778899aabbccddeefff\n", 2, "hex");
    refused("version = 1\npepper = 1\n", 2, "head of a key file");
    refused("version = 1\n[key abcdefghij]\n", 2, "come before");
    refused(HEAD "[key abcdefghij]\n", 3, "no 'hash'");
    refused(HEAD "[key abcdefghij]\nhash = " HEX64 "\nexpires = never\nmodels = *\nroutes = *\n", 3, "no 'created'");
    refused(HEAD "[key abcdefghij]\nhash = " HEX64 "\ncreated = 2026-01-01\nmodels = *\nroutes = *\n", 3,
            "no 'expires'");
    refused(HEAD "[key abcdefghij]\nhash = " HEX64 "\ncreated = 2026-01-01\nexpires = never\nroutes = *\n", 3,
            "no 'models'");
    refused(HEAD "[key abcdefghij]\nhash = " HEX64 "\ncreated = 2026-01-01\nexpires = never\nmodels = *\n", 3,
            "no 'routes'");
    refused(HEAD "[key ABCDEFGHIJ]\n", 3, "no id");
    refused(HEAD "[key abcdefghi]\n", 3, "no id");
    refused(HEAD "[key abcdefghi1]\n", 3, "no id");
    refused(HEAD "[model abcdefghij]\n", 3, "[key ID]");
    refused(HEAD KEY("abcdefghij") "nam = x\n", 9, "did you mean 'name'?");
    refused(HEAD KEY("abcdefghij") "routes = *\n", 9, "twice");
    refused(HEAD KEY("abcdefghij") "requests_per_minute = 50000001\n", 9, "0 to 50000000");
    refused(HEAD KEY("abcdefghij") "requests_per_minute = -1\n", 9, "no whole number");
    refused(HEAD KEY("abcdefghij") "requests_per_minute = 99999999999\n", 9, "no whole number");
    refused(HEAD KEY("abcdefghij") "priority = -1001\n", 9, "-1000 to 1000");
    refused(HEAD KEY("abcdefghij") "admin = true\n", 9, "yes or no");
    refused(HEAD KEY("abcdefghij") "revoked = yesterday\n", 9, "no time");
    refused(HEAD KEY("abcdefghij") "revoked = 2026-02-29\n", 9, "no time");
    refused(HEAD KEY("abcdefghij") "tenant = \"\"\n", 9, "1 to 128");
    refused(HEAD KEY("abcdefghij") KEY("bbbbbbbbbb") KEY("abcdefghij") KEY("cccccccccc"), 15,
            "abcdefghij stands in this file twice");
    refused(HEAD "[key abcdefghij]\nmodels = *, a\n", 4, "alone");
    refused(HEAD "[key abcdefghij]\nmodels =\n", 4, "expected");
    refused(HEAD "[key abcdefghij]\nroutes = *, models\n", 4, "alone");
    refused(HEAD "[key abcdefghij]\nroutes = admin\n", 4, "none of generate");
    refused(HEAD "[key abcdefghij]\nroutes =\n", 4, "expected");
}

static void test_more_keys_than_the_limit_are_refused(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    assert_non_null(f);
    fputs(HEAD, f);
    for (uint32_t i = 0; i <= SPARK_MAX_KEYS; i++) {
        const uint8_t id[7] = {(uint8_t)(i >> 8), (uint8_t)i};
        char name[SPARK_KEY_ID + 1] = "";
        spark__base32(id, sizeof id, name, SPARK_KEY_ID);
        fprintf(f, "[key %s]\nhash=" HEX64 "\ncreated=2026-01-01\nexpires=never\nmodels=*\nroutes=*\n", name);
        if (i + 1 != SPARK_MAX_KEYS) continue;
        fflush(f);
        spark_keys *k = parsed(text);
        assert_int_equal(spark_keys_count(k), SPARK_MAX_KEYS);
        for (uint32_t j = 0; j < SPARK_MAX_KEYS; j++)
            assert_ptr_equal(spark_keys_by_number(k, spark_keys_at(k, j)->number), spark_keys_at(k, j));
        spark_keys_destroy(&k);
    }
    fclose(f);
    refused(text, 3 + 6 * SPARK_MAX_KEYS, "more than 4096 keys");
    free(text);
}

static void test_times_are_written_and_read_back(void **state)
{
    (void)state;
    static const int64_t some[] = {1,          951782399,  951782400,  951868800,
                                   1795286894, 4107542399, 4107542400, SPARK_TIME_MAX};
    char text[32];
    int64_t back = 0;
    for (size_t i = 0; i < SPARK_COUNT(some); i++) {
        spark_time_write(some[i], -1, text);
        assert_true(spark_time_read(text, &back));
        assert_int_equal(back, some[i]);
    }
    spark_time_write(951782400, 7, text);
    assert_string_equal(text, "2000-02-29T00:00:00.007Z");
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-13-01",
                                      "2026-00-01",
                                      "2026-01-00",
                                      "2100-02-29",
                                      "2026-01-01T",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:00:60Z",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00z",
                                      "2026-01-01 00:00:00Z",
                                      "1969-12-31"};
    for (size_t i = 0; i < SPARK_COUNT(bad); i++)
        if (spark_time_read(bad[i], &back)) fail_msg("'%s' was taken for a time", bad[i]);
}

/* ---- Finding ---- */

static void test_a_key_is_found_by_its_whole_text_only(void **state)
{
    (void)state;
    char text[SPARK_KEY_TEXT + 2] = "", wrong[SPARK_KEY_TEXT + 2];
    const spark_key *known = NULL;
    spark_keys *k = minted(NULL, text);
    assert_int_equal(strlen(text), SPARK_KEY_TEXT);
    assert_ptr_equal(spark_keys_find(k, spark_bytes_of(text), &known), spark_keys_at(k, 0));
    assert_ptr_equal(known, spark_keys_at(k, 0));
    for (size_t i = 0; i < SPARK_KEY_TEXT; i++) { /* any character changed */
        memcpy(wrong, text, sizeof wrong);
        wrong[i] = wrong[i] == 'a' ? 'b' : 'a';
        assert_null(spark_keys_find(k, spark_bytes_of(wrong), &known));
        assert_true((known != NULL) == (i > 19)); /* behind the id: the key is known, and wrong */
        wrong[i] = (char)(text[i] ^ 0x20);        /* no capital letters either */
        assert_null(spark_keys_find(k, spark_bytes_of(wrong), &known));
    }
    for (size_t len = 0; len < SPARK_KEY_TEXT; len++)
        assert_null(spark_keys_find(k, (spark_bytes){(const uint8_t *)text, len}, &known));
    text[SPARK_KEY_TEXT] = 'a';
    assert_null(spark_keys_find(k, (spark_bytes){(const uint8_t *)text, SPARK_KEY_TEXT + 1}, &known));
    assert_null(known);
    spark_keys_destroy(&k);
}

static void test_the_checksum_alone_opens_nothing(void **state)
{
    (void)state;
    char text[SPARK_KEY_TEXT + 1] = "";
    const spark_key *known = NULL;
    spark_keys *k = minted(NULL, text);
    text[30] = text[30] == 'a' ? 'b' : 'a';
    spark__key_sum(text, SPARK_KEY_TEXT - SPARK_KEY_SUM, text + SPARK_KEY_TEXT - SPARK_KEY_SUM);
    assert_null(spark_keys_find(k, spark_bytes_of(text), &known));
    assert_non_null(known);
    spark_keys_destroy(&k);
}

static void test_a_key_of_another_file_is_unknown_or_wrong(void **state)
{
    (void)state;
    char a[SPARK_KEY_TEXT + 1] = "", b[SPARK_KEY_TEXT + 1] = "";
    const spark_key *known = NULL;
    spark_keys *ka = minted(NULL, a), *kb = minted(NULL, b);
    assert_null(spark_keys_find(ka, spark_bytes_of(b), &known));
    assert_string_not_equal(a, b);
    spark_keys_destroy(&ka);
    spark_keys_destroy(&kb);
}

/* Two kinds of presented keys, timed in turn. Returns Welch's t of their durations without the slowest tenth (interrupts). */
static double t_of(const spark_keys *k, const char *const kinds[2], int extra)
{
    enum { N = 50000 };
    static uint32_t ns[2][N];
    uint32_t n[2] = {0, 0}, cut = 0, pool[200], rng = 12345;
    const spark_key *known = NULL;
    for (int i = 0; i < 2 * N; i++) {
        rng = rng * 1664525u + 1013904223u;
        int which = (int)(rng >> 31);
        if (n[which] == N) which = !which;
        const uint64_t began = spark_clock_ns();
        (void)spark_keys_find(k, spark_bytes_of(kinds[which]), &known);
        if (extra && which) (void)spark_keys_find(k, spark_bytes_of(kinds[which]), &known);
        ns[which][n[which]++] = (uint32_t)(spark_clock_ns() - began);
    }
    for (int i = 0; i < 200; i++) pool[i] = ns[i % 2][(size_t)i * (N / 200)];
    for (int i = 0; i < 20; i++) { /* the threshold of the slowest tenth of a sample of both */
        int at = 0;
        for (int j = 1; j < 200; j++) at = pool[j] > pool[at] ? j : at;
        cut = pool[at];
        pool[at] = 0;
    }
    double mean[2], var[2], count[2];
    for (int w = 0; w < 2; w++) {
        double sum = 0, square = 0, c = 0;
        for (int i = 0; i < N; i++)
            if (ns[w][i] <= cut) {
                sum += ns[w][i];
                square += (double)ns[w][i] * ns[w][i];
                c++;
            }
        count[w] = c > 1 ? c : 2;
        mean[w] = sum / count[w];
        var[w] = square / count[w] - mean[w] * mean[w];
    }
    /* Where two texts happen to lie costs a nanosecond or two, the same in every run of a process: that tells nothing. */
    if (fabs(mean[0] - mean[1]) < 0.005 * mean[0]) return 0;
    return (mean[0] - mean[1]) / sqrt(var[0] / count[0] + var[1] / count[1] + 1e-9);
}

static void test_time_does_not_tell_right_from_wrong_from_unknown(void **state)
{
    (void)state;
    char right[SPARK_KEY_TEXT + 1] = "", wrong[SPARK_KEY_TEXT + 1], unknown[SPARK_KEY_TEXT + 1];
    spark_keys *k = minted(NULL, right);
    memcpy(wrong, right, sizeof wrong);
    wrong[SPARK_KEY_TEXT - SPARK_KEY_SUM - 2] ^= 1;
    memcpy(unknown, right, sizeof unknown);
    unknown[12] = unknown[12] == 'a' ? 'b' : 'a';
    const char *const pairs[3][2] = {{right, wrong}, {right, unknown}, {wrong, unknown}};
    for (size_t p = 0; p < SPARK_COUNT(pairs); p++) {
        double t = 0;
        for (int tries = 0; tries < 8; tries++) { /* a noisy neighbour is not a leak: a leak shows each time */
            t = t_of(k, pairs[p], 0);
            if (fabs(t) < 10) break;
        }
        if (fabs(t) >= 10) fail_msg("pair %zu: t = %.1f", p, t);
    }
    const double control = t_of(k, pairs[0], 1); /* the measure does see a difference */
    if (fabs(control) < 10) fail_msg("the control has t = %.1f", control);
    spark_keys_destroy(&k);
}

/* ---- The file on disk ---- */

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/spark-keys-test-XXXXXX", P_tmpdir);
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/keys", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"keys", "keys.lock", "keys.new", "link", "link.lock"};
    char name[160];
    for (size_t i = 0; i < SPARK_COUNT(names); i++) {
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        unlink(name);
    }
    spark__keys_fsync = fsync;
    spark__keys_rename = rename;
    return rmdir(folder);
}

static spark_keys *from_disk(void)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    spark_keys *k = NULL;
    assert_ok(spark_keys_read_file(path, &bytes, &len, NULL));
    assert_ok(spark_keys_parse(&k, (spark_bytes){bytes, len}, NULL));
    free(bytes);
    return k;
}

static void put_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_a_new_key_has_what_was_wished_and_its_text_is_nowhere(void **state)
{
    (void)state;
    static const char *const models[] = {"a", "b, \"c\""};
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    w = (spark_key_wish){.name = "ward #7",
                         .models = models,
                         .n_models = 2,
                         .routes = 1u << SPARK_ROUTE_MODELS | 1u << SPARK_ROUTE_METRICS,
                         .requests_per_minute = 5,
                         .tokens_per_minute = 6,
                         .max_context = 7,
                         .max_parallel = 8,
                         .priority = -9,
                         .tenant = "t",
                         .expires = NOW + 60};
    char text[SPARK_KEY_TEXT + 1];
    const spark_key *known = NULL;
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    spark_keys *k = from_disk();
    const spark_key *key = spark_keys_find(k, spark_bytes_of(text), &known);
    assert_non_null(key);
    assert_string_equal(key->name, "ward #7");
    assert_true(key->n_models == 2 && spark_key_allows_model(key, models[1]));
    assert_int_equal(key->routes, w.routes);
    assert_true(key->requests_per_minute == 5 && key->tokens_per_minute == 6 && key->max_context == 7 &&
                key->max_parallel == 8);
    assert_true(key->priority == -9 && key->expires == NOW + 60 && key->created == NOW);
    spark_keys_destroy(&k);
    size_t len = 0;
    uint8_t *bytes = test_read(path, &len);
    assert_null(strstr((const char *)bytes, text + 20));
    free(bytes);
}

static void test_comments_stay_and_revoking_adds_one_line(void **state)
{
    (void)state;
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    char text[SPARK_KEY_TEXT + 1], id[SPARK_KEY_ID + 1];
    put_file("# mine\n" HEAD KEY("abcdefghij") "name = old # here\n# end", 0400);
    w.name = "new";
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    assert_ok(spark_key_revoke(path, "old", NOW, id, NULL));
    assert_string_equal(id, "abcdefghij");
    size_t len = 0;
    uint8_t *bytes = test_read(path, &len);
    assert_non_null(strstr((const char *)bytes, "# mine\n"));
    assert_non_null(strstr((const char *)bytes, "[key abcdefghij]\nrevoked = 2026-11-18T11:06:40Z\nhash"));
    assert_non_null(strstr((const char *)bytes, "name = old # here\n# end\n\n[key "));
    free(bytes);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
    assert_code(spark_key_revoke(path, "abcdefghij", NOW, id, NULL), SPARK_E_STATE);
    assert_code(spark_key_revoke(path, "old", NOW, id, NULL), SPARK_E_ARGUMENT); /* a name means a key alive */
    assert_code(spark_key_revoke(path, "nobody", NOW, id, NULL), SPARK_E_ARGUMENT);
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    assert_code(spark_key_revoke(path, "new", NOW, id, NULL), SPARK_E_ARGUMENT); /* two of that name */
}

static int fail_fsync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}
static int fail_rename(const char *from, const char *to)
{
    (void)from;
    (void)to;
    errno = EACCES;
    return -1;
}
static int die_fsync(int fd)
{
    (void)fd;
    _exit(9);
}
static int die_rename(const char *from, const char *to)
{
    (void)from;
    (void)to;
    _exit(9);
}

static void assert_file_is(const char *text)
{
    size_t len = 0;
    uint8_t *bytes = test_read(path, &len);
    assert_string_equal((const char *)bytes, text);
    free(bytes);
}

#define OVER "revoked = 2026-11-18T11:06:40Z\n"
static void test_pruning_takes_out_whole_keys_that_are_over_and_leaves_comments(void **state)
{
    (void)state;
    spark_keys *k = NULL;
    put_file("# mine\n" HEAD "\n# first\n" KEY("abcdefghij") OVER
             "\n# of the second\n" KEY("bbcdefghij") "# its end\n\n" KEY("cbcdefghij") OVER "  # inside\n\t\n",
             0400);
    assert_ok(spark_key_prune(path, NOW, &k, NULL));
    assert_int_equal(spark_keys_count(k), 3);
    spark_keys_destroy(&k);
    assert_file_is("# mine\n" HEAD "\n# first\n# of the second\n" KEY("bbcdefghij") "# its end\n\n  # inside\n");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
}

static void test_pruning_goes_by_the_time_of_expiry(void **state)
{
    (void)state;
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    w.expires = NOW + 60;
    char text[SPARK_KEY_TEXT + 1];
    spark_keys *k = NULL;
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    for (int after = 59; after <= 60; after++) {
        assert_ok(spark_key_prune(path, NOW + after, &k, NULL));
        assert_int_equal(spark_keys_count(k), 1);
        spark_keys_destroy(&k);
        k = from_disk();
        assert_int_equal(spark_keys_count(k), after < 60);
        spark_keys_destroy(&k);
    }
    assert_ok(spark_key_new(path, &w, NOW, text, NULL)); /* an empty file takes new keys */
}

static void test_pruning_changes_nothing_where_it_cannot_or_need_not(void **state)
{
    (void)state;
    spark_keys *k = NULL;
    spark_err err = {0};
    assert_code(spark_key_prune(path, NOW, &k, &err), SPARK_E_IO); /* there is none */
    put_file(HEAD KEY("abcdefghij"), 0600);
    spark__keys_rename = fail_rename;
    assert_ok(spark_key_prune(path, NOW, &k, &err)); /* nothing is written */
    spark_keys_destroy(&k);
    put_file(HEAD KEY("abcdefghij") OVER, 0600);
    assert_code(spark_key_prune(path, NOW, &k, &err), SPARK_E_IO);
    spark__keys_rename = rename;
    assert_file_is(HEAD KEY("abcdefghij") OVER);
    put_file(HEAD KEY("\"abcdefghij\"") OVER, 0600);
    assert_code(spark_key_prune(path, NOW, &k, &err), SPARK_E_STATE);
    assert_non_null(strstr(err.text, "[key ID]"));
    assert_file_is(HEAD KEY("\"abcdefghij\"") OVER);
    assert_null(k);
}

static void test_files_that_others_may_change_or_read_are_refused(void **state)
{
    (void)state;
    static const mode_t bad[] = {0620, 0640, 0604, 0602, 0601, 0666, 0644};
    uint8_t *bytes = NULL;
    size_t len = 0;
    spark_err err = {0};
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    char text[SPARK_KEY_TEXT + 1];
    for (size_t i = 0; i < SPARK_COUNT(bad); i++) {
        put_file(HEAD, bad[i]);
        assert_code(spark_keys_read_file(path, &bytes, &len, &err), SPARK_E_REFUSED);
        assert_non_null(strstr(err.text, "chmod 600"));
        assert_code(spark_key_new(path, &w, NOW, text, NULL), SPARK_E_REFUSED);
    }
    assert_code(spark_keys_read_file(folder, &bytes, &len, &err), SPARK_E_REFUSED);
    assert_code(spark_keys_read_file("/dev/null", &bytes, &len, &err), SPARK_E_REFUSED);
    assert_code(spark_keys_read_file("/nonexistent/keys", &bytes, &len, &err), SPARK_E_IO);
    put_file(HEAD, 0400);
    assert_ok(spark_keys_read_file(path, &bytes, &len, &err));
    free(bytes);
}

static void test_a_broken_file_is_not_changed(void **state)
{
    (void)state;
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    char text[SPARK_KEY_TEXT + 1];
    spark_err err = {0};
    put_file(HEAD "[key x]\n", 0600);
    assert_code(spark_key_new(path, &w, NOW, text, &err), SPARK_E_FORMAT);
    assert_int_equal(err.line, 3);
    put_file("", 0600);
    assert_code(spark_key_new(path, &w, NOW, text, &err), SPARK_E_FORMAT);
    w.name = "a\nb";
    assert_code(spark_key_new(path, &w, NOW, text, &err), SPARK_E_ARGUMENT);
}

static void test_a_change_that_fails_leaves_the_old_file(void **state)
{
    (void)state;
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    char text[SPARK_KEY_TEXT + 1], beside[128];
    snprintf(beside, sizeof beside, "%s.new", path);
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    for (int which = 0; which < 2; which++) {
        char lost[SPARK_KEY_TEXT + 1];
        memset(lost, 'x', sizeof lost);
        spark__keys_fsync = which == 0 ? fail_fsync : fsync;
        spark__keys_rename = which == 1 ? fail_rename : rename;
        assert_code(spark_key_new(path, &w, NOW, lost, NULL), SPARK_E_IO);
        assert_int_equal(lost[9], 0); /* no key is handed out that the file does not have */
        assert_int_equal(access(beside, F_OK), -1);
    }
    spark_keys *k = from_disk();
    assert_int_equal(spark_keys_count(k), 1);
    spark_keys_destroy(&k);
}

static void test_a_writer_that_dies_leaves_the_old_file_and_no_lock(void **state)
{
    (void)state;
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    char text[SPARK_KEY_TEXT + 1];
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    for (int which = 0; which < 2; which++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            spark__keys_fsync = which == 0 ? die_fsync : fsync;
            spark__keys_rename = which == 1 ? die_rename : rename;
            (void)!spark_ok(spark_key_new(path, &w, NOW, text, NULL));
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 9);
        spark_keys *k = from_disk();
        assert_int_equal(spark_keys_count(k), 1 + which);
        spark_keys_destroy(&k);
        assert_ok(spark_key_new(path, &w, NOW, text, NULL)); /* what it left beside the file is no hindrance */
    }
}

static void test_writers_at_once_lose_nothing(void **state)
{
    (void)state;
    enum { WRITERS = 4, EACH = 8 };
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    pid_t child[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        child[i] = fork();
        assert_true(child[i] >= 0);
        if (child[i] == 0) {
            char text[SPARK_KEY_TEXT + 1];
            int bad = 0;
            for (int j = 0; j < EACH; j++) bad += !spark_ok(spark_key_new(path, &w, NOW, text, NULL));
            _exit(bad);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    spark_keys *k = from_disk();
    assert_int_equal(spark_keys_count(k), WRITERS * EACH);
    spark_keys_destroy(&k);
}

static void test_a_link_stays_a_link(void **state)
{
    (void)state;
    spark_key_wish w;
    spark_key_wish_defaults(&w);
    char text[SPARK_KEY_TEXT + 1], link[128];
    snprintf(link, sizeof link, "%s/link", folder);
    assert_ok(spark_key_new(path, &w, NOW, text, NULL));
    assert_int_equal(symlink("keys", link), 0);
    assert_ok(spark_key_new(link, &w, NOW, text, NULL));
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    spark_keys *k = from_disk();
    assert_int_equal(spark_keys_count(k), 2);
    spark_keys_destroy(&k);
}

#define on_disk(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    spark_keys_warm();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_line_of_a_key_is_read),
        cmocka_unit_test(test_tenants_are_shared_by_name_only_and_depend_on_the_salt),
        cmocka_unit_test(test_key_files_are_refused_with_the_line),
        cmocka_unit_test(test_more_keys_than_the_limit_are_refused),
        cmocka_unit_test(test_times_are_written_and_read_back),
        cmocka_unit_test(test_a_key_is_found_by_its_whole_text_only),
        cmocka_unit_test(test_the_checksum_alone_opens_nothing),
        cmocka_unit_test(test_a_key_of_another_file_is_unknown_or_wrong),
        cmocka_unit_test(test_time_does_not_tell_right_from_wrong_from_unknown),
        on_disk(test_a_new_key_has_what_was_wished_and_its_text_is_nowhere),
        on_disk(test_comments_stay_and_revoking_adds_one_line),
        on_disk(test_pruning_takes_out_whole_keys_that_are_over_and_leaves_comments),
        on_disk(test_pruning_goes_by_the_time_of_expiry),
        on_disk(test_pruning_changes_nothing_where_it_cannot_or_need_not),
        on_disk(test_files_that_others_may_change_or_read_are_refused),
        on_disk(test_a_broken_file_is_not_changed),
        on_disk(test_a_change_that_fails_leaves_the_old_file),
        on_disk(test_a_writer_that_dies_leaves_the_old_file_and_no_lock),
        on_disk(test_writers_at_once_lose_nothing),
        on_disk(test_a_link_stays_a_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
