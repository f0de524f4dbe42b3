/* pages.c - mmap with guard pages and transparent huge pages. */
#include "base/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

enum { PAGES_HUGE = 2 << 20 };

spark_status spark_pages_alloc(spark_pages *out, size_t len, const char *what, spark_err *err)
{
    const size_t small = (size_t)sysconf(_SC_PAGESIZE); /* 4, 16 or 64 KiB: libc knows it without a call */
    const size_t align = len >= PAGES_HUGE ? PAGES_HUGE : small;
    size_t map_len = 0;
    SPARK_CHECK(len <= SIZE_MAX / 2 && spark_add_size(spark_round_up(len + !len, small), align + 2 * small, &map_len),
                err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "%zu bytes for %s are too many", len, what);
    uint8_t *map = mmap(NULL, map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SPARK_CHECK(map != MAP_FAILED, err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %s (%zu bytes)", what, len);
    const uintptr_t first = (uintptr_t)map + small;
    uint8_t *ptr = map + small + (size_t)(-first & (align - 1));
    const size_t usable = spark_round_up(len + !len, small);
    if (mprotect(ptr, usable, PROT_READ | PROT_WRITE) != 0) {
        munmap(map, map_len);
        return spark_fail(err, SPARK_E_MEMORY, SPARK_ERR_NOWHERE, "no memory for %s (%zu bytes)", what, len);
    }
    if (align == PAGES_HUGE) (void)madvise(ptr, usable, MADV_HUGEPAGE); /* a wish: small pages work too */
    *out = (spark_pages){ptr, len, map, map_len};
    return SPARK_SUCCESS;
}

void spark_pages_touch(const spark_pages *p, size_t from, size_t n)
{
    const size_t small = (size_t)sysconf(_SC_PAGESIZE), end = from < p->len && n < p->len - from ? from + n : p->len;
    volatile uint8_t *b = p->ptr;
    for (; from < end; from += small) {
        const uint8_t is = b[from];
        b[from] = is;
    }
}

void spark_pages_free(spark_pages *p)
{
    if (p->map) munmap(p->map, p->map_len);
    *p = (spark_pages){0};
}
