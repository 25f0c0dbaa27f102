/* histogram.h: how many durations fell below which bound. Threads: any; each belongs to one. */
#pragma once
#include <glib.h>

enum { HISTOGRAM_BOUNDS = 12 };
/* 0.5 ms to 60 s: what a request takes, and what an operation takes. */
extern const gint64 histogram_bounds_us[HISTOGRAM_BOUNDS];
struct histogram {
    guint64 count[HISTOGRAM_BOUNDS + 1]; /* each for itself; the last: above all bounds */
    guint64 sum_us;
};
void histogram_note(struct histogram *values, gint64 took_us);
