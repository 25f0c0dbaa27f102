/* optimized.h: the content of a backup as streams of btrfs in place of files ("optimized storage").
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/image/archive.h"
#include "agent/move/subvols.h"

/* Whether volumes of the pool can be backed up so. */
bool optimized_can(PoolTable *pools, const Vol *vol);

/* The members of the archive; their files are temporary and go with it. */
typedef struct Optimized Optimized;
Optimized *optimized_make(PoolTable *pools, const Vol *vol, GPtrArray *snaps, const char *dir,
                          GError **error);
const ArchiveMember *optimized_members(const Optimized *made, size_t *ret_count);
void optimized_free(Optimized *made);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Optimized, optimized_free)

/* The way back: unpacks the streams of the archive. 'snaps' are names, for a backup without a header of
 * its own. Then subvols_receive() for each snapshot and the volume, in this order. */
typedef struct OptimizedIn OptimizedIn;
OptimizedIn *optimized_open(PoolTable *pools, const Vol *vol, int archive_fd, json_t *snaps,
                            Meter *meter, GError **error);
SubvolsIn *optimized_streams(OptimizedIn *in); /* borrowed */
void optimized_close(OptimizedIn *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OptimizedIn, optimized_close)
