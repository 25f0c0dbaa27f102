/* Requests and replies: what handlers see of HTTP.
 * Q1  Every request gets exactly one reply: the handler's, or its error, or 500 when it gave neither.
 * Q2  Replies have LXD's envelope; an error's status is its code's (base/error.h).
 * Q3  A caller never reaches a project that it may not use, nor one that does not exist. */
#include "agent/api/request.h"

#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Request *
request_new(Server *server, Agent *agent, const char *raw_uri)
{
    Request *req = g_new0(Request, 1);
    const char *mark = strchr(raw_uri, '?');
    req->server = server;
    req->agent = agent;
    req->path = mark != NULL ? g_strndup(raw_uri, (gsize) (mark - raw_uri)) : g_strdup(raw_uri);
    req->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    req->args = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    req->spool = -1;
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
    g_hash_table_unref(req->query);
    g_hash_table_unref(req->args);
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
    const char *value = g_hash_table_lookup(req->args, name);
    g_assert(value != NULL);
    return value;
}

const char *
req_query(Request *req, const char *name)
{
    return g_hash_table_lookup(req->query, name);
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

/* ---- replies ---- */

static bool
set_response(Request *req, int status, struct MHD_Response *response)
{
    g_assert(req->response == NULL);
    req->status = status;
    req->response = response;
    return true;
}

static bool
reply_json(Request *req, int status, json_t *body /* stolen */)
{
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    size_t size = text != NULL ? strlen(text) : 0;
    /* One newline behind, as Go's encoder writes it, in the place of the NUL: MHD takes bytes. */
    if (size > 0) {
        text[size++] = '\n';
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(size, text, free);
    MHD_add_response_header(response, "Content-Type", "application/json");
    return set_response(req, status, response);
}

static json_t *
envelope(const char *type, const char *status, int code, json_t *metadata)
{
    return json_pack("{s:s,s:s,s:i,s:s,s:i,s:s,s:o}", "type", type, "status", status, "status_code",
                     code, "operation", "", "error_code", 0, "error", "", "metadata",
                     metadata != NULL ? metadata : json_object());
}

void
request_reply_error(Request *req, const GError *error)
{
    if (req->response != NULL) {
        MHD_destroy_response(req->response);
        req->response = NULL;
    }
    int code = haw_code_rest(haw_code(error));
    reply_json(req, code,
               json_pack("{s:s,s:s,s:i,s:s,s:i,s:s,s:n}", "type", "error", "status", "",
                         "status_code", 0, "operation", "", "error_code", code, "error",
                         g_utf8_validate(error->message, -1, NULL) ? error->message : "error",
                         "metadata"));
    MHD_add_response_header(req->response, "X-Content-Type-Options", "nosniff");
}

bool
req_reply(Request *req, json_t *metadata)
{
    return reply_json(req, 200, envelope("sync", "Success", 200, metadata));
}

char *
request_etag(json_t *tagged)
{
    char *text = json_dumps(tagged, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text != NULL ? text : "", -1);
    free(text);
    return sum;
}

char *
req_etag(json_t *tagged)
{
    g_autofree char *sum = request_etag(tagged);
    return g_strdup_printf("\"%s\"", sum);
}

bool
req_reply_etag(Request *req, json_t *metadata, json_t *tagged)
{
    g_autofree char *tag = req_etag(tagged);
    json_decref(tagged);
    req_reply(req, metadata);
    MHD_add_response_header(req->response, "ETag", tag);
    return true;
}

bool
req_check_etag(Request *req, json_t *tagged, GError **error)
{
    g_autofree char *ours = request_etag(tagged);
    json_decref(tagged);
    const char *given = req_header(req, "If-Match");
    if (given == NULL || *given == '\0') {
        return true;
    }
    g_autofree char *bare = g_strdup(given);
    if (g_str_has_prefix(bare, "\"") && g_str_has_suffix(bare, "\"") && strlen(bare) >= 2) {
        memmove(bare, bare + 1, strlen(bare));
        bare[strlen(bare) - 1] = '\0';
    }
    if (strcmp(bare, ours) == 0) {
        return true;
    }
    return haw_fail(error, HAW_STALE, "ETag doesn't match: %s vs %s", ours, bare);
}

bool
req_reply_created(Request *req, const char *location_format, ...)
{
    va_list args;
    va_start(args, location_format);
    g_autofree char *location = g_strdup_vprintf(location_format, args);
    va_end(args);
    reply_json(req, 201, envelope("sync", "Success", 200, json_null()));
    MHD_add_response_header(req->response, "Location", location);
    return true;
}

bool
req_reply_operation(Request *req, Operation *op)
{
    g_autofree char *url = g_strdup_printf("/1.0/operations/%s", op_id(op));
    json_t *body = envelope("async", "Operation created", 100, op_json(op));
    json_object_set_new(body, "operation", json_string(url));
    reply_json(req, 202, body);
    MHD_add_response_header(req->response, "Location", url);
    return true;
}

static void
add_headers(struct MHD_Response *response, const char *content_type, const char *const *headers)
{
    if (content_type != NULL) {
        MHD_add_response_header(response, "Content-Type", content_type);
    }
    for (; headers != NULL && headers[0] != NULL; headers += 2) {
        MHD_add_response_header(response, headers[0], headers[1]);
    }
}

static void
add_disposition(struct MHD_Response *response, const char *filename)
{
    if (filename != NULL) {
        g_autofree char *clean = g_strdelimit(g_strdup(filename), "\"\r\n;", '_');
        g_autofree char *value = g_strdup_printf("inline;filename=%s", clean);
        MHD_add_response_header(response, "Content-Disposition", value);
    }
}

bool
req_reply_fd(Request *req, int *fd, const char *content_type, const char *filename,
             const char *const *headers)
{
    struct stat st;
    g_assert(fstat(*fd, &st) == 0);
    struct MHD_Response *response =
        MHD_create_response_from_fd64((uint64_t) st.st_size, fd_steal(fd));
    add_headers(response, content_type != NULL ? content_type : "application/octet-stream",
                headers);
    add_disposition(response, filename);
    return set_response(req, 200, response);
}

bool
req_reply_bytes(Request *req, int status, const char *content_type, const void *bytes, size_t size,
                const char *const *headers)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *) bytes, MHD_RESPMEM_MUST_COPY);
    add_headers(response, content_type, headers);
    return set_response(req, status, response);
}

/* A multipart body is a list of pieces: heads in memory, files behind them. */
struct piece {
    char *head;
    int fd; /* -1: only the head */
    uint64_t head_size, file_size;
};
struct pieces {
    size_t count;
    uint64_t total;
    struct piece at[];
};

static ssize_t
pieces_read(void *data, uint64_t position, char *buffer, size_t max)
{
    struct pieces *pieces = data;
    uint64_t start = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        struct piece *piece = &pieces->at[i];
        if (position < start + piece->head_size) {
            size_t offset = (size_t) (position - start);
            size_t n = MIN(max, piece->head_size - offset);
            memcpy(buffer, piece->head + offset, n);
            return (ssize_t) n;
        }
        start += piece->head_size;
        if (position < start + piece->file_size) {
            uint64_t offset = position - start;
            ssize_t n =
                pread(piece->fd, buffer, MIN(max, piece->file_size - offset), (off_t) offset);
            return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
        }
        start += piece->file_size;
    }
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static void
pieces_free(void *data)
{
    struct pieces *pieces = data;
    for (size_t i = 0; i < pieces->count; i++) {
        g_free(pieces->at[i].head);
        fd_close(&pieces->at[i].fd);
    }
    g_free(pieces);
}

bool
req_reply_multipart(Request *req, ReplyPart *parts, size_t count)
{
    g_autofree char *uuid = g_uuid_string_random();
    struct pieces *pieces = g_malloc0(sizeof *pieces + (count + 1) * sizeof pieces->at[0]);
    for (size_t i = 0; i < count; i++) {
        struct stat st;
        g_assert(fstat(parts[i].fd, &st) == 0);
        pieces->at[i].head = g_strdup_printf(
            "%s--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n"
            "Content-Type: application/octet-stream\r\n\r\n",
            i > 0 ? "\r\n" : "", uuid, parts[i].field, parts[i].filename);
        pieces->at[i].head_size = strlen(pieces->at[i].head);
        pieces->at[i].fd = fd_steal(&parts[i].fd);
        pieces->at[i].file_size = (uint64_t) st.st_size;
        pieces->total += pieces->at[i].head_size + pieces->at[i].file_size;
    }
    pieces->at[count].head = g_strdup_printf("\r\n--%s--\r\n", uuid);
    pieces->at[count].head_size = strlen(pieces->at[count].head);
    pieces->at[count].fd = -1;
    pieces->total += pieces->at[count].head_size;
    pieces->count = count + 1;

    struct MHD_Response *response = MHD_create_response_from_callback(
        pieces->total, 256 * 1024, pieces_read, pieces, pieces_free);
    g_autofree char *type = g_strdup_printf("multipart/form-data; boundary=%s", uuid);
    MHD_add_response_header(response, "Content-Type", type);
    return set_response(req, 200, response);
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

/* Q3 */
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

struct run {
    Request *req;
    RequestRespond respond;
};

static void
request_run(void *data)
{
    g_autofree struct run *run = data;
    Request *req = run->req;
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
    run->respond(req);
}

void
request_start(Request *req, RequestRespond respond)
{
    struct run *run = g_new(struct run, 1);
    run->req = req;
    run->respond = respond;
    req->started = true;
    fiber_start_now("request", request_run, run);
}
