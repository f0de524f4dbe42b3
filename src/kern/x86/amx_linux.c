/* amx_linux.c - asks Linux for the tile registers. */
#include <sys/syscall.h>
#include <unistd.h>

#include "kern/kern_internal.h"

/* Tiles are 8 KiB of state a thread, which signal frames hold too, so Linux (5.16 and later) gives them only to a process that
 * asks (Documentation/arch/x86/xstate.rst). It refuses where a thread has a signal stack too small for them. */
int spark__amx_granted(void)
{
    enum { REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, TILE_DATA) == 0;
}
