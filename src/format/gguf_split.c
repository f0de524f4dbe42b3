/* gguf_split.c - models in several files, "x-00001-of-0000N.gguf": their names, and what their keys must agree on.
 * Each file says which one it is (split.no), of how many (split.count), and how many tensors all have together
 * (split.tensors.count). The first carries the metadata. Source: llama.cpp gguf-split. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/spark_limits.h"
#include "format/gguf_internal.h"

#define GSPLIT_KEY_COUNT   "split.count"
#define GSPLIT_KEY_NO      "split.no"
#define GSPLIT_KEY_TENSORS "split.tensors.count"

/* Same kind and same bits, so that NaN equals itself. */
static bool gsplit_same_value(const spark_gguf_value *a, const spark_gguf_value *b)
{
    if (a->kind != b->kind) return false;
    if (a->kind == SPARK_GGUF_STRING) return spark_bytes_equal(a->as.s, b->as.s);
    if (a->kind == SPARK_GGUF_ARRAY) return a->elem == b->elem && a->n == b->n && spark_bytes_equal(a->as.s, b->as.s);
    return memcmp(&a->as.u, &b->as.u, sizeof a->as.u) == 0;
}

/* A later file may repeat what the first says, not add to it or contradict it: its keys are not used. Each file has its
 * own alignment. */
static spark_status gsplit_check_repeats(const spark__gguf_keys *first, const spark__gguf_keys *mine, spark_err *err)
{
    for (uint32_t i = 0; i < mine->n; i++) {
        const spark_gguf_key *k = &mine->at[i];
        if (spark_bytes_is(k->name, GSPLIT_KEY_NO) || spark_bytes_is(k->name, GGUF_KEY_ALIGNMENT)) continue;
        const uint32_t other = spark_strmap_get(first->map, k->name);
        const uint64_t at = spark__gguf_entry_at(mine->base, k->name);
        SPARK_CHECK(other != SPARK_STRMAP_NONE, err, SPARK_E_FORMAT, at, "key '%.*s' is not in the first file",
                    GGUF_SHOW(k->name));
        SPARK_CHECK(gsplit_same_value(&first->at[other].value, &k->value), err, SPARK_E_FORMAT, at,
                    "key '%.*s' differs from the first file", GGUF_SHOW(k->name));
    }
    return SPARK_SUCCESS;
}

spark_status spark__gguf_check_split(const spark__gguf_keys *first, const spark__gguf_keys *mine, uint32_t index,
                                     uint32_t n_files, uint32_t n_tensors, uint32_t *out_count, spark_err *err)
{
    uint32_t count = 1, no = 0, total = n_tensors;
    bool has_no = false;
    SPARK_TRY(spark__gguf_keys_u32(mine, GSPLIT_KEY_COUNT, 0, SPARK_MAX_GGUF_SPLITS, &count, NULL, err));
    if (count == 0) count = 1; /* what gguf-split writes when it merges files again */
    SPARK_TRY(spark__gguf_keys_u32(mine, GSPLIT_KEY_NO, 0, count - 1, &no, &has_no, err));
    *out_count = count;
    if (n_files == 1) return SPARK_SUCCESS;
    SPARK_CHECK(count == n_files, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                GSPLIT_KEY_COUNT " says %" PRIu32 " files, but there are %" PRIu32, count, n_files);
    SPARK_CHECK(has_no && no == index, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                GSPLIT_KEY_NO " says that it is file %" PRIu32 ", but it is number %" PRIu32, no, index);
    SPARK_TRY(spark__gguf_keys_u32(mine, GSPLIT_KEY_TENSORS, 0, UINT32_MAX, &total, NULL, err));
    SPARK_CHECK(total == n_tensors, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                GSPLIT_KEY_TENSORS " is %" PRIu32 ", but all files together have %" PRIu32 " tensors", total,
                n_tensors);
    return mine == first ? SPARK_SUCCESS : gsplit_check_repeats(first, mine, err);
}

/* The number at p, written with exactly five digits. */
static bool gsplit_number(const char *p, uint32_t *out)
{
    uint32_t n = 0;
    for (int i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        n = n * 10 + (uint32_t)(p[i] - '0');
    }
    *out = n;
    return true;
}

spark_status spark_gguf_split_path(const char *path, uint32_t index, uint32_t count, char *out, size_t cap,
                                   spark_err *err)
{
    enum { TAIL = sizeof "-00001-of-00003.gguf" - 1 };
    const size_t len = strlen(path);
    const char *tail = len > TAIL ? path + len - TAIL : NULL;
    uint32_t no = 0, of = 0;
    const bool matches = tail && tail[-1] != '/' && tail[0] == '-' && gsplit_number(tail + 1, &no) &&
                         memcmp(tail + 6, "-of-", 4) == 0 && gsplit_number(tail + 10, &of) &&
                         strcmp(tail + 15, ".gguf") == 0;
    SPARK_CHECK(matches, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "a file of a split model must be named like 'name-00001-of-%05" PRIu32 ".gguf'", count);
    SPARK_CHECK(of == count && no >= 1 && no <= count, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the name says file %" PRIu32 " of %" PRIu32 ", but the model has %" PRIu32 " files", no, of, count);
    SPARK_CHECK(index < count, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "no file %" PRIu32 " among %" PRIu32, index,
                count);
    SPARK_CHECK(cap > len, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "the path of %zu bytes is too long", len);
    snprintf(out, cap, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", (int)(len - TAIL), path, index + 1, count);
    return SPARK_SUCCESS;
}
