/* files.c - opens a model's files and reads them: heads into memory, weights by position.
 * Each file is opened once, read-only; what was checked is what is read (heads are copied, sizes taken once). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "base/spark_limits.h"

/* Bytes of a head to read at first; where that was not all, of small vocabularies, then of large ones. */
enum { FILES_FIRST_READ = 64 << 10, FILES_SECOND_READ = 1 << 20, FILES_THIRD_READ = 8 << 20 };

/* By the system's own call: the C library asks by newfstatat, which could name any path and which cells refuse. */
static int files_stat(int fd, struct stat *st) { return (int)syscall(SYS_fstat, fd, st); }

/* Reads exactly len bytes, or says which are missing. */
static spark_status files_pread(int fd, uint64_t offset, void *dst, size_t len, spark_err *err)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = pread(fd, (uint8_t *)dst + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        SPARK_CHECK(n >= 0, err, SPARK_E_IO, offset + done, "cannot read the model file: %s", strerror(errno));
        SPARK_CHECK(n > 0, err, SPARK_E_IO, offset + done, "the model file became shorter while it was read");
        done += (size_t)n;
    }
    return SPARK_SUCCESS;
}

spark_status api_files_read(void *model, uint32_t file, uint64_t offset, void *dst, size_t len, spark_err *err)
{
    const spark_model *m = model;
    const api_file *f = &m->files[file];
    SPARK_CHECK(offset <= f->size && len <= f->size - offset, err, SPARK_E_IO, offset,
                "read beyond the end of the model file");
    if (!f->memory) return files_pread(f->fd, offset, dst, len, err);
    memcpy(dst, f->memory + offset, len);
    return SPARK_SUCCESS;
}

/* The size of a file that was opened; `refusal` is the error of one that is not regular. */
static spark_status files_examine(api_file *f, const char *name, spark_code refusal, spark_err *err)
{
    struct stat st;
    SPARK_CHECK(files_stat(f->fd, &st) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot examine '%s': %s", name,
                strerror(errno));
    SPARK_CHECK(S_ISREG(st.st_mode), err, refusal, SPARK_ERR_NOWHERE, "'%s' is not a regular file", name);
    f->size = (uint64_t)st.st_size;
    return SPARK_SUCCESS;
}

static int (*files_opener)(const char *path);

void api_files_opener(int (*opener)(const char *path)) { files_opener = opener; }

static spark_status files_open_one(api_file *f, const char *path, spark_err *err)
{
    f->borrowed = files_opener != NULL;
    f->fd = files_opener ? files_opener(path)
                         : open(path, O_RDONLY | O_CLOEXEC |
                                          O_NONBLOCK); /* not to hang on a FIFO; no effect on a regular file */
    SPARK_CHECK(f->fd >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot open '%s': %s", path, strerror(errno));
    return files_examine(f, path, SPARK_E_IO, err);
}

/* Makes room for `need` bytes of the head and some more; pages that are not read into cost nothing. */
static spark_status files_head_room(api_file *f, uint64_t need, spark_err *err)
{
    if (f->head.ptr && need <= f->head.len) return SPARK_SUCCESS;
    spark_pages larger = {0};
    const uint64_t room = need < FILES_THIRD_READ ? FILES_THIRD_READ : need;
    SPARK_TRY(spark_pages_alloc(&larger, (size_t)(room < f->size ? room : f->size), "the head of the file", err));
    if (f->head_len) memcpy(larger.ptr, f->head.ptr, f->head_len);
    spark_pages_free(&f->head);
    f->head = larger;
    return SPARK_SUCCESS;
}

/* How far to read when it is known that `need` bytes are needed at least. Asking walks over all that is there, so not often. */
static uint64_t files_head_goal(const api_file *f, uint64_t need)
{
    uint64_t goal = f->head_len < FILES_FIRST_READ    ? FILES_FIRST_READ
                    : f->head_len < FILES_SECOND_READ ? FILES_SECOND_READ
                    : f->head_len < FILES_THIRD_READ  ? FILES_THIRD_READ
                                                      : 2 * (uint64_t)f->head_len;
    if (goal > SPARK_MAX_GGUF_HEAD) goal = SPARK_MAX_GGUF_HEAD;
    if (goal < need) goal = need;
    return goal < f->size ? goal : f->size;
}

/* Reads as much of the file as its head needs, asking the parser how much that is. */
static spark_status files_read_head(api_file *f, spark_err *err)
{
    uint64_t need = 0;
    for (;;) {
        const uint64_t goal = files_head_goal(f, need);
        SPARK_TRY(files_head_room(f, goal, err));
        uint8_t *head = f->head.ptr;
        SPARK_TRY(files_pread(f->fd, f->head_len, head + f->head_len, (size_t)goal - f->head_len, err));
        f->head_len = (size_t)goal;
        SPARK_TRY(spark_gguf_head_size((spark_bytes){head, f->head_len}, f->size, &need, err));
        if (need <= f->head_len) return SPARK_SUCCESS;
        SPARK_CHECK(need <= f->size, err, SPARK_E_FORMAT, f->size, "the file ends inside its head");
        SPARK_CHECK(need <= SPARK_MAX_GGUF_HEAD, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                    "the head of the file is over %u bytes", SPARK_MAX_GGUF_HEAD);
    }
}

static void files_close_all(spark_model *m)
{
    for (uint32_t i = 0; i < m->n_files; i++) {
        if (m->files[i].fd >= 0 && !m->files[i].borrowed) close(m->files[i].fd);
        spark_pages_free(&m->files[i].head);
    }
    memset(m->files, 0, m->n_files * sizeof *m->files);
    m->n_files = 0;
}

static spark_status files_add(spark_model *m, const char *path, spark_err *err)
{
    api_file *f = &m->files[m->n_files++];
    f->fd = -1;
    SPARK_TRY(files_open_one(f, path, err));
    return files_read_head(f, err);
}

/* Parses the first n files. */
static spark_status files_parse(spark_model *m, uint32_t n, spark_err *err)
{
    spark_gguf_file *heads = NULL;
    SPARK_TRY(SPARK_NEW(m->arena, n, &heads, err));
    for (uint32_t i = 0; i < n; i++) {
        const api_file *f = &m->files[i];
        heads[i] = (spark_gguf_file){{f->memory ? f->memory : f->head.ptr, f->head_len}, f->size};
    }
    if (m->options.vocab_only) return spark_gguf_open_keys(&m->gguf, heads[0], m->arena, err);
    return spark_gguf_open(&m->gguf, heads, n, m->arena, err);
}

/* Parses the first file alone, as most models are; *n_splits is how many files the model has. If there are more, all of them
 * are to be parsed together, so nothing is kept. */
static spark_status files_parse_first(spark_model *m, uint32_t *n_splits, spark_err *err)
{
    const spark_mark before = spark_arena_mark(m->arena);
    SPARK_TRY(files_parse(m, 1, err));
    *n_splits = spark_gguf_split_count(m->gguf);
    if (*n_splits == 1) return SPARK_SUCCESS;
    m->gguf = NULL;
    spark_arena_reset(m->arena, before);
    return SPARK_SUCCESS;
}

spark_status api_files_open(spark_model *m, const char *path, spark_err *err)
{
    m->files = calloc(SPARK_MAX_GGUF_SPLITS, sizeof *m->files);
    SPARK_CHECK(m->files, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    SPARK_TRY(files_add(m, path, err));
    uint32_t n_splits = 1;
    SPARK_TRY(files_parse_first(m, &n_splits, err));
    if (n_splits == 1) return SPARK_SUCCESS;
    files_close_all(m); /* any of the files may have been named: now all of them, from the first */
    for (uint32_t i = 0; i < n_splits; i++) {
        char sibling[4096];
        SPARK_TRY(spark_gguf_split_path(path, i, n_splits, sibling, sizeof sibling, err));
        SPARK_TRY(files_add(m, sibling, err));
    }
    return files_parse(m, n_splits, err);
}

spark_status api_files_fds(spark_model *m, const int *fds, uint32_t n, spark_err *err)
{
    SPARK_CHECK(n >= 1 && n <= SPARK_MAX_GGUF_SPLITS, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "%u model files: 1 to %u are allowed", n, SPARK_MAX_GGUF_SPLITS);
    m->files = calloc(n, sizeof *m->files);
    SPARK_CHECK(m->files, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    for (uint32_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "model file %u", i + 1);
        api_file *f = &m->files[m->n_files++];
        *f = (api_file){.fd = fds[i], .borrowed = true};
        SPARK_TRY(files_examine(f, name, SPARK_E_ARGUMENT, err));
        SPARK_TRY(files_read_head(f, err));
    }
    uint32_t n_splits = 1;
    SPARK_TRY(files_parse_first(m, &n_splits, err));
    SPARK_CHECK(n_splits == n, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "the model has %u files, but %u were given",
                n_splits, n);
    return n == 1 ? SPARK_SUCCESS : files_parse(m, n, err);
}

spark_status api_files_memory(spark_model *m, const void *data, size_t len, spark_err *err)
{
    m->files = calloc(1, sizeof *m->files);
    SPARK_CHECK(m->files, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    m->n_files = 1;
    m->files[0] = (api_file){.fd = -1, .memory = data, .head_len = len, .size = len};
    return files_parse(m, 1, err);
}

void api_files_close(spark_model *m)
{
    if (m->files) files_close_all(m);
    free(m->files);
    m->files = NULL;
}
