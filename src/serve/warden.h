/* warden.h - the process that opens things for the cells, starts and restarts them, and keeps the budget. It parses nothing foreign:
 * of an engine it reads fixed numbers, of the front fixed heads.
 * Life:    start front and engines; SIGHUP: keys anew, models whose file changed are swapped; a cell that ends is started again
 *          (100 ms, doubled to 30 s); SIGTERM, SIGINT: drain; once more: end now. */
#ifndef SPARK_SERVE_WARDEN_H
#define SPARK_SERVE_WARDEN_H

#include "serve/config.h"

/* Serves until told to stop; returns the exit code of the process (0, 1, 3: the jail cannot be had). `keys` (may be empty): a key file's
 * text to use instead of a file (a key minted for this run). `banner` (may be NULL) is called once all listens. */
int spark_warden_run(spark_config *c, spark_bytes keys, void (*banner)(const spark_config *c));

#endif
