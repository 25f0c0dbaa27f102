/* Injecting: the agent's side of changes in a running container's mounts and device permissions.
 * L1  The container is named by a pidfd that was opened while the instance said that this pid is its
 *     init, so a recycled pid is never entered.
 * L2  cgroup v1 and hybrid: the controller's own hierarchy. v2: devices are a BPF program there that
 *     liblxc holds, so a change goes through its command socket (`hawserd forkcgroup`).
 * Called by disk.c and unixdev.c. */
#include "agent/inst/inject.h"

#include "agent/auth/project.h"
#include "agent/inst/enter.h"
#include "agent/inst/forkcall.h"
#include "base/fd.h"
#include "base/proc.h"

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

bool
inject_cgroup(Inst *inst, CgController controller, const char *v1_file, const char *v2_file,
              const char *value, GError **error)
{
    int version = cgroup_version(controller);
    const char *file = version == 1 ? v1_file : v2_file;
    g_autoptr(Cgroup) group = cgroup_of_pid(inst_pid(inst), error);

    if (group == NULL) {
        return false;
    }
    if (version == 0 || file == NULL || !cgroup_has(group, controller, file)) {
        return haw_fail(error, HAW_UNSUPPORTED, "this host has no cgroup file \"%s\"",
                        file != NULL ? file : v2_file);
    }
    return cgroup_write(group, controller, file, value, error);
}

bool
inject_allow(Agent *agent, Inst *inst, char kind, unsigned major_no, unsigned minor_no, bool allow,
             GError **error)
{
    g_autofree char *rule = g_strdup_printf("%c %u:%u rwm", kind, major_no, minor_no);
    const char *item = allow ? "devices.allow" : "devices.deny";
    bool ok = true;

    if (cgroup_version(CG_DEVICES) == 1) {
        ok = inject_cgroup(inst, CG_DEVICES, item, NULL, rule, error);
    } else if (cgroup_version(CG_DEVICES) == 2) { /* L2 */
        g_autofree char *object = project_object_name(inst_project(inst), inst_name(inst));
        g_autofree char *path = agent_path(agent, "containers");
        g_autofree char *logs = inst_log_dir(inst);
        g_autofree char *conf = g_build_filename(logs, "lxc.conf", NULL);
        ok = proc_runv(NULL, error, agent->exe, "forkcgroup", object, path, conf, item, rule, NULL);
    }
    return ok || haw_push(error, "%s device %s", allow ? "allow" : "deny", rule);
}
