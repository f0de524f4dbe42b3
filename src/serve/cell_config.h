/* cell_config.h - what the warden tells an engine cell, as JSON. */
#ifndef SPARK_SERVE_CELL_CONFIG_H
#define SPARK_SERVE_CELL_CONFIG_H

#include <jansson.h>

#include "base/arena.h"
#include "spark/spark.h"

enum { CELL_FRONT_LINKS = 8, CELL_NAME_MAX = 128 };

/* Descriptors of an engine cell: 3 the warden; n_links for fronts, one after the other: when a front ends, the next link
 * serves the one that the warden starts instead; then the model's files in order; then, if has_public, the system prompt
 * that all tenants share. */
typedef struct cell_config {
    char name[CELL_NAME_MAX];                                                /* of the model, as clients call it */
    char cpu[16];                                                            /* highest CPU level; "" = the best */
    uint32_t n_links, n_files;                                               /* n_files 0: the embedded model */
    uint32_t n_threads, n_ctx, n_running, n_waiting, n_batch, itl_target_us; /* n_ctx, n_batch 0: the model's default */
    uint64_t waiting_tokens;
    uint64_t
        max_memory; /* bytes that the budget leaves: the cell tells its PLAN and waits for its GRANT; 0 = no budget */
    uint32_t kv;    /* spark_kv_choice */
    bool prefix_cache, has_public;
} cell_config;

void cell_config_defaults(cell_config *c);
/* As JSON text, malloc'd, NULL if there is no memory. */
char *cell_config_text(const cell_config *c);
SPARK_MUST_CHECK spark_status cell_config_parse(cell_config *out, spark_bytes text, spark_err *err);

#endif
