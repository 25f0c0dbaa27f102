/* Addresses, routes, neighbours.
 * I1  Adding what is there and removing what is not succeeds: callers repeat themselves.
 * Called from agent/net on worker threads. */
#include "hw/inet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

struct prefix {
    int family, length;
    guint8 bytes[16];
};

static bool
prefix_parse(const char *text, struct prefix *ret, GError **error)
{
    g_autofree char *address = g_strdup(text);
    char *slash = strchr(address, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    if (inet_pton(AF_INET, address, ret->bytes) == 1) {
        ret->family = AF_INET;
    } else if (inet_pton(AF_INET6, address, ret->bytes) == 1) {
        ret->family = AF_INET6;
    } else {
        return haw_fail(error, HAW_INVALID, "Invalid address \"%s\"", text);
    }
    int most = ret->family == AF_INET ? 32 : 128;
    ret->length = slash != NULL ? atoi(slash + 1) : most;
    if (ret->length < 0 || ret->length > most) {
        return haw_fail(error, HAW_INVALID, "Invalid prefix length in \"%s\"", text);
    }
    return true;
}

static int
family_bytes(int family)
{
    return family == AF_INET ? 4 : 16;
}

static void
address_row(struct nlmsghdr *row, void *data)
{
    GArray *list = data;
    struct nlattr *attrs[IFA_MAX + 1];
    if (row->nlmsg_type != RTM_NEWADDR ||
        nlmsg_parse(row, sizeof(struct ifaddrmsg), attrs, IFA_MAX, NULL) < 0) {
        return;
    }
    const struct ifaddrmsg *header = NLMSG_DATA(row);
    struct nlattr *local = attrs[IFA_LOCAL] != NULL ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];
    if (local == NULL || (header->ifa_family != AF_INET && header->ifa_family != AF_INET6)) {
        return;
    }
    struct inet_address address = {.ifindex = (int) header->ifa_index,
                                   .family = header->ifa_family,
                                   .prefix = header->ifa_prefixlen,
                                   .scope = header->ifa_scope,
                                   .flags = header->ifa_flags};
    inet_ntop(address.family, nla_data(local), address.text, sizeof(address.text));
    g_array_append_val(list, address);
}

GArray *
inet_addresses(NlSock *sock, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct inet_address));
    struct ifaddrmsg header = {.ifa_family = AF_UNSPEC};
    struct nl_msg *msg = nlsock_msg(RTM_GETADDR, NLM_F_DUMP, &header, sizeof(header));
    if (!nlsock_dump(sock, &msg, address_row, list, error, "list addresses")) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

static bool
change_address(NlSock *sock, int type, int flags, int ifindex, const char *cidr, GError **error)
{
    struct prefix prefix;
    if (!prefix_parse(cidr, &prefix, error)) {
        return false;
    }
    struct ifaddrmsg header = {.ifa_family = (guint8) prefix.family,
                               .ifa_prefixlen = (guint8) prefix.length,
                               .ifa_scope = RT_SCOPE_UNIVERSE,
                               .ifa_index = (guint32) ifindex};
    struct nl_msg *msg = nlsock_msg(type, flags, &header, sizeof(header));
    nla_put(msg, IFA_LOCAL, family_bytes(prefix.family), prefix.bytes);
    nla_put(msg, IFA_ADDRESS, family_bytes(prefix.family), prefix.bytes);
    if (prefix.family == AF_INET && prefix.length < 31) {
        guint32 host = 0xffffffffu >> prefix.length;
        guint32 address;
        memcpy(&address, prefix.bytes, 4);
        address |= htonl(host);
        nla_put(msg, IFA_BROADCAST, 4, &address);
    }
    g_autoptr(GError) mine = NULL;
    bool adding = type == RTM_NEWADDR;
    if (nlsock_ask(sock, &msg, &mine, "%s address %s", adding ? "add" : "remove", cidr) ||
        haw_code(mine) == (adding ? HAW_EXISTS : HAW_NOT_FOUND)) { /* I1 */
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

bool
inet_add_address(NlSock *sock, int ifindex, const char *cidr, GError **error)
{
    return change_address(sock, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, cidr, error);
}

bool
inet_flush_addresses(NlSock *sock, int ifindex, int family, const char *const *keep, GError **error)
{
    g_autoptr(GArray) list = inet_addresses(sock, error);
    if (list == NULL) {
        return false;
    }
    for (guint i = 0; i < list->len; i++) {
        const struct inet_address *address = &g_array_index(list, struct inet_address, i);
        if (address->ifindex != ifindex || address->family != family ||
            address->scope != RT_SCOPE_UNIVERSE) {
            continue;
        }
        g_autofree char *cidr = g_strdup_printf("%s/%d", address->text, address->prefix);
        if (keep != NULL && g_strv_contains(keep, cidr)) {
            continue;
        }
        if (!change_address(sock, RTM_DELADDR, 0, ifindex, cidr, error)) {
            return false;
        }
    }
    return true;
}

static struct nl_msg *
route_msg(int type, int flags, const struct inet_route *route, GError **error)
{
    struct prefix to = {.family = route->family};
    struct prefix via = {0};
    struct prefix from = {0};
    if ((route->prefix != NULL && !prefix_parse(route->prefix, &to, error)) ||
        (route->gateway != NULL && !prefix_parse(route->gateway, &via, error)) ||
        (route->source != NULL && !prefix_parse(route->source, &from, error))) {
        return NULL;
    }
    guint table = route->table != 0 ? route->table : RT_TABLE_MAIN;
    struct rtmsg header = {
        .rtm_family = (guint8) to.family,
        .rtm_dst_len = (guint8) to.length,
        .rtm_table = table < 256 ? (guint8) table : RT_TABLE_UNSPEC,
        .rtm_protocol = (guint8) (route->proto != 0 ? route->proto : RTPROT_BOOT),
        .rtm_scope =
            route->gateway == NULL && to.family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST,
    };
    if (type == RTM_DELROUTE) {
        header.rtm_scope = RT_SCOPE_NOWHERE;
    }
    struct nl_msg *msg = nlsock_msg(type, flags, &header, sizeof(header));
    if (to.length > 0) {
        nla_put(msg, RTA_DST, family_bytes(to.family), to.bytes);
    }
    if (route->gateway != NULL) {
        nla_put(msg, RTA_GATEWAY, family_bytes(via.family), via.bytes);
    }
    if (route->source != NULL) {
        nla_put(msg, RTA_PREFSRC, family_bytes(from.family), from.bytes);
    }
    if (route->ifindex != 0) {
        nla_put_u32(msg, RTA_OIF, (guint32) route->ifindex);
    }
    nla_put_u32(msg, RTA_TABLE, table);
    return msg;
}

bool
inet_add_route(NlSock *sock, const struct inet_route *route, GError **error)
{
    struct nl_msg *msg = route_msg(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, error);
    return msg != NULL && nlsock_ask(sock, &msg, error, "add route to %s",
                                     route->prefix != NULL ? route->prefix : "default");
}

bool
inet_del_route(NlSock *sock, const struct inet_route *route, GError **error)
{
    g_autoptr(GError) mine = NULL;
    struct nl_msg *msg = route_msg(RTM_DELROUTE, 0, route, error);
    if (msg == NULL) {
        return false;
    }
    if (nlsock_ask(sock, &msg, &mine, "remove route to %s",
                   route->prefix != NULL ? route->prefix : "default") ||
        haw_code(mine) == HAW_NOT_FOUND) { /* I1 */
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

static void
route_row(struct nlmsghdr *row, void *data)
{
    GArray *list = data;
    struct nlattr *attrs[RTA_MAX + 1];
    if (row->nlmsg_type != RTM_NEWROUTE ||
        nlmsg_parse(row, sizeof(struct rtmsg), attrs, RTA_MAX, NULL) < 0) {
        return;
    }
    const struct rtmsg *header = NLMSG_DATA(row);
    struct inet_route_row route = {.family = header->rtm_family,
                                   .proto = header->rtm_protocol,
                                   .scope = header->rtm_scope,
                                   .type = header->rtm_type,
                                   .table = header->rtm_table};
    if (attrs[RTA_TABLE] != NULL) {
        route.table = nla_get_u32(attrs[RTA_TABLE]);
    }
    if (attrs[RTA_OIF] != NULL) {
        route.ifindex = (int) nla_get_u32(attrs[RTA_OIF]);
    }
    if (attrs[RTA_PRIORITY] != NULL) {
        route.metric = nla_get_u32(attrs[RTA_PRIORITY]);
    }
    if (attrs[RTA_DST] != NULL) {
        char text[INET6_ADDRSTRLEN];
        inet_ntop(route.family, nla_data(attrs[RTA_DST]), text, sizeof(text));
        g_snprintf(route.prefix, sizeof(route.prefix), "%s/%d", text, header->rtm_dst_len);
    }
    if (attrs[RTA_GATEWAY] != NULL) {
        inet_ntop(route.family, nla_data(attrs[RTA_GATEWAY]), route.gateway, sizeof(route.gateway));
    }
    g_array_append_val(list, route);
}

GArray *
inet_routes(NlSock *sock, int family, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct inet_route_row));
    struct rtmsg header = {.rtm_family = (guint8) family};
    struct nl_msg *msg = nlsock_msg(RTM_GETROUTE, NLM_F_DUMP, &header, sizeof(header));
    if (!nlsock_dump(sock, &msg, route_row, list, error, "list routes")) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

int
inet_default_ifindex(NlSock *sock, int family, char ret_gateway[INET6_ADDRSTRLEN])
{
    g_autoptr(GArray) list = inet_routes(sock, family, NULL);
    for (guint i = 0; list != NULL && i < list->len; i++) {
        const struct inet_route_row *route = &g_array_index(list, struct inet_route_row, i);
        if (route->prefix[0] == '\0' && route->table == RT_TABLE_MAIN &&
            route->type == RTN_UNICAST && route->ifindex != 0) {
            if (ret_gateway != NULL) {
                g_strlcpy(ret_gateway, route->gateway, INET6_ADDRSTRLEN);
            }
            return route->ifindex;
        }
    }
    return 0;
}

static bool
change_proxy(NlSock *sock, int type, int flags, int ifindex, const char *address, GError **error)
{
    struct prefix prefix;
    if (!prefix_parse(address, &prefix, error)) {
        return false;
    }
    struct ndmsg header = {.ndm_family = (guint8) prefix.family,
                           .ndm_ifindex = ifindex,
                           .ndm_flags = NTF_PROXY,
                           .ndm_state = NUD_PERMANENT};
    struct nl_msg *msg = nlsock_msg(type, flags, &header, sizeof(header));
    nla_put(msg, NDA_DST, family_bytes(prefix.family), prefix.bytes);
    g_autoptr(GError) mine = NULL;
    bool adding = type == RTM_NEWNEIGH;
    if (nlsock_ask(sock, &msg, &mine, "%s neighbour proxy for %s", adding ? "add" : "remove",
                   address) ||
        haw_code(mine) == (adding ? HAW_EXISTS : HAW_NOT_FOUND)) { /* I1 */
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

bool
inet_proxy_add(NlSock *sock, int ifindex, const char *address, GError **error)
{
    return change_proxy(sock, RTM_NEWNEIGH, NLM_F_CREATE, ifindex, address, error);
}

bool
inet_proxy_del(NlSock *sock, int ifindex, const char *address, GError **error)
{
    return change_proxy(sock, RTM_DELNEIGH, 0, ifindex, address, error);
}

bool
inet_forget_neighbour(NlSock *sock, int ifindex, const char *address, GError **error)
{
    struct prefix prefix;
    if (!prefix_parse(address, &prefix, error)) {
        return false;
    }
    struct ndmsg header = {.ndm_family = (guint8) prefix.family, .ndm_ifindex = ifindex};
    struct nl_msg *msg = nlsock_msg(RTM_DELNEIGH, 0, &header, sizeof(header));
    nla_put(msg, NDA_DST, family_bytes(prefix.family), prefix.bytes);
    g_autoptr(GError) mine = NULL;
    if (nlsock_ask(sock, &msg, &mine, "forget neighbour %s", address) ||
        haw_code(mine) == HAW_NOT_FOUND) { /* I1 */
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

static void
neighbour_row(struct nlmsghdr *row, void *data)
{
    GArray *list = data;
    struct nlattr *attrs[NDA_MAX + 1];
    if (row->nlmsg_type != RTM_NEWNEIGH ||
        nlmsg_parse(row, sizeof(struct ndmsg), attrs, NDA_MAX, NULL) < 0) {
        return;
    }
    const struct ndmsg *header = NLMSG_DATA(row);
    if (attrs[NDA_DST] == NULL || attrs[NDA_LLADDR] == NULL || nla_len(attrs[NDA_LLADDR]) != 6 ||
        (header->ndm_family != AF_INET && header->ndm_family != AF_INET6)) {
        return;
    }
    if ((header->ndm_state & NUD_NOARP) != 0) { /* made up, nobody answered */
        return;
    }
    struct inet_neighbour one = {.ifindex = header->ndm_ifindex};
    const guint8 *mac = nla_data(attrs[NDA_LLADDR]);
    inet_ntop(header->ndm_family, nla_data(attrs[NDA_DST]), one.text, sizeof(one.text));
    g_snprintf(one.mac, sizeof(one.mac), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
               mac[3], mac[4], mac[5]);
    g_array_append_val(list, one);
}

GArray *
inet_neighbours(NlSock *sock, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct inet_neighbour));
    struct ndmsg header = {.ndm_family = AF_UNSPEC};
    struct nl_msg *msg = nlsock_msg(RTM_GETNEIGH, NLM_F_DUMP, &header, sizeof(header));
    if (!nlsock_dump(sock, &msg, neighbour_row, list, error, "list neighbours")) {
        return NULL;
    }
    return g_steal_pointer(&list);
}
