/* ports.h: the ports that ought to exist, and those that do.
 * Threads: main loop, inside fibers. */
#pragma once
#include "dataplane/slow/portsteps.h"

typedef struct Ports Ports;
/* Called when a port's state has changed; must not yield. */
typedef void (*PortsChanged)(const Dpd__PortState *state, void *data);
/* Adopts what the ledger has: each port is looked at, finished or taken back in a fiber of its own. */
Ports *ports_new(const struct portsteps_doors *doors, PortsChanged changed, void *data);
/* Frees what no fiber works on; the process is about to end. */
void ports_free(Ports *ports);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ports, ports_free)

guint64 ports_generation(const Ports *ports);
/* How many there are, wanted or on their way out. */
guint ports_count(const Ports *ports);
/* Takes the ports of a request as what ought to be; STALE, INVALID: nothing was taken. Then waits for
 * them, for the request's wait_ms at most. Caller frees with ports_observed_free(). Yields. */
Dpd__Observed *ports_apply(Ports *ports, const Dpd__Apply *apply, GError **error);
/* All of them, as they are now. */
Dpd__Observed *ports_observe(Ports *ports);
void ports_observed_free(Dpd__Observed *observed);
/* The character device of a port, opened for its user; -1 with an error. */
int ports_take(Ports *ports, const char *id, char **ret_device, GError **error);
/* Something changed outside: ports that wait to be tried again are, and those that should be on a
 * bridge are looked for there. */
void ports_nudge(Ports *ports);
