/* ws.h: WebSocket messages over a connected stream, server or client side (RFC 6455, wslay).
 * Threads: main loop, inside fibers. One fiber may receive while another sends. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>

typedef struct Ws Ws;
typedef enum { WS_TEXT, WS_BINARY, WS_CLOSED } WsKind;

/* Takes the fd. 'server' tells which side masks. Messages above max_bytes close the connection. */
Ws *ws_new(int *fd, bool server, size_t max_bytes);
/* Bytes that were read behind the handshake, before the first ws_recv(). */
void ws_feed(Ws *ws, const void *bytes, size_t size);
/* Another limit for messages that arrive from now on. */
void ws_set_max(Ws *ws, size_t max_bytes);
/* Called when the Ws is freed. */
void ws_on_free(Ws *ws, GDestroyNotify fn, void *data);
void ws_free(Ws *ws); /* sends a close frame when that is still possible */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ws, ws_free)

/* One message; *ret_bytes is the caller's (NUL added behind). WS_CLOSED at the end of the stream.
 * Pings are answered inside. Yields. */
WsKind ws_recv(Ws *ws, guint8 **ret_bytes, size_t *ret_size);
/* False once the peer is gone. Yields when the socket is full. */
bool ws_send(Ws *ws, WsKind kind, const void *bytes, size_t size);
bool ws_ping(Ws *ws, const char *payload);
/* Ends a ws_recv() of another fiber, too. */
void ws_close(Ws *ws);
bool ws_closed(const Ws *ws);

/* Copies both ways between the WebSocket (binary messages) and descriptors until either side ends.
 * fd_in receives what the peer sends (its text or empty message means end of file: fd_in is shut or
 * closed); fd_out's bytes are sent, then an empty text message as LXD does. Either may be -1.
 * Both descriptors are given. Yields. */
void ws_mirror(Ws *ws, int *fd_in, int *fd_out);
