/* fastload.h: the kernel's fast path as the daemon sees it: load or adopt, bind ports, bump zones.
 * What is loaded and learned is pinned below a bpffs directory and goes on without us: a restarted or
 * upgraded daemon adopts it and no packet of a learned flow is lost.
 * Threads: one, the daemon's. Calls are short system calls; nothing Yields. */
#pragma once
#include "base/error.h"
#include "bpf/layout.h"

typedef struct FastLoad FastLoad;

typedef struct {
    guint32 ifindex; /* the instance's host side */
    guint32 slow;    /* our end of its slow pair; 0: the host side itself is the port on br-int */
    bool peer;       /* a veth whose peer is in the instance */
    bool on;         /* may be fast */
    guint16 zone;    /* below LAYOUT_ZONES */
    guint16 mtu;
    guint8 mac[6];
    guint8 addr4_count,
        addr6_count;             /* up to LAYOUT_ADDRS each; who has more is slow from the rest */
    guint32 addr4[LAYOUT_ADDRS]; /* network order */
    guint32 addr6[LAYOUT_ADDRS][4];
} FastPort;

/* Pins are in fast/ below 'bpf_dir', a bpffs (mounted there when it isn't one). 'flows' of each family. After another
 * layout (fastpins.c) no port is bound, and interfaces keep what passes their packets on until theirs is. UNSUPPORTED names what the kernel lacks: ports then work on the slow path. */
FastLoad *fastload_open(const char *bpf_dir, guint flows, GError **error);
/* Closes our handles; everything pinned goes on. */
void fastload_close(FastLoad *load);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FastLoad, fastload_close)

/* Binds, or changes, the port of port->ifindex. LIMIT without a free slot or for an interface index that
 * is too high, INVALID for a zone that is. Changing bumps its zone. */
bool fastload_port_set(FastLoad *load, const FastPort *port, GError **error);
/* Without error when it isn't bound; what an earlier life left attached there goes, too. */
bool fastload_port_unset(FastLoad *load, guint32 ifindex, GError **error);
/* Interfaces that are bound, for the reconciler; guint32 elements, caller unrefs. */
GArray *fastload_ports(FastLoad *load);
/* What is bound as the port of 'ifindex', or, with 'slow', as the one whose end of a slow pair that is.
 * *ret_slot (may be NULL) is its number in flows. */
bool fastload_port_find(FastLoad *load, guint32 ifindex, bool slow, struct layout_nic *ret,
                        guint *ret_slot);
/* By number; false when the slot is empty. */
bool fastload_port_at(FastLoad *load, guint slot, struct layout_nic *ret);
/* Unbinds those whose interface is no longer there. */
void fastload_sweep(FastLoad *load);

/* Forgets at once whatever was learned in the zone. */
void fastload_bump(FastLoad *load, guint zone);
void fastload_bump_all(FastLoad *load);
/* Reasons for all ports to go slow; bits of layout_config's 'off'. */
enum {
    FASTLOAD_OFF_ASKED = 1,
    FASTLOAD_OFF_STRICT = 2, /* conntrack would refuse connections of which it sees a part */
};
/* Learned flows stay, and go on when they are younger than a proof's life. */
void fastload_hold(FastLoad *load, guint why, bool hold);
/* Borrowed, live: the programs read it. */
volatile struct layout_config *fastload_config(FastLoad *load);
/* The programs' clock (they count the kernel's ticks): proofs and uses of flows are times of it. */
guint64 fastload_now_ns(FastLoad *load);
/* Borrowed, live: what carried packets that their flows don't have yet. */
const struct layout_permit *fastload_permits(FastLoad *load, guint32 *ret_count);
/* Descriptors of maps by name, for export and tests; -1 when there is none of that name. Borrowed. */
int fastload_map(FastLoad *load, const char *name);
/* And of programs: "haw_in", "haw_out", "haw_far_in", "haw_far_out". */
int fastload_program(FastLoad *load, const char *name);
/* One program of them at an interface that is no port (fastfar.c), at ingress or egress; again replaces it. */
bool fastload_attach(FastLoad *load, const char *program, guint32 ifindex, bool egress,
                     GError **error);
void fastload_detach(FastLoad *load, guint32 ifindex, bool egress);
