/* portbind.h: the step of a port that binds its function to vfio-pci, or makes its vDPA device.
 * Threads: main loop, inside fibers. For portsteps.c. */
#pragma once
#include "dataplane/slow/portsteps.h"

/* A simulator's management device that the port names as its parent: it makes vDPA devices out of
 * nothing, no function is claimed. NULL for none; borrowed. */
const struct hw_vdpa_mgmt *portbind_bare(const HwInventory *inventory, const Dpd__Port *spec);
/* Fails with NOT_FOUND: the host no longer has the port's function. */
bool portbind_gone(const struct portsteps_port *port, GError **error);
/* Both repeat safely. Yield. */
bool portbind_make(const struct portsteps_doors *doors, struct portsteps_port *port,
                   GError **error);
bool portbind_undo(const struct portsteps_doors *doors, struct portsteps_port *port,
                   GError **error);
