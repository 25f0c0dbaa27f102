/* forksyscall.h: `hawserd forksyscall`: makes one system call that a container may not make itself.
 * Threads: the helper's only one. */
#pragma once
#include "agent/inst/forkserve.h"
#include "agent/inst/task.h"

/* The helper's descriptors, as intercept.c passes them. */
enum {
    FORKSYSCALL_PROC = FORKSERVE_FD + 1, /* those of a Task */
    FORKSYSCALL_MEM,
    FORKSYSCALL_NOTIFY,
    FORKSYSCALL_USERS, /* the container's user namespace */
};

int forksyscall_main(int argc, char **argv);

/* callmount.c: mount() of what 'allowed' names (type → "", or a FUSE program); 'shift': ids on it are the
 * container's. callbpf.c: programs for the container's own device groups. */
TaskAnswer callmount(Task *task, json_t *allowed, bool shift, int users_fd);
TaskAnswer callbpf(Task *task);
