/* api_internal.h - what the two public nouns are made of.
 * This room is the library's own front: it opens files for an embedder who asks for it, and joins net, tokenizer, template,
 * sampler and stops. It holds no arithmetic. */
#ifndef SPARK_API_INTERNAL_H
#define SPARK_API_INTERNAL_H

#include <pthread.h>

#include "base/pages.h"
#include "base/spark_limits.h"
#include "engine/sampler.h"
#include "engine/stops.h"
#include "model/model.h"
#include "spark/spark.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* One file of a model: a descriptor (or -1 and memory), and its head. */
typedef struct api_file {
    int fd;
    bool borrowed;         /* fd is the caller's to close */
    const uint8_t *memory; /* the whole file, borrowed; NULL = read from fd */
    spark_pages head;      /* nothing for memory */
    size_t head_len;       /* bytes of it that were read */
    uint64_t size;
} api_file;

struct spark_model {
    spark_model_options options;
    spark_arena *arena;
    api_file *files;
    uint32_t n_files;
    spark_gguf *gguf;
    spark_net *net;
    spark_tokenizer *tokenizer;
    bool has_template;    /* the file has one, be it broken */
    spark_template *chat; /* NULL: chat_status says why */
    spark_status chat_status;
    spark_err chat_err;
    uint8_t *dry_breaks; /* [n_vocab] of the net, which may have more rows than the tokenizer has tokens */
    const char *name;
    spark_pool *pool;
    spark_isa isa;
    spark_kern kern;
    pthread_mutex_t turn; /* held by the session that computes; guards pool */
    bool loaded;
};

/* src/api/files.c: reading, without knowing what is read. */
SPARK_MUST_CHECK spark_status api_files_open(spark_model *m, const char *path, spark_err *err);
SPARK_MUST_CHECK spark_status api_files_fds(spark_model *m, const int *fds, uint32_t n, spark_err *err);
SPARK_MUST_CHECK spark_status api_files_memory(spark_model *m, const void *data, size_t len, spark_err *err);
void api_files_close(spark_model *m);
/* For a command that runs in a cell, where nothing can be opened: who answers a path from now on, with a descriptor that stays his, or
 * with -1 and errno. To be set once, before any model is opened. */
void api_files_opener(int (*opener)(const char *path));
spark_status api_files_read(void *model, uint32_t file, uint64_t offset, void *dst, size_t len, spark_err *err);

/* Like spark_model_open, for `inspect`: *out is whatever was understood before the error (close it as usual; NULL only if
 * there was no memory). After an error nothing but spark__model_gguf may be asked of it. */
SPARK_MUST_CHECK spark_status spark__model_examine(spark_model **out, const char *path, const spark_model_options *o,
                                                   spark_err *err);
/* For cells: opens a model from descriptors that somebody else opened for reading: all files of it, in order, the first for
 * an ordinary one. They are borrowed until close, and only fstat and pread are done to them. A descriptor of something else
 * than a regular file is E_ARGUMENT, as is another number of files than the model has. */
SPARK_MUST_CHECK spark_status spark__model_open_fds(spark_model **out, const int *fds, uint32_t n,
                                                    const spark_model_options *o, spark_err *err);
const spark_gguf *spark__model_gguf(const spark_model *m); /* keys, and tensors if they could be read; may be NULL */

/* ---- Text without a heap, for cells (src/api/text.c) ----
 * After `ready` an engine cell allocates nothing. These work wholly in `scratch`, an arena within planned memory, and leave
 * their results there, valid until its owner resets it (also after an error). What does not fit is E_LIMIT, told with the
 * maximum. Results equal those of spark_model_chat, _tokenize and _detokenize. */

/* Before the last door closes, once: from then on jansson lives in the scratch of the call (text/json_heap.h), and the time
 * zone has been read, with all its names. After it no other JSON may be parsed in this process but between
 * spark_json_heap_use(arena) and spark_json_heap_use(NULL). */
void api_text_prepare_cell(void);

/* `vars`: as for spark_model_chat. text gets the rendering, not NUL-terminated; may be NULL. */
SPARK_MUST_CHECK spark_status api_chat_ids(const spark_model *m, spark_bytes vars, spark_arena *scratch, spark_ids *ids,
                                           spark_text *text, spark_err *err);
SPARK_MUST_CHECK spark_status api_text_ids(const spark_model *m, spark_bytes text, unsigned flags, spark_arena *scratch,
                                           spark_ids *ids, spark_err *err); /* flags: SPARK_TOKENIZE_... */
SPARK_MUST_CHECK spark_status api_detokenize(const spark_model *m, const uint32_t *ids, size_t n, spark_arena *scratch,
                                             spark_text *text, spark_err *err);

/* Bytes that the scratch of these three needs: for any text of max_text bytes, for a chat of max_text bytes of JSON, and for
 * n_ctx ids. What that covers, and what not, stands at its definition. At most SPARK_MAX_TEXT_SCRATCH. */
size_t api_text_scratch_bytes(const spark_model *m, uint32_t n_ctx, size_t max_text);

/* Bytes that a session takes beside net, keys and values: tokens, rows, and what one generation needs for stop strings and
 * logprobs. The last is reserved when the session is made, so generating allocates nothing (law 2). */
#define API_GENERATE_BYTES                                                                                             \
    (SPARK_MAX_STOP_BYTES + SPARK_MAX_TOKEN_BYTES + SPARK_MAX_STOPS * sizeof(spark_bytes) +                            \
     SPARK_MAX_LOGPROBS * sizeof(spark_logprob) + 1024)
static inline size_t api_session_bytes(const spark_shape *shape)
{
    return shape->n_ctx * sizeof(uint32_t) + shape->n_batch * sizeof(spark_row) + API_GENERATE_BYTES;
}

/* The checked shape of a session with these options (NULL = defaults). */
SPARK_MUST_CHECK spark_status api_session_shape(const spark_model *m, const spark_session_options *o,
                                                spark_shape *shape, spark_err *err);

#endif
