/* An image's files become the content of a volume: rootfs/, metadata.yaml and templates/, or a virtual
 * machine's disk. Archives are strangers': archive.h lets nothing out of the directory, and a disk is
 * converted by a process without capabilities (diskimg.c). Called by image.c; main loop, in a fiber. */
#include "agent/image/imagefill.h"

#include "agent/image/archive.h"
#include "agent/image/diskimg.h"
#include "agent/image/image.h"
#include "agent/image/intake.h"
#include "agent/store/pooldriver.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
unpack_file(Operation *op, const char *file, const char *dir, const char *const *only,
            GError **error)
{
    haw_autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", file);
    }
    g_autoptr(Meter) meter = meter_start(op, "create_instance_from_image_unpack_progress", NULL);
    ArchiveUnpack spec = {.fd = fd, .dir = dir, .only = only, .meter = meter};
    return archive_unpack(&spec, error);
}

/* A virtual machine's disk: 'file' becomes <dir>/root.img. */
static bool
unpack_disk(Agent *agent, Operation *op, const char *file, const char *dir, GError **error)
{
    g_autofree char *disk = g_build_filename(dir, DRIVER_BLOCK_FILE, NULL);
    haw_autofd int fd = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", file);
    }
    return diskimg_to_raw(agent, fd, disk, op != NULL ? op_cancel(op) : NULL, error);
}

/* The archive has all of it. */
static bool
unpack_unified(Agent *agent, Operation *op, const char *dir, GError **error)
{
    g_autofree char *rootfs = g_build_filename(dir, "rootfs", NULL);
    g_autofree char *disk = g_build_filename(dir, "rootfs.img", NULL);
    struct stat st;
    if (lstat(rootfs, &st) == 0 && S_ISDIR(st.st_mode)) {
        return unlink(disk) == 0 || errno == ENOENT ||
               haw_fail_errno(error, errno, "remove '%s'", disk);
    }
    if (lstat(disk, &st) < 0 || !S_ISREG(st.st_mode)) {
        return haw_fail(error, HAW_INVALID, "Image is missing a rootfs");
    }
    /* Who unpacks it has no capabilities. */
    bool ok = ((chown(disk, 0, 0) == 0 && chmod(disk, 0600) == 0) ||
               haw_fail_errno(error, errno, "take '%s'", disk)) &&
              unpack_disk(agent, op, disk, dir, error);
    unlink(disk);
    return ok;
}

bool
imagefill(Agent *agent, Operation *op, const char *fingerprint, const char *path, GError **error)
{
    static const char *const unified[] = {"metadata.yaml", "templates", "rootfs", "rootfs.img",
                                          NULL};
    static const char *const meta_only[] = {"metadata.yaml", "templates", NULL};
    g_autofree char *meta = image_file(agent, fingerprint, false);
    g_autofree char *root = image_file(agent, fingerprint, true);
    bool split = access(root, F_OK) == 0;
    if (!unpack_file(op, meta, path, split ? meta_only : unified, error)) {
        return false;
    }
    if (!split) {
        return unpack_unified(agent, op, path, error);
    }
    haw_autofd int fd = open(root, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && g_strcmp0(archive_extension(fd), ".qcow2") == 0) {
        return unpack_disk(agent, op, root, path, error);
    }
    g_autofree char *rootfs = g_build_filename(path, "rootfs", NULL);
    if (mkdir(rootfs, 0755) < 0) {
        return haw_fail_errno(error, errno, "create '%s'", rootfs);
    }
    return unpack_file(op, root, rootfs, NULL, error);
}
