/* config_value.c - numbers, sizes, times and choices as an operator writes them. */
#include "serve/config_value.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/checked.h"

typedef struct value_unit {
    const char *name;
    uint64_t factor;
} value_unit;

/* Largest last: writing takes the last that divides. */
static const value_unit size_units[] = {{"", 1},           {"K", 1u << 10},   {"M", 1u << 20},
                                        {"G", 1u << 30},   {"T", 1ull << 40}, {"KiB", 1u << 10},
                                        {"MiB", 1u << 20}, {"GiB", 1u << 30}, {"TiB", 1ull << 40}};
enum { SIZE_SHORT = 5 }; /* the first of them are those that are written */
static const value_unit time_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};

/* Digits at the front of text; what follows is the unit. false: none, or more than 64 bits. */
static bool value_digits(const char *text, uint64_t *out, const char **unit)
{
    uint64_t n = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (!spark_mul_u64(n, 10, &n) || !spark_add_u64(n, (uint64_t)(*at - '0'), &n)) return false;
    *out = n;
    *unit = at;
    return at > text;
}

static bool value_scaled(const char *text, const value_unit *units, size_t n_units, uint64_t plain, uint64_t *out)
{
    const char *unit = NULL;
    uint64_t n = 0;
    if (!value_digits(text, &n, &unit)) return false;
    if (!*unit) return spark_mul_u64(n, plain, out);
    for (size_t i = 0; i < n_units; i++)
        if (strcmp(unit, units[i].name) == 0) return spark_mul_u64(n, units[i].factor, out);
    return false;
}

static bool value_number(const spark_setting *s, const char *text, uint64_t *out)
{
    const char *rest = NULL;
    switch (s->kind) {
    case SPARK_SETTING_U32: return value_digits(text, out, &rest) && !*rest;
    case SPARK_SETTING_SIZE: return value_scaled(text, size_units, SPARK_COUNT(size_units), 1, out);
    case SPARK_SETTING_MS: return value_scaled(text, time_units, SPARK_COUNT(time_units), 1, out);
    case SPARK_SETTING_SECONDS:
        if (s->max == SPARK_FOREVER && strcmp(text, "forever") == 0) {
            *out = SPARK_FOREVER;
            return true;
        }
        return value_scaled(text, time_units, SPARK_COUNT(time_units), 1000, out);
    case SPARK_SETTING_BOOL:
    case SPARK_SETTING_CHOICE:
    case SPARK_SETTING_TEXT:
    case SPARK_SETTING_LIST: break;
    }
    return false;
}

static const char *value_form(spark_setting_kind kind)
{
    switch (kind) {
    case SPARK_SETTING_U32: return "whole number";
    case SPARK_SETTING_SIZE: return "size: 4096, 512M, 6G";
    case SPARK_SETTING_MS: return "time: 500ms, 30s, 5m, or milliseconds";
    case SPARK_SETTING_SECONDS: return "time: 500ms, 30s, 5m, or seconds";
    case SPARK_SETTING_BOOL:
    case SPARK_SETTING_CHOICE:
    case SPARK_SETTING_TEXT:
    case SPARK_SETTING_LIST: break;
    }
    return "value";
}

static bool value_read_number(const spark_setting *s, const char *text, void *value, char *why)
{
    uint64_t n = 0;
    char low[64], high[64];
    if (!value_number(s, text, &n)) {
        snprintf(why, SPARK_VALUE_WHY, "'%.80s' is no %s", text, value_form(s->kind));
        return false;
    }
    if (n < s->min || n > s->max) {
        const uint32_t low32 = (uint32_t)s->min, high32 = (uint32_t)s->max;
        const bool small = s->kind == SPARK_SETTING_U32;
        spark__value_write(s, small ? (const void *)&low32 : (const void *)&s->min, low);
        spark__value_write(s, small ? (const void *)&high32 : (const void *)&s->max, high);
        snprintf(why, SPARK_VALUE_WHY, "'%.40s' is out of range: %s to %s is allowed", text, low, high);
        return false;
    }
    if (s->kind == SPARK_SETTING_U32)
        *(uint32_t *)value = (uint32_t)n;
    else
        *(uint64_t *)value = n;
    return true;
}

static bool value_read_bool(const char *text, bool *out, char *why)
{
    static const char *const words[] = {"no", "yes", "off", "on", "false", "true"};
    for (size_t i = 0; i < SPARK_COUNT(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return true;
        }
    snprintf(why, SPARK_VALUE_WHY, "'%.80s' is neither yes nor no", text);
    return false;
}

static bool value_read_choice(const spark_setting *s, const char *text, uint32_t *out, char *why)
{
    uint32_t index = 0;
    for (const char *at = s->choices; *at; index++) {
        const size_t len = strcspn(at, "|");
        if (strlen(text) == len && memcmp(at, text, len) == 0) {
            *out = index;
            return true;
        }
        at += len + (at[len] == '|');
    }
    snprintf(why, SPARK_VALUE_WHY, "'%.80s' is none of %s", text, s->choices);
    return false;
}

bool spark__value_read(const spark_setting *s, const char *text, void *value, char why[SPARK_VALUE_WHY])
{
    switch (s->kind) {
    case SPARK_SETTING_BOOL: return value_read_bool(text, value, why);
    case SPARK_SETTING_CHOICE: return value_read_choice(s, text, value, why);
    case SPARK_SETTING_TEXT:
        if (!*text) snprintf(why, SPARK_VALUE_WHY, "it is empty");
        *(const char **)value = text;
        return *text != 0;
    case SPARK_SETTING_U32:
    case SPARK_SETTING_SIZE:
    case SPARK_SETTING_MS:
    case SPARK_SETTING_SECONDS:
    case SPARK_SETTING_LIST: break;
    }
    return value_read_number(s, text, value, why);
}

static void value_write_scaled(uint64_t n, const value_unit *units, size_t n_units, char *out)
{
    size_t u = 0;
    for (size_t i = 1; n && i < n_units; i++)
        if (n % units[i].factor == 0) u = i;
    if (n == 0)
        snprintf(out, 64, "0");
    else
        snprintf(out, 64, "%" PRIu64 "%s", n / units[u].factor, units[u].name);
}

void spark__value_write(const spark_setting *s, const void *value, char out[64])
{
    switch (s->kind) {
    case SPARK_SETTING_BOOL: snprintf(out, 64, "%s", *(const bool *)value ? "yes" : "no"); return;
    case SPARK_SETTING_U32: snprintf(out, 64, "%u", *(const uint32_t *)value); return;
    case SPARK_SETTING_SIZE: value_write_scaled(*(const uint64_t *)value, size_units, SIZE_SHORT, out); return;
    case SPARK_SETTING_MS:
    case SPARK_SETTING_SECONDS:
        if (*(const uint64_t *)value == SPARK_FOREVER)
            snprintf(out, 64, "forever");
        else
            value_write_scaled(*(const uint64_t *)value, time_units, SPARK_COUNT(time_units), out);
        return;
    case SPARK_SETTING_CHOICE: {
        const char *at = s->choices;
        for (uint32_t i = *(const uint32_t *)value; i; i--) at += strcspn(at, "|") + 1;
        snprintf(out, 64, "%.*s", (int)strcspn(at, "|"), at);
        return;
    }
    case SPARK_SETTING_TEXT:
    case SPARK_SETTING_LIST: break;
    }
    out[0] = 0;
}
