/* pretok.h - how a text is cut into words before byte-pair merging: one row a pre-tokenizer.
 * The models publish regular expressions; here each is a chain of stages, every stage a scanner that looks ahead a fixed
 * number of characters, so cutting is linear in the text. A stage cuts each piece of the stage before it; what it does
 * not match stays together as a piece of its own. */
#ifndef SPARK_TEXT_PRETOK_H
#define SPARK_TEXT_PRETOK_H

#include <stdbool.h>

#include "base/bytes.h"

#define SPARK__PRETOK_STAGES 6

/* A row of the table, and what its stages say of ASCII: bit k stands for stage k. Immutable once found. */
typedef struct spark__pretok {
    const struct pre_row *row;
    uint8_t in[128];     /* the character is in the set of the stage */
    uint8_t begins[128]; /* a match can begin with it: it is in the set, or a prefix */
} spark__pretok;

/* The pre-tokenizer of a tokenizer.ggml.pre into *out; false if there is none of that name. */
bool spark__pretok_find(spark_bytes name, spark__pretok *out);

bool spark__pretok_ignores_merges(const spark__pretok *t); /* a word that is a token stays whole */
bool spark__pretok_adds_bos(const spark__pretok *t);       /* unless the file says otherwise */

/* Calls word(ctx, bytes) for each piece of `text`, in order, without gaps; stops at the first failure. */
typedef spark_status spark__pretok_word(void *ctx, spark_bytes word, spark_err *err);
SPARK_MUST_CHECK spark_status spark__pretok_run(const spark__pretok *t, spark_bytes text, spark__pretok_word *word,
                                                void *ctx, spark_err *err);

#endif
