/* backup.yaml: the instance, its snapshots and its volume as YAML, in LXD's form.
 * B1  It is a copy for recovery, never read back by a running agent: a failure to write is logged.
 * Called after a change of rows by create.c, change.c and snapshot.c; main loop, in a fiber. */
#include "agent/inst/backupfile.h"
#include "agent/inst/show.h"
#include "base/log.h"
#include "proto/yaml.h"

#include <string.h>
#include <unistd.h>

static json_t *
document(Inst *inst, const Vol *vol)
{
    json_t *snapshots = json_array(), *names = json_array();
    g_autoptr(GPtrArray) rows = record_snapshots(inst, NULL);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        SnapRow *snap = rows->pdata[i];
        json_array_append_new(snapshots, show_snapshot(inst, snap));
        json_array_append_new(names, json_string(snap->name));
    }
    const char *driver = pool_driver(inst->agent->pools, vol->pool);
    return json_pack("{s:o,s:o,s:{s:s,s:s},s:{s:s,s:s,s:s,s:o}}", "container", show_instance(inst),
                     "snapshots", snapshots, "pool", "name", vol->pool, "driver",
                     driver != NULL ? driver : "", "volume", "name", inst->name, "type", inst->type,
                     "content_type", "filesystem", "snapshots", names);
}

void
backupfile_store(Inst *inst)
{
    Vol vol;
    if (inst->deleted || !inst_volume(inst, &vol, NULL)) {
        return;
    }
    g_autofree char *dir = vol_path(inst->agent->pools, &vol);
    g_autofree char *rootfs = g_strdup_printf("%s/rootfs", dir);
    g_autofree char *path = g_strdup_printf("%s/backup.yaml", dir);
    g_autoptr(GError) error = NULL;
    if (access(rootfs, F_OK) < 0) {
        return; /* not mounted: the next start writes it */
    }
    json_t *all = document(inst, &vol);
    g_autofree char *text = all != NULL ? yaml_from_json(all) : NULL;
    json_decref(all);
    if (text != NULL &&
        !g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0400, &error)) {
        haw_warn("inst.backup_yaml", KS("inst", inst->name), KS("why", error->message)); /* B1 */
    }
}
