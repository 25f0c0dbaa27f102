/* inventory.h: one look at the host's accelerated NICs: PFs, VFs, representors, vDPA, RDMA, bonds.
 * Plain data that refers to nothing outside itself: it may be kept, compared and sent to a thread.
 * Texts are "" and numbers -1 where the hardware or its driver doesn't say. Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <net/if.h>

enum { HW_DEV_MAX = 40, HW_NAME_MAX = 32, HW_MAC_MAX = 18, HW_SWITCH_ID_MAX = 68 };

typedef enum {
    HW_ESWITCH_UNKNOWN, /* no devlink, or a driver that has no embedded switch */
    HW_ESWITCH_LEGACY,
    HW_ESWITCH_SWITCHDEV,
} HwEswitch;
const char *hw_eswitch_name(HwEswitch mode); /* "legacy", "switchdev", "" */

/* IFLA_VF_LINK_STATE_…: auto follows the PF's link. */
typedef enum { HW_VF_LINK_UNKNOWN = -1, HW_VF_LINK_AUTO, HW_VF_LINK_UP, HW_VF_LINK_DOWN } HwVfLink;

/* What a PF keeps for one of its VFs. In a change, "" and -1 mean: as it is. */
struct hw_vf_props {
    char mac[HW_MAC_MAX];
    int vlan, qos; /* vlan 0: none */
    int spoofchk, trust;
    gint64 min_mbps, max_mbps; /* 0: no bound */
    int link_state;            /* HwVfLink */
};
/* All as it is. */
void hw_vf_props_none(struct hw_vf_props *props);

struct hw_pf {
    char bus[16], dev[HW_DEV_MAX]; /* devlink's handle: "pci", "0000:3b:00.0" */
    char netdev[IFNAMSIZ];         /* the uplink; "" when it is not in our namespace */
    int ifindex;
    char mac[HW_MAC_MAX], driver[HW_NAME_MAX], firmware[64];
    int vendor, device; /* PCI ids */
    int numa, iommu_group;
    guint number; /* pf number inside its NIC: 0, 1 */
    char switch_id[HW_SWITCH_ID_MAX];
    HwEswitch eswitch;
    guint vfs, vfs_max;  /* sriov_numvfs, sriov_totalvfs */
    int hw_tc_offload;   /* 0, 1, -1 */
    char bond[IFNAMSIZ]; /* that it is a member of; "" for none */
    int carrier;         /* 0, 1, -1 */
    guint mtu;
};

struct hw_vf {
    guint pf, vf;             /* index into pfs; number of the VF on it */
    char dev[HW_DEV_MAX];     /* PCI address; on a bus without VF devices "<pf>/vf<n>" */
    char driver[HW_NAME_MAX]; /* "" when none is bound */
    char netdev[IFNAMSIZ];    /* "": the driver makes none, or it is in another namespace */
    int ifindex;
    char netdev_mac[HW_MAC_MAX];
    guint mtu;
    int up; /* IFF_UP of the netdev, -1 without one */
    int numa, iommu_group;
    struct hw_vf_props props;
    int rep; /* index into reps, -1 */
};

/* Names one port of an embedded switch: "pf0vf3" and "c1pf0vf3" differ in the controller. */
struct hw_port_key {
    char switch_id[HW_SWITCH_ID_MAX];
    guint controller, pf, vf;
};
struct hw_rep {
    struct hw_port_key key;
    char dev[HW_DEV_MAX]; /* of the PF whose devlink device has this port */
    char netdev[IFNAMSIZ];
    int ifindex;
    bool external; /* the VF is on another host: a DPU's view of its server */
};

struct hw_vdpa_mgmt {
    char handle[HW_DEV_MAX + 16]; /* "pci/0000:3b:00.2", "vdpasim_net" */
    char dev[HW_DEV_MAX];         /* of the VF or PF behind it: "0000:3b:00.2"; "" for simulators */
    bool net;                     /* makes network devices */
    guint64 features;
    guint max_vqs;
};
struct hw_vdpa {
    char name[64], mgmt[HW_DEV_MAX + 16];
    char driver[HW_NAME_MAX];  /* "vhost_vdpa", "virtio_vdpa", "" */
    char chardev[HW_NAME_MAX]; /* "/dev/vhost-vdpa-0", "" */
    char mac[HW_MAC_MAX];
    guint mtu, max_vqs;
    guint64 features;
};

struct hw_rdma {
    char name[64];         /* "mlx5_0", "rxe0" */
    char dev[HW_DEV_MAX];  /* PCI address, "" for software devices */
    char netdev[IFNAMSIZ]; /* of its first port */
    char node_guid[24], firmware[64];
    guint ports;
    int active; /* first port */
};

struct hw_bond {
    char netdev[IFNAMSIZ];
    int ifindex;
    int mode;    /* BOND_MODE_… */
    bool vf_lag; /* all members are PFs of one NIC in switchdev mode */
};

typedef struct {
    GArray *pfs;        /* struct hw_pf, by bus and address */
    GArray *vfs;        /* struct hw_vf, by PF and number */
    GArray *reps;       /* struct hw_rep */
    GArray *vdpa_mgmts; /* struct hw_vdpa_mgmt */
    GArray *vdpas;      /* struct hw_vdpa */
    GArray *rdmas;      /* struct hw_rdma */
    GArray *bonds;      /* struct hw_bond */
    int iommu;          /* 1: groups exist, so vfio-pci can work */
} HwInventory;

HwInventory *hw_inventory_new(void);
HwInventory *hw_inventory_dup(const HwInventory *inventory);
void hw_inventory_free(HwInventory *inventory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HwInventory, hw_inventory_free)

#define hw_pf_at(inventory, i)   (&g_array_index((inventory)->pfs, struct hw_pf, i))
#define hw_vf_at(inventory, i)   (&g_array_index((inventory)->vfs, struct hw_vf, i))
#define hw_rep_at(inventory, i)  (&g_array_index((inventory)->reps, struct hw_rep, i))
#define hw_vdpa_at(inventory, i) (&g_array_index((inventory)->vdpas, struct hw_vdpa, i))

/* Borrowed from the inventory, NULL when it isn't there. A PF goes by netdev or by address. */
const struct hw_pf *hw_find_pf(const HwInventory *inventory, const char *name);
const struct hw_vf *hw_find_vf(const HwInventory *inventory, const char *dev);
const struct hw_rep *hw_find_rep(const HwInventory *inventory, const struct hw_port_key *key);
const struct hw_vdpa_mgmt *hw_find_vdpa_mgmt(const HwInventory *inventory, const char *dev);
const struct hw_vdpa *hw_find_vdpa(const HwInventory *inventory, const char *name);
/* The VF's representor, NULL without one. */
const struct hw_rep *hw_rep_of(const HwInventory *inventory, const struct hw_vf *vf);

/* What a VF is wanted for. */
typedef enum {
    HW_USE_NETDEV,     /* plain SR-IOV, its netdev goes into a container */
    HW_USE_VFIO,       /* plain SR-IOV, the PCI device goes into a VM */
    HW_USE_REP_NETDEV, /* the same two, switched through a representor */
    HW_USE_REP_VFIO,
    HW_USE_VDPA, /* a vDPA device made on the VF, switched through a representor */
} HwUse;
/* Why the VF can't serve, and what to do about it; NULL when it can. Says nothing of claims.
 * Caller frees. */
char *hw_vf_unfit(const HwInventory *inventory, const struct hw_vf *vf, HwUse use);
/* The same of one whose representor may yet come: some drivers make it after the function. */
char *hw_vf_unfit_yet(const HwInventory *inventory, const struct hw_vf *vf, HwUse use);
/* The same of a PF as a whole. Caller frees. */
char *hw_pf_unfit(const HwInventory *inventory, const struct hw_pf *pf, HwUse use);

/* "pf0vf3", "c1pf0vf3" as phys_port_name has them; false for any other name. */
bool hw_port_name_parse(const char *name, struct hw_port_key *ret_key);
char *hw_port_name(const struct hw_port_key *key); /* caller frees */
/* The whole inventory for REST and files; caller owns. */
json_t *hw_inventory_json(const HwInventory *inventory);
