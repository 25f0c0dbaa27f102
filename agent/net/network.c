/* The table of managed networks, and how one comes up and goes down.
 * N1  Rows are the truth; objects are their image in memory, made at start and changed with them.
 * N2  A network whose start failed is tried again each minute; until then NICs on it are refused with
 *     UNAVAILABLE.
 * N3  At start, rows that a crash left half-way are finished: Pending ones go, Deleting ones go,
 *     renames are done (the old interface and directory go with them).
 * N4  Whoever changes a network in the world or its row holds its lock.
 * N5  Static leases whose NIC is gone are removed once the instances are loaded.
 * Called by agent.c, and through netobj.h by the files of this folder. */
#include "agent/net/network.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/api/warning.h"
#include "agent/auth/project.h"
#include "agent/net/netacl.h"
#include "agent/net/bridge.h"
#include "agent/net/dnsmasq.h"
#include "agent/net/firewall.h"
#include "agent/net/forward.h"
#include "agent/net/leases.h"
#include "agent/net/netobj.h"
#include "agent/net/nicuse.h"
#include "agent/net/ovn_acluse.h"
#include "agent/net/ovn_net.h"
#include "agent/net/parent.h"
#include "agent/net/subnet.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/keys.h"

enum { RETRY_MS = 60 * 1000 };

struct NetTable {
    Agent *agent;         /* borrowed */
    GHashTable *by_name;  /* "project/name" → Network, referenced */
    GHashTable *kept;     /* label of a NIC → descriptor of a network namespace + 1, owned */
    GCancellable *ending; /* owned */
    gulong on_stopping;   /* of the agent's cancellable */
};

/* ---- objects ---- */

Network *
netobj_new(NetTable *table, NetRow *row)
{
    Network *net = g_new0(Network, 1);
    net->table = table;
    net->row = row;
    net->lock = (FiberLock) FIBER_LOCK_INIT;
    net->refs = 1;
    return net;
}

Network *
netobj_ref(Network *net)
{
    net->refs++;
    return net;
}

void
netobj_unref(Network *net)
{
    if (net != NULL && --net->refs == 0) {
        dnsmasq_free(net->dnsmasq);
        netrow_free(net->row);
        g_free(net);
    }
}

Agent *
netobj_agent(NetTable *table)
{
    return table->agent;
}

static char *
key_of(const char *project, const char *name)
{
    return g_strdup_printf("%s/%s", project, name);
}

Network *
netobj_find(NetTable *table, const char *project, const char *name)
{
    g_autofree char *key = key_of(project_for_networks(table->agent, project), name);
    Network *net = g_hash_table_lookup(table->by_name, key);
    return net != NULL ? netobj_ref(net) : NULL;
}

static int
by_row(gconstpointer a, gconstpointer b)
{
    const Network *one = *(Network *const *) a;
    const Network *other = *(Network *const *) b;
    int project = strcmp(one->row->project, other->row->project);
    return project != 0 ? project : strcmp(one->row->name, other->row->name);
}

GPtrArray *
netobj_list(NetTable *table)
{
    GPtrArray *list =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) netobj_unref);
    GHashTableIter iter;
    gpointer net;
    g_hash_table_iter_init(&iter, table->by_name);
    while (g_hash_table_iter_next(&iter, NULL, &net)) {
        g_ptr_array_add(list, netobj_ref(net));
    }
    g_ptr_array_sort(list, by_row);
    return list;
}

void
netobj_add(NetTable *table, Network *net)
{
    g_hash_table_replace(table->by_name, key_of(net->row->project, net->row->name), net);
}

void
netobj_remove(NetTable *table, Network *net)
{
    g_autofree char *key = key_of(net->row->project, net->row->name);
    net->gone = true;
    g_hash_table_remove(table->by_name, key);
}

void
netobj_renamed(NetTable *table, Network *net, const char *old_name)
{
    g_autofree char *key = key_of(net->row->project, old_name);
    netobj_ref(net);
    g_hash_table_remove(table->by_name, key);
    netobj_add(table, net);
}

const char *
netobj_get(const Network *net, const char *key)
{
    return keys_get(net->row->config, key);
}

bool
netobj_bool(const Network *net, const char *key, bool fallback)
{
    return keys_get_bool(net->row->config, key, fallback);
}

bool
netobj_is(const Network *net, const char *type)
{
    return strcmp(net->row->type, type) == 0;
}

const char *
netobj_address(const Network *net, int family)
{
    const char *set = netobj_get(net, family == 4 ? "ipv4.address" : "ipv6.address");
    return set != NULL && strcmp(set, "none") != 0 && strcmp(set, "auto") != 0 ? set : NULL;
}

bool
netobj_dhcp4(const Network *net)
{
    return netobj_address(net, 4) != NULL && netobj_bool(net, "ipv4.dhcp", true);
}

bool
netobj_dhcp6_stateful(const Network *net)
{
    return netobj_address(net, 6) != NULL && netobj_bool(net, "ipv6.dhcp", true) &&
           netobj_bool(net, "ipv6.dhcp.stateful", false);
}

char *
netobj_path(const Network *net, const char *file)
{
    const Agent *agent = net->table->agent;
    return file != NULL ? agent_path(agent, "networks/%s/%s", net->row->name, file)
                        : agent_path(agent, "networks/%s", net->row->name);
}

static void
close_kept(gpointer fd)
{
    close(GPOINTER_TO_INT(fd) - 1);
}

void
netobj_keep_netns(NetTable *table, const char *label, pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int) pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        g_hash_table_replace(table->kept, g_strdup(label), GINT_TO_POINTER(fd + 1));
    }
}

int
netobj_take_netns(NetTable *table, const char *label)
{
    gpointer key;
    gpointer fd;
    if (!g_hash_table_steal_extended(table->kept, label, &key, &fd)) {
        return -1;
    }
    g_free(key);
    return GPOINTER_TO_INT(fd) - 1;
}

/* ---- up and down ---- */

static void
family_rules(const Network *net, int family, struct firewall_family *rules, char **ret_subnet)
{
    struct subnet parsed;
    const char *address = netobj_address(net, family);
    bool four = family == 4;
    rules->rules = netobj_bool(net, four ? "ipv4.firewall" : "ipv6.firewall", true);
    if (address == NULL || !subnet_parse(address, &parsed)) {
        return;
    }
    rules->serve = netobj_bool(net, four ? "ipv4.dhcp" : "ipv6.dhcp", true);
    rules->forward = netobj_bool(net, four ? "ipv4.routing" : "ipv6.routing", true);
    if (netobj_bool(net, four ? "ipv4.nat" : "ipv6.nat", false)) {
        *ret_subnet = subnet_network(&parsed);
        rules->nat_subnet = *ret_subnet;
        rules->nat_address = netobj_get(net, four ? "ipv4.nat.address" : "ipv6.nat.address");
    }
}

bool
netobj_firewall(Network *net, GError **error)
{
    struct firewall_net rules = {.name = net->row->name};
    g_autofree char *subnet4 = NULL;
    g_autofree char *subnet6 = NULL;
    g_auto(GStrv) acl = NULL;
    g_auto(GStrv) dnat = NULL;
    g_auto(GStrv) snat = NULL;
    family_rules(net, 4, &rules.ipv4, &subnet4);
    family_rules(net, 6, &rules.ipv6, &subnet6);
    if (!netacl_rules_of(net, &acl, error) || !forward_rules_of(net, &dnat, &snat, error)) {
        return false;
    }
    rules.acl_rules = acl;
    rules.dnat = dnat;
    rules.snat = snat;
    if (!firewall_net_set(&rules, error)) {
        return false;
    }
    bool hairpin = dnat != NULL && bridge_needs_hairpin();
    if (hairpin && !net->hairpin && !bridge_set_hairpin(net->row->name, error)) {
        return false;
    }
    net->hairpin = hairpin;
    return true;
}

static bool
up_bridge(Network *net, json_t *old_config, GError **error)
{
    g_autofree char *dir = netobj_path(net, NULL);
    if (!fd_mkdir_p(dir, 0711, error) || !bridge_up(net, old_config, error)) {
        return false;
    }
    crash_point("network");
    if (!netobj_firewall(net, error)) {
        return false;
    }
    crash_point("network");
    return dnsmasq_up(net, error);
}

bool
netobj_up(Network *net, json_t *old_config, GError **error)
{
    net->up = netobj_is(net, "bridge") ? up_bridge(net, old_config, error)
              : netobj_is(net, "ovn")  ? ovn_net_up(net, old_config, error)
                                       : parent_up(net, old_config, error);
    return net->up || haw_push(error, "Failed to start network \"%s\"", net->row->name);
}

static bool
down_bridge(NetTable *table, const char *name, GError **error)
{
    g_autofree char *dir = agent_path(table->agent, "networks/%s", name);
    dnsmasq_end_stray(dir);
    crash_point("network");
    return bridge_down(name, error) && firewall_net_clear(name, error);
}

bool
netobj_down(Network *net, GError **error)
{
    net->up = false;
    if (netobj_is(net, "ovn")) {
        return ovn_net_down(net, error);
    }
    if (!netobj_is(net, "bridge")) {
        return parent_down(net, error);
    }
    dnsmasq_down(net);
    return down_bridge(net->table, net->row->name, error);
}

/* ---- start ---- */

static void
report(Network *net, const GError *error)
{
    g_autofree char *url = g_strdup_printf("/1.0/networks/%s", net->row->name);
    if (error != NULL) {
        haw_error("network.start_failed", KS("network", net->row->name), KS("why", error->message));
        warning_raise(net->table->agent, WARNING_NETWORK_UNAVAILABLE, net->row->project, url,
                      error->message);
    } else {
        warning_resolve(net->table->agent, WARNING_NETWORK_UNAVAILABLE, net->row->project, url);
    }
}

static bool
remove_dir(Network *net, GError **error)
{
    g_autofree char *dir = netobj_path(net, NULL);
    return fd_remove_tree(dir, error);
}

/* N3: nothing of it stays, then its row goes. */
static bool
undo(Network *net, GError **error)
{
    return netobj_down(net, error) && remove_dir(net, error) &&
           netrow_delete(net->table->agent->db, net->row->id, error);
}

bool
netobj_finish_rename(Network *net, GError **error)
{
    NetTable *table = net->table;
    if (netobj_is(net, "bridge")) {
        g_autofree char *from = agent_path(table->agent, "networks/%s", net->row->old_name);
        g_autofree char *to = netobj_path(net, NULL);
        if (!down_bridge(table, net->row->old_name, error)) {
            return false;
        }
        crash_point("network");
        if (access(from, F_OK) == 0) {
            if (!fd_remove_tree(to, error)) {
                return false;
            }
            if (rename(from, to) < 0) {
                return haw_fail_errno(error, errno, "rename '%s'", from);
            }
        }
        crash_point("network");
    }
    if (!netrow_rename(table->agent->db, net->row->id, NULL, error)) {
        return false;
    }
    g_free(net->row->old_name);
    net->row->old_name = g_strdup("");
    return true;
}

/* False when the row went. */
static bool
start_one(Network *net)
{
    g_autoptr(GError) error = NULL;
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    if (strcmp(net->row->state, NETROW_PENDING) == 0 ||
        strcmp(net->row->state, NETROW_DELETING) == 0) {
        if (undo(net, &error)) {
            return false;
        }
        report(net, error);
        return true;
    }
    bool ok = (net->row->old_name[0] == '\0' || netobj_finish_rename(net, &error)) &&
              netobj_up(net, NULL, &error);
    report(net, ok ? NULL : error);
    return true;
}

/* N5 */
static void
sweep(NetTable *table)
{
    g_autoptr(GPtrArray) list = netobj_list(table);
    for (guint i = 0; i < list->len; i++) {
        Network *net = g_ptr_array_index(list, i);
        g_auto(FiberHold) hold = fiber_hold(&net->lock);
        if (netobj_is(net, "bridge") && !net->gone) {
            leases_sweep(net);
        }
    }
}

/* N2 */
static void
retry_run(void *data)
{
    NetTable *table = data;
    g_autoptr(GCancellable) ending = g_object_ref(table->ending);
    while (fiber_sleep_ms(RETRY_MS, ending, NULL)) {
        g_autoptr(GPtrArray) list = netobj_list(table);
        for (guint i = 0; i < list->len && !g_cancellable_is_cancelled(ending); i++) {
            Network *net = g_ptr_array_index(list, i);
            if (!net->up && !net->gone && strcmp(net->row->state, NETROW_CREATED) == 0) {
                start_one(net);
            }
        }
    }
}

/* The agent ends and the networks live on: only who watches them goes. */
static void
on_stopping(GCancellable *stopping, gpointer data)
{
    NetTable *table = data;
    GHashTableIter iter;
    gpointer net;
    g_cancellable_cancel(table->ending);
    g_hash_table_iter_init(&iter, table->by_name);
    while (g_hash_table_iter_next(&iter, NULL, &net)) {
        dnsmasq_unwatch(((Network *) net)->dnsmasq);
    }
}

NetTable *
net_table_new(Agent *agent)
{
    NetTable *table = g_new0(NetTable, 1);
    table->agent = agent;
    table->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                           (GDestroyNotify) (void (*)(void)) netobj_unref);
    table->kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_kept);
    table->ending = g_cancellable_new();
    ovn_net_register();
    ovn_acluse_register();
    table->on_stopping =
        g_cancellable_connect(agent->stopping, G_CALLBACK(on_stopping), table, NULL);
    return table;
}

void
net_table_free(NetTable *table)
{
    if (table != NULL) {
        g_cancellable_disconnect(table->agent->stopping, table->on_stopping);
        g_cancellable_cancel(table->ending);
        GHashTableIter iter;
        gpointer net;
        g_hash_table_iter_init(&iter, table->by_name);
        while (g_hash_table_iter_next(&iter, NULL, &net)) {
            dnsmasq_free(g_steal_pointer(&((Network *) net)->dnsmasq));
        }
        g_hash_table_unref(table->by_name);
        g_hash_table_unref(table->kept);
        g_object_unref(table->ending);
        g_free(table);
    }
}

/* The networks that others stand on come up before those. */
static int
uplinks_first(gconstpointer a, gconstpointer b)
{
    const NetRow *one = *(NetRow *const *) a;
    const NetRow *other = *(NetRow *const *) b;
    int ovn = (strcmp(one->type, "ovn") == 0) - (strcmp(other->type, "ovn") == 0);
    return ovn != 0 ? ovn : one->id < other->id ? -1 : one->id > other->id;
}

bool
net_table_start(NetTable *table, GError **error)
{
    g_autoptr(GPtrArray) rows = netrow_list(table->agent->db, error);
    if (rows == NULL) {
        return false;
    }
    g_ptr_array_set_free_func(rows, NULL);
    g_ptr_array_sort(rows, uplinks_first);
    for (guint i = 0; i < rows->len; i++) {
        g_autoptr(Network) net = netobj_new(table, g_ptr_array_index(rows, i));
        if (start_one(net)) {
            netobj_add(table, g_steal_pointer(&net));
        }
    }
    fiber_start("network-retry", retry_run, table);
    return true;
}

void
net_table_adopt(NetTable *table)
{
    sweep(table);
    nicadopt_all(table);
}

static void
stop_if(Network *net, bool ovn)
{
    g_autoptr(GError) error = NULL;
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    if (netobj_is(net, "ovn") == ovn && !netobj_down(net, &error)) {
        haw_warn("network.stop_failed", KS("network", net->row->name), KS("why", error->message));
    }
}

void
net_table_stop(NetTable *table)
{
    g_autoptr(GPtrArray) list = netobj_list(table);
    g_cancellable_cancel(table->ending);
    for (guint i = 0; i < list->len; i++) {
        stop_if(g_ptr_array_index(list, i), true);
    }
    for (guint i = 0; i < list->len; i++) {
        stop_if(g_ptr_array_index(list, i), false);
    }
}

json_t *
net_find(NetTable *table, const char *project, const char *name, GError **error)
{
    g_autoptr(Network) net = netobj_find(table, project, name);
    if (net == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Network not found");
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:O, s:s}", "name", net->row->name, "type",
                     net->row->type, "project", net->row->project, "description",
                     net->row->description, "config", net->row->config, "status", net->row->state);
}
