/* liveoutobj.h: the body of a live move's source, for liveout.c, livememory.c and livenative.c.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/move/live.h"
#include "agent/move/livebrake.h"
#include "agent/move/livehello.h"
#include "agent/move/streamer.h"
#include "agent/vm/vm.h"

enum { LIVEOUT_CHANNELS = 2, LIVEOUT_ROUNDS_MAX = 30, LIVEOUT_SWITCH_MS = 60000 };

struct LiveOut {
    Inst *inst;     /* shares */
    MoveConn *conn; /* borrowed */
    MoveMux *mux;   /* owns */
    struct live_hello hello;
    json_t *ready;
    GPtrArray *disks;  /* char *: block nodes */
    char *native_why;  /* memory goes by QEMU's own migration; NULL: by hawser-pages */
    bool begun;        /* and neither undone nor finished */
    bool copy;         /* the guest stays here, too */
    bool ballooned;    /* when it began */
    bool may_owe;      /* the target can run it before all of its memory is there */
    Streamer *owing;   /* owns; sends what follows */
    LiveBrake *brake;  /* owns; while memory goes */
    int devices;       /* the socket for devices' state */
    gint64 stopped_us; /* when the guest stopped for good */
    gint64 pause_us;
    gint64 said_us;
    json_t *figures; /* for the operation's metadata */
};

/* Both borrowed. */
Qmp *liveout_qmp(LiveOut *live);
GCancellable *liveout_cancel(LiveOut *live);
/* The operation shows 'progress' and the figures. */
void liveout_show(LiveOut *live, const char *progress);
/* migration.bandwidth, bytes a second; 0: none. */
gint64 liveout_bandwidth(LiveOut *live);
/* migration.vm.downtime. */
gint64 liveout_downtime_us(LiveOut *live);
/* QEMU is at its last door, all memory on its way: mirrors end, devices' state follows. */
bool liveout_go_through(LiveOut *live, GError **error);
