/* NICs: the steps that every kind shares. What differs is behind struct nic_driver.
 * I1  A step that fails leaves the host as it was before; one that repeats changes nothing.
 * I2  volatile.NIC.host_name is noted by the caller's config before it is used: nic_stop() finds the
 *     host side by it.
 * Called by agent/inst. */
#include "agent/net/network.h"

#include <string.h>

#include "agent/net/nic_accel.h"
#include "agent/net/nicmove.h"
#include "agent/net/veth.h"
#include "base/fd.h"
#include "proto/keys.h"

/* ---- steps ---- */

bool
nic_validate(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    if (use == NULL || !nickeys_check(use, error)) {
        return false;
    }
    return (use->driver->check == NULL || use->driver->check(use, error)) &&
           (nic->inst == NULL || nicclash_check(use, error));
}

static bool
network_is_up(const NicUse *use, GError **error)
{
    return use->net == NULL || use->net->up ||
           haw_fail(error, HAW_UNAVAILABLE, "Network \"%s\" unavailable on this server",
                    use->net->row->name);
}

/* What QEMU is to be given (vm/vmitem.h). A kind with more to it than a link fills it by itself. */
static json_t *
vm_item(NicUse *use, const char *link)
{
    json_t *item = json_pack("{s:s,s:s}", "kind", "tap", "mac", nicuse_mac(use));
    if (link != NULL) {
        json_object_set_new(item, "link", json_string(link));
    }
    if (use->driver->vm != NULL) {
        use->driver->vm(use, item);
    }
    return item;
}

bool
nic_can_start_inside(NetTable *table, const Nic *nic)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    return use != NULL && use->driver->inside;
}

/* I1 */
static bool
start_inside(NicUse *use, const char *link, GError **error)
{
    bool made = link == NULL && use->driver->inside;
    if ((link == NULL && !made) || nicmove_in(use, link, use->nic->netns, error)) {
        return true;
    }
    use->driver->stop(use, NULL);
    nicuse_set_volatile(use, "host_name", NULL);
    return false;
}

bool
nic_start(NetTable *table, const Nic *nic, json_t **ret_lxc, GError **error)
{
    g_autofree char *link = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    if (use == NULL || !network_is_up(use, error) || !use->driver->start(use, &link, error)) {
        return false;
    }
    if (nicuse_is_vm(use)) {
        *ret_lxc = vm_item(use, link);
        return true;
    }
    if (link == NULL && !start_inside(use, NULL, error)) {
        return false;
    }
    *ret_lxc = link != NULL ? nicuse_lxc(use, link) : json_object();
    if (use->driver->lxc != NULL) {
        use->driver->lxc(use, *ret_lxc);
    }
    return true;
}

bool
nic_stop(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(GError) unknown = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, nic, &unknown);
    if (use == NULL) {
        /* The network is gone or the keys are no longer understood: the veth still has to go, a
         * function to come back. */
        return keys_get(nic->volatiles, "last_state.vf.id") != NULL
                   ? nic_accel_stop(nic, netobj_agent(table), error)
                   : veth_remove(nic_host_name(nic), error);
    }
    if ((nicmove_gives_back(use) && !nicmove_back(use, 0, error)) ||
        !use->driver->stop(use, error)) {
        return false;
    }
    nicuse_set_volatile(use, "host_name", NULL);
    nicuse_set_volatile(use, "hawser.plain", NULL);
    return true;
}

bool
nic_remove(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    return use == NULL || use->net == NULL || use->driver->remove == NULL ||
           use->driver->remove(use, error);
}

/* ---- into and out of a running instance ---- */

bool
nic_hotplug(NetTable *table, const Nic *nic, pid_t pid, GError **error)
{
    g_autofree char *link = NULL;
    haw_autofd int netns = nicmove_netns(pid, error);
    Nic inside = *nic;
    inside.netns = netns;
    g_autoptr(NicUse) use = netns >= 0 ? nicuse_new(table, &inside, error) : NULL;
    if (use != NULL && use->driver->cold) {
        return haw_fail(error, HAW_FAILED, "Device cannot be started when instance is running");
    }
    if (use == NULL || !network_is_up(use, error) || !use->driver->start(use, &link, error)) {
        return false;
    }
    if (!start_inside(use, link, error)) {
        return false;
    }
    if (use->driver->plugged != NULL && !use->driver->plugged(use, pid, error)) {
        use->driver->stop(use, NULL); /* I1 */
        nicuse_set_volatile(use, "host_name", NULL);
        return false;
    }
    if (nicmove_gives_back(use)) {
        netobj_keep_netns(table, use->label, pid);
    }
    return true;
}

bool
nic_hotunplug(NetTable *table, const Nic *nic, pid_t pid, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    if (use != NULL && use->driver->cold) {
        return haw_fail(error, HAW_FAILED, "Device cannot be stopped when instance is running");
    }
    if (use != NULL && nicmove_gives_back(use) && !nicmove_back(use, pid, error)) {
        return false;
    }
    return nic_stop(table, nic, error);
}

static const char *const live_keys[] = {
    "limits.ingress",
    "limits.egress",
    "limits.max",
    "limits.priority",
    "ipv4.routes",
    "ipv6.routes",
    "ipv4.routes.external",
    "ipv6.routes.external",
    "ipv4.address",
    "ipv6.address",
    "security.mac_filtering",
    "security.ipv4_filtering",
    "security.ipv6_filtering",
};

bool
nic_can_update_live(NetTable *table, const Nic *nic, const char *key)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    if (use != NULL && use->driver->live_keys != NULL) {
        g_auto(GStrv) own = g_strsplit(use->driver->live_keys, " ", -1);
        return g_strv_contains((const char *const *) own, key) || g_str_has_prefix(key, "user.");
    }
    const char *nictype = keys_get(nic->config, "nictype");
    bool bridged = nictype == NULL || strcmp(nictype, "bridged") == 0;
    bool veth = bridged || strcmp(nictype, "p2p") == 0 || strcmp(nictype, "routed") == 0;
    for (size_t i = 0; i < G_N_ELEMENTS(live_keys); i++) {
        if (strcmp(live_keys[i], key) == 0) {
            return bridged || (veth && g_str_has_prefix(key, "limits.")) ||
                   (nictype != NULL && strcmp(nictype, "p2p") == 0 &&
                    strstr(key, ".routes") != NULL);
        }
    }
    return g_str_has_prefix(key, "user.");
}

bool
nic_update(NetTable *table, const Nic *nic, json_t *old_config, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    return use != NULL &&
           (use->driver->update == NULL || use->driver->update(use, old_config, error));
}

const char *
nic_host_name(const Nic *nic)
{
    return keys_get(nic->volatiles, "host_name");
}
