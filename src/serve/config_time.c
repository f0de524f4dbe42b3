/* config_time.c - days to dates and back. Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms" (civil_from_days). */
#include "serve/config_time.h"

#include <stdio.h>
#include <string.h>

void spark_time_write(int64_t s, int ms, char out[32])
{
    if (s < 0) s = 0;
    if (s > SPARK_TIME_MAX) s = SPARK_TIME_MAX;
    const int64_t z = s / 86400 + 719468; /* days since 0000-03-01 */
    const int64_t era = z / 146097, doe = z % 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    const int day = (int)(doy - (153 * mp + 2) / 5 + 1), month = (int)(mp < 10 ? mp + 3 : mp - 9);
    const int year = (int)(yoe + era * 400 + (month <= 2)), of_day = (int)(s % 86400);
    const int n = snprintf(out, 32, "%04d-%02d-%02dT%02d:%02d:%02d", year % 10000, month % 100, day % 100,
                           of_day / 3600, of_day / 60 % 60, of_day % 60);
    snprintf(out + n, 32 - (size_t)n, ms >= 0 ? ".%03dZ" : "Z", ms % 1000);
}

/* `digits` digits at *text, which moves; -1 if there are fewer. */
static int time_number(const char **text, int digits)
{
    int n = 0;
    for (; digits; digits--, (*text)++) {
        if (**text < '0' || **text > '9') return -1;
        n = n * 10 + (**text - '0');
    }
    return n;
}

static bool time_literal(const char **text, char c) { return *(*text)++ == c; }

static int time_days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)));
}

static bool time_day(const char **text, int64_t *days)
{
    const int year = time_number(text, 4);
    if (year < 1970 || !time_literal(text, '-')) return false;
    const int month = time_number(text, 2);
    if (month < 1 || month > 12 || !time_literal(text, '-')) return false;
    const int day = time_number(text, 2);
    if (day < 1 || day > time_days_of(year, month)) return false;
    const int64_t y = year - (month <= 2), era = y / 400, yoe = y % 400;
    const int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    *days = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    return true;
}

bool spark_time_read(const char *text, int64_t *s)
{
    int64_t days = 0;
    if (!time_day(&text, &days)) return false;
    *s = days * 86400;
    if (!*text) return true;
    if (!time_literal(&text, 'T')) return false;
    const int hour = time_number(&text, 2);
    if (hour < 0 || hour > 23 || !time_literal(&text, ':')) return false;
    const int minute = time_number(&text, 2);
    if (minute < 0 || minute > 59 || !time_literal(&text, ':')) return false;
    const int second = time_number(&text, 2);
    if (second < 0 || second > 59 || strcmp(text, "Z") != 0) return false;
    *s += hour * 3600 + minute * 60 + second;
    return true;
}
