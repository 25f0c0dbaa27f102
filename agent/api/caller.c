/* Who asks: told from the connection; copies of a Caller outlive the request in operations. */
#include "agent/api/request.h"

#include "agent/auth/trust.h"
#include "base/clock.h"

#include <netdb.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>

#define NAME_KEPT_US (10 * G_USEC_PER_SEC)

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

/* ---- who is there ---- */

/* Borrowed. The last one is remembered: most requests are the same user's. */
static const char *
name_of(uid_t uid)
{
    static struct {
        uid_t uid;
        char *name;
        gint64 until_us;
    } last;
    gint64 now = clock_mono_us();
    if (last.name == NULL || last.uid != uid || now > last.until_us) {
        struct passwd *user = getpwuid(uid);
        g_free(last.name);
        last.name = user != NULL ? g_strdup(user->pw_name) : g_strdup_printf("%u", (unsigned) uid);
        last.uid = uid;
        last.until_us = now + NAME_KEPT_US;
    }
    return last.name;
}

void
caller_identify_unix(Caller *ret, int fd)
{
    struct ucred cred = {.uid = (uid_t) -1};
    socklen_t size = sizeof cred;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size);
    ret->kind = CALLER_UNIX;
    ret->protocol = g_strdup("unix");
    ret->username = g_strdup(name_of(cred.uid));
    ret->address = g_strdup("@");
}

void
caller_identify_tls(Caller *ret, Agent *agent, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    GBytes *shown = info != NULL ? info->socket_context : NULL;
    gsize size_shown = 0;
    const guint8 *der = shown != NULL ? g_bytes_get_data(shown, &size_shown) : NULL;
    trust_identify(agent->trust, der, size_shown, ret);
    if (ret->protocol == NULL) {
        ret->protocol = g_strdup(ret->kind == CALLER_TLS ? "tls" : "");
    }

    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
    if (info != NULL) {
        socklen_t size = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                  : sizeof(struct sockaddr_in);
        getnameinfo(info->client_addr, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    ret->address = g_strdup_printf(strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
}
