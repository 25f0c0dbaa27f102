/* /1.0/images: decode, call the owner, encode.
 * W1  A caller that isn't trusted sees public images only, and a private one only with the secret of
 *     a token operation (POST …/secret). It may send an image only when its token asks for that one.
 * W2  Every change that takes long is an operation; what can be refused at once is, before it.
 * Aliases are in alias_api.c. */
#include "agent/image/image.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/image/archive.h"
#include "agent/image/fetch.h"
#include "agent/image/image_view.h"
#include "agent/image/intake.h"
#include "agent/image/publish.h"
#include "agent/image/remote.h"
#include "agent/image/upkeep.h"
#include "agent/state/images.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- GET ---- */
static bool
list_images(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(Filter) filter = filter_parse(req_query(req, "filter"), error);
    if (filter == NULL) {
        return false;
    }
    json_auto_t *list = image_view_list(req, error);
    if (list == NULL) {
        return false;
    }

    json_auto_t *out = json_array();
    size_t i;
    json_t *image;
    const char *project = project_for_images(agent, req_project(req));
    json_array_foreach (list, i, image) {
        if (!filter_matches(filter, image)) {
            continue;
        }
        if (req_recursion(req) > 0) {
            json_array_append(out, image);
            continue;
        }
        g_autofree char *url = image_view_url(project, image);
        json_array_append_new(out, json_string(url));
    }
    return req_reply(req, json_incref(out));
}

static bool
get_image(Request *req, GError **error)
{
    json_auto_t *image = image_view_find(req, NULL, error);
    if (image == NULL) {
        return false;
    }
    json_auto_t *shown = image_view_shown(image);
    return req_reply_etag(req, json_incref(shown), image_view_tag(image));
}

/* One file, or two as multipart. The descriptors are given to the reply. */
static bool
reply_files(Request *req, json_t *image, GError **error)
{
    Agent *agent = req_agent(req);
    const char *fingerprint = image_text(image, "fingerprint");
    g_autofree char *meta_path = image_file(agent, fingerprint, false);
    g_autofree char *root_path = image_file(agent, fingerprint, true);
    haw_autofd int meta = open(meta_path, O_RDONLY | O_CLOEXEC);
    haw_autofd int root = open(root_path, O_RDONLY | O_CLOEXEC);
    if (meta < 0) {
        return haw_fail(error, HAW_IO, "The file of image \"%s\" is missing", fingerprint);
    }

    const char *extension = archive_extension(meta);
    g_autofree char *name = g_strconcat(fingerprint, extension ? extension : "", NULL);
    if (root < 0) {
        return req_reply_fd(req, &meta, "application/octet-stream", name, NULL);
    }
    const char *root_extension = archive_extension(root);
    g_autofree char *meta_name = g_strconcat("meta-", name, NULL);
    g_autofree char *root_name =
        g_strconcat(fingerprint, root_extension ? root_extension : "", NULL);
    bool vm = strcmp(image_text(image, "type"), "virtual-machine") == 0;
    ReplyPart parts[] = {{"metadata", meta_name, fd_steal(&meta)},
                         {vm ? "rootfs.img" : "rootfs", root_name, fd_steal(&root)}};
    return req_reply_multipart(req, parts, G_N_ELEMENTS(parts));
}

static bool
export_image(Request *req, GError **error)
{
    Operation *token = NULL;
    json_auto_t *image = image_view_find(req, &token, error);
    if (image == NULL) {
        return false;
    }
    if (token != NULL) {
        op_end_token(token);
    }
    event_lifecycle(req_agent(req), image_text(image, "project"), req_caller(req), NULL,
                    "image-retrieved", "/1.0/images/%s", image_text(image, "fingerprint"));
    return reply_files(req, image, error);
}

/* ---- PUT, PATCH ---- */
static bool
check_profiles(Agent *agent, const char *project, json_t *profiles, GError **error)
{
    size_t i;
    json_t *name;
    if (profiles != NULL && !json_is_null(profiles) && !json_is_array(profiles)) {
        return haw_fail(error, HAW_INVALID, "\"profiles\" must be a list");
    }
    json_array_foreach (profiles, i, name) {
        const char *text = json_string_value(name);
        json_auto_t *profile =
            text != NULL ? profile_load(agent, project_for_profiles(agent, project), text, NULL)
                         : NULL;
        if (profile == NULL) {
            return haw_fail(error, HAW_INVALID, "Profile '%s' doesn't exist", text ? text : "");
        }
    }
    return true;
}

static bool
check_properties(json_t *properties, GError **error)
{
    const char *key;
    json_t *value;
    if (properties != NULL && !json_is_null(properties) && !json_is_object(properties)) {
        return haw_fail(error, HAW_INVALID, "\"properties\" must be a map");
    }
    json_object_foreach (properties, key, value) {
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "The property \"%s\" must be text", key);
        }
    }
    return true;
}

/* ImagePut's part of a request, held against its types. */
static bool
check_put(Agent *agent, const char *project, json_t *body, GError **error)
{
    gint64 ignored;
    json_t *expires = json_object_get(body, "expires_at");
    if (!json_is_object(body)) {
        return haw_fail(error, HAW_INVALID, "The request must be a map");
    }
    if (expires != NULL && !json_is_null(expires) &&
        (!json_is_string(expires) || !clock_parse(json_string_value(expires), &ignored))) {
        return haw_fail(error, HAW_INVALID, "Invalid expiry date");
    }
    static const char *const flags[] = {"public", "auto_update", NULL};
    for (int i = 0; flags[i] != NULL; i++) {
        json_t *flag = json_object_get(body, flags[i]);
        if (flag != NULL && !json_is_null(flag) && !json_is_boolean(flag)) {
            return haw_fail(error, HAW_INVALID, "\"%s\" must be true or false", flags[i]);
        }
    }
    return check_properties(json_object_get(body, "properties"), error) &&
           check_profiles(agent, project, json_object_get(body, "profiles"), error);
}

struct update_job {
    const char *project;
    json_t *image;
};

static bool
update_row(DbTx *tx, void *data, GError **error)
{
    struct update_job *job = data;
    return images_update(tx, job->project, job->image, error);
}

static bool
store(Request *req, json_t *image, GError **error)
{
    Agent *agent = req_agent(req);
    struct update_job job = {.project = image_text(image, "project"), .image = image};
    if (!db_write(agent->db, update_row, &job, error)) {
        return false;
    }
    event_lifecycle(agent, job.project, req_caller(req), NULL, "image-updated", "/1.0/images/%s",
                    image_text(image, "fingerprint"));
    return req_reply(req, NULL);
}

static void
set_flag(json_t *image, json_t *body, const char *key, bool keep)
{
    json_t *flag = json_object_get(body, key);
    if (json_is_boolean(flag) || !keep) {
        json_object_set_new(image, key, json_boolean(json_is_true(flag)));
    }
}

/* "lxc image unset-property" sends an empty value. */
static void
drop_empty(json_t *properties)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe (properties, next, key, value) {
        if (json_string_length(value) == 0) {
            json_object_del(properties, key);
        }
    }
}

static bool
change_image(Request *req, GError **error)
{
    bool patch = req_patches(req);
    Agent *agent = req_agent(req);
    json_t *body = req_json(req);
    json_auto_t *image = image_view_find(req, NULL, error);
    if (image == NULL || !req_check_etag(req, image_view_tag(image), error) ||
        !check_put(agent, req_project(req), body, error)) {
        return false;
    }

    set_flag(image, body, "public", patch);
    set_flag(image, body, "auto_update", patch);
    json_t *properties = json_object_get(body, "properties");
    if (patch) {
        json_object_update(json_object_get(image, "properties"), properties);
    } else {
        json_object_set_new(image, "properties",
                            json_is_object(properties) ? json_incref(properties) : json_object());
    }
    drop_empty(json_object_get(image, "properties"));
    if (json_is_string(json_object_get(body, "expires_at"))) {
        json_object_set(image, "expires_at", json_object_get(body, "expires_at"));
    }
    if (json_is_array(json_object_get(body, "profiles"))) {
        json_object_set(image, "profiles", json_object_get(body, "profiles"));
    }
    return store(req, image, error);
}

/* ---- operations on one image ---- */
struct task {
    Agent *agent; /* borrowed */
    char *project;
    json_t *image, *request; /* owned; request may be NULL */
};

static void
task_free(void *data)
{
    struct task *task = data;
    g_free(task->project);
    json_decref(task->image);
    json_decref(task->request);
    g_free(task);
}

static struct task *
task_new(Request *req, json_t *image, json_t *request)
{
    struct task *task = g_new0(struct task, 1);
    task->agent = req_agent(req);
    task->project = g_strdup(image_text(image, "project"));
    task->image = json_incref(image);
    task->request = json_incref(request);
    return task;
}

static json_t *
resources_of(json_t *image)
{
    g_autofree char *url = g_strconcat("/1.0/images/", image_text(image, "fingerprint"), NULL);
    return json_pack("{s:[s]}", "images", url);
}

static bool
run_delete(Operation *op, void *data, GError **error)
{
    struct task *task = data;
    const char *fingerprint = image_text(task->image, "fingerprint");
    if (!image_delete(task->agent->images, task->project, fingerprint, error)) {
        return false;
    }
    event_lifecycle(task->agent, task->project, op_caller(op), NULL, "image-deleted",
                    "/1.0/images/%s", fingerprint);
    return true;
}

static bool
run_refresh(Operation *op, void *data, GError **error)
{
    struct task *task = data;
    bool refreshed;
    if (!upkeep_refresh(task->agent, op, task->project, task->image, &refreshed, error)) {
        return false;
    }
    op_update(op, json_pack("{s:b}", "refreshed", (int) refreshed));
    return true;
}

static bool
run_push(Operation *op, void *data, GError **error)
{
    struct task *task = data;
    return remote_push(task->agent, op, task->image, task->request, error);
}

static bool
start_task(Request *req, const char *description, OpFn fn, json_t *request, GError **error)
{
    json_auto_t *image = image_view_find(req, NULL, error);
    if (image == NULL) {
        return false;
    }
    return op_reply(
        req, (OpSpec){.class = OP_TASK,
                      .description = description,
                      .project = req_project(req), /* its events go where the caller listens */
                      .resources = resources_of(image),
                      .fn = fn,
                      .data = task_new(req, image, request),
                      .free_data = task_free});
}

static bool
delete_image(Request *req, GError **error)
{
    return start_task(req, "Deleting image", run_delete, NULL, error);
}

static bool
refresh_image(Request *req, GError **error)
{
    return start_task(req, "Refreshing image", run_refresh, NULL, error);
}

static bool
push_image(Request *req, GError **error)
{
    json_t *request = req_json(req);
    if (!json_is_object(request) || *image_text(request, "target") == '\0') {
        return haw_fail(error, HAW_INVALID, "Missing target server");
    }
    return start_task(req, "Downloading image", run_push, request, error);
}

static bool
make_secret(Request *req, GError **error)
{
    json_auto_t *image = image_view_find(req, NULL, error);
    return image != NULL && image_view_token(req, image_text(image, "project"),
                                             image_text(image, "fingerprint"), json_object());
}

/* The test hook of LXD's suite: what happens each images.auto_update_interval, now. */
static bool
refresh_all(Request *req, GError **error)
{
    return upkeep_update_all(req_agent(req), NULL, error) && req_reply(req, NULL);
}

const Route image_routes[] = {
    {"GET", "/internal/testing/image-refresh", refresh_all, ROUTE_SOCKET},
    {"GET", "/1.0/images", list_images, ROUTE_UNTRUSTED},
    {"GET", "/1.0/images/{fingerprint}", get_image, ROUTE_UNTRUSTED},
    {"PUT", "/1.0/images/{fingerprint}", change_image, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/images/{fingerprint}", change_image, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/images/{fingerprint}", delete_image, 0},
    {"GET", "/1.0/images/{fingerprint}/export", export_image, ROUTE_UNTRUSTED},
    {"POST", "/1.0/images/{fingerprint}/export", push_image, ROUTE_BODY_JSON},
    {"POST", "/1.0/images/{fingerprint}/secret", make_secret, 0},
    {"POST", "/1.0/images/{fingerprint}/refresh", refresh_image, 0},
    {"POST", "/1.0/images", image_import, ROUTE_UNTRUSTED | ROUTE_BODY_JSON | ROUTE_BODY_FILE},
    {.method = NULL},
};
