/* guard.c - after ready an engine allocates nothing (law 2): malloc and its kin end it with one line that names the caller.
 * The program is linked with --wrap for each of these, so that every call, the libraries' and libc's own included, comes by here.
 * Not in the embedder's library, whose process this is not, nor in sanitizer builds, which have allocators of their own.
 *
 * free, once armed, does nothing: what it would give back can never be given out again, and so it reaches no system call either.
 * The end is a trap, because abort would need signal calls that the filter refuses, and pid 1 ignores its own SIGABRT. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "jail/jail_internal.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t n);
void *__real_memalign(size_t align, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
void __real_free(void *p);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
_Noreturn void __real___assert_fail(const char *text, const char *file, unsigned line, const char *function);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_memalign(size_t align, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);
void __wrap_free(void *p);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
_Noreturn void __wrap___assert_fail(const char *text, const char *file, unsigned line, const char *function);

/* Set once by the thread that made all others wait for it; a thread that saw the old value a moment longer would still be caught by the filter. */
static atomic_bool guard_armed;

void spark__malloc_guard_arm(void) { atomic_store_explicit(&guard_armed, true, memory_order_relaxed); }

/* ---- One line, without any of libc's ways that allocate ---- */

typedef struct guard_line {
    char text[512];
    size_t n;
} guard_line;

static void guard_put(guard_line *l, const char *text)
{
    for (; *text && l->n < sizeof l->text; text++) l->text[l->n++] = *text;
}

static void guard_put_number(guard_line *l, uint64_t x, unsigned base)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do digits[--at] = "0123456789abcdef"[x % base];
    while ((x /= base) != 0);
    guard_put(l, digits + at);
}

static _Noreturn void guard_end(guard_line *l)
{
    if (l->n == sizeof l->text) l->n--;
    l->text[l->n++] = '\n';
    (void)!write(STDERR_FILENO, l->text, l->n);
    SPARK_TRAP();
}

extern const char
    __executable_start[]; /* the linker's: addresses relative to it are those of the file, for addr2line */

static void guard_check(const char *what, const void *caller)
{
    if (SPARK_LIKELY(!atomic_load_explicit(&guard_armed, memory_order_relaxed))) return;
    guard_line l = {.n = 0};
    guard_put(&l, "spark: ");
    guard_put(&l, what);
    guard_put(&l, " after ready, called from 0x");
    guard_put_number(&l, (uint64_t)((uintptr_t)caller - (uintptr_t)__executable_start), 16);
    guard_put(&l, " of the program; an engine's memory is planned, this is a mistake of ours");
    guard_end(&l);
}

/* ---- What the linker puts in the place of each ---- */

void *__wrap_malloc(size_t n)
{
    guard_check("malloc", SPARK_CALLER());
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    guard_check("calloc", SPARK_CALLER());
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    guard_check("realloc", SPARK_CALLER());
    return __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    guard_check("reallocarray", SPARK_CALLER());
    return __real_reallocarray(p, n, size);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    guard_check("aligned_alloc", SPARK_CALLER());
    return __real_aligned_alloc(align, n);
}

void *__wrap_memalign(size_t align, size_t n)
{
    guard_check("memalign", SPARK_CALLER());
    return __real_memalign(align, n);
}

int __wrap_posix_memalign(void **out, size_t align, size_t n)
{
    guard_check("posix_memalign", SPARK_CALLER());
    return __real_posix_memalign(out, align, n);
}

void __wrap_free(void *p)
{
    if (SPARK_LIKELY(!atomic_load_explicit(&guard_armed, memory_order_relaxed))) __real_free(p);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    guard_check("mmap", SPARK_CALLER());
    return __real_mmap(at, n, prot, flags, fd, offset);
}

void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    guard_check("mmap", SPARK_CALLER());
    return __real_mmap64(at, n, prot, flags, fd, offset);
}

/* libc's own would allocate its message, and the line would speak of malloc. */
_Noreturn void __wrap___assert_fail(const char *text, const char *file, unsigned line, const char *function)
{
    if (!atomic_load_explicit(&guard_armed, memory_order_relaxed)) __real___assert_fail(text, file, line, function);
    guard_line l = {.n = 0};
    guard_put(&l, "spark: ");
    guard_put(&l, file);
    guard_put(&l, ":");
    guard_put_number(&l, line, 10);
    guard_put(&l, ": ");
    guard_put(&l, function);
    guard_put(&l, ": does not hold: ");
    guard_put(&l, text);
    guard_end(&l);
}
