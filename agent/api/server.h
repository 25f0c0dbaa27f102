/* server.h: the HTTP side: routes, requests, replies, upgrades.
 * Threads: main loop. Each request's handler runs in a fiber of its own, so it may wait. */
#pragma once
#include "agent/agent.h"
#include <jansson.h>

typedef struct Request Request;
typedef struct Operation Operation;
typedef struct Ws Ws;
typedef struct Latency Latency;

typedef enum {
    ROUTE_UNTRUSTED = 1 << 0, /* callers that are not trusted may come in; the handler decides */
    ROUTE_BODY_JSON = 1 << 1, /* a body of at most 1 MiB of JSON; req_json() has it */
    ROUTE_BODY_FILE = 1 << 2, /* a body of any size is spooled to an unlinked file: req_body_fd().
                                 Together with BODY_JSON: by Content-Type, JSON when it says so */
    ROUTE_ADMIN = 1 << 3,     /* restricted certificates get 403 */
    ROUTE_EARLY = 1 << 4,     /* answered before start-up is complete and during shutdown */
    ROUTE_SOCKET = 1 << 5,    /* unix socket only */
    ROUTE_AT_ONCE = 1 << 6,   /* the handler never yields: no fiber is made for it */
} RouteFlags;

/* True: a reply has been given by exactly one req_reply_*(). False: *error becomes the reply. */
typedef bool (*RouteFn)(Request *req, GError **error);
typedef struct {
    const char *method;  /* "GET"; a GET route answers HEAD too */
    const char *pattern; /* "/1.0/instances/{name}/snapshots/{snapshot}" */
    RouteFn fn;
    RouteFlags flags;
} Route;

Server *server_new(Agent *agent);
void server_free(Server *server);
/* Listens on <dir>/unix.socket, or on a socket that systemd passed (fd >= 0, given). */
bool server_listen_unix(Server *server, int fd, GError **error);
/* Listens with TLS on LXD's address form (":8443", "[::]:8443", "10.0.0.1"); NULL or "" stops. On
 * failure the former listener goes on. The door for metrics leads to nothing else. Yields. */
typedef enum { SERVER_HTTPS, SERVER_METRICS, SERVER_DOORS } ServerDoor;
bool server_listen_tls(Server *server, ServerDoor door, const char *address, GError **error);
/* ["10.0.0.5:8443", …]: where clients reach us over HTTPS; a new reference. */
json_t *server_addresses(Server *server);
/* No new connections; the running requests go on. */
void server_quiesce(Server *server);
/* Requests in flight. */
guint server_busy(Server *server);
/* What they took; borrowed. */
Latency *server_latency(Server *server);

/* Adds a table that ends with a route whose method is NULL; the table stays the caller's. */
void server_add_routes(Server *server, const Route *routes);

/* ---- who asks ---- */
typedef enum { CALLER_UNIX, CALLER_TLS, CALLER_UNTRUSTED } CallerKind;
typedef struct {
    CallerKind kind;
    char *protocol; /* "unix", "tls" */
    char *username; /* user name of the peer's uid, or the certificate's fingerprint */
    char *address;  /* "@", or the peer's */
    bool restricted;
    char **projects;     /* of a restricted caller, NULL-terminated */
    bool metrics_only;   /* its certificate is of type metrics */
    GBytes *certificate; /* what the peer showed, DER, trusted or not; NULL without */
} Caller;
const Caller *req_caller(Request *req);
bool caller_may_project(const Caller *caller, const char *project);
/* {"username":…,"protocol":…,"address":…}; a new reference. */
json_t *caller_json(const Caller *caller);
Caller *caller_dup(const Caller *caller);
void caller_free(Caller *caller);
void caller_clear(Caller *caller); /* one that is embedded */

/* ---- what is asked; all borrowed until the reply ---- */
Agent *req_agent(Request *req);
const char *req_method(Request *req);
const char *req_path(Request *req);
const char *req_arg(Request *req, const char *name);    /* of the pattern, percent-decoded */
const char *req_query(Request *req, const char *name);  /* NULL when absent */
const char *req_header(Request *req, const char *name); /* NULL when absent */
bool req_query_bool(Request *req, const char *name);
bool req_patches(Request *req); /* PATCH, where PUT goes the same way: what is not named stays */
int req_recursion(Request *req);
/* ?project=, "default" when absent. That it exists, and that the caller may use it, was checked. */
const char *req_project(Request *req);
bool req_all_projects(Request *req); /* all-projects=true; with project= it was refused with 400 */
json_t *req_json(Request *req);      /* never NULL on a BODY_JSON route with a JSON body */
int req_body_fd(Request *req);       /* at offset 0; -1 when the body is JSON */
gint64 req_body_size(Request *req);

/* ---- replies ---- */
/* Sync 200. 'metadata' is stolen; NULL sends {}. */
bool req_reply(Request *req, json_t *metadata);
/* The same for metadata that is text already: append it to what req_text_new() gives, and nothing
 * behind it. 'text' is stolen. */
GString *req_text_new(void);
bool req_reply_text(Request *req, GString *text);
/* Sync 200 with an ETag over 'tagged' (stolen). Handlers of PUT and PATCH call req_check_etag(). */
bool req_reply_etag(Request *req, json_t *metadata, json_t *tagged);
/* The value of an ETag over 'tagged' (borrowed), in its quotes; caller frees. */
char *req_etag(json_t *tagged);
bool req_check_etag(Request *req, json_t *tagged /* stolen */, GError **error);
/* Sync 201 with Location. */
bool req_reply_created(Request *req, const char *location_format, ...) G_GNUC_PRINTF(2, 3);
/* Async 202; borrows the operation. */
bool req_reply_operation(Request *req, Operation *op);
/* The file from its start; the fd is given. 'filename' (may be NULL) goes into Content-Disposition.
 * 'headers' is NULL or name, value, name, value, …, NULL. */
bool req_reply_fd(Request *req, int *fd, const char *content_type, const char *filename,
                  const char *const *headers);
bool req_reply_bytes(Request *req, int status, const char *content_type, const void *bytes,
                     size_t size, const char *const *headers);
/* The same for bytes that many replies have in common: none is copied. */
bool req_reply_shared(Request *req, int status, const char *content_type, GBytes *bytes,
                      const char *const *headers);
/* multipart/form-data of files, in order; the fds are given. */
typedef struct {
    const char *field, *filename;
    int fd;
} ReplyPart;
bool req_reply_multipart(Request *req, ReplyPart *parts, size_t count);
/* 101 to WebSocket: 'fn' runs in a fiber and owns the connection: it, or whom it gives it to, frees
 * it. */
typedef void (*UpgradeWsFn)(Ws *ws, void *data);
bool req_upgrade_ws(Request *req, UpgradeWsFn fn, void *data, GError **error);
/* 101 to a raw stream ("sftp"): 'fn' borrows the socket, which is closed when it returns. */
typedef void (*UpgradeRawFn)(int fd, void *data);
bool req_upgrade_raw(Request *req, const char *protocol, UpgradeRawFn fn, void *data,
                     GError **error);

/* ---- lists ---- */
/* ?filter= of LXD: [not] field eq|ne value [and|or …]. NULL text gives a filter that takes all. */
typedef struct Filter Filter;
Filter *filter_parse(const char *text, GError **error);
bool filter_matches(const Filter *filter, json_t *object);
void filter_free(Filter *filter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Filter, filter_free)
