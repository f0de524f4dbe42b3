/* cell_config.c - one list of fields, written and read by it. */
#include "serve/cell_config.h"

#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "base/spark_limits.h"
#include "serve/wire.h"

/* name, member, least, greatest */
#define CELL_NUMBERS(X)                                                                                                \
    X(n_links, 0, CELL_FRONT_LINKS)                                                                                    \
    X(n_files, 0, SPARK_MAX_GGUF_SPLITS)                                                                               \
    X(n_threads, 1, SPARK_POOL_MAX)                                                                                    \
    X(n_ctx, 0, SPARK_MAX_CTX)                                                                                         \
    X(n_running, 1, SPARK_MAX_SEQS)                                                                                    \
    X(n_waiting, 0, SPARK_WIRE_STREAMS)                                                                                \
    X(n_batch, 0, SPARK_MAX_BATCH)                                                                                     \
    X(itl_target_us, 0, 3600000000u)                                                                                   \
    X(waiting_tokens, 1, UINT32_MAX)                                                                                   \
    X(max_memory, 0, INT64_MAX)                                                                                        \
    X(kv, 0, SPARK_KV_TYPE_Q8_0)                                                                                       \
    X(prefix_cache, 0, 1)                                                                                              \
    X(has_public, 0, 1)

void cell_config_defaults(cell_config *c)
{
    *c = (cell_config){.n_threads = spark_cpu_count() < SPARK_POOL_MAX ? spark_cpu_count() : SPARK_POOL_MAX,
                       .n_running = 16,
                       .n_waiting = 1024,
                       .waiting_tokens = 1u << 20,
                       .prefix_cache = true};
}

char *cell_config_text(const cell_config *c)
{
    json_t *o = json_pack("{s:s, s:s}", "name", c->name, "cpu", c->cpu);
#define CELL_SET(field, min, max)                                                                                      \
    if (o) json_object_set_new(o, #field, json_integer((json_int_t)c->field));
    CELL_NUMBERS(CELL_SET)
#undef CELL_SET
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static spark_status config_number(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *out,
                                  spark_err *err)
{
    const json_t *v = json_object_get(o, name);
    SPARK_CHECK(json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max, err, SPARK_E_FORMAT,
                SPARK_ERR_NOWHERE, "configuration of a cell: '%s' is missing or out of range", name);
    *out = json_integer_value(v);
    return SPARK_SUCCESS;
}

static spark_status config_text(const json_t *o, const char *name, char *out, size_t cap, spark_err *err)
{
    const json_t *v = json_object_get(o, name);
    SPARK_CHECK(json_is_string(v) && json_string_length(v) < cap, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE,
                "configuration of a cell: '%s' is missing or too long", name);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return SPARK_SUCCESS;
}

static spark_status config_read(cell_config *c, const json_t *o, spark_err *err)
{
    int64_t v = 0;
    SPARK_TRY(config_text(o, "name", c->name, sizeof c->name, err));
    SPARK_TRY(config_text(o, "cpu", c->cpu, sizeof c->cpu, err));
#define CELL_GET(field, min, max)                                                                                      \
    SPARK_TRY(config_number(o, #field, (int64_t)(min), (int64_t)(max), &v, err));                                      \
    c->field = (__typeof__(c->field))v;
    CELL_NUMBERS(CELL_GET)
#undef CELL_GET
    return SPARK_SUCCESS;
}

spark_status cell_config_parse(cell_config *out, spark_bytes text, spark_err *err)
{
    json_error_t why;
    json_t *o = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);
    SPARK_CHECK(o, err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "configuration of a cell: %s", why.text);
    cell_config c = {0};
    const spark_status s = config_read(&c, o, err);
    json_decref(o);
    if (spark_ok(s)) *out = c;
    return s;
}
