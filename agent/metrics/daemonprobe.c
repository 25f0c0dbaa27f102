/* The agent's own numbers: requests, operations, database, OVN, memory. Each owner counts for itself
 * (latency.c, operation.c, db.c, reconcile.c); here is only how the counts are called.
 * Called by metrics.c with each scrape. */
#include "agent/metrics/daemonprobe.h"

#include "agent/api/latency.h"
#include "agent/api/operation.h"
#include "agent/inst/record.h"
#include "agent/move/streamer.h"
#include "agent/ovn/ovn.h"
#include "agent/state/db.h"
#include "agent/state/warning_rows.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static gint64 started_us; /* of this process, since the epoch */

static void __attribute__((constructor)) note_start(void)
{
    started_us = clock_real_us();
}

static double
seconds_of(const struct timeval *time)
{
    return (double) time->tv_sec + (double) time->tv_usec / 1e6;
}

/* ---- the process ---- */

static void
read_heap(Exposition *samples)
{
    static const MetricId absent[] = {
        METRIC_GO_BUCK_HASH,   METRIC_GO_FREES,     METRIC_GO_GC_SYS,        METRIC_GO_HEAP_OBJECTS,
        METRIC_GO_LOOKUPS,     METRIC_GO_MALLOCS,   METRIC_GO_HEAP_RELEASED, METRIC_GO_MCACHE_SYS,
        METRIC_GO_MSPAN_INUSE, METRIC_GO_MSPAN_SYS, METRIC_GO_NEXT_GC,       METRIC_GO_STACK_INUSE,
        METRIC_GO_STACK_SYS,
    };
    struct mallinfo2 heap = mallinfo2();
    double used = (double) (heap.uordblks + heap.hblkhd);
    exposition_add(samples, METRIC_GO_ALLOC, "", used);
    exposition_add(samples, METRIC_GO_ALLOC_TOTAL, "", used);
    exposition_add(samples, METRIC_GO_GOROUTINES, "", fiber_count());
    exposition_add(samples, METRIC_GO_HEAP_ALLOC, "", (double) heap.uordblks);
    exposition_add(samples, METRIC_GO_HEAP_IDLE, "", (double) heap.fordblks);
    exposition_add(samples, METRIC_GO_HEAP_INUSE, "", (double) heap.uordblks);
    exposition_add(samples, METRIC_GO_HEAP_SYS, "", (double) heap.arena);
    exposition_add(samples, METRIC_GO_MCACHE_INUSE, "", (double) heap.fsmblks);
    exposition_add(samples, METRIC_GO_OTHER_SYS, "", (double) heap.hblkhd);
    exposition_add(samples, METRIC_GO_SYS, "", (double) (heap.arena + heap.hblkhd));
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        exposition_add(samples, absent[i], "", 0);
    }
}

static guint
count_fds(void)
{
    guint count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the directory itself */
}

static void
read_process(Exposition *samples)
{
    struct rusage usage;
    g_autofree char *text = fd_read_file("/proc/self/statm", 4096, NULL, NULL);
    unsigned long size, resident;
    getrusage(RUSAGE_SELF, &usage);
    exposition_add(samples, METRIC_PROCESS_CPU, "",
                   seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime));
    exposition_add(samples, METRIC_PROCESS_FDS, "", count_fds());
    if (text != NULL && sscanf(text, "%lu %lu", &size, &resident) == 2) {
        exposition_add(samples, METRIC_PROCESS_RSS, "",
                       (double) resident * (double) sysconf(_SC_PAGESIZE));
    }
    exposition_add(samples, METRIC_PROCESS_START, "", (double) started_us / 1e6);
    exposition_add(samples, METRIC_UPTIME, "", (double) (clock_real_us() - started_us) / 1e6);
    exposition_add(samples, METRIC_BUILD_INFO, "version=\"" HAWSER_VERSION "\"", 1);
}

/* ---- requests and operations ---- */

static void
add_latency(const char *method, const char *resource, const struct histogram *values, void *data)
{
    g_autofree char *labels = g_strdup_printf("method=\"%s\",resource=\"%s\"", method, resource);
    exposition_add_histogram(data, METRIC_REQUEST_SECONDS, labels, values);
}

static void
add_error(int status, guint64 count, void *data)
{
    char labels[32];
    g_snprintf(labels, sizeof labels, "code=\"%d\"", status);
    exposition_add(data, METRIC_REQUEST_ERRORS, labels, (double) count);
}

static void
read_requests(Agent *agent, Exposition *samples)
{
    static const char *const classes[] = {
        [OP_TASK] = "task", [OP_WEBSOCKET] = "websocket", [OP_TOKEN] = "token"};
    static const char *const ends[] = {[OP_ENDED_WELL] = "status=\"success\"",
                                       [OP_ENDED_BADLY] = "status=\"failure\"",
                                       [OP_ENDED_CANCELLED] = "status=\"cancelled\""};
    struct op_counts ops;
    guint running = 0;
    exposition_add(samples, METRIC_REQUESTS_BUSY, "", server_busy(agent->server));
    latency_each(server_latency(agent->server), add_latency, samples);
    latency_each_error(server_latency(agent->server), add_error, samples);
    op_table_counts(agent->ops, &ops);
    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        g_autofree char *labels = exposition_label("class", classes[i]);
        exposition_add(samples, METRIC_OPS_RUNNING, labels, ops.running[i]);
        running += ops.running[i];
    }
    for (int i = 0; i < OP_ENDS; i++) {
        exposition_add_histogram(samples, METRIC_OPS_SECONDS, ends[i], &ops.ended[i]);
    }
    exposition_add(samples, METRIC_OPERATIONS, "", running);
}

/* ---- the database ---- */

static void
add_file_size(Agent *agent, const char *file, const char *label, Exposition *samples)
{
    g_autofree char *path = agent_path(agent, "database/%s", file);
    struct stat st;
    if (stat(path, &st) == 0) {
        exposition_add(samples, METRIC_DB_BYTES, label, (double) st.st_size);
    }
}

static bool
count_warnings(DbTx *tx, void *data, GError **error)
{
    return warning_rows_count_active(tx, data, error);
}

static void
read_database(Agent *agent, Exposition *samples)
{
    struct db_counts counts;
    gint64 warnings = 0;
    if (db_read(agent->db, count_warnings, &warnings, NULL)) {
        exposition_add(samples, METRIC_WARNINGS, "", (double) warnings);
    }
    db_counts(agent->db, &counts);
    exposition_add(samples, METRIC_DB_TRANSACTIONS, "kind=\"read\"", (double) counts.reads);
    exposition_add(samples, METRIC_DB_TRANSACTIONS, "kind=\"write\"", (double) counts.writes);
    exposition_add(samples, METRIC_DB_FAILED, "kind=\"read\"", (double) counts.failed_reads);
    exposition_add(samples, METRIC_DB_FAILED, "kind=\"write\"", (double) counts.failed_writes);
    exposition_add(samples, METRIC_DB_SECONDS, "kind=\"read\"", (double) counts.read_us / 1e6);
    exposition_add(samples, METRIC_DB_SECONDS, "kind=\"write\"", (double) counts.write_us / 1e6);
    exposition_add(samples, METRIC_DB_WAITING, "", counts.waiting);
    add_file_size(agent, "hawser.db", "file=\"database\"", samples);
    add_file_size(agent, "hawser.db-wal", "file=\"log\"", samples);
}

/* ---- OVN ---- */

/* From the change to the level's answer; while that is due, how long it has been. */
static void
add_lag(const OvsdbRow *global, const char *level, Exposition *samples)
{
    g_autofree char *cfg = g_strdup_printf("%s_cfg", level);
    g_autofree char *stamp = g_strdup_printf("%s_cfg_timestamp", level);
    g_autofree char *label = exposition_label("level", level);
    gint64 asked = ovsdb_int(global, "nb_cfg"), done = ovsdb_int(global, cfg);
    gint64 from_ms = ovsdb_int(global, "nb_cfg_timestamp");
    gint64 to_ms = done >= asked ? ovsdb_int(global, stamp) : clock_real_us() / 1000;
    exposition_add(samples, METRIC_OVN_CFG, label, (double) done);
    if (strcmp(level, "nb") != 0 && from_ms > 0) {
        exposition_add(samples, METRIC_OVN_LAG, label, (double) MAX(to_ms - from_ms, 0) / 1e3);
    }
}

static double
number_at(json_t *object, const char *key)
{
    return (double) json_integer_value(json_object_get(object, key));
}

static void
read_ovn(Agent *agent, Exposition *samples)
{
    static const char *const databases[] = {"northbound", "southbound", "local"};
    static const char *const levels[] = {"nb", "sb", "hv"};
    if (ovn_nb(agent) == NULL) {
        return;
    }
    json_auto_t *status = ovn_status(agent);
    for (size_t i = 0; i < G_N_ELEMENTS(databases); i++) {
        g_autofree char *label = exposition_label("database", databases[i]);
        json_t *session = json_object_get(status, databases[i]);
        exposition_add(samples, METRIC_OVN_UP, label,
                       json_is_true(json_object_get(session, "connected")));
    }
    exposition_add(samples, METRIC_OVN_TRANSACTIONS, "result=\"success\"",
                   number_at(status, "applies"));
    exposition_add(samples, METRIC_OVN_TRANSACTIONS, "result=\"failure\"",
                   number_at(status, "failures"));
    exposition_add(samples, METRIC_OVN_STEPS, "", number_at(status, "steps"));
    exposition_add(samples, METRIC_OVN_DIRTY, "", number_at(status, "waiting"));
    size_t i;
    json_t *daemon;
    json_array_foreach (json_object_get(status, "daemons"), i, daemon) {
        g_autofree char *label =
            exposition_label("daemon", json_string_value(json_object_get(daemon, "name")));
        exposition_add(samples, METRIC_OVN_RESTARTS, label, number_at(daemon, "restarts"));
    }
    g_autoptr(GPtrArray) rows = ovsdb_list(ovn_nb(agent), "NB_Global", NULL, NULL);
    for (i = 0; rows->len > 0 && i < G_N_ELEMENTS(levels); i++) {
        add_lag(rows->pdata[0], levels[i], samples);
    }
}

static void
read_moves(Exposition *samples)
{
    static const char *const roles[] = {"role=\"source\"", "role=\"target\""};
    struct streamer_counts counts;
    streamer_counts(&counts);
    for (size_t i = 0; i < G_N_ELEMENTS(roles); i++) {
        exposition_add(samples, METRIC_STREAMS, roles[i], counts.running[i]);
        exposition_add(samples, METRIC_STREAM_BYTES, roles[i], (double) counts.bytes[i]);
    }
}

void
daemonprobe_read(Agent *agent, Exposition *samples)
{
    read_moves(samples);
    read_process(samples);
    read_heap(samples);
    read_requests(agent, samples);
    read_database(agent, samples);
    read_ovn(agent, samples);
}

/* ---- instances ---- */

void
daemonprobe_instances(Agent *agent, DaemonprobeMay may, const void *data, Exposition *samples)
{
    g_autoptr(GHashTable) counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GHashTableIter iter;
    gpointer key, value;
    g_hash_table_iter_init(&iter, agent->instances->by_key);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Inst *inst = value;
        if (!may(inst->project, data)) {
            continue;
        }
        g_autofree char *project = exposition_label("project", inst->project);
        char *labels = g_strdup_printf("%s,status=\"%s\",type=\"%s\"", project,
                                       inst_state_name(inst->state), inst->type);
        guint count = GPOINTER_TO_UINT(g_hash_table_lookup(counts, labels));
        g_hash_table_insert(counts, labels, GUINT_TO_POINTER(count + 1));
    }
    g_hash_table_iter_init(&iter, counts);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        exposition_add(samples, METRIC_INSTANCES, key, GPOINTER_TO_UINT(value));
    }
}
