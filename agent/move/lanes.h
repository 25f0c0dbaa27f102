/* lanes.h: the connections that pages travel on, from one host to the other, N at once.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>

enum { LANES_TOKEN = 32, LANES_MAX = 16 };

/* Listens on a port of every address (or of 'address', when not NULL); the caller closes it. */
int lanes_listen(const char *address, guint16 *ret_port, GError **error);
/* Takes 'n' connections that begin with the token; others are dropped. On failure none is left. Yields. */
bool lanes_accept(int listener, const guint8 token[LANES_TOKEN], guint n, gint64 wait_ms,
                  int *ret_fds, GCancellable *cancel, GError **error);
/* Connects 'n' times to the first of the hosts ("10.0.0.1", "fd00::1") that answers. Yields. */
bool lanes_connect(const char *const *hosts, guint16 port, const guint8 token[LANES_TOKEN], guint n,
                   gint64 wait_ms, int *ret_fds, GCancellable *cancel, GError **error);
