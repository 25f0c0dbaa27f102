/* proxyparent.h: the parent of NICs whose addresses it answers for (routed, ipvlan in l3s mode): its VLAN interface,
 * the switches that it needs, neighbours proxied on it.
 * Threads: worker, inside netjob.h's jobs. */
#pragma once
#include "agent/net/nicuse.h"
#include "hw/nlsock.h"

struct proxyparent {
    const NicUse *use;   /* borrowed; only what does not change while the fiber waits is read */
    const char *mode;    /* who requires the switches: "Routed mode"; NULL: needs none */
    char *ifname;        /* owned: the parent or its VLAN interface; NULL for none */
    char **addresses[2]; /* owned: IPv4, IPv6 */
    bool created;        /* the VLAN interface is ours */
};

struct proxyparent proxyparent_of(const NicUse *use, const char *mode);
void proxyparent_done(struct proxyparent *parent);
/* Makes the VLAN interface where one is missing ('created'), with its switches; NOT_FOUND without the parent, CONFLICT
 * with the name of a switch that is off on an interface that isn't ours. */
bool proxyparent_make(NlSock *sock, struct proxyparent *parent, GError **error);
bool proxyparent_announce(NlSock *sock, const struct proxyparent *parent, GError **error);
/* Proxied neighbours go, and the VLAN interface that was made; repeats safely. */
bool proxyparent_withdraw(NlSock *sock, const struct proxyparent *parent, GError **error);
