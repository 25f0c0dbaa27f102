/* The steps of a port: claim, configure, bind, plug; and back.
 * P1  A step is in the ledger before it is made, and what it changes was noted before that: a crash
 *     leaves the world at most one step from the record, and making or undoing that step again is
 *     harmless.
 * P2  Undone in the opposite order: off the bridge first, the function's old settings last.
 * P3  On a bridge only what is ready to carry packets; off it before it goes.
 *     A port of the host's own kind stands on it by its slow pair, if it has one (fastport.c).
 * P4  Every property of a function and of its representor that we change is put back as it was.
 * Not here: what the devices are bound to (portbind.c).
 * Crash points: "claim", "bind", "plug" around those steps, "release" around each one undone. */
#include "dataplane/slow/portsteps.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/fiber.h"
#include "base/log.h"
#include "dataplane/slow/claim.h"
#include "dataplane/slow/portbind.h"
#include "proto/dpdwire.h"

enum { NETDEV_MS = 5000, REP_MS = 5000, CHOICES = 16 };

typedef const struct portsteps_doors Doors;
typedef struct portsteps_port PortWork;

static bool
is_vf(const Dpd__Port *spec)
{
    return spec->kind == DPD__KIND__VF || spec->kind == DPD__KIND__VDPA;
}

bool
portsteps_bridged(const Dpd__Port *spec)
{
    return spec->iface_id[0] != '\0';
}

const char *
portsteps_plug(const PortWork *port, const Dpd__Port *spec)
{
    return port->claimed              ? port->representor
           : port->place.plug[0] != 0 ? port->place.plug
                                      : spec->netdev;
}

static HwUse
use_of(const Dpd__Port *spec)
{
    if (spec->kind == DPD__KIND__VDPA) {
        return HW_USE_VDPA;
    }
    if (portsteps_bridged(spec)) {
        return spec->vfio ? HW_USE_REP_VFIO : HW_USE_REP_NETDEV;
    }
    return spec->vfio ? HW_USE_VFIO : HW_USE_NETDEV;
}

/* ---- claim ---- */

static bool
is_held(const char *dev, void *data)
{
    return ledger_holder(data, dev) != NULL;
}

static bool
begin(Doors *doors, const PortWork *port, LedgerStep step, GError **error)
{
    const LedgerRow *row = ledger_find(doors->ledger, port->id);
    g_autoptr(GBytes) spec = dpdwire_pack(&port->spec->base);
    /* What is asked for otherwise now is what a later life has to find. */
    return (row != NULL && g_bytes_equal(row->spec, spec)) ||
           ledger_begin(doors->ledger, port->id, spec, step, error);
}

static const struct hw_vf *
choose(Doors *doors, const Dpd__Port *spec, const HwInventory *inventory, GError **error)
{
    g_autoptr(GPtrArray) parents = g_ptr_array_new();
    for (size_t i = 0; i < spec->n_parents; i++) {
        g_ptr_array_add(parents, spec->parents[i]);
    }
    g_ptr_array_add(parents, NULL);
    struct claim_wish wish = {.use = use_of(spec),
                              .parents =
                                  spec->n_parents > 0 ? (const char *const *) parents->pdata : NULL,
                              .numa = (int) spec->numa_plus_one - 1};
    return claim_choose(inventory, &wish, is_held, doors->ledger, error);
}

/* Chosen, looked at, and chosen again: somebody may have taken it between a look and now. After the
 * second choice no fiber can come before the ledger has noted it. */
static bool
claim_make(Doors *doors, PortWork *port, GError **error)
{
    if (port->claimed) {
        return true;
    }
    g_autoptr(FleetView) view = fleet_look(doors->fleet, error);
    if (view != NULL && portbind_bare(view->inventory, port->spec) != NULL) {
        return begin(doors, port, LEDGER_CLAIMED, error);
    }
    char dev[HW_DEV_MAX] = "";
    const struct hw_vf *vf = NULL;
    for (guint round = 0; view != NULL && round < CHOICES; round++) {
        vf = choose(doors, port->spec, view->inventory, error);
        if (vf == NULL || strcmp(vf->dev, dev) == 0) {
            break;
        }
        g_strlcpy(dev, vf->dev, sizeof(dev));
        fleet_view_unref(view);
        view = fleet_check(doors->fleet, dev, error);
    }
    if (view == NULL || vf == NULL) {
        return false;
    }
    VfState state;
    vfstate_take(view->inventory, vf, &state);
    g_autofree char *text = vfstate_text(&state);
    g_autoptr(GBytes) spec = dpdwire_pack(&port->spec->base);
    crash_point("claim");
    if (!ledger_claim(doors->ledger, port->id, spec, state.dev, text, error)) {
        return false;
    }
    port->before = state;
    port->claimed = true;
    crash_point("claim");
    return true;
}

/* The function as it is now; false without an error when the host no longer has it. */
static bool
look(Doors *doors, const PortWork *port, FleetView **ret_view, const struct hw_pf **ret_pf,
     const struct hw_vf **ret_vf, GError **error)
{
    *ret_view = fleet_look(doors->fleet, error);
    if (*ret_view == NULL) {
        return false;
    }
    const struct hw_vf *vf = hw_find_vf((*ret_view)->inventory, port->before.dev);
    *ret_vf = vf;
    *ret_pf = vf != NULL ? hw_pf_at((*ret_view)->inventory, vf->pf) : NULL;
    return vf != NULL;
}

/* ---- configure ---- */

static int
choice(Dpd__Choice wanted)
{
    return wanted == DPD__CHOICE__AS_IS ? -1 : wanted == DPD__CHOICE__ON;
}

static bool
wants_netdev(const Dpd__Port *spec)
{
    return spec->kind == DPD__KIND__VF && !spec->vfio;
}

/* What is learned after the claim, before it is changed. P1 */
static bool
note_before(Doors *doors, const PortWork *port, GError **error)
{
    g_autofree char *text = vfstate_text(&port->before);
    return ledger_note(doors->ledger, port->id, text, error);
}

/* A datapath that reads raw frames needs the checksum in them. */
static bool
plain_netdev(Doors *doors, PortWork *port, GError **error)
{
    struct fleet_netdev found;
    if (port->before.checksum < 0) {
        if (!fleet_get_netdev(doors->fleet, port->netdev, &found, error)) {
            return false;
        }
        port->before.checksum = found.checksum;
        if (found.checksum == 1 && !note_before(doors, port, error)) {
            return false;
        }
    }
    return port->before.checksum != 1 ||
           fleet_set_checksum(doors->fleet, port->netdev, false, error);
}

static bool
configure_netdev(Doors *doors, PortWork *port, const struct hw_vf *vf, GError **error)
{
    /* Of a port that was ready before, an interface that is not here is where it was wanted, and one
     * that is as it was wanted may be on its way there. */
    bool ready = ledger_find(doors->ledger, port->id)->step == LEDGER_READY;
    if (ready && vf->netdev[0] == '\0') {
        return true;
    }
    const char *mac = port->spec->mac[0] != '\0' ? port->spec->mac : NULL;
    if (vf->netdev[0] != '\0') {
        g_strlcpy(port->netdev, vf->netdev, sizeof(port->netdev));
    } else if (!fleet_wait_netdev(doors->fleet, vf->dev, NETDEV_MS, port->netdev, error)) {
        return false;
    }
    bool same = (mac == NULL || g_ascii_strcasecmp(mac, vf->netdev_mac) == 0) &&
                (port->spec->mtu == 0 || port->spec->mtu == vf->mtu);
    return ((same && (ready || vf->up == 0)) ||
            fleet_set_netdev(doors->fleet, port->netdev, mac, port->spec->mtu, 0, error)) &&
           (!port->spec->plain || plain_netdev(doors, port, error));
}

static bool
configure_make(Doors *doors, PortWork *port, GError **error)
{
    if (!port->claimed) {
        return true;
    }
    g_autoptr(FleetView) view = NULL;
    const struct hw_pf *pf;
    const struct hw_vf *vf;
    g_autoptr(GError) why = NULL;
    if (!look(doors, port, &view, &pf, &vf, &why)) {
        return why != NULL ? (g_propagate_error(error, g_steal_pointer(&why)), false)
                           : portbind_gone(port, error);
    }
    struct hw_vf_props want, change;
    hw_vf_props_none(&want);
    g_strlcpy(want.mac, port->spec->mac, sizeof(want.mac));
    if (!portsteps_bridged(port->spec)) {
        want.vlan = (int) port->spec->vlan;
    }
    want.spoofchk = choice(port->spec->spoof_check);
    want.trust = choice(port->spec->trust);
    if (vfstate_differ(&want, &vf->props, &change) &&
        !fleet_set_vf(doors->fleet, pf, vf, &change, error)) {
        return haw_push(error, "set up virtual function %u of \"%s\"", vf->vf, pf->netdev);
    }
    return !wants_netdev(port->spec) || configure_netdev(doors, port, vf, error);
}

/* The interface, back under its old name with its old settings. P4 */
static bool
restore_netdev(Doors *doors, const PortWork *port, const struct hw_vf *vf, GError **error)
{
    const VfState *before = &port->before;
    char now[IFNAMSIZ];
    g_strlcpy(now, vf->netdev, sizeof(now));
    if (now[0] == '\0' && !fleet_wait_netdev(doors->fleet, vf->dev, NETDEV_MS, now, error)) {
        return haw_push(error, "interface \"%s\" did not come back", before->netdev);
    }
    if (strcmp(now, before->netdev) != 0 &&
        !fleet_rename(doors->fleet, now, before->netdev, error)) {
        return false;
    }
    if (before->checksum == 1 && !fleet_set_checksum(doors->fleet, before->netdev, true, error)) {
        return false;
    }
    bool mac = g_ascii_strcasecmp(vf->netdev_mac, before->mac) != 0;
    return fleet_set_netdev(doors->fleet, before->netdev, mac ? before->mac : NULL, before->mtu,
                            before->up, error);
}

static bool
configure_undo(Doors *doors, PortWork *port, GError **error)
{
    if (!port->claimed) {
        return true;
    }
    g_autoptr(FleetView) view = NULL;
    const struct hw_pf *pf;
    const struct hw_vf *vf;
    struct hw_vf_props change;
    g_autoptr(GError) why = NULL;
    if (!look(doors, port, &view, &pf, &vf, &why)) {
        if (why != NULL) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        haw_warn("port.vf_gone", KS("port", port->id), KS("vf", port->before.dev));
        return true;
    }
    /* The PF's word first: some drivers refuse the interface's own address against it. */
    if (vfstate_differ(&port->before.props, &vf->props, &change) &&
        !fleet_set_vf(doors->fleet, pf, vf, &change, error)) {
        return haw_push(error, "restore virtual function %u of \"%s\"", vf->vf, pf->netdev);
    }
    return port->before.netdev[0] == '\0' || restore_netdev(doors, port, vf, error);
}

/* ---- plug ---- */

/* The representor, found (late, perhaps), noted as it was, up. P3, P4 */
static bool
raise_representor(Doors *doors, PortWork *port, GError **error)
{
    VfState *before = &port->before;
    char rep[IFNAMSIZ];
    if (!fleet_wait_rep(doors->fleet, &before->key, REP_MS, rep, error)) {
        return false;
    }
    if (before->rep_up < 0 || strcmp(rep, before->rep) != 0) {
        struct fleet_netdev found;
        if (!fleet_get_netdev(doors->fleet, rep, &found, error)) {
            return false;
        }
        g_strlcpy(before->rep, rep, sizeof(before->rep));
        before->rep_mtu = found.mtu;
        before->rep_up = found.up;
        before->rep_checksum = found.checksum;
        if (!note_before(doors, port, error)) {
            return false;
        }
    }
    g_strlcpy(port->representor, rep, sizeof(port->representor));
    guint mtu = port->spec->mtu != before->rep_mtu ? port->spec->mtu : 0;
    return (!port->spec->plain || before->rep_checksum != 1 ||
            fleet_set_checksum(doors->fleet, rep, false, error)) &&
           fleet_set_netdev(doors->fleet, rep, NULL, mtu, 1, error);
}

static bool
raise_netdev(Doors *doors, const PortWork *port, GError **error)
{
    struct fleet_netdev found;
    if (!fleet_get_netdev(doors->fleet, port->spec->netdev, &found, error)) {
        return false;
    }
    guint mtu = port->spec->mtu != found.mtu ? port->spec->mtu : 0;
    /* A slow pair completes checksums, but for who reads frames before it. */
    bool plain = port->spec->plain && (port->place.plug[0] == '\0' || port->spec->poll);
    if (plain && found.checksum == 1 &&
        !fleet_set_checksum(doors->fleet, port->spec->netdev, false, error)) {
        return false;
    }
    /* The instance's end may have gone into it already: it takes its setting along. */
    const char *peer = port->spec->peer;
    g_autoptr(GError) why = NULL;
    if (plain && peer[0] != '\0' && !fleet_set_checksum(doors->fleet, peer, false, &why)) {
        haw_debug("port.peer", KS("port", port->id), KS("why", why->message));
    }
    return (found.up == 1 && mtu == 0) ||
           fleet_set_netdev(doors->fleet, port->spec->netdev, NULL, mtu, 1, error);
}

static bool
plug_make(Doors *doors, PortWork *port, GError **error)
{
    const Dpd__Port *spec = port->spec;
    bool vhost = spec->kind == DPD__KIND__VHOST_USER;
    if (spec->fast != NULL) {
        fastport_follow(doors->fast, ovsport_remote(doors->bridges), !spec->plain);
    }
    fastport_make(doors->fast, port->id, spec, &port->place);
    crash_point("plug");
    if (port->claimed ? !raise_representor(doors, port, error)
                      : !vhost && !raise_netdev(doors, port, error)) {
        return false;
    }
    g_autoptr(GPtrArray) pairs = g_ptr_array_new();
    for (size_t i = 0; i < spec->n_external_ids; i++) {
        g_ptr_array_add(pairs, spec->external_ids[i]->key);
        g_ptr_array_add(pairs, spec->external_ids[i]->value);
    }
    g_ptr_array_add(pairs, NULL);
    struct ovsport_want want = {.id = port->id,
                                .bridge = spec->bridge[0] != '\0' ? spec->bridge : "br-int",
                                .netdev = portsteps_plug(port, spec),
                                .type = vhost ? "dpdkvhostuserclient" : "",
                                .path = vhost ? spec->path : NULL,
                                .iface_id = spec->iface_id,
                                .mac = spec->mac,
                                .pairs = (const char *const *) pairs->pdata};
    crash_point("plug");
    return ovsport_plug(doors->bridges, &want, error);
}

static bool
plug_undo(Doors *doors, PortWork *port, GError **error)
{
    if (!ovsport_unplug(doors->bridges, port->id, port->claimed, error)) {
        return false;
    }
    crash_point("release");
    if (!fastport_undo(doors->fast, port->id, port->spec, error)) {
        return false;
    }
    const VfState *before = &port->before;
    if (!port->claimed || before->rep_up < 0) {
        return true;
    }
    struct fleet_netdev found;
    g_autoptr(GError) why = NULL;
    if (!fleet_get_netdev(doors->fleet, before->rep, &found, &why)) {
        return haw_code(why) == HAW_NOT_FOUND ||
               (g_propagate_error(error, g_steal_pointer(&why)), false);
    }
    if (before->rep_checksum == 1 && found.checksum == 0 &&
        !fleet_set_checksum(doors->fleet, before->rep, true, error)) {
        return false;
    }
    return fleet_set_netdev(doors->fleet, before->rep, NULL,
                            found.mtu != before->rep_mtu ? before->rep_mtu : 0, before->rep_up,
                            error);
}

/* ---- the walk ---- */

static bool
binds(const Dpd__Port *spec)
{
    return spec->kind == DPD__KIND__VDPA || (spec->kind == DPD__KIND__VF && spec->vfio);
}

static const struct step {
    LedgerStep step;
    const char *crash;
    bool (*applies)(const Dpd__Port *spec);
    bool (*make)(Doors *doors, PortWork *port, GError **error);
    bool (*undo)(Doors *doors, PortWork *port, GError **error); /* NULL: by ledger_forget() */
} steps[] = {
    {LEDGER_CLAIMED, "claim", is_vf, claim_make, NULL},
    {LEDGER_CONFIGURED, "claim", is_vf, configure_make, configure_undo},
    {LEDGER_BOUND, "bind", binds, portbind_make, portbind_undo},
    {LEDGER_PLUGGED, "plug", portsteps_bridged, plug_make, plug_undo},
};

void
portsteps_recall(Doors *doors, PortWork *port)
{
    const LedgerRow *row = ledger_find(doors->ledger, port->id);
    if (row == NULL || row->vf == NULL) {
        return;
    }
    /* 'made' is the record with what was learned after the claim. */
    port->claimed = vfstate_parse(row->made != NULL ? row->made : row->before, &port->before, NULL);
    if (port->claimed && wants_netdev(port->spec)) {
        g_strlcpy(port->netdev, port->before.netdev, sizeof(port->netdev));
    }
    if (port->claimed && portsteps_bridged(port->spec)) {
        g_strlcpy(port->representor, port->before.rep, sizeof(port->representor));
    }
}

static bool
make_step(Doors *doors, PortWork *port, const struct step *step, GError **error)
{
    /* The claim is recorded with what it takes, by claim_make(), and that it may be configured. */
    if (step->step != LEDGER_CLAIMED && step->step > ledger_find(doors->ledger, port->id)->step &&
        !ledger_step(doors->ledger, port->id, step->step, false, error)) {
        return false;
    }
    crash_point(step->crash);
    if (!step->make(doors, port, error)) {
        return false;
    }
    crash_point(step->crash);
    return true;
}

bool
portsteps_up(Doors *doors, PortWork *port, GError **error)
{
    const LedgerRow *row = ledger_find(doors->ledger, port->id);
    bool adopted = row != NULL && row->step == LEDGER_READY;
    /* Of a port that is only on a bridge one record says all: it may be there. */
    if (!is_vf(port->spec) && !begin(doors, port, LEDGER_READY, error)) {
        return false;
    }
    row = ledger_find(doors->ledger, port->id);
    LedgerStep from = row != NULL ? row->step : LEDGER_NEW;
    portsteps_recall(doors, port);
    g_autoptr(GError) why = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(steps) && why == NULL; i++) {
        /* Complete ones are left alone, but for the bridge, whose database may have lost the port,
         * the name of the device, which only the step knows, and the function's settings, which the
         * host's reboot took. */
        bool again = steps[i].step >= MIN(from, LEDGER_PLUGGED) || steps[i].step == LEDGER_BOUND ||
                     (adopted && steps[i].step == LEDGER_CONFIGURED);
        if (steps[i].applies(port->spec) && again) {
            make_step(doors, port, &steps[i], &why);
        }
    }
    if (why == NULL && ledger_step(doors->ledger, port->id, LEDGER_READY, false, &why)) {
        return true;
    }
    if (!adopted) {
        g_autoptr(GError) left = NULL;
        if (!portsteps_down(doors, port, &left)) {
            haw_warn("port.not_undone", KS("port", port->id), KS("why", left->message));
        }
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
portsteps_down(Doors *doors, PortWork *port, GError **error)
{
    const LedgerRow *row = ledger_find(doors->ledger, port->id);
    if (row == NULL) {
        return true;
    }
    portsteps_recall(doors, port);
    LedgerStep from = row->step;
    for (size_t i = G_N_ELEMENTS(steps); i-- > 0;) { /* P2 */
        if (!steps[i].applies(port->spec) || steps[i].step > from || steps[i].undo == NULL) {
            continue;
        }
        if (is_vf(port->spec) &&
            !ledger_step(doors->ledger, port->id, steps[i].step, true, error)) {
            return false;
        }
        crash_point("release");
        if (!steps[i].undo(doors, port, error)) {
            return false;
        }
        crash_point("release");
    }
    return ledger_forget(doors->ledger, port->id, error);
}
