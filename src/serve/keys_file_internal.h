/* keys_file_internal.h - the two calls that decide whether a change of the key file happened; tests make them fail. */
#ifndef SPARK_SERVE_KEYS_FILE_INTERNAL_H
#define SPARK_SERVE_KEYS_FILE_INTERNAL_H

extern int (*spark__keys_fsync)(int fd);
extern int (*spark__keys_rename)(const char *from, const char *to);

#endif
