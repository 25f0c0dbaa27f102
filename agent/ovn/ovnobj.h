/* ovnobj.h: OVN's insides for this folder. Threads: main loop, inside fibers. */
#pragma once
#include "agent/ovn/embedded.h"
#include "agent/ovn/ovn.h"
#include "proto/switchd.h"

struct Ovn {
    Agent *agent;   /* borrowed */
    FiberLock lock; /* of coming up and going down */
    bool up;        /* sessions are open, the daemons were seen to */
    bool embedded;  /* else the system's, or the one that is named */
    bool kernel;    /* the integration bridge is on the kernel's datapath */
    bool closed;    /* the agent ends */

    OvnEmbedded *own;            /* owned; NULL unless embedded */
    OvnSwitchd *switchd;         /* owned */
    const OvnObserver *observer; /* borrowed, may be NULL */
    Ovsdb *nb, *sb, *local;
    GPtrArray *retired; /* sessions that were closed while others may still look at them */
    char *local_remote, *bridge, *system_id, *sb_remote;
    char *owner; /* of our rows: DIFF_OWNER */
    gulong on_stopping;

    /* reconcile.c */
    FiberLock applying;
    GHashTable *dirty; /* scopes to look at, owned texts */
    bool all_dirty;
    bool sharing; /* some scope is, or was, shared */
    FiberSignal kicked;
    guint64 seen_epoch;               /* of the northbound session, reconciled */
    guint64 applies, failures, steps; /* for status */
    char *last_error;                 /* of the background, or NULL */
    GCancellable *stop;               /* owned; ends the background fiber */
};

/* Rows of ours that change behind our back; after each new northbound session. */
void reconcile_watch(Ovn *ovn);
/* The background fiber. */
void reconcile_start(Ovn *ovn);
