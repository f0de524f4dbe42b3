/* keys_fuzz.c - aims at spark_keys_parse and spark_keys_find: any bytes as a key file, and the same bytes presented as a key. */
#include <stdlib.h>

#include "base/spark_limits.h"
#include "serve/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_check(const spark_keys *k)
{
    for (uint32_t i = 0; i < spark_keys_count(k); i++) {
        const spark_key *key = spark_keys_at(k, i);
        if (key->tenant == 0 || !key->name || strlen(key->id) != SPARK_KEY_ID) abort();
        if (i && spark_keys_at(k, i - 1)->number >= key->number) abort();
        if (spark_keys_by_number(k, key->number) != key) abort();
        if (key->requests_per_minute > SPARK_MAX_KEY_RATE || key->priority > 1000 || key->priority < -1000) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    spark_keys *k = NULL;
    const spark_key *known = NULL;
    spark_err err = {0};
    const spark_bytes bytes = {data, size};
    if (spark_ok(spark_keys_parse(&k, bytes, &err))) {
        fuzz_check(k);
        if (spark_keys_find(k, bytes, &known)) abort(); /* no file contains a key that opens it */
    } else if (err.code == SPARK_E_FORMAT && err.line == 0) {
        abort(); /* every mistake has its place */
    }
    spark_keys_destroy(&k);
    return 0;
}
