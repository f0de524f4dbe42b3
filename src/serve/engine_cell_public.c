/* engine_cell_public.c - the one prefix that tenants share: the operator's own system prompt, given as a file at start. What is public is
 * decided by its tokens, so no client can make anything public, and nobody's own words ever are. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/engine_cell_internal.h"
#include "text/json_heap.h"

enum { PUBLIC_MAX = 256 << 10 };

uint32_t cell_public_length(const engine_cell *c, const uint32_t *ids, uint32_t n)
{
    uint32_t same = 0;
    while (same < n && same < c->n_public && ids[same] == c->public_ids[same]) same++;
    return same;
}

static spark_status public_read(engine_cell *c, int fd, spark_bytes *out, spark_err *err)
{
    uint8_t *text = NULL;
    size_t n = 0;
    SPARK_TRY(SPARK_NEW(c->scratch, PUBLIC_MAX, &text, err));
    for (ssize_t got = 1; got > 0; n += got > 0 ? (size_t)got : 0) got = read(fd, text + n, PUBLIC_MAX - n);
    SPARK_CHECK(n < PUBLIC_MAX, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "public_prefix: the file has %d bytes or more",
                PUBLIC_MAX);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--; /* an editor's, not the prompt's */
    SPARK_CHECK(n > 0, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "public_prefix: the file is empty");
    *out = (spark_bytes){text, n};
    return SPARK_SUCCESS;
}

/* The tokens of a conversation that begins with the system prompt and goes on with `user`. */
static spark_status public_chat(engine_cell *c, spark_bytes system, const char *user, spark_ids *ids, spark_err *err)
{
    spark_json_heap_use(c->scratch);
    json_t *vars = json_pack("{s:[{s:s, s:s%}, {s:s, s:s}]}", "messages", "role", "system", "content",
                             (const char *)system.ptr, system.len, "role", "user", "content", user);
    const char *text = vars ? json_dumps(vars, JSON_COMPACT) : NULL;
    spark_json_heap_use(NULL);
    SPARK_CHECK(text, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "public_prefix: the file is no UTF-8");
    return api_chat_ids(c->model, spark_bytes_of(text), c->scratch, ids, NULL, err);
}

/* What two conversations have in common that differ in nothing but the user's first letter; without a template, the text itself. */
static spark_status public_find(engine_cell *c, spark_bytes system, spark_ids *ids, spark_err *err)
{
    spark_ids other = {0};
    if (!c->model->chat) return api_text_ids(c->model, system, SPARK_TOKENIZE_ADD, c->scratch, ids, err);
    SPARK_TRY(public_chat(c, system, "a", ids, err));
    SPARK_TRY(public_chat(c, system, "z", &other, err));
    size_t same = 0;
    while (same < ids->n && same < other.n && ids->ids[same] == other.ids[same]) same++;
    ids->n = same;
    return SPARK_SUCCESS;
}

spark_status cell_read_public(engine_cell *c, int fd, spark_err *err)
{
    const spark_mark mark = spark_arena_mark(c->scratch);
    spark_bytes system;
    spark_ids ids = {0};
    spark_status s = public_read(c, fd, &system, err);
    if (spark_ok(s)) s = public_find(c, system, &ids, err);
    if (spark_ok(s)) {
        c->public_ids = malloc(ids.n * sizeof *c->public_ids + 1);
        if (c->public_ids) {
            memcpy(c->public_ids, ids.ids, ids.n * sizeof *c->public_ids);
            c->n_public = (uint32_t)ids.n;
        } else {
            s = spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "out of memory");
        }
    }
    spark_arena_reset(c->scratch, mark);
    return s;
}
