/* sink.h: entries of an archive written below one directory, and never anywhere else.
 * Threads: a worker; one sink belongs to one thread. */
#pragma once
#include "agent/image/acl.h"
#include "base/error.h"
#include <sys/types.h>

struct archive;
struct archive_entry;

typedef struct Sink Sink;
/* root_fd and idmap (may be NULL) are borrowed; the directory must be nobody else's while the sink lives. */
Sink *sink_new(int root_fd, json_t *idmap);
void sink_free(Sink *sink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sink, sink_free)

/* A name as it may be used: no leading "./", no doubled or trailing slash; "" is the directory
 * itself. NULL with INVALID for an absolute name (but "/rootfs/…") or one with "..". Caller frees. */
char *sink_clean_name(const char *name, GError **error);
/* Writes one entry (its data comes from 'in') as 'name', which is clean. 'link' is the clean name of
 * a hard link's target, else NULL. */
bool sink_write(Sink *sink, struct archive *in, struct archive_entry *entry, const char *name,
                const char *link, GError **error);
/* Gives directories their owners, modes, times. */
bool sink_finish(Sink *sink, GError **error);
/* Entries that were passed over, by design. */
guint64 sink_skipped(const Sink *sink);

/* S4 of sink.c: whether a device node of this name is made; false with INVALID when it is an attack. */
bool sink_device_check(const char *name, mode_t type, dev_t device, bool *ret_make, GError **error);
/* Holds a tree made by somebody else (unsquashfs) against the same rules. */
bool sink_check_tree(int root_fd, guint64 *ret_skipped, GError **error);
