/* Virtual CPUs and memory of a running VM.
 * U1  QEMU starts with one CPU; all others are plugged, the lowest core first, so that each can be taken
 *     out again, here and on a host that the VM moved to.
 * U2  A set in limits.cpu pins: the n-th virtual CPU to the n-th of the set. A count leaves it to the kernel.
 * U3  All vCPU threads share one core scheduling cookie where the kernel has that: a sibling hyperthread
 *     runs nothing but this VM. Where it has not, the instance's log says so.
 * U4  QEMU 7.2 breaks its heap when TCG gives up a CPU: there a number is lowered by a restart only.
 * Called by vmboot.c and driver_qemu.c. */

#include "agent/vm/vmrun.h"

#include <errno.h>
#include <linux/prctl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "agent/vm/vmlayout.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { BALLOON_TRIES = 10, BALLOON_STEP_MS = 500, CPU_GONE_MS = 20000, CPUS_MOST = 255 };

/* ---- threads ---- */

static GArray *
thread_ids(VmSession *vm, GError **error)
{
    json_t *cpus = qmp_call(vm->qmp, "query-cpus-fast", NULL, error), *cpu;
    size_t i;
    if (cpus == NULL) {
        return NULL;
    }
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(pid_t));
    json_array_foreach (cpus, i, cpu) {
        pid_t id = (pid_t) json_integer_value(json_object_get(cpu, "thread-id"));
        if (id > 0) {
            g_array_append_val(ids, id);
        }
    }
    json_decref(cpus);
    return ids;
}

/* U2 */
static bool
pin(VmSession *vm, GArray *ids, GError **error)
{
    const char *limit = inst_get(vm->inst, "limits.cpu");
    if (limit == NULL || strpbrk(limit, "-,") == NULL) {
        return true;
    }
    g_auto(GStrv) parts = g_strsplit(limit, ",", -1);
    guint next = 0;
    for (char **part = parts; *part != NULL; part++) {
        char *end;
        gint64 first = g_ascii_strtoll(*part, &end, 10);
        gint64 last = *end == '-' ? g_ascii_strtoll(end + 1, NULL, 10) : first;
        for (gint64 cpu = first; cpu >= 0 && cpu <= last && cpu < CPU_SETSIZE && next < ids->len;
             cpu++, next++) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET((size_t) cpu, &set);
            if (sched_setaffinity(g_array_index(ids, pid_t, next), sizeof set, &set) < 0) {
                return haw_fail_errno(error, errno, "limits.cpu: pin to CPU %" G_GINT64_FORMAT,
                                      cpu);
            }
        }
    }
    return true;
}

/* ---- core scheduling ---- */

struct cookie {
    GArray *ids; /* borrowed */
    int err;
};

/* U3: the cookie is made for this thread, which ends with its work, and shared with the others. */
static gpointer
cookie_thread(gpointer data)
{
    struct cookie *cookie = data;
    if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD, 0) < 0) {
        cookie->err = errno;
        return NULL;
    }
    for (guint i = 0; i < cookie->ids->len && cookie->err == 0; i++) {
        if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_SHARE_TO, g_array_index(cookie->ids, pid_t, i),
                  PR_SCHED_CORE_SCOPE_THREAD, 0) < 0) {
            cookie->err = errno;
        }
    }
    return NULL;
}

static void
cookie_run(void *data)
{
    GThread *thread = g_thread_new("core-sched", cookie_thread, data);
    g_thread_join(thread);
}

static bool
share_cores(VmSession *vm, GArray *ids, GError **error)
{
    struct cookie cookie = {.ids = ids};
    fiber_run(cookie_run, &cookie);
    if (cookie.err == 0) {
        return true;
    }
    if (cookie.err == EINVAL || cookie.err == ENODEV) { /* no such call, or no SMT */
        vmsession_note(vm->inst, cookie.err == EINVAL
                                     ? "no core scheduling: this kernel has none"
                                     : "no core scheduling: this host has one thread a core");
        return true;
    }
    return haw_fail_errno(error, cookie.err, "Set the core scheduling cookie");
}

/* ---- plugging ---- */

static gint64
core_of(json_t *slot)
{
    return json_integer_value(json_object_get(json_object_get(slot, "props"), "core-id"));
}

static bool
is_plugged(json_t *slot)
{
    return json_object_get(slot, "qom-path") != NULL;
}

/* The free slot with the lowest core, or the plugged one with the highest. */
static json_t *
pick_slot(json_t *slots, bool plugged)
{
    size_t i;
    json_t *slot, *best = NULL;
    json_array_foreach (slots, i, slot) {
        bool better = best == NULL || (core_of(slot) > core_of(best)) == plugged;
        if (is_plugged(slot) == plugged && better) {
            best = slot;
        }
    }
    return best;
}

static char *
slot_id(json_t *slot)
{
    return g_strdup_printf("cpu0%" G_GINT64_FORMAT "0", core_of(slot));
}

static bool
plug_cpu(VmSession *vm, json_t *slot, GError **error)
{
    g_autofree char *id = slot_id(slot);
    json_t *args = json_copy(json_object_get(slot, "props"));
    json_object_set(args, "driver", json_object_get(slot, "type"));
    json_object_set_new(args, "id", json_string(id));
    return qmp_do(vm->qmp, "device_add", args, error);
}

static bool
unplug_cpu(VmSession *vm, json_t *slot, GError **error)
{
    g_autofree char *id = slot_id(slot);
    return qmp_do(vm->qmp, "device_del", json_pack("{s:s}", "id", id), error) &&
           vmsession_await_gone(vm, id, CPU_GONE_MS, error);
}

static int
count_plugged(json_t *slots)
{
    size_t i;
    json_t *slot;
    int count = 0;
    json_array_foreach (slots, i, slot) {
        count += is_plugged(slot);
    }
    return count;
}

/* U1: one CPU nearer to 'want'; *ret_done once it is there. */
static bool
step(VmSession *vm, int want, bool *ret_done, GError **error)
{
    json_t *slots = qmp_call(vm->qmp, "query-hotpluggable-cpus", NULL, error);
    if (slots == NULL) {
        return false;
    }
    int have = count_plugged(slots);
    bool ok = true;
    *ret_done = have == want;
    if (have < want) {
        json_t *slot = pick_slot(slots, false);
        ok = slot != NULL ? plug_cpu(vm, slot, error)
                          : haw_fail(error, HAW_LIMIT,
                                     "limits.cpu: the virtual machine was started with room for %d "
                                     "CPUs: restart it",
                                     have);
    } else if (have > want) {
        ok = unplug_cpu(vm, pick_slot(slots, true), error);
    }
    json_decref(slots);
    return ok;
}

static bool
plug_to(VmSession *vm, int want, GError **error)
{
    bool done = false;
    for (int i = 0; !done && i <= CPUS_MOST; i++) {
        if (!step(vm, want, &done, error)) {
            return false;
        }
    }
    return true;
}

bool
vmcpu_settle(VmSession *vm, GError **error)
{
    int want = (int) json_integer_value(json_object_get(vm->layout, "cpus"));
    if (want > 1 && !plug_to(vm, want, error)) {
        return false;
    }
    g_autoptr(GArray) ids = thread_ids(vm, error);
    return ids != NULL && pin(vm, ids, error) && share_cores(vm, ids, error);
}

bool
vmcpu_change(VmSession *vm, int count, GError **error)
{
    bool fewer = count < json_integer_value(json_object_get(vm->layout, "cpus"));
    const char *accel = json_string_value(json_object_get(vm->layout, "accel"));
    if (fewer && g_strcmp0(accel, "tcg") == 0) { /* U4 */
        return haw_fail(error, HAW_UNSUPPORTED,
                        "An emulated virtual machine (qemu.accel=tcg) can get more CPUs while it "
                        "runs, but not fewer: stop it first");
    }
    if (!plug_to(vm, count, error)) {
        return false;
    }
    json_object_set_new(vm->layout, "cpus", json_integer(count));
    vmsession_store_layout(vm);
    g_autoptr(GArray) ids = thread_ids(vm, error);
    return ids != NULL && share_cores(vm, ids, error);
}

/* ---- memory ---- */

static gint64
balloon_actual(VmSession *vm)
{
    json_t *info = qmp_call(vm->qmp, "query-balloon", NULL, NULL);
    gint64 actual = json_integer_value(json_object_get(info, "actual"));
    json_decref(info);
    return actual;
}

bool
vmcpu_balloon(VmSession *vm, const char *limit, GError **error)
{
    gint64 boot = vm_memory_bytes(vm), want = 0;
    if (json_integer_value(json_object_get(vm->layout, "page_bytes")) > 0) {
        return haw_fail(error, HAW_CONFLICT,
                        "Cannot live update memory limit when using huge pages");
    }
    if (limit != NULL && g_str_has_suffix(limit, "%")) {
        return haw_fail(error, HAW_CONFLICT, "Cannot live update memory limit to a percentage");
    }
    if (limit == NULL) {
        want = VMLAYOUT_MEMORY;
    } else if (!grammar_parse_size(limit, &want, error)) {
        return false;
    }
    if (want > boot) {
        return haw_fail(error, HAW_CONFLICT,
                        "Cannot increase memory size beyond boot time size when VM is running "
                        "(Boot time size %" G_GINT64_FORMAT "MiB, new size %" G_GINT64_FORMAT
                        "MiB)",
                        boot >> 20, want >> 20);
    }
    if (!qmp_do(vm->qmp, "balloon", json_pack("{s:I}", "value", (json_int_t) want), error)) {
        return false;
    }
    for (int i = 0; i < BALLOON_TRIES; i++) {
        gint64 actual = balloon_actual(vm);
        if (actual > 0 && ABS(actual - want) <= want / 100) {
            return true;
        }
        fiber_sleep_ms(BALLOON_STEP_MS, NULL, NULL);
    }
    qmp_do(vm->qmp, "balloon", json_pack("{s:I}", "value", (json_int_t) boot), NULL);
    return haw_fail(error, HAW_TIMEOUT,
                    "Failed setting memory to %" G_GINT64_FORMAT "MiB: the guest does not follow",
                    want >> 20);
}
