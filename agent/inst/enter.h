/* enter.h: a single-threaded helper process becomes part of a container.
 * Threads: the helper's only one. No way back, but for enter_mounts(). */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* A pidfd of the container's init; checked to be still the process that 'pid' names. -1. */
int enter_pidfd(pid_t pid, GError **error);
/* *ret_flag: CLONE_NEWUSER when the process has a user namespace of its own, 0 when it has ours. False when that
 * can't be seen: then it is not to be entered, or one would be root there with all of the host's power. */
bool enter_user_flag(pid_t pid, int *ret_flag, GError **error);
/* Joins the mount namespace (and root directory) only; credentials stay ours. */
bool enter_mounts(int pidfd, GError **error);
/* Joins user (unless it is ours) and mount namespaces, becomes root of the container. */
bool enter_guest(pid_t pid, int pidfd, GError **error);
/* For a stopped one: root_fd becomes our root directory. */
bool enter_root(int root_fd, GError **error);
/* Gives up what is left: every capability but those for files, no new privileges, and a system
 * call filter without exec, sockets, mounts, namespaces, ptrace, modules. */
bool enter_lock(GError **error);
