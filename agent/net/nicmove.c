/* Interfaces of the host that go into an instance's network namespace, and come back.
 * M1  The namespace of a running instance that holds one is kept open (netobj_keep_netns): it outlives
 *     the instance's processes until the interface is out.
 * Called by nic.c and nicadopt.c. */
#include "agent/net/nicmove.h"

#include <errno.h>
#include <fcntl.h>

#include "agent/net/netjob.h"
#include "agent/net/network.h"
#include "agent/net/nic_accel.h"
#include "base/fd.h"
#include "hw/link.h"

bool
nicmove_gives_back(const NicUse *use)
{
    return !nicuse_is_vm(use) && (use->driver->gives_back || nic_accel_running(use));
}

struct move {
    const char *link, *name; /* borrowed */
    int netns;               /* borrowed */
};

int
nicmove_netns(pid_t pid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int) pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", path);
    }
    return fd;
}

static bool
move_in(NlSock *sock, void *data, GError **error)
{
    const struct move *move = data;
    if (move->link != NULL && !link_move(sock, move->link, move->netns, move->name, error)) {
        return false;
    }
    g_autoptr(NlSock) inside = nlsock_open_in(move->netns, error);
    return inside != NULL && link_set_up(inside, move->name, true, error);
}

static bool
move_out(NlSock *sock, void *data, GError **error)
{
    const struct move *move = data;
    haw_autofd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    g_autoptr(NlSock) inside = nlsock_open_in(move->netns, error);
    if (inside == NULL) {
        return false;
    }
    if (link_index(inside, move->name) == 0) {
        return true; /* the instance removed it, or it is back already */
    }
    return link_move(inside, move->name, home, move->link, error);
}

bool
nicmove_in(const NicUse *use, const char *link, int netns, GError **error)
{
    struct move move = {.link = link, .name = nicuse_name(use), .netns = netns};
    return netjob_run(move_in, &move, error);
}

bool
nicmove_back(NicUse *use, pid_t pid, GError **error)
{
    const char *host = nic_host_name(use->nic);
    haw_autofd int netns = netobj_take_netns(use->table, use->label);
    if (netns < 0 && pid > 0) {
        netns = nicmove_netns(pid, error);
        if (netns < 0) {
            return false;
        }
    }
    struct move move = {.link = host, .name = nicuse_name(use), .netns = netns};
    return host == NULL || netns < 0 || netjob_run(move_out, &move, error);
}
