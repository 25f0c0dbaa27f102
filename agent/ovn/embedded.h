/* embedded.h: an OVN of the agent's own: three ovsdb-servers, northd, ovn-controller and ovs-vswitchd, below
 * <dir>/ovn. It needs no set-up and touches no system-wide OVS.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct OvnEmbedded OvnEmbedded;
/* 'dir' is the agent's; 'bridge' is the integration bridge. Starts nothing. */
OvnEmbedded *embedded_new(const char *dir, const char *bridge);
/* The processes go on. */
void embedded_free(OvnEmbedded *ovn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnEmbedded, embedded_free)
/* Whether one was made below 'dir' before: its databases are there. */
bool embedded_exists(const char *dir);
/* Makes the databases where they are missing (converts those of older schemas), starts or adopts the
 * daemons, writes what ovn-controller reads into the Open_vSwitch row. UNSUPPORTED names the
 * Debian package of a program that is missing. Repeats safely. Yields. */
bool embedded_up(OvnEmbedded *ovn, GError **error);
/* The agent ends, the processes go on: watches them no more. NULL is fine. */
void embedded_unwatch(OvnEmbedded *ovn);
/* Ends the daemons, the databases stay. Yields. */
void embedded_down(OvnEmbedded *ovn);

/* "unix:…" of each; borrowed. */
const char *embedded_local(const OvnEmbedded *ovn);
const char *embedded_north(const OvnEmbedded *ovn);
const char *embedded_south(const OvnEmbedded *ovn);
/* Where its sockets are: <dir>/ovn; the control socket of vswitchd and the file with its pid. */
const char *embedded_rundir(const OvnEmbedded *ovn);
/* "system" where the kernel has openvswitch, else "netdev". */
const char *embedded_datapath(const OvnEmbedded *ovn);
/* [{"name","pid","restarts"}], a new reference. */
json_t *embedded_json(const OvnEmbedded *ovn);
