/* relay.h: carries connections and datagrams from listening sockets to one address.
 * Threads: the only one of `hawserd forkproxy`. Descriptors are non-blocking. */
#pragma once
#include "agent/inst/proxyaddr.h"

typedef struct Relay Relay;

/* Borrows both addresses. proxy_protocol: a PROXY v1 line goes first to each TCP target. */
Relay *relay_new(const ProxyAddr *listen, const ProxyAddr *connect, bool proxy_protocol);
/* fd (given) listens on listen->ports[index] (0 for unix). */
bool relay_add(Relay *relay, int fd, guint index, GError **error);
/* Until quit_fd (a pidfd, say) or stop_fd becomes readable. */
void relay_run(Relay *relay, int quit_fd, int stop_fd);
void relay_free(Relay *relay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Relay, relay_free)
