/* Somebody else's program on the uplink: lets all pass, and counts it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 other_seen = 0;

SEC("xdp")
int
other_count(struct xdp_md *context)
{
    (void) context;
    __sync_fetch_and_add(&other_seen, 1);
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "Apache-2.0";
