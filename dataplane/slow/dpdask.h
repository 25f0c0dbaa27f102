/* dpdask.h: who speaks to hawser-dpd, and what they may ask of its parts.
 * Threads: main loop only. */
#pragma once
#include "base/fiber.h"
#include "dataplane/slow/farlink.h"
#include "dataplane/slow/pollhost.h"
#include "dataplane/slow/ports.h"
#include "proto/dpdwire.h"

/* Of dpd.c, which makes and frees them. */
typedef struct {
    char *dir;
    Ledger *ledger;
    Fleet *fleet;
    OvsPorts *bridges;
    PollHost *poll;
    FastPorts *fast;
    FarLinks *far;
    Ports *ports;
} DpdParts;

typedef struct {
    const DpdParts *parts; /* borrowed */
    void *owner;           /* borrowed: dpd.c's */
    DpdWire *wire;         /* owned */
    guint refs, requests;
    bool watches, closed;
    FiberSignal room; /* a request has ended */
} DpdPeer;
void dpdask_unref(DpdPeer *peer);

/* Runs a request (given) in a fiber of its own. Yields while too many of this peer run. */
void dpdask_start(DpdPeer *peer, Dpd__Frame **frame);
/* Sends, with a descriptor unless -1; who is gone is not told. Yields. */
void dpdask_answer(DpdPeer *peer, Dpd__Frame *frame, int fd);
void dpdask_fail(DpdPeer *peer, guint64 id, const GError *error);
