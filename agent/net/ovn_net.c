/* The life of a network of type ovn.
 * O1  Rows are the truth: what OVN is to have follows from them through the builder below, at each
 *     change, at the agent's start, and whenever the northbound database differs.
 * O2  A network that is being made or deleted, as its row's state says, has rows only while it is in the
 *     table and its creation is under way.
 * O3  A router's address on the uplink is chosen once, and noted in the config (volatile.network.*)
 *     before OVN hears of it; another uplink means another address.
 * O4  An uplink is wired while some ovn network on it is up.
 * Called by network.c; the NICs are in nic_ovn.c, the rows in ovn_rows.c. */
#include "agent/net/ovn_net.h"

#include <string.h>

#include "agent/net/fastzone.h"
#include "agent/net/netjob.h"
#include "agent/net/ovn_input.h"
#include "agent/net/ovn_stored.h"
#include "agent/net/ovn_uplink.h"
#include "agent/net/ovs_local.h"
#include "agent/net/subnet.h"
#include "agent/ovn/ovn.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/keys.h"

enum { AGAIN_US = 60 * 1000 * 1000 };

static FiberLock uplink_lock = FIBER_LOCK_INIT; /* O3, O4 */

static const char *const address_keys[] = {"volatile.network.ipv4.address",
                                           "volatile.network.ipv6.address"};

/* ---- the builder (O1) ---- */

/* O2 */
static bool
is_wanted(const Network *net)
{
    return !net->gone && !net->leaving && strcmp(net->row->state, NETROW_DELETING) != 0;
}

static NetRow *
stored(Agent *agent, gint64 id, GError **error)
{
    g_autoptr(GPtrArray) rows = netrow_list(agent->db, error);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        NetRow *row = g_ptr_array_index(rows, i);
        if (row->id == id) {
            return g_ptr_array_steal_index(rows, i);
        }
    }
    return NULL;
}

static bool
build_net(Agent *agent, gint64 id, OvnPlan *plan, GError **error)
{
    g_autoptr(Network) net = ovn_input_network(agent->networks, id);
    if (net == NULL) {
        g_autoptr(NetRow) row = stored(agent, id, error);
        bool loading = row != NULL && strcmp(row->state, NETROW_CREATED) == 0 && !agent->ready;
        return !loading ||
               haw_fail(error, HAW_UNAVAILABLE, "Network \"%s\" is not loaded yet", row->name);
    }
    if (!is_wanted(net)) {
        return true;
    }
    g_autoptr(OvnNetInput) in = ovn_input_gather(net, error);
    if (in == NULL) {
        return haw_push(error, "network \"%s\"", net->row->name);
    }
    ovn_rows_build(plan, in);
    return true;
}

/* Who asks for all is about to build each. */
static bool
list_nets(Agent *agent, GArray *ids, GError **error)
{
    g_autoptr(GPtrArray) rows = ovn_stored_all(agent, error) ? netrow_list(agent->db, error) : NULL;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const NetRow *row = g_ptr_array_index(rows, i);
        if (strcmp(row->type, "ovn") == 0) {
            g_array_append_val(ids, row->id);
        }
    }
    return rows != NULL;
}

void
ovn_net_register(void)
{
    static const OvnBuilder builder = {"net", build_net, list_nets};
    static bool once;
    if (!once) {
        ovn_add_builder(&builder);
        once = true;
    }
}

static void
add_scopes(Network *net, GPtrArray *scopes)
{
    char *scope = g_strdup_printf("net%" G_GINT64_FORMAT, net->row->id);
    if (g_ptr_array_find_with_equal_func(scopes, scope, g_str_equal, NULL)) {
        g_free(scope);
        return;
    }
    g_ptr_array_add(scopes, scope);
    ovn_acl_scopes(net, scopes);
}

bool
ovn_net_apply_many(NetTable *table, GPtrArray *networks, GError **error)
{
    g_autoptr(GPtrArray) scopes = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < networks->len; i++) {
        Network *net = g_ptr_array_index(networks, i);
        g_autoptr(GPtrArray) others = ovn_peer_dependents(net);
        add_scopes(net, scopes);
        for (guint k = 0; others != NULL && k < others->len; k++) {
            add_scopes(g_ptr_array_index(others, k), scopes);
        }
    }
    g_ptr_array_add(scopes, NULL);
    Agent *agent = netobj_agent(table);
    bool ok = ovn_applyv(agent, (const char *const *) scopes->pdata, OVN_WAIT_SB, error);
    fastzone_refresh(agent);
    return ok;
}

bool
ovn_net_apply(Network *net, GError **error)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_ptr_array_add(one, net);
    return ovn_net_apply_many(net->table, one, error) ||
           haw_push(error, "Failed to set up network \"%s\" in OVN", net->row->name);
}

void
ovn_net_kick(Network *net)
{
    g_autofree char *scope = g_strdup_printf("net%" G_GINT64_FORMAT, net->row->id);
    g_autoptr(GPtrArray) others = ovn_peer_dependents(net);
    ovn_kick(netobj_agent(net->table), scope);
    for (guint i = 0; others != NULL && i < others->len; i++) {
        const Network *other = g_ptr_array_index(others, i);
        g_autofree char *far = g_strdup_printf("net%" G_GINT64_FORMAT, other->row->id);
        ovn_kick(netobj_agent(net->table), far);
    }
}

/* ---- the uplink ---- */

static Network *
uplink_of(NetTable *table, json_t *config)
{
    const char *name = keys_get(config, "network");
    return name != NULL && strcmp(name, "none") != 0 ? netobj_find(table, "default", name) : NULL;
}

/* Is another network than 'but' up on it? */
static bool
uplink_needed(Network *uplink, const Network *but)
{
    g_autoptr(GPtrArray) list = netobj_list(uplink->table);
    for (guint i = 0; i < list->len; i++) {
        const Network *net = g_ptr_array_index(list, i);
        if (net != but && netobj_is(net, "ovn") && net->up && !net->gone &&
            g_strcmp0(netobj_get(net, "network"), uplink->row->name) == 0) {
            return true;
        }
    }
    return false;
}

/* O4 */
static bool
release_uplink(Network *net, json_t *config, GError **error)
{
    g_autoptr(Network) uplink = uplink_of(net->table, config);
    g_auto(FiberHold) hold = fiber_hold(&uplink_lock);
    return uplink == NULL || uplink_needed(uplink, net) || ovn_wire_down(uplink, error);
}

/* Router addresses of the family that are in use on the uplink; keys are texts. */
static GHashTable *
taken_on(Network *uplink, const Network *but, int family)
{
    GHashTable *taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) list = netobj_list(uplink->table);
    const char *own = netobj_address(uplink, family == 0 ? 4 : 6);
    struct subnet address;
    if (own != NULL && subnet_parse(own, &address)) {
        g_hash_table_add(taken, subnet_address(&address));
    }
    for (guint i = 0; i < list->len; i++) {
        const Network *net = g_ptr_array_index(list, i);
        const char *used = netobj_get(net, address_keys[family]);
        if (net != but && used != NULL &&
            g_strcmp0(netobj_get(net, "network"), uplink->row->name) == 0) {
            g_hash_table_add(taken, g_strdup(used));
        }
    }
    return taken;
}

/* O3: keeps the address that it has while that is still on the uplink's subnet. */
static bool
choose_address(Network *net, Network *uplink, const OvnUplink *offer, int family, bool *changed,
               GError **error)
{
    const char *have = netobj_get(net, address_keys[family]);
    const char *mac = netobj_get(net, "bridge.hwaddr");
    struct subnet whole;
    if (have != NULL && offer->cidr[family] != NULL && subnet_parse(offer->cidr[family], &whole) &&
        subnet_contains(&whole, have)) {
        return true;
    }
    g_autoptr(GHashTable) taken = taken_on(uplink, net, family);
    g_autoptr(GError) mine = NULL;
    g_autofree char *cidr =
        ovn_uplink_pick(offer, family, mac != NULL ? mac : net->row->hwaddr, taken, &mine);
    if (mine != NULL) {
        g_propagate_prefixed_error(error, g_steal_pointer(&mine),
                                   "network \"%s\": ", net->row->name);
        return false;
    }
    if (have != NULL) {
        json_object_del(net->row->config, address_keys[family]);
        *changed = true;
    }
    if (cidr != NULL) {
        *strchr(cidr, '/') = '\0';
        json_object_set_new(net->row->config, address_keys[family], json_string(cidr));
        *changed = true;
    }
    return true;
}

static bool
forget_addresses(Network *net)
{
    bool had = false;
    for (int i = 0; i < 2; i++) {
        had |= json_object_del(net->row->config, address_keys[i]) == 0;
    }
    return had;
}

/* ---- up ---- */

struct mtu_job {
    char *address; /* of the encapsulation; owned */
    guint mtu;     /* result */
};

static bool
mtu_job(NlSock *sock, void *data, GError **error)
{
    struct mtu_job *job = data;
    g_autoptr(GArray) addresses = inet_addresses(sock, error);
    g_autoptr(GArray) links = addresses != NULL ? link_list(sock, error) : NULL;
    for (guint i = 0; links != NULL && i < addresses->len; i++) {
        const struct inet_address *one = &g_array_index(addresses, struct inet_address, i);
        for (guint k = 0; strcmp(one->text, job->address) == 0 && k < links->len; k++) {
            const struct link_info *link = &g_array_index(links, struct link_info, k);
            job->mtu = link->index == one->ifindex ? link->mtu : job->mtu;
        }
    }
    return links != NULL;
}

/* What Geneve leaves of the underlay's MTU. */
static guint
inner_mtu(Agent *agent)
{
    enum { PLAIN = 1500, GENEVE4 = 58, GENEVE6 = 78 };
    Ovsdb *db = ovn_local(agent);
    const OvsdbRow *root = NULL;
    g_autoptr(GPtrArray) rows = db != NULL ? ovsdb_list(db, "Open_vSwitch", NULL, NULL) : NULL;
    root = rows != NULL && rows->len > 0 ? g_ptr_array_index(rows, 0) : NULL;
    const char *address =
        root != NULL ? ovsdb_map_text(root, "external_ids", "ovn-encap-ip") : NULL;
    struct mtu_job job = {.address = g_strdup(address), .mtu = PLAIN};
    guint overhead = address != NULL && strchr(address, ':') != NULL ? GENEVE6 : GENEVE4;
    if (address != NULL) {
        netjob_run(mtu_job, &job, NULL);
    }
    g_free(job.address);
    return job.mtu >= PLAIN + overhead ? PLAIN : PLAIN - overhead;
}

/* O3; what is chosen here is in the row before OVN hears of it. */
static bool
settle(Network *net, Network *uplink, bool moved, GError **error)
{
    json_t *config = net->row->config;
    bool changed = moved && forget_addresses(net);
    if (keys_get(config, "bridge.mtu") == NULL) {
        g_autofree char *mtu = g_strdup_printf("%u", inner_mtu(netobj_agent(net->table)));
        json_object_set_new(config, "bridge.mtu", json_string(mtu));
        changed = true;
    }
    if (uplink != NULL) {
        g_autoptr(OvnUplink) offer =
            ovn_uplink_of(uplink->row->name, uplink->row->type, uplink->row->config);
        if (!ovn_uplink_check(offer, error) ||
            !choose_address(net, uplink, offer, 0, &changed, error) ||
            !choose_address(net, uplink, offer, 1, &changed, error)) {
            return false;
        }
    }
    return !changed || netrow_update(netobj_agent(net->table)->db, net->row->id,
                                     net->row->description, config, error);
}

static bool
attach(Network *net, Network *uplink, bool moved, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&uplink_lock);
    if (!settle(net, uplink, moved, error)) {
        return false;
    }
    crash_point("ovn_net");
    if (uplink == NULL) {
        return true;
    }
    if (!uplink->up) {
        return haw_fail(error, HAW_UNAVAILABLE, "Uplink network \"%s\" is unavailable",
                        uplink->row->name);
    }
    return ovn_wire_up(uplink, error) ||
           haw_push(error, "connect uplink network \"%s\"", uplink->row->name);
}

/* ovn-controller takes a patch port of the right name for right, on whatever bridge it is: the one to the
 * old uplink has to go before it makes the new one. */
static bool
drop_patch(Network *net, GError **error)
{
    Agent *agent = netobj_agent(net->table);
    g_autofree char *provider = ovn_rows_name(net->row->id, OVN_ROWS_LSP_UPLINK);
    g_autofree char *far =
        g_strdup_printf("patch-%s-to-%s", provider, ovn_integration_bridge(agent));
    return ovs_local_del_port(agent, far, error);
}

/* While the agent starts, one wait for databases that are away is enough for all networks; each is
 * tried again later (network.c, N2). */
static bool
need_ovn(Agent *agent, GError **error)
{
    static gint64 failed_us;
    gint64 now = clock_mono_us();
    if (!agent->ready && failed_us != 0 && now - failed_us < AGAIN_US) {
        return haw_fail(error, HAW_UNAVAILABLE, "OVN was not available a moment ago");
    }
    bool ok = ovn_need(agent, error);
    failed_us = ok ? 0 : clock_mono_us();
    return ok;
}

bool
ovn_net_up(Network *net, json_t *old_config, GError **error)
{
    Agent *agent = netobj_agent(net->table);
    const char *name = netobj_get(net, "network");
    bool none = g_strcmp0(name, "none") == 0;
    bool moved = old_config != NULL && g_strcmp0(keys_get(old_config, "network"), name) != 0;
    g_autoptr(Network) uplink = uplink_of(net->table, net->row->config);
    if (uplink == NULL && !none) {
        return haw_fail(error, HAW_NOT_FOUND, "Uplink network \"%s\" of network \"%s\" not found",
                        name != NULL ? name : "", net->row->name);
    }
    net->leaving = false;
    if (!need_ovn(agent, error) || !attach(net, uplink, moved, error)) {
        return false;
    }
    crash_point("ovn_net");
    if (!agent->ready) {
        ovn_net_kick(net);
    } else if (!ovn_net_apply(net, error)) {
        return false;
    }
    return !moved || (drop_patch(net, error) && release_uplink(net, old_config, error));
}

/* ---- down ---- */

static bool
any_left(const Network *but)
{
    g_autoptr(GPtrArray) list = netobj_list(but->table);
    for (guint i = 0; i < list->len; i++) {
        const Network *net = g_ptr_array_index(list, i);
        if (net != but && netobj_is(net, "ovn")) {
            return true;
        }
    }
    return false;
}

bool
ovn_net_down(Network *net, GError **error)
{
    Agent *agent = netobj_agent(net->table);
    bool deleting = strcmp(net->row->state, NETROW_DELETING) == 0;
    net->leaving = deleting || strcmp(net->row->state, NETROW_PENDING) == 0;
    if (net->leaving && ovn_nb(agent) != NULL) {
        g_autoptr(GError) mine = NULL;
        if (!ovn_net_apply(net, &mine)) {
            if (deleting && agent->ready) {
                g_propagate_error(error, g_steal_pointer(&mine));
                return false;
            }
            /* What was half made: the reconciler takes away what no row asks for. */
            haw_warn("ovn.undo_later", KS("network", net->row->name), KS("why", mine->message));
            ovn_net_kick(net);
        }
        crash_point("ovn_net");
    }
    if (ovn_local(agent) != NULL && !release_uplink(net, net->row->config, error)) {
        return false;
    }
    if (net->leaving && !any_left(net)) {
        ovn_unneeded(agent);
    }
    return true;
}

/* ---- what is shown ---- */

void
ovn_net_children(Network *uplink, json_t *urls)
{
    g_autoptr(GPtrArray) list = netobj_list(uplink->table);
    for (guint i = 0; i < list->len && strcmp(uplink->row->project, "default") == 0; i++) {
        const Network *net = g_ptr_array_index(list, i);
        if (netobj_is(net, "ovn") &&
            g_strcmp0(netobj_get(net, "network"), uplink->row->name) == 0) {
            bool plain = strcmp(net->row->project, "default") == 0;
            json_array_append_new(
                urls, json_sprintf("/1.0/networks/%s%s%s", net->row->name,
                                   plain ? "" : "?project=", plain ? "" : net->row->project));
        }
    }
}

void
ovn_net_uplink_changed(Network *uplink)
{
    g_autoptr(GPtrArray) list = netobj_list(uplink->table);
    for (guint i = 0; i < list->len && strcmp(uplink->row->project, "default") == 0; i++) {
        Network *net = g_ptr_array_index(list, i);
        g_autoptr(GError) error = NULL;
        if (!netobj_is(net, "ovn") ||
            g_strcmp0(netobj_get(net, "network"), uplink->row->name) != 0) {
            continue;
        }
        g_auto(FiberHold) hold = fiber_hold(&net->lock);
        if (!net->gone && net->up && !netobj_up(net, NULL, &error)) {
            haw_warn("ovn.uplink_changed", KS("network", net->row->name),
                     KS("uplink", uplink->row->name), KS("why", error->message));
        }
    }
}

static json_t *
chassis_of(const Network *net)
{
    Ovsdb *sb = ovn_sb(netobj_agent(net->table));
    g_autofree char *lrp = ovn_rows_name(net->row->id, OVN_ROWS_LRP_EXT);
    g_autofree char *port = g_strconcat("cr-", lrp, NULL);
    const OvsdbRow *binding =
        sb != NULL ? ovsdb_find(sb, "Port_Binding", "logical_port", port) : NULL;
    const char *uuid = binding != NULL ? ovsdb_text(binding, "chassis") : NULL;
    const OvsdbRow *chassis = uuid != NULL ? ovsdb_get(sb, "Chassis", uuid) : NULL;
    const char *host = chassis != NULL ? ovsdb_text(chassis, "hostname") : NULL;
    return json_string(host != NULL ? host : "");
}

json_t *
ovn_net_state(Network *net)
{
    json_t *addresses = json_array();
    const char *mac = netobj_get(net, "bridge.hwaddr");
    const char *mtu = netobj_get(net, "bridge.mtu");
    for (int family = 4; family <= 6; family += 2) {
        struct subnet router;
        if (subnet_parse(netobj_address(net, family), &router)) {
            g_autofree char *text = subnet_address(&router);
            g_autofree char *mask = g_strdup_printf("%d", router.prefix);
            json_array_append_new(addresses, json_pack("{s:s, s:s, s:s, s:s}", "family",
                                                       family == 4 ? "inet" : "inet6", "address",
                                                       text, "netmask", mask, "scope", "link"));
        }
    }
    return json_pack("{s:o, s:{s:i, s:i, s:i, s:i}, s:s, s:i, s:s, s:s, s:n, s:n, s:n, s:{s:o}}",
                     "addresses", addresses, "counters", "bytes_received", 0, "bytes_sent", 0,
                     "packets_received", 0, "packets_sent", 0, "hwaddr",
                     mac != NULL ? mac : net->row->hwaddr, "mtu",
                     mtu != NULL ? (int) g_ascii_strtoll(mtu, NULL, 10) : 0, "state", "up", "type",
                     "broadcast", "bond", "bridge", "vlan", "ovn", "chassis", chassis_of(net));
}
