/* Network interfaces over rtnetlink.
 * Requests are spelled as messages, not as libnl's link objects: those lack half of what we need
 * (VLAN filtering, isolation, moves with a rename, namespace ids).
 * K1  A call is one kernel transaction: it happened or it did not.
 * K2  Interfaces are named in requests by name; between a name and its index somebody could rename.
 * Called from agent/net on worker threads. */
#include "hw/link.h"

#include <arpa/inet.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

static struct nl_msg *
link_msg(int type, int flags, const char *name)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *msg = nlsock_msg(type, flags, &header, sizeof(header));
    nla_put_string(msg, IFLA_IFNAME, name);
    return msg;
}

static struct nl_msg *
new_msg(const char *name)
{
    return link_msg(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name);
}

static bool
mac_parse(const char *text, guint8 ret_mac[6])
{
    return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &ret_mac[0], &ret_mac[1],
                  &ret_mac[2], &ret_mac[3], &ret_mac[4], &ret_mac[5]) == 6;
}

static bool
put_mac(struct nl_msg *msg, const char *mac, GError **error)
{
    guint8 bytes[6];
    if (!mac_parse(mac, bytes)) {
        return haw_fail(error, HAW_INVALID, "Invalid MAC address \"%s\"", mac);
    }
    nla_put(msg, IFLA_ADDRESS, sizeof(bytes), bytes);
    return true;
}

static bool
parent_index(NlSock *sock, const char *parent, guint32 *ret_index, GError **error)
{
    int index = link_index(sock, parent);
    if (index == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Interface \"%s\" not found", parent);
    }
    *ret_index = (guint32) index;
    return true;
}

bool
link_add(NlSock *sock, const char *name, const char *kind, GError **error)
{
    struct nl_msg *msg = new_msg(name);
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, kind);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "add %s '%s'", kind, name);
}

bool
link_add_veth(NlSock *sock, const char *name, const char *peer, guint mtu, guint txqlen,
              const char *peer_mac, GError **error)
{
    return link_add_veth_in(sock, name, peer, -1, mtu, txqlen, peer_mac, error);
}

bool
link_add_veth_in(NlSock *sock, const char *name, const char *peer, int netns_fd, guint mtu,
                 guint txqlen, const char *peer_mac, GError **error)
{
    struct nl_msg *msg = new_msg(name);
    if (mtu != 0) {
        nla_put_u32(msg, IFLA_MTU, mtu);
    }
    if (txqlen != 0) {
        nla_put_u32(msg, IFLA_TXQLEN, txqlen);
    }
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, "veth");
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    struct nlattr *other = nla_nest_start(msg, VETH_INFO_PEER);
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    nlmsg_append(msg, &header, sizeof(header), NLMSG_ALIGNTO);
    nla_put_string(msg, IFLA_IFNAME, peer);
    if (netns_fd >= 0) {
        nla_put_u32(msg, IFLA_NET_NS_FD, (guint32) netns_fd);
    }
    if (mtu != 0) {
        nla_put_u32(msg, IFLA_MTU, mtu);
    }
    if (txqlen != 0) {
        nla_put_u32(msg, IFLA_TXQLEN, txqlen);
    }
    if (peer_mac != NULL && !put_mac(msg, peer_mac, error)) {
        nlmsg_free(msg);
        return false;
    }
    nla_nest_end(msg, other);
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "add veth pair '%s', '%s'", name, peer);
}

bool
link_add_vlan(NlSock *sock, const char *name, const char *parent, guint id, bool gvrp,
              GError **error)
{
    guint32 index;
    if (!parent_index(sock, parent, &index, error)) {
        return false;
    }
    struct nl_msg *msg = new_msg(name);
    nla_put_u32(msg, IFLA_LINK, index);
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, "vlan");
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    nla_put_u16(msg, IFLA_VLAN_ID, (guint16) id);
    if (gvrp) {
        struct ifla_vlan_flags flags = {.flags = 0x2, .mask = 0x2}; /* VLAN_FLAG_GVRP */
        nla_put(msg, IFLA_VLAN_FLAGS, sizeof(flags), &flags);
    }
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "add VLAN interface '%s' on '%s'", name, parent);
}

static bool
add_macv(NlSock *sock, const char *kind, const char *name, const char *parent, guint mode,
         const char *mac, GError **error)
{
    guint32 index;
    if (!parent_index(sock, parent, &index, error)) {
        return false;
    }
    struct nl_msg *msg = new_msg(name);
    nla_put_u32(msg, IFLA_LINK, index);
    if (mac != NULL && !put_mac(msg, mac, error)) {
        nlmsg_free(msg);
        return false;
    }
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, kind);
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    nla_put_u32(msg, IFLA_MACVLAN_MODE, mode);
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "add %s interface '%s' on '%s'", kind, name, parent);
}

bool
link_add_macvlan(NlSock *sock, const char *name, const char *parent, guint mode, const char *mac,
                 GError **error)
{
    return add_macv(sock, "macvlan", name, parent, mode, mac, error);
}

bool
link_add_macvtap(NlSock *sock, const char *name, const char *parent, guint mode, const char *mac,
                 GError **error)
{
    return add_macv(sock, "macvtap", name, parent, mode, mac, error);
}

static bool
put_address(struct nl_msg *msg, int attr4, int attr6, const char *text, GError **error)
{
    guint8 bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1) {
        nla_put(msg, attr4, 4, bytes);
    } else if (inet_pton(AF_INET6, text, bytes) == 1) {
        nla_put(msg, attr6, 16, bytes);
    } else {
        return haw_fail(error, HAW_INVALID, "Invalid address \"%s\"", text);
    }
    return true;
}

bool
link_add_vxlan(NlSock *sock, const char *name, const struct link_tunnel *tunnel, GError **error)
{
    guint32 index = 0;
    if (tunnel->dev != NULL && !parent_index(sock, tunnel->dev, &index, error)) {
        return false;
    }
    struct nl_msg *msg = new_msg(name);
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, "vxlan");
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    nla_put_u32(msg, IFLA_VXLAN_ID, tunnel->id);
    nla_put_u8(msg, IFLA_VXLAN_TTL, (guint8) tunnel->ttl);
    if (index != 0) {
        nla_put_u32(msg, IFLA_VXLAN_LINK, index);
    }
    if (tunnel->port != 0) {
        nla_put_u16(msg, IFLA_VXLAN_PORT, htons((guint16) tunnel->port));
    }
    const char *far = tunnel->group != NULL ? tunnel->group : tunnel->remote;
    bool ok = (far == NULL || put_address(msg, IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6, far, error)) &&
              (tunnel->local == NULL ||
               put_address(msg, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6, tunnel->local, error));
    if (!ok) {
        nlmsg_free(msg);
        return false;
    }
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "add VXLAN tunnel '%s'", name);
}

bool
link_add_gretap(NlSock *sock, const char *name, const struct link_tunnel *tunnel, GError **error)
{
    bool six = strchr(tunnel->remote, ':') != NULL;
    struct nl_msg *msg = new_msg(name);
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, six ? "ip6gretap" : "gretap");
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    bool ok = put_address(msg, IFLA_GRE_LOCAL, IFLA_GRE_LOCAL, tunnel->local, error) &&
              put_address(msg, IFLA_GRE_REMOTE, IFLA_GRE_REMOTE, tunnel->remote, error);
    if (!ok) {
        nlmsg_free(msg);
        return false;
    }
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "add GRE tunnel '%s'", name);
}

bool
link_del(NlSock *sock, const char *name, GError **error)
{
    g_autoptr(GError) mine = NULL;
    struct nl_msg *msg = link_msg(RTM_DELLINK, 0, name);
    if (nlsock_ask(sock, &msg, &mine, "remove interface '%s'", name) ||
        haw_code(mine) == HAW_NOT_FOUND) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

bool
link_set_up(NlSock *sock, const char *name, bool up, GError **error)
{
    struct ifinfomsg header = {
        .ifi_family = AF_UNSPEC, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
    struct nl_msg *msg = nlsock_msg(RTM_NEWLINK, 0, &header, sizeof(header));
    nla_put_string(msg, IFLA_IFNAME, name);
    return nlsock_ask(sock, &msg, error, "bring interface '%s' %s", name, up ? "up" : "down");
}

bool
link_set_mtu(NlSock *sock, const char *name, guint mtu, GError **error)
{
    struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, name);
    nla_put_u32(msg, IFLA_MTU, mtu);
    return nlsock_ask(sock, &msg, error, "set MTU %u on '%s'", mtu, name);
}

bool
link_set_mac(NlSock *sock, const char *name, const char *mac, GError **error)
{
    struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, name);
    if (!put_mac(msg, mac, error)) {
        nlmsg_free(msg);
        return false;
    }
    return nlsock_ask(sock, &msg, error, "set MAC address %s on '%s'", mac, name);
}

bool
link_set_name(NlSock *sock, const char *name, const char *new_name, GError **error)
{
    guint32 index;
    if (!parent_index(sock, name, &index, error)) {
        return false;
    }
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC, .ifi_index = (int) index};
    struct nl_msg *msg = nlsock_msg(RTM_NEWLINK, 0, &header, sizeof(header));
    nla_put_string(msg, IFLA_IFNAME, new_name);
    return nlsock_ask(sock, &msg, error, "rename interface '%s' to '%s'", name, new_name);
}

bool
link_set_txqlen(NlSock *sock, const char *name, guint length, GError **error)
{
    struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, name);
    nla_put_u32(msg, IFLA_TXQLEN, length);
    return nlsock_ask(sock, &msg, error, "set queue length %u on '%s'", length, name);
}

bool
link_set_master(NlSock *sock, const char *name, const char *master, GError **error)
{
    guint32 index = 0;
    if (master != NULL && !parent_index(sock, master, &index, error)) {
        return false;
    }
    struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, name);
    nla_put_u32(msg, IFLA_MASTER, index);
    return nlsock_ask(sock, &msg, error, "attach interface '%s' to '%s'", name,
                      master != NULL ? master : "nothing");
}

bool
link_move(NlSock *sock, const char *name, int netns_fd, const char *new_name, GError **error)
{
    guint32 index;
    if (!link_set_up(sock, name, false, error) || !parent_index(sock, name, &index, error)) {
        return false;
    }
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC, .ifi_index = (int) index};
    struct nl_msg *msg = nlsock_msg(RTM_NEWLINK, 0, &header, sizeof(header));
    nla_put_u32(msg, IFLA_NET_NS_FD, (guint32) netns_fd);
    nla_put_string(msg, IFLA_IFNAME, new_name);
    return nlsock_ask(sock, &msg, error, "move interface '%s' as '%s'", name, new_name);
}

bool
link_set_bridge(NlSock *sock, const char *name, int attr, guint value, size_t value_bytes,
                GError **error)
{
    struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, name);
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    nla_put_string(msg, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    guint8 v8 = (guint8) value;
    guint16 v16 = (guint16) value;
    guint32 v32 = value;
    const void *bytes = value_bytes == 1 ? (void *) &v8 : value_bytes == 2 ? (void *) &v16 : &v32;
    nla_put(msg, attr, (int) value_bytes, bytes);
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "configure bridge '%s'", name);
}

static bool
set_port_flag(NlSock *sock, const char *name, int attr, bool on, GError **error)
{
    guint32 index;
    if (!parent_index(sock, name, &index, error)) {
        return false;
    }
    struct ifinfomsg header = {.ifi_family = PF_BRIDGE, .ifi_index = (int) index};
    struct nl_msg *msg = nlsock_msg(RTM_SETLINK, 0, &header, sizeof(header));
    struct nlattr *info = nla_nest_start(msg, IFLA_PROTINFO | NLA_F_NESTED);
    nla_put_u8(msg, attr, on ? 1 : 0);
    nla_nest_end(msg, info);
    return nlsock_ask(sock, &msg, error, "configure bridge port '%s'", name);
}

bool
link_set_port_isolated(NlSock *sock, const char *name, bool isolated, GError **error)
{
    return set_port_flag(sock, name, IFLA_BRPORT_ISOLATED, isolated, error);
}

bool
link_set_port_hairpin(NlSock *sock, const char *name, bool on, GError **error)
{
    return set_port_flag(sock, name, IFLA_BRPORT_MODE, on, error);
}

bool
link_port_vlan(NlSock *sock, const char *name, bool add, guint first, guint last, bool pvid,
               bool untagged, GError **error)
{
    guint32 index;
    if (!parent_index(sock, name, &index, error)) {
        return false;
    }
    struct ifinfomsg header = {.ifi_family = PF_BRIDGE, .ifi_index = (int) index};
    struct nl_msg *msg = nlsock_msg(add ? RTM_SETLINK : RTM_DELLINK, 0, &header, sizeof(header));
    struct nlattr *spec = nla_nest_start(msg, IFLA_AF_SPEC);
    struct bridge_vlan_info info = {.flags = (guint16) ((pvid ? BRIDGE_VLAN_INFO_PVID : 0) |
                                                        (untagged ? BRIDGE_VLAN_INFO_UNTAGGED : 0)),
                                    .vid = (guint16) first};
    if (first == last) {
        nla_put(msg, IFLA_BRIDGE_VLAN_INFO, sizeof(info), &info);
    } else {
        info.flags |= BRIDGE_VLAN_INFO_RANGE_BEGIN;
        nla_put(msg, IFLA_BRIDGE_VLAN_INFO, sizeof(info), &info);
        info.flags =
            (guint16) ((info.flags & ~BRIDGE_VLAN_INFO_RANGE_BEGIN) | BRIDGE_VLAN_INFO_RANGE_END);
        info.vid = (guint16) last;
        nla_put(msg, IFLA_BRIDGE_VLAN_INFO, sizeof(info), &info);
    }
    nla_nest_end(msg, spec);
    return nlsock_ask(sock, &msg, error, "%s VLAN %u on bridge port '%s'", add ? "add" : "remove",
                      first, name);
}

bool
link_set_vf(NlSock *sock, const char *pf, guint vf, const char *mac, int vlan, int spoofcheck,
            GError **error)
{
    struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, pf);
    struct nlattr *list = nla_nest_start(msg, IFLA_VFINFO_LIST);
    struct nlattr *info = nla_nest_start(msg, IFLA_VF_INFO);
    if (mac != NULL) {
        struct ifla_vf_mac set = {.vf = vf};
        if (!mac_parse(mac, set.mac)) {
            nlmsg_free(msg);
            return haw_fail(error, HAW_INVALID, "Invalid MAC address \"%s\"", mac);
        }
        nla_put(msg, IFLA_VF_MAC, sizeof(set), &set);
    }
    if (vlan >= 0) {
        struct ifla_vf_vlan set = {.vf = vf, .vlan = (guint32) vlan};
        nla_put(msg, IFLA_VF_VLAN, sizeof(set), &set);
    }
    if (spoofcheck >= 0) {
        struct ifla_vf_spoofchk set = {.vf = vf, .setting = (guint32) spoofcheck};
        nla_put(msg, IFLA_VF_SPOOFCHK, sizeof(set), &set);
    }
    nla_nest_end(msg, info);
    nla_nest_end(msg, list);
    return nlsock_ask(sock, &msg, error, "configure VF %u of '%s'", vf, pf);
}

static void
read_bridge(struct nlattr *data, struct link_info *info)
{
    struct nlattr *attrs[IFLA_BR_MAX + 1];
    if (nla_parse_nested(attrs, IFLA_BR_MAX, data, NULL) < 0) {
        return;
    }
    if (attrs[IFLA_BR_VLAN_FILTERING] != NULL) {
        info->vlan_filtering = nla_get_u8(attrs[IFLA_BR_VLAN_FILTERING]);
    }
    if (attrs[IFLA_BR_FORWARD_DELAY] != NULL) {
        info->forward_delay = nla_get_u32(attrs[IFLA_BR_FORWARD_DELAY]);
    }
    if (attrs[IFLA_BR_STP_STATE] != NULL) {
        info->stp = (int) nla_get_u32(attrs[IFLA_BR_STP_STATE]) != 0;
    }
    if (attrs[IFLA_BR_BRIDGE_ID] != NULL) {
        const struct ifla_bridge_id *id = nla_data(attrs[IFLA_BR_BRIDGE_ID]);
        g_snprintf(info->bridge_id, sizeof(info->bridge_id), "%02x%02x.%02x%02x%02x%02x%02x%02x",
                   id->prio[0], id->prio[1], id->addr[0], id->addr[1], id->addr[2], id->addr[3],
                   id->addr[4], id->addr[5]);
    }
}

static void
read_kind(struct nlattr *linkinfo, struct link_info *info)
{
    struct nlattr *attrs[IFLA_INFO_MAX + 1];
    if (nla_parse_nested(attrs, IFLA_INFO_MAX, linkinfo, NULL) < 0 ||
        attrs[IFLA_INFO_KIND] == NULL) {
        return;
    }
    g_strlcpy(info->kind, nla_get_string(attrs[IFLA_INFO_KIND]), sizeof(info->kind));
    struct nlattr *data = attrs[IFLA_INFO_DATA];
    if (data != NULL && strcmp(info->kind, "bridge") == 0) {
        read_bridge(data, info);
    } else if (data != NULL && strcmp(info->kind, "vlan") == 0) {
        struct nlattr *id = nla_find(nla_data(data), nla_len(data), IFLA_VLAN_ID);
        info->vlan_id = id != NULL ? nla_get_u16(id) : 0;
    }
}

static void
read_counters(const struct nlattr *attr, struct link_counters *ret)
{
    struct rtnl_link_stats64 stats = {0};
    memcpy(&stats, nla_data(attr), MIN(sizeof(stats), (size_t) nla_len(attr)));
    *ret = (struct link_counters){
        .rx_bytes = stats.rx_bytes,
        .tx_bytes = stats.tx_bytes,
        .rx_packets = stats.rx_packets,
        .tx_packets = stats.tx_packets,
        .rx_errors = stats.rx_errors,
        .tx_errors = stats.tx_errors,
        .rx_dropped = stats.rx_dropped,
        .tx_dropped = stats.tx_dropped,
    };
}

static bool
read_link(struct nlmsghdr *row, struct link_info *ret)
{
    struct nlattr *attrs[IFLA_MAX + 1];
    if (row->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(row, sizeof(struct ifinfomsg), attrs, IFLA_MAX, NULL) < 0 ||
        attrs[IFLA_IFNAME] == NULL) {
        return false;
    }
    const struct ifinfomsg *header = NLMSG_DATA(row);
    struct link_info info = {.index = header->ifi_index,
                             .flags = header->ifi_flags,
                             .type = header->ifi_type,
                             .parent_netnsid = -1};
    g_strlcpy(info.name, nla_get_string(attrs[IFLA_IFNAME]), sizeof(info.name));
    info.mtu = attrs[IFLA_MTU] != NULL ? nla_get_u32(attrs[IFLA_MTU]) : 0;
    info.txqlen = attrs[IFLA_TXQLEN] != NULL ? nla_get_u32(attrs[IFLA_TXQLEN]) : 0;
    info.master = attrs[IFLA_MASTER] != NULL ? (int) nla_get_u32(attrs[IFLA_MASTER]) : 0;
    info.parent = attrs[IFLA_LINK] != NULL ? (int) nla_get_u32(attrs[IFLA_LINK]) : 0;
    if (attrs[IFLA_LINK_NETNSID] != NULL) {
        info.parent_netnsid = (int) nla_get_u32(attrs[IFLA_LINK_NETNSID]);
    }
    if (attrs[IFLA_ADDRESS] != NULL && nla_len(attrs[IFLA_ADDRESS]) == 6) {
        const guint8 *mac = nla_data(attrs[IFLA_ADDRESS]);
        g_snprintf(info.mac, sizeof(info.mac), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
                   mac[2], mac[3], mac[4], mac[5]);
    }
    if (attrs[IFLA_STATS64] != NULL) {
        read_counters(attrs[IFLA_STATS64], &info.counters);
    }
    if (attrs[IFLA_LINKINFO] != NULL) {
        read_kind(attrs[IFLA_LINKINFO], &info);
    }
    *ret = info;
    return true;
}

static void
list_row(struct nlmsghdr *row, void *data)
{
    GArray *list = data;
    struct link_info info;
    if (read_link(row, &info)) {
        g_array_append_val(list, info);
    }
}

GArray *
link_list(NlSock *sock, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct link_info));
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *msg = nlsock_msg(RTM_GETLINK, NLM_F_DUMP, &header, sizeof(header));
    if (!nlsock_dump(sock, &msg, list_row, list, error, "list interfaces")) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

bool
link_get(NlSock *sock, const char *name, struct link_info *ret_info, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct link_info));
    if (strlen(name) >= IFNAMSIZ) {
        return haw_fail(error, HAW_NOT_FOUND, "Interface \"%s\" not found", name);
    }
    struct nl_msg *msg = link_msg(RTM_GETLINK, 0, name);
    if (!nlsock_dump(sock, &msg, list_row, list, error, "look at interface '%s'", name)) {
        return false;
    }
    if (list->len == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Interface \"%s\" not found", name);
    }
    *ret_info = g_array_index(list, struct link_info, 0);
    return true;
}

int
link_index(NlSock *sock, const char *name)
{
    struct link_info info = {0};
    return link_get(sock, name, &info, NULL) ? info.index : 0;
}

static void
nsid_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *id = row->nlmsg_type == RTM_NEWNSID
                            ? nlmsg_find_attr(row, sizeof(struct rtgenmsg), NETNSA_NSID)
                            : NULL;
    if (id != NULL) {
        *(int *) data = (int) nla_get_u32(id);
    }
}

int
link_netnsid(NlSock *sock, int netns_fd)
{
    int id = -1;
    struct rtgenmsg header = {.rtgen_family = AF_UNSPEC};
    struct nl_msg *msg = nlsock_msg(RTM_GETNSID, 0, &header, sizeof(header));
    nla_put_u32(msg, NETNSA_FD, (guint32) netns_fd);
    nlsock_dump(sock, &msg, nsid_row, &id, NULL, "look at a network namespace");
    return id;
}
