/* subvols.h: volumes of btrfs pools between servers, and into backups, as send streams.
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/move/moveconn.h"
#include "agent/store/shelf.h"

/* Sends the list of subvolumes, then their streams: those of each snapshot (SnapRow) as what differs
 * from the one before, then the volume's. */
bool subvols_send(MoveConn *conn, PoolTable *pools, const Vol *vol, GPtrArray *snaps,
                  GError **error);

/* The other side: the list, checked; then one call a snapshot in the same order, and one for the
 * volume. 'path' is the new volume's place, taken over by what arrives. */
typedef struct SubvolsIn SubvolsIn;
SubvolsIn *subvols_in_new(MoveConn *conn, PoolTable *pools, const Vol *vol, GPtrArray *snaps,
                          GError **error);
bool subvols_receive(SubvolsIn *in, const char *snap, const char *path, GError **error);
void subvols_in_free(SubvolsIn *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SubvolsIn, subvols_in_free)

/* {"subvolumes":[{"path","snapshot","readonly"}…]} of a foreign server or backup: paths are absolute
 * within the volume, each volume has its "/" first. INVALID. */
bool subvols_check(json_t *list, GError **error);
