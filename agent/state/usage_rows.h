/* usage_rows.h: questions over many tables: what a project holds, what uses a profile.
 * Threads: the database's (see db.h). */
#pragma once
#include "agent/state/db.h"

/* URLs of everything in a project, "?project=" added when it isn't the default; a new array. */
json_t *usage_rows_project(DbTx *tx, const char *project, GError **error);
/* URLs of the instances that use a profile; a new array. */
json_t *usage_rows_profile(DbTx *tx, const char *project, const char *profile, GError **error);
/* Number of networks, and custom volumes ("pool/name" → 'size' key, "" where it is not
 * set; a new object) in a project. */
bool usage_rows_totals(DbTx *tx, const char *project, gint64 *ret_networks, json_t **ret_volumes,
                       GError **error);
