/* QMP: JSON objects on a unix socket, one command's answer by its id, events in between.
 * Q1  Answers go by id: fibers may have commands under way at the same time.
 * Q2  The end of the connection is the answer (UNAVAILABLE) to all that still wait; it is told once.
 * Q3  The peer is not trusted: objects are bounded in size and depth, and what is no message of QMP
 *     ends the session.
 * Q4  Descriptors travel with the first byte of their command: a command is sent whole before the next
 *     one begins.
 * Called by the files of this folder, and by agent/move. Main loop. */
#include "agent/vm/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/jsonscan.h"

enum { OBJECT_MAX = 16 * 1024 * 1024, CALL_MS = 60000, READ_BYTES = 65536, FDS_MAX = 16 };

struct Qmp {
    int fd, refs;
    QmpOptions options;
    JsonScan *scan;
    GHashTable *waiting; /* id → struct call, borrowed from the stacks of waiting fibers */
    guint64 last_id, events;
    bool greeted, alive, closed; /* closed: the owner has let go */
    guint version[3];
    char *version_text;
    FiberLock sending; /* Q4 */
    FiberSignal changed;
    GCancellable *stop;
};

struct call {
    guint64 id;
    json_t *result; /* owned until it is handed on */
    GError *error;
    bool done;
};

/* ---- messages ---- */

static bool
read_greeting(json_t *greeting, QmpMessage *message, GError **error)
{
    static const char *const parts[] = {"major", "minor", "micro"};
    json_t *version = json_object_get(json_object_get(greeting, "version"), "qemu");
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        json_t *part = json_object_get(version, parts[i]);
        if (!json_is_integer(part) || json_integer_value(part) < 0 ||
            json_integer_value(part) > G_MAXUINT16) {
            return haw_fail(error, HAW_CORRUPT, "QMP: a greeting without QEMU's version");
        }
        message->version[i] = (guint) json_integer_value(part);
    }
    message->kind = QMP_GREETING;
    return true;
}

bool
qmp_read(json_t *object, QmpMessage *ret_message, GError **error)
{
    QmpMessage message = {.kind = QMP_EVENT};
    json_t *id = json_object_get(object, "id"), *failure = json_object_get(object, "error");
    json_t *event = json_object_get(object, "event");
    message.id = json_is_integer(id) ? (guint64) json_integer_value(id) : 0;
    if (json_object_get(object, "QMP") != NULL) {
        if (!read_greeting(json_object_get(object, "QMP"), &message, error)) {
            return false;
        }
    } else if (json_is_string(event)) {
        message.name = json_string_value(event);
        message.data = json_object_get(object, "data");
    } else if (json_is_object(failure)) {
        message.kind = QMP_ERROR;
        message.name = json_string_value(json_object_get(failure, "class"));
        message.text = json_string_value(json_object_get(failure, "desc"));
        message.name = message.name != NULL ? message.name : "GenericError";
        message.text = message.text != NULL ? message.text : "QEMU gives no reason";
    } else if (json_object_get(object, "return") != NULL) {
        message.kind = QMP_RETURN;
        message.data = json_object_get(object, "return");
    } else {
        return haw_fail(error, HAW_CORRUPT, "QMP: neither an answer nor an event");
    }
    *ret_message = message;
    return true;
}

static HawCode
code_of(const char *class)
{
    return strcmp(class, "DeviceNotFound") == 0    ? HAW_NOT_FOUND
           : strcmp(class, "CommandNotFound") == 0 ? HAW_UNSUPPORTED
           : strcmp(class, "DeviceNotActive") == 0 ? HAW_CONFLICT
                                                   : HAW_FAILED;
}

/* ---- reading ---- */

static void
qmp_unref(Qmp *qmp)
{
    if (--qmp->refs > 0) {
        return;
    }
    fd_close(&qmp->fd);
    jsonscan_free(qmp->scan);
    g_hash_table_unref(qmp->waiting);
    g_object_unref(qmp->stop);
    g_free(qmp->version_text);
    g_free(qmp);
}

/* Q2 */
static void
end_all(Qmp *qmp, const GError *why)
{
    GHashTableIter iter;
    struct call *call;
    qmp->alive = false;
    g_hash_table_iter_init(&iter, qmp->waiting);
    while (g_hash_table_iter_next(&iter, NULL, (void **) &call)) {
        if (!call->done) {
            call->done = true;
            haw_fail(&call->error, HAW_UNAVAILABLE, "%s", why->message);
        }
    }
    fiber_signal_all(&qmp->changed);
    if (!qmp->closed && qmp->greeted && qmp->options.ended != NULL) {
        qmp->options.ended(why, qmp->options.user);
    }
}

static void
hand_on(Qmp *qmp, const QmpMessage *message)
{
    if (message->kind == QMP_GREETING) {
        memcpy(qmp->version, message->version, sizeof qmp->version);
        g_free(qmp->version_text);
        qmp->version_text = g_strdup_printf("%u.%u.%u", message->version[0], message->version[1],
                                            message->version[2]);
        qmp->greeted = true;
    } else if (message->kind == QMP_EVENT) {
        json_t *data = message->data != NULL ? json_incref(message->data) : json_object();
        qmp->events++;
        if (!qmp->closed && qmp->options.event != NULL) {
            qmp->options.event(message->name, data, qmp->options.user);
        }
        json_decref(data);
    } else {
        struct call *call = g_hash_table_lookup(qmp->waiting, &message->id); /* Q1 */
        if (call == NULL || call->done) {
            return; /* its fiber gave up */
        }
        call->done = true;
        if (message->kind == QMP_RETURN) {
            call->result = json_incref(message->data);
        } else {
            haw_fail(&call->error, code_of(message->name), "%s", message->text);
        }
    }
    fiber_signal_all(&qmp->changed);
}

static bool
take_objects(Qmp *qmp, GError **error)
{
    for (;;) {
        json_t *object = NULL;
        QmpMessage message;
        if (!jsonscan_next(qmp->scan, &object, error)) { /* Q3 */
            return false;
        }
        if (object == NULL) {
            return true;
        }
        bool ok = qmp_read(object, &message, error);
        if (ok) {
            hand_on(qmp, &message);
        }
        json_decref(object);
        if (!ok) {
            return false;
        }
    }
}

static bool
read_some(Qmp *qmp, char *buffer, GError **error)
{
    ssize_t n = recv(qmp->fd, buffer, READ_BYTES, MSG_DONTWAIT);
    if (n > 0) {
        jsonscan_feed(qmp->scan, buffer, (size_t) n);
        return take_objects(qmp, error);
    }
    if (n == 0) {
        return haw_fail(error, HAW_UNAVAILABLE, "QEMU closed its monitor");
    }
    if (errno != EAGAIN && errno != EINTR) {
        return haw_fail_errno(error, errno, "Read QEMU's monitor");
    }
    return fiber_wait_fd(qmp->fd, G_IO_IN, -1, qmp->stop, error);
}

static void
reader(void *data)
{
    Qmp *qmp = data;
    g_autoptr(GError) why = NULL;
    g_autofree char *buffer = g_malloc(READ_BYTES);
    while (!qmp->closed && read_some(qmp, buffer, &why)) {
    }
    if (why == NULL) {
        haw_fail(&why, HAW_UNAVAILABLE, "The session with QEMU was closed");
    }
    end_all(qmp, why);
    qmp_unref(qmp);
}

/* ---- sending ---- */

static ssize_t
send_part(int fd, const char *bytes, size_t size, const int *fds, size_t fd_count)
{
    struct iovec part = {.iov_base = (void *) (guintptr) bytes, .iov_len = size};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool
send_text(Qmp *qmp, const char *text, const int *fds, size_t fd_count, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&qmp->sending); /* Q4 */
    size_t size = strlen(text);
    while (size > 0 && qmp->alive) {
        ssize_t n = send_part(qmp->fd, text, size, fds, fd_count);
        if (n > 0) {
            text += n;
            size -= (size_t) n;
            fd_count = 0;
        } else if (errno == EAGAIN) {
            if (!fiber_wait_fd(qmp->fd, G_IO_OUT, CALL_MS, qmp->stop, error)) {
                return false;
            }
        } else if (errno != EINTR) {
            return haw_fail_errno(error, errno, "Write to QEMU's monitor");
        }
    }
    return size == 0 || haw_fail(error, HAW_UNAVAILABLE, "QEMU closed its monitor");
}

static bool
await(Qmp *qmp, struct call *call, const char *command, gint64 wait_ms, GError **error)
{
    gint64 until = clock_mono_us() / 1000 + wait_ms;
    while (!call->done) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0) {
            return haw_fail(error, HAW_TIMEOUT,
                            "QEMU did not answer '%s' within %" G_GINT64_FORMAT " ms", command,
                            wait_ms);
        }
        fiber_signal_wait(&qmp->changed, left, NULL, NULL);
    }
    if (call->error != NULL) {
        g_propagate_prefixed_error(error, g_steal_pointer(&call->error), "QEMU: %s: ", command);
        return false;
    }
    return true;
}

json_t *
qmp_call_with(Qmp *qmp, const char *command, json_t *args, const int *fds, size_t fd_count,
              gint64 wait_ms, GError **error)
{
    g_assert(fd_count <= FDS_MAX);
    struct call call = {.id = ++qmp->last_id};
    json_t *all = json_pack("{s:s,s:I}", "execute", command, "id", (json_int_t) call.id);
    if (args != NULL) {
        json_object_set_new(all, "arguments", args);
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    if (text == NULL) {
        haw_fail(error, HAW_INVALID, "Arguments of '%s' are no valid UTF-8", command);
        return NULL;
    }
    qmp->refs++;
    g_hash_table_insert(qmp->waiting, &call.id, &call);
    bool ok = send_text(qmp, text, fds, fd_count, error) &&
              await(qmp, &call, command, wait_ms > 0 ? wait_ms : CALL_MS, error);
    g_hash_table_remove(qmp->waiting, &call.id);
    g_clear_error(&call.error);
    free(text);
    qmp_unref(qmp);
    if (!ok) {
        json_decref(call.result);
        return NULL;
    }
    return call.result;
}

json_t *
qmp_call(Qmp *qmp, const char *command, json_t *args, GError **error)
{
    return qmp_call_with(qmp, command, args, NULL, 0, CALL_MS, error);
}

bool
qmp_do(Qmp *qmp, const char *command, json_t *args, GError **error)
{
    json_t *result = qmp_call(qmp, command, args, error);
    bool ok = result != NULL;
    json_decref(result);
    return ok;
}

guint64
qmp_events(const Qmp *qmp)
{
    return qmp->events;
}

bool
qmp_await_event(Qmp *qmp, guint64 seen, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    gint64 until = clock_mono_us() / 1000 + wait_ms, left = wait_ms;
    bool ok = true;
    qmp->refs++;
    while (ok && qmp->alive && qmp->events == seen && left > 0) {
        fiber_signal_wait(&qmp->changed, left, cancel, NULL);
        left = until - clock_mono_us() / 1000;
        ok = cancel == NULL || !g_cancellable_set_error_if_cancelled(cancel, error);
    }
    qmp_unref(qmp);
    return ok;
}

bool
qmp_send_fd(Qmp *qmp, const char *name, int fd, GError **error)
{
    json_t *result =
        qmp_call_with(qmp, "getfd", json_pack("{s:s}", "fdname", name), &fd, 1, CALL_MS, error);
    bool ok = result != NULL;
    json_decref(result);
    return ok;
}

char *
qmp_add_file(Qmp *qmp, const char *name, int fd, GError **error)
{
    json_t *result =
        qmp_call_with(qmp, "add-fd", json_pack("{s:s}", "opaque", name), &fd, 1, CALL_MS, error);
    json_t *set = json_object_get(result, "fdset-id");
    char *path = result != NULL
                     ? g_strdup_printf("/dev/fdset/%" JSON_INTEGER_FORMAT, json_integer_value(set))
                     : NULL;
    json_decref(result);
    return path;
}

void
qmp_drop_file(Qmp *qmp, const char *name)
{
    json_auto_t *sets = qmp_call(qmp, "query-fdsets", NULL, NULL);
    size_t i, k;
    json_t *set, *one;
    json_array_foreach (sets, i, set) {
        json_array_foreach (json_object_get(set, "fds"), k, one) {
            if (g_strcmp0(json_string_value(json_object_get(one, "opaque")), name) == 0) {
                json_t *id = json_object_get(set, "fdset-id");
                qmp_do(qmp, "remove-fd", json_pack("{s:O}", "fdset-id", id), NULL);
                break;
            }
        }
    }
}

/* ---- opening ---- */

static bool
await_greeting(Qmp *qmp, gint64 wait_ms, GError **error)
{
    gint64 until = clock_mono_us() / 1000 + wait_ms;
    while (qmp->alive && !qmp->greeted) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0) {
            return haw_fail(error, HAW_TIMEOUT, "QEMU's monitor does not greet");
        }
        fiber_signal_wait(&qmp->changed, left, NULL, NULL);
    }
    return qmp->greeted || haw_fail(error, HAW_UNAVAILABLE, "QEMU closed its monitor");
}

Qmp *
qmp_open(int *fd, const QmpOptions *options, GError **error)
{
    g_autoptr(Qmp) qmp = g_new0(Qmp, 1);
    gint64 wait_ms = options->wait_ms > 0 ? options->wait_ms : QMP_WAIT_MS;
    qmp->fd = fd_steal(fd);
    qmp->options = *options;
    qmp->refs = 2; /* the owner's and the reader's */
    qmp->alive = true;
    qmp->scan = jsonscan_new(OBJECT_MAX);
    qmp->waiting = g_hash_table_new(g_int64_hash, g_int64_equal);
    qmp->stop = g_cancellable_new();
    qmp->sending = (FiberLock) FIBER_LOCK_INIT;
    qmp->changed = (FiberSignal) FIBER_SIGNAL_INIT;
    fcntl(qmp->fd, F_SETFL, fcntl(qmp->fd, F_GETFL) | O_NONBLOCK);
    fiber_start("qmp", reader, qmp);
    if (!await_greeting(qmp, wait_ms, error)) {
        return NULL;
    }
    json_t *result = qmp_call_with(qmp, "qmp_capabilities", NULL, NULL, 0, wait_ms, error);
    if (result == NULL) {
        return NULL;
    }
    json_decref(result);
    return g_steal_pointer(&qmp);
}

void
qmp_close(Qmp *qmp)
{
    if (qmp == NULL) {
        return;
    }
    qmp->closed = true;
    g_cancellable_cancel(qmp->stop);
    shutdown(qmp->fd, SHUT_RDWR);
    qmp_unref(qmp);
}

bool
qmp_alive(const Qmp *qmp)
{
    return qmp != NULL && qmp->alive && !qmp->closed;
}

const char *
qmp_version(const Qmp *qmp)
{
    return qmp->version_text;
}
