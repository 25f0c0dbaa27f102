/* pour.h: trees and subvolumes as frames between servers: rsync, btrfs send and receive, raw files, run
 * as children whose ends are the sockets.
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/move/moveconn.h"

/* What both sides agreed on for rsync. */
typedef struct {
    bool xattrs, del, compress;
    bool whole;           /* hard links and ACLs, too: both sides are ours */
    const char *bwlimit;  /* as rsync takes it; NULL: none; of the sender */
    const char *exclude;  /* a name that stays behind; NULL: none; of the sender */
    bool volatile_source; /* files may vanish meanwhile */
} PourRsync;

/* The content of the directory 'path' becomes that of the peer's directory. */
bool pour_rsync_send(MoveConn *conn, const char *path, const PourRsync *how, GError **error);
bool pour_rsync_receive(MoveConn *conn, const char *path, const PourRsync *how, GError **error);
/* A read-only subvolume, whole or (with 'parent') as what differs from that. */
bool pour_subvol_send(MoveConn *conn, const char *path, const char *parent, GError **error);
/* Creates it below 'dir', an empty directory; what it is called there is the sender's word. */
bool pour_subvol_receive(MoveConn *conn, const char *dir, GError **error);
/* One file's bytes; zeros become holes at the receiver, which never follows a link at 'path'. */
bool pour_file_send(MoveConn *conn, const char *path, GError **error);
bool pour_file_receive(MoveConn *conn, const char *path, GError **error);
