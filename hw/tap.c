/* A tap is removed by opening it and ending its persistence, not by its name over rtnetlink: that would take
 * it from a process that has it open. */
#include "hw/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include "base/fd.h"

bool
tap_remove(const char *name, GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    if (if_nametoindex(name) == 0) {
        return true; /* opening would make it */
    }
    haw_autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "opening /dev/net/tun");
    }
    g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    if (ioctl(fd, TUNSETIFF, &request) != 0 || ioctl(fd, TUNSETPERSIST, 0) != 0) {
        return haw_fail_errno(error, errno, "removing tap \"%s\"", name);
    }
    return true;
}
