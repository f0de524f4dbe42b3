/* poll.h - poll(2), whose failures are told apart: those that pass, and those that would be met again at once, for ever.
 * Not here: what is done with what is ready. Threads: any. */
#ifndef SPARK_SERVE_POLL_H
#define SPARK_SERVE_POLL_H

#include <poll.h>
#include <stddef.h>

#include "base/status.h"

/* Sleeps until one of p[n] has something, or `ms` have passed (-1: for ever). *ready: how many have, 0 if none in time; -1: nothing is
 * known, for a signal came between, or the system was short of memory (then after a nap): ask again. With -1 and on error no
 * descriptor has anything. Errors: E_IO, of what asking again would not mend (more descriptors than the limit of this process). */
SPARK_MUST_CHECK spark_status spark_poll(struct pollfd *p, size_t n, int ms, int *ready, spark_err *err);

#endif
