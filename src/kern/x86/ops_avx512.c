/* ops_avx512.c - the elementwise kernels and norms of body/ops_body.h at this level. */
#include "kern/x86/vec_avx512.h"

#include "kern/body/ops_body.h"
