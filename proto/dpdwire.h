/* dpdwire.h: how frames of dpd.proto travel between agent and hawser-dpd: SOCK_SEQPACKET messages of
 * bounded size, descriptors beside them.
 * Threads: main loop, inside fibers; the joiner and dpdwire_agree() any. */
#pragma once
#include "base/error.h"
#include "proto/dpd.pb-c.h"
#include <gio/gio.h>

enum {
    DPDWIRE_LOWEST = 1, /* versions that this build speaks */
    DPDWIRE_HIGHEST = 1,
    DPDWIRE_PART_BYTES = 60 * 1024, /* of one message, behind its header */
    DPDWIRE_FRAME_BYTES = 8 * 1024 * 1024,
    DPDWIRE_FDS = 1, /* beside a frame */
};

/* The highest version that both speak; 0 for none. */
guint dpdwire_agree(guint lowest, guint highest, guint their_lowest, guint their_highest);

/* ---- bytes to frames ---- */

typedef struct DpdJoiner DpdJoiner;
DpdJoiner *dpdjoiner_new(void);
void dpdjoiner_free(DpdJoiner *joiner);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DpdJoiner, dpdjoiner_free)
/* One message as it was received. True with *ret_frame NULL while the frame goes on in the next one.
 * INVALID for what is none of ours: the connection is to be closed then. */
bool dpdjoiner_feed(DpdJoiner *joiner, const void *bytes, size_t size, Dpd__Frame **ret_frame,
                    GError **error);
void dpdwire_frame_free(Dpd__Frame *frame);
typedef Dpd__Frame DpdFrame;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DpdFrame, dpdwire_frame_free)
/* What opens a talk of this build; 'ret_hello' lives as long as the frame. */
void dpdwire_hello(Dpd__Hello *ret_hello, Dpd__Frame *ret_frame);
/* The bytes of any message of dpd.proto ('&spec->base'). */
GBytes *dpdwire_pack(const ProtobufCMessage *message);
/* A copy of one, for the free_unpacked() of its kind. */
void *dpdwire_dup(const ProtobufCMessage *message);
/* The messages that carry a frame: GBytes elements. LIMIT when it is too large. */
GPtrArray *dpdwire_split(const Dpd__Frame *frame, GError **error);

/* ---- connections ---- */

typedef struct DpdWire DpdWire;
/* Takes a connected, nonblocking SOCK_SEQPACKET socket. */
DpdWire *dpdwire_new(int *fd);
void dpdwire_free(DpdWire *wire);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DpdWire, dpdwire_free)
/* Connects to the socket at 'path'. NOT_FOUND or UNAVAILABLE when nobody listens. */
DpdWire *dpdwire_connect(const char *path, GError **error);
/* Whether the peer is root or has our own user; DENIED names its process. */
bool dpdwire_check_peer(const DpdWire *wire, GError **error);
/* Frames of several fibers do not mix. fd -1: none goes along. Yields. */
bool dpdwire_send(DpdWire *wire, const Dpd__Frame *frame, int fd, GError **error);
/* The next frame, caller frees; *ret_fd (NULL: refused) is the descriptor that came along, or -1.
 * UNAVAILABLE when the peer has gone. One fiber at a time. Yields. */
Dpd__Frame *dpdwire_receive(DpdWire *wire, int *ret_fd, gint64 wait_ms, GCancellable *cancel,
                            GError **error);
/* Whether the peer has something to say, or has said its last, within wait_ms. Yields. */
bool dpdwire_wait(DpdWire *wire, gint64 wait_ms);
/* Nothing more will be sent, and the peer sees it; what it answers still comes. */
void dpdwire_finish(DpdWire *wire);
/* Ends both directions: a fiber that receives gets UNAVAILABLE. */
void dpdwire_shut(DpdWire *wire);
