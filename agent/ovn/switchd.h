/* switchd.h: watches an ovs-vswitchd, whoever started it, and sets at each of its starts what it forgets.
 * Threads: main loop, inside fibers. */
#pragma once
#include <glib.h>
#include <stdbool.h>

typedef struct OvnSwitchd OvnSwitchd;
/* 'rundir' is where its pid file and control socket are; 'kernel': its datapath is the kernel's. */
OvnSwitchd *switchd_watch(const char *rundir, bool kernel);
void switchd_free(OvnSwitchd *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnSwitchd, switchd_free)
/* Grows with each start that was seen. */
guint64 switchd_epoch(const OvnSwitchd *watch);
/* Whether the one that runs now keeps connections whose sequence numbers it did not follow. */
bool switchd_liberal(const OvnSwitchd *watch);
