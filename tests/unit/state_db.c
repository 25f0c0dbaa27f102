/* agent/state/db.c: D1 to D4. */
#include "agent/state/db.h"
#include "base/fiber.h"
#include "tests/fakes/in_fiber.h"

static bool
insert_then_fail(DbTx *tx, void *data, GError **error)
{
    g_assert_true(db_exec(tx, error, "INSERT INTO config VALUES (?, ?)", "ss", "a", "1"));
    return haw_fail(error, HAW_INVALID, "no");
}

static bool
insert_twice(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "INSERT INTO config VALUES (?, ?)", "ss", "k", "1") &&
           db_exec(tx, error, "INSERT INTO config VALUES (?, ?)", "ss", "k", "2");
}

static bool
insert_json(DbTx *tx, void *data, GError **error)
{
    json_t *map = json_pack("{s:s}", "b", "ä\"");
    bool ok = db_exec(tx, error, "INSERT INTO config VALUES (?, ?)", "sj", "json", map);
    json_decref(map);
    return ok;
}

static bool
count_rows(DbTx *tx, void *data, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error, "SELECT key, value FROM config", "");
    int n = 0;
    while (rows != NULL && db_next(rows)) {
        g_autoptr(DbRows) same = db_query(tx, error, "SELECT key, value FROM config", "");
        g_assert_true(db_next(same));
        json_t *value = db_json(rows, 1);
        if (g_strcmp0(db_text(rows, 0), "json") == 0) {
            g_assert_cmpstr(json_string_value(json_object_get(value, "b")), ==, "ä\"");
        }
        json_decref(value);
        n++;
    }
    *(int *) data = n;
    return rows != NULL && db_rows_ok(rows, error);
}

static bool
orphan_profile(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error,
                   "INSERT INTO profiles (project_id, name, description, config, devices) "
                   "VALUES (?, 'p', '', '{}', '{}')",
                   "i", (gint64) 99);
}

static void
transactions_body(void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Db) db = db_open(":memory:", &error);
    g_assert_no_error(error);
    int rows = -1;

    g_assert_false(db_write(db, insert_then_fail, NULL, &error)); /* D3 */
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    g_clear_error(&error);
    g_assert_false(db_write(db, insert_twice, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_EXISTS);
    g_clear_error(&error);
    g_assert_true(db_read(db, count_rows, &rows, NULL));
    g_assert_cmpint(rows, ==, 0);

    g_assert_true(db_write(db, insert_json, NULL, NULL));
    g_assert_true(db_read(db, count_rows, &rows, NULL));
    g_assert_cmpint(rows, ==, 1);
    g_assert_false(db_write(db, orphan_profile, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_CONFLICT);
}

static void
failed_transaction_leaves_nothing(void)
{
    in_fiber(transactions_body, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/db/failed-transaction-leaves-nothing", failed_transaction_leaves_nothing);
    return g_test_run();
}
