/* http_address.h - who is at the other end: addresses as bytes, and the PROXY protocol (version 2) by which a proxy tells them.
 * Promise: the header is read whole or not at all, never beyond HTTP_PROXY_MAX bytes; anything but its exact form is refused. */
#ifndef SPARK_SERVE_HTTP_ADDRESS_H
#define SPARK_SERVE_HTTP_ADDRESS_H

#include <stdbool.h>

#include "base/bytes.h"

#define HTTP_ADDRESS_TEXT 46u  /* the longest IPv6 address and a NUL */
#define HTTP_PROXY_MAX    536u /* 16 bytes of head and 520 of addresses and TLVs; an ordinary header has 28 or 52 */

typedef struct http_address {
    uint8_t bytes[16]; /* IPv4 inside IPv6 is kept as IPv4 */
    uint8_t len;       /* 4, 16; 0 = a unix socket */
} http_address;

struct sockaddr;
http_address http_address_of(const struct sockaddr *a); /* AF_INET, AF_INET6; all else counts as unix */
void http_address_text(const http_address *a, char out[HTTP_ADDRESS_TEXT]);

typedef enum http_proxy_result {
    HTTP_PROXY_MORE,   /* more bytes are needed */
    HTTP_PROXY_LOCAL,  /* the proxy speaks for itself (a health check): the socket's address holds */
    HTTP_PROXY_CLIENT, /* *client is filled */
    HTTP_PROXY_BAD
} http_proxy_result;

/* Reads a header at the begin of `in`; *used tells its length once it is whole. Source: haproxy's proxy-protocol.txt, 2.2. */
http_proxy_result http_proxy_read(spark_bytes in, http_address *client, size_t *used);

#endif
