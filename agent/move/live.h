/* live.h: a virtual machine that goes on running while it moves to another server: both ends.
 * Threads: main loop, inside operations' fibers; all yield. */
#pragma once
#include "agent/move/moveconn.h"
#include "agent/move/movemux.h"
#include "agent/inst/record.h"

/* ---- source ---- */
typedef struct LiveOut LiveOut;
/* INVALID, with LXD's words, for an instance that can't move while it runs. */
bool liveout_may(Inst *inst, GError **error);
/* Queue held. Takes the state socket. Says what moves, hears what stands in the way: UNSUPPORTED with all
 * of it, from both sides. */
LiveOut *liveout_greet(Inst *inst, MoveConn *conn, Ws **state, GError **error);
/* After the volume's content without its disk: disk, memory, devices, and the decision. On failure the guest
 * runs on here; on success it runs there, and here too when it is a copy. */
bool liveout_move(LiveOut *live, GError **error);
void liveout_free(LiveOut *live);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LiveOut, liveout_free)

/* ---- target ---- */
typedef struct LiveIn LiveIn;
LiveIn *livein_greet(Inst *inst, MoveConn *conn, Ws **state, GError **error);
/* The size of the root disk. */
gint64 livein_disk_bytes(LiveIn *live);
/* With the volume there and the disk all holes. True: the guest runs here. On failure nothing of QEMU is left. */
bool livein_move(LiveIn *live, GError **error);
/* Afterwards, with the instance complete: until all of its memory is there, and both sides know. On failure it was
 * ended, and the instance is to stay. */
bool livein_settle(LiveIn *live, GError **error);
void livein_free(LiveIn *live);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LiveIn, livein_free)
