/* Injecting: the agent's side of changes in a running container's mounts and device permissions.
 * L1  The container is named by a pidfd that was opened while the instance said that this pid is its
 *     init, so a recycled pid is never entered.
 * L2  cgroup v1 and hybrid: the controller's own hierarchy. v2: devices are a BPF program there that
 *     liblxc holds, so a change goes through its command socket (lxc-cgroup's way).
 * Called by disk.c and unixdev.c. */
#include "agent/inst/inject.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/inst/enter.h"
#include "agent/inst/forkcall.h"
#include "base/fd.h"

#define INJECT_WAIT_MS 30000

static bool
forkmount(Agent *agent, Inst *inst, json_t *request, GError **error)
{
    pid_t pid = inst_pid(inst);
    haw_autofd int pidfd = -1;

    if (pid <= 0) {
        json_decref(request);
        return haw_fail(error, HAW_CONFLICT, "The instance is not running");
    }
    pidfd = enter_pidfd(pid, error);
    if (pidfd < 0) {
        json_decref(request);
        return false;
    }
    json_object_set_new(request, "pid", json_integer(pid)); /* L1 */
    return forkcall(agent, "forkmount", request, &pidfd, 1, INJECT_WAIT_MS, NULL, NULL, NULL,
                    error);
}

bool
inject_mount(Agent *agent, Inst *inst, const InjectMount *mount, GError **error)
{
    json_t *request = json_pack("{s:s,s:s,s:b,s:b,s:b,s:b}", "source", mount->source, "target",
                                mount->target, "file", mount->file, "readonly", mount->readonly,
                                "recursive", mount->recursive, "idmap", mount->idmap);

    if (request == NULL) {
        return haw_fail(error, HAW_INVALID, "mount '%s': a path is no UTF-8 text", mount->target);
    }
    if (mount->propagation != NULL) {
        json_object_set_new(request, "propagation", json_string(mount->propagation));
    }
    return forkmount(agent, inst, request, error);
}

bool
inject_unmount(Agent *agent, Inst *inst, const char *target, bool file, GError **error)
{
    json_t *request = json_pack("{s:b,s:s,s:b}", "unmount", 1, "target", target, "file", file);

    if (request == NULL) {
        return haw_fail(error, HAW_INVALID, "unmount: a path is no UTF-8 text");
    }
    return forkmount(agent, inst, request, error);
}

/* The directory of the process in the hierarchy of 'controller', or (NULL) in the unified one.
 * NULL when there is none. */
static char *
cgroup_dir(pid_t pid, const char *controller)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int) pid);
    g_autofree char *text = fd_read_file(path, 65536, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);

    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) parts = g_strsplit(*line, ":", 3);
        if (g_strv_length(parts) != 3) {
            continue;
        }
        if (controller == NULL ? parts[1][0] == '\0' : false) {
            g_autofree char *pure = g_strdup_printf("/sys/fs/cgroup%s", parts[2]);
            g_autofree char *hybrid = g_strdup_printf("/sys/fs/cgroup/unified%s", parts[2]);
            return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0
                       ? g_steal_pointer(&pure)
                       : g_steal_pointer(&hybrid);
        }
        g_auto(GStrv) names = g_strsplit(parts[1], ",", -1);
        if (controller != NULL && g_strv_contains((const char *const *) names, controller)) {
            return g_strdup_printf("/sys/fs/cgroup/%s%s", parts[1], parts[2]);
        }
    }
    return NULL;
}

/* liblxc runs a container's init one level below its limits ("…/lxc.payload.c1/.lxc" or the like);
 * the files that hold the limits are in the first directory upwards that is not that one. */
static char *
limit_dir(char *dir)
{
    g_autofree char *base = g_path_get_basename(dir);

    if (g_str_equal(base, "init.scope") || g_str_equal(base, "ns") || g_str_equal(base, ".lxc")) {
        char *slash = strrchr(dir, '/');
        *slash = '\0';
    }
    return dir;
}

bool
inject_cgroup(Inst *inst, const char *controller, const char *v1_file, const char *v2_file,
              const char *value, GError **error)
{
    pid_t pid = inst_pid(inst);
    g_autofree char *dir = cgroup_dir(pid, controller);
    const char *file = v1_file;

    if (dir == NULL) {
        dir = cgroup_dir(pid, NULL);
        file = v2_file;
    }
    if (dir == NULL || file == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED, "no \"%s\" cgroup controller", controller);
    }
    g_autofree char *path = g_strdup_printf("%s/%s", limit_dir(dir), file);
    if (access(path, W_OK) < 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "no \"%s\" cgroup controller", controller);
    }
    return fd_write_kernel(path, value, error);
}

bool
inject_allow(Inst *inst, char kind, unsigned major_no, unsigned minor_no, bool allow,
             GError **error)
{
    g_autoptr(GError) failure = NULL;
    g_autofree char *rule = g_strdup_printf("%c %u:%u rwm", kind, major_no, minor_no);

    if (inject_cgroup(inst, "devices", allow ? "devices.allow" : "devices.deny", NULL, rule,
                      &failure) ||
        g_error_matches(failure, HAW_ERROR, HAW_UNSUPPORTED)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&failure));
    return haw_push(error, "%s device %s", allow ? "allow" : "deny", rule);
}
