/* poll.c - poll(2) for loops that must not spin. */
#include "serve/poll.h"

#include <errno.h>
#include <string.h>

enum { POLL_NAP_MS = 20 };

spark_status spark_poll(struct pollfd *p, size_t n, int ms, int *ready, spark_err *err)
{
    const int got = poll(p, n, ms), error = errno;
    *ready = got;
    if (got >= 0) return SPARK_SUCCESS;
    for (size_t i = 0; i < n; i++) p[i].revents = 0;
    if (error == EINTR) return SPARK_SUCCESS;
    SPARK_CHECK(error == EAGAIN || error == ENOMEM, err, SPARK_E_IO, SPARK_ERR_NOWHERE,
                "cannot wait for %zu descriptors: %s", n, strerror(error));
    (void)poll(NULL, 0, POLL_NAP_MS); /* of no descriptor: takes no memory, and every cell may do it */
    return SPARK_SUCCESS;
}
