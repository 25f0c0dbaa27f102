/* A virtual machine measured from outside, as LXD does for one without an agent: CPU time of its vCPU threads,
 * QEMU's counters of its disks, what it has touched of its memory, its taps the other way round.
 * E1  What can't be had is left out; nothing here fails.
 * Called by metrics/vmprobe.c. */
#include "agent/vm/vmmeter.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/vm/vmitem.h"
#include "agent/vm/vmrun.h"
#include "agent/vm/vmshow.h"
#include "base/fd.h"
#include "proto/keys.h"

/* ---- CPUs ---- */

/* utime and stime of a thread, behind the name's bracket in its stat. */
static bool
thread_seconds(pid_t pid, pid_t thread, double *ret_user, double *ret_system)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/stat", (int) pid, (int) thread);
    g_autofree char *text = fd_read_file(path, 4096, NULL, NULL);
    const char *at = text != NULL ? strrchr(text, ')') : NULL;
    g_auto(GStrv) fields = g_strsplit(at != NULL ? at + 2 : "", " ", 16);
    double tick = 1.0 / (double) sysconf(_SC_CLK_TCK);
    if (g_strv_length(fields) < 13) {
        return false;
    }
    *ret_user = (double) g_ascii_strtoll(fields[11], NULL, 10) * tick;
    *ret_system = (double) g_ascii_strtoll(fields[12], NULL, 10) * tick;
    return true;
}

static json_t *
cpus(Inst *inst)
{
    size_t i;
    json_t *each, *list = json_array();
    pid_t pid = inst->pid;
    json_auto_t *all = qmp_call(inst->vm->qmp, "query-cpus-fast", NULL, NULL);
    json_array_foreach (all, i, each) {
        g_autofree char *name = g_strdup_printf("cpu%zu", i);
        pid_t thread = (pid_t) json_integer_value(json_object_get(each, "thread-id"));
        double user, system;
        if (thread_seconds(pid, thread, &user, &system)) {
            json_array_append_new(
                list, json_pack("{s:s,s:f,s:f}", "cpu", name, "user", user, "system", system));
        }
    }
    return list;
}

/* ---- disks ---- */

/* Of QEMU's devices the one that is called 'id': "/machine/peripheral/ID/…". */
static json_t *
stats_of(json_t *all, const char *id)
{
    size_t i;
    json_t *each;
    json_array_foreach (all, i, each) {
        const char *place = json_string_value(json_object_get(each, "qdev"));
        g_auto(GStrv) parts = g_strsplit(place != NULL ? place : "", "/", -1);
        if (g_strv_contains((const char *const *) parts, id)) {
            return json_object_get(each, "stats");
        }
    }
    return NULL;
}

static json_t *
disks(Inst *inst, json_t *devices)
{
    const char *name;
    json_t *device, *list = json_array();
    json_auto_t *all = qmp_call(inst->vm->qmp, "query-blockstats", NULL, NULL);
    json_object_foreach (devices, name, device) {
        g_autofree char *id = vmitem_id(name);
        json_t *stats = stats_of(all, id);
        if (stats != NULL) {
            json_t *one = json_pack("{s:s}", "device", name);
            json_object_set(one, "read_bytes", json_object_get(stats, "rd_bytes"));
            json_object_set(one, "reads_completed", json_object_get(stats, "rd_operations"));
            json_object_set(one, "written_bytes", json_object_get(stats, "wr_bytes"));
            json_object_set(one, "writes_completed", json_object_get(stats, "wr_operations"));
            json_array_append_new(list, one);
        }
    }
    return list;
}

/* ---- memory ---- */

static json_t *
memory(Inst *inst)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int) inst->pid);
    g_autofree char *text = fd_read_file(path, 65536, NULL, NULL);
    const char *at = text != NULL ? strstr(text, "VmRSS:") : NULL;
    gint64 total = vm_memory_bytes(inst->vm);
    gint64 resident = at != NULL ? g_ascii_strtoll(at + strlen("VmRSS:"), NULL, 10) * 1024 : 0;
    json_int_t rest = (json_int_t) MAX(total - resident, 0);
    return json_pack("{s:I,s:I,s:I}", "total_bytes", (json_int_t) total, "free_bytes", rest,
                     "available_bytes", rest);
}

/* ---- NICs ---- */

static json_t *
nics(Inst *inst)
{
    const char *name;
    json_t *entry, *list = json_array();
    json_auto_t *links = vmshow_network(inst);
    json_object_foreach (links, name, entry) {
        json_array_append_new(list, json_pack("{s:s,s:O}", "device", name, "counters",
                                              json_object_get(entry, "counters")));
    }
    return list;
}

json_t *
vmmeter_account(Inst *inst)
{
    json_auto_t *devices = json_incref(inst->expanded_devices);
    json_t *account = json_object();
    json_t *(*const parts[])(Inst *) = {cpus, memory, nics};
    static const char *const names[] = {"cpu", "memory", "network"};
    for (size_t i = 0; i < G_N_ELEMENTS(parts) && inst->vm != NULL; i++) {
        json_object_set_new(account, names[i], parts[i](inst));
    }
    if (inst->vm != NULL) { /* each of these yields: it may have ended */
        json_object_set_new(account, "disk", disks(inst, devices));
    }
    return account;
}
