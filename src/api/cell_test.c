/* cell_test.c - what the api offers to an engine cell: models by descriptor, text without heap. On the embedded demo model
 * (skipped where the build has none) and on the vocabularies and templates of the shared data. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "base/test.h"
#include "format/gguf_write.h"

static spark_model *embedded(void)
{
    spark_model *m = NULL;
    if (spark_model_open_embedded(&m, NULL, NULL).code == SPARK_E_UNSUPPORTED) skip();
    return m;
}

/* ---- Models by descriptor ---- */

static spark_status to_fd(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    SPARK_CHECK(write(*(const int *)ctx, bytes, n) == (ssize_t)n, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot write");
    return SPARK_SUCCESS;
}

/* Part `no` of `count` of a model, in a file without a name; its weights are zeros. */
static int split_fd(const spark_gguf *g, uint32_t no, uint32_t count)
{
    static const uint8_t zeros[1 << 16];
    spark_arena *a = NULL;
    spark_gguf_writer *w = NULL;
    int fd = memfd_create("split", 0);
    const uint32_t n = spark_gguf_n_tensors(g), begin = n * no / count, end = n * (no + 1) / count;
    uint64_t bytes = 0;
    assert_true(fd >= 0);
    assert_ok(spark_arena_create(&a, (size_t)1 << 30, NULL));
    assert_ok(spark_gguf_writer_create(&w, spark_gguf_n_keys(g) + 3, n, a, NULL));
    for (uint32_t i = 0; i < spark_gguf_n_keys(g) && no == 0; i++)
        assert_ok(spark_gguf_put_key(w, spark_gguf_key_at(g, i), NULL));
    if (count > 1) {
        assert_ok(spark_gguf_put_u32(w, "split.no", no, NULL));
        assert_ok(spark_gguf_put_u32(w, "split.count", count, NULL));
        assert_ok(spark_gguf_put_u32(w, "split.tensors.count", n, NULL));
    }
    for (uint32_t i = begin; i < end; i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        assert_ok(spark_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims, NULL));
        bytes += t->n_bytes;
    }
    assert_ok(spark_gguf_write_head(w, to_fd, &fd, NULL));
    for (uint64_t n_now; bytes > 0; bytes -= n_now) {
        n_now = bytes < sizeof zeros ? bytes : sizeof zeros;
        assert_ok(spark_gguf_write_data(w, zeros, n_now, NULL));
    }
    assert_ok(spark_gguf_write_end(w, NULL));
    spark_arena_destroy(&a);
    return fd;
}

static void test_a_model_by_descriptors_is_the_model_and_leaves_them_open(void **state)
{
    (void)state;
    spark_model *whole = embedded(), *m = NULL;
    spark_description want, got;
    spark_model_describe(whole, &want);
    for (uint32_t count = 1; count <= 3; count++) {
        int fds[3];
        for (uint32_t i = 0; i < count; i++) fds[i] = split_fd(spark__model_gguf(whole), i, count);
        assert_ok(spark__model_open_fds(&m, fds, count, NULL, NULL));
        assert_ok(spark_model_load(m, NULL, NULL, NULL));
        spark_model_describe(m, &got);
        assert_int_equal(got.n_params, want.n_params);
        assert_string_equal(got.name, want.name);
        spark_model_close(&m);
        for (uint32_t i = 0; i < count; i++) assert_int_equal(close(fds[i]), 0);
    }
    spark_model_close(&whole);
}

static void test_descriptors_of_something_else_are_refused(void **state)
{
    (void)state;
    spark_model *whole = embedded(), *m = NULL;
    spark_err err = {0};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int fds[3] = {split_fd(spark__model_gguf(whole), 0, 2), split_fd(spark__model_gguf(whole), 1, 2), ends[0]};
    const int swapped[2] = {fds[1], fds[0]}, closed = -1;
    assert_code(spark__model_open_fds(&m, fds, 1, NULL, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "has 2 files, but 1"));
    assert_code(spark__model_open_fds(&m, fds + 2, 1, NULL, &err), SPARK_E_ARGUMENT);
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_code(spark__model_open_fds(&m, fds, 3, NULL, NULL), SPARK_E_ARGUMENT);
    assert_code(spark__model_open_fds(&m, fds, 0, NULL, NULL), SPARK_E_ARGUMENT);
    assert_code(spark__model_open_fds(&m, swapped, 2, NULL, NULL), SPARK_E_FORMAT);
    assert_code(spark__model_open_fds(&m, &closed, 1, NULL, NULL), SPARK_E_IO);
    assert_null(m);
    for (int i = 0; i < 3; i++) close(fds[i]);
    close(ends[1]);
    spark_model_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_by_descriptors_is_the_model_and_leaves_them_open),
        cmocka_unit_test(test_descriptors_of_something_else_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
