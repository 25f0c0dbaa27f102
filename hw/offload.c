/* Offloads of interfaces, by the ethtool ioctl: two values that every kernel knows.
 * O1  A device that does not know the switch has nothing to turn off: that is success. */
#include "hw/offload.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"

static bool
set_value(const char *ifname, guint32 command, bool on, GError **error)
{
    haw_autofd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ethtool_value value = {.cmd = command, .data = on ? 1 : 0};
    struct ifreq request = {.ifr_data = (void *) &value};
    g_strlcpy(request.ifr_name, ifname, sizeof request.ifr_name);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open a socket for '%s'", ifname);
    }
    if (ioctl(fd, SIOCETHTOOL, &request) == 0 || errno == EOPNOTSUPP) { /* O1 */
        return true;
    }
    return haw_fail_errno(error, errno, "turn %s an offload of '%s'", on ? "on" : "off", ifname);
}

bool
offload_set_checksum(const char *ifname, bool on, GError **error)
{
    return set_value(ifname, ETHTOOL_STXCSUM, on, error);
}

int
offload_get_checksum(const char *ifname)
{
    haw_autofd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ethtool_value value = {.cmd = ETHTOOL_GTXCSUM};
    struct ifreq request = {.ifr_data = (void *) &value};
    g_strlcpy(request.ifr_name, ifname, sizeof request.ifr_name);
    return fd >= 0 && ioctl(fd, SIOCETHTOOL, &request) == 0 ? value.data != 0 : -1;
}

bool
offload_set_merge(const char *ifname, bool on, GError **error)
{
    return set_value(ifname, ETHTOOL_SGRO, on, error);
}
