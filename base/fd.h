/* fd.h: file descriptors that close themselves, and whole-file reads and writes.
 * Threads: any; everything here may block on the disk. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* haw_autofd int fd = open(…): closed when it goes out of scope; errno is kept. */
#define haw_autofd __attribute__((cleanup(fd_close_cleanup)))
void fd_close_cleanup(int *fd);
/* Gives the descriptor away: returns it and leaves -1. */
int fd_steal(int *fd);
/* Closes *fd when it is open, and leaves -1. */
void fd_close(int *fd);

/* All of 'size' bytes, or an error naming 'what'. */
bool fd_write_all(int fd, const void *bytes, size_t size, const char *what, GError **error);
/* The whole file, NUL added behind it; caller frees. LIMIT when larger than max_bytes. */
char *fd_read_file(const char *path, size_t max_bytes, size_t *ret_size, GError **error);
/* The same of a file below a directory that others may have filled: confine_plain() opens it. */
char *fd_read_plain(int dir_fd, const char *path, size_t max_bytes, size_t *ret_size,
                    GError **error);
/* Writes a temporary beside 'path', fsyncs, renames: readers see the old or the new file. */
bool fd_write_atomic(const char *path, const void *bytes, size_t size, mode_t mode, GError **error);
/* The same without fsync, for copies of what is stored elsewhere: a power cut may leave it empty. */
bool fd_write_copy(const char *path, const void *bytes, size_t size, mode_t mode, GError **error);
/* Names what was written to fd: 'temp' becomes 'path' in the same directory. Bytes, then the name, are
 * on the disk when it returns: after a power cut there is the whole file or none. What fails before the
 * name is given leaves 'temp' to the caller. */
bool fd_place(int fd, const char *temp, const char *path, GError **error);
/* Writes a kernel file (sysfs, procfs, cgroup) with one write(2). */
bool fd_write_kernel(const char *path, const char *text, GError **error);
/* mkdir -p, existing directories keep their mode. */
bool fd_mkdir_p(const char *path, mode_t mode, GError **error);
/* rm -rf without following symlinks or crossing into mounts below. Not there is success. */
bool fd_remove_tree(const char *path, GError **error);
