/* pools.h: the rows of storage pools. Threads: main loop, inside fibers; all calls yield. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id;
    char *name, *driver, *description;
    char *state; /* "Created", "Errored" */
    json_t *config;
} PoolRow;

void pool_row_free(PoolRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PoolRow, pool_row_free)

/* All of them, by name; owned PoolRow elements. */
GPtrArray *pools_load(Db *db, GError **error);
/* EXISTS when the name is taken. */
bool pools_insert(Db *db, const PoolRow *row, gint64 *ret_id, GError **error);
/* Stores description, config and state of the row with row->id. */
bool pools_store(Db *db, const PoolRow *row, GError **error);
/* CONFLICT while volumes refer to it. */
bool pools_delete(Db *db, gint64 id, GError **error);
