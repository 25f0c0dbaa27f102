/* clock.h: the two clocks, and times as text. Threads: any. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* Monotonic, for deadlines and durations. */
gint64 clock_mono_us(void);
/* Since the epoch. 0 stands for "never" in rows and in clock_format(). */
gint64 clock_real_us(void);
/* RFC 3339 in UTC with microseconds, "0001-01-01T00:00:00Z" for 0 as LXD's clients expect; caller
 * frees. */
char *clock_format(gint64 real_us);
/* RFC 3339 in; Go's zero time gives 0. False when it is no such text. */
bool clock_parse(const char *text, gint64 *ret_real_us);
