/* What of the kernel the fast path needs, asked for one by one: only after loading failed, for the verifier's no
 * does not say which. tcx is not among it (clsact does as well), nor is the kernel's own BTF. */
#include "dataplane/slow/fastprobe.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>

#define HELPER(name, since)                                                                        \
    {                                                                                              \
        FASTPROBE_HELPER, BPF_FUNC_##name, "the helper bpf_" #name " (" since ")"                  \
    }

static const struct fastprobe_need needs[] = {
    {FASTPROBE_PROGRAMS, BPF_PROG_TYPE_SCHED_CLS, "programs at tc (CONFIG_NET_CLS_BPF)"},
    {FASTPROBE_MAP, BPF_MAP_TYPE_HASH, "hash maps"},
    {FASTPROBE_MAP, BPF_MAP_TYPE_LRU_HASH, "LRU maps (Linux 4.10)"},
    {FASTPROBE_MAP, BPF_MAP_TYPE_PERCPU_ARRAY, "maps per CPU (Linux 4.6)"},
    {FASTPROBE_MAP, BPF_MAP_TYPE_RINGBUF, "ring buffers (Linux 5.8)"},
    HELPER(redirect_peer, "Linux 5.10"),
    HELPER(jiffies64, "Linux 5.6"),
    HELPER(spin_lock, "Linux 5.1"),
    HELPER(clone_redirect, "Linux 4.2"),
    HELPER(l3_csum_replace, "Linux 4.1"),
    HELPER(l4_csum_replace, "Linux 4.1"),
    HELPER(skb_adjust_room, "Linux 4.13"),
    HELPER(skb_pull_data, "Linux 4.9"),
    HELPER(ringbuf_reserve, "Linux 5.8"),
};

static bool
has(const struct fastprobe_need *need)
{
    switch (need->kind) {
    case FASTPROBE_PROGRAMS:
        return libbpf_probe_bpf_prog_type(need->id, NULL) != 0;
    case FASTPROBE_MAP:
        return libbpf_probe_bpf_map_type(need->id, NULL) != 0;
    case FASTPROBE_HELPER:
        return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, need->id, NULL) != 0;
    }
    return true;
}

const struct fastprobe_need *
fastprobe_first(const struct fastprobe_need *list, gsize count)
{
    for (gsize i = 0; i < count; i++) {
        if (!has(&list[i])) {
            return &list[i];
        }
    }
    return NULL;
}

char *
fastprobe_why(int code)
{
    if (code == EPERM) {
        return g_strdup("this process may not load them: it needs CAP_BPF, CAP_NET_ADMIN and "
                        "CAP_PERFMON");
    }
    if (code == ENOSYS) {
        return g_strdup("it is built without the system call bpf (CONFIG_BPF_SYSCALL)");
    }
    const struct fastprobe_need *missing = fastprobe_first(needs, G_N_ELEMENTS(needs));
    if (missing != NULL) {
        return g_strdup_printf("it lacks %s", missing->what);
    }
    return g_strdup_printf(
        "its verifier refuses them%s; Linux 6.1 and newer with BPF's JIT are known to work",
        code == EACCES ? ", as it does without CAP_PERFMON" : "");
}
