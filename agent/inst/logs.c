/* Log files of an instance: what liblxc, commands and migrations left in <dir>/logs/NAME/.
 * Only names of LXD's list are shown, read or deleted; a name never holds a slash (server.h's routes
 * split before they decode), and a symbolic link is not followed. Handlers run in fibers. */
#include "agent/inst/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "agent/inst/inst.h"
#include "base/fd.h"

static bool
known_name(const char *name)
{
    static const char *const exact[] = {"lxc.log", "lxc.conf", "qemu.log", NULL};

    return strchr(name, '/') == NULL &&
           (g_strv_contains(exact, name) || g_str_has_prefix(name, "migration_") ||
            g_str_has_prefix(name, "snapshot_") || g_str_has_prefix(name, "exec_"));
}

static Inst *
find_instance(Request *req, GError **error)
{
    return inst_find(req_agent(req)->instances, req_project(req), req_arg(req, "name"), error);
}

static bool
handle_list(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);

    if (inst == NULL) {
        return false;
    }
    g_autofree char *path = inst_log_dir(inst);
    GDir *dir = g_dir_open(path, 0, NULL);
    json_t *list = json_array();
    const char *name;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        if (known_name(name)) {
            json_array_append_new(list,
                                  json_sprintf("/1.0/instances/%s/logs/%s", inst_name(inst), name));
        }
    }
    if (dir != NULL) {
        g_dir_close(dir);
    }
    return req_reply(req, list);
}

/* The file that the request names; caller frees. */
static char *
asked_file(Request *req, Inst *inst, GError **error)
{
    const char *name = req_arg(req, "file");

    if (!known_name(name)) {
        haw_fail(error, HAW_INVALID, "Log file name \"%s\" not valid", name);
        return NULL;
    }
    g_autofree char *dir = inst_log_dir(inst);
    return g_build_filename(dir, name, NULL);
}

static bool
handle_get(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    g_autofree char *path = inst != NULL ? asked_file(req, inst, error) : NULL;

    if (path == NULL) {
        return false;
    }
    haw_autofd int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open log file \"%s\"", req_arg(req, "file"));
    }
    event_lifecycle(req_agent(req), inst_project(inst), req_caller(req),
                    json_pack("{s:s}", "file", req_arg(req, "file")), "instance-log-retrieved",
                    "/1.0/instances/%s", inst_name(inst));
    return req_reply_fd(req, &fd, "application/octet-stream", req_arg(req, "file"), NULL);
}

static bool
handle_delete(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    g_autofree char *path = inst != NULL ? asked_file(req, inst, error) : NULL;

    if (path == NULL) {
        return false;
    }
    if (g_str_equal(req_arg(req, "file"), "lxc.log") ||
        g_str_equal(req_arg(req, "file"), "lxc.conf")) {
        return haw_fail(error, HAW_INVALID, "lxc.log and lxc.conf may not be deleted");
    }
    if (unlink(path) < 0) {
        return haw_fail_errno(error, errno, "delete log file \"%s\"", req_arg(req, "file"));
    }
    event_lifecycle(req_agent(req), inst_project(inst), req_caller(req),
                    json_pack("{s:s}", "file", req_arg(req, "file")), "instance-log-deleted",
                    "/1.0/instances/%s", inst_name(inst));
    return req_reply(req, NULL);
}

const Route logs_routes[] = {
    INST_ROUTES("GET", "/{name}/logs", handle_list, 0),
    INST_ROUTES("GET", "/{name}/logs/{file}", handle_get, 0),
    INST_ROUTES("DELETE", "/{name}/logs/{file}", handle_delete, 0),
    {NULL},
};
