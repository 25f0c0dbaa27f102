/* The fleet: a cached look at the NICs.
 * F1  What of the NICs rtnetlink tells of, and what we change ourselves, is looked at again before it
 *     is leant on: a VF by itself, anything else by a whole new look. So a claim on a host of many VFs
 *     costs a look at one of them.
 * F2  Views are immutable: who holds one across a wait sees the past, and the kernel's refusal of
 *     what no longer fits is the answer.
 * Calls of the backend, and all changes, are in fleetcall.c. */
#include "dataplane/slow/fleet.h"

#include <glib-unix.h>
#include <string.h>

#include "base/fd.h"
#include "dataplane/slow/fleetcall.h"

/* More than these are looked at together in one dump. */
enum { STALE_MAX = 16, SAME_INDEX = -1, LOOK_MS = 10000 };

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

void
fleet_hear(Fleet *fleet)
{
    hw_watch_read(fleet->watch, hear, fleet);
}

void
fleet_doubt(Fleet *fleet, const char *dev)
{
    mark_stale(fleet, dev, SAME_INDEX);
}

static gboolean
on_event(gint fd, GIOCondition condition, gpointer data)
{
    (void) condition;
    Fleet *fleet = data;
    fleet_hear(fleet); /* F1 */
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

/* ---- looking ---- */

static bool
run_look(struct fleet_call *call, GError **error)
{
    call->inventory = hw_inventory(call->hw, error);
    return call->inventory != NULL;
}

static bool
run_refresh(struct fleet_call *call, GError **error)
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
take_inventory(struct fleet_call *call, void *result)
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
static struct fleet_call *
look_new(Fleet *fleet, bool (*run)(struct fleet_call *, GError **))
{
    static guint64 serial;
    g_autofree char *key = g_strdup_printf("look %" G_GUINT64_FORMAT, ++serial);
    struct fleet_call *call = fleetcall_new(fleet, run, key);
    call->same = true;
    return call;
}

static FleetView *
look_all(Fleet *fleet, GError **error)
{
    HwInventory *inventory = NULL;
    guint64 serial = fleet->serial;
    if (!fleetcall_make(fleet, look_new(fleet, run_look), "inventory", LOOK_MS, take_inventory,
                        &inventory, error)) {
        return NULL;
    }
    return keep_view(fleet, inventory, serial);
}

/* The view with what is stale looked at; NULL, without an error, when that does not do. */
static FleetView *
refresh(Fleet *fleet, GError **error)
{
    struct fleet_call *call = look_new(fleet, run_refresh);
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
    if (!fleetcall_make(fleet, call, "virtual functions", LOOK_MS, take_inventory, &inventory,
                        error)) {
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
