/* The fleet's calls: the backend asked on worker threads, and every change that we make.
 * C1  Each call copies what it needs: it may outlive the fiber that asked (worker.h).
 * C2  What a change makes old is forgotten with it: the whole view, the one VF, or what rtnetlink has told
 *     by the time the kernel says yes.
 * Called by fleet.c (looks), claim.c and ports.c; main loop, in fibers. */
#include "dataplane/slow/fleetcall.h"

#include <string.h>

#include "base/clock.h"
#include "hw/link.h"
#include "hw/offload.h"

/* Binding a driver loads firmware on some NICs; removing a vDPA device waits for its queues. */
enum { CHANGE_MS = 15000, GRACE_MS = 2000 };

static void
call_free(gpointer data)
{
    struct fleet_call *call = data;
    g_free(call->dev);
    g_free(call->name);
    g_free(call->text);
    g_free((char *) call->vdpa.mgmt);
    g_free((char *) call->vdpa.name);
    g_free((char *) call->vdpa.mac);
    hw_inventory_free(call->inventory);
    if (call->indexes != NULL) {
        g_array_unref(call->indexes);
    }
    g_free(call);
}

static bool
call_run(void *data, GError **error)
{
    struct fleet_call *call = data;
    gint64 began_us = clock_mono_us();
    bool ok = call->run(call, error);
    call->took_us = (guint64) (clock_mono_us() - began_us);
    return ok;
}

static void
take(void *data, void *result)
{
    struct fleet_call *call = data;
    call->fleet->busy_us += call->took_us;
    if (call->done != NULL) {
        call->done(call, result);
    }
}

struct fleet_call *
fleetcall_new(Fleet *fleet, bool (*run)(struct fleet_call *, GError **), const char *dev)
{
    struct fleet_call *call = g_new0(struct fleet_call, 1);
    call->hw = fleet->hw;
    call->run = run;
    call->dev = g_strdup(dev);
    call->up = -1;
    return call;
}

/* Runs it; 'done' fetches the result while it is there. */
bool
fleetcall_make(Fleet *fleet, struct fleet_call *call, const char *what, gint64 wait_ms,
               void (*done)(struct fleet_call *, void *), void *result, GError **error)
{
    g_autofree char *key = g_strdup(call->dev);
    call->fleet = fleet;
    call->done = done;
    g_autofree char *step = g_strdup_printf("%s of \"%s\"", what, key);
    return worker_run(fleet->workers, key, step, call_run, call, call_free, take, result, wait_ms,
                      error);
}

/* C2: of what only a whole look shows. */
static bool
change_make(Fleet *fleet, struct fleet_call *call, const char *what, gint64 wait_ms,
            void (*done)(struct fleet_call *, void *), void *result, GError **error)
{
    fleet_forget(fleet);
    bool ok = fleetcall_make(fleet, call, what, wait_ms, done, result, error);
    fleet_forget(fleet);
    return ok;
}

/* C2: of a VF, whose index is known. Its events are ours, too, and come with the kernel's yes. */
static bool
change_vf(Fleet *fleet, struct fleet_call *call, GError **error)
{
    g_autofree char *vf = g_strdup(call->dev);
    fleet->settings++;
    fleet->setting = call->pf.ifindex;
    bool ok = fleetcall_make(fleet, call, "settings", CHANGE_MS, NULL, NULL, error);
    fleet_hear(fleet);
    fleet_doubt(fleet, vf);
    if (--fleet->settings == 0) {
        fleet->setting = 0;
    }
    if (!ok) {
        fleet_forget(fleet);
    }
    return ok;
}

/* C2: of an interface. The kernel tells of it before it says yes. */
static bool
change_netdev(Fleet *fleet, struct fleet_call *call, const char *what, GError **error)
{
    bool ok = fleetcall_make(fleet, call, what, CHANGE_MS, NULL, NULL, error);
    fleet_hear(fleet);
    return ok;
}

/* ---- changing ---- */

static bool
run_set_vf(struct fleet_call *call, GError **error)
{
    return hw_set_vf(call->hw, &call->pf, call->number, &call->props, error);
}

bool
fleet_set_vf(Fleet *fleet, const struct hw_pf *pf, const struct hw_vf *vf,
             const struct hw_vf_props *props, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_set_vf, vf->dev);
    call->pf = *pf;
    call->number = vf->vf;
    call->props = *props;
    return change_vf(fleet, call, error);
}

static bool
run_bind(struct fleet_call *call, GError **error)
{
    return hw_bind_driver(call->hw, call->dev, call->text, error);
}

bool
fleet_bind(Fleet *fleet, const char *dev, const char *driver, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_bind, dev);
    call->text = g_strdup(driver);
    return change_make(fleet, call, "driver", CHANGE_MS, NULL, NULL, error);
}

static void
take_netdev(struct fleet_call *call, void *result)
{
    g_strlcpy(result, call->netdev, IFNAMSIZ);
}

static bool
run_wait_netdev(struct fleet_call *call, GError **error)
{
    return hw_wait_netdev(call->hw, call->dev, call->wait_ms, call->netdev, error);
}

bool
fleet_wait_netdev(Fleet *fleet, const char *dev, gint64 wait_ms, char ret_netdev[IFNAMSIZ],
                  GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_wait_netdev, dev);
    call->wait_ms = wait_ms;
    return fleetcall_make(fleet, call, "interface", wait_ms + GRACE_MS, take_netdev, ret_netdev,
                          error);
}

static bool
run_wait_rep(struct fleet_call *call, GError **error)
{
    struct hw_rep rep = {0};
    if (!hw_wait_rep(call->hw, &call->key, call->wait_ms, &rep, error)) {
        return false;
    }
    g_strlcpy(call->netdev, rep.netdev, sizeof(call->netdev));
    return true;
}

bool
fleet_wait_rep(Fleet *fleet, const struct hw_port_key *key, gint64 wait_ms,
               char ret_netdev[IFNAMSIZ], GError **error)
{
    const struct hw_rep *rep =
        fleet->view != NULL ? hw_find_rep(fleet->view->inventory, key) : NULL;
    if (rep != NULL && rep->netdev[0] != '\0') {
        g_strlcpy(ret_netdev, rep->netdev, IFNAMSIZ);
        return true;
    }
    g_autofree char *port = hw_port_name(key);
    g_autofree char *dev = g_strdup_printf("%s on %s", port, key->switch_id);
    struct fleet_call *call = fleetcall_new(fleet, run_wait_rep, dev);
    call->key = *key;
    call->wait_ms = wait_ms;
    return fleetcall_make(fleet, call, "representor", wait_ms + GRACE_MS, take_netdev, ret_netdev,
                          error);
}

static bool
run_set_netdev(struct fleet_call *call, GError **error)
{
    struct hw_netdev_set set = {.mac = call->text, .mtu = call->mtu, .up = call->up};
    return hw_set_netdev(call->hw, -1, call->dev, &set, error);
}

bool
fleet_set_netdev(Fleet *fleet, const char *name, const char *mac, guint mtu, int up, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_set_netdev, name);
    call->text = g_strdup(mac);
    call->mtu = mtu;
    call->up = up;
    return change_netdev(fleet, call, "settings", error);
}

static bool
run_rename(struct fleet_call *call, GError **error)
{
    return hw_rename_netdev(call->hw, -1, call->dev, call->text, error);
}

bool
fleet_rename(Fleet *fleet, const char *name, const char *new_name, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_rename, name);
    call->text = g_strdup(new_name);
    return change_netdev(fleet, call, "name", error);
}

static bool
run_add_vdpa(struct fleet_call *call, GError **error)
{
    return hw_add_vdpa(call->hw, &call->vdpa, &call->made, error);
}

static void
take_vdpa(struct fleet_call *call, void *result)
{
    *(struct hw_vdpa *) result = call->made;
}

bool
fleet_add_vdpa(Fleet *fleet, const char *dev, const struct hw_vdpa_new *want,
               struct hw_vdpa *ret_vdpa, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_add_vdpa, dev);
    call->vdpa = *want;
    call->vdpa.mgmt = g_strdup(want->mgmt);
    call->vdpa.name = g_strdup(want->name);
    call->vdpa.mac = g_strdup(want->mac);
    return change_make(fleet, call, "vDPA device", CHANGE_MS, take_vdpa, ret_vdpa, error);
}

static bool
run_del_vdpa(struct fleet_call *call, GError **error)
{
    return hw_del_vdpa(call->hw, call->name, error);
}

bool
fleet_del_vdpa(Fleet *fleet, const char *dev, const char *name, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_del_vdpa, dev);
    call->name = g_strdup(name);
    return change_make(fleet, call, "removal of the vDPA device", CHANGE_MS, NULL, NULL, error);
}

static bool
run_set_checksum(struct fleet_call *call, GError **error)
{
    return offload_set_checksum(call->dev, call->up == 1, error);
}

bool
fleet_set_checksum(Fleet *fleet, const char *name, bool on, GError **error)
{
    struct fleet_call *call = fleetcall_new(fleet, run_set_checksum, name);
    call->up = on;
    return change_netdev(fleet, call, "checksums", error);
}

static bool
run_get_netdev(struct fleet_call *call, GError **error)
{
    struct link_info info;
    g_autoptr(NlSock) sock = nlsock_open(error);
    if (sock == NULL || !link_get(sock, call->dev, &info, error)) {
        return false;
    }
    call->mtu = info.mtu;
    call->up = (info.flags & IFF_UP) != 0;
    call->number = (guint) (offload_get_checksum(call->dev) + 1);
    return true;
}

static void
take_link(struct fleet_call *call, void *result)
{
    *(struct fleet_netdev *) result =
        (struct fleet_netdev){call->mtu, call->up, (int) call->number - 1};
}

bool
fleet_get_netdev(Fleet *fleet, const char *name, struct fleet_netdev *ret, GError **error)
{
    return fleetcall_make(fleet, fleetcall_new(fleet, run_get_netdev, name), "look", CHANGE_MS,
                          take_link, ret, error);
}
