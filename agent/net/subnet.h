/* subnet.h: arithmetic on IP addresses and prefixes, and the choice of free ones.
 * Threads: any; nothing here waits. */
#pragma once
#include "base/error.h"
#include <sys/socket.h>

/* Plain data: an address of a network, with the network's prefix length. */
struct subnet {
    int family; /* AF_INET, AF_INET6 */
    int prefix;
    guint8 address[16]; /* as written, host bits included; the first 4 bytes for IPv4 */
};

/* "10.0.0.1/24", "fd42::1/64"; without a prefix length it is a single address. */
bool subnet_parse(const char *text, struct subnet *ret);
/* "10.0.0.0/24"; caller frees. */
char *subnet_network(const struct subnet *net);
/* "10.0.0.1": the address as written; caller frees. */
char *subnet_address(const struct subnet *net);
/* The nth address: from the start (0 is the network's), or with a negative n from the end (-1 is the
 * last). NULL when the network is too small. Caller frees. */
char *subnet_nth(const struct subnet *net, gint64 n);
bool subnet_contains(const struct subnet *net, const char *address);
/* Whether an address is inside "first-last". */
bool subnet_range_contains(const char *range, const char *address);
/* The next address. */
void subnet_step(struct subnet *net);
bool subnet_overlap(const struct subnet *a, const struct subnet *b);
/* Whether two texts are the same address, however they are spelled. */
bool subnet_same_address(const char *a, const char *b);
/* The usual spelling of an address; NULL when it is none. Caller frees. */
char *subnet_canonical(const char *address);
/* The SLAAC address of a MAC in a /64; NULL when it has none. Caller frees. */
char *subnet_eui64(const struct subnet *net, const char *mac);

/* A private /24 "10.x.y.1/24", or /64 "fd42:….::1/64", that overlaps none of 'taken' (struct subnet
 * elements, may be NULL). NULL after many tries. Caller frees. */
char *subnet_random(int family, const GArray *taken);
