/* Clocks. Times cross the API as RFC 3339; the zero of Go's time.Time means "never". */
#include "base/clock.h"

#include <string.h>

#define ZERO_TIME "0001-01-01T00:00:00Z"

gint64
clock_mono_us(void)
{
    return g_get_monotonic_time();
}

gint64
clock_real_us(void)
{
    return g_get_real_time();
}

char *
clock_format(gint64 real_us)
{
    if (real_us == 0) {
        return g_strdup(ZERO_TIME);
    }
    g_autoptr(GDateTime) whole = g_date_time_new_from_unix_utc(real_us / G_USEC_PER_SEC);
    g_autofree char *stamp = g_date_time_format(whole, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%06dZ", stamp, (int) (real_us % G_USEC_PER_SEC));
}

bool
clock_parse(const char *text, gint64 *ret_real_us)
{
    if (strcmp(text, ZERO_TIME) == 0) {
        *ret_real_us = 0;
        return true;
    }
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, NULL);
    if (time == NULL) {
        return false;
    }
    *ret_real_us = g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
    return true;
}
