/* peers.h: rows of network peerings: one a side; two that name each other are one peering.
 * Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

/* What the rows of both sides make of a peering, as REST shows it. */
#define PEERROW_PENDING "Pending" /* the other side has not asked for it yet */
#define PEERROW_CREATED "Created"
#define PEERROW_ERRORED "Errored" /* the other side went */

typedef struct {
    gint64 id, network_id;
    gint64 target_id; /* the other network once both sides have joined; 0 before */
    char *name, *description;
    char *target_project, *target_network; /* "" of an errored one */
    const char *status;
    json_t *config; /* owned */
} PeerRow;
void peerrow_free(PeerRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PeerRow, peerrow_free)

/* Of one network (0: of all), by name; elements are owned by the array. */
GPtrArray *peerrow_list(Db *db, gint64 network_id, GError **error);
/* NULL with NOT_FOUND "Network peer not found". */
PeerRow *peerrow_load(Db *db, gint64 network_id, const char *name, GError **error);
/* Inserts; when the target asked for this network before, both sides join. EXISTS when the name, or
 * the target, has a peer. Fills in id, target_id and status. */
bool peerrow_insert(Db *db, PeerRow *row, GError **error);
bool peerrow_update(Db *db, const PeerRow *row, GError **error); /* description and config */
bool peerrow_delete(Db *db, gint64 id, GError **error);
/* Undoes an insert: the other side waits again. */
bool peerrow_undo_insert(Db *db, const PeerRow *row, GError **error);
/* Undoes a delete. */
bool peerrow_undo_delete(Db *db, const PeerRow *row, GError **error);
