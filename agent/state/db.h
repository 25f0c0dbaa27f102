/* db.h: the database: transactions on its own thread, statements, rows.
 * SQL is written once for sqlite3 and dqlite: nothing of sqlite's leaves db.c. Every table is in
 * schema.c; the functions on a table group are in state/<group>.c and nowhere else.
 * Threads: db_read() and db_write() from a fiber; everything that takes a DbTx inside a DbFn, which
 * runs on the database thread and touches nothing of the main loop but what 'data' points to (the
 * calling fiber waits, so that may be its stack). */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct Db Db;
typedef struct DbTx DbTx;
typedef struct DbRows DbRows;

/* Opens (creates, migrates) the database at 'path'. ":memory:" for tests. */
Db *db_open(const char *path, GError **error);
void db_close(Db *db);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Db, db_close)

typedef bool (*DbFn)(DbTx *tx, void *data, GError **error);
/* One transaction: committed and durable when fn and the commit return true, else undone. Yields. */
bool db_write(Db *db, DbFn fn, void *data, GError **error);
bool db_read(Db *db, DbFn fn, void *data, GError **error);
/* What the transactions took; 'waiting' have not begun. */
struct db_counts {
    guint64 reads, writes, failed_reads, failed_writes, read_us, write_us;
    guint waiting;
};
void db_counts(const Db *db, struct db_counts *ret);
/* Grows with each write, before and after it: what was read while it stayed the same still holds. */
guint64 db_writes(const Db *db);

/* One statement. 'types' has a letter for each "?" that follows: s text (NULL is SQL NULL), i gint64
 * (cast your ints), b int as boolean, j json_t* as text (NULL becomes {}).
 * A broken UNIQUE gives EXISTS, a broken foreign key CONFLICT. */
bool db_exec(DbTx *tx, GError **error, const char *sql, const char *types, ...);
/* Rows changed by the last db_exec(), and the id of the row that it inserted. */
gint64 db_changes(DbTx *tx);
gint64 db_last_id(DbTx *tx);

/* A query: while (db_next(rows)) {…}, then db_rows_ok() tells whether the rows ended or broke off.
 * Columns count from 0; text is borrowed until the next db_next(). */
DbRows *db_query(DbTx *tx, GError **error, const char *sql, const char *types, ...);
bool db_next(DbRows *rows);
const char *db_text(DbRows *rows, int column); /* NULL for SQL NULL */
gint64 db_int(DbRows *rows, int column);
json_t *db_json(DbRows *rows, int column); /* a new reference; an empty object when unreadable */
/* Whether the rows ended well; call it before db_rows_free(). */
bool db_rows_ok(DbRows *rows, GError **error);
void db_rows_free(DbRows *rows);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DbRows, db_rows_free)
