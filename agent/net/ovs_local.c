/* This host's Open_vSwitch database, changed as ovs-vsctl would, but in one transaction each.
 * S1  What is there already is left alone, so that each call repeats.
 * S2  A change is done when ovs-vswitchd says so: next_cfg is raised with it and cur_cfg awaited.
 * S3  Rows that others made (an operator's bridge, say) only lose or gain what we put there.
 * Called by hostport.c and ovn_wire.c. */
#include "agent/net/ovs_local.h"

#include <string.h>

#include "agent/ovn/ovn.h"
#include "base/clock.h"
#include "proto/grammar.h"

enum { WAIT_MS = 10 * 1000 };

static FiberLock map_lock = FIBER_LOCK_INIT;

/* The one row of table Open_vSwitch. */
static const OvsdbRow *
root_of(Ovsdb *db)
{
    g_autoptr(GPtrArray) rows = ovsdb_list(db, "Open_vSwitch", NULL, NULL);
    return rows->len > 0 ? g_ptr_array_index(rows, 0) : NULL;
}

static Ovsdb *
session(Agent *agent, GError **error)
{
    Ovsdb *db = ovn_local(agent);
    if (db == NULL) {
        haw_fail(error, HAW_UNAVAILABLE, "Open vSwitch of this host is not connected");
        return NULL;
    }
    if (!ovsdb_wait_ready(db, WAIT_MS, error)) {
        return NULL;
    }
    if (root_of(db) == NULL) {
        haw_fail(error, HAW_UNAVAILABLE, "Open vSwitch of this host is not set up");
        return NULL;
    }
    return db;
}

/* S2 */
static bool
commit(Ovsdb *db, OvsdbTxn *txn, GError **error)
{
    const OvsdbRow *root = root_of(db);
    g_autofree char *uuid = g_strdup(root->uuid);
    ovsdb_txn_mutate(txn, "Open_vSwitch", uuid, "next_cfg", "+=", json_integer(1));
    guint read = ovsdb_txn_select(txn, "Open_vSwitch", uuid, "next_cfg");
    if (!ovsdb_txn_commit(txn, error)) {
        return haw_push(error, "Open vSwitch of this host");
    }
    gint64 wanted = ovsdb_txn_int(txn, read);
    gint64 until = clock_mono_us() / 1000 + WAIT_MS;
    while ((root = root_of(db)) == NULL || ovsdb_int(root, "cur_cfg") < wanted) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0 || !fiber_signal_wait(ovsdb_changed(db), left, NULL, NULL)) {
            return haw_fail(error, HAW_TIMEOUT, "ovs-vswitchd did not take up a change within %d s",
                            WAIT_MS / 1000);
        }
    }
    return true;
}

bool
ovs_local_has_bridge(Agent *agent, const char *name)
{
    Ovsdb *db = ovn_local(agent);
    return db != NULL && ovsdb_find(db, "Bridge", "name", name) != NULL;
}

static json_t *
ref(const char *name)
{
    return json_pack("{s:s}", "ref", name);
}

bool
ovs_local_add_bridge(Agent *agent, const char *name, GError **error)
{
    Ovsdb *db = session(agent, error);
    if (db == NULL || ovsdb_find(db, "Bridge", "name", name) != NULL) { /* S1 */
        return db != NULL;
    }
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    const char *datapath = ovn_datapath_type(agent);
    ovsdb_txn_insert(txn, "Interface", "iface",
                     json_pack("{s:s, s:s}", "name", name, "type", "internal"));
    ovsdb_txn_insert(txn, "Port", "port",
                     json_pack("{s:s, s:[o]}", "name", name, "interfaces", ref("iface")));
    ovsdb_txn_insert(txn, "Bridge", "bridge",
                     json_pack("{s:s, s:s, s:[o]}", "name", name, "datapath_type",
                               datapath != NULL ? datapath : "", "ports", ref("port")));
    ovsdb_txn_mutate(txn, "Open_vSwitch", root_of(db)->uuid, "bridges", "insert",
                     json_pack("[o]", ref("bridge")));
    return commit(db, txn, error);
}

bool
ovs_local_del_bridge(Agent *agent, const char *name, GError **error)
{
    Ovsdb *db = session(agent, error);
    const OvsdbRow *bridge = db != NULL ? ovsdb_find(db, "Bridge", "name", name) : NULL;
    if (bridge == NULL) {
        return db != NULL;
    }
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    ovsdb_txn_mutate(txn, "Open_vSwitch", root_of(db)->uuid, "bridges", "delete",
                     json_pack("[s]", bridge->uuid));
    return commit(db, txn, error);
}

/* Takes the Port row out of its bridge; false when it was in none. */
static bool
detach(Ovsdb *db, OvsdbTxn *txn, const OvsdbRow *port)
{
    const OvsdbRow *bridge = ovsdb_find(db, "Bridge", "ports", port->uuid);
    if (bridge != NULL) {
        ovsdb_txn_mutate(txn, "Bridge", bridge->uuid, "ports", "delete",
                         json_pack("[s]", port->uuid));
    }
    return bridge != NULL;
}

/* Is the interface where it ought to be, and is it there alone? */
static bool
in_place(Ovsdb *db, const OvsdbRow *bridge, const char *netdev, const char *iface_id)
{
    const OvsdbRow *port = ovsdb_find(db, "Port", "name", netdev);
    const OvsdbRow *iface = ovsdb_find(db, "Interface", "name", netdev);
    g_autoptr(GPtrArray) same =
        iface_id != NULL ? ovsdb_list(db, "Interface", "external_ids:iface-id", iface_id) : NULL;
    return port != NULL && iface != NULL && ovsdb_has(bridge, "ports", port->uuid) &&
           (same == NULL || (same->len == 1 && same->pdata[0] == iface));
}

static void
detach_holders(Ovsdb *db, OvsdbTxn *txn, const char *netdev, const char *iface_id)
{
    g_autoptr(GPtrArray) same =
        iface_id != NULL ? ovsdb_list(db, "Interface", "external_ids:iface-id", iface_id) : NULL;
    const OvsdbRow *old = ovsdb_find(db, "Port", "name", netdev);
    if (old != NULL) {
        detach(db, txn, old);
    }
    for (guint i = 0; same != NULL && i < same->len; i++) {
        const OvsdbRow *iface = g_ptr_array_index(same, i);
        const OvsdbRow *port = ovsdb_find(db, "Port", "interfaces", iface->uuid);
        if (port != NULL && port != old) {
            detach(db, txn, port);
        }
    }
}

bool
ovs_local_add_port(Agent *agent, const char *bridge, const char *netdev, const char *iface_id,
                   GError **error)
{
    Ovsdb *db = session(agent, error);
    if (db == NULL) {
        return false;
    }
    const OvsdbRow *row = ovsdb_find(db, "Bridge", "name", bridge);
    if (row == NULL) {
        return haw_fail(error, HAW_UNAVAILABLE, "Open vSwitch of this host has no bridge \"%s\"",
                        bridge);
    }
    if (in_place(db, row, netdev, iface_id)) { /* S1 */
        return true;
    }
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    detach_holders(db, txn, netdev, iface_id);
    json_t *ids = iface_id != NULL ? json_pack("{s:s}", "iface-id", iface_id) : json_object();
    ovsdb_txn_insert(txn, "Interface", "iface",
                     json_pack("{s:s, s:o}", "name", netdev, "external_ids", ids));
    ovsdb_txn_insert(txn, "Port", "port",
                     json_pack("{s:s, s:[o]}", "name", netdev, "interfaces", ref("iface")));
    ovsdb_txn_mutate(txn, "Bridge", row->uuid, "ports", "insert", json_pack("[o]", ref("port")));
    return commit(db, txn, error) || haw_push(error, "put \"%s\" on bridge \"%s\"", netdev, bridge);
}

bool
ovs_local_del_port(Agent *agent, const char *netdev, GError **error)
{
    Ovsdb *db = session(agent, error);
    const OvsdbRow *port = db != NULL ? ovsdb_find(db, "Port", "name", netdev) : NULL;
    if (port == NULL) {
        return db != NULL;
    }
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    return !detach(db, txn, port) || commit(db, txn, error);
}

char *
ovs_local_find(Agent *agent, const char *iface_id)
{
    Ovsdb *db = ovn_local(agent);
    const OvsdbRow *iface =
        db != NULL ? ovsdb_find(db, "Interface", "external_ids:iface-id", iface_id) : NULL;
    return iface != NULL ? g_strdup(ovsdb_text(iface, "name")) : NULL;
}

/* "a:br1,b:br2" with or without one entry; caller frees. */
static char *
mappings(const char *old, const char *uplink, const char *bridge)
{
    g_auto(GStrv) list = grammar_list(old);
    g_autofree char *prefix = g_strconcat(uplink, ":", NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    for (char **one = list; *one != NULL; one++) {
        if (!g_str_has_prefix(*one, prefix)) {
            g_string_append_printf(text, "%s%s", text->len > 0 ? "," : "", *one);
        }
    }
    if (bridge != NULL) {
        g_string_append_printf(text, "%s%s%s", text->len > 0 ? "," : "", prefix, bridge);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

bool
ovs_local_map(Agent *agent, const char *uplink, const char *bridge, GError **error)
{
    static const char key[] = "ovn-bridge-mappings";
    g_auto(FiberHold) hold = fiber_hold(&map_lock);
    Ovsdb *db = session(agent, error);
    if (db == NULL) {
        return false;
    }
    const OvsdbRow *root = root_of(db);
    const char *old = ovsdb_map_text(root, "external_ids", key);
    g_autofree char *now = mappings(old, uplink, bridge);
    if (strcmp(old != NULL ? old : "", now) == 0) {
        return true;
    }
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    ovsdb_txn_mutate(txn, "Open_vSwitch", root->uuid, "external_ids", "delete",
                     json_pack("[s]", key));
    if (*now != '\0') {
        ovsdb_txn_mutate(txn, "Open_vSwitch", root->uuid, "external_ids", "insert",
                         json_pack("{s:s}", key, now));
    }
    return commit(db, txn, error);
}
