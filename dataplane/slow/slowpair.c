/* Slow pairs: what stands between a port's interface and its bridge when the datapath reads raw frames.
 * N1  Names follow from the port's id, so a later life finds them again.
 * N2  Both ends complete checksums and neither merges nor segments: what passes is what the switch is to see.
 * Called by fastport.c, whose essay says what a pair is for. */
#include "dataplane/slow/slowpair.h"

#include "base/fd.h"
#include "base/fiber.h"
#include "hw/link.h"
#include "hw/offload.h"

/* N1 */
static void
pair_names(const char *id, char ret_near[IFNAMSIZ], char ret_far[IFNAMSIZ])
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, id, -1);
    g_snprintf(ret_near, IFNAMSIZ, "hws%.10s", sum);
    g_snprintf(ret_far, IFNAMSIZ, "hwo%.10s", sum);
}

static bool
pair_raise(NlSock *sock, const SlowPair *visit, const char *name, GError **error)
{
    g_autofree char *quiet = g_strdup_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    fd_write_kernel(quiet, "1", NULL); /* where there is IPv6 */
    return offload_set_checksum(name, false, error) && offload_set_merge(name, false, error) &&
           link_set_mtu(sock, name, visit->mtu, error) && link_set_up(sock, name, true, error);
}

static bool
pair_make(NlSock *sock, const SlowPair *visit, GError **error)
{
    if (link_index(sock, visit->near) == 0 &&
        !link_add_veth(sock, visit->near, visit->far, visit->mtu, 0, NULL, error)) {
        return false;
    }
    return pair_raise(sock, visit, visit->far, error) &&
           pair_raise(sock, visit, visit->near, error);
}

static void
visit_run(void *data)
{
    SlowPair *visit = data;
    struct link_info info;
    g_autoptr(NlSock) sock = nlsock_open(&visit->error);
    if (sock == NULL || (visit->clear && !link_del(sock, visit->near, &visit->error))) {
        return;
    }
    if (link_get(sock, visit->netdev, &info, NULL)) {
        visit->index = (guint) info.index;
        visit->mtu = visit->mtu != 0 ? visit->mtu : info.mtu;
        if (visit->make && !pair_make(sock, visit, &visit->error)) {
            return;
        }
    }
    visit->near_index = (guint) link_index(sock, visit->near);
}

void
slowpair_visit(SlowPair *visit, const char *id, const Dpd__Port *spec)
{
    g_strlcpy(visit->netdev, spec->netdev, sizeof visit->netdev);
    pair_names(id, visit->near, visit->far);
    visit->mtu = spec->mtu;
    fiber_run(visit_run, visit);
}
