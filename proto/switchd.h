/* switchd.h: watches an ovs-vswitchd, whoever started it, and sets at each of its starts what it forgets.
 * Threads: main loop, inside fibers. */
#pragma once
#include <glib.h>
#include <stdbool.h>

typedef struct OvnSwitchd OvnSwitchd;
/* Called when what switchd_liberal() says has changed; must not yield. */
typedef void (*SwitchdChanged)(void *data);
/* 'rundir' is where its pid file and control socket are; 'kernel': its datapath is the kernel's.
 * 'changed' may be NULL. */
OvnSwitchd *switchd_watch(const char *rundir, bool kernel, SwitchdChanged changed, void *data);
void switchd_free(OvnSwitchd *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnSwitchd, switchd_free)
/* Grows with each start that was seen. */
guint64 switchd_epoch(const OvnSwitchd *watch);
/* One process for good, by its pid and when it began; 0: none runs. */
guint64 switchd_identity(const OvnSwitchd *watch);
/* Whether the one that runs now keeps connections whose sequence numbers it did not follow. */
bool switchd_liberal(const OvnSwitchd *watch);
/* Returns when the datapath's flows agree with the OpenFlow tables as they are now: what a rule that went
 * let through, no cached flow lets through any more. Yields. */
bool switchd_settle(OvnSwitchd *watch, GError **error);
