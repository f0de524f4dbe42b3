/* cell_card.h - a model as its engine describes it to the front, as JSON behind the fixed numbers of READY. */
#ifndef SPARK_SERVE_CELL_CARD_H
#define SPARK_SERVE_CELL_CARD_H

#include "api/api_internal.h"
#include "engine/engine.h"

/* JSON text from jansson's memory, which the caller has chosen; NULL if there is none left. */
char *cell_card_text(const spark_model *m, const spark_engine_options *o);

#endif
