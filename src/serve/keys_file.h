/* keys_file.h - the key file on disk: read with care, changed whole or not at all. For the warden and `spark key`; the front gets bytes.
 * Promise: a file that others than its owner could have written or can read is refused by name. A change is a new file that
 *          is written, synced and renamed over the old one under a lock: a crash leaves the old or the new one, two writers lose
 *          nothing. Comments and order of the operator stay. */
#ifndef SPARK_SERVE_KEYS_FILE_H
#define SPARK_SERVE_KEYS_FILE_H

#include "serve/keys.h"

/* All bytes of the file, malloc'd (moves to the caller). E_REFUSED: owner (this user or root) or mode (nothing for
 * group and others). */
SPARK_MUST_CHECK spark_status spark_keys_read_file(const char *path, uint8_t **out, size_t *len, spark_err *err);

/* What a new key may do. */
typedef struct spark_key_wish {
    const char *name;          /* NULL = its id */
    const char *const *models; /* [n_models]; 0 = every model */
    uint32_t n_models;
    uint32_t routes;                                                            /* bits of spark_route_class */
    uint32_t requests_per_minute, tokens_per_minute, max_context, max_parallel; /* 0 = no limit */
    int32_t priority;
    const char *tenant; /* NULL = its own */
    int64_t expires;    /* 0 = never */
} spark_key_wish;
void spark_key_wish_defaults(spark_key_wish *w); /* every model; generate, tokenize, models, embed */

/* A key added to the file, which is made (0600) if there is none. text[SPARK_KEY_TEXT + 1] is the only copy of it: show it once and wipe
 * it. now: seconds since 1970. */
SPARK_MUST_CHECK spark_status spark_key_new(const char *path, const spark_key_wish *w, int64_t now, char *text,
                                            spark_err *err);
/* Marks the key of this id, or of this name if only one key alive has it, as revoked; id[SPARK_KEY_ID + 1] tells which. */
SPARK_MUST_CHECK spark_status spark_key_revoke(const char *path, const char *which, int64_t now, char *id,
                                               spark_err *err);

/* Takes the keys that are over by `now` out of the file; *before, which moves to the caller, are all that it had. Where none is over
 * the file is left as it is. */
SPARK_MUST_CHECK spark_status spark_key_prune(const char *path, int64_t now, spark_keys **before, spark_err *err);

/* A key file with one key that lives in memory only, for a server that was given none. *file is malloc'd. */
SPARK_MUST_CHECK spark_status spark_key_mint(const spark_key_wish *w, int64_t now, char *text, uint8_t **file,
                                             size_t *len, spark_err *err);

#endif
