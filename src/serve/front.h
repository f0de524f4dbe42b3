/* front.h - the process that meets clients: HTTP, keys, JSON on one side, engines by the wire on the other. It opens nothing: sockets,
 * secrets and links come from the warden. */
#ifndef SPARK_SERVE_FRONT_H
#define SPARK_SERVE_FRONT_H

#include "jail/jail.h"

/* Runs the cell to its end; returns the exit code of the process. Descriptor 3 is the warden's control link. */
int spark_front_cell(const spark_jail_spec *spec);

#endif
