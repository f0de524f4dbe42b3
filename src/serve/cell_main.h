/* cell_main.h - the program started as a cell: main() hands over here when spark_jail_is_cell says so. */
#ifndef SPARK_SERVE_CELL_MAIN_H
#define SPARK_SERVE_CELL_MAIN_H

#include "jail/jail.h"

/* Closes the doors that need no threads, then runs the cell of that role; returns the exit code. */
int spark_cell_main(const spark_jail_spec *spec);

#endif
