/* Who asks: copies of a Caller outlive the request in operations. */
#include "agent/api/server.h"

bool
caller_may_project(const Caller *caller, const char *project)
{
    return !caller->restricted ||
           (caller->projects != NULL &&
            g_strv_contains((const char *const *) caller->projects, project));
}

json_t *
caller_json(const Caller *caller)
{
    return json_pack("{s:s*,s:s*,s:s*}", "username", caller->username, "protocol", caller->protocol,
                     "address", caller->address);
}

void
caller_clear(Caller *caller)
{
    g_clear_pointer(&caller->protocol, g_free);
    g_clear_pointer(&caller->username, g_free);
    g_clear_pointer(&caller->address, g_free);
    g_clear_pointer(&caller->projects, g_strfreev);
    g_clear_pointer(&caller->certificate, g_bytes_unref);
}

Caller *
caller_dup(const Caller *caller)
{
    Caller *copy = g_new0(Caller, 1);
    *copy = *caller;
    copy->protocol = g_strdup(caller->protocol);
    copy->username = g_strdup(caller->username);
    copy->address = g_strdup(caller->address);
    copy->projects = g_strdupv(caller->projects);
    copy->certificate = caller->certificate != NULL ? g_bytes_ref(caller->certificate) : NULL;
    return copy;
}

void
caller_free(Caller *caller)
{
    if (caller != NULL) {
        caller_clear(caller);
        g_free(caller);
    }
}
