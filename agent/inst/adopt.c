/* The agent's own start and stop, as instances live through it.
 * A1  What runs is adopted: the run directory says that there may be a container, liblxc's command
 *     socket says which init it has.
 * A2  What a crash left of one that does not run is undone with start_undo(), which is the same as
 *     after a stop.
 * A3  Instances whose creation or deletion did not end (CREATE_UNFINISHED in their row) are deleted
 *     with what there is of their volume.
 * A4  Then, in the background: autostart by priority, highest first, each after the one before.
 * Called by inst.c; main loop, inside fibers. */
#include "agent/api/warning.h"
#include "agent/inst/create.h"
#include "agent/inst/discard.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/plug.h"
#include "agent/inst/start.h"
#include "agent/move/livedecide.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"

#include <string.h>
#include <unistd.h>

#define SHUTDOWN_WAIT_S 30

static bool
adopt_driver(Inst *inst, GError **error)
{
    return inst->driver->adopt == NULL || inst->driver->adopt(inst, error);
}

void
lifecycle_adopt(Inst *inst)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    g_autoptr(GError) error = NULL;
    Vol vol;
    inst->driver = driver_of_type(inst->type);
    if (inst->driver == NULL || access(run_dir, F_OK) < 0) {
        return;
    }
    pid_t pid = inst->driver->probe(inst);
    if (inst_volume(inst, &vol, NULL)) {
        vol_adopt(inst->agent->pools, &vol); /* start_undo() gives it back */
    }
    if (pid > 0) { /* A1 */
        inst_move(inst, INST_STARTING);
        if (lifecycle_attach(inst, pid, &error) && adopt_driver(inst, &error)) {
            inst_move(inst, INST_RUNNING);
            plug_adopt_all(inst);
            if (inst->driver->frozen(inst)) {
                inst_move(inst, INST_FREEZING);
                inst_move(inst, INST_FROZEN);
            }
            haw_info("inst.adopted", KS("inst", inst->name), KU("pid", pid));
            return;
        }
        haw_warn("inst.not_adopted", KS("inst", inst->name), KS("why", error->message));
        lifecycle_forget(inst);
        inst_move(inst, INST_STOPPED);
        g_clear_error(&error);
    }
    haw_info("inst.cleared", KS("inst", inst->name), KS("project", inst->project));
    start_undo(inst, NULL); /* A2 */
}

/* Whether something runs that no row knows: its database was lost (recover.c). */
static bool
still_runs(InstTable *table, const char *object)
{
    static const char *const types[] = {"container", "virtual-machine"};
    Inst nobody = {.agent = table->agent, .object = (char *) object};
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        const Driver *driver = driver_of_type(types[i]);
        if (driver != NULL && driver->probe(&nobody) > 0) {
            return true;
        }
    }
    return false;
}

/* Run directories whose instance has no row. */
static void
clear_unknown(InstTable *table)
{
    g_autofree char *path = agent_path(table->agent, "run");
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    Inst *inst;
    g_hash_table_iter_init(&iter, table->by_key);
    while (g_hash_table_iter_next(&iter, NULL, (void **) &inst)) {
        g_hash_table_add(known, inst->object);
    }
    for (const char *name = dir != NULL ? g_dir_read_name(dir) : NULL; name != NULL;
         name = g_dir_read_name(dir)) {
        if (!g_hash_table_contains(known, name) && !still_runs(table, name)) {
            g_autofree char *full = g_strdup_printf("%s/%s", path, name);
            fd_remove_tree(full, NULL);
        }
    }
}

void
lifecycle_adopt_all(InstTable *table)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        lifecycle_adopt(inst);
        if (inst_get(inst, CREATE_UNFINISHED) != NULL && !livedecide_holds(inst)) { /* A3 */
            g_autoptr(GError) error = NULL;
            if (inst->pid != 0) { /* a QEMU that waits for another's state */
                lifecycle_kill(inst, NULL);
            }
            if (!discard_instance(inst, &error)) {
                haw_warn("inst.unfinished", KS("inst", inst->name), KS("why", error->message));
            }
        }
    }
    clear_unknown(table);
}

/* ---- autostart ---- */

static gint64
number_of(Inst *inst, const char *key, gint64 fallback)
{
    const char *value = inst_get(inst, key);
    return value != NULL ? g_ascii_strtoll(value, NULL, 10) : fallback;
}

static bool
wants_start(Inst *inst)
{
    if (inst->pid != 0) {
        return false;
    }
    if (inst_get(inst, "boot.autostart") != NULL) {
        return inst_get_bool(inst, "boot.autostart", false);
    }
    return g_strcmp0(inst_get(inst, "volatile.last_state.power"), "RUNNING") == 0;
}

static int
by_start_priority(const void *a, const void *b)
{
    Inst *first = *(Inst *const *) a, *second = *(Inst *const *) b;
    gint64 x = number_of(first, "boot.autostart.priority", 0);
    gint64 y = number_of(second, "boot.autostart.priority", 0);
    return x != y ? (x > y ? -1 : 1) : strcmp(first->name, second->name);
}

static void
autostart_fiber(void *data)
{
    InstTable *table = data;
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    g_ptr_array_sort(all, by_start_priority);
    for (guint i = 0; i < all->len && !table->stopping; i++) {
        Inst *inst = all->pdata[i];
        g_autoptr(GError) error = NULL;
        g_autofree char *url = g_strdup_printf("/1.0/instances/%s", inst->name);
        if (inst->deleted || !wants_start(inst)) {
            continue;
        }
        if (!lifecycle_start(inst, NULL, &error)) {
            haw_error("inst.autostart", KS("inst", inst->name), KS("why", error->message));
            warning_raise(table->agent, WARNING_INSTANCE_AUTOSTART_FAILURE, inst->project, url,
                          error->message);
            continue;
        }
        warning_resolve(table->agent, WARNING_INSTANCE_AUTOSTART_FAILURE, inst->project, url);
        gint64 delay_s = number_of(inst, "boot.autostart.delay", 0);
        if (delay_s > 0) {
            fiber_sleep_ms(delay_s * 1000, NULL, NULL);
        }
    }
    table->agent->autostarted = true;
}

void
lifecycle_autostart(InstTable *table)
{
    fiber_start("autostart", autostart_fiber, table);
}

/* ---- the server stops ---- */

struct stop_group {
    guint left;
    FiberSignal done;
};

struct stop_job {
    Inst *inst;
    struct stop_group *group;
};

static void
stop_fiber(void *data)
{
    struct stop_job *job = data;
    g_autoptr(GError) error = NULL;
    gint64 wait_s = number_of(job->inst, "boot.host_shutdown_timeout", SHUTDOWN_WAIT_S);
    if (!lifecycle_stop(job->inst, false, wait_s, NULL, NULL, &error)) {
        g_clear_error(&error);
        if (job->inst->pid != 0 && !lifecycle_stop(job->inst, true, 0, NULL, NULL, &error)) {
            haw_warn("inst.stop", KS("inst", job->inst->name), KS("why", error->message));
        }
    }
    job->group->left--;
    fiber_signal_all(&job->group->done);
    inst_unref(job->inst);
    g_free(job);
}

static int
by_stop_priority(const void *a, const void *b)
{
    gint64 x = number_of(*(Inst *const *) a, "boot.stop.priority", 0);
    gint64 y = number_of(*(Inst *const *) b, "boot.stop.priority", 0);
    return x == y ? 0 : x > y ? -1 : 1;
}

void
inst_table_stop_all(InstTable *table)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    table->stopping = true;
    g_ptr_array_sort(all, by_stop_priority);
    for (guint i = 0; i < all->len;) {
        struct stop_group group = {.done = FIBER_SIGNAL_INIT};
        gint64 priority = number_of(all->pdata[i], "boot.stop.priority", 0);
        for (; i < all->len && number_of(all->pdata[i], "boot.stop.priority", 0) == priority; i++) {
            Inst *inst = all->pdata[i];
            if (inst->pid == 0) {
                continue;
            }
            struct stop_job *job = g_new0(struct stop_job, 1);
            job->inst = inst_ref(inst);
            job->group = &group;
            group.left++;
            fiber_start("inst-stop", stop_fiber, job);
        }
        while (group.left > 0) {
            fiber_signal_wait(&group.done, -1, NULL, NULL);
        }
    }
}
