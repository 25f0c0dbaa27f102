/* rewrite.h: makes of a packet what OVN made of the ones before it: MACs, TTL, and with NAT addresses,
 * ports and checksums. The bytes are those that the slow path would have sent.
 * R1  Checksums change by what changed (RFC 1624), so a wrong one stays wrong.
 * R2  A UDP checksum of zero stays zero (none), and none becomes zero (0xffff instead).
 * R3  ICMP's checksum has no pseudo header, ICMPv6's has. */
#pragma once
#include "dataplane/fast/packet.h"

/* 'check' after a 16-bit word changed, all in network order. */
FAST_FN __be16
rewrite_check(__be16 check, __be16 from, __be16 to)
{
    __u32 sum = (__u16) ~check + (__u32) (__u16) ~from + to;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__be16) ~sum;
}

FAST_FN __be16
rewrite_check32(__be16 check, __be32 from, __be32 to)
{
    check = rewrite_check(check, (__be16) (from & 0xffff), (__be16) (to & 0xffff));
    return rewrite_check(check, (__be16) (from >> 16), (__be16) (to >> 16));
}

FAST_FN void
rewrite_macs(void *data, const __u8 *dst, const __u8 *src)
{
    struct packet_eth *eth = data;
    packet_mac_copy(eth->dst, dst);
    packet_mac_copy(eth->src, src);
}

FAST_FN void
rewrite_ttl4(void *data, __u8 delta)
{
    struct packet_ip4 *ip = (struct packet_ip4 *) ((struct packet_eth *) data + 1);
    __be16 from = PACKET_BE16((__u16) ip->ttl << 8 | ip->proto);
    ip->ttl = (__u8) (ip->ttl - delta);
    ip->check = rewrite_check(ip->check, from, PACKET_BE16((__u16) ip->ttl << 8 | ip->proto));
}

/* MACs and TTL of the frame at 'data': what each fast packet needs. The caller has checked the bounds
 * of Ethernet and IP, and that the TTL is larger than the flow's delta. */
FAST_FN void
rewrite_hop(void *data, const struct layout_flow *flow)
{
    rewrite_macs(data, flow->dst_mac, flow->src_mac);
    if (flow->out.family == 4) {
        rewrite_ttl4(data, flow->ttl_delta);
    } else {
        struct packet_ip6 *ip = (struct packet_ip6 *) ((struct packet_eth *) data + 1);
        ip->hops = (__u8) (ip->hops - flow->ttl_delta);
    }
}

/* The L4 checksum after addresses and ports changed from 'from' to 'to'. */
FAST_FN __be16
rewrite_l4_check(__be16 check, const struct layout_tuple *from, const struct layout_tuple *to)
{
    if (from->proto == PACKET_UDP && check == 0) { /* R2 */
        return 0;
    }
    if (from->proto != PACKET_ICMP) { /* R3 */
        for (int i = 0; i < 4; i++) {
            check = rewrite_check32(check, from->src[i], to->src[i]);
            check = rewrite_check32(check, from->dst[i], to->dst[i]);
        }
    }
    check = rewrite_check(check, from->sport, to->sport);
    if (from->proto == PACKET_TCP || from->proto == PACKET_UDP) {
        check = rewrite_check(check, from->dport, to->dport);
    }
    return from->proto == PACKET_UDP && check == 0 ? 0xffff : check;
}

/* Addresses, ports and checksums of the frame at 'data', which is wholly in memory. */
FAST_FN void
rewrite_nat(void *data, const struct packet *p, const struct layout_tuple *to)
{
    __u8 *l3 = (__u8 *) data + PACKET_ETH, *l4 = (__u8 *) data + p->l4;
    const struct layout_tuple *from = &p->tuple;
    if (to->family == 4) {
        struct packet_ip4 *ip = (struct packet_ip4 *) l3;
        ip->check = rewrite_check32(ip->check, from->src[0], to->src[0]);
        ip->check = rewrite_check32(ip->check, from->dst[0], to->dst[0]);
        ip->src = to->src[0];
        ip->dst = to->dst[0];
    } else {
        struct packet_ip6 *ip = (struct packet_ip6 *) l3;
        for (int i = 0; i < 4; i++) {
            ip->src[i] = to->src[i];
            ip->dst[i] = to->dst[i];
        }
    }
    if (to->proto == PACKET_TCP) {
        struct packet_tcp *tcp = (struct packet_tcp *) l4;
        tcp->check = rewrite_l4_check(tcp->check, from, to);
        tcp->sport = to->sport;
        tcp->dport = to->dport;
    } else if (to->proto == PACKET_UDP) {
        struct packet_udp *udp = (struct packet_udp *) l4;
        udp->check = rewrite_l4_check(udp->check, from, to);
        udp->sport = to->sport;
        udp->dport = to->dport;
    } else {
        struct packet_icmp *icmp = (struct packet_icmp *) l4;
        icmp->check = rewrite_l4_check(icmp->check, from, to);
        icmp->id = to->sport;
    }
}
