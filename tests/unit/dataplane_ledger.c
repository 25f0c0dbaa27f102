/* dataplane/slow/ledger.c: L1 to L4, over a real file. */
#include "base/fiber.h"
#include "dataplane/slow/ledger.h"
#include "tests/fakes/in_fiber.h"

#include <glib/gstdio.h>
#include <string.h>

static char *path;

static Ledger *
open_ledger(void)
{
    g_autoptr(GError) error = NULL;
    Ledger *ledger = ledger_open(path, &error);
    g_assert_no_error(error);
    return ledger;
}

static void
make_rows(void *data)
{
    Ledger *ledger = data;
    g_autoptr(GBytes) spec = g_bytes_new_static("\0spec", 5);
    g_autoptr(GError) error = NULL;
    g_assert_true(ledger_begin(ledger, "one", spec, LEDGER_NEW, &error));
    g_assert_true(ledger_begin(ledger, "two", spec, LEDGER_READY, &error));
    g_assert_true(ledger_claim(ledger, "one", spec, "0000:03:00.2", "{}", &error));
    g_assert_cmpint(ledger_find(ledger, "one")->step, ==, LEDGER_CONFIGURED);
    g_assert_true(ledger_step(ledger, "one", LEDGER_BOUND, false, &error));
    g_assert_true(ledger_note(ledger, "one", "{\"rep\":1}", &error));
    g_assert_no_error(error);
}

static void
test_survives(void)
{
    Ledger *ledger = open_ledger();
    in_fiber(make_rows, ledger);
    ledger_close(ledger);

    g_autoptr(Ledger) again = open_ledger();
    const LedgerRow *row = ledger_find(again, "one");
    g_assert_nonnull(row);
    g_assert_cmpint(row->step, ==, LEDGER_BOUND);
    g_assert_false(row->going);
    g_assert_cmpstr(row->vf, ==, "0000:03:00.2");
    g_assert_cmpstr(row->made, ==, "{\"rep\":1}");
    g_assert_cmpint((int) g_bytes_get_size(row->spec), ==, 5);
    g_assert_cmpstr(ledger_holder(again, "0000:03:00.2"), ==, "one");
    g_assert_cmpint(ledger_find(again, "two")->step, ==, LEDGER_READY);
}

static void
claim_twice(void *data)
{
    Ledger *ledger = data;
    g_autoptr(GBytes) spec = g_bytes_new_static("s", 1);
    g_autoptr(GError) error = NULL;
    make_rows(ledger);
    g_assert_false(ledger_claim(ledger, "two", spec, "0000:03:00.2", "{}", &error));
    g_assert_error(error, HAW_ERROR, HAW_BUSY);
    g_assert_nonnull(strstr(error->message, "\"one\""));
    g_clear_error(&error);
    g_assert_true(ledger_forget(ledger, "one", &error));
    g_assert_null(ledger_holder(ledger, "0000:03:00.2"));
    g_assert_true(ledger_claim(ledger, "two", spec, "0000:03:00.2", "{}", &error));
}

static void
test_exclusive(void)
{
    g_autoptr(Ledger) ledger = open_ledger();
    in_fiber(claim_twice, ledger);
}

/* Many fibers want one function: exactly one gets it (L1, L2). */
struct race {
    Ledger *ledger;
    int number, *won, *refused;
};

static void
race_one(void *data)
{
    struct race *race = data;
    g_autofree char *id = g_strdup_printf("port%d", race->number);
    g_autoptr(GBytes) spec = g_bytes_new_static("s", 1);
    g_autoptr(GError) error = NULL;
    if (ledger_claim(race->ledger, id, spec, "vf", "{}", &error)) {
        (*race->won)++;
    } else {
        g_assert_error(error, HAW_ERROR, HAW_BUSY);
        (*race->refused)++;
    }
}

static void
test_race(void)
{
    g_autoptr(Ledger) ledger = open_ledger();
    int won = 0, refused = 0;
    struct race races[20];
    for (int i = 0; i < 20; i++) {
        races[i] = (struct race){ledger, i, &won, &refused};
        fiber_start("race", race_one, &races[i]);
    }
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(won, ==, 1);
    g_assert_cmpint(refused, ==, 19);
}

static void
test_damaged(void)
{
    g_autofree char *junk = g_malloc(8192);
    memset(junk, 'x', 8192);
    g_assert_true(g_file_set_contents(path, junk, 8192, NULL));
    g_autoptr(GError) error = NULL;
    g_assert_null(ledger_open(path, &error));
    g_assert_error(error, HAW_ERROR, HAW_CORRUPT);
    g_assert_nonnull(strstr(error->message, "move it away"));
}

typedef void (*Test)(void);

static void
with_file(gconstpointer test)
{
    g_autofree char *dir = g_dir_make_tmp("ledger-XXXXXX", NULL);
    path = g_build_filename(dir, "ledger.db", NULL);
    ((Test) test)();
    const char *const endings[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *file = g_strconcat(path, endings[i], NULL);
        g_unlink(file);
    }
    g_rmdir(dir);
    g_free(path);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/ledger/what-is-recorded-survives", (gconstpointer) test_survives,
                         with_file);
    g_test_add_data_func("/ledger/a-function-has-one-holder", (gconstpointer) test_exclusive,
                         with_file);
    g_test_add_data_func("/ledger/of-twenty-claims-at-once-one-wins", (gconstpointer) test_race,
                         with_file);
    g_test_add_data_func("/ledger/a-damaged-file-says-what-to-do", (gconstpointer) test_damaged,
                         with_file);
    return g_test_run();
}
