/* After a restart of the agent: NICs of instances that were found running.
 * A1  hawser-dpd is told the whole only when every port is known: what it has beyond that goes.
 * Called when the agent's networks are up. */
#include "agent/dpd/dpdclient.h"
#include "agent/inst/inst.h"
#include "agent/net/nicmove.h"
#include "base/log.h"
#include "proto/keys.h"

#include <string.h>

/* volatile.DEVICE.* without that prefix, a new reference. */
static json_t *
volatiles_of(Inst *inst, const char *device)
{
    json_t *found = json_object();
    g_autofree char *prefix = g_strdup_printf("volatile.%s.", device);
    const char *key;
    json_t *value;
    json_object_foreach (inst_config(inst), key, value) {
        if (g_str_has_prefix(key, prefix)) {
            json_object_set(found, key + strlen(prefix), value);
        }
    }
    return found;
}

static bool
adopt_nic(NetTable *table, Inst *inst, const char *device, json_t *config)
{
    json_t *volatiles = volatiles_of(inst, device);
    Nic nic = {.project = inst_project(inst),
               .inst = inst_name(inst),
               .device = device,
               .inst_type = inst_type(inst),
               .config = config,
               .volatiles = volatiles,
               .inst_id = inst_id(inst)};
    g_autoptr(GError) error = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, &nic, &error);
    if (use != NULL && nicmove_gives_back(use)) {
        netobj_keep_netns(table, use->label, inst_pid(inst));
    }
    bool ok = use != NULL && (use->driver->adopt == NULL || use->driver->adopt(use, &error));
    if (!ok) {
        haw_warn("nic.not_adopted", KS("inst", nic.inst), KS("nic", device),
                 KS("why", error->message));
    }
    json_decref(volatiles);
    return ok;
}

void
nicadopt_all(NetTable *table)
{
    InstTable *instances = netobj_agent(table)->instances;
    g_autoptr(GPtrArray) list = inst_list(instances, NULL);
    bool all = true;
    for (guint i = 0; i < list->len; i++) {
        Inst *inst = g_ptr_array_index(list, i);
        json_t *devices = json_incref(inst_expanded_devices(inst));
        const char *device;
        json_t *config;
        json_object_foreach (devices, device, config) {
            if (g_strcmp0(keys_get(config, "type"), "nic") == 0 && inst_pid(inst) > 0) {
                all = adopt_nic(table, inst, device, config) && all;
            }
        }
        json_decref(devices);
    }
    /* Without one of them the rest is not the whole: hawser-dpd keeps what it has. */
    if (all && netobj_agent(table)->dpd != NULL) {
        dpdclient_settle(netobj_agent(table)->dpd);
    }
}
