/* mnt.h: mounts, loop devices and id-mapped layers, by the kernel's own calls.
 * Threads: any; all may block, so call them from a worker when the disk is involved. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* Whether 'path' itself is a mount point, by mountinfo. */
bool mnt_is_mounted(const char *path);
/* Mount points at or below 'path', deepest first; NULL-terminated, caller frees. */
char **mnt_list_below(const char *path);
/* Detaches what is mounted at 'path' (all layers of it). Not mounted is success. 'lazy': even while
 * it is in use. */
bool mnt_unmount(const char *path, bool lazy, GError **error);
bool mnt_bind(const char *from, const char *to, GError **error);
/* options: "noatime,user_subvol_rm_allowed": generic ones become flags. */
bool mnt_mount(const char *source, const char *target, const char *fstype, const char *options,
               bool remount, GError **error);

/* "/dev/loop7" over the file, released by itself after the last use (autoclear); *ret_fd keeps it
 * until the mount does. Caller frees. */
char *mnt_loop_attach(const char *file, int *ret_fd, GError **error);
/* The loop device that is over 'file', or NULL. */
char *mnt_loop_find(const char *file);
/* Tells the device that its file has grown. */
bool mnt_loop_refresh(const char *device, GError **error);

/* One line of an id map: ids from 'inside' on are 'host' outside, 'count' of them. */
struct mnt_idmap {
    bool uid, gid;
    guint32 inside, host, count;
};
/* A user namespace with that map, as a descriptor for mount_setattr(2); -1 with error. */
int mnt_userns(const struct mnt_idmap *map, size_t count, GError **error);
/* Whether the filesystem at 'path' takes an id map. */
bool mnt_can_idmap(const char *path);
/* An overlay: lower directories from the top down, upper (NULL: read-only) and work below
 * 'upper_parent'. With a map (count > 0) all layers show host ids, and what the container writes
 * lands unshifted. */
struct mnt_overlay {
    const char *const *lowers; /* NULL-terminated */
    const char *upper_parent;  /* directory that has "upper" and "work" */
    const struct mnt_idmap *map;
    size_t map_count;
    const char *target;
};
bool mnt_overlay(const struct mnt_overlay *spec, GError **error);
