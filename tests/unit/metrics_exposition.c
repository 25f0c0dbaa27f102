/* agent/metrics/exposition.c: X1, X3 and the two formats' small print. */
#include "agent/metrics/exposition.h"

#include <string.h>

static GString *
render(const Exposition *const *parts, guint count, ExpositionFormat format)
{
    return exposition_render(parts, count, format);
}

static void
a_family_stands_together_whatever_the_order(void)
{
    g_autoptr(Exposition) one = exposition_new();
    g_autoptr(Exposition) two = exposition_new();
    exposition_add(one, METRIC_PROCS, "name=\"a\"", 1);
    exposition_add(two, METRIC_PROCS, "name=\"b\"", 2.5);
    exposition_add(one, METRIC_CPU_EFFECTIVE, "name=\"a\"", 4);
    const Exposition *parts[] = {one, two};
    GString *text = render(parts, 2, EXPOSITION_PROMETHEUS);
    g_assert_cmpstr(text->str, ==,
                    "# HELP lxd_cpu_effective_total The total number of effective CPUs.\n"
                    "# TYPE lxd_cpu_effective_total gauge\n"
                    "lxd_cpu_effective_total{name=\"a\"} 4\n"
                    "# HELP lxd_procs_total The number of running processes.\n"
                    "# TYPE lxd_procs_total gauge\n"
                    "lxd_procs_total{name=\"a\"} 1\n"
                    "lxd_procs_total{name=\"b\"} 2.5\n"
                    "# EOF\n");
    g_string_free(text, TRUE);
}

static bool
has(Exposition *samples, ExpositionFormat format, const char *line)
{
    const Exposition *parts[] = {samples};
    GString *text = render(parts, 1, format);
    bool found = strstr(text->str, line) != NULL;
    g_string_free(text, TRUE);
    return found;
}

static void
openmetrics_names_counters_without_total(void)
{
    g_autoptr(Exposition) samples = exposition_new();
    exposition_add(samples, METRIC_CPU_SECONDS, "cpu=\"0\"", 1.25);
    g_assert_true(has(samples, EXPOSITION_OPENMETRICS, "# TYPE lxd_cpu_seconds counter\n"));
    g_assert_true(
        has(samples, EXPOSITION_OPENMETRICS, "\nlxd_cpu_seconds_total{cpu=\"0\"} 1.25\n"));
    g_assert_true(has(samples, EXPOSITION_PROMETHEUS, "# TYPE lxd_cpu_seconds_total counter\n"));
}

static void
what_openmetrics_has_no_counter_for_is_a_gauge(void)
{
    g_autoptr(Exposition) samples = exposition_new();
    exposition_add(samples, METRIC_UPTIME, "", 3);
    exposition_add(samples, METRIC_GO_ALLOC, "", 1);
    exposition_add(samples, METRIC_GO_ALLOC_TOTAL, "", 2);
    g_assert_true(has(samples, EXPOSITION_OPENMETRICS, "# TYPE lxd_uptime_seconds gauge\n"));
    g_assert_true(has(samples, EXPOSITION_OPENMETRICS, "# TYPE lxd_go_alloc_bytes gauge\n"));
    g_assert_true(has(samples, EXPOSITION_OPENMETRICS, "# TYPE lxd_go_alloc_bytes_total gauge\n"));
    g_assert_true(has(samples, EXPOSITION_PROMETHEUS, "# TYPE lxd_uptime_seconds counter\n"));
}

static void
a_histogram_adds_up(void)
{
    g_autoptr(Exposition) samples = exposition_new();
    struct histogram values = {{0}, 0};
    histogram_note(&values, 400);
    histogram_note(&values, 1000000);
    histogram_note(&values, 600000000);
    exposition_add_histogram(samples, METRIC_OPS_SECONDS, "status=\"success\"", &values);
    static const char *const lines[] = {
        "_bucket{status=\"success\",le=\"0.0005\"} 1\n",
        "_bucket{status=\"success\",le=\"0.5\"} 1\n",
        "_bucket{status=\"success\",le=\"1.0\"} 2\n",
        "_bucket{status=\"success\",le=\"60.0\"} 2\n",
        "_bucket{status=\"success\",le=\"+Inf\"} 3\n",
        "_count{status=\"success\"} 3\n",
        "_sum{status=\"success\"} 601.0004",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_assert_true(has(samples, EXPOSITION_OPENMETRICS, lines[i]));
    }
}

static void
labels_are_quoted(void)
{
    g_autofree char *label = exposition_label("source", "a\"b\\c\nd\xff");
    g_assert_cmpstr(label, ==, "source=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"");
}

static void
no_two_families_have_one_name(void)
{
    for (int i = 0; i < METRIC_ID_COUNT; i++) {
        for (int j = i + 1; j < METRIC_ID_COUNT; j++) {
            g_assert_cmpstr(metric_families[i].name, !=, metric_families[j].name);
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/exposition/a-family-stands-together-whatever-the-order",
                    a_family_stands_together_whatever_the_order);
    g_test_add_func("/exposition/openmetrics-names-counters-without-total",
                    openmetrics_names_counters_without_total);
    g_test_add_func("/exposition/what-openmetrics-has-no-counter-for-is-a-gauge",
                    what_openmetrics_has_no_counter_for_is_a_gauge);
    g_test_add_func("/exposition/a-histogram-adds-up", a_histogram_adds_up);
    g_test_add_func("/exposition/labels-are-quoted", labels_are_quoted);
    g_test_add_func("/exposition/no-two-families-have-one-name", no_two_families_have_one_name);
    return g_test_run();
}
