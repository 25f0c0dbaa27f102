/* Listening sockets of the API: the unix socket with its group and mode, and LXD's HTTPS addresses. */
#include "agent/api/listen.h"

#include "base/fd.h"
#include "proto/grammar.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gio/gio.h>
#include <grp.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int
listen_unix(const char *path, const char *group, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        haw_fail(error, HAW_INVALID, "the socket's path '%s' is too long", path);
        return -1;
    }
    strcpy(address.sun_path, path);
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    mode_t old = umask(0177);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof address) == 0 &&
              listen(fd, 1024) == 0;
    int err = errno;
    umask(old);
    if (!ok) {
        haw_fail_errno(error, err, "listen on '%s'", path);
        return -1;
    }
    struct group *entry = group != NULL ? getgrnam(group) : NULL;
    if (group != NULL && entry == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "there is no group '%s'", group);
        return -1;
    }
    if (chown(path, (uid_t) -1, entry != NULL ? entry->gr_gid : (gid_t) -1) < 0 ||
        chmod(path, 0660) < 0) {
        haw_fail_errno(error, errno, "set owner and mode of '%s'", path);
        return -1;
    }
    return fd_steal(&fd);
}

void
listen_split(const char *text, const char *default_port, char **ret_host, char **ret_port)
{
    const char *bracket = text[0] == '[' ? strchr(text, ']') : NULL;
    const char *colon = bracket != NULL ? strchr(bracket, ':') : strrchr(text, ':');
    bool bare6 = bracket == NULL && colon != NULL && strchr(text, ':') != colon;
    if (bracket != NULL) {
        *ret_host = g_strndup(text + 1, (gsize) (bracket - text - 1));
    } else if (colon == NULL || bare6) {
        *ret_host = g_strdup(text);
        colon = NULL;
    } else {
        *ret_host = g_strndup(text, (gsize) (colon - text));
    }
    *ret_port = g_strdup(colon != NULL && colon[1] != '\0' ? colon + 1 : default_port);
}

static int
listen_on(const char *host, const char *port, int type, GError **error)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = type, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(*host != '\0' ? host : NULL, port, &hints, &found);
    if (status != 0) {
        haw_fail(error, HAW_INVALID, "listen on '%s:%s': %s", host, port, gai_strerror(status));
        return -1;
    }
    int fd = -1;
    int err = EADDRNOTAVAIL;
    /* A wildcard is one IPv6 socket that takes IPv4 too, where the kernel has IPv6. */
    for (int pass = 0; pass < 2 && fd < 0; pass++) {
        for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
            if ((at->ai_family == AF_INET6) != (pass == 0)) {
                continue;
            }
            int one = 1, zero = 0;
            fd = socket(at->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            if (fd < 0) {
                err = errno;
                continue;
            }
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (at->ai_family == AF_INET6) {
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
            }
            if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 ||
                (type == SOCK_STREAM && listen(fd, 1024) < 0)) {
                err = errno;
                fd_close(&fd);
            }
        }
    }
    freeaddrinfo(found);
    if (fd < 0) {
        haw_fail_errno(error, err, "listen on '%s:%s'", host, port);
    }
    return fd;
}

int
listen_tcp(const char *host, const char *port, GError **error)
{
    return listen_on(host, port, SOCK_STREAM, error);
}

int
listen_udp(const char *host, const char *port, GError **error)
{
    return listen_on(host, port, SOCK_DGRAM, error);
}

static void
add_address(json_t *list, const char *host, const char *port)
{
    g_autofree char *text =
        g_strdup_printf(strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
    json_array_append_new(list, json_string(text));
}

json_t *
listen_addresses(const char *bound, const char *port)
{
    json_t *list = json_array();
    bool wildcard = *bound == '\0' || strcmp(bound, "::") == 0 || strcmp(bound, "0.0.0.0") == 0;
    if (!wildcard) {
        add_address(list, bound, port);
        return list;
    }
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0) {
        return list;
    }
    for (struct ifaddrs *at = all; at != NULL; at = at->ifa_next) {
        char host[INET6_ADDRSTRLEN];
        if (at->ifa_addr == NULL || (at->ifa_flags & IFF_LOOPBACK)) {
            continue;
        }
        if (at->ifa_addr->sa_family == AF_INET) {
            struct sockaddr_in *in = (struct sockaddr_in *) at->ifa_addr;
            inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
            add_address(list, host, port);
        } else if (at->ifa_addr->sa_family == AF_INET6 && strcmp(bound, "0.0.0.0") != 0) {
            struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) at->ifa_addr;
            if (!IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) {
                inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
                add_address(list, host, port);
            }
        }
    }
    freeifaddrs(all);
    return list;
}

bool
listen_names(const char *list, const struct sockaddr *address, socklen_t size)
{
    g_autoptr(GSocketAddress) native =
        g_socket_address_new_from_native((gpointer) address, (gsize) size);
    if (native == NULL || !G_IS_INET_SOCKET_ADDRESS(native)) {
        return false;
    }
    GInetAddress *peer = g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(native));
    g_auto(GStrv) names = grammar_list(list);
    for (char **name = names; *name != NULL; name++) {
        g_autoptr(GInetAddress) named = g_inet_address_new_from_string(*name);
        if (named != NULL && g_inet_address_equal(named, peer)) {
            return true;
        }
    }
    return false;
}
