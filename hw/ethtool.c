/* ethtool over generic netlink: one dump of all features as bit sets, and the names of the bits, as the
 * number of a feature differs between kernels. */
#include "hw/ethtool.h"

#include <linux/ethtool.h>
#include <linux/ethtool_netlink.h>
#include <string.h>

static const char tc_offload[] = "hw-tc-offload";

/* One bit's name; its index when it is the one that we want. */
static void
read_name(struct nlattr *string, int *ret_bit)
{
    struct nlattr *attrs[ETHTOOL_A_STRING_MAX + 1];
    char name[32];
    if (nla_parse_nested(attrs, ETHTOOL_A_STRING_MAX, string, NULL) < 0) {
        return;
    }
    nldoor_text(attrs[ETHTOOL_A_STRING_VALUE], name, sizeof name);
    if (strcmp(name, tc_offload) == 0) {
        *ret_bit = (int) MIN(nldoor_uint(attrs[ETHTOOL_A_STRING_INDEX], 0xffff), 0xffff);
    }
}

static void
names_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[ETHTOOL_A_STRSET_MAX + 1], *set, *string;
    int left, more;
    if (!nldoor_attrs(row, attrs, ETHTOOL_A_STRSET_MAX) ||
        attrs[ETHTOOL_A_STRSET_STRINGSETS] == NULL) {
        return;
    }
    nla_for_each_nested(set, attrs[ETHTOOL_A_STRSET_STRINGSETS], left)
    {
        struct nlattr *in[ETHTOOL_A_STRINGSET_MAX + 1];
        if (nla_parse_nested(in, ETHTOOL_A_STRINGSET_MAX, set, NULL) < 0 ||
            in[ETHTOOL_A_STRINGSET_STRINGS] == NULL) {
            continue;
        }
        nla_for_each_nested(string, in[ETHTOOL_A_STRINGSET_STRINGS], more)
        {
            read_name(string, data);
        }
    }
}

struct features {
    GHashTable *by_index;
    int bit;
};

static void
features_row(struct nlmsghdr *row, void *data)
{
    const struct features *features = data;
    struct nlattr *attrs[ETHTOOL_A_FEATURES_MAX + 1], *header[ETHTOOL_A_HEADER_MAX + 1],
        *bits[ETHTOOL_A_BITSET_MAX + 1];
    size_t at = (size_t) features->bit / 32;
    if (!nldoor_attrs(row, attrs, ETHTOOL_A_FEATURES_MAX) ||
        attrs[ETHTOOL_A_FEATURES_HEADER] == NULL || attrs[ETHTOOL_A_FEATURES_ACTIVE] == NULL ||
        nla_parse_nested(header, ETHTOOL_A_HEADER_MAX, attrs[ETHTOOL_A_FEATURES_HEADER], NULL) <
            0 ||
        nla_parse_nested(bits, ETHTOOL_A_BITSET_MAX, attrs[ETHTOOL_A_FEATURES_ACTIVE], NULL) < 0 ||
        bits[ETHTOOL_A_BITSET_VALUE] == NULL ||
        (size_t) nla_len(bits[ETHTOOL_A_BITSET_VALUE]) < (at + 1) * 4) {
        return;
    }
    guint32 word;
    memcpy(&word, (char *) nla_data(bits[ETHTOOL_A_BITSET_VALUE]) + at * 4, sizeof word);
    int index = (int) nldoor_uint(header[ETHTOOL_A_HEADER_DEV_INDEX], 0);
    bool on = (word >> (features->bit % 32) & 1) != 0;
    g_hash_table_insert(features->by_index, GINT_TO_POINTER(index), GINT_TO_POINTER(on ? 1 : 2));
}

GHashTable *
ethtool_tc_offload(NlDoor *door, GError **error)
{
    g_autoptr(GHashTable) by_index = g_hash_table_new(NULL, NULL);
    struct features features = {.by_index = by_index, .bit = -1};
    if (!nldoor_ask(door, NLDOOR_FEATURE_NAMES, NULL, NULL, names_row, &features.bit, error)) {
        return NULL;
    }
    if (features.bit >= 0 &&
        !nldoor_ask(door, NLDOOR_FEATURES, NULL, NULL, features_row, &features, error)) {
        return NULL;
    }
    return g_steal_pointer(&by_index);
}

bool
ethtool_set_tc_offload(const char *netdev, bool on, GError **error)
{
    g_autoptr(NlSock) sock = nlsock_open_generic(error);
    int family = sock != NULL ? nldoor_family(sock, ETHTOOL_GENL_NAME) : 0;
    if (sock == NULL) {
        return false;
    }
    if (family == 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "this kernel has no ethtool over netlink");
    }
    struct nl_msg *msg = nldoor_msg(family, ETHTOOL_MSG_FEATURES_SET, 0);
    struct nlattr *header = nla_nest_start(msg, ETHTOOL_A_FEATURES_HEADER);
    nla_put_string(msg, ETHTOOL_A_HEADER_DEV_NAME, netdev);
    nla_nest_end(msg, header);
    struct nlattr *wanted = nla_nest_start(msg, ETHTOOL_A_FEATURES_WANTED);
    struct nlattr *bits = nla_nest_start(msg, ETHTOOL_A_BITSET_BITS);
    struct nlattr *bit = nla_nest_start(msg, ETHTOOL_A_BITSET_BITS_BIT);
    nla_put_string(msg, ETHTOOL_A_BITSET_BIT_NAME, tc_offload);
    if (on) {
        nla_put_flag(msg, ETHTOOL_A_BITSET_BIT_VALUE);
    }
    nla_nest_end(msg, bit);
    nla_nest_end(msg, bits);
    nla_nest_end(msg, wanted);
    return nlsock_ask(sock, &msg, error, "turn hw-tc-offload of '%s' %s", netdev,
                      on ? "on" : "off");
}
