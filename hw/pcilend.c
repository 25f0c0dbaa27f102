/* Lending a PCI device to a virtual machine.
 * N1  The note, "DEVICE DRIVER", is on disk before the device changes hands, and gone only after it is
 *     back: a crash leaves no device behind that nobody knows of.
 * N2  The kernel hands an IOMMU group over as a whole: bridges aside, nobody else's device may be in it.
 * Called by agent/net/nic_parent.c and agent/inst/pcipass.c. */
#include "hw/pcilend.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/pcidev.h"
#include "hw/sysfs.h"

enum { CLASS_BRIDGE = 0x06, NOTE_BYTES = 128 };

char *
pcilend_of_netdev(const char *ifname, GError **error)
{
    g_autofree char *link = g_strdup_printf("/sys/class/net/%s/device", ifname);
    g_autofree char *dev = access(link, F_OK) == 0 ? sysfs_link("%s", link) : g_strdup("");
    g_autofree char *known = g_strdup_printf("/sys/bus/pci/devices/%s", dev);
    if (*dev == '\0' || access(known, F_OK) < 0) {
        haw_fail(
            error, HAW_UNSUPPORTED,
            "Parent device \"%s\" is no PCI device, which is all that a virtual machine can be "
            "given: use nictype macvlan",
            ifname);
        return NULL;
    }
    return g_steal_pointer(&dev);
}

/* N2 */
static bool
check_group(const char *dev, GError **error)
{
    g_autofree char *group = sysfs_link("/sys/bus/pci/devices/%s/iommu_group", dev);
    if (*group == '\0') {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "PCI device \"%s\" is in no IOMMU group: boot with intel_iommu=on or "
                        "amd_iommu=on, and enable VT-d or AMD-Vi in the BIOS",
                        dev);
    }
    g_auto(GStrv) others = sysfs_list("/sys/bus/pci/devices/%s/iommu_group/devices", dev);
    for (char **other = others; *other != NULL; other++) {
        g_autofree char *driver = sysfs_link("/sys/bus/pci/devices/%s/driver", *other);
        gint64 class = sysfs_int(0, "/sys/bus/pci/devices/%s/class", *other);
        if (strcmp(*other, dev) != 0 && *driver != '\0' && strcmp(driver, "vfio-pci") != 0 &&
            class >> 16 != CLASS_BRIDGE) {
            return haw_fail(
                error, HAW_CONFLICT,
                "PCI device \"%s\" shares IOMMU group %s with \"%s\", which the host uses "
                "('%s'): only a whole group can be given away",
                dev, group, *other, driver);
        }
    }
    return true;
}

bool
pcilend_give(const char *dev, const char *note, GError **error)
{
    g_autofree char *driver = sysfs_link("/sys/bus/pci/devices/%s/driver", dev);
    g_autofree char *known = g_strdup_printf("/sys/bus/pci/devices/%s", dev);
    g_autofree char *text = g_strdup_printf("%s %s", dev, driver);
    if (access(known, F_OK) < 0) {
        return haw_fail(error, HAW_NOT_FOUND,
                        "there is no PCI device \"%s\": 'lspci -D' lists those that are", dev);
    }
    if (strcmp(driver, "vfio-pci") == 0) {
        return haw_fail(error, HAW_CONFLICT,
                        "PCI device \"%s\" belongs to vfio-pci: it is lent already", dev);
    }
    if (!check_group(dev, error) ||
        !fd_write_atomic(note, text, strlen(text), 0600, error)) { /* N1 */
        return false;
    }
    if (pcidev_bind(dev, "vfio-pci", error)) {
        return true;
    }
    pcilend_back(note, NULL);
    return false;
}

bool
pcilend_back(const char *note, GError **error)
{
    if (access(note, F_OK) < 0) {
        return true;
    }
    g_autofree char *text = fd_read_file(note, NOTE_BYTES, NULL, error);
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", 2);
    if (text == NULL) {
        return false;
    }
    if (g_strv_length(words) == 2 && !pcidev_bind(words[0], words[1], error)) {
        return haw_push(error, "give \"%s\" back to '%s'", words[0], words[1]);
    }
    return unlink(note) == 0 || errno == ENOENT ||
           haw_fail_errno(error, errno, "remove '%s'", note);
}
