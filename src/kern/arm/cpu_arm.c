/* cpu_arm.c - what this ARM CPU can. No kernels for it are built yet, so no level is offered: a level without kernels would
 * be tested as passed although nothing ran. */
#include "kern/kern_internal.h"

int spark__cpu_has(spark_isa isa)
{
    (void)isa;
    return 0;
}
