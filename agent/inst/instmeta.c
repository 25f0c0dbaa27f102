/* An instance's metadata.yaml and templates/, as they came with its image and as people edit them.
 * J1  Both lie in the instance's volume, beside rootfs/, where the container cannot reach; what an
 *     image brought is still opened below the volume only, with no symbolic link on the way, and only
 *     where it is a plain file: nobody waits for a pipe.
 * J2  A new metadata.yaml replaces the old one by rename: a crash leaves one of the two.
 * Handlers run in fibers; the volume is mounted for the call. */
#include "agent/inst/instmeta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "base/confine.h"
#include "agent/inst/inst.h"
#include "base/fd.h"
#include "proto/yaml.h"

#define INSTMETA_TEMPLATE_MAX (1024 * 1024)

typedef struct {
    Agent *agent; /* borrowed */
    Inst *inst;   /* shares */
    Vol vol;
    char *path;
    int dir; /* owns, O_PATH */
} Volume;

static void
volume_clear(Volume *volume)
{
    if (volume->path != NULL) {
        fd_close(&volume->dir);
        vol_unmount(volume->agent->pools, &volume->vol, NULL);
        g_free(g_steal_pointer(&volume->path));
    }
    g_clear_pointer(&volume->inst, inst_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Volume, volume_clear)

static bool
volume_open(Request *req, Volume *volume, GError **error)
{
    volume->agent = req_agent(req);
    volume->inst =
        inst_find(volume->agent->instances, req_project(req), req_arg(req, "name"), error);
    if (volume->inst == NULL || !inst_volume(volume->inst, &volume->vol, error) ||
        !vol_mount(volume->agent->pools, &volume->vol, &volume->path, error)) {
        return false;
    }
    volume->dir = open(volume->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return volume->dir >= 0 || haw_fail_errno(error, errno, "open '%s'", volume->path);
}

static void
announce(Request *req, Volume *volume, const char *action, const char *template_name)
{
    json_t *context = template_name != NULL ? json_pack("{s:s}", "path", template_name) : NULL;

    event_lifecycle(volume->agent, inst_project(volume->inst), req_caller(req), context, action,
                    "/1.0/instances/%s", inst_name(volume->inst));
}

/* ---- metadata.yaml ---- */

/* What LXD always shows, for images that leave it out. */
static void
fill_in(json_t *metadata)
{
    if (!json_is_object(json_object_get(metadata, "properties"))) {
        json_object_set_new(metadata, "properties", json_object());
    }
    if (!json_is_object(json_object_get(metadata, "templates"))) {
        json_object_set_new(metadata, "templates", json_object());
    }
}

static json_t *
load(Volume *volume, GError **error)
{
    static const char *const text_keys[] = {"properties", NULL};
    g_autoptr(GError) failure = NULL;
    size_t size = 0;
    g_autofree char *text =
        fd_read_plain(volume->dir, "metadata.yaml", YAML_MAX_BYTES, &size, &failure);
    json_t *metadata;

    if (text == NULL && haw_code(failure) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return NULL;
    }
    metadata = text != NULL ? yaml_to_json(text, size, text_keys, error) : json_object();
    if (metadata != NULL && !json_is_object(metadata)) {
        json_decref(metadata);
        metadata = json_object();
    }
    if (metadata != NULL) {
        fill_in(metadata);
    }
    return metadata;
}

static bool
store(Volume *volume, json_t *metadata, GError **error)
{
    g_autofree char *text = yaml_from_json(metadata);
    g_autofree char *path = g_build_filename(volume->path, "metadata.yaml", NULL);

    return fd_write_atomic(path, text, strlen(text), 0644, error); /* J2 */
}

static bool
check(json_t *metadata, GError **error)
{
    json_t *value;
    const char *name;

    if (!json_is_object(metadata)) {
        return haw_fail(error, HAW_INVALID, "The metadata is no object");
    }
    value = json_object_get(metadata, "architecture");
    if (value != NULL && !json_is_string(value)) {
        return haw_fail(error, HAW_INVALID, "The architecture is no text");
    }
    json_object_foreach (json_object_get(metadata, "properties"), name, value) {
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Property \"%s\" is no text", name);
        }
    }
    json_object_foreach (json_object_get(metadata, "templates"), name, value) {
        if (name[0] != '/' || !json_is_object(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid template \"%s\"", name);
        }
    }
    return true;
}

static bool
handle_get(Request *req, GError **error)
{
    g_auto(Volume) volume = {.dir = -1};
    json_t *metadata = volume_open(req, &volume, error) ? load(&volume, error) : NULL;

    if (metadata == NULL) {
        return false;
    }
    announce(req, &volume, "instance-metadata-retrieved", NULL);
    return req_reply_etag(req, metadata, json_incref(metadata));
}

static bool
change(Request *req, GError **error)
{
    bool merge = req_patches(req);
    g_auto(Volume) volume = {.dir = -1};
    json_t *old = volume_open(req, &volume, error) ? load(&volume, error) : NULL;
    const char *name;
    json_t *value;

    if (old == NULL) {
        return false;
    }
    bool ok = req_check_etag(req, json_incref(old), error);
    json_t *metadata = merge ? json_deep_copy(old) : json_object();
    json_object_foreach (req_json(req), name, value) {
        json_object_set(metadata, name, value);
    }
    json_decref(old);
    ok = ok && check(metadata, error) && store(&volume, metadata, error);
    json_decref(metadata);
    if (!ok) {
        return false;
    }
    announce(req, &volume, "instance-metadata-updated", NULL);
    return req_reply(req, NULL);
}

/* ---- templates ---- */

/* "templates/<name>", or NULL when it is no template's name. Caller frees. */
static char *
template_path(const char *name, GError **error)
{
    if (name[0] == '\0' || strchr(name, '/') != NULL || !g_str_has_suffix(name, ".tpl")) {
        haw_fail(error, HAW_INVALID, "Invalid template filename");
        return NULL;
    }
    return g_strconcat("templates/", name, NULL);
}

static bool
list_templates(Request *req, Volume *volume, GError **error)
{
    json_t *list = json_array();
    int fd = confine_open(volume->dir, "templates", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            json_array_append_new(list, json_string(entry->d_name));
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return req_reply(req, list);
}

static bool
handle_templates(Request *req, GError **error)
{
    g_auto(Volume) volume = {.dir = -1};
    const char *name = req_query(req, "path");
    size_t size = 0;

    if (!volume_open(req, &volume, error)) {
        return false;
    }
    if (name == NULL || name[0] == '\0') {
        return list_templates(req, &volume, error);
    }
    g_autofree char *path = template_path(name, error);
    g_autofree char *text =
        path != NULL ? fd_read_plain(volume.dir, path, YAML_MAX_BYTES, &size, error) : NULL;
    if (text == NULL) {
        return false;
    }
    announce(req, &volume, "instance-metadata-template-retrieved", name);
    return req_reply_bytes(req, 200, "application/octet-stream", text, size, NULL);
}

static bool
copy_body(Request *req, int to, const char *path, GError **error)
{
    char buffer[16384];
    gint64 total = 0;
    ssize_t n;

    while (req_body_fd(req) >= 0 && (n = read(req_body_fd(req), buffer, sizeof(buffer))) > 0) {
        total += n;
        if (total > INSTMETA_TEMPLATE_MAX) {
            return haw_fail(error, HAW_LIMIT, "Template \"%s\" is larger than 1 MiB", path);
        }
        if (!fd_write_all(to, buffer, (size_t) n, path, error)) {
            return false;
        }
    }
    return true;
}

static bool
handle_template_post(Request *req, GError **error)
{
    g_auto(Volume) volume = {.dir = -1};
    const char *name = req_query(req, "path");

    if (name == NULL || name[0] == '\0') {
        return haw_fail(error, HAW_INVALID, "missing path argument");
    }
    g_autofree char *path = template_path(name, error);
    if (path == NULL || !volume_open(req, &volume, error)) {
        return false;
    }
    if (!confine_mkdir_p(volume.dir, "templates", 0711)) {
        return haw_fail_errno(error, errno, "make the directory of templates");
    }
    haw_autofd int fd = confine_plain(volume.dir, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open template \"%s\"", name);
    }
    if (!copy_body(req, fd, name, error)) {
        return false;
    }
    announce(req, &volume, "instance-metadata-template-created", name);
    return req_reply(req, NULL);
}

static bool
handle_template_delete(Request *req, GError **error)
{
    g_auto(Volume) volume = {.dir = -1};
    const char *name = req_query(req, "path");

    if (name == NULL || name[0] == '\0') {
        return haw_fail(error, HAW_INVALID, "missing path argument");
    }
    g_autofree char *path = template_path(name, error);
    if (path == NULL || !volume_open(req, &volume, error)) {
        return false;
    }
    haw_autofd int dir =
        confine_open(volume.dir, "templates", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
    if (dir < 0 || unlinkat(dir, name, 0) < 0) {
        return haw_fail_errno(error, errno, "delete template \"%s\"", name);
    }
    announce(req, &volume, "instance-metadata-template-deleted", name);
    return req_reply(req, NULL);
}

const Route instmeta_routes[] = {
    INST_ROUTES("GET", "/{name}/metadata", handle_get, 0),
    INST_ROUTES("PUT", "/{name}/metadata", change, ROUTE_BODY_JSON),
    INST_ROUTES("PATCH", "/{name}/metadata", change, ROUTE_BODY_JSON),
    INST_ROUTES("GET", "/{name}/metadata/templates", handle_templates, 0),
    INST_ROUTES("POST", "/{name}/metadata/templates", handle_template_post, ROUTE_BODY_FILE),
    INST_ROUTES("DELETE", "/{name}/metadata/templates", handle_template_delete, 0),
    {NULL},
};
