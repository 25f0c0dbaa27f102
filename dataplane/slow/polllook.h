/* polllook.h: what the poll-mode process shows beside the kernel's programs: asked at the same time, over a connection of
 * its own, and put to what they show.
 * Threads: main loop, inside fibers. */
#pragma once
#include "dataplane/slow/flowshow.h"
#include "dataplane/slow/pollhost.h"

typedef struct PollLook PollLook;
/* Asks it 'request' (FastFlows, FastStats, FastTrace) too. NULL: there is no such process, or it can't be reached.
 * Yields. */
PollLook *polllook_start(const PollHost *host, const Dpd__Frame *request);
void polllook_free(PollLook *look); /* Yields after polllook_watch(). */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PollLook, polllook_free)
/* Each adds its answer to 'ret', which lives as long as 'look' and 'pool'. False when there is none: it does not know the
 * port, or went away. Takes NULL. Yields. */
bool polllook_flows(PollLook *look, const Dpd__FastFlows *want, ShowPool *pool,
                    Dpd__FastFlows *ret);
bool polllook_stats(PollLook *look, ShowPool *pool, Dpd__FastStats *ret);
/* Of a trace: cancels 'enough' once the process has seen as many packets as are wanted. Takes NULL. */
void polllook_watch(PollLook *look, const Dpd__FastTrace *want, GCancellable *enough);
/* Behind polllook_watch(). The process looks no longer when 'ret' has as many as are wanted. */
bool polllook_trace(PollLook *look, const Dpd__FastTrace *want, ShowPool *pool,
                    Dpd__FastTrace *ret);
