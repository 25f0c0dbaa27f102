/* forwards.h: rows of address forwards. Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id, network_id;
    char *listen, *description;
    json_t *config, *ports; /* owned */
} ForwardRow;
void forwardrow_free(ForwardRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForwardRow, forwardrow_free)

/* Of one network (0: of all), by listen address; elements are owned by the array. */
GPtrArray *forwardrow_list(Db *db, gint64 network_id, GError **error);
/* NULL with NOT_FOUND "Network forward not found". */
ForwardRow *forwardrow_load(Db *db, gint64 network_id, const char *listen, GError **error);
bool forwardrow_insert(Db *db, ForwardRow *row, GError **error);
bool forwardrow_update(Db *db, const ForwardRow *row, GError **error);
bool forwardrow_delete(Db *db, gint64 id, GError **error);
