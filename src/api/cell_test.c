/* cell_test.c - what the api offers to an engine cell: models by descriptor, text without heap. On the embedded demo model
 * (skipped where the build has none) and on the vocabularies and templates of the shared data. */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "base/test.h"
#include "format/gguf_write.h"
#include "text/json_heap.h"

static spark_model *embedded(void)
{
    spark_model *m = NULL;
    if (spark_model_open_embedded(&m, NULL, NULL).code == SPARK_E_UNSUPPORTED) skip();
    return m;
}

/* The same with a template: ChatML. */
static spark_model *embedded_chat(void)
{
    static const char chatml[] =
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    spark_model *m = embedded();
    m->chat_status = spark_template_compile(&m->chat, SPARK_BYTES_LITERAL(chatml), m->arena, &m->chat_err);
    assert_ok(m->chat_status);
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

/* ---- Text without a heap ---- */

/* Every way to the heap, of libc too, leads through these; sanitizers have their own. */
static bool counting;
static size_t n_heap_calls;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define COUNT_HEAP 1
#elif !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define COUNT_HEAP 1
#endif
#endif
#ifdef COUNT_HEAP
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

__attribute__((visibility("default"))) void *malloc(size_t n)
{
    n_heap_calls += counting;
    return __libc_malloc(n);
}
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    n_heap_calls += counting;
    return __libc_calloc(n, size);
}
__attribute__((visibility("default"))) void *realloc(void *p, size_t n)
{
    n_heap_calls += counting;
    return __libc_realloc(p, n);
}
__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t n)
{
    n_heap_calls += counting;
    return __libc_memalign(align, n);
}
__attribute__((visibility("default"))) void free(void *p)
{
    n_heap_calls += counting && p;
    __libc_free(p);
}
#endif

static json_malloc_t json_malloc_before;
static json_free_t json_free_before;

static void cell_begin(void)
{
    json_get_alloc_funcs(&json_malloc_before, &json_free_before);
    api_text_prepare_cell();
    counting = true;
}

static void cell_end(void)
{
    counting = false;
    json_set_alloc_funcs(json_malloc_before, json_free_before);
}

/* The four calls a cell makes, on one model. */
typedef struct text_case {
    const spark_model *m;
    spark_bytes vars; /* len 0: tokenize text and take it back */
    spark_bytes text;
    unsigned flags;
} text_case;

typedef struct text_result {
    spark_ids ids;
    spark_text text;
} text_result;

static spark_status run_in_cell(const text_case *c, spark_arena *scratch, text_result *out, spark_err *err)
{
    if (c->vars.len) return api_chat_ids(c->m, c->vars, scratch, &out->ids, &out->text, err);
    SPARK_TRY(api_text_ids(c->m, c->text, c->flags, scratch, &out->ids, err));
    return api_detokenize(c->m, out->ids.ids, out->ids.n, scratch, &out->text, err);
}

/* What the heap gives, of the same case. */
static spark_status run_on_heap(const text_case *c, spark_tokens *ids, spark_buffer *text, spark_err *err)
{
    if (c->vars.len) return spark_model_chat(c->m, (const char *)c->vars.ptr, c->vars.len, ids, text, err);
    SPARK_TRY(spark_model_tokenize(c->m, (const char *)c->text.ptr, c->text.len, c->flags, ids, err));
    return spark_model_detokenize(c->m, ids->ids, ids->n, text, err);
}

static uint8_t *region; /* as large as any case needs */
static size_t region_bytes;

/* Runs a case both ways, with exactly the scratch that was promised to suffice, and compares everything. Returns the bytes used. */
static size_t check_case(const text_case *c)
{
    spark_tokens ids = {0};
    spark_buffer text = {0};
    spark_err want = {0}, err = {0};
    text_result got = {0};
    spark_arena *scratch = NULL;
    const size_t len = c->vars.len + c->text.len;
    const size_t planned = api_text_scratch_bytes(c->m, (uint32_t)len + 8, len);
    if (planned > region_bytes) {
        free(region);
        region_bytes = planned;
        region = malloc(region_bytes);
        assert_non_null(region);
    }
    const spark_status s = run_on_heap(c, &ids, &text, &want);
    n_heap_calls = 0;
    cell_begin();
    const spark_status created = spark_arena_create_within(&scratch, region, planned, NULL);
    const spark_status t = run_in_cell(c, scratch, &got, &err);
    const size_t used = spark_arena_mark(scratch).used;
    cell_end();
    assert_ok(created);
    assert_int_equal(n_heap_calls, 0);
    if (t.code != s.code)
        fail_msg("%.300s: '%s', on the heap '%s'", c->vars.len ? (const char *)c->vars.ptr : "text", err.text,
                 want.text);
    assert_string_equal(err.text, want.text);
    assert_int_equal(err.line, want.line);
    if (s.code == SPARK_OK) {
        assert_int_equal(got.ids.n, ids.n);
        if (ids.n) assert_memory_equal(got.ids.ids, ids.ids, ids.n * sizeof *ids.ids);
        assert_int_equal(got.text.len, text.len);
        if (text.len) assert_memory_equal(got.text.ptr, text.ptr, text.len);
    }
    spark_arena_destroy(&scratch);
    spark_tokens_free(&ids);
    spark_buffer_free(&text);
    return used;
}

static spark_bytes bytes_of(const json_t *string)
{
    return (spark_bytes){(const uint8_t *)json_string_value(string), json_string_length(string)};
}

static json_t *shared_json(const char *path)
{
    const char *full = test_data(path);
    return full ? json_load_file(full, JSON_ALLOW_NUL, NULL) : NULL;
}

static spark_model *open_vocabulary(const char *name)
{
    char path[300];
    spark_model *m = NULL;
    spark_model_options o;
    spark_model_options_defaults(&o);
    o.vocab_only = true;
    snprintf(path, sizeof path, "tokenizers/gguf/%s", name);
    assert_ok(spark_model_open(&m, test_data(path), &o, NULL));
    return m;
}

static void check_vocabulary(const char *name)
{
    char path[300];
    spark_model *m = open_vocabulary(name);
    size_t i;
    const json_t *c;
    snprintf(path, sizeof path, "tokenizers/gguf/%.*s.cases.json", (int)(strlen(name) - 5), name);
    json_t *cases = shared_json(path);
    json_array_foreach(cases, i, c)
    {
        for (unsigned flags = 0; flags < 4; flags += 3)
            (void)check_case(&(text_case){m, {0}, bytes_of(json_object_get(c, "text")), flags});
    }
    /* one long word, of every length around a power of two, and all blanks: what fills the scratch */
    static uint8_t text[3 << 16];
    for (int kind = 0; kind < 3; kind++) {
        for (size_t k = 0; k < sizeof text; k++)
            text[k] = (uint8_t)(kind == 0 ? 'a' + (k * k + k / 7) % 26 : kind == 1 ? ' ' : k * 167 >> 3);
        for (size_t n = 1; n <= sizeof text; n = n * 3 - n % 3) (void)check_case(&(text_case){m, {0}, {text, n}, 0});
    }
    json_decref(cases);
    spark_model_close(&m);
}

static void test_every_vocabulary_gives_the_same_ids_without_a_heap(void **state)
{
    (void)state;
    const char *folder = test_data("tokenizers/gguf");
    DIR *d = folder ? opendir(folder) : NULL;
    int n = 0;
    if (!d) skip();
    for (const struct dirent *e; (e = readdir(d));) {
        const size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0) continue;
        check_vocabulary(e->d_name);
        n++;
    }
    closedir(d);
    printf("%d vocabularies\n", n);
    assert_true(n > 0);
}

/* Gives a model another template: what is compiled lies in `a`. */
static void set_template(spark_model *m, const char *name, spark_arena *a)
{
    char path[512];
    size_t len = 0;
    snprintf(path, sizeof path, "chat-templates/templates/%s", name);
    uint8_t *source = test_read(test_data(path), &len);
    m->chat = NULL;
    m->chat_status = spark_template_compile(&m->chat, (spark_bytes){source, len}, a, &m->chat_err);
    free(source);
}

static void test_every_template_gives_the_same_ids_without_a_heap(void **state)
{
    (void)state;
    json_t *conversations = shared_json("chat-templates/conversations.json"),
           *cases = shared_json("chat-templates/cases.json");
    if (!conversations || !cases) skip();
    spark_model *m = embedded();
    const spark_template *own = m->chat;
    size_t i;
    const json_t *c;
    json_array_foreach(cases, i, c)
    {
        spark_arena *a = NULL;
        assert_ok(spark_arena_create(&a, (size_t)64 << 20, NULL));
        set_template(m, json_string_value(json_object_get(c, "template")), a);
        const char *name = json_string_value(json_object_get(c, "conversation"));
        char *vars = json_dumps(json_object_get(json_object_get(conversations, "conversations"), name), 0);
        assert_non_null(vars);
        (void)check_case(&(text_case){m, spark_bytes_of(vars), {0}, 0});
        free(vars);
        spark_arena_destroy(&a);
    }
    printf("%zu renderings\n", i);
    assert_true(i >= 900);
    m->chat = (spark_template *)own;
    spark_model_close(&m);
    json_decref(conversations);
    json_decref(cases);
}

static void test_scratch_of_any_size_gives_the_result_or_a_clean_error(void **state)
{
    (void)state;
    static const char chat[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":"
        "\"Tell me a story of a small dragon, \\u00e9t\\u00e9.\"}],\"extra\":[1,2.5,[],{\"a\":{}},null],"
        "\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9}";
    static uint8_t memory[1 << 16];
    spark_model *m = embedded_chat();
    const text_case cases[] = {{m, SPARK_BYTES_LITERAL(chat), {0}, 0},
                               {m, {0}, SPARK_BYTES_LITERAL("Once upon a time there was a very small dragon."), 3}};
    for (size_t k = 0; k < SPARK_COUNT(cases); k++) {
        bool done = false;
        size_t refused = 0;
        cell_begin();
        for (size_t n = 0; n < sizeof memory; n += n < 2000 ? 1 : 13) {
            spark_arena *scratch = NULL;
            text_result r = {0};
            spark_err err = {0};
            if (!spark_ok(spark_arena_create_within(&scratch, memory, n, NULL))) continue;
            const spark_status s = run_in_cell(&cases[k], scratch, &r, &err);
            done = s.code == SPARK_OK;
            refused += !done;
            if (!done &&
                (s.code != SPARK_E_LIMIT || err.code != s.code || !err.text[0] || (cases[k].vars.len && r.ids.n))) {
                cell_end();
                fail_msg("%zu bytes: status %d, '%s'", n, s.code, err.text);
            }
            spark_arena_destroy(&scratch);
        }
        cell_end();
        assert_true(done && refused > 100);
    }
    spark_model_close(&m);
}

static void test_a_chat_of_the_planned_size_fits_and_a_hostile_one_is_refused(void **state)
{
    (void)state;
    enum { SIZE = 1 << 19 };
    spark_model *m = embedded_chat();
    char *vars = malloc(SIZE + 64);
    assert_non_null(vars);
    /* many short messages; one long message; one word */
    static const char *const items[] = {
        "{\"role\":\"user\",\"content\":\"Hi!\"},{\"role\":\"assistant\",\"content\":\"Yes?\"}", "word \\u00e9 ", "x"};
    for (int kind = 0; kind < 3; kind++) {
        size_t n = (size_t)snprintf(vars, SIZE + 64, "{\"messages\":[%s",
                                    kind ? "{\"role\":\"user\",\"content\":\"" : "");
        while (n < SIZE) n += (size_t)snprintf(vars + n, SIZE + 64 - n, "%s%s", items[kind], kind == 0 ? "," : "");
        if (kind == 0) n--;
        n += (size_t)snprintf(vars + n, SIZE + 64 - n, "%s]}", kind ? "\"}" : "");
        const size_t used = check_case(&(text_case){m, {(const uint8_t *)vars, n}, {0}, 0});
        printf("%zu bytes of JSON took %zu of %zu\n", n, used, api_text_scratch_bytes(m, (uint32_t)n + 8, n));
    }
    size_t n = (size_t)snprintf(vars, SIZE + 64, "{\"messages\":[]");
    for (unsigned k = 0; n < SIZE; k++) n += (size_t)snprintf(vars + n, SIZE + 64 - n, ",\"%x\":{}", k);
    vars[n++] = '}';
    spark_arena *scratch = NULL;
    text_result r = {0};
    spark_err err = {0};
    cell_begin();
    const spark_status created = spark_arena_create_within(&scratch, region, n * 16, NULL);
    const spark_status s = api_chat_ids(m, (spark_bytes){(const uint8_t *)vars, n}, scratch, &r.ids, &r.text, &err);
    cell_end();
    assert_ok(created);
    assert_code(s, SPARK_E_LIMIT);
    assert_non_null(strstr(err.text, "planned"));
    free(vars);
    spark_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_by_descriptors_is_the_model_and_leaves_them_open),
        cmocka_unit_test(test_descriptors_of_something_else_are_refused),
        cmocka_unit_test(test_every_vocabulary_gives_the_same_ids_without_a_heap),
        cmocka_unit_test(test_every_template_gives_the_same_ids_without_a_heap),
        cmocka_unit_test(test_scratch_of_any_size_gives_the_result_or_a_clean_error),
        cmocka_unit_test(test_a_chat_of_the_planned_size_fits_and_a_hostile_one_is_refused),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(region);
    return failed;
}
