/* The fast path between hosts, as OVN says who is where.
 * S1  A network's number in tunnels is that of its switch's datapath in the southbound database. All networks of
 *     our zones count, also those without an instance here: packets to them leave by their number.
 * S2  The uplink is the interface that has the address of this host's tunnels (external_ids:ovn-encap-ip); where that
 *     is a bridge of the userspace datapath, the interfaces that are its ports. None on the loopback.
 * S3  It is said again to each hawser-dpd that comes up, and when it is another.
 * S4  With network.ovn.filter=true the uplink drops what no port here wants. Wanted is what the southbound database does
 *     not place on another host for sure: ports that are none of an instance, bound nowhere, bound or asked for here.
 *     Nothing is dropped while this host is no chassis, or while that database can't be read.
 * Called by fastzone.c, which knows the zones. */
#include "agent/net/farside.h"

#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api/settings.h"
#include "agent/dpd/dpdclient.h"
#include "agent/net/netjob.h"
#include "agent/ovn/ovn.h"
#include "base/fiber.h"
#include "base/log.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/dpdwire.h"

enum { SETTLE_MS = 200, SOON_MS = 10, AGAIN_MS = 10000, ASK_MS = 10000 };

struct FarSide {
    Agent *agent;  /* borrowed */
    GBytes *told;  /* what hawser-dpd was told last; NULL: nothing */
    guint64 epoch; /* of the connection on which it was */
    bool follows;  /* a fiber looks at the southbound database */
    bool filters;  /* what it was told last drops (S4) */
    FarZoneOf zone_of;
    void *data;
};

/* ---- networks ---- */

/* "lxd-net5-ls-int": 5; 0 for what is no switch of ours. */
static gint64
network_of(const char *name)
{
    static const char prefix[] = "lxd-net", suffix[] = "-ls-int";
    char *end = NULL;
    gint64 id = name != NULL && g_str_has_prefix(name, prefix)
                    ? strtoll(name + strlen(prefix), &end, 10)
                    : 0;
    return id > 0 && strcmp(end, suffix) == 0 ? id : 0;
}

static void
network_free(gpointer data)
{
    Dpd__FarNetwork *net = data;
    g_free(net->ports);
    g_free(net);
}

/* S1. With 'all' those of no zone of ours, too. By uuid of their rows, into 'ret'. */
static void
add_networks(const FarSide *side, Ovsdb *sb, bool all, GHashTable *ret)
{
    g_autoptr(GPtrArray) rows = ovsdb_list(sb, "Datapath_Binding", NULL, NULL);
    for (guint i = 0; i < rows->len; i++) {
        const OvsdbRow *row = rows->pdata[i];
        gint64 id = network_of(ovsdb_map_text(row, "external_ids", "name"));
        guint zone = id != 0 ? side->zone_of(id, side->data) : 0;
        if (zone != 0 || all) {
            Dpd__FarNetwork *net = g_new0(Dpd__FarNetwork, 1);
            dpd__far_network__init(net);
            net->vni = (guint32) ovsdb_int(row, "tunnel_key");
            net->zone = zone;
            g_hash_table_insert(ret, g_strdup(row->uuid), net);
        }
    }
}

static bool
refers_to(const OvsdbRow *row, const char *column, const char *uuid)
{
    json_t *refs = json_object_get(row->columns, column), *one;
    size_t i;
    bool found = g_strcmp0(json_string_value(refs), uuid) == 0;
    json_array_foreach (refs, i, one) {
        found = found || g_strcmp0(json_string_value(one), uuid) == 0;
    }
    return found;
}

/* S4 */
static bool
may_be_here(const OvsdbRow *port, const char *chassis)
{
    static const char *const columns[] = {"chassis", "additional_chassis", "requested_chassis",
                                          "requested_additional_chassis"};
    const char *type = ovsdb_text(port, "type"), *bound = ovsdb_text(port, "chassis");
    bool here = (type != NULL && *type != '\0') || bound == NULL || *bound == '\0';
    for (size_t i = 0; i < G_N_ELEMENTS(columns) && !here; i++) {
        here = refers_to(port, columns[i], chassis);
    }
    return here;
}

static void
add_ports(Ovsdb *sb, const char *chassis, GHashTable *networks)
{
    g_autoptr(GPtrArray) rows = ovsdb_list(sb, "Port_Binding", NULL, NULL);
    for (guint i = 0; i < rows->len; i++) {
        const OvsdbRow *row = rows->pdata[i];
        const char *datapath = ovsdb_text(row, "datapath");
        Dpd__FarNetwork *net = datapath != NULL ? g_hash_table_lookup(networks, datapath) : NULL;
        if (net != NULL && may_be_here(row, chassis)) {
            net->ports = g_renew(guint32, net->ports, net->n_ports + 1);
            net->ports[net->n_ports++] = (guint32) ovsdb_int(row, "tunnel_key");
        }
    }
}

static int
by_vni(gconstpointer a, gconstpointer b)
{
    const Dpd__FarNetwork *one = *(Dpd__FarNetwork *const *) a;
    const Dpd__FarNetwork *other = *(Dpd__FarNetwork *const *) b;
    return (one->vni > other->vni) - (one->vni < other->vni);
}

/* ---- uplinks ---- */

struct holder_job {
    char *address; /* owned */
    char name[IFNAMSIZ];
};

static bool
holder_job(NlSock *sock, void *data, GError **error)
{
    struct holder_job *job = data;
    g_autoptr(GArray) addresses = inet_addresses(sock, error);
    for (guint i = 0; addresses != NULL && i < addresses->len; i++) {
        const struct inet_address *one = &g_array_index(addresses, struct inet_address, i);
        struct link_info link;
        if (strcmp(one->text, job->address) == 0 &&
            if_indextoname((guint) one->ifindex, job->name) &&
            link_get(sock, job->name, &link, NULL) && (link.flags & IFF_LOOPBACK)) {
            job->name[0] = '\0';
        }
    }
    return addresses != NULL;
}

/* The interfaces in 'column' of a row that refer to rows of 'table'. */
static void
add_refs(Ovsdb *db, const OvsdbRow *row, const char *column, const char *table, GPtrArray *ret)
{
    json_t *refs = json_object_get(row->columns, column), *one;
    size_t i;
    const OvsdbRow *found =
        json_is_string(refs) ? ovsdb_get(db, table, json_string_value(refs)) : NULL;
    if (found != NULL) {
        g_ptr_array_add(ret, (gpointer) found);
    }
    json_array_foreach (refs, i, one) {
        found = ovsdb_get(db, table, json_string_value(one));
        if (found != NULL) {
            g_ptr_array_add(ret, (gpointer) found);
        }
    }
}

static void
add_bridge_ports(Ovsdb *db, const OvsdbRow *bridge, GPtrArray *ret)
{
    g_autoptr(GPtrArray) ports = g_ptr_array_new(), ifaces = g_ptr_array_new();
    add_refs(db, bridge, "ports", "Port", ports);
    for (guint i = 0; i < ports->len; i++) {
        add_refs(db, ports->pdata[i], "interfaces", "Interface", ifaces);
    }
    for (guint i = 0; i < ifaces->len; i++) {
        const char *type = ovsdb_text(ifaces->pdata[i], "type");
        if (type == NULL || *type == '\0' || strcmp(type, "system") == 0) {
            g_ptr_array_add(ret, g_strdup(ovsdb_text(ifaces->pdata[i], "name")));
        }
    }
}

/* S2. The address is returned, the caller's; NULL when there is none. Yields. */
static char *
find_uplinks(Agent *agent, GPtrArray *ret, bool *ret_userspace)
{
    Ovsdb *db = ovn_local(agent);
    g_autoptr(GPtrArray) roots = db != NULL ? ovsdb_list(db, "Open_vSwitch", NULL, NULL) : NULL;
    const char *said = roots != NULL && roots->len > 0
                           ? ovsdb_map_text(roots->pdata[0], "external_ids", "ovn-encap-ip")
                           : NULL;
    struct holder_job job = {.address = g_strdup(said)};
    if (said != NULL && netjob_run(holder_job, &job, NULL) && job.name[0] != '\0' &&
        (db = ovn_local(agent)) != NULL) {
        const OvsdbRow *bridge = ovsdb_find(db, "Bridge", "name", job.name);
        *ret_userspace =
            bridge != NULL && g_strcmp0(ovsdb_text(bridge, "datapath_type"), "netdev") == 0;
        if (bridge != NULL) {
            add_bridge_ports(db, bridge, ret);
        } else {
            g_ptr_array_add(ret, g_strdup(job.name));
        }
    }
    return job.address;
}

/* ---- telling ---- */

/* S3 */
static void
tell(FarSide *side, Dpd__FastFar *far)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) packed = dpdwire_pack(&far->base);
    if (side->told != NULL && g_bytes_equal(side->told, packed) &&
        side->epoch == dpdclient_epoch(side->agent->dpd)) {
        return;
    }
    frame.body_case = DPD__FRAME__BODY_FAST_FAR;
    frame.fast_far = far;
    Dpd__Frame *answer = dpdclient_fast(side->agent->dpd, &frame, ASK_MS, &error);
    if (answer == NULL && haw_code(error) != HAW_UNSUPPORTED) { /* an older one has no such thing */
        haw_warn("far.tell", KS("why", error->message));
        return;
    }
    dpdclient_answer_free(answer);
    g_clear_pointer(&side->told, g_bytes_unref);
    side->told = g_steal_pointer(&packed);
    side->epoch = dpdclient_epoch(side->agent->dpd);
    side->filters = far->filter;
}

/* S4: what was told last, without the filter. */
static void
stop_filtering(FarSide *side)
{
    size_t size;
    const guint8 *bytes = g_bytes_get_data(side->told, &size);
    Dpd__FastFar *far = dpd__fast_far__unpack(NULL, size, bytes);
    far->filter = false;
    tell(side, far);
    dpd__fast_far__free_unpacked(far, NULL);
}

/* This host's row in the southbound database; NULL: none yet. */
static const char *
our_chassis(Agent *agent, Ovsdb *sb)
{
    const char *name = ovn_system_id(agent);
    const OvsdbRow *row = name != NULL ? ovsdb_find(sb, "Chassis", "name", name) : NULL;
    return row != NULL ? row->uuid : NULL;
}

static void
look_and_tell(FarSide *side)
{
    g_autoptr(GHashTable) rows =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, network_free);
    g_autoptr(GPtrArray) uplinks = g_ptr_array_new_with_free_func(g_free);
    bool userspace = false;
    g_autofree char *end = find_uplinks(side->agent, uplinks, &userspace);
    Ovsdb *sb = ovn_sb(side->agent);
    if (sb == NULL || !ovsdb_ready(sb)) {
        if (side->filters) {
            stop_filtering(side);
        }
        return;
    }
    if (uplinks->len == 0 && side->told == NULL) {
        return;
    }
    const char *chassis = settings_bool(side->agent->settings, "network.ovn.filter")
                              ? our_chassis(side->agent, sb)
                              : NULL;
    if (uplinks->len > 0) {
        add_networks(side, sb, chassis != NULL, rows);
    }
    if (chassis != NULL) {
        add_ports(sb, chassis, rows);
    }
    g_autoptr(GPtrArray) networks = g_ptr_array_new();
    GHashTableIter all;
    gpointer net;
    g_hash_table_iter_init(&all, rows);
    while (g_hash_table_iter_next(&all, NULL, &net)) {
        g_ptr_array_add(networks, net);
    }
    g_ptr_array_sort(networks, by_vni);
    Dpd__FastFar far = DPD__FAST_FAR__INIT;
    far.filter = chassis != NULL;
    far.networks = (Dpd__FarNetwork **) networks->pdata;
    far.n_networks = networks->len;
    far.uplinks = (char **) uplinks->pdata;
    far.n_uplinks = uplinks->len;
    far.ends = &end;
    far.n_ends = end != NULL;
    far.userspace = userspace;
    tell(side, &far);
}

static void
follow_fiber(void *data)
{
    FarSide *side = data;
    Agent *agent = side->agent;
    while (!g_cancellable_is_cancelled(agent->stopping) && dpdclient_has_fast(agent->dpd)) {
        look_and_tell(side);
        Ovsdb *sb = ovn_sb(agent);
        if (sb == NULL || !fiber_signal_wait(ovsdb_changed(sb), AGAIN_MS, agent->stopping, NULL)) {
            fiber_sleep_ms(sb == NULL ? AGAIN_MS : 0, agent->stopping, NULL);
        } else {
            /* A port that came up here is dropped until we look. */
            fiber_sleep_ms(side->filters ? SOON_MS : SETTLE_MS, agent->stopping, NULL);
        }
    }
    side->follows = false;
}

void
farside_refresh(FarSide *side, FarZoneOf zone_of, void *data)
{
    side->zone_of = zone_of;
    side->data = data;
    if (!dpdclient_has_fast(side->agent->dpd)) {
        return;
    }
    look_and_tell(side);
    if (!side->follows) {
        side->follows = true;
        fiber_start("far side", follow_fiber, side);
    }
}

FarSide *
farside_new(Agent *agent)
{
    FarSide *side = g_new0(FarSide, 1);
    side->agent = agent;
    return side;
}

void
farside_free(FarSide *side)
{
    if (side != NULL) {
        g_clear_pointer(&side->told, g_bytes_unref);
        g_free(side);
    }
}
