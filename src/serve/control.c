/* control.c - packets with descriptors (SOCK_SEQPACKET, SCM_RIGHTS). */
#include "serve/control.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/poll.h"

spark_status control_pair(int fds[2], spark_err *err)
{
    SPARK_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0, err, SPARK_E_IO,
                SPARK_ERR_NOWHERE, "cannot make a socket pair: %s", strerror(errno));
    const int room =
        4 * CONTROL_TEXT_MAX; /* so that one message always fits; the system may grant less, and fail the send */
    (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return SPARK_SUCCESS;
}

spark_status control_send(int fd, const control_message *m, spark_err *err)
{
    uint8_t head[CONTROL_HEAD];
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
    } rights = {0};
    struct iovec parts[2] = {{head, sizeof head}, {NULL, m->text.len}};
    struct msghdr h = {.msg_iov = parts, .msg_iovlen = m->text.len ? 2 : 1};
    memcpy(&parts[1].iov_base, &m->text.ptr, sizeof m->text.ptr); /* sendmsg does not write there */
    spark_store_u32(head, (uint32_t)m->kind);
    spark_store_u32(head + 4, m->arg);
    spark_store_u64(head + 8, m->value);
    if (m->n_fds) {
        h.msg_control = rights.bytes;
        h.msg_controllen = CMSG_SPACE(m->n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(m->n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), m->fds, m->n_fds * sizeof(int));
    }
    for (;;) {
        if (sendmsg(fd, &h, MSG_NOSIGNAL) >= 0) return SPARK_SUCCESS;
        if (errno == EINTR) continue;
        SPARK_CHECK(errno == EAGAIN, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot write to a control link: %s",
                    strerror(errno));
        int ready = 0;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        SPARK_TRY(spark_poll(&p, 1, CONTROL_PATIENCE_MS, &ready, err));
        SPARK_CHECK(ready != 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "the other end of a control link does not read");
    }
}

static void control_take_fds(struct msghdr *h, control_message *out)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        out->n_fds = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) /
                                sizeof(int)); /* the buffer has room for no more than the maximum */
        memcpy(out->fds, CMSG_DATA(c), out->n_fds * sizeof(int));
    }
}

spark_status control_receive(int fd, uint8_t *buf, control_message *out, bool *has, bool *closed, spark_err *err)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
    } rights;
    struct iovec part = {buf, CONTROL_HEAD + CONTROL_TEXT_MAX};
    struct msghdr h = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights.bytes, .msg_controllen = sizeof rights.bytes};
    *has = *closed = false;
    const ssize_t n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return SPARK_SUCCESS;
    *closed = n == 0 || (n < 0 && errno == ECONNRESET);
    if (*closed) return SPARK_SUCCESS;
    SPARK_CHECK(n >= 0, err, SPARK_E_IO, SPARK_ERR_NOWHERE, "cannot read a control link: %s", strerror(errno));
    *out = (control_message){0};
    control_take_fds(&h, out);
    const uint32_t kind = n >= CONTROL_HEAD ? spark_load_u32(buf) : CONTROL_N_KINDS;
    if (kind >= CONTROL_N_KINDS || h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (uint32_t i = 0; i < out->n_fds; i++) close(out->fds[i]);
        return spark_fail(err, SPARK_E_FORMAT, SPARK_ERR_NOWHERE, "a control message that is none");
    }
    out->kind = (control_kind)kind;
    out->arg = spark_load_u32(buf + 4);
    out->value = spark_load_u64(buf + 8);
    out->text = (spark_bytes){buf + CONTROL_HEAD, (size_t)n - CONTROL_HEAD};
    *has = true;
    return SPARK_SUCCESS;
}
