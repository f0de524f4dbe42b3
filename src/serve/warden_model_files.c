/* warden_model_files.c - the files of a model, kept open as they were when the front last took an engine of them (SWITCHED). An engine that
 * ends by itself is followed by one of the same bytes, whatever lies at their paths by then: what is served changes when the operator says
 * so, with SIGHUP, and when a model that was put out (UNLOAD, evicted) is asked for again, which is told.
 *
 *   opened by path -> an engine loads -> READY, not written to meanwhile -> SWITCHED --> kept; what was kept before is closed
 *                            \------------------ any other end ---------------> closed
 *   put out: kept is closed; what it was is remembered
 *
 * Kept is a file, not its content: one that is written to in place is not what was accepted any more. That shows in its size and its time of
 * change, and then it is not started from. Nothing here reads a byte of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/spark_limits.h"
#include "format/gguf.h"
#include "serve/sockets.h"
#include "serve/warden_internal.h"

enum { OPENED_PATH = 4096 };

/* What tells whether a file is the same and was not written to. Not st_ctim: a file that loses its name has another one. */
typedef struct opened_mark {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec written;
} opened_mark;

typedef struct opened_file {
    int fd;
    opened_mark mark;
} opened_file;

struct warden_opened {
    uint32_t n_files, n; /* of the model; with the public prefix, which comes last */
    bool is_open;
    opened_file file[];
};

/* ---- One file ---- */

static opened_mark mark_of(const struct stat *s)
{
    return (opened_mark){.device = s->st_dev, .inode = s->st_ino, .size = s->st_size, .written = s->st_mtim};
}

static bool mark_same(const opened_mark *a, const opened_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->written.tv_sec == b->written.tv_sec && a->written.tv_nsec == b->written.tv_nsec;
}

static bool file_unchanged(const opened_file *f)
{
    struct stat now;
    if (fstat(f->fd, &now) != 0) return false;
    const opened_mark mark = mark_of(&now);
    return mark_same(&mark, &f->mark);
}

/* Why a file that is not unchanged is not started from. */
static const char *file_why(const opened_file *f)
{
    struct stat now;
    return fstat(f->fd, &now) != 0 ? strerror(errno) : "it was written to after it was accepted";
}

/* Where the k-th was opened. */
static const char *file_path(const warden_opened *o, const spark_config_model *m, uint32_t k, char buf[OPENED_PATH])
{
    if (k >= o->n_files) return m->public_prefix;
    if (o->n_files == 1 || !spark_ok(spark_gguf_split_path(m->file, k, o->n_files, buf, OPENED_PATH, NULL)))
        return m->file;
    return buf;
}

/* ---- All files of a model ---- */

uint32_t warden_opened_count(const spark_config_model *m)
{
    const uint32_t n = m->file ? spark_model_files_count(m->file) : 0;
    return (n < SPARK_MAX_GGUF_SPLITS ? n : SPARK_MAX_GGUF_SPLITS) + (m->public_prefix ? 1 : 0);
}

static spark_status opened_fill(warden_opened *o, const spark_config_model *m, spark_err *err)
{
    int fds[SPARK_MAX_GGUF_SPLITS];
    if (m->file) SPARK_TRY(spark_model_files_open(m->file, fds, SPARK_COUNT(fds), &o->n_files, err));
    for (; o->n < o->n_files; o->n++) o->file[o->n].fd = fds[o->n];
    if (m->public_prefix) SPARK_TRY(spark_file_open(m->public_prefix, false, &o->file[o->n].fd, err));
    if (m->public_prefix) o->n++;
    for (uint32_t k = 0; k < o->n; k++) {
        struct stat now;
        SPARK_CHECK(fstat(o->file[k].fd, &now) == 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                    "cannot examine a file of the model: %s", strerror(errno));
        o->file[k].mark = mark_of(&now);
    }
    return SPARK_SUCCESS;
}

spark_status warden_opened_open(warden_opened **out, const spark_config_model *m, spark_err *err)
{
    warden_opened *o = calloc(1, sizeof *o + warden_opened_count(m) * sizeof o->file[0]);
    SPARK_CHECK(o, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
    o->is_open = true;
    const spark_status s = opened_fill(o, m, err);
    if (!spark_ok(s)) warden_opened_destroy(&o);
    *out = o;
    return s;
}

static void opened_close(warden_opened *o)
{
    if (!o || !o->is_open) return;
    for (uint32_t k = 0; k < o->n; k++) close(o->file[k].fd);
    o->is_open = false;
}

void warden_opened_destroy(warden_opened **o)
{
    opened_close(*o);
    free(*o);
    *o = NULL;
}

uint32_t warden_opened_give(const warden_opened *o, int *fds)
{
    for (uint32_t k = 0; k < o->n; k++) { /* how far the engine of before has read is the file's, not the reader's */
        fds[k] = o->file[k].fd;
        (void)lseek(fds[k], 0, SEEK_SET);
    }
    return o->n;
}

uint32_t warden_opened_n_files(const warden_opened *o) { return o->n_files; }

/* The first that is another one, or was written to: n if none is. */
static uint32_t opened_other(const warden_opened *a, const warden_opened *b)
{
    uint32_t k = 0;
    while (k < a->n && mark_same(&a->file[k].mark, &b->file[k].mark)) k++;
    return k;
}

static uint32_t opened_changed(const warden_opened *o)
{
    uint32_t k = 0;
    while (k < o->n && file_unchanged(&o->file[k])) k++;
    return k;
}

/* ---- What is told ---- */

static void model_log(const warden *w, spark_log_level level, const char *event, const spark_config_model *m,
                      const char *file, const char *why)
{
    spark_log_begin(w->log, level, event);
    if (strcmp(event, "kept") == 0) spark_log_text(w->log, "what", "model");
    spark_log_text(w->log, "model", m->name);
    spark_log_text(w->log, "file", file);
    if (why) spark_log_text(w->log, "why", why);
    spark_log_end(w->log);
}

/* Which of its paths lead elsewhere by now, if any does: the first. */
static void model_log_kept(const warden *w, const warden_model *m)
{
    char buf[OPENED_PATH];
    for (uint32_t k = 0; k < m->kept->n; k++) {
        struct stat now;
        const char *path = file_path(m->kept, m->config, k, buf);
        const bool there = stat(path, &now) == 0;
        const int why = errno;
        const opened_mark mark = there ? mark_of(&now) : (opened_mark){0};
        if (there && mark_same(&mark, &m->kept->file[k].mark)) continue;
        model_log(w, SPARK_LOG_WARN, "kept", m->config, path,
                  there ? "it is not what was last accepted; a reload looks at it" : strerror(why));
        return;
    }
}

/* ---- What an engine starts from ---- */

static bool model_keeps(const warden_model *m) { return m->kept && m->kept->is_open; }

static spark_status model_start_kept(const warden *w, const warden_model *m, spark_err *err)
{
    char buf[OPENED_PATH];
    const uint32_t k = opened_changed(m->kept);
    if (k == m->kept->n) {
        model_log_kept(w, m);
        return SPARK_SUCCESS;
    }
    model_log(w, SPARK_LOG_ERROR, "model_file_changed", m->config, file_path(m->kept, m->config, k, buf),
              file_why(&m->kept->file[k]));
    return spark_fail(err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                      "its file was changed in place after it was accepted, or its file system gave it up; a reload "
                      "(SIGHUP) takes what "
                      "it holds now");
}

/* It was put out and is asked for again, or none was ever taken. */
static spark_status model_start_path(const warden *w, const warden_model *m, warden_opened **opened, spark_err *err)
{
    char buf[OPENED_PATH];
    SPARK_TRY(warden_opened_open(opened, m->config, err));
    const uint32_t k = m->kept ? opened_other(*opened, m->kept) : (*opened)->n;
    if (k < (*opened)->n)
        model_log(w, SPARK_LOG_INFO, "model_file_new", m->config, file_path(*opened, m->config, k, buf), NULL);
    return SPARK_SUCCESS;
}

/* A reload found no engine to swap: its files if they can be had, else those of before. */
static spark_status model_start_reloaded(const warden *w, const warden_model *m, warden_opened **opened, spark_err *err)
{
    spark_err why = {0};
    if (!spark_ok(warden_opened_open(opened, m->config, &why))) {
        spark_log_event(w->log, SPARK_LOG_ERROR, "model_swap_failed", m->config->name, why.text);
        return model_start_kept(w, m, err);
    }
    if (opened_other(*opened, m->kept) < m->kept->n) {
        spark_log_event(w->log, SPARK_LOG_INFO, "model_swap", m->config->name, NULL);
        return SPARK_SUCCESS;
    }
    warden_opened_destroy(opened);
    return model_start_kept(w, m, err);
}

spark_status warden_model_open(const warden *w, warden_model *m, warden_opened **opened, spark_err *err)
{
    const bool reload = m->look_again;
    *opened = NULL;
    m->look_again = false;
    if (!model_keeps(m)) return model_start_path(w, m, opened, err);
    return reload ? model_start_reloaded(w, m, opened, err) : model_start_kept(w, m, err);
}

bool warden_model_is_other(const warden *w, const warden_model *m, warden_opened **opened)
{
    spark_err err = {0};
    if (!spark_ok(warden_opened_open(opened, m->config, &err))) {
        spark_log_event(w->log, SPARK_LOG_ERROR, "model_swap_failed", m->config->name, err.text);
        return false;
    }
    if (opened_other(*opened, m->kept) < m->kept->n) return true;
    warden_opened_destroy(opened);
    return false;
}

spark_status warden_model_check_read(const warden *w, const warden_instance *i, spark_err *err)
{
    char buf[OPENED_PATH];
    const warden_model *m = &w->models[i->model];
    const warden_opened *o = i->opened ? i->opened : m->kept;
    const uint32_t k = opened_changed(o);
    if (k == o->n) return SPARK_SUCCESS;
    model_log(w, SPARK_LOG_ERROR, "model_file_changed", m->config, file_path(o, m->config, k, buf),
              "it was written to while it was read");
    return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "its file was changed while it was read");
}

void warden_model_accept(warden_model *m, warden_instance *i)
{
    if (!i->opened) return; /* it came of what is kept */
    warden_opened_destroy(&m->kept);
    m->kept = i->opened;
    i->opened = NULL;
}

void warden_model_put_out(warden_model *m) { opened_close(m->kept); }

bool warden_model_falls_back(const warden_model *m, const warden_instance *i)
{
    return m->current == i && i->opened && model_keeps(m);
}
