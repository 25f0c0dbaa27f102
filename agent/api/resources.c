/* Resources: the host's hardware as LXD shows it.
 * Reading sysfs can take milliseconds (SMBIOS, link state), so a worker does it.
 * Here: the route, memory, PCI devices, the system; CPUs, disks and NICs have files of their own.
 * GPUs and USB devices are not looked at: their lists are empty, in the right form. */
#include "agent/api/resources.h"

#include "base/fiber.h"
#include "hw/sysfs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

/* ---- memory ---- */

/* The value of "Name:   123 kB" in bytes (or plain, for counts); 0 when it is missing. */
static gint64
meminfo(const char *text, const char *name)
{
    g_autofree char *label = g_strdup_printf("%s:", name);
    const char *at = strstr(text, label);
    if (at == NULL) {
        return 0;
    }
    char *end;
    gint64 value = g_ascii_strtoll(at + strlen(label), &end, 10);
    return g_str_has_prefix(end, " kB") ? value * 1024 : value;
}

/* Bytes of the memory blocks that are online below a directory of sysfs: what is plugged in, which the
 * kernel's own use makes MemTotal less than. 0 when the kernel doesn't tell. */
static gint64
plugged_bytes(const char *dir)
{
    g_autofree char *text = sysfs_text("/sys/devices/system/memory/block_size_bytes");
    gint64 block = g_ascii_strtoll(text, NULL, 16), total = 0;
    g_auto(GStrv) names = sysfs_list("%s", dir);
    for (char **name = names; *name != NULL; name++) {
        if (g_str_has_prefix(*name, "memory") && g_ascii_isdigit((*name)[6]) &&
            sysfs_int(0, "%s/%s/online", dir, *name) == 1) {
            total += block;
        }
    }
    return total;
}

static json_t *
memory_node(gint64 node)
{
    g_autofree char *dir = g_strdup_printf("/sys/devices/system/node/node%" G_GINT64_FORMAT, node);
    gint64 plugged = plugged_bytes(dir);
    g_autofree char *text =
        sysfs_text("/sys/devices/system/node/node%" G_GINT64_FORMAT "/meminfo", node);
    gint64 page = 2 * 1024 * 1024;
    gint64 huge = meminfo(text, "HugePages_Total"), huge_free = meminfo(text, "HugePages_Free");
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "numa_node", (json_int_t) node, "hugepages_used",
                     (json_int_t) ((huge - huge_free) * page), "hugepages_total",
                     (json_int_t) (huge * page), "used", (json_int_t) meminfo(text, "MemUsed"),
                     "total", (json_int_t) (plugged > 0 ? plugged : meminfo(text, "MemTotal")));
}

json_t *
resources_memory(void)
{
    g_autofree char *text = sysfs_text("/proc/meminfo");
    g_auto(GStrv) nodes = sysfs_list("/sys/devices/system/node");
    json_t *list = json_array();
    gint64 plugged = plugged_bytes("/sys/devices/system/memory");
    gint64 page = meminfo(text, "Hugepagesize"), total = meminfo(text, "MemTotal");
    gint64 huge = meminfo(text, "HugePages_Total"), huge_free = meminfo(text, "HugePages_Free");
    gint64 unused = meminfo(text, "MemFree") + meminfo(text, "Buffers") + meminfo(text, "Cached") +
                    meminfo(text, "SReclaimable");

    for (char **node = nodes; *node != NULL; node++) {
        if (g_str_has_prefix(*node, "node") && g_ascii_isdigit((*node)[4])) {
            json_array_append_new(list, memory_node(g_ascii_strtoll(*node + 4, NULL, 10)));
        }
    }
    return json_pack("{s:o,s:I,s:I,s:I,s:I,s:I}", "nodes", list, "hugepages_total",
                     (json_int_t) (huge * page), "hugepages_used",
                     (json_int_t) ((huge - huge_free) * page), "hugepages_size", (json_int_t) page,
                     "used", (json_int_t) MAX(total - unused, 0), "total",
                     (json_int_t) (plugged > 0 ? plugged : total));
}

/* ---- PCI ---- */

/* "0x8086" as LXD writes it: "8086". */
static char *
pci_id(const char *address, const char *file)
{
    char *text = sysfs_text("/sys/bus/pci/devices/%s/%s", address, file);
    if (g_str_has_prefix(text, "0x")) {
        memmove(text, text + 2, strlen(text + 2) + 1);
    }
    return text;
}

static char *
driver_version(const char *driver)
{
    struct utsname host;
    char *text = *driver != '\0' ? sysfs_text("/sys/module/%s/version", driver) : g_strdup("");
    if (*text == '\0' && *driver != '\0') {
        uname(&host);
        g_free(text);
        text = g_strdup(host.release); /* built in or unversioned: the kernel's own */
    }
    return text;
}

static gint64
numa_node(const char *address)
{
    return MAX(sysfs_int(0, "/sys/bus/pci/devices/%s/numa_node", address), 0);
}

void
resources_put_pci(json_t *object, const char *pci_address)
{
    if (*pci_address == '\0') {
        json_object_set_new(object, "numa_node", json_integer(0));
        return;
    }
    g_autofree char *vendor = pci_id(pci_address, "vendor");
    g_autofree char *device = pci_id(pci_address, "device");
    json_object_set_new(object, "numa_node", json_integer(numa_node(pci_address)));
    json_object_set_new(object, "pci_address", json_string(pci_address));
    json_object_set_new(object, "vendor_id", json_string(vendor));
    json_object_set_new(object, "product_id", json_string(device));
}

static json_t *
pci_device(const char *address)
{
    g_autofree char *driver = sysfs_link("/sys/bus/pci/devices/%s/driver", address);
    g_autofree char *version = driver_version(driver);
    g_autofree char *group = sysfs_link("/sys/bus/pci/devices/%s/iommu_group", address);
    json_t *device = json_pack("{s:s,s:s,s:s,s:s,s:I,s:{}}", "driver", driver, "driver_version",
                               version, "vendor", "", "product", "", "iommu_group",
                               (json_int_t) g_ascii_strtoll(group, NULL, 10), "vpd");
    resources_put_pci(device, address);
    return device;
}

json_t *
resources_pci(void)
{
    g_auto(GStrv) names = sysfs_list("/sys/bus/pci/devices");
    json_t *list = json_array();
    for (char **name = names; *name != NULL; name++) {
        json_array_append_new(list, pci_device(*name));
    }
    return json_pack("{s:o,s:I}", "devices", list, "total", (json_int_t) json_array_size(list));
}

/* ---- system ---- */

static json_t *
dmi(const char *const (*fields)[2], size_t count)
{
    json_t *object = json_object();
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        g_autofree char *text = sysfs_text("/sys/class/dmi/id/%s", fields[i][1]);
        any = any || *text != '\0';
        json_object_set_new(object, fields[i][0], json_string(text));
    }
    if (!any) {
        json_decref(object);
        return json_null();
    }
    return object;
}

static const char *
system_type(void)
{
    static const char *const virtual[] = {"QEMU",      "VMware", "innotek",    "Xen", "Bochs",
                                          "Parallels", "Google", "Amazon EC2", NULL};
    g_autofree char *vendor = sysfs_text("/sys/class/dmi/id/sys_vendor");
    g_autofree char *cpu = sysfs_text("/proc/cpuinfo");
    if (g_file_test("/run/systemd/container", G_FILE_TEST_EXISTS)) {
        return "container";
    }
    for (const char *const *name = virtual; *name != NULL; name++) {
        if (strstr(vendor, *name) != NULL) {
            return "virtual-machine";
        }
    }
    return strstr(cpu, " hypervisor") != NULL ? "virtual-machine" : "physical";
}

json_t *
resources_system(void)
{
    static const char *const firmware[][2] = {
        {"vendor", "bios_vendor"}, {"date", "bios_date"}, {"version", "bios_version"}};
    static const char *const chassis[][2] = {{"vendor", "chassis_vendor"},
                                             {"type", "chassis_type"},
                                             {"serial", "chassis_serial"},
                                             {"version", "chassis_version"}};
    static const char *const board[][2] = {{"vendor", "board_vendor"},
                                           {"product", "board_name"},
                                           {"serial", "board_serial"},
                                           {"version", "board_version"}};
    static const char *const whole[][2] = {
        {"uuid", "product_uuid"},     {"vendor", "sys_vendor"},       {"product", "product_name"},
        {"family", "product_family"}, {"version", "product_version"}, {"sku", "product_sku"},
        {"serial", "product_serial"}};

    json_t *system = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(whole); i++) {
        g_autofree char *text = sysfs_text("/sys/class/dmi/id/%s", whole[i][1]);
        json_object_set_new(system, whole[i][0], json_string(text));
    }
    json_object_set_new(system, "type", json_string(system_type()));
    json_object_set_new(system, "firmware", dmi(firmware, G_N_ELEMENTS(firmware)));
    json_object_set_new(system, "chassis", dmi(chassis, G_N_ELEMENTS(chassis)));
    json_object_set_new(system, "motherboard", dmi(board, G_N_ELEMENTS(board)));
    return system;
}

/* ---- the route ---- */

/* On a worker. */
static void
gather(void *data)
{
    *(json_t **) data =
        json_pack("{s:o,s:o,s:{s:[],s:i},s:o,s:o,s:{s:[],s:i},s:o,s:o}", "cpu", resources_cpu(),
                  "memory", resources_memory(), "gpu", "cards", "total", 0, "network",
                  resources_network(), "storage", resources_storage(), "usb", "devices", "total", 0,
                  "pci", resources_pci(), "system", resources_system());
}

static bool
get(Request *req, GError **error)
{
    json_t *all = NULL;
    fiber_run(gather, &all);
    return all != NULL ? req_reply(req, all) : haw_fail(error, HAW_BUG, "no resources");
}

const Route resource_routes[] = {
    {"GET", "/1.0/resources", get, 0},
    {NULL},
};
