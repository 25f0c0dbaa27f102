/* Histograms of durations with fixed bounds, so that those of different times and hosts add up. */
#include "base/histogram.h"

const gint64 histogram_bounds_us[HISTOGRAM_BOUNDS] = {
    500, 1000, 2500, 5000, 10000, 50000, 100000, 500000, 1000000, 5000000, 15000000, 60000000,
};

void
histogram_note(struct histogram *values, gint64 took_us)
{
    int i = 0;
    while (i < HISTOGRAM_BOUNDS && took_us > histogram_bounds_us[i]) {
        i++;
    }
    values->count[i]++;
    values->sum_us += (guint64) MAX(took_us, 0);
}
