/* What a request may see of images: W1 of image_api.c.
 * Called by image_api.c, image_import.c and alias_api.c. */
#include "agent/image/image_view.h"

#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/state/images.h"
#include "base/ids.h"

#include <string.h>

const char *
image_text(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

bool
image_view_public_only(Request *req)
{
    const Caller *caller = req_caller(req);
    return caller->kind == CALLER_UNTRUSTED || caller->metrics_only;
}

struct job {
    const char *project, *fingerprint;
    bool public_only;
    json_t *result;
};

static bool
read_list(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    job->result = images_list(tx, job->project, job->public_only, error);
    return job->result != NULL;
}

static bool
read_one(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    job->result = images_find(tx, job->project, job->fingerprint, job->public_only, error);
    return job->result != NULL;
}

json_t *
image_view_list(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    struct job job = {
        .project = req_all_projects(req) ? NULL : project_for_images(agent, req_project(req)),
        .public_only = image_view_public_only(req),
    };
    if (!db_read(agent->db, read_list, &job, error)) {
        return NULL;
    }
    json_auto_t *rows = job.result;
    json_auto_t *list = json_array();
    size_t i;
    json_t *image;
    json_array_foreach (rows, i, image) {
        if (job.project != NULL ||
            caller_may_project(req_caller(req), image_text(image, "project"))) {
            json_array_append_new(list, image_view_shown(image));
        }
    }
    return json_incref(list);
}

json_t *
image_view_find(Request *req, Operation **ret_token, GError **error)
{
    Agent *agent = req_agent(req);
    struct job job = {.project = project_for_images(agent, req_project(req)),
                      .fingerprint = req_arg(req, "fingerprint")};
    if (!db_read(agent->db, read_one, &job, error)) {
        return NULL;
    }
    json_auto_t *image = job.result;
    const char *secret = req_query(req, "secret");
    Operation *token =
        secret != NULL && *secret != '\0'
            ? image_view_token_find(agent, job.project, image_text(image, "fingerprint"), secret)
            : NULL;
    if (image_view_public_only(req) && token == NULL &&
        !json_is_true(json_object_get(image, "public"))) {
        haw_fail(error, HAW_NOT_FOUND, "Image not found");
        return NULL;
    }
    if (ret_token != NULL) {
        *ret_token = token;
    }
    return json_incref(image);
}

json_t *
image_view_shown(json_t *image)
{
    json_t *shown = json_copy(image);
    json_object_del(shown, "project");
    return shown;
}

json_t *
image_view_tag(json_t *image)
{
    return json_pack("[O,O,O]", json_object_get(image, "public"),
                     json_object_get(image, "auto_update"), json_object_get(image, "properties"));
}

char *
image_view_url(const char *project, json_t *image)
{
    const char *fingerprint = image_text(image, "fingerprint");
    if (strcmp(project, "default") == 0) {
        return g_strconcat("/1.0/images/", fingerprint, NULL);
    }
    g_autofree char *escaped = g_uri_escape_string(project, NULL, TRUE);
    return g_strconcat("/1.0/images/", fingerprint, "?project=", escaped, NULL);
}

bool
image_view_token(Request *req, const char *project, const char *fingerprint, json_t *metadata)
{
    g_autofree char *secret = ids_secret(32);
    g_autofree char *url = g_strconcat("/1.0/images/", fingerprint, NULL);
    json_object_set_new(metadata, "secret", json_string(secret));
    event_lifecycle(req_agent(req), project, req_caller(req), NULL, "image-secret-created",
                    "/1.0/images/%s", fingerprint);
    return op_reply(req, (OpSpec){.class = OP_TOKEN,
                                  .description = IMAGE_TOKEN,
                                  .project = project,
                                  .resources = json_pack("{s:[s]}", "images", url),
                                  .metadata = metadata});
}

Operation *
image_view_token_find(Agent *agent, const char *project, const char *fingerprint,
                      const char *secret)
{
    Operation *token = op_find_token(agent, IMAGE_TOKEN, secret);
    if (token == NULL || g_strcmp0(op_project(token), project) != 0) {
        return NULL;
    }
    json_auto_t *json = op_json(token);
    json_t *images = json_object_get(json_object_get(json, "resources"), "images");
    const char *url = json_string_value(json_array_get(images, 0));
    const char *slash = url != NULL ? strrchr(url, '/') : NULL;
    return slash != NULL && strcmp(slash + 1, fingerprint) == 0 ? token : NULL;
}
