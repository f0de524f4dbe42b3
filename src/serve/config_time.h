/* config_time.h - points in time as text: RFC 3339 in UTC, for key files and logs. Nothing of libc's time zones is touched. */
#ifndef SPARK_SERVE_CONFIG_TIME_H
#define SPARK_SERVE_CONFIG_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spark/status.h"

#define SPARK_TIME_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z, in seconds since 1970 */

/* "2026-11-21T18:48:14Z", or with milliseconds ("...14.250Z") if ms is 0 to 999. s is clamped to 0..SPARK_TIME_MAX. */
void spark_time_write(int64_t s, int ms, char out[32]);
/* The same without milliseconds, or a day alone (its beginning). false: it is none. */
SPARK_MUST_CHECK bool spark_time_read(const char *text, int64_t *s);

#endif
