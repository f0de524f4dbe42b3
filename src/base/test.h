/* test.h - what every unit test shares: cmocka, status assertions, and where the test data lies. For tests only. */
#ifndef SPARK_BASE_TEST_H
#define SPARK_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/status.h"

#define assert_ok(call)             assert_int_equal((call).code, SPARK_OK)
#define assert_code(call, expected) assert_int_equal((call).code, (expected))

/* Path of a file of the shared test data (SPARK_TEST_DATA, default ../shared/data), or NULL if there is none: then the
 * test must call skip() and it shows as skipped. The result is overwritten by the next call. */
SPARK_UNUSED static const char *test_data(const char *relative)
{
    static char path[4096];
    const char *root = getenv("SPARK_TEST_DATA");
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : "../shared/data", relative);
    return stat(path, &st) == 0 ? path : NULL;
}

/* Reads a whole file; the caller frees ptr. Fails the test if it cannot. */
SPARK_UNUSED static uint8_t *test_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    rewind(f);
    uint8_t *p = malloc((size_t)n + 1);
    if (!p || fread(p, 1, (size_t)n, f) != (size_t)n) fail_msg("cannot read %s", path);
    fclose(f);
    p[n] = 0;
    *len = (size_t)n;
    return p;
}

#endif
