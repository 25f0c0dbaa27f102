/* confine.h: paths below a directory that nothing in them can lead out of.
 * Threads: any; may block on the disk. errno is the error. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

/* openat2(2) with RESOLVE_IN_ROOT: ".." stops at the root, absolute links start there, magic links
 * (/proc/PID/fd) are refused. O_CLOEXEC is added. 'path' may begin with "/" and be empty. */
int confine_open(int root_fd, const char *path, int flags, mode_t mode);
/* The same without asking any file system, for callers that nobody may keep waiting: what is not in the kernel's cache
 * is EAGAIN. Mount points and what is above them are there always. */
int confine_cached(int root_fd, const char *path, int flags);
/* The directory that holds the last name of 'path', as O_PATH; *ret_name points into 'path_buf'
 * (a copy of PATH_MAX bytes of the caller). "." is the name of the root itself. ELOOP, EINVAL for
 * a last name of "..". */
int confine_parent(int root_fd, const char *path, char *path_buf, const char **ret_name);
/* A plain file below root_fd: EINVAL for anything else, ELOOP and EXDEV where a symbolic link is on the way, the
 * last name included. Neither waits for a pipe's other end nor touches a device. With O_TRUNC it is emptied once it
 * is known to be plain. */
int confine_plain(int root_fd, const char *path, int flags, mode_t mode);
/* Makes the directories up to and with 'path' that are missing. */
bool confine_mkdir_p(int root_fd, const char *path, mode_t mode);
