/* The one row of the table 'owner', made with the first start. */
#include "agent/state/owner_rows.h"

static bool
load(DbTx *tx, void *data, GError **error)
{
    char **id = data;
    g_autoptr(DbRows) rows = db_query(tx, error, "SELECT id FROM owner", "");
    if (rows == NULL) {
        return false;
    }
    while (db_next(rows)) {
        g_free(*id);
        *id = g_strdup(db_text(rows, 0));
    }
    return db_rows_ok(rows, error) &&
           (*id != NULL || haw_fail(error, HAW_CORRUPT, "the database has no owner id"));
}

char *
owner_rows_get(Db *db, GError **error)
{
    char *id = NULL;
    return db_read(db, load, &id, error) ? id : NULL;
}
