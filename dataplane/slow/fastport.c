/* Ports of kind veth and tap on the fast path.
 *
 *   instance ── H ┬─ hit: straight to the other instance's H
 *                 └─ miss: S ══ O ── br-int          (userspace datapath: it reads raw frames of O)
 *   instance ── H ── br-int                          (kernel datapath: H is the port)
 *
 * F1  A pair is up and its port bound before O is on the bridge, and stays until O is off it: what
 *     the instance sends finds its way at any time in between, also while we are dead.
 * F2  A pair's names follow from the port's id, so a later life finds them again. A port that has a pair
 *     keeps it: to go slow it is switched off, since moving a port on the bridge loses packets.
 * F3  What can't be done is no failure of the port: it is put on the bridge by itself and is slow, with the
 *     reason. The binding comes last, so nothing is half bound.
 * F4  Nothing is fast while the switch's conntrack isn't shown to keep connections of which it sees a part
 *     (proto/switchd.h); what was learned before it ended is forgotten. What one daemon was shown of a
 *     process, the next one believes while that same process runs: on a busy host, asking takes long.
 * F5  Who switched it off finds it off after a restart of the host, when pins are gone: a file says so.
 * F6  A daemon that can't load programs, after one that could, takes away what that one attached, and its pairs:
 *     they are what would swallow packets once ports are on the bridge by themselves.
 * F7  A port that is polled (pollhost.c) has a pair like the others, and no program: what its instance sends is
 *     read from H's packet socket by a process with processors of its own. Never both.
 * Called by portsteps.c and dpd.c. Not here: what is shown of it (fastshow.c). */
#include "dataplane/slow/fastport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ether.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "dataplane/slow/fastage.h"
#include "dataplane/slow/fastattach.h"
#include "dataplane/slow/fastpins.h"
#include "dataplane/slow/slowpair.h"
#include "hw/link.h"
#include "hw/offload.h"
#include "proto/switchd.h"

enum { AGE_MS = 2000, SHOW_MS = 2000, POLLED_MTU = 1900 };

struct FastPorts {
    char *bpf_dir, *off_path;
    FastLoad *load; /* owned; NULL with a trouble */
    PollHost *poll; /* borrowed */
    char *trouble;
    char *rundir; /* of the switch that is followed */
    bool kernel, ageing;
    OvnSwitchd *switchd; /* owned */
    guint tick, doubt;
    GHashTable *notes; /* id → struct note, owned: ports that asked for it */
    GHashTable *ids;   /* interface index of H → struct note, borrowed: those that are bound */
};

struct note {
    char *id, *netdev, *slow; /* owned */
    guint index;              /* of H; 0: not bound */
};

static void
note_free(gpointer data)
{
    struct note *note = data;
    g_free(note->id);
    g_free(note->netdev);
    g_free(note->slow);
    g_free(note);
}

static void
note_drop(FastPorts *fast, const char *id)
{
    const struct note *note = g_hash_table_lookup(fast->notes, id);
    if (note != NULL) {
        g_hash_table_remove(fast->ids, GUINT_TO_POINTER(note->index));
        g_hash_table_remove(fast->notes, id);
    }
}

static void
note_put(FastPorts *fast, const char *id, const Dpd__Port *spec, guint index, const char *slow)
{
    note_drop(fast, id);
    if (spec->fast == NULL && index == 0) {
        return;
    }
    struct note *note = g_new0(struct note, 1);
    note->id = g_strdup(id);
    note->netdev = g_strdup(spec->netdev);
    note->slow = g_strdup(slow);
    note->index = index;
    g_hash_table_insert(fast->notes, note->id, note);
    if (index != 0) {
        g_hash_table_insert(fast->ids, GUINT_TO_POINTER(index), note);
    }
}

/* ---- the switch's conntrack ---- */

/* What is polled goes slow with the others. */
static bool
hold_polled(FastPorts *fast, GError **error)
{
    return pollhost_hold(fast->poll, fastload_config(fast->load)->off != 0, error);
}

static void
hold_fiber(void *data)
{
    FastPorts *fast = data;
    g_autoptr(GError) error = NULL;
    if (!pollhost_bump(fast->poll, NULL, 0, &error) || !hold_polled(fast, &error)) {
        haw_warn("fast.polled", KS("why", error->message));
    }
}

/* F4 */
static void
on_switchd(void *data)
{
    FastPorts *fast = data;
    bool liberal = switchd_liberal(fast->switchd);
    if (fast->doubt != 0) {
        g_source_remove(fast->doubt);
        fast->doubt = 0;
    }
    volatile struct layout_config *config = fastload_config(fast->load);
    guint64 now = liberal ? switchd_identity(fast->switchd) : 0;
    if (config->switchd != now) {
        fastload_bump_all(fast->load);
    }
    config->switchd = now;
    fastload_hold(fast->load, FASTLOAD_OFF_STRICT, !liberal);
    fiber_start("fast hold", hold_fiber, fast);
    haw_info(liberal ? "fast.on" : "fast.held", KS("switch", fast->rundir));
}

/* What was adopted goes on for as long as it takes to ask. F4 */
static gboolean
on_doubt(gpointer data)
{
    FastPorts *fast = data;
    guint64 shown = fastload_config(fast->load)->switchd;
    if (shown != 0 && shown == switchd_identity(fast->switchd)) {
        return G_SOURCE_CONTINUE;
    }
    fast->doubt = 0;
    if (!switchd_liberal(fast->switchd)) {
        on_switchd(fast);
    }
    return G_SOURCE_REMOVE;
}

void
fastport_follow(FastPorts *fast, const char *remote, bool kernel)
{
    const char *path = g_str_has_prefix(remote, "unix:") ? remote + strlen("unix:") : NULL;
    g_autofree char *rundir = path != NULL ? g_path_get_dirname(path) : NULL;
    if (fast->load == NULL || rundir == NULL ||
        (g_strcmp0(rundir, fast->rundir) == 0 && kernel == fast->kernel)) {
        return;
    }
    bool first = fast->switchd == NULL;
    switchd_free(fast->switchd);
    g_free(fast->rundir);
    fast->rundir = g_steal_pointer(&rundir);
    fast->kernel = kernel;
    fast->switchd = switchd_watch(fast->rundir, kernel, on_switchd, fast);
    if (first) {
        fast->doubt = g_timeout_add(SHOW_MS, on_doubt, fast);
    } else {
        on_switchd(fast);
    }
}

/* ---- coming up ---- */

static void
age(void *data)
{
    FastPorts *fast = data;
    fastage_run(fast->load, NULL);
}

static void
age_fiber(void *data)
{
    FastPorts *fast = data;
    fiber_run(age, fast);
    fast->ageing = false;
}

static gboolean
on_tick(gpointer data)
{
    FastPorts *fast = data;
    g_autoptr(GArray) bound = fastload_ports(fast->load);
    fastload_sweep(fast->load);
    if (bound->len > 0 && !fast->ageing) {
        fast->ageing = true;
        fiber_start("fast age", age_fiber, fast);
    }
    return G_SOURCE_CONTINUE;
}

/* F5: the file first, so that it never says less than was answered. */
bool
fastport_switch(FastPorts *fast, bool on, GError **error)
{
    if (fast->load == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED, "There is no fast path: %s", fast->trouble);
    }
    if (on && unlink(fast->off_path) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "Remove '%s'", fast->off_path);
    }
    if (!on && !fd_write_atomic(fast->off_path, "", 0, 0600, error)) {
        return false;
    }
    fastload_hold(fast->load, FASTLOAD_OFF_ASKED, !on);
    haw_info("fast.switched", KS("to", on ? "on" : "off"));
    return hold_polled(fast, error);
}

FastPorts *
fastport_new(const char *bpf_dir, const char *state_dir, PollHost *poll)
{
    FastPorts *fast = g_new0(FastPorts, 1);
    g_autoptr(GError) error = NULL;
    fast->poll = poll;
    fast->bpf_dir = g_strdup(bpf_dir);
    fast->off_path = g_build_filename(state_dir, "fastpath-off", NULL);
    fast->ids = g_hash_table_new(g_direct_hash, g_direct_equal);
    fast->notes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, note_free);
    fast->load = fastload_open(bpf_dir, FASTPORT_FLOWS, &error);
    if (fast->load == NULL) {
        haw_warn("fast.unavailable", KS("why", error->message));
        fast->trouble = g_strdup(error->message);
        fastpins_remove(bpf_dir, NULL); /* F6 */
        return fast;
    }
    fastload_config(fast->load)->trace = 0; /* of a daemon that died while somebody looked */
    g_autoptr(GArray) bound = fastload_ports(fast->load);
    fastload_hold(fast->load, FASTLOAD_OFF_ASKED, access(fast->off_path, F_OK) == 0); /* F5 */
    if (bound->len == 0) {
        fastload_hold(fast->load, FASTLOAD_OFF_STRICT, true); /* F4 */
    }
    fast->tick = g_timeout_add(AGE_MS, on_tick, fast);
    haw_info("fast.ready", KS("pins", bpf_dir), KU("ports", bound->len));
    return fast;
}

void
fastport_free(FastPorts *fast, bool end)
{
    if (fast == NULL) {
        return;
    }
    guint sources[] = {fast->tick, fast->doubt};
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        if (sources[i] != 0) {
            g_source_remove(sources[i]);
        }
    }
    switchd_free(fast->switchd);
    fastload_close(fast->load);
    if (end && fast->load != NULL && fastpins_remove(fast->bpf_dir, NULL)) {
        umount2(fast->bpf_dir, MNT_DETACH); /* when we mounted it; else it isn't a mount */
    }
    g_hash_table_unref(fast->ids);
    g_hash_table_unref(fast->notes);
    g_free(fast->bpf_dir);
    g_free(fast->off_path);
    g_free(fast->trouble);
    g_free(fast->rundir);
    g_free(fast);
}

const char *
fastport_trouble(const FastPorts *fast)
{
    return fast->trouble;
}

FastLoad *
fastport_load(FastPorts *fast)
{
    return fast->load;
}

/* ---- binding ---- */

static void
add_address(FastPort *port, const char *text)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, text, &four) == 1 && port->addr4_count < LAYOUT_ADDRS) {
        port->addr4[port->addr4_count++] = four.s_addr;
    } else if (inet_pton(AF_INET6, text, &six) == 1 && port->addr6_count < LAYOUT_ADDRS) {
        memcpy(port->addr6[port->addr6_count++], &six, sizeof six);
    }
}

static FastPort
port_of(const Dpd__Port *spec, const SlowPair *visit)
{
    const Dpd__Fast *wish = spec->fast;
    FastPort port = {.ifindex = visit->index,
                     .slow = visit->near_index,
                     .peer = spec->kind == DPD__KIND__VETH,
                     .zone = wish != NULL ? (guint16) MIN(wish->zone, LAYOUT_ZONES) : 0,
                     .mtu = (guint16) MIN(visit->mtu, G_MAXUINT16)};
    struct ether_addr mac;
    bool known = ether_aton_r(spec->mac, &mac) != NULL;
    if (known) {
        memcpy(port.mac, &mac, sizeof port.mac);
    }
    for (size_t i = 0; wish != NULL && i < wish->n_addresses; i++) {
        add_address(&port, wish->addresses[i]);
    }
    port.on = known && wish != NULL && wish->slow[0] == '\0';
    return port;
}

static void
say_slow(struct fastport_place *ret, const char *why)
{
    g_strlcpy(ret->slow, why, sizeof ret->slow);
}

static void
explain(const Dpd__Port *spec, const FastPort *port, struct fastport_place *ret)
{
    if (spec->fast == NULL) {
        say_slow(ret, "its network does not ask for the fast path");
    } else if (spec->fast->slow[0] != '\0') {
        say_slow(ret, spec->fast->slow);
    } else if (!port->on) {
        say_slow(ret, "its MAC address is unknown");
    } else if (port->addr4_count + port->addr6_count == 0) {
        say_slow(ret, "its addresses are not known yet");
    }
}

/* With the kernel's datapath nothing has to stay. */
static bool
unbind(FastPorts *fast, const SlowPair *visit, GError **error)
{
    struct layout_nic nic;
    guint index = visit->index;
    if (visit->near_index != 0 &&
        fastload_port_find(fast->load, visit->near_index, true, &nic, NULL)) {
        index = nic.ifindex;
    }
    if (index == 0) {
        return true;
    }
    return fastload_port_unset(fast->load, index, error);
}

static bool
is_local(const Dpd__Port *spec)
{
    return (spec->kind == DPD__KIND__VETH || spec->kind == DPD__KIND__TAP) &&
           spec->iface_id[0] != '\0';
}

/* F3 */
static void
give_up(FastPorts *fast, const char *id, const Dpd__Port *spec, const GError *why,
        struct fastport_place *ret)
{
    g_autoptr(GError) left = NULL;
    haw_warn("fast.port", KS("port", id), KS("why", why->message));
    if (!fastport_undo(fast, id, spec, &left)) {
        haw_warn("fast.not_undone", KS("port", id), KS("why", left->message));
    }
    ret->plug[0] = '\0';
    say_slow(ret, why->message);
}

/* A pair belongs to one interface: what came again has a new index. */
static void
unbind_former(FastPorts *fast, const SlowPair *visit)
{
    struct layout_nic other;
    if (visit->near_index != 0 &&
        fastload_port_find(fast->load, visit->near_index, true, &other, NULL) &&
        other.ifindex != visit->index) {
        fastload_port_unset(fast->load, other.ifindex, NULL);
    }
}

/* Binds the port of an interface that was looked at; false when it isn't bound, with an error when it
 * ought to be. */
static bool
bind_port(FastPorts *fast, const Dpd__Port *spec, const SlowPair *visit, struct fastport_place *ret,
          GError **error)
{
    if (spec->fast != NULL && visit->index == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "there is no interface \"%s\"", spec->netdev);
    }
    if (spec->fast == NULL && visit->near_index == 0) {
        unbind(fast, visit, error);
        return false;
    }
    FastPort port = port_of(spec, visit); /* F2 */
    unbind_former(fast, visit);
    if (!fastload_port_set(fast->load, &port, error)) {
        return false;
    }
    if (visit->near_index != 0) {
        g_strlcpy(ret->plug, visit->far, sizeof ret->plug);
    }
    explain(spec, &port, ret);
    return true;
}

/* ---- polled ---- */

static char *
device_of(const char *kind, const char *id, const char *netdev)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, id, -1);
    return g_strdup_printf("net_af_packet_%s%.10s,iface=%s", kind, sum, netdev);
}

/* F7. Of its ends one is H, the other one S; no program of the kernel's is at them. */
static bool
poll_port(FastPorts *fast, const char *id, const Dpd__Port *spec, const SlowPair *visit,
          GError **error)
{
    Dpd__PollPort port = DPD__POLL_PORT__INIT;
    g_autofree char *device = device_of("h", id, visit->netdev);
    g_autofree char *slow = device_of("s", id, visit->near);
    if (visit->mtu > POLLED_MTU || visit->near_index == 0) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "its MTU is %u (above %d), or its switch is not a userspace one",
                        visit->mtu, POLLED_MTU);
    }
    port.id = (char *) (guintptr) id;
    port.device = device;
    port.slow = slow;
    port.mac = spec->mac;
    port.mtu = visit->mtu;
    port.zone = spec->fast->zone;
    port.addresses = spec->fast->addresses;
    port.n_addresses = MIN(spec->fast->n_addresses, LAYOUT_ADDRS);
    port.off = spec->fast->slow[0] != '\0';
    return unbind(fast, visit, error) && pollhost_put(fast->poll, &port, error);
}

static void
drop_polled(FastPorts *fast, const char *id)
{
    g_autoptr(GError) left = NULL;
    if (!pollhost_drop(fast->poll, id, &left)) {
        haw_warn("fast.polled", KS("port", id), KS("why", left->message));
    }
}

/* Whether it is polled; when it ought to be and can't, the kernel's programs do. */
static bool
try_poll(FastPorts *fast, const char *id, const Dpd__Port *spec, const SlowPair *visit,
         struct fastport_place *ret)
{
    g_autoptr(GError) why = NULL;
    if (spec->poll && spec->kind == DPD__KIND__VETH && spec->fast != NULL && spec->plain &&
        visit->index != 0) {
        if (poll_port(fast, id, spec, visit, &why)) {
            FastPort port = port_of(spec, visit);
            g_strlcpy(ret->plug, visit->far, sizeof ret->plug);
            explain(spec, &port, ret);
            return true;
        }
        haw_warn("fast.unpolled", KS("port", id), KS("why", why->message));
    }
    drop_polled(fast, id);
    return false;
}

void
fastport_make(FastPorts *fast, const char *id, const Dpd__Port *spec, struct fastport_place *ret)
{
    g_autoptr(GError) why = NULL;
    bool bound = false;
    *ret = (struct fastport_place){0};
    if (!is_local(spec)) {
        return;
    }
    SlowPair visit = {.make = spec->fast != NULL && spec->plain};
    if (fast->load == NULL) {
        drop_polled(fast, id);
        visit = (SlowPair){.clear = true}; /* F6 */
        slowpair_visit(&visit, id, spec);
        g_clear_error(&visit.error);
        fastattach_drop(fast->bpf_dir, visit.index, false);
        fastattach_drop(fast->bpf_dir, visit.index, true);
        say_slow(ret, spec->fast != NULL ? fast->trouble : "");
    } else {
        slowpair_visit(&visit, id, spec);
        why = visit.error;
        bool polled = why == NULL && try_poll(fast, id, spec, &visit, ret);
        bound = why == NULL && !polled && bind_port(fast, spec, &visit, ret, &why);
    }
    if (why != NULL) {
        give_up(fast, id, spec, why, ret);
    }
    note_put(fast, id, spec, bound ? visit.index : 0, ret->slow);
}

bool
fastport_undo(FastPorts *fast, const char *id, const Dpd__Port *spec, GError **error)
{
    SlowPair look = {0};
    SlowPair clear = {.clear = true};
    if (!is_local(spec)) {
        return true;
    }
    note_drop(fast, id);
    if (!pollhost_drop(fast->poll, id, error)) {
        return false;
    }
    slowpair_visit(&look, id, spec);
    bool ok = look.error == NULL && (fast->load == NULL || unbind(fast, &look, &look.error));
    if (ok && look.near_index != 0) {
        slowpair_visit(&clear, id, spec);
        ok = clear.error == NULL;
    }
    GError *why = look.error != NULL ? look.error : clear.error;
    if (why != NULL) {
        g_propagate_prefixed_error(error, why, "take port \"%s\" off the fast path: ", id);
    }
    return ok;
}

/* ---- looking ---- */

const char *
fastport_id(FastPorts *fast, guint slot)
{
    struct layout_nic nic;
    if (slot >= LAYOUT_FAR(0)) {
        return "(other host)";
    }
    const struct note *note = fastload_port_at(fast->load, slot, &nic)
                                  ? g_hash_table_lookup(fast->ids, GUINT_TO_POINTER(nic.ifindex))
                                  : NULL;
    return note != NULL ? note->id : "";
}

int
fastport_slot(FastPorts *fast, const char *id)
{
    const struct note *note = g_hash_table_lookup(fast->notes, id);
    struct layout_nic nic;
    guint slot = 0;
    return note != NULL && note->index != 0 &&
                   fastload_port_find(fast->load, note->index, false, &nic, &slot)
               ? (int) slot
               : -1;
}

guint
fastport_count(const FastPorts *fast)
{
    return g_hash_table_size(fast->notes);
}

void
fastport_each(FastPorts *fast, FastPortSeen fn, void *data)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, fast->notes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct note *note = value;
        fn(note->id, note->netdev, note->slow, data);
    }
}
