/* warden_files.c - the files of secrets that the front works with: read when the operator says so, and kept as it last accepted them, so
 * that a front that ends is followed by one that starts, whatever has become of the files meanwhile. Two sets: the keys; certificate,
 * private key and the authorities of clients.
 *
 *   read -> offered -- TAKEN 1 --> held; what was held before is wiped
 *               \------ TAKEN 0 --> wiped
 *
 * Nothing of them is interpreted here: whether a set can be used, the front says. Bytes lie in memory that is locked as far as
 * RLIMIT_MEMLOCK goes, in no core dump, and in no child between fork and exec. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "serve/sockets.h"
#include "serve/warden_internal.h"

enum { FILES_FIRST = 16 << 10 };

/* ---- Bytes ---- */

static spark_status bytes_take(warden_bytes *b, size_t room, spark_err *err)
{
    const size_t mapped = spark_round_up(room, (size_t)sysconf(_SC_PAGESIZE));
    void *p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SPARK_CHECK(p != MAP_FAILED, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %zu bytes", mapped);
    (void)mlock(p, mapped);
    (void)madvise(p, mapped, MADV_DONTDUMP);
    (void)madvise(p, mapped, MADV_DONTFORK);
    *b = (warden_bytes){.ptr = p, .mapped = mapped};
    return SPARK_SUCCESS;
}

static void bytes_wipe(warden_bytes *b)
{
    if (b->ptr) {
        explicit_bzero(b->ptr, b->mapped);
        munmap(b->ptr, b->mapped);
    }
    *b = (warden_bytes){0};
}

static spark_status bytes_grow(warden_bytes *b, spark_err *err)
{
    warden_bytes more;
    SPARK_CHECK(b->mapped < CONTROL_FILE_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "a file of secrets has over %d bytes", CONTROL_FILE_MAX);
    SPARK_TRY(bytes_take(&more, 2 * b->mapped, err));
    memcpy(more.ptr, b->ptr, b->len);
    more.len = b->len;
    bytes_wipe(b);
    *b = more;
    return SPARK_SUCCESS;
}

static spark_status bytes_read(warden_bytes *b, int fd, const char *path, spark_err *err)
{
    SPARK_TRY(bytes_take(b, FILES_FIRST, err));
    for (;;) {
        if (b->len == b->mapped) SPARK_TRY(bytes_grow(b, err));
        const ssize_t n = read(fd, b->ptr + b->len, b->mapped - b->len);
        if (n == 0) return SPARK_SUCCESS;
        SPARK_CHECK(n > 0 || errno == EINTR, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot read '%s': %s", path,
                    strerror(errno));
        if (n > 0) b->len += (size_t)n;
    }
}

static bool bytes_same(const warden_bytes *a, const warden_bytes *b)
{
    return spark_bytes_equal((spark_bytes){a->ptr, a->len}, (spark_bytes){b->ptr, b->len});
}

/* A descriptor from which they can be read, in place of a file. */
static spark_status bytes_descriptor(const warden_bytes *b, int *out, spark_err *err)
{
    const int fd = memfd_create("secret", MFD_CLOEXEC);
    SPARK_CHECK(fd >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot make a memory file: %s", strerror(errno));
    if (write(fd, b->ptr, b->len) != (ssize_t)b->len || lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot write a memory file: %s", strerror(errno));
    }
    *out = fd;
    return SPARK_SUCCESS;
}

/* ---- Sets ---- */

static void set_wipe(warden_bytes bytes[WARDEN_FILES])
{
    for (uint32_t i = 0; i < WARDEN_FILES; i++) bytes_wipe(&bytes[i]);
}

static void set_add(warden_files *f, const char *path, bool secret)
{
    if (!path) return;
    f->path[f->n] = path;
    f->secret[f->n++] = secret;
}

static spark_status file_read(const warden_files *f, uint32_t i, warden_bytes *out, spark_err *err)
{
    int fd = -1;
    SPARK_TRY(spark_file_open(f->path[i], f->secret[i], &fd, err));
    const spark_status s = bytes_read(out, fd, f->path[i], err);
    close(fd);
    if (!spark_ok(s)) bytes_wipe(out);
    return s;
}

static spark_status set_read(warden_files *f, spark_err *err)
{
    for (uint32_t i = 0; i < f->n; i++) {
        const spark_status s = file_read(f, i, &f->offered[i], err);
        if (spark_ok(s)) continue;
        set_wipe(f->offered);
        return s;
    }
    return SPARK_SUCCESS;
}

static spark_status set_give(warden *w, const warden_files *f, const warden_bytes *bytes, spark_err *err)
{
    control_message c = {.kind = f->kind};
    spark_status s = SPARK_SUCCESS;
    for (uint32_t i = 0; i < f->n && spark_ok(s); i++) {
        s = bytes_descriptor(&bytes[i], &c.fds[i], err);
        c.n_fds += spark_ok(s) ? 1 : 0;
    }
    if (spark_ok(s)) (void)!spark_ok(warden_tell(w, &c));
    for (uint32_t i = 0; i < c.n_fds; i++) close(c.fds[i]);
    return s;
}

static spark_status set_offer(warden *w, warden_files *f, spark_err *err)
{
    SPARK_TRY(set_read(f, err));
    const spark_status s = set_give(w, f, f->offered, err);
    f->is_offered = spark_ok(s);
    if (!spark_ok(s)) set_wipe(f->offered);
    return s;
}

static void set_failed(warden *w, const warden_files *f, const char *why)
{
    spark_log_event(w->log, SPARK_LOG_ERROR, f->kind == CONTROL_KEYS ? "reload_keys_failed" : "reload_tls_failed", NULL,
                    why);
    (void)!spark_ok(warden_tell(w, &(control_message){.kind = f->kind, .arg = CONTROL_UNREAD})); /* it counts them */
}

/* ---- Life ---- */

spark_status warden_files_open(warden *w, spark_bytes minted, spark_err *err)
{
    const spark_config *c = w->config;
    w->files[WARDEN_KEYS].kind = CONTROL_KEYS;
    w->files[WARDEN_TLS].kind = CONTROL_TLS;
    set_add(&w->files[WARDEN_KEYS], minted.len ? NULL : c->keys, true);
    set_add(&w->files[WARDEN_TLS], c->tls_cert, false);
    set_add(&w->files[WARDEN_TLS], c->tls_cert ? c->tls_key : NULL, true);
    set_add(&w->files[WARDEN_TLS], c->tls_cert ? c->tls_client_ca : NULL, false);
    if (!minted.len) return SPARK_SUCCESS;
    warden_files *keys = &w->files[WARDEN_KEYS]; /* of no file: held from the start */
    SPARK_TRY(bytes_take(&keys->held[0], minted.len, err));
    memcpy(keys->held[0].ptr, minted.ptr, minted.len);
    keys->held[0].len = minted.len;
    keys->n = 1;
    keys->is_held = true;
    return SPARK_SUCCESS;
}

void warden_files_close(warden *w)
{
    for (uint32_t k = 0; k < WARDEN_SETS; k++) {
        set_wipe(w->files[k].held);
        set_wipe(w->files[k].offered);
    }
}

/* Which files are not what the next front starts with. */
static void files_log_kept(const warden *w, const warden_files *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        warden_bytes now = {0};
        spark_err err = {0};
        const bool is_read = f->path[i] && spark_ok(file_read(f, i, &now, &err));
        const bool same = !f->path[i] || (is_read && bytes_same(&now, &f->held[i]));
        bytes_wipe(&now);
        if (same) continue;
        spark_log_begin(w->log, SPARK_LOG_WARN, "kept");
        spark_log_text(w->log, "what", f->kind == CONTROL_KEYS ? "keys" : "tls");
        spark_log_text(w->log, "file", f->path[i]);
        spark_log_text(w->log, "why", is_read ? "it is not what was last accepted; a reload looks at it" : err.text);
        spark_log_end(w->log);
    }
}

spark_status warden_files_start(warden *w, spark_err *err)
{
    for (uint32_t k = 0; k < WARDEN_SETS; k++) {
        warden_files *f = &w->files[k];
        if (f->n == 0) continue;
        if (!f->is_held) {
            SPARK_TRY(set_offer(w, f, err));
            continue;
        }
        SPARK_TRY(set_give(w, f, f->held, err));
        files_log_kept(w, f);
    }
    return SPARK_SUCCESS;
}

void warden_files_reload(warden *w)
{
    for (uint32_t k = 0; k < WARDEN_SETS; k++) {
        w->files[k].due = w->files[k].n && w->files[k].path[0];
        w->files[k].again = false;
    }
    warden_files_offer(w);
}

void warden_files_offer(warden *w)
{
    for (uint32_t k = 0; k < WARDEN_SETS; k++) {
        warden_files *f = &w->files[k];
        spark_err err = {0};
        if (!f->due || f->is_offered || !w->front_up) continue;
        f->due = false;
        if (!spark_ok(set_offer(w, f, &err))) set_failed(w, f, err.text);
    }
}

void warden_files_taken(warden *w, control_kind kind, bool can_be_used)
{
    warden_files *f = &w->files[kind == CONTROL_KEYS ? WARDEN_KEYS : WARDEN_TLS];
    if (!f->is_offered) return;
    f->is_offered = f->again = false;
    if (can_be_used) {
        set_wipe(f->held);
        memcpy(f->held, f->offered, sizeof f->held);
        memset(f->offered, 0, sizeof f->offered);
        f->is_held = true;
    }
    set_wipe(f->offered);
}

void warden_files_front_up(warden *w)
{
    for (uint32_t k = 0; k < WARDEN_SETS; k++) warden_files_taken(w, w->files[k].kind, true);
}

void warden_files_front_ended(warden *w)
{
    for (uint32_t k = 0; k < WARDEN_SETS; k++) {
        warden_files *f = &w->files[k];
        if (!f->is_offered) continue;
        f->is_offered = false;
        set_wipe(f->offered);
        if (!f->is_held) continue; /* it had not started: the next one is offered them anew */
        f->due = !f->again;
        if (f->again) set_failed(w, f, "the front ended over it, twice");
        f->again = !f->again;
    }
}
