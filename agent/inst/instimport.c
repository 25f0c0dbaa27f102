/* Import of an instance's backup: POST /1.0/instances with an archive as its body.
 * H1  The archive comes from a client: its index is checked as any request is (create.h), its files
 *     pass image/archive.h, and names in it are names, never paths.
 * H2  The row is there first, marked unfinished; a failure at any line leaves nothing (create_abort).
 * H3  What an instance was is kept: local config, devices, profiles, snapshots with their times; its
 *     MAC addresses only under its own name, and nothing of the host that it was on. The root disk moves to the pool that is asked for, or to
 *     that of the default profile when its own is not here.
 * H4  A container's rootfs is a directory (store/instdir.h); a virtual machine's disk and directory are opened by QEMU and by us, by name: they may hold nothing but
 *     plain files (store/vmdir.h).
 * H5  An optimized backup is streams of btrfs, of which root writes what they say: never a restricted
 *     caller's (copies between servers hold the same). */
#include "agent/inst/instbackup.h"

#include <fcntl.h>
#include <string.h>

#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/image/archive.h"
#include "agent/inst/create.h"
#include "agent/inst/optimized.h"
#include "agent/inst/plug.h"
#include "agent/store/instdir.h"
#include "agent/store/shelf.h"
#include "agent/store/told.h"
#include "agent/store/vmdir.h"
#include "base/clock.h"
#include "base/fd.h"
#include "proto/grammar.h"
#include "proto/keys.h"
#include "proto/yaml.h"

#define INDEX_BYTES (4 * 1024 * 1024)

typedef struct {
    Agent *agent; /* borrowed */
    char *project, *name, *pool;
    json_t *index;
    int fd;
} Import;

static void
import_free(void *data)
{
    Import *job = data;

    g_free(job->project);
    g_free(job->name);
    g_free(job->pool);
    json_decref(job->index);
    fd_close(&job->fd);
    g_free(job);
}

static json_t *
read_index(int fd, GError **error)
{
    size_t size = 0;
    g_autofree char *text =
        archive_read_member(fd, "backup/index.yaml", INDEX_BYTES, &size, NULL, error);

    if (text == NULL) {
        haw_push(error, "Failed getting backup info");
        haw_recode(error, HAW_INVALID);
        return NULL;
    }
    json_auto_t *index = yaml_to_json(text, size, yaml_text_keys, error);
    const char *type = keys_get(index, "type");
    if (index == NULL) {
        return NULL;
    }
    if (type != NULL && !g_str_equal(type, "container") && !g_str_equal(type, "virtual-machine")) {
        haw_fail(error, HAW_UNSUPPORTED, "Backups of type \"%s\" can't be imported", type);
        return NULL;
    }
    if (json_is_true(json_object_get(index, "optimized")) &&
        g_strcmp0(keys_get(index, "backend"), "btrfs") != 0) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "Optimized backups of storage driver \"%s\" can't be imported",
                 keys_get(index, "backend"));
        return NULL;
    }
    return json_incref(index);
}

static bool
is_vm(const Import *job)
{
    return g_strcmp0(keys_get(job->index, "type"), "virtual-machine") == 0;
}

/* ---- rows ---- */

/* Under another name it is a second instance: what must be unique is made anew. */
static void
drop_unique(json_t *config)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe (config, next, key, value) {
        if (g_str_has_prefix(key, "volatile.") && g_str_has_suffix(key, ".hwaddr")) {
            json_object_del(config, key);
        }
    }
}

/* H3: what was noted of the host that it ran on, by which a stop here would put things back. */
static bool
is_of_host(const char *key)
{
    return g_str_has_prefix(key, "volatile.") && strcmp(key, "volatile.last_state.idmap") != 0 &&
           (strstr(key, ".last_state.") != NULL || g_str_has_suffix(key, ".host_name") ||
            g_str_has_prefix(key, "volatile.idmap.") || g_str_has_prefix(key, "volatile.hawser."));
}

static json_t *
import_config(const Import *job, json_t *shown)
{
    json_t *config = told_texts(shown, "config"), *value;
    const char *key;
    void *next;

    json_object_foreach_safe (config, next, key, value) {
        if (is_of_host(key)) {
            json_object_del(config, key);
        }
    }
    if (g_strcmp0(keys_get(shown, "name"), job->name) != 0) {
        drop_unique(config);
    }
    return config;
}

/* The pool of the root disk in the project's default profile; NULL when it has none. Caller frees. */
static char *
default_pool(Import *job)
{
    json_auto_t *profile =
        profile_load(job->agent, project_for_profiles(job->agent, job->project), "default", NULL);
    const char *name = NULL;
    json_t *root = plug_root(json_object_get(profile, "devices"), &name, NULL);

    return g_strdup(root != NULL ? keys_get(root, "pool") : NULL);
}

/* H3: the root disk, on a pool that is here. */
static bool
place_root(Import *job, json_t *devices, json_t *shown, GError **error)
{
    json_t *expanded = json_object_get(shown, "expanded_devices");
    const char *name = NULL;
    json_t *root = plug_root(devices, &name, NULL);

    root = root != NULL ? root : plug_root(expanded, &name, NULL);
    const char *own = root != NULL ? keys_get(root, "pool") : NULL;
    g_autofree char *fallback = default_pool(job);
    const char *pool = job->pool != NULL                                    ? job->pool
                       : own != NULL && pool_exists(job->agent->pools, own) ? own
                                                                            : fallback;
    if (pool == NULL || !pool_exists(job->agent->pools, pool)) {
        return haw_fail(error, HAW_NOT_FOUND, "Storage pool not found");
    }
    if (g_strcmp0(pool, own) == 0 && json_object_get(devices, name) == NULL) {
        return true; /* the profile's does */
    }
    json_t *placed =
        root != NULL ? json_deep_copy(root) : json_pack("{s:s,s:s}", "type", "disk", "path", "/");
    json_object_set_new(placed, "pool", json_string(pool));
    json_object_set_new(devices, name != NULL ? name : "root", placed);
    return true;
}

static InstRow *
import_row(Import *job, GError **error)
{
    json_t *shown = told_instance(json_object_get(job->index, "config")),
           *profiles = json_object_get(shown, "profiles");
    const char *architecture = keys_get(shown, "architecture");
    g_autoptr(InstRow) row = g_new0(InstRow, 1);

    row->project = g_strdup(job->project);
    row->name = g_strdup(job->name);
    row->type = g_strdup(is_vm(job) ? "virtual-machine" : "container");
    row->architecture = g_strdup(architecture != NULL ? architecture : "x86_64");
    row->description = g_strdup(told_text(shown, "description"));
    row->ephemeral = json_is_true(json_object_get(shown, "ephemeral"));
    row->created_at = told_time(shown, "created_at");
    row->config = import_config(job, shown);
    row->devices = told_objects(shown, "devices");
    row->profiles =
        json_is_array(profiles) ? json_deep_copy(profiles) : json_pack("[s]", "default");
    return place_root(job, row->devices, shown, error) ? g_steal_pointer(&row) : NULL;
}

/* ---- content ---- */

typedef struct {
    int fd;
    const char *prefix;
    Meter *meter;
} Filling;

/* H4: the directory, then the disk that lies beside it, then a look at both. */
static bool
fill_vm(const char *path, void *data, GError **error)
{
    Filling *filling = data;
    g_autofree char *above = g_path_get_dirname(filling->prefix);
    g_autofree char *base = g_path_get_basename(filling->prefix);
    g_autofree char *disk = g_strconcat(base, ".img", NULL);
    const char *const only[] = {disk, NULL};
    ArchiveUnpack spec = {
        .fd = filling->fd, .dir = path, .prefix = filling->prefix, .meter = filling->meter};
    if (!archive_unpack(&spec, error)) {
        return false;
    }
    spec.prefix = above;
    spec.only = only;
    return archive_unpack(&spec, error) && vmdir_take_disk(path, disk, error) &&
           vmdir_check(path, error);
}

static bool
fill(const char *path, void *data, GError **error)
{
    static const char *const only[] = {"backup.yaml", "metadata.yaml", "rootfs", "templates", NULL};
    Filling *filling = data;
    const ArchiveUnpack spec = {.only = only,
                                .fd = filling->fd,
                                .dir = path,
                                .prefix = filling->prefix,
                                .meter = filling->meter};

    return archive_unpack(&spec, error) && instdir_check(path, error);
}

static bool
insert_snapshot(DbTx *tx, void *data, GError **error)
{
    return inst_rows_snapshot_insert(tx, data, error);
}

/* Of a volume's config only what people wrote: the rest belongs to the pool that it was on. */
static json_t *
user_keys(json_t *volume)
{
    json_t *kept = json_object(), *value;
    const char *key;

    json_object_foreach (json_object_get(volume, "config"), key, value) {
        if (g_str_has_prefix(key, "user.") && json_is_string(value)) {
            json_object_set(kept, key, value);
        }
    }
    return kept;
}

/* Of an optimized backup (optimized.h): streams in place of files. */
typedef struct {
    Import *job;
    Inst *inst;
    const Vol *vol;
    Meter *meter;
    OptimizedIn *in;
    const char *snap; /* NULL: the volume */
} Streaming;

static bool
fill_stream(const char *path, void *data, GError **error)
{
    const Streaming *streaming = data;

    return subvols_receive(optimized_streams(streaming->in), streaming->snap, path, error);
}

static bool
import_snapshot(Import *job, Inst *inst, const Vol *vol, json_t *shown, Meter *meter,
                Streaming *streaming, GError **error)
{
    const char *long_name = keys_get(shown, "name");
    const char *slash = long_name != NULL ? strrchr(long_name, '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : long_name;

    if (name == NULL || !grammar_snapshot_name(name, error)) {
        return name != NULL ? false : haw_fail(error, HAW_INVALID, "A snapshot has no name");
    }
    g_autofree char *prefix = g_strdup_printf(
        is_vm(job) ? "backup/virtual-machine-snapshots/%s" : "backup/snapshots/%s", name);
    Filling filling = {.fd = job->fd, .prefix = prefix, .meter = meter};
    json_auto_t *volume_config =
        user_keys(told_snapshot(json_object_get(job->index, "config"), "volume_snapshots", name));
    const VolumeSnapRow volume_row = {.name = (char *) name,
                                      .description = (char *) "",
                                      .config = volume_config,
                                      .created_at = told_time(shown, "created_at"),
                                      .expires_at = told_time(shown, "expires_at")};
    if (streaming != NULL) {
        streaming->snap = name;
    }
    VolFill how = streaming != NULL ? fill_stream : is_vm(job) ? fill_vm : fill;
    void *what = streaming != NULL ? (void *) streaming : &filling;
    if (!volume_import_snapshot(job->agent->pools, vol, &volume_row, how, what, error)) {
        return haw_push(error, "snapshot \"%s\"", name);
    }
    json_t *profiles = json_object_get(shown, "profiles");
    g_autoptr(SnapRow) row = g_new0(SnapRow, 1);
    row->instance_id = inst->id;
    row->name = g_strdup(name);
    row->description = g_strdup("");
    row->architecture = g_strdup(inst->architecture);
    row->created_at = volume_row.created_at;
    row->expires_at = volume_row.expires_at;
    row->config = told_texts(shown, "config");
    row->devices = told_objects(shown, "devices");
    row->profiles = json_is_array(profiles) ? json_deep_copy(profiles) : json_array();
    return db_write(job->agent->db, insert_snapshot, row, error);
}

static bool
import_snapshots(Import *job, Inst *inst, const Vol *vol, Meter *meter, Streaming *streaming,
                 GError **error)
{
    json_t *snap;
    size_t i;

    json_array_foreach (json_object_get(json_object_get(job->index, "config"), "snapshots"), i,
                        snap) {
        if (!import_snapshot(job, inst, vol, snap, meter, streaming, error)) {
            return false;
        }
    }
    return true;
}

/* Snapshots come first: each stream, the volume's as well, is what differs from the one before. */
static bool
fill_streams(const char *path, void *data, GError **error)
{
    Streaming *streaming = data;
    Import *job = streaming->job;
    g_autoptr(OptimizedIn) in =
        optimized_open(job->agent->pools, streaming->vol, job->fd,
                       json_object_get(job->index, "snapshots"), streaming->meter, error);

    streaming->in = in;
    if (in == NULL || !import_snapshots(job, streaming->inst, streaming->vol, streaming->meter,
                                        streaming, error)) {
        return false;
    }
    streaming->snap = NULL;
    return fill_stream(path, streaming, error);
}

static bool
import_content(Import *job, Operation *op, Inst *inst, GError **error)
{
    Vol vol;
    g_autoptr(Meter) meter = meter_start(op, "create_instance_from_backup_progress", "Unpack");
    bool vm = is_vm(job);
    Filling filling = {.fd = job->fd,
                       .prefix = vm ? "backup/virtual-machine" : "backup/container",
                       .meter = meter};
    json_auto_t *volume_config =
        user_keys(json_object_get(json_object_get(job->index, "config"), "volume"));
    const VolMake make = {.config = volume_config, .as_is = true};
    bool streams = json_is_true(json_object_get(job->index, "optimized"));
    Streaming streaming = {.job = job, .inst = inst, .vol = &vol, .meter = meter};
    VolFill how = streams ? fill_streams : vm ? fill_vm : fill;
    void *what = streams ? (void *) &streaming : &filling;
    if (!inst_volume(inst, &vol, error) ||
        !volume_create(job->agent->pools, &vol, &make, how, what, error) ||
        (!streams && !import_snapshots(job, inst, &vol, meter, NULL, error))) {
        return false;
    }
    return create_finish(inst, NULL, error);
}

static bool
run_import(Operation *op, void *data, GError **error)
{
    Import *job = data;
    g_autoptr(InstRow) row = import_row(job, error);
    g_autoptr(Inst) inst = row != NULL ? create_record(job->agent, &row, true, error) : NULL;

    if (inst == NULL) {
        return false;
    }
    if (!import_content(job, op, inst, error)) { /* H2 */
        create_abort(inst);
        return haw_push(error, "Create instance from backup");
    }
    inst_lifecycle(inst, op_caller(op), "instance-created");
    return true;
}

bool
instbackup_import(Request *req, GError **error)
{
    const char *name = req_header(req, "X-LXD-name"), *pool = req_header(req, "X-LXD-pool");
    json_auto_t *index = read_index(req_body_fd(req), error);

    if (index == NULL) {
        return false;
    }
    if (json_is_true(json_object_get(index, "optimized")) && req_caller(req)->restricted) { /* H5 */
        return haw_fail(error, HAW_DENIED,
                        "Restricted clients can't import optimized backups: export without "
                        "--optimized-storage");
    }
    name = name != NULL && name[0] != '\0' ? name : keys_get(index, "name");
    if (name == NULL || !grammar_hostname(name, error)) {
        return name != NULL ? haw_push(error, "Invalid instance name")
                            : haw_fail(error, HAW_INVALID, "The backup names no instance");
    }
    Import *job = g_new0(Import, 1);
    job->agent = req_agent(req);
    job->project = g_strdup(req_project(req));
    job->name = g_strdup(name);
    job->pool = pool != NULL && pool[0] != '\0' ? g_strdup(pool) : NULL;
    job->index = json_incref(index);
    job->fd = fcntl(req_body_fd(req), F_DUPFD_CLOEXEC, 3);
    g_autofree char *url = g_strdup_printf("/1.0/instances/%s", name);
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Restoring backup",
                                  .project = req_project(req),
                                  .resources = json_pack("{s:[s]}", "instances", url),
                                  .fn = run_import,
                                  .data = job,
                                  .free_data = import_free});
}
