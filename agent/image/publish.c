/* An instance's volume as an image.
 * P1  A running instance isn't packed: its files would be of different moments. Its snapshots are.
 * P2  While it is packed, its queue is held: it can't start, change or go away.
 * P3  Ids in the image are the container's, whatever is on disk.
 * P4  A virtual machine's disk goes in as rootfs.img, a qcow2 file (compressed, unless the image shall
 *     not be); until it is packed it lies in images/ under a name that a crash leaves to the next start.
 * The image has the metadata.yaml and templates that the instance was made with, and the properties
 * of the request.
 * Called by image_api.c. */
#include "agent/image/publish.h"

#include "agent/image/archive.h"
#include "agent/image/diskimg.h"
#include "agent/image/metadata.h"
#include "agent/inst/inst.h"
#include "agent/store/pooldriver.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_KEY "create_image_from_container_pack_progress"

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* metadata.yaml of the instance with the request's changes; caller frees. */
static char *
metadata_for(const char *dir, Inst *inst, json_t *request, GError **error)
{
    haw_autofd int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    json_auto_t *metadata = NULL;
    size_t size = 0;
    g_autofree char *text = fd_read_plain(dir_fd, "metadata.yaml", METADATA_MAX_BYTES, &size, NULL);
    if (text != NULL) {
        metadata = metadata_parse(text, size, NULL);
    }
    if (metadata == NULL) {
        const char *architecture = inst_get(inst, "image.architecture");
        architecture = metadata_architecture(architecture);
        metadata = json_pack("{s:s,s:I,s:I,s:{},s:{}}", "architecture",
                             architecture != NULL ? architecture : metadata_native_architecture(),
                             "creation_date", (json_int_t) (clock_real_us() / G_USEC_PER_SEC),
                             "expiry_date", (json_int_t) 0, "properties", "templates");
    }

    json_t *properties = json_object_get(request, "properties");
    if (json_is_object(properties) && json_object_size(properties) > 0) {
        json_object_set(metadata, "properties", properties);
    }
    gint64 expires = 0;
    if (clock_parse(text_of(request, "expires_at"), &expires) && expires > 0) {
        json_object_set_new(metadata, "expiry_date", json_integer(expires / G_USEC_PER_SEC));
    }
    /* What we write, we can read. */
    g_autofree char *out = metadata_format(metadata);
    json_auto_t *again = metadata_parse(out, strlen(out), error);
    return again != NULL ? g_steal_pointer(&out) : NULL;
}

/* The id map in which the files on disk are to be read: NULL (as they are) or a new reference. */
static json_t *
disk_idmap(Inst *inst)
{
    const char *text = inst_get(inst, "volatile.last_state.idmap");
    json_t *map = text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (json_is_array(map) && json_array_size(map) > 0) {
        return map;
    }
    json_decref(map);
    return NULL;
}

static char *
compression_of(Agent *agent, const char *project, json_t *request)
{
    if (*text_of(request, "compression_algorithm") != '\0') {
        return g_strdup(text_of(request, "compression_algorithm"));
    }
    char *own = image_setting(agent, project, "images.compression_algorithm");
    return own != NULL ? own : g_strdup("gzip");
}

/* P4: the disk as a qcow2 file at 'path'. */
static bool
make_disk(Agent *agent, Operation *op, const char *dir, const char *path, bool compress,
          GError **error)
{
    g_autofree char *raw = g_build_filename(dir, DRIVER_BLOCK_FILE, NULL);
    haw_autofd int fd = open(raw, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", raw);
    }
    return diskimg_to_qcow(agent, fd, path, compress, op_cancel(op), error);
}

static bool
pack(Operation *op, Inst *inst, const char *dir, const char *root, const char *metadata,
     const char *compression, Intake *intake, GError **error)
{
    bool vm = strcmp(inst_type(inst), "virtual-machine") == 0;
    json_auto_t *idmap = vm ? NULL : disk_idmap(inst);
    g_autofree char *templates = g_build_filename(dir, "templates", NULL);
    struct stat st;
    ArchiveMember members[3] = {
        {.name = "metadata.yaml", .bytes = metadata, .size = strlen(metadata)},
        {.name = vm ? "rootfs.img" : "rootfs", .path = root, .idmap = idmap},
        {.name = "templates", .path = templates, .idmap = idmap},
    };
    size_t count = stat(templates, &st) == 0 ? 3 : 2;
    int fd = intake_meta_fd(intake, error);
    if (fd < 0) {
        return false;
    }
    g_autoptr(Meter) meter = meter_start(op, PROGRESS_KEY, "Image pack");
    return archive_pack(fd, members, count, compression, meter, error);
}

static bool
pack_volume(Agent *agent, Operation *op, Inst *inst, const Vol *vol, json_t *request,
            const char *compression, Intake *intake, GError **error)
{
    g_autofree char *dir = NULL;
    if (!vol_mount(agent->pools, vol, &dir, error)) {
        return false;
    }
    g_autofree char *metadata = metadata_for(dir, inst, request, error);
    bool vm = strcmp(inst_type(inst), "virtual-machine") == 0;
    g_autofree char *disk = vm ? intake_scratch_path(agent) : NULL;
    g_autofree char *rootfs = vm ? g_strdup(disk) : g_build_filename(dir, "rootfs", NULL);
    bool small = strcmp(compression, "none") != 0;
    bool ok = metadata != NULL && (!vm || make_disk(agent, op, dir, disk, small, error)) &&
              pack(op, inst, dir, rootfs, metadata, compression, intake, error);
    if (vm) {
        unlink(disk);
    }
    return vol_unmount(agent->pools, vol, ok ? error : NULL) && ok;
}

/* "web1" or "web1/snap0" as the request's type wants it. */
static bool
split_name(json_t *source, char **ret_name, char **ret_snap, GError **error)
{
    const char *type = text_of(source, "type"), *name = text_of(source, "name");
    const char *slash = strchr(name, '/');
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No source provided");
    }
    if (strcmp(type, "snapshot") == 0 && slash == NULL) {
        return haw_fail(error, HAW_INVALID, "Not a snapshot");
    }
    if (strcmp(type, "snapshot") != 0 && slash != NULL) {
        return haw_fail(error, HAW_INVALID, "This is a snapshot");
    }
    *ret_name = slash != NULL ? g_strndup(name, (gsize) (slash - name)) : g_strdup(name);
    *ret_snap = slash != NULL ? g_strdup(slash + 1) : NULL;
    return true;
}

Intake *
publish_instance(Agent *agent, Operation *op, const char *project, json_t *request, GError **error)
{
    g_autofree char *name = NULL, *snap = NULL;
    g_autofree char *compression = compression_of(agent, project, request);
    if (!split_name(json_object_get(request, "source"), &name, &snap, error) ||
        !archive_compression_known(compression, error)) {
        return NULL;
    }
    g_autoptr(Inst) inst = inst_find(agent->instances, project, name, error);
    if (inst == NULL) {
        return NULL;
    }

    g_auto(FiberHold) hold = fiber_hold(inst_queue(inst)); /* P2 */
    Vol vol;
    if (snap == NULL && inst_state(inst) != INST_STOPPED && inst_state(inst) != INST_ERROR) {
        haw_fail(error, HAW_CONFLICT, "Cannot export a running instance as an image"); /* P1 */
        return NULL;
    }
    if (!inst_volume(inst, &vol, error)) {
        return NULL;
    }
    vol.snap = snap;
    g_autoptr(Intake) intake = intake_new(agent);
    intake_set_filename(intake, text_of(request, "filename"));
    if (!pack_volume(agent, op, inst, &vol, request, compression, intake, error) ||
        !intake_inspect(intake, NULL, NULL, error)) {
        return NULL;
    }
    return g_steal_pointer(&intake);
}
