/* What comes in at the uplink: Geneve packets that no port of this host wants are dropped before the kernel
 * spends anything on them, and counted.
 * U1  Only what is surely OVN's and surely for nobody here is dropped: Geneve to an address and port of ours, whole
 *     headers, OVN's option in it, and a network (VNI) or a port of it that is not in the table.
 * U2  All else passes, to the next program of the dispatcher and then to the kernel: BFD between gateways has
 *     no option of OVN's, multicast groups (ports from 0x8000 on) pass with their network.
 * U3  Switched off or without a table entry for the tunnel's end, it drops nothing.
 * U4  What is wanted in a network that may be fast is sent into the pair at whose end the fast path looks at it
 *     (far.bpf.h): before OVS's userspace datapath, which reads the interface by AF_PACKET, sees it.
 * dataplane/slow/uplink.c attaches it by libxdp's dispatcher, beside others, and fills the tables. */
#include "bpf/layout_uplink.h"

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BE16(x) ((__u16) __builtin_bswap16((__u16) (x)))
#define BE32(x) ((__u32) __builtin_bswap32((__u32) (x)))

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct uplink_config);
} haw_up_config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, UPLINK_ENDS);
    __type(key, struct uplink_end);
    __type(value, __u32);
} haw_up_ends SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, UPLINK_PORTS);
    __type(key, struct uplink_port);
    __type(value, __u32);
} haw_up_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, UPLINK_REASON_COUNT);
    __type(key, __u32);
    __type(value, __u64);
} haw_up_count SEC(".maps");

struct eth {
    __u8 macs[12];
    __be16 type;
};
struct ip4 {
    __u8 version_ihl, tos;
    __be16 size, id, fragment;
    __u8 ttl, proto;
    __be16 check;
    __be32 src, dst;
};
struct ip6 {
    __be32 flow;
    __be16 size;
    __u8 next, hops;
    __be32 src[4], dst[4];
};
struct udp {
    __be16 sport, dport, size, check;
};
struct geneve {
    __u8 version_options, flags;
    __be16 type;
    __be32 vni; /* and a byte that is not used */
};
struct option {
    __be16 class;
    __u8 type, words;
};

/* The end of the tunnel, and where UDP begins; 0 when it is no plain packet of UDP. */
static __attribute__((always_inline)) inline __u32
outer(void *data, void *end, struct uplink_end *ret)
{
    struct eth *eth = data;
    if ((void *) (eth + 1) > end) {
        return 0;
    }
    if (eth->type == BE16(0x0800)) {
        struct ip4 *ip = (void *) (eth + 1);
        if ((void *) (ip + 1) > end || ip->version_ihl != 0x45 || ip->proto != 17 ||
            (ip->fragment & BE16(0x3fff))) {
            return 0;
        }
        ret->addr[0] = ip->dst;
        return sizeof *eth + sizeof *ip;
    }
    struct ip6 *ip = (void *) (eth + 1);
    if (eth->type != BE16(0x86dd) || (void *) (ip + 1) > end || ip->next != 17) {
        return 0;
    }
    for (int i = 0; i < 4; i++) {
        ret->addr[i] = ip->dst[i];
    }
    return sizeof *eth + sizeof *ip;
}

/* The logical port that OVN's option names; -1 when there is none. */
static __attribute__((always_inline)) inline int
ovn_port(void *at, void *end, __u32 words)
{
    for (int i = 0; i < UPLINK_OPTIONS && words > 0; i++) {
        struct option *option = at;
        if ((void *) (option + 1) > end) {
            return -1;
        }
        __u32 size = option->words & 0x1f;
        if (option->class == BE16(0x0102) && (option->type & 0x7f) == 0 && size == 1) {
            __be32 *value = (void *) (option + 1);
            if ((void *) (value + 1) > end || words < 2) {
                return -1;
            }
            return BE32(*value) & 0xffff;
        }
        if (words < size + 1) {
            return -1;
        }
        words -= size + 1;
        at += (size + 1) * 4;
    }
    return -1;
}

static __attribute__((always_inline)) inline enum uplink_reason
judge(struct xdp_md *frame)
{
    void *data = (void *) (long) frame->data, *end = (void *) (long) frame->data_end;
    struct uplink_end to = {};
    struct uplink_port want = {};
    __u32 zero = 0;
    struct uplink_config *config = bpf_map_lookup_elem(&haw_up_config, &zero);
    if (!config || (!config->on && !config->pair)) { /* U3 */
        return UPLINK_OFF;
    }
    __u32 at = outer(data, end, &to);
    struct udp *udp = data + at;
    if (at == 0 || (void *) (udp + 1) > end || udp->dport != config->port ||
        !bpf_map_lookup_elem(&haw_up_ends, &to)) {
        return UPLINK_OTHER;
    }
    struct geneve *geneve = (void *) (udp + 1);
    if ((void *) (geneve + 1) > end || geneve->version_options >> 6 != 0 ||
        geneve->type != BE16(0x6558)) {
        return UPLINK_PLAIN;
    }
    int port = ovn_port(geneve + 1, end, geneve->version_options & 0x3f);
    if (port < 0) { /* U2 */
        return UPLINK_PLAIN;
    }
    want.vni = BE32(geneve->vni) >> 8;
    want.port = UPLINK_ANY_PORT;
    const __u32 *network = bpf_map_lookup_elem(&haw_up_ports, &want);
    if (!network) {
        return config->on ? UPLINK_NO_NETWORK : UPLINK_OTHER;
    }
    __u32 steer = config->pair && (*network & UPLINK_STEER);
    if (port >= UPLINK_GROUPS) {
        return UPLINK_GROUP;
    }
    want.port = port;
    if (config->on && !bpf_map_lookup_elem(&haw_up_ports, &want)) {
        return UPLINK_NO_PORT;
    }
    return steer ? UPLINK_STEERED : UPLINK_WANTED; /* U4 */
}

SEC("xdp")
int
haw_uplink(struct xdp_md *frame)
{
    __u32 reason = judge(frame), zero = 0;
    __u64 *count = bpf_map_lookup_elem(&haw_up_count, &reason);
    const struct uplink_config *config = bpf_map_lookup_elem(&haw_up_config, &zero);
    if (count) {
        ++*count;
    }
    if (!config) {
        return XDP_PASS;
    }
    if (reason == UPLINK_STEERED) {
        return bpf_redirect(config->pair, 0);
    }
    return config->on && reason >= UPLINK_NO_NETWORK ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
