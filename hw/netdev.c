/* Interfaces as hardware, from one rtnetlink dump that carries the PFs' VF tables.
 * X1  Statistics are left out of the question: for 256 VFs they are most of the answer.
 * X2  What a driver does not tell stays -1: restoring it would invent a value.
 * X3  A value that is so already is not set: putting back what one found can't fail on drivers that
 *     tell a property but don't let it be set. (The kernel stops at the first value that a driver
 *     refuses, and keeps those before it.) */
#include "hw/netdev.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

enum { VF_MAX = 4096 };

void
netdev_info_done(struct netdev_info *info)
{
    if (info->vfs != NULL) {
        g_array_unref(info->vfs);
    }
}

static void
clear_info(void *data)
{
    netdev_info_done(data);
}

/* A value of a struct that starts with the VF's number; false when the attribute is not one. */
static bool
vf_value(struct nlattr *attr, void *ret, size_t size)
{
    if (attr == NULL || (size_t) nla_len(attr) < size) {
        return false;
    }
    memcpy(ret, nla_data(attr), size);
    return true;
}

static void
read_vf_rates(struct nlattr **attrs, struct hw_vf_props *props)
{
    struct ifla_vf_rate rate;
    struct ifla_vf_tx_rate tx;
    if (vf_value(attrs[IFLA_VF_RATE], &rate, sizeof rate)) {
        props->min_mbps = rate.min_tx_rate;
        props->max_mbps = rate.max_tx_rate;
    } else if (vf_value(attrs[IFLA_VF_TX_RATE], &tx, sizeof tx)) {
        props->max_mbps = tx.rate;
    }
}

/* One VF of the table; appends those that the driver skipped, too. */
static void
read_vf(struct nlattr *entry, GArray *vfs)
{
    struct nlattr *attrs[IFLA_VF_MAX + 1];
    struct ifla_vf_mac mac;
    struct ifla_vf_vlan vlan;
    struct ifla_vf_spoofchk spoofchk;
    struct ifla_vf_trust trust;
    struct ifla_vf_link_state state;
    struct hw_vf_props props;

    if (nla_parse_nested(attrs, IFLA_VF_MAX, entry, NULL) < 0 ||
        !vf_value(attrs[IFLA_VF_MAC], &mac, sizeof mac) || mac.vf >= VF_MAX) {
        return;
    }
    hw_vf_props_none(&props);
    while (vfs->len <= mac.vf) {
        g_array_append_val(vfs, props);
    }
    g_snprintf(props.mac, sizeof props.mac, "%02x:%02x:%02x:%02x:%02x:%02x", mac.mac[0], mac.mac[1],
               mac.mac[2], mac.mac[3], mac.mac[4], mac.mac[5]);
    if (vf_value(attrs[IFLA_VF_VLAN], &vlan, sizeof vlan)) {
        props.vlan = (int) vlan.vlan;
        props.qos = (int) vlan.qos;
    }
    if (vf_value(attrs[IFLA_VF_SPOOFCHK], &spoofchk, sizeof spoofchk)) {
        props.spoofchk = (int) spoofchk.setting; /* (__u32) -1: not told (X2) */
    }
    if (vf_value(attrs[IFLA_VF_TRUST], &trust, sizeof trust)) {
        props.trust = (int) trust.setting;
    }
    if (vf_value(attrs[IFLA_VF_LINK_STATE], &state, sizeof state) && state.link_state <= 2) {
        props.link_state = (int) state.link_state;
    }
    read_vf_rates(attrs, &props);
    g_array_index(vfs, struct hw_vf_props, mac.vf) = props;
}

static GArray *
read_vfs(struct nlattr *list)
{
    GArray *vfs = g_array_new(FALSE, FALSE, sizeof(struct hw_vf_props));
    struct nlattr *entry;
    int left;
    nla_for_each_nested(entry, list, left)
    {
        if (nla_type(entry) == IFLA_VF_INFO) {
            read_vf(entry, vfs);
        }
    }
    return vfs;
}

static void
read_kind(struct nlattr *linkinfo, struct netdev_info *info)
{
    struct nlattr *attrs[IFLA_INFO_MAX + 1], *mode;
    if (nla_parse_nested(attrs, IFLA_INFO_MAX, linkinfo, NULL) < 0) {
        return;
    }
    nldoor_text(attrs[IFLA_INFO_KIND], info->kind, sizeof info->kind);
    if (strcmp(info->kind, "bond") == 0 && attrs[IFLA_INFO_DATA] != NULL) {
        mode = nla_find(nla_data(attrs[IFLA_INFO_DATA]), nla_len(attrs[IFLA_INFO_DATA]),
                        IFLA_BOND_MODE);
        info->bond_mode = (int) nldoor_uint(mode, 0);
    }
}

static void
read_switch_id(const struct nlattr *attr, char *ret_id)
{
    const guint8 *bytes = attr != NULL ? nla_data(attr) : NULL;
    for (int i = 0; attr != NULL && i < nla_len(attr) && i < 32; i++) {
        g_snprintf(ret_id + 2 * i, 3, "%02x", bytes[i]);
    }
}

bool
netdev_parse(struct nlmsghdr *row, struct netdev_info *ret_info)
{
    struct nlattr *attrs[IFLA_MAX + 1];
    if ((row->nlmsg_type != RTM_NEWLINK && row->nlmsg_type != RTM_DELLINK) ||
        row->nlmsg_len < NLMSG_HDRLEN + sizeof(struct ifinfomsg) ||
        nlmsg_parse(row, sizeof(struct ifinfomsg), attrs, IFLA_MAX, NULL) < 0) {
        return false;
    }
    const struct ifinfomsg *header = NLMSG_DATA(row);
    /* A bridge tells of its ports by the same types. */
    if (header->ifi_family != AF_UNSPEC) {
        return false;
    }
    struct netdev_info info = {
        .index = header->ifi_index, .flags = header->ifi_flags, .bond_mode = -1};
    nldoor_text(attrs[IFLA_IFNAME], info.name, sizeof info.name);
    nldoor_mac(attrs[IFLA_ADDRESS], info.mac, sizeof info.mac);
    nldoor_text(attrs[IFLA_PHYS_PORT_NAME], info.port_name, sizeof info.port_name);
    nldoor_text(attrs[IFLA_PARENT_DEV_BUS_NAME], info.parent_bus, sizeof info.parent_bus);
    nldoor_text(attrs[IFLA_PARENT_DEV_NAME], info.parent_dev, sizeof info.parent_dev);
    read_switch_id(attrs[IFLA_PHYS_SWITCH_ID], info.switch_id);
    info.mtu = (guint) nldoor_uint(attrs[IFLA_MTU], 0);
    info.master = (int) nldoor_uint(attrs[IFLA_MASTER], 0);
    info.link = (int) nldoor_uint(attrs[IFLA_LINK], 0);
    info.link_elsewhere = attrs[IFLA_LINK_NETNSID] != NULL;
    info.carrier = (int) nldoor_uint(attrs[IFLA_CARRIER], (guint64) -1);
    if (attrs[IFLA_LINKINFO] != NULL) {
        read_kind(attrs[IFLA_LINKINFO], &info);
    }
    if (attrs[IFLA_VFINFO_LIST] != NULL) {
        info.vfs = read_vfs(attrs[IFLA_VFINFO_LIST]);
    }
    *ret_info = info;
    return true;
}

static void
link_row(struct nlmsghdr *row, void *data)
{
    GArray *list = data;
    struct netdev_info info;
    if (row->nlmsg_type == RTM_NEWLINK && netdev_parse(row, &info)) {
        g_array_append_val(list, info);
    }
}

/* X1 */
GArray *
netdev_list(NlDoor *door, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct netdev_info));
    g_array_set_clear_func(list, clear_info);
    if (!nldoor_ask(door, NLDOOR_LINKS, NULL, NULL, link_row, list, error)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

bool
netdev_get(NlSock *sock, int index, const char *name, struct netdev_info *ret_info, GError **error)
{
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(struct netdev_info));
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC, .ifi_index = index};
    struct nl_msg *msg = nlsock_msg(RTM_GETLINK, 0, &header, sizeof header);
    if (index == 0) {
        nla_put_string(msg, IFLA_IFNAME, name);
    }
    nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS);
    bool ok =
        nlsock_dump(sock, &msg, link_row, found, error, "look at interface '%s'", name) &&
        (found->len == 1 || haw_fail(error, HAW_NOT_FOUND, "there is no interface '%s'", name));
    if (ok) {
        *ret_info = g_array_index(found, struct netdev_info, 0);
    }
    return ok;
}

/* Puts what is to be changed; false for a MAC that is none. */
static bool
put_props(struct nl_msg *msg, guint vf, const struct hw_vf_props *props)
{
    struct ifla_vf_mac mac = {.vf = vf};
    if (props->mac[0] != '\0') {
        guint8 *to = mac.mac;
        if (sscanf(props->mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", to, to + 1, to + 2, to + 3,
                   to + 4, to + 5) != 6) {
            return false;
        }
        nla_put(msg, IFLA_VF_MAC, sizeof mac, &mac);
    }
    if (props->vlan >= 0) {
        struct ifla_vf_vlan set = {
            .vf = vf, .vlan = (guint32) props->vlan, .qos = (guint32) MAX(props->qos, 0)};
        nla_put(msg, IFLA_VF_VLAN, sizeof set, &set);
    }
    if (props->min_mbps >= 0 || props->max_mbps >= 0) {
        struct ifla_vf_rate set = {.vf = vf,
                                   .min_tx_rate = (guint32) MAX(props->min_mbps, 0),
                                   .max_tx_rate = (guint32) MAX(props->max_mbps, 0)};
        nla_put(msg, IFLA_VF_RATE, sizeof set, &set);
    }
    if (props->spoofchk >= 0) {
        struct ifla_vf_spoofchk set = {.vf = vf, .setting = (guint32) props->spoofchk};
        nla_put(msg, IFLA_VF_SPOOFCHK, sizeof set, &set);
    }
    if (props->link_state >= 0) {
        struct ifla_vf_link_state set = {.vf = vf, .link_state = (guint32) props->link_state};
        nla_put(msg, IFLA_VF_LINK_STATE, sizeof set, &set);
    }
    if (props->trust >= 0) {
        struct ifla_vf_trust set = {.vf = vf, .setting = (guint32) props->trust};
        nla_put(msg, IFLA_VF_TRUST, sizeof set, &set);
    }
    return true;
}

/* Takes out what is so already: a driver may tell a value that it can't be told (X3). */
static bool
drop_same(struct hw_vf_props *want, const struct hw_vf_props *now)
{
    if (g_ascii_strcasecmp(want->mac, now->mac) == 0) {
        want->mac[0] = '\0';
    }
    if (want->vlan == now->vlan && (want->qos < 0 || want->qos == now->qos)) {
        want->vlan = -1;
    }
    if (want->min_mbps == now->min_mbps && want->max_mbps == now->max_mbps) {
        want->min_mbps = want->max_mbps = -1;
    }
    want->spoofchk = want->spoofchk == now->spoofchk ? -1 : want->spoofchk;
    want->trust = want->trust == now->trust ? -1 : want->trust;
    want->link_state = want->link_state == now->link_state ? -1 : want->link_state;
    return want->mac[0] != '\0' || want->vlan >= 0 || want->min_mbps >= 0 || want->max_mbps >= 0 ||
           want->spoofchk >= 0 || want->trust >= 0 || want->link_state >= 0;
}

bool
netdev_set_vf(NlSock *sock, const char *pf, guint vf, const struct hw_vf_props *props,
              GError **error)
{
    struct netdev_info now;
    if (!netdev_get(sock, 0, pf, &now, error)) {
        return haw_push(error, "look at its VFs");
    }
    struct hw_vf_props want = *props;
    bool known = now.vfs != NULL && vf < now.vfs->len;
    bool same = known && !drop_same(&want, &g_array_index(now.vfs, struct hw_vf_props, vf));
    netdev_info_done(&now);
    if (!known) {
        return haw_fail(error, HAW_NOT_FOUND, "'%s' has no VF %u", pf, vf);
    }
    if (same) {
        return true;
    }
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *msg = nlsock_msg(RTM_NEWLINK, 0, &header, sizeof header);
    nla_put_string(msg, IFLA_IFNAME, pf);
    struct nlattr *list = nla_nest_start(msg, IFLA_VFINFO_LIST);
    struct nlattr *info = nla_nest_start(msg, IFLA_VF_INFO);
    if (!put_props(msg, vf, &want)) {
        nlmsg_free(msg);
        return haw_fail(error, HAW_INVALID, "Invalid MAC address \"%s\"", props->mac);
    }
    nla_nest_end(msg, info);
    nla_nest_end(msg, list);
    return nlsock_ask(sock, &msg, error, "configure VF %u of '%s'", vf, pf);
}
