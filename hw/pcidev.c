/* PFs and VFs in sysfs, and giving one to a driver.
 * C1  A device is bound by driver_override and drivers_probe only: never by a driver's new_id, which
 *     would make it take every like device, nor by its bind file, which passes the override by.
 * C2  Once a device is back at its own driver the override is empty again: the kernel decides then. */
#include "hw/pcidev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/sysfs.h"

enum { NETDEVSIM_VFS = 4 };

void
pcidev_read_pf(const char *sysfs, struct hw_pf *pf)
{
    g_autofree char *base = g_strdup_printf("%s/bus/%s/devices/%s", sysfs, pf->bus, pf->dev);
    g_autofree char *driver = sysfs_link("%s/driver", base);
    g_autofree char *group = sysfs_link("%s/iommu_group", base);
    bool simulated = strcmp(pf->bus, "netdevsim") == 0;

    g_strlcpy(pf->driver, simulated ? "netdevsim" : driver, sizeof pf->driver);
    pf->vendor = (int) sysfs_int(-1, "%s/vendor", base);
    pf->device = (int) sysfs_int(-1, "%s/device", base);
    pf->numa = (int) sysfs_int(-1, "%s/numa_node", base);
    pf->iommu_group = *group != '\0' ? atoi(group) : -1;
    pf->vfs = (guint) MAX(sysfs_int(0, "%s/sriov_numvfs", base), 0);
    pf->vfs_max = (guint) MAX(sysfs_int(0, "%s/sriov_totalvfs", base), 0);
    if (simulated) {
        gint64 most =
            sysfs_int(NETDEVSIM_VFS, "%s/kernel/debug/netdevsim/%s/max_vfs", sysfs, pf->dev);
        pf->vfs_max = (guint) MAX(most, 0);
    }
}

void
pcidev_list_pfs(const char *sysfs, GArray *pfs)
{
    g_auto(GStrv) names = sysfs_list("%s/bus/pci/devices", sysfs);
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *class = NULL;
        if (strlen(*name) >= HW_DEV_MAX ||
            sysfs_int(0, "%s/bus/pci/devices/%s/sriov_totalvfs", sysfs, *name) <= 0) {
            continue;
        }
        /* 0x02: network; NVMe disks and accelerators have VFs, too. */
        if (sysfs_int(0, "%s/bus/pci/devices/%s/class", sysfs, *name) >> 16 != 0x02) {
            continue;
        }
        struct hw_pf pf = {.bus = "pci"};
        g_strlcpy(pf.dev, *name, sizeof pf.dev);
        pcidev_read_pf(sysfs, &pf);
        g_array_append_val(pfs, pf);
    }
}

bool
pcidev_is_vf(const char *sysfs, const char *bus, const char *dev)
{
    g_autofree char *pf = sysfs_link("%s/bus/%s/devices/%s/physfn", sysfs, bus, dev);
    return *pf != '\0';
}

void
pcidev_list_vfs(const char *sysfs, const struct hw_pf *pf, guint at, GArray *vfs)
{
    for (guint i = 0; i < pf->vfs; i++) {
        struct hw_vf vf = {
            .pf = at, .vf = i, .numa = pf->numa, .iommu_group = -1, .up = -1, .rep = -1};
        g_autofree char *dev =
            sysfs_link("%s/bus/%s/devices/%s/virtfn%u", sysfs, pf->bus, pf->dev, i);
        if (*dev == '\0') {
            g_snprintf(vf.dev, sizeof vf.dev, "%.24s/vf%u", pf->dev, i);
        } else {
            g_autofree char *driver = sysfs_link("%s/bus/pci/devices/%s/driver", sysfs, dev);
            g_autofree char *group = sysfs_link("%s/bus/pci/devices/%s/iommu_group", sysfs, dev);
            g_strlcpy(vf.dev, dev, sizeof vf.dev);
            g_strlcpy(vf.driver, driver, sizeof vf.driver);
            vf.iommu_group = *group != '\0' ? atoi(group) : -1;
        }
        hw_vf_props_none(&vf.props);
        g_array_append_val(vfs, vf);
    }
}

static bool write_file(const char *text, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static bool
write_file(const char *text, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *path = g_strdup_vprintf(format, args);
    va_end(args);
    return fd_write_kernel(path, text, error);
}

/* C1 */
static bool
probe_as(const char *dev, const char *driver, GError **error)
{
    if (!write_file(driver, error, "/sys/bus/pci/devices/%s/driver_override", dev)) {
        return false;
    }
    /* The write fails with the driver's own refusal; who has the device then says more. */
    g_autoptr(GError) refusal = NULL;
    write_file(dev, &refusal, "/sys/bus/pci/drivers_probe");
    g_autofree char *now = sysfs_link("/sys/bus/pci/devices/%s/driver", dev);
    if (strcmp(now, driver) == 0) {
        return true;
    }
    return haw_fail(error, HAW_IO,
                    "'%s' did not take '%s' (%s): look at the kernel log; `hawser hw doctor` "
                    "says what is missing",
                    driver, dev, refusal != NULL ? refusal->message : "its driver refused");
}

bool
pcidev_bind(const char *dev, const char *driver, GError **error)
{
    g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s", dev);
    g_autofree char *now = sysfs_link("%s/driver", path);
    if (access(path, F_OK) < 0) {
        return haw_fail(error, HAW_NOT_FOUND, "there is no PCI device '%s'", dev);
    }
    if (*driver != '\0' && strcmp(now, driver) != 0) {
        g_autofree char *known = g_strdup_printf("/sys/bus/pci/drivers/%s", driver);
        if (access(known, F_OK) < 0) {
            return haw_fail(error, HAW_UNSUPPORTED,
                            "bind '%s': this kernel has no driver '%s' (modprobe %s)", dev, driver,
                            driver);
        }
    }
    if (*now != '\0' && strcmp(now, driver) != 0 &&
        !write_file(dev, error, "%s/driver/unbind", path)) {
        return haw_push(error, "unbind '%s' from '%s'", dev, now);
    }
    if (*driver != '\0' && strcmp(now, driver) != 0 && !probe_as(dev, driver, error)) {
        return haw_push(error, "bind '%s' to '%s'", dev, driver);
    }
    if (strcmp(driver, "vfio-pci") != 0 && /* C2 */
        !write_file("\n", error, "%s/driver_override", path)) {
        return haw_push(error, "bind '%s' to '%s'", dev, driver);
    }
    return true;
}

bool
pcidev_set_num_vfs(const struct hw_pf *pf, guint count, GError **error)
{
    g_autofree char *text = g_strdup_printf("%u", count);
    if (count > pf->vfs_max) {
        return haw_fail(error, HAW_LIMIT, "'%s' has at most %u VFs", pf->netdev, pf->vfs_max);
    }
    if (pf->vfs > 0 && count > 0) {
        return haw_fail(error, HAW_CONFLICT, "'%s' has %u VFs: they must go first", pf->netdev,
                        pf->vfs);
    }
    return write_file(text, error, "/sys/bus/%s/devices/%s/sriov_numvfs", pf->bus, pf->dev) ||
           haw_push(error, "make %u VFs on '%s'", count, pf->netdev);
}
