/* The config table: one row a key that is set. */
#include "agent/state/config_rows.h"

json_t *
config_rows_load(DbTx *tx, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error, "SELECT key, value FROM config", "");
    if (rows == NULL) {
        return NULL;
    }
    json_t *config = json_object();
    while (db_next(rows)) {
        json_object_set_new(config, db_text(rows, 0), json_string(db_text(rows, 1)));
    }
    if (!db_rows_ok(rows, error)) {
        json_decref(config);
        return NULL;
    }
    return config;
}

bool
config_rows_set(DbTx *tx, const char *key, const char *value, GError **error)
{
    if (value == NULL) {
        return db_exec(tx, error, "DELETE FROM config WHERE key = ?", "s", key);
    }
    return db_exec(tx, error,
                   "INSERT INTO config (key, value) VALUES (?, ?)"
                   " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                   "ss", key, value);
}
