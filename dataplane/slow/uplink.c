/* The uplink's filter: attached, filled, counted.
 * L1  It is one program of libxdp's dispatcher: those that are there stay, before it or behind it, and what
 *     it does not drop goes on to them.
 *     A kernel (or a container) that does not let us replace functions gets the filter alone, and none when
 *     there is another program.
 * L2  It ends with its owner's uplink_close(); a process that dies leaves it attached, with its last tables:
 *     the next uplink_open() takes a program of the same name off first.
 * Main loop only. Not here: which ports are wanted (the caller's). */
#include "dataplane/slow/uplink.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/resource.h>
#include <xdp/libxdp.h>

#include "bpf/uplink.skel.h"

enum { GENEVE_PORT = 6081 };

struct Uplink {
    struct uplink *skeleton;     /* owned */
    struct xdp_program *program; /* owned; of the skeleton's object */
    int ifindex;
    enum xdp_attach_mode mode; /* 0: not attached */
    struct uplink_config config;
};

/* L2 */
static void
take_off_former(int ifindex)
{
    struct xdp_multiprog *there = xdp_multiprog__get_from_ifindex(ifindex);
    if (libxdp_get_error(there) != 0) {
        return;
    }
    struct xdp_program *program = xdp_multiprog__main_prog(there);
    if (xdp_multiprog__is_legacy(there) && strcmp(xdp_program__name(program), "haw_uplink") == 0) {
        xdp_program__detach(program, ifindex, xdp_multiprog__attach_mode(there), 0);
    }
    program = NULL;
    while (!xdp_multiprog__is_legacy(there) &&
           (program = xdp_multiprog__next_prog(program, there)) != NULL) {
        if (strcmp(xdp_program__name(program), "haw_uplink") == 0) {
            xdp_program__detach(program, ifindex, xdp_multiprog__attach_mode(there), 0);
            break;
        }
    }
    xdp_multiprog__close(there);
}

/* Drivers without XDP of their own get the kernel's generic one. */
static bool
attach(Uplink *uplink, const char *ifname, GError **error)
{
    static const enum xdp_attach_mode modes[] = {XDP_MODE_NATIVE, XDP_MODE_SKB};
    int status = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        status = xdp_program__attach(uplink->program, uplink->ifindex, modes[i], 0);
        if (status == 0) {
            uplink->mode = modes[i];
            return true;
        }
    }
    return haw_fail(
        error, HAW_UNSUPPORTED,
        "attach the uplink's filter to '%s': %s (it needs BTF, and the kernel's freplace)", ifname,
        strerror(-status));
}

static bool
put_config(Uplink *uplink, GError **error)
{
    guint32 zero = 0;
    int fd = bpf_map__fd(uplink->skeleton->maps.haw_up_config);
    return bpf_map_update_elem(fd, &zero, &uplink->config, 0) == 0 ||
           haw_fail_errno(error, errno, "the settings of the uplink's filter");
}

Uplink *
uplink_open(const char *ifname, GError **error)
{
    g_autoptr(Uplink) uplink = g_new0(Uplink, 1);
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &all); /* else libxdp takes the kernel for one without a dispatcher */
    uplink->ifindex = (int) if_nametoindex(ifname);
    if (uplink->ifindex == 0) {
        haw_fail(error, HAW_NOT_FOUND, "there is no interface '%s'", ifname);
        return NULL;
    }
    uplink->skeleton = uplink__open();
    if (uplink->skeleton == NULL) {
        haw_fail_errno(error, errno, "open the uplink's filter");
        return NULL;
    }
    uplink->program = xdp_program__from_bpf_obj(uplink->skeleton->obj, "xdp");
    if (libxdp_get_error(uplink->program) != 0) {
        haw_fail_errno(error, -(int) libxdp_get_error(uplink->program), "read the uplink's filter");
        uplink->program = NULL;
        return NULL;
    }
    take_off_former(uplink->ifindex);
    if (!attach(uplink, ifname, error)) {
        return NULL;
    }
    uplink->config.port = htons(GENEVE_PORT);
    if (!put_config(uplink, error)) {
        return NULL;
    }
    return g_steal_pointer(&uplink);
}

void
uplink_leave(Uplink *uplink)
{
    if (uplink == NULL) {
        return;
    }
    if (uplink->program != NULL) {
        xdp_program__close(uplink->program);
    }
    uplink__destroy(uplink->skeleton);
    g_free(uplink);
}

void
uplink_close(Uplink *uplink)
{
    if (uplink != NULL && uplink->mode != 0) {
        xdp_program__detach(uplink->program, uplink->ifindex, uplink->mode, 0);
    }
    uplink_leave(uplink);
}

static bool
put(struct bpf_map *map, const void *key, guint32 value, GError **error)
{
    int fd = bpf_map__fd(map);
    int status =
        value != 0 ? bpf_map_update_elem(fd, key, &value, 0) : bpf_map_delete_elem(fd, key);
    if (status < 0 && (value != 0 || errno != ENOENT)) {
        return haw_fail_errno(error, errno, "the uplink filter's table '%s'", bpf_map__name(map));
    }
    return true;
}

bool
uplink_is_native(const Uplink *uplink)
{
    return uplink->mode == XDP_MODE_NATIVE;
}

bool
uplink_switch(Uplink *uplink, bool on, GError **error)
{
    uplink->config.on = on;
    return put_config(uplink, error);
}

bool
uplink_steer(Uplink *uplink, guint32 pair, GError **error)
{
    uplink->config.pair = pair;
    return put_config(uplink, error);
}

bool
uplink_add_end(Uplink *uplink, const char *address, GError **error)
{
    struct uplink_end end = {0};
    if (inet_pton(AF_INET, address, end.addr) != 1 && inet_pton(AF_INET6, address, end.addr) != 1) {
        return haw_fail(error, HAW_INVALID, "'%s' is no address", address);
    }
    return put(uplink->skeleton->maps.haw_up_ends, &end, 1, error);
}

bool
uplink_want(Uplink *uplink, guint32 vni, guint32 port, guint32 how, GError **error)
{
    const struct uplink_port key = {.vni = vni, .port = port};
    return put(uplink->skeleton->maps.haw_up_ports, &key, how, error);
}

bool
uplink_counters(Uplink *uplink, guint64 ret_counters[UPLINK_REASON_COUNT], GError **error)
{
    int cpus = libbpf_num_possible_cpus();
    g_autofree guint64 *values = g_new0(guint64, MAX(cpus, 1));
    for (guint32 reason = 0; reason < UPLINK_REASON_COUNT; reason++) {
        int fd = bpf_map__fd(uplink->skeleton->maps.haw_up_count);
        if (bpf_map_lookup_elem(fd, &reason, values) < 0) {
            return haw_fail_errno(error, errno, "read the uplink filter's counters");
        }
        ret_counters[reason] = 0;
        for (int i = 0; i < cpus; i++) {
            ret_counters[reason] += values[i];
        }
    }
    return true;
}

const char *
uplink_reason_text(enum uplink_reason reason)
{
    static const char *const words[] = {
#define WORD(name, word) word,
        UPLINK_REASONS(WORD)
#undef WORD
    };
    return words[reason];
}
