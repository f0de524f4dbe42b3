/* config_net.c - addresses read from text. */
#include "serve/config_net.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/un.h>

static bool net_address(const char *text, spark_net_range *out)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    *out = (spark_net_range){0};
    if (inet_pton(AF_INET, text, out->bytes) == 1) {
        out->len = 4;
    } else if (inet_pton(AF_INET6, text, out->bytes) == 1) {
        out->len = 16;
        if (memcmp(out->bytes, mapped, sizeof mapped) == 0) {
            memmove(out->bytes, out->bytes + 12, 4);
            memset(out->bytes + 4, 0, 12);
            out->len = 4;
        }
    }
    out->bits = (uint8_t)(out->len * 8);
    return out->len != 0;
}

/* Up to three digits; -1 if it is anything else. */
static int net_bits(const char *text)
{
    int n = 0;
    const size_t len = strlen(text);
    if (len == 0 || len > 3 || strspn(text, "0123456789") != len) return -1;
    for (; *text; text++) n = n * 10 + (*text - '0');
    return n;
}

bool spark_net_parse(const char *text, spark_net_range *out)
{
    char address[64];
    const char *slash = strchr(text, '/');
    const size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof address) return false;
    memcpy(address, text, len);
    address[len] = 0;
    if (!net_address(address, out)) return false;
    if (!slash) return true;
    const int bits = net_bits(slash + 1);
    if (bits < 0 || bits > out->len * 8) return false;
    out->bits = (uint8_t)bits;
    return true;
}

static bool net_in(const spark_net_range *a, const spark_net_range *range)
{
    if (a->len == 0 || a->len != range->len) return false;
    const size_t whole = range->bits / 8;
    const uint8_t mask = (uint8_t)(0xff00 >> range->bits % 8);
    if (memcmp(a->bytes, range->bytes, whole) != 0) return false;
    return mask == 0 || ((a->bytes[whole] ^ range->bytes[whole]) & mask) == 0;
}

bool spark_net_within(const char *address, const spark_net_range *ranges, uint32_t n)
{
    spark_net_range a;
    if (n == 0 || !net_address(address, &a)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (net_in(&a, &ranges[i])) return true;
    return false;
}

/* ---- Listening ---- */

static spark_status listen_unix(const char *path, spark_listen *out, spark_err *err)
{
    const size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    SPARK_CHECK(path[0] == '/', err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "'%s' is no absolute path: unix:/run/spark/serve.sock", path);
    SPARK_CHECK(strlen(path) <= most, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "the path of a unix socket has at most %zu bytes, this one %zu", most, strlen(path));
    out->path = path;
    out->loopback = true;
    return SPARK_SUCCESS;
}

static bool listen_port(const char *text, uint16_t *out)
{
    uint32_t n = 0;
    const size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len) return false;
    for (; *text; text++) n = n * 10 + (uint32_t)(*text - '0');
    *out = (uint16_t)n;
    return n <= UINT16_MAX;
}

static spark_status listen_tcp(const char *text, spark_listen *out, spark_err *err)
{
    static const char form[] = "tcp:HOST:PORT, as in tcp:127.0.0.1:8080 or tcp:[::1]:8080";
    spark_net_range a;
    const char *colon = strrchr(text, ':');
    SPARK_CHECK(colon != NULL, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "'%s' has no port: %s", text, form);
    const bool bracket = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    const size_t len = (size_t)(colon - text) - (bracket ? 2 : 0);
    SPARK_CHECK(len < sizeof out->host, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "'%s' holds no address: %s", text,
                form);
    memcpy(out->host, text + bracket, len);
    out->host[len] = 0;
    if (strcmp(out->host, "localhost") == 0) snprintf(out->host, sizeof out->host, "127.0.0.1");
    SPARK_CHECK(net_address(out->host, &a) && bracket == (strchr(out->host, ':') != NULL), err, SPARK_E_ARGUMENT,
                SPARK_ERR_NOWHERE, "'%s' is no numeric address (nothing is looked up): %s", text, form);
    SPARK_CHECK(listen_port(colon + 1, &out->port), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "'%s' is no port: 0 to 65535", colon + 1);
    static const spark_net_range local[] = {{{127}, 4, 8}, {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16, 128}};
    out->loopback = net_in(&a, &local[0]) || net_in(&a, &local[1]);
    return SPARK_SUCCESS;
}

spark_status spark_listen_parse(const char *text, spark_listen *out, spark_err *err)
{
    *out = (spark_listen){.text = text};
    if (strncmp(text, "unix:", 5) == 0) return listen_unix(text + 5, out, err);
    if (strncmp(text, "tcp:", 4) == 0) return listen_tcp(text + 4, out, err);
    spark_listen bare = {.text = text};
    SPARK_CHECK(!spark_ok(listen_tcp(text, &bare, NULL)), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "'%s' needs 'tcp:' in front: tcp:%s", text, text);
    return spark_fail(err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE, "'%s' is neither unix:PATH nor tcp:HOST:PORT", text);
}
