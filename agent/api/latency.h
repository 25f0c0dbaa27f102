/* latency.h: how long requests take, by resource. Threads: main loop. */
#pragma once
#include "base/histogram.h"

typedef struct Latency Latency;
Latency *latency_new(void);
void latency_free(Latency *latency);
/* 'pattern' is the route's, NULL when there was none. */
void latency_note(Latency *latency, const char *method, const char *pattern, int status,
                  gint64 took_us);

typedef void (*LatencyFn)(const char *method, const char *resource, const struct histogram *values,
                          void *data);
void latency_each(const Latency *latency, LatencyFn fn, void *data);
typedef void (*LatencyErrorFn)(int status, guint64 count, void *data);
void latency_each_error(const Latency *latency, LatencyErrorFn fn, void *data);
