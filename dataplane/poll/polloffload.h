/* polloffload.h: learned flows as rules in the hardware of the devices that they enter by.
 * Threads: the control thread. Nothing of DPDK here: what makes rules is given (pollflows.h has the real one). */
#pragma once
#include "dataplane/fast/engine.h"
#include "dataplane/poll/pollflows.h"

#include <glib.h>
#include <stdbool.h>

typedef struct PollOffload PollOffload;

enum { POLLOFFLOAD_RULES = 1024 }; /* of a device */

struct polloffload_ops {
    struct rte_flow *(*make)(uint16_t port, enum pollflows kind, const struct pollflows_rule *rule);
    bool (*unmake)(uint16_t port, struct rte_flow *flow);
    uint64_t (*count)(uint16_t port, struct rte_flow *flow); /* packets so far */
};

/* Devices that can do less than 'least' get no rules (POLLFLOWS_NONE: none gets any). A flow gets one that carried
 * 'packets' since it was proven last. Engine and ops are borrowed. */
PollOffload *polloffload_new(struct engine *engine, const struct polloffload_ops *ops,
                             enum pollflows least, guint32 packets);
void polloffload_free(PollOffload *offload); /* takes all rules away */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PollOffload, polloffload_free)

/* NIC 'nic' is behind DPDK's device 'port', which takes frames up to 'mtu'. */
void polloffload_port(PollOffload *offload, guint16 nic, guint16 port, guint16 mtu,
                      enum pollflows can);
/* No rule of it, or that leads there, is left. */
void polloffload_port_gone(PollOffload *offload, guint16 nic);
/* No rule of the zone is left; 0: none at all. */
void polloffload_flush(PollOffload *offload, guint16 zone);
/* Every 10 ms: ends what is due, makes what has come. */
void polloffload_tick(PollOffload *offload, guint64 now_ns);

struct polloffload_total {
    guint rules;           /* now */
    guint64 made, refused; /* by the device, so far */
    guint64 packets;       /* that it forwarded, of rules that have ended */
};
/* Of a NIC's device. */
struct polloffload_total polloffload_total(const PollOffload *offload, guint16 nic);
/* Whether the flow is in hardware now. */
bool polloffload_has(const PollOffload *offload, const struct layout_tuple *key);
