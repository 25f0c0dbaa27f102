/* The fleet: a cached look at the NICs, and the backend's calls on worker threads.
 * F1  What of the NICs rtnetlink tells of, and what we change ourselves, is looked at again before it
 *     is leant on: a VF by itself, anything else by a whole new look. So a claim on a host of many VFs
 *     costs a look at one of them.
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
/* More than these are looked at together in one dump. */
enum { STALE_MAX = 16, SAME_INDEX = -1 };

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
    fleet->serial++;
    g_hash_table_remove_all(fleet->stale);
    g_clear_pointer(&fleet->view, fleet_view_unref);
}

static void
mark_stale(Fleet *fleet, const char *dev, int index)
{
    fleet->serial++;
    if (index == SAME_INDEX && g_hash_table_contains(fleet->stale, dev)) {
        return;
    }
    g_hash_table_insert(fleet->stale, g_strdup(dev), GINT_TO_POINTER(index));
}

/* An interface that the view has: true when it is known what that means. */
static bool
hear_known(Fleet *fleet, const struct hw_event *event)
{
    const HwInventory *inventory = fleet->view->inventory;
    for (guint i = 0; i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        if (vf->ifindex == event->index) {
            mark_stale(fleet, vf->dev, event->gone ? 0 : SAME_INDEX);
            return true;
        }
    }
    for (guint i = 0; i < inventory->reps->len; i++) {
        const struct hw_rep *rep = hw_rep_at(inventory, i);
        if (rep->ifindex == event->index) {
            return !event->gone && strcmp(rep->netdev, event->name) == 0;
        }
    }
    return fleet->setting == event->index && !event->gone;
}

/* A new interface, or one that is none of the NICs'. */
static bool
hear_other(Fleet *fleet, const struct hw_event *event)
{
    const HwInventory *inventory = fleet->view->inventory;
    for (guint i = 0; i < inventory->pfs->len; i++) {
        if (hw_pf_at(inventory, i)->ifindex == event->index) {
            return false;
        }
    }
    const struct hw_vf *vf = event->dev[0] != '\0' ? hw_find_vf(inventory, event->dev) : NULL;
    if (vf != NULL && !event->gone) {
        mark_stale(fleet, vf->dev, event->index);
        return true;
    }
    /* A simulated NIC's interfaces are veths like an instance's. */
    bool real = strcmp(fleet_spec(fleet), "kernel") == 0;
    return !event->port && event->dev[0] == '\0' && event->kind[0] != '\0' &&
           strcmp(event->kind, "bond") != 0 && (real || strcmp(event->kind, "veth") != 0);
}

static void
hear(const struct hw_event *event, void *data)
{
    Fleet *fleet = data;
    if (event == NULL ||
        (fleet->view != NULL && !hear_known(fleet, event) && !hear_other(fleet, event))) {
        fleet_forget(fleet);
    } else if (fleet->view == NULL) {
        fleet->serial++;
    }
}

static gboolean
on_event(gint fd, GIOCondition condition, gpointer data)
{
    (void) condition;
    Fleet *fleet = data;
    hw_watch_read(fd, hear, fleet); /* F1 */
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
    fleet->stale = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
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
        g_hash_table_unref(fleet->stale);
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
    GArray *indexes; /* of the VFs to look at, owned */
    bool same;
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
    if (call->indexes != NULL) {
        g_array_unref(call->indexes);
    }
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

/* F1: of what only a whole look shows. */
static bool
change_make(Fleet *fleet, struct call *call, const char *what, gint64 wait_ms,
            void (*done)(struct call *, void *), void *result, GError **error)
{
    fleet_forget(fleet);
    bool ok = call_make(fleet, call, what, wait_ms, done, result, error);
    fleet_forget(fleet);
    return ok;
}

/* F1: of a VF, whose index is known. Its events are ours, too, and come with the kernel's yes. */
static bool
change_vf(Fleet *fleet, struct call *call, GError **error)
{
    g_autofree char *vf = g_strdup(call->dev);
    fleet->settings++;
    fleet->setting = call->pf.ifindex;
    bool ok = call_make(fleet, call, "settings", CHANGE_MS, NULL, NULL, error);
    hw_watch_read(fleet->watch, hear, fleet);
    mark_stale(fleet, vf, SAME_INDEX);
    if (--fleet->settings == 0) {
        fleet->setting = 0;
    }
    if (!ok) {
        fleet_forget(fleet);
    }
    return ok;
}

/* F1: of an interface. The kernel tells of it before it says yes. */
static bool
change_netdev(Fleet *fleet, struct call *call, const char *what, GError **error)
{
    bool ok = call_make(fleet, call, what, CHANGE_MS, NULL, NULL, error);
    hw_watch_read(fleet->watch, hear, fleet);
    return ok;
}

/* ---- looking ---- */

static bool
run_look(struct call *call, GError **error)
{
    call->inventory = hw_inventory(call->hw, error);
    return call->inventory != NULL;
}

static bool
run_refresh(struct call *call, GError **error)
{
    call->same = true;
    for (guint i = 0; i < call->indexes->len && call->same; i++) {
        if (!hw_refresh_vf(call->hw, call->inventory, g_array_index(call->indexes, guint, i),
                           &call->same, error)) {
            return false;
        }
    }
    return true;
}

static void
take_inventory(struct call *call, void *result)
{
    *(HwInventory **) result = call->same ? g_steal_pointer(&call->inventory) : NULL;
}

/* Keeps it, unless it is the past already. Gives a reference. */
static FleetView *
keep_view(Fleet *fleet, HwInventory *inventory, guint64 serial)
{
    FleetView *view = g_new0(FleetView, 1);
    view->inventory = inventory;
    view->refs = 1;
    if (serial == fleet->serial) {
        fleet_view_unref(fleet->view);
        fleet->view = fleet_view_ref(view);
    }
    return view;
}

/* Two that look at the same time look twice: neither may wait for the other's hang. */
static struct call *
look_new(Fleet *fleet, bool (*run)(struct call *, GError **))
{
    static guint64 serial;
    g_autofree char *key = g_strdup_printf("look %" G_GUINT64_FORMAT, ++serial);
    struct call *call = call_new(fleet, run, key);
    call->same = true;
    return call;
}

static FleetView *
look_all(Fleet *fleet, GError **error)
{
    HwInventory *inventory = NULL;
    guint64 serial = fleet->serial;
    if (!call_make(fleet, look_new(fleet, run_look), "inventory", LOOK_MS, take_inventory,
                   &inventory, error)) {
        return NULL;
    }
    return keep_view(fleet, inventory, serial);
}

/* The view with what is stale looked at; NULL, without an error, when that does not do. */
static FleetView *
refresh(Fleet *fleet, GError **error)
{
    struct call *call = look_new(fleet, run_refresh);
    HwInventory *inventory = NULL;
    gpointer dev, index;
    call->inventory = hw_inventory_dup(fleet->view->inventory);
    call->indexes = g_array_new(FALSE, FALSE, sizeof(guint));
    for (guint i = 0; i < call->inventory->vfs->len; i++) {
        struct hw_vf *vf = hw_vf_at(call->inventory, i);
        if (g_hash_table_lookup_extended(fleet->stale, vf->dev, &dev, &index)) {
            vf->ifindex =
                GPOINTER_TO_INT(index) == SAME_INDEX ? vf->ifindex : GPOINTER_TO_INT(index);
            g_array_append_val(call->indexes, i);
        }
    }
    guint64 serial = fleet->serial;
    if (!call_make(fleet, call, "virtual functions", LOOK_MS, take_inventory, &inventory, error)) {
        fleet_forget(fleet);
        return NULL;
    }
    if (inventory == NULL) {
        fleet_forget(fleet);
        return NULL;
    }
    if (serial == fleet->serial) {
        g_hash_table_remove_all(fleet->stale);
    }
    return keep_view(fleet, inventory, serial);
}

FleetView *
fleet_look(Fleet *fleet, GError **error)
{
    if (fleet->view != NULL && g_hash_table_size(fleet->stale) == 0) {
        return fleet_view_ref(fleet->view);
    }
    g_autoptr(GError) why = NULL;
    FleetView *view = fleet->view != NULL && g_hash_table_size(fleet->stale) <= STALE_MAX
                          ? refresh(fleet, &why)
                          : NULL;
    if (why != NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    return view != NULL ? view : look_all(fleet, error);
}

FleetView *
fleet_check(Fleet *fleet, const char *dev, GError **error)
{
    if (fleet->view != NULL) {
        mark_stale(fleet, dev, SAME_INDEX);
    }
    return fleet_look(fleet, error);
}

/* ---- changing ---- */

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
    return change_vf(fleet, call, error);
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
    const struct hw_rep *rep =
        fleet->view != NULL ? hw_find_rep(fleet->view->inventory, key) : NULL;
    if (rep != NULL && rep->netdev[0] != '\0') {
        g_strlcpy(ret_netdev, rep->netdev, IFNAMSIZ);
        return true;
    }
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
    return change_netdev(fleet, call, "settings", error);
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
    return change_netdev(fleet, call, "name", error);
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
    return change_netdev(fleet, call, "checksums", error);
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
