/* Having an OVN: which one, its daemons, the sessions.
 * O1  Embedded unless a connection is named or a system-wide Open vSwitch runs; once its databases were
 *     made it stays embedded until a connection is named.
 * O2  Coming up is one fiber's work at a time (lock); everybody else waits for it. What is up stays up:
 *     sessions reconnect and daemons are started again by themselves.
 * O3  A session that was closed keeps its memory until the agent ends, for other fibers may be waiting
 *     with it in hand.
 * Called by agent.c and by the networks; rows are reconcile.c's. */
#include "agent/ovn/ovn.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/api/settings.h"
#include "agent/ovn/ovnobj.h"
#include "agent/ovn/watched.h"
#include "agent/state/networks.h"
#include "agent/state/owner_rows.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/ovsdb_session.h"
#include "proto/rpcwire.h"

enum { READY_MS = 10000, LOOK_MS = 1000, PEM_MOST = 1024 * 1024 };

static const char *const port_columns[] = {"name", "interfaces", "external_ids", "tag", NULL};
static const OvsdbTable local_tables[] = {
    {"Open_vSwitch", NULL}, {"Bridge", NULL}, {"Port", port_columns},
    {"Interface", NULL},    {NULL, NULL},
};
static const OvsdbTable south_tables[] = {
    {"SB_Global", NULL},    {"Chassis", NULL},     {"Chassis_Private", NULL},
    {"Port_Binding", NULL}, {"MAC_Binding", NULL}, {"Datapath_Binding", NULL},
    {NULL, NULL},
};

/* ---- where things are ---- */

static const char *
system_rundir(const char *variable, const char *fallback)
{
    const char *set = getenv(variable);
    return set != NULL && *set != '\0' ? set : fallback;
}

static const char *
ovs_rundir(void)
{
    return system_rundir("OVS_RUNDIR", "/run/openvswitch");
}

static const char *
setting(const Ovn *ovn, const char *key)
{
    const char *value = settings_get(ovn->agent->settings, key);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool
system_runs(void)
{
    g_autofree char *remote = g_strdup_printf("unix:%s/db.sock", ovs_rundir());
    g_autoptr(RpcWire) wire = rpcwire_open(remote, NULL, LOOK_MS, NULL, NULL);
    return wire != NULL;
}

/* O1 */
static bool
is_embedded(const Ovn *ovn)
{
    if (setting(ovn, "network.ovn.northbound_connection") != NULL) {
        return false;
    }
    return embedded_exists(ovn->agent->dir) || !system_runs();
}

/* ---- sessions ---- */

struct pems {
    char *ca, *cert, *key;
};

static void
pems_clear(struct pems *pems)
{
    g_free(pems->ca);
    g_free(pems->cert);
    g_free(pems->key);
}

/* As set, else where LXD looks. */
static struct pems
load_pems(const Ovn *ovn)
{
    struct pems pems = {
        g_strdup(setting(ovn, "network.ovn.ca_cert")),
        g_strdup(setting(ovn, "network.ovn.client_cert")),
        g_strdup(setting(ovn, "network.ovn.client_key")),
    };
    if (pems.ca == NULL && pems.cert == NULL && pems.key == NULL) {
        pems.ca = fd_read_file("/etc/ovn/ovn-central.crt", PEM_MOST, NULL, NULL);
        pems.cert = fd_read_file("/etc/ovn/cert_host", PEM_MOST, NULL, NULL);
        pems.key = fd_read_file("/etc/ovn/key_host", PEM_MOST, NULL, NULL);
    }
    return pems;
}

static Ovsdb *
open_session(const Ovn *ovn, const char *name, const char *remotes, const char *database,
             const OvsdbTable *tables)
{
    struct pems pems = load_pems(ovn);
    OvsdbOptions options = {.name = name,
                            .remotes = remotes,
                            .database = database,
                            .leader_only = true,
                            .tables = tables,
                            .ca_pem = pems.ca,
                            .cert_pem = pems.cert,
                            .key_pem = pems.key};
    Ovsdb *db = ovsdb_open(&options);
    pems_clear(&pems);
    return db;
}

/* O3 */
static void
retire(Ovn *ovn, Ovsdb **db)
{
    if (*db != NULL) {
        g_ptr_array_add(ovn->retired, ovsdb_session_ref(*db));
        ovsdb_close(g_steal_pointer(db));
    }
}

static void
close_sessions(Ovn *ovn)
{
    ovn->up = false;
    retire(ovn, &ovn->nb);
    retire(ovn, &ovn->sb);
    retire(ovn, &ovn->local);
    g_clear_pointer(&ovn->switchd, switchd_free);
    g_clear_pointer(&ovn->sb_remote, g_free);
}

/* ---- coming up ---- */

static const OvsdbRow *
local_row(Ovn *ovn)
{
    g_autoptr(GPtrArray) rows = ovsdb_list(ovn->local, "Open_vSwitch", NULL, NULL);
    return rows->len > 0 ? g_ptr_array_index(rows, 0) : NULL;
}

/* A system-wide OVS beside the host's own OVN databases that nobody has configured: as its manual says
 * for one host. What is set stays. */
static bool
configure_system(Ovn *ovn, GError **error)
{
    const OvsdbRow *row = local_row(ovn);
    if (row == NULL || ovsdb_map_text(row, "external_ids", "ovn-remote") != NULL ||
        setting(ovn, "network.ovn.northbound_connection") != NULL) {
        return true;
    }
    g_autofree char *south =
        g_strdup_printf("unix:%s/ovnsb_db.sock", system_rundir("OVN_RUNDIR", "/run/ovn"));
    json_t *marks = json_copy(json_object_get(row->columns, "external_ids"));
    json_t *missing =
        json_pack("{s:s, s:s, s:s, s:s}", "system-id", g_get_host_name(), "ovn-remote", south,
                  "ovn-encap-type", "geneve", "ovn-encap-ip", "127.0.0.1");
    json_object_update_missing(marks, missing);
    json_decref(missing);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(ovn->local);
    ovsdb_txn_expect(
        txn, "Open_vSwitch", row->uuid,
        json_pack("{s:O}", "external_ids", json_object_get(row->columns, "external_ids")));
    ovsdb_txn_update(txn, "Open_vSwitch", row->uuid, json_pack("{s:o}", "external_ids", marks));
    haw_info("ovn.local_configured", KS("southbound", south));
    return ovsdb_txn_commit(txn, error) || haw_push(error, "configure Open vSwitch for OVN");
}

/* What the local database tells of the chassis. */
static bool
learn_local(Ovn *ovn, GError **error)
{
    const OvsdbRow *row = local_row(ovn);
    const char *id = row != NULL ? ovsdb_map_text(row, "external_ids", "system-id") : NULL;
    const char *south = row != NULL ? ovsdb_map_text(row, "external_ids", "ovn-remote") : NULL;
    if (id == NULL || south == NULL) {
        return haw_fail(error, HAW_UNAVAILABLE,
                        "Open vSwitch (%s) has no external_ids:%s: set it with ovs-vsctl set "
                        "open_vswitch .",
                        ovn->local_remote, id == NULL ? "system-id" : "ovn-remote");
    }
    g_free(ovn->system_id);
    g_free(ovn->sb_remote);
    ovn->system_id = g_strdup(id);
    ovn->sb_remote = g_strdup(south);
    return ovsdb_check_remotes(south, error) ||
           haw_push(error, "external_ids:ovn-remote of Open vSwitch");
}

static char *
north_remotes(const Ovn *ovn)
{
    const char *named = setting(ovn, "network.ovn.northbound_connection");
    if (named != NULL) {
        return g_strdup(named);
    }
    return ovn->embedded
               ? g_strdup(embedded_north(ovn->own))
               : g_strdup_printf("unix:%s/ovnnb_db.sock", system_rundir("OVN_RUNDIR", "/run/ovn"));
}

static bool
begin(Ovn *ovn, GError **error)
{
    const char *bridge = setting(ovn, "network.ovn.integration_bridge");
    g_free(ovn->bridge);
    g_free(ovn->local_remote);
    ovn->bridge = g_strdup(bridge != NULL ? bridge : "br-int");
    ovn->embedded = is_embedded(ovn);
    if (!ovn->embedded) {
        g_clear_pointer(&ovn->own, embedded_free);
        ovn->local_remote = g_strdup_printf("unix:%s/db.sock", ovs_rundir());
        return true;
    }
    if (ovn->own == NULL) {
        ovn->own = embedded_new(ovn->agent->dir, ovn->bridge);
    }
    ovn->local_remote = g_strdup(embedded_local(ovn->own));
    haw_info("ovn.embedded", KS("dir", embedded_rundir(ovn->own)));
    return embedded_up(ovn->own, error);
}

static bool
open_all(Ovn *ovn, GError **error)
{
    if (!begin(ovn, error)) {
        return false;
    }
    ovn->local =
        open_session(ovn, "Open_vSwitch database", ovn->local_remote, "Open_vSwitch", local_tables);
    if (!ovsdb_wait_ready(ovn->local, READY_MS, error)) {
        return haw_push(error, "is Open vSwitch running?");
    }
    if ((!ovn->embedded && !configure_system(ovn, error)) || !learn_local(ovn, error)) {
        return false;
    }
    g_autofree char *north = north_remotes(ovn);
    ovn->nb = open_session(ovn, "OVN northbound database", north, "OVN_Northbound", watched_tables);
    ovn->sb = open_session(ovn, "OVN southbound database", ovn->sb_remote, "OVN_Southbound",
                           south_tables);
    reconcile_watch(ovn);
    return true;
}

/* vswitchd gives the bridge's own port its number when it has made the bridge. */
static bool
bridge_there(Ovn *ovn)
{
    const OvsdbRow *bridge = ovsdb_find(ovn->local, "Bridge", "name", ovn->bridge);
    const OvsdbRow *port = ovsdb_find(ovn->local, "Interface", "name", ovn->bridge);
    if (bridge == NULL || port == NULL || ovsdb_int(port, "ofport") <= 0) {
        return false;
    }
    const char *type = ovsdb_text(bridge, "datapath_type");
    ovn->kernel = g_strcmp0(type, "netdev") != 0;
    return true;
}

static bool
wait_bridge(Ovn *ovn, GError **error)
{
    gint64 end_us = clock_mono_us() + READY_MS * 1000;
    while (!bridge_there(ovn)) {
        gint64 left_ms = (end_us - clock_mono_us()) / 1000;
        if (left_ms <= 0 ||
            !fiber_signal_wait(ovsdb_changed(ovn->local), left_ms, ovn->agent->stopping, NULL)) {
            return haw_fail(
                error, HAW_UNAVAILABLE,
                "the integration bridge '%s' is not there: does ovn-controller run, and "
                "reach '%s'?",
                ovn->bridge, ovn->sb_remote);
        }
    }
    if (ovn->switchd == NULL && !ovn->closed) {
        ovn->switchd = switchd_watch(ovn->embedded ? embedded_rundir(ovn->own) : ovs_rundir(),
                                     ovn->kernel, NULL, NULL);
    }
    return true;
}

bool
ovn_need(Agent *agent, GError **error)
{
    Ovn *ovn = agent->ovn;
    g_auto(FiberHold) hold = fiber_hold(&ovn->lock);
    if (ovn->closed) {
        return haw_fail(error, HAW_UNAVAILABLE, "the agent ends");
    }
    if (!ovn->up) {
        ovn->up = open_all(ovn, error);
        if (!ovn->up && !ovn->closed) {
            close_sessions(ovn);
        }
        if (!ovn->up) {
            return haw_push(error, "OVN");
        }
    }
    if (!ovsdb_wait_ready(ovn->nb, READY_MS, error) ||
        !ovsdb_wait_ready(ovn->sb, READY_MS, error) ||
        !ovsdb_wait_ready(ovn->local, READY_MS, error)) {
        return false;
    }
    return wait_bridge(ovn, error);
}

/* ---- the agent's life ---- */

/* Fibers may be in the middle of coming up: they keep all they hold (O3), but nothing goes on. */
static void
on_stopping(GCancellable *stopping, gpointer data)
{
    Ovn *ovn = data;
    Ovsdb *sessions[] = {ovn->nb, ovn->sb, ovn->local};
    g_cancellable_cancel(ovn->stop);
    fiber_signal_all(&ovn->kicked);
    for (size_t i = 0; i < G_N_ELEMENTS(sessions) && !ovn->closed; i++) {
        if (sessions[i] != NULL) {
            g_ptr_array_add(ovn->retired, ovsdb_session_ref(sessions[i]));
            ovsdb_close(sessions[i]);
        }
    }
    ovn->closed = true;
    g_clear_pointer(&ovn->switchd, switchd_free);
    embedded_unwatch(ovn->own);
}

Ovn *
ovn_new(Agent *agent)
{
    Ovn *ovn = g_new0(Ovn, 1);
    ovn->agent = agent;
    ovn->lock = ovn->applying = (FiberLock) FIBER_LOCK_INIT;
    ovn->kicked = (FiberSignal) FIBER_SIGNAL_INIT;
    ovn->retired =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovsdb_session_unref);
    ovn->dirty = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    ovn->stop = g_cancellable_new();
    ovn->on_stopping = g_cancellable_connect(agent->stopping, G_CALLBACK(on_stopping), ovn, NULL);
    return ovn;
}

void
ovn_free(Ovn *ovn)
{
    if (ovn == NULL) {
        return;
    }
    g_cancellable_disconnect(ovn->agent->stopping, ovn->on_stopping);
    g_cancellable_cancel(ovn->stop);
    if (!ovn->closed) {
        close_sessions(ovn);
    }
    switchd_free(ovn->switchd);
    embedded_free(ovn->own);
    g_ptr_array_unref(ovn->retired);
    g_hash_table_unref(ovn->dirty);
    g_object_unref(ovn->stop);
    g_free(ovn->local_remote);
    g_free(ovn->bridge);
    g_free(ovn->system_id);
    g_free(ovn->sb_remote);
    g_free(ovn->owner);
    g_free(ovn->last_error);
    g_free(ovn);
}

/* Networks of type ovn, with those that are about to go or not; -1 with *error. Yields. */
static int
count_networks(Agent *agent, bool with_leaving, GError **error)
{
    g_autoptr(GPtrArray) rows = netrow_list(agent->db, error);
    int count = 0;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const NetRow *row = g_ptr_array_index(rows, i);
        count += strcmp(row->type, "ovn") == 0 &&
                 (with_leaving || strcmp(row->state, NETROW_DELETING) != 0);
    }
    return rows != NULL ? count : -1;
}

/* Leftovers of an end in between: nobody needs them. */
static void
end_embedded(Ovn *ovn)
{
    g_auto(FiberHold) hold = fiber_hold(&ovn->lock);
    g_autoptr(GError) error = NULL;
    if (ovn->closed || count_networks(ovn->agent, false, &error) != 0 ||
        !embedded_exists(ovn->agent->dir)) {
        return;
    }
    close_sessions(ovn);
    if (ovn->own == NULL) {
        ovn->own = embedded_new(ovn->agent->dir, "br-int");
    }
    embedded_down(ovn->own);
    g_clear_pointer(&ovn->own, embedded_free);
}

static void
need_run(void *data)
{
    Agent *agent = data;
    g_autoptr(GError) error = NULL;
    if (!ovn_need(agent, &error)) {
        haw_warn("ovn.unavailable", KS("why", error->message));
    }
}

/* The keys that say which OVN it is: the next session is with that one. Yields. */
static bool
apply_setting(Agent *agent, const char *key, const char *value, GError **error)
{
    Ovn *ovn = agent->ovn;
    {
        g_auto(FiberHold) hold = fiber_hold(&ovn->lock);
        close_sessions(ovn);
        if (ovn->own != NULL && setting(ovn, "network.ovn.northbound_connection") != NULL) {
            embedded_down(ovn->own);
        }
        g_clear_pointer(&ovn->own, embedded_free);
    }
    if (count_networks(agent, true, NULL) > 0) {
        fiber_start("ovn-need", need_run, agent);
        ovn_kick(agent, NULL);
    }
    return true;
}

bool
ovn_start(Agent *agent, GError **error)
{
    static const char *const keys[] = {
        "network.ovn.northbound_connection",
        "network.ovn.integration_bridge",
        "network.ovn.ca_cert",
        "network.ovn.client_cert",
        "network.ovn.client_key",
    };
    Ovn *ovn = agent->ovn;
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        settings_on_change(agent->settings, keys[i], apply_setting);
    }
    ovn->owner = owner_rows_get(agent->db, error);
    int count = ovn->owner != NULL ? count_networks(agent, true, error) : -1;
    if (count < 0) {
        return false;
    }
    reconcile_start(ovn);
    if (count > 0) {
        fiber_start("ovn-need", need_run, agent);
        ovn_kick(agent, NULL);
    } else {
        end_embedded(ovn);
    }
    return true;
}

void
ovn_stop(Agent *agent)
{
    Ovn *ovn = agent->ovn;
    g_auto(FiberHold) hold = fiber_hold(&ovn->lock);
    if (ovn->closed) {
        return;
    }
    close_sessions(ovn);
    ovn->closed = true;
    if (ovn->own != NULL) {
        embedded_down(ovn->own);
    }
}

void
ovn_unneeded(Agent *agent)
{
    end_embedded(agent->ovn);
}

/* ---- looks ---- */

bool
ovn_is_embedded(Agent *agent)
{
    return agent->ovn->embedded;
}

const char *
ovn_integration_bridge(Agent *agent)
{
    const char *set = setting(agent->ovn, "network.ovn.integration_bridge");
    return set != NULL ? set : "br-int";
}

const char *
ovn_system_id(Agent *agent)
{
    return agent->ovn->system_id;
}

const char *
ovn_datapath_type(Agent *agent)
{
    return agent->ovn->kernel ? "system" : "netdev";
}

const char *
ovn_local_remote(Agent *agent)
{
    return agent->ovn->local_remote;
}

guint64
ovn_switchd_epoch(Agent *agent)
{
    return switchd_epoch(agent->ovn->switchd);
}

bool
ovn_conntrack_liberal(Agent *agent)
{
    return switchd_liberal(agent->ovn->switchd);
}

Ovsdb *
ovn_nb(Agent *agent)
{
    return agent->ovn->nb;
}

Ovsdb *
ovn_sb(Agent *agent)
{
    return agent->ovn->sb;
}

Ovsdb *
ovn_local(Agent *agent)
{
    return agent->ovn->local;
}

bool
ovn_switchd_settle(Agent *agent, GError **error)
{
    OvnSwitchd *switchd = agent->ovn->switchd;
    return switchd != NULL ? switchd_settle(switchd, error)
                           : haw_fail(error, HAW_UNAVAILABLE, "ovs-vswitchd is not known");
}

void
ovn_observe(Agent *agent, const OvnObserver *observer)
{
    agent->ovn->observer = observer;
}
