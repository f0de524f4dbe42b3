/* sockets.c - see sockets.h. */
#include "serve/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "format/gguf.h"
#include "serve/config_check.h"

static spark_status socket_fail(int fd, const spark_listen *l, const char *what, spark_err *err)
{
    const int why = errno;
    if (fd >= 0) close(fd);
    return spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot %s '%s': %s", what, l->text, strerror(why));
}

/* ---- Unix ---- */

/* Removes a socket that nobody listens on any more, left by a process that was killed. */
static spark_status unix_clear(const spark_listen *l, const struct sockaddr_un *a, spark_err *err)
{
    struct stat st;
    if (lstat(a->sun_path, &st) != 0) return SPARK_SUCCESS;
    SPARK_CHECK(S_ISSOCK(st.st_mode), err, SPARK_E_IO, SPARK_ERR_NOWHERE, "'%s' exists and is no socket", l->text);
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) return socket_fail(-1, l, "make a socket for", err);
    const bool alive = connect(probe, (const struct sockaddr *)a, sizeof *a) == 0 || errno != ECONNREFUSED;
    close(probe);
    SPARK_CHECK(!alive, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "'%s': another program listens there", l->text);
    if (unlink(a->sun_path) != 0) return socket_fail(-1, l, "remove the old socket", err);
    return SPARK_SUCCESS;
}

static spark_status unix_listen(const spark_listen *l, int *fd, spark_err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    SPARK_CHECK(strlen(l->path) < sizeof a.sun_path, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "'%s': the path of a unix socket has at most %zu bytes", l->text, sizeof a.sun_path - 1);
    memcpy(a.sun_path, l->path, strlen(l->path) + 1);
    SPARK_TRY(unix_clear(l, &a, err));
    const int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return socket_fail(-1, l, "make a socket for", err);
    const mode_t old = umask(0177);
    const int bound = bind(s, (const struct sockaddr *)&a, sizeof a);
    umask(old);
    if (bound != 0) return socket_fail(s, l, "bind", err);
    if (listen(s, SOCKETS_BACKLOG) != 0) return socket_fail(s, l, "listen on", err);
    *fd = s;
    return SPARK_SUCCESS;
}

/* ---- TCP ---- */

typedef union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} socket_address;

static socklen_t socket_address_of(const spark_listen *l, socket_address *a)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, l->host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(l->port);
        return sizeof a->v4;
    }
    a->v6.sin6_family = AF_INET6;
    a->v6.sin6_port = htons(l->port);
    return inet_pton(AF_INET6, l->host, &a->v6.sin6_addr) == 1 ? sizeof a->v6 : 0;
}

static spark_status tcp_listen(spark_listen *l, int *fd, spark_err *err)
{
    socket_address a;
    const int yes = 1;
    const socklen_t len = socket_address_of(l, &a);
    SPARK_CHECK(len > 0, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "'%s' has no numeric address", l->text);
    const int s = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return socket_fail(-1, l, "make a socket for", err);
    (void)setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    (void)setsockopt(s, IPPROTO_TCP, 1 /* TCP_NODELAY, taken over by what it accepts */, &yes, sizeof yes);
    if (a.any.sa_family == AF_INET6) (void)setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (bind(s, &a.any, len) != 0) return socket_fail(s, l, "bind", err);
    if (listen(s, SOCKETS_BACKLOG) != 0) return socket_fail(s, l, "listen on", err);
    socklen_t got = sizeof a;
    if (getsockname(s, &a.any, &got) == 0) l->port = ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    *fd = s;
    return SPARK_SUCCESS;
}

spark_status spark_socket_listen(spark_listen *l, int *fd, spark_err *err)
{
    if (l->inherited) {
        *fd = l->inherited;
        return SPARK_SUCCESS;
    }
    return l->path ? unix_listen(l, fd, err) : tcp_listen(l, fd, err);
}

/* ---- systemd: sd_listen_fds(3), sd_notify(3) ---- */

enum { SYSTEMD_FIRST_FD = 3 };

static uint32_t systemd_number(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    const unsigned long v = text && *text ? strtoul(text, &end, 10) : 0;
    return end && *end == '\0' && v <= INT32_MAX ? (uint32_t)v : 0;
}

/* "unix:/run/spark.sock", "tcp:[::]:8443" */
static spark_status inherit_name(int fd, spark_arena *a, const char **out, spark_err *err)
{
    union {
        socket_address in;
        struct sockaddr_un un;
    } at;
    char host[INET6_ADDRSTRLEN], text[sizeof at.un.sun_path + 8];
    socklen_t len = sizeof at;
    memset(&at, 0, sizeof at);
    int listens = 0, type = 0;
    socklen_t n = sizeof listens, type_len = sizeof type;
    SPARK_CHECK(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) == 0 && listens &&
                    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM &&
                    getsockname(fd, &at.in.any, &len) == 0,
                err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "descriptor %d of systemd is no listening stream socket", fd);
    const int family = at.in.any.sa_family;
    if (family == AF_UNIX && at.un.sun_path[0] == '/')
        snprintf(text, sizeof text, "unix:%.*s", (int)sizeof at.un.sun_path, at.un.sun_path);
    else if (family == AF_INET && inet_ntop(AF_INET, &at.in.v4.sin_addr, host, sizeof host))
        snprintf(text, sizeof text, "tcp:%s:%u", host, ntohs(at.in.v4.sin_port));
    else if (family == AF_INET6 && inet_ntop(AF_INET6, &at.in.v6.sin6_addr, host, sizeof host))
        snprintf(text, sizeof text, "tcp:[%s]:%u", host, ntohs(at.in.v6.sin6_port));
    else
        return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                          "descriptor %d of systemd is neither TCP nor a unix socket with a path", fd);
    spark_bytes copy;
    SPARK_TRY(spark_arena_copy(a, (spark_bytes){(const uint8_t *)text, strlen(text) + 1}, &copy, err));
    *out = (const char *)copy.ptr;
    return SPARK_SUCCESS;
}

/* Theirs, and of ours those that are others; what the defaults listen on they replace. */
static uint32_t inherit_join(const spark_config *c, const char **items, uint32_t count)
{
    uint32_t n = count;
    if (c->origin[SPARK_SET_listen].source == SPARK_FROM_DEFAULT) return n;
    for (uint32_t i = 0; i < c->listen.n; i++) {
        bool ours = true;
        for (uint32_t k = 0; k < count; k++) ours = ours && strcmp(items[k], c->listen.item[i]) != 0;
        if (ours) items[n++] = c->listen.item[i];
    }
    return n;
}

spark_status spark_config_inherit(spark_config *c, spark_err *err)
{
    const uint32_t count = systemd_number("LISTEN_PID") == (uint32_t)getpid() ? systemd_number("LISTEN_FDS") : 0;
    const char **items = NULL;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (count == 0) return SPARK_SUCCESS;
    SPARK_CHECK(count + c->listen.n <= SPARK_MAX_SETTING_LIST, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE,
                "more than %u sockets to listen on", SPARK_MAX_SETTING_LIST);
    SPARK_TRY(SPARK_NEW(c->arena, SPARK_MAX_SETTING_LIST, &items, err));
    for (uint32_t i = 0; i < count; i++) {
        const int fd = SYSTEMD_FIRST_FD + (int)i;
        SPARK_TRY(inherit_name(fd, c->arena, &items[i], err));
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    c->listen = (spark_config_list){items, inherit_join(c, items, count)};
    SPARK_TRY(spark__config_check(c, err));
    for (uint32_t i = 0; i < count; i++) c->listens[i].inherited = SYSTEMD_FIRST_FD + (int)i;
    return SPARK_SUCCESS;
}

void spark_notify_systemd(const char *fmt, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof a.sun_path) return;
    char state[256];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(state, sizeof state, fmt, args);
    va_end(args);
    memcpy(a.sun_path, path, strlen(path));
    const socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@') a.sun_path[0] = '\0'; /* the abstract namespace */
    const int fd = n > 0 && (size_t)n < sizeof state ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0) return;
    (void)!sendto(fd, state, (size_t)n, MSG_NOSIGNAL, (const struct sockaddr *)&a,
                  len); /* nobody to tell if it fails */
    close(fd);
}

/* ---- Files ---- */

/* Credentials of systemd are root's and 0440 where an access list lets the service in: reading by the group of root is nobody else's. */
static bool files_others_may(const struct stat *st)
{
    const bool credential = st->st_uid == 0 && st->st_gid == 0 && (st->st_mode & 07777) == 0440;
    return (st->st_mode & 077 && !credential) || (st->st_uid != geteuid() && st->st_uid != 0);
}

spark_status spark_file_open(const char *path, bool secret, int *out, spark_err *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    SPARK_CHECK(fd >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot open '%s': %s", path, strerror(errno));
    spark_status s = SPARK_SUCCESS;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        s = spark_fail(err, SPARK_E_IO, SPARK_ERR_NOWHERE, "'%s' is not a regular file", path);
    else if (secret && files_others_may(&st))
        s = spark_fail(err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                       "'%s' holds secrets, but others than its owner may read or write it (mode %04o); chmod 600 it",
                       path, (unsigned)(st.st_mode & 07777));
    if (spark_ok(s))
        *out = fd;
    else
        close(fd);
    return s;
}

/* "...-00001-of-00003.gguf" names three; any other name one. */
uint32_t spark_model_files_count(const char *path)
{
    static const char shape[] = "-00001-of-00000.gguf";
    const size_t len = strlen(path), n = sizeof shape - 1;
    if (len < n || memcmp(path + len - n, shape, 10) != 0 || strcmp(path + len - 5, ".gguf") != 0) return 1;
    char *end = NULL;
    const unsigned long c = strtoul(path + len - 10, &end, 10);
    return end == path + len - 5 && c >= 1 ? (uint32_t)c : 1;
}

spark_status spark_model_files_open(const char *path, int *fds, uint32_t cap, uint32_t *n, spark_err *err)
{
    const uint32_t count = spark_model_files_count(path);
    spark_status s = SPARK_SUCCESS;
    *n = 0;
    SPARK_CHECK(count <= cap, err, SPARK_E_LIMIT, SPARK_ERR_NOWHERE, "'%s' is split in %u files, of at most %u", path,
                count, cap);
    for (uint32_t i = 0; i < count && spark_ok(s); i++) {
        char name[4096];
        if (count > 1) s = spark_gguf_split_path(path, i, count, name, sizeof name, err);
        if (spark_ok(s)) s = spark_file_open(count > 1 ? name : path, false, &fds[i], err);
        if (spark_ok(s)) (*n)++;
    }
    for (; !spark_ok(s) && *n > 0; --*n) close(fds[*n - 1]);
    return s;
}
