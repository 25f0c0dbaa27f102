/* vmprobe.h: counters of running virtual machines, as their own agents tell them.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"
#include "agent/metrics/exposition.h"

/* Where the samples of a project's instances go. */
typedef Exposition *(*VmProbePart)(GHashTable *parts, const char *project);
/* Asks all of them at once, and adds what they say; who says nothing in time is left out. Yields. */
void vmprobe_read_all(GPtrArray *instances, GHashTable *parts, VmProbePart part);
/* Samples of one guest's account (guestask_metrics(); borrowed). Only what is a number is taken, names are
 * bounded, so is their count. */
void vmprobe_take(json_t *account, const char *labels, Exposition *samples);
