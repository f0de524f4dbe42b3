/* limits.c - probes of arithmetic and memory; see limits.h. */
#include "limits.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/pages.h"
#include "base/pool.h"
#include "kern/kern.h"

static const char *const limits_names[SPARK_N_LIMITS] = {
    [SPARK_LIMIT_FMA_256] = "f32 fma, 256 bits",
    [SPARK_LIMIT_FMA_512] = "f32 fma, 512 bits",
    [SPARK_LIMIT_MADD_EACH] = "int8 maddubs + maddwd + add",
    [SPARK_LIMIT_MADD_16] = "int8 8 maddubs in int16, 1 maddwd",
    [SPARK_LIMIT_DPBUSD_256] = "int8 vpdpbusd, 256 bits",
    [SPARK_LIMIT_DPBUSD_512] = "int8 vpdpbusd, 512 bits",
    [SPARK_LIMIT_TILES] = "int8 tdpbssd, tiles of 16 x 64",
};

uint64_t spark_limits_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const char *spark_limit_name(spark_limit which) { return limits_names[which]; }

#if defined(__x86_64__)

#define LIMITS_REGISTERS                                                                                               \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15", "cc"
/* `body` n times, all registers zero at first (the time does not depend on the values). */
#define LIMITS_LOOP(n, body)                                                                                           \
    do {                                                                                                               \
        uint64_t left = (n);                                                                                           \
        __asm__ volatile("vzeroall\n1:\n\t" body "dec %0\n\tjnz 1b\n\tvzeroupper" : "+r"(left) : : LIMITS_REGISTERS);  \
    } while (0)

/* op on accumulators 0..11 from two more registers. */
#define LIMITS_ONE(op, r, i) #op " %%" #r "13, %%" #r "12, %%" #r #i "\n\t"
/* Lists of instructions move a little more at each formatting. */
/* clang-format off */
#define LIMITS_TWELVE(op, r)                                                                                           \
    LIMITS_ONE(op, r, 0) LIMITS_ONE(op, r, 1) LIMITS_ONE(op, r, 2) LIMITS_ONE(op, r, 3) LIMITS_ONE(op, r, 4)           \
    LIMITS_ONE(op, r, 5) LIMITS_ONE(op, r, 6) LIMITS_ONE(op, r, 7) LIMITS_ONE(op, r, 8) LIMITS_ONE(op, r, 9)           \
    LIMITS_ONE(op, r, 10) LIMITS_ONE(op, r, 11)
/* clang-format on */

/* Register t takes the products, register s the sum. */
#define LIMITS_PRODUCT(t)  "vpmaddubsw %%ymm13, %%ymm12, %%ymm" #t "\n\t"
#define LIMITS_ADD16(t, s) "vpaddw %%ymm" #t ", %%ymm" #s ", %%ymm" #s "\n\t"
#define LIMITS_WIDEN(t)    "vpmaddwd %%ymm14, %%ymm" #t ", %%ymm" #t "\n\t"
#define LIMITS_ADD32(t, s) "vpaddd %%ymm" #t ", %%ymm" #s ", %%ymm" #s "\n\t"
#define LIMITS_EACH(t, s)  LIMITS_PRODUCT(t) LIMITS_WIDEN(t) LIMITS_ADD32(t, s)
#define LIMITS_SUM16(t, s) LIMITS_PRODUCT(t) LIMITS_ADD16(t, s)
/* Four blocks of eight side by side: sums 0..3, products 4..7, totals 8..11. */
#define LIMITS_FOUR LIMITS_SUM16(4, 0) LIMITS_SUM16(5, 1) LIMITS_SUM16(6, 2) LIMITS_SUM16(7, 3)
/* clang-format off */
#define LIMITS_EIGHT                                                                                                   \
    LIMITS_PRODUCT(0) LIMITS_PRODUCT(1) LIMITS_PRODUCT(2) LIMITS_PRODUCT(3)                                            \
    LIMITS_FOUR LIMITS_FOUR LIMITS_FOUR LIMITS_FOUR LIMITS_FOUR LIMITS_FOUR LIMITS_FOUR                                \
    LIMITS_WIDEN(0) LIMITS_WIDEN(1) LIMITS_WIDEN(2) LIMITS_WIDEN(3)                                                    \
    LIMITS_ADD32(0, 8) LIMITS_ADD32(1, 9) LIMITS_ADD32(2, 10) LIMITS_ADD32(3, 11)
/* clang-format on */

static void limits_fma_256(uint64_t n) { LIMITS_LOOP(n, LIMITS_TWELVE(vfmadd231ps, ymm)); }
static void limits_fma_512(uint64_t n) { LIMITS_LOOP(n, LIMITS_TWELVE(vfmadd231ps, zmm)); }
static void limits_dpbusd_256(uint64_t n) { LIMITS_LOOP(n, LIMITS_TWELVE(vpdpbusd, ymm)); }
static void limits_dpbusd_512(uint64_t n) { LIMITS_LOOP(n, LIMITS_TWELVE(vpdpbusd, zmm)); }
static void limits_madd_each(uint64_t n)
{
    LIMITS_LOOP(n, LIMITS_EACH(0, 6) LIMITS_EACH(1, 7) LIMITS_EACH(2, 8) LIMITS_EACH(3, 9) LIMITS_EACH(4, 10)
                       LIMITS_EACH(5, 11));
}
static void limits_madd_16(uint64_t n) { LIMITS_LOOP(n, LIMITS_EIGHT); }

/* Four tiles of results, whatever stands in the tiles. */
static void limits_tiles(uint64_t n)
{
    static const struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes = {1, 0, {0}, {64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %1\n"
                     "1:\n\t"
                     "tdpbssd %%tmm5, %%tmm4, %%tmm0\n\t"
                     "tdpbssd %%tmm5, %%tmm4, %%tmm1\n\t"
                     "tdpbssd %%tmm5, %%tmm4, %%tmm2\n\t"
                     "tdpbssd %%tmm5, %%tmm4, %%tmm3\n\t"
                     "dec %0\n\tjnz 1b\n\ttilerelease"
                     : "+r"(n)
                     : "m"(shapes)
                     : "cc");
}

typedef struct limits_probe {
    void (*run)(uint64_t n);
    unsigned macs; /* of one turn of the loop */
    spark_isa needs;
} limits_probe;

static const limits_probe limits_probes[SPARK_N_LIMITS] = {
    [SPARK_LIMIT_FMA_256] = {limits_fma_256, 12 * 8, SPARK_ISA_AVX2},
    [SPARK_LIMIT_FMA_512] = {limits_fma_512, 12 * 16, SPARK_ISA_AVX512},
    [SPARK_LIMIT_MADD_EACH] = {limits_madd_each, 6 * 32, SPARK_ISA_AVX2},
    [SPARK_LIMIT_MADD_16] = {limits_madd_16, 32 * 32, SPARK_ISA_AVX2},
    [SPARK_LIMIT_DPBUSD_256] = {limits_dpbusd_256, 12 * 32, SPARK_ISA_AVX512},
    [SPARK_LIMIT_DPBUSD_512] = {limits_dpbusd_512, 12 * 64, SPARK_ISA_AVX512},
    [SPARK_LIMIT_TILES] = {limits_tiles, 4 * 16 * 16 * 64, SPARK_ISA_AMX},
};

static double limits_run(const limits_probe *p, uint64_t n)
{
    const uint64_t start = spark_limits_ns();
    p->run(n);
    return (double)n * p->macs / (double)(spark_limits_ns() - start);
}

static int limits_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double spark_limit_gmacs(spark_limit which)
{
    const limits_probe *p = &limits_probes[which];
    double rate[9];
    if (!spark_isa_has(p->needs)) return 0;
    const uint64_t turns = p->macs > 4096 ? 50000 : 1000000; /* about a millisecond; a turn of tiles is long */
    limits_run(p, turns);                                    /* the clock settles */
    for (size_t i = 0; i < SPARK_COUNT(rate); i++) rate[i] = limits_run(p, turns);
    qsort(rate, SPARK_COUNT(rate), sizeof *rate, limits_order);
    return rate[SPARK_COUNT(rate) / 2];
}

#else

double spark_limit_gmacs(spark_limit which)
{
    (void)which; /* no probe for this architecture yet */
    return 0;
}

#endif

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

#define LIMITS_STREAMS 2u /* one stream alone stays below what memory gives */

typedef struct limits_reading {
    const uint8_t *memory;
    size_t bytes;
    uint64_t sum[SPARK_POOL_MAX];
} limits_reading;

/* Reads one word of each line: the lines move whole. */
static void limits_read(void *arg, unsigned thread, unsigned n_threads)
{
    limits_reading *r = arg;
    size_t begin, end;
    spark_share(r->bytes, 4096 * LIMITS_STREAMS, thread, n_threads, &begin, &end);
    const size_t half = (end - begin) / LIMITS_STREAMS;
    const uint8_t *a = r->memory + begin, *b = a + half;
    uint64_t sum = 0, x, y;
    for (size_t i = 0; i < half; i += 64) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        sum += x ^ y;
    }
    r->sum[thread] = sum; /* or the compiler drops the loop */
}

double spark_limit_read(size_t bytes, unsigned n_threads)
{
    static limits_reading r;
    spark_pages pages;
    spark_pool *pool;
    double best = 0;
    if (!spark_ok(spark_pages_alloc(&pages, bytes, "probe", NULL))) return 0;
    if (spark_ok(spark_pool_create(&pool, n_threads, NULL))) {
        memset(pages.ptr, 1, bytes);
        r = (limits_reading){.memory = pages.ptr, .bytes = bytes};
        for (int i = 0; i < 5; i++) {
            const uint64_t start = spark_clock_ns();
            spark_pool_run(pool, limits_read, &r);
            const double rate = (double)bytes / (double)(spark_clock_ns() - start);
            if (rate > best) best = rate;
        }
        spark_pool_destroy(&pool);
    }
    spark_pages_free(&pages);
    return best;
}

void spark_limits_print(FILE *out)
{
    for (int i = 0; i < SPARK_N_LIMITS; i++)
        fprintf(out, "limit    %-36s %7.1f GMAC/s\n", limits_names[i], spark_limit_gmacs((spark_limit)i));
    for (unsigned n = 1; n <= 2; n++)
        fprintf(out, "limit    memory read, %u thread%s              %7.1f GB/s\n", n, n > 1 ? "s" : "",
                spark_limit_read((size_t)1 << 30, n));
}
