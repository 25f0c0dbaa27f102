/* POST /1.0/images: an image comes in.
 * The ways: a body (one file or multipart) with X-LXD-* headers; JSON naming a remote image, a URL,
 * an instance or a snapshot; JSON with mode "push", which only makes a token with which another
 * server may then send the image (W1). All but the last are one operation whose metadata ends with
 * "fingerprint" and "size".
 * I5  Either all of it is there in the end (files, row, aliases) or nothing. */
#include "agent/image/image_view.h"

#include "agent/api/event.h"
#include "agent/api/settings.h"
#include "agent/auth/project.h"
#include "agent/image/fetch.h"
#include "agent/image/intake.h"
#include "agent/image/metadata.h"
#include "agent/image/publish.h"
#include "agent/image/remote.h"
#include "agent/state/images.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* One import, owned by its operation. */
struct import {
    Agent *agent; /* borrowed */
    char *project, *image_project;
    json_t *request; /* ImagesPost; of an upload: made from headers and token */
    int fd;          /* of an upload's body, -1 otherwise */
    char *content_type, *filename, *expected;
    json_t *overrides; /* a token's metadata: what it says wins; may be NULL */
};

static void
import_free(void *data)
{
    struct import *import = data;
    g_free(import->project);
    g_free(import->image_project);
    json_decref(import->request);
    json_decref(import->overrides);
    fd_close(&import->fd);
    g_free(import->content_type);
    g_free(import->filename);
    g_free(import->expected);
    g_free(import);
}

static struct import *
import_new(Request *req)
{
    struct import *import = g_new0(struct import, 1);
    import->agent = req_agent(req);
    import->project = g_strdup(req_project(req));
    import->image_project = g_strdup(project_for_images(import->agent, import->project));
    import->fd = -1;
    return import;
}

/* ---- rows ---- */
struct finish_job {
    struct import *import; /* borrowed; the database thread only reads */
    json_t *image;         /* the row to store */
};

static bool
alias_exists(DbTx *tx, const char *project, const char *name)
{
    json_auto_t *alias = image_aliases_find(tx, project, name, false, NULL);
    return alias != NULL;
}

static bool
store_finish(DbTx *tx, void *data, GError **error)
{
    struct finish_job *job = data;
    const char *project = job->import->image_project;
    if (!images_update(tx, project, job->image, error)) {
        return false;
    }
    size_t i;
    json_t *alias;
    json_array_foreach (json_object_get(job->import->request, "aliases"), i, alias) {
        const char *name = image_text(alias, "name");
        if (alias_exists(tx, project, name)) {
            return haw_fail(error, HAW_EXISTS, "Alias already exists: %s", name);
        }
        if (!image_aliases_insert(tx, project, name, image_text(alias, "description"),
                                  image_text(job->image, "fingerprint"), error)) {
            return false;
        }
    }
    return true;
}

static bool
check_aliases_free(DbTx *tx, void *data, GError **error)
{
    struct finish_job *job = data;
    size_t i;
    json_t *alias;
    json_array_foreach (json_object_get(job->import->request, "aliases"), i, alias) {
        const char *name = image_text(alias, "name");
        if (alias_exists(tx, job->import->image_project, name)) {
            return haw_fail(error, HAW_EXISTS, "Alias already exists: %s", name);
        }
    }
    return true;
}

/* The request's wishes on top of what the image says of itself. */
static void
apply_request(json_t *image, json_t *request)
{
    json_t *properties = json_object_get(request, "properties");
    if (json_is_true(json_object_get(request, "public"))) {
        json_object_set_new(image, "public", json_true());
    }
    if (json_is_true(json_object_get(request, "auto_update"))) {
        json_object_set_new(image, "auto_update", json_true());
    }
    if (json_is_object(properties) && json_object_size(properties) > 0) {
        json_object_update(json_object_get(image, "properties"), properties);
    }
    if (*image_text(request, "filename") != '\0') {
        json_object_set(image, "filename", json_object_get(request, "filename"));
    }
    if (json_is_array(json_object_get(request, "profiles"))) {
        json_object_set(image, "profiles", json_object_get(request, "profiles"));
    }
    gint64 expires = 0;
    if (clock_parse(image_text(request, "expires_at"), &expires) && expires > 0) {
        json_object_set(image, "expires_at", json_object_get(request, "expires_at"));
    }
}

/* ---- the ways in; each gives the image as its row has it ---- */
static json_t *
commit(struct import *import, Intake *intake, GError **error)
{
    if (!intake_commit(intake, import->image_project, error)) {
        return NULL;
    }
    return json_incref(intake_image(intake));
}

static json_t *
take_upload(struct import *import, GError **error)
{
    g_autoptr(Intake) intake = intake_new(import->agent);
    if (!intake_take_body(intake, import->fd, import->content_type, import->filename, error) ||
        !intake_inspect(intake, NULL, import->expected, error)) {
        return NULL;
    }
    /* Headers (and a token) replace the properties of the file. */
    json_t *properties = json_object_get(import->request, "properties");
    if (json_is_object(properties) && json_object_size(properties) > 0) {
        json_object_set(intake_image(intake), "properties", properties);
    }
    return commit(import, intake, error);
}

static json_t *
take_remote(struct import *import, Operation *op, GError **error)
{
    json_t *source = json_object_get(import->request, "source");
    const char *name = image_text(source, "fingerprint");
    const char *type = image_text(source, "image_type");
    RemoteSource remote = {
        .server = image_text(source, "server"),
        .protocol = image_text(source, "protocol"),
        .certificate = image_text(source, "certificate"),
        .alias = *name != '\0' ? name : image_text(source, "alias"),
        .secret = *image_text(source, "secret") != '\0' ? image_text(source, "secret") : NULL,
        .image_type = *type != '\0' ? type : NULL,
        .project = image_text(source, "project"),
    };
    if (*remote.server == '\0') {
        haw_fail(error, HAW_INVALID, "No source server provided");
        return NULL;
    }
    if (*remote.alias == '\0') {
        haw_fail(error, HAW_INVALID,
                 "must specify one of alias or fingerprint for init from image");
        return NULL;
    }
    json_t *image =
        image_download(import->agent->images, op, import->image_project, &remote, false, error);
    if (image != NULL) { /* One that was only cached until now stays from now on. */
        json_object_set_new(image, "cached", json_false());
    }
    return image;
}

/* The URL's answer names the image and its hash; the image itself is elsewhere. */
static json_t *
take_url(struct import *import, Operation *op, GError **error)
{
    json_t *source = json_object_get(import->request, "source");
    const char *url = image_text(source, "url");
    if (*url == '\0') {
        haw_fail(error, HAW_INVALID, "Missing URL");
        return NULL;
    }
    g_autofree char *architectures =
        g_strconcat("LXD-Server-Architectures: ", metadata_native_architecture(), NULL);
    const char *headers[] = {architectures, "LXD-Server-Version: 5.13", NULL};
    FetchSpec spec = {.url = url, .method = "HEAD", .headers = headers, .out_fd = -1};
    g_auto(FetchReply) reply = {0};
    if (!fetch(import->agent, &spec, &reply, error)) {
        return NULL;
    }
    const char *hash = g_hash_table_lookup(reply.headers, "lxd-image-hash");
    const char *image_url = g_hash_table_lookup(reply.headers, "lxd-image-url");
    if (hash == NULL || strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64) {
        haw_fail(error, HAW_INVALID, "Missing LXD-Image-Hash header");
        return NULL;
    }
    if (image_url == NULL) {
        haw_fail(error, HAW_INVALID, "Missing LXD-Image-URL header");
        return NULL;
    }
    RemoteSource remote = {.server = image_url, .protocol = "direct", .alias = hash};
    return image_download(import->agent->images, op, import->image_project, &remote, false, error);
}

static json_t *
take_instance(struct import *import, Operation *op, GError **error)
{
    g_autoptr(Intake) intake =
        publish_instance(import->agent, op, import->project, import->request, error);
    return intake != NULL ? commit(import, intake, error) : NULL;
}

static json_t *
take(struct import *import, Operation *op, GError **error)
{
    const char *type = image_text(json_object_get(import->request, "source"), "type");
    if (import->fd >= 0) {
        return take_upload(import, error);
    }
    if (strcmp(type, "image") == 0) {
        return take_remote(import, op, error);
    }
    return strcmp(type, "url") == 0 ? take_url(import, op, error)
                                    : take_instance(import, op, error);
}

static bool
run_import(Operation *op, void *data, GError **error)
{
    struct import *import = data;
    Agent *agent = import->agent;
    struct finish_job job = {.import = import};
    if (!db_read(agent->db, check_aliases_free, &job, error)) {
        return false;
    }
    json_auto_t *image = take(import, op, error);
    if (image == NULL) {
        return false;
    }

    /* An image that was here before (copied again, say) stays when the end of this fails. */
    job.image = image;
    apply_request(image, import->request);
    const char *fingerprint = image_text(image, "fingerprint");
    bool fresh = json_object_get(image, "project") == NULL;
    if (!db_write(agent->db, store_finish, &job, error)) {
        if (fresh) {
            image_delete(agent->images, import->image_project, fingerprint, NULL); /* I5 */
        }
        return false;
    }
    g_autofree char *size =
        g_strdup_printf("%lld", (long long) json_integer_value(json_object_get(image, "size")));
    op_update(op, json_pack("{s:s,s:s}", "fingerprint", fingerprint, "size", size));
    event_lifecycle(agent, import->image_project, op_caller(op),
                    json_pack("{s:s}", "type", image_text(image, "type")), "image-created",
                    "/1.0/images/%s", fingerprint);
    return true;
}

/* ---- decoding ---- */
static bool
check_aliases(json_t *request, GError **error)
{
    size_t i;
    json_t *alias, *aliases = json_object_get(request, "aliases");
    if (aliases != NULL && !json_is_null(aliases) && !json_is_array(aliases)) {
        return haw_fail(error, HAW_INVALID, "\"aliases\" must be a list");
    }
    json_array_foreach (aliases, i, alias) {
        if (*image_text(alias, "name") == '\0') {
            return haw_fail(error, HAW_INVALID, "An alias needs a name");
        }
    }
    return true;
}

static bool
check_profiles(Request *req, json_t *request, GError **error)
{
    Agent *agent = req_agent(req);
    size_t i;
    json_t *name;
    json_array_foreach (json_object_get(request, "profiles"), i, name) {
        const char *text = json_string_value(name);
        const char *project = project_for_profiles(agent, req_project(req));
        json_auto_t *profile = text != NULL ? profile_load(agent, project, text, NULL) : NULL;
        if (profile == NULL) {
            return haw_fail(error, HAW_INVALID, "Profile '%s' doesn't exist", text ? text : "");
        }
    }
    return true;
}

/* "a=b&c=d" as pairs in order, decoded; [[key, value]…], a new reference. */
static json_t *
parse_form(const char *text)
{
    json_t *pairs = json_array();
    g_auto(GStrv) fields = g_strsplit(text != NULL ? text : "", "&", -1);
    for (int i = 0; fields[i] != NULL; i++) {
        char *equals = strchr(fields[i], '=');
        if (equals != NULL) {
            *equals = '\0';
        }
        for (char *at = fields[i]; *at != '\0'; at++) {
            *at = *at == '+' ? ' ' : *at;
        }
        for (char *at = equals != NULL ? equals + 1 : fields[i]; *at != '\0'; at++) {
            *at = *at == '+' ? ' ' : *at;
        }
        g_autofree char *key = g_uri_unescape_string(fields[i], NULL);
        g_autofree char *value = g_uri_unescape_string(equals != NULL ? equals + 1 : "", NULL);
        if (key != NULL && value != NULL && *key != '\0' && g_utf8_validate(key, -1, NULL) &&
            g_utf8_validate(value, -1, NULL)) {
            json_array_append_new(pairs, json_pack("[s,s]", key, value));
        }
    }
    return pairs;
}

/* ImagesPost from the X-LXD-* headers. */
static json_t *
request_of_headers(Request *req)
{
    const char *flag = req_header(req, "X-LXD-public");
    bool is_public = g_strcmp0(flag, "1") == 0 || g_strcmp0(flag, "true") == 0;
    json_t *request = json_pack("{s:b,s:{}}", "public", (int) is_public, "properties");
    json_auto_t *properties = parse_form(req_header(req, "X-LXD-properties"));
    json_auto_t *profiles = parse_form(req_header(req, "X-LXD-profiles"));
    json_auto_t *aliases = parse_form(req_header(req, "X-LXD-aliases"));
    size_t i;
    json_t *pair;
    json_array_foreach (properties, i, pair) {
        json_object_set(json_object_get(request, "properties"),
                        json_string_value(json_array_get(pair, 0)), json_array_get(pair, 1));
    }
    json_array_foreach (profiles, i, pair) {
        if (json_object_get(request, "profiles") == NULL) {
            json_object_set_new(request, "profiles", json_array());
        }
        json_array_append(json_object_get(request, "profiles"), json_array_get(pair, 1));
    }
    json_array_foreach (aliases, i, pair) {
        if (json_object_get(request, "aliases") == NULL) {
            json_object_set_new(request, "aliases", json_array());
        }
        json_array_append_new(json_object_get(request, "aliases"),
                              json_pack("{s:O}", "name", json_array_get(pair, 1)));
    }
    return request;
}

/* What a token was made with wins over headers. */
static void
apply_token(json_t *request, json_t *metadata)
{
    static const char *const keys[] = {"aliases", "expires_at", "properties", "public", NULL};
    for (int i = 0; keys[i] != NULL; i++) {
        json_t *value = json_object_get(metadata, keys[i]);
        if (value != NULL && !json_is_null(value)) {
            json_object_set(request, keys[i], value);
        }
    }
}

static bool
reply_import(Request *req, struct import *import, json_t *metadata)
{
    return op_reply(
        req, (OpSpec){.class = OP_TASK,
                      .description = "Downloading image",
                      .project = req_project(req), /* its events go where the caller listens */
                      .metadata = metadata,
                      .cancellable = true,
                      .fn = run_import,
                      .data = import,
                      .free_data = import_free});
}

static bool
import_upload(Request *req, json_t *token, GError **error)
{
    json_auto_t *request = request_of_headers(req);
    if (token != NULL) {
        apply_token(request, token);
    }
    if (!check_profiles(req, request, error)) {
        return false;
    }
    int fd = fcntl(req_body_fd(req), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "duplicate descriptor");
    }

    struct import *import = import_new(req);
    import->request = json_incref(request);
    import->fd = fd;
    import->content_type = g_strdup(req_header(req, "Content-Type"));
    import->filename = g_strdup(req_header(req, "X-LXD-filename"));
    import->expected = g_strdup(req_header(req, "X-LXD-fingerprint"));
    if (token == NULL) {
        return reply_import(req, import, NULL);
    }
    /* The sender isn't trusted: this secret lets it wait for the operation. */
    g_autofree char *secret = ids_secret(32);
    return reply_import(req, import, json_pack("{s:s}", "secret", secret));
}

static bool
import_json(Request *req, GError **error)
{
    static const char *const types[] = {
        "container", "instance", "virtual-machine", "snapshot", "image", "url", NULL};
    json_t *request = req_json(req), *source = json_object_get(request, "source");
    if (!json_is_object(request) || !json_is_object(source)) {
        return haw_fail(error, HAW_INVALID, "Invalid images JSON");
    }
    if (!check_aliases(request, error) || !check_profiles(req, request, error)) {
        return false;
    }
    if (strcmp(image_text(source, "mode"), "push") == 0) {
        json_t *metadata = json_object();
        apply_token(metadata, request);
        const char *project = project_for_images(req_agent(req), req_project(req));
        return image_view_token(req, project, image_text(source, "fingerprint"), metadata);
    }
    if (!g_strv_contains(types, image_text(source, "type"))) {
        return haw_fail(error, HAW_FAILED, "Invalid images JSON");
    }
    struct import *import = import_new(req);
    import->request = json_incref(request);
    return reply_import(req, import, NULL);
}

bool
image_import(Request *req, GError **error)
{
    const char *secret = req_header(req, "X-LXD-secret");
    const char *fingerprint = req_header(req, "X-LXD-fingerprint");
    json_auto_t *metadata = NULL;
    bool trusted = !image_view_public_only(req);
    if (secret != NULL && fingerprint != NULL) {
        const char *project = project_for_images(req_agent(req), req_project(req));
        Operation *token = image_view_token_find(req_agent(req), project, fingerprint, secret);
        if (token != NULL) {
            json_auto_t *json = op_json(token);
            metadata = json_incref(json_object_get(json, "metadata"));
            op_end_token(token);
        }
    }
    if (!trusted && metadata == NULL) { /* W1 */
        return haw_fail(error, HAW_DENIED, "Forbidden");
    }
    if (req_body_fd(req) >= 0) {
        return import_upload(req, metadata, error);
    }
    if (!trusted) {
        return haw_fail(error, HAW_DENIED, "Forbidden");
    }
    return import_json(req, error);
}
