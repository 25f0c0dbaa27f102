/* networks.h: rows of networks. Threads: from a fiber, each call is a transaction. Yields. */
#pragma once
#include "agent/state/db.h"

/* Where a network stands: rows that are not NETROW_CREATED are finished or undone at the next start.
 * Stored as text. */
#define NETROW_PENDING  "Pending" /* being created: undone */
#define NETROW_CREATED  "Created"
#define NETROW_ERRORED  "Errored"
#define NETROW_DELETING "Deleting" /* finished */

typedef struct {
    gint64 id, project_id;
    char *project, *name, *type, *description, *state;
    char *hwaddr;   /* the bridge's own MAC, chosen once */
    char *old_name; /* "" unless a rename is under way */
    json_t *config; /* owned */
} NetRow;
void netrow_free(NetRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetRow, netrow_free)

/* All rows by project and name: NetRow elements, owned by the array. */
GPtrArray *netrow_list(Db *db, GError **error);
/* Inserts with the next id of that range, which goes into the row. EXISTS; LIMIT when the range is full. */
bool netrow_insert(Db *db, NetRow *row, gint64 first_id, gint64 last_id, GError **error);
bool netrow_set_state(Db *db, gint64 id, const char *state, GError **error);
bool netrow_update(Db *db, gint64 id, const char *description, json_t *config, GError **error);
/* Begins a rename (old_name is remembered), or ends it with name NULL. EXISTS. */
bool netrow_rename(Db *db, gint64 id, const char *name, GError **error);
bool netrow_delete(Db *db, gint64 id, GError **error);
