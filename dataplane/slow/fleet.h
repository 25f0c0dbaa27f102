/* fleet.h: the host's NICs as hawser-dpd uses them: the last look at them, and changes with deadlines.
 * Threads: main loop, inside fibers; the kernel is asked on worker threads. */
#pragma once
#include "dataplane/slow/worker.h"
#include "hw/backend.h"

typedef struct Fleet Fleet;
/* One look; holders share it, it does not change. */
typedef struct FleetView {
    HwInventory *inventory; /* owned */
    guint refs;
} FleetView;
FleetView *fleet_view_ref(FleetView *view);
void fleet_view_unref(FleetView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FleetView, fleet_view_unref)

/* 'spec' as hw_open() takes it. 'changed' (may be NULL) is called when links came, went or changed. */
typedef void (*FleetChanged)(void *data);
Fleet *fleet_new(const char *spec, Workers *workers, FleetChanged changed, void *data,
                 GError **error);
void fleet_free(Fleet *fleet);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fleet, fleet_free)
const char *fleet_spec(const Fleet *fleet);
/* Time spent in the backend's calls so far, all together. */
guint64 fleet_busy_us(const Fleet *fleet);

/* The host as it is now: of it is looked at again only what has changed. Caller unrefs. Yields. */
FleetView *fleet_look(Fleet *fleet, GError **error);
/* The same, and the VF 'dev' looked at for certain: somebody else may have taken it silently. Yields. */
FleetView *fleet_check(Fleet *fleet, const char *dev, GError **error);
/* The next look is a new one. */
void fleet_forget(Fleet *fleet);

/* As their namesakes of hw/backend.h. All have deadlines: TIMEOUT, and BUSY while earlier work on the
 * same device hangs. All yield. */
bool fleet_set_vf(Fleet *fleet, const struct hw_pf *pf, const struct hw_vf *vf,
                  const struct hw_vf_props *props, GError **error);
bool fleet_bind(Fleet *fleet, const char *dev, const char *driver, GError **error);
bool fleet_wait_netdev(Fleet *fleet, const char *dev, gint64 wait_ms, char ret_netdev[IFNAMSIZ],
                       GError **error);
bool fleet_wait_rep(Fleet *fleet, const struct hw_port_key *key, gint64 wait_ms,
                    char ret_netdev[IFNAMSIZ], GError **error);
/* mac NULL, mtu 0, up -1: as it is. */
bool fleet_set_netdev(Fleet *fleet, const char *name, const char *mac, guint mtu, int up,
                      GError **error);
bool fleet_rename(Fleet *fleet, const char *name, const char *new_name, GError **error);
bool fleet_add_vdpa(Fleet *fleet, const char *dev, const struct hw_vdpa_new *want,
                    struct hw_vdpa *ret_vdpa, GError **error);
bool fleet_del_vdpa(Fleet *fleet, const char *dev, const char *name, GError **error);

/* Whether what is sent may leave the checksum to hardware. */
bool fleet_set_checksum(Fleet *fleet, const char *name, bool on, GError **error);

struct fleet_netdev {
    guint mtu;
    int up, checksum; /* checksum: -1 where the driver does not say */
};
/* NOT_FOUND when our namespace has no such interface. */
bool fleet_get_netdev(Fleet *fleet, const char *name, struct fleet_netdev *ret, GError **error);
