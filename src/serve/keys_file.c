/* keys_file.c - making keys, and the atomic change of their file. */
#include "serve/keys_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/spark_limits.h"
#include "serve/config_text.h"
#include "serve/config_time.h"
#include "serve/keys_file_internal.h"
#include "serve/keys_internal.h"

int (*spark__keys_fsync)(int) = fsync;
int (*spark__keys_rename)(const char *, const char *) = rename;

#define file_fail(err, what, path)                                                                                     \
    spark_fail((err), SPARK_E_IO, SPARK_ERR_NOWHERE, what " '%s': %s", (path), strerror(errno))

/* ---- Reading ---- */

/* Of the key file itself messages give no path: who asked for it puts it before them. */
#define file_fail_it(err, what) spark_fail((err), SPARK_E_IO, SPARK_ERR_NOWHERE, what ": %s", strerror(errno))

static spark_status file_check(int fd, struct stat *st, spark_err *err)
{
    if (fstat(fd, st) != 0) return file_fail_it(err, "cannot look at it");
    SPARK_CHECK(S_ISREG(st->st_mode), err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE, "a key file must be a regular file");
    SPARK_CHECK(st->st_uid == geteuid() || st->st_uid == 0, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                "it belongs to user %u: a key file must be yours or root's", (unsigned)st->st_uid);
    SPARK_CHECK((st->st_mode & (S_IRWXG | S_IRWXO)) == 0, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                "its mode %04o lets others read or change a key file; chmod 600 it", (unsigned)(st->st_mode & 07777));
    SPARK_CHECK(st->st_size <= (off_t)SPARK_MAX_KEYS_BYTES, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "a key file has at most %u bytes", SPARK_MAX_KEYS_BYTES);
    return SPARK_SUCCESS;
}

static spark_status file_slurp(int fd, struct stat *st, uint8_t **out, size_t *len, spark_err *err)
{
    SPARK_TRY(file_check(fd, st, err));
    const size_t size = (size_t)st->st_size;
    uint8_t *ptr = malloc(size + 1);
    size_t n = 0;
    SPARK_CHECK(ptr, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    while (n < size) {
        const ssize_t got = read(fd, ptr + n, size - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            const spark_status s = got < 0 ? file_fail_it(err, "cannot read it")
                                           : spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                                                        "it became shorter while it was read");
            free(ptr);
            return s;
        }
        n += (size_t)got;
    }
    *out = ptr;
    *len = n;
    return SPARK_SUCCESS;
}

spark_status spark_keys_read_file(const char *path, uint8_t **out, size_t *len, spark_err *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return file_fail_it(err, "cannot open the key file");
    const spark_status s = file_slurp(fd, &st, out, len, err);
    close(fd);
    return s;
}

/* ---- The text of a key ---- */

void spark_key_wish_defaults(spark_key_wish *w) { *w = (spark_key_wish){.routes = (1u << SPARK_ROUTE_METRICS) - 1}; }

static spark_status file_random(uint8_t *out, size_t n, spark_err *err)
{
    SPARK_CHECK(getrandom(out, n, 0) == (ssize_t)n, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                "the system gives no random bytes: %s", strerror(errno));
    return SPARK_SUCCESS;
}

/* A key's text from fresh random bits. */
static spark_status file_draw(char text[SPARK_KEY_TEXT + 1], spark_err *err)
{
    uint8_t id[7], secret[32];
    enum { AT_ID = 9, AT_SECRET = AT_ID + SPARK_KEY_ID + 1, AT_SUM = AT_SECRET + SPARK_KEY_SECRET };
    SPARK_TRY(file_random(id, sizeof id, err));
    SPARK_TRY(file_random(secret, sizeof secret, err));
    memcpy(text, SPARK_KEY_PREFIX, AT_ID);
    spark__base32(id, sizeof id, text + AT_ID, SPARK_KEY_ID);
    text[AT_ID + SPARK_KEY_ID] = '-';
    spark__base32(secret, sizeof secret, text + AT_SECRET, SPARK_KEY_SECRET);
    spark__key_sum(text, AT_SUM, text + AT_SUM);
    text[SPARK_KEY_TEXT] = 0;
    OPENSSL_cleanse(secret, sizeof secret);
    return SPARK_SUCCESS;
}

static void file_put_hex(FILE *f, const char *name, const uint8_t bytes[SPARK_KEY_DIGEST])
{
    fprintf(f, "%s = ", name);
    for (size_t i = 0; i < SPARK_KEY_DIGEST; i++) fprintf(f, "%02x", bytes[i]);
    fputc('\n', f);
}

static void file_put_text(FILE *f, const char *before, const char *value)
{
    char quoted[2 * SPARK_MAX_SETTING_LINE];
    spark_text_quote(quoted, sizeof quoted, value);
    fprintf(f, "%s%s", before, quoted);
}

static void file_put_time(FILE *f, const char *name, int64_t s)
{
    char text[32] = "never";
    if (s) spark_time_write(s, -1, text);
    fprintf(f, "%s = %s\n", name, text);
}

static void file_put_count(FILE *f, const char *name, int64_t n)
{
    if (n) fprintf(f, "%s = %" PRId64 "\n", name, n);
}

static void file_put_routes(FILE *f, uint32_t routes)
{
    const uint32_t all = (1u << SPARK_ROUTE_METRICS) - 1;
    const char *before = "routes = ";
    if ((routes & all) == all || (routes & all) == 0) {
        fprintf(f, "routes = %s\n", routes & all ? "*" : "none");
        return;
    }
    for (uint32_t c = 0; c < SPARK_ROUTE_METRICS; c++)
        if (routes >> c & 1) {
            fprintf(f, "%s%s", before, spark_route_class_name((spark_route_class)c));
            before = ", ";
        }
    fputc('\n', f);
}

static void file_put_key(FILE *f, const spark_key_wish *w, const char *text, const uint8_t digest[SPARK_KEY_DIGEST],
                         int64_t now)
{
    fprintf(f, "\n[key %.*s]\n", SPARK_KEY_ID, text + 9);
    if (w->name) file_put_text(f, "name = ", w->name);
    if (w->name) fputc('\n', f);
    file_put_hex(f, "hash", digest);
    file_put_time(f, "created", now);
    file_put_time(f, "expires", w->expires);
    for (uint32_t i = 0; i < w->n_models; i++) file_put_text(f, i ? ", " : "models = ", w->models[i]);
    fprintf(f, "%s\n", w->n_models ? "" : "models = *");
    file_put_routes(f, w->routes);
    file_put_count(f, "requests_per_minute", w->requests_per_minute);
    file_put_count(f, "tokens_per_minute", w->tokens_per_minute);
    file_put_count(f, "max_context", w->max_context);
    file_put_count(f, "max_parallel", w->max_parallel);
    file_put_count(f, "priority", w->priority);
    if (w->tenant) file_put_text(f, "tenant = ", w->tenant);
    if (w->tenant) fputc('\n', f);
    if (w->routes >> SPARK_ROUTE_METRICS & 1) fputs("metrics = yes\n", f);
    if (w->routes >> SPARK_ROUTE_ADMIN & 1) fputs("admin = yes\n", f);
}

/* A text that is going to be the file. */
typedef struct file_text {
    char *ptr;
    size_t len;
} file_text;

/* old[old_len] and behind it the key; a head first if there is nothing yet. `k` are the keys of old, or NULL. */
static spark_status file_add(file_text *out, const uint8_t *old, size_t old_len, const spark_keys *k,
                             const spark_key_wish *w, const char *text, int64_t now, spark_err *err)
{
    uint8_t salt[SPARK_KEY_DIGEST], digest[SPARK_KEY_DIGEST];
    char bound[SPARK_KEY_ID + SPARK_KEY_SECRET];
    if (k)
        memcpy(salt, spark__keys_salt(k), sizeof salt);
    else
        SPARK_TRY(file_random(salt, sizeof salt, err));
    memcpy(bound, text + 9, SPARK_KEY_ID);
    memcpy(bound + SPARK_KEY_ID, text + 9 + SPARK_KEY_ID + 1, SPARK_KEY_SECRET);
    const bool hashed = spark__key_hash(salt, "key", bound, sizeof bound, digest);
    OPENSSL_cleanse(bound, sizeof bound);
    SPARK_CHECK(hashed, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory to hash a key");
    FILE *f = open_memstream(&out->ptr, &out->len);
    SPARK_CHECK(f, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    if (old_len) fwrite(old, 1, old_len, f);
    if (old_len && old[old_len - 1] != '\n') fputc('\n', f);
    if (!k)
        fputs("# Keys of SPARK. 'spark key' writes this file; a key itself is not in it, only its hash "
              "(docs/KEYS.md).\nversion = 1\n",
              f);
    if (!k) file_put_hex(f, "salt", salt);
    file_put_key(f, w, text, digest, now);
    OPENSSL_cleanse(salt, sizeof salt);
    const bool bad = ferror(f) != 0;
    SPARK_CHECK(fclose(f) == 0 && !bad, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    return SPARK_SUCCESS;
}

/* What is written must be read again. */
static spark_status file_prove(const file_text *t, spark_err *err)
{
    spark_keys *k = NULL;
    SPARK_TRY(spark_keys_parse(&k, (spark_bytes){(const uint8_t *)t->ptr, t->len}, err));
    spark_keys_destroy(&k);
    return SPARK_SUCCESS;
}

static spark_status file_check_wish(const spark_key_wish *w, spark_err *err)
{
    const char *const texts[] = {w->name ? w->name : "x", w->tenant ? w->tenant : "x"};
    for (size_t i = 0; i < SPARK_COUNT(texts); i++)
        SPARK_CHECK(*texts[i] && strlen(texts[i]) <= SPARK_MAX_SERVED_NAME && spark_text_is_clean(texts[i]), err,
                    SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                    "a name or tenant has 1 to %u bytes of UTF-8 without control characters", SPARK_MAX_SERVED_NAME);
    size_t sum = 0;
    for (uint32_t i = 0; i < w->n_models; i++) {
        SPARK_CHECK(*w->models[i] && strlen(w->models[i]) <= SPARK_MAX_SERVED_NAME && spark_text_is_clean(w->models[i]),
                    err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                    "the name of a model has 1 to %u bytes of UTF-8 without control characters", SPARK_MAX_SERVED_NAME);
        SPARK_CHECK(strcmp(w->models[i], "*") != 0, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                    "every model is what a key gets that names none");
        sum += spark_text_quote(NULL, 0, w->models[i]) + 2;
    }
    SPARK_CHECK(sum < SPARK_MAX_SETTING_LINE - 16, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the names of the models are too long together");
    return SPARK_SUCCESS;
}

spark_status spark_key_mint(const spark_key_wish *w, int64_t now, char *text, uint8_t **file, size_t *len,
                            spark_err *err)
{
    file_text t = {0};
    SPARK_TRY(file_check_wish(w, err));
    SPARK_TRY(file_draw(text, err));
    spark_status s = file_add(&t, NULL, 0, NULL, w, text, now, err);
    if (spark_ok(s)) s = file_prove(&t, err);
    if (!spark_ok(s)) {
        free(t.ptr);
        OPENSSL_cleanse(text, SPARK_KEY_TEXT + 1);
        return s;
    }
    *file = (uint8_t *)t.ptr;
    *len = t.len;
    return s;
}

/* ---- The atomic change ---- */

/* A change in progress: the lock is held, the old content is there. */
typedef struct file_change {
    char path[PATH_MAX];       /* with links followed: the file itself is replaced, not a link to it */
    char beside[PATH_MAX + 8]; /* PATH.lock, then PATH.new */
    int lock;
    uint8_t *old;
    size_t old_len;
    bool exists;
    struct stat st;
    spark_keys *keys; /* of old; NULL if there is no file */
} file_change;

static spark_status file_lock(file_change *c, spark_err *err)
{
    snprintf(c->beside, sizeof c->beside, "%s.lock", c->path);
    c->lock = open(c->beside, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (c->lock < 0) return file_fail(err, "cannot open", c->beside);
    while (flock(c->lock, LOCK_EX) != 0)
        if (errno != EINTR) return file_fail(err, "cannot lock", c->beside);
    return SPARK_SUCCESS;
}

static spark_status file_begin(file_change *c, const char *path, bool may_be_new, spark_err *err)
{
    *c = (file_change){.lock = -1};
    char *real = realpath(path, NULL);
    const int length = snprintf(c->path, sizeof c->path, "%s", real ? real : path);
    free(real);
    SPARK_CHECK(length < (int)sizeof c->path, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the path of the key file is too long");
    SPARK_TRY(file_lock(c, err));
    const int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && may_be_new) return SPARK_SUCCESS;
    if (fd < 0) return file_fail_it(err, "cannot open the key file");
    spark_status s = file_slurp(fd, &c->st, &c->old, &c->old_len, err);
    close(fd);
    if (spark_ok(s)) s = spark_keys_parse(&c->keys, (spark_bytes){c->old, c->old_len}, err);
    c->exists = spark_ok(s);
    return s;
}

static bool file_write_all(int fd, const char *p, size_t n)
{
    while (n) {
        const ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

/* The folder's entry is what the rename changed: without this a crash may bring the old file back after a key was printed. */
static bool file_sync_folder(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    const int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool ok = spark__keys_fsync(fd) == 0;
    close(fd);
    return ok;
}

static spark_status file_commit(file_change *c, const file_text *t, spark_err *err)
{
    SPARK_TRY(file_prove(t, err));
    snprintf(c->beside, sizeof c->beside, "%s.new", c->path);
    unlink(c->beside); /* of a writer that crashed: the lock is ours, so nobody is at it */
    const int fd = open(c->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return file_fail(err, "cannot make", c->beside);
    bool ok = true;
    if (c->exists) { /* the service's user may be another than the one who runs `spark key` */
        ok = fchown(fd, c->st.st_uid, c->st.st_gid) == 0 || geteuid() != 0;
        ok = ok && fchmod(fd, c->st.st_mode & 07777) == 0;
    }
    ok = ok && file_write_all(fd, t->ptr, t->len) && spark__keys_fsync(fd) == 0;
    ok = (close(fd) == 0) && ok;
    ok = ok && spark__keys_rename(c->beside, c->path) == 0;
    if (!ok) {
        const spark_status s = file_fail(err, "cannot write", c->beside);
        unlink(c->beside);
        return s;
    }
    if (!file_sync_folder(c->path)) return file_fail(err, "cannot sync the folder of", c->path);
    return SPARK_SUCCESS;
}

static void file_end(file_change *c)
{
    spark_keys_destroy(&c->keys);
    free(c->old);
    if (c->lock >= 0)
        close(c->lock); /* which unlocks; the empty file stays, or a waiting writer would hold a lock on nothing */
}

/* An id that the file does not have: of 2^50, so once is nearly always enough. */
static spark_status file_draw_new(const spark_keys *k, char *text, spark_err *err)
{
    for (int tries = 0; tries < 8; tries++) {
        const spark_key *known = NULL;
        SPARK_TRY(file_draw(text, err));
        if (!k) return SPARK_SUCCESS;
        (void)spark_keys_find(k, spark_bytes_of(text), &known);
        if (!known) return SPARK_SUCCESS;
    }
    return spark_fail(err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "no free id was drawn");
}

spark_status spark_key_new(const char *path, const spark_key_wish *w, int64_t now, char *text, spark_err *err)
{
    file_change c;
    file_text t = {0};
    SPARK_TRY(file_check_wish(w, err));
    spark_status s = file_begin(&c, path, true, err);
    if (spark_ok(s)) s = file_draw_new(c.keys, text, err);
    if (spark_ok(s)) s = file_add(&t, c.old, c.old_len, c.keys, w, text, now, err);
    if (spark_ok(s)) s = file_commit(&c, &t, err);
    if (!spark_ok(s)) OPENSSL_cleanse(text, SPARK_KEY_TEXT + 1);
    free(t.ptr);
    file_end(&c);
    return s;
}

/* ---- Revoking ---- */

static spark_status file_which(const spark_keys *k, const char *which, const spark_key **out, spark_err *err)
{
    uint32_t n = 0;
    *out = NULL;
    for (uint32_t i = 0; i < spark_keys_count(k); i++) {
        const spark_key *key = spark_keys_at(k, i);
        const bool by_id = strcmp(key->id, which) == 0;
        if (by_id || (!key->revoked && strcmp(key->name, which) == 0)) {
            *out = key;
            n++;
        }
        if (by_id) { /* an id means that key, whatever others are named */
            n = 1;
            break;
        }
    }
    SPARK_CHECK(n > 0, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "no key has the id or name '%.64s'; 'spark key list' shows them", which);
    SPARK_CHECK(n == 1, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "%u keys are named '%.64s': give the id", n, which);
    SPARK_CHECK(!(*out)->revoked, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "key %s is revoked already", (*out)->id);
    return SPARK_SUCCESS;
}

/* Where the line behind a key's heading begins; 0 if the heading is not there. */
static size_t file_behind_heading(const file_change *c, const char *id)
{
    spark_text text = {.bytes = {c->old, c->old_len}};
    spark_text_line l;
    while (spark_ok(spark_text_next(&text, &l, NULL)) && l.kind != SPARK_TEXT_END)
        if (l.kind == SPARK_TEXT_HEADING && spark_bytes_is(l.value, id)) return text.pos;
    return 0;
}

/* One line more; everything else stays as it was. */
static spark_status file_mark(file_text *out, const file_change *c, const char *id, int64_t now, spark_err *err)
{
    const size_t at = file_behind_heading(c, id);
    SPARK_CHECK(at, err, SPARK_E_STATE, SPARK_ERR_NOWHERE, "the heading of key %s is quoted: write [key %s]", id, id);
    FILE *f = open_memstream(&out->ptr, &out->len);
    SPARK_CHECK(f, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    fwrite(c->old, 1, at, f);
    if (c->old[at - 1] != '\n') fputc('\n', f);
    file_put_time(f, "revoked", now);
    fwrite(c->old + at, 1, c->old_len - at, f);
    const bool bad = ferror(f) != 0;
    SPARK_CHECK(fclose(f) == 0 && !bad, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    return SPARK_SUCCESS;
}

spark_status spark_key_revoke(const char *path, const char *which, int64_t now, char *id, spark_err *err)
{
    file_change c;
    file_text t = {0};
    const spark_key *key = NULL;
    spark_status s = file_begin(&c, path, false, err);
    if (spark_ok(s)) s = file_which(c.keys, which, &key, err);
    if (spark_ok(s)) s = file_mark(&t, &c, key->id, now, err);
    if (spark_ok(s)) s = file_commit(&c, &t, err);
    if (spark_ok(s)) memcpy(id, key->id, SPARK_KEY_ID + 1);
    free(t.ptr);
    file_end(&c);
    return s;
}

/* ---- Pruning ---- */

/* Lines that stay of those before and with a heading or pair; of a section that goes, its comments: they are the operator's. */
static void file_put_lines(FILE *f, const uint8_t *from, const uint8_t *end, bool goes)
{
    while (from < end) {
        const uint8_t *nl = memchr(from, '\n', (size_t)(end - from)), *next = nl ? nl + 1 : end;
        const uint8_t *p = from;
        while (p < next && (*p == ' ' || *p == '\t')) p++;
        if (!goes || (p < next && *p == '#')) fwrite(from, 1, (size_t)(next - from), f);
        from = next;
    }
}

/* Whether the section under this heading is one of a key that is over. */
static bool file_heading_goes(const spark_keys *k, const spark_text_line *heading, int64_t now)
{
    for (uint32_t i = 0; i < spark_keys_count(k); i++)
        if (spark_bytes_is(heading->value, spark_keys_at(k, i)->id)) return spark_key_is_over(spark_keys_at(k, i), now);
    return false;
}

/* The file without the sections that go; their number. */
static spark_status file_cut(file_text *out, const file_change *c, int64_t now, uint32_t *n_cut, spark_err *err)
{
    spark_text text = {.bytes = {c->old, c->old_len}};
    spark_text_line l = {.kind = SPARK_TEXT_PAIR};
    bool goes = false;
    *n_cut = 0;
    FILE *f = open_memstream(&out->ptr, &out->len);
    SPARK_CHECK(f, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    spark_status s = SPARK_SUCCESS;
    for (size_t from = 0; spark_ok(s) && l.kind != SPARK_TEXT_END; from = text.pos) {
        s = spark_text_next(&text, &l, err);
        const uint8_t *end = c->old + text.pos, *line = end; /* line: where the heading or pair begins */
        if (l.kind != SPARK_TEXT_END)
            for (line--; line > c->old + from && line[-1] != '\n';) line--;
        file_put_lines(f, c->old + from, line, goes);
        if (l.kind == SPARK_TEXT_HEADING) {
            goes = file_heading_goes(c->keys, &l, now);
            *n_cut += goes;
        }
        file_put_lines(f, line, end, goes);
    }
    const bool bad = ferror(f) != 0;
    SPARK_CHECK(fclose(f) == 0 && !bad, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for the key file");
    return s;
}

static spark_status file_prune(file_change *c, file_text *t, int64_t now, spark_err *err)
{
    uint32_t n_over = 0, n_cut = 0;
    for (uint32_t i = 0; i < spark_keys_count(c->keys); i++)
        n_over += spark_key_is_over(spark_keys_at(c->keys, i), now);
    if (n_over == 0) return SPARK_SUCCESS;
    SPARK_TRY(file_cut(t, c, now, &n_cut, err));
    SPARK_CHECK(n_cut == n_over, err, SPARK_E_STATE, SPARK_ERR_NOWHERE,
                "the heading of a key that is over is quoted: write it as [key ID]");
    return file_commit(c, t, err);
}

spark_status spark_key_prune(const char *path, int64_t now, spark_keys **before, spark_err *err)
{
    file_change c;
    file_text t = {0};
    spark_status s = file_begin(&c, path, false, err);
    if (spark_ok(s)) s = file_prune(&c, &t, now, err);
    if (spark_ok(s)) {
        *before = c.keys;
        c.keys = NULL;
    }
    free(t.ptr);
    file_end(&c);
    return s;
}
