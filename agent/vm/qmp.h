/* qmp.h: a session with a QEMU over its QMP socket: commands, their answers, events.
 * Threads: main loop, inside fibers. Protocol: QEMU's docs/interop/qmp-spec.txt. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>
#include <jansson.h>

typedef struct Qmp Qmp;
/* An event of the peer; 'data' is borrowed (an empty object when it has none). Must not yield. */
typedef void (*QmpEvent)(const char *name, json_t *data, void *user);
/* The connection has ended by itself: not called after qmp_close(). Must not yield. */
typedef void (*QmpEnded)(const GError *why, void *user);

typedef struct {
    QmpEvent event; /* may be NULL, as may 'ended' */
    QmpEnded ended;
    void *user;
    gint64 wait_ms; /* for greeting and negotiation; 0: QMP_WAIT_MS */
} QmpOptions;
enum { QMP_WAIT_MS = 30000 };

/* Takes a connected socket (and closes it), reads the greeting and negotiates. Yields. */
Qmp *qmp_open(int *fd, const QmpOptions *options, GError **error);
/* What still waits fails with UNAVAILABLE. NULL is fine. */
void qmp_close(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_close)
/* False once the connection has ended. */
bool qmp_alive(const Qmp *qmp);
/* "7.2.22" of the greeting. */
const char *qmp_version(const Qmp *qmp);

/* Executes; 'args' (may be NULL) is stolen. The "return" as a new reference. QEMU's error becomes ours
 * with its text: NOT_FOUND for DeviceNotFound, UNSUPPORTED for CommandNotFound, else FAILED. Yields. */
json_t *qmp_call(Qmp *qmp, const char *command, json_t *args, GError **error);
/* The same with a bound of its own, and descriptors for getfd and add-fd (borrowed). */
json_t *qmp_call_with(Qmp *qmp, const char *command, json_t *args, const int *fds, size_t fd_count,
                      gint64 wait_ms, GError **error);
/* The same for commands whose answer says nothing. */
bool qmp_do(Qmp *qmp, const char *command, json_t *args, GError **error);
/* How many events have come so far. */
guint64 qmp_events(const Qmp *qmp);
/* Until more than 'seen' have, the session ends, or wait_ms have passed: true. CANCELLED. Yields. */
bool qmp_await_event(Qmp *qmp, guint64 seen, gint64 wait_ms, GCancellable *cancel, GError **error);
/* Hands 'fd' (borrowed) over under a name, for arguments that take one. */
bool qmp_send_fd(Qmp *qmp, const char *name, int fd, GError **error);
/* The same for what QEMU opens by a path, as often as it likes, with the descriptor's access mode: the path,
 * the caller's; NULL. Until it is dropped; one that is not there is fine. */
char *qmp_add_file(Qmp *qmp, const char *name, int fd, GError **error);
void qmp_drop_file(Qmp *qmp, const char *name);

/* ---- the wire, for tests ---- */
typedef enum { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT } QmpKind;
typedef struct {
    QmpKind kind;
    guint64 id;       /* of RETURN and ERROR; 0: none */
    const char *name; /* EVENT's name, ERROR's class, GREETING's version */
    const char *text; /* ERROR's description */
    json_t *data;     /* RETURN's value, EVENT's data (may be NULL) */
    guint version[3]; /* GREETING */
} QmpMessage;
/* What an object of the peer's is; its parts are borrowed from it. CORRUPT when it is none. */
bool qmp_read(json_t *object, QmpMessage *ret_message, GError **error);
