/* Devices of DPDK's.
 * P1  What was attached for us is detached with us; a device that the command line made is only stopped.
 * P2  No offload is asked for: what enters has whole checksums and is one frame, as the engine reads it.
 * P3  A device that cannot do interrupts, promiscuity or the MTU is used without; its core naps then.
 * P4  What the driver of AF_XDP forgets when it closes a device is taken back (pollxdp.c). The kernel
 *     lets an interface go a moment after its socket was closed, so a queue is tried again for two seconds.
 * Called by poller.c. */
#include "dataplane/poll/polldev.h"

#include <errno.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <string.h>

#include "base/log.h"
#include "dataplane/poll/pollxdp.h"

enum { XDP_TURNS = 100, XDP_WAIT_US = 20000 };

/* The part of 'args' that names the device. */
static char *
name_of(const char *args)
{
    const char *comma = strchr(args, ',');
    return comma != NULL ? g_strndup(args, (gsize) (comma - args)) : g_strdup(args);
}

static bool
find_port(const char *args, uint16_t *ret_port, bool *ret_attached, GError **error)
{
    g_autofree char *name = name_of(args);
    *ret_attached = false;
    if (rte_eth_dev_get_port_by_name(name, ret_port) == 0) {
        return true;
    }
    int status = rte_dev_probe(args);
    if (status < 0 || rte_eth_dev_get_port_by_name(name, ret_port) != 0) {
        haw_fail(error, status < 0 && status != -ENODEV ? HAW_IO : HAW_NOT_FOUND,
                 "DPDK has no device '%s' (%s): is its driver installed, and a PCI device bound to "
                 "vfio-pci?",
                 name, status < 0 ? strerror(-status) : "it appeared under another name");
        return false;
    }
    *ret_attached = true;
    return true;
}

/* P3 */
static bool
configure(PollDev *dev, const struct rte_eth_dev_info *info, GError **error)
{
    struct rte_eth_conf conf = {0};
    conf.intr_conf.rxq = dev->interrupts;
    int status = rte_eth_dev_configure(dev->port, 1, dev->tx_queues, &conf);
    if (status < 0 && dev->interrupts) {
        dev->interrupts = false;
        conf.intr_conf.rxq = 0;
        status = rte_eth_dev_configure(dev->port, 1, dev->tx_queues, &conf);
    }
    if (status < 0) {
        return haw_fail_errno(error, -status, "configure '%s' (%s)", dev->args, info->driver_name);
    }
    return true;
}

static bool
make_queues(PollDev *dev, struct rte_mempool *pool, GError **error)
{
    uint16_t rx = POLLDEV_RING, tx = POLLDEV_RING;
    rte_eth_dev_adjust_nb_rx_tx_desc(dev->port, &rx, &tx);
    int socket = rte_eth_dev_socket_id(dev->port);
    int status = rte_eth_rx_queue_setup(dev->port, 0, rx, (unsigned) socket, NULL, pool);
    for (int turn = 0; status < 0 && dev->xdp != NULL && turn < XDP_TURNS; turn++) { /* P4 */
        g_usleep(XDP_WAIT_US);
        status = rte_eth_rx_queue_setup(dev->port, 0, rx, (unsigned) socket, NULL, pool);
    }
    for (uint16_t queue = 0; status >= 0 && queue < dev->tx_queues; queue++) {
        status = rte_eth_tx_queue_setup(dev->port, queue, tx, (unsigned) socket, NULL);
    }
    return status >= 0 ? true : haw_fail_errno(error, -status, "queues of '%s'", dev->args);
}

PollDev *
polldev_open(const char *args, uint16_t tx_queues, uint16_t mtu, struct rte_mempool *pool,
             GError **error)
{
    g_autoptr(PollDev) dev = g_new0(PollDev, 1);
    struct rte_eth_dev_info info;
    dev->port = RTE_MAX_ETHPORTS;
    dev->args = g_strdup(args);
    if (!find_port(args, &dev->port, &dev->attached, error)) {
        dev->port = RTE_MAX_ETHPORTS;
        return NULL;
    }
    int status = rte_eth_dev_info_get(dev->port, &info);
    if (status < 0) {
        haw_fail_errno(error, -status, "look at '%s'", args);
        return NULL;
    }
    bool is_xdp = strcmp(info.driver_name, "net_af_xdp") == 0;
    dev->xdp = is_xdp ? pollxdp_new(rte_pktmbuf_data_room_size(pool), error) : NULL; /* P4 */
    if (is_xdp && dev->xdp == NULL) {
        return NULL;
    }
    dev->rx_queues = 1;
    dev->tx_queues = MAX(1, MIN(tx_queues, info.max_tx_queues));
    dev->interrupts = true;
    if (!configure(dev, &info, error) ||
        !make_queues(dev, is_xdp ? pollxdp_pool(dev->xdp) : pool, error) ||
        (is_xdp && !pollxdp_watch(dev->xdp, dev->port, error))) {
        return NULL;
    }
    if (mtu != 0 && rte_eth_dev_set_mtu(dev->port, mtu) < 0) {
        haw_debug("poll.mtu", KS("device", args), KU("mtu", mtu));
    }
    rte_eth_dev_get_mtu(dev->port, &dev->mtu);
    status = rte_eth_dev_start(dev->port);
    if (status < 0) {
        haw_fail_errno(error, -status, "start '%s'", args);
        return NULL;
    }
    rte_eth_promiscuous_enable(dev->port);
    dev->flows = pollflows_probe(dev->port);
    /* Not every driver that takes the wish has something to wait for. P3 */
    dev->interrupts = dev->interrupts && rte_eth_dev_rx_intr_ctl_q_get_fd(dev->port, 0) >= 0;
    return g_steal_pointer(&dev);
}

/* P1 */
void
polldev_close(PollDev *dev)
{
    if (dev == NULL) {
        return;
    }
    if (dev->port < RTE_MAX_ETHPORTS && rte_eth_dev_is_valid_port(dev->port)) {
        struct rte_eth_dev_info info;
        int known = rte_eth_dev_info_get(dev->port, &info);
        rte_eth_dev_stop(dev->port);
        if (dev->attached) {
            rte_eth_dev_close(dev->port);
            if (known == 0 && info.device != NULL) {
                rte_dev_remove(info.device);
            }
        }
    }
    pollxdp_free(dev->xdp);
    g_free(dev->args);
    g_free(dev);
}
