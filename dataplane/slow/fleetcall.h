/* fleetcall.h: the fleet's inside, for its files: what it has, and calls of the backend on worker threads.
 * Threads: main loop, in fibers. */
#pragma once
#include "dataplane/slow/fleet.h"

struct Fleet {
    HwBackend *hw;    /* owned */
    Workers *workers; /* borrowed */
    FleetView *view;  /* owned, NULL when anything may have changed */
    GHashTable
        *stale; /* VFs of the view to be looked at: dev → index of its interface, SAME_INDEX */
    guint64 serial; /* of the last change that was noticed: what was seen before it is the past */
    int setting;    /* index of a PF that we ourselves are changing, 0 */
    guint settings; /* how many such changes are under way */
    int watch;      /* owned */
    guint source;
    FleetChanged changed;
    void *data;
    guint64 busy_us;
};

/* One call with all that it needs, and its result. C1 */
struct fleet_call {
    HwBackend *hw; /* borrowed: lives as long as the process */
    bool (*run)(struct fleet_call *call, GError **error);
    char *dev, *name, *text;
    struct hw_pf pf;
    guint number;
    struct hw_vf_props props;
    struct hw_port_key key;
    gint64 wait_ms;
    guint mtu;
    int up;
    struct hw_vdpa_new vdpa; /* its texts are owned */
    struct hw_vdpa made;
    char netdev[IFNAMSIZ];
    HwInventory *inventory;
    GArray *indexes; /* of the VFs to look at, owned */
    bool same;
    guint64 took_us;
    Fleet *fleet; /* borrowed: for take(), on the loop */
    void (*done)(struct fleet_call *call, void *result);
};

/* A call about 'dev' (a device or an interface), to be filled and made. */
struct fleet_call *fleetcall_new(Fleet *fleet, bool (*run)(struct fleet_call *, GError **),
                                 const char *dev);
/* Runs it, takes it; 'done' (may be NULL) fetches the result while it is there. Yields. */
bool fleetcall_make(Fleet *fleet, struct fleet_call *call, const char *what, gint64 wait_ms,
                    void (*done)(struct fleet_call *, void *), void *result, GError **error);

/* fleet.c, beside fleet_forget(): a VF to be looked at before it is leant on; its interface is the same. */
void fleet_doubt(Fleet *fleet, const char *dev);
/* Rtnetlink's events until now. */
void fleet_hear(Fleet *fleet);
