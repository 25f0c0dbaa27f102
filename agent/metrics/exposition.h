/* exposition.h: samples, kept by family, and their text in Prometheus' format or OpenMetrics'.
 * Threads: any; an Exposition belongs to one thread at a time. */
#pragma once
#include "agent/metrics/families.h"
#include "base/histogram.h"
#include <glib.h>
#include <stdbool.h>

typedef struct Exposition Exposition;
Exposition *exposition_new(void);
void exposition_free(Exposition *samples);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Exposition, exposition_free)

/* 'labels' is what stands between the braces, without a comma at its ends; "" for none. */
void exposition_add(Exposition *samples, MetricId id, const char *labels, double value);
/* device="sda",name="c1",…: 'own' in front of 'labels', either may be "". */
void exposition_add_with(Exposition *samples, MetricId id, const char *own, const char *labels,
                         double value);
void exposition_add_histogram(Exposition *samples, MetricId id, const char *labels,
                              const struct histogram *values);
/* name="value", quoted as the format wants it; caller frees. */
char *exposition_label(const char *name, const char *value);

typedef enum { EXPOSITION_PROMETHEUS, EXPOSITION_OPENMETRICS } ExpositionFormat;
/* All families of all parts, each family once, with "# EOF" at the end; caller frees. */
GString *exposition_render(const Exposition *const *parts, guint count, ExpositionFormat format);
