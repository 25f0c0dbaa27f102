/* `hawserd forkfile`: one file request inside an instance; `hawserd forksftp`: one SFTP session.
 * Why a child and not openat2 on /proc/PID/root from the agent: that costs no process, but the agent
 * would create files as an id that the root's id map may not know, would have to redo the kernel's
 * permission checks for the container's root, and would block its one loop whenever the container
 * mounts a file system that does not answer. The child costs a few milliseconds and has none of it.
 * B1  The child is first confined (enter.h), then reads the request: nothing of the client's is
 *     looked at with the host's rights.
 * B2  Ids are the container's: by the user namespace while it runs, by the map of its disk when it
 *     is stopped.
 * B3  A file goes back as a descriptor, unless its file system is the container's own business
 *     (FUSE, procfs…) and could stall whoever reads it: such content is read here into memory. So is that of an
 *     overlay, which may have FUSE beneath, unless it is the volume's: directories of an overlay have its device
 *     number, and the file is on the same mount as its directory.
 * B4  uid, gid and mode are applied to what is new only, as LXD does. */
#include "agent/inst/forkfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/confine.h"
#include "agent/inst/enter.h"
#include "agent/inst/forkserve.h"
#include "sftp/sftp.h"
#include "agent/inst/shift.h"
#include "base/fd.h"

#define FORKFILE_PLACE   (FORKSERVE_FD + 1) /* pidfd, or the root directory of a stopped instance */
#define FORKFILE_CONTENT (FORKSERVE_FD + 2) /* what to put, or the session's socket */
#define FORKFILE_MEMORY  (256 * 1024 * 1024)

static const char *
text_of(json_t *request, const char *key)
{
    const char *text = json_string_value(json_object_get(request, key));

    return text != NULL ? text : "";
}

static gint64
number_of(json_t *request, const char *key, gint64 fallback)
{
    json_t *value = json_object_get(request, key);

    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

/* B1. Returns the root directory as O_PATH, or -1. */
static int
confine_self(json_t *request, GError **error)
{
    pid_t pid = (pid_t) number_of(request, "pid", 0);

    if (!(pid > 0 ? enter_guest(pid, FORKFILE_PLACE, error) : enter_root(FORKFILE_PLACE, error)) ||
        !enter_lock(error)) {
        return -1;
    }
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        haw_fail_errno(error, errno, "open the root directory");
    }
    return root;
}

/* ---- get ---- */

static const char *
type_name(mode_t mode)
{
    return S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "symlink" : "file";
}

static bool
describe(json_t *request, const struct stat *st, json_t *reply, GError **error)
{
    json_t *idmap = json_object_get(request, "idmap");
    gint64 uid = shift_from_host(idmap, SHIFT_UID, st->st_uid);
    gint64 gid = shift_from_host(idmap, SHIFT_GID, st->st_gid);

    json_object_set_new(reply, "type", json_string(type_name(st->st_mode)));
    json_object_set_new(reply, "uid", json_integer(uid == SHIFT_NONE ? 65534 : uid));
    json_object_set_new(reply, "gid", json_integer(gid == SHIFT_NONE ? 65534 : gid));
    json_object_set_new(reply, "mode", json_integer(st->st_mode & 07777));
    json_object_set_new(reply, "size", json_integer(st->st_size));
    json_object_set_new(reply, "mtime", json_integer(st->st_mtim.tv_sec));
    json_object_set_new(reply, "mtime_ns", json_integer(st->st_mtim.tv_nsec));
    return true;
}

static guint64
mount_of(int fd)
{
    struct statx st = {0};

    return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 ? st.stx_mnt_id : 0;
}

static bool
is_volume(int fd, int parent, gint64 device)
{
    struct stat st;

    return fstat(parent, &st) == 0 && (gint64) st.st_dev == device && mount_of(fd) != 0 &&
           mount_of(fd) == mount_of(parent);
}

static bool
stalls(int fd, int parent, gint64 device, const struct stat *st)
{
    static const long calm[] = {EXT4_SUPER_MAGIC, BTRFS_SUPER_MAGIC,    TMPFS_MAGIC,
                                XFS_SUPER_MAGIC,  0x2fc12fc1 /* zfs */, F2FS_SUPER_MAGIC,
                                RAMFS_MAGIC};
    struct statfs fs;

    if (st->st_size == 0 || fstatfs(fd, &fs) < 0) {
        return true;
    }
    if ((long) fs.f_type == OVERLAYFS_SUPER_MAGIC) {
        return !is_volume(fd, parent, device);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(calm); i++) {
        if ((long) fs.f_type == calm[i]) {
            return false;
        }
    }
    return true;
}

/* B3: an anonymous file with the content. */
static int
read_into_memory(int fd, const char *path, gint64 *ret_size, GError **error)
{
    g_autofree char *buffer = g_malloc(65536);
    haw_autofd int memory = memfd_create("file", MFD_CLOEXEC);
    ssize_t n;

    *ret_size = 0;
    while ((n = read(fd, buffer, 65536)) > 0) {
        *ret_size += n;
        if (*ret_size > FORKFILE_MEMORY) {
            haw_fail(error, HAW_LIMIT, "read '%s': larger than %d MiB", path,
                     FORKFILE_MEMORY >> 20);
            return -1;
        }
        if (!fd_write_all(memory, buffer, (size_t) n, path, error)) {
            return -1;
        }
    }
    if (n < 0) {
        haw_fail_errno(error, errno, "read '%s'", path);
        return -1;
    }
    return fd_steal(&memory);
}

static bool
get_file(int parent, const char *name, json_t *request, json_t *reply, int *ret_fd, GError **error)
{
    const char *path = text_of(request, "path");
    struct stat st;
    gint64 size;
    haw_autofd int fd =
        openat(parent, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return haw_fail(error, HAW_INVALID, "'%s' is no regular file", path);
    }
    if (!stalls(fd, parent, number_of(request, "device", 0), &st)) {
        *ret_fd = fd_steal(&fd);
        return true;
    }
    *ret_fd = read_into_memory(fd, path, &size, error);
    json_object_set_new(reply, "size", json_integer(*ret_fd >= 0 ? size : 0));
    return *ret_fd >= 0;
}

static bool
get_directory(int root, const char *path, int *ret_fd, GError **error)
{
    int fd = confine_open(root, path, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    json_t *names = json_array();
    struct dirent *entry;

    if (dir == NULL) {
        json_decref(names);
        fd_close(&fd);
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            json_t *name = json_string(entry->d_name); /* NULL when it is no UTF-8 text */
            json_array_append_new(names, name != NULL ? name : json_string("?"));
        }
    }
    closedir(dir);
    g_autofree char *text = json_dumps(names, JSON_COMPACT);
    json_decref(names);
    haw_autofd int memory = memfd_create("names", MFD_CLOEXEC);
    if (!fd_write_all(memory, text, strlen(text), path, error)) {
        return false;
    }
    *ret_fd = fd_steal(&memory);
    return true;
}

static bool
do_get(int root, json_t *request, json_t *reply, int *ret_fd, GError **error)
{
    char buf[PATH_MAX], target[PATH_MAX];
    const char *path = text_of(request, "path"), *name = NULL;
    struct stat st;
    haw_autofd int parent = confine_parent(root, path, buf, &name);

    if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return haw_fail_errno(error, errno, "stat '%s'", path);
    }
    describe(request, &st, reply, error);
    if (json_is_true(json_object_get(request, "head"))) {
        return true;
    }
    if (S_ISDIR(st.st_mode)) {
        return get_directory(root, path, ret_fd, error);
    }
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);
        if (n < 0) {
            return haw_fail_errno(error, errno, "read link '%s'", path);
        }
        json_t *text = json_stringn(target, (size_t) n);
        return json_object_set_new(reply, "target", text) == 0 ||
               haw_fail(error, HAW_INVALID, "the target of '%s' is no UTF-8 text", path);
    }
    if (!S_ISREG(st.st_mode)) { /* opening a device does things */
        return haw_fail(error, HAW_INVALID, "'%s' is no regular file", path);
    }
    return get_file(parent, name, request, reply, ret_fd, error);
}

/* ---- put ---- */

typedef struct {
    gint64 uid, gid, mode; /* as on disk; mode -1: the default */
} Owner;

static bool
owner_of(json_t *request, Owner *owner, GError **error)
{
    json_t *idmap = json_object_get(request, "idmap"); /* B2 */

    owner->uid = shift_to_host(idmap, SHIFT_UID, number_of(request, "uid", 0));
    owner->gid = shift_to_host(idmap, SHIFT_GID, number_of(request, "gid", 0));
    owner->mode = number_of(request, "mode", -1);
    if (owner->uid == SHIFT_NONE || owner->gid == SHIFT_NONE) {
        return haw_fail(error, HAW_INVALID, "uid or gid is not mapped in the instance");
    }
    return true;
}

static bool
copy_content(int to, const char *path, GError **error)
{
    ssize_t n;

    while ((n = sendfile(to, FORKFILE_CONTENT, NULL, 1 << 24)) > 0) {
    }
    if (n < 0 && errno == EINVAL) { /* append mode: sendfile refuses it */
        char buffer[65536];
        while ((n = read(FORKFILE_CONTENT, buffer, sizeof(buffer))) > 0) {
            if (!fd_write_all(to, buffer, (size_t) n, path, error)) {
                return false;
            }
        }
    }
    return n == 0 || haw_fail_errno(error, errno, "write '%s'", path);
}

static bool
put_file(int root, json_t *request, const Owner *owner, GError **error)
{
    const char *path = text_of(request, "path");
    bool append = json_is_true(json_object_get(request, "append")), fresh = true;
    mode_t mode = owner->mode >= 0 ? (mode_t) owner->mode : 0644;
    struct stat st;
    haw_autofd int fd = confine_open(root, path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    if (fd < 0 && errno == EEXIST) {
        haw_autofd int found = confine_open(root, path, O_PATH, 0);
        if (found >= 0 && fstat(found, &st) == 0 && !S_ISREG(st.st_mode)) {
            return haw_fail(error, HAW_INVALID, "'%s' is no regular file", path);
        }
        fresh = false;
        fd =
            confine_open(root, path, O_WRONLY | O_NONBLOCK | O_NOCTTY | (append ? O_APPEND : 0), 0);
        if (fd < 0 && errno == ENOENT) { /* a symbolic link to what is not there yet */
            fresh = true;
            fd = confine_open(root, path, O_WRONLY | O_CREAT, 0600);
        }
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return haw_fail(error, HAW_INVALID, "'%s' is no regular file", path);
    }
    if (!fresh && !append && ftruncate(fd, 0) < 0) {
        return haw_fail_errno(error, errno, "truncate '%s'", path);
    }
    if (!copy_content(fd, path, error)) {
        return false;
    }
    if (fresh && (fchown(fd, (uid_t) owner->uid, (gid_t) owner->gid) < 0 ||
                  fchmod(fd, mode & 07777) < 0)) { /* B4 */
        return haw_fail_errno(error, errno, "set the owner of '%s'", path);
    }
    return true;
}

static bool
put_directory(int root, json_t *request, const Owner *owner, GError **error)
{
    char buf[PATH_MAX];
    const char *path = text_of(request, "path"), *name = NULL;
    struct stat st;
    haw_autofd int parent = confine_parent(root, path, buf, &name);
    haw_autofd int fd = -1;

    if (parent >= 0 && mkdirat(parent, name, 0700) < 0) {
        fd = errno == EEXIST ? confine_open(root, path, O_PATH, 0) : -1;
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
            return true;
        }
        errno = fd >= 0 ? ENOTDIR : errno;
        return haw_fail_errno(error, errno, "make directory '%s'", path);
    }
    fd = parent >= 0 ? openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0 || fchown(fd, (uid_t) owner->uid, (gid_t) owner->gid) < 0 ||
        fchmod(fd, owner->mode >= 0 ? (mode_t) owner->mode & 07777 : 0750) < 0) {
        return haw_fail_errno(error, errno, "make directory '%s'", path);
    }
    return true;
}

static bool
put_symlink(int root, json_t *request, const Owner *owner, GError **error)
{
    char buf[PATH_MAX];
    const char *path = text_of(request, "path"), *target = text_of(request, "target");
    const char *name = NULL;
    struct stat st;
    haw_autofd int parent = confine_parent(root, path, buf, &name);

    if (parent >= 0 && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(st.st_mode)) {
        unlinkat(parent, name, 0);
    }
    if (parent < 0 || symlinkat(target, parent, name) < 0 ||
        fchownat(parent, name, (uid_t) owner->uid, (gid_t) owner->gid, AT_SYMLINK_NOFOLLOW) < 0) {
        return haw_fail_errno(error, errno, "make symbolic link '%s'", path);
    }
    return true;
}

static bool
do_put(int root, json_t *request, GError **error)
{
    const char *type = text_of(request, "type");
    Owner owner;

    if (!owner_of(request, &owner, error)) {
        return false;
    }
    return g_str_equal(type, "directory") ? put_directory(root, request, &owner, error)
           : g_str_equal(type, "symlink") ? put_symlink(root, request, &owner, error)
                                          : put_file(root, request, &owner, error);
}

static bool
do_delete(int root, json_t *request, GError **error)
{
    char buf[PATH_MAX];
    const char *path = text_of(request, "path"), *name = NULL;
    struct stat st;
    haw_autofd int parent = confine_parent(root, path, buf, &name);

    if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0) {
        return haw_fail_errno(error, errno, "remove '%s'", path);
    }
    return true;
}

static bool
forkfile_serve(json_t *request, json_t **ret_reply, int *ret_fd, GError **error)
{
    const char *what = text_of(request, "what");
    haw_autofd int root = confine_self(request, error);

    if (root < 0) {
        return false;
    }
    if (g_str_equal(what, "put")) {
        return do_put(root, request, error);
    }
    if (g_str_equal(what, "delete")) {
        return do_delete(root, request, error);
    }
    *ret_reply = json_object();
    return do_get(root, request, *ret_reply, ret_fd, error);
}

int
forkfile_main(int argc, char **argv)
{
    return forkserve(forkfile_serve);
}

static int64_t
id_on_disk(void *idmap, bool group, uint32_t id)
{
    return shift_to_host(idmap, group ? SHIFT_GID : SHIFT_UID, id);
}

static int64_t
id_of_disk(void *idmap, bool group, uint32_t id)
{
    return shift_from_host(idmap, group ? SHIFT_GID : SHIFT_UID, id);
}

int
forkfile_sftp_main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    json_t *request = forkserve_take(&error);
    haw_autofd int root = -1;

    if (request == NULL) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    root = confine_self(request, &error);
    forkserve_answer(NULL, -1, error);
    if (root < 0) {
        json_decref(request);
        return 1;
    }
    close(FORKSERVE_FD);
    bool running = number_of(request, "pid", 0) > 0;
    SftpIds ids = {
        .on_disk = id_on_disk, .of_disk = id_of_disk, .data = json_object_get(request, "idmap")};
    Sftp *sftp = sftp_new(root, &ids);
    sftp_serve(sftp, FORKFILE_CONTENT, FORKFILE_CONTENT, running ? FORKFILE_PLACE : -1);
    sftp_free(sftp);
    json_decref(request);
    return 0;
}
