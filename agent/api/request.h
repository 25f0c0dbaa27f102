/* request.h: one HTTP request between server.c (bytes in), a handler (its fiber) and the reply.
 * For api/ only; handlers see api/server.h. Threads: main loop. */
#pragma once
#include "agent/api/server.h"
#include <microhttpd.h>

typedef void (*RequestRespond)(Request *req);

struct Request {
    Server *server;
    Agent *agent;
    struct MHD_Connection *connection; /* borrows; suspended while the fiber runs */
    GSource *listener_source;          /* borrows: drives MHD */
    char *method, *path;               /* path still percent-encoded */
    GHashTable *query;                 /* decoded name → value; NULL: none */
    GHashTable *args;                  /* of the route's pattern, decoded; NULL: none */
    const Route *route;
    Caller caller;

    GByteArray *body; /* JSON being received */
    int spool;        /* file body, -1 */
    gint64 body_size;
    json_t *json;
    bool body_too_large;

    int status;                    /* of the reply */
    struct MHD_Response *response; /* owns until it is queued */
    gint64 began_us;               /* its last byte was here */
    gint64 took_us;                /* until its reply was there */
    bool hang_up;           /* its listener takes no more: this is the connection's last request */
    bool started, finished; /* its fiber */
    bool suspended;         /* its connection: the fiber had to wait */
};

/* NULL and a reply with 400 later when the target is malformed. Takes nothing. */
Request *request_new(Server *server, Agent *agent, const char *raw_uri);
void request_free(Request *req);
/* Runs the handler, in a fiber unless its route says that it never waits. Either it is finished when
 * this returns, or *respond is called when req->response is there. */
void request_start(Request *req, RequestRespond respond);
/* caller.c: who is at the other end of a connection. */
void caller_identify_unix(Caller *ret, int fd);
void caller_identify_tls(Caller *ret, Agent *agent, struct MHD_Connection *connection);
/* Sets an error reply. */
void request_reply_error(Request *req, const GError *error);
/* What a page of core.https_allowed_origin has to hear with the reply. */
void request_reply_cors(Request *req);
/* The value of an ETag for a JSON value: stable, content-derived; caller frees. */
char *request_etag(json_t *tagged);

/* route.c */
typedef struct RouteTable RouteTable;
RouteTable *route_table_new(void);
void route_table_free(RouteTable *table);
void route_table_add(RouteTable *table, const Route *routes);
/* *ret_args is made when the pattern has any and it is NULL. NULL: NOT_FOUND (no such path) or
 * UNSUPPORTED (no such method there). */
const Route *route_find(RouteTable *table, const char *method, const char *path,
                        GHashTable **ret_args, GError **error);
/* Percent-decodes; NULL when malformed or with a NUL inside. */
char *route_decode(const char *text, gssize size, bool plus_is_space);
bool route_parse_query(const char *text, GHashTable *ret_query);
