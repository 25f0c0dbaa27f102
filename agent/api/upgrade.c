/* Upgrades: a connection that leaves HTTP, as a WebSocket or as a raw stream.
 * U1  MHD keeps the connection's resources until the new owner is done: it is told then.
 * U2  The new owner works on a duplicate of the socket, so that its close and MHD's never mix up. */
#include "agent/api/request.h"

#include "agent/api/ws.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WS_MESSAGE_MAX (1024 * 1024)
#define WS_MAGIC       "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 section 1.3 */

struct upgrade {
    UpgradeWsFn ws_fn; /* one of the two */
    UpgradeRawFn raw_fn;
    void *data;
    int fd;
    Ws *ws;
    struct MHD_UpgradeResponseHandle *handle;
};

static void
hand_back(void *data)
{
    MHD_upgrade_action(data, MHD_UPGRADE_ACTION_CLOSE); /* U1 */
}

static void
upgrade_run(void *data)
{
    g_autofree struct upgrade *upgrade = data;
    if (upgrade->ws_fn != NULL) {
        upgrade->ws_fn(upgrade->ws, upgrade->data);
    } else {
        upgrade->raw_fn(upgrade->fd, upgrade->data);
        fd_close(&upgrade->fd);
        hand_back(upgrade->handle);
    }
}

static void
on_upgraded(void *data, struct MHD_Connection *connection, void *con_cls, const char *extra,
            size_t extra_size, MHD_socket socket, struct MHD_UpgradeResponseHandle *handle)
{
    struct upgrade *upgrade = data;
    upgrade->handle = handle;
    upgrade->fd = fcntl(socket, F_DUPFD_CLOEXEC, 3); /* U2 */
    fcntl(upgrade->fd, F_SETFL, fcntl(upgrade->fd, F_GETFL) | O_NONBLOCK);
    if (upgrade->ws_fn != NULL) {
        upgrade->ws = ws_new(&upgrade->fd, true, WS_MESSAGE_MAX);
        ws_feed(upgrade->ws, extra, extra_size);
        ws_on_free(upgrade->ws, hand_back, handle);
    } else if (extra_size > 0) {
        /* The stream's client speaks only after our 101: this is none. */
        shutdown(upgrade->fd, SHUT_RDWR);
    }
    fiber_start("upgrade", upgrade_run, upgrade);
}

static bool
reply_upgrade(Request *req, struct upgrade *upgrade, const char *protocol, const char *accept)
{
    struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgraded, upgrade);
    MHD_add_response_header(response, "Upgrade", protocol);
    if (accept != NULL) {
        MHD_add_response_header(response, "Sec-WebSocket-Accept", accept);
    }
    req->status = MHD_HTTP_SWITCHING_PROTOCOLS;
    req->response = response;
    return true;
}

bool
req_upgrade_ws(Request *req, UpgradeWsFn fn, void *data, GError **error)
{
    const char *key = req_header(req, "Sec-WebSocket-Key");
    const char *asked = req_header(req, "Upgrade");
    const char *version = req_header(req, "Sec-WebSocket-Version");
    if (key == NULL || asked == NULL || g_ascii_strcasecmp(asked, "websocket") != 0 ||
        g_strcmp0(version, "13") != 0) {
        return haw_fail(error, HAW_INVALID, "Bad Request");
    }

    g_autofree char *salted = g_strconcat(key, WS_MAGIC, NULL);
    guint8 digest[20];
    gsize size = sizeof digest;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    g_checksum_update(sum, (const guint8 *) salted, -1);
    g_checksum_get_digest(sum, digest, &size);
    g_autofree char *accept = g_base64_encode(digest, size);

    struct upgrade *upgrade = g_new0(struct upgrade, 1);
    upgrade->ws_fn = fn;
    upgrade->data = data;
    return reply_upgrade(req, upgrade, "websocket", accept);
}

bool
req_upgrade_raw(Request *req, const char *protocol, UpgradeRawFn fn, void *data, GError **error)
{
    const char *asked = req_header(req, "Upgrade");
    if (asked == NULL || g_ascii_strcasecmp(asked, protocol) != 0) {
        return haw_fail(error, HAW_INVALID, "Missing or invalid upgrade header");
    }
    struct upgrade *upgrade = g_new0(struct upgrade, 1);
    upgrade->raw_fn = fn;
    upgrade->data = data;
    return reply_upgrade(req, upgrade, protocol, NULL);
}
