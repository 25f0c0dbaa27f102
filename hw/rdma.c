/* RDMA devices. libibverbs itself reads these files, and loads a vendor's library for each device, which
 * a daemon that only lists them need not have. */
#include "hw/rdma.h"

#include <string.h>

#include "hw/sysfs.h"

static void
read_device(const char *sysfs, const char *name, struct hw_rdma *rdma)
{
    g_autofree char *base = g_strdup_printf("%s/class/infiniband/%s", sysfs, name);
    g_autofree char *guid = sysfs_text("%s/node_guid", base);
    g_autofree char *firmware = sysfs_text("%s/fw_ver", base);
    g_autofree char *dev = sysfs_link("%s/device", base);
    g_autofree char *netdev = sysfs_text("%s/ports/1/gid_attrs/ndevs/0", base);
    g_autofree char *state = sysfs_text("%s/ports/1/state", base);
    g_auto(GStrv) ports = sysfs_list("%s/ports", base);
    if (*netdev == '\0') {
        g_free(netdev);
        netdev = sysfs_text("%s/parent", base); /* rxe before its first address */
    }
    g_strlcpy(rdma->name, name, sizeof rdma->name);
    g_strlcpy(rdma->node_guid, guid, sizeof rdma->node_guid);
    g_strlcpy(rdma->firmware, firmware, sizeof rdma->firmware);
    g_strlcpy(rdma->dev, dev, sizeof rdma->dev);
    g_strlcpy(rdma->netdev, netdev, sizeof rdma->netdev);
    rdma->ports = g_strv_length(ports);
    rdma->active = *state != '\0' ? strstr(state, "ACTIVE") != NULL : -1;
}

void
rdma_list(const char *sysfs, GArray *rdmas)
{
    g_auto(GStrv) names = sysfs_list("%s/class/infiniband", sysfs);
    for (char **name = names; *name != NULL; name++) {
        struct hw_rdma rdma = {0};
        read_device(sysfs, *name, &rdma);
        g_array_append_val(rdmas, rdma);
    }
}
