/* inet.h: IP addresses, routes and proxied neighbours of interfaces, over rtnetlink.
 * Threads: any, one a socket. Texts are addresses ("10.0.0.1") or prefixes ("10.0.0.0/24"). */
#pragma once
#include "hw/nlsock.h"
#include <netinet/in.h>

struct inet_address {
    int ifindex;
    int family; /* AF_INET, AF_INET6 */
    int prefix;
    int scope;   /* RT_SCOPE_… */
    guint flags; /* IFA_F_… */
    char text[INET6_ADDRSTRLEN];
};

/* All addresses of the namespace: struct inet_address elements. */
GArray *inet_addresses(NlSock *sock, GError **error);
/* "10.0.0.1/24"; there already is success. */
bool inet_add_address(NlSock *sock, int ifindex, const char *cidr, GError **error);
/* Removes every address of the interface and family that is of global scope but those in 'keep'
 * (NULL-terminated CIDRs, may be NULL). */
bool inet_flush_addresses(NlSock *sock, int ifindex, int family, const char *const *keep,
                          GError **error);

struct inet_route {
    const char *prefix;  /* NULL: the default route */
    const char *gateway; /* NULL: on link */
    const char *source;  /* preferred source, NULL */
    int family, ifindex;
    guint table; /* 0: main */
    int proto;   /* RTPROT_BOOT, RTPROT_STATIC */
};
/* An equal one is replaced. */
bool inet_add_route(NlSock *sock, const struct inet_route *route, GError **error);
/* Not there is success. */
bool inet_del_route(NlSock *sock, const struct inet_route *route, GError **error);
/* A route as the kernel has it; texts are owned by the array's elements. */
struct inet_route_row {
    char prefix[INET6_ADDRSTRLEN + 4]; /* "" for the default route */
    char gateway[INET6_ADDRSTRLEN];    /* "" for none */
    int family, ifindex, proto, scope, type;
    guint table, metric;
};
GArray *inet_routes(NlSock *sock, int family, GError **error);
/* The interface that the main table's default route leaves by; 0 when there is none. */
int inet_default_ifindex(NlSock *sock, int family, char ret_gateway[INET6_ADDRSTRLEN]);

/* Answers ARP or NDP for 'address' on the interface. */
bool inet_proxy_add(NlSock *sock, int ifindex, const char *address, GError **error);
bool inet_proxy_del(NlSock *sock, int ifindex, const char *address, GError **error);
/* The MAC addresses that the namespace's neighbour tables have for an address; for leases. */
struct inet_neighbour {
    char text[INET6_ADDRSTRLEN], mac[18];
    int ifindex;
};
/* Forgets what is known of an address on the interface; not there is success. */
bool inet_forget_neighbour(NlSock *sock, int ifindex, const char *address, GError **error);
GArray *inet_neighbours(NlSock *sock, GError **error);
