/* config_check.c - which settings go together. The rules of who may listen where stand here and nowhere else. */
#include "serve/config_check.h"

#include <stdio.h>

#include "serve/config_write.h"

/* "https://app.example:8443": what browsers send as Origin, and no '*'. */
static bool check_origin(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-:[]";
    const char *host = strncmp(text, "https://", 8) == 0 ? text + 8 : strncmp(text, "http://", 7) == 0 ? text + 7 : "";
    return *host && strspn(host, allowed) == strlen(host);
}

/* "spark.example", "spark.example:8080" */
static bool check_host(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-:[]_";
    return *text && strspn(text, allowed) == strlen(text);
}

static bool check_item(const spark_setting *s, const char *item, char *why)
{
    const spark_setting_id id = (spark_setting_id)(s - spark_settings);
    spark_err err = {0};
    spark_listen l;
    spark_net_range r;
    if (id == SPARK_SET_listen && !spark_ok(spark_listen_parse(item, &l, &err))) {
        snprintf(why, SPARK_VALUE_WHY, "%.190s", err.text);
        return false;
    }
    if (id == SPARK_SET_proxies && !spark_net_parse(item, &r)) {
        snprintf(why, SPARK_VALUE_WHY, "'%.80s' is no address or range, as in 10.0.0.7 or 10.0.0.0/8", item);
        return false;
    }
    if (id == SPARK_SET_cors && !check_origin(item)) {
        snprintf(why, SPARK_VALUE_WHY,
                 "'%.80s' is no origin, as in https://app.example (small letters, no path, no '*')", item);
        return false;
    }
    if (id == SPARK_SET_allowed_hosts && !check_host(item)) {
        snprintf(why, SPARK_VALUE_WHY, "'%.80s' is no host, as in spark.example or spark.example:8080 (small letters)",
                 item);
        return false;
    }
    return true;
}

bool spark__list_check(const spark_setting *s, const char *const *items, uint32_t n, char why[SPARK_VALUE_WHY])
{
    for (uint32_t i = 0; i < n; i++) {
        if (!check_item(s, items[i], why)) return false;
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(items[i], items[j]) == 0) {
                snprintf(why, SPARK_VALUE_WHY, "'%.80s' stands in it twice", items[i]);
                return false;
            }
    }
    return true;
}

/* An address that others reach demands keys and TLS; TLS may be given up aloud, keys may not. */
static spark_status check_reach(const spark_config *c, const spark_listen *l, spark_err *err)
{
    if (l->loopback) return SPARK_SUCCESS;
    SPARK_CHECK(!c->no_auth, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                "listen: %s is reached from other machines: no_auth is for loopback only", l->text);
    SPARK_CHECK(c->keys != NULL, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                "listen: %s is reached from other machines and demands keys: --keys FILE ('spark key new' makes one)",
                l->text);
    const bool off = c->tls == 1;
    SPARK_CHECK(off || c->tls_cert, err, SPARK_E_REFUSED, SPARK_ERR_NOWHERE,
                "listen: %s is reached from other machines and demands TLS: --tls-cert and --tls-key, or --tls off "
                "behind a proxy",
                l->text);
    return SPARK_SUCCESS;
}

static spark_status check_tls(const spark_config *c, spark_err *err)
{
    SPARK_CHECK(!c->tls_cert == !c->tls_key, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "tls_cert and tls_key go together: %s is missing", c->tls_cert ? "tls_key" : "tls_cert");
    SPARK_CHECK(!c->tls_client_ca || c->tls_cert, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "tls_client_ca needs tls_cert and tls_key");
    SPARK_CHECK(c->tls != 1 || !c->tls_cert, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "tls is off, and yet tls_cert is given");
    return SPARK_SUCCESS;
}

spark_status spark__config_check(spark_config *c, spark_err *err)
{
    SPARK_CHECK(!(c->no_auth && c->keys), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "no_auth and keys exclude each other");
    SPARK_TRY(check_tls(c, err));
    for (uint32_t i = 0; i < c->listen.n; i++) {
        SPARK_TRY(spark_listen_parse(c->listen.item[i], &c->listens[i], err));
        SPARK_TRY(check_reach(c, &c->listens[i], err));
    }
    for (uint32_t i = 0; i < c->proxies.n; i++)
        SPARK_CHECK(spark_net_parse(c->proxies.item[i], &c->proxy[i]), err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                    "proxies: '%s' is no address", c->proxies.item[i]);
    SPARK_CHECK(c->max_body <= c->max_bodies, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "max_body is larger than max_bodies, the sum of all");
    SPARK_CHECK(c->watchdog == 0 || c->watchdog >= 1000, err, SPARK_E_ARGUMENT, SPARK_ERR_NOWHERE,
                "watchdog: 0 (never), or 1s to 1h");
    return spark_config_fits(c, err);
}

/* Proxies come from other machines, but for one that is said to be on this. */
bool spark_config_proxied(const spark_config *c, const spark_listen *l)
{
    return !l->path && c->proxies.n && (!l->loopback || spark_net_within(l->host, c->proxy, c->proxies.n));
}
