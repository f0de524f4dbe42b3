/* clock.c - CLOCK_MONOTONIC, which the vDSO answers without a system call. */
#include "base/clock.h"

#include <time.h>

uint64_t spark_clock_ns(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
