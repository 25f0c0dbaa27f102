/* agent/metrics/instprobe.c: the kernel's texts, of both versions of control groups. */
#include "agent/metrics/instprobe.h"

#include <string.h>

static void
check(Exposition *samples, const char *const *lines)
{
    const Exposition *parts[] = {samples};
    GString *text = exposition_render(parts, 1, EXPOSITION_PROMETHEUS);
    for (; *lines != NULL; lines++) {
        if (strstr(text->str, *lines) == NULL) {
            g_error("no '%s' in:\n%s", *lines, text->str);
        }
    }
    g_string_free(text, TRUE);
}

static void
memory_of_v1_counts_the_groups_below(void)
{
    g_autoptr(Exposition) samples = exposition_new();
    instprobe_take_memory("cache 1\nrss 2\nactive_anon 3\ntotal_cache 4096\ntotal_rss 8192\n"
                          "total_active_anon 100\ntotal_active_file 20\ntotal_swap 7\n",
                          true, "n=\"c\"", 100000, 60000, samples);
    check(samples, (const char *const[]){"lxd_memory_Cached_bytes{n=\"c\"} 4096\n",
                                         "lxd_memory_RSS_bytes{n=\"c\"} 8192\n",
                                         "lxd_memory_Active_bytes{n=\"c\"} 120\n",
                                         "lxd_memory_Swap_bytes{n=\"c\"} 7\n",
                                         "lxd_memory_MemTotal_bytes{n=\"c\"} 100000\n",
                                         "lxd_memory_MemFree_bytes{n=\"c\"} 40000\n",
                                         "lxd_memory_MemAvailable_bytes{n=\"c\"} 44096\n", NULL});
}

static void
memory_of_v2_has_other_words(void)
{
    g_autoptr(Exposition) samples = exposition_new();
    instprobe_take_memory(
        "anon 5\nfile 6\nfile_mapped 7\nfile_dirty 8\nfile_writeback 9\nshmem 10\n"
        "inactive_anon 1\ninactive_file 2\n",
        false, "n=\"c\"", 10, 20, samples);
    check(samples,
          (const char *const[]){
              "lxd_memory_RSS_bytes{n=\"c\"} 5\n", "lxd_memory_Cached_bytes{n=\"c\"} 6\n",
              "lxd_memory_Mapped_bytes{n=\"c\"} 7\n", "lxd_memory_Dirty_bytes{n=\"c\"} 8\n",
              "lxd_memory_Writeback_bytes{n=\"c\"} 9\n", "lxd_memory_Inactive_bytes{n=\"c\"} 3\n",
              "lxd_memory_MemFree_bytes{n=\"c\"} 0\n", NULL});
}

static void
processors_of_both_versions(void)
{
    g_autoptr(Exposition) v1 = exposition_new();
    g_autoptr(Exposition) v2 = exposition_new();
    instprobe_take_cpu("cpu user system\n0 1500000000 250000000\n1 0 0\n", true, "n=\"c\"", v1);
    instprobe_take_cpu("usage_usec 5\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\n", false,
                       "n=\"c\"", v2);
    check(v1, (const char *const[]){
                  "lxd_cpu_seconds_total{cpu=\"0\",mode=\"user\",n=\"c\"} 1.5\n",
                  "lxd_cpu_seconds_total{cpu=\"0\",mode=\"system\",n=\"c\"} 0.25\n",
                  "lxd_cpu_seconds_total{cpu=\"1\",mode=\"user\",n=\"c\"} 0\n", NULL});
    check(v2, (const char *const[]){
                  "lxd_cpu_seconds_total{cpu=\"0\",mode=\"user\",n=\"c\"} 2\n",
                  "lxd_cpu_seconds_total{cpu=\"0\",mode=\"system\",n=\"c\"} 0.5\n", NULL});
}

static void
interfaces_may_be_called_anything(void)
{
    g_autoptr(Exposition) samples = exposition_new();
    instprobe_take_network(
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
        "drop fifo colls carrier compressed\n"
        "    lo:       0       0    0    0    0     0          0         0        0       0    0   "
        " "
        "0    0     0       0          0\n"
        "  a:b\"c: 10 11 12 13 14 15 16 17 20 21 22 23 24 25 26 27\n",
        "n=\"c\"", samples);
    check(samples, (const char *const[]){
                       "lxd_network_receive_bytes_total{device=\"lo\",n=\"c\"} 0\n",
                       "lxd_network_receive_bytes_total{device=\"a:b\\\"c\",n=\"c\"} 10\n",
                       "lxd_network_receive_packets_total{device=\"a:b\\\"c\",n=\"c\"} 11\n",
                       "lxd_network_receive_errs_total{device=\"a:b\\\"c\",n=\"c\"} 12\n",
                       "lxd_network_receive_drop_total{device=\"a:b\\\"c\",n=\"c\"} 13\n",
                       "lxd_network_transmit_bytes_total{device=\"a:b\\\"c\",n=\"c\"} 20\n",
                       "lxd_network_transmit_drop_total{device=\"a:b\\\"c\",n=\"c\"} 23\n", NULL});
}

static void
lists_of_processors_are_counted(void)
{
    g_assert_cmpuint(instprobe_count_cpus("0-3,8\n"), ==, 5);
    g_assert_cmpuint(instprobe_count_cpus("7"), ==, 1);
    g_assert_cmpuint(instprobe_count_cpus("\n"), ==, 0);
    g_assert_cmpuint(instprobe_count_cpus("0-"), ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instprobe/memory-of-v1-counts-the-groups-below",
                    memory_of_v1_counts_the_groups_below);
    g_test_add_func("/instprobe/memory-of-v2-has-other-words", memory_of_v2_has_other_words);
    g_test_add_func("/instprobe/processors-of-both-versions", processors_of_both_versions);
    g_test_add_func("/instprobe/interfaces-may-be-called-anything",
                    interfaces_may_be_called_anything);
    g_test_add_func("/instprobe/lists-of-processors-are-counted", lists_of_processors_are_counted);
    return g_test_run();
}
