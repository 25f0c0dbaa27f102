/* ovn_rows.h: from what a network of type ovn is to the rows that the northbound database should
 * have for it. Inputs are plain data; builders are pure, and tested without OVN.
 * Threads: any. Gathering the inputs (ovn_input.h) is the main loop's. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct OvnPlan OvnPlan; /* agent/ovn/plan.h */

/* A NIC of an instance on the network. Strings are owned, NULL when there is none. */
typedef struct {
    char *lsp;      /* "lxd-net3-instance-<volatile.uuid>-eth0" */
    char *log_name; /* "<volatile.uuid>-eth0" */
    char *project, *inst, *device;
    char *hostname; /* the instance's name, lower case */
    char *mac;
    char *fixed[2];     /* configured address: IPv4, IPv6 */
    char *address[2];   /* what it has: configured, or as OVN allotted it; NULL: none, or not yet */
    char **routes[2];   /* ipvN.routes */
    char **external[2]; /* ipvN.routes.external */
    char *parent_lsp;   /* nested in this port, with 'tag'; NULL: not */
    int tag;
    bool running; /* has (or should have) a port; else only its name in DNS and its reservation */
    bool guessed[2]; /* the address is what OVN is about to allot, not yet its word */
    json_t *config;  /* the expanded device: security.acls, … */
} OvnNic;

/* One family of the network and of its uplink. */
typedef struct {
    char *cidr;    /* "10.1.0.1/24": the router's address with the prefix length; NULL: not there */
    char *network; /* "10.1.0.0/24" */
    char *router;  /* "10.1.0.1" */
    bool dhcp, l3only, nat;
    char *nat_address; /* NULL: the router's external one */
    char *ext;         /* "10.94.0.9/24": the router's address on the uplink; NULL: none */
    char *gateway;     /* the uplink's gateway; NULL: none */
    char **dns;        /* servers of this family to offer */
} OvnFamily;

typedef struct {
    char *chassis; /* system-id, any text */
    int priority;
} OvnChassis;

/* Everything the rows of one network depend on. */
typedef struct {
    gint64 id, project_id;
    char *project, *name;
    char *uplink; /* name of the uplink network; NULL: none */
    char *mac;    /* the router's */
    guint mtu;
    bool shared;        /* with other servers on the same northbound database */
    bool l2proxy;       /* the uplink's ovn.ingress_mode */
    bool dhcp_stateful; /* ipv6.dhcp.stateful */
    char *domain;       /* "lxd" */
    char **search;
    OvnFamily family[2];  /* IPv4, IPv6 */
    GPtrArray *nics;      /* OvnNic, by lsp */
    GPtrArray *chassis;   /* OvnChassis */
    json_t *config;       /* the network's */
    GPtrArray *peers;     /* of ovn_peer.h; NULL: none */
    GPtrArray *acls;      /* of ovn_acl.h; NULL: none */
    GPtrArray *balancers; /* of ovn_lb.h: forwards and load balancers; NULL: none */
} OvnNetInput;

OvnNetInput *ovn_rows_input_new(void);
void ovn_rows_input_free(OvnNetInput *input);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnNetInput, ovn_rows_input_free)
OvnNic *ovn_rows_nic_new(void);
void ovn_rows_nic_free(OvnNic *nic);

/* The rows of one network while they are put together. Keys of rows are LXD's names; of rows without a
 * name, the parent's name, a slash and what tells them apart: "lxd-net3-lr/route/0.0.0.0/0". */
typedef struct {
    OvnPlan *plan;         /* borrowed */
    const OvnNetInput *in; /* borrowed */
    char scope[32];        /* "net3" */
} OvnNetRows;

/* The whole network: scope "net<id>" of the plan. */
void ovn_rows_build(OvnPlan *plan, const OvnNetInput *input);
/* Where a row of a table that is not "root" lives: a set of the router, the internal switch or the
 * network's port group. */
typedef enum {
    OVN_IN_NONE,
    OVN_IN_ROUTER_PORTS,
    OVN_IN_ROUTER_ROUTES,
    OVN_IN_ROUTER_POLICIES,
    OVN_IN_ROUTER_NAT,
    OVN_IN_ROUTER_BALANCERS,
    OVN_IN_SWITCH_PORTS,
    OVN_IN_SWITCH_ACLS,
    OVN_IN_SWITCH_DNS,
    OVN_IN_SWITCH_BALANCERS,
    OVN_IN_GROUP_PORTS,
    OVN_IN_GROUP_ACLS,
} OvnSet;
/* Adds a row of the network's scope to the plan and to a set; 'columns' is stolen. */
void ovn_rows_add(OvnNetRows *rows, const char *table, const char *key, json_t *columns,
                  OvnSet set);
/* Puts a row (of this scope or another) into one more set. */
void ovn_rows_into(OvnNetRows *rows, const char *table, const char *key, OvnSet set);
/* A static route of the router. */
void ovn_rows_route(OvnNetRows *rows, const char *prefix, const char *nexthop,
                    const char *output_port);

/* ---- names, as LXD's; each is the caller's to free ---- */
char *ovn_rows_name(gint64 net_id, const char *suffix); /* "lxd-net3" "-lr" … */
char *ovn_rows_set(gint64 net_id, int family);          /* "lxd_net3_routes_ip4" */
char *ovn_rows_group(gint64 net_id);                    /* "lxd_net3" */
#define OVN_ROWS_ROUTER     "-lr"
#define OVN_ROWS_LRP_EXT    "-lr-lrp-ext"
#define OVN_ROWS_LRP_INT    "-lr-lrp-int"
#define OVN_ROWS_LS_EXT     "-ls-ext"
#define OVN_ROWS_LS_INT     "-ls-int"
#define OVN_ROWS_LSP_EXT    "-ls-ext-lsp-router"
#define OVN_ROWS_LSP_UPLINK "-ls-ext-lsp-provider"
#define OVN_ROWS_LSP_INT    "-ls-int-lsp-router"
/* Everything that is routed to the NIC beside its own address: routes and external routes of a family
 * (0: IPv4, 1: IPv6), with the address itself where the network is l3only. Caller frees. */
char **ovn_rows_nic_prefixes(const OvnNetInput *in, const OvnNic *nic, int family);
/* All prefixes of the network's address set: its subnet and the prefixes of its running NICs. Caller
 * frees. */
char **ovn_rows_prefixes(const OvnNetInput *in, int family);

/* ---- hooks, called by ovn_rows_build() in this order (ovn_peer.c, ovn_acl.c, ovn_lb.c) ---- */
void ovn_peer_rows(OvnNetRows *rows);
void ovn_acl_rows(OvnNetRows *rows);
void ovn_lb_rows(OvnNetRows *rows);
