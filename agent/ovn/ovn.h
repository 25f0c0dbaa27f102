/* ovn.h: OVN as the agent uses it: the one that it runs itself or the one that is named, sessions with
 * its databases, and the reconciler that makes the northbound rows be as our own rows say.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include "agent/ovn/plan.h"
#include "proto/ovsdb.h"

Ovn *ovn_new(Agent *agent);
void ovn_free(Ovn *ovn);
/* At start, after the database is open: when OVN networks exist, adopts or starts the daemons and
 * connects. Never waits for the databases and never fails because they are away: the reconciler
 * catches up as soon as they are there. Yields. */
bool ovn_start(Agent *agent, GError **error);
/* With the instances (not at a plain restart): ends the embedded daemons. Yields. */
void ovn_stop(Agent *agent);

/* ---- having one ---- */
/* Sees to it that OVN runs here and that its databases and the integration bridge are there: called
 * before an OVN network is made or started. The embedded one is started when it is to be used and does
 * not run. UNAVAILABLE names the connection and why. Yields. */
bool ovn_need(Agent *agent, GError **error);
/* When a network has gone from OVN (its row may still be there, as Deleting): the embedded daemons end if
 * it was the last one. Yields. */
void ovn_unneeded(Agent *agent);
bool ovn_is_embedded(Agent *agent);
/* "br-int", or as network.ovn.integration_bridge says; borrowed. */
const char *ovn_integration_bridge(Agent *agent);
/* external_ids:system-id of the local Open_vSwitch, any text; NULL before it is known; borrowed. */
const char *ovn_system_id(Agent *agent);
/* "netdev" (userspace) or "system" (kernel): the datapath_type for bridges; "" leaves OVS's default. */
const char *ovn_datapath_type(Agent *agent);
/* "unix:…/conf.sock" of the local Open_vSwitch database; borrowed. */
const char *ovn_local_remote(Agent *agent);

/* Grows with each start of ovs-vswitchd; and whether the one that runs now keeps connections whose packets
 * it did not all see (switchd.c): only then may a fast path carry some of them past it. */
guint64 ovn_switchd_epoch(Agent *agent);
bool ovn_conntrack_liberal(Agent *agent);
/* Returns when no cached flow of this host's switch acts on rules that have gone. Yields. */
bool ovn_switchd_settle(Agent *agent, GError **error);

/* Sessions. NULL before ovn_need() or ovn_start() made them. The northbound replica has every table that
 * plans use; southbound has Chassis, Port_Binding, MAC_Binding and what leases and state need. */
Ovsdb *ovn_nb(Agent *agent);
Ovsdb *ovn_sb(Agent *agent);
Ovsdb *ovn_local(Agent *agent); /* Open_vSwitch, Bridge, Port, Interface */

/* ---- what ought to be ---- */
/* Builds everything of one scope from our own rows; nothing for a scope that is gone. Called with the
 * id behind the prefix: "net3" → 3. Yields (database reads). */
typedef bool (*OvnBuild)(Agent *agent, gint64 id, OvnPlan *plan, GError **error);
/* The ids that exist, into a GArray of gint64. Yields. */
typedef bool (*OvnList)(Agent *agent, GArray *ids, GError **error);
typedef struct {
    const char *prefix; /* "net", "acl", "peer"; letters only */
    OvnBuild build;
    OvnList list;
} OvnBuilder;
/* Once, before ovn_start(); 'builder' stays the caller's and lives for ever. */
void ovn_add_builder(const OvnBuilder *builder);

typedef enum {
    OVN_WAIT_NONE, /* stored in the northbound database */
    OVN_WAIT_SB,   /* northd has translated it */
    OVN_WAIT_HERE, /* flows are installed on this host's chassis */
    OVN_WAIT_HV,   /* flows are installed on every chassis: one that is away holds it up */
} OvnWait;
/* Makes the rows of these scopes (ends with NULL: "net3", "acl5", NULL) be as their builders say, in one
 * transaction, one round trip; none when nothing differs. Then waits for up to 10 s as asked. A
 * conflict with another writer is looked at again. The error names the scope, table and row.
 * Yields. */
bool ovn_apply(Agent *agent, OvnWait wait, GError **error, ...) G_GNUC_NULL_TERMINATED;
bool ovn_applyv(Agent *agent, const char *const *scopes, OvnWait wait, GError **error);
/* The same for every scope, known or found, in as few transactions as sizes allow. Yields. */
bool ovn_reconcile(Agent *agent, OvnWait wait, GError **error);
/* Asks for a reconcile of a scope (NULL: all) soon, in the background, with retries until it holds. */
void ovn_kick(Agent *agent, const char *scope);

/* Who acts on what OVN said before a change: the fast path (net/fastzone.c). Set once, before ovn_start(). */
typedef struct {
    /* Whether there is anything to flush at all: without, changes wait for no more than they ask. */
    bool (*watching)(Agent *agent);
    /* Rows of these scopes are changed and their flows are installed here: called before ovn_apply()
     * answers. Yields. */
    void (*applied)(Agent *agent, const char *const *scopes);
    /* A row of that northbound table changed, whoever did it; NULL: all may have. Must not yield. */
    void (*seen)(Agent *agent, const char *table);
} OvnObserver;
void ovn_observe(Agent *agent, const OvnObserver *observer);

/* What ovn_apply() would do for all scopes: [{"action","scope","table","key","wanted","found"}], a new
 * reference. Yields. */
json_t *ovn_diff(Agent *agent, GError **error);
/* {"mode","northbound","southbound","daemons",…}, a new reference. */
json_t *ovn_status(Agent *agent);

extern const Route ovn_routes[];
