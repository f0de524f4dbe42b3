/* gguf_fuzz.c - aims at spark_gguf_head_size, spark_gguf_open, spark_gguf_open_keys, the readers of keys and arrays,
 * and the writer. Not only crashes count: what opens must agree with head_size, lie inside its file, and survive the
 * way through the writer unchanged.
 * Input: a GGUF file; or "2FIL", a u32 length, the first file of that length and the second one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/spark_limits.h"
#include "format/gguf.h"
#include "format/gguf_write.h"

#define FUZZ_CLAIM(x)                                                                                                  \
    do {                                                                                                               \
        if (!(x)) abort();                                                                                             \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct fuzz_buffer {
    uint8_t *ptr;
    size_t len;
} fuzz_buffer;

static spark_status fuzz_sink(void *ctx, const void *bytes, size_t n, spark_err *err)
{
    fuzz_buffer *b = ctx;
    uint8_t *p = realloc(b->ptr, b->len + n + 1);
    SPARK_CHECK(p, err, SPARK_E_MEMORY, b->len, "no memory");
    memcpy(p + b->len, bytes, n);
    b->ptr = p;
    b->len += n;
    return SPARK_SUCCESS;
}

/* Touches all that a value promises to be readable. */
static void fuzz_read_value(const spark_gguf_value *v)
{
    volatile uint64_t seen = 0;
    if (v->kind == SPARK_GGUF_STRING)
        for (size_t i = 0; i < v->as.s.len; i++) seen += v->as.s.ptr[i];
    if (v->kind != SPARK_GGUF_ARRAY) return;
    size_t pos = 0;
    for (uint64_t i = 0; i < v->n; i++) {
        if (v->elem == SPARK_GGUF_STRING) {
            const spark_bytes s = spark_gguf_next_string(v, &pos);
            if (s.len) seen += s.ptr[s.len - 1];
        } else {
            seen += (uint64_t)spark_gguf_array_i64(v, i);
            const volatile double d = spark_gguf_array_f64(v, i);
            (void)d;
        }
    }
    if (v->elem == SPARK_GGUF_STRING) FUZZ_CLAIM(pos == v->as.s.len);
}

static void fuzz_read_keys(const spark_gguf *g)
{
    for (uint32_t i = 0; i < spark_gguf_n_keys(g); i++) {
        const spark_gguf_key *k = spark_gguf_key_at(g, i);
        char name[SPARK_MAX_GGUF_NAME + 1] = {0};
        memcpy(name, k->name.ptr, k->name.len);
        FUZZ_CLAIM(spark_gguf_find(g, name) == &k->value);
        fuzz_read_value(&k->value);
        uint32_t u = 0;
        float f = 0;
        bool b = false;
        spark_bytes s;
        spark_gguf_value a;
        (void)spark_ok(spark_gguf_get_u32(g, name, 1, 1000, &u, NULL, NULL));
        (void)spark_ok(spark_gguf_get_f32(g, name, &f, NULL, NULL));
        (void)spark_ok(spark_gguf_get_bool(g, name, &b, NULL, NULL));
        (void)spark_ok(spark_gguf_get_string(g, name, &s, NULL, NULL));
        (void)spark_ok(spark_gguf_get_array(g, name, SPARK_GGUF_STRING, &a, NULL, NULL));
        FUZZ_CLAIM(u <= 1000);
    }
}

static void fuzz_read_tensors(const spark_gguf *g, const spark_gguf_file *files, uint32_t n_files)
{
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        char name[SPARK_MAX_GGUF_NAME + 1] = {0};
        memcpy(name, t->name.ptr, t->name.len);
        FUZZ_CLAIM(spark_gguf_tensor_find(g, name) == t);
        FUZZ_CLAIM(t->file < n_files && t->offset <= files[t->file].size);
        FUZZ_CLAIM(t->n_bytes > 0 && t->n_bytes <= files[t->file].size - t->offset);
        const spark_type_info *info = spark_type_lookup((uint32_t)t->type);
        FUZZ_CLAIM(info && t->n_dims >= 1 && t->n_dims <= 4);
        FUZZ_CLAIM(t->n_bytes == spark_type_row_bytes(info, t->dims[0]) * t->dims[1] * t->dims[2] * t->dims[3]);
    }
}

static bool fuzz_same_value(const spark_gguf_value *a, const spark_gguf_value *b)
{
    if (a->kind != b->kind || a->elem != b->elem || a->n != b->n) return false;
    if (a->kind == SPARK_GGUF_STRING || a->kind == SPARK_GGUF_ARRAY) return spark_bytes_equal(a->as.s, b->as.s);
    return a->as.u == b->as.u;
}

static void fuzz_compare(const spark_gguf *g, const spark_gguf *h)
{
    FUZZ_CLAIM(spark_gguf_n_keys(g) == spark_gguf_n_keys(h) && spark_gguf_n_tensors(g) == spark_gguf_n_tensors(h));
    for (uint32_t i = 0; i < spark_gguf_n_keys(g); i++) {
        const spark_gguf_key *a = spark_gguf_key_at(g, i), *b = spark_gguf_key_at(h, i);
        FUZZ_CLAIM(spark_bytes_equal(a->name, b->name) && fuzz_same_value(&a->value, &b->value));
    }
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *a = spark_gguf_tensor_at(g, i), *b = spark_gguf_tensor_at(h, i);
        FUZZ_CLAIM(spark_bytes_equal(a->name, b->name) && a->type == b->type && a->n_dims == b->n_dims);
        FUZZ_CLAIM(memcmp(a->dims, b->dims, sizeof a->dims) == 0 && a->n_bytes == b->n_bytes);
    }
}

/* Everything that opened can be written, and reads back the same. */
static void fuzz_round_trip(const spark_gguf *g)
{
    spark_arena *a = NULL;
    spark_gguf_writer *w = NULL;
    spark_gguf *h = NULL;
    fuzz_buffer out = {0};
    FUZZ_CLAIM(spark_ok(spark_arena_create(&a, (size_t)1 << 30, NULL)));
    FUZZ_CLAIM(spark_ok(spark_gguf_writer_create(&w, spark_gguf_n_keys(g), spark_gguf_n_tensors(g), a, NULL)));
    for (uint32_t i = 0; i < spark_gguf_n_keys(g); i++)
        FUZZ_CLAIM(spark_ok(spark_gguf_put_key(w, spark_gguf_key_at(g, i), NULL)));
    for (uint32_t i = 0; i < spark_gguf_n_tensors(g); i++) {
        const spark_gguf_tensor *t = spark_gguf_tensor_at(g, i);
        FUZZ_CLAIM(spark_ok(spark_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims, NULL)));
    }
    FUZZ_CLAIM(spark_ok(spark_gguf_write_head(w, fuzz_sink, &out, NULL)));
    const spark_gguf_file file = {{out.ptr, out.len}, spark_gguf_writer_size(w)};
    FUZZ_CLAIM(spark_ok(spark_gguf_open(&h, &file, 1, a, NULL)));
    fuzz_compare(g, h);
    for (uint32_t i = 0; i < spark_gguf_n_tensors(h); i++)
        FUZZ_CLAIM(spark_gguf_writer_tensor(w, i).offset == spark_gguf_tensor_at(h, i)->offset);
    spark_arena_destroy(&a);
    free(out.ptr);
}

/* What opened has a head of known length, needs not one byte more, and a shorter prefix asks for more. */
static void fuzz_head(const spark_gguf *g, spark_gguf_file file)
{
    spark_arena *a = NULL;
    spark_gguf *h = NULL;
    uint64_t need = 0, more = 0;
    FUZZ_CLAIM(spark_ok(spark_gguf_head_size(file.head, file.size, &need, NULL)) && need <= file.head.len &&
               need >= 24);
    FUZZ_CLAIM(spark_ok(spark_arena_create(&a, (size_t)1 << 30, NULL)));
    uint8_t *exact = malloc((size_t)need);
    FUZZ_CLAIM(exact);
    memcpy(exact, file.head.ptr, (size_t)need);
    const spark_gguf_file head = {{exact, (size_t)need}, file.size}, half = {{exact, (size_t)need / 2}, file.size};
    FUZZ_CLAIM(spark_ok(spark_gguf_open(&h, &head, 1, a, NULL)));
    fuzz_compare(g, h);
    FUZZ_CLAIM(spark_ok(spark_gguf_head_size(half.head, file.size, &more, NULL)) && more > half.head.len);
    FUZZ_CLAIM(!spark_ok(spark_gguf_open(&h, &half, 1, a, NULL)));
    spark_arena_destroy(&a);
    free(exact);
}

static void fuzz_files(const spark_gguf_file *files, uint32_t n_files)
{
    spark_arena *a = NULL;
    spark_gguf *g = NULL, *k = NULL;
    spark_err err;
    uint64_t need = 0;
    FUZZ_CLAIM(spark_ok(spark_arena_create(&a, (size_t)64 << 20, NULL)));
    if (spark_ok(spark_gguf_head_size(files[0].head, files[0].size, &need, &err)))
        FUZZ_CLAIM(need <= files[0].size && need <= SPARK_MAX_GGUF_HEAD);
    if (spark_ok(spark_gguf_open(&g, files, n_files, a, &err))) {
        fuzz_read_keys(g);
        fuzz_read_tensors(g, files, n_files);
        fuzz_round_trip(g);
        FUZZ_CLAIM(spark_ok(spark_gguf_open_keys(&k, files[0], a, &err)));
        if (n_files == 1) fuzz_head(g, files[0]);
    } else {
        FUZZ_CLAIM(!g && err.text[0] && err.code != SPARK_OK);
        if (spark_ok(spark_gguf_open_keys(&k, files[0], a, &err))) fuzz_read_keys(k);
    }
    spark_arena_destroy(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Once as the whole file, once as the beginning of a large one, so that heads need no data behind them. */
    const uint64_t behind[] = {0, (uint64_t)1 << 40};
    for (size_t i = 0; i < SPARK_COUNT(behind); i++) {
        spark_gguf_file files[2] = {{{data, size}, size + behind[i]}};
        fuzz_files(files, 1);
        if (size < 8 || memcmp(data, "2FIL", 4) != 0) continue;
        const size_t first = spark_load_u32(data + 4) < size - 8 ? spark_load_u32(data + 4) : size - 8;
        files[0] = (spark_gguf_file){{data + 8, first}, first + behind[i]};
        files[1] = (spark_gguf_file){{data + 8 + first, size - 8 - first}, size - 8 - first + behind[i]};
        fuzz_files(files, 2);
    }
    return 0;
}
