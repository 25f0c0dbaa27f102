/* movevol.h: a volume with its snapshots, from one server to another over a connection whose two sides
 * have agreed how (offer.h).
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/move/offer.h"
#include "agent/store/shelf.h"

typedef struct {
    MoveConn *conn;
    PoolTable *pools;
    OfferAgreed how;
    GPtrArray *snaps;  /* SnapRow: those that travel, oldest first; may be empty */
    json_t *index;     /* of a target: what the source describes, the caller's */
    bool live;         /* the volume's own disk travels by itself, while its virtual machine runs */
    gint64 disk_bytes; /* of a target then: how long it is */
} MoveVol;

/* What this server can do for a volume; 'foreign' is false for streams that root may take as they are
 * (they come from somebody with all rights). */
bool movevol_ours(PoolTable *pools, const Vol *vol, bool foreign, OfferOurs *ret, GError **error);

/* ---- source ---- */
/* The index header ('config': a backup's description, stolen) and the target's answer to it. */
bool movevol_send_index(MoveVol *job, json_t *config, GError **error);
bool movevol_send(MoveVol *job, const Vol *vol, GError **error);
/* The main volume once more (rsync only), for what changed meanwhile. */
bool movevol_send_again(MoveVol *job, const Vol *vol, GError **error);

/* ---- target ---- */
/* What the source describes, a new reference; an empty object when there is no index header. */
json_t *movevol_receive_index(MoveVol *job, bool refresh, GError **error);
/* Of an index: the volume's snapshot of that name, borrowed; NULL when it does not say. */
json_t *movevol_told_snapshot(json_t *index, const char *name);
/* Of an instance's volume or snapshot as an index shows it: what users keep there ("user.*"); a new reference. */
json_t *movevol_told_config(json_t *shown);
/* A new volume; 'again': the source sends the main volume twice. Nothing is left after a failure. */
bool movevol_receive(MoveVol *job, const Vol *vol, const VolMake *make, bool again, GError **error);
/* An existing one becomes as the source's; 'make_snap' (may be NULL) makes the rows around each
 * snapshot. */
typedef struct {
    bool (*before)(const SnapRow *snap, void *data, GError **error);
    bool (*after)(const SnapRow *snap, void *data, GError **error);
    void *data;
} MoveSnapHook;
bool movevol_refresh(MoveVol *job, const Vol *vol, const MoveSnapHook *hook, bool again,
                     GError **error);
