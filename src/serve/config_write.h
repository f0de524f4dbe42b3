/* config_write.h - the settings in force, written as a configuration file that gives the same settings again. */
#ifndef SPARK_SERVE_CONFIG_WRITE_H
#define SPARK_SERVE_CONFIG_WRITE_H

#include "serve/config.h"

/* *out is malloc'd text. */
SPARK_MUST_CHECK spark_status spark_config_write(const spark_config *c, char **out, spark_err *err);
/* E_LIMIT, with the longest setting and where it stands, if they do not fit the one message in which the warden tells them to the front. */
SPARK_MUST_CHECK spark_status spark_config_fits(const spark_config *c, spark_err *err);

#endif
