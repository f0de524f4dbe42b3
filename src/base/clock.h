/* clock.h - time for measuring and deadlines; never for results. */
#ifndef SPARK_BASE_CLOCK_H
#define SPARK_BASE_CLOCK_H

#include <stdint.h>

uint64_t spark_clock_ns(void); /* monotonic, from an arbitrary start */

#endif
