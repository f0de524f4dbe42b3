#include "jail/jail_internal.h"
#include <unistd.h>
_Noreturn void spark__jail_trial_main(const spark_jail_spec *spec)
{
    (void)spec;
    _exit(0);
}
