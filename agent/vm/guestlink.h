/* guestlink.h: the talk with a virtual machine's hawser-guest: sessions over one virtio-serial port.
 * The guest is not trusted: nothing it sends makes the agent wait, grow or stop.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include "proto/guestwire.h"
#include <gio/gio.h>

#define GUESTLINK_OFFLINE   "LXD VM agent isn't currently running"
#define GUESTLINK_ANSWER_MS 10000 /* how long a guest that was there may be silent */

typedef struct GuestLink GuestLink;
/* Connects to the port's other end; a descriptor that is given, or -1. Yields. */
typedef int (*GuestDial)(void *data, GError **error);
/* The guest has answered a greeting: at its start, its reboot, our start. Must not yield. */
typedef void (*GuestGreeted)(GuestLink *link, void *data);

/* Dials, and dials again, until it is closed. 'name' is for the log. A reference. */
GuestLink *guestlink_new(const char *name, GuestDial dial, GuestGreeted greeted, void *data);
/* Ends every session and the connection; 'data' is not used any more. Does not yield. */
void guestlink_close(GuestLink *link);
GuestLink *guestlink_ref(GuestLink *link);
void guestlink_unref(GuestLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestLink, guestlink_unref)
/* The guest's end of the port was closed (or opened): it is not there until it greets again. */
void guestlink_port(GuestLink *link, bool open);
/* It has answered, and was not silent when it was last asked. */
bool guestlink_present(GuestLink *link);
/* "0.1.0"; NULL before it has answered. */
const char *guestlink_version(GuestLink *link);
/* Until it is there. TIMEOUT, CANCELLED. Yields. */
bool guestlink_wait(GuestLink *link, gint64 wait_ms, GCancellable *cancel, GError **error);

typedef struct GuestCall GuestCall;
/* A session; 'ask' is borrowed. FAILED with GUESTLINK_OFFLINE when the guest does not answer. Yields. */
GuestCall *guestcall_open(GuestLink *link, const struct guestwire_ask *ask, GError **error);
/* Closes what has not ended: what runs in the guest is killed. */
void guestcall_free(GuestCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestCall, guestcall_free)
/* What comes next on stream 1 or 2, at most 'size' bytes; 0 at its end, -1 on failure. Yields. */
gssize guestcall_read(GuestCall *call, int stream, void *buffer, size_t size, gint64 wait_ms,
                      GCancellable *cancel, GError **error);
/* All of it to stream 0; wait_ms is for each step. CONFLICT once the session has exited. Yields. */
bool guestcall_write(GuestCall *call, const void *bytes, size_t size, gint64 wait_ms,
                     GCancellable *cancel, GError **error);
/* Stream 0: there is no more. Streams 1 and 2: nobody reads them any more. */
void guestcall_end(GuestCall *call, int stream);
void guestcall_signal(GuestCall *call, int number);
void guestcall_resize(GuestCall *call, int width, int height);
/* Until it exits: its code as a shell's; NOT_FOUND and others when it could not start. Yields. */
bool guestcall_wait(GuestCall *call, gint64 wait_ms, GCancellable *cancel, int *ret_code,
                    GError **error);
