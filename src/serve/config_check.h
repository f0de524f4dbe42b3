/* config_check.h - what settings must be to mean something together. For config.c. */
#ifndef SPARK_SERVE_CONFIG_CHECK_H
#define SPARK_SERVE_CONFIG_CHECK_H

#include "serve/config.h"
#include "serve/config_value.h"

/* Whether each item of a list is what its setting takes; else `why`. */
SPARK_MUST_CHECK bool spark__list_check(const spark_setting *s, const char *const *items, uint32_t n,
                                        char why[SPARK_VALUE_WHY]);
/* Reads the addresses, and refuses combinations that are unsafe (E_REFUSED) or senseless (E_ARGUMENT). */
SPARK_MUST_CHECK spark_status spark__config_check(spark_config *c, spark_err *err);

#endif
