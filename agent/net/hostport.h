/* hostport.h: a host interface bound to a logical port: on br-int, with its iface-id, and off again.
 * Threads: main loop, inside fibers. Waits for the local Open_vSwitch database are bounded. */
#pragma once
#include "agent/agent.h"

typedef enum {
    HOSTPORT_VETH,        /* the host end of a veth pair */
    HOSTPORT_TAP,         /* a VM's tap, opened by QEMU */
    HOSTPORT_REPRESENTOR, /* of a VF or vDPA function */
} HostPortKind;

typedef struct {
    HostPortKind kind;
    const char *netdev;   /* "veth1234abcd": exists already, and is ours until it is unbound */
    const char *iface_id; /* name of the logical switch port */
    const char *mac;      /* the instance's */
    const char *peer;     /* the instance's end of a veth while it is still here; NULL: unknown */
    guint mtu;            /* 0: as it is */
    bool poll;            /* by processors of its own, where there are such */
} HostPort;

/* Puts 'netdev' on the integration bridge as the one interface with that iface-id (an earlier one with
 * the id, or another use of the netdev on the bridge, goes in the same transaction), and brings it up.
 * Turns off what the datapath cannot carry (checksum offload of a veth pair on a userspace datapath).
 * UNAVAILABLE when br-int is not ready. Yields. */
bool hostport_bind(Agent *agent, const HostPort *port, GError **error);
/* The agent was restarted, and this port was bound before. Comes back at once. */
void hostport_adopt(Agent *agent, const HostPort *port);
/* Takes it off the bridge; the netdev stays. Not there is success. Yields. */
bool hostport_unbind(Agent *agent, const char *iface_id, GError **error);
/* The netdev that is bound to the logical port; NULL for none. Caller frees. */
char *hostport_find(Agent *agent, const char *iface_id);
/* Until the chassis has installed the port's flows (ovn-installed); TIMEOUT. Yields. */
bool hostport_wait(Agent *agent, const char *iface_id, gint64 wait_ms, GError **error);
