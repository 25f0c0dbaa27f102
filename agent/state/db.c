/* The database: sqlite3 behind one thread.
 * D1  One thread owns the connection; transactions run in the order in which they were asked for.
 * D2  db_write() returns true only after a durable commit (WAL, synchronous=FULL).
 * D3  A DbFn that fails, or a commit that fails, leaves nothing of its transaction.
 * D4  Statements are prepared once and kept: the same SQL text is the same statement.
 * Nothing of sqlite's leaves this file, so that a replicated backend can stand in its place. */
#include "agent/state/db.h"

#include "agent/state/schema.h"
#include "base/clock.h"
#include "base/fiber.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

struct DbTx {
    sqlite3 *sql;
    GHashTable *statements; /* SQL text → sqlite3_stmt, both owned */
};

struct Db {
    DbTx tx;
    GThread *thread;
    GAsyncQueue *jobs;       /* struct job *, borrowed from the waiting fiber's stack */
    guint64 writes;          /* main loop only */
    struct db_counts counts; /* main loop only */
};

struct DbRows {
    DbTx *tx;
    sqlite3_stmt *stmt; /* taken out of the cache until db_rows_free() */
    int status;
    GError *error; /* of the query itself */
};

struct job {
    const char *begin; /* NULL: stop the thread */
    DbFn fn;
    void *data;
    bool ok;
    GError *error;
    gint64 took_us;
    Fiber *fiber;
    bool done;
};

static bool
fail_sqlite(sqlite3 *sql, const char *what, GError **error)
{
    HawCode code = HAW_IO;
    switch (sqlite3_extended_errcode(sql)) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
        code = HAW_EXISTS;
        break;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        code = HAW_CONFLICT;
        break;
    case SQLITE_FULL:
        code = HAW_LIMIT;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = HAW_CORRUPT;
        break;
    default:
        break;
    }
    return haw_fail(error, code, "database: %s: %s", what, sqlite3_errmsg(sql));
}

static bool
run_plain(sqlite3 *sql, const char *text, GError **error)
{
    return sqlite3_exec(sql, text, NULL, NULL, NULL) == SQLITE_OK || fail_sqlite(sql, text, error);
}

/* ---- opening ---- */

static bool
migrate(sqlite3 *sql, GError **error)
{
    sqlite3_stmt *stmt = NULL;
    int version = 0;
    if (sqlite3_prepare_v2(sql, "PRAGMA user_version", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        version = sqlite3_column_int(stmt, 0);
    }
    sqlite3_finalize(stmt);

    int known = 0;
    while (schema_migrations[known] != NULL) {
        known++;
    }
    if (version > known) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "the database is of schema %d and this version knows %d: run the newer "
                        "version that wrote it",
                        version, known);
    }
    for (; version < known; version++) {
        g_autofree char *mark = g_strdup_printf("PRAGMA user_version = %d", version + 1);
        if (!run_plain(sql, "BEGIN IMMEDIATE", error) ||
            !run_plain(sql, schema_migrations[version], error) || !run_plain(sql, mark, error) ||
            !run_plain(sql, "COMMIT", error)) {
            return haw_push(error, "migrate the database to schema %d", version + 1);
        }
    }
    return true;
}

static void
run_job(DbTx *tx, struct job *job)
{
    job->ok = run_plain(tx->sql, job->begin, &job->error);
    if (!job->ok) {
        return;
    }
    job->ok = job->fn(tx, job->data, &job->error) && run_plain(tx->sql, "COMMIT", &job->error);
    if (!job->ok) { /* D3 */
        sqlite3_exec(tx->sql, "ROLLBACK", NULL, NULL, NULL);
    }
}

static gboolean
job_done(gpointer data)
{
    struct job *job = data;
    job->done = true;
    fiber_wake(job->fiber);
    return G_SOURCE_REMOVE;
}

static gpointer
db_thread(gpointer data)
{
    Db *db = data;
    for (;;) {
        struct job *job = g_async_queue_pop(db->jobs);
        if (job->begin == NULL) {
            g_free(job);
            return NULL;
        }
        gint64 began_us = clock_mono_us();
        run_job(&db->tx, job);
        job->took_us = clock_mono_us() - began_us;
        g_idle_add_full(G_PRIORITY_DEFAULT, job_done, job, NULL);
    }
}

static void
statement_free(gpointer stmt)
{
    sqlite3_finalize(stmt);
}

Db *
db_open(const char *path, GError **error)
{
    sqlite3 *sql = NULL;
    if (sqlite3_open_v2(path, &sql,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        fail_sqlite(sql, path, error);
        sqlite3_close(sql);
        return NULL;
    }
    sqlite3_extended_result_codes(sql, 1);
    if (!run_plain(sql, "PRAGMA journal_mode = WAL", error) ||
        !run_plain(sql, "PRAGMA synchronous = FULL", error) ||
        !run_plain(sql, "PRAGMA cache_size = -1024", error) ||
        !run_plain(sql, "PRAGMA foreign_keys = ON", error) || !migrate(sql, error)) {
        haw_push(error, "open '%s'", path);
        sqlite3_close(sql);
        return NULL;
    }

    Db *db = g_new0(Db, 1);
    db->tx.sql = sql;
    db->tx.statements = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, statement_free);
    db->jobs = g_async_queue_new();
    db->thread = g_thread_new("db", db_thread, db);
    return db;
}

void
db_close(Db *db)
{
    if (db == NULL) {
        return;
    }
    g_async_queue_push(db->jobs, g_new0(struct job, 1));
    g_thread_join(db->thread);
    g_async_queue_unref(db->jobs);
    g_hash_table_unref(db->tx.statements);
    sqlite3_close(db->tx.sql);
    g_free(db);
}

static bool
db_run(Db *db, const char *begin, DbFn fn, void *data, gint64 *ret_took_us, GError **error)
{
    struct job job = {.begin = begin, .fn = fn, .data = data, .fiber = fiber_self()};
    g_assert(job.fiber != NULL);
    g_async_queue_push(db->jobs, &job);
    while (!job.done) {
        fiber_suspend();
    }
    if (job.error != NULL) {
        g_propagate_error(error, job.error);
    }
    *ret_took_us = job.took_us;
    return job.ok;
}

bool
db_write(Db *db, DbFn fn, void *data, GError **error)
{
    gint64 took_us = 0;
    db->writes++; /* from now on readers may see either state */
    bool ok = db_run(db, "BEGIN IMMEDIATE", fn, data, &took_us, error);
    db->writes++;
    db->counts.writes++;
    db->counts.failed_writes += !ok;
    db->counts.write_us += (guint64) took_us;
    return ok;
}

void
db_counts(const Db *db, struct db_counts *ret)
{
    *ret = db->counts;
    ret->waiting = (guint) MAX(g_async_queue_length(db->jobs), 0);
}

guint64
db_writes(const Db *db)
{
    return db->writes;
}

bool
db_read(Db *db, DbFn fn, void *data, GError **error)
{
    gint64 took_us = 0;
    bool ok = db_run(db, "BEGIN", fn, data, &took_us, error);
    db->counts.reads++;
    db->counts.failed_reads += !ok;
    db->counts.read_us += (guint64) took_us;
    return ok;
}

/* ---- statements ---- */

/* A cached statement is taken out of the cache while it is in use (a query inside a query's loop may
 * have the same text) and comes back with statement_give(). */
static sqlite3_stmt *
statement_take(DbTx *tx, const char *sql, GError **error)
{
    gpointer text = NULL, stmt = NULL;
    if (g_hash_table_steal_extended(tx->statements, sql, &text, &stmt)) {
        g_free(text);
        return stmt;
    }
    sqlite3_stmt *fresh = NULL;
    if (sqlite3_prepare_v3(tx->sql, sql, -1, SQLITE_PREPARE_PERSISTENT, &fresh, NULL) !=
        SQLITE_OK) {
        fail_sqlite(tx->sql, sql, error);
        return NULL;
    }
    return fresh;
}

static void
statement_give(DbTx *tx, sqlite3_stmt *stmt)
{
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    g_hash_table_replace(tx->statements, g_strdup(sqlite3_sql(stmt)), stmt);
}

static void
bind_all(sqlite3_stmt *stmt, const char *types, va_list args)
{
    int at = 1;
    for (const char *type = types; *type != '\0'; type++, at++) {
        switch (*type) {
        case 's':
            sqlite3_bind_text(stmt, at, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
            break;
        case 'i':
            sqlite3_bind_int64(stmt, at, va_arg(args, gint64));
            break;
        case 'b':
            sqlite3_bind_int(stmt, at, va_arg(args, int) != 0);
            break;
        case 'j': {
            json_t *value = va_arg(args, json_t *);
            char *text = value != NULL
                             ? json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY)
                             : NULL;
            sqlite3_bind_text(stmt, at, text != NULL ? text : "{}", -1, SQLITE_TRANSIENT);
            free(text);
            break;
        }
        default:
            g_assert_not_reached();
        }
    }
}

bool
db_exec(DbTx *tx, GError **error, const char *sql, const char *types, ...)
{
    sqlite3_stmt *stmt = statement_take(tx, sql, error);
    if (stmt == NULL) {
        return false;
    }
    va_list args;
    va_start(args, types);
    bind_all(stmt, types, args);
    va_end(args);

    int status = sqlite3_step(stmt);
    bool ok = status == SQLITE_DONE || status == SQLITE_ROW || fail_sqlite(tx->sql, sql, error);
    statement_give(tx, stmt);
    return ok;
}

gint64
db_changes(DbTx *tx)
{
    return sqlite3_changes64(tx->sql);
}

gint64
db_last_id(DbTx *tx)
{
    return sqlite3_last_insert_rowid(tx->sql);
}

DbRows *
db_query(DbTx *tx, GError **error, const char *sql, const char *types, ...)
{
    sqlite3_stmt *stmt = statement_take(tx, sql, error);
    if (stmt == NULL) {
        return NULL;
    }
    va_list args;
    va_start(args, types);
    bind_all(stmt, types, args);
    va_end(args);

    DbRows *rows = g_new0(DbRows, 1);
    rows->tx = tx;
    rows->stmt = stmt;
    rows->status = SQLITE_ROW;
    return rows;
}

bool
db_next(DbRows *rows)
{
    if (rows->status == SQLITE_ROW) {
        rows->status = sqlite3_step(rows->stmt);
        if (rows->status != SQLITE_ROW && rows->status != SQLITE_DONE) {
            fail_sqlite(rows->tx->sql, sqlite3_sql(rows->stmt), &rows->error);
        }
    }
    return rows->status == SQLITE_ROW;
}

const char *
db_text(DbRows *rows, int column)
{
    return (const char *) sqlite3_column_text(rows->stmt, column);
}

gint64
db_int(DbRows *rows, int column)
{
    return sqlite3_column_int64(rows->stmt, column);
}

json_t *
db_json(DbRows *rows, int column)
{
    const char *text = db_text(rows, column);
    json_t *value = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return value != NULL ? value : json_object();
}

bool
db_rows_ok(DbRows *rows, GError **error)
{
    if (rows->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&rows->error));
        return false;
    }
    return true;
}

void
db_rows_free(DbRows *rows)
{
    if (rows == NULL) {
        return;
    }
    statement_give(rows->tx, rows->stmt);
    g_clear_error(&rows->error);
    g_free(rows);
}
