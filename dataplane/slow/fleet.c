/* The fleet: a cached look at the NICs, and the backend's calls on worker threads.
 * F1  The cache is dropped by rtnetlink's events and by our own changes; so a claim that follows a
 *     quiet moment costs no dump.
 * F2  Views are immutable: who holds one across a wait sees the past, and the kernel's refusal of
 *     what no longer fits is the answer.
 * F3  Each call copies what it needs: it may outlive the fiber that asked (worker.h). */
#include "dataplane/slow/fleet.h"

#include <glib-unix.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "hw/link.h"
#include "hw/offload.h"

/* Binding a driver loads firmware on some NICs; removing a vDPA device waits for its queues. */
enum { LOOK_MS = 10000, CHANGE_MS = 15000, GRACE_MS = 2000 };

struct Fleet {
    HwBackend *hw;    /* owned */
    Workers *workers; /* borrowed */
    FleetView *view;  /* owned, NULL when something changed */
    int watch;        /* owned */
    guint source;
    FleetChanged changed;
    void *data;
    guint64 busy_us;
};

/* ---- views ---- */

FleetView *
fleet_view_ref(FleetView *view)
{
    view->refs++;
    return view;
}

void
fleet_view_unref(FleetView *view)
{
    if (view != NULL && --view->refs == 0) {
        hw_inventory_free(view->inventory);
        g_free(view);
    }
}

void
fleet_forget(Fleet *fleet)
{
    g_clear_pointer(&fleet->view, fleet_view_unref);
}

static gboolean
on_event(gint fd, GIOCondition condition, gpointer data)
{
    (void) condition;
    Fleet *fleet = data;
    hw_watch_drain(fd);
    fleet_forget(fleet); /* F1 */
    if (fleet->changed != NULL) {
        fleet->changed(fleet->data);
    }
    return G_SOURCE_CONTINUE;
}

Fleet *
fleet_new(const char *spec, Workers *workers, FleetChanged changed, void *data, GError **error)
{
    g_autoptr(Fleet) fleet = g_new0(Fleet, 1);
    fleet->watch = -1;
    fleet->workers = workers;
    fleet->changed = changed;
    fleet->data = data;
    fleet->hw = hw_open(spec, error);
    if (fleet->hw == NULL) {
        return NULL;
    }
    fleet->watch = hw_watch_open(fleet->hw, error);
    if (fleet->watch < 0) {
        return NULL;
    }
    fleet->source = g_unix_fd_add(fleet->watch, G_IO_IN, on_event, fleet);
    return g_steal_pointer(&fleet);
}

void
fleet_free(Fleet *fleet)
{
    if (fleet != NULL) {
        if (fleet->source != 0) {
            g_source_remove(fleet->source);
        }
        fd_close(&fleet->watch);
        fleet_view_unref(fleet->view);
        hw_close(fleet->hw);
        g_free(fleet);
    }
}

guint64
fleet_busy_us(const Fleet *fleet)
{
    return fleet->busy_us;
}

const char *
fleet_spec(const Fleet *fleet)
{
    return hw_spec(fleet->hw);
}

/* ---- calls ---- */

/* One call with all that it needs, and its result. F3 */
struct call {
    HwBackend *hw; /* borrowed: lives as long as the process */
    bool (*run)(struct call *call, GError **error);
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
    guint64 took_us;
    Fleet *fleet; /* borrowed: for take(), on the loop */
    void (*done)(struct call *call, void *result);
};

static void
call_free(gpointer data)
{
    struct call *call = data;
    g_free(call->dev);
    g_free(call->name);
    g_free(call->text);
    g_free((char *) call->vdpa.mgmt);
    g_free((char *) call->vdpa.name);
    g_free((char *) call->vdpa.mac);
    hw_inventory_free(call->inventory);
    g_free(call);
}

static bool
call_run(void *data, GError **error)
{
    struct call *call = data;
    gint64 began_us = clock_mono_us();
    bool ok = call->run(call, error);
    call->took_us = (guint64) (clock_mono_us() - began_us);
    return ok;
}

static void
take(void *data, void *result)
{
    struct call *call = data;
    call->fleet->busy_us += call->took_us;
    if (call->done != NULL) {
        call->done(call, result);
    }
}

static struct call *
call_new(Fleet *fleet, bool (*run)(struct call *, GError **), const char *dev)
{
    struct call *call = g_new0(struct call, 1);
    call->hw = fleet->hw;
    call->run = run;
    call->dev = g_strdup(dev);
    call->up = -1;
    return call;
}

/* Runs it; 'done' fetches the result while it is there. */
static bool
call_make(Fleet *fleet, struct call *call, const char *what, gint64 wait_ms,
          void (*done)(struct call *, void *), void *result, GError **error)
{
    g_autofree char *key = g_strdup(call->dev);
    call->fleet = fleet;
    call->done = done;
    g_autofree char *step = g_strdup_printf("%s of \"%s\"", what, key);
    return worker_run(fleet->workers, key, step, call_run, call, call_free, take, result, wait_ms,
                      error);
}

/* F1 */
static bool
change_make(Fleet *fleet, struct call *call, const char *what, gint64 wait_ms,
            void (*done)(struct call *, void *), void *result, GError **error)
{
    fleet_forget(fleet);
    bool ok = call_make(fleet, call, what, wait_ms, done, result, error);
    fleet_forget(fleet);
    return ok;
}

static bool
run_look(struct call *call, GError **error)
{
    call->inventory = hw_inventory(call->hw, error);
    return call->inventory != NULL;
}

static void
take_inventory(struct call *call, void *result)
{
    *(HwInventory **) result = g_steal_pointer(&call->inventory);
}

FleetView *
fleet_look(Fleet *fleet, GError **error)
{
    if (fleet->view != NULL) {
        return fleet_view_ref(fleet->view);
    }
    /* Two that look at the same time look twice: neither may wait for the other's hang. */
    static guint64 serial;
    g_autofree char *key = g_strdup_printf("look %" G_GUINT64_FORMAT, ++serial);
    HwInventory *inventory = NULL;
    if (!call_make(fleet, call_new(fleet, run_look, key), "inventory", LOOK_MS, take_inventory,
                   &inventory, error)) {
        return NULL;
    }
    FleetView *view = g_new0(FleetView, 1);
    view->inventory = inventory;
    view->refs = 1;
    fleet_view_unref(fleet->view);
    fleet->view = fleet_view_ref(view);
    return view;
}

static bool
run_set_vf(struct call *call, GError **error)
{
    return hw_set_vf(call->hw, &call->pf, call->number, &call->props, error);
}

bool
fleet_set_vf(Fleet *fleet, const struct hw_pf *pf, const struct hw_vf *vf,
             const struct hw_vf_props *props, GError **error)
{
    struct call *call = call_new(fleet, run_set_vf, vf->dev);
    call->pf = *pf;
    call->number = vf->vf;
    call->props = *props;
    return change_make(fleet, call, "settings", CHANGE_MS, NULL, NULL, error);
}

static bool
run_bind(struct call *call, GError **error)
{
    return hw_bind_driver(call->hw, call->dev, call->text, error);
}

bool
fleet_bind(Fleet *fleet, const char *dev, const char *driver, GError **error)
{
    struct call *call = call_new(fleet, run_bind, dev);
    call->text = g_strdup(driver);
    return change_make(fleet, call, "driver", CHANGE_MS, NULL, NULL, error);
}

static void
take_netdev(struct call *call, void *result)
{
    g_strlcpy(result, call->netdev, IFNAMSIZ);
}

static bool
run_wait_netdev(struct call *call, GError **error)
{
    return hw_wait_netdev(call->hw, call->dev, call->wait_ms, call->netdev, error);
}

bool
fleet_wait_netdev(Fleet *fleet, const char *dev, gint64 wait_ms, char ret_netdev[IFNAMSIZ],
                  GError **error)
{
    struct call *call = call_new(fleet, run_wait_netdev, dev);
    call->wait_ms = wait_ms;
    return call_make(fleet, call, "interface", wait_ms + GRACE_MS, take_netdev, ret_netdev, error);
}

static bool
run_wait_rep(struct call *call, GError **error)
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
    g_autofree char *port = hw_port_name(key);
    g_autofree char *dev = g_strdup_printf("%s on %s", port, key->switch_id);
    struct call *call = call_new(fleet, run_wait_rep, dev);
    call->key = *key;
    call->wait_ms = wait_ms;
    return call_make(fleet, call, "representor", wait_ms + GRACE_MS, take_netdev, ret_netdev,
                     error);
}

static bool
run_set_netdev(struct call *call, GError **error)
{
    struct hw_netdev_set set = {.mac = call->text, .mtu = call->mtu, .up = call->up};
    return hw_set_netdev(call->hw, -1, call->dev, &set, error);
}

bool
fleet_set_netdev(Fleet *fleet, const char *name, const char *mac, guint mtu, int up, GError **error)
{
    struct call *call = call_new(fleet, run_set_netdev, name);
    call->text = g_strdup(mac);
    call->mtu = mtu;
    call->up = up;
    return change_make(fleet, call, "settings", CHANGE_MS, NULL, NULL, error);
}

static bool
run_rename(struct call *call, GError **error)
{
    return hw_rename_netdev(call->hw, -1, call->dev, call->text, error);
}

bool
fleet_rename(Fleet *fleet, const char *name, const char *new_name, GError **error)
{
    struct call *call = call_new(fleet, run_rename, name);
    call->text = g_strdup(new_name);
    return change_make(fleet, call, "name", CHANGE_MS, NULL, NULL, error);
}

static bool
run_add_vdpa(struct call *call, GError **error)
{
    return hw_add_vdpa(call->hw, &call->vdpa, &call->made, error);
}

static void
take_vdpa(struct call *call, void *result)
{
    *(struct hw_vdpa *) result = call->made;
}

bool
fleet_add_vdpa(Fleet *fleet, const char *dev, const struct hw_vdpa_new *want,
               struct hw_vdpa *ret_vdpa, GError **error)
{
    struct call *call = call_new(fleet, run_add_vdpa, dev);
    call->vdpa = *want;
    call->vdpa.mgmt = g_strdup(want->mgmt);
    call->vdpa.name = g_strdup(want->name);
    call->vdpa.mac = g_strdup(want->mac);
    return change_make(fleet, call, "vDPA device", CHANGE_MS, take_vdpa, ret_vdpa, error);
}

static bool
run_del_vdpa(struct call *call, GError **error)
{
    return hw_del_vdpa(call->hw, call->name, error);
}

bool
fleet_del_vdpa(Fleet *fleet, const char *dev, const char *name, GError **error)
{
    struct call *call = call_new(fleet, run_del_vdpa, dev);
    call->name = g_strdup(name);
    return change_make(fleet, call, "removal of the vDPA device", CHANGE_MS, NULL, NULL, error);
}

static bool
run_set_checksum(struct call *call, GError **error)
{
    return offload_set_checksum(call->dev, call->up == 1, error);
}

bool
fleet_set_checksum(Fleet *fleet, const char *name, bool on, GError **error)
{
    struct call *call = call_new(fleet, run_set_checksum, name);
    call->up = on;
    return change_make(fleet, call, "checksums", CHANGE_MS, NULL, NULL, error);
}

static bool
run_get_netdev(struct call *call, GError **error)
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
take_link(struct call *call, void *result)
{
    *(struct fleet_netdev *) result =
        (struct fleet_netdev){call->mtu, call->up, (int) call->number - 1};
}

bool
fleet_get_netdev(Fleet *fleet, const char *name, struct fleet_netdev *ret, GError **error)
{
    return call_make(fleet, call_new(fleet, run_get_netdev, name), "look", CHANGE_MS, take_link,
                     ret, error);
}
