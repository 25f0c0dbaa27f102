/* Images of other servers.
 * R1  What arrives is believed only when its fingerprint is the one that was asked for.
 * R2  A private image needs its secret at each step; secrets never get into a log or a row.
 * Protocol "lxd" is LXD's (and Hawser's) REST API, "simplestreams" a tree of static files (streams.c),
 * "direct" one URL whose fingerprint is known.
 * Called by image.c (downloads), image_api.c (push).  Main loop, fibers. */
#include "agent/image/remote.h"

#include "agent/image/fetch.h"
#include "agent/image/streams.h"
#include "agent/state/images.h"
#include "base/clock.h"

#include <string.h>
#include <unistd.h>

json_t *
remote_source_json(const RemoteSource *source)
{
    return json_pack("{s:s,s:s,s:s,s:s,s:s}", "server", source->server, "protocol",
                     source->protocol != NULL ? source->protocol : "lxd", "certificate",
                     source->certificate != NULL ? source->certificate : "", "alias",
                     source->alias != NULL ? source->alias : "", "image_type",
                     source->image_type != NULL ? source->image_type : "");
}

static bool
is_streams(const RemoteSource *source)
{
    return g_strcmp0(source->protocol, "simplestreams") == 0;
}

static bool
protocol_known(const RemoteSource *source, GError **error)
{
    if (source->protocol == NULL || *source->protocol == '\0' ||
        strcmp(source->protocol, "lxd") == 0 || is_streams(source)) {
        return true;
    }
    return haw_fail(error, HAW_INVALID, "Unsupported protocol: %s", source->protocol);
}

/* "<server>/1.0/<path>?project=…&secret=…"; caller frees. */
static char *
lxd_url(const RemoteSource *source, const char *path)
{
    g_autofree char *base = g_strdup(source->server);
    for (size_t n = strlen(base); n > 0 && base[n - 1] == '/'; n--) {
        base[n - 1] = '\0';
    }
    g_autoptr(GString) url = g_string_new(base);
    g_string_append_printf(url, "/1.0/%s", path);
    char mark = '?';
    if (source->project != NULL && *source->project != '\0') {
        g_autofree char *project = g_uri_escape_string(source->project, NULL, TRUE);
        g_string_append_printf(url, "%cproject=%s", mark, project);
        mark = '&';
    }
    if (source->secret != NULL && *source->secret != '\0') { /* R2 */
        g_autofree char *secret = g_uri_escape_string(source->secret, NULL, TRUE);
        g_string_append_printf(url, "%csecret=%s", mark, secret);
    }
    return g_string_free(g_steal_pointer(&url), FALSE);
}

/* Errors name the server, not the URL with its secret. R2 */
static bool
hide_url(GError **error, const char *url, const RemoteSource *source)
{
    const char *at = error != NULL && *error != NULL ? strstr((*error)->message, url) : NULL;
    if (at != NULL) {
        g_autofree char *before = g_strndup((*error)->message, (gsize) (at - (*error)->message));
        char *text = g_strconcat(before, source->server, at + strlen(url), NULL);
        g_free((*error)->message);
        (*error)->message = text;
    }
    return false;
}

static json_t *
lxd_get(Agent *agent, const RemoteSource *source, const char *path, GError **error)
{
    g_autofree char *url = lxd_url(source, path);
    FetchSpec spec = {.url = url, .certificate = source->certificate, .out_fd = -1};
    json_t *json = fetch_json(agent, &spec, true, error);
    if (json == NULL) {
        hide_url(error, url, source);
    }
    return json;
}

static json_t *
lxd_image(Agent *agent, const RemoteSource *source, const char *name, GError **error)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, TRUE);
    g_autofree char *path = g_strconcat("images/", escaped, NULL);
    return lxd_get(agent, source, path, error);
}

static char *
lxd_fingerprint(Agent *agent, const RemoteSource *source, GError **error)
{
    g_autoptr(GError) no_alias = NULL;
    g_autofree char *escaped = g_uri_escape_string(source->alias, NULL, TRUE);
    g_autofree char *path = g_strconcat("images/aliases/", escaped, NULL);
    json_auto_t *alias = source->secret == NULL ? lxd_get(agent, source, path, &no_alias) : NULL;
    const char *target = json_string_value(json_object_get(alias, "target"));
    if (target != NULL) {
        return g_strdup(target);
    }
    if (no_alias != NULL && haw_code(no_alias) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&no_alias));
        return NULL;
    }
    json_auto_t *image = lxd_image(agent, source, source->alias, error);
    return g_strdup(json_string_value(json_object_get(image, "fingerprint")));
}

static bool
fingerprint_fine(const char *text)
{
    return text != NULL && strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

char *
remote_fingerprint(Agent *agent, const RemoteSource *source, GError **error)
{
    if (!protocol_known(source, error)) {
        return NULL;
    }
    g_autofree char *fingerprint = NULL;
    if (is_streams(source)) {
        g_auto(StreamsItem) item = {0};
        if (!streams_find(agent, source, source->alias, &item, error)) {
            return NULL;
        }
        fingerprint = g_steal_pointer(&item.fingerprint);
    } else {
        fingerprint = lxd_fingerprint(agent, source, error);
        if (fingerprint == NULL) {
            return NULL;
        }
    }
    if (!fingerprint_fine(fingerprint)) { /* It becomes a file's name. */
        haw_fail(error, HAW_CORRUPT, "'%s': the server's fingerprint is none", source->server);
        return NULL;
    }
    return g_steal_pointer(&fingerprint);
}

/* One file into fd; 200 only. */
static bool
download(Agent *agent, const RemoteSource *source, const char *url, int fd, Meter *meter,
         gint64 offset, FetchReply *ret_reply, GError **error)
{
    FetchSpec spec = {.url = url,
                      .certificate = source->certificate,
                      .out_fd = fd,
                      .meter = meter,
                      .offset = offset};
    g_auto(FetchReply) reply = {0};
    if (!fetch(agent, &spec, &reply, error)) {
        return hide_url(error, url, source);
    }
    if (reply.status != 200) {
        return haw_fail(error, reply.status == 404 ? HAW_NOT_FOUND : HAW_UNAVAILABLE,
                        "'%s': the server answered %d for the image", source->server, reply.status);
    }
    if (ret_reply != NULL) {
        *ret_reply = reply;
        memset(&reply, 0, sizeof reply);
    }
    return true;
}

static bool
lxd_files(Agent *agent, Operation *op, const RemoteSource *source, const char *fingerprint,
          Intake *intake, GError **error)
{
    g_autofree char *path = g_strdup_printf("images/%s/export", fingerprint);
    g_autofree char *url = lxd_url(source, path);
    g_autoptr(Meter) meter = meter_start(op, "download_progress", "rootfs");
    /* The answer is one file or a multipart body; only its header tells. */
    g_autoptr(Intake) body = intake_new(agent);
    g_auto(FetchReply) reply = {0};
    int fd = intake_meta_fd(body, error);
    return fd >= 0 && download(agent, source, url, fd, meter, 0, &reply, error) &&
           intake_take_body(intake, fd, reply.content_type, reply.filename, error);
}

static bool
streams_files(Agent *agent, Operation *op, const RemoteSource *source, const StreamsItem *item,
              Intake *intake, GError **error)
{
    int meta = intake_meta_fd(intake, error);
    int root = meta >= 0 ? intake_rootfs_fd(intake, error) : -1;
    if (root < 0) {
        return false;
    }
    const char *server = source->server;
    const char *slash = g_str_has_suffix(server, "/") ? "" : "/";
    g_autofree char *meta_url = g_strconcat(server, slash, item->meta_path, NULL);
    g_autofree char *root_url = g_strconcat(server, slash, item->root_path, NULL);
    g_autoptr(Meter) meter = meter_start(op, "download_progress", "rootfs");
    meter_set_total(meter, item->meta_size + item->root_size);
    g_autofree char *filename = g_path_get_basename(item->meta_path);
    intake_set_type(intake, item->type);
    intake_set_filename(intake, filename);
    return download(agent, source, meta_url, meta, meter, 0, NULL, error) &&
           download(agent, source, root_url, root, meter, MAX(item->meta_size, 1), NULL, error);
}

/* What the server says of its image is worth more than the file's own metadata. */
static void
apply_lxd_image(json_t *image, json_t *theirs)
{
    static const char *const keys[] = {"properties", "created_at", "expires_at", NULL};
    for (int i = 0; keys[i] != NULL; i++) {
        json_t *value = json_object_get(theirs, keys[i]);
        if (value != NULL && json_typeof(value) == json_typeof(json_object_get(image, keys[i]))) {
            json_object_set(image, keys[i], value);
        }
    }
}

static void
apply_item(json_t *image, const StreamsItem *item)
{
    json_object_set(image, "properties", item->properties);
    if (item->created_at > 0) {
        g_autofree char *created = clock_format(item->created_at);
        json_object_set_new(image, "created_at", json_string(created));
    }
}

static bool
download_lxd(Agent *agent, Operation *op, const RemoteSource *source, const char *fingerprint,
             Intake *intake, GError **error)
{
    json_auto_t *theirs = lxd_image(agent, source, fingerprint, error);
    if (theirs == NULL || !lxd_files(agent, op, source, fingerprint, intake, error)) {
        return false;
    }
    if (!intake_inspect(intake, NULL, fingerprint, error)) { /* R1 */
        return false;
    }
    apply_lxd_image(intake_image(intake), theirs);
    return true;
}

static bool
download_streams(Agent *agent, Operation *op, const RemoteSource *source, const char *fingerprint,
                 Intake *intake, GError **error)
{
    g_auto(StreamsItem) item = {0};
    if (!streams_find(agent, source, fingerprint, &item, error) ||
        !streams_files(agent, op, source, &item, intake, error) ||
        !intake_inspect(intake, NULL, fingerprint, error)) { /* R1 */
        return false;
    }
    apply_item(intake_image(intake), &item);
    return true;
}

static bool
download_direct(Agent *agent, Operation *op, const RemoteSource *source, const char *fingerprint,
                Intake *intake, GError **error)
{
    g_autoptr(Meter) meter = meter_start(op, "download_progress", "rootfs");
    g_autofree char *filename = g_path_get_basename(source->server);
    int fd = intake_meta_fd(intake, error);
    intake_set_filename(intake, filename);
    return fd >= 0 && download(agent, source, source->server, fd, meter, 0, NULL, error) &&
           intake_inspect(intake, NULL, fingerprint, error); /* R1 */
}

Intake *
remote_download(Agent *agent, Operation *op, const RemoteSource *source, const char *fingerprint,
                GError **error)
{
    g_autoptr(Intake) intake = intake_new(agent);
    bool ok;
    if (g_strcmp0(source->protocol, "direct") == 0) {
        ok = download_direct(agent, op, source, fingerprint, intake, error);
    } else if (is_streams(source)) {
        ok = download_streams(agent, op, source, fingerprint, intake, error);
    } else {
        ok = download_lxd(agent, op, source, fingerprint, intake, error);
    }
    return ok ? g_steal_pointer(&intake) : NULL;
}

/* ---- push ---- */
static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* Waits for the other server's operation to end; its own secret lets us. */
static bool
wait_remote(Agent *agent, const RemoteSource *target, json_t *operation, GError **error)
{
    RemoteSource waiter = *target;
    waiter.secret = text_of(json_object_get(operation, "metadata"), "secret");
    g_autofree char *path = g_strdup_printf("operations/%s/wait", text_of(operation, "id"));
    g_autofree char *url = lxd_url(&waiter, path);
    FetchSpec spec = {
        .url = url, .certificate = target->certificate, .out_fd = -1, .wait_ms = 3600 * 1000};
    json_auto_t *ended = fetch_json(agent, &spec, true, error);
    if (ended == NULL) {
        return hide_url(error, url, &waiter);
    }
    if (json_integer_value(json_object_get(ended, "status_code")) != 200) {
        return haw_fail(error, HAW_FAILED, "Failed operation \"%s\": \"%s\"",
                        text_of(ended, "status"), text_of(ended, "err"));
    }
    return true;
}

bool
remote_push(Agent *agent, Operation *op, json_t *image, json_t *request, GError **error)
{
    const char *fingerprint = text_of(image, "fingerprint");
    RemoteSource target = {.server = text_of(request, "target"),
                           .certificate = text_of(request, "certificate"),
                           .project = text_of(request, "project")};
    g_autofree char *meta = image_file(agent, fingerprint, false);
    g_autofree char *root = image_file(agent, fingerprint, true);
    bool split = access(root, F_OK) == 0;
    bool vm = strcmp(text_of(image, "type"), "virtual-machine") == 0;

    g_autofree char *secret = g_strconcat("X-LXD-secret: ", text_of(request, "secret"), NULL);
    g_autofree char *print = g_strconcat("X-LXD-fingerprint: ", fingerprint, NULL);
    g_autofree char *name = g_strconcat("X-LXD-filename: ", text_of(image, "filename"), NULL);
    const char *headers[] = {secret, print, name,
                             split ? NULL : "Content-Type: application/octet-stream", NULL};
    FetchPart parts[] = {{"metadata", meta, "metadata"},
                         {vm ? "rootfs.img" : "rootfs", root, text_of(image, "filename")}};
    g_autofree char *url = lxd_url(&target, "images");
    g_autoptr(Meter) meter = meter_start(op, "upload_progress", NULL);
    FetchSpec spec = {.url = url,
                      .certificate = target.certificate,
                      .headers = headers,
                      .out_fd = -1,
                      .meter = meter};
    if (split) {
        spec.parts = parts;
        spec.part_count = G_N_ELEMENTS(parts);
    } else {
        spec.body_path = meta;
    }
    json_auto_t *operation = fetch_json(agent, &spec, true, error);
    return operation != NULL && wait_remote(agent, &target, operation, error);
}
