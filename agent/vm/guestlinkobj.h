/* guestlinkobj.h: the bodies of a link and its sessions, for guestlink.c and guestcall.c.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/vm/guestlink.h"
#include "base/fiber.h"

#define LINK_QUEUE (512 * 1024)

struct GuestLink {
    int refs;
    char *name, *version;
    GuestDial dial;
    GuestGreeted on_greeted;
    void *data; /* borrowed until closed */
    bool closed, greeted, flooded;
    GCancellable *stop; /* of the whole link */
    GCancellable *lost; /* of the connection; NULL without one */
    int fd;             /* of the connection */
    guint32 epoch, next_id;
    GByteArray *queue;
    FiberSignal changed; /* greeted, lost, heard, room in the queue, or something in it */
    GHashTable *calls;   /* id → borrowed GuestCall */
    gint64 heard_ms, silent_until_ms, noise_since_ms;
    guint noise;
    size_t noise_bytes; /* since a frame that made sense */
    bool writer_ended;
    struct guestwire_reader reader;
};

struct GuestCall {
    GuestLink *link; /* shares */
    guint32 id;
    GByteArray *in[GUESTWIRE_STREAMS]; /* what waits to be read: at most a window */
    guint32 taken[GUESTWIRE_STREAMS];  /* read, and not yet told */
    bool ended[GUESTWIRE_STREAMS];
    guint32 credit;
    bool exited;
    int code;
    GError *failed;
    FiberSignal changed;
};

/* ---- guestlink.c ---- */
/* A frame into the queue; without a connection it is dropped. */
void guestlink_queue(GuestLink *link, guint8 type, int stream, guint32 session, const void *payload,
                     size_t size);
void guestlink_queue_number(GuestLink *link, guint8 type, int stream, guint32 session,
                            guint32 number);
/* G2: something that the guest had no reason to send. */
void guestlink_noise(GuestLink *link);
/* Ends the connection; the link dials again. */
void guestlink_drop(GuestLink *link);
/* Whether the guest lives: anything it says will do. Yields. */
bool guestlink_answers(GuestLink *link, GError **error);

/* ---- guestcall.c ---- */
void guestcall_fail(GuestCall *call, HawCode code, const char *why);
/* A frame of that session. */
void guestcall_take(GuestCall *call, const struct guestwire_head *head, const guint8 *payload);
