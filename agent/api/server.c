/* The HTTP server: libmicrohttpd, polled by the main loop, one daemon a listener.
 * S1  Nothing of a request is believed before its size is checked: headers 32 KiB, JSON bodies 1 MiB;
 *     a body is taken only where the route expects one, and only from who may use the route.
 * S2  While a handler's fiber runs its connection is suspended: MHD touches neither.
 * S3  A reply is queued exactly once; the Request is freed by MHD's completion callback only.
 * S4  Changing the HTTPS address opens the new listener before the old one closes; that one lives on
 *     until its last connection has gone, which each does with its next request.
 * S5  The listener for metrics knows three paths; all others are not found there, whoever asks.
 * Not here: what a route does (handlers), who a certificate is (caller.c, auth/trust.c). */
#include "agent/api/server.h"

#include "agent/api/latency.h"
#include "agent/api/listen.h"
#include "agent/api/operation.h"
#include "agent/api/request.h"
#include "agent/api/settings.h"
#include "agent/api/tlsfront.h"
#include "agent/auth/trust.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_MAX      (32 * 1024) /* MHD clears that much after each reply */
#define JSON_MAX        (1024 * 1024)
#define CONNECTIONS_MAX 2048
#define PER_ADDRESS_MAX 512
#define IDLE_TIMEOUT_S  300

typedef struct {
    Server *server;
    struct MHD_Daemon *daemon;
    GSource *source;
    TlsFront *front;     /* HTTPS: accepts, and gives us plain connections; NULL otherwise */
    GHashTable *showing; /* fd → GBytes: certificates of connections about to begin */
    char *host, *port;   /* of HTTPS, as bound */
    guint retiring;      /* timer that looks whether it may go, 0 while in use */
    bool metrics;        /* has nothing but the metrics: S5 */
    bool arrived;        /* a client, in this turn of the loop */
} Listener;

typedef struct {
    GSource source; /* first: it is one */
    Listener *listener;
    gpointer epoll_tag;
} ServerSource;

struct Server {
    Agent *agent;
    RouteTable *routes;
    Latency *latency;
    Listener *unix_socket, *doors[SERVER_DOORS];
    GPtrArray *retired; /* former Listeners with connections left */
    guint busy;
};

/* ---- the main loop drives MHD ---- */

static gboolean
source_prepare(GSource *source, gint *ret_timeout_ms)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    *ret_timeout_ms = -1;
    if (MHD_get_timeout(((ServerSource *) source)->listener->daemon, &timeout) == MHD_YES) {
        *ret_timeout_ms = (gint) MIN(timeout, G_MAXINT);
    }
    return *ret_timeout_ms == 0;
}

static gboolean
source_check(GSource *source)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    ServerSource *self = (ServerSource *) source;
    return g_source_query_unix_fd(source, self->epoll_tag) != 0 ||
           (MHD_get_timeout(self->listener->daemon, &timeout) == MHD_YES && timeout == 0);
}

static gboolean
source_dispatch(GSource *source, GSourceFunc fn, gpointer data)
{
    Listener *listener = ((ServerSource *) source)->listener;
    g_source_set_ready_time(source, -1);
    listener->arrived = false;
    MHD_run(listener->daemon);
    if (listener->arrived) {
        /* MHD looks for its request in the next turn only. Most clients have sent it by now. */
        MHD_run(listener->daemon);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {source_prepare, source_check, source_dispatch,
                                    NULL,           NULL,         NULL};

static void
listener_free(Listener *listener)
{
    if (listener == NULL) {
        return;
    }
    if (listener->retiring != 0) {
        g_source_remove(listener->retiring);
    }
    if (listener->source != NULL) {
        g_source_destroy(listener->source);
        g_source_unref(listener->source);
    }
    tlsfront_free(listener->front);
    if (listener->daemon != NULL) {
        MHD_stop_daemon(listener->daemon);
    }
    g_hash_table_unref(listener->showing);
    g_free(listener->host);
    g_free(listener->port);
    g_free(listener);
}

/* MHD can't stop a daemon under connections whose handlers run, and the very request that moves the
 * address may have come over it: it takes no more, and goes once its last connection has. */
static gboolean
retired_try(gpointer data)
{
    Listener *listener = data;
    if (MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
            ->num_connections > 0) {
        return G_SOURCE_CONTINUE;
    }
    g_ptr_array_remove_fast(listener->server->retired, listener); /* frees it */
    return G_SOURCE_REMOVE;
}

/* No new connections. */
static void
listener_quiesce(Listener *listener)
{
    if (listener->front != NULL) {
        tlsfront_close(listener->front);
    } else {
        int fd = MHD_quiesce_daemon(listener->daemon);
        fd_close(&fd);
    }
}

static void
listener_retire(Listener *listener)
{
    if (listener != NULL) {
        listener_quiesce(listener);
        g_ptr_array_add(listener->server->retired, listener);
        listener->retiring = g_timeout_add_seconds(1, retired_try, listener);
    }
}

/* ---- one request ---- */

static void *
on_uri(void *data, const char *uri, struct MHD_Connection *connection)
{
    Listener *listener = data;
    listener->server->busy++;
    return request_new(listener->server, listener->server->agent, uri);
}

static void
on_completed(void *data, struct MHD_Connection *connection, void **con_cls,
             enum MHD_RequestTerminationCode code)
{
    Listener *listener = data;
    Request *req = *con_cls;
    if (req != NULL) {
        listener->server->busy--;
        if (req->began_us != 0 && req->status != 0) {
            latency_note(req->server->latency, req->method, req->route->pattern, req->status,
                         req->took_us);
        }
        request_free(req); /* S3 */
        *con_cls = NULL;
    }
}

static enum MHD_Result
queue_reply(Request *req)
{
    if (req->began_us != 0) {
        req->took_us = clock_mono_us() - req->began_us;
    }
    request_reply_cors(req);
    if (req->hang_up) { /* S4 */
        MHD_add_response_header(req->response, "Connection", "close");
    }
    struct MHD_Response *response = g_steal_pointer(&req->response);
    enum MHD_Result result = MHD_queue_response(req->connection, (unsigned) req->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
refuse(Request *req, HawCode code, const char *text)
{
    g_autoptr(GError) error = NULL;
    haw_fail(&error, code, "%s", text);
    request_reply_error(req, error);
    return queue_reply(req);
}

/* MHD looks for resumed connections in MHD_run() only, and does not ask to be run. */
static void
on_handler_done(Request *req)
{
    if (req->suspended) {
        MHD_resume_connection(req->connection);
        g_source_set_ready_time(req->listener_source, 0);
    }
}

static bool
is_json(Request *req)
{
    const char *type = req_header(req, "Content-Type");
    return type == NULL || g_ascii_strncasecmp(type, "application/json", 16) == 0 ||
           g_ascii_strncasecmp(type, "application/x-www-form-urlencoded", 33) == 0;
}

static void
identify(Listener *listener, Request *req, struct MHD_Connection *connection)
{
    if (listener->front != NULL) {
        caller_identify_tls(&req->caller, listener->server->agent, connection);
    } else {
        caller_identify_unix(
            &req->caller,
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    }
}

/* S5 */
static bool
serves_metrics(const Route *route)
{
    static const char *const patterns[] = {"/", "/1.0", "/1.0/metrics", NULL};
    return strcmp(route->method, "GET") == 0 && g_strv_contains(patterns, route->pattern);
}

static const Route *
find_route(Listener *listener, Request *req, const char *method, GError **error)
{
    const Route *route = route_find(listener->server->routes, method, req->path, &req->args, error);
    if (listener->metrics && route != NULL && !serves_metrics(route)) {
        haw_fail(error, HAW_NOT_FOUND, "not found");
        return NULL;
    }
    return route;
}

/* The headers are here: decides whether the body may come. S1 */
static enum MHD_Result
on_headers(Listener *listener, Request *req, struct MHD_Connection *connection, const char *method)
{
    Server *server = listener->server;
    req->connection = connection;
    req->listener_source = listener->source;
    req->hang_up = listener->retiring != 0;
    req->method = g_strdup(method);
    identify(listener, req, connection);
    if (req->response != NULL) { /* the target was malformed */
        return queue_reply(req);
    }
    if (strcmp(method, "OPTIONS") == 0) {
        req_reply(req, NULL);
        return queue_reply(req);
    }

    g_autoptr(GError) error = NULL;
    req->route = find_route(listener, req, method, &error);
    if (req->route == NULL) {
        request_reply_error(req, error);
        return queue_reply(req);
    }
    const char *site = req_header(req, "Sec-Fetch-Site");
    if (g_strcmp0(site, "cross-site") == 0 || g_strcmp0(site, "same-site") == 0) {
        return refuse(req, HAW_DENIED, "Forbidden Sec-Fetch-Site header value");
    }
    RouteFlags flags = req->route->flags;
    bool demands = g_strcmp0(req_header(req, "X-LXD-authenticated"), "true") == 0;
    if (req->caller.kind == CALLER_UNTRUSTED && (!(flags & ROUTE_UNTRUSTED) || demands)) {
        return refuse(req, HAW_DENIED, "not authorized");
    }
    if (req->caller.metrics_only && !g_str_has_prefix(req->path, "/1.0/metrics")) {
        return refuse(req, HAW_DENIED, "not authorized");
    }
    const char *length = req_header(req, "Content-Length");
    bool file = (flags & ROUTE_BODY_FILE) && !((flags & ROUTE_BODY_JSON) && is_json(req));
    if (length != NULL && g_ascii_strtoull(length, NULL, 10) > JSON_MAX && !file) {
        return refuse(req, HAW_LIMIT, "Request body too large");
    }
    if (file && req->caller.kind == CALLER_UNTRUSTED) {
        /* A stranger fills the disk only with what it was given a token for. */
        const char *secret = req_header(req, "X-LXD-secret");
        if (secret == NULL ||
            op_find_token(server->agent, "Image download token", secret) == NULL) {
            /* Answered once the body has gone by, so that a client that sends first hears it. */
            haw_fail(&error, HAW_DENIED, "Forbidden");
            request_reply_error(req, error);
            return MHD_YES;
        }
    }
    if (file) {
        g_autofree char *dir = agent_path(server->agent, "images");
        req->spool = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (req->spool < 0) {
            haw_fail_errno(&error, errno, "Create a file for the request body in '%s'", dir);
            request_reply_error(req, error);
            return queue_reply(req);
        }
    }
    return MHD_YES;
}

static void
on_body(Request *req, const char *bytes, size_t size)
{
    req->body_size += (gint64) size;
    if (req->response != NULL || req->body_too_large) {
        return; /* already refused; the rest is swallowed */
    }
    if (req->spool >= 0) {
        g_autoptr(GError) error = NULL;
        if (!fd_write_all(req->spool, bytes, size, "request body", &error)) {
            request_reply_error(req, error);
        }
    } else if (req->body_size > JSON_MAX) {
        req->body_too_large = true;
    } else {
        if (req->body == NULL) {
            req->body = g_byte_array_new();
        }
        g_byte_array_append(req->body, (const guint8 *) bytes, (guint) size);
    }
}

static enum MHD_Result
on_access(void *data, struct MHD_Connection *connection, const char *url, const char *method,
          const char *version, const char *upload, size_t *upload_size, void **con_cls)
{
    Listener *listener = data;
    Request *req = *con_cls;

    if (req == NULL) {
        return MHD_NO;
    }
    if (req->method == NULL) {
        return on_headers(listener, req, connection, method);
    }
    if (*upload_size > 0) {
        on_body(req, upload, *upload_size);
        *upload_size = 0;
        /* An endless chunked body of a refused request: hang up. */
        return req->body_size > 8 * JSON_MAX && req->spool < 0 ? MHD_NO : MHD_YES;
    }
    if (req->finished || req->response != NULL) {
        return queue_reply(req);
    }
    if (!req->started) {
        req->began_us = clock_mono_us();
        if (req->spool >= 0) {
            lseek(req->spool, 0, SEEK_SET);
        }
        request_start(req, on_handler_done);
        if (req->finished) {
            return queue_reply(req);
        }
        req->suspended = true;
        MHD_suspend_connection(connection); /* S2 */
    }
    return MHD_YES;
}

/* The certificate that the client showed goes with its connection. */
static void
on_connection(void *data, struct MHD_Connection *connection, void **socket_context,
              enum MHD_ConnectionNotificationCode code)
{
    Listener *listener = data;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        listener->arrived = true;
        int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        gpointer shown = NULL;
        g_hash_table_steal_extended(listener->showing, GINT_TO_POINTER(fd), NULL, &shown);
        *socket_context = shown;
    } else if (*socket_context != NULL) {
        g_bytes_unref(*socket_context);
        *socket_context = NULL;
    }
}

/* A client that TLS has let in. MHD takes the descriptor, whatever comes of it. */
static void
on_client(int *fd, const struct sockaddr *address, socklen_t size, GBytes *certificate, void *data)
{
    Listener *listener = data;
    int taken = fd_steal(fd);
    if (certificate != NULL) {
        g_hash_table_replace(listener->showing, GINT_TO_POINTER(taken), g_bytes_ref(certificate));
    }
    MHD_add_connection(listener->daemon, taken, address, size);
    g_hash_table_remove(listener->showing, GINT_TO_POINTER(taken));
}

static bool
on_proxy(const struct sockaddr *address, socklen_t size, void *data)
{
    Settings *settings = ((Listener *) data)->server->agent->settings;
    const char *proxies =
        settings != NULL ? settings_get(settings, "core.https_trusted_proxy") : NULL;
    return proxies != NULL && listen_names(proxies, address, size);
}

/* ---- listeners ---- */

static Listener *
listener_new(Server *server, int *fd, bool tls, GError **error)
{
    Listener *listener = g_new0(Listener, 1);
    listener->server = server;
    listener->showing = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) g_bytes_unref);
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE |
                     MHD_USE_PEDANTIC_CHECKS | (tls ? MHD_USE_NO_LISTEN_SOCKET : 0);
    struct MHD_OptionItem options[16];
    size_t n = 0;
#define OPTION(option, number, pointer)                                                            \
    options[n++] = (struct MHD_OptionItem){(option), (intptr_t) (number), (void *) (pointer)}
    OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_MAX, NULL);
    OPTION(MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, NULL);
    OPTION(MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, NULL);
    OPTION(MHD_OPTION_URI_LOG_CALLBACK, (intptr_t) on_uri, listener);
    OPTION(MHD_OPTION_NOTIFY_COMPLETED, (intptr_t) on_completed, listener);
    OPTION(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t) on_connection, listener);
    if (tls) {
        OPTION(MHD_OPTION_PER_IP_CONNECTION_LIMIT, PER_ADDRESS_MAX, NULL);
    } else {
        OPTION(MHD_OPTION_LISTEN_SOCKET, *fd, NULL);
    }
    OPTION(MHD_OPTION_END, 0, NULL);
#undef OPTION
    listener->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_access, listener, MHD_OPTION_ARRAY,
                                        options, MHD_OPTION_END);
    if (listener->daemon == NULL) {
        listener_free(listener);
        haw_fail(error, HAW_IO, "start the HTTP server");
        return NULL;
    }
    if (!tls) {
        fd_steal(fd);
    } else {
        Trust *trust = server->agent->trust;
        const TlsFrontSpec spec = {.is_proxy = on_proxy,
                                   .cert_pem = trust_server_cert_pem(trust),
                                   .key_pem = trust_server_key_pem(trust),
                                   .ca_pem = trust_ca_pem(trust)};
        listener->front = tlsfront_new(fd, &spec, on_client, listener, error);
        if (listener->front == NULL) {
            listener_free(listener);
            return NULL;
        }
    }

    int epoll_fd = MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    listener->source = g_source_new(&source_funcs, sizeof(ServerSource));
    /* It never does; but sources that may not are taken out of the poll around each dispatch. */
    g_source_set_can_recurse(listener->source, TRUE);
    ((ServerSource *) listener->source)->listener = listener;
    ((ServerSource *) listener->source)->epoll_tag =
        g_source_add_unix_fd(listener->source, epoll_fd, G_IO_IN);
    g_source_attach(listener->source, NULL);
    return listener;
}

Server *
server_new(Agent *agent)
{
    Server *server = g_new0(Server, 1);
    server->agent = agent;
    server->routes = route_table_new();
    server->latency = latency_new();
    server->retired = g_ptr_array_new_with_free_func((GDestroyNotify) listener_free);
    return server;
}

void
server_free(Server *server)
{
    if (server == NULL) {
        return;
    }
    g_ptr_array_unref(server->retired);
    for (int door = 0; door < SERVER_DOORS; door++) {
        listener_free(server->doors[door]);
    }
    listener_free(server->unix_socket);
    route_table_free(server->routes);
    latency_free(server->latency);
    g_free(server);
}

void
server_add_routes(Server *server, const Route *routes)
{
    route_table_add(server->routes, routes);
}

guint
server_busy(Server *server)
{
    return server->busy;
}

void
server_quiesce(Server *server)
{
    if (server->unix_socket != NULL) {
        listener_quiesce(server->unix_socket);
    }
    for (int door = 0; door < SERVER_DOORS; door++) {
        if (server->doors[door] != NULL) {
            listener_quiesce(server->doors[door]);
        }
    }
}

bool
server_listen_unix(Server *server, int passed_fd, GError **error)
{
    g_autofree char *path = agent_path(server->agent, "unix.socket");
    haw_autofd int fd = passed_fd >= 0 ? passed_fd : listen_unix(path, server->agent->group, error);
    if (fd < 0) {
        return false;
    }
    server->unix_socket = listener_new(server, &fd, false, error);
    return server->unix_socket != NULL;
}

bool
server_listen_tls(Server *server, ServerDoor door, const char *address, GError **error)
{
    static const char *const ports[] = {[SERVER_HTTPS] = "8443", [SERVER_METRICS] = "9100"};
    Listener **at = &server->doors[door];
    if (address == NULL || *address == '\0') {
        listener_retire(g_steal_pointer(at));
        return true;
    }
    g_autofree char *host = NULL;
    g_autofree char *port = NULL;
    listen_split(address, ports[door], &host, &port);
    if (*at != NULL && strcmp((*at)->host, host) == 0 && strcmp((*at)->port, port) == 0) {
        return true;
    }
    haw_autofd int fd = listen_tcp(host, port, error);
    if (fd < 0) {
        return false;
    }
    Listener *fresh = listener_new(server, &fd, true, error);
    if (fresh == NULL) {
        return false;
    }
    fresh->metrics = door == SERVER_METRICS;
    fresh->host = g_steal_pointer(&host);
    fresh->port = g_steal_pointer(&port);
    listener_retire(g_steal_pointer(at)); /* S4 */
    *at = fresh;
    haw_info("api.listening", KS("address", address),
             KS("serves", fresh->metrics ? "metrics" : "all"));
    return true;
}

json_t *
server_addresses(Server *server)
{
    Listener *https = server->doors[SERVER_HTTPS];
    return https != NULL ? listen_addresses(https->host, https->port) : json_array();
}

Latency *
server_latency(Server *server)
{
    return server->latency;
}
