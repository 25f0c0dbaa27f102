/* A tap is removed by opening it and ending its persistence, not by its name over rtnetlink: that would take
 * it from a process that has it open. */
#include "hw/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <stdlib.h>

#include "base/fd.h"

enum { QUEUE_FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE };

/* A descriptor on the named tap, which is made when it is not there. */
static int
attach(const char *name, int flags, GError **error)
{
    struct ifreq request = {.ifr_flags = (short) flags};
    haw_autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        haw_fail_errno(error, errno, "opening /dev/net/tun");
        return -1;
    }
    g_strlcpy(request.ifr_name, name, sizeof(request.ifr_name));
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        haw_fail_errno(error, errno, "attaching to tap \"%s\"", name);
        return -1;
    }
    return fd_steal(&fd);
}

bool
tap_make(const char *name, GError **error)
{
    if (if_nametoindex(name) != 0) {
        return haw_fail(error, HAW_EXISTS, "Interface \"%s\" exists already", name);
    }
    haw_autofd int fd = attach(name, QUEUE_FLAGS, error);
    if (fd < 0) {
        return false;
    }
    return ioctl(fd, TUNSETPERSIST, 1) == 0 ||
           haw_fail_errno(error, errno, "keeping tap \"%s\"", name);
}

int
tap_open(const char *name, GError **error)
{
    if (if_nametoindex(name) == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Interface \"%s\" is gone", name);
        return -1;
    }
    return attach(name, QUEUE_FLAGS, error);
}

/* What it was made with: attaching with less is refused. */
static int
flags_of(const char *name)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/tun_flags", name);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    long flags = text != NULL ? strtol(text, NULL, 16) : 0;
    return IFF_TAP | IFF_NO_PI | (int) (flags & IFF_MULTI_QUEUE);
}

bool
tap_remove(const char *name, GError **error)
{
    if (if_nametoindex(name) == 0) {
        return true; /* opening would make it */
    }
    haw_autofd int fd = attach(name, flags_of(name), error);
    if (fd < 0) {
        return false;
    }
    if (ioctl(fd, TUNSETPERSIST, 0) != 0) {
        return haw_fail_errno(error, errno, "removing tap \"%s\"", name);
    }
    return true;
}
