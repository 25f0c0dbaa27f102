/* moveinst.h: instances between servers, by LXD's migration protocol.
 * Threads: main loop, inside operations' fibers; all Yield. */
#pragma once
#include "agent/inst/record.h"
#include "agent/move/moveconn.h"

typedef struct {
    Inst *inst;         /* borrowed */
    const char *snap;   /* NULL: the instance itself */
    bool instance_only; /* without its snapshots */
    bool inconsistent;  /* do not freeze it for the last pass */
    bool live;          /* a virtual machine that goes on running: liveout_may() */
    json_t *peer;       /* whom to dial (push); NULL: the peer connects to the operation (pull) */
} MoveOut;
bool moveinst_send(Operation *op, const MoveOut *out, GError **error);

typedef struct {
    Inst *inst; /* borrowed: new and unfinished, or (refresh) an existing one */
    bool instance_only, refresh, live;
    json_t *peer; /* whom to dial (pull); NULL: the peer connects to the operation (push) */
} MoveIn;
/* A new instance is finished by this; on failure the caller aborts it. */
bool moveinst_receive(Operation *op, const MoveIn *in, GError **error);
