/* config_value.h - one value of a setting: from text, checked against its row of the table, and back. For config*.c. */
#ifndef SPARK_SERVE_CONFIG_VALUE_H
#define SPARK_SERVE_CONFIG_VALUE_H

#include "serve/config.h"

enum { SPARK_VALUE_WHY = 224 };

/* Reads a scalar into *value (of the row's type). false: `why` says what is wrong with it. TEXT borrows `text`. */
SPARK_MUST_CHECK bool spark__value_read(const spark_setting *s, const char *text, void *value,
                                        char why[SPARK_VALUE_WHY]);
/* Writes a scalar's text into out[64] (not TEXT, LIST). */
void spark__value_write(const spark_setting *s, const void *value, char out[64]);

#endif
