/* What 'lxd waitready' and 'lxd shutdown' (and our own) ask for; unix socket only. */
#include "agent/api/internal.h"

#include <malloc.h>

static bool
get_ready(Request *req, GError **error)
{
    if (!req_agent(req)->ready || !req_agent(req)->autostarted) {
        return haw_fail(error, HAW_UNAVAILABLE, "LXD daemon not ready yet");
    }
    return req_reply(req, NULL);
}

/* Answers once everything is stopped; the process ends after that. */
static bool
put_shutdown(Request *req, GError **error)
{
    return agent_shutdown(req_agent(req), true, req_query_bool(req, "force"), error) &&
           req_reply(req, NULL);
}

/* LXD's test suite asks for it before it counts what a daemon holds. */
static bool
get_gc(Request *req, GError **error)
{
    malloc_trim(0);
    return req_reply(req, NULL);
}

const Route internal_routes[] = {
    {"GET", "/internal/ready", get_ready, ROUTE_SOCKET | ROUTE_EARLY},
    {"GET", "/internal/gc", get_gc, ROUTE_SOCKET},
    {"PUT", "/internal/shutdown", put_shutdown, ROUTE_SOCKET | ROUTE_EARLY},
    {NULL, NULL, NULL, 0},
};
