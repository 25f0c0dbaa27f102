/* streamer.h: a hawser-pages at work for us, from its first order to its last report.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "proto/pages.pb-c.h"
#include <gio/gio.h>

typedef struct {
    /* Something may have punched pages out of the memory meanwhile; NULL: yes. Yields. */
    bool (*punched)(void *data);
    /* What it asks; the answer goes out when this returns. Yields. May be NULL (a sink asks nothing). */
    bool (*ask)(Pages__Wish wish, void *data, GError **error);
    /* The answer to 'wish' has gone out; may be NULL. Yields. */
    bool (*answered)(Pages__Wish wish, void *data, GError **error);
    /* May be NULL. Must not yield. */
    void (*progress)(const Pages__Progress *progress, void *data);
    void *data;
} StreamerHooks;

/* Those at work, and what all have sent and received since we started: [0] sources, [1] sinks. */
struct streamer_counts {
    guint running[2];
    guint64 bytes[2];
};
void streamer_counts(struct streamer_counts *ret);

/* Whether this host can track and take a guest's memory; UNSUPPORTED with the reason. Yields. */
bool streamer_works(Agent *agent, GError **error);
/* One that goes on after its work's main part: pages are owed, and follow while the guest runs at the target. */
typedef struct Streamer Streamer;

/* Runs one with its order and descriptors (borrowed: the memory file, then the channels) until it has done
 * its work or, failed, has ended. *ret_done (may be NULL) is what it reported last. Where pages are owed
 * *ret_owing (NULL: none may be) is the one that has still to send or receive them. Yields. */
bool streamer_run(Agent *agent, Pages__Start *start, const int *fds, guint n_fds,
                  const StreamerHooks *hooks, GCancellable *cancel, Pages__Progress *ret_done,
                  Streamer **ret_owing, GError **error);
/* Until all is there. Yields. */
bool streamer_pay(Streamer *owing, GCancellable *cancel, GError **error);
/* Ends it, paid or not. Yields. */
void streamer_free(Streamer *owing);
/* Lets it go on by itself, for it is not ours to end any more: another process of the agent's may hear what came
 * of it. */
void streamer_leave(Streamer *owing);
