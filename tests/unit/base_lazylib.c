/* base/lazylib.c: L1, and what is said of a library that isn't there. */
#include "base/lazylib.h"

#include <string.h>

static void
a_function_of_a_loaded_library_can_be_called(void)
{
    static const char *const names[] = {"cos", "floor", NULL};
    struct {
        double (*cos)(double);
        double (*floor)(double);
    } table = {NULL};
    LazyLib lib = {"libm.so.6", "libc6", names, (void **) &table};
    g_autoptr(GError) error = NULL;
    g_assert_true(lazylib_load(&lib, &error));
    g_assert_no_error(error);
    g_assert_cmpfloat(table.floor(2.5), ==, 2.0);
    g_assert_true(lazylib_load(&lib, &error));
}

static void
a_missing_library_names_its_package(void)
{
    static const char *const names[] = {"f", NULL};
    void *table[1] = {NULL};
    LazyLib lib = {"libhawser-none.so.9", "libhawser-none9", names, table};
    g_autoptr(GError) error = NULL;
    g_assert_false(lazylib_load(&lib, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "libhawser-none9"));
}

static void
a_missing_function_is_named_and_the_table_not_used(void)
{
    static const char *const names[] = {"cos", "hawser_no_such_function", NULL};
    void *table[2] = {NULL};
    LazyLib lib = {"libm.so.6", "libc6", names, table};
    g_autoptr(GError) error = NULL;
    g_assert_false(lazylib_load(&lib, &error));
    g_assert_nonnull(strstr(error->message, "hawser_no_such_function"));
    g_assert_cmpint(lib.loaded, ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lazylib/a-function-of-a-loaded-library-can-be-called",
                    a_function_of_a_loaded_library_can_be_called);
    g_test_add_func("/lazylib/a-missing-library-names-its-package",
                    a_missing_library_names_its_package);
    g_test_add_func("/lazylib/a-missing-function-is-named-and-the-table-not-used",
                    a_missing_function_is_named_and_the_table_not_used);
    return g_test_run();
}
