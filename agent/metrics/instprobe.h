/* instprobe.h: what a running container's counters say, read outside of the main loop.
 * Threads: instprobe_new() and free on the main loop, the rest on any one thread. */
#pragma once
#include "agent/inst/inst.h"
#include "agent/metrics/exposition.h"

/* What all containers of one pass share. */
typedef struct HostProbe HostProbe;
HostProbe *hostprobe_new(void);
void hostprobe_free(HostProbe *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostProbe, hostprobe_free)

/* Copies of all that is needed of a container; NULL when it does not run. */
typedef struct InstProbe InstProbe;
InstProbe *instprobe_new(Inst *inst);
void instprobe_free(InstProbe *probe);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(InstProbe, instprobe_free)
const char *instprobe_project(const InstProbe *probe);
/* Adds its samples; none once it has ended. What can't be read is left out. */
void instprobe_read(const InstProbe *probe, HostProbe *host, Exposition *samples);

/* name="c1",project="default",type="container"; caller frees. */
char *instprobe_labels(Inst *inst);

/* ---- for tests: one file each ---- */
void instprobe_take_memory(const char *memory_stat, bool v1, const char *labels, guint64 total,
                           guint64 used, Exposition *samples);
void instprobe_take_cpu(const char *text, bool v1, const char *labels, Exposition *samples);
void instprobe_take_network(const char *proc_net_dev, const char *labels, Exposition *samples);
guint instprobe_count_cpus(const char *list); /* "0-3,8" → 5 */
