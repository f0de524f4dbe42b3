/* ops_avx2.c - the elementwise kernels and norms of body/ops_body.h at this level. */
#include "kern/x86/vec_avx2.h"

#include "kern/body/ops_body.h"
