/* How fast does the northbound database follow our rows?  bench_ovn_speed DIR scale|plug [ROUNDS], as root in a network
 * namespace of its own (bench/ovn makes one).
 * scale: 50 networks on an uplink, peered in a ring, with 20 NICs each, from an empty database: time, CPU time of the agent
 *        and transactions; then the same again with nothing to do; then one NIC more among them.
 * plug:  a NIC on a network of 20, until its flows are installed; in turns with the commands that LXD 5.0.2 gives for the
 *        same rows (recorded from its ovn-nbctl and ovs-vsctl calls at an instance's start), one process each.
 * The agent's own code from the rows of its database on: builders, difference, session; a real OVN, the embedded one. */
#include "agent/api/settings.h"
#include "agent/net/netobj.h"
#include "agent/net/ovn_net.h"
#include "agent/net/ovs_local.h"
#include "agent/ovn/ovnobj.h"
#include "agent/ovn/watched.h"
#include "agent/state/ovn_ports.h"
#include "agent/state/owner_rows.h"
#include "agent/state/peers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { NETS = 50, NICS = 20, IDLE_ROUNDS = 50 };

static Agent agent;
static char **args;
static gint64 net_ids[NETS + 1];

/* The call comes first: *error is read after it. */
#define MUST(call, error)                                                                          \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            g_error("%s: %s", #call, (error) != NULL ? (error)->message : "failed");               \
        }                                                                                          \
    } while (0)

/* Time of this process alone, all threads: the daemons of OVN and the databases are not in it. */
static double
cpu_ms(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000.0 +
           (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000.0;
}

static double
ms_since(gint64 start_us)
{
    return (double) (clock_mono_us() - start_us) / 1000.0;
}

/* ---- rows of our own ---- */

static Network *
add_network(const char *name, const char *type, json_t *config)
{
    g_autoptr(GError) error = NULL;
    NetRow *row = g_new0(NetRow, 1);
    row->project = g_strdup("default");
    row->project_id = 1;
    row->name = g_strdup(name);
    row->type = g_strdup(type);
    row->description = g_strdup("");
    row->state = g_strdup(NETROW_CREATED);
    row->hwaddr = g_strdup("00:16:3e:10:00:01");
    row->old_name = g_strdup("");
    row->config = config;
    Network *net = netobj_new(agent.networks, row);
    MUST(netrow_insert(agent.db, row, 1, 1000, &error), error);
    netobj_add(agent.networks, net);
    return net;
}

static void
add_uplink(void)
{
    add_network("up0", "bridge",
                json_pack("{s:s, s:s, s:s, s:s}", "ipv4.address", "10.94.0.1/16", "ipv4.ovn.ranges",
                          "10.94.60.2-10.94.60.250", "ipv6.address", "fd42:94::1/64", "ipv4.nat",
                          "true"));
}

static void
add_ovn_network(int n)
{
    g_autofree char *name = g_strdup_printf("o%d", n);
    g_autofree char *four = g_strdup_printf("10.%d.0.1/24", 100 + n);
    g_autofree char *six = g_strdup_printf("fd42:0:0:%d::1/64", n);
    g_autofree char *ext4 = g_strdup_printf("10.94.60.%d", n + 1);
    g_autofree char *ext6 = g_strdup_printf("fd42:94::%d", n + 1);
    Network *net = add_network(name, "ovn",
                               json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "network",
                                         "up0", "bridge.mtu", "1442", "ipv4.address", four,
                                         "ipv4.nat", "true", "ipv6.address", six, "ipv6.nat",
                                         "true", "volatile.network.ipv4.address", ext4,
                                         "volatile.network.ipv6.address", ext6));
    net_ids[n] = net->row->id;
    net->up = true;
}

static bool
insert_instance(DbTx *tx, void *data, GError **error)
{
    gint64 *id = data;
    g_autofree char *name = g_strdup_printf("c%d", (int) *id);
    return db_exec(tx, error,
                   "INSERT INTO instances (id, project_id, name, type, architecture, description,"
                   " ephemeral, stateful, created_at, last_used_at, config, devices)"
                   " VALUES (?, 1, ?, 'container', 'x86_64', '', 0, 0, 0, 0, '{}', '{}')",
                   "is", *id, name);
}

static char *
lsp_name(int n, int nic)
{
    return g_strdup_printf("lxd-net%d-instance-00000000-0000-4000-8000-%012d-eth0",
                           (int) net_ids[n], nic);
}

static void
add_nic(int n, int nic)
{
    g_autoptr(GError) error = NULL;
    gint64 id = n * 1000 + nic;
    g_autofree char *lsp = lsp_name(n, nic);
    g_autofree char *mac = g_strdup_printf("00:16:3e:20:%02x:%02x", (guint) n, (guint) nic);
    g_autofree char *four = g_strdup_printf("10.%d.0.%d", 100 + n, nic + 10);
    OvnPort port = {.network_id = net_ids[n],
                    .instance_id = id,
                    .device = (char *) "eth0",
                    .lsp = lsp,
                    .mac = mac,
                    .config = json_pack("{s:s, s:s}", "ipv4.address", four, "type", "nic"),
                    .running = true};
    MUST(db_write(agent.db, insert_instance, &id, &error) && ovn_ports_put(agent.db, &port, &error),
         error);
    json_decref(port.config);
}

static void
add_peering(int from, int to)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("to%d", to);
    g_autofree char *target = g_strdup_printf("o%d", to);
    PeerRow row = {.network_id = net_ids[from],
                   .name = name,
                   .description = (char *) "",
                   .target_project = (char *) "default",
                   .target_network = target,
                   .config = json_object()};
    MUST(peerrow_insert(agent.db, &row, &error), error);
    json_decref(row.config);
}

/* ---- the agent ---- */

static void
begin(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = agent_path(&agent, "bench.db");
    agent.stopping = g_cancellable_new();
    agent.db = db_open(path, &error);
    MUST(agent.db != NULL, error);
    agent.settings = settings_load(&agent, &error);
    agent.ovn = ovn_new(&agent);
    agent.ovn->owner = owner_rows_get(agent.db, &error);
    agent.networks = net_table_new(&agent);
    ovn_net_register();
    agent.ready = true;
    MUST(ovn_need(&agent, &error), error);
    add_uplink();
}

static double
median(GArray *values)
{
    double *all = (double *) (void *) values->data;
    for (guint i = 1; i < values->len; i++) {
        for (guint j = i; j > 0 && all[j - 1] > all[j]; j--) {
            double swap = all[j];
            all[j] = all[j - 1];
            all[j - 1] = swap;
        }
    }
    return all[values->len / 2];
}

static guint
count_rows(void)
{
    guint count = 0;
    for (const OvsdbTable *table = watched_tables; table->table != NULL; table++) {
        g_autoptr(GPtrArray) rows = ovsdb_list(agent.ovn->nb, table->table, NULL, NULL);
        count += rows->len;
    }
    return count;
}

/* ---- scale ---- */

static void
timed_reconcile(const char *what, OvnWait wait)
{
    g_autoptr(GError) error = NULL;
    guint64 transactions = ovsdb_transactions(agent.ovn->nb);
    double cpu = cpu_ms();
    gint64 start_us = clock_mono_us();
    MUST(ovn_reconcile(&agent, wait, &error), error);
    printf("%-44s %8.1f ms, agent's CPU %8.1f ms, %d transactions\n", what, ms_since(start_us),
           cpu_ms() - cpu, (int) (ovsdb_transactions(agent.ovn->nb) - transactions));
}

static void
timed_idle(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) times = g_array_new(FALSE, FALSE, sizeof(double));
    double cpu = cpu_ms();
    for (int i = 0; i < IDLE_ROUNDS; i++) {
        gint64 start_us = clock_mono_us();
        MUST(ovn_reconcile(&agent, OVN_WAIT_NONE, &error), error);
        double took = ms_since(start_us);
        g_array_append_val(times, took);
    }
    cpu = (cpu_ms() - cpu) / IDLE_ROUNDS;
    double middle = median(times);
    printf("%-44s %8.1f ms, agent's CPU %8.1f ms (median of %d; best %.1f ms)\n", "nothing to do",
           middle, cpu, IDLE_ROUNDS, g_array_index(times, double, 0));
}

static void
scale(void)
{
    for (int n = 1; n <= NETS; n++) {
        add_ovn_network(n);
        for (int nic = 0; nic < NICS; nic++) {
            add_nic(n, nic);
        }
    }
    for (int n = 1; n <= NETS; n++) {
        int next = n % NETS + 1;
        add_peering(n, next);
        add_peering(next, n);
    }
    timed_reconcile("1,000 NICs on 50 peered networks, from empty", OVN_WAIT_NONE);
    printf("%-44s %8u rows\n", "", count_rows());
    fiber_sleep_ms(3000, NULL, NULL); /* northd's answers come in */
    timed_idle();
    g_autoptr(GError) error = NULL;
    g_autofree char *scope = g_strdup_printf("net%d", (int) net_ids[7]);
    guint64 transactions = ovsdb_transactions(agent.ovn->nb);
    add_nic(7, 100);
    gint64 start_us = clock_mono_us();
    MUST(ovn_apply(&agent, OVN_WAIT_NONE, &error, scope, NULL), error);
    printf("%-44s %8.1f ms, %d transaction\n", "one NIC more among them, stored",
           ms_since(start_us), (int) (ovsdb_transactions(agent.ovn->nb) - transactions));
}

/* ---- plug ---- */

static bool
installed(const char *netdev)
{
    const OvsdbRow *row = ovsdb_find(agent.ovn->local, "Interface", "name", netdev);
    return row != NULL &&
           g_strcmp0(ovsdb_map_text(row, "external_ids", "ovn-installed"), "true") == 0;
}

static void
wait_installed(const char *netdev)
{
    while (!installed(netdev)) {
        if (!fiber_signal_wait(ovsdb_changed(agent.ovn->local), 10000, NULL, NULL)) {
            g_error("flows of '%s' were not installed", netdev);
        }
    }
}

static void
tool(char **ret_out, const char *command)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    MUST(g_shell_parse_argv(command, NULL, &argv, &error), error);
    ProcSpec spec = {.argv = (const char *const *) argv, .fd_in = -1, .fd_out = -1};
    MUST(proc_run(&spec, ret_out, &error), error);
    if (ret_out != NULL) {
        g_strstrip(*ret_out);
    }
}

static void toolf(char **ret_out, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
toolf(char **ret_out, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    g_autofree char *command = g_strdup_vprintf(format, list);
    va_end(list);
    tool(ret_out, command);
}

struct times {
    double rows, all;
};

static struct times
plug_ours(int nic)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *lsp = lsp_name(1, nic);
    g_autofree char *scope = g_strdup_printf("net%d", (int) net_ids[1]);
    struct times took;
    gint64 start_us = clock_mono_us();
    add_nic(1, nic);
    MUST(ovn_apply(&agent, OVN_WAIT_SB, &error, scope, NULL), error);
    took.rows = ms_since(start_us);
    MUST(ovs_local_add_port(&agent, "br-int", "benchnic", lsp, &error), error);
    wait_installed("benchnic");
    took.all = ms_since(start_us);

    MUST(ovs_local_del_port(&agent, "benchnic", &error), error);
    MUST(ovn_ports_drop(agent.db, 1000 + nic, "eth0", &error), error);
    MUST(ovn_apply(&agent, OVN_WAIT_HV, &error, scope, NULL), error);
    return took;
}

/* As recorded; the DNS row was made when the device was added, so it is not timed. */
static struct times
plug_lxd(int nic)
{
    g_autofree char *nb =
        g_strdup_printf("ovn-nbctl --timeout=10 --db unix:%s/ovn/ovnnb.sock --wait=sb", agent.dir);
    g_autofree char *vs = g_strdup_printf("ovs-vsctl --db=unix:%s/ovn/db.sock", agent.dir);
    g_autofree char *ls = g_strdup_printf("lxd-net%d-ls-int", (int) net_ids[1]);
    g_autofree char *lsp = g_strdup_printf("lxd-net%d-instance-ffffffff-0000-4000-8000-%012d-eth0",
                                           (int) net_ids[1], nic);
    const char *find = "--format=csv --no-headings --data=bare";
    g_autofree char *dhcp = NULL;
    g_autofree char *dns = NULL;
    g_autofree char *port = NULL;
    toolf(&dns, "%s create dns external_ids:lxd_switch=%s external_ids:lxd_switch_port=%s", nb, ls,
          lsp);
    struct times took;
    gint64 start_us = clock_mono_us();
    toolf(NULL, "%s get open_vswitch . external_ids:ovn-remote", vs);
    toolf(&dhcp, "%s %s --colum=_uuid,cidr find dhcp_options external_ids:lxd_switch=%s", nb, find,
          ls);
    g_auto(GStrv) rows = g_strsplit(dhcp, "\n", -1); /* one a family, in any order */
    char **four = rows;
    while (*four != NULL && strchr(*four, '.') == NULL) {
        four++;
    }
    (*four)[strcspn(*four, ",")] = '\0';
    toolf(NULL,
          "%s --may-exist lsp-add %s %s -- lsp-set-addresses %s '00:16:3e:30:00:%02x 10.101.0.%d'"
          " -- lsp-set-dhcpv4-options %s %s",
          nb, ls, lsp, lsp, (guint) nic, nic + 10, lsp, *four);
    toolf(NULL, "%s %s --colum=_uuid find dns external_ids:lxd_switch_port=%s", nb, find, lsp);
    toolf(NULL,
          "%s set dns %s external_ids:lxd_switch=%s external_ids:lxd_switch_port=%s"
          " 'records={\"c%d.lxd\"=\"10.101.0.%d\"}'",
          nb, dns, ls, lsp, nic, nic + 10);
    toolf(NULL, "%s add logical_switch %s dns_records %s", nb, ls, dns);
    toolf(&port, "%s %s --colum=_uuid,name find logical_switch_port name=%s", nb, find, lsp);
    port[strcspn(port, ",")] = '\0';
    toolf(NULL, "%s add port_group lxd_net%d ports %s", nb, (int) net_ids[1], port);
    toolf(NULL, "%s %s --colum=_uuid find acl external_ids:lxd_switch_port=%s", nb, find, lsp);
    took.rows = ms_since(start_us);
    toolf(NULL, "%s --may-exist add-port br-int benchnic", vs);
    toolf(NULL, "%s %s --colum=name find interface external-ids:iface-id=%s", vs, find, lsp);
    toolf(NULL, "%s set interface benchnic external_ids:iface-id=%s", vs, lsp);
    wait_installed("benchnic");
    took.all = ms_since(start_us);

    toolf(NULL, "%s --if-exists del-port br-int benchnic", vs);
    toolf(NULL, "%s --if-exists lsp-del %s -- destroy dns %s", nb, lsp, dns);
    toolf(NULL, "ovn-nbctl --db unix:%s/ovn/ovnnb.sock --wait=hv sync", agent.dir);
    return took;
}

static void
plug(int rounds)
{
    g_autoptr(GError) error = NULL;
    GArray *values[4];
    double of[4];
    add_ovn_network(1);
    for (int nic = 0; nic < NICS; nic++) {
        add_nic(1, nic);
    }
    MUST(ovn_reconcile(&agent, OVN_WAIT_HV, &error), error);
    tool(NULL, "ip link add benchnic type veth peer name benchend");
    tool(NULL, "ip link set benchnic up");
    for (int i = 0; i < 4; i++) {
        values[i] = g_array_new(FALSE, FALSE, sizeof(double));
    }
    for (int i = 0; i < rounds; i++) {
        struct times ours, theirs;
        if (i % 2 == 0) { /* whatever else the machine does meets both */
            ours = plug_ours(100 + i);
            theirs = plug_lxd(100 + i);
        } else {
            theirs = plug_lxd(100 + i);
            ours = plug_ours(100 + i);
        }
        double four[] = {ours.rows, theirs.rows, ours.all, theirs.all};
        for (int k = 0; k < 4; k++) {
            g_array_append_val(values[k], four[k]);
        }
    }
    for (int k = 0; k < 4; k++) {
        of[k] = median(values[k]);
        g_array_unref(values[k]);
    }
    printf("NIC plug, rows known to the southbound    ovn-nbctl %7.1f ms, Hawser %7.1f ms, ratio "
           "%.2f\n",
           of[1], of[0], of[0] / of[1]);
    printf(
        "NIC plug, until its flows are installed   ovn-nbctl %7.1f ms, Hawser %7.1f ms, ratio %.2f "
        "(target 0.50)\n",
        of[3], of[2], of[2] / of[3]);
}

static void
body(void *data)
{
    begin();
    if (strcmp(args[2], "scale") == 0) {
        scale();
    } else {
        plug(args[3] != NULL ? atoi(args[3]) : 15);
    }
    ovn_stop(&agent);
    g_cancellable_cancel(agent.stopping);
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s DIR scale|plug [ROUNDS]\n", argv[0]);
        return 2;
    }
    args = argv;
    agent.dir = argv[1];
    log_set_level(LOG_LEVEL_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    fiber_start("bench", body, NULL);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    return 0;
}
