/* nldoor.h: what the kernel tells of NICs, one door a question: live over netlink, or from a directory
 * that was recorded on another machine: the same rows for the same parsers.
 * Threads: any, one a NlDoor. Calls block for as long as the kernel takes. */
#pragma once
#include "hw/nlsock.h"

typedef struct NlDoor NlDoor;

/*    name               generic family, command, whether all are told at once */
#define NLDOOR_DOORS(X)                                                                            \
    X(LINKS, "links", "", 0, true)                                                                 \
    X(PORTS, "ports", "devlink", DEVLINK_CMD_PORT_GET, true)                                       \
    X(ESWITCH, "eswitch", "devlink", DEVLINK_CMD_ESWITCH_GET, false)                               \
    X(INFO, "info", "devlink", DEVLINK_CMD_INFO_GET, false)                                        \
    X(VDPA_MGMTS, "vdpa-mgmts", "vdpa", VDPA_CMD_MGMTDEV_GET, true)                                \
    X(VDPA_DEVS, "vdpa-devs", "vdpa", VDPA_CMD_DEV_GET, true)                                      \
    X(VDPA_CONFIGS, "vdpa-configs", "vdpa", VDPA_CMD_DEV_CONFIG_GET, true)                         \
    X(FEATURE_NAMES, "feature-names", "ethtool", ETHTOOL_MSG_STRSET_GET, false)                    \
    X(FEATURES, "features", "ethtool", ETHTOOL_MSG_FEATURES_GET, true)

typedef enum {
#define X(id, name, family, command, dump) NLDOOR_##id,
    NLDOOR_DOORS(X)
#undef X
        NLDOOR_COUNT
} NlDoorId;

/* root "": this machine. Else a recorded one: ROOT/sys/…, and ROOT/netlink/<name>.nl, which are
 * netlink messages as they came. */
NlDoor *nldoor_open(const char *root, GError **error);
void nldoor_close(NlDoor *door);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlDoor, nldoor_close)
/* "/sys", or the recorded one; borrowed. */
const char *nldoor_sysfs(const NlDoor *door);
/* From now on whatever is heard is also written to DIRECTORY/netlink/<name>.nl. */
bool nldoor_record(NlDoor *door, const char *directory, GError **error);

/* Hands each row to fn. A door that tells of one device at a time wants its devlink handle; a
 * recorded door hands out what it has, so parsers look at the handle in the row. A kernel without
 * the family or the answer, and one that doesn't let us ask, has no rows. */
bool nldoor_ask(NlDoor *door, NlDoorId which, const char *bus, const char *dev, NlSockRow fn,
                void *data, GError **error);

/* A generic family's id on this socket, 0 without it; and a request to it. */
int nldoor_family(NlSock *sock, const char *name);
struct nl_msg *nldoor_msg(int family, int command, int flags);
/* The attributes of a generic row, by number; absent ones NULL. False: not such a row. */
bool nldoor_attrs(struct nlmsghdr *row, struct nlattr **ret_attrs, int max);

/* Values of attributes that may be NULL, too short or not terminated: then "" and 'missing'. */
void nldoor_text(const struct nlattr *attr, char *ret_text, size_t size);
guint64 nldoor_uint(const struct nlattr *attr, guint64 missing);
void nldoor_mac(const struct nlattr *attr, char *ret_mac, size_t size);
