/* shaper.h: rate limits on an interface, by tc over rtnetlink.
 * Threads: any, one a socket. */
#pragma once
#include "hw/nlsock.h"

/* What leaves by the interface (towards an instance: its ingress), at most bits_per_s; 0 lifts. */
bool shaper_limit_out(NlSock *sock, const char *ifname, guint64 bits_per_s, GError **error);
/* What comes in by the interface; more is dropped. 0 lifts. UNSUPPORTED where the kernel has no
 * police action: the caller then has a firewall rule do it. */
bool shaper_limit_in(NlSock *sock, const char *ifname, guint64 bits_per_s, GError **error);
