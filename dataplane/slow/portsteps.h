/* portsteps.h: how one port is made and taken back, step by step, each in the ledger first.
 * Threads: main loop, inside fibers. One port: one fiber at a time. */
#pragma once
#include "dataplane/slow/fastport.h"
#include "dataplane/slow/fleet.h"
#include "dataplane/slow/ledger.h"
#include "dataplane/slow/ovsport.h"
#include "dataplane/slow/vfstate.h"
#include "proto/dpd.pb-c.h"

/* What the steps work with; all borrowed. */
struct portsteps_doors {
    Fleet *fleet;
    Ledger *ledger;
    OvsPorts *bridges;
    FastPorts *fast;
};

/* A port in work. */
struct portsteps_port {
    const char *id;        /* borrowed */
    const Dpd__Port *spec; /* borrowed: what is asked for; when it goes, what was */
    VfState before;        /* of the claimed function */
    bool claimed;
    /* What is there; "" where it does not apply. */
    char netdev[IFNAMSIZ], representor[IFNAMSIZ], vdpa[64], device[HW_NAME_MAX];
    struct fastport_place place; /* of VETH, TAP */
};

/* Makes it, from wherever the ledger says that it is. A failure takes everything back; when that fails
 * too, the ledger's row stays, as 'going'. Yields. */
bool portsteps_up(const struct portsteps_doors *doors, struct portsteps_port *port, GError **error);
/* Takes it back, and forgets it. Repeats safely. Yields. */
bool portsteps_down(const struct portsteps_doors *doors, struct portsteps_port *port,
                    GError **error);
/* Fields of 'port' as the ledger has them. */
void portsteps_recall(const struct portsteps_doors *doors, struct portsteps_port *port);
/* Whether the port ought to be on a bridge, and what there stands for it. */
bool portsteps_bridged(const Dpd__Port *spec);
const char *portsteps_plug(const struct portsteps_port *port, const Dpd__Port *spec);
