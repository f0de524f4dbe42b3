/* engine_cell.h - the process that holds one model: opens its door, reads the model, and answers asks until told to stop.
 * Order:   (jail entered) configuration, threads, first filter, model, memory for everything, second filter, READY, asks.
 * Promise: what a model file or a request holds can only reach this process; the request that is wrong fails, others go on;
 *          after READY nothing is allocated. */
#ifndef SPARK_SERVE_ENGINE_CELL_H
#define SPARK_SERVE_ENGINE_CELL_H

#include "jail/jail.h"

/* Runs the cell to its end; returns the exit code of the process. Descriptors as in cell_config.h. */
int spark_engine_cell(const spark_jail_spec *spec);

#endif
