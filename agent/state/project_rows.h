/* project_rows.h: the rows of projects and of their profiles. Threads: the database's (see db.h).
 * A project is {"name","description","config"}, a profile {"name","description","config","devices"};
 * what is found comes as a new reference. */
#pragma once
#include "agent/state/db.h"

json_t *project_rows_list(DbTx *tx, GError **error);
json_t *project_rows_find(DbTx *tx, const char *name, GError **error); /* "Project not found" */
bool project_rows_add(DbTx *tx, json_t *project, GError **error);      /* EXISTS */
bool project_rows_update(DbTx *tx, json_t *project, GError **error);
bool project_rows_rename(DbTx *tx, const char *name, const char *new_name, GError **error);
bool project_rows_delete(DbTx *tx, const char *name, GError **error);

json_t *profile_rows_list(DbTx *tx, const char *project, GError **error);
json_t *profile_rows_find(DbTx *tx, const char *project, const char *name,
                          GError **error); /* "Profile not found" */
bool profile_rows_add(DbTx *tx, const char *project, json_t *profile, GError **error); /* EXISTS */
bool profile_rows_update(DbTx *tx, const char *project, json_t *profile, GError **error);
bool profile_rows_rename(DbTx *tx, const char *project, const char *name, const char *new_name,
                         GError **error);
bool profile_rows_delete(DbTx *tx, const char *project, const char *name, GError **error);
