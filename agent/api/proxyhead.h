/* proxyhead.h: the PROXY header of HAProxy, versions 1 and 2: whose connection a proxy passes on.
 * Threads: any; proxyhead_read() blocks. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Of a whole header. Address AF_UNSPEC: the proxy speaks for itself, or does not know. False: no header. */
bool proxyhead_parse(const guint8 *bytes, size_t size, struct sockaddr_storage *ret_address,
                     socklen_t *ret_size);
/* Takes the header, and nothing behind it, from a connection (non-blocking) that just began, wait_ms at
 * most; 'address' becomes the one that is told. Without a header nothing is taken, and that is fine.
 * False: hang up. */
bool proxyhead_read(int fd, int wait_ms, struct sockaddr_storage *address, socklen_t *size);
