/* The life of a network.
 * L1  The row says what is being done before the world changes: Pending while it is made, Deleting
 *     while it goes, old_name while it is renamed. A crash in between is finished at the next start
 *     (network.c, N3).
 * L2  A failed create leaves neither row nor interface; a failed update leaves the old config, in the
 *     row and in the world.
 * L3  A network in use is neither renamed nor deleted.
 * Called by net_api.c. */
#include "agent/net/netlife.h"

#include <string.h>

#include "agent/api/warning.h"
#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "agent/net/netacl.h"
#include "agent/net/netcheck.h"
#include "agent/net/netstate.h"
#include "agent/net/ovn_check.h"
#include "agent/net/ovn_acluse.h"
#include "agent/net/ovn_net.h"
#include "agent/net/ovn_peer.h"
#include "agent/net/zone.h"
#include "agent/net/subnet.h"
#include "agent/ovn/ovnids.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/keys.h"

static FiberLock create_lock = FIBER_LOCK_INIT;

struct used {
    Agent *agent;
    const char *project, *name;
};

static bool
uses_network(const char *project, json_t *config, json_t *devices, void *data)
{
    const struct used *used = data;
    const char *name = used->name;
    const char *device;
    json_t *nic;
    if (strcmp(project_for_networks(used->agent, project), used->project) != 0) {
        return false;
    }
    json_object_foreach (devices, device, nic) {
        if (g_strcmp0(keys_get(nic, "type"), "nic") != 0) {
            continue;
        }
        if (g_strcmp0(keys_get(nic, "network"), name) == 0 ||
            (keys_get(nic, "network") == NULL && g_strcmp0(keys_get(nic, "parent"), name) == 0)) {
            return true;
        }
    }
    return false;
}

json_t *
netlife_used_by(NetTable *table, const char *project, const char *name)
{
    InstTable *instances = netobj_agent(table)->instances;
    g_autofree char *own_name = g_strdup(name);
    g_autofree char *own_project = g_strdup(project);
    struct used user = {netobj_agent(table), own_project, own_name};
    json_t *used = instances != NULL ? inst_used_by(instances, uses_network, &user) : NULL;
    used = used != NULL ? used : json_array();
    g_autoptr(Network) net = netobj_find(table, own_project, own_name);
    if (net != NULL) {
        ovn_net_children(net, used);
        ovn_peer_used_by(net, used);
    }
    return used;
}

static bool
check_unused(Network *net, GError **error)
{
    json_t *used = netlife_used_by(net->table, net->row->project, net->row->name);
    bool free = json_array_size(used) == 0;
    json_decref(used);
    return free || haw_fail(error, HAW_INVALID, "The network is currently in use");
}

static bool
check_interface_free(const char *name, GError **error)
{
    json_t *interfaces = netstate_interfaces(error);
    if (interfaces == NULL) {
        return false;
    }
    bool taken = json_object_get(interfaces, name) != NULL;
    json_decref(interfaces);
    return !taken || haw_fail(error, HAW_FAILED, "Network interface \"%s\" already exists", name);
}

static bool
check_acls(NetTable *table, const char *project, const char *name, json_t *config, GError **error)
{
    const char *acls = keys_get(config, "security.acls");
    Agent *agent = netobj_agent(table);
    return acls == NULL || (netacl_check_exist(agent, project, acls, error) &&
                            ovn_acluse_check(agent, project, name, acls, error));
}

/* L2 */
static void
take_back(Network *net)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = netobj_path(net, NULL);
    if (!netobj_down(net, &error) || !fd_remove_tree(dir, &error) ||
        !netrow_delete(netobj_agent(net->table)->db, net->row->id, &error)) {
        haw_error("network.undo_failed", KS("network", net->row->name),
                  KS("why", error->message)); /* the Pending row is undone at the next start */
    }
}

static bool
bring_up_new(Network *net, GError **error)
{
    Db *db = netobj_agent(net->table)->db;
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    crash_point("network");
    if (!netobj_up(net, NULL, error) ||
        !netrow_set_state(db, net->row->id, NETROW_CREATED, error)) {
        take_back(net);
        return false;
    }
    crash_point("network");
    g_free(net->row->state);
    net->row->state = g_strdup(NETROW_CREATED);
    return true;
}

static NetRow *
row_new(const char *project, const char *name, const char *type, const char *description,
        json_t *config /* stolen */)
{
    NetRow *row = g_new0(NetRow, 1);
    row->project = g_strdup(project);
    row->name = g_strdup(name);
    row->type = g_strdup(type);
    row->description = g_strdup(description);
    row->state = g_strdup(NETROW_PENDING);
    row->hwaddr =
        strcmp(type, "bridge") == 0 || strcmp(type, "ovn") == 0 ? ids_hwaddr() : g_strdup("");
    row->old_name = g_strdup("");
    row->config = config;
    return row;
}

static bool
same_parent_used(NetTable *table, json_t *config)
{
    g_autoptr(GPtrArray) list = netobj_list(table);
    for (guint i = 0; i < list->len; i++) {
        const Network *other = g_ptr_array_index(list, i);
        if (netobj_is(other, "physical") &&
            g_strcmp0(netobj_get(other, "parent"), keys_get(config, "parent")) == 0 &&
            g_strcmp0(netobj_get(other, "vlan"), keys_get(config, "vlan")) == 0) {
            return true;
        }
    }
    return false;
}

static bool
resolve_auto(NetTable *table, const char *type, json_t *config, GError **error)
{
    g_autoptr(GArray) subnets = g_array_new(FALSE, FALSE, sizeof(struct subnet));
    if (strcmp(type, "ovn") == 0) {
        ovn_check_subnets(table, subnets);
    }
    return netcheck_resolve_auto(config, subnets, error);
}

/* What the change means for a network's uplink, or for the networks whose uplink it is. */
static bool
check_ovn(Network *net, json_t *config, GError **error)
{
    return netobj_is(net, "ovn") ? ovn_check_network(net->table, net->row->project, net->row->name,
                                                     net->row->id, config, error) &&
                                       ovn_peer_check(net, config, NULL, error)
                                 : ovn_check_uplink_of(net, config, error);
}

static bool
check_new(NetTable *table, const char *project, const char *name, const char *type, json_t *config,
          GError **error)
{
    g_autoptr(Network) there = netobj_find(table, project, name);
    if (there != NULL) {
        return haw_fail(error, HAW_INVALID, "The network already exists");
    }
    netcheck_fill(type, config);
    if (strcmp(type, "ovn") == 0 && !ovn_check_fill(table, project, config, error)) {
        return false;
    }
    if (!netcheck_config(name, type, config, error)) {
        return haw_recode(error, HAW_FAILED); /* LXD answers 500 here and 400 for a change */
    }
    if (strcmp(type, "bridge") == 0 && !check_interface_free(name, error)) {
        return false;
    }
    if (strcmp(type, "physical") == 0 && same_parent_used(table, config)) {
        return haw_fail(error, HAW_FAILED, "Parent interface \"%s\" in use by another network",
                        keys_get(config, "parent"));
    }
    return check_acls(table, project, name, config, error) &&
           zone_check_network(netobj_agent(table), config, error) &&
           resolve_auto(table, type, config, error) &&
           (strcmp(type, "ovn") != 0 || ovn_check_network(table, project, name, 0, config, error));
}

static OvnIds
choose_ids(NetTable *table, const NetRow *row)
{
    return strcmp(row->type, "ovn") != 0 ? ovnids_plain()
           : keys_get_bool(row->config, "hawser.shared", false)
               ? ovnids_shared(row->project, row->name)
               : ovnids_own(netobj_agent(table));
}

bool
netlife_create(NetTable *table, const char *project, const char *name, const char *type,
               const char *description, json_t *config, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&create_lock);
    netcheck_drop_empty(config);
    if (!check_new(table, project, name, type, config, error)) {
        json_decref(config);
        return false;
    }
    g_autoptr(Network) net = netobj_new(table, row_new(project, name, type, description, config));
    OvnIds ids = choose_ids(table, net->row);
    if (!netrow_insert(netobj_agent(table)->db, net->row, ids.first, ids.last, error)) {
        return false;
    }
    netobj_add(table, netobj_ref(net));
    if (!bring_up_new(net, error)) {
        netobj_remove(table, net);
        return false;
    }
    haw_info("network.created", KS("network", name), KS("type", type));
    return true;
}

/* Our own notes are not the client's to change. */
static void
keep_volatile(json_t *config, json_t *old)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe (config, next, key, value) {
        if (g_str_has_prefix(key, "volatile.")) {
            json_object_del(config, key);
        }
    }
    json_object_foreach (old, key, value) {
        if (g_str_has_prefix(key, "volatile.")) {
            json_object_set(config, key, value);
        }
    }
}

static bool
only_user_keys_differ(json_t *a, json_t *b)
{
    json_t *maps[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        const char *key;
        json_t *value;
        json_object_foreach (maps[i], key, value) {
            if (!g_str_has_prefix(key, "user.") &&
                !json_equal(value, json_object_get(maps[1 - i], key))) {
                return false;
            }
        }
    }
    return true;
}

static void
put_config(Network *net, const char *description, json_t *config)
{
    if (description != net->row->description) {
        g_free(net->row->description);
        net->row->description = g_strdup(description);
    }
    json_incref(config);
    json_decref(net->row->config);
    net->row->config = config;
}

static bool
gone(const Network *net, GError **error)
{
    return net->gone && (haw_fail(error, HAW_NOT_FOUND, "Network not found"), true);
}

static bool
apply_update(Network *net, const char *description, json_t *config, GError **error)
{
    Db *db = netobj_agent(net->table)->db;
    json_t *old = json_incref(net->row->config);
    g_autofree char *old_description = g_strdup(net->row->description);
    bool ok = netrow_update(db, net->row->id, description, config, error);
    if (ok) {
        put_config(net, description, config);
        crash_point("network");
        ok = only_user_keys_differ(config, old) || netobj_up(net, old, error);
        if (!ok) { /* L2 */
            g_autoptr(GError) again = NULL;
            put_config(net, old_description, old);
            if (!netrow_update(db, net->row->id, old_description, old, &again) ||
                !netobj_up(net, config, &again)) {
                haw_error("network.undo_failed", KS("network", net->row->name),
                          KS("why", again->message));
            }
        }
    }
    json_decref(old);
    return ok;
}

bool
netlife_update(Network *net, const char *description, json_t *config, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    if (gone(net, error)) {
        json_decref(config);
        return false;
    }
    keep_volatile(config, net->row->config);
    netcheck_drop_empty(config);
    if (keys_get_bool(config, "hawser.shared", false) != netobj_bool(net, "hawser.shared", false)) {
        json_decref(config);
        return haw_fail(error, HAW_INVALID,
                        "\"hawser.shared\" is given when a network is made: make another one");
    }
    bool ok = netcheck_config(net->row->name, net->row->type, config, error) &&
              check_acls(net->table, net->row->project, net->row->name, config, error) &&
              zone_check_network(netobj_agent(net->table), config, error) &&
              resolve_auto(net->table, net->row->type, config, error) &&
              check_ovn(net, config, error) && apply_update(net, description, config, error);
    if (ok && !netobj_is(net, "ovn")) {
        ovn_net_uplink_changed(net);
    }
    json_decref(config);
    return ok;
}

bool
netlife_rename(Network *net, const char *name, GError **error)
{
    NetTable *table = net->table;
    Db *db = netobj_agent(table)->db;
    g_auto(FiberHold) creating = fiber_hold(&create_lock);
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autoptr(Network) there = netobj_find(table, net->row->project, name);
    if (gone(net, error) || !netcheck_name(name, net->row->type, error)) {
        return false;
    }
    if (there != NULL) {
        return haw_fail(error, HAW_EXISTS, "Network \"%s\" already exists", name);
    }
    if (!check_unused(net, error) || /* L3 */
        (netobj_is(net, "bridge") && !check_interface_free(name, error)) ||
        !netcheck_config(name, net->row->type, net->row->config, error) ||
        !netobj_down(net, error)) {
        return false;
    }
    crash_point("network");
    if (!netrow_rename(db, net->row->id, name, error)) {
        netobj_up(net, NULL, NULL);
        return false;
    }
    crash_point("network");
    g_free(net->row->old_name);
    net->row->old_name = net->row->name;
    net->row->name = g_strdup(name);
    netobj_renamed(table, net, net->row->old_name);
    return netobj_finish_rename(net, error) && netobj_up(net, NULL, error);
}

bool
netlife_delete(Network *net, GError **error)
{
    Agent *agent = netobj_agent(net->table);
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autofree char *dir = netobj_path(net, NULL);
    g_autofree char *url = g_strdup_printf("/1.0/networks/%s", net->row->name);
    if (gone(net, error) || !check_unused(net, error) || /* L3 */
        !netrow_set_state(agent->db, net->row->id, NETROW_DELETING, error)) {
        return false;
    }
    g_free(net->row->state);
    net->row->state = g_strdup(NETROW_DELETING);
    crash_point("network");
    if (!netobj_down(net, error) || !fd_remove_tree(dir, error)) {
        return false;
    }
    crash_point("network");
    if (!netrow_delete(agent->db, net->row->id, error)) {
        return false;
    }
    netobj_remove(net->table, net);
    warning_resolve(agent, WARNING_NETWORK_UNAVAILABLE, net->row->project, url);
    haw_info("network.deleted", KS("network", net->row->name));
    return true;
}
