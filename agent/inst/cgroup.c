/* Control groups, whichever way the host mounts them.
 * C1  A controller is in v1 when a v1 hierarchy has it, else in v2 when its root lists it.
 * C2  A container's group is the path of its init up to the component that liblxc made
 *     ("lxc.payload…"): what follows was made inside, by the container's own init.
 * The layout is read once: hierarchies do not move while a host is up.
 * Called by limits.c, lifecycle.c, lxc.c and usage.c; any thread but for cgroup_freeze(). */
#include "agent/inst/cgroup.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FREEZE_TRIES   200
#define FILE_MAX_BYTES (256 * 1024)

static const struct {
    const char *v1, *v2;
} names[CG_COUNT] = {
    [CG_MEMORY] = {"memory", "memory"},    [CG_CPU] = {"cpu", "cpu"},
    [CG_CPUACCT] = {"cpuacct", "cpu"},     [CG_CPUSET] = {"cpuset", "cpuset"},
    [CG_PIDS] = {"pids", "pids"},          [CG_BLKIO] = {"blkio", "io"},
    [CG_FREEZER] = {"freezer", NULL},      [CG_DEVICES] = {"devices", NULL},
    [CG_HUGETLB] = {"hugetlb", "hugetlb"}, [CG_NET_PRIO] = {"net_prio", NULL},
};

struct Cgroup {
    char *dir[CG_COUNT];
    char *unified; /* the v2 group, NULL without that hierarchy */
};

static struct {
    bool known;
    int version[CG_COUNT];
    char *mount[CG_COUNT];
    char *unified;
} layout;

static bool
has_word(const char *list, const char *word, const char *separators)
{
    g_auto(GStrv) words = g_strsplit_set(list, separators, -1);
    return g_strv_contains((const char *const *) words, word);
}

static void
layout_take_mount(const char *dir, const char *type, const char *options)
{
    if (strcmp(type, "cgroup2") == 0 && layout.unified == NULL) {
        layout.unified = g_strdup(dir);
    }
    if (strcmp(type, "cgroup") != 0) {
        return;
    }
    for (int i = 0; i < CG_COUNT; i++) {
        if (layout.mount[i] == NULL && has_word(options, names[i].v1, ",")) {
            layout.mount[i] = g_strdup(dir);
            layout.version[i] = 1;
        }
    }
}

static void
layout_read(void)
{
    g_autofree char *mounts = fd_read_file("/proc/self/mounts", 4 * 1024 * 1024, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(mounts != NULL ? mounts : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", 6);
        if (g_strv_length(fields) >= 4) {
            layout_take_mount(fields[1], fields[2], fields[3]);
        }
    }
    if (layout.unified == NULL) {
        return;
    }
    g_autofree char *path = g_strdup_printf("%s/cgroup.controllers", layout.unified);
    g_autofree char *list = fd_read_file(path, FILE_MAX_BYTES, NULL, NULL);
    for (int i = 0; i < CG_COUNT; i++) {
        bool here = names[i].v2 != NULL && list != NULL && has_word(list, names[i].v2, " \n");
        /* Freezer and devices are part of v2 itself. */
        here = here || (names[i].v2 == NULL && i != CG_NET_PRIO);
        if (layout.version[i] == 0 && here) {
            layout.version[i] = 2;
            layout.mount[i] = g_strdup(layout.unified);
        }
    }
}

static void
layout_ensure(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        if (!layout.known) {
            layout_read();
            layout.known = true;
        }
        g_once_init_leave(&once, 1);
    }
}

int
cgroup_version(CgController controller)
{
    layout_ensure();
    return layout.version[controller];
}

bool
cgroup_unified(void)
{
    layout_ensure();
    return layout.version[CG_FREEZER] == 2 && layout.version[CG_MEMORY] != 1;
}

void
cgroup_set_layout(const int *versions)
{
    layout_ensure();
    if (versions != NULL) {
        memcpy(layout.version, versions, sizeof layout.version);
        return;
    }
    memset(layout.version, 0, sizeof layout.version);
    for (int i = 0; i < CG_COUNT; i++) {
        g_clear_pointer(&layout.mount[i], g_free);
    }
    g_clear_pointer(&layout.unified, g_free);
    layout_read();
}

/* C2. The path gets cut behind liblxc's component. */
static void
cut_payload(char *path)
{
    char *at = strstr(path, "/lxc.payload");
    char *end = at != NULL ? strchr(at + 1, '/') : NULL;
    if (end != NULL) {
        *end = '\0';
    }
}

static void
take_line(Cgroup *group, char *line)
{
    g_auto(GStrv) fields = g_strsplit(line, ":", 3);
    if (g_strv_length(fields) != 3) {
        return;
    }
    cut_payload(fields[2]);
    if (fields[1][0] == '\0' && layout.unified != NULL) {
        group->unified = g_strdup_printf("%s%s", layout.unified, fields[2]);
    }
    for (int i = 0; i < CG_COUNT; i++) {
        bool mine = layout.version[i] == 1 ? has_word(fields[1], names[i].v1, ",")
                                           : layout.version[i] == 2 && fields[1][0] == '\0';
        if (mine && layout.mount[i] != NULL) {
            g_free(group->dir[i]);
            group->dir[i] = g_strdup_printf("%s%s", layout.mount[i], fields[2]);
        }
    }
}

Cgroup *
cgroup_of_pid(pid_t pid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int) pid);
    g_autofree char *text = fd_read_file(path, FILE_MAX_BYTES, NULL, error);
    if (text == NULL) {
        return NULL;
    }
    layout_ensure();
    Cgroup *group = g_new0(Cgroup, 1);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        take_line(group, *line);
    }
    return group;
}

void
cgroup_free(Cgroup *group)
{
    if (group == NULL) {
        return;
    }
    for (int i = 0; i < CG_COUNT; i++) {
        g_free(group->dir[i]);
    }
    g_free(group->unified);
    g_free(group);
}

Cgroup *
cgroup_dup(const Cgroup *group)
{
    Cgroup *copy = g_new0(Cgroup, 1);
    for (int i = 0; i < CG_COUNT; i++) {
        copy->dir[i] = g_strdup(group->dir[i]);
    }
    copy->unified = g_strdup(group->unified);
    return copy;
}

const char *
cgroup_dir(const Cgroup *group, CgController controller)
{
    return group != NULL ? group->dir[controller] : NULL;
}

bool
cgroup_write(const Cgroup *group, CgController controller, const char *file, const char *value,
             GError **error)
{
    const char *dir = cgroup_dir(group, controller);
    if (dir == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED, "The host has no '%s' cgroup controller",
                        names[controller].v1);
    }
    g_autofree char *path = g_strdup_printf("%s/%s", dir, file);
    return fd_write_kernel(path, value, error);
}

bool
cgroup_has(const Cgroup *group, CgController controller, const char *file)
{
    const char *dir = cgroup_dir(group, controller);
    if (dir == NULL) {
        return false;
    }
    g_autofree char *path = g_strdup_printf("%s/%s", dir, file);
    return access(path, F_OK) == 0;
}

char *
cgroup_text(const Cgroup *group, CgController controller, const char *file)
{
    const char *dir = cgroup_dir(group, controller);
    if (dir == NULL) {
        return NULL;
    }
    g_autofree char *path = g_strdup_printf("%s/%s", dir, file);
    return fd_read_file(path, FILE_MAX_BYTES, NULL, NULL);
}

gint64
cgroup_number(const Cgroup *group, CgController controller, const char *file)
{
    g_autofree char *text = cgroup_text(group, controller, file);
    if (text == NULL || !g_ascii_isdigit(text[0])) {
        return -1;
    }
    return g_ascii_strtoll(text, NULL, 10);
}

gint64
cgroup_keyed(const Cgroup *group, CgController controller, const char *file, const char *key)
{
    g_autofree char *text = cgroup_text(group, controller, file);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        const char *space = strchr(*line, ' ');
        if (space != NULL && (size_t) (space - *line) == strlen(key) &&
            strncmp(*line, key, strlen(key)) == 0) {
            return g_ascii_strtoll(space + 1, NULL, 10);
        }
    }
    return -1;
}

bool
cgroup_frozen(const Cgroup *group)
{
    if (group == NULL) {
        return false;
    }
    if (layout.version[CG_FREEZER] == 1) {
        g_autofree char *text = cgroup_text(group, CG_FREEZER, "freezer.state");
        return text != NULL && strncmp(text, "FROZEN", 6) == 0;
    }
    return cgroup_keyed(group, CG_FREEZER, "cgroup.events", "frozen") == 1;
}

bool
cgroup_freeze(const Cgroup *group, bool frozen, GError **error)
{
    bool v1 = cgroup_version(CG_FREEZER) == 1;
    const char *value = v1 ? (frozen ? "FROZEN" : "THAWED") : (frozen ? "1" : "0");
    for (int i = 0; i < FREEZE_TRIES; i++) {
        if (!cgroup_write(group, CG_FREEZER, v1 ? "freezer.state" : "cgroup.freeze", value,
                          error)) {
            return false;
        }
        if (cgroup_frozen(group) == frozen) {
            return true;
        }
        /* The kernel has no event for v1, and a task in the kernel is frozen at its next exit. */
        if (!fiber_sleep_ms(5, NULL, error)) {
            return false;
        }
    }
    return haw_fail(error, HAW_TIMEOUT, "The container did not %s within a second",
                    frozen ? "freeze" : "thaw");
}

gint64
cgroup_processes(const Cgroup *group)
{
    return cgroup_number(group, CG_PIDS, "pids.current");
}

/* ---- moves ---- */

/* The kernel lets forks and exits run without a lock until somebody moves a process; it then waits
 * for an RCU grace period, and goes on with the lock for about one more. Our own "move" to where we
 * are changes nothing and takes that wait, while others work. */
static void
stay(void *data)
{
    g_autoptr(Cgroup) own = cgroup_of_pid(getpid(), NULL);
    const char *dir = own != NULL ? own->unified : NULL;
    for (int i = 0; own != NULL && dir == NULL && i < CG_COUNT; i++) {
        dir = own->dir[i];
    }
    g_autofree char *path = g_strdup_printf("%s/cgroup.procs", dir != NULL ? dir : "");
    haw_autofd int fd = dir != NULL ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        dprintf(fd, "%d", (int) getpid());
    }
}

static void
stay_apart(void *data)
{
    fiber_run(stay, data);
}

void
cgroup_expect_move(void)
{
    fiber_start("cgroup-move", stay_apart, NULL);
}
