/* network.h: managed networks, and the NICs of instances on them.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"

NetTable *net_table_new(Agent *agent);
void net_table_free(NetTable *table);
/* At start: brings every network up as its row says (adopting what is there: a running dnsmasq
 * with the same arguments goes on), removes leftovers; what fails is retried each minute. Yields. */
bool net_table_start(NetTable *table, GError **error);
/* Once instances are loaded, and before the API serves: the NICs of those that run are known again,
 * leases without a NIC go. Yields. */
void net_table_adopt(NetTable *table);
/* At shutdown (not at a plain restart): takes bridges and dnsmasq down. Yields. */
void net_table_stop(NetTable *table);

/* {"name","type","config",…}, a new reference; NOT_FOUND "Network not found". Yields. */
json_t *net_find(NetTable *table, const char *project, const char *name, GError **error);

/* ---- NICs: device type "nic". One call a step; each can be repeated and undone. ---- */
typedef struct {
    const char *project, *inst, *device; /* c1, eth0 */
    const char *inst_type;               /* "container" */
    const char *uuid;                    /* volatile.uuid; NULL before there is one */
    json_t *config;                      /* the expanded device */
    json_t *volatiles;                   /* volatile.<device>.* without that prefix; updated */
    gint64 inst_id;
    int netns; /* borrowed: the instance's network namespace, where its end may be made; 0: unknown */
} Nic;
/* Is the device config right (keys of its nictype, network there, addresses in subnet, not taken)?
 * LXD's texts. Yields. */
bool nic_validate(NetTable *table, const Nic *nic, GError **error);
/* Makes the host side before the start: veth pair (or macvlan, …) with limits, filters, static
 * lease, routes. Fills volatiles hwaddr, host_name, name, last_state.*. *ret_lxc is the block of
 * lxc.net.* items for it (a JSON object of key → value, with "%d" for the index: "lxc.net.%d.type"),
 * for a virtual machine what QEMU is to be given (vm/vmitem.h); a new reference. Yields. */
bool nic_start(NetTable *table, const Nic *nic, json_t **ret_lxc, GError **error);
/* Whether its start, told the instance's namespace, needs nothing of liblxc. Yields. */
bool nic_can_start_inside(NetTable *table, const Nic *nic);
/* After the stop: removes the host side, rules, lease; gives a physical device back. Repeats
 * safely. Yields. */
bool nic_stop(NetTable *table, const Nic *nic, GError **error);
/* The device leaves the instance, or the instance goes for good: its static lease and its place in
 * DNS go too, and the server hears that dynamic leases are free. Yields. */
bool nic_remove(NetTable *table, const Nic *nic, GError **error);
/* Plugs into, or out of, a running container whose init is 'pid' (moved and renamed there). Yields. */
bool nic_hotplug(NetTable *table, const Nic *nic, pid_t pid, GError **error);
bool nic_hotunplug(NetTable *table, const Nic *nic, pid_t pid, GError **error);
/* The keys that can change in place: limits.*, security.*, ipv*.routes, addresses. On a stopped
 * instance ('old_config' may be NULL) the network reserves what the NIC asks for. Yields. */
bool nic_update(NetTable *table, const Nic *nic, json_t *old_config, GError **error);
bool nic_can_update_live(NetTable *table, const Nic *nic, const char *key);
/* The host interface of a NIC for counters, NULL for none; borrowed from volatiles. */
const char *nic_host_name(const Nic *nic);
/* ifname → {"addresses":[],"counters":{},"hwaddr","mtu","state","type","host_name"} of the network
 * namespace of 'pid' (0: ours), as REST's state shows it; a new reference. Yields. */
json_t *net_state_of_pid(pid_t pid, GError **error);
/* Who has which address on a network: [{"hwaddr","address","netmask","hostname",…}], a new reference, empty
 * for a name that is no network of ours. Yields. */
json_t *net_leases(NetTable *table, const char *project, const char *network);
extern const Route network_routes[]; /* networks, leases, state */
extern const Route netacl_routes[], forward_routes[], balancer_routes[], peer_routes[];
