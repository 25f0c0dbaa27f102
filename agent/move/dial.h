/* dial.h: a WebSocket to an operation of another server, for copies between servers.
 * Threads: main loop, inside fibers; a thread of its own carries each connection's TLS. */
#pragma once
#include "agent/api/ws.h"

/* 'url' is "https://host:port/1.0/operations/ID[?project=…]". 'certificate' (PEM) is the one that the
 * server must show; NULL or "": the system's authorities decide. UNAVAILABLE, DENIED, INVALID. The
 * secret gets into no message. Yields. */
Ws *dial_websocket(const char *url, const char *secret, const char *certificate,
                   GCancellable *cancel, GError **error);
