/* mount() for a container: file systems that security.syscalls.intercept.mount.allowed names, or programs
 * of its own (….mount.fuse).
 * M1  The seccomp profile hands over only calls that make a superblock: no bind, move, remount.
 * M2  Source and target are the task's names (T2): a block device has to be in the container already.
 * M3  With ….mount.shift ids on the file system are read by the container's map.
 * M4  A FUSE program is the container's, and runs as its root, in its namespaces.
 * Called by forksyscall.c. */
#include "agent/inst/forksyscall.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    unsigned long flag;
    const char *option;
    guint64 attribute; /* of a mount; 0: of the file system */
} options[] = {
    {MS_RDONLY, "ro", MOUNT_ATTR_RDONLY},
    {MS_NOSUID, "nosuid", MOUNT_ATTR_NOSUID},
    {MS_NODEV, "nodev", MOUNT_ATTR_NODEV},
    {MS_NOEXEC, "noexec", MOUNT_ATTR_NOEXEC},
    {MS_NOATIME, "noatime", MOUNT_ATTR_NOATIME},
    {MS_NODIRATIME, "nodiratime", MOUNT_ATTR_NODIRATIME},
    {MS_STRICTATIME, "strictatime", MOUNT_ATTR_STRICTATIME},
    {MS_SYNCHRONOUS, "sync", 0},
    {MS_DIRSYNC, "dirsync", 0},
    {MS_LAZYTIME, "lazytime", 0},
};

typedef struct {
    char *source, *target, *type, *data;
    unsigned long flags;
} Wanted;

static void
wanted_clear(Wanted *wanted)
{
    g_free(wanted->source);
    g_free(wanted->target);
    g_free(wanted->type);
    g_free(wanted->data);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Wanted, wanted_clear)

/* NULL pointers are empty texts; the data may be more than text, and then isn't for us. */
static bool
read_wanted(const Task *task, Wanted *ret)
{
    char **texts[] = {&ret->source, &ret->target, &ret->type, NULL, &ret->data};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        guint64 address = task->notif.data.args[i];
        if (texts[i] == NULL) {
            continue;
        }
        *texts[i] = address != 0 ? task_text(task, address) : g_strdup("");
        if (*texts[i] == NULL) {
            return false;
        }
    }
    ret->flags = (unsigned long) task->notif.data.args[3];
    return true;
}

/* An id of the task's user namespace on the host, by "inside outside count" lines; -1. */
static gint64
host_id(const Task *task, const char *map, guint64 inside)
{
    char text[4096];
    haw_autofd int fd = openat(task->proc_fd, map, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    text[MAX(size, 0)] = '\0';
    for (char *at = text; *at != '\0';) {
        guint64 first = g_ascii_strtoull(at, &at, 10), host = g_ascii_strtoull(at, &at, 10);
        guint64 count = g_ascii_strtoull(at, &at, 10);
        if (inside >= first && inside - first < count) {
            return (gint64) (host + inside - first);
        }
        at += strspn(at, " \n");
        if (count == 0) {
            break;
        }
    }
    return -1;
}

/* hugetlbfs: its files are the task's unless it says otherwise, and what it says are ids of its own. NULL:
 * one that has no place on the host. */
static char *
hugetlb_data(const Task *task, const char *data)
{
    g_auto(GStrv) words = g_strsplit(data, ",", -1);
    g_autoptr(GString) out = g_string_new(NULL);
    gint64 uid = task->fsuid, gid = task->fsgid;
    for (char **word = words; *word != NULL; word++) {
        if (g_str_has_prefix(*word, "uid=")) {
            uid = host_id(task, "uid_map", g_ascii_strtoull(*word + 4, NULL, 10));
        } else if (g_str_has_prefix(*word, "gid=")) {
            gid = host_id(task, "gid_map", g_ascii_strtoull(*word + 4, NULL, 10));
        } else if (**word != '\0') {
            g_string_append_printf(out, "%s,", *word);
        }
    }
    if (uid < 0 || gid < 0) {
        return NULL;
    }
    g_string_append_printf(out, "uid=%" G_GINT64_FORMAT ",gid=%" G_GINT64_FORMAT, uid, gid);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static char *
fuse_options(const Wanted *wanted)
{
    g_autoptr(GString) text = g_string_new(wanted->data);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (wanted->flags & options[i].flag) {
            g_string_append_printf(text, "%s%s", text->len > 0 ? "," : "", options[i].option);
        }
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* M4 */
static TaskAnswer
run_fuse(const Task *task, const Wanted *wanted, const char *program, int users_fd)
{
    haw_autofd int pids = openat(task->proc_fd, "ns/pid", O_RDONLY | O_CLOEXEC);
    haw_autofd int net = openat(task->proc_fd, "ns/net", O_RDONLY | O_CLOEXEC);
    g_autofree char *source = g_strdup_printf("%s#%s", program, wanted->source);
    g_autofree char *option = fuse_options(wanted);
    if (pids < 0 || net < 0 || setns(pids, CLONE_NEWPID) < 0 || setns(net, CLONE_NEWNET) < 0 ||
        !task_enter(task) || setns(users_fd, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 ||
        setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
        return task_own();
    }
    pid_t child = fork();
    if (child == 0) {
        char *const environment[] = {
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
        char *const argv[] = {"mount.fuse", source, wanted->target, *option != '\0' ? "-o" : NULL,
                              option,       NULL};
        execvpe("mount.fuse", argv, environment);
        execvpe("mount.fuse3", argv, environment);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        return task_own();
    }
    return status == 0 ? task_errno(0) : task_own();
}

/* What mount() took as one text, option by option. */
static bool
configure(int fs, const Wanted *wanted)
{
    g_auto(GStrv) words = g_strsplit(wanted->data, ",", -1);
    bool ok = *wanted->source == '\0' ||
              syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", wanted->source, 0) == 0;
    for (char **word = words; ok && *word != NULL; word++) {
        char *value = strchr(*word, '=');
        if (**word == '\0') {
            continue;
        }
        if (value != NULL) {
            *value++ = '\0';
        }
        ok = syscall(SYS_fsconfig, fs, value != NULL ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG,
                     *word, value, 0) == 0;
    }
    for (size_t i = 0; ok && i < G_N_ELEMENTS(options); i++) {
        bool of_fs = options[i].attribute == 0 || options[i].flag == MS_RDONLY;
        if (of_fs && (wanted->flags & options[i].flag)) {
            ok = syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, options[i].option, NULL, 0) == 0;
        }
    }
    return ok && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0;
}

/* M3 */
static int
mount_shifted(const Wanted *wanted, int users_fd)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (guint64) users_fd};
    unsigned attributes = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        attributes |= wanted->flags & options[i].flag ? (unsigned) options[i].attribute : 0;
    }
    haw_autofd int fs = (int) syscall(SYS_fsopen, wanted->type, FSOPEN_CLOEXEC);
    if (fs < 0 || !configure(fs, wanted)) {
        return errno;
    }
    haw_autofd int tree = (int) syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 ||
        move_mount(tree, "", AT_FDCWD, wanted->target, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        return errno;
    }
    return 0;
}

TaskAnswer
callmount(Task *task, json_t *allowed, bool shift, int users_fd)
{
    g_auto(Wanted) wanted = {0};
    if (!read_wanted(task, &wanted) || !task_can(task, CAP_SYS_ADMIN)) {
        return task_own();
    }
    const char *program = json_string_value(json_object_get(allowed, wanted.type));
    if (program == NULL) {
        return task_own();
    }
    if (*program != '\0') {
        return run_fuse(task, &wanted, program, users_fd);
    }
    if (strcmp(wanted.type, "hugetlbfs") == 0) {
        char *data = hugetlb_data(task, wanted.data);
        if (data == NULL) {
            return task_own();
        }
        g_free(wanted.data);
        wanted.data = data;
        shift = false;
    }
    if (!task_enter(task) || !task_become(task)) {
        return task_own();
    }
    if (shift) {
        return task_errno(mount_shifted(&wanted, users_fd));
    }
    return task_errno(
        mount(wanted.source, wanted.target, wanted.type, wanted.flags, wanted.data) < 0 ? errno
                                                                                        : 0);
}
