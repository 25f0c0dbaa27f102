/* config_rows.h: the rows of the server's configuration. Threads: the database's (see db.h). */
#pragma once
#include "agent/state/db.h"

/* {key: value} of what is set, a new reference. */
json_t *config_rows_load(DbTx *tx, GError **error);
/* NULL takes the key away. */
bool config_rows_set(DbTx *tx, const char *key, const char *value, GError **error);
