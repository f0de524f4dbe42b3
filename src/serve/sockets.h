/* sockets.h - what the warden opens: listening sockets (its own, or systemd's), model files, secrets. It reads none of them. */
#ifndef SPARK_SERVE_SOCKETS_H
#define SPARK_SERVE_SOCKETS_H

#include "base/spark_limits.h"
#include "serve/config.h"

enum { SOCKETS_BACKLOG = 4096 };

/* A listening, non-blocking, close-on-exec socket. A unix socket gets mode 0600 and replaces one that nobody listens on; anything else at its path is
 * an error. `out->port` is filled in where 0 was asked. */
SPARK_MUST_CHECK spark_status spark_socket_listen(spark_listen *l, int *fd, spark_err *err);

/* Sockets that systemd passed (LISTEN_FDS): listening streams only; others are an error. They take the place of the default of `listen`; where `listen` was
 * set, they come first. What is reached from other machines demands the same as ever (E_REFUSED). After finish, before keys are minted. */
SPARK_MUST_CHECK spark_status spark_config_inherit(spark_config *c, spark_err *err);
/* Tells systemd ("READY=1"); nothing where it does not ask (NOTIFY_SOCKET). */
void spark_notify_systemd(const char *fmt, ...) SPARK_PRINTF(1, 2);

/* Opens a regular file for reading; for a secret also demands that only its owner (this user or root) may write it and nobody else read it. */
SPARK_MUST_CHECK spark_status spark_file_open(const char *path, bool secret, int *fd, spark_err *err);
/* How many files a model has, by the name of the first; not yet that they are there, nor that so many are allowed. */
uint32_t spark_model_files_count(const char *path);
/* All files of a model: the one at the path, or all that its name counts ("-00001-of-00003.gguf"). */
SPARK_MUST_CHECK spark_status spark_model_files_open(const char *path, int *fds, uint32_t cap, uint32_t *n,
                                                     spark_err *err);

#endif
