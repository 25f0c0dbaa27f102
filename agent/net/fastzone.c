/* Zones, and when they are forgotten.
 * Z1  Networks that are peers, directly or by others, are one zone; its number follows from the set of
 *     networks, so that it is the same after a restart. Two zones never share one.
 * Z2  A change that the northbound database took is flushed before ovn_apply() answers: the flows are
 *     installed on this host, OVS's cached ones were checked against them, and only then the zones of
 *     the networks concerned are bumped. Learned before or in between counts no more.
 * Z3  When hawser-dpd can't be told, we wait for longer than a proof lives: then nothing learned before the
 *     change is fast any more, either.
 * Z4  Ports are slow while OVN does something to their packets one by one, which the fast path would skip:
 *     logging, rate limits, marks, mirrors. So are ports of networks with hawser.fastpath=false.
 * Z5  Before the northbound database is connected hawser-dpd keeps what it knows.
 * The observer of agent/ovn (ovn.h); called by hostport.c and ovn_net.c. */
#include "agent/net/fastzone.h"

#include <stdlib.h>
#include <string.h>

#include "agent/dpd/dpdclient.h"
#include "agent/net/farside.h"
#include "agent/net/netobj.h"
#include "agent/ovn/ovn.h"
#include "agent/state/ovn_ports.h"
#include "agent/state/peers.h"
#include "base/fiber.h"
#include "base/log.h"

enum { ZONES = 4095, SETTLE_MS = 100, PROOF_MS = 2200, STALE_MS = 1000, BUMPS_MOST = 64 };

struct FastZones {
    Agent *agent;        /* borrowed */
    GHashTable *of;      /* network id → zone */
    GHashTable *limited; /* uuids of logical ports that Z4 keeps slow → reason (a literal) */
    FarSide *far;        /* owned: the same between hosts */
    FiberLock lock;
    bool kicked;
};

/* ---- zones ---- */

static gint64
root_of(GHashTable *parents, gint64 id)
{
    for (;;) {
        gint64 up = GPOINTER_TO_SIZE(g_hash_table_lookup(parents, GSIZE_TO_POINTER(id)));
        if (up == id || up == 0) {
            return id;
        }
        id = up;
    }
}

static void
join(GHashTable *parents, gint64 one, gint64 other)
{
    gint64 a = root_of(parents, one), b = root_of(parents, other);
    g_hash_table_insert(parents, GSIZE_TO_POINTER(MAX(a, b)), GSIZE_TO_POINTER(MIN(a, b)));
}

static int
by_id(gconstpointer a, gconstpointer b)
{
    gint64 one = *(const gint64 *) a, other = *(const gint64 *) b;
    return (one > other) - (one < other);
}

static GArray *
network_ids(Agent *agent)
{
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_autoptr(GPtrArray) list = netobj_list(agent->networks);
    for (guint i = 0; i < list->len; i++) {
        const Network *net = g_ptr_array_index(list, i);
        if (netobj_is(net, "ovn") && !net->gone) {
            g_array_append_val(ids, net->row->id);
        }
    }
    g_array_sort(ids, by_id);
    return ids;
}

/* Z1: by ascending lowest network; who finds his number taken has the next one. */
static void
number_zones(FastZones *zones, const GArray *ids, GHashTable *parents)
{
    g_autoptr(GHashTable) taken = g_hash_table_new(g_direct_hash, g_direct_equal);
    g_hash_table_remove_all(zones->of);
    for (guint i = 0; i < ids->len; i++) {
        gint64 id = g_array_index(ids, gint64, i), root = root_of(parents, id);
        guint zone = GPOINTER_TO_UINT(g_hash_table_lookup(zones->of, GSIZE_TO_POINTER(root)));
        if (zone == 0) { /* the root comes first: it is the lowest */
            zone = (guint) ((root - 1) % ZONES) + 1;
            for (guint tries = 0; tries < ZONES; tries++) {
                if (!g_hash_table_contains(taken, GUINT_TO_POINTER(zone))) {
                    break;
                }
                zone = zone % ZONES + 1;
            }
            g_hash_table_add(taken, GUINT_TO_POINTER(zone));
        }
        g_hash_table_insert(zones->of, GSIZE_TO_POINTER(id), GUINT_TO_POINTER(zone));
    }
}

/* Yields. */
static void
find_zones(FastZones *zones)
{
    g_autoptr(GHashTable) parents = g_hash_table_new(g_direct_hash, g_direct_equal);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = peerrow_list(zones->agent->db, 0, &error);
    if (rows == NULL) {
        haw_warn("fast.zones", KS("why", error->message));
        return;
    }
    g_autoptr(GArray) ids = network_ids(zones->agent);
    for (guint i = 0; i < rows->len; i++) {
        const PeerRow *row = g_ptr_array_index(rows, i);
        if (row->target_id != 0 && strcmp(row->status, PEERROW_CREATED) == 0) {
            join(parents, row->network_id, row->target_id);
        }
    }
    number_zones(zones, ids, parents);
}

static guint
zone_of(const FastZones *zones, gint64 net)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(zones->of, GSIZE_TO_POINTER(net)));
}

/* ---- what OVN does to single packets (Z4) ---- */

static void
limit_all(FastZones *zones, json_t *ports, const char *why)
{
    size_t i;
    json_t *uuid;
    json_array_foreach (ports, i, uuid) {
        g_hash_table_replace(zones->limited, g_strdup(json_string_value(uuid)), (gpointer) why);
    }
}

static bool
has_any(const OvsdbRow *row, const char *column)
{
    json_t *value = json_object_get(row->columns, column);
    return json_array_size(value) > 0 || json_object_size(value) > 0;
}

/* Why the ACLs in this set touch single packets; NULL: they don't. */
static const char *
acls_limit(Ovsdb *nb, const OvsdbRow *holder)
{
    size_t i;
    json_t *uuid;
    json_array_foreach (json_object_get(holder->columns, "acls"), i, uuid) {
        const OvsdbRow *acl = ovsdb_get(nb, "ACL", json_string_value(uuid));
        if (acl != NULL && json_is_true(json_object_get(acl->columns, "log"))) {
            return "a rule of its ACLs logs packets";
        }
    }
    return NULL;
}

static void
find_limited(FastZones *zones)
{
    Ovsdb *nb = ovn_nb(zones->agent);
    g_autoptr(GPtrArray) switches = ovsdb_list(nb, "Logical_Switch", NULL, NULL);
    g_autoptr(GPtrArray) groups = ovsdb_list(nb, "Port_Group", NULL, NULL);
    g_hash_table_remove_all(zones->limited);
    for (guint i = 0; i < switches->len; i++) {
        const OvsdbRow *row = g_ptr_array_index(switches, i);
        const char *why = acls_limit(nb, row);
        why = why == NULL && has_any(row, "qos_rules") ? "OVN limits or marks packets there" : why;
        if (why != NULL) {
            limit_all(zones, json_object_get(row->columns, "ports"), why);
        }
    }
    for (guint i = 0; i < groups->len; i++) {
        const OvsdbRow *row = g_ptr_array_index(groups, i);
        const char *why = acls_limit(nb, row);
        if (why != NULL) {
            limit_all(zones, json_object_get(row->columns, "ports"), why);
        }
    }
}

/* ---- one port ---- */

static gint64
network_of(const char *lsp)
{
    static const char prefix[] = "lxd-net";
    return g_str_has_prefix(lsp, prefix) ? strtoll(lsp + strlen(prefix), NULL, 10) : 0;
}

static Network *
find_network(Agent *agent, gint64 id)
{
    g_autoptr(GPtrArray) list = netobj_list(agent->networks);
    for (guint i = 0; i < list->len; i++) {
        Network *net = g_ptr_array_index(list, i);
        if (net->row->id == id) {
            return netobj_ref(net);
        }
    }
    return NULL;
}

/* "00:16:3e:… 10.1.0.2 fd42::2", or "… dynamic": all but the MAC. */
static void
add_words(const char *text, GPtrArray *ret)
{
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    for (guint i = 1; words[0] != NULL && words[i] != NULL; i++) {
        if (*words[i] != '\0' && strcmp(words[i], "dynamic") != 0) {
            g_ptr_array_add(ret, g_strdup(words[i]));
        }
    }
}

static void
add_addresses(const OvsdbRow *port, Dpd__Fast *fast)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    json_t *addresses = json_object_get(port->columns, "addresses");
    size_t i;
    json_t *one;
    json_array_foreach (addresses, i, one) {
        add_words(json_string_value(one), list);
    }
    if (json_is_string(addresses)) {
        add_words(json_string_value(addresses), list);
    }
    add_words(ovsdb_text(port, "dynamic_addresses"), list);
    fast->n_addresses = list->len;
    fast->addresses = (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

Dpd__Fast *
fastzone_describe(Agent *agent, const char *lsp)
{
    const FastZones *zones = agent->fast;
    gint64 id = network_of(lsp);
    g_autoptr(Network) net = find_network(agent, id);
    if (net == NULL || !netobj_bool(net, "hawser.fastpath", true)) {
        return NULL;
    }
    Dpd__Fast *fast = g_new0(Dpd__Fast, 1);
    dpd__fast__init(fast);
    Ovsdb *nb = ovn_nb(agent);
    const OvsdbRow *row = nb != NULL && ovsdb_ready(nb) && zone_of(zones, id) != 0
                              ? ovsdb_find(nb, "Logical_Switch_Port", "name", lsp)
                              : NULL;
    fast->keep = row == NULL; /* Z5 */
    fast->zone = zone_of(zones, id);
    const char *why = row != NULL ? g_hash_table_lookup(zones->limited, row->uuid) : NULL;
    if (row != NULL && why == NULL && has_any(row, "mirror_rules")) {
        why = "OVN mirrors its packets";
    }
    fast->slow = g_strdup(why != NULL ? why : "");
    if (row != NULL) {
        add_addresses(row, fast);
    }
    return fast;
}

void
fastzone_describe_free(Dpd__Fast *fast)
{
    if (fast != NULL) {
        for (size_t i = 0; i < fast->n_addresses; i++) {
            g_free(fast->addresses[i]);
        }
        g_free(fast->addresses);
        g_free(fast->slow);
        g_free(fast);
    }
}

/* ---- telling hawser-dpd ---- */

static guint
zone_of_id(gint64 net, void *data)
{
    return zone_of(data, net);
}

/* What the port's description says of the fast path, anew; its former one goes with 'spec'. */
static void
revise(Dpd__Port *spec, void *data)
{
    Agent *agent = data;
    bool local = spec->kind == DPD__KIND__VETH || spec->kind == DPD__KIND__TAP;
    Dpd__Fast *fresh =
        local && spec->iface_id[0] != '\0' ? fastzone_describe(agent, spec->iface_id) : NULL;
    if (fresh != NULL && fresh->keep && spec->fast != NULL) {
        fastzone_describe_free(fresh);
        return;
    }
    dpdclient_set_fast(spec, fresh);
    fastzone_describe_free(fresh);
}

void
fastzone_refresh(Agent *agent)
{
    FastZones *zones = agent->fast;
    g_autoptr(GError) error = NULL;
    if (!dpdclient_has_ports(agent->dpd)) {
        return;
    }
    g_auto(FiberHold) hold = fiber_hold(&zones->lock);
    find_zones(zones);
    if (ovn_nb(agent) != NULL && ovsdb_ready(ovn_nb(agent))) {
        find_limited(zones);
    }
    if (!dpdclient_revise(agent->dpd, revise, agent, &error)) {
        haw_warn("fast.refresh", KS("why", error->message));
    }
    farside_refresh(zones->far, zone_of_id, zones);
}

static void
kick_fiber(void *data)
{
    FastZones *zones = data;
    fiber_sleep_ms(SETTLE_MS, zones->agent->stopping, NULL);
    zones->kicked = false;
    if (!g_cancellable_is_cancelled(zones->agent->stopping)) {
        fastzone_refresh(zones->agent);
    }
}

void
fastzone_kick(Agent *agent)
{
    FastZones *zones = agent->fast;
    if (!zones->kicked && dpdclient_has_ports(agent->dpd)) {
        zones->kicked = true;
        fiber_start("fast zones", kick_fiber, zones);
    }
}

/* ---- the observer ---- */

static void
add_zone(GArray *list, guint zone)
{
    for (guint i = 0; i < list->len; i++) {
        if (g_array_index(list, guint, i) == zone) {
            return;
        }
    }
    if (zone != 0) {
        g_array_append_val(list, zone);
    }
}

/* Zones of "net3", "net4", …; empty: all. Other scopes come along with the networks that use them. */
static GArray *
zones_of_scopes(const FastZones *zones, const char *const *scopes)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(guint));
    for (; *scopes != NULL; scopes++) {
        if (g_str_has_prefix(*scopes, "net") && g_ascii_isdigit((*scopes)[3])) {
            add_zone(list, zone_of(zones, strtoll(*scopes + 3, NULL, 10)));
        }
    }
    if (list->len > BUMPS_MOST) {
        g_array_set_size(list, 0);
    }
    return list;
}

/* Cached flows that nobody could be asked to check are gone after a second. */
static void
late_bump(void *data)
{
    Agent *agent = data;
    fiber_sleep_ms(STALE_MS, agent->stopping, NULL);
    dpdclient_bump(agent->dpd, NULL, NULL);
}

/* Z2 */
static void
on_applied(Agent *agent, const char *const *scopes)
{
    g_autoptr(GArray) list = zones_of_scopes(agent->fast, scopes);
    g_autoptr(GError) stale = NULL;
    g_autoptr(GError) error = NULL;
    if (!ovn_switchd_settle(agent, &stale)) {
        haw_warn("fast.stale", KS("why", stale->message));
        fiber_start("fast bump", late_bump, agent);
    }
    if (!dpdclient_bump(agent->dpd, list, &error)) { /* Z3 */
        haw_warn("fast.bump", KS("why", error->message));
        fiber_sleep_ms(PROOF_MS, agent->stopping, NULL);
    }
}

static bool
is_watching(Agent *agent)
{
    return dpdclient_has_fast(agent->dpd);
}

/* Tables whose rows say something of Z4 or of addresses. */
static void
on_seen(Agent *agent, const char *table)
{
    static const char *const tables[] = {
        "ACL", "QoS", "Logical_Switch", "Logical_Switch_Port", "Port_Group", "Mirror", NULL};
    if (table == NULL || g_strv_contains(tables, table)) {
        fastzone_kick(agent);
    }
}

FastZones *
fastzone_new(Agent *agent)
{
    static const OvnObserver observer = {is_watching, on_applied, on_seen};
    FastZones *zones = g_new0(FastZones, 1);
    zones->agent = agent;
    zones->far = farside_new(agent);
    zones->of = g_hash_table_new(g_direct_hash, g_direct_equal);
    zones->limited = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    ovn_observe(agent, &observer);
    return zones;
}

void
fastzone_free(FastZones *zones)
{
    if (zones != NULL) {
        farside_free(zones->far);
        g_hash_table_unref(zones->of);
        g_hash_table_unref(zones->limited);
        g_free(zones);
    }
}

/* ---- for people ---- */

GHashTable *
fastzone_names(Agent *agent)
{
    GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GPtrArray) rows = ovn_ports_list(agent->db, 0, NULL);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const OvnPort *row = g_ptr_array_index(rows, i);
        g_hash_table_replace(names, g_strdup(row->lsp),
                             g_strdup_printf("%s/%s/%s", row->project, row->inst, row->device));
    }
    return names;
}
