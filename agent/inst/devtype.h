/* devtype.h: what each type of device implements, behind device.c.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/device.h"

typedef struct {
    const char *name;
    bool (*check)(const char *value, GError **error); /* NULL: anything */
    bool required;
} DevtypeOption;

/* NULL members: nothing to do. Calls are as device.h describes them. */
typedef struct {
    const char *type;
    bool hotplug;
    const DevtypeOption *options; /* ends with a NULL name */
    bool (*validate)(Agent *agent, const char *project, const Device *device, GError **error);
    /* Appends [key, value] pairs to 'lxc'. */
    bool (*start)(Agent *agent, const Device *device, json_t *lxc, GError **error);
    /* For a virtual machine: fills 'item' (vm/vmitem.h). NULL: VMs don't have it. */
    bool (*start_vm)(Agent *agent, const Device *device, json_t *item, GError **error);
    bool (*post_start)(Agent *agent, const Device *device, GError **error);
    bool (*stop)(Agent *agent, const Device *device, GError **error);
    void (*adopt)(Agent *agent, const Device *device);
    bool (*plug)(Agent *agent, const Device *device, GError **error);
    bool (*unplug)(Agent *agent, const Device *device, GError **error);
    bool (*update)(Agent *agent, const Device *device, json_t *old_config, bool *ret_done,
                   GError **error);
} Devtype;

extern const Devtype disk_devtype, proxy_devtype, unixdev_char_devtype, unixdev_block_devtype,
    hotplug_unix_devtype, hotplug_usb_devtype, hotplug_gpu_devtype, pcipass_devtype;

/* An option's value, NULL when it is absent or empty. */
const char *devtype_get(const Device *device, const char *option);
bool devtype_get_bool(const Device *device, const char *option, bool fallback);
/* <dir>/devices/<project_instance>; caller frees. */
char *devtype_dir(Agent *agent, const Device *device);
/* "<prefix>.<device>[.<path>]" in it, with "/" made "-" and "-" doubled as LXD names it. */
char *devtype_path(Agent *agent, const Device *device, const char *prefix, const char *path);
/* The map of the instance's next or current start, a new reference; empty when privileged. */
json_t *devtype_idmap(const Device *device);
void devtype_lxc(json_t *lxc, const char *key, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* A path as a field of fstab: blanks as \040. Caller frees. */
char *devtype_fstab(const char *path);
