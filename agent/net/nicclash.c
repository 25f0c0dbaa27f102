/* What two NICs on one bridge or ovn network may not share: a MAC, an address, the instance's name in DNS.
 * Looked for when a NIC is validated on an instance, against every other instance's NICs on the same
 * bridge and VLAN, or on the same ovn network. */
#include <string.h>

#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "agent/net/nicuse.h"
#include "agent/net/subnet.h"
#include "proto/keys.h"

struct other {
    Inst *inst;
    const char *device;
    json_t *config; /* borrowed */
};

/* The bridge that a NIC's config names; NULL when it is on none. */
static const char *
bridge_of(json_t *config)
{
    const char *type = keys_get(config, "type");
    const char *nictype = keys_get(config, "nictype");
    if (g_strcmp0(type, "nic") != 0 || (nictype != NULL && strcmp(nictype, "bridged") != 0)) {
        return NULL;
    }
    const char *network = keys_get(config, "network");
    return network != NULL ? network : keys_get(config, "parent");
}

static const char *
mac_of(const struct other *other)
{
    g_autofree char *key = g_strdup_printf("volatile.%s.hwaddr", other->device);
    const char *set = keys_get(other->config, "hwaddr");
    return set != NULL ? set : keys_get(inst_config(other->inst), key);
}

static bool
check_address(NicUse *use, const struct other *other, int family, GError **error)
{
    g_autofree char *key = g_strdup_printf("ipv%d.address", family);
    const char *mine = nicuse_get(use, key);
    const char *theirs = keys_get(other->config, key);
    return mine == NULL || theirs == NULL || !subnet_same_address(mine, theirs) ||
           haw_fail(error, HAW_EXISTS, "IP address \"%s\" already defined on another NIC", mine);
}

static bool
check_other(NicUse *use, const struct other *other, bool same_inst, GError **error)
{
    const char *mine = nicuse_get(use, "hwaddr");
    const char *theirs = mac_of(other);
    mine = mine != NULL ? mine : nicuse_volatile(use, "hwaddr");
    if (mine != NULL && theirs != NULL && g_ascii_strcasecmp(mine, theirs) == 0) {
        return haw_fail(error, HAW_EXISTS, "MAC address \"%s\" already defined on another NIC",
                        mine);
    }
    const char *mode = use->net != NULL ? netobj_get(use->net, "dns.mode") : "none";
    bool named = mode == NULL || strcmp(mode, "none") != 0;
    bool nested = nicuse_get(use, "nested") != NULL || keys_get(other->config, "nested") != NULL;
    if (named && !(same_inst && nested) &&
        (same_inst || g_ascii_strcasecmp(inst_name(other->inst), use->nic->inst) == 0)) {
        g_autofree char *name = g_ascii_strdown(use->nic->inst, -1);
        return haw_fail(error, HAW_EXISTS, "Instance DNS name \"%s\" already used on network",
                        name);
    }
    return check_address(use, other, 4, error) && check_address(use, other, 6, error);
}

/* Is another NIC on what ours is on? */
static bool
beside(const NicUse *use, Inst *inst, json_t *config)
{
    if (use->driver == &nic_ovn) {
        Agent *agent = netobj_agent(use->table);
        return g_strcmp0(keys_get(config, "type"), "nic") == 0 &&
               g_strcmp0(keys_get(config, "network"), use->net->row->name) == 0 &&
               strcmp(project_for_networks(agent, inst_project(inst)), use->net->row->project) == 0;
    }
    return g_strcmp0(bridge_of(config), bridge_of(use->nic->config)) == 0 &&
           g_strcmp0(keys_get(config, "vlan"), nicuse_get(use, "vlan")) == 0;
}

static bool
check_inst(NicUse *use, Inst *inst, GError **error)
{
    const char *device;
    json_t *config;
    /* While an instance moves to another pool or project there are two with its uuid. */
    const char *uuid = keys_get(inst_config(inst), "volatile.uuid");
    bool same = (strcmp(inst_name(inst), use->nic->inst) == 0 &&
                 strcmp(inst_project(inst), use->nic->project) == 0) ||
                (uuid != NULL && g_strcmp0(uuid, use->nic->uuid) == 0);
    json_object_foreach (inst_expanded_devices(inst), device, config) {
        struct other other = {.inst = inst, .device = device, .config = config};
        if ((same && strcmp(device, use->nic->device) == 0) || !beside(use, inst, config)) {
            continue;
        }
        if (!check_other(use, &other, same, error)) {
            return false;
        }
    }
    return true;
}

bool
nicclash_check(NicUse *use, GError **error)
{
    bool asked = use->driver == &nic_ovn ||
                 (use->driver == &nic_bridged && bridge_of(use->nic->config) != NULL);
    InstTable *instances = netobj_agent(use->table)->instances;
    if (!asked || instances == NULL) {
        return true;
    }
    g_autoptr(GPtrArray) list = inst_list(instances, NULL);
    for (guint i = 0; i < list->len; i++) {
        if (!check_inst(use, g_ptr_array_index(list, i), error)) {
            return false;
        }
    }
    return true;
}
