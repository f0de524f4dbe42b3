/* ask_fuzz.c - aims at spark_ask_decode: any bytes as a request. What it takes must be written back byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "serve/ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    spark_arena *a = NULL;
    spark_ask ask;
    spark_err err = {0};
    if (spark_arena_create(&a, 64u << 20, &err).code != SPARK_OK) abort();
    if (spark_ask_decode(&ask, (spark_bytes){data, size}, a, &err).code == SPARK_OK) {
        uint8_t *again = malloc(size);
        if (!again || spark_ask_size(&ask) != size) abort();
        if (spark_ask_encode(&ask, again) != size || memcmp(again, data, size) != 0) abort();
        free(again);
    } else if (err.code == SPARK_OK) {
        abort();
    }
    spark_arena_destroy(&a);
    return 0;
}
