/* Interfaces on bridges: rows of the local Open_vSwitch database that carry our id in
 * external_ids:hawser-port.
 * O1  One transaction a change: what had the id, the iface-id or the name before goes as the new one
 *     comes, so that two ports never answer to one logical port.
 * O2  Rows of others are not touched, unless they stand in the way of O1.
 * O3  Where all is as wanted already, nothing is sent.
 * O4  What comes off a bridge is free only when ovs-vswitchd has let go of it: as it does, it puts the
 *     interface's flags back, and would undo what somebody else has made of them meanwhile.
 * The session is opened when it is first needed: a host without OVS runs plain SR-IOV. */
#include "dataplane/slow/ovsport.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/ovsdb.h"

enum { READY_MS = 5000, OPENED_MS = 5000, CLOSED_MS = 3000 };

static const char *const bridge_columns[] = {"name", "ports", NULL};
static const char *const port_columns[] = {"name", "interfaces", NULL};
static const char *const interface_columns[] = {
    "name", "type", "external_ids", "options", "ofport", "error", NULL};
static const char *const root_columns[] = {"next_cfg", "cur_cfg", NULL};
static const OvsdbTable tables[] = {{"Open_vSwitch", root_columns},
                                    {"Bridge", bridge_columns},
                                    {"Port", port_columns},
                                    {"Interface", interface_columns},
                                    {NULL, NULL}};
static const char default_remote[] = "unix:/var/run/openvswitch/db.sock";

struct OvsPorts {
    char *remote;
    Ovsdb *db; /* owned, NULL until it is needed */
    OvsPortsChanged changed;
    void *data;
};

OvsPorts *
ovsport_open(const char *remote, OvsPortsChanged changed, void *data)
{
    OvsPorts *ports = g_new0(OvsPorts, 1);
    ports->remote = g_strdup(remote != NULL && *remote != '\0' ? remote : default_remote);
    ports->changed = changed;
    ports->data = data;
    return ports;
}

void
ovsport_close(OvsPorts *ports)
{
    if (ports != NULL) {
        ovsdb_close(ports->db);
        g_free(ports->remote);
        g_free(ports);
    }
}

static void
on_row(Ovsdb *db, const OvsdbRow *before, const OvsdbRow *after, void *data)
{
    OvsPorts *ports = data;
    const OvsdbRow *row = after != NULL ? after : before;
    /* A bridge that came may be the one that a port waits for; of interfaces only ours matter. */
    if (strcmp(row->table, "Bridge") == 0 ||
        (strcmp(row->table, "Interface") == 0 &&
         ovsdb_map_text(row, "external_ids", "hawser-port") != NULL)) {
        ports->changed(ports->data);
    }
}

static void
begin(OvsPorts *ports)
{
    OvsdbOptions options = {.name = "Open_vSwitch database",
                            .remotes = ports->remote,
                            .database = "Open_vSwitch",
                            .tables = tables};
    ports->db = ovsdb_open(&options);
    ovsdb_on_row(ports->db, on_row, ports);
}

void
ovsport_set_remote(OvsPorts *ports, const char *remote)
{
    if (remote == NULL || *remote == '\0' || strcmp(remote, ports->remote) == 0) {
        return;
    }
    haw_info("bridges.remote", KS("remote", remote));
    g_free(ports->remote);
    ports->remote = g_strdup(remote);
    Ovsdb *old = g_steal_pointer(&ports->db);
    if (old != NULL) {
        begin(ports);
        ovsdb_close(old); /* who waits for it finds the new one */
    }
}

const char *
ovsport_remote(const OvsPorts *ports)
{
    return ports->remote;
}

static Ovsdb *
session(OvsPorts *ports, GError **error)
{
    if (ports->db == NULL) {
        begin(ports);
    }
    for (;;) {
        const Ovsdb *db = ports->db;
        g_autoptr(GError) why = NULL;
        if (ovsdb_wait_ready(ports->db, READY_MS, &why)) {
            return ports->db;
        }
        if (db == ports->db || ports->db == NULL) { /* not another remote meanwhile */
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
    }
}

bool
ovsport_ready(OvsPorts *ports)
{
    return ports->db != NULL && ovsdb_ready(ports->db);
}

/* ---- what is there ---- */

static const OvsdbRow *
port_of(Ovsdb *db, const OvsdbRow *interface)
{
    g_autoptr(GPtrArray) found = ovsdb_list(db, "Port", "interfaces", interface->uuid);
    return found->len > 0 ? found->pdata[0] : NULL;
}

static const OvsdbRow *
bridge_of(Ovsdb *db, const OvsdbRow *port)
{
    g_autoptr(GPtrArray) found = ovsdb_list(db, "Bridge", "ports", port->uuid);
    return found->len > 0 ? found->pdata[0] : NULL;
}

static void
add_once(GPtrArray *rows, GPtrArray *more)
{
    for (guint i = 0; i < more->len; i++) {
        if (!g_ptr_array_find(rows, more->pdata[i], NULL)) {
            g_ptr_array_add(rows, more->pdata[i]);
        }
    }
}

/* Interfaces with our id; with a want also those that stand in its way. */
static GPtrArray *
interfaces_of(Ovsdb *db, const char *id, const struct ovsport_want *want)
{
    GPtrArray *rows = ovsdb_list(db, "Interface", "external_ids:hawser-port", id);
    if (want != NULL) {
        g_autoptr(GPtrArray) same_iface =
            ovsdb_list(db, "Interface", "external_ids:iface-id", want->iface_id);
        g_autoptr(GPtrArray) same_name = ovsdb_list(db, "Interface", "name", want->netdev);
        add_once(rows, same_iface);
        add_once(rows, same_name);
    }
    return rows;
}

bool
ovsport_has(OvsPorts *ports, const char *id, const char *netdev)
{
    const OvsdbRow *row = ports->db != NULL
                              ? ovsdb_find(ports->db, "Interface", "external_ids:hawser-port", id)
                              : NULL;
    return row != NULL && g_strcmp0(ovsdb_text(row, "name"), netdev) == 0;
}

/* ---- changing it ---- */

static json_t *
external_ids(const struct ovsport_want *want)
{
    json_t *map = json_pack("{s:s, s:s}", "hawser-port", want->id, "iface-id", want->iface_id);
    if (want->mac[0] != '\0') {
        json_object_set_new(map, "attached-mac", json_string(want->mac));
    }
    for (const char *const *at = want->pairs; at != NULL && *at != NULL; at += 2) {
        json_object_set_new(map, at[0], json_string(at[1]));
    }
    return map;
}

/* Every key that is wanted is there; OVN adds some of its own (ovn-installed). */
static bool
covers(json_t *found, json_t *wanted)
{
    const char *key;
    json_t *value;
    json_object_foreach (wanted, key, value) {
        if (!json_equal(json_object_get(found, key), value)) {
            return false;
        }
    }
    return true;
}

/* Takes the port of an interface off its bridge; the database collects both rows. */
static void
drop_interface(Ovsdb *db, OvsdbTxn *txn, const OvsdbRow *interface)
{
    const OvsdbRow *port = port_of(db, interface);
    const OvsdbRow *bridge = port != NULL ? bridge_of(db, port) : NULL;
    if (bridge != NULL) {
        ovsdb_txn_mutate(txn, "Bridge", bridge->uuid, "ports", "delete",
                         json_pack("[s]", port->uuid));
    }
}

static bool
is_in_place(Ovsdb *db, const OvsdbRow *interface, const struct ovsport_want *want)
{
    const OvsdbRow *port = port_of(db, interface);
    const OvsdbRow *bridge = port != NULL ? bridge_of(db, port) : NULL;
    return bridge != NULL && g_strcmp0(ovsdb_text(bridge, "name"), want->bridge) == 0 &&
           g_strcmp0(ovsdb_text(interface, "name"), want->netdev) == 0 &&
           g_strcmp0(ovsdb_text(interface, "type"), want->type) == 0 &&
           (want->path == NULL ||
            g_strcmp0(ovsdb_map_text(interface, "options", "vhost-server-path"), want->path) == 0);
}

static void
insert_interface(OvsdbTxn *txn, const OvsdbRow *bridge, const struct ovsport_want *want)
{
    json_t *interface = json_pack("{s:s, s:s, s:o}", "name", want->netdev, "type", want->type,
                                  "external_ids", external_ids(want));
    if (want->path != NULL) {
        json_object_set_new(interface, "options",
                            json_pack("{s:s}", "vhost-server-path", want->path));
    }
    ovsdb_txn_insert(txn, "Interface", "interface", interface);
    ovsdb_txn_insert(
        txn, "Port", "port",
        json_pack("{s:s, s:[{s:s}]}", "name", want->netdev, "interfaces", "ref", "interface"));
    ovsdb_txn_mutate(txn, "Bridge", bridge->uuid, "ports", "insert",
                     json_pack("[{s:s}]", "ref", "port"));
}

/* O1, O3 */
static bool
put(Ovsdb *db, const OvsdbRow *bridge, const struct ovsport_want *want, GError **error)
{
    g_autoptr(GPtrArray) found = interfaces_of(db, want->id, want);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    bool there = false;
    for (guint i = 0; i < found->len; i++) {
        const OvsdbRow *interface = found->pdata[i];
        if (there || !is_in_place(db, interface, want)) {
            drop_interface(db, txn, interface);
            continue;
        }
        there = true;
        json_t *wanted = external_ids(want);
        json_t *now = json_object_get(interface->columns, "external_ids");
        if (!covers(now, wanted)) {
            /* Keys of OVN's that belong to another logical port go with the old id. */
            ovsdb_txn_update(txn, "Interface", interface->uuid,
                             json_pack("{s:O}", "external_ids", wanted));
        }
        json_decref(wanted);
    }
    if (!there) {
        insert_interface(txn, bridge, want);
    }
    return ovsdb_txn_size(txn) == 0 || ovsdb_txn_commit(txn, error);
}

static bool
is_opened(const OvsdbRow *interface)
{
    json_t *ofport = json_object_get(interface->columns, "ofport");
    return json_integer_value(json_array_get(ofport, 0)) > 0;
}

/* Until the switch has opened it, or says why it can't. */
static bool
wait_opened(Ovsdb *db, const struct ovsport_want *want, GError **error)
{
    gint64 end_us = clock_mono_us() + OPENED_MS * 1000;
    for (;;) {
        const OvsdbRow *row = ovsdb_find(db, "Interface", "external_ids:hawser-port", want->id);
        const char *why = row != NULL ? ovsdb_text(row, "error") : NULL;
        if (why != NULL) {
            return haw_fail(error, HAW_UNSUPPORTED, "Open vSwitch cannot open port \"%s\": %s",
                            want->netdev, why);
        }
        if (row != NULL && is_opened(row)) {
            return true;
        }
        gint64 left_us = end_us - clock_mono_us();
        if (left_us <= 0) {
            return haw_fail(error, HAW_TIMEOUT,
                            "Open vSwitch has not opened port \"%s\" for %d ms: is ovs-vswitchd "
                            "running?",
                            want->netdev, OPENED_MS);
        }
        fiber_signal_wait(ovsdb_changed(db), left_us / 1000 + 1, NULL, NULL);
    }
}

bool
ovsport_plug(OvsPorts *ports, const struct ovsport_want *want, GError **error)
{
    Ovsdb *db = session(ports, error);
    const OvsdbRow *bridge = db != NULL ? ovsdb_find(db, "Bridge", "name", want->bridge) : NULL;
    if (db == NULL) {
        return haw_push(error, "put \"%s\" on bridge \"%s\"", want->netdev, want->bridge);
    }
    if (bridge == NULL) {
        return haw_fail(error, HAW_UNAVAILABLE,
                        "there is no bridge \"%s\" at '%s': is ovn-controller running?",
                        want->bridge, ports->remote);
    }
    if (!put(db, bridge, want, error)) {
        return haw_push(error, "put \"%s\" on bridge \"%s\"", want->netdev, want->bridge);
    }
    if (want->type[0] == '\0') {
        return true;
    }
    if (!wait_opened(db, want, error)) {
        ovsport_unplug(ports, want->id, false, NULL);
        return false;
    }
    return true;
}

/* O4. One that does not answer (it is not running) holds nothing either. */
static bool
commit_and_wait(Ovsdb *db, OvsdbTxn *txn, GError **error)
{
    g_autoptr(GPtrArray) roots = ovsdb_list(db, "Open_vSwitch", NULL, NULL);
    const OvsdbRow *root = roots->len > 0 ? roots->pdata[0] : NULL;
    if (root == NULL) {
        return ovsdb_txn_commit(txn, error);
    }
    g_autofree char *uuid = g_strdup(root->uuid);
    ovsdb_txn_mutate(txn, "Open_vSwitch", uuid, "next_cfg", "+=", json_integer(1));
    guint read = ovsdb_txn_select(txn, "Open_vSwitch", uuid, "next_cfg");
    if (!ovsdb_txn_commit(txn, error)) {
        return false;
    }
    gint64 wanted = ovsdb_txn_int(txn, read);
    gint64 end_us = clock_mono_us() + CLOSED_MS * 1000;
    for (gint64 left_us; (left_us = end_us - clock_mono_us()) > 0;) {
        root = ovsdb_get(db, "Open_vSwitch", uuid);
        if (root != NULL && ovsdb_int(root, "cur_cfg") >= wanted) {
            return true;
        }
        fiber_signal_wait(ovsdb_changed(db), left_us / 1000 + 1, NULL, NULL);
    }
    haw_warn("bridges.silent", KI("waited_ms", CLOSED_MS));
    return true;
}

bool
ovsport_unplug(OvsPorts *ports, const char *id, bool wait, GError **error)
{
    Ovsdb *db = session(ports, error);
    bool opened = false;
    if (db == NULL) {
        return haw_push(error, "take port \"%s\" off its bridge", id);
    }
    g_autoptr(GPtrArray) found = interfaces_of(db, id, NULL);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    for (guint i = 0; i < found->len; i++) {
        opened = opened || is_opened(found->pdata[i]);
        drop_interface(db, txn, found->pdata[i]);
    }
    return ovsdb_txn_size(txn) == 0 ||
           (wait && opened ? commit_and_wait(db, txn, error) : ovsdb_txn_commit(txn, error)) ||
           haw_push(error, "take port \"%s\" off its bridge", id);
}
