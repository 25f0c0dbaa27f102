/* live_moves.h: who owns a virtual machine while it moves between two servers. A row is there from the
 * moment that this side could be the one that runs it, to the moment that both know who does.
 * Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

#define LIVE_SOURCE   "source"
#define LIVE_TARGET   "target"
#define LIVE_MOVING   "moving"   /* of a source: what stands still here is to go on */
#define LIVE_GIVEN    "given"    /* of a source: the guest is the target's, for good */
#define LIVE_GONE     "gone"     /* of a source: the guest runs at the target */
#define LIVE_PREPARED "prepared" /* of a target: all is here; the source's word is awaited */

typedef struct {
    char *uuid, *role, *phase, *secret;
    gint64 instance_id;
    json_t *peer; /* of a target: where the source answers: {"urls":[…],"certificate"} */
} LiveMove;
void live_moves_free(LiveMove *move);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LiveMove, live_moves_free)

/* Inserts or replaces by uuid and role. */
bool live_moves_put(Db *db, const LiveMove *move, GError **error);
/* Of one; NULL without an error when there is none. */
LiveMove *live_moves_find(Db *db, const char *uuid, const char *role, GError **error);
/* All: LiveMove elements, owned by the array. */
GPtrArray *live_moves_list(Db *db, GError **error);
/* No such row is success. */
bool live_moves_drop(Db *db, const char *uuid, const char *role, GError **error);
