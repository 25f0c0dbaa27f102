/* listen.h: listening sockets of the API. Descriptors are the caller's; -1 with an error.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <sys/socket.h>

/* Mode 0660, owned by the group (NULL: ours). A file of that name is replaced. */
int listen_unix(const char *path, const char *group, GError **error);
/* ":8443", "[::]:8443", "10.0.0.1", "[fd00::1]", "host": host "" is the wildcard. Both are the
 * caller's to free. */
void listen_split(const char *text, const char *default_port, char **ret_host, char **ret_port);
/* A wildcard takes IPv4 and IPv6 where the kernel has both. */
int listen_tcp(const char *host, const char *port, GError **error);
int listen_udp(const char *host, const char *port, GError **error);
/* ["10.0.0.5:8443", …] that a listener bound to 'host' is reached at; a new reference. */
json_t *listen_addresses(const char *host, const char *port);
/* Whether a list of addresses ("10.0.0.1, fd00::1") has the peer's; IPv4 over IPv6 is IPv4. */
bool listen_names(const char *list, const struct sockaddr *address, socklen_t size);
