/* The archive of an instance's backup, in LXD's form.
 * Z1  Inside: backup/index.yaml, backup/container/ (the volume: rootfs/, metadata.yaml, templates/,
 *     backup.yaml), backup/snapshots/<snapshot>/. Ids are the container's own, whatever map lies on the
 *     disk. A virtual machine has its disks beside its directories instead: backup/virtual-machine/ and
 *     backup/virtual-machine.img, backup/virtual-machine-snapshots/….
 * Optimized ones have streams in place of directories (optimized.c). Called by instbackup.c. */
#include "agent/inst/backuppack.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/image/archive.h"
#include "agent/inst/backupfile.h"
#include "agent/inst/optimized.h"
#include "agent/inst/record.h"
#include "agent/store/shelf.h"
#include "proto/keys.h"
#include "proto/yaml.h"

/* What the archive says about the instance: its ids on disk are its own there (Z1). */
static void
unmap(json_t *document)
{
    json_t *shown = json_object_get(document, "container");
    json_t *config = json_copy(json_object_get(shown, "config"));

    if (json_object_get(config, "volatile.last_state.idmap") != NULL) {
        json_object_set_new(config, "volatile.last_state.idmap", json_string("[]"));
    }
    json_object_set_new(shown, "config", config);
}

static char *
index_text(Inst *inst, const Vol *vol, GPtrArray *snaps, bool optimized)
{
    json_t *names = json_array();
    const char *driver = pool_driver(inst->agent->pools, vol->pool);

    for (guint i = 0; snaps != NULL && i < snaps->len; i++) {
        json_array_append_new(names, json_string(((SnapRow *) snaps->pdata[i])->name));
    }
    json_t *document = backupfile_document(inst, vol, snaps != NULL);
    if (!optimized) {
        unmap(document);
    }
    json_auto_t *index =
        json_pack("{s:s,s:s,s:s,s:s,s:b,s:b,s:o,s:o}", "name", inst->name, "backend",
                  driver != NULL ? driver : "", "pool", vol->pool, "type", inst->type, "optimized",
                  (int) optimized, "optimized_header", (int) optimized, "snapshots", names,
                  "config", document);
    return index != NULL ? yaml_from_json(index) : NULL;
}

/* How ids that are seen below a mounted volume become the container's; NULL: they are. */
static json_t *
idmap_seen(Inst *inst, const Vol *vol)
{
    bool mapped = inst_pid(inst) > 0 && vol_maps_ids(inst->agent->pools, vol);
    const char *text =
        inst_get(inst, mapped ? "volatile.idmap.current" : "volatile.last_state.idmap");
    json_t *map = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (json_array_size(map) > 0) {
        return map;
    }
    json_decref(map);
    return NULL;
}

/* The volume and its snapshots, mounted while they are read. */
typedef struct {
    PoolTable *pools;
    GArray *members; /* ArchiveMember */
    GPtrArray *texts;
    GArray *mounted; /* Vol */
} Content;

static void
content_clear(Content *content)
{
    for (guint i = 0; i < content->mounted->len; i++) {
        vol_unmount(content->pools, &g_array_index(content->mounted, Vol, i), NULL);
    }
    g_array_unref(content->mounted);
    g_array_unref(content->members);
    g_ptr_array_unref(content->texts);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Content, content_clear)

/* Takes both texts. */
static void
content_member(Content *content, char *path, char *name, json_t *idmap)
{
    ArchiveMember member = {.name = name, .path = path, .idmap = idmap};
    g_ptr_array_add(content->texts, path);
    g_ptr_array_add(content->texts, name);
    if (access(path, F_OK) == 0) {
        g_array_append_val(content->members, member);
    }
}

/* All that is in the directory, then the disk, under the directory's name with ".img". */
static bool
content_add_vm(Content *content, const char *dir, const char *prefix, GError **error)
{
    g_autoptr(GDir) list = g_dir_open(dir, 0, error);
    if (list == NULL) {
        return haw_recode(error, HAW_IO);
    }
    for (const char *name; (name = g_dir_read_name(list)) != NULL;) {
        if (strcmp(name, DRIVER_BLOCK_FILE) != 0) {
            content_member(content, g_build_filename(dir, name, NULL),
                           g_strdup_printf("%s/%s", prefix, name), NULL);
        }
    }
    content_member(content, g_build_filename(dir, DRIVER_BLOCK_FILE, NULL),
                   g_strdup_printf("%s.img", prefix), NULL);
    return true;
}

/* Not the whole directory: a driver may keep things of its own there. */
static bool
content_add(Content *content, const Vol *vol, const char *prefix, json_t *idmap, GError **error)
{
    static const char *const names[] = {"backup.yaml", "metadata.yaml", "rootfs", "templates"};
    g_autofree char *dir = NULL;

    if (!vol_mount(content->pools, vol, &dir, error)) {
        return false;
    }
    g_array_append_val(content->mounted, *vol);
    if (vol->type == VOL_VM) {
        return content_add_vm(content, dir, prefix, error);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        content_member(content, g_build_filename(dir, names[i], NULL),
                       g_strdup_printf("%s/%s", prefix, names[i]), idmap);
    }
    return true;
}

/* Streams of the driver's in place of files. */
static bool
pack_optimized(const BackupPack *pack, const Vol *vol, GPtrArray *snaps, GError **error)
{
    Inst *inst = pack->inst;
    size_t count = 0;
    g_autofree char *yaml = index_text(inst, vol, snaps, true);
    g_autoptr(Optimized) made = optimized_make(inst->agent->pools, vol, snaps, pack->dir, error);
    if (made == NULL) {
        return false;
    }
    const ArchiveMember *streams = optimized_members(made, &count);
    const ArchiveMember first = {.name = "backup/index.yaml", .bytes = yaml, .size = strlen(yaml)};
    g_autoptr(GArray) members = g_array_new(FALSE, TRUE, sizeof(ArchiveMember));
    g_array_append_val(members, first);
    g_array_append_vals(members, streams, (guint) count);
    return archive_pack(pack->fd, (const ArchiveMember *) (void *) members->data, members->len,
                        pack->compression, pack->meter, error);
}

bool
backuppack_write(const BackupPack *pack, GError **error)
{
    Inst *inst = pack->inst;
    Vol vol;
    g_autoptr(GPtrArray) snaps = pack->instance_only ? NULL : record_snapshots(inst, error);
    g_auto(Content) content = {.pools = inst->agent->pools,
                               .members = g_array_new(FALSE, TRUE, sizeof(ArchiveMember)),
                               .texts = g_ptr_array_new_with_free_func(g_free),
                               .mounted = g_array_new(FALSE, TRUE, sizeof(Vol))};

    if ((!pack->instance_only && snaps == NULL) || !inst_volume(inst, &vol, error)) {
        return false;
    }
    if (pack->optimized) {
        return pack_optimized(pack, &vol, snaps, error);
    }
    bool vm = vol.type == VOL_VM;
    json_auto_t *idmap = vm ? NULL : idmap_seen(inst, &vol);
    g_autofree char *yaml = index_text(inst, &vol, snaps, false);
    if (yaml == NULL) {
        return haw_fail(error, HAW_BUG, "describe '%s'", inst->name);
    }
    ArchiveMember first = {.name = "backup/index.yaml", .bytes = yaml, .size = strlen(yaml)};
    g_array_append_val(content.members, first);
    for (guint i = 0; snaps != NULL && i < snaps->len; i++) {
        Vol snap = vol;
        snap.snap = ((SnapRow *) snaps->pdata[i])->name;
        g_autofree char *prefix = g_strdup_printf(
            vm ? "backup/virtual-machine-snapshots/%s" : "backup/snapshots/%s", snap.snap);
        if (!content_add(&content, &snap, prefix, idmap, error)) {
            return false;
        }
    }
    return content_add(&content, &vol, vm ? "backup/virtual-machine" : "backup/container", idmap,
                       error) &&
           archive_pack(pack->fd, (const ArchiveMember *) (void *) content.members->data,
                        content.members->len, pack->compression, pack->meter, error);
}
