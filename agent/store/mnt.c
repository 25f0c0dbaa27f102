/* Mounts, loop devices, id maps.
 * M1  Nothing here forks a tool: mounts are made by system calls, so that a start costs microseconds.
 * M2  An overlay is made of mapped layers because overlayfs itself takes no id map: a clone of the
 *     lower's mount and one of the directory that has upper and work get the map. The kernel makes
 *     its own files in work as whoever calls fsconfig(CREATE), whose fsuid must exist in the map:
 *     so that thread becomes the container's root for the call, and keeps its capabilities.
 * M3  Loop devices are autoclear: the mount holds them, and a crash leaves none behind. */
#include "agent/store/mnt.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOUNTINFO_BYTES = 64 << 20, LOOP_TRIES = 64 };

/* ---- what is mounted ---- */

/* "\040" and the like. */
static char *
unescape(const char *text)
{
    return g_strcompress(text);
}

/* Calls are few and the list may be long: the fifth field of each line is the mount point. */
static GPtrArray *
mount_points(const char *path, bool below)
{
    GPtrArray *found = g_ptr_array_new();
    g_autofree char *text = fd_read_file("/proc/self/mountinfo", MOUNTINFO_BYTES, NULL, NULL);
    size_t length = strlen(path);
    char *save = NULL;
    for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        g_auto(GStrv) fields = g_strsplit(line, " ", 6);
        if (g_strv_length(fields) < 5) {
            continue;
        }
        g_autofree char *point = unescape(fields[4]);
        if (strncmp(point, path, length) == 0 &&
            (point[length] == '\0' || (below && point[length] == '/'))) {
            g_ptr_array_insert(found, 0, g_steal_pointer(&point));
        }
    }
    return found;
}

bool
mnt_is_mounted(const char *path)
{
    g_autoptr(GPtrArray) found = mount_points(path, false);
    g_ptr_array_set_free_func(found, g_free);
    return found->len > 0;
}

char **
mnt_list_below(const char *path)
{
    GPtrArray *found = mount_points(path, true);
    g_ptr_array_add(found, NULL);
    return (char **) g_ptr_array_free(found, FALSE);
}

/* ---- mounting ---- */

bool
mnt_unmount(const char *path, bool lazy, GError **error)
{
    int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
    while (umount2(path, flags) == 0) {
    }
    return errno == EINVAL || errno == ENOENT || haw_fail_errno(error, errno, "unmount '%s'", path);
}

bool
mnt_bind(const char *from, const char *to, GError **error)
{
    return mount(from, to, NULL, MS_BIND | MS_REC, NULL) == 0 ||
           haw_fail_errno(error, errno, "bind '%s' to '%s'", from, to);
}

static unsigned long
option_flags(const char *options, GString *rest)
{
    static const struct {
        const char *name;
        unsigned long flag;
    } known[] = {{"ro", MS_RDONLY},         {"noatime", MS_NOATIME},  {"nodiratime", MS_NODIRATIME},
                 {"nodev", MS_NODEV},       {"noexec", MS_NOEXEC},    {"nosuid", MS_NOSUID},
                 {"relatime", MS_RELATIME}, {"sync", MS_SYNCHRONOUS}, {"rw", 0},
                 {"defaults", 0},           {"lazytime", MS_LAZYTIME}};
    unsigned long flags = 0;
    g_auto(GStrv) each = g_strsplit(options != NULL ? options : "", ",", -1);
    for (char **option = each; *option != NULL; option++) {
        size_t i = 0;
        while (i < G_N_ELEMENTS(known) && strcmp(known[i].name, *option) != 0) {
            i++;
        }
        if (i < G_N_ELEMENTS(known)) {
            flags |= known[i].flag;
        } else if (**option != '\0') {
            g_string_append_printf(rest, "%s%s", rest->len > 0 ? "," : "", *option);
        }
    }
    return flags;
}

bool
mnt_mount(const char *source, const char *target, const char *fstype, const char *options,
          bool remount, GError **error)
{
    g_autoptr(GString) rest = g_string_new(NULL);
    unsigned long flags = option_flags(options, rest) | (remount ? MS_REMOUNT : 0);
    return mount(source, target, fstype, flags, rest->str) == 0 ||
           haw_fail_errno(error, errno, "mount '%s' on '%s'", source, target);
}

/* ---- loop devices ---- */

static bool
loop_configure(int device, int file, const char *name)
{
    struct loop_config config = {.fd = (guint32) file,
                                 .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO}};
    g_strlcpy((char *) config.info.lo_file_name, name, sizeof config.info.lo_file_name);
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0) {
        return true;
    }
    config.info.lo_flags &= ~(guint32) LO_FLAGS_DIRECT_IO;
    return errno == EINVAL && ioctl(device, LOOP_CONFIGURE, &config) == 0;
}

char *
mnt_loop_attach(const char *file, int *ret_fd, GError **error)
{
    haw_autofd int backing = open(file, O_RDWR | O_CLOEXEC);
    if (backing < 0) {
        haw_fail_errno(error, errno, "open '%s'", file);
        return NULL;
    }
    haw_autofd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) {
        haw_fail_errno(error, errno, "open '/dev/loop-control'");
        return NULL;
    }

    /* Others take free devices too: EBUSY means that somebody was faster. */
    for (int i = 0; i < LOOP_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0) {
            break;
        }
        g_autofree char *name = g_strdup_printf("/dev/loop%d", number);
        if (access(name, F_OK) < 0 && errno == ENOENT) {
            (void) mknod(name, S_IFBLK | 0660, makedev(7, (unsigned) number));
        }
        haw_autofd int device = open(name, O_RDWR | O_CLOEXEC);
        if (device >= 0 && loop_configure(device, backing, file)) {
            *ret_fd = fd_steal(&device);
            return g_steal_pointer(&name);
        }
        if (errno != EBUSY) {
            break;
        }
    }
    haw_fail_errno(error, errno, "attach a loop device to '%s'", file);
    return NULL;
}

char *
mnt_loop_find(const char *file)
{
    struct stat want;
    g_autoptr(GDir) dir = g_dir_open("/sys/block", 0, NULL);
    if (stat(file, &want) < 0 || dir == NULL) {
        return NULL;
    }
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
        if (!g_str_has_prefix(name, "loop")) {
            continue;
        }
        g_autofree char *path = g_strdup_printf("/dev/%s", name);
        haw_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct loop_info64 info;
        if (fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == want.st_dev &&
            info.lo_inode == want.st_ino) {
            return g_steal_pointer(&path);
        }
    }
    return NULL;
}

bool
mnt_loop_refresh(const char *device, GError **error)
{
    haw_autofd int fd = open(device, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, LOOP_SET_CAPACITY, 0) < 0) {
        return haw_fail_errno(error, errno, "refresh the size of '%s'", device);
    }
    return true;
}

/* ---- id maps ---- */

static bool
write_map(pid_t pid, const char *file, const struct mnt_idmap *map, size_t count, bool uids,
          GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (size_t i = 0; i < count; i++) {
        if (uids ? map[i].uid : map[i].gid) {
            g_string_append_printf(text, "%u %u %u\n", map[i].inside, map[i].host, map[i].count);
        }
    }
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int) pid, file);
    return fd_write_kernel(path, text->str, error);
}

static int
holder_main(void *data)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        pause();
    }
    return 0;
}

/* A child is the only way to a user namespace with a map. CLONE_VM saves copying our tables; so that
 * it never runs a handler of ours on our memory, all its signals are blocked. */
static pid_t
start_holder(char *stack_end)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = clone(holder_main, stack_end, CLONE_NEWUSER | CLONE_VM, NULL);
    int err = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = err;
    return pid;
}

int
mnt_userns(const struct mnt_idmap *map, size_t count, GError **error)
{
    enum { STACK_BYTES = 16384 };
    g_autofree char *stack = g_malloc(STACK_BYTES);
    pid_t pid = start_holder(stack + STACK_BYTES);
    if (pid < 0) {
        haw_fail_errno(error, errno, "make a user namespace");
        return -1;
    }

    int fd = -1;
    if (write_map(pid, "uid_map", map, count, true, error) &&
        write_map(pid, "gid_map", map, count, false, error)) {
        g_autofree char *path = g_strdup_printf("/proc/%d/ns/user", (int) pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            haw_fail_errno(error, errno, "open '%s'", path);
        }
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) {
    }
    return fd;
}

/* A detached clone of the mount at 'path', with the map on it when userns >= 0. */
static int
clone_mount(const char *path, int userns, GError **error)
{
    haw_autofd int tree = (int) syscall(SYS_open_tree, AT_FDCWD, path,
                                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_NO_AUTOMOUNT);
    if (tree < 0) {
        haw_fail_errno(error, errno, "clone the mount of '%s'", path);
        return -1;
    }
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (guint64) userns};
    if (userns >= 0 &&
        syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0) {
        haw_fail_errno(error, errno, "map the ids of '%s'", path);
        return -1;
    }
    return fd_steal(&tree);
}

bool
mnt_can_idmap(const char *path)
{
    const char *off = getenv("LXD_IDMAPPED_MOUNTS_DISABLE");
    if (off != NULL && strcmp(off, "1") == 0) {
        return false;
    }
    const struct mnt_idmap one = {.uid = true, .gid = true, .host = 1000000, .count = 1};
    haw_autofd int userns = mnt_userns(&one, 1, NULL);
    haw_autofd int tree = userns >= 0 ? clone_mount(path, userns, NULL) : -1;
    return tree >= 0;
}

/* ---- overlay ---- */

/* M2: the ids that the kernel's helper files of this overlay get; 0 where nothing is mapped. */
static guint32
host_root(const struct mnt_overlay *spec, bool uids)
{
    for (size_t i = 0; i < spec->map_count; i++) {
        const struct mnt_idmap *line = &spec->map[i];
        if ((uids ? line->uid : line->gid) && line->inside == 0) {
            return line->host;
        }
    }
    return 0;
}

static void
become(guint32 uid, guint32 gid)
{
    /* setfsuid() away from 0 drops the filesystem capabilities of this thread: put them back. */
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2];
    syscall(SYS_capget, &head, caps);
    setfsgid(gid);
    setfsuid(uid);
    syscall(SYS_capset, &head, caps);
}

static bool
set_layer(int fs, const char *key, int fd, GError **error)
{
    if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, key, NULL, fd) == 0) {
        return true;
    }
    /* Before Linux 6.13 layers are names. */
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", fd);
    return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, name, 0) == 0 ||
           haw_fail_errno(error, errno, "overlay: set %s", key);
}

/* The clones live while their descriptors are open: the caller keeps them until the mount is made. */
static bool
set_layers(int fs, const struct mnt_overlay *spec, int userns, GArray *trees, GError **error)
{
    for (const char *const *lower = spec->lowers; *lower != NULL; lower++) {
        int tree = clone_mount(*lower, userns, error);
        if (tree < 0) {
            return false;
        }
        g_array_append_val(trees, tree);
        if (!set_layer(fs, "lowerdir+", tree, error)) {
            return false;
        }
    }
    if (spec->upper_parent == NULL) {
        return true;
    }
    int tree = clone_mount(spec->upper_parent, userns, error);
    if (tree < 0) {
        return false;
    }
    g_array_append_val(trees, tree);
    haw_autofd int upper = openat(tree, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC);
    haw_autofd int work = openat(tree, "work", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (upper < 0 || work < 0) {
        return haw_fail_errno(error, errno, "open the layers in '%s'", spec->upper_parent);
    }
    return set_layer(fs, "upperdir", upper, error) && set_layer(fs, "workdir", work, error);
}

static bool
overlay_create(int fs, const struct mnt_overlay *spec, GError **error)
{
    guint32 uid = host_root(spec, true), gid = host_root(spec, false);
    if (uid != 0 || gid != 0) {
        become(uid, gid);
    }
    bool ok = syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
    int err = errno;
    if (uid != 0 || gid != 0) {
        become(0, 0);
    }
    if (ok) {
        return true;
    }
    /* The kernel leaves its reason in the descriptor: "e overlay: …". */
    char why[256];
    ssize_t n = read(fs, why, sizeof why - 1);
    why[MAX(n, 0)] = '\0';
    return haw_fail_errno(error, err, "mount the overlay '%s'%s%s", spec->target, n > 2 ? ": " : "",
                          n > 2 ? why + 2 : "");
}

static void
close_tree(void *fd)
{
    fd_close(fd);
}

bool
mnt_overlay(const struct mnt_overlay *spec, GError **error)
{
    haw_autofd int userns =
        spec->map_count > 0 ? mnt_userns(spec->map, spec->map_count, error) : -1;
    if (spec->map_count > 0 && userns < 0) {
        return false;
    }
    haw_autofd int fs = (int) syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
    if (fs < 0) {
        return haw_fail_errno(error, errno, "open the filesystem 'overlay'");
    }
    /* The kernel's defaults are a matter of its configuration; what it does not know it refuses. */
    static const char *const options[][2] = {
        {"source", "hawser"}, {"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "on"}};
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[i][0], options[i][1], 0);
    }
    g_autoptr(GArray) trees = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_set_clear_func(trees, close_tree);
    if (!set_layers(fs, spec, userns, trees, error) || !overlay_create(fs, spec, error)) {
        return false;
    }
    haw_autofd int mounted = (int) syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    if (mounted < 0 ||
        syscall(SYS_move_mount, mounted, "", AT_FDCWD, spec->target, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        return haw_fail_errno(error, errno, "mount the overlay '%s'", spec->target);
    }
    return true;
}
