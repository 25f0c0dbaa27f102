/* Firewall rules as text, and their way into the kernel.
 * W1  A network's or a NIC's rules change in one transaction: there is no moment without them.
 * W2  Tables, chains and rules have the names and shapes of LXD's nftables driver, as operators and
 *     scripts look for them: inet lxd { fwd.NET in.NET out.NET pstrt.NET acl.NET aclin.NET aclout.NET
 *     aclfwd.NET fwdprert.NET fwdout.NET fwdpstrt.NET }, bridge lxd { in.NIC fwd.NIC }.
 * W3  A chain is removed by adding, flushing and deleting it, so removing what is not there succeeds.
 * W4  One load at a time in the process (hw/nft.h).
 * Called by network.c and the nic files. */
#include "agent/net/firewall.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "agent/net/netjob.h"
#include "agent/net/subnet.h"
#include "base/fiber.h"
#include "hw/nft.h"

static FiberLock load_lock = FIBER_LOCK_INIT; /* W4 */

static const char *const net_chains[] = {"fwd",    "in",  "out",      "pstrt",  "aclin",   "aclout",
                                         "aclfwd", "acl", "fwdprert", "fwdout", "fwdpstrt"};
static const char *const nic_chains[] = {"in", "fwd"};

/* ---- text ---- */

static void put(GString *text, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
put(GString *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_string_append_vprintf(text, format, args);
    va_end(args);
    g_string_append_c(text, '\n');
}

/* W3: all are flushed before the first goes, as one may jump to another. */
static void
put_reset(GString *text, const char *family, const char *label, const char *const *chains,
          size_t count)
{
    put(text, "add table %s lxd", family);
    for (size_t i = 0; i < count; i++) {
        put(text, "add chain %s lxd %s.%s", family, chains[i], label);
        put(text, "flush chain %s lxd %s.%s", family, chains[i], label);
    }
    for (size_t i = 0; i < count; i++) {
        put(text, "delete chain %s lxd %s.%s", family, chains[i], label);
    }
}

static void
put_forward(GString *text, const struct firewall_net *net)
{
    const char *name = net->name;
    put(text, "    chain fwd.%s {", name);
    put(text, "        type filter hook forward priority 0; policy accept;");
    if (net->ipv4.rules) {
        const char *action = net->ipv4.forward ? "accept" : "reject";
        put(text, "        ip version 4 oifname \"%s\" %s", name, action);
        put(text, "        ip version 4 iifname \"%s\" %s", name, action);
    }
    if (net->ipv6.rules) {
        const char *action = net->ipv6.forward ? "accept" : "reject";
        put(text, "        ip6 version 6 oifname \"%s\" %s", name, action);
        put(text, "        ip6 version 6 iifname \"%s\" %s", name, action);
    }
    put(text, "    }");
}

/* What the bridge serves, seen from one side: 'in' takes requests to it, 'out' its answers. */
static void
put_service_chain(GString *text, const struct firewall_net *net, bool in)
{
    const char *dir = in ? "in" : "out", *hook = in ? "input" : "output";
    const char *way = in ? "iifname" : "oifname", *end = in ? "dport" : "sport", *name = net->name;
    put(text, "    chain %s.%s {", dir, name);
    put(text, "        type filter hook %s priority 0; policy accept;", hook);
    put(text, "        %s \"%s\" tcp %s 53 accept", way, name, end);
    put(text, "        %s \"%s\" udp %s 53 accept", way, name, end);
    if (net->ipv4.rules && net->ipv4.serve) {
        put(text, "        %s \"%s\" icmp type {3, 11, 12} accept", way, name);
        put(text, "        %s \"%s\" udp %s 67 accept", way, name, end);
    }
    if (net->ipv6.rules && net->ipv6.serve) {
        put(text, "        %s \"%s\" icmpv6 type {%s} accept", way, name,
            in ? "1, 2, 3, 4, 133, 135, 136, 143" : "1, 2, 3, 4, 128, 134, 135, 136, 143");
        put(text, "        %s \"%s\" udp %s 547 accept", way, name, end);
    }
    put(text, "    }");
}

static void
put_one_nat(GString *text, const char *family, const struct firewall_family *rules)
{
    if (rules->nat_subnet == NULL) {
        return;
    }
    g_autofree char *action = rules->nat_address != NULL
                                  ? g_strdup_printf("snat %s to %s", family, rules->nat_address)
                                  : g_strdup("masquerade");
    put(text, "        %s saddr %s %s daddr != %s %s", family, rules->nat_subnet, family,
        rules->nat_subnet, action);
}

static void
put_nat(GString *text, const struct firewall_net *net)
{
    put(text, "    chain pstrt.%s {", net->name);
    put(text, "        type nat hook postrouting priority 100; policy accept;");
    put_one_nat(text, "ip", &net->ipv4);
    put_one_nat(text, "ip6", &net->ipv6);
    put(text, "    }");
}

/* DHCP, DNS and what IP cannot live without pass before the rules of ACLs. */
static void
put_acl(GString *text, const struct firewall_net *net)
{
    const char *name = net->name;
    put(text, "    chain acl.%s {", name);
    put(text, "        ct state established,related accept");
    for (char **rule = net->acl_rules; *rule != NULL; rule++) {
        put(text, "        %s", *rule);
    }
    put(text, "    }");
    put(text, "    chain aclin.%s {", name);
    put(text, "        type filter hook input priority filter; policy accept;");
    put(text, "        iifname \"%s\" tcp dport 53 accept", name);
    put(text, "        iifname \"%s\" udp dport 53 accept", name);
    put(text, "        iifname \"%s\" udp dport 67 accept", name);
    put(text, "        iifname \"%s\" udp dport 547 accept", name);
    put(text, "        iifname \"%s\" icmp type {3, 11, 12} accept", name);
    put(text, "        iifname \"%s\" icmpv6 type {1, 2, 3, 4, 133, 135, 136, 143} accept", name);
    put(text, "        iifname \"%s\" jump acl.%s", name, name);
    put(text, "    }");
    put(text, "    chain aclout.%s {", name);
    put(text, "        type filter hook output priority filter; policy accept;");
    put(text, "        oifname \"%s\" udp sport 67 accept", name);
    put(text, "        oifname \"%s\" udp sport 547 accept", name);
    put(text, "        oifname \"%s\" icmp type {3, 11, 12} accept", name);
    put(text, "        oifname \"%s\" icmpv6 type {1, 2, 3, 4, 128, 134, 135, 136, 143} accept",
        name);
    put(text, "        oifname \"%s\" jump acl.%s", name, name);
    put(text, "    }");
    put(text, "    chain aclfwd.%s {", name);
    put(text, "        type filter hook forward priority filter; policy accept;");
    put(text, "        iifname \"%s\" jump acl.%s", name, name);
    put(text, "        oifname \"%s\" jump acl.%s", name, name);
    put(text, "    }");
}

static void
put_lines(GString *text, const char *chain, const char *name, const char *hook, char **lines)
{
    put(text, "    chain %s.%s {", chain, name);
    put(text, "        type nat hook %s; policy accept;", hook);
    for (char **line = lines; line != NULL && *line != NULL; line++) {
        put(text, "        %s", *line);
    }
    put(text, "    }");
}

char *
firewall_net_text(const struct firewall_net *net)
{
    GString *text = g_string_new(NULL);
    put_reset(text, "inet", net->name, net_chains, G_N_ELEMENTS(net_chains));
    put(text, "table inet lxd {");
    if (net->ipv4.nat_subnet != NULL || net->ipv6.nat_subnet != NULL) {
        put_nat(text, net);
    }
    if (net->ipv4.rules || net->ipv6.rules) {
        put_forward(text, net);
        put_service_chain(text, net, true);
        put_service_chain(text, net, false);
    }
    if (net->acl_rules != NULL) {
        put_acl(text, net);
    }
    if (net->dnat != NULL) {
        put_lines(text, "fwdprert", net->name, "prerouting priority -100", net->dnat);
        put_lines(text, "fwdout", net->name, "output priority -100", net->dnat);
        put_lines(text, "fwdpstrt", net->name, "postrouting priority 100", net->snat);
    }
    put(text, "}");
    return g_string_free(text, FALSE);
}

static void
put_address_filter4(GString *text, const struct firewall_nic *nic, bool input)
{
    const char *host = nic->host_name;
    if (input && nic->addresses4 != NULL && nic->addresses4[0] != NULL) {
        put(text,
            "        iifname \"%s\" ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp "
            "dport 67 accept",
            host);
    }
    for (char **address = nic->addresses4; address != NULL && *address != NULL; address++) {
        put(text, "        iifname \"%s\" ether type arp arp saddr ip %s accept", host, *address);
        put(text, "        iifname \"%s\" ether type ip ip saddr %s accept", host, *address);
    }
    put(text, "        iifname \"%s\" ether type arp drop", host);
    put(text, "        iifname \"%s\" ether type ip drop", host);
}

/* A neighbour advertisement carries the address it is about 16 bytes into ICMPv6: that is at bit 384
 * behind the start of the network header; nftables has no name for it. */
static void
put_advertised(GString *text, const char *host, const char *address)
{
    struct subnet net;
    if (!subnet_parse(address, &net) || net.family != AF_INET6 || net.prefix == 0) {
        return;
    }
    int bytes = (net.prefix + 7) / 8;
    guint8 last = (guint8) (0xff << (bytes * 8 - net.prefix));
    g_autoptr(GString) hex = g_string_new("0x");
    g_autoptr(GString) mask = g_string_new("");
    for (int i = 0; i < bytes; i++) {
        bool end = i == bytes - 1;
        g_string_append_printf(hex, "%02x", net.address[i] & (end ? last : 0xff));
        g_string_append_printf(mask, "%02x", end ? last : 0xff);
    }
    if (last == 0xff) {
        put(text, "        iifname \"%s\" ether type ip6 icmpv6 type 136 @nh,384,%d %s accept",
            host, bytes * 8, hex->str);
    } else {
        put(text,
            "        iifname \"%s\" ether type ip6 icmpv6 type 136 @nh,384,%d & 0x%s == %s accept",
            host, bytes * 8, mask->str, hex->str);
    }
}

static void
put_address_filter6(GString *text, const struct firewall_nic *nic, bool input)
{
    const char *host = nic->host_name;
    bool some = nic->addresses6 != NULL && nic->addresses6[0] != NULL;
    if (input && some) {
        put(text,
            "        iifname \"%s\" ether type ip6 ip6 saddr fe80::/10 ip6 daddr ff02::1:2 udp "
            "dport 547 accept",
            host);
        put(text,
            "        iifname \"%s\" ether type ip6 ip6 saddr fe80::/10 ip6 daddr ff02::2 icmpv6 "
            "type 133 accept",
            host);
    }
    if (some) {
        put(text, "        iifname \"%s\" ether type ip6 icmpv6 type 134 drop", host);
    }
    for (char **address = nic->addresses6; some && *address != NULL; address++) {
        put_advertised(text, host, *address);
        put(text, "        iifname \"%s\" ether type ip6 ip6 saddr %s accept", host, *address);
    }
    put(text, "        iifname \"%s\" ether type ip6 drop", host);
}

static void
put_nic_chain(GString *text, const struct firewall_nic *nic, const char *chain, const char *hook)
{
    const char *host = nic->host_name;
    g_autofree char *hex = g_strdup(nic->mac);
    char *to = hex;
    for (const char *from = nic->mac; *from != '\0'; from++) {
        if (*from != ':') {
            *to++ = *from;
        }
    }
    *to = '\0';
    put(text, "    chain %s.%s {", chain, nic->label);
    put(text, "        type filter hook %s priority -200; policy accept;", hook);
    put(text, "        iifname \"%s\" ether saddr != %s drop", host, nic->mac);
    put(text, "        iifname \"%s\" ether type arp arp saddr ether != %s drop", host, nic->mac);
    put(text, "        iifname \"%s\" ether type ip6 icmpv6 type 136 @nh,528,48 != 0x%s drop", host,
        hex);
    bool input = strcmp(hook, "input") == 0;
    if (nic->filter4) {
        put_address_filter4(text, nic, input);
    }
    if (nic->filter6) {
        put_address_filter6(text, nic, input);
    }
    if (nic->filter4 || nic->filter6) {
        put(text, "        iifname \"%s\" ether type != {arp, ip, ip6} drop", host);
    }
    put(text, "    }");
}

char *
firewall_nic_text(const struct firewall_nic *nic)
{
    GString *text = g_string_new(NULL);
    put_reset(text, "bridge", nic->label, nic_chains, G_N_ELEMENTS(nic_chains));
    put(text, "table bridge lxd {");
    put_nic_chain(text, nic, "in", "input");
    put_nic_chain(text, nic, "fwd", "forward");
    put(text, "}");
    return g_string_free(text, FALSE);
}

/* ---- into the kernel ---- */

static bool
load_job(NlSock *sock, void *data, GError **error)
{
    return nft_load(data, error);
}

static bool
load(char *text, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&load_lock);
    return netjob_run(load_job, text, error);
}

static bool
clear(const char *family, const char *label, const char *const *chains, size_t count,
      GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    put_reset(text, family, label, chains, count);
    return load(text->str, error);
}

bool
firewall_net_set(const struct firewall_net *net, GError **error)
{
    g_autofree char *text = firewall_net_text(net);
    return load(text, error) || haw_push(error, "Failed to setup firewall");
}

bool
firewall_net_clear(const char *name, GError **error)
{
    return clear("inet", name, net_chains, G_N_ELEMENTS(net_chains), error);
}

bool
firewall_nic_set(const struct firewall_nic *nic, GError **error)
{
    g_autofree char *text = firewall_nic_text(nic);
    return load(text, error) ||
           haw_push(error, "Failed adding bridge filter rules for instance device \"%s\"",
                    nic->label);
}

bool
firewall_nic_clear(const char *label, GError **error)
{
    return clear("bridge", label, nic_chains, G_N_ELEMENTS(nic_chains), error);
}

static const char *const limit_chains[] = {"limit"};
static const char *const rpf_chains[] = {"prert"};

bool
firewall_limit_set(const char *label, const char *host_name, guint64 bits_per_s, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    guint64 rate = MAX(bits_per_s / 8, G_GUINT64_CONSTANT(1));
    put_reset(text, "netdev", label, limit_chains, G_N_ELEMENTS(limit_chains));
    put(text, "table netdev lxd {");
    put(text, "    chain limit.%s {", label);
    put(text, "        type filter hook ingress device \"%s\" priority 0; policy accept;",
        host_name);
    put(text,
        "        limit rate over %" G_GUINT64_FORMAT " bytes/second burst %" G_GUINT64_FORMAT
        " bytes drop",
        rate, MAX(rate / 40, G_GUINT64_CONSTANT(65536)));
    put(text, "    }");
    put(text, "}");
    return load(text->str, error);
}

bool
firewall_limit_clear(const char *label, GError **error)
{
    return clear("netdev", label, limit_chains, G_N_ELEMENTS(limit_chains), error);
}

bool
firewall_rpf_set(const char *label, const char *host_name, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    put_reset(text, "inet", label, rpf_chains, G_N_ELEMENTS(rpf_chains));
    put(text, "table inet lxd {");
    put(text, "    chain prert.%s {", label);
    put(text, "        type filter hook prerouting priority -300; policy accept;");
    put(text, "        iif \"%s\" fib saddr . iif oif missing drop", host_name);
    put(text, "    }");
    put(text, "}");
    return load(text->str, error) ||
           haw_push(error, "source check of '%s' (nft's fib: the kernel needs NFT_FIB_INET)",
                    host_name);
}

bool
firewall_rpf_clear(const char *label, GError **error)
{
    return clear("inet", label, rpf_chains, G_N_ELEMENTS(rpf_chains), error);
}
