/* Veth pairs of NICs.
 * V1  The pair is made with one request; what follows either succeeds or takes the pair away again.
 * V2  A rate limit on what the instance sends is a policing tc filter where the kernel has one, else
 *     a rule of nftables' netdev family.
 * V3  A virtual machine has a tap in place of the pair: QEMU is its other end. All else is the same.
 * V4  Where the instance's network namespace is there already the peer is made in it, under its name and
 *     down: the kernel's move of an interface to another namespace takes longer than all the rest of it.
 * Called by the nic files. */
#include "agent/net/veth.h"

#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "agent/net/firewall.h"
#include "agent/net/netjob.h"
#include "agent/net/subnet.h"
#include "base/ids.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "hw/shaper.h"
#include "hw/tap.h"
#include "proto/grammar.h"

struct job {
    const struct veth_spec *spec; /* all borrowed from the waiting fiber */
    const char *mac;
    guint mtu, txqlen;
    guint64 ingress, egress; /* bit/s as the instance sees it; 0: none */
    bool no_police;          /* result: V2 */
};

void
veth_spec_done(struct veth_spec *spec)
{
    g_free(spec->host);
    g_free(spec->peer);
    g_strfreev(spec->routes[0]);
    g_strfreev(spec->routes[1]);
}

/* ---- on the worker ---- */

static bool
set_tagged(NlSock *sock, const struct veth_spec *spec, GError **error)
{
    g_auto(GStrv) list = grammar_list(spec->vlan_tagged);
    for (char **item = list; *item != NULL; item++) {
        g_auto(GStrv) ends = g_strsplit(*item, "-", 2);
        guint first = (guint) atoi(ends[0]);
        guint last = ends[1] != NULL ? (guint) atoi(ends[1]) : first;
        if (!link_port_vlan(sock, spec->host, true, first, last, false, false, error)) {
            return false;
        }
    }
    return true;
}

static bool
set_vlans(NlSock *sock, const struct veth_spec *spec, GError **error)
{
    if (spec->vlan == NULL && spec->vlan_tagged == NULL) {
        return true;
    }
    struct link_info bridge;
    if (!link_get(sock, spec->bridge, &bridge, error)) {
        return false;
    }
    if (!bridge.vlan_filtering) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "VLAN filtering is not enabled in parent bridge \"%s\"", spec->bridge);
    }
    if (spec->vlan != NULL) {
        /* Not there is fine: the bridge may have no default VLAN. */
        link_port_vlan(sock, spec->host, false, 1, 1, false, false, NULL);
        guint id = (guint) atoi(spec->vlan);
        if (strcmp(spec->vlan, "none") != 0 &&
            !link_port_vlan(sock, spec->host, true, id, id, true, true, error)) {
            return false;
        }
    }
    return set_tagged(sock, spec, error);
}

static bool
join_bridge(NlSock *sock, const struct veth_spec *spec, GError **error)
{
    return spec->bridge == NULL ||
           (link_set_master(sock, spec->host, spec->bridge, error) &&
            set_vlans(sock, spec, error) &&
            (!spec->isolated || link_set_port_isolated(sock, spec->host, true, error)) &&
            (!spec->hairpin || link_set_port_hairpin(sock, spec->host, true, error)));
}

static bool
shape(NlSock *sock, struct job *job, bool always, GError **error)
{
    g_autoptr(GError) mine = NULL;
    if ((always || job->ingress != 0) &&
        !shaper_limit_out(sock, job->spec->host, job->ingress, error)) {
        return false;
    }
    if ((!always && job->egress == 0) ||
        shaper_limit_in(sock, job->spec->host, job->egress, &mine)) {
        return true;
    }
    if (haw_code(mine) == HAW_UNSUPPORTED) { /* V2 */
        job->no_police = true;
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&mine));
    return false;
}

struct route_job {
    const char *dev;
    int family;
    char **old, **now; /* borrowed, may be NULL */
};

static bool
route_job(NlSock *sock, void *data, GError **error)
{
    const struct route_job *job = data;
    int ifindex = link_index(sock, job->dev);
    struct inet_route route = {
        .family = job->family == 4 ? AF_INET : AF_INET6, .ifindex = ifindex, .proto = RTPROT_BOOT};
    for (char **prefix = job->old; ifindex != 0 && prefix != NULL && *prefix != NULL; prefix++) {
        route.prefix = *prefix;
        if (job->now != NULL && g_strv_contains((const char *const *) job->now, *prefix)) {
            continue;
        }
        if (!inet_del_route(sock, &route, error)) {
            return false;
        }
    }
    for (char **prefix = job->now; prefix != NULL && *prefix != NULL; prefix++) {
        route.prefix = *prefix;
        if (!inet_add_route(sock, &route, error)) {
            return false;
        }
    }
    return true;
}

static bool
make_routes(NlSock *sock, const struct veth_spec *spec, GError **error)
{
    for (int i = 0; i < 2; i++) {
        struct route_job job = {.dev = spec->route_dev != NULL ? spec->route_dev : spec->host,
                                .family = i == 0 ? 4 : 6,
                                .now = spec->routes[i]};
        if (spec->routes[i] != NULL && !route_job(sock, &job, error)) {
            return false;
        }
    }
    return true;
}

/* V3 */
static bool
add_link(NlSock *sock, const struct job *job, guint mtu, GError **error)
{
    const struct veth_spec *spec = job->spec;
    if (!spec->tap && spec->netns > 0) { /* V4 */
        return link_add_veth_in(sock, spec->host, spec->peer, spec->netns, mtu, job->txqlen,
                                job->mac, error);
    }
    if (!spec->tap) {
        return link_add_veth(sock, spec->host, spec->peer, mtu, job->txqlen, job->mac, error);
    }
    if (!tap_make(spec->host, error)) {
        return false;
    }
    if ((mtu == 0 || link_set_mtu(sock, spec->host, mtu, error)) &&
        (job->txqlen == 0 || link_set_txqlen(sock, spec->host, job->txqlen, error))) {
        return true;
    }
    link_del(sock, spec->host, NULL);
    return false;
}

static bool
make_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    const struct veth_spec *spec = job->spec;
    guint mtu = job->mtu;
    struct link_info bridge;
    if (mtu == 0 && spec->bridge != NULL && link_get(sock, spec->bridge, &bridge, NULL)) {
        mtu = bridge.mtu;
    }
    if (!add_link(sock, job, mtu, error)) {
        return false;
    }
    if (spec->no_ipv6 && netjob_have_ipv6()) {
        netjob_sysctl("1", NULL, "net/ipv6/conf/%s/disable_ipv6", spec->host);
    }
    if (join_bridge(sock, spec, error) && link_set_up(sock, spec->host, true, error) &&
        shape(sock, job, false, error) && make_routes(sock, spec, error)) {
        return true;
    }
    link_del(sock, spec->host, NULL); /* V1 */
    return false;
}

static bool
remove_job(NlSock *sock, void *data, GError **error)
{
    struct link_info info;
    const char *host = data;
    /* A name that something else has taken since is not ours. */
    if (!link_get(sock, host, &info, NULL) ||
        (strcmp(info.kind, "veth") != 0 && strcmp(info.kind, "tun") != 0)) {
        return true;
    }
    return link_del(sock, host, error);
}

static bool
limit_job(NlSock *sock, void *data, GError **error)
{
    return shape(sock, data, true, error);
}

/* ---- on the main loop ---- */

static void
take_limits(const NicUse *use, struct job *job)
{
    gint64 ingress;
    gint64 egress;
    nicuse_limits(use, &ingress, &egress);
    job->ingress = (guint64) ingress;
    job->egress = (guint64) egress;
}

bool
veth_make(NicUse *use, struct veth_spec *spec, GError **error)
{
    const char *configured = nicuse_get(use, "host_name");
    const char *queue = nicuse_get(use, "queue.tx.length");
    spec->tap = nicuse_is_vm(use);
    spec->host = configured != NULL ? g_strdup(configured)
                                    : nicuse_new_host_name(use, spec->tap ? "tap" : "veth");
    spec->netns = !spec->tap && use->driver->inside ? use->nic->netns : 0;
    spec->peer = spec->tap         ? g_strdup(spec->host)
                 : spec->netns > 0 ? g_strdup(nicuse_name(use))
                                   : ids_ifname("veth");
    struct job job = {.spec = spec,
                      .mac = nicuse_mac(use),
                      .mtu = use->mtu,
                      .txqlen = queue != NULL ? (guint) g_ascii_strtoull(queue, NULL, 10) : 0};
    take_limits(use, &job);
    const char *stale = nicuse_volatile(use, "host_name");
    if (stale != NULL && !veth_remove(stale, error)) {
        return false;
    }
    if (!netjob_run(make_job, &job, error)) {
        return false;
    }
    nicuse_set_volatile(use, "host_name", spec->host);
    if (job.no_police && !firewall_limit_set(use->label, spec->host, job.egress, error)) {
        veth_remove(spec->host, NULL);
        nicuse_set_volatile(use, "host_name", NULL);
        return false;
    }
    return true;
}

char *
veth_to_move(const struct veth_spec *spec)
{
    return spec->netns > 0 ? NULL : g_strdup(spec->peer);
}

bool
veth_remove(const char *host, GError **error)
{
    if (host == NULL) {
        return true;
    }
    g_autofree char *copy = g_strdup(host);
    return netjob_run(remove_job, copy, error);
}

bool
veth_set_limits(NicUse *use, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    struct veth_spec spec = {.host = host};
    struct job job = {.spec = &spec};
    if (host == NULL) {
        return true;
    }
    take_limits(use, &job);
    return netjob_run(limit_job, &job, error) &&
           (job.no_police && job.egress != 0
                ? firewall_limit_set(use->label, host, job.egress, error)
                : firewall_limit_clear(use->label, error));
}

bool
veth_clear_limits(NicUse *use, GError **error)
{
    gint64 ingress;
    gint64 egress;
    nicuse_limits(use, &ingress, &egress);
    return egress == 0 || firewall_limit_clear(use->label, error);
}

bool
veth_set_routes(const char *dev, int family, char **old, char **now, GError **error)
{
    struct route_job job = {.dev = dev, .family = family, .old = old, .now = now};
    return (old == NULL || old[0] == NULL) && (now == NULL || now[0] == NULL)
               ? true
               : netjob_run(route_job, &job, error);
}
