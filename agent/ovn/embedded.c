/* The agent's own OVN.
 * E1  Everything is below <dir>/ovn (rundir, databases, logs), by OVS_RUNDIR and its sisters in the daemons'
 *     environment, so it stands beside a system-wide OVS and beside those of other agents.
 * E2  The daemons outlive the agent (daemon.c): flows and conntrack go on while it is restarted.
 * E3  Databases first, then the Open_vSwitch row, then those that read it: vswitchd, northd, controller.
 *     All of them reconnect by themselves, so after a crash of one only that one is started.
 * E4  vswitchd is not started in the first seconds after a boot: it counts CPUs when its clock, the time since
 *     boot, has moved 10 s, and takes none until then (count_cpu_cores, OVS 3.1). With no CPUs it has no
 *     handlers, and the kernel's datapath then loses every packet that it asks about.
 * E5  The chassis is called after the host, not by a UUID: OVN takes any text.
 * Called by ovn.c under its lock. */
#include "agent/ovn/embedded.h"

#include <string.h>
#include <unistd.h>

#include "agent/ovn/daemon.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"
#include "hw/nldoor.h"
#include "hw/tap.h"
#include "proto/ovsdb.h"
#include "proto/unixctl.h"

enum { READY_MS = 30000, CPUS_COUNTED_MS = 11000 };

typedef enum { NORTH, SOUTH, LOCAL, SWITCH, NORTHD, CONTROLLER, DAEMONS } Which;

struct OvnEmbedded {
    char *rundir, *bridge;
    char *local, *north, *south; /* remotes */
    const char *datapath;        /* NULL before it was found out */
    OvnDaemon *daemons[DAEMONS]; /* owned */
};

static const struct {
    const char *name, *file, *schema, *package;
} databases[] = {
    [NORTH] = {"ovnnb", "ovnnb.db", "/usr/share/ovn/ovn-nb.ovsschema", "ovn-central"},
    [SOUTH] = {"ovnsb", "ovnsb.db", "/usr/share/ovn/ovn-sb.ovsschema", "ovn-central"},
    [LOCAL] = {"db", "conf.db", "/usr/share/openvswitch/vswitch.ovsschema", "openvswitch-switch"},
};

static char *
in_rundir(const OvnEmbedded *ovn, const char *file)
{
    return g_build_filename(ovn->rundir, file, NULL);
}

/* ---- arguments ---- */

/* E1; caller frees. */
static char **
environment(const OvnEmbedded *ovn)
{
    static const char *const names[] = {"OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR",
                                        "OVN_LOGDIR", "OVS_DBDIR",  "OVN_DBDIR"};
    char **env = g_get_environ();
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        env = g_environ_setenv(env, names[i], ovn->rundir, TRUE);
    }
    return env;
}

static void
add_daemon(OvnEmbedded *ovn, Which which, const char *name, const char *program,
           const char *const *args)
{
    GPtrArray *argv = g_ptr_array_new();
    g_ptr_array_add(argv, g_strdup(program));
    g_ptr_array_add(argv, g_strdup("-vconsole:off"));
    g_ptr_array_add(argv, g_strdup("-vsyslog:off"));
    g_ptr_array_add(argv, g_strdup("-vfile:info"));
    g_ptr_array_add(argv, g_strdup_printf("--log-file=%s/%s.log", ovn->rundir, name));
    g_ptr_array_add(argv, g_strdup_printf("--pidfile=%s/%s.pid", ovn->rundir, name));
    for (; *args != NULL; args++) {
        g_ptr_array_add(argv, g_strdup(*args));
    }
    g_ptr_array_add(argv, NULL);
    ovn->daemons[which] =
        daemon_new(ovn->rundir, name, (char **) g_ptr_array_free(argv, FALSE), environment(ovn));
}

static void
add_server(OvnEmbedded *ovn, Which which)
{
    const char *name = databases[which].name;
    g_autofree char *listen = g_strdup_printf("--remote=punix:%s/%s.sock", ovn->rundir, name);
    g_autofree char *control = g_strdup_printf("--unixctl=%s/%s.ctl", ovn->rundir, name);
    g_autofree char *file = in_rundir(ovn, databases[which].file);
    g_autofree char *daemon = g_strdup_printf("ovsdb-server-%s", name);
    add_daemon(ovn, which, daemon, "ovsdb-server", (const char *[]){listen, control, file, NULL});
}

OvnEmbedded *
embedded_new(const char *dir, const char *bridge)
{
    OvnEmbedded *ovn = g_new0(OvnEmbedded, 1);
    ovn->rundir = g_build_filename(dir, "ovn", NULL);
    ovn->bridge = g_strdup(bridge);
    ovn->local = g_strdup_printf("unix:%s/db.sock", ovn->rundir);
    ovn->north = g_strdup_printf("unix:%s/ovnnb.sock", ovn->rundir);
    ovn->south = g_strdup_printf("unix:%s/ovnsb.sock", ovn->rundir);
    for (int i = NORTH; i <= LOCAL; i++) {
        add_server(ovn, i);
    }
    g_autofree char *control = g_strdup_printf("--unixctl=%s/ovs-vswitchd.ctl", ovn->rundir);
    g_autofree char *northd = g_strdup_printf("--unixctl=%s/ovn-northd.ctl", ovn->rundir);
    g_autofree char *north = g_strdup_printf("--ovnnb-db=%s", ovn->north);
    g_autofree char *south = g_strdup_printf("--ovnsb-db=%s", ovn->south);
    add_daemon(ovn, SWITCH, "ovs-vswitchd", "ovs-vswitchd",
               (const char *[]){control, ovn->local, NULL});
    add_daemon(ovn, NORTHD, "ovn-northd", "ovn-northd",
               (const char *[]){northd, north, south, NULL});
    add_daemon(ovn, CONTROLLER, "ovn-controller", "ovn-controller",
               (const char *[]){ovn->local, NULL});
    return ovn;
}

void
embedded_free(OvnEmbedded *ovn)
{
    if (ovn == NULL) {
        return;
    }
    for (int i = 0; i < DAEMONS; i++) {
        daemon_free(ovn->daemons[i]);
    }
    g_free(ovn->rundir);
    g_free(ovn->bridge);
    g_free(ovn->local);
    g_free(ovn->north);
    g_free(ovn->south);
    g_free(ovn);
}

bool
embedded_exists(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "ovn", databases[NORTH].file, NULL);
    return access(path, F_OK) == 0;
}

/* ---- up ---- */

static bool
check_programs(GError **error)
{
    static const struct {
        const char *program, *package;
    } needed[] = {
        {"ovsdb-server", "openvswitch-switch"}, {"ovsdb-tool", "openvswitch-switch"},
        {"ovs-vswitchd", "openvswitch-switch"}, {"ovn-northd", "ovn-central"},
        {"ovn-controller", "ovn-host"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
        g_autofree char *path = g_find_program_in_path(needed[i].program);
        if (path == NULL) {
            return haw_fail(error, HAW_UNSUPPORTED,
                            "OVN networks need '%s': install %s, or name an OVN with "
                            "network.ovn.northbound_connection",
                            needed[i].program, needed[i].package);
        }
    }
    return true;
}

static bool
make_database(const OvnEmbedded *ovn, Which which, GError **error)
{
    g_autofree char *file = in_rundir(ovn, databases[which].file);
    g_autofree char *answer = NULL;
    const char *schema = databases[which].schema;
    if (access(schema, R_OK) < 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "OVN networks need '%s': install %s", schema,
                        databases[which].package);
    }
    if (access(file, F_OK) < 0) {
        g_autofree char *fresh = g_strconcat(file, ".new", NULL);
        unlink(fresh);
        if (!proc_runv(NULL, error, "ovsdb-tool", "create", fresh, schema, NULL)) {
            return false;
        }
        return rename(fresh, file) == 0 || haw_fail(error, HAW_IO, "rename '%s'", fresh);
    }
    if (daemon_pid(ovn->daemons[which]) != 0) {
        return true;
    }
    if (!proc_runv(&answer, error, "ovsdb-tool", "needs-conversion", file, schema, NULL)) {
        return false;
    }
    return !g_str_has_prefix(answer, "yes") ||
           proc_runv(NULL, error, "ovsdb-tool", "convert", file, schema, NULL);
}

/* A datapath that is built in shows in no list of modules: its netlink family tells. */
static bool
kernel_has_datapath(void)
{
    g_autoptr(NlSock) sock = nlsock_open_generic(NULL);
    return sock != NULL && nldoor_family(sock, "ovs_datapath") > 0;
}

/* Only the kernel knows: a module that is there, can be loaded, or is built in. */
static const char *
find_datapath(void)
{
    if (kernel_has_datapath() ||
        (proc_runv(NULL, NULL, "modprobe", "-q", "openvswitch", NULL) && kernel_has_datapath())) {
        return "system";
    }
    return "netdev";
}

static const OvsdbTable local_tables[] = {{"Open_vSwitch", NULL}, {NULL, NULL}};

/* E5; what the operator has set by hand stays. */
static json_t *
wanted_marks(const OvnEmbedded *ovn, json_t *found)
{
    const char *chassis = json_string_value(json_object_get(found, "system-id"));
    json_t *marks = found != NULL ? json_copy(found) : json_object();
    json_t *wanted = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "system-id",
                               chassis != NULL ? chassis : g_get_host_name(), "ovn-remote",
                               ovn->south, "ovn-encap-type", "geneve", "ovn-encap-ip", "127.0.0.1",
                               "ovn-bridge", ovn->bridge, "ovn-bridge-datapath-type", ovn->datapath,
                               "ovn-monitor-all", "true");
    json_object_update_missing(marks, wanted);
    json_object_set(marks, "ovn-remote", json_object_get(wanted, "ovn-remote"));
    json_object_set(marks, "ovn-bridge", json_object_get(wanted, "ovn-bridge"));
    json_object_set(marks, "ovn-bridge-datapath-type",
                    json_object_get(wanted, "ovn-bridge-datapath-type"));
    json_decref(wanted);
    return marks;
}

static bool
configure_local(OvnEmbedded *ovn, GError **error)
{
    OvsdbOptions options = {.name = "Open_vSwitch database",
                            .remotes = ovn->local,
                            .database = "Open_vSwitch",
                            .tables = local_tables};
    g_autoptr(Ovsdb) db = ovsdb_open(&options);
    if (!ovsdb_wait_ready(db, READY_MS, error)) {
        return false;
    }
    g_autoptr(GPtrArray) rows = ovsdb_list(db, "Open_vSwitch", NULL, NULL);
    const OvsdbRow *row = rows->len > 0 ? g_ptr_array_index(rows, 0) : NULL;
    json_t *found = row != NULL ? json_object_get(row->columns, "external_ids") : NULL;
    json_t *marks = wanted_marks(ovn, found);
    bool same = found != NULL && json_equal(found, marks);
    g_autoptr(OvsdbTxn) txn = ovsdb_txn_new(db);
    json_t *columns = json_pack("{s:o}", "external_ids", marks);
    if (row == NULL) {
        ovsdb_txn_insert(txn, "Open_vSwitch", NULL, columns);
    } else {
        ovsdb_txn_update(txn, "Open_vSwitch", row->uuid, columns);
    }
    return same || ovsdb_txn_commit(txn, error);
}

static bool
up_range(OvnEmbedded *ovn, Which first, Which last, GError **error)
{
    for (Which i = first; i <= last; i++) {
        if (!daemon_up(ovn->daemons[i], error)) {
            return false;
        }
        crash_point("ovn");
    }
    return true;
}

/* E4 */
static void
wait_for_cpus(const OvnEmbedded *ovn)
{
    gint64 early_ms = CPUS_COUNTED_MS - clock_mono_us() / 1000;
    if (early_ms > 0 && strcmp(ovn->datapath, "system") == 0) {
        haw_info("ovn.host_is_young", KI("wait_ms", early_ms));
        fiber_sleep_ms(early_ms, NULL, NULL);
    }
}

bool
embedded_up(OvnEmbedded *ovn, GError **error)
{
    if (!check_programs(error) || !fd_mkdir_p(ovn->rundir, 0700, error)) {
        return false;
    }
    if (ovn->datapath == NULL) {
        ovn->datapath = find_datapath();
    }
    for (Which i = NORTH; i <= LOCAL; i++) {
        if (!make_database(ovn, i, error)) {
            return haw_push(error, "database of the embedded OVN");
        }
    }
    if (!up_range(ovn, NORTH, LOCAL, error)) { /* E3 */
        return false;
    }
    if (!configure_local(ovn, error)) {
        return false;
    }
    wait_for_cpus(ovn);
    return up_range(ovn, SWITCH, CONTROLLER, error);
}

void
embedded_unwatch(OvnEmbedded *ovn)
{
    for (int i = 0; ovn != NULL && i < DAEMONS; i++) {
        daemon_unwatch(ovn->daemons[i]);
    }
}

void
embedded_down(OvnEmbedded *ovn)
{
    g_autofree char *control = in_rundir(ovn, "ovs-vswitchd.ctl");
    g_autoptr(GError) error = NULL;
    /* The opposite order; vswitchd takes its interfaces and a kernel datapath along. */
    daemon_down(ovn->daemons[CONTROLLER]);
    daemon_down(ovn->daemons[NORTHD]);
    daemon_unwatch(ovn->daemons[SWITCH]);
    g_free(unixctl_call(control, NULL, "exit", "--cleanup", NULL));
    daemon_let_end(ovn->daemons[SWITCH]); /* a signal would cut its cleaning short */
    for (int i = SWITCH; i >= NORTH; i--) {
        daemon_down(ovn->daemons[i]);
    }
    if (!tap_remove("ovs-netdev", &error)) { /* the userspace datapath leaves it behind */
        haw_warn("ovn.tap_stays", KS("error", error->message));
    }
}

const char *
embedded_local(const OvnEmbedded *ovn)
{
    return ovn->local;
}

const char *
embedded_north(const OvnEmbedded *ovn)
{
    return ovn->north;
}

const char *
embedded_south(const OvnEmbedded *ovn)
{
    return ovn->south;
}

const char *
embedded_rundir(const OvnEmbedded *ovn)
{
    return ovn->rundir;
}

const char *
embedded_datapath(const OvnEmbedded *ovn)
{
    return ovn->datapath != NULL ? ovn->datapath : "netdev";
}

json_t *
embedded_json(const OvnEmbedded *ovn)
{
    json_t *list = json_array();
    for (int i = 0; i < DAEMONS; i++) {
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:i}", "name", daemon_name(ovn->daemons[i]),
                                        "pid", (int) daemon_pid(ovn->daemons[i]), "restarts",
                                        (int) daemon_restarts(ovn->daemons[i])));
    }
    return list;
}
