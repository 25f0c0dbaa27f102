/* owner_rows.h: who we are to others who write where we write. Threads: from a fiber. Yields. */
#pragma once
#include "agent/state/db.h"

/* The id of this database, of all members of a cluster; caller frees. */
char *owner_rows_get(Db *db, GError **error);
