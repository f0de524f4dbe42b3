/* config_text.h - the one text form of settings and of keys: `name = value` lines under `[kind name]` headings.
 * Nouns:   spark_text, a position in such a text; spark_text_line, one heading or pair with where it stands.
 * Promise: any bytes end in lines or in one error with line and column, at a cost linear in their number. What is handed out is UTF-8
 *          without control characters.
 *
 *   line    = [ heading | pair ] [ "#" comment ]          comments begin a line or follow a blank
 *   heading = "[" word [ value ] "]"
 *   pair    = name "=" [ value { "," value } ]            name: a-z, 0-9, "_"
 *   value   = bare | quoted                               bare: no '"' and no ","; blanks around it do not count
 *   quoted  = '"' ... '"' with \" and \\ only
 *
 * Not here: what names mean (config.c, keys.c). */
#ifndef SPARK_SERVE_CONFIG_TEXT_H
#define SPARK_SERVE_CONFIG_TEXT_H

#include "base/arena.h"

typedef enum spark_text_kind { SPARK_TEXT_END, SPARK_TEXT_HEADING, SPARK_TEXT_PAIR } spark_text_kind;

typedef struct spark_text {
    spark_bytes bytes;
    size_t pos;
    uint32_t line; /* of the last line handed out */
} spark_text;

typedef struct spark_text_line {
    spark_text_kind kind;
    uint32_t line, column, value_column; /* 1-based, in characters */
    spark_bytes name;                    /* of a pair; a heading's word. Borrowed */
    spark_bytes value; /* as written, blanks and comment off; of a heading: what follows the word. Borrowed */
} spark_text_line;

/* The next heading or pair; END when there is none. */
SPARK_MUST_CHECK spark_status spark_text_next(spark_text *t, spark_text_line *out, spark_err *err);

/* The items of a value in arena memory, NUL-terminated (no item holds a NUL); at most `max`. An empty value has none. */
SPARK_MUST_CHECK spark_status spark_text_items(const spark_text_line *l, const char **out, uint32_t max, uint32_t *n,
                                               spark_arena *a, spark_err *err);
/* The same for a value that must be one item. */
SPARK_MUST_CHECK spark_status spark_text_item(const spark_text_line *l, const char **out, spark_arena *a,
                                              spark_err *err);

/* Writes a value so that it is read back as it is: bare if that suffices, else quoted. Returns the bytes it takes (as snprintf). */
size_t spark_text_quote(char *out, size_t cap, const char *value);
/* Whether a text can stand in a value at all: UTF-8, no control characters. */
bool spark_text_is_clean(const char *value);

/* Edits that make `b` of `a`, two neighbours that changed places being one, for "did you mean"; more than `max` gives max + 1. Names of
 * at most 64 bytes. */
unsigned spark_text_distance(const char *a, const char *b, unsigned max);
/* Whether someone who wrote `a` may have meant `b`: one slip, two in a word of six letters, three in one of nine. */
bool spark_text_is_near(const char *a, const char *b);

/* Fills err with a line and column, and is the status to hand back. */
#define spark_text_fail(err, line, column, ...)                                                                        \
    ((void)(spark_err_set_line((err), SPARK_E_FORMAT, (line), (column), __VA_ARGS__)), (spark_status){SPARK_E_FORMAT})

#endif
