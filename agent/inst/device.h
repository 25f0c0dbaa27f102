/* device.h: an instance's devices other than NICs: disk, proxy, unix-char, unix-block, none.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

typedef struct {
    Inst *inst;       /* borrowed */
    const char *name; /* of the device */
    json_t *config;   /* expanded device */
    const char
        *inst_type; /* for device_validate(): of the instance, also of one that is not there yet;
                            * NULL: a profile */
    const char
        *idmap; /* of the start that is under way, not stored yet; NULL: as the instance has it */
} Device;

/* Keys and values of any device type but nic (that is net/network.h). On a profile ('inst' NULL in
 * the Device) only what can be known there is checked. LXD's texts. Yields. */
bool device_validate(Agent *agent, const char *project, const Device *device, GError **error);
/* Before the start: mounts sources, makes nodes. *ret_lxc: array of [key, value] pairs for the
 * container's configuration (lxc.mount.entry, lxc.cgroup.devices.allow, …), a new reference. */
bool device_start(Agent *agent, const Device *device, json_t **ret_lxc, GError **error);
/* The same for a virtual machine: *ret_item is what QEMU is to be given (vm/vmitem.h), an object, empty
 * for nothing; a new reference. A type that VMs don't have is UNSUPPORTED. */
bool device_start_vm(Agent *agent, const Device *device, json_t **ret_item, GError **error);
/* Once init runs: proxies, watches. */
bool device_post_start(Agent *agent, const Device *device, GError **error);
/* After the stop; repeats safely, also when the start failed half-way. */
bool device_stop(Agent *agent, const Device *device, GError **error);
/* The agent was restarted and found the instance running: counts mounts again, watches again. */
void device_adopt(Agent *agent, const Device *device);
/* Into, and out of, a running container. */
bool device_hotplug(Agent *agent, const Device *device, GError **error);
bool device_hotunplug(Agent *agent, const Device *device, GError **error);
bool device_can_hotplug(const Device *device);
/* Changes that need no unplug (limits.*, size): true when it was done in place. */
bool device_update(Agent *agent, const Device *device, json_t *old_config, bool *ret_done,
                   GError **error);
/* Whether instances of the type ("container", "virtual-machine") can have devices of this one's. */
bool device_fits(const Device *device, const char *inst_type);
/* Whether this device is the root disk: type disk, path "/". */
bool device_is_root(const Device *device);
