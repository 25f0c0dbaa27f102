/* firewall.h: nftables rules of networks and NICs, in LXD's tables and chains.
 * Threads: main loop, inside fibers; the functions that only make text run anywhere. */
#pragma once
#include "base/error.h"

/* What a network's rules depend on. Plain data, borrowed. */
struct firewall_family {
    bool rules;              /* ipvN.firewall: we make filter rules */
    bool serve;              /* we answer DHCP and DNS */
    bool forward;            /* we forward packets; with rules and without this they are rejected */
    const char *nat_subnet;  /* "10.0.0.0/24"; NULL: no NAT */
    const char *nat_address; /* source address outside; NULL: masquerade */
};
struct firewall_net {
    const char *name;
    struct firewall_family ipv4, ipv6;
    char **acl_rules;    /* lines of acl.NET; NULL: no ACL is assigned */
    char **dnat, **snat; /* lines of the address forwards; NULL: none */
};
/* The whole ruleset as one transaction: what was there of this network goes, this comes. Caller
 * frees. */
char *firewall_net_text(const struct firewall_net *net);
bool firewall_net_set(const struct firewall_net *net, GError **error); /* Yields. */
bool firewall_net_clear(const char *name, GError **error);             /* Yields. */

/* What a bridged NIC may send. 'any' of a family: no filter; NULL lists with filter: nothing. */
struct firewall_nic {
    const char *label; /* "[project_]instance.device" */
    const char *host_name, *mac;
    bool filter4, filter6;           /* only from these addresses; */
    char **addresses4, **addresses6; /* NULL or empty: from none */
};
char *firewall_nic_text(const struct firewall_nic *nic);
bool firewall_nic_set(const struct firewall_nic *nic, GError **error); /* Yields. */
bool firewall_nic_clear(const char *label, GError **error);            /* Yields. */
/* Drops what comes in by the interface beyond the rate; for kernels without a policing tc action. */
bool firewall_limit_set(const char *label, const char *host_name, guint64 bits_per_s,
                        GError **error);                      /* Yields. */
bool firewall_limit_clear(const char *label, GError **error); /* Yields. */
/* Drops what comes in by the interface with a source that is not routed to it (routed NICs). */
bool firewall_rpf_set(const char *label, const char *host_name, GError **error); /* Yields. */
bool firewall_rpf_clear(const char *label, GError **error);                      /* Yields. */
