/* The ledger: sqlite beneath, the rows in memory beside it.
 * L1  A row changes in memory only after the change is on the disk (WAL, synchronous=FULL); the one
 *     exception is a function's holder, which is set before, so that two fibers cannot take it.
 * L2  A function has at most one holder: the file's UNIQUE says so too.
 * L3  What fails on the disk has changed nothing.
 * L4  Changes are made one after the other, each on a worker thread while its fiber waits: a slow
 *     disk stops no other port that is not about to change.
 * Called by ports.c. Not here: what the steps do. */
#include "dataplane/slow/ledger.h"

#include <sqlite3.h>
#include <string.h>

#include "base/fiber.h"

struct Ledger {
    sqlite3 *sql; /* owned; used by one worker at a time */
    char *path;
    FiberLock lock;      /* L4 */
    GHashTable *rows;    /* id → LedgerRow, owned */
    GHashTable *holders; /* function → id, both owned */
    GHashTable *statements;
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS ports (id TEXT PRIMARY KEY, spec BLOB NOT NULL,"
    " step INTEGER NOT NULL, going INTEGER NOT NULL, vf TEXT UNIQUE, before TEXT, made TEXT)";

/* ---- rows ---- */

static void
row_free(gpointer data)
{
    LedgerRow *row = data;
    g_free(row->id);
    g_clear_pointer(&row->spec, g_bytes_unref);
    g_free(row->vf);
    g_free(row->before);
    g_free(row->made);
    g_free(row);
}

const LedgerRow *
ledger_find(Ledger *ledger, const char *id)
{
    return g_hash_table_lookup(ledger->rows, id);
}

const char *
ledger_holder(Ledger *ledger, const char *vf)
{
    return g_hash_table_lookup(ledger->holders, vf);
}

static gint
by_text(gconstpointer one, gconstpointer two)
{
    return strcmp(*(const char *const *) one, *(const char *const *) two);
}

GPtrArray *
ledger_ids(Ledger *ledger)
{
    GPtrArray *ids = g_ptr_array_new();
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, ledger->rows);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        g_ptr_array_add(ids, id);
    }
    g_ptr_array_sort(ids, by_text);
    return ids;
}

/* ---- opening ---- */

static bool
fail_sqlite(Ledger *ledger, const char *what, GError **error)
{
    int status = sqlite3_errcode(ledger->sql);
    if (status == SQLITE_CORRUPT || status == SQLITE_NOTADB) {
        return haw_fail(error, HAW_CORRUPT,
                        "the ledger '%s' is damaged (%s): move it away and start again; ports on "
                        "bridges are found again, claimed functions keep their settings",
                        ledger->path, sqlite3_errmsg(ledger->sql));
    }
    return haw_fail(error, status == SQLITE_FULL ? HAW_LIMIT : HAW_IO, "ledger '%s': %s: %s",
                    ledger->path, what, sqlite3_errmsg(ledger->sql));
}

static bool
run(Ledger *ledger, const char *sql, GError **error)
{
    return sqlite3_exec(ledger->sql, sql, NULL, NULL, NULL) == SQLITE_OK ||
           fail_sqlite(ledger, sql, error);
}

static char *
column_dup(sqlite3_stmt *stmt, int column)
{
    return g_strdup((const char *) sqlite3_column_text(stmt, column));
}

static bool
load(Ledger *ledger, GError **error)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(ledger->sql, "SELECT id, spec, step, going, vf, before, made FROM ports",
                           -1, &stmt, NULL) != SQLITE_OK) {
        return fail_sqlite(ledger, "read", error);
    }
    int status;
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        LedgerRow *row = g_new0(LedgerRow, 1);
        row->id = column_dup(stmt, 0);
        row->spec =
            g_bytes_new(sqlite3_column_blob(stmt, 1), (gsize) sqlite3_column_bytes(stmt, 1));
        row->step = (LedgerStep) CLAMP(sqlite3_column_int(stmt, 2), LEDGER_NEW, LEDGER_READY);
        row->going = sqlite3_column_int(stmt, 3) != 0;
        row->vf = column_dup(stmt, 4);
        row->before = column_dup(stmt, 5);
        row->made = column_dup(stmt, 6);
        if (row->vf != NULL) {
            g_hash_table_insert(ledger->holders, g_strdup(row->vf), g_strdup(row->id));
        }
        g_hash_table_insert(ledger->rows, row->id, row);
    }
    bool ok = status == SQLITE_DONE || fail_sqlite(ledger, "read", error);
    sqlite3_finalize(stmt);
    return ok;
}

static void
statement_free(gpointer stmt)
{
    sqlite3_finalize(stmt);
}

Ledger *
ledger_open(const char *path, GError **error)
{
    g_autoptr(Ledger) ledger = g_new0(Ledger, 1);
    ledger->path = g_strdup(path);
    ledger->rows = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, row_free);
    ledger->holders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    ledger->statements = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, statement_free);
    if (sqlite3_open_v2(path, &ledger->sql,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                        NULL) != SQLITE_OK) {
        fail_sqlite(ledger, "open", error);
        return NULL;
    }
    if (!run(ledger, "PRAGMA journal_mode = WAL", error) ||
        !run(ledger, "PRAGMA synchronous = FULL", error) ||
        !run(ledger, "PRAGMA cache_size = -256", error) || !run(ledger, schema, error) ||
        !load(ledger, error)) {
        return NULL;
    }
    return g_steal_pointer(&ledger);
}

void
ledger_close(Ledger *ledger)
{
    if (ledger != NULL) {
        g_hash_table_unref(ledger->statements);
        sqlite3_close(ledger->sql);
        g_hash_table_unref(ledger->rows);
        g_hash_table_unref(ledger->holders);
        g_free(ledger->path);
        g_free(ledger);
    }
}

/* ---- changing ---- */

/* One statement on a worker thread. Its text is a literal: the cache is by address. */
struct change {
    Ledger *ledger;
    const char *sql, *id, *text[2];
    GBytes *blob; /* bound first where there is one */
    int number[2];
    guint texts, numbers;
    bool ok;
    GError *error;
};

static void
bind_change(sqlite3_stmt *stmt, const struct change *change)
{
    int at = 1;
    if (change->blob != NULL) {
        gsize size = 0;
        const void *bytes = g_bytes_get_data(change->blob, &size);
        sqlite3_bind_blob(stmt, at++, size > 0 ? bytes : "", (int) size, SQLITE_STATIC);
    }
    for (guint i = 0; i < change->texts; i++) {
        sqlite3_bind_text(stmt, at++, change->text[i], -1, SQLITE_STATIC);
    }
    for (guint i = 0; i < change->numbers; i++) {
        sqlite3_bind_int(stmt, at++, change->number[i]);
    }
    sqlite3_bind_text(stmt, at, change->id, -1, SQLITE_STATIC);
}

static void
change_run(void *data)
{
    struct change *change = data;
    Ledger *ledger = change->ledger;
    sqlite3_stmt *stmt = g_hash_table_lookup(ledger->statements, change->sql);
    if (stmt == NULL) {
        if (sqlite3_prepare_v3(ledger->sql, change->sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt,
                               NULL) != SQLITE_OK) {
            fail_sqlite(ledger, change->sql, &change->error);
            return;
        }
        g_hash_table_insert(ledger->statements, (gpointer) change->sql, stmt);
    }
    bind_change(stmt, change);
    change->ok = sqlite3_step(stmt) == SQLITE_DONE ||
                 fail_sqlite(ledger, "record a step", &change->error); /* L3 */
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
}

static bool
commit(struct change *change, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&change->ledger->lock); /* L4 */
    fiber_run(change_run, change);
    if (change->error != NULL) {
        g_propagate_error(error, change->error);
    }
    return change->ok;
}

static LedgerRow *
row_of(Ledger *ledger, const char *id)
{
    LedgerRow *row = g_hash_table_lookup(ledger->rows, id);
    g_assert(row != NULL);
    return row;
}

/* The row in memory, made if there is none. L1 */
static LedgerRow *
keep_row(Ledger *ledger, const char *id, GBytes *spec)
{
    LedgerRow *row = g_hash_table_lookup(ledger->rows, id);
    if (row == NULL) {
        row = g_new0(LedgerRow, 1);
        row->id = g_strdup(id);
        g_hash_table_insert(ledger->rows, row->id, row);
    }
    g_clear_pointer(&row->spec, g_bytes_unref);
    row->spec = g_bytes_ref(spec);
    return row;
}

bool
ledger_begin(Ledger *ledger, const char *id, GBytes *spec, LedgerStep step, GError **error)
{
    bool fresh = ledger_find(ledger, id) == NULL;
    struct change change = {.ledger = ledger,
                            .sql = "INSERT INTO ports (spec, step, going, id) VALUES (?, ?, 0, ?)"
                                   " ON CONFLICT (id) DO UPDATE SET spec = excluded.spec",
                            .id = id,
                            .blob = spec,
                            .number = {step},
                            .numbers = 1};
    if (!commit(&change, error)) {
        return false;
    }
    LedgerRow *row = keep_row(ledger, id, spec);
    row->step = fresh ? step : row->step;
    return true;
}

bool
ledger_claim(Ledger *ledger, const char *id, GBytes *spec, const char *vf, const char *before,
             GError **error)
{
    const char *holder = ledger_holder(ledger, vf);
    if (holder != NULL) { /* L2 */
        return haw_fail(error, HAW_BUSY, "virtual function \"%s\" is held by port \"%s\"", vf,
                        holder);
    }
    g_hash_table_insert(ledger->holders, g_strdup(vf), g_strdup(id)); /* L1 */
    struct change change = {
        .ledger = ledger,
        .sql = "INSERT INTO ports (spec, vf, before, step, going, id) VALUES (?, ?, ?, ?, 0, ?)"
               " ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, vf = excluded.vf,"
               " before = excluded.before, step = excluded.step",
        .id = id,
        .blob = spec,
        .text = {vf, before},
        .texts = 2,
        .number = {LEDGER_CONFIGURED},
        .numbers = 1};
    if (!commit(&change, error)) {
        g_hash_table_remove(ledger->holders, vf);
        return false;
    }
    LedgerRow *row = keep_row(ledger, id, spec);
    g_assert(row->vf == NULL);
    row->vf = g_strdup(vf);
    row->before = g_strdup(before);
    row->step = LEDGER_CONFIGURED;
    return true;
}

bool
ledger_step(Ledger *ledger, const char *id, LedgerStep step, bool going, GError **error)
{
    LedgerRow *row = row_of(ledger, id);
    if (row->step == step && row->going == going) {
        return true;
    }
    struct change change = {.ledger = ledger,
                            .sql = "UPDATE ports SET step = ?, going = ? WHERE id = ?",
                            .id = id,
                            .number = {step, going},
                            .numbers = 2};
    if (!commit(&change, error)) {
        return false;
    }
    row->step = step;
    row->going = going;
    return true;
}

bool
ledger_note(Ledger *ledger, const char *id, const char *made, GError **error)
{
    struct change change = {.ledger = ledger,
                            .sql = "UPDATE ports SET made = ? WHERE id = ?",
                            .id = id,
                            .text = {made},
                            .texts = 1};
    if (!commit(&change, error)) {
        return false;
    }
    LedgerRow *row = row_of(ledger, id);
    g_free(row->made);
    row->made = g_strdup(made);
    return true;
}

bool
ledger_forget(Ledger *ledger, const char *id, GError **error)
{
    LedgerRow *row = row_of(ledger, id);
    struct change change = {.ledger = ledger, .sql = "DELETE FROM ports WHERE id = ?", .id = id};
    if (!commit(&change, error)) {
        return false;
    }
    if (row->vf != NULL) {
        g_hash_table_remove(ledger->holders, row->vf);
    }
    g_hash_table_remove(ledger->rows, id);
    return true;
}
