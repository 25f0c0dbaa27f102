/* guestask.h: single requests to a virtual machine's hawser-guest: files, state, power, shares.
 * Threads: main loop, inside fibers. Every call yields, and fails with GUESTLINK_OFFLINE in its text when
 * the guest does not answer. */
#pragma once
#include "agent/vm/guestlink.h"
#include <jansson.h>

/* ---- files: the requests and replies of forkfile ---- */
/* {"type","uid","gid","mode","size","mtime","mtime_ns"} and "target" or "names"; a file's content goes to
 * *ret_fd, an unlinked file in 'spool_dir'; -1 for others. 'head': no content. NOT_FOUND and others are the
 * guest's. */
json_t *guestask_get(GuestLink *link, const char *path, bool head, const char *spool_dir,
                     int *ret_fd, GError **error);
/* An unlinked file in 'spool_dir' with a list of names as JSON, as forkfile.c gives one; -1. */
int guestask_names(json_t *names, const char *spool_dir, GError **error);
/* 'request' (borrowed) has "path", "type", "uid", "gid", "mode", "append", "target"; content is read from
 * fd to its end. */
bool guestask_put(GuestLink *link, json_t *request, int fd, GError **error);
bool guestask_delete(GuestLink *link, const char *path, GError **error);
/* A session of SFTP between 'fd' (borrowed) and the guest, until either ends. */
bool guestask_sftp(GuestLink *link, int fd, GCancellable *cancel, GError **error);

/* ---- what it says of itself ---- */
/* {"cpu","disk","memory","network","processes"} of LXD's state, checked: a new reference. */
json_t *guestask_state(GuestLink *link, GError **error);
/* {"cpu","disk","filesystem","memory","network","procs_total"}; its shape is the guest's word. */
json_t *guestask_metrics(GuestLink *link, GError **error);

/* ---- what it does ---- */
bool guestask_power(GuestLink *link, bool again, GError **error);
bool guestask_hostname(GuestLink *link, const char *name, GError **error);
bool guestask_time(GuestLink *link, GError **error); /* to ours */
/* 'kinds' is "virtiofs", "9p:OPTIONS", …, NULL: the first that works. */
bool guestask_mount(GuestLink *link, const char *tag, const char *path, bool readonly,
                    const char *const *kinds, GError **error);
bool guestask_umount(GuestLink *link, const char *path, GError **error);
/* Each "MAC NAME MTU", with "-" and 0 for what stays. */
bool guestask_nics(GuestLink *link, const char *const *lines, GError **error);
bool guestask_ready(GuestLink *link, GError **error);
