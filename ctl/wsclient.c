/* WebSocket client on wslay.
 * W1  A message larger than MESSAGE_MAX ends the connection.
 * W2  The end of the stream without a close frame counts as the end: LXD's servers do that.
 * Called by cmd_exec.c, wait.c, cmd_server.c and cmd_copy.c. */
#include "ctl/wsclient.h"

#include <poll.h>
#include <string.h>
#include <wslay/wslay.h>

#include "base/ids.h"

enum { MESSAGE_MAX = 64 * 1024 * 1024, SOCKETS_MAX = 8 };

struct WsClient {
    Stream *stream;                  /* owns */
    wslay_event_context_ptr context; /* owns */
    WsClientFn fn;
    void *data;          /* borrows, for fn */
    bool ended, closing; /* closing: wsclient_close() was called */
};

static ssize_t
on_recv(wslay_event_context_ptr context, uint8_t *bytes, size_t size, int flags, void *data)
{
    WsClient *ws = data;
    g_autoptr(GError) error = NULL;
    ssize_t got = stream_read(ws->stream, bytes, size, &error);
    if (got == STREAM_AGAIN) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (got <= 0) { /* W2 */
        ws->ended = true;
        wslay_event_set_error(context, WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return got;
}

static ssize_t
on_send(wslay_event_context_ptr context, const uint8_t *bytes, size_t size, int flags, void *data)
{
    WsClient *ws = data;
    g_autoptr(GError) error = NULL;
    ssize_t put = stream_write(ws->stream, bytes, size, &error);
    if (put < 0) {
        ws->ended = ws->ended || put == -1;
        wslay_event_set_error(context, put == STREAM_AGAIN ? WSLAY_ERR_WOULDBLOCK
                                                           : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return put;
}

static int
on_mask(wslay_event_context_ptr context, uint8_t *bytes, size_t size, void *data)
{
    ids_random(bytes, size);
    return 0;
}

static void
on_message(wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *message,
           void *data)
{
    WsClient *ws = data;
    if (!wslay_is_ctrl_frame(message->opcode)) {
        ws->fn(ws->data, message->opcode == WSLAY_TEXT_FRAME, message->msg, message->msg_length);
    }
}

WsClient *
wsclient_on_stream(Stream **stream, WsClientFn fn, void *data)
{
    static const struct wslay_event_callbacks callbacks = {
        on_recv, on_send, on_mask, NULL, NULL, NULL, on_message,
    };
    WsClient *ws = g_new0(WsClient, 1);
    ws->stream = g_steal_pointer(stream);
    ws->fn = fn;
    ws->data = data;
    g_assert(wslay_event_context_client_init(&ws->context, &callbacks, ws) == 0);
    wslay_event_config_set_max_recv_msg_length(ws->context, MESSAGE_MAX); /* W1 */
    return ws;
}

WsClient *
wsclient_open(Rest *rest, const char *path, WsClientFn fn, void *data, GError **error)
{
    g_autoptr(Stream) stream = stream_open(rest, error);
    if (stream == NULL) {
        return NULL;
    }
    guint8 nonce[16];
    ids_random(nonce, sizeof nonce);
    g_autofree char *key = g_base64_encode(nonce, sizeof nonce);
    g_autofree char *extra =
        g_strdup_printf("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", key);
    g_autofree char *full = rest_full_path(rest, path);
    if (!stream_upgrade(stream, full, "websocket", extra, NULL, error)) {
        return NULL;
    }
    return wsclient_on_stream(&stream, fn, data);
}

void
wsclient_free(WsClient *ws)
{
    if (ws == NULL) {
        return;
    }
    wslay_event_context_free(ws->context);
    stream_free(ws->stream);
    g_free(ws);
}

int
wsclient_fd(const WsClient *ws)
{
    return stream_fd(ws->stream);
}

short
wsclient_events(WsClient *ws)
{
    return (short) ((wslay_event_want_read(ws->context) ? POLLIN : 0) |
                    (wslay_event_want_write(ws->context) ? POLLOUT : 0));
}

bool
wsclient_pending(const WsClient *ws)
{
    return stream_pending(ws->stream);
}

void
wsclient_pump(WsClient *ws)
{
    if (!ws->ended && wslay_event_want_write(ws->context)) {
        ws->ended = wslay_event_send(ws->context) != 0 || ws->ended;
    }
    if (!ws->ended && wslay_event_want_read(ws->context)) {
        ws->ended = wslay_event_recv(ws->context) != 0 || ws->ended;
    }
    if (!ws->ended && wslay_event_want_write(ws->context)) { /* pongs, our half of a close */
        ws->ended = wslay_event_send(ws->context) != 0 || ws->ended;
    }
    /* W1: wslay says goodbye by itself after what it cannot accept, and would wait for an answer. */
    ws->ended = ws->ended || (wslay_event_get_close_sent(ws->context) && !ws->closing);
}

bool
wsclient_is_open(const WsClient *ws)
{
    return !ws->ended &&
           (wslay_event_want_read(ws->context) || wslay_event_want_write(ws->context));
}

void
wsclient_send(WsClient *ws, bool is_text, const void *bytes, size_t size)
{
    struct wslay_event_msg message = {
        .opcode = is_text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
        .msg = bytes,
        .msg_length = size,
    };
    wslay_event_queue_msg(ws->context, &message);
}

size_t
wsclient_queued(WsClient *ws)
{
    return wslay_event_get_queued_msg_length(ws->context);
}

void
wsclient_close(WsClient *ws)
{
    ws->closing = true;
    wslay_event_queue_close(ws->context, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
}

bool
wsclient_poll(WsClient *const *sockets, size_t count, int extra_fd, int wait_ms, bool *ret_extra)
{
    struct pollfd fds[SOCKETS_MAX + 1];
    g_assert(count <= SOCKETS_MAX);
    for (size_t i = 0; i < count; i++) {
        bool live = sockets[i] != NULL && wsclient_is_open(sockets[i]);
        fds[i] = (struct pollfd){.fd = live ? wsclient_fd(sockets[i]) : -1,
                                 .events = live ? wsclient_events(sockets[i]) : 0};
        wait_ms = live && wsclient_pending(sockets[i]) ? 0 : wait_ms;
    }
    fds[count] = (struct pollfd){.fd = extra_fd, .events = POLLIN};
    int got = poll(fds, count + 1, wait_ms);
    for (size_t i = 0; i < count; i++) {
        if (fds[i].fd >= 0 && ((got > 0 && fds[i].revents != 0) || wsclient_pending(sockets[i]))) {
            wsclient_pump(sockets[i]);
            got = MAX(got, 1);
        }
    }
    if (ret_extra != NULL) {
        *ret_extra = got > 0 && extra_fd >= 0 && fds[count].revents != 0;
    }
    return got > 0;
}
