/* agent/api/settings.c: S1 to S3, over a database in memory; agent/auth/password.c: P1. */
#include "agent/api/settings.h"

#include "agent/auth/password.h"
#include "agent/state/db.h"
#include "base/fiber.h"

#include <string.h>

typedef void (*Body)(Agent *agent, Settings *settings);

static void
run_body(void *data)
{
    g_autoptr(GError) error = NULL;
    Agent agent = {.db = db_open(":memory:", &error)};
    g_assert_no_error(error);
    agent.settings = settings_load(&agent, &error);
    g_assert_no_error(error);
    ((Body) data)(&agent, agent.settings);
    settings_free(agent.settings);
    db_close(agent.db);
}

static void
in_fiber(Body body)
{
    fiber_start("test", run_body, (void *) body);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
}

/* The error's text; caller frees; NULL: it went well. */
static char *
change(Settings *settings, const char *json, bool replace)
{
    g_autoptr(GError) error = NULL;
    json_t *wanted = json_loads(json, 0, NULL);
    g_assert_nonnull(wanted);
    bool ok = settings_change(settings, wanted, replace, &error);
    json_decref(wanted);
    g_assert_true(ok == (error == NULL));
    return ok ? NULL : g_strdup(error->message);
}

static void
assert_change(Settings *settings, const char *json, bool replace, const char *want)
{
    g_autofree char *words = change(settings, json, replace);
    g_assert_cmpstr(words, ==, want);
}

static void
values_body(Agent *agent, Settings *settings)
{
    g_assert_cmpint(settings_int(settings, "core.shutdown_timeout"), ==, 5);
    g_assert_null(settings_get(settings, "core.https_address"));
    assert_change(settings, "{\"images.auto_update_cached\":\"No\",\"user.a\":\"b\"}", false, NULL);
    g_assert_cmpstr(settings_get(settings, "images.auto_update_cached"), ==, "false");
    assert_change(settings, "{\"core.https_address\":\"::1\"}", false, NULL);
    g_assert_cmpstr(settings_get(settings, "core.https_address"), ==, "[::1]:8443");
    assert_change(settings, "{\"core.shutdown_timeout\":\"5\"}", false, NULL); /* the default */
    json_t *shown = settings_json(settings);
    g_assert_cmpuint(json_object_size(shown), ==, 3);
    json_decref(shown);

    /* They are in the database, too. */
    g_autoptr(GError) error = NULL;
    Settings *again = settings_load(agent, &error);
    g_assert_cmpstr(settings_get(again, "user.a"), ==, "b");
    settings_free(again);

    assert_change(settings, "{}", true, NULL); /* a PUT; user.* stays */
    g_assert_null(settings_get(settings, "core.https_address"));
    g_assert_cmpstr(settings_get(settings, "user.a"), ==, "b");
    assert_change(settings, "{\"user.a\":null}", false, NULL);
    g_assert_null(settings_get(settings, "user.a"));
}

static void
values_are_normalised_and_stored(void)
{
    in_fiber(values_body);
}

static void
refused_body(Agent *agent, Settings *settings)
{
    assert_change(settings, "{\"foo\":\"1\"}", false, "cannot set 'foo' to '1': unknown key");
    assert_change(settings, "{\"b\":\"1\",\"a\":\"2\",\"user.x\":\"y\"}", false,
                  "cannot set 'a' to '2': unknown key (and 1 more errors)");
    assert_change(settings, "{\"core.shutdown_timeout\":\"x\"}", false,
                  "cannot set 'core.shutdown_timeout' to 'x': invalid integer");
    assert_change(settings, "{\"images.auto_update_cached\":\"maybe\"}", false,
                  "cannot set 'images.auto_update_cached' to 'maybe': invalid boolean");
    assert_change(settings, "{\"core.shutdown_timeout\":5}", false,
                  "cannot set 'core.shutdown_timeout': invalid type float64");
    assert_change(settings, "{\"user.a\":{}}", false, "cannot set 'user.a': invalid type map");
    g_assert_null(settings_get(settings, "user.x")); /* S2 */
}

static void
bad_values_change_nothing(void)
{
    in_fiber(refused_body);
}

static guint applied;

static bool
apply(Agent *agent, const char *key, const char *value, GError **error)
{
    applied++;
    return g_strcmp0(value, "bad") != 0 || haw_fail(error, HAW_FAILED, "it is bad");
}

static void
applier_body(Agent *agent, Settings *settings)
{
    settings_on_change(settings, "user.k", apply);
    assert_change(settings, "{\"user.k\":\"good\"}", false, NULL);
    g_assert_cmpuint(applied, ==, 1);
    assert_change(settings, "{\"user.k\":\"good\"}", false, NULL); /* no change, no call */
    g_assert_cmpuint(applied, ==, 1);
    assert_change(settings, "{\"user.k\":\"bad\",\"user.other\":\"x\"}", false, "it is bad");
    g_assert_cmpstr(settings_get(settings, "user.k"), ==, "good"); /* S3 */
    g_assert_null(settings_get(settings, "user.other"));
    g_autoptr(GError) error = NULL;
    Settings *again = settings_load(agent, &error);
    g_assert_cmpstr(settings_get(again, "user.k"), ==, "good");
    g_assert_null(settings_get(again, "user.other"));
    settings_free(again);
}

static void
failed_applier_takes_the_change_back(void)
{
    in_fiber(applier_body);
}

static void
secret_body(Agent *agent, Settings *settings)
{
    g_autoptr(GError) error = NULL;
    assert_change(settings, "{\"core.trust_password\":\"sekret\"}", false, NULL);
    g_autofree char *hash = g_strdup(settings_get(settings, "core.trust_password"));
    g_assert_true(g_str_has_prefix(hash, "$y$")); /* P1 */
    g_assert_null(strstr(hash, "sekret"));
    json_t *shown = settings_json(settings);
    g_assert_true(json_is_true(json_object_get(shown, "core.trust_password")));
    json_decref(shown);

    g_assert_true(password_check(hash, "sekret", &error));
    g_assert_false(password_check(hash, "Sekret", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_DENIED);
    /* What GET showed leaves it as it is. */
    assert_change(settings, "{\"core.trust_password\":true}", true, NULL);
    g_assert_cmpstr(settings_get(settings, "core.trust_password"), ==, hash);
    assert_change(settings, "{}", true, NULL);
    g_assert_null(settings_get(settings, "core.trust_password"));
}

static void
trust_password_is_only_kept_hashed(void)
{
    in_fiber(secret_body);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/settings/values-are-normalised-and-stored", values_are_normalised_and_stored);
    g_test_add_func("/settings/bad-values-change-nothing", bad_values_change_nothing);
    g_test_add_func("/settings/failed-applier-takes-the-change-back",
                    failed_applier_takes_the_change_back);
    g_test_add_func("/settings/trust-password-is-only-kept-hashed",
                    trust_password_is_only_kept_hashed);
    return g_test_run();
}
