/* The parent of NICs whose addresses it answers for.
 * P1  Switches are set only on an interface that we made; on the host's own they are asked for by name. */
#include "agent/net/proxyparent.h"

#include "agent/net/netjob.h"
#include "agent/net/parent.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/grammar.h"

struct proxyparent
proxyparent_of(const NicUse *use, const char *mode)
{
    const char *made = nicuse_volatile(use, "last_state.created");
    return (struct proxyparent){
        .use = use,
        .mode = mode,
        .ifname = use->parent != NULL ? parent_ifname(use->parent, use->vlan) : NULL,
        .addresses = {grammar_list(nicuse_ip(use, 4, "address")),
                      grammar_list(nicuse_ip(use, 6, "address"))},
        .created = g_strcmp0(made, "true") == 0};
}

void
proxyparent_done(struct proxyparent *parent)
{
    g_free(parent->ifname);
    g_strfreev(parent->addresses[0]);
    g_strfreev(parent->addresses[1]);
}

static bool
require(const struct proxyparent *parent, const char *family, const char *name, GError **error)
{
    g_autofree char *value = netjob_sysctl_get("net/%s/conf/%s/%s", family, parent->ifname, name);
    return g_strcmp0(value, "1") == 0 ||
           haw_fail(error, HAW_CONFLICT, "%s requires sysctl net.%s.conf.%s.%s=1", parent->mode,
                    family, parent->ifname, name);
}

/* P1 */
static bool
require_switches(const struct proxyparent *parent, GError **error)
{
    bool has4 = parent->addresses[0][0] != NULL, has6 = parent->addresses[1][0] != NULL;
    return parent->mode == NULL || ((!has4 || require(parent, "ipv4", "forwarding", error)) &&
                                    (!has6 || (require(parent, "ipv6", "forwarding", error) &&
                                               require(parent, "ipv6", "proxy_ndp", error))));
}

static bool
make_vlan(NlSock *sock, struct proxyparent *parent, GError **error)
{
    const NicUse *use = parent->use;
    guint id = (guint) g_ascii_strtoull(use->vlan, NULL, 10);
    if (!link_add_vlan(sock, parent->ifname, use->parent, id, use->gvrp, error)) {
        return false;
    }
    parent->created = true;
    if (!link_set_up(sock, parent->ifname, true, error)) {
        return false;
    }
    if (parent->mode !=
        NULL) { /* a new interface has none of the switches that its parent was given */
        netjob_sysctl("1", NULL, "net/ipv4/conf/%s/forwarding", parent->ifname);
        netjob_sysctl("1", NULL, "net/ipv6/conf/%s/forwarding", parent->ifname);
        netjob_sysctl("1", NULL, "net/ipv6/conf/%s/proxy_ndp", parent->ifname);
    }
    return true;
}

bool
proxyparent_make(NlSock *sock, struct proxyparent *parent, GError **error)
{
    const NicUse *use = parent->use;
    parent->created = false;
    if (parent->ifname == NULL) {
        return true;
    }
    if (link_index(sock, use->parent) == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Parent device \"%s\" doesn't exist", use->parent);
    }
    if (use->vlan != NULL && link_index(sock, parent->ifname) == 0 &&
        !make_vlan(sock, parent, error)) {
        return false;
    }
    return require_switches(parent, error);
}

bool
proxyparent_announce(NlSock *sock, const struct proxyparent *parent, GError **error)
{
    int ifindex = parent->ifname != NULL ? link_index(sock, parent->ifname) : 0;
    for (int i = 0; ifindex != 0 && i < 2; i++) {
        for (char **address = parent->addresses[i]; *address != NULL; address++) {
            if (!inet_proxy_add(sock, ifindex, *address, error)) {
                return false;
            }
        }
    }
    return true;
}

bool
proxyparent_withdraw(NlSock *sock, const struct proxyparent *parent, GError **error)
{
    int ifindex = parent->ifname != NULL ? link_index(sock, parent->ifname) : 0;
    for (int i = 0; ifindex != 0 && i < 2; i++) {
        for (char **address = parent->addresses[i]; *address != NULL; address++) {
            if (!inet_proxy_del(sock, ifindex, *address, error)) {
                return false;
            }
        }
    }
    return !parent->created || link_del(sock, parent->ifname, error);
}
