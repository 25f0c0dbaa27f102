/* Files of an instance: requests become one call of `hawserd forkfile` (a session of `forksftp`),
 * which does everything on the instance's side: see there for why.
 * Y1  What comes from the instance is data: names, numbers and one descriptor that cannot stall us.
 *     An overlay may stand on a file system of the container's own: only the one of its volume, which we mounted, is
 *     known not to (forkfile.c, B3).
 * Y2  A stopped instance's volume is mounted for the call only.
 * Handlers run in fibers of requests. */
#include "agent/inst/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "agent/inst/enter.h"
#include "agent/inst/forkcall.h"
#include "agent/inst/inst.h"
#include "agent/inst/instdriver.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/grammar.h"

#define FILES_SFTP_READY_MS 10000
#define FILES_NAMES_MAX     (64 * 1024 * 1024)

/* ---- where the instance's files are ---- */

typedef struct {
    InstRoot root;
    Inst *inst;           /* shares; NULL while nothing is open */
    int place;            /* owns: pidfd, or duplicate of root_fd; -1: the driver is asked */
    const Driver *driver; /* NULL: forkfile does it */
    gint64 device;        /* of the file system that the root is on, as we see it; 0: unknown */
} Place;

static void
place_clear(Place *place)
{
    if (place->inst != NULL) {
        fd_close(&place->place);
        if (place->driver == NULL) {
            inst_root_close(place->inst, &place->root);
        }
        inst_unref(g_steal_pointer(&place->inst));
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

static bool
place_open(Place *place, Inst *inst, GError **error)
{
    const Driver *driver = driver_of_type(inst_type(inst));

    if (driver->files != NULL) {
        place->inst = inst_ref(inst);
        place->place = -1;
        place->driver = driver;
        return true;
    }
    if (!inst_root_open(inst, &place->root, error)) {
        return false;
    }
    place->inst = inst_ref(inst);
    place->device = inst_root_device(inst);
    place->place = place->root.pid > 0 ? enter_pidfd(place->root.pid, error)
                                       : fcntl(place->root.root_fd, F_DUPFD_CLOEXEC, 3);
    return place->place >= 0;
}

/* The part of a request that tells the helper where it is. */
static json_t *
place_request(const Place *place)
{
    json_t *request =
        json_pack("{s:i,s:I}", "pid", (int) place->root.pid, "device", (json_int_t) place->device);

    if (place->driver == NULL && place->root.pid == 0 && place->root.idmap != NULL) {
        json_object_set(request, "idmap", place->root.idmap);
    }
    return request;
}

static Inst *
find_instance(Request *req, GError **error)
{
    return inst_find(req_agent(req)->instances, req_project(req), req_arg(req, "name"), error);
}

static char *
asked_path(Request *req, GError **error)
{
    const char *path = req_query(req, "path");

    if (path == NULL || path[0] == '\0') {
        haw_fail(error, HAW_INVALID, "Missing path argument");
        return NULL;
    }
    return path[0] == '/' ? g_strdup(path) : g_strconcat("/", path, NULL);
}

static void
announce(Request *req, Inst *inst, const char *action, const char *path)
{
    event_lifecycle(req_agent(req), inst_project(inst), req_caller(req),
                    json_pack("{s:s}", "path", path), action, "/1.0/instances/%s", inst_name(inst));
}

static bool
call_helper(Request *req, const Place *place, json_t *request, int body_fd, json_t **ret_reply,
            int *ret_fd, GError **error)
{
    int fds[] = {place->place, body_fd};

    if (place->driver != NULL) {
        return place->driver->files(place->inst, request, body_fd, ret_reply, ret_fd, error);
    }
    return forkcall(req_agent(req), "forkfile", request, fds, body_fd >= 0 ? 2 : 1, 0, NULL,
                    ret_reply, ret_fd, error);
}

/* One call of the helper, or of the guest's agent; *ret_reply and *ret_fd may be NULL. What is not there
 * is "Not Found", in LXD's words, which clients look for. */
static bool
ask_helper(Request *req, const Place *place, json_t *request, int body_fd, json_t **ret_reply,
           int *ret_fd, GError **error)
{
    g_autoptr(GError) failure = NULL;

    if (call_helper(req, place, request, body_fd, ret_reply, ret_fd, &failure)) {
        return true;
    }
    if (haw_code(failure) == HAW_NOT_FOUND) {
        return haw_fail(error, HAW_NOT_FOUND, "Not Found");
    }
    g_propagate_error(error, g_steal_pointer(&failure));
    return false;
}

/* ---- GET, HEAD ---- */

typedef struct {
    char *values[5];
    const char *headers[13];
} Headers;

static void
headers_clear(Headers *headers)
{
    for (size_t i = 0; i < G_N_ELEMENTS(headers->values); i++) {
        g_free(headers->values[i]);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Headers, headers_clear)

static gint64
number_of(json_t *reply, const char *key)
{
    return json_integer_value(json_object_get(reply, key));
}

/* As Go prints a time in UTC: "2023-01-02 15:04:05.12 +0000 UTC". */
static char *
go_time(gint64 seconds, gint64 nanoseconds)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(seconds);
    g_autofree char *day = when != NULL ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S") : NULL;
    g_autofree char *fraction = g_strdup_printf(".%09d", (int) nanoseconds);

    for (size_t end = strlen(fraction);
         end > 0 && (fraction[end - 1] == '0' || fraction[end - 1] == '.'); end--) {
        fraction[end - 1] = '\0';
    }
    return g_strdup_printf("%s%s +0000 UTC", day != NULL ? day : "1970-01-01 00:00:00", fraction);
}

static void
headers_fill(Headers *headers, json_t *reply)
{
    static const char *const names[] = {"X-LXD-uid", "X-LXD-gid", "X-LXD-mode", "X-LXD-modified",
                                        "X-LXD-type"};
    const char *type = json_string_value(json_object_get(reply, "type"));

    headers->values[0] = g_strdup_printf("%" G_GINT64_FORMAT, number_of(reply, "uid"));
    headers->values[1] = g_strdup_printf("%" G_GINT64_FORMAT, number_of(reply, "gid"));
    headers->values[2] = g_strdup_printf("%04o", (unsigned) number_of(reply, "mode"));
    headers->values[3] = go_time(number_of(reply, "mtime"), number_of(reply, "mtime_ns"));
    headers->values[4] = g_strdup(type != NULL ? type : "file");
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        headers->headers[2 * i] = names[i];
        headers->headers[2 * i + 1] = headers->values[i];
    }
}

static bool
reply_directory(Request *req, int fd, const Headers *headers, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    size_t size = 0;
    g_autofree char *text = fd_read_file(path, FILES_NAMES_MAX, &size, error);

    if (text == NULL) {
        return false;
    }
    g_autofree char *body = g_strdup_printf("{\"type\":\"sync\",\"status\":\"Success\","
                                            "\"status_code\":200,\"operation\":\"\","
                                            "\"error_code\":0,\"error\":\"\",\"metadata\":%s}\n",
                                            text);
    return req_reply_bytes(req, 200, "application/json", body, strlen(body), headers->headers);
}

static bool
reply_file(Request *req, json_t *reply, int *fd, const char *path, GError **error)
{
    g_auto(Headers) headers = {0};
    g_autofree char *base = g_path_get_basename(path);
    const char *target = json_string_value(json_object_get(reply, "target"));

    headers_fill(&headers, reply);
    if (g_str_equal(req_method(req), "HEAD")) {
        g_autofree char *size = g_strdup_printf("%" G_GINT64_FORMAT, number_of(reply, "size"));
        headers.headers[10] = "X-LXD-size";
        headers.headers[11] = size;
        return req_reply_bytes(req, 200, "application/octet-stream", "", 0, headers.headers);
    }
    if (g_str_equal(headers.values[4], "directory")) {
        return reply_directory(req, *fd, &headers, error);
    }
    if (target != NULL) {
        return req_reply_bytes(req, 200, "application/octet-stream", target, strlen(target),
                               headers.headers);
    }
    if (lseek(*fd, 0, SEEK_SET) < 0) {
        return haw_fail_errno(error, errno, "read '%s'", path);
    }
    return req_reply_fd(req, fd, "application/octet-stream", base, headers.headers);
}

static bool
handle_get(Request *req, GError **error)
{
    g_autofree char *path = asked_path(req, error);
    g_autoptr(Inst) inst = path != NULL ? find_instance(req, error) : NULL;
    g_auto(Place) place = {0};
    haw_autofd int fd = -1;
    json_t *reply = NULL;
    bool head = g_str_equal(req_method(req), "HEAD");

    if (inst == NULL || !place_open(&place, inst, error)) {
        return false;
    }
    json_t *request = place_request(&place);
    json_object_set_new(request, "what", json_string("get"));
    json_object_set_new(request, "path", json_string(path));
    json_object_set_new(request, "head", json_boolean(head));
    if (!ask_helper(req, &place, request, -1, &reply, &fd, error)) {
        return false;
    }
    bool ok = reply_file(req, reply, &fd, path, error);
    json_decref(reply);
    if (ok && !head) {
        announce(req, inst, "instance-file-retrieved", path);
    }
    return ok;
}

/* ---- POST ---- */

static bool
put_number(Request *req, const char *header, const char *key, int base, json_t *request,
           GError **error)
{
    const char *text = req_header(req, header);
    char *end = NULL;

    if (text == NULL || text[0] == '\0') {
        return true;
    }
    gint64 value = g_ascii_strtoll(text, &end, base);
    if (*end != '\0' || value < 0 || value > G_MAXUINT32) {
        return haw_fail(error, HAW_INVALID, "Invalid value \"%s\" of header %s", text, header);
    }
    json_object_set_new(request, key, json_integer(value));
    return true;
}

static bool
put_target(Request *req, json_t *request, GError **error)
{
    char target[4096];
    ssize_t n = req_body_fd(req) >= 0 ? pread(req_body_fd(req), target, sizeof(target), 0) : 0;

    if (n <= 0 || n == (ssize_t) sizeof(target) ||
        json_object_set_new(request, "target", json_stringn(target, (size_t) n)) < 0) {
        return haw_fail(error, HAW_INVALID, "The target of a symbolic link is its body");
    }
    return true;
}

static bool
put_request(Request *req, json_t *request, const char *path, GError **error)
{
    static const char *const types[] = {"file", "directory", "symlink", NULL};
    const char *type = req_header(req, "X-LXD-type"), *how = req_header(req, "X-LXD-write");

    type = type != NULL && type[0] != '\0' ? type : "file";
    how = how != NULL && how[0] != '\0' ? how : "overwrite";
    if (!g_strv_contains(types, type)) {
        return haw_fail(error, HAW_INVALID, "Bad file type: %s", type);
    }
    if (!g_str_equal(how, "overwrite") && !g_str_equal(how, "append")) {
        return haw_fail(error, HAW_INVALID, "Bad file write mode: %s", how);
    }
    json_object_set_new(request, "what", json_string("put"));
    json_object_set_new(request, "path", json_string(path));
    json_object_set_new(request, "type", json_string(type));
    json_object_set_new(request, "append", json_boolean(g_str_equal(how, "append")));
    return put_number(req, "X-LXD-uid", "uid", 10, request, error) &&
           put_number(req, "X-LXD-gid", "gid", 10, request, error) &&
           put_number(req, "X-LXD-mode", "mode", 8, request, error) &&
           (!g_str_equal(type, "symlink") || put_target(req, request, error));
}

static bool
handle_post(Request *req, GError **error)
{
    g_autofree char *path = asked_path(req, error);
    g_autoptr(Inst) inst = path != NULL ? find_instance(req, error) : NULL;
    g_auto(Place) place = {0};

    if (inst == NULL || !place_open(&place, inst, error)) {
        return false;
    }
    json_t *request = place_request(&place);
    if (!put_request(req, request, path, error)) {
        json_decref(request);
        return false;
    }
    haw_autofd int empty = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int body_fd = req_body_fd(req) >= 0 ? req_body_fd(req) : empty;
    if (!ask_helper(req, &place, request, body_fd, NULL, NULL, error)) {
        return false;
    }
    announce(req, inst, "instance-file-pushed", path);
    return req_reply(req, NULL);
}

/* ---- DELETE ---- */

static bool
handle_delete(Request *req, GError **error)
{
    g_autofree char *path = asked_path(req, error);
    g_autoptr(Inst) inst = path != NULL ? find_instance(req, error) : NULL;
    g_auto(Place) place = {0};

    if (inst == NULL || !place_open(&place, inst, error)) {
        return false;
    }
    json_t *request = place_request(&place);
    json_object_set_new(request, "what", json_string("delete"));
    json_object_set_new(request, "path", json_string(path));
    if (!ask_helper(req, &place, request, -1, NULL, NULL, error)) {
        return false;
    }
    announce(req, inst, "instance-file-deleted", path);
    return req_reply(req, NULL);
}

/* ---- SFTP ---- */

typedef struct {
    Agent *agent; /* borrowed */
    Inst *inst;   /* shares */
} Session;

static void
sftp_run(int fd, void *data)
{
    g_autofree Session *session = data;
    g_autoptr(Inst) inst = session->inst;
    g_auto(Place) place = {0};
    g_autoptr(GError) error = NULL;
    int status;

    if (!place_open(&place, inst, &error)) {
        haw_warn("sftp.failed", KS("inst", inst_name(inst)), KS("why", error->message));
        return;
    }
    if (place.driver != NULL) {
        if (!place.driver->sftp(inst, fd, &error)) {
            haw_warn("sftp.failed", KS("inst", inst_name(inst)), KS("why", error->message));
        }
        return;
    }
    int fds[] = {place.place, fd};
    pid_t pid = forkcall_spawn(session->agent, "forksftp", place_request(&place), fds, 2, NULL,
                               FILES_SFTP_READY_MS, &error);
    if (pid < 0) {
        haw_warn("sftp.failed", KS("inst", inst_name(inst)), KS("why", error->message));
        return;
    }
    fiber_wait_pid(pid, -1, NULL, &status, NULL);
}

static bool
handle_sftp(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);

    if (inst == NULL) {
        return false;
    }
    Session *session = g_new0(Session, 1);
    session->agent = req_agent(req);
    session->inst = inst_ref(inst);
    if (!req_upgrade_raw(req, "sftp", sftp_run, session, error)) {
        inst_unref(session->inst);
        g_free(session);
        return false;
    }
    return true;
}

const Route files_routes[] = {
    INST_ROUTES("GET", "/{name}/files", handle_get, 0),
    INST_ROUTES("POST", "/{name}/files", handle_post, ROUTE_BODY_FILE),
    INST_ROUTES("DELETE", "/{name}/files", handle_delete, 0),
    INST_ROUTES("GET", "/{name}/sftp", handle_sftp, 0),
    {NULL},
};
