/* One session a request: an OPEN, a reply (u32 of its size and JSON), perhaps a content.
 * K1  A reply's size is bounded before it is read, its JSON is parsed with jansson's depth limit, and
 *     only the keys that we know, of the types they must have, are passed on.
 * K2  A content never fills our disk: no more than the guest announced and half of what is free.
 * K3  Each step has a deadline; a stopped step fails the request, not the agent.
 * Callers: guestvm.c, and through it files, state and lifecycle of agent/inst. */
#include "agent/vm/guestask.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/vm/gueststate.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"

#define ASK_STEP_MS   30000
#define ASK_QUICK_MS  10000
#define ASK_REPLY_MAX (4 * 1024 * 1024)
#define ASK_NAMES_MAX (64 * 1024 * 1024)
#define ASK_BYTES     (64 * 1024)
#define ASK_UNKNOWN   (16 * 1024 * 1024) /* of a file whose size says 0, as in /proc */

typedef struct guestwire_ask Ask;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ask, guestwire_ask_done)

static bool
read_exactly(GuestCall *call, guint8 *to, size_t size, gint64 wait_ms, GError **error)
{
    while (size > 0) {
        gssize n = guestcall_read(call, 1, to, size, wait_ms, NULL, error);
        if (n < 0) {
            return false;
        }
        if (n == 0) {
            return haw_fail(error, HAW_FAILED, "The VM agent's answer was cut short");
        }
        to += n;
        size -= (size_t) n;
    }
    return true;
}

static HawCode
code_of(json_int_t err)
{
    switch (err) {
    case ENOENT:
    case ENOTDIR:
        return HAW_NOT_FOUND;
    case EACCES:
    case EPERM:
        return HAW_DENIED;
    case EEXIST:
        return HAW_EXISTS;
    case EINVAL:
        return HAW_INVALID;
    case ENOSPC:
    case EDQUOT:
        return HAW_LIMIT;
    default:
        return HAW_FAILED;
    }
}

/* The reply of a session: an object, or its error. K1 */
static json_t *
read_reply(GuestCall *call, size_t max_bytes, gint64 wait_ms, GError **error)
{
    guint8 head[4];

    if (!read_exactly(call, head, sizeof(head), wait_ms, error)) {
        return NULL;
    }
    guint32 size = guestwire_u32(head);
    if (size > max_bytes) {
        haw_fail(error, HAW_LIMIT, "The VM agent's answer is larger than %zu KiB",
                 max_bytes / 1024);
        return NULL;
    }
    g_autofree guint8 *text = g_malloc(size + 1);
    if (!read_exactly(call, text, size, wait_ms, error)) {
        return NULL;
    }
    json_t *reply = json_loadb((const char *) text, size, 0, NULL);
    if (!json_is_object(reply)) {
        json_decref(reply);
        haw_fail(error, HAW_FAILED, "The VM agent's answer is no JSON object");
        return NULL;
    }
    const char *why = json_string_value(json_object_get(reply, "error"));
    if (why != NULL) {
        haw_fail(error, code_of(json_integer_value(json_object_get(reply, "errno"))), "%.1000s",
                 why);
        json_decref(reply);
        return NULL;
    }
    return reply;
}

static json_t *
ask_reply(GuestLink *link, const Ask *ask, size_t max_bytes, gint64 wait_ms, GError **error)
{
    g_autoptr(GuestCall) call = guestcall_open(link, ask, error);

    return call != NULL ? read_reply(call, max_bytes, wait_ms, error) : NULL;
}

/* A request whose answer says nothing but whether it worked. */
static bool
ask_done(GuestLink *link, const Ask *ask, gint64 wait_ms, GError **error)
{
    json_t *reply = ask_reply(link, ask, ASK_REPLY_MAX, wait_ms, error);

    json_decref(reply);
    return reply != NULL;
}

/* ---- files ---- */

/* K2 */
static gint64
content_limit(int fd, gint64 announced, GError **error)
{
    struct statvfs fs;

    if (fstatvfs(fd, &fs) < 0) {
        haw_fail_errno(error, errno, "spool a file of the virtual machine");
        return -1;
    }
    gint64 half = (gint64) MIN(fs.f_bavail * fs.f_frsize / 2, G_MAXINT64);
    if (announced < 0 || announced > half) {
        haw_fail(error, HAW_LIMIT,
                 "The file is too large to be spooled (%" G_GINT64_FORMAT " bytes)", announced);
        return -1;
    }
    return MAX(announced, MIN(half, ASK_UNKNOWN));
}

struct spool {
    int fd;
    const guint8 *bytes;
    size_t size;
    bool ok;
    GError *error;
};

static void
spool_run(void *data)
{
    struct spool *spool = data;

    spool->ok =
        fd_write_all(spool->fd, spool->bytes, spool->size, "the spooled file", &spool->error);
}

static bool
read_content(GuestCall *call, int fd, gint64 limit, GError **error)
{
    g_autofree guint8 *buffer = g_malloc(4 * ASK_BYTES);
    gint64 total = 0;
    int code = 0;
    gssize n;

    while ((n = guestcall_read(call, 1, buffer, 4 * ASK_BYTES, ASK_STEP_MS, NULL, error)) > 0) {
        struct spool spool = {.fd = fd, .bytes = buffer, .size = (size_t) n};
        total += n;
        if (total > limit) {
            return haw_fail(error, HAW_LIMIT, "The file is larger than it said");
        }
        fiber_run(spool_run, &spool);
        if (!spool.ok) {
            g_propagate_error(error, spool.error);
            return false;
        }
    }
    if (n < 0 || !guestcall_wait(call, ASK_STEP_MS, NULL, &code, error)) {
        return false;
    }
    return code == 0 || haw_fail(error, HAW_IO, "The file could not be read to its end");
}

static int
open_spool(const char *dir, GError **error)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        haw_fail_errno(error, errno, "make a file in '%s'", dir);
    }
    return fd;
}

int
guestask_names(json_t *names, const char *spool_dir, GError **error)
{
    haw_autofd int fd = open_spool(spool_dir, error);
    char *text = json_dumps(names, JSON_COMPACT);
    bool ok = fd >= 0 && text != NULL && fd_write_all(fd, text, strlen(text), "names", error);

    free(text);
    return ok ? fd_steal(&fd) : -1;
}

static bool
is_file(json_t *reply)
{
    return g_strcmp0(json_string_value(json_object_get(reply, "type")), "file") == 0;
}

/* K1: a directory's names are texts; numbers are numbers. */
static json_t *
checked_file(json_t *reply)
{
    static const char *const numbers[] = {"uid", "gid", "mode", "size", "mtime", "mtime_ns"};
    const char *type = json_string_value(json_object_get(reply, "type"));
    json_t *checked = json_object(), *names = json_object_get(reply, "names"), *name;
    json_t *target = json_object_get(reply, "target");
    size_t i;

    type = g_strcmp0(type, "directory") == 0 ? "directory"
           : g_strcmp0(type, "symlink") == 0 ? "symlink"
                                             : "file";
    json_object_set_new(checked, "type", json_string(type));
    for (i = 0; i < G_N_ELEMENTS(numbers); i++) {
        json_int_t value = json_integer_value(json_object_get(reply, numbers[i]));
        json_object_set_new(checked, numbers[i], json_integer(MAX(0, value)));
    }
    if (json_is_string(target)) {
        json_object_set(checked, "target", target);
    }
    if (g_str_equal(type, "directory")) {
        json_t *list = json_array();
        json_array_foreach (names, i, name) {
            if (json_is_string(name)) {
                json_array_append(list, name);
            }
        }
        json_object_set_new(checked, "names", list);
    }
    json_decref(reply);
    return checked;
}

json_t *
guestask_get(GuestLink *link, const char *path, bool head, const char *spool_dir, int *ret_fd,
             GError **error)
{
    g_auto(Ask) ask = {0};
    haw_autofd int fd = -1;

    guestwire_ask_begin(&ask, GUESTWIRE_GET);
    guestwire_ask_add(&ask, GUESTWIRE_PATH, path);
    guestwire_ask_add(&ask, GUESTWIRE_HEAD_ONLY, head ? "1" : NULL);
    g_autoptr(GuestCall) call = guestcall_open(link, &ask, error);
    json_t *reply = call != NULL ? read_reply(call, ASK_NAMES_MAX, ASK_STEP_MS, error) : NULL;
    if (reply == NULL) {
        return NULL;
    }
    reply = checked_file(reply);
    if (!head && is_file(reply)) {
        gint64 size = json_integer_value(json_object_get(reply, "size")), limit;
        fd = open_spool(spool_dir, error);
        if (fd < 0 || (limit = content_limit(fd, size, error)) < 0 ||
            !read_content(call, fd, limit, error)) {
            json_decref(reply);
            return NULL;
        }
    }
    *ret_fd = fd_steal(&fd);
    return reply;
}

static void
add_number(Ask *ask, enum guestwire_tag tag, json_t *request, const char *key)
{
    json_t *value = json_object_get(request, key);

    if (json_is_integer(value)) {
        guestwire_ask_number(ask, tag, json_integer_value(value));
    }
}

struct piece {
    int fd;
    guint8 *buffer;
    ssize_t size;
};

static void
piece_run(void *data)
{
    struct piece *piece = data;

    do {
        piece->size = read(piece->fd, piece->buffer, 4 * ASK_BYTES);
    } while (piece->size < 0 && errno == EINTR);
}

/* A guest that answers in the middle has failed to write: its answer says why. */
static bool
write_content(GuestCall *call, int fd, GError **error)
{
    struct piece piece = {.fd = fd, .buffer = g_malloc(4 * ASK_BYTES)};
    g_autoptr(GError) local = NULL;
    bool ok = true;

    do {
        fiber_run(piece_run, &piece);
        ok = piece.size >= 0 || haw_fail_errno(error, errno, "read the file to send");
        if (ok && piece.size > 0) {
            ok =
                guestcall_write(call, piece.buffer, (size_t) piece.size, ASK_STEP_MS, NULL, &local);
        }
    } while (ok && piece.size > 0);
    if (haw_code(local) == HAW_CONFLICT) {
        ok = true;
    } else if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    guestcall_end(call, 0);
    g_free(piece.buffer);
    return ok;
}

bool
guestask_put(GuestLink *link, json_t *request, int fd, GError **error)
{
    const char *type = json_string_value(json_object_get(request, "type"));
    bool append = json_is_true(json_object_get(request, "append"));
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_PUT);
    guestwire_ask_add(&ask, GUESTWIRE_PATH, json_string_value(json_object_get(request, "path")));
    guestwire_ask_add(&ask, GUESTWIRE_TYPE, type);
    guestwire_ask_add(&ask, GUESTWIRE_TARGET,
                      json_string_value(json_object_get(request, "target")));
    guestwire_ask_add(&ask, GUESTWIRE_APPEND, append ? "1" : NULL);
    add_number(&ask, GUESTWIRE_UID, request, "uid");
    add_number(&ask, GUESTWIRE_GID, request, "gid");
    add_number(&ask, GUESTWIRE_MODE, request, "mode");
    g_autoptr(GuestCall) call = guestcall_open(link, &ask, error);
    if (call == NULL) {
        return false;
    }
    bool content = type == NULL || g_str_equal(type, "file");
    if (content && !write_content(call, fd, error)) {
        return false;
    }
    json_t *reply = read_reply(call, ASK_REPLY_MAX, ASK_STEP_MS, error);
    json_decref(reply);
    return reply != NULL;
}

bool
guestask_delete(GuestLink *link, const char *path, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_DELETE);
    guestwire_ask_add(&ask, GUESTWIRE_PATH, path);
    return ask_done(link, &ask, ASK_STEP_MS, error);
}

/* ---- SFTP ---- */

typedef struct {
    GuestCall *call; /* borrowed */
    int fd;          /* borrowed */
    GCancellable *stop;
    Fiber *owner;
    bool done;
} Upward;

/* From the client to the guest. */
static void
upward_body(void *data)
{
    Upward *up = data;
    g_autofree guint8 *buffer = g_malloc(ASK_BYTES);

    for (;;) {
        ssize_t n = read(up->fd, buffer, ASK_BYTES);
        if (n > 0) {
            if (!guestcall_write(up->call, buffer, (size_t) n, -1, up->stop, NULL)) {
                break;
            }
        } else if (n < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(up->fd, G_IO_IN, -1, up->stop, NULL)) {
                break;
            }
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    guestcall_end(up->call, 0);
    up->done = true;
    fiber_wake(up->owner);
}

static bool
send_down(int fd, const guint8 *bytes, size_t size, GCancellable *cancel, GError **error)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            bytes += n;
            size -= (size_t) n;
        } else if (errno == EAGAIN) {
            if (!fiber_wait_fd(fd, G_IO_OUT, -1, cancel, error)) {
                return false;
            }
        } else if (errno != EINTR) {
            return haw_fail_errno(error, errno, "send to the SFTP client");
        }
    }
    return true;
}

bool
guestask_sftp(GuestLink *link, int fd, GCancellable *cancel, GError **error)
{
    g_auto(Ask) ask = {0};
    g_autofree guint8 *buffer = g_malloc(ASK_BYTES);
    gssize n;
    bool ok = true;

    guestwire_ask_begin(&ask, GUESTWIRE_SFTP);
    g_autoptr(GuestCall) call = guestcall_open(link, &ask, error);
    if (call == NULL) {
        return false;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    Upward up = {.call = call, .fd = fd, .stop = g_cancellable_new(), .owner = fiber_self()};
    fiber_start("guest sftp", upward_body, &up);
    while ((n = guestcall_read(call, 1, buffer, ASK_BYTES, -1, cancel, error)) > 0 &&
           (ok = send_down(fd, buffer, (size_t) n, cancel, error))) {
    }
    g_cancellable_cancel(up.stop);
    while (!up.done) {
        fiber_suspend();
    }
    g_object_unref(up.stop);
    return ok && n == 0;
}

/* ---- what it says of itself ---- */

json_t *
guestask_state(GuestLink *link, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_STATE);
    json_t *reply = ask_reply(link, &ask, ASK_REPLY_MAX, ASK_QUICK_MS, error);
    if (reply == NULL) {
        return NULL;
    }
    json_t *state = gueststate_checked(reply);
    json_decref(reply);
    return state;
}

json_t *
guestask_metrics(GuestLink *link, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_METRICS);
    return ask_reply(link, &ask, ASK_REPLY_MAX, ASK_QUICK_MS, error);
}

/* ---- what it does ---- */

static bool
ask_named(GuestLink *link, enum guestwire_kind kind, const char *name, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, kind);
    guestwire_ask_add(&ask, GUESTWIRE_NAME, name);
    return ask_done(link, &ask, ASK_QUICK_MS, error);
}

bool
guestask_power(GuestLink *link, bool again, GError **error)
{
    return ask_named(link, GUESTWIRE_POWER, again ? "reboot" : "off", error);
}

bool
guestask_hostname(GuestLink *link, const char *name, GError **error)
{
    return ask_named(link, GUESTWIRE_HOSTNAME, name, error);
}

bool
guestask_ready(GuestLink *link, GError **error)
{
    return ask_named(link, GUESTWIRE_READY, NULL, error);
}

bool
guestask_time(GuestLink *link, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_TIME);
    guestwire_ask_number(&ask, GUESTWIRE_NUMBER, clock_real_us() * 1000);
    return ask_done(link, &ask, ASK_QUICK_MS, error);
}

static bool
ask_args(GuestLink *link, Ask *ask, const char *const *args, GError **error)
{
    for (; *args != NULL; args++) {
        guestwire_ask_add(ask, GUESTWIRE_ARG, *args);
    }
    return ask_done(link, ask, ASK_STEP_MS, error);
}

bool
guestask_mount(GuestLink *link, const char *tag, const char *path, bool readonly,
               const char *const *kinds, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_MOUNT);
    guestwire_ask_add(&ask, GUESTWIRE_NAME, tag);
    guestwire_ask_add(&ask, GUESTWIRE_PATH, path);
    guestwire_ask_add(&ask, GUESTWIRE_TYPE, readonly ? "ro" : "rw");
    return ask_args(link, &ask, kinds, error);
}

bool
guestask_umount(GuestLink *link, const char *path, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_UMOUNT);
    guestwire_ask_add(&ask, GUESTWIRE_PATH, path);
    return ask_done(link, &ask, ASK_STEP_MS, error);
}

bool
guestask_nics(GuestLink *link, const char *const *lines, GError **error)
{
    g_auto(Ask) ask = {0};

    guestwire_ask_begin(&ask, GUESTWIRE_NICS);
    return ask_args(link, &ask, lines, error);
}
