/* proxyaddr.h: the grammar of a proxy device's listen and connect. Threads: any. */
#pragma once
#include "base/error.h"

typedef struct {
    enum { PROXYADDR_TCP, PROXYADDR_UDP, PROXYADDR_UNIX } kind;
    char *address;  /* an IP without brackets, "" for any; path, or "@name" */
    guint16 *ports; /* owns; none for unix */
    guint count;
} ProxyAddr;

/* "tcp:127.0.0.1:80,8000-8010", "udp:[::1]:53", "unix:/path", "unix:@name". */
ProxyAddr *proxyaddr_parse(const char *text, GError **error);
void proxyaddr_free(ProxyAddr *addr);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProxyAddr, proxyaddr_free)
const char *proxyaddr_kind(const ProxyAddr *addr); /* "tcp" */
bool proxyaddr_abstract(const ProxyAddr *addr);
/* "", "0.0.0.0" or "::". */
bool proxyaddr_wildcard(const ProxyAddr *addr);
bool proxyaddr_ipv6(const ProxyAddr *addr);
/* Whether 'listen' can be forwarded to 'connect': as many ports, or one to connect to. */
bool proxyaddr_match(const ProxyAddr *listen, const ProxyAddr *connect, GError **error);
