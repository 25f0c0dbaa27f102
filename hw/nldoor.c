/* Doors to what the kernel tells of NICs. One dump a family, and for the two questions that devlink
 * answers only by device, one request a PF.
 * D1  Attributes are read by their length: recorded bytes come from strangers.
 * Called by kernel.c and by the parsers of each family. */
#include "hw/nldoor.h"

#include <fcntl.h>
#include <linux/devlink.h>
#include <linux/ethtool.h>
#include <linux/ethtool_netlink.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/vdpa.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

enum { RECORD_MAX = 64 * 1024 * 1024 };

static const struct {
    const char *name, *family;
    int command;
    bool dump;
} doors[] = {
#define X(id, name_, family_, command_, dump_) {name_, family_, command_, dump_},
    NLDOOR_DOORS(X)
#undef X
};

struct NlDoor {
    NlSock *route, *generic; /* owned; NULL when recorded */
    char *root, *sysfs;      /* owned */
    char *record;            /* owned; where to, NULL */
    GHashTable *families;    /* name → id + 1 */
};

NlDoor *
nldoor_open(const char *root, GError **error)
{
    g_autoptr(NlDoor) door = g_new0(NlDoor, 1);
    door->root = g_strdup(root);
    door->sysfs = g_strconcat(root, "/sys", NULL);
    door->families = g_hash_table_new(g_str_hash, g_str_equal);
    if (*root == '\0') {
        door->route = nlsock_open(error);
        door->generic = door->route != NULL ? nlsock_open_generic(error) : NULL;
        if (door->generic == NULL) {
            return NULL;
        }
    }
    return g_steal_pointer(&door);
}

void
nldoor_close(NlDoor *door)
{
    if (door != NULL) {
        nlsock_close(door->route);
        nlsock_close(door->generic);
        g_free(door->root);
        g_free(door->sysfs);
        g_free(door->record);
        g_hash_table_unref(door->families);
        g_free(door);
    }
}

const char *
nldoor_sysfs(const NlDoor *door)
{
    return door->sysfs;
}

bool
nldoor_record(NlDoor *door, const char *directory, GError **error)
{
    g_free(door->record);
    door->record = g_build_filename(directory, "netlink", NULL);
    return fd_mkdir_p(door->record, 0755, error);
}

static void
family_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[CTRL_ATTR_MAX + 1];
    if (nldoor_attrs(row, attrs, CTRL_ATTR_MAX)) {
        *(int *) data = (int) nldoor_uint(attrs[CTRL_ATTR_FAMILY_ID], 0);
    }
}

int
nldoor_family(NlSock *sock, const char *name)
{
    int id = 0;
    struct nl_msg *msg = nldoor_msg(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
    nla_put_string(msg, CTRL_ATTR_FAMILY_NAME, name);
    nlsock_dump(sock, &msg, family_row, &id, NULL, "find netlink family '%s'", name);
    return id;
}

struct nl_msg *
nldoor_msg(int family, int command, int flags)
{
    struct genlmsghdr header = {.cmd = (guint8) command, .version = 1};
    return nlsock_msg(family, flags, &header, sizeof header);
}

bool
nldoor_attrs(struct nlmsghdr *row, struct nlattr **ret_attrs, int max)
{
    return row->nlmsg_len >= NLMSG_HDRLEN + GENL_HDRLEN &&
           nlmsg_parse(row, GENL_HDRLEN, ret_attrs, max, NULL) >= 0;
}

struct keep {
    NlSockRow fn;
    void *data;
    int fd;
};

static void
keep_row(struct nlmsghdr *row, void *data)
{
    struct keep *keep = data;
    if (keep->fd >= 0) {
        fd_write_all(keep->fd, row, NLMSG_ALIGN(row->nlmsg_len), "record", NULL);
    }
    keep->fn(row, keep->data);
}

/* What each family wants to hear beside the command. */
static void
put_question(struct nl_msg *msg, NlDoorId which, const char *bus, const char *dev)
{
    struct nlattr *nest, *sets, *set;
    switch (which) {
    case NLDOOR_ESWITCH:
    case NLDOOR_INFO:
        nla_put_string(msg, DEVLINK_ATTR_BUS_NAME, bus);
        nla_put_string(msg, DEVLINK_ATTR_DEV_NAME, dev);
        break;
    case NLDOOR_FEATURE_NAMES:
        /* The header must be there, and not be empty. */
        nest = nla_nest_start(msg, ETHTOOL_A_STRSET_HEADER);
        nla_put_u32(msg, ETHTOOL_A_HEADER_FLAGS, ETHTOOL_FLAG_COMPACT_BITSETS);
        nla_nest_end(msg, nest);
        sets = nla_nest_start(msg, ETHTOOL_A_STRSET_STRINGSETS);
        set = nla_nest_start(msg, ETHTOOL_A_STRINGSETS_STRINGSET);
        nla_put_u32(msg, ETHTOOL_A_STRINGSET_ID, ETH_SS_FEATURES);
        nla_nest_end(msg, set);
        nla_nest_end(msg, sets);
        break;
    case NLDOOR_FEATURES:
        nest = nla_nest_start(msg, ETHTOOL_A_FEATURES_HEADER);
        nla_put_u32(msg, ETHTOOL_A_HEADER_FLAGS, ETHTOOL_FLAG_COMPACT_BITSETS);
        nla_nest_end(msg, nest);
        break;
    default:
        break;
    }
}

static int
family_of(NlDoor *door, const char *name)
{
    int id = GPOINTER_TO_INT(g_hash_table_lookup(door->families, name));
    if (id == 0) {
        id = nldoor_family(door->generic, name) + 1;
        g_hash_table_insert(door->families, (void *) (guintptr) name, GINT_TO_POINTER(id));
    }
    return id - 1;
}

static bool
ask_live(NlDoor *door, NlDoorId which, const char *bus, const char *dev, struct keep *keep,
         GError **error)
{
    g_autoptr(GError) why = NULL;
    int flags = doors[which].dump ? NLM_F_DUMP : 0;
    bool done;
    if (which == NLDOOR_LINKS) {
        struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
        struct nl_msg *msg = nlsock_msg(RTM_GETLINK, flags, &header, sizeof header);
        nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS);
        return nlsock_dump(door->route, &msg, keep_row, keep, error, "list interfaces");
    }
    int family = family_of(door, doors[which].family);
    if (family <= 0) {
        return true;
    }
    struct nl_msg *msg = nldoor_msg(family, doors[which].command, flags);
    put_question(msg, which, bus, dev);
    done = nlsock_dump(door->generic, &msg, keep_row, keep, &why, "ask %s for %s",
                       doors[which].family, doors[which].name);
    HawCode code = done ? HAW_FAILED : haw_code(why);
    if (done || code == HAW_NOT_FOUND || code == HAW_UNSUPPORTED || code == HAW_DENIED) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool
ask_recorded(NlDoor *door, NlDoorId which, NlSockRow fn, void *data, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/netlink/%s.nl", door->root, doors[which].name);
    g_autoptr(GError) why = NULL;
    size_t size;
    g_autofree char *bytes = fd_read_file(path, RECORD_MAX, &size, &why);
    if (bytes == NULL) {
        if (haw_code(why) == HAW_NOT_FOUND) {
            return true;
        }
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    int left = (int) size;
    for (struct nlmsghdr *row = (struct nlmsghdr *) bytes; nlmsg_ok(row, left);
         row = nlmsg_next(row, &left)) {
        fn(row, data);
    }
    return true;
}

bool
nldoor_ask(NlDoor *door, NlDoorId which, const char *bus, const char *dev, NlSockRow fn, void *data,
           GError **error)
{
    if (door->route == NULL) {
        return ask_recorded(door, which, fn, data, error);
    }
    haw_autofd int fd = -1;
    if (door->record != NULL) {
        g_autofree char *path = g_strdup_printf("%s/%s.nl", door->record, doors[which].name);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    struct keep keep = {.fn = fn, .data = data, .fd = fd};
    return ask_live(door, which, bus, dev, &keep, error);
}

void
nldoor_text(const struct nlattr *attr, char *ret_text, size_t size)
{
    size_t length = attr != NULL ? strnlen(nla_data(attr), (size_t) nla_len(attr)) : 0;
    length = MIN(length, size - 1);
    if (length > 0) {
        memcpy(ret_text, nla_data(attr), length);
    }
    ret_text[length] = '\0';
    /* Names go into JSON and messages. */
    if (!g_utf8_validate(ret_text, -1, NULL)) {
        *ret_text = '\0';
    }
}

guint64
nldoor_uint(const struct nlattr *attr, guint64 missing)
{
    switch (attr != NULL ? nla_len(attr) : 0) {
    case 1:
        return nla_get_u8(attr);
    case 2:
        return nla_get_u16(attr);
    case 4:
        return nla_get_u32(attr);
    case 8:
        return nla_get_u64(attr);
    default:
        return missing;
    }
}

void
nldoor_mac(const struct nlattr *attr, char *ret_mac, size_t size)
{
    ret_mac[0] = '\0';
    if (attr != NULL && nla_len(attr) >= 6) {
        const guint8 *mac = nla_data(attr);
        g_snprintf(ret_mac, size, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                   mac[4], mac[5]);
    }
}
