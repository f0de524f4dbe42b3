/* cpu_arm.c - what this ARM CPU can, as the system tells, and which kernels that means. NEON is part of every aarch64. */
#include <sys/auxv.h>

#include "kern/arm/arm.h"
#include "kern/kern_internal.h"

/* Bits of the auxiliary vector (Linux, arch/arm64/include/uapi/asm/hwcap.h). */
#define CPU_HWCAP_ASIMDDP (1ul << 20)
#define CPU_HWCAP2_I8MM   (1ul << 13)

int spark__cpu_has(spark_isa isa)
{
    const int dotprod = (getauxval(AT_HWCAP) & CPU_HWCAP_ASIMDDP) != 0;
    if (isa == SPARK_ISA_NEON) return 1;
    if (isa == SPARK_ISA_DOTPROD) return dotprod;
    return isa == SPARK_ISA_I8MM && dotprod && (getauxval(AT_HWCAP2) & CPU_HWCAP2_I8MM) != 0;
}

void spark__matmul_init_arm(spark_kern *k, spark_isa isa)
{
    if (isa < SPARK_ISA_NEON) return;
    spark__quantize_init_neon(k);
    spark__matmul_init_neon(k);
    if (isa < SPARK_ISA_DOTPROD) return;
    spark__matmul_init_dotprod(k);
    if (isa < SPARK_ISA_I8MM) return;
    spark__matmul_init_i8mm(k);
}

void spark__ops_init_arm(spark_kern *k, spark_isa isa)
{
    if (isa < SPARK_ISA_NEON) return;
    spark__ops_init_neon(k);
    spark__attn_init_neon(k);
    if (isa < SPARK_ISA_DOTPROD) return;
    spark__attn_init_dotprod(k);
}
