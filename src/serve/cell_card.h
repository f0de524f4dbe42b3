/* cell_card.h - a model as its engine describes it to the front, as JSON behind the fixed numbers of READY. */
#ifndef SPARK_SERVE_CELL_CARD_H
#define SPARK_SERVE_CELL_CARD_H

#include "api/api_internal.h"
#include "engine/engine.h"
#include "serve/api.h"
#include "serve/cell_config.h"

/* JSON text, malloc'd; NULL if there is no memory. */
char *cell_card_text(const spark_model *m, const spark_engine_options *o, const cell_config *c);

/* Reads it; texts are copied to the arena. Fills what an engine knows: not name, created_s, loaded, expires_s. */
SPARK_MUST_CHECK spark_status cell_card_parse(api_card *out, spark_bytes ready, spark_arena *a, spark_err *err);

#endif
