/* Giving leases back for a client that is gone: DHCPRELEASE (RFC 2131) and RELEASE (RFC 8415) packets
 * from the host to the network's own address, which the kernel hands to dnsmasq as if they came in by
 * the bridge. Without it an address would stay taken until its lease ends. */
#include "agent/net/dnsmasq.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/net/subnet.h"
#include "base/fd.h"
#include "base/ids.h"

enum { DHCP4_PORT = 67, DHCP6_PORT = 547, RELEASE4 = 7, RELEASE6 = 8, LEASES_MOST = 16 << 20 };

struct packet4 {
    guint8 op, htype, hlen, hops;
    guint32 xid;
    guint16 secs, flags;
    guint8 ciaddr[4], yiaddr[4], siaddr[4], giaddr[4];
    guint8 chaddr[16], sname[64], file[128];
    guint8 cookie[4];
    guint8 options[3 + 6 + 1];
} __attribute__((packed));

static void
send_to(const struct subnet *server, guint16 port, const void *bytes, size_t size)
{
    struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    haw_autofd int fd = socket(server->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(&to4.sin_addr, server->address, 4);
    memcpy(&to6.sin6_addr, server->address, 16);
    if (fd >= 0 && server->family == AF_INET) {
        sendto(fd, bytes, size, 0, (struct sockaddr *) &to4, sizeof(to4));
    } else if (fd >= 0) {
        sendto(fd, bytes, size, 0, (struct sockaddr *) &to6, sizeof(to6));
    }
}

/* The client is named by its MAC alone: dnsmasq then finds it whatever client id it used. */
static void
release4(const struct subnet *server, const struct dnsmasq_lease *lease)
{
    struct subnet client;
    struct packet4 packet = {.op = 1, .htype = 1, .hlen = 6, .cookie = {99, 130, 83, 99}};
    guint8 *m = packet.chaddr;
    if (!subnet_parse(lease->address, &client) ||
        sscanf(lease->mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &m[0], &m[1], &m[2], &m[3], &m[4],
               &m[5]) != 6) {
        return;
    }
    const guint8 *s = server->address;
    const guint8 options[] = {53, 1, RELEASE4, 54, 4, s[0], s[1], s[2], s[3], 255};
    ids_random(&packet.xid, sizeof(packet.xid));
    memcpy(packet.ciaddr, client.address, 4);
    memcpy(packet.options, options, sizeof(options));
    send_to(server, DHCP4_PORT, &packet, sizeof(packet));
}

/* "00:01:…" */
static void
put_hex(GByteArray *bytes, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", -1);
    for (char **part = parts; *part != NULL; part++) {
        guint8 byte = (guint8) strtoul(*part, NULL, 16);
        g_byte_array_append(bytes, &byte, 1);
    }
}

static void
put_option(GByteArray *packet, guint16 code, const GByteArray *body)
{
    const guint16 header[2] = {htons(code), htons((guint16) body->len)};
    g_byte_array_append(packet, (const guint8 *) header, sizeof(header));
    g_byte_array_append(packet, body->data, body->len);
}

static void
put_duid(GByteArray *packet, guint16 code, const char *duid)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    put_hex(body, duid);
    put_option(packet, code, body);
}

static void
release6(const struct subnet *server, const char *server_duid, const struct dnsmasq_lease *lease)
{
    struct subnet client;
    if (!subnet_parse(lease->address, &client) || lease->iaid == NULL || lease->duid == NULL) {
        return;
    }
    g_autoptr(GByteArray) packet = g_byte_array_new();
    guint8 start[4] = {RELEASE6};
    const guint8 no_times[8] = {0};
    guint32 iaid = htonl((guint32) strtoul(lease->iaid, NULL, 10));
    ids_random(start + 1, 3);
    g_byte_array_append(packet, start, sizeof(start));
    put_duid(packet, 1, lease->duid);
    put_duid(packet, 2, server_duid);

    g_autoptr(GByteArray) address = g_byte_array_new(); /* with both lifetimes 0 */
    g_byte_array_append(address, client.address, 16);
    g_byte_array_append(address, no_times, 8);
    g_autoptr(GByteArray) association = g_byte_array_new();
    g_byte_array_append(association, (guint8 *) &iaid, sizeof(iaid));
    g_byte_array_append(association, no_times, 8);
    put_option(association, 5, address);
    put_option(packet, 3, association);
    send_to(server, DHCP6_PORT, packet->data, packet->len);
}

/* The server's own identifier, of the line "duid …" of its leases. */
static char *
server_duid(Network *net)
{
    g_autofree char *path = netobj_path(net, "dnsmasq.leases");
    g_autofree char *text = fd_read_file(path, LEASES_MOST, NULL, NULL);
    const char *at = text != NULL ? strstr(text, "duid ") : NULL;
    if (at == NULL) {
        return NULL;
    }
    at += strlen("duid ");
    return g_strndup(at, strcspn(at, "\n"));
}

void
dnsmasq_release(Network *net, const char *mac, const char *hostname)
{
    struct subnet server4;
    struct subnet server6;
    bool have4 = subnet_parse(netobj_address(net, 4), &server4);
    bool have6 = subnet_parse(netobj_address(net, 6), &server6);
    g_autofree char *duid = server_duid(net);
    g_autoptr(GPtrArray) leases = dnsmasq_leases(net);
    for (guint i = 0; i < leases->len; i++) {
        const struct dnsmasq_lease *lease = g_ptr_array_index(leases, i);
        bool six = strchr(lease->address, ':') != NULL;
        bool same_mac = g_ascii_strcasecmp(lease->mac, mac) == 0;
        if (!six && have4 && same_mac) {
            release4(&server4, lease);
        } else if (six && have6 && duid != NULL &&
                   (same_mac || g_ascii_strcasecmp(lease->hostname, hostname) == 0)) {
            release6(&server6, duid, lease);
        }
    }
}
