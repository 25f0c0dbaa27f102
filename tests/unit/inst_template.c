/* inst/render.c and the names of inst/snapshot.c. */
#include "agent/inst/snapshot.h"
#include "agent/inst/template.h"

#include <string.h>

static char *
render(const char *text, GError **error)
{
    json_t *scope =
        json_pack("{s:{s:s,s:b},s:{s:s,s:s},s:{s:s}}", "container", "name", "c1", "privileged", 0,
                  "config", "user.a", "x", "user.b", "y", "properties", "mode", "fast");
    json_object_set(scope, "instance", json_object_get(scope, "container"));
    char *result = template_render(text, scope, error);
    json_decref(scope);
    return result;
}

static void
what_images_write_is_rendered(void)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"plain { text }", "plain { text }"},
        {"{{ container.name }}.{{instance.name}}", "c1.c1"},
        {"{{ config_get(\"user.a\", \"no\") }}", "x"},
        {"{{ config_get('user.z', 'no') }}", "no"},
        {"{{ config_get(\"user.z\") }}|{{ nothing.here }}", "|"},
        {"{{ nothing|default:\"d\"|upper }}", "D"},
        {"{# a comment #}a", "a"},
        {"{% if container.privileged %}p{% else %}u{% endif %}", "u"},
        {"{% if config_get(\"user.a\",\"\") == \"x\" and not container.privileged %}1{% endif %}",
         "1"},
        {"{% if properties.mode != \"fast\" %}1{% elif instance.name == \"c1\" %}2{% endif %}3",
         "23"},
        {"{% if a or config_get('user.b','') == 'y' %}{% if b %}1{% else %}2{% endif %}{% endif %}",
         "2"},
        {"{% if a %}{{ config_get('user.a','') }}{% endif %}-", "-"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = render(cases[i].text, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(text, ==, cases[i].want);
    }
}

static void
broken_templates_are_errors(void)
{
    static const char *const cases[] = {
        "{{ a",
        "{% if a %}",
        "{% endif %}",
        "{% for x in y %}{% endfor %}",
        "{{ system(1) }}",
        "{{ a|unknown }}",
        "{{ 'open }}",
        "{% if %}1{% endif %}",
        "{{ }}",
        "{% if a b %}{% endif %}",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = render(cases[i], &error);
        g_assert_null(text);
        g_assert_error(error, HAW_ERROR, HAW_INVALID);
    }
}

static void
snapshot_names_follow_the_pattern(void)
{
    static const char *const names[] = {"snap0", "snap7", "snapx", "daily", "daily-3", NULL};
    static const struct {
        const char *pattern, *want;
    } cases[] = {
        {"snap%d", "snap8"},
        {"other%d", "other0"},
        {"daily", "daily-4"},
        {"weekly", "weekly"},
        {"%d-end", "0-end"},
        {"{{ creation_date|date:'2006-01-02_15-04-05' }}", "2021-05-06_07-08-09"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *name =
            snapshot_name(cases[i].pattern, names, G_GINT64_CONSTANT(1620284889000000), &error);
        g_assert_no_error(error);
        g_assert_cmpstr(name, ==, cases[i].want);
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *twice = snapshot_name("%d%d", names, 0, &error);
    g_assert_null(twice);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/template/what-images-write-is-rendered", what_images_write_is_rendered);
    g_test_add_func("/template/broken-templates-are-errors", broken_templates_are_errors);
    g_test_add_func("/snapshot/names-follow-the-pattern", snapshot_names_follow_the_pattern);
    return g_test_run();
}
