/* Networks and uplinks of the fast path between hosts: rows of the maps in bpf/far.bpf.h.
 * R1  A zone's far side exists (its NIC is on) only while one of its networks has a number (VNI) here, and before
 *     any packet can be told to be of that zone.
 * R2  An uplink's row is there before a program that looks for it is attached, and goes after it.
 * R3  A zone that a network leaves or joins is bumped: no flow outlives what it was learned under. */
#include "dataplane/slow/fastfar.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/layout_far.h"

static bool
put(FastLoad *load, const char *map, guint32 key, const void *value, GError **error)
{
    return bpf_map_update_elem(fastload_map(load, map), &key, value, BPF_ANY) == 0 ||
           haw_fail_errno(error, errno, "Write '%u' of '%s'", key, map);
}

/* ---- the far side of zones ---- */

static bool
zone_set(FastLoad *load, guint zone, bool on, guint mtu, GError **error)
{
    struct layout_nic nic = {0};
    if (on) {
        nic.flags = LAYOUT_NIC_ON | LAYOUT_NIC_FAR;
        nic.zone = (guint16) zone;
        nic.mtu = (guint16) (mtu > FAR_HEAD ? MIN(mtu - FAR_HEAD, G_MAXUINT16) : 0);
    }
    return put(load, "haw_nics", LAYOUT_FAR(zone), &nic, error);
}

/* The smallest of the uplinks': a packet may leave by any. It is kept in the row that stands for no zone. */
static guint
mtu_of_all(FastLoad *load)
{
    struct layout_nic nic = {0};
    guint32 key = LAYOUT_FAR(0);
    bpf_map_lookup_elem(fastload_map(load, "haw_nics"), &key, &nic);
    return nic.mtu;
}

static bool
keep_mtu(FastLoad *load, guint mtu, GError **error)
{
    struct layout_nic nic = {.mtu = (guint16) MIN(mtu, G_MAXUINT16)};
    return put(load, "haw_nics", LAYOUT_FAR(0), &nic, error);
}

/* ---- networks ---- */

/* Which zones have networks, by what the map says. */
static void
read_networks(FastLoad *load, GHashTable *ret)
{
    int map = fastload_map(load, "haw_far_zones");
    guint32 vni, next, zone;
    for (const guint32 *at = NULL; bpf_map_get_next_key(map, at, &next) == 0; at = &vni) {
        vni = next;
        if (bpf_map_lookup_elem(map, &vni, &zone) == 0) {
            g_hash_table_insert(ret, GUINT_TO_POINTER(vni), GUINT_TO_POINTER(zone));
        }
    }
}

/* R1, R3 */
static bool
network_join(FastLoad *load, GHashTable *now, const FarNetwork *network, GError **error)
{
    guint32 zone = network->zone;
    gpointer before = g_hash_table_lookup(now, GUINT_TO_POINTER(network->vni));
    if (zone == 0 || zone >= LAYOUT_ZONES) {
        return haw_fail(error, HAW_INVALID, "Network %u: there is no zone %u", network->vni, zone);
    }
    if (!zone_set(load, zone, true, mtu_of_all(load), error) ||
        (GPOINTER_TO_UINT(before) != zone &&
         !put(load, "haw_far_zones", network->vni, &zone, error))) {
        return false;
    }
    if (GPOINTER_TO_UINT(before) != zone) {
        fastload_bump(load, zone);
        if (before != NULL) {
            fastload_bump(load, GPOINTER_TO_UINT(before));
        }
    }
    return true;
}

static bool
network_leave(FastLoad *load, guint32 vni, guint zone, GHashTable *zones, GError **error)
{
    if (bpf_map_delete_elem(fastload_map(load, "haw_far_zones"), &vni) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "Forget network %u", vni);
    }
    fastload_bump(load, zone);
    return g_hash_table_contains(zones, GUINT_TO_POINTER(zone)) ||
           zone_set(load, zone, false, 0, error);
}

bool
fastfar_set_networks(FastLoad *load, const FarNetwork *networks, gsize count, GError **error)
{
    g_autoptr(GHashTable) now = g_hash_table_new(NULL, NULL), zones = g_hash_table_new(NULL, NULL),
                          vnis = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer vni, zone;
    read_networks(load, now);
    for (gsize i = 0; i < count; i++) {
        g_hash_table_add(zones, GUINT_TO_POINTER(networks[i].zone));
        g_hash_table_add(vnis, GUINT_TO_POINTER(networks[i].vni));
        if (!network_join(load, now, &networks[i], error)) {
            return false;
        }
    }
    g_hash_table_iter_init(&iter, now);
    while (g_hash_table_iter_next(&iter, &vni, &zone)) {
        if (!g_hash_table_contains(vnis, vni) &&
            !network_leave(load, GPOINTER_TO_UINT(vni), GPOINTER_TO_UINT(zone), zones, error)) {
            return false;
        }
    }
    return true;
}

/* ---- uplinks ---- */

/* Zones follow the smallest MTU. */
static bool
set_mtu(FastLoad *load, guint mtu, GError **error)
{
    g_autoptr(GHashTable) now = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer zone;
    if (!keep_mtu(load, mtu, error)) {
        return false;
    }
    read_networks(load, now);
    g_hash_table_iter_init(&iter, now);
    while (g_hash_table_iter_next(&iter, NULL, &zone)) {
        if (!zone_set(load, GPOINTER_TO_UINT(zone), true, mtu, error)) {
            return false;
        }
    }
    return true;
}

bool
fastfar_set_uplink(FastLoad *load, guint32 ifindex, guint32 pair, guint mtu, GError **error)
{
    struct layout_uplink row = {ifindex, pair};
    guint before = mtu_of_all(load);
    if (!set_mtu(load, before != 0 ? MIN(before, mtu) : mtu, error) ||
        !put(load, "haw_far_uplinks", ifindex, &row, error) || /* R2 */
        (pair != 0 && !put(load, "haw_far_uplinks", pair, &row, error))) {
        return false;
    }
    if (!fastload_attach(load, "haw_far_out", ifindex, true, error) ||
        !fastload_attach(load, "haw_far_in", pair != 0 ? pair : ifindex, false, error)) {
        fastfar_unset_uplink(load, ifindex, NULL);
        return false;
    }
    return true;
}

bool
fastfar_unset_uplink(FastLoad *load, guint32 ifindex, GError **error)
{
    int map = fastload_map(load, "haw_far_uplinks");
    struct layout_uplink row;
    if (bpf_map_lookup_elem(map, &ifindex, &row) < 0) {
        return true;
    }
    fastload_detach(load, ifindex, true);
    fastload_detach(load, row.pair != 0 ? row.pair : ifindex, false);
    fastload_bump_all(load); /* what goes by it is to be learned anew */
    if ((row.pair != 0 && bpf_map_delete_elem(map, &row.pair) < 0 && errno != ENOENT) ||
        (bpf_map_delete_elem(map, &ifindex) < 0 && errno != ENOENT)) {
        return haw_fail_errno(error, errno, "Forget uplink %u", ifindex);
    }
    g_autoptr(GArray) left = fastfar_uplinks(load);
    return left->len > 0 || set_mtu(load, 0, error);
}

GArray *
fastfar_uplinks(FastLoad *load)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(guint32));
    int map = fastload_map(load, "haw_far_uplinks");
    guint32 key, next;
    struct layout_uplink row;
    for (const guint32 *at = NULL; bpf_map_get_next_key(map, at, &next) == 0; at = &key) {
        key = next;
        if (bpf_map_lookup_elem(map, &key, &row) == 0 && row.ifindex == key) {
            g_array_append_val(list, key);
        }
    }
    return list;
}
