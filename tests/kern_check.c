/* kern_check.c - walks the table of kernels at every CPU level of this machine; see kern_check.h.
 *     kern_check [--bench] [--cpu LEVEL] [--filter TEXT] [--seed N]
 * Ends with 1 if a kernel differs from the reference or a wrong-on-purpose kernel passes. */
#include "kern_check.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "../bench/limits.h"
#include "base/fpenv.h"

/* ---- Random numbers -------------------------------------------------------------------------------------------- */

uint32_t kern_check_random(kern_check *kc)
{
    kc->state = kc->state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
    const uint32_t x = (uint32_t)(kc->state >> 32);
    return x ^ x >> 15;
}

uint32_t kern_check_below(kern_check *kc, uint32_t n) { return (uint32_t)((uint64_t)kern_check_random(kc) * n >> 32); }

float kern_check_unit(kern_check *kc)
{
    return (float)(int32_t)(kern_check_random(kc) & ~255u) * 0x1p-31f; /* 24 bits: exact */
}

static float check_float(kern_check *kc, unsigned kind)
{
    const float u = kern_check_unit(kc);
    if (kind == 0 || kind > 5) return u;
    if (kind == 1) return kern_check_below(kc, 64) == 0 ? u * 40.0f : u * u * u;
    if (kind == 2) return u * (kern_check_below(kc, 2) ? 1e-38f : 1e-31f);
    if (kind == 3) return u * 1e30f;
    return kern_check_below(kc, 8) ? (u < 0 ? -0.0f : 0.0f) : 1.0f;
}

void kern_check_floats(kern_check *kc, float *x, size_t n, unsigned kind)
{
    const float same = kern_check_unit(kc);
    for (size_t i = 0; i < n; i++) x[i] = kind == 4 ? same : check_float(kc, kind);
}

/* ---- Guarded buffers ------------------------------------------------------------------------------------------- */

#define CHECK_PAGE  ((size_t)4096)
#define CHECK_FRONT ((size_t)64)

typedef struct kern_buf_page {
    struct kern_buf_page *next;
    uint8_t *map;
    size_t len;
} kern_buf_page;

static void check_die(const char *what)
{
    fprintf(stderr, "kern_check: %s\n", what);
    exit(2);
}

/* `room` usable bytes that end where an inaccessible page begins. */
static uint8_t *check_map(kern_check *kc, size_t room)
{
    const size_t len = (room + CHECK_PAGE - 1) / CHECK_PAGE * CHECK_PAGE + CHECK_PAGE;
    kern_buf_page *p = malloc(sizeof *p);
    uint8_t *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!p || map == MAP_FAILED || mprotect(map + len - CHECK_PAGE, CHECK_PAGE, PROT_NONE) != 0)
        check_die("out of memory");
    *p = (kern_buf_page){kc->pages, map, len};
    kc->pages = p;
    return map + len - CHECK_PAGE - room;
}

void kern_check_drop(kern_check *kc)
{
    while (kc->pages) {
        kern_buf_page *p = kc->pages;
        kc->pages = p->next;
        munmap(p->map, p->len);
        free(p);
    }
}

kern_buf kern_check_buf(kern_check *kc, size_t len, size_t align)
{
    const size_t back = (align - len % align) % align, front = align > CHECK_FRONT ? align : CHECK_FRONT;
    const size_t room = front + len + back;
    uint8_t *want = check_map(kc, room), *got = check_map(kc, room);
    for (size_t i = 0; i < room; i++) want[i] = (uint8_t)kern_check_random(kc);
    memcpy(got, want, room);
    return (kern_buf){want + front, got + front, len, back};
}

bool kern_check_same(kern_check *kc, const kern_buf *b, const char *fmt, ...)
{
    const size_t room = CHECK_FRONT + b->len + b->back;
    const uint8_t *want = b->want - CHECK_FRONT, *got = b->got - CHECK_FRONT;
    if (memcmp(want, got, room) == 0) return true;
    size_t at = 0;
    while (want[at] == got[at]) at++;
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const bool inside = at >= CHECK_FRONT && at < CHECK_FRONT + b->len;
    kern_check_fail(kc, "%s: byte %td of %zu%s: %02x, not %02x", text, (ptrdiff_t)(at - CHECK_FRONT), b->len,
                    inside ? "" : " (padding)", got[at], want[at]);
    return false;
}

/* ---- Cases ----------------------------------------------------------------------------------------------------- */

static sigjmp_buf check_jump;
static volatile sig_atomic_t check_armed;

static void check_on_signal(int sig)
{
    if (check_armed) siglongjmp(check_jump, sig);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void check_catch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    const struct sigaction action = {.sa_handler = check_on_signal, .sa_flags = SA_NODEFER};
    for (size_t i = 0; i < SPARK_COUNT(signals); i++) sigaction(signals[i], &action, NULL);
}

void kern_check_fail(kern_check *kc, const char *fmt, ...)
{
    kc->case_failures++;
    if (kc->quiet && check_armed) siglongjmp(check_jump, 1); /* caught: the rest of the case is not needed */
    if (kc->case_failures > 3 || kc->quiet) return;          /* the first ones tell enough */
    printf("%-8s %-24s FAILED: ", spark_isa_name(kc->now->isa), kc->case_name);
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

static uint64_t check_hash(const char *s)
{
    uint64_t h = 14695981039346656037u;
    while (*s) h = (h ^ (uint8_t)*s++) * 1099511628211u; /* FNV-1a */
    return h;
}

bool kern_check_case(kern_check *kc, const char *name, void (*test)(kern_check *, const void *), const void *arg)
{
    if (kc->filter && !strstr(name, kc->filter)) return true;
    kc->case_name = name;
    kc->case_failures = 0;
    kc->state = kc->seed ^ check_hash(name);
    const int sig = sigsetjmp(check_jump, 1);
    if (sig == 0) {
        check_armed = 1;
        test(kc, arg);
    } else {
        check_armed = 0;
        kern_check_fail(kc, "crash: %s", strsignal(sig));
    }
    check_armed = 0;
    kern_check_drop(kc);
    const bool passed = kc->case_failures == 0;
    *(passed ? &kc->n_passed : &kc->n_failed) += 1;
    return passed;
}

/* ---- Timing ---------------------------------------------------------------------------------------------------- */

#define CHECK_RUNS   7u
#define CHECK_RUN_NS 20000000u /* a run repeats the work for about this long */

static int check_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double kern_check_time(kern_check *kc, const char *name, double work, const char *unit, void (*run)(void *), void *arg)
{
    uint64_t n = 0, start = spark_limits_ns();
    do {
        run(arg);
        n++;
    } while (spark_limits_ns() - start < CHECK_RUN_NS / 2);
    n *= 2;
    double rate[CHECK_RUNS];
    for (unsigned r = 0; r < CHECK_RUNS; r++) {
        start = spark_limits_ns();
        for (uint64_t i = 0; i < n; i++) run(arg);
        rate[r] = work * (double)n / (double)(spark_limits_ns() - start);
    }
    qsort(rate, CHECK_RUNS, sizeof *rate, check_order);
    const double median = rate[CHECK_RUNS / 2];
    printf("%-8s %-28s %9.1f %s  (%.1f-%.1f)\n", spark_isa_name(kc->now->isa), name, median, unit, rate[0],
           rate[CHECK_RUNS - 1]);
    fflush(stdout);
    return median;
}

/* ---- The walk -------------------------------------------------------------------------------------------------- */

/* The levels of this architecture above scalar, lowest first. */
#if defined(__x86_64__)
static const spark_isa check_levels[] = {SPARK_ISA_AVX2, SPARK_ISA_AVX512, SPARK_ISA_AMX};
#elif defined(__aarch64__)
static const spark_isa check_levels[] = {SPARK_ISA_NEON, SPARK_ISA_DOTPROD, SPARK_ISA_I8MM};
#else
static const spark_isa check_levels[] = {SPARK_ISA_SCALAR};
#endif

static void check_slots(kern_check *kc)
{
    kern_check_matmul(kc);
    kern_check_ops(kc);
}

/* Every level against the best one below it that passed; the reference against itself would prove nothing, but it is timed. */
static void check_walk(kern_check *kc, int only)
{
    static spark_kern tables[SPARK_N_ISAS];
    const spark_kern *right = &tables[SPARK_ISA_SCALAR];
    spark_kern_init(&tables[SPARK_ISA_SCALAR], SPARK_ISA_SCALAR);
    if (only < 0 || only == SPARK_ISA_SCALAR) {
        kc->base = kc->now = right;
        check_slots(kc);
    }
    for (size_t i = 0; i < SPARK_COUNT(check_levels); i++) {
        const spark_isa isa = check_levels[i];
        if (only >= 0 && only != (int)isa) continue;
        if (!spark_isa_has(isa)) {
            printf("%-8s not run: this CPU or build does not have it\n", spark_isa_name(isa));
            continue;
        }
        const unsigned failed = kc->n_failed, passed = kc->n_passed;
        spark_kern_init(&tables[isa], isa);
        kc->base = right;
        kc->now = &tables[isa];
        check_slots(kc);
        printf("%-8s %u cases equal to %s, %u failed\n", spark_isa_name(isa), kc->n_passed - passed,
               spark_isa_name(right->isa), kc->n_failed - failed);
        if (kc->n_failed == failed) right = kc->now;
    }
}

static int check_usage(void)
{
    fprintf(
        stderr,
        "usage: kern_check [--bench] [--cpu scalar|avx2|avx512|amx|neon|dotprod|i8mm] [--filter TEXT] [--seed N]\n");
    return 2;
}

int main(int argc, char **argv)
{
    kern_check kc = {.seed = 1};
    int only = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            kc.bench = true;
        else if (i + 1 < argc && strcmp(argv[i], "--filter") == 0)
            kc.filter = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
            kc.seed = strtoull(argv[++i], NULL, 0);
        else if (i + 1 < argc && strcmp(argv[i], "--cpu") == 0 && (only = spark_isa_by_name(argv[++i])) >= 0)
            continue;
        else
            return check_usage();
    }
    const spark_fpenv env = spark_fpenv_enter();
    check_catch_signals();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %llu\n", (unsigned long long)kc.seed);
    const unsigned missed = kern_check_matmul_self(&kc) + kern_check_wrong(&kc);
    if (kc.bench) spark_limits_print(stdout);
    check_walk(&kc, only);
    spark_fpenv_leave(env);
    printf("%u cases passed, %u failed; %u wrong kernels not caught\n", kc.n_passed, kc.n_failed, missed);
    return kc.n_failed != 0 || missed != 0;
}
