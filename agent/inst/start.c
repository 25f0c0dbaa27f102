/* Starting an instance: what all kinds have in common, and everything that has to be in place before a
 * container's init runs (a virtual machine's is vm/vmboot.c).
 * T1  The run directory (run/NAME) is the mark of a start: it is made first and removed last, so that
 *     after a crash its presence says that there may be something to adopt or to undo.
 * T2  Rows are written once, right before init is started: volatile keys, power state, last use. A
 *     crash before that leaves a stopped instance, a crash behind it one that is started again.
 * T3  Ids on disk change before the key that says so; shifting can be repeated (idmap.c, M3).
 * T4  start_undo() takes back any prefix of the steps.
 * Called by lifecycle.c; main loop. The configuration's text is lxcconf.c's. */
#include "agent/inst/start.h"
#include "agent/inst/cgroup.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/idmap.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/intercept.h"
#include "agent/inst/launch.h"
#include "agent/inst/limits.h"
#include "agent/inst/lxcconf.h"
#include "agent/inst/plug.h"
#include "agent/inst/snapshot.h"
#include "agent/inst/template.h"
#include "agent/store/instdir.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct start {
    Inst *inst;
    Vol vol;
    char *run_dir, *log_dir, *mount, *rootfs, *conf_path, *seccomp_path;
    json_t *changes; /* volatile keys to store */
    json_t *items;   /* of devices and limits */
    GArray *map;
    Launch *launch;
    bool premapped; /* the volume shows host ids by itself */
    bool idmapped;  /* the kernel maps ids where the root gets mounted */
};

/* Inst → IdmapRange: what isolated ones whose start is under way have chosen, and not stored yet. */
static GHashTable *chosen;

static void
start_done(struct start *s)
{
    launch_free(s->launch);
    if (chosen != NULL) {
        g_hash_table_remove(chosen, s->inst);
    }
    g_free(s->run_dir);
    g_free(s->log_dir);
    g_free(s->mount);
    g_free(s->rootfs);
    g_free(s->conf_path);
    g_free(s->seccomp_path);
    json_decref(s->changes);
    json_decref(s->items);
    if (s->map != NULL) {
        g_array_unref(s->map);
    }
}

static bool
make_dirs(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    s->run_dir = inst_run_dir(inst);
    s->log_dir = inst_log_dir(inst);
    s->conf_path = g_strdup_printf("%s/lxc.conf", s->log_dir);
    g_autofree char *log = g_strdup_printf("%s/lxc.log", s->log_dir);
    g_autofree char *old = g_strdup_printf("%s/lxc.log.old", s->log_dir);
    if (!fd_mkdir_p(s->run_dir, 0711, error) || !fd_mkdir_p(s->log_dir, 0700, error)) {
        return false;
    }
    rename(log, old);
    return true;
}

/* ---- ids ---- */

static GArray *
taken_ranges(Inst *inst)
{
    GArray *taken = g_array_new(FALSE, FALSE, sizeof(IdmapRange));
    g_autoptr(GPtrArray) all = inst_list(inst->agent->instances, NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *other = all->pdata[i];
        const IdmapRange *soon =
            other != inst && chosen != NULL ? g_hash_table_lookup(chosen, other) : NULL;
        if (soon != NULL) {
            g_array_append_val(taken, *soon);
            continue;
        }
        const char *base = inst_get(other, "volatile.idmap.base");
        const char *size = inst_get(other, "security.idmap.size");
        if (other != inst && base != NULL && !g_str_equal(base, "0") &&
            inst_get_bool(other, "security.idmap.isolated", false) &&
            !inst_get_bool(other, "security.privileged", false)) {
            gint64 count =
                size != NULL && strcmp(size, "auto") != 0 ? g_ascii_strtoll(size, NULL, 10) : 65536;
            IdmapRange range = {g_ascii_strtoll(base, NULL, 10), count};
            g_array_append_val(taken, range);
        }
    }
    return taken;
}

static void
set_text(json_t *changes, const char *key, const char *value)
{
    json_object_set_new(changes, key, json_string(value));
}

/* Of several that start at once each sees what the others took. */
static void
note_choice(struct start *s, gint64 first)
{
    gint64 end = first;
    for (guint i = 0; i < s->map->len; i++) {
        const IdmapEntry *entry = &g_array_index(s->map, IdmapEntry, i);
        end =
            entry->inside + entry->count > end - first ? first + entry->inside + entry->count : end;
    }
    if (chosen == NULL) {
        chosen = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    }
    IdmapRange *range = g_new(IdmapRange, 1);
    *range = (IdmapRange){first, end - first};
    g_hash_table_replace(chosen, s->inst, range);
}

static bool
choose_map(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    IdmapRange host = idmap_host_range("/etc/subuid", "/etc/subgid", "/proc/self/uid_map");
    g_autoptr(GArray) taken = taken_ranges(inst);
    const char *base = inst_get(inst, "volatile.idmap.base");
    g_autoptr(GError) local = NULL;
    json_t *config = json_incref(inst->expanded_config);
    /* An isolated instance keeps the range that it has, as long as its size did not change. */
    const char *next = inst_get(inst, "volatile.idmap.next");
    g_autoptr(GArray) kept = next != NULL ? idmap_from_text(next, NULL) : NULL;
    if (base != NULL && kept != NULL && inst_get(inst, "security.idmap.base") == NULL &&
        inst_get_bool(inst, "security.idmap.isolated", false)) {
        json_t *fixed = json_copy(config);
        json_object_set_new(fixed, "security.idmap.base", json_string(base));
        s->map = idmap_choose(fixed, host, taken, NULL);
        json_decref(fixed);
        if (s->map == NULL || !idmap_equal(s->map, kept)) {
            g_clear_pointer(&s->map, g_array_unref);
        }
    }
    if (s->map == NULL) {
        s->map = idmap_choose(config, host, taken, error);
    }
    json_decref(config);
    if (s->map == NULL) {
        return false;
    }
    g_autofree char *text = idmap_to_text(s->map);
    gint64 first = s->map->len > 0 ? g_array_index(s->map, IdmapEntry, 0).host : 0;
    bool isolated = inst_get_bool(inst, "security.idmap.isolated", false);
    g_autofree char *number = g_strdup_printf("%" G_GINT64_FORMAT, isolated ? first : 0);
    set_text(s->changes, "volatile.idmap.current", text);
    set_text(s->changes, "volatile.idmap.next", text);
    set_text(s->changes, "volatile.idmap.base", number);
    if (isolated && s->map->len > 0) {
        note_choice(s, first);
    }
    return true;
}

struct shift_job {
    const char *path;
    GArray *from, *to;
    GError *error;
};

static void
shift_run(void *data)
{
    struct shift_job *job = data;
    idmap_shift_tree(job->path, job->from, job->to, &job->error);
}

/* Brings the ids on disk to where this start needs them (T3). */
static bool
shift_disk(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    s->idmapped =
        !s->premapped && s->map->len > 0 && vol_idmap_mountable(inst->agent->pools, &s->vol);
    g_autoptr(GArray) none = g_array_new(FALSE, TRUE, sizeof(IdmapEntry));
    GArray *want = s->idmapped || s->premapped ? none : s->map;
    g_autoptr(GArray) last = idmap_from_text(inst_get(inst, "volatile.last_state.idmap"), error);
    if (last == NULL) {
        return false;
    }
    g_autofree char *text = idmap_to_text(want);
    if (!idmap_equal(last, want)) {
        if (inst_get_bool(inst, "security.protection.shift", false)) {
            return haw_fail(error, HAW_FAILED,
                            "Container is protected against filesystem shifting");
        }
        struct shift_job job = {s->rootfs, last, want, NULL};
        fiber_run(shift_run, &job);
        if (job.error != NULL) {
            g_propagate_prefixed_error(error, job.error, "Failed to shift the filesystem: ");
            return false;
        }
    }
    set_text(s->changes, "volatile.last_state.idmap", text);
    return true;
}

/* ---- files ---- */

static bool
load_modules(Inst *inst, GError **error)
{
    const char *value = inst_get(inst, "linux.kernel_modules");
    g_auto(GStrv) modules = grammar_list(value != NULL ? value : "");
    for (char **module = modules; *module != NULL; module++) {
        g_autofree char *loaded = g_strdup_printf("/sys/module/%s", *module);
        g_strdelimit(loaded, "-", '_');
        if (**module != '\0' && access(loaded, F_OK) < 0 &&
            !proc_runv(NULL, error, "modprobe", "-b", *module, NULL)) {
            return haw_push(error, "Failed to load kernel module '%s'", *module);
        }
    }
    return true;
}

static bool
write_plain(const char *path, const char *text, GError **error)
{
    /* No fsync: it is made anew with each start. GLib does not cut a longer file that is there. */
    unlink(path);
    if (!g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL)) {
        return haw_fail_errno(error, errno, "Write '%s'", path);
    }
    return true;
}

static bool
write_seccomp(struct start *s, GError **error)
{
    const LxcConfHost host = lxcconf_host();
    g_autofree char *text = lxcconf_seccomp(s->inst->expanded_config, s->inst->architecture, &host);
    if (text == NULL) {
        return true;
    }
    g_autofree char *dir = agent_path(s->inst->agent, "security/seccomp");
    s->seccomp_path = g_strdup_printf("%s/%s", dir, s->inst->object);
    return fd_mkdir_p(dir, 0700, error) && write_plain(s->seccomp_path, text, error);
}

static bool
write_conf(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    bool devlxd = inst_get_bool(inst, "security.devlxd", true);
    g_autofree char *devlxd_dir = devlxd ? agent_path(inst->agent, "devlxd") : NULL;
    if (devlxd && !fd_mkdir_p(devlxd_dir, 0755, error)) {
        return false;
    }
    const LxcConfHost host = lxcconf_host();
    g_autofree char *notify_path =
        lxcconf_intercepts(inst->expanded_config, &host) ? intercept_path(inst->agent) : NULL;
    LxcConf conf = {
        .name = inst->object,
        .hostname = inst->name,
        .architecture = inst->architecture,
        .log_dir = s->log_dir,
        .run_dir = s->run_dir,
        .rootfs = s->rootfs,
        .rootfs_idmapped = s->idmapped,
        .seccomp_path = s->seccomp_path,
        .devlxd_dir = devlxd_dir,
        .notify_path = notify_path,
        .id = inst->id,
        .config = inst->expanded_config,
        .map = s->map,
        .items = s->items,
        .host = host,
    };
    g_autofree char *text = lxcconf_text(&conf, error);
    return text != NULL && write_plain(s->conf_path, text, error);
}

/* Templates of the image: what a creation, copy or rename asked for, and those of every start. */
static bool
apply_templates(struct start *s, GError **error)
{
    const char *trigger = inst_get(s->inst, "volatile.apply_template");
    if (!template_apply(s->inst, s->mount, s->map, s->idmapped, trigger, error)) {
        return haw_push(error, "Failed to run templates");
    }
    if (trigger != NULL) {
        json_object_set_new(s->changes, "volatile.apply_template", json_null());
    }
    return true;
}

static bool
prepare_volume(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    if (!inst_volume(inst, &s->vol, error)) {
        return false;
    }
    json_t *map = idmap_to_json(s->map);
    bool ok = vol_mount_idmapped(inst->agent->pools, &s->vol, map, &s->mount, &s->premapped, error);
    json_decref(map);
    if (!ok || !instdir_check(s->mount, error)) { /* what is mounted start_undo() unmounts */
        return false;
    }
    s->rootfs = g_strdup_printf("%s/rootfs", s->mount);
    return true;
}

static bool
add_limits(struct start *s, GError **error)
{
    g_autofree char *cpus = limits_balance(s->inst->agent->instances, s->inst);
    return limits_conf_items(s->inst->expanded_config, cpus, s->items, error);
}

/* What raw.lxc says of liblxc's own network and ids holds only where liblxc makes the namespaces. */
static bool
is_raw_about_namespaces(Inst *inst)
{
    const char *raw = inst_get(inst, "raw.lxc");
    return raw != NULL &&
           (strcasestr(raw, "lxc.net") != NULL || strcasestr(raw, "lxc.namespace") != NULL ||
            strcasestr(raw, "lxc.id") != NULL);
}

/* The helper that starts init begins now: it is ready by the time it is needed. */
static bool
summon(struct start *s, GError **error)
{
    bool inside = !is_raw_about_namespaces(s->inst) && plug_nics_inside(s->inst);
    s->launch = launch_new(s->inst, s->conf_path, s->map, inside, error);
    return s->launch != NULL;
}

static bool
start_devices(struct start *s, GError **error)
{
    int netns = launch_netns(s->launch, error);
    return netns >= 0 && plug_start_all(s->inst, netns, s->changes, &s->items, error);
}

static bool
prepare(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    if (!make_dirs(s, error)) { /* T1 */
        return false;
    }
    crash_point("start");
    if (!choose_map(s, error) || !summon(s, error) || !prepare_volume(s, error)) {
        return false;
    }
    crash_point("start");
    if (!shift_disk(s, error) || !apply_templates(s, error)) {
        return false;
    }
    crash_point("start");
    if (!load_modules(inst, error) || !start_devices(s, error)) {
        return false;
    }
    crash_point("start");
    if (!add_limits(s, error) || !write_seccomp(s, error) || !write_conf(s, error)) {
        return false;
    }
    set_text(s->changes, "volatile.last_state.power", "RUNNING");
    return record_set_used(inst, s->changes, clock_real_us(), error); /* T2 */
}

/* An init that ends at once is seen here, if not before. */
static bool
is_alive(Inst *inst, GError **error)
{
    struct pollfd ended = {.fd = inst->pidfd, .events = POLLIN};
    return poll(&ended, 1, 0) == 0 ||
           haw_fail(error, HAW_FAILED, "The %s stopped right after its start", inst->type);
}

static bool
launch(struct start *s, GError **error)
{
    Inst *inst = s->inst;
    pid_t pid = 0;
    crash_point("start");
    if (!launch_go(s->launch, &pid, error)) {
        return false;
    }
    crash_point("start");
    if (!lifecycle_attach(inst, pid, error)) {
        return false;
    }
    limits_post_start(inst);
    if (!plug_post_start_all(inst, error) || !is_alive(inst, error)) {
        inst->driver->kill(inst, NULL);
        while (!inst->monitor_gone) {
            fiber_signal_wait(&inst->changed, 1000, NULL, NULL);
        }
        lifecycle_forget(inst);
        return false;
    }
    crash_point("start");
    return true;
}

bool
start_container(Inst *inst, GError **error)
{
    struct start s = {.inst = inst, .changes = json_object()};
    cgroup_expect_move();
    bool ok = prepare(&s, error) && launch(&s, error);
    if (!ok) {
        record_set_used(inst, s.changes, 0, NULL); /* host names of NICs, for the undo */
    }
    start_done(&s);
    return ok;
}

bool
start_by(Inst *inst, StartFn fn, void *data, GError **error)
{
    inst->driver = driver_of_type(inst->type);
    if (inst->driver == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED, "Instances of type '%s' can't be started yet",
                        inst->type);
    }
    if (inst->agent->instances->stopping) {
        return haw_fail(error, HAW_UNAVAILABLE, "The server is shutting down");
    }
    inst_move(inst, INST_STARTING);
    bool ok = fn(inst, data, error);
    if (!ok) {
        start_undo(inst, "STOPPED");
        inst_move(inst, INST_STOPPED);
    }
    return ok;
}

static bool
start_plain(Inst *inst, void *data, GError **error)
{
    if (!inst->driver->start(inst, error)) {
        return false;
    }
    inst_move(inst, INST_RUNNING);
    return true;
}

bool
start_run(Inst *inst, GError **error)
{
    if (!snapshot_at_start(inst, error)) {
        return haw_push(error, "Failed performing startup snapshot");
    }
    return start_by(inst, start_plain, NULL, error);
}

void
start_undo(Inst *inst, const char *power)
{
    json_t *changes = json_object();
    g_autofree char *run_dir = inst_run_dir(inst);
    g_autoptr(GError) error = NULL;
    Vol vol;
    if (access(run_dir, F_OK) < 0) {
        json_decref(changes);
        return;
    }
    if (inst->driver != NULL && inst->driver->undo != NULL) {
        inst->driver->undo(inst);
    }
    plug_stop_all(inst, changes);
    crash_point("stop");
    if (inst_volume(inst, &vol, NULL) && !vol_unmount(inst->agent->pools, &vol, &error)) {
        haw_warn("inst.unmount", KS("inst", inst->name), KS("why", error->message));
        g_clear_error(&error);
    }
    crash_point("stop");
    if (power != NULL) {
        set_text(changes, "volatile.last_state.power", power);
    }
    json_object_set_new(changes, "volatile.last_state.ready", json_null());
    if (!record_set_used(inst, changes, 0, &error)) {
        haw_warn("inst.store", KS("inst", inst->name), KS("why", error->message));
        g_clear_error(&error);
    }
    crash_point("stop");
    if (!fd_remove_tree(run_dir, &error)) { /* T1 */
        haw_warn("inst.run_dir", KS("inst", inst->name), KS("why", error->message));
    }
    json_decref(changes);
}
