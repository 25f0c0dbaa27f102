/* wsclient.h: one WebSocket to a server, for exec, console, events and relayed copies.
 * Threads: the one thread of the program. Nothing here blocks but opening; callers poll the
 * descriptor for wsclient_events() and then pump. */
#pragma once
#include "base/error.h"
#include "ctl/stream.h"

typedef struct WsClient WsClient;
typedef void (*WsClientFn)(void *data, bool is_text, const guint8 *bytes, size_t size);

/* Each whole message goes to 'fn'. */
WsClient *wsclient_open(Rest *rest, const char *path, WsClientFn fn, void *data, GError **error);
/* Over a connected stream, which it takes, without a handshake (tests). */
WsClient *wsclient_on_stream(Stream **stream, WsClientFn fn, void *data);
void wsclient_free(WsClient *ws);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(WsClient, wsclient_free)

int wsclient_fd(const WsClient *ws);
short wsclient_events(WsClient *ws);
/* Bytes that poll() does not see: pump at once. */
bool wsclient_pending(const WsClient *ws);
/* Reads and writes what goes without waiting. After the end of the connection, however it came,
 * wsclient_is_open() is false. */
void wsclient_pump(WsClient *ws);
bool wsclient_is_open(const WsClient *ws);
void wsclient_send(WsClient *ws, bool is_text, const void *bytes, size_t size);
/* Bytes that wait to be written: stop reading your source while there are many. */
size_t wsclient_queued(WsClient *ws);
/* Sends a close frame; pump until it is gone. */
void wsclient_close(WsClient *ws);
/* The next event among 'count' sockets (NULL ones are skipped) and one more descriptor (-1: none),
 * pumped; false when 'wait_ms' passed or a signal came. *ret_extra: the descriptor has something. */
bool wsclient_poll(WsClient *const *sockets, size_t count, int extra_fd, int wait_ms,
                   bool *ret_extra);
