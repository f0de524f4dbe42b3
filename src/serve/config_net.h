/* config_net.h - addresses in settings: what to listen on, which proxies to believe.
 * Promise: numbers only, nothing is looked up; text that is no address is refused with the reason. */
#ifndef SPARK_SERVE_CONFIG_NET_H
#define SPARK_SERVE_CONFIG_NET_H

#include "base/arena.h"

/* An address, or a range of them. IPv4 inside IPv6 (::ffff:a.b.c.d) counts as IPv4. */
typedef struct spark_net_range {
    uint8_t bytes[16];
    uint8_t len;  /* 4, 16; 0 = none */
    uint8_t bits; /* of the prefix */
} spark_net_range;

/* "10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "unix". */
SPARK_MUST_CHECK bool spark_net_parse(const char *text, spark_net_range *out);
/* Whether an address as logs show it ("203.0.113.7") lies in one of the ranges; "unix" lies in none. */
bool spark_net_within(const char *address, const spark_net_range *ranges, uint32_t n);

typedef struct spark_listen {
    const char *text; /* as the operator wrote it */
    const char *path; /* unix; NULL = TCP */
    char host[46];    /* numeric; "0.0.0.0" and "::" are every address */
    uint16_t port;    /* 0 = any free one */
    bool loopback;    /* reached from this machine only */
    int inherited;    /* a descriptor that listens there already (systemd's), which outlives us; 0 = none */
} spark_listen;

/* "unix:PATH", "tcp:HOST:PORT", "tcp:[::1]:8080"; HOST is an address or localhost. `text` is borrowed. */
SPARK_MUST_CHECK spark_status spark_listen_parse(const char *text, spark_listen *out, spark_err *err);

#endif
