/* The front of the two backends: picks one by its spec, and does what is the same for both: network
 * interfaces are real interfaces even when the NIC is simulated, and waiting is looking again
 * whenever rtnetlink tells of a change.
 * B1  A wait ends by its deadline, and looks at least once. */
#include "hw/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/hwops.h"
#include "hw/link.h"
#include "hw/netdev.h"
#include "hw/sim.h"

/* Not every driver's step shows as a link event (a port can come after its netdev). */
enum { LOOK_AGAIN_MS = 50 };
/* What "sim:/DIRECTORY" is when nobody made one there. */
static const struct sim_plan sim_default = {.prefix = "sim",
                                            .pfs = 2,
                                            .vfs = 4,
                                            .vfs_max = 8,
                                            .switchdev = true,
                                            .vdpa = true,
                                            .iommu = true};

HwBackend *
hw_open(const char *spec, GError **error)
{
    if (spec == NULL) {
        spec = getenv("HAWSER_HW");
    }
    if (spec == NULL || *spec == '\0') {
        spec = "kernel";
    }
    g_autoptr(GError) why = NULL;
    HwBackend *hw = g_new0(HwBackend, 1);
    hw->spec = g_strdup(spec);
    if (strcmp(spec, "kernel") == 0) {
        hw->ops = &kernel_ops;
        hw->where = g_strdup("/sys");
    } else if (g_str_has_prefix(spec, "sim:/")) {
        hw->ops = &sim_ops;
        hw->where = g_strdup(spec + strlen("sim:"));
        if (!sim_create(hw->where, &sim_default, &why) && haw_code(why) != HAW_EXISTS) {
            g_propagate_error(error, g_steal_pointer(&why));
            hw_close(hw);
            return NULL;
        }
    } else {
        hw_close(hw);
        haw_fail(error, HAW_INVALID,
                 "no hardware backend '%s': it is \"kernel\" or \"sim:/DIRECTORY\"", spec);
        return NULL;
    }
    return hw;
}

void
hw_close(HwBackend *hw)
{
    if (hw != NULL) {
        g_free(hw->spec);
        g_free(hw->where);
        g_free(hw);
    }
}

const char *
hw_spec(const HwBackend *hw)
{
    return hw->spec;
}

HwInventory *
hw_inventory(HwBackend *hw, GError **error)
{
    return hw->ops->inventory(hw, error);
}

bool
hw_refresh_vf(HwBackend *hw, HwInventory *inventory, guint vf, bool *ret_same, GError **error)
{
    return hw->ops->refresh_vf(hw, inventory, vf, ret_same, error);
}

bool
hw_set_vf(HwBackend *hw, const struct hw_pf *pf, guint vf, const struct hw_vf_props *props,
          GError **error)
{
    return hw->ops->set_vf(hw, pf, vf, props, error);
}

bool
hw_bind_driver(HwBackend *hw, const char *vf_dev, const char *driver, GError **error)
{
    return hw->ops->bind_driver(hw, vf_dev, driver, error);
}

bool
hw_add_vdpa(HwBackend *hw, const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa, GError **error)
{
    return hw->ops->add_vdpa(hw, want, ret_vdpa, error);
}

bool
hw_del_vdpa(HwBackend *hw, const char *name, GError **error)
{
    return hw->ops->del_vdpa(hw, name, error);
}

bool
hw_set_num_vfs(HwBackend *hw, const struct hw_pf *pf, guint count, GError **error)
{
    return pf->vfs == count || hw->ops->set_num_vfs(hw, pf, count, error);
}

bool
hw_set_eswitch(HwBackend *hw, const struct hw_pf *pf, HwEswitch mode, GError **error)
{
    return pf->eswitch == mode || hw->ops->set_eswitch(hw, pf, mode, error);
}

bool
hw_set_tc_offload(HwBackend *hw, const struct hw_pf *pf, bool on, GError **error)
{
    return pf->hw_tc_offload == on || hw->ops->set_tc_offload(hw, pf, on, error);
}

static NlSock *
netdev_door(HwBackend *hw, const char *call, int netns, GError **error)
{
    if (hw->ops->before != NULL && !hw->ops->before(hw, call, error)) {
        return NULL;
    }
    return nlsock_open_in(netns, error);
}

bool
hw_set_netdev(HwBackend *hw, int netns, const char *name, const struct hw_netdev_set *set,
              GError **error)
{
    g_autoptr(NlSock) sock = netdev_door(hw, "set_netdev", netns, error);
    return sock != NULL && (set->mac == NULL || link_set_mac(sock, name, set->mac, error)) &&
           (set->mtu == 0 || link_set_mtu(sock, name, set->mtu, error)) &&
           (set->up < 0 || link_set_up(sock, name, set->up == 1, error));
}

bool
hw_rename_netdev(HwBackend *hw, int netns, const char *name, const char *new_name, GError **error)
{
    g_autoptr(NlSock) sock = netdev_door(hw, "rename_netdev", netns, error);
    return sock != NULL && link_set_up(sock, name, false, error) &&
           link_set_name(sock, name, new_name, error);
}

bool
hw_move_netdev(HwBackend *hw, int from_netns, const char *name, int to_netns, const char *new_name,
               GError **error)
{
    g_autoptr(NlSock) sock = netdev_door(hw, "move_netdev", from_netns, error);
    haw_autofd int home = -1;
    if (sock == NULL) {
        return false;
    }
    if (to_netns < 0) {
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home < 0) {
            return haw_fail_errno(error, errno, "open our own network namespace");
        }
        to_netns = home;
    }
    return link_set_up(sock, name, false, error) &&
           link_move(sock, name, to_netns, new_name, error);
}

/* Whether what is waited for is there; data is the caller's. False without error: not yet. */
typedef bool (*Look)(const HwInventory *inventory, void *data);

/* B1 */
static bool
wait_for(HwBackend *hw, gint64 wait_ms, Look look, void *data, bool *ret_found, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + wait_ms * 1000;
    haw_autofd int watch = hw_watch_open(hw, error);
    if (watch < 0) {
        return false;
    }
    for (*ret_found = false;;) {
        hw_watch_drain(watch);
        g_autoptr(HwInventory) inventory = hw_inventory(hw, error);
        if (inventory == NULL) {
            return false;
        }
        *ret_found = look(inventory, data);
        gint64 left_ms = (deadline_us - g_get_monotonic_time() + 999) / 1000;
        if (*ret_found || left_ms <= 0) {
            return true;
        }
        struct pollfd event = {.fd = watch, .events = POLLIN};
        poll(&event, 1, (int) MIN(left_ms, LOOK_AGAIN_MS));
    }
}

struct netdev_wait {
    const char *dev;
    char *netdev;
};

static bool
look_netdev(const HwInventory *inventory, void *data)
{
    struct netdev_wait *wait = data;
    const struct hw_vf *vf = hw_find_vf(inventory, wait->dev);
    if (vf == NULL || vf->netdev[0] == '\0') {
        return false;
    }
    g_strlcpy(wait->netdev, vf->netdev, IFNAMSIZ);
    return true;
}

bool
hw_wait_netdev(HwBackend *hw, const char *vf_dev, gint64 wait_ms, char ret_netdev[IFNAMSIZ],
               GError **error)
{
    struct netdev_wait wait = {.dev = vf_dev, .netdev = ret_netdev};
    bool found;
    if (!wait_for(hw, wait_ms, look_netdev, &wait, &found, error)) {
        return false;
    }
    return found || haw_fail(error, HAW_TIMEOUT,
                             "VF '%s' shows no network interface after %" G_GINT64_FORMAT
                             " ms: look at its driver's messages in the kernel log",
                             vf_dev, wait_ms);
}

struct rep_wait {
    const struct hw_port_key *key;
    struct hw_rep *rep;
};

static bool
look_rep(const HwInventory *inventory, void *data)
{
    struct rep_wait *wait = data;
    const struct hw_rep *rep = hw_find_rep(inventory, wait->key);
    if (rep == NULL || rep->netdev[0] == '\0') {
        return false;
    }
    *wait->rep = *rep;
    return true;
}

bool
hw_wait_rep(HwBackend *hw, const struct hw_port_key *key, gint64 wait_ms, struct hw_rep *ret_rep,
            GError **error)
{
    struct rep_wait wait = {.key = key, .rep = ret_rep};
    bool found;
    if (!wait_for(hw, wait_ms, look_rep, &wait, &found, error)) {
        return false;
    }
    g_autofree char *port = hw_port_name(key);
    return found || haw_fail(error, HAW_TIMEOUT,
                             "no representor '%s' on switch '%s' after %" G_GINT64_FORMAT
                             " ms: is the eswitch in switchdev mode? (see `hawser hw doctor`)",
                             port, key->switch_id, wait_ms);
}

int
hw_watch_open(HwBackend *hw, GError **error)
{
    struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    haw_autofd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, (struct sockaddr *) &self, sizeof self) < 0) {
        haw_fail_errno(error, errno, "watch network interfaces");
        return -1;
    }
    return fd_steal(&fd);
}

static void
tell(struct nlmsghdr *row, HwEventFn fn, void *data)
{
    struct netdev_info info;
    if (!netdev_parse(row, &info)) {
        return;
    }
    struct hw_event event = {.index = info.index,
                             .gone = row->nlmsg_type == RTM_DELLINK,
                             .port = info.switch_id[0] != '\0' || info.port_name[0] != '\0'};
    g_strlcpy(event.name, info.name, sizeof event.name);
    g_strlcpy(event.kind, info.kind, sizeof event.kind);
    g_strlcpy(event.dev, info.parent_dev, sizeof event.dev);
    netdev_info_done(&info);
    fn(&event, data);
}

void
hw_watch_read(int fd, HwEventFn fn, void *data)
{
    _Alignas(struct nlmsghdr) char bytes[16384];
    for (;;) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got < 0 && errno == ENOBUFS) {
            fn(NULL, data);
        } else if (got <= 0 && errno != EINTR) {
            return;
        }
        int left = (int) got;
        for (struct nlmsghdr *row = (struct nlmsghdr *) bytes; got > 0 && nlmsg_ok(row, left);
             row = nlmsg_next(row, &left)) {
            tell(row, fn, data);
        }
    }
}

static void
ignore(const struct hw_event *event, void *data)
{
}

void
hw_watch_drain(int fd)
{
    hw_watch_read(fd, ignore, NULL);
}
