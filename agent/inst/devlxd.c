/* devlxd: what a guest may ask about itself (lxd-api cluster-and-server §6).
 * G1  Who asks is told by the kernel: the peer's pid at connect time, its pid namespace (guestpeer.h)
 *     and its uid. A peer that belongs to no running container, or is not root there, gets 401.
 * G2  security.devlxd=false closes everything but /1.0.
 * G3  A guest cannot make us hold much: one request at a time a connection, DEVLXD_CONNECTIONS of an
 *     instance, heads and bodies bounded, GUESTREPLY_IDLE_MS without a byte ends it, an event queue that
 *     overflows ends its listener.
 * Each connection is a fiber; an event listener has one more that sends. */
#include "agent/inst/devlxd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "agent/api/ws.h"
#include "agent/inst/devhttp.h"
#include "agent/inst/guestimage.h"
#include "agent/inst/guestpeer.h"
#include "agent/inst/guestreply.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#define DEVLXD_CONNECTIONS 64
#define DEVLXD_QUEUE       256
#define DEVLXD_MAGIC       "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 section 1.3 */

typedef struct {
    Agent *agent; /* borrowed */
    int fd;       /* owns */
    pid_t pid;
    uid_t uid;
    Inst *inst; /* shares; found anew for each request */
    GByteArray *in;
    bool taken; /* became an event stream */
} Guest;

typedef struct {
    gint64 inst_id;
    char **types; /* NULL: all */
    Ws *ws;       /* owns one of the two */
    int fd;
    GQueue queue; /* owned texts */
    FiberSignal more;
    bool dead;
} Listener;

static GPtrArray *listeners;    /* borrowed from their fibers */
static GHashTable *connections; /* instance id → count */

/* ---- what can be asked ---- */

static bool
visible_key(const char *key)
{
    return g_str_has_prefix(key, "user.") || g_str_has_prefix(key, "cloud-init.");
}

static bool
get_info(Guest *guest)
{
    bool ready = inst_get_bool(guest->inst, "volatile.last_state.ready", false);

    return guestreply_json(guest->fd,
                           json_pack("{s:s,s:s,s:s,s:s}", "api_version", "1.0", "location", "none",
                                     "instance_type", inst_type(guest->inst), "state",
                                     ready ? "Ready" : "Started"));
}

static bool
patch_info(Guest *guest, const char *body, size_t size)
{
    g_autoptr(GError) error = NULL;
    json_t *json = json_loadb(body, size, 0, NULL);
    const char *state = json_string_value(json_object_get(json, "state"));
    bool ready = g_strcmp0(state, "Ready") == 0, known = ready || g_strcmp0(state, "Started") == 0;

    json_decref(json);
    if (!known) {
        return guestreply_error(guest->fd, 400, json == NULL ? "EOF" : "Invalid state");
    }
    if (!inst_set_config(guest->inst,
                         json_pack("{s:s}", "volatile.last_state.ready", ready ? "true" : "false"),
                         &error)) {
        return guestreply_error(guest->fd, 500, error->message);
    }
    if (ready) {
        event_lifecycle(guest->agent, inst_project(guest->inst), NULL, NULL, "instance-ready",
                        "/1.0/instances/%s", inst_name(guest->inst));
    }
    return guestreply_json(guest->fd, json_object());
}

static bool
get_config_list(Guest *guest)
{
    json_t *list = json_array(), *value;
    const char *key;

    json_object_foreach (inst_expanded_config(guest->inst), key, value) {
        if (visible_key(key)) {
            json_array_append_new(list, json_sprintf("/1.0/config/%s", key));
        }
    }
    return guestreply_json(guest->fd, list);
}

static bool
get_config(Guest *guest, const char *key)
{
    const char *value = inst_get(guest->inst, key);

    if (!visible_key(key)) {
        return guestreply_error(guest->fd, 403, "not authorized");
    }
    if (value == NULL) {
        return guestreply_error(guest->fd, 404, "not found");
    }
    return guestreply_answer(guest->fd, 200, "application/octet-stream", value, strlen(value));
}

static bool
get_devices(Guest *guest)
{
    json_t *devices = json_deep_copy(inst_expanded_devices(guest->inst)), *config;
    const char *name;

    json_object_foreach (devices, name, config) {
        g_autofree char *key = g_strdup_printf("volatile.%s.hwaddr", name);
        const char *hwaddr = inst_get(guest->inst, key);
        const char *type = json_string_value(json_object_get(config, "type"));
        if (g_strcmp0(type, "nic") == 0 && hwaddr != NULL &&
            json_object_get(config, "hwaddr") == NULL) {
            json_object_set_new(config, "hwaddr", json_string(hwaddr));
        }
    }
    return guestreply_json(guest->fd, devices);
}

static bool
get_meta_data(Guest *guest)
{
    const char *id = inst_get(guest->inst, "volatile.cloud-init.instance-id");
    const char *more = inst_get(guest->inst, "user.meta-data");
    g_autofree char *text = g_strdup_printf(
        "#cloud-config\ninstance-id: %s\nlocal-hostname: %s\n%s",
        id != NULL ? id : inst_name(guest->inst), inst_name(guest->inst), more != NULL ? more : "");

    return guestreply_answer(guest->fd, 200, "text/plain; charset=utf-8", text, strlen(text));
}

static bool
get_image(Guest *guest, const char *path)
{
    g_autofree char *fingerprint =
        g_strndup(path, strlen(path) - strlen("/export")); /* the route checked the end */

    if (!inst_get_bool(guest->inst, "security.devlxd.images", false)) {
        return guestreply_error(guest->fd, 403, "not authorized");
    }
    return guestimage_export(guest->agent, guest->inst, guest->fd, fingerprint);
}

/* ---- events ---- */

static void
listener_send(void *data)
{
    Listener *listener = data;

    while (!listener->dead) {
        g_autofree char *text = g_queue_pop_head(&listener->queue);
        if (text == NULL) {
            fiber_signal_wait(&listener->more, -1, NULL, NULL);
        } else if (listener->ws != NULL) {
            listener->dead = !ws_send(listener->ws, WS_TEXT, text, strlen(text));
        } else {
            g_autofree char *line = g_strconcat(text, "\n", NULL);
            listener->dead = !guestreply_bytes(listener->fd, line, strlen(line));
        }
    }
    g_queue_clear_full(&listener->queue, g_free);
    ws_free(listener->ws);
    fd_close(&listener->fd);
    g_strfreev(listener->types);
    g_free(listener);
}

/* Until the guest hangs up. */
static void
listener_watch(Listener *listener)
{
    if (listener->ws != NULL) {
        g_autofree guint8 *bytes = NULL;
        size_t size;
        while (ws_recv(listener->ws, &bytes, &size) != WS_CLOSED) {
            g_clear_pointer(&bytes, g_free);
        }
    } else {
        char byte;
        while (fiber_wait_fd(listener->fd, G_IO_IN, -1, NULL, NULL) &&
               recv(listener->fd, &byte, 1, MSG_DONTWAIT) > 0) {
        }
    }
    g_ptr_array_remove_fast(listeners, listener);
    listener->dead = true;
    fiber_signal_all(&listener->more);
}

static bool
upgrade(Guest *guest, const Devhttp *request, Listener *listener)
{
    const char *key = devhttp_header(request, "sec-websocket-key");
    g_autofree char *salted = g_strconcat(key, DEVLXD_MAGIC, NULL);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    guint8 digest[20];
    gsize size = sizeof(digest);

    g_checksum_update(sum, (const guint8 *) salted, -1);
    g_checksum_get_digest(sum, digest, &size);
    g_autofree char *accept = g_base64_encode(digest, size);
    g_autofree char *head = g_strdup_printf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: "
                                            "websocket\r\nConnection: Upgrade\r\n"
                                            "Sec-WebSocket-Accept: %s\r\n\r\n",
                                            accept);
    if (!guestreply_bytes(guest->fd, head, strlen(head))) {
        return false;
    }
    listener->ws = ws_new(&guest->fd, true, DEVHTTP_BODY_MAX);
    return true;
}

static bool
known_types(char **types)
{
    for (; types != NULL && *types != NULL; types++) {
        if (!g_str_equal(*types, "config") && !g_str_equal(*types, "device")) {
            return false;
        }
    }
    return true;
}

static bool
get_events(Guest *guest, const Devhttp *request)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    const char *asked = devhttp_header(request, "upgrade");
    g_autofree char *types = devhttp_query(request, "type");
    bool web = asked != NULL && g_ascii_strcasecmp(asked, "websocket") == 0;
    g_auto(GStrv) list = types != NULL && types[0] != '\0' ? g_strsplit(types, ",", -1) : NULL;

    if (!known_types(list)) {
        return guestreply_error(guest->fd, 400, "Bad Request");
    }
    if (web && devhttp_header(request, "sec-websocket-key") == NULL) {
        return guestreply_error(guest->fd, 400, "Bad Request");
    }
    Listener *listener = g_new0(Listener, 1);
    listener->fd = -1;
    bool ok = web ? upgrade(guest, request, listener)
                  : guestreply_bytes(guest->fd, head, sizeof(head) - 1);
    if (!ok) {
        g_free(listener);
        return false;
    }
    listener->inst_id = inst_id(guest->inst);
    listener->types = g_steal_pointer(&list);
    listener->fd = web ? -1 : fd_steal(&guest->fd);
    guest->taken = true;
    g_ptr_array_add(listeners, listener);
    fiber_start("devlxd events", listener_send, listener);
    listener_watch(listener);
    return false;
}

void
devlxd_event(Inst *inst, const char *type, json_t *metadata)
{
    g_autofree char *now = clock_format(clock_real_us());
    json_t *event =
        json_pack("{s:s,s:s,s:o}", "timestamp", now, "type", type, "metadata", metadata);
    g_autofree char *text = json_dumps(event, JSON_COMPACT);

    json_decref(event);
    for (guint i = 0; listeners != NULL && i < listeners->len; i++) {
        Listener *listener = g_ptr_array_index(listeners, i);
        if (listener->inst_id != inst_id(inst) || listener->dead ||
            (listener->types != NULL &&
             !g_strv_contains((const char *const *) listener->types, type))) {
            continue;
        }
        if (listener->queue.length >= DEVLXD_QUEUE) { /* G3 */
            if (listener->ws != NULL) {
                ws_close(listener->ws);
            } else {
                shutdown(listener->fd, SHUT_RDWR);
            }
            continue;
        }
        g_queue_push_tail(&listener->queue, g_strdup(text));
        fiber_signal_all(&listener->more);
    }
}

static void
config_event(Inst *inst, const char *key, json_t *old, json_t *new)
{
    const char *before = json_string_value(old), *after = json_string_value(new);

    if (g_str_has_prefix(key, "user.") && g_strcmp0(before, after) != 0) {
        devlxd_event(inst, "config",
                     json_pack("{s:s,s:s,s:s}", "key", key, "old_value",
                               before != NULL ? before : "", "value", after != NULL ? after : ""));
    }
}

static void
device_event(Inst *inst, const char *action, const char *name, json_t *config)
{
    devlxd_event(inst, "device",
                 json_pack("{s:s,s:s,s:O}", "action", action, "name", name, "config", config));
}

void
devlxd_changed(Inst *inst, json_t *old_config, json_t *old_devices)
{
    json_t *config = inst_expanded_config(inst), *devices = inst_expanded_devices(inst), *value;
    const char *name;

    json_object_foreach (old_config, name, value) {
        if (json_object_get(config, name) == NULL) {
            config_event(inst, name, value, NULL);
        }
    }
    json_object_foreach (config, name, value) {
        config_event(inst, name, json_object_get(old_config, name), value);
    }
    json_object_foreach (old_devices, name, value) {
        if (json_object_get(devices, name) == NULL) {
            device_event(inst, "removed", name, value);
        }
    }
    json_object_foreach (devices, name, value) {
        json_t *old = json_object_get(old_devices, name);
        if (old == NULL || !json_equal(old, value)) {
            device_event(inst, old == NULL ? "added" : "updated", name, value);
        }
    }
}

/* ---- requests ---- */

/* False: the connection ends. */
static bool
route(Guest *guest, const Devhttp *request, const char *body)
{
    const char *path = request->path;
    bool get = g_str_equal(request->method, "GET");

    if (g_str_equal(path, "/1.0") && g_str_equal(request->method, "PATCH")) {
        return patch_info(guest, body, request->body_size);
    }
    if (!get) {
        return guestreply_error(guest->fd, 405, "method not allowed");
    }
    if (g_str_equal(path, "/")) {
        return guestreply_json(guest->fd, json_pack("[s]", "/1.0"));
    }
    if (g_str_equal(path, "/1.0")) {
        return get_info(guest);
    }
    if (!inst_get_bool(guest->inst, "security.devlxd", true)) { /* G2 */
        return guestreply_error(guest->fd, 403, "not authorized");
    }
    if (g_str_equal(path, "/1.0/config")) {
        return get_config_list(guest);
    }
    if (g_str_has_prefix(path, "/1.0/config/")) {
        return get_config(guest, path + strlen("/1.0/config/"));
    }
    if (g_str_equal(path, "/1.0/devices")) {
        return get_devices(guest);
    }
    if (g_str_equal(path, "/1.0/meta-data")) {
        return get_meta_data(guest);
    }
    if (g_str_equal(path, "/1.0/events")) {
        return get_events(guest, request);
    }
    if (g_str_has_prefix(path, "/1.0/images/") && g_str_has_suffix(path, "/export")) {
        return get_image(guest, path + strlen("/1.0/images/"));
    }
    return guestreply_error(guest->fd, 404, "not found");
}

/* More bytes into guest->in; false at the end of the stream or when nothing comes. */
static bool
receive(Guest *guest)
{
    guint8 buffer[4096];

    for (;;) {
        ssize_t n = recv(guest->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n > 0) {
            g_byte_array_append(guest->in, buffer, (guint) n);
            return true;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR) ||
            !fiber_wait_fd(guest->fd, G_IO_IN, GUESTREPLY_IDLE_MS, NULL, NULL)) {
            return false;
        }
    }
}

static bool
serve_one(Guest *guest)
{
    g_auto(Devhttp) request = {0};
    size_t head;

    while ((head = devhttp_head_size((char *) guest->in->data, guest->in->len)) == 0) {
        if (guest->in->len > DEVHTTP_HEAD_MAX || !receive(guest)) {
            return false;
        }
    }
    int status = devhttp_parse((char *) guest->in->data, head, &request);
    if (status != 0) {
        guestreply_error(guest->fd, status, guestreply_status_text(status));
        return false;
    }
    while (guest->in->len < head + request.body_size) {
        if (!receive(guest)) {
            return false;
        }
    }
    g_autofree char *body = g_strndup((char *) guest->in->data + head, request.body_size);
    g_byte_array_remove_range(guest->in, 0, (guint) (head + request.body_size));
    if (inst_pid(guest->inst) <= 0 || !guestpeer_is_root(guest->inst, guest->uid)) { /* G1 */
        guestreply_error(guest->fd, 401, "Access denied for non-root user");
        return false;
    }
    return route(guest, &request, body) && request.keep_alive;
}

static bool
count_connection(gint64 id, int step)
{
    gpointer key = GSIZE_TO_POINTER((gsize) id);
    int count = GPOINTER_TO_INT(g_hash_table_lookup(connections, key)) + step;

    if (count > DEVLXD_CONNECTIONS) {
        return false;
    }
    if (count <= 0) {
        g_hash_table_remove(connections, key);
    } else {
        g_hash_table_replace(connections, key, GINT_TO_POINTER(count));
    }
    return true;
}

static void
serve_all(Guest *guest)
{
    gint64 id = inst_id(guest->inst);

    if (count_connection(id, 1)) {
        guest->in = g_byte_array_new();
        while (serve_one(guest)) {
        }
        g_byte_array_unref(guest->in);
        count_connection(id, -1);
    }
}

static void
serve_guest(void *data)
{
    Guest *guest = data;

    guest->inst = guestpeer_find(guest->agent->instances, guest->pid);
    if (guest->inst == NULL) { /* G1 */
        guestreply_error(guest->fd, 401, "not authorized");
    } else {
        serve_all(guest);
    }
    g_clear_pointer(&guest->inst, inst_unref);
    fd_close(&guest->fd);
    g_free(guest);
}

void
devlxd_serve(Agent *agent, Inst *inst, int *fd, uid_t uid)
{
    Guest guest = {.agent = agent, .fd = fd_steal(fd), .inst = inst_ref(inst), .uid = uid};

    serve_all(&guest);
    inst_unref(guest.inst);
    fd_close(&guest.fd);
}

/* ---- the listener ---- */

typedef struct {
    Agent *agent;
    int fd;
} Door;

static void
accept_guests(void *data)
{
    g_autofree Door *door = data;

    while (fiber_wait_fd(door->fd, G_IO_IN, -1, door->agent->stopping, NULL)) {
        struct ucred peer;
        socklen_t size = sizeof(peer);
        int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) {
                fiber_sleep_ms(100, NULL, NULL);
            }
            continue;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
            close(fd);
            continue;
        }
        Guest *guest = g_new0(Guest, 1);
        *guest = (Guest){.agent = door->agent, .fd = fd, .pid = peer.pid, .uid = peer.uid};
        fiber_start("devlxd", serve_guest, guest);
    }
    close(door->fd);
}

bool
devlxd_start(Agent *agent, GError **error)
{
    g_autofree char *dir = agent_path(agent, "devlxd");
    g_autofree char *path = agent_path(agent, "devlxd/sock");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (strlen(path) >= sizeof(addr.sun_path)) {
        return haw_fail(error, HAW_INVALID, "the path '%s' is too long for a socket", path);
    }
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    if (!fd_mkdir_p(dir, 0755, error)) {
        return false;
    }
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *) &addr, sizeof(addr)) < 0 || chmod(path, 0666) < 0 ||
        listen(fd, 128) < 0) {
        return haw_fail_errno(error, errno, "listen on '%s'", path);
    }
    listeners = g_ptr_array_new();
    connections = g_hash_table_new(NULL, NULL);
    Door *door = g_new(Door, 1);
    *door = (Door){.agent = agent, .fd = fd_steal(&fd)};
    fiber_start("devlxd listener", accept_guests, door);
    return true;
}
