/* cpu.c - levels: their names, which of them this build has, and which one to take. What the CPU can is asked in
 * <arch>/cpu_<arch>.c. */
#include <stdlib.h>
#include <strings.h>

#include "kern/kern_internal.h"

static const char *const cpu_names[SPARK_N_ISAS] = {
    [SPARK_ISA_SCALAR] = "scalar", [SPARK_ISA_AVX2] = "avx2", [SPARK_ISA_AVX512] = "avx512",
    [SPARK_ISA_AMX] = "amx",       [SPARK_ISA_NEON] = "neon", [SPARK_ISA_DOTPROD] = "dotprod",
    [SPARK_ISA_I8MM] = "i8mm",
};

const char *spark_isa_name(spark_isa isa) { return (unsigned)isa < SPARK_N_ISAS ? cpu_names[isa] : "unknown"; }

int spark_isa_by_name(const char *name)
{
    for (int i = 0; i < SPARK_N_ISAS; i++)
        if (strcasecmp(cpu_names[i], name) == 0) return i;
    return -1;
}

int spark_isa_has(spark_isa isa)
{
    if (isa == SPARK_ISA_SCALAR) return 1;
    return (unsigned)isa < SPARK_N_ISAS && spark__cpu_has(isa);
}

/* The enumeration climbs within each architecture, and a CPU has levels of only one. A name that is none asks for the
 * level that surely runs; the commands refuse it before (spark_isa_by_name). */
spark_isa spark_isa_best(void)
{
    const char *wish = getenv("SPARK_CPU");
    int top = SPARK_N_ISAS - 1;
    if (wish && *wish) top = spark_isa_by_name(wish);
    for (int i = top; i > SPARK_ISA_SCALAR; i--)
        if (spark_isa_has((spark_isa)i)) return (spark_isa)i;
    return SPARK_ISA_SCALAR;
}
