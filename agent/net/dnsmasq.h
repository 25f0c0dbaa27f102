/* dnsmasq.h: the DHCP and DNS server of a bridge network: one dnsmasq, its files and its leases.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* What its arguments depend on. Plain data, borrowed. */
struct dnsmasq_spec {
    const char *dir, *name; /* <agent dir>/networks/NAME, NAME */
    json_t *config;
    guint mtu;
    const char *user, *group; /* NULL: root's */
    bool debug;
};
/* The argument vector, NULL-terminated; caller frees. */
char **dnsmasq_argv(const struct dnsmasq_spec *spec);

/* Has the network's dnsmasq run with the arguments that its config gives: adopts the one that a
 * former agent left when it has them, else replaces it; ends it when the config wants none. Watched:
 * when it dies it is started again. Yields. */
bool dnsmasq_up(Network *net, GError **error);
/* Has it read its hosts again. */
void dnsmasq_reload(Network *net);
/* Ends it and waits for its end. Yields. */
void dnsmasq_down(Network *net);
/* Ends the dnsmasq that a pid file in this directory tells of, when it is still that one. Yields. */
void dnsmasq_end_stray(const char *dir);
/* Stops watching, leaves it running (the agent ends). */
void dnsmasq_free(Dnsmasq *dnsmasq);
/* Nobody restarts it any more (may be NULL); it goes on. */
void dnsmasq_unwatch(Dnsmasq *dnsmasq);

/* The file of a NIC in dnsmasq.hosts/; label: "[project_]instance.device". Addresses may be NULL. The
 * server learns of a change at once. Yields. */
bool dnsmasq_set_host(Network *net, const char *label, const char *mac, const char *ipv4,
                      const char *ipv6, const char *hostname, GError **error);
bool dnsmasq_drop_host(Network *net, const char *label, GError **error);
/* What a NIC's file says: NULL where it says nothing. Caller frees. */
struct dnsmasq_host {
    char *label, *mac, *ipv4, *ipv6, *hostname;
};
void dnsmasq_host_free(struct dnsmasq_host *host);
/* All of them; owned elements. */
GPtrArray *dnsmasq_hosts(Network *net);
/* "c1.eth0", "project_c1.eth0": device names may have "/", files may not. Caller frees. */
char *dnsmasq_label(const char *project, const char *inst, const char *device);
struct dnsmasq_host *dnsmasq_host_parse(const char *label, const char *line);

/* dnsmasq.leases, parsed: owned elements. v6 leases have no mac ("") where the client's identifier
 * does not end in one. */
struct dnsmasq_lease {
    gint64 expiry_s;
    char *mac, *address, *hostname;
    char *iaid, *duid; /* of an IPv6 lease, as written */
};
void dnsmasq_lease_free(struct dnsmasq_lease *lease);
GPtrArray *dnsmasq_leases(Network *net);
GPtrArray *dnsmasq_leases_parse(const char *text);
/* Tells the server that the clients with this MAC (and name, for IPv6) gave their addresses back, as
 * if they had said so. Any failure is ignored: leases end by themselves. */
void dnsmasq_release(Network *net, const char *mac, const char *hostname);
