/* proto/grammar*.c: G1, G2, N1, T1 to T3. */
#include "proto/grammar.h"

#include <string.h>
#include <time.h>

typedef bool (*Check)(const char *, GError **);
typedef struct {
    Check check;
    const char *good[16], *bad[16];
} Row;

static void
walk(const Row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(rows[i].check(NULL, &error)); /* G1 */
        g_assert_true(rows[i].check("", &error));
        for (const char *const *v = rows[i].good; *v != NULL; v++) {
            if (!rows[i].check(*v, &error)) {
                g_error("row %zu refuses '%s': %s", i, *v, error->message);
            }
        }
        for (const char *const *v = rows[i].bad; *v != NULL; v++) {
            if (rows[i].check(*v, &error)) {
                g_error("row %zu accepts '%s'", i, *v);
            }
            g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
            g_clear_error(&error);
        }
    }
}

static void
scalars_accept_and_refuse_what_lxd_does(void)
{
    static const Row rows[] = {
        {grammar_bool,
         {"true", "TRUE", "1", "yes", "On", "false", "0", "no", "off"},
         {"2", "y", "truee", " true"}},
        {grammar_size,
         {"0", "123", "10B", "5 bytes", "10kB", "10MB", "3GiB", "7EiB", "9223372036854775807"},
         {"10KB", "10K", "10G", "1.5GiB", "-1", " 1", "GiB", "8EiB", "9223372036854775808", "10gib",
          "10 GiB"}},
        {grammar_bitsize, {"100", "100bit", "10Mbit", "1Gibit"}, {"10Mb", "10mbit", "10MB"}},
        {grammar_int64,
         {"0", "-5", "+5", "9223372036854775807"},
         {"9223372036854775808", "1a", "-", "0x10", "1 ", "1.0"}},
        {grammar_uint8, {"0", "255"}, {"256", "-1", "+1"}},
        {grammar_uint32, {"0", "4294967295"}, {"4294967296", "-1"}},
        {grammar_priority, {"0", "10"}, {"11", "-1", "x"}},
        {grammar_ifname,
         {"br", "lxdbr0", "a-b_c.d", "abcdefghijklmno"},
         {"a", "abcdefghijklmnop", "a b", "a/b", "a:1"}},
        {grammar_mac,
         {"00:16:3e:aa:bb:cc", "00:16:3E:AA:BB:CC"},
         {"00-16-3e-aa-bb-cc", "00:16:3e:aa:bb", "00:16:3e:aa:bb:cc:dd", "00:16:3e:aa:bb:cg"}},
        {grammar_mtu, {"1280", "16384"}, {"1279", "16385", "x"}},
        {grammar_vlan, {"0", "4094"}, {"4095", "-1"}},
        {grammar_port, {"0", "65535"}, {"65536", "-1", "x"}},
        {grammar_port_range, {"80", "80-90"}, {"90-80", "80-80", "80-", "-80", "1-2-3"}},
        {grammar_hostname,
         {"c1", "a", "a-b", "A9"},
         {"1c", "-a", "a-", "a_b", "a.b", "a/b", "\xc3\xa4",
          "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl"}},
        {grammar_device_name, {"eth0", "a/b", "a.b:c_d-e"}, {".", "..", ".a", "a b", "a\n"}},
        {grammar_snapshot_name, {"snap0", "a.b", "x@y"}, {"a/b", "a b", "a?b", "..", "a&b"}},
        {grammar_octal, {"0660", "755", "0"}, {"8", "0x1", "rw", "-1"}},
        {grammar_memory, {"50%", "1GiB", "1"}, {"0", "0%", "x%", "%", "1.5GB"}},
        {grammar_allowance, {"50%", "10ms/100ms"}, {"50", "10ms", "10/100", "ms/ms", "0ms/1ms"}},
        {grammar_compression,
         {"gzip", "none", "zstd -3", "xz -T0"},
         {"sh", "gzip /etc/passwd", "gzip; id", "/bin/gzip"}},
    };
    walk(rows, G_N_ELEMENTS(rows));
}

static void
cpu_sets_and_kernel_limits(void)
{
    static const Row rows[] = {
        {grammar_cpuset,
         {"4", "0-3", "0,2,4-6", "2-2"},
         {"1,1", "0-3,2", "3-1", "1-", ",1", "1,,2", "a", "1-2-3", "99999999999"}},
        {grammar_kernel_limit,
         {"100", "100:200", "unlimited", "10:unlimited"},
         {"1:2:3", ":", "a", "-1", "1:"}},
    };
    walk(rows, G_N_ELEMENTS(rows));
}

static void
addresses_are_strict(void)
{
    static const Row rows[] = {
        {grammar_ipv4, {"10.0.0.1"}, {"10.0.0", "10.0.0.256", "010.0.0.1", "::1", "10.0.0.1/8"}},
        {grammar_ipv6, {"::", "fd42::1"}, {"10.0.0.1", "fe80::1%eth0", "::g", "[::1]"}},
        {grammar_ip,
         {"10.0.0.1", "::1"},
         {"host", ""
                  "x"}},
        {grammar_cidr4,
         {"10.0.0.1/24", "10.0.0.0/0"},
         {"10.0.0.1", "10.0.0.1/33", "10.0.0.1/", "::1/64", "10.0.0.1/-1"}},
        {grammar_cidr6, {"fd42::1/64"}, {"fd42::1", "fd42::1/129", "10.0.0.1/24"}},
        {grammar_net4, {"10.0.0.0/24", "1.2.3.4/32", "0.0.0.0/0"}, {"10.0.0.1/24"}},
        {grammar_net6, {"fd42::/64", "::/0"}, {"fd42::1/64"}},
        {grammar_net4_list,
         {"10.0.0.0/24,10.1.0.0/16", "10.0.0.0/24, 10.1.0.0/16"},
         {"10.0.0.0/24,", "10.0.0.0/24,x"}},
        {grammar_range4_list,
         {"10.0.0.2-10.0.0.9", "10.0.0.2-10.0.0.9, 10.0.0.20-10.0.0.20"},
         {"10.0.0.9-10.0.0.2", "10.0.0.2", "10.0.0.2-::1", "-"}},
        {grammar_range6_list, {"fd42::2-fd42::9"}, {"fd42::9-fd42::2", "10.0.0.2-10.0.0.9"}},
        {grammar_listen,
         {":8443", "[::]", "[::]:8443", "1.2.3.4:80", "host", "::1", "host.tld:1"},
         {"1.2.3.4:", "1.2.3.4:99999", "[::", "[::]x", "a b", "1.2.3.4:80:90", "-x", "/sock"}},
    };
    walk(rows, G_N_ELEMENTS(rows));
}

static void
sizes_multiply_and_never_overflow(void)
{
    gint64 n;
    g_assert_true(grammar_parse_size("10GiB", &n, NULL));
    g_assert_cmpint(n, ==, 10737418240);
    g_assert_true(grammar_parse_size("2kB", &n, NULL));
    g_assert_cmpint(n, ==, 2000);
    g_assert_true(grammar_parse_bits("10Mbit", &n, NULL));
    g_assert_cmpint(n, ==, 10000000);
    g_assert_false(grammar_parse_size("10000EB", &n, NULL)); /* G2 */
}

static void
listen_addresses_come_apart(void)
{
    static const struct {
        const char *text, *host;
        guint16 port;
    } rows[] = {{":8443", "", 8443},     {"[::]", "::", 1},
                {"[::1]:5", "::1", 5},   {"1.2.3.4", "1.2.3.4", 1},
                {"::1", "::1", 1},       {"", "", 1},
                {"host:99", "host", 99}, {"1.2.3.4:80", "1.2.3.4", 80}};
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *host = NULL;
        guint16 port;
        g_assert_true(grammar_parse_listen(rows[i].text, 1, &host, &port, NULL));
        g_assert_cmpstr(host, ==, rows[i].host);
        g_assert_cmpuint(port, ==, rows[i].port);
    }
}

static void
schedules_and_expiries_parse(void)
{
    static const Row rows[] = {
        {grammar_cron,
         {"@daily", "@Hourly", "@startup", "@never", "0 6 * * *", "*/5 * * * *", "0 6 * * mon-fri",
          "0 0 1 JAN *", "0,30 6-8 * * 7", "@daily, 0 6 * * *"},
         {"@foo", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
          "a * * * *", "*/0 * * * *", "5-1 * * * *", "* * * * * *", "@daily,@hourly",
          "1,, * * * *"}},
        {grammar_cron_plain, {"@daily", "0 6 * * *"}, {"@startup", "@never"}},
        {grammar_expiry,
         {"1d", "1d 3H", "3H 1d", "1S 1M 1H 1d 1w 1m 1y", "0d"},
         {"1", "d", "1x", "1d 2d", "1d3H", "-1d", "1.5d"}},
    };
    walk(rows, G_N_ELEMENTS(rows));
}

static gint64
moment(int year, int month, int day, int hour, int minute)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_isdst = -1};
    return (gint64) mktime(&tm) * G_USEC_PER_SEC;
}

static void
schedules_fire_in_their_minute(void)
{
    gint64 sunday = moment(2026, 11, 22, 6, 0), monday = moment(2026, 11, 23, 6, 30);
    g_assert_true(grammar_cron_due("0 6 * * *", sunday));
    g_assert_true(grammar_cron_due("0 6 * * 7", sunday));
    g_assert_true(grammar_cron_due("0 6 * * sun", sunday));
    g_assert_false(grammar_cron_due("0 6 * * mon", sunday));
    g_assert_true(grammar_cron_due("@daily, 30 6 * * *", monday)); /* T1 */
    g_assert_true(grammar_cron_due("@hourly", sunday));
    g_assert_false(grammar_cron_due("@hourly", monday));
    g_assert_true(grammar_cron_due("30 6 1 * mon", monday)); /* T2 */
    g_assert_false(grammar_cron_due("30 6 1 * *", monday));
    g_assert_false(grammar_cron_due("@never", monday));
    g_assert_false(grammar_cron_due("", monday));
    g_assert_true(grammar_cron_due("*/15 * * * *", monday));
}

static void
expiry_follows_the_calendar(void)
{
    const gint64 jan31 = G_GINT64_CONSTANT(1769817600) * G_USEC_PER_SEC; /* 2026-01-31T00:00:00Z */
    const gint64 day = G_GINT64_CONSTANT(86400) * G_USEC_PER_SEC;
    g_assert_cmpint(grammar_expiry_after("1d 1H", jan31) - jan31, ==, day + day / 24);
    g_assert_cmpint(grammar_expiry_after("2w", jan31) - jan31, ==, 14 * day);
    g_assert_cmpint(grammar_expiry_after("1m", jan31) - jan31, ==, 31 * day); /* T3: 3 March */
    g_assert_cmpint(grammar_expiry_after("", jan31), ==, 0);
    g_assert_cmpint(grammar_expiry_after("nonsense", jan31), ==, 0);
}

static void
lists_are_trimmed(void)
{
    g_auto(GStrv) list = grammar_list(" a, b ,,c ");
    g_assert_cmpuint(g_strv_length(list), ==, 3);
    g_assert_cmpstr(list[1], ==, "b");
    g_auto(GStrv) none = grammar_list(NULL);
    g_assert_null(none[0]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/grammar/scalars-accept-and-refuse-what-lxd-does",
                    scalars_accept_and_refuse_what_lxd_does);
    g_test_add_func("/grammar/cpu-sets-and-kernel-limits", cpu_sets_and_kernel_limits);
    g_test_add_func("/grammar/addresses-are-strict", addresses_are_strict);
    g_test_add_func("/grammar/sizes-multiply-and-never-overflow",
                    sizes_multiply_and_never_overflow);
    g_test_add_func("/grammar/listen-addresses-come-apart", listen_addresses_come_apart);
    g_test_add_func("/grammar/schedules-and-expiries-parse", schedules_and_expiries_parse);
    g_test_add_func("/grammar/schedules-fire-in-their-minute", schedules_fire_in_their_minute);
    g_test_add_func("/grammar/expiry-follows-the-calendar", expiry_follows_the_calendar);
    g_test_add_func("/grammar/lists-are-trimmed", lists_are_trimmed);
    return g_test_run();
}
