/* Snapshots of instances.
 * S1  A snapshot's row comes first with an expiry in the past, and gets its own once the volume has
 *     it; so does one that is being deleted. Whatever a crash leaves is thus expired, and removed by
 *     the first pass after the start.
 * S2  A restore brings back the maps of the snapshot, but not its volatile keys; only those that tell
 *     what is on disk come with the disk.
 *     They are checked as any change is: the project may have become stricter since, and the snapshots of a backup
 *     were written by whoever made its archive.
 * S3  The minute's fiber never runs twice at once.
 * Called by api/snapshots.c, api/instances.c (restore) and inst.c (timer). */
#include "agent/inst/snapshot.h"
#include "agent/api/event.h"
#include "agent/inst/backupfile.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/change.h"
#include "agent/inst/create.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/journal.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/plug.h"
#include "agent/inst/template.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <stdio.h>
#include <string.h>

#define EXPIRED 1 /* S1: the first microsecond of 1970 */

struct change {
    SnapRow *row;
    gint64 id, expires_at;
    const char *name;
};

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_snapshot_insert(tx, change->row, error);
}

static bool
expires_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_snapshot_expires(tx, change->id, change->expires_at, error);
}

static bool
rename_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_snapshot_rename(tx, change->id, change->name, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_snapshot_delete(tx, change->id, error);
}

static bool
set_expiry(Inst *inst, gint64 id, gint64 expires_at, GError **error)
{
    struct change change = {.id = id, .expires_at = expires_at};
    return db_write(inst->agent->db, expires_tx, &change, error);
}

static void
announce(Inst *inst, const Caller *caller, const char *action, const char *name)
{
    event_lifecycle(inst->agent, inst->project, caller, NULL, action,
                    "/1.0/instances/%s/snapshots/%s", inst->name, name);
}

/* ---- names ---- */

/* 'text' with %d; the number is one more than the highest among 'names'. */
static char *
numbered(const char *text, const char *mark, const char *const *names)
{
    g_autofree char *head = g_strndup(text, (gsize) (mark - text));
    const char *tail = mark + 2;
    gint64 next = 0;
    for (; *names != NULL; names++) {
        char *end;
        if (!g_str_has_prefix(*names, head)) {
            continue;
        }
        gint64 number = g_ascii_strtoll(*names + strlen(head), &end, 10);
        if (end != *names + strlen(head) && strcmp(end, tail) == 0 && number >= next) {
            next = number + 1;
        }
    }
    return g_strdup_printf("%s%" G_GINT64_FORMAT "%s", head, next, tail);
}

char *
snapshot_name(const char *pattern, const char *const *names, gint64 now, GError **error)
{
    g_autofree char *date = clock_format(now);
    json_t *scope = json_pack("{s:s}", "creation_date", date);
    g_autofree char *text = template_render(pattern, scope, error);
    json_decref(scope);
    if (text == NULL) {
        return NULL;
    }
    const char *mark = strstr(text, "%d");
    if (mark != NULL && strstr(mark + 2, "%d") != NULL) {
        haw_fail(error, HAW_INVALID, "Snapshot pattern may contain '%%d' only once");
        return NULL;
    }
    if (mark != NULL) {
        return numbered(text, mark, names);
    }
    if (!g_strv_contains(names, text)) {
        return g_steal_pointer(&text);
    }
    g_autofree char *again = g_strdup_printf("%s-%%d", text);
    return numbered(again, again + strlen(text) + 1, names);
}

static char *
choose_name(Inst *inst, GPtrArray *rows, GError **error)
{
    const char *pattern = inst_get(inst, "snapshots.pattern");
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (guint i = 0; i < rows->len; i++) {
        g_ptr_array_add(names, ((SnapRow *) rows->pdata[i])->name);
    }
    g_ptr_array_add(names, NULL);
    return snapshot_name(pattern != NULL ? pattern : "snap%d", (const char *const *) names->pdata,
                         clock_real_us(), error);
}

static bool
check_name(const char *name, GPtrArray *rows, GError **error)
{
    if (strpbrk(name, " /") != NULL || *name == '\0' || !grammar_snapshot_name(name, error)) {
        g_clear_error(error);
        return haw_fail(error, HAW_INVALID, "Invalid snapshot name: \"%s\"", name);
    }
    for (guint i = 0; i < rows->len; i++) {
        if (strcmp(((SnapRow *) rows->pdata[i])->name, name) == 0) {
            return haw_fail(error, HAW_EXISTS, "Snapshot \"%s\" already exists", name);
        }
    }
    return true;
}

/* ---- taking ---- */

static SnapRow *
row_of(Inst *inst, const char *name, bool stateful)
{
    SnapRow *row = g_new0(SnapRow, 1);
    row->instance_id = inst->id;
    row->name = g_strdup(name);
    row->description = g_strdup("");
    row->architecture = g_strdup(inst->architecture);
    row->ephemeral = inst->ephemeral;
    row->stateful = stateful;
    row->created_at = clock_real_us();
    row->expires_at = EXPIRED;
    row->config = json_incref(inst->config);
    row->devices = json_incref(inst->devices);
    row->profiles = json_incref(inst->profiles);
    return row;
}

/* Directories are copied file by file: the container must not write meanwhile. */
static bool
snapshot_volume(Inst *inst, const Vol *vol, gint64 expires_at, GError **error)
{
    const char *driver = pool_driver(inst->agent->pools, vol->pool);
    bool freeze = inst->state == INST_RUNNING && g_strcmp0(driver, "btrfs") != 0;
    if (freeze) {
        inst_move(inst, INST_FREEZING);
        freeze = inst->driver->freeze(inst, true, NULL);
        inst_move(inst, freeze ? INST_FROZEN : INST_RUNNING);
    }
    bool ok = vol_snapshot(inst->agent->pools, vol, expires_at, error);
    if (freeze && inst->state == INST_FROZEN) {
        inst_move(inst, INST_THAWING);
        inst->driver->freeze(inst, false, NULL);
        inst_move(inst, INST_RUNNING);
    }
    return ok;
}

/* The state is written into the volume, and leaves it again once the snapshot has it. */
static bool
snapshot_with_state(Inst *inst, const Vol *vol, gint64 expires_at, GError **error)
{
    if (!inst->driver->save(inst, error)) {
        return false;
    }
    crash_point("snapshot");
    bool ok = vol_snapshot(inst->agent->pools, vol, expires_at, error);
    inst->driver->drop_state(inst);
    return inst->driver->resume(inst, ok ? error : NULL) && ok;
}

static bool
take_held(Inst *inst, const char *name, gint64 expires_at, bool stateful, GError **error)
{
    Vol vol;
    g_autoptr(SnapRow) row = row_of(inst, name, stateful);
    struct change change = {.row = row};
    if (!inst_volume(inst, &vol, error) || !db_write(inst->agent->db, insert_tx, &change, error)) {
        return false;
    }
    change.id = row->id;
    vol.snap = name;
    crash_point("snapshot");
    if (!(stateful ? snapshot_with_state(inst, &vol, expires_at, error)
                   : snapshot_volume(inst, &vol, expires_at, error))) {
        db_write(inst->agent->db, delete_tx, &change, NULL);
        return haw_push(error, "Create instance snapshot");
    }
    crash_point("snapshot");
    if (!set_expiry(inst, row->id, expires_at, error)) { /* S1 */
        return false;
    }
    crash_point("snapshot");
    return true;
}

/* With the queue held. */
static bool
take(Inst *inst, const char *name, gint64 expires_at, bool stateful, const Caller *caller,
     char **ret_name, GError **error)
{
    g_autoptr(GPtrArray) rows = record_snapshots(inst, error);
    if (rows == NULL) {
        return false;
    }
    g_autofree char *chosen = name != NULL ? g_strdup(name) : choose_name(inst, rows, error);
    if (chosen == NULL || !check_name(chosen, rows, error)) {
        return false;
    }
    const char *expiry = inst_get(inst, "snapshots.expiry");
    if (expires_at < 0) {
        expires_at = expiry != NULL ? grammar_expiry_after(expiry, clock_real_us()) : 0;
    }
    if (stateful && (inst->state != INST_RUNNING || inst->driver->save == NULL)) {
        return inst->driver->save == NULL
                   ? haw_fail(error, HAW_CONFLICT,
                              "Unable to create a stateful snapshot: CRIU is not used")
                   : haw_fail(error, HAW_CONFLICT,
                              "Unable to create a stateful snapshot. The instance isn't running");
    }
    if (!take_held(inst, chosen, expires_at, stateful, error)) {
        return false;
    }
    backupfile_store(inst);
    announce(inst, caller, "instance-snapshot-created", chosen);
    if (ret_name != NULL) {
        *ret_name = g_steal_pointer(&chosen);
    }
    return true;
}

bool
snapshot_take(Inst *inst, const char *name, gint64 expires_at, bool stateful, const Caller *caller,
              char **ret_name, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "snapshot", error);
    return hold != NULL && take(inst, name, expires_at, stateful, caller, ret_name, error);
}

bool
snapshot_at_start(Inst *inst, GError **error)
{
    const char *schedule = inst_get(inst, "snapshots.schedule");
    g_autofree char *lower = g_ascii_strdown(schedule != NULL ? schedule : "", -1);
    g_auto(GStrv) triggers = g_strsplit(lower, ", ", -1);
    return !g_strv_contains((const char *const *) triggers, "@startup") ||
           take(inst, NULL, -1, false, NULL, NULL, error);
}

/* ---- restoring ---- */

/* S2 */
static json_t *
restored_config(Inst *inst, const SnapRow *snap)
{
    static const char *const with_disk[] = {"volatile.last_state.idmap", "volatile.apply_template"};
    json_t *config = json_object();
    const char *key;
    json_t *value;
    json_object_foreach (snap->config, key, value) {
        if (!g_str_has_prefix(key, "volatile.")) {
            json_object_set(config, key, value);
        }
    }
    json_object_foreach (inst->config, key, value) {
        if (g_str_has_prefix(key, "volatile.")) {
            json_object_set(config, key, value);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(with_disk); i++) {
        value = json_object_get(snap->config, with_disk[i]);
        if (value != NULL) {
            json_object_set(config, with_disk[i], value);
        } else {
            json_object_del(config, with_disk[i]);
        }
    }
    g_autofree char *generation = ids_uuid();
    json_object_set_new(config, "volatile.uuid.generation", json_string(generation));
    return config;
}

/* The volume stays where it is: when the snapshot was taken, its pool may have been another one. */
static json_t *
restored_devices(Inst *inst, const SnapRow *snap)
{
    json_auto_t *config = NULL, *devices = NULL;
    const char *name;
    if (inst->root_pool == NULL ||
        !record_expand(inst->agent, inst->project, snap->profiles, snap->config, snap->devices,
                       &config, &devices, NULL)) {
        return json_incref(snap->devices);
    }
    json_t *root = plug_root(devices, &name, NULL);
    if (root != NULL && g_strcmp0(keys_get(root, "pool"), inst->root_pool) == 0) {
        return json_incref(snap->devices);
    }
    json_t *kept = plug_root_on_pool(snap->devices, inst->expanded_devices, inst->root_pool, NULL);
    return kept != NULL ? kept : json_incref(snap->devices);
}

/* S2, before anything is touched. */
static bool
may_restore(Inst *inst, const SnapRow *snap, GError **error)
{
    json_auto_t *config = restored_config(inst, snap);
    json_auto_t *devices = restored_devices(inst, snap);
    return create_check(inst->agent, inst->project, inst->name, inst->type, inst, snap->profiles,
                        config, devices, error) ||
           haw_push(error, "Restore snapshot '%s'", snap->name);
}

static bool
restore_rows(Inst *inst, const SnapRow *snap, GError **error)
{
    g_autoptr(InstRow) row = record_row(inst);
    json_decref(row->config);
    json_decref(row->devices);
    json_decref(row->profiles);
    row->config = restored_config(inst, snap);
    row->devices = restored_devices(inst, snap);
    row->profiles = json_incref(snap->profiles);
    row->ephemeral = snap->ephemeral;
    g_free(row->architecture);
    row->architecture = g_strdup(snap->architecture);
    return record_update(inst, row, error);
}

static bool
restore_held(Inst *inst, const char *name, GError **error)
{
    Vol vol;
    g_autoptr(SnapRow) snap = record_snapshot(inst, name, error);
    if (snap == NULL || !inst_volume(inst, &vol, error)) {
        return false;
    }
    vol.snap = name;
    char *note = journal_begin(inst, "instance-restore", json_pack("{s:s}", "from", name), error);
    if (note == NULL) {
        return false;
    }
    crash_point("restore");
    bool ok = vol_restore(inst->agent->pools, &vol, error);
    crash_point("restore");
    ok = ok && restore_rows(inst, snap, error);
    crash_point("restore");
    journal_end(inst, note);
    return ok;
}

bool
snapshot_restore(Inst *inst, const char *name, bool stateful, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "restore", error);
    if (hold == NULL) {
        return false;
    }
    g_autoptr(SnapRow) snap = record_snapshot(inst, name, error);
    if (snap == NULL) {
        return false;
    }
    if (stateful && !snap->stateful) {
        return haw_fail(error, HAW_CONFLICT,
                        "Stateful snapshot restore requested but snapshot is "
                        "stateless");
    }
    bool running = inst->pid != 0;
    if (!may_restore(inst, snap, error) || (running && !lifecycle_kill(inst, error))) {
        return false;
    }
    bool ok = restore_held(inst, name, error);
    if (ok && (snap->stateful || inst->stateful)) { /* what the volume brought is wanted, or goes */
        ok = lifecycle_set_stateful(inst, stateful, error);
        running = running || stateful;
    }
    if (ok) {
        backupfile_store(inst);
        inst_lifecycle(inst, caller, "instance-restored");
    }
    if (running && !lifecycle_run(inst, ok ? error : NULL)) {
        return false;
    }
    return ok || haw_push(error, "Restore snapshot '%s'", name);
}

/* ---- deleting and renaming ---- */

static bool
delete_held(Inst *inst, const SnapRow *snap, GError **error)
{
    Vol vol;
    struct change change = {.id = snap->id};
    g_autoptr(GError) local = NULL;
    if (!set_expiry(inst, snap->id, EXPIRED, error)) { /* S1 */
        return false;
    }
    crash_point("snapshot");
    if (inst_volume(inst, &vol, NULL)) {
        vol.snap = snap->name;
        if (!vol_snapshot_delete(inst->agent->pools, &vol, &local) &&
            haw_code(local) != HAW_NOT_FOUND) {
            g_propagate_error(error, g_steal_pointer(&local));
            set_expiry(inst, snap->id, snap->expires_at, NULL);
            return haw_push(error, "Delete snapshot '%s'", snap->name);
        }
    }
    crash_point("snapshot");
    return db_write(inst->agent->db, delete_tx, &change, error);
}

bool
snapshot_delete(Inst *inst, const char *name, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "snapshot", error);
    if (hold == NULL) {
        return false;
    }
    g_autoptr(SnapRow) snap = record_snapshot(inst, name, error);
    if (snap == NULL || !delete_held(inst, snap, error)) {
        return false;
    }
    backupfile_store(inst);
    announce(inst, caller, "instance-snapshot-deleted", name);
    return true;
}

bool
snapshot_rename(Inst *inst, const char *name, const char *new_name, const Caller *caller,
                GError **error)
{
    Vol vol;
    g_auto(FiberHold) hold = inst_hold(inst, "snapshot", error);
    if (hold == NULL) {
        return false;
    }
    g_autoptr(GPtrArray) rows = record_snapshots(inst, error);
    g_autoptr(SnapRow) snap = rows != NULL ? record_snapshot(inst, name, error) : NULL;
    if (snap == NULL || !check_name(new_name, rows, error) || !inst_volume(inst, &vol, error)) {
        return false;
    }
    struct change change = {.id = snap->id, .name = new_name};
    char *note = journal_begin(inst, "instance-snapshot-rename",
                               json_pack("{s:s,s:s}", "from", name, "to", new_name), error);
    if (note == NULL) {
        return false;
    }
    crash_point("rename");
    vol.snap = name;
    g_autoptr(GError) local = NULL;
    bool ok = vol_snapshot_rename(inst->agent->pools, &vol, new_name, &local);
    /* After a crash the volume may have its new name already. */
    ok = ok || haw_code(local) == HAW_NOT_FOUND;
    crash_point("rename");
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    ok = ok && db_write(inst->agent->db, rename_tx, &change, error);
    journal_end(inst, note);
    if (ok) {
        backupfile_store(inst);
        announce(inst, caller, "instance-snapshot-renamed", new_name);
    }
    return ok;
}

bool
snapshot_set_expiry(Inst *inst, const char *name, gint64 expires_at, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "snapshot", error);
    g_autoptr(SnapRow) snap = hold != NULL ? record_snapshot(inst, name, error) : NULL;
    return snap != NULL && set_expiry(inst, snap->id, expires_at, error);
}

/* ---- each minute ---- */

static bool
expired_tx(DbTx *tx, void *data, GError **error)
{
    GPtrArray **list = data;
    *list = inst_rows_snapshots_expired(tx, clock_real_us(), error);
    return *list != NULL;
}

static Inst *
owner_of(InstTable *table, const SnapRow *snap)
{
    GHashTableIter iter;
    Inst *inst;
    g_hash_table_iter_init(&iter, table->by_key);
    while (g_hash_table_iter_next(&iter, NULL, (void **) &inst)) {
        if (inst->id == snap->instance_id) {
            return inst_ref(inst);
        }
    }
    return NULL;
}

static void
expire_one(Inst *inst, const SnapRow *expired)
{
    g_autoptr(GError) error = NULL;
    g_auto(FiberHold) hold = inst_hold(inst, "snapshot", NULL);
    /* Read again: one that was being taken has its own expiry by now. */
    g_autoptr(SnapRow) snap = hold != NULL ? record_snapshot(inst, expired->name, NULL) : NULL;
    if (snap == NULL || snap->expires_at == 0 || snap->expires_at > clock_real_us()) {
        return;
    }
    if (!delete_held(inst, snap, &error)) {
        haw_warn("inst.snapshot_expiry", KS("inst", inst->name), KS("why", error->message));
        return;
    }
    announce(inst, NULL, "instance-snapshot-deleted", snap->name);
}

static void
expire_all(InstTable *table)
{
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GError) error = NULL;
    if (!db_read(table->agent->db, expired_tx, &list, &error)) {
        haw_warn("inst.snapshot_expiry", KS("why", error->message));
        return;
    }
    for (guint i = 0; i < list->len; i++) {
        g_autoptr(Inst) inst = owner_of(table, list->pdata[i]);
        if (inst != NULL) {
            expire_one(inst, list->pdata[i]);
        }
    }
}

static void
take_scheduled(InstTable *table, gint64 now)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        const char *schedule = inst_get(inst, "snapshots.schedule");
        g_autoptr(GError) error = NULL;
        if (schedule == NULL || inst->deleted || !grammar_cron_due(schedule, now) ||
            (inst->pid == 0 && !inst_get_bool(inst, "snapshots.schedule.stopped", false))) {
            continue;
        }
        if (!snapshot_take(inst, NULL, -1, false, NULL, NULL, &error)) {
            haw_warn("inst.snapshot_schedule", KS("inst", inst->name), KS("why", error->message));
        }
    }
}

static bool minute_runs; /* S3 */

static void
minute_fiber(void *data)
{
    expire_all(data);
    take_scheduled(data, clock_real_us());
    instbackup_expire(data);
    minute_runs = false;
}

gboolean
snapshot_minute(gpointer data)
{
    if (!minute_runs) {
        minute_runs = true;
        fiber_start("snapshot-minute", minute_fiber, data);
    }
    return G_SOURCE_CONTINUE;
}

void
snapshot_clear_unfinished(InstTable *table)
{
    expire_all(table);
}
