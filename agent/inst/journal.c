/* The journal of instance operations that touch a volume and a row, which no single transaction can.
 * J1  The note is stored before the first of the two changes and removed after the second.
 * J2  Repair goes forward: each step can be repeated, and what is done already is seen as done.
 * Called by snapshot.c, change.c and relocate.c; journal_repair() by inst.c at start. */
#include "agent/inst/journal.h"
#include "agent/inst/change.h"
#include "agent/inst/relocate.h"
#include "agent/inst/snapshot.h"
#include "base/ids.h"
#include "base/log.h"

#include <string.h>
#include <unistd.h>

struct note {
    const char *id, *kind, *project;
    json_t *undo;
};

static bool
add_tx(DbTx *tx, void *data, GError **error)
{
    struct note *note = data;
    return inst_rows_journal_add(tx, note->id, note->kind, note->project, note->undo, error);
}

static bool
remove_tx(DbTx *tx, void *data, GError **error)
{
    return inst_rows_journal_remove(tx, data, error);
}

char *
journal_begin(Inst *inst, const char *kind, json_t *undo, GError **error)
{
    g_autofree char *id = ids_uuid();
    struct note note = {id, kind, inst->project, undo};
    json_object_set_new(undo, "id", json_integer(inst->id));
    bool ok = db_write(inst->agent->db, add_tx, &note, error);
    json_decref(undo);
    return ok ? g_steal_pointer(&id) : NULL;
}

void
journal_end(Inst *inst, char *id)
{
    g_autofree char *own = id;
    g_autoptr(GError) error = NULL;
    if (own != NULL && !db_write(inst->agent->db, remove_tx, own, &error)) {
        haw_warn("inst.journal", KS("inst", inst->name), KS("why", error->message));
    }
}

/* ---- repair ---- */

static bool
read_tx(DbTx *tx, void *data, GError **error)
{
    json_t **list = data;
    *list = inst_rows_journal(tx, error);
    return *list != NULL;
}

static Inst *
find_by_id(InstTable *table, gint64 id)
{
    GHashTableIter iter;
    Inst *inst;
    g_hash_table_iter_init(&iter, table->by_key);
    while (g_hash_table_iter_next(&iter, NULL, (void **) &inst)) {
        if (inst->id == id) {
            return inst_ref(inst);
        }
    }
    return NULL;
}

static bool
volume_there(Inst *inst, const Vol *vol)
{
    g_autofree char *path = vol_path(inst->agent->pools, vol);
    return access(path, F_OK) == 0;
}

/* J2. The volume may have either name. */
static bool
redo_rename(Inst *inst, const char *from, const char *to, GError **error)
{
    Vol vol, renamed;
    if (!inst_volume(inst, &vol, error)) {
        return false;
    }
    renamed = vol;
    renamed.name = to;
    if (volume_there(inst, &vol) && !vol_rename(inst->agent->pools, &vol, to, error)) {
        return false;
    }
    if (volume_there(inst, &renamed) && !record_rename(inst, to, error)) {
        return false;
    }
    change_follow(inst, from);
    return true;
}

static bool
redo_snapshot_rename(Inst *inst, const char *from, const char *to, GError **error)
{
    return snapshot_rename(inst, from, to, NULL, error) || haw_code(*error) == HAW_NOT_FOUND;
}

static void
repair_one(InstTable *table, json_t *note)
{
    json_t *undo = json_object_get(note, "undo");
    const char *kind = json_string_value(json_object_get(note, "kind"));
    const char *from = json_string_value(json_object_get(undo, "from"));
    const char *to = json_string_value(json_object_get(undo, "to"));
    g_autoptr(Inst) inst = find_by_id(table, json_integer_value(json_object_get(undo, "id")));
    g_autoptr(GError) error = NULL;
    bool ok = true;
    if (inst != NULL && strcmp(kind, "instance-rename") == 0) {
        ok = redo_rename(inst, from, to, &error);
    } else if (inst != NULL && strcmp(kind, "instance-snapshot-rename") == 0) {
        ok = redo_snapshot_rename(inst, from, to, &error);
    } else if (inst != NULL && strcmp(kind, "instance-restore") == 0) {
        ok = snapshot_restore(inst, from, false, NULL, &error);
    } else if (inst != NULL && strcmp(kind, "instance-move") == 0) {
        ok = relocate_repair(inst, json_object_get(undo, "from"), json_object_get(undo, "to"),
                             &error);
    }
    if (!ok) {
        haw_error("inst.repair", KS("inst", inst->name), KS("kind", kind),
                  KS("why", error != NULL ? error->message : ""));
    }
    const char *id = json_string_value(json_object_get(note, "id"));
    g_clear_error(&error);
    if (!db_write(table->agent->db, remove_tx, (void *) id, &error)) {
        haw_warn("inst.journal", KS("why", error->message));
    }
}

void
journal_repair(InstTable *table)
{
    json_t *list = NULL;
    g_autoptr(GError) error = NULL;
    if (!db_read(table->agent->db, read_tx, &list, &error)) {
        haw_error("inst.journal", KS("why", error->message));
        return;
    }
    size_t i;
    json_t *note;
    json_array_foreach (list, i, note) {
        repair_one(table, note);
    }
    json_decref(list);
}
