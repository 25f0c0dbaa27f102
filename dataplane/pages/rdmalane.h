/* rdmalane.h: one RDMA connection, and the pump between it and a local socket, so that what speaks a stream goes by
 * RDMA without knowing. Threads: a lane is one thread's; calls block. */
#pragma once
#include "base/error.h"
#include <sys/socket.h>

typedef struct RdmaLane RdmaLane;
typedef struct RdmaDoor RdmaDoor;
enum { RDMALANE_TOKEN_BYTES = 32 };

/* Connects to a door at the other host; the door learns 'slot'. */
RdmaLane *rdmalane_connect(const struct sockaddr *address, const guint8 *token, guint8 slot,
                           GError **error);

/* Waits at an address of ours, at a port that the kernel chooses, for 'n' lanes. */
RdmaDoor *rdmalane_listen(const struct sockaddr *address, guint n, guint16 *ret_port,
                          GError **error);
/* The next that comes with the token. */
RdmaLane *rdmalane_accept(RdmaDoor *door, const guint8 *token, guint8 *ret_slot, GError **error);
void rdmalane_close_door(RdmaDoor *door);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RdmaDoor, rdmalane_close_door)

/* Carries bytes both ways between 'local' (a stream socket, which becomes non-blocking) and the lane until both
 * ends are closed, or it breaks, which is the end of 'local' as well. 'leash': a connected socket; when
 * it is cut the other side has gone. Both are borrowed. */
void rdmalane_pump(RdmaLane *lane, int local, int leash);
void rdmalane_free(RdmaLane *lane);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RdmaLane, rdmalane_free)
