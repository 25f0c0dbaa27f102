/* pollxdp.h: what DPDK's AF_XDP driver leaves behind when a device is closed, taken back: packets and the socket.
 * Threads: the control thread only, but that received packets are marked on the core that polls the device. */
#pragma once
#include "base/error.h"

#include <rte_mempool.h>
#include <stdint.h>

typedef struct PollXdp PollXdp;

/* Before the queues of a device are made. Its packets have 'room' bytes. UNAVAILABLE without memory. */
PollXdp *pollxdp_new(uint16_t room, GError **error);
/* For the queues. Borrowed. */
struct rte_mempool *pollxdp_pool(const PollXdp *xdp);
/* When they are made: from now on the device 'port' is looked after. */
bool pollxdp_watch(PollXdp *xdp, uint16_t port, GError **error);
/* After the device was closed. Takes NULL. */
void pollxdp_free(PollXdp *xdp);
