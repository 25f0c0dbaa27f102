/* warning_rows.h: the rows of warnings. Threads: the database's (see db.h). */
#pragma once
#include "agent/state/db.h"

typedef struct {
    int type; /* LXD's code */
    const char *project, *entity_url, *message;
    gint64 now;
} WarningRow;

/* All, newest first: {"id","uuid","type" (code),"project","entity_url","status","count","message",
 * "first_seen_at","last_seen_at"} with times in microseconds; a new array. */
json_t *warning_rows_load(DbTx *tx, GError **error);
/* How many are new or acknowledged. */
bool warning_rows_count_active(DbTx *tx, gint64 *ret_count, GError **error);
/* Makes the row, or counts it up; a resolved one becomes new again. */
bool warning_rows_raise(DbTx *tx, const WarningRow *row, GError **error);
bool warning_rows_resolve(DbTx *tx, const WarningRow *row, GError **error);
bool warning_rows_set_status(DbTx *tx, const char *uuid, const char *status, gint64 now,
                             GError **error);
bool warning_rows_delete(DbTx *tx, const char *uuid, GError **error);
/* Takes away what was resolved before that moment. */
bool warning_rows_prune(DbTx *tx, gint64 before, GError **error);
