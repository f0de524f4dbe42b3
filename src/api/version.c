/* version.c - what this build is. */
#include "kern/kern.h"
#include "spark/spark.h"

#if defined(__clang__)
#define VERSION_COMPILER "clang " __clang_version__
#else
#define VERSION_COMPILER "gcc " __VERSION__
#endif
#if defined(__x86_64__)
#define VERSION_ARCH "x86-64"
#elif defined(__aarch64__)
#define VERSION_ARCH "aarch64"
#else
#define VERSION_ARCH "generic"
#endif

const char *spark_version(void) { return SPARK_VERSION; }

const char *spark_build_info(void) { return VERSION_ARCH ", " VERSION_COMPILER; }
