/* `hawserd forkmount`: one mount or unmount in a running container, then the end.
 * M1  The source is opened (open_tree) as the host sees it, before the container's mount namespace
 *     is entered; the target is resolved there, below its root (C1). What is between them is a
 *     detached mount that belongs to nobody else.
 * M2  Directories and files that are made belong to the container: they are made with its root's
 *     file-system ids, so on an id-mapped root they are never unmapped ones.
 * M3  User namespace and credentials stay the host's: moving a mount needs CAP_SYS_ADMIN over the
 *     namespace, which the host's root has. Nothing of the container is executed or read. */
#include "agent/inst/forkmount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/confine.h"
#include "agent/inst/enter.h"
#include "agent/inst/forkserve.h"
#include "agent/inst/shift.h"
#include "base/fd.h"

#define FORKMOUNT_PIDFD (FORKSERVE_FD + 1)

static const char *
text_of(json_t *request, const char *key)
{
    const char *text = json_string_value(json_object_get(request, key));

    return text != NULL ? text : "";
}

static bool
flag_of(json_t *request, const char *key)
{
    return json_is_true(json_object_get(request, key));
}

static guint64
propagation_of(const char *name)
{
    static const struct {
        const char *name;
        guint64 value;
    } words[] = {{"shared", MS_SHARED},
                 {"slave", MS_SLAVE},
                 {"unbindable", MS_UNBINDABLE},
                 {"private", MS_PRIVATE}};

    if (name[0] == 'r') {
        name++;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_str_equal(name, words[i].name)) {
            return words[i].value;
        }
    }
    return MS_PRIVATE;
}

/* A detached copy of the source with the attributes that are asked for (M1). */
static int
clone_source(json_t *request, pid_t pid, GError **error)
{
    const char *source = text_of(request, "source");
    unsigned recursive = flag_of(request, "recursive") ? AT_RECURSIVE : 0;
    struct mount_attr attr = {.propagation = propagation_of(text_of(request, "propagation"))};
    haw_autofd int users = -1;
    haw_autofd int tree =
        open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
    if (tree < 0) {
        haw_fail_errno(error, errno, "clone mount '%s'", source);
        return -1;
    }
    if (flag_of(request, "readonly")) {
        attr.attr_set |= MOUNT_ATTR_RDONLY;
    }
    if (flag_of(request, "idmap")) {
        g_autofree char *path = g_strdup_printf("/proc/%d/ns/user", (int) pid);
        users = open(path, O_RDONLY | O_CLOEXEC);
        if (users < 0) {
            haw_fail_errno(error, errno, "open '%s'", path);
            return -1;
        }
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (guint64) users;
    }
    if (mount_setattr(tree, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)) < 0) {
        haw_fail_errno(error, errno, "set options of mount '%s'", source);
        return -1;
    }
    return fd_steal(&tree);
}

/* Other file-system ids than 0 took CAP_DAC_OVERRIDE and its like away: an image's /tmp may be 0644. */
static void
keep_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) == 0) {
        data[0].effective = data[0].permitted;
        data[1].effective = data[1].permitted;
        syscall(SYS_capset, &header, data);
    }
}

/* The place to mount on, as O_PATH, made when it is missing (M2). */
static int
make_target(const char *target, bool file, GError **error)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    haw_autofd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    haw_autofd int parent = -1;
    int fd;

    fd = confine_open(root, target, O_PATH, 0);
    if (fd >= 0) {
        return fd;
    }
    parent = confine_parent(root, target, buf, &name);
    if (parent < 0 && errno == ENOENT) {
        g_autofree char *dir = g_path_get_dirname(target);
        if (confine_mkdir_p(root, dir, 0755)) {
            parent = confine_parent(root, target, buf, &name);
        }
    }
    if (parent < 0) {
        haw_fail_errno(error, errno, "make the directory of '%s' in the container", target);
        return -1;
    }
    if (file) {
        haw_autofd int made = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        (void) made;
    } else {
        (void) mkdirat(parent, name, 0755);
    }
    fd = confine_open(root, target, O_PATH, 0);
    if (fd < 0) {
        haw_fail_errno(error, errno, "make '%s' in the container", target);
    }
    return fd;
}

static bool
do_mount(json_t *request, pid_t pid, GError **error)
{
    const char *target = text_of(request, "target");
    json_t *idmap = shift_of_pid(pid);
    gint64 uid = shift_to_host(idmap, SHIFT_UID, 0), gid = shift_to_host(idmap, SHIFT_GID, 0);
    haw_autofd int place = -1;
    haw_autofd int tree = -1;

    json_decref(idmap);
    tree = clone_source(request, pid, error);
    if (tree < 0 || !enter_mounts(FORKMOUNT_PIDFD, error)) {
        return false;
    }
    umask(022);
    setfsgid((gid_t) gid);
    setfsuid((uid_t) uid);
    keep_capabilities();
    place = make_target(target, flag_of(request, "file"), error);
    setfsuid(0);
    setfsgid(0);
    if (place < 0) {
        return false;
    }
    if (move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return haw_fail_errno(error, errno, "mount on '%s' in the container", target);
    }
    return true;
}

static bool
do_unmount(json_t *request, GError **error)
{
    char buf[PATH_MAX];
    const char *target = text_of(request, "target"), *name = NULL;
    haw_autofd int root = -1;
    haw_autofd int parent = -1;

    if (!enter_mounts(FORKMOUNT_PIDFD, error)) {
        return false;
    }
    root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    parent = confine_parent(root, target, buf, &name);
    if (parent < 0) {
        return errno == ENOENT || haw_fail_errno(error, errno, "find '%s'", target);
    }
    if (fchdir(parent) < 0 ||
        (umount2(name, UMOUNT_NOFOLLOW | MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)) {
        return haw_fail_errno(error, errno, "unmount '%s' in the container", target);
    }
    struct stat st;
    if (flag_of(request, "file") && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(st.st_mode) && st.st_size == 0) {
        unlinkat(parent, name, 0);
    }
    return true;
}

static bool
forkmount_serve(json_t *request, json_t **ret_reply, int *ret_fd, GError **error)
{
    pid_t pid = (pid_t) json_integer_value(json_object_get(request, "pid"));

    if (flag_of(request, "unmount")) {
        return do_unmount(request, error);
    }
    return do_mount(request, pid, error);
}

int
forkmount_main(int argc, char **argv)
{
    return forkserve(forkmount_serve);
}
