/* moveconn.h: the two sockets between a copy's source and target: "control" carries messages, "fs" the
 * content, as frames of bytes that each end with a barrier (an empty text message).
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/operation.h"
#include "agent/api/ws.h"
#include "proto/migrate.pb-c.h"

typedef struct MoveConn MoveConn;

/* The keys of an operation that waits for the sockets; flat, as LXD has them. A new reference. */
json_t *moveconn_secrets(bool live);
/* Of our own operation: waits for the peer (or a relaying client) to connect; TIMEOUT. Yields. */
MoveConn *moveconn_wait(Operation *op, bool live, GError **error);
/* To the peer's operation: {"operation","certificate","secrets":{"control","fs"}}. Yields. */
MoveConn *moveconn_dial(Operation *op, json_t *peer, bool live, GError **error);
/* Whether 'peer' has what moveconn_dial() needs; INVALID. */
bool moveconn_check_peer(json_t *peer, bool live, GError **error);
void moveconn_free(MoveConn *conn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MoveConn, moveconn_free)

/* The third socket, of live moves (LXD's "criu"); taken from there, once. NULL: there is none. */
Ws **moveconn_state(MoveConn *conn);

Operation *moveconn_op(MoveConn *conn);
/* Cancelled with the operation, and when the peer gives up or disappears. */
GCancellable *moveconn_cancel(MoveConn *conn);
/* What made moveconn_cancel(): puts the peer's words in place of "cancelled". Returns false. */
bool moveconn_blame(MoveConn *conn, GError **error);

/* Control: one message each way. Receiving unpacks by the descriptor; the caller frees it with
 * protobuf_c_message_free_unpacked(). Both only before moveconn_watch(). Yield. */
bool moveconn_send(MoveConn *conn, const ProtobufCMessage *message, GError **error);
ProtobufCMessage *moveconn_recv(MoveConn *conn, const ProtobufCMessageDescriptor *what,
                                GError **error);
/* From now on the control socket is listened to in the background for the peer's verdict. */
void moveconn_watch(MoveConn *conn);
/* The target's verdict: true when all has arrived. Yields. */
bool moveconn_verdict(MoveConn *conn, GError **error);
/* Our own verdict; 'why' NULL: success. Yields. */
void moveconn_tell(MoveConn *conn, const GError *why);

/* Content. A whole frame at once (at most 16 MiB); caller frees *ret_bytes (NUL behind). Yield. */
bool moveconn_write_frame(MoveConn *conn, const void *bytes, size_t size, GError **error);
bool moveconn_read_frame(MoveConn *conn, char **ret_bytes, size_t *ret_size, GError **error);
/* Frames against descriptors (both given; either may be -1): what arrives up to the barrier goes to
 * fd_in, which is then closed; what fd_out gives until its end is sent, then a barrier. 'progress'
 * shows what passes as fs_progress of the operation. Yields. */
bool moveconn_mirror(MoveConn *conn, int *fd_in, int *fd_out, bool progress, GError **error);
