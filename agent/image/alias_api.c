/* /1.0/images/aliases: names of images.
 * A caller that isn't trusted sees the aliases of public images only. */
#include "agent/image/image_view.h"

#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/state/images.h"

#include <string.h>

struct job {
    const char *project, *name, *new_name, *description, *target;
    bool public_only;
    json_t *result;
};

static struct job
job_of(Request *req)
{
    return (struct job){
        .project = project_for_images(req_agent(req), req_project(req)),
        .public_only = image_view_public_only(req),
    };
}

/* On the routes that have {name}. */
static struct job
job_of_name(Request *req)
{
    struct job job = job_of(req);
    job.name = req_arg(req, "name");
    return job;
}

static bool
read_list(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    job->result = image_aliases_list(tx, job->project, job->public_only, error);
    return job->result != NULL;
}

static bool
read_one(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    job->result = image_aliases_find(tx, job->project, job->name, job->public_only, error);
    return job->result != NULL;
}

static bool
insert_one(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    json_auto_t *there = image_aliases_find(tx, job->project, job->name, false, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_EXISTS, "Alias \"%s\" already exists", job->name);
    }
    return image_aliases_insert(tx, job->project, job->name, job->description, job->target, error);
}

static bool
update_one(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return image_aliases_update(tx, job->project, job->name, job->description, job->target, error);
}

static bool
rename_one(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return image_aliases_rename(tx, job->project, job->name, job->new_name, error);
}

static bool
delete_one(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return image_aliases_delete(tx, job->project, job->name, error);
}

static bool
list_aliases(Request *req, GError **error)
{
    struct job job = job_of(req);
    if (!db_read(req_agent(req)->db, read_list, &job, error)) {
        return false;
    }
    if (req_recursion(req) > 0) {
        return req_reply(req, job.result);
    }

    json_auto_t *list = job.result;
    json_t *urls = json_array();
    size_t i;
    json_t *alias;
    bool home = strcmp(job.project, "default") == 0;
    g_autofree char *project = g_uri_escape_string(job.project, NULL, TRUE);
    json_array_foreach (list, i, alias) {
        g_autofree char *name = g_uri_escape_string(image_text(alias, "name"), NULL, TRUE);
        g_autofree char *url =
            g_strconcat("/1.0/images/aliases/", name, home ? NULL : "?project=", project, NULL);
        json_array_append_new(urls, json_string(url));
    }
    return req_reply(req, urls);
}

static bool
get_alias(Request *req, GError **error)
{
    struct job job = job_of_name(req);
    if (!db_read(req_agent(req)->db, read_one, &job, error)) {
        return false;
    }
    return req_reply_etag(req, job.result, json_incref(job.result));
}

static void
announce(Request *req, const struct job *job, const char *action, const char *name, json_t *context)
{
    event_lifecycle(req_agent(req), job->project, req_caller(req), context, action,
                    "/1.0/images/aliases/%s", name);
}

static bool
create_alias(Request *req, GError **error)
{
    json_t *body = req_json(req);
    struct job job = job_of(req);
    job.name = image_text(body, "name");
    job.target = image_text(body, "target");
    job.description = image_text(body, "description");
    if (*job.name == '\0' || *job.target == '\0') {
        return haw_fail(error, HAW_INVALID, "name and target are required");
    }
    if (!db_write(req_agent(req)->db, insert_one, &job, error)) {
        return false;
    }
    announce(req, &job, "image-alias-created", job.name, json_pack("{s:s}", "target", job.target));
    g_autofree char *escaped = g_uri_escape_string(job.name, NULL, TRUE);
    return req_reply_created(req, "/1.0/images/aliases/%s", escaped);
}

static bool
change_alias(Request *req, GError **error)
{
    bool patch = req_patches(req);
    Agent *agent = req_agent(req);
    json_t *body = req_json(req);
    struct job job = job_of_name(req);
    if (!db_read(agent->db, read_one, &job, error)) {
        return false;
    }
    json_auto_t *alias = job.result;
    if (!req_check_etag(req, json_incref(alias), error)) {
        return false;
    }
    json_t *target = json_object_get(body, "target");
    json_t *description = json_object_get(body, "description");
    if ((target != NULL && !json_is_string(target)) ||
        (description != NULL && !json_is_string(description))) {
        return haw_fail(error, HAW_INVALID, "\"target\" and \"description\" must be text");
    }
    if (!patch && *image_text(body, "target") == '\0') {
        return haw_fail(error, HAW_INVALID, "The target field is required");
    }
    job.target = target != NULL ? json_string_value(target) : image_text(alias, "target");
    job.description = description != NULL || !patch ? image_text(body, "description")
                                                    : image_text(alias, "description");
    if (!db_write(agent->db, update_one, &job, error)) {
        return false;
    }
    announce(req, &job, "image-alias-updated", job.name, json_pack("{s:s}", "target", job.target));
    return req_reply(req, NULL);
}

static bool
rename_alias(Request *req, GError **error)
{
    struct job job = job_of_name(req);
    job.new_name = image_text(req_json(req), "name");
    if (*job.new_name == '\0') {
        return haw_fail(error, HAW_INVALID, "The alias name is required");
    }
    if (!db_write(req_agent(req)->db, rename_one, &job, error)) {
        return false;
    }
    announce(req, &job, "image-alias-renamed", job.new_name,
             json_pack("{s:s}", "old_name", job.name));
    g_autofree char *escaped = g_uri_escape_string(job.new_name, NULL, TRUE);
    return req_reply_created(req, "/1.0/images/aliases/%s", escaped);
}

static bool
delete_alias(Request *req, GError **error)
{
    struct job job = job_of_name(req);
    if (!db_write(req_agent(req)->db, delete_one, &job, error)) {
        return false;
    }
    announce(req, &job, "image-alias-deleted", job.name, NULL);
    return req_reply(req, NULL);
}

const Route image_alias_routes[] = {
    {"GET", "/1.0/images/aliases", list_aliases, ROUTE_UNTRUSTED},
    {"POST", "/1.0/images/aliases", create_alias, ROUTE_BODY_JSON},
    {"GET", "/1.0/images/aliases/{name}", get_alias, ROUTE_UNTRUSTED},
    {"PUT", "/1.0/images/aliases/{name}", change_alias, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/images/aliases/{name}", change_alias, ROUTE_BODY_JSON},
    {"POST", "/1.0/images/aliases/{name}", rename_alias, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/images/aliases/{name}", delete_alias, 0},
    {.method = NULL},
};
