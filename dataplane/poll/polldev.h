/* polldev.h: one device of DPDK's: found by name or address, set up, started, and given back.
 * Threads: the control thread only; a device is closed after no core polls it any more. */
#pragma once
#include "base/error.h"
#include "dataplane/poll/pollflows.h"

#include <rte_mempool.h>
#include <stdint.h>

enum { POLLDEV_RING = 1024, POLLDEV_HEADROOM_MTU = 64 };

typedef struct {
    char *args;    /* as it was asked for; owned */
    uint16_t port; /* DPDK's number */
    uint16_t rx_queues, tx_queues;
    uint16_t mtu;
    bool interrupts;      /* can wake a core that sleeps */
    bool attached;        /* by us: goes with it */
    enum pollflows flows; /* what its hardware could do for learned flows */
    struct PollXdp *xdp;  /* owned; NULL: another driver's */
} PollDev;

/* 'args' is a PCI address, or a virtual device and its arguments ("net_tap0,iface=x"). It gets one receive
 * queue and up to 'tx_queues' others. NOT_FOUND when there is no such device or driver. */
PollDev *polldev_open(const char *args, uint16_t tx_queues, uint16_t mtu, struct rte_mempool *pool,
                      GError **error);
void polldev_close(PollDev *dev);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PollDev, polldev_close)
