/* netobj.h: a managed network in memory, as the files of this folder share it.
 * The table in network.c owns the objects; 'lock' serialises what changes one in the world, and the
 * fields change only under it. Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/network.h"
#include "agent/state/networks.h"
#include "base/fiber.h"

typedef struct Dnsmasq Dnsmasq;

typedef struct Network {
    NetTable *table; /* borrowed */
    NetRow *row;     /* owned */
    bool up;         /* the world is as the row says */
    bool hairpin;    /* ports send back by themselves: see bridge_needs_hairpin() */
    bool gone;       /* was deleted while somebody waited for the lock */
    bool leaving;    /* ovn: its northbound rows are to go */
    FiberLock lock;
    Dnsmasq *dnsmasq;        /* owned, NULL when none runs */
    gint64 dnsmasq_pause_ms; /* before the next start of one that died */
    guint refs;
} Network;

Network *netobj_ref(Network *net);
void netobj_unref(Network *net);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Network, netobj_unref)

/* The table's insides for this folder. */
Agent *netobj_agent(NetTable *table);
/* Referenced; NULL when there is none. Projects are resolved: instances of "default" and of projects
 * without networks of their own live on default's. */
Network *netobj_find(NetTable *table, const char *project, const char *name);
/* All of them, sorted; referenced elements. */
GPtrArray *netobj_list(NetTable *table);
void netobj_add(NetTable *table, Network *net); /* takes the reference */
void netobj_remove(NetTable *table, Network *net);
void netobj_renamed(NetTable *table, Network *net, const char *old_name);
Network *netobj_new(NetTable *table, NetRow *row /* stolen */);

/* Keeps the network namespace of a running instance's process alive, so that an interface that was
 * plugged in can be fetched from it when the instance is gone; 'label' is the NIC's. */
void netobj_keep_netns(NetTable *table, const char *label, pid_t pid);
/* Gives the descriptor away, -1 when none was kept. */
int netobj_take_netns(NetTable *table, const char *label);

/* A value of its config, NULL when missing or empty; with the default of its type's key table. */
const char *netobj_get(const Network *net, const char *key);
bool netobj_bool(const Network *net, const char *key, bool fallback);
bool netobj_is(const Network *net, const char *type);
/* "10.0.0.1/24" of family 4 or 6; NULL when there is none ("none", unset). */
const char *netobj_address(const Network *net, int family);
bool netobj_dhcp4(const Network *net);
bool netobj_dhcp6_stateful(const Network *net);
/* <dir>/networks/NAME/…; caller frees. */
char *netobj_path(const Network *net, const char *file);

/* Makes the world as the row says, or takes it down. Called with the lock held. Yields. */
bool netobj_up(Network *net, json_t *old_config, GError **error);
bool netobj_down(Network *net, GError **error);
/* Loads the rules of a bridge network anew: ACLs, forwards, NAT. Yields. */
bool netobj_firewall(Network *net, GError **error);
/* After the row has its new name: takes the old interface down and moves the directory. Yields. */
bool netobj_finish_rename(Network *net, GError **error);
