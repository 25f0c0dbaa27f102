/* frames.h: frames for tests, built byte by byte: Ethernet, IPv4 or IPv6, TCP, UDP or ICMP echo, with right
 * checksums (computed here from scratch, not by the code under test). */
#pragma once
#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

#define FRAME_MAX 2048

/* For tables of flows: any bits, but as many as chance would set. */
static const unsigned long long flowtable_test_seed[4] = {0x9a3c5e1780f6d24bu, 0x3d1b7f5920c8e6a4u,
                                                          0xc6e01f3b5d798a42u, 0x5b82d4f60e1a3c97u};

typedef struct {
    int family;            /* 4 or 6 */
    guint8 proto;          /* 6, 17, 1, 58 */
    const char *src, *dst; /* addresses */
    guint16 sport, dport;  /* ICMP: identifier, sequence */
    const guint8 *smac, *dmac;
    guint8 ttl;
    guint8 flags; /* TCP */
    guint8 icmp_type;
    guint16 id;       /* IPv4 */
    guint32 seq, ack; /* TCP */
    const char *payload;
    guint16 fragment; /* IPv4, host order */
    guint8 no_udp_check;
} FrameSpec;

static inline guint32
frame_sum(const void *bytes, gsize size, guint32 sum)
{
    const guint8 *at = bytes;
    for (gsize i = 0; i + 1 < size; i += 2) {
        sum += (guint32) at[i] << 8 | at[i + 1];
    }
    return size % 2 ? sum + ((guint32) at[size - 1] << 8) : sum;
}

static inline void
frame_put_check(guint8 *at, guint32 sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    at[0] = (guint8) (~sum >> 8);
    at[1] = (guint8) ~sum;
}

static inline void
frame_put16(guint8 *at, guint32 value)
{
    at[0] = (guint8) (value >> 8);
    at[1] = (guint8) value;
}

static inline void
frame_put32(guint8 *at, guint32 value)
{
    frame_put16(at, value >> 16);
    frame_put16(at + 2, value);
}

/* Header and payload behind IP; its size. *ret_check is where the checksum is. */
static inline gsize
frame_l4(guint8 *at, const FrameSpec *spec, gsize *ret_check)
{
    gsize header = spec->proto == 6 ? 20 : 8, body = spec->payload ? strlen(spec->payload) : 0;
    memset(at, 0, header);
    frame_put16(at, spec->sport);
    frame_put16(at + 2, spec->dport);
    *ret_check = spec->proto == 6 ? 16 : spec->proto == 17 ? 6 : 2;
    if (spec->proto == 6) {
        frame_put32(at + 4, spec->seq);
        frame_put32(at + 8, spec->ack);
        at[12] = 5 << 4;
        at[13] = spec->flags ? spec->flags : 0x10;
        frame_put16(at + 14, 0xfff0);
    } else if (spec->proto == 17) {
        frame_put16(at + 4, (guint32) (header + body));
    } else {
        at[0] = spec->icmp_type;
        at[1] = 0;
        frame_put16(at + 2, 0);
        frame_put16(at + 4, spec->sport);
        frame_put16(at + 6, spec->dport);
    }
    if (body > 0) {
        memcpy(at + header, spec->payload, body);
    }
    return header + body;
}

static inline gsize
frame_build(guint8 *frame, const FrameSpec *spec)
{
    guint8 *ip = frame + 14;
    gsize header = spec->family == 4 ? 20 : 40, check;
    memcpy(frame, spec->dmac, 6);
    memcpy(frame + 6, spec->smac, 6);
    frame_put16(frame + 12, spec->family == 4 ? 0x0800 : 0x86dd);
    memset(ip, 0, header);
    gsize l4 = frame_l4(ip + header, spec, &check);
    guint32 pseudo = 0;
    if (spec->family == 4) {
        ip[0] = 0x45;
        frame_put16(ip + 2, (guint32) (header + l4));
        frame_put16(ip + 4, spec->id);
        frame_put16(ip + 6, spec->fragment);
        ip[8] = spec->ttl ? spec->ttl : 64;
        ip[9] = spec->proto;
        g_assert_cmpint(inet_pton(AF_INET, spec->src, ip + 12), ==, 1);
        g_assert_cmpint(inet_pton(AF_INET, spec->dst, ip + 16), ==, 1);
        frame_put_check(ip + 10, frame_sum(ip, 20, 0));
        pseudo = frame_sum(ip + 12, 8, 0);
    } else {
        frame_put32(ip, 6u << 28 | spec->id);
        frame_put16(ip + 4, (guint32) l4);
        ip[6] = spec->proto;
        ip[7] = spec->ttl ? spec->ttl : 64;
        g_assert_cmpint(inet_pton(AF_INET6, spec->src, ip + 8), ==, 1);
        g_assert_cmpint(inet_pton(AF_INET6, spec->dst, ip + 24), ==, 1);
        pseudo = frame_sum(ip + 8, 32, 0);
    }
    pseudo = spec->proto == 1 ? 0 : pseudo + spec->proto + (guint32) l4;
    if (!(spec->proto == 17 && spec->no_udp_check)) {
        frame_put_check(ip + header + check, frame_sum(ip + header, l4, pseudo));
    }
    return 14 + header + l4;
}
