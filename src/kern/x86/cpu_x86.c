/* cpu_x86.c - what this x86 CPU can, and whether the system saves the registers for it. */
#include <cpuid.h>
#include <stdint.h>

#include "kern/kern_internal.h"

/* The register sets that the system saves (XCR0); only where CPUID says that it may be asked. */
static uint64_t cpu_saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

#define CPU_YMM_STATE 0x06u    /* XMM, YMM */
#define CPU_ZMM_STATE 0xe6u    /* + masks, upper halves, upper registers */
#define CPU_AMX_STATE 0x600e6u /* + tile shapes, tiles */

static int cpu_all(uint32_t flags, uint32_t wanted) { return (flags & wanted) == wanted; }

static int cpu_has_avx2(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !cpu_all(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) return 0;
    if ((cpu_saved_state() & CPU_YMM_STATE) != CPU_YMM_STATE) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && cpu_all(b, bit_AVX2);
}

static int cpu_has_avx512(void)
{
    uint32_t a, b, c, d;
    if (!cpu_has_avx2() || (cpu_saved_state() & CPU_ZMM_STATE) != CPU_ZMM_STATE) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           cpu_all(b, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ) && cpu_all(c, bit_AVX512VNNI);
}

#define CPU_AMX_TILE (1u << 24) /* leaf 7, EDX */
#define CPU_AMX_INT8 (1u << 25)

static int cpu_has_amx(void)
{
    uint32_t a, b, c, d;
    if (!cpu_has_avx512() || (cpu_saved_state() & CPU_AMX_STATE) != CPU_AMX_STATE) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !cpu_all(d, CPU_AMX_TILE | CPU_AMX_INT8)) return 0;
    return spark__amx_granted();
}

int spark__cpu_has(spark_isa isa)
{
    if (isa == SPARK_ISA_AVX2) return cpu_has_avx2();
    if (isa == SPARK_ISA_AVX512) return cpu_has_avx512();
    return isa == SPARK_ISA_AMX && cpu_has_amx();
}
