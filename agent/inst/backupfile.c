/* backup.yaml: the instance, its snapshots and its volume as YAML, in LXD's form.
 * B1  It is a copy for recovery, never read back by a running agent: a failure to write is logged, and
 *     it is as durable as the root file system beside it. An fsync would write out all of what was just
 *     unpacked there, while everybody waits.
 * B2  The generation is left out: it is new with each recovery, and a key that LXD 5.0 refuses.
 * Called after a change of rows by create.c, change.c and snapshot.c; main loop, in a fiber. */
#include "agent/inst/backupfile.h"
#include "agent/inst/show.h"
#include "agent/store/wire.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/yaml.h"

#include <string.h>
#include <unistd.h>

/* Adds "volume" and "volume_snapshots". */
static void
add_volume(json_t *document, Inst *inst, const Vol *vol, bool with_snapshots)
{
    VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = volumes_get(inst->agent->db, &which, NULL);
    g_autoptr(GPtrArray) rows =
        row != NULL && with_snapshots ? volume_snaps_load(inst->agent->db, &which, NULL) : NULL;
    json_t *snapshots = json_array();
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        json_array_append_new(snapshots, wire_snapshot(row, rows->pdata[i], false));
    }
    json_object_set_new(document, "volume",
                        row == NULL
                            ? json_null()
                            : json_pack("{s:s,s:s,s:s,s:s,s:O}", "name", row->name, "type",
                                        row->type, "content_type", row->content_type, "description",
                                        row->description, "config", row->config));
    json_object_set_new(document, "volume_snapshots", snapshots);
}

/* B2 */
static json_t *
lasting(json_t *shown)
{
    static const char *const maps[] = {"config", "expanded_config"};
    for (size_t i = 0; i < G_N_ELEMENTS(maps); i++) {
        json_t *config = json_copy(json_object_get(shown, maps[i]));
        if (config != NULL) {
            json_object_del(config, "volatile.uuid.generation");
            json_object_set_new(shown, maps[i], config);
        }
    }
    return shown;
}

json_t *
backupfile_document(Inst *inst, const Vol *vol, bool with_snapshots)
{
    json_t *snapshots = json_array();
    g_autoptr(GPtrArray) rows = with_snapshots ? record_snapshots(inst, NULL) : NULL;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        json_array_append_new(snapshots, lasting(show_snapshot(inst, rows->pdata[i])));
    }
    Pool *pool = shelf_pool(inst->agent->pools, vol->pool, false, NULL);
    json_t *document = json_pack(
        "{s:o,s:o,s:o}", "container", lasting(show_instance(inst)), "snapshots", snapshots, "pool",
        pool == NULL
            ? json_null()
            : json_pack("{s:s,s:s,s:s,s:O}", "name", pool->row->name, "driver", pool->row->driver,
                        "description", pool->row->description, "config", pool->row->config));
    add_volume(document, inst, vol, with_snapshots);
    return document;
}

void
backupfile_store(Inst *inst)
{
    Vol vol;
    if (inst->deleted || !inst_volume(inst, &vol, NULL)) {
        return;
    }
    g_autofree char *dir = vol_path(inst->agent->pools, &vol);
    bool vm = strcmp(inst->type, "virtual-machine") == 0;
    g_autofree char *rootfs = g_strdup_printf("%s/%s", dir, vm ? DRIVER_BLOCK_FILE : "rootfs");
    g_autofree char *path = g_strdup_printf("%s/backup.yaml", dir);
    g_autoptr(GError) error = NULL;
    if (access(rootfs, F_OK) < 0) {
        return; /* not mounted: the next start writes it */
    }
    json_t *all = backupfile_document(inst, &vol, true);
    g_autofree char *text = all != NULL ? yaml_from_json(all) : NULL;
    json_decref(all);
    if (text != NULL && !fd_write_copy(path, text, strlen(text), 0400, &error)) {
        haw_warn("inst.backup_yaml", KS("inst", inst->name), KS("why", error->message)); /* B1 */
    }
}
