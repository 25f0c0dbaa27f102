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

/* The same streams to and from elsewhere (backups). 'lines' is the list as JSON, a new reference; each
 * subvolume is then given to 'send' as 'at', to be sent whole or as what differs from 'parent'. */
typedef struct {
    const char *snap; /* "": the volume */
    const char *path; /* "/", or that of an inner one */
} SubvolsLine;
typedef bool (*SubvolsSend)(const SubvolsLine *line, const char *at, const char *parent, void *data,
                            GError **error);
json_t *subvols_lines(PoolTable *pools, const Vol *vol, GPtrArray *snaps, GError **error);
bool subvols_send_to(PoolTable *pools, const Vol *vol, GPtrArray *snaps, json_t *lines,
                     SubvolsSend send, void *data, GError **error);
/* 'take' makes the subvolume of a line in 'dir', which is empty. INVALID for broken lines. */
typedef bool (*SubvolsTake)(const SubvolsLine *line, const char *dir, void *data, GError **error);
SubvolsIn *subvols_in_from(PoolTable *pools, const Vol *vol, json_t *lines, SubvolsTake take,
                           void *data, GError **error);

/* {"subvolumes":[{"path","snapshot","readonly"}…]} of a foreign server or backup: paths are absolute
 * within the volume, each volume has its "/" first. INVALID. */
bool subvols_check(json_t *list, GError **error);
