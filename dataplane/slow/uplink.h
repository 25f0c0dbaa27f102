/* uplink.h: the filter of tunnel packets at an uplink (bpf/uplink.bpf.c), attached beside other XDP programs.
 * Threads: main loop only; attaching blocks for some ms. */
#pragma once
#include "base/error.h"
#include "bpf/layout_uplink.h"

typedef struct Uplink Uplink;

/* Attaches it to 'ifname' by libxdp's dispatcher; it drops nothing before uplink_switch(). UNSUPPORTED says
 * what the kernel lacks. */
Uplink *uplink_open(const char *ifname, GError **error);
/* Takes it off; other programs stay. */
void uplink_close(Uplink *uplink);
/* Lets it go on without us: the next uplink_open() there takes its place. */
void uplink_leave(Uplink *uplink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Uplink, uplink_close)
/* Whether the driver runs it; else the stack does. */
bool uplink_is_native(const Uplink *uplink);
bool uplink_switch(Uplink *uplink, bool on, GError **error);
/* Sends what is wanted in networks that may be fast to interface 'pair' (its other end sees them); 0: nothing. */
bool uplink_steer(Uplink *uplink, guint32 pair, GError **error);
/* An address that tunnels of this host end at. */
bool uplink_add_end(Uplink *uplink, const char *address, GError **error);
/* Whether port 'port' of network 'vni' (OVN's tunnel keys) is wanted here; UPLINK_ANY_PORT: the network
 * itself, with its multicast groups. 'how' is UPLINK_WANT_PORT, for a network with UPLINK_STEER when it may be
 * fast; 0: not wanted any more. */
bool uplink_want(Uplink *uplink, guint32 vni, guint32 port, guint32 how, GError **error);
/* Packets by reason, of all processors. */
bool uplink_counters(Uplink *uplink, guint64 ret_counters[UPLINK_REASON_COUNT], GError **error);
const char *uplink_reason_text(enum uplink_reason reason);
