/* pages.h - big zeroed memory straight from the system, for weights, KV pages and scratch.
 * Asks for huge pages where the system grants them; has an inaccessible guard page on both sides. */
#ifndef SPARK_BASE_PAGES_H
#define SPARK_BASE_PAGES_H

#include <stddef.h>

#include "base/status.h"

typedef struct spark_pages {
    void *ptr; /* aligned to a page of the system; to 2 MiB if len is at least that */
    size_t len;
    void *map; /* what munmap needs */
    size_t map_len;
} spark_pages;

/* Zeroed, not yet resident. `what` names it in the error. */
SPARK_MUST_CHECK spark_status spark_pages_alloc(spark_pages *out, size_t len, const char *what, spark_err *err);
/* Makes bytes [from, from + n) resident, as far as there are so many, by writing what is there: nobody else may write
 * meanwhile. Where it is not called, the first use of each page waits for the system to clear it: milliseconds for a huge one
 * that the machine's host has to find first. */
void spark_pages_touch(const spark_pages *p, size_t from, size_t n);
void spark_pages_free(spark_pages *p); /* sets *p to zero; freeing a zeroed one is fine */

#endif
