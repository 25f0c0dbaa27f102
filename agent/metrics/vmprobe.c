/* Virtual machines are asked through hawser-guest, all at the same time: the slowest one's deadline is the
 * pass's, not the sum. One that does not answer, or is not to be asked, is measured from outside.
 * V1  A guest's account is a stranger's text: names are quoted, cut and counted, values are numbers.
 * Names and sums are LXD's. Called by metrics.c. */
#include "agent/metrics/vmprobe.h"

#include <string.h>

#include "agent/metrics/instprobe.h"
#include "agent/vm/guestvm.h"
#include "agent/vm/vm.h"
#include "agent/vm/vmmeter.h"
#include "base/fiber.h"

enum { NAME_MAX_BYTES = 128, SERIES_MAX = 1024 };

struct asked {
    Inst *inst;      /* shares */
    json_t *account; /* NULL: it said nothing */
    guint *waiting;
    Fiber *owner;
};

/* ---- what they say ---- */

/* 'own' is one label, or two. */
static void
add(Exposition *samples, MetricId id, const char *own, const char *labels, json_t *value)
{
    if (json_is_number(value) && json_number_value(value) >= 0) {
        exposition_add_with(samples, id, own, labels, json_number_value(value));
    }
}

/* A label of a guest's text; NULL when that is none. */
static char *
label(const char *name, json_t *value)
{
    const char *text = json_string_value(value);

    return text != NULL && strlen(text) < NAME_MAX_BYTES ? exposition_label(name, text) : NULL;
}

struct series {
    const char *key;
    MetricId id;
};

static void
take_list(json_t *list, const char *name, const struct series *series, const char *labels,
          Exposition *samples)
{
    json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        g_autofree char *own = label("device", json_object_get(one, name));
        json_t *counters = json_object_get(one, "counters");
        counters = counters != NULL ? counters : one;
        for (const struct series *at = series; i < SERIES_MAX && own != NULL && at->key != NULL;
             at++) {
            add(samples, at->id, own, labels, json_object_get(counters, at->key));
        }
    }
}

static void
take_cpus(json_t *list, const char *labels, Exposition *samples)
{
    static const char *const modes[] = {"user", "nice",    "system", "idle", "iowait",
                                        "irq",  "softirq", "steal",  NULL};
    json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        g_autofree char *cpu = label("cpu", json_object_get(one, "cpu"));
        for (const char *const *mode = modes; i < SERIES_MAX && cpu != NULL && *mode != NULL;
             mode++) {
            g_autofree char *own = g_strdup_printf("%s,mode=\"%s\"", cpu, *mode);
            add(samples, METRIC_CPU_SECONDS, own, labels, json_object_get(one, *mode));
        }
    }
    exposition_add(samples, METRIC_CPU_EFFECTIVE, labels, (double) json_array_size(list));
}

static void
take_filesystems(json_t *list, const char *labels, Exposition *samples)
{
    json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        g_autofree char *device = label("device", json_object_get(one, "device"));
        g_autofree char *kind = label("fstype", json_object_get(one, "fstype"));
        g_autofree char *place = label("mountpoint", json_object_get(one, "mountpoint"));
        if (i >= SERIES_MAX || device == NULL || kind == NULL || place == NULL) {
            continue;
        }
        g_autofree char *own = g_strdup_printf("%s,%s,%s", device, kind, place);
        add(samples, METRIC_FS_AVAIL, own, labels, json_object_get(one, "avail_bytes"));
        add(samples, METRIC_FS_FREE, own, labels, json_object_get(one, "free_bytes"));
        add(samples, METRIC_FS_SIZE, own, labels, json_object_get(one, "size_bytes"));
    }
}

static const struct series memory_series[] = {{"active_anon_bytes", METRIC_MEM_ACTIVE_ANON},
                                              {"active_bytes", METRIC_MEM_ACTIVE},
                                              {"active_file_bytes", METRIC_MEM_ACTIVE_FILE},
                                              {"available_bytes", METRIC_MEM_AVAILABLE},
                                              {"cached_bytes", METRIC_MEM_CACHED},
                                              {"dirty_bytes", METRIC_MEM_DIRTY},
                                              {"free_bytes", METRIC_MEM_FREE},
                                              {"hugepages_free_bytes", METRIC_MEM_HUGE_FREE},
                                              {"hugepages_total_bytes", METRIC_MEM_HUGE_TOTAL},
                                              {"inactive_anon_bytes", METRIC_MEM_INACTIVE_ANON},
                                              {"inactive_bytes", METRIC_MEM_INACTIVE},
                                              {"inactive_file_bytes", METRIC_MEM_INACTIVE_FILE},
                                              {"mapped_bytes", METRIC_MEM_MAPPED},
                                              {"shmem_bytes", METRIC_MEM_SHMEM},
                                              {"swap_bytes", METRIC_MEM_SWAP},
                                              {"total_bytes", METRIC_MEM_TOTAL},
                                              {"unevictable_bytes", METRIC_MEM_UNEVICTABLE},
                                              {"writeback_bytes", METRIC_MEM_WRITEBACK},
                                              {NULL, METRIC_ID_COUNT}};

void
vmprobe_take(json_t *account, const char *labels, Exposition *samples)
{
    static const struct series disks[] = {{"read_bytes", METRIC_DISK_READ_BYTES},
                                          {"reads_completed", METRIC_DISK_READS},
                                          {"written_bytes", METRIC_DISK_WRITTEN_BYTES},
                                          {"writes_completed", METRIC_DISK_WRITES},
                                          {NULL, METRIC_ID_COUNT}};
    static const struct series links[] = {{"bytes_received", METRIC_NET_RX_BYTES},
                                          {"packets_received", METRIC_NET_RX_PACKETS},
                                          {"errors_received", METRIC_NET_RX_ERRS},
                                          {"packets_dropped_inbound", METRIC_NET_RX_DROP},
                                          {"bytes_sent", METRIC_NET_TX_BYTES},
                                          {"packets_sent", METRIC_NET_TX_PACKETS},
                                          {"errors_sent", METRIC_NET_TX_ERRS},
                                          {"packets_dropped_outbound", METRIC_NET_TX_DROP},
                                          {NULL, METRIC_ID_COUNT}};
    json_t *memory = json_object_get(account, "memory");

    take_cpus(json_object_get(account, "cpu"), labels, samples);
    take_list(json_object_get(account, "disk"), "device", disks, labels, samples);
    take_filesystems(json_object_get(account, "filesystem"), labels, samples);
    for (const struct series *at = memory_series; at->key != NULL; at++) {
        add(samples, at->id, "", labels, json_object_get(memory, at->key));
    }
    take_list(json_object_get(account, "network"), "device", links, labels, samples);
    add(samples, METRIC_PROCS, "", labels, json_object_get(account, "procs_total"));
}

/* ---- asking ---- */

static void
ask_body(void *data)
{
    struct asked *asked = data;

    asked->account = guestvm_metrics(asked->inst);
    if (asked->account == NULL && vm_session(asked->inst) != NULL) {
        asked->account = vmmeter_account(asked->inst);
    }
    --*asked->waiting;
    fiber_wake(asked->owner);
}

void
vmprobe_read_all(GPtrArray *instances, GHashTable *parts, VmProbePart part)
{
    g_autofree struct asked *all = g_new0(struct asked, instances->len + 1);
    guint count = 0, waiting = 0;

    for (guint i = 0; i < instances->len; i++) {
        Inst *inst = instances->pdata[i];
        if (strcmp(inst_type(inst), "virtual-machine") == 0 && inst_pid(inst) != 0) {
            all[count] = (struct asked){inst_ref(inst), NULL, &waiting, fiber_self()};
            waiting++;
            fiber_start("vm metrics", ask_body, &all[count++]);
        }
    }
    while (waiting > 0) {
        fiber_suspend();
    }
    for (guint i = 0; i < count; i++) {
        if (json_is_object(all[i].account)) {
            g_autofree char *labels = instprobe_labels(all[i].inst);
            vmprobe_take(all[i].account, labels, part(parts, inst_project(all[i].inst)));
        }
        json_decref(all[i].account);
        inst_unref(all[i].inst);
    }
}
