/* trust_rows.h: the rows of trusted certificates. Threads: the database's (see db.h).
 * A certificate is {"fingerprint","type","name","certificate","restricted","projects":[names]}, as
 * REST shows it. */
#pragma once
#include "agent/state/db.h"

/* All, by fingerprint; a new array. */
json_t *trust_rows_load(DbTx *tx, GError **error);
/* EXISTS when the fingerprint is there. */
bool trust_rows_add(DbTx *tx, json_t *cert, GError **error);
/* All columns of the row with cert's old fingerprint. */
bool trust_rows_update(DbTx *tx, const char *fingerprint, json_t *cert, GError **error);
bool trust_rows_delete(DbTx *tx, const char *fingerprint, GError **error);
/* A project got another name, or (new_name NULL) is gone. */
bool trust_rows_project(DbTx *tx, const char *name, const char *new_name, GError **error);
