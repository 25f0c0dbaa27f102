/* Attaching the fast path's programs.
 * Where the kernel has tcx, attachments are pinned links, which a newer daemon moves to its own programs
 * atomically; else clsact filters, replaced in place. Either way an interface is never without a program while
 * one daemon follows another.
 * Called by fastload.c. */
#include "dataplane/slow/fastattach.h"

#include "base/fd.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <unistd.h>

/* linux/bpf.h of Debian 12 is older than tcx. */
#define TCX_INGRESS 46
#define TCX_EGRESS  47
#define TC_PRIORITY 1
#define TC_HANDLE   1

static bool no_tcx;

void
fastattach_without_tcx(void)
{
    no_tcx = true;
}

static char *
link_path(const char *pin_dir, guint32 ifindex, bool egress)
{
    return g_strdup_printf("%s/%s_%u", pin_dir, egress ? "egress" : "ingress", ifindex);
}

static bool
put_clsact(int program, guint32 ifindex, bool egress, GError **error)
{
    DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int) ifindex,
                        .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
    DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY,
                        .prog_fd = program, .flags = BPF_TC_F_REPLACE);
    int status = bpf_tc_hook_create(&hook);
    if (status == 0 || status == -EEXIST) {
        status = bpf_tc_attach(&hook, &opts);
    }
    return status == 0 || haw_fail_errno(error, -status, "Attach to interface %u", ifindex);
}

/* Others' filters may have our number. */
static bool
is_ours(guint32 program)
{
    struct bpf_prog_info info = {0};
    guint32 size = sizeof info;
    haw_autofd int fd = bpf_prog_get_fd_by_id(program);
    return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
           g_str_has_prefix(info.name, "haw_");
}

static void
drop_clsact(guint32 ifindex, bool egress)
{
    DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int) ifindex,
                        .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
    DECLARE_LIBBPF_OPTS(bpf_tc_opts, found, .handle = TC_HANDLE, .priority = TC_PRIORITY);
    DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);
    if (bpf_tc_query(&hook, &found) == 0 && is_ours(found.prog_id)) {
        bpf_tc_detach(&hook, &opts);
    }
}

bool
fastattach_put(const char *pin_dir, int program, guint32 ifindex, bool egress, GError **error)
{
    g_autofree char *path = link_path(pin_dir, ifindex, egress);
    haw_autofd int known = bpf_obj_get(path);
    if (known >= 0) {
        if (bpf_link_update(known, program, NULL) == 0) {
            return true;
        }
        unlink(path); /* its interface went, and the index came back */
    }
    guint32 type = egress ? TCX_EGRESS : TCX_INGRESS;
    haw_autofd int link = no_tcx ? -1 : bpf_link_create(program, (int) ifindex, type, NULL);
    if (link < 0) {
        return put_clsact(program, ifindex, egress, error);
    }
    return bpf_obj_pin(link, path) == 0 || haw_fail_errno(error, errno, "Pin '%s'", path);
}

void
fastattach_drop(const char *pin_dir, guint32 ifindex, bool egress)
{
    g_autofree char *path = link_path(pin_dir, ifindex, egress);
    if (unlink(path) < 0) {
        drop_clsact(ifindex, egress);
    }
}
