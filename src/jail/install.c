/* install.c - puts a filter on every thread of the process, for good. */
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail_internal.h"

int spark__jail_install(spark_jail_role role, spark_jail_phase phase)
{
    struct sock_filter code[JAIL_MAX_FILTER];
    const struct sock_fprog program = {(unsigned short)spark__jail_filter(JAIL_ARCH_HERE, role, phase, code), code};
    const long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    return r == 0 ? 0 : r > 0 ? ESRCH /* a thread that could not follow */ : errno;
}
