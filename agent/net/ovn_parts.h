/* ovn_parts.h: parts of an ovn network's rows, shared by the files that build them.
 * Threads: any; pure. */
#pragma once
#include "agent/net/ovn_rows.h"

/* ACLs that every network has: neighbours, DHCP, DNS, pings of the router. */
void ovn_parts_baseline(OvnNetRows *rows);
/* Ports, names in DNS, routes and NAT of the NICs. */
void ovn_parts_nics(OvnNetRows *rows);
/* "10.0.0.1 10.0.0.5..10.0.0.7": the router's address and the reserved ones, for exclude_ips. Caller
 * frees. */
char *ovn_parts_exclude(const OvnNetInput *in);
/* Whether OVN serves addresses of the family (0: IPv4, 1: IPv6) by DHCP. */
bool ovn_parts_dhcp(const OvnNetInput *in, int family);
/* Key of the family's DHCP_Options row; caller frees. */
char *ovn_parts_dhcp_key(const OvnNetInput *in, int family);
void ovn_parts_nat(OvnNetRows *rows, const char *type, const char *external, const char *logical,
                   bool stateless);
/* A JSON array of strings. */
json_t *ovn_parts_strings(char **list);
