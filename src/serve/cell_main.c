/* cell_main.c - see cell_main.h. */
#include "serve/cell_main.h"

#include <signal.h>
#include <stdio.h>

#include "serve/engine_cell.h"
#include "serve/front.h"

int spark_cell_main(const spark_jail_spec *spec)
{
    spark_jail_report report;
    spark_err err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (!spark_ok(spark_jail_enter(spec, &report, &err))) {
        fprintf(stderr, "spark: %s: %s\n", spec->name, err.text);
        return 3;
    }
    return spec->role == SPARK_JAIL_ENGINE ? spark_engine_cell(spec) : spark_front_cell(spec);
}
