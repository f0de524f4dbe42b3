/* http_address.c - see http_address.h. */
#include "serve/http_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static http_address address_v6(const uint8_t b[16])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    http_address a = {.len = 16};
    if (memcmp(b, mapped, sizeof mapped) == 0) {
        a.len = 4;
        memcpy(a.bytes, b + 12, 4);
    } else {
        memcpy(a.bytes, b, 16);
    }
    return a;
}

http_address http_address_of(const struct sockaddr *a)
{
    http_address out = {.len = 0};
    if (a->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, a, sizeof in);
        out.len = 4;
        memcpy(out.bytes, &in.sin_addr, 4);
    } else if (a->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, a, sizeof in6);
        out = address_v6(in6.sin6_addr.s6_addr);
    }
    return out;
}

void http_address_text(const http_address *a, char out[HTTP_ADDRESS_TEXT])
{
    if (a->len == 0 || !inet_ntop(a->len == 4 ? AF_INET : AF_INET6, a->bytes, out, HTTP_ADDRESS_TEXT))
        memcpy(out, "unix", 5);
}

enum { PROXY_HEAD = 16, PROXY_TCP4 = 12, PROXY_TCP6 = 36 };

/* The bytes of the fixed head that are there must be right, so that a client without the header is refused at its first byte. */
static bool proxy_head_fits(spark_bytes in)
{
    static const uint8_t signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};
    if (memcmp(in.ptr, signature, in.len < 12 ? in.len : 12) != 0) return false;
    if (in.len > 12 && in.ptr[12] != 0x20 && in.ptr[12] != 0x21) return false; /* version 2; LOCAL or PROXY */
    if (in.len > 13 && in.ptr[13] != 0x11 && in.ptr[13] != 0x21 && !(in.ptr[13] == 0 && in.ptr[12] == 0x20))
        return false;
    return true;
}

http_proxy_result http_proxy_read(spark_bytes in, http_address *client, size_t *used)
{
    if (in.len == 0) return HTTP_PROXY_MORE;
    if (!proxy_head_fits(in)) return HTTP_PROXY_BAD;
    if (in.len < PROXY_HEAD) return HTTP_PROXY_MORE;
    const size_t len = (size_t)(in.ptr[14] << 8 | in.ptr[15]);
    const bool local = in.ptr[12] == 0x20, v4 = in.ptr[13] == 0x11;
    if (len > HTTP_PROXY_MAX - PROXY_HEAD) return HTTP_PROXY_BAD;
    if (!local && len < (v4 ? PROXY_TCP4 : PROXY_TCP6)) return HTTP_PROXY_BAD;
    if (in.len - PROXY_HEAD < len) return HTTP_PROXY_MORE;
    *used = PROXY_HEAD + len;
    if (local) return HTTP_PROXY_LOCAL;
    if (v4) {
        *client = (http_address){.len = 4};
        memcpy(client->bytes, in.ptr + PROXY_HEAD, 4);
    } else {
        *client = address_v6(in.ptr + PROXY_HEAD);
    }
    return HTTP_PROXY_CLIENT;
}
