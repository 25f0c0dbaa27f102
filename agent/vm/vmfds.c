#include "agent/vm/vmfds.h"

#include "base/fd.h"

static void
clear(void *item)
{
    fd_close(item);
}

GArray *
vmfds_new(void)
{
    GArray *fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_set_clear_func(fds, clear);
    return fds;
}

int
vmfds_add(GArray *fds, int *fd)
{
    int taken = fd_steal(fd);
    if (taken >= 0) {
        g_array_append_val(fds, taken);
    }
    return taken >= 0 ? VMFDS_FIRST + (int) fds->len - 1 : -1;
}
