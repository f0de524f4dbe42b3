/* warden.h - the process that opens things for the cells, starts and restarts them, and keeps the budget. It parses nothing foreign:
 * of an engine it reads fixed numbers, of the front fixed heads.
 * Life:    start front and engines; SIGHUP: keys and certificates anew, models whose file changed are swapped; a cell that ends, or does not
 *          answer for the time of `watchdog`, is started again (100 ms, doubled to 30 s); SIGTERM, SIGINT: drain; once more: end now. */
#ifndef SPARK_SERVE_WARDEN_H
#define SPARK_SERVE_WARDEN_H

#include "serve/config.h"

/* Serves until told to stop; *exit_code is then that of the process: 1 if a model could not be loaded at start. Errors before
 * that: E_REFUSED if the jail cannot be had, E_IO if an address cannot be listened on. `keys` (may be empty): a key file's text to use
 * instead of a file (a key minted for this run). `banner` (may be NULL) is called once all is ready. */
SPARK_MUST_CHECK spark_status spark_warden_run(spark_config *c, spark_bytes keys, void (*banner)(const spark_config *c),
                                               int *exit_code, spark_err *err);

#endif
