/* Templates of an image: metadata.yaml says which file of templates/ becomes which file of the root
 * filesystem, and when.
 * P1  The target path is resolved inside the root filesystem (openat2 RESOLVE_IN_ROOT): a symlink in
 *     an image can't lead a write out of it.
 *     metadata.yaml and what is below templates/ came with the image, too: they are read where they are plain
 *     files, with no link on the way.
 * P2  A template that is not there or does not parse fails the start, as in LXD.
 * P3  The disk of a virtual machine is not ours to write: what was rendered goes along in the config share, and
 *     the guest's agent puts it in place.
 * Called by start.c and vm/configshare.c; file work on a worker thread. */
#include "agent/inst/template.h"
#include "base/fd.h"
#include "proto/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TEMPLATE_MAX (1024 * 1024)

struct job {
    char *mount; /* owned, like all below */
    char *trigger;
    json_t *scope;
    gint64 uid, gid;  /* of the container's root on disk */
    json_t *rendered; /* owned; P3, or NULL: they are written below 'mount' */
    GError *error;
};

static int
open_in_root(int root, const char *path, int flags)
{
    struct open_how how = {
        .flags = (guint64) (flags | O_CLOEXEC),
        .mode = flags & O_CREAT ? 0644 : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    return (int) syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* The directories above 'path', made where they are missing; the directory itself is returned. */
static int
open_parent(const struct job *job, int root, const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GString) at = g_string_new(".");
    haw_autofd int fd = open_in_root(root, ".", O_PATH | O_DIRECTORY);
    for (char **part = parts; *part != NULL && part[1] != NULL && fd >= 0; part++) {
        if (**part == '\0') {
            continue;
        }
        g_string_append_printf(at, "/%s", *part);
        int next = open_in_root(root, at->str, O_PATH | O_DIRECTORY);
        if (next < 0 && errno == ENOENT && mkdirat(fd, *part, 0755) == 0) {
            if (fchownat(fd, *part, (uid_t) job->uid, (gid_t) job->gid, AT_SYMLINK_NOFOLLOW) < 0) {
                return -1;
            }
            next = open_in_root(root, at->str, O_PATH | O_DIRECTORY);
        }
        fd_close(&fd);
        fd = next;
    }
    return fd_steal(&fd);
}

static bool
write_target(struct job *job, int root, const char *path, const char *text, bool create_only)
{
    haw_autofd int parent = open_parent(job, root, path); /* P1 */
    if (parent < 0) {
        return haw_fail_errno(&job->error, errno, "Make the directory of '%s'", path);
    }
    haw_autofd int old = open_in_root(root, path, O_WRONLY | O_NONBLOCK);
    if (old >= 0 && create_only) {
        return true;
    }
    struct stat st;
    bool existed = old >= 0;
    int fd = existed ? fd_steal(&old) : open_in_root(root, path, O_WRONLY | O_CREAT | O_EXCL);
    haw_autofd int target = fd;
    if (target < 0 || fstat(target, &st) < 0) {
        return haw_fail_errno(&job->error, errno, "Write '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return haw_fail(&job->error, HAW_INVALID, "'%s' is no regular file", path);
    }
    if (!existed &&
        (fchown(target, (uid_t) job->uid, (gid_t) job->gid) < 0 || fchmod(target, 0644) < 0)) {
        return haw_fail_errno(&job->error, errno, "Own '%s'", path);
    }
    if (ftruncate(target, 0) < 0) {
        return haw_fail_errno(&job->error, errno, "Truncate '%s'", path);
    }
    return fd_write_all(target, text, strlen(text), path, &job->error);
}

static bool
wanted(const struct job *job, json_t *when)
{
    size_t i;
    json_t *item;
    json_array_foreach (when, i, item) {
        const char *word = json_string_value(item);
        if (g_strcmp0(word, "start") == 0 ||
            (job->trigger != NULL && g_strcmp0(word, job->trigger) == 0)) {
            return true;
        }
    }
    return false;
}

static bool
apply_one(struct job *job, int mount, int root, const char *path, json_t *template)
{
    const char *name = json_string_value(json_object_get(template, "template"));
    bool create_only = json_is_true(json_object_get(template, "create_only"));
    if (!wanted(job, json_object_get(template, "when"))) {
        return true;
    }
    if (name == NULL || strchr(name, '/') != NULL || *name == '.') {
        return haw_fail(&job->error, HAW_INVALID, "Invalid template name for '%s'", path);
    }
    g_autofree char *source = g_strdup_printf("templates/%s", name);
    g_autofree char *text = fd_read_plain(mount, source, TEMPLATE_MAX, NULL, &job->error);
    if (text == NULL) {
        return false;
    }
    json_t *properties = json_object_get(template, "properties");
    json_object_set_new(job->scope, "properties",
                        properties != NULL ? json_incref(properties) : json_object());
    json_object_set_new(job->scope, "path", json_string(path));
    json_object_set_new(job->scope, "trigger",
                        json_string(job->trigger != NULL ? job->trigger : "start"));
    g_autofree char *rendered = template_render(text, job->scope, &job->error);
    if (rendered == NULL || job->rendered == NULL) {
        return rendered != NULL && write_target(job, root, path, rendered, create_only);
    }
    json_array_append_new(job->rendered, json_pack("{s:s,s:s,s:b}", "path", path, "text", rendered,
                                                   "create_only", (int) create_only));
    return true;
}

static void
apply_run(void *data)
{
    struct job *job = data;
    gsize size;
    haw_autofd int mount = open(job->mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_autofree char *text = fd_read_plain(mount, "metadata.yaml", YAML_MAX_BYTES, &size, NULL);
    if (text == NULL || strstr(text, "templates") == NULL) {
        return;
    }
    json_t *metadata = yaml_to_json(text, size, yaml_text_keys, &job->error);
    if (metadata == NULL) {
        return;
    }
    haw_autofd int root =
        job->rendered == NULL
            ? openat(mount, "rootfs", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            : -1;
    const char *target;
    json_t *template;
    json_object_foreach (json_object_get(metadata, "templates"), target, template) {
        if (!apply_one(job, mount, root, target, template)) {
            break;
        }
    }
    json_decref(metadata);
}

static json_t *
scope_of(Inst *inst)
{
    json_t *container =
        json_pack("{s:s,s:s,s:s,s:b,s:b}", "name", inst->name, "type", inst->type, "architecture",
                  inst->architecture, "ephemeral", (int) inst->ephemeral, "privileged",
                  (int) inst_get_bool(inst, "security.privileged", false));
    return json_pack("{s:O,s:o,s:O,s:O}", "container", container, "instance", container, "config",
                     inst->expanded_config, "devices", inst->expanded_devices);
}

static bool
run(Inst *inst, struct job *job, const char *mount, const char *trigger, GError **error)
{
    job->mount = g_strdup(mount);
    job->trigger = g_strdup(trigger);
    job->scope = scope_of(inst);
    fiber_run(apply_run, job);
    g_free(job->mount);
    g_free(job->trigger);
    json_decref(job->scope);
    if (job->error != NULL) {
        g_propagate_error(error, job->error);
        return false;
    }
    return true;
}

bool
template_apply(Inst *inst, const char *mount, const GArray *map, bool idmapped, const char *trigger,
               GError **error)
{
    struct job job = {
        .uid = idmapped ? 0 : idmap_to_host(map, true, 0),
        .gid = idmapped ? 0 : idmap_to_host(map, false, 0),
    };
    return run(inst, &job, mount, trigger, error);
}

json_t *
template_collect(Inst *inst, const char *mount, const char *trigger, GError **error)
{
    struct job job = {.rendered = json_array()};
    if (!run(inst, &job, mount, trigger, error)) {
        json_decref(job.rendered);
        return NULL;
    }
    return job.rendered;
}
