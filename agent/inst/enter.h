/* enter.h: a single-threaded helper process becomes part of a container.
 * Threads: the helper's only one. No way back, but for enter_mounts(). */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* A pidfd of the container's init; checked to be still the process that 'pid' names. -1. */
int enter_pidfd(pid_t pid, GError **error);
/* Joins the mount namespace (and root directory) only; credentials stay ours. */
bool enter_mounts(int pidfd, GError **error);
/* Joins user (unless it is ours) and mount namespaces, becomes root of the container. */
bool enter_guest(pid_t pid, int pidfd, GError **error);
/* For a stopped one: root_fd becomes our root directory. */
bool enter_root(int root_fd, GError **error);
/* Gives up what is left: every capability but those for files, no new privileges, and a system
 * call filter without exec, sockets, mounts, namespaces, ptrace, modules. */
bool enter_lock(GError **error);
