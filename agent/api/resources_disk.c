/* Resources: disks and their partitions; no loop, RAM, device-mapper, RAID or zram devices, which are
 * made of others. */
#include "agent/api/resources.h"

#include "hw/sysfs.h"

#include <stdlib.h>
#include <string.h>

static bool
is_disk(const char *name)
{
    static const char *const made[] = {"loop", "ram", "dm-", "md", "zram", "nbd", "fd", "drbd"};
    for (size_t i = 0; i < G_N_ELEMENTS(made); i++) {
        if (g_str_has_prefix(name, made[i])) {
            return false;
        }
    }
    return true;
}

/* LXD's word for the bus. */
static const char *
bus_of(const char *name)
{
    g_autofree char *bus = sysfs_link("/sys/block/%s/device/subsystem", name);
    if (g_str_has_prefix(name, "nvme")) {
        return "nvme";
    }
    if (strcmp(bus, "virtio") == 0) {
        return "virtio";
    }
    g_autofree char *path = g_strdup_printf("/sys/block/%s", name);
    char *real = realpath(path, NULL);
    const char *word = real != NULL && strstr(real, "/usb") != NULL   ? "usb"
                       : real != NULL && strstr(real, "/ata") != NULL ? "sata"
                       : strcmp(bus, "scsi") == 0                     ? "scsi"
                                                                      : "";
    free(real);
    return word;
}

/* The first link of /dev/disk/by-id or by-path that leads to the device; "" without. */
static char *
link_to(const char *dir, const char *name)
{
    g_auto(GStrv) links = sysfs_list("/dev/disk/%s", dir);
    for (char **at = links; *at != NULL; at++) {
        g_autofree char *target = sysfs_link("/dev/disk/%s/%s", dir, *at);
        if (strcmp(target, name) == 0) {
            return g_strdup(*at);
        }
    }
    return g_strdup("");
}

static json_t *
partitions(const char *disk)
{
    g_auto(GStrv) names = sysfs_list("/sys/block/%s", disk);
    json_t *list = json_array();
    for (char **name = names; *name != NULL; name++) {
        gint64 number = sysfs_int(-1, "/sys/block/%s/%s/partition", disk, *name);
        if (number < 0) {
            continue;
        }
        g_autofree char *device = sysfs_text("/sys/block/%s/%s/dev", disk, *name);
        json_array_append_new(
            list, json_pack("{s:s,s:s,s:b,s:I,s:I}", "id", *name, "device", device, "read_only",
                            sysfs_int(0, "/sys/block/%s/%s/ro", disk, *name) != 0, "size",
                            (json_int_t) sysfs_int(0, "/sys/block/%s/%s/size", disk, *name) * 512,
                            "partition", (json_int_t) number));
    }
    return list;
}

static void
put_text(json_t *object, const char *field, char *text)
{
    if (*text != '\0') {
        json_object_set_new(object, field, json_string(text));
    }
    g_free(text);
}

static json_t *
disk_of(const char *name)
{
    g_autofree char *device = sysfs_text("/sys/block/%s/dev", name);
    g_autofree char *pci = sysfs_pci_of("/sys/block/%s/device", name);
    bool rotates = sysfs_int(0, "/sys/block/%s/queue/rotational", name) != 0;
    json_t *disk =
        json_pack("{s:s,s:s,s:s,s:b,s:I,s:b,s:I,s:I,s:o}", "id", name, "device", device, "type",
                  bus_of(name), "read_only", sysfs_int(0, "/sys/block/%s/ro", name) != 0, "size",
                  (json_int_t) sysfs_int(0, "/sys/block/%s/size", name) * 512, "removable",
                  sysfs_int(0, "/sys/block/%s/removable", name) != 0, "block_size",
                  (json_int_t) sysfs_int(0, "/sys/block/%s/queue/physical_block_size", name), "rpm",
                  (json_int_t) (rotates ? 1 : 0), "partitions", partitions(name));
    resources_put_pci(disk, pci);
    json_object_del(disk, "vendor_id");
    json_object_del(disk, "product_id");
    g_autofree char *id = link_to("by-id", name);
    json_object_set_new(disk, "device_id", json_string(id));
    put_text(disk, "device_path", link_to("by-path", name));
    put_text(disk, "model", sysfs_text("/sys/block/%s/device/model", name));
    put_text(disk, "serial", sysfs_text("/sys/block/%s/device/serial", name));
    put_text(disk, "firmware_version", sysfs_text("/sys/block/%s/device/firmware_rev", name));
    put_text(disk, "wwn", sysfs_text("/sys/block/%s/wwid", name));
    return disk;
}

json_t *
resources_storage(void)
{
    g_auto(GStrv) names = sysfs_list("/sys/block");
    json_t *list = json_array();
    gint64 total = 0;
    for (char **name = names; *name != NULL; name++) {
        if (is_disk(*name)) {
            json_t *disk = disk_of(*name);
            total += 1 + (gint64) json_array_size(json_object_get(disk, "partitions"));
            json_array_append_new(list, disk);
        }
    }
    return json_pack("{s:o,s:I}", "disks", list, "total", (json_int_t) total);
}
