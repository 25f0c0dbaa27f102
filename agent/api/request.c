/* Requests: what handlers see of HTTP, and how they are run; their replies are made in reply.c.
 * Q1  Every request gets exactly one reply: the handler's, or its error, or 500 when it gave neither.
 * Q2  A caller never reaches a project that it may not use, nor one that does not exist. */
#include "agent/api/request.h"

#include "agent/auth/project.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

#include <string.h>
#include <unistd.h>

Request *
request_new(Server *server, Agent *agent, const char *raw_uri)
{
    Request *req = g_new0(Request, 1);
    const char *mark = strchr(raw_uri, '?');
    req->server = server;
    req->agent = agent;
    req->path = mark != NULL ? g_strndup(raw_uri, (gsize) (mark - raw_uri)) : g_strdup(raw_uri);
    req->spool = -1;
    if (mark != NULL) {
        req->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    }
    if (mark != NULL && !route_parse_query(mark + 1, req->query)) {
        g_autoptr(GError) error = NULL;
        haw_fail(&error, HAW_INVALID, "Malformed query string");
        request_reply_error(req, error);
    }
    return req;
}

void
request_free(Request *req)
{
    if (req == NULL) {
        return;
    }
    g_free(req->method);
    g_free(req->path);
    g_clear_pointer(&req->query, g_hash_table_unref);
    g_clear_pointer(&req->args, g_hash_table_unref);
    caller_clear(&req->caller);
    if (req->body != NULL) {
        g_byte_array_unref(req->body);
    }
    fd_close(&req->spool);
    json_decref(req->json);
    if (req->response != NULL) {
        MHD_destroy_response(req->response);
    }
    g_free(req);
}

/* ---- who and what ---- */

const Caller *
req_caller(Request *req)
{
    return &req->caller;
}

Agent *
req_agent(Request *req)
{
    return req->agent;
}

const char *
req_method(Request *req)
{
    return req->method;
}

const char *
req_path(Request *req)
{
    return req->path;
}

const char *
req_arg(Request *req, const char *name)
{
    const char *value = req->args != NULL ? g_hash_table_lookup(req->args, name) : NULL;
    g_assert(value != NULL);
    return value;
}

const char *
req_query(Request *req, const char *name)
{
    return req->query != NULL ? g_hash_table_lookup(req->query, name) : NULL;
}

const char *
req_header(Request *req, const char *name)
{
    return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

bool
req_query_bool(Request *req, const char *name)
{
    const char *value = req_query(req, name);
    return value != NULL &&
           (strcmp(value, "1") == 0 || g_ascii_strcasecmp(value, "true") == 0 ||
            g_ascii_strcasecmp(value, "yes") == 0 || g_ascii_strcasecmp(value, "on") == 0);
}

bool
req_patches(Request *req)
{
    return strcmp(req->method, "PATCH") == 0;
}

int
req_recursion(Request *req)
{
    const char *value = req_query(req, "recursion");
    return value != NULL && g_ascii_isdigit(*value) ? *value - '0' : 0;
}

const char *
req_project(Request *req)
{
    const char *project = req_query(req, "project");
    return project != NULL && *project != '\0' ? project : "default";
}

bool
req_all_projects(Request *req)
{
    return req_query_bool(req, "all-projects");
}

json_t *
req_json(Request *req)
{
    return req->json;
}

int
req_body_fd(Request *req)
{
    return req->spool;
}

gint64
req_body_size(Request *req)
{
    return req->body_size;
}

/* ---- running the handler ---- */

static bool
parse_body(Request *req, GError **error)
{
    if (req->body_too_large) {
        return haw_fail(error, HAW_LIMIT, "Request body too large");
    }
    if (!(req->route->flags & ROUTE_BODY_JSON) || req->spool >= 0) {
        return true;
    }
    if (req->body == NULL || req->body->len == 0) {
        return haw_fail(error, HAW_INVALID, "EOF");
    }
    json_error_t why;
    req->json = json_loadb((const char *) req->body->data, req->body->len, 0, &why);
    if (req->json == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid JSON at line %d column %d: %s", why.line,
                        why.column, why.text);
    }
    if (!json_is_object(req->json)) {
        return haw_fail(error, HAW_INVALID, "The request body must be a JSON object");
    }
    return true;
}

/* Collections whose objects belong to a project, by the patterns of their routes (a path may spell
 * itself in many ways), and where they live when the project has none of its own. */
static const struct {
    const char *pattern, *also; /* prefix; something further on, "" for nothing */
    const char *(*home)(Agent *agent, const char *project);
} project_scoped[] = {
    {"/1.0/instances", "", NULL},
    {"/1.0/containers", "", NULL},
    {"/1.0/virtual-machines", "", NULL},
    {"/1.0/images", "", project_for_images},
    {"/1.0/profiles", "", project_for_profiles},
    {"/1.0/networks", "", project_for_networks},
    {"/1.0/network-acls", "", project_for_networks},
    {"/1.0/network-zones", "", project_for_zones},
    {"/1.0/storage-pools/", "/volumes", project_for_volumes},
};

/* Its index in the table, or -1. */
static int
project_scope(const Request *req)
{
    const char *pattern = req->route->pattern;
    for (size_t i = 0; i < G_N_ELEMENTS(project_scoped); i++) {
        const char *prefix = project_scoped[i].pattern;
        size_t size = strlen(prefix);
        bool below = strncmp(pattern, prefix, size) == 0 &&
                     (prefix[size - 1] == '/' || pattern[size] == '\0' || pattern[size] == '/');
        if (below && strstr(pattern, project_scoped[i].also) != NULL) {
            return (int) i;
        }
    }
    return -1;
}

static bool
is_reading(const Request *req)
{
    return strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0;
}

/* A restricted caller whose project borrows the default project's networks (say) may use them, and
 * change none of them. */
static bool
may_change(Request *req, int scope)
{
    if (!req->caller.restricted || is_reading(req) || scope < 0 ||
        project_scoped[scope].home == NULL) {
        return true;
    }
    const char *home = project_scoped[scope].home(req->agent, req_project(req));
    return caller_may_project(&req->caller, home);
}

/* Lists that leave out what the caller may not see when asked for all projects. */
static bool
lists_by_caller(const char *pattern)
{
    static const char *const lists[] = {"/1.0/instances", "/1.0/containers",
                                        "/1.0/virtual-machines", "/1.0/images", NULL};
    return g_strv_contains(lists, pattern);
}

/* Q2 */
static bool
check_project(Request *req, GError **error)
{
    const char *asked = req_query(req, "project");
    if (req_all_projects(req) && asked != NULL && *asked != '\0') {
        return haw_fail(error, HAW_INVALID,
                        "Cannot specify a project when requesting all projects");
    }
    if (req->caller.kind == CALLER_UNTRUSTED) {
        return true; /* the handler shows what is public, or nothing */
    }
    int scope = project_scope(req);
    if (req_all_projects(req) && req->caller.restricted && scope >= 0 &&
        (!is_reading(req) || !lists_by_caller(req->route->pattern))) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    if (!req_all_projects(req) && !caller_may_project(&req->caller, req_project(req)) &&
        ((asked != NULL && *asked != '\0') || scope >= 0)) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    if (!req_all_projects(req) && asked != NULL && *asked != '\0' &&
        strcmp(req->route->pattern, "/1.0/metrics") != 0) { /* there it is only a filter */
        if (strcmp(asked, "default") != 0) {
            json_t *config = project_config(req->agent, asked, error);
            json_decref(config);
            if (config == NULL) {
                return false;
            }
        }
    }
    return may_change(req, scope) || haw_fail(error, HAW_DENIED, "not authorized");
}

static bool
check_caller(Request *req, GError **error)
{
    RouteFlags flags = req->route->flags;
    if (!(flags & ROUTE_EARLY)) {
        if (req->agent->shutting_down) {
            return haw_fail(error, HAW_UNAVAILABLE, "LXD is shutting down");
        }
        if (!req->agent->ready) {
            return haw_fail(error, HAW_UNAVAILABLE, "LXD daemon setup in progress");
        }
    }
    if ((flags & ROUTE_SOCKET) && req->caller.kind != CALLER_UNIX) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    if ((flags & ROUTE_ADMIN) && req->caller.restricted) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    return true;
}

static void
answer(Request *req)
{
    g_autoptr(GError) error = NULL;

    bool ok = check_caller(req, &error) && parse_body(req, &error) && check_project(req, &error) &&
              req->route->fn(req, &error);
    if (ok && req->response == NULL) { /* Q1 */
        ok = haw_fail(&error, HAW_BUG, "%s %s gave no reply", req->method, req->path);
    }
    if (!ok) {
        if (error == NULL) {
            haw_fail(&error, HAW_BUG, "%s %s failed without saying why", req->method, req->path);
        }
        haw_debug("api.failed", KS("method", req->method), KS("path", req->path),
                  KS("why", error->message));
        request_reply_error(req, error);
    }
    req->finished = true;
}

struct run {
    Request *req;
    RequestRespond respond;
};

static void
request_run(void *data)
{
    g_autofree struct run *run = data;
    answer(run->req);
    run->respond(run->req);
}

void
request_start(Request *req, RequestRespond respond)
{
    req->started = true;
    if ((req->route->flags & ROUTE_AT_ONCE) &&
        req->query == NULL) { /* looking up a project waits */
        answer(req);
        return;
    }
    struct run *run = g_new(struct run, 1);
    run->req = req;
    run->respond = respond;
    fiber_start_now("request", request_run, run);
}
