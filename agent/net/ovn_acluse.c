/* Who uses which ACL on ovn networks.
 * U1  An ACL is in use when an ovn network has it, or a NIC on one, or when a rule of an ACL in use
 *     names it. Only those have a port group.
 * U2  All of this follows from the database alone. It is read as a whole and kept until the next write
 *     to the database, since a reconcile asks once for each ACL and each network.
 * U3  A group that goes out of use is taken away by the next change of any ovn network, or by the next
 *     reconcile.
 * Called by ovn_net.c (scopes), ovn_input.c, netlife.c, netacl_api.c, and by the reconciler. */
#include "agent/net/ovn_acluse.h"

#include <string.h>

#include "agent/net/netacl.h"
#include "agent/net/ovn_acl.h"
#include "agent/net/ovn_input.h"
#include "agent/net/ovn_net.h"
#include "agent/ovn/ovn.h"
#include "agent/state/acls.h"
#include "agent/state/ovn_ports.h"
#include "agent/state/peers.h"
#include "proto/grammar.h"
#include "proto/keys.h"

/* U2 */
static struct {
    bool valid;
    guint64 writes;
    GPtrArray *acls;  /* AclRow */
    GPtrArray *nets;  /* NetRow */
    GPtrArray *ports; /* OvnPort */
    json_t *peers;    /* project → {"net/peer": id of the network behind} */
    GHashTable *used; /* "5" of each ACL in use; U1 */
} seen;
static GHashTable *grouped; /* "5" of each ACL that was built with a group; U3 */

static AclRow *
acl_by_name(const char *project, const char *name)
{
    for (guint i = 0; i < seen.acls->len; i++) {
        AclRow *row = g_ptr_array_index(seen.acls, i);
        if (strcmp(row->name, name) == 0 && strcmp(row->project, project) == 0) {
            return row;
        }
    }
    return NULL;
}

static const NetRow *
net_by_id(gint64 id)
{
    for (guint i = 0; i < seen.nets->len; i++) {
        const NetRow *row = g_ptr_array_index(seen.nets, i);
        if (row->id == id) {
            return row;
        }
    }
    return NULL;
}

static char *
id_text(gint64 id)
{
    return g_strdup_printf("%" G_GINT64_FORMAT, id);
}

static void use_list(const char *project, const char *list, GHashTable *used);

static void
use_rules(const char *project, json_t *rules, const char *field, GHashTable *used)
{
    json_t *rule;
    size_t i;
    json_array_foreach (rules, i, rule) {
        use_list(project, keys_get(rule, field), used);
    }
}

/* U1. Names that are no ACL's (addresses, @internal) are passed over. */
static void
use_list(const char *project, const char *list, GHashTable *used)
{
    g_auto(GStrv) names = grammar_list(list);
    for (char **name = names; *name != NULL; name++) {
        const AclRow *row = netacl_family(*name) == 0 ? acl_by_name(project, *name) : NULL;
        char *id = row != NULL ? id_text(row->id) : NULL;
        if (id != NULL && g_hash_table_add(used, id)) {
            use_rules(project, row->ingress, "source", used);
            use_rules(project, row->egress, "destination", used);
        }
    }
}

static void
find_used(void)
{
    for (guint i = 0; i < seen.nets->len; i++) {
        const NetRow *net = g_ptr_array_index(seen.nets, i);
        if (strcmp(net->type, "ovn") == 0) {
            use_list(net->project, keys_get(net->config, "security.acls"), seen.used);
        }
    }
    for (guint i = 0; i < seen.ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(seen.ports, i);
        const NetRow *net = net_by_id(port->network_id);
        if (net != NULL) {
            use_list(net->project, keys_get(port->config, "security.acls"), seen.used);
        }
    }
}

static void
find_peers(const GPtrArray *peers)
{
    for (guint i = 0; i < peers->len; i++) {
        const PeerRow *peer = g_ptr_array_index(peers, i);
        const NetRow *net = net_by_id(peer->network_id);
        if (net == NULL) {
            continue;
        }
        json_t *map = json_object_get(seen.peers, net->project);
        if (map == NULL) {
            map = json_object();
            json_object_set_new(seen.peers, net->project, map);
        }
        bool holds = strcmp(peer->status, PEERROW_CREATED) == 0;
        g_autofree char *name = g_strdup_printf("%s/%s", net->name, peer->name);
        json_object_set_new(map, name, json_integer(holds ? peer->target_id : 0));
    }
}

static void
forget(void)
{
    g_clear_pointer(&seen.acls, g_ptr_array_unref);
    g_clear_pointer(&seen.nets, g_ptr_array_unref);
    g_clear_pointer(&seen.ports, g_ptr_array_unref);
    g_clear_pointer(&seen.used, g_hash_table_unref);
    g_clear_pointer(&seen.peers, json_decref);
    seen.valid = false;
}

/* U2. What it fills in holds until the caller yields. */
static bool
look(Agent *agent, GError **error)
{
    guint64 writes = db_writes(agent->db);
    if (seen.valid && seen.writes == writes) {
        return true;
    }
    g_autoptr(GPtrArray) acls = aclrow_list(agent->db, NULL, error);
    bool any = acls != NULL && acls->len > 0; /* else nothing can be used */
    g_autoptr(GPtrArray) nets = acls != NULL ? netrow_list(agent->db, error) : NULL;
    g_autoptr(GPtrArray) ports = nets == NULL ? NULL
                                 : any        ? ovn_ports_list(agent->db, 0, error)
                                              : g_ptr_array_new();
    g_autoptr(GPtrArray) peers = ports == NULL ? NULL
                                 : any         ? peerrow_list(agent->db, 0, error)
                                               : g_ptr_array_new();
    if (peers == NULL) {
        return false;
    }
    forget();
    seen.acls = g_steal_pointer(&acls);
    seen.nets = g_steal_pointer(&nets);
    seen.ports = g_steal_pointer(&ports);
    seen.used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    seen.peers = json_object();
    seen.writes = writes;
    seen.valid = true;
    find_used();
    find_peers(peers);
    return true;
}

/* ---- inputs ---- */

static json_t *
names_in_project(const char *project)
{
    json_t *names = json_object();
    for (guint i = 0; i < seen.acls->len; i++) {
        const AclRow *row = g_ptr_array_index(seen.acls, i);
        if (strcmp(row->project, project) == 0) {
            json_object_set_new(names, row->name, json_integer(row->id));
        }
    }
    return names;
}

static OvnAcl *
acl_of(const AclRow *row)
{
    OvnAcl *acl = ovn_acl_new(row->id, row->project_id, row->name);
    json_t *peers = json_object_get(seen.peers, row->project);
    acl->ingress = json_incref(row->ingress);
    acl->egress = json_incref(row->egress);
    json_decref(acl->groups);
    acl->groups = names_in_project(row->project);
    if (peers != NULL) {
        json_object_update(acl->peers, peers);
    }
    return acl;
}

static void
add_acls(OvnNetInput *in, json_t *nic_config)
{
    g_auto(GStrv) names = ovn_acl_names(in->config, nic_config);
    for (char **name = names; *name != NULL; name++) {
        const AclRow *row = acl_by_name(in->project, *name);
        bool there = row == NULL;
        for (guint i = 0; i < in->acls->len && !there; i++) {
            there = ((OvnAcl *) g_ptr_array_index(in->acls, i))->id == row->id;
        }
        if (!there) {
            g_ptr_array_add(in->acls, acl_of(row));
        }
    }
}

bool
ovn_acl_gather(Network *net, OvnNetInput *in, GError **error)
{
    if (!look(netobj_agent(net->table), error)) {
        return false;
    }
    in->acls = g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_acl_free);
    add_acls(in, NULL);
    for (guint i = 0; i < in->nics->len; i++) {
        add_acls(in, ((OvnNic *) g_ptr_array_index(in->nics, i))->config);
    }
    return true;
}

/* ---- the scopes "acl<id>" ---- */

static bool
build(Agent *agent, gint64 id, OvnPlan *plan, GError **error)
{
    g_autofree char *text = id_text(id);
    if (!look(agent, error)) {
        return false;
    }
    for (guint i = 0; i < seen.acls->len; i++) {
        const AclRow *row = g_ptr_array_index(seen.acls, i);
        if (row->id == id && g_hash_table_contains(seen.used, text)) {
            OvnAcl *acl = acl_of(row);
            ovn_acl_group(plan, acl);
            ovn_acl_free(acl);
            g_hash_table_add(grouped, g_steal_pointer(&text));
            return true;
        }
    }
    g_hash_table_remove(grouped, text);
    return true;
}

static bool
list(Agent *agent, GArray *ids, GError **error)
{
    if (!look(agent, error)) {
        return false;
    }
    GHashTableIter iter;
    gpointer text;
    g_hash_table_iter_init(&iter, seen.used);
    while (g_hash_table_iter_next(&iter, &text, NULL)) {
        gint64 id = g_ascii_strtoll(text, NULL, 10);
        g_array_append_val(ids, id);
    }
    return true;
}

void
ovn_acluse_register(void)
{
    static const OvnBuilder builder = {"acl", build, list};
    forget();
    if (grouped == NULL) {
        grouped = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        ovn_add_builder(&builder);
    }
}

static void
add_scopes(GHashTable *ids, GPtrArray *scopes)
{
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, ids);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        char *scope = g_strconcat("acl", id, NULL);
        if (g_ptr_array_find_with_equal_func(scopes, scope, g_str_equal, NULL)) {
            g_free(scope);
        } else {
            g_ptr_array_add(scopes, scope);
        }
    }
}

/* What the network and its NICs have, and what those name. */
static void
use_network(const NetRow *net, GHashTable *ids)
{
    use_list(net->project, keys_get(net->config, "security.acls"), ids);
    for (guint i = 0; i < seen.ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(seen.ports, i);
        if (port->network_id == net->id) {
            use_list(net->project, keys_get(port->config, "security.acls"), ids);
        }
    }
}

void
ovn_acl_scopes(Network *net, GPtrArray *scopes)
{
    g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!look(netobj_agent(net->table), NULL)) {
        return; /* the builders say why */
    }
    use_network(net->row, ids);
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, grouped);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        if (!g_hash_table_contains(seen.used, id)) { /* U3 */
            g_hash_table_add(ids, g_strdup(id));
        }
    }
    add_scopes(ids, scopes);
}

GPtrArray *
ovn_acluse_networks(NetTable *table, const char *project, const char *name, GError **error)
{
    if (!look(netobj_agent(table), error)) {
        return NULL;
    }
    const AclRow *acl = acl_by_name(project, name);
    g_autofree char *id = id_text(acl != NULL ? acl->id : 0);
    GPtrArray *found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) netobj_unref);
    for (guint i = 0; i < seen.nets->len; i++) {
        const NetRow *net = g_ptr_array_index(seen.nets, i);
        g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        if (strcmp(net->type, "ovn") != 0 || strcmp(net->project, project) != 0) {
            continue;
        }
        use_network(net, ids);
        Network *object = g_hash_table_contains(ids, id) ? ovn_input_network(table, net->id) : NULL;
        if (object != NULL) {
            g_ptr_array_add(found, object);
        }
    }
    return found;
}

/* ---- checks ---- */

static bool
check_subjects(const char *project, const char *net, json_t *rules, const char *field,
               GError **error)
{
    json_t *known = json_object_get(seen.peers, project);
    json_t *rule;
    size_t i;
    json_array_foreach (rules, i, rule) {
        g_auto(GStrv) subjects = grammar_list(keys_get(rule, field));
        for (char **subject = subjects; *subject != NULL; subject++) {
            const char *slash = strchr(*subject, '/');
            if ((*subject)[0] != '@' || slash == NULL) {
                continue;
            }
            g_autofree char *name = g_strndup(*subject + 1, (gsize) (slash - *subject - 1));
            if (strcmp(name, net) != 0 || json_object_get(known, *subject + 1) == NULL) {
                return haw_fail(error, HAW_INVALID,
                                "ACL requiring peer \"%s\" cannot be applied to network \"%s\"",
                                *subject + 1, net);
            }
        }
    }
    return true;
}

bool
ovn_acluse_check_rules(Network *net, json_t *ingress, json_t *egress, GError **error)
{
    const NetRow *row = net->row;
    return look(netobj_agent(net->table), error) &&
           check_subjects(row->project, row->name, ingress, "source", error) &&
           check_subjects(row->project, row->name, egress, "destination", error);
}

bool
ovn_acluse_check(Agent *agent, const char *project, const char *net, const char *acls,
                 GError **error)
{
    g_auto(GStrv) names = grammar_list(acls);
    if (!look(agent, error)) {
        return false;
    }
    for (char **name = names; *name != NULL; name++) {
        const AclRow *row = acl_by_name(project, *name);
        if (row != NULL && (!check_subjects(project, net, row->ingress, "source", error) ||
                            !check_subjects(project, net, row->egress, "destination", error))) {
            return false;
        }
    }
    return true;
}
