/* inst/lxcconf.c, inst/seccomp.c, inst/limits.c: the text that liblxc gets, held against golden files;
 * HAWSER_GOLDEN_WRITE=1 rewrites them, and a person reads the diff. */
#include "agent/inst/cgroup.h"
#include "agent/inst/limits.h"
#include "agent/inst/lxcconf.h"

#include <string.h>

static const int layout_v1[CG_COUNT] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const int layout_hybrid[CG_COUNT] = {1, 1, 1, 1, 1, 1, 1, 1, 0, 0};
static const int layout_v2[CG_COUNT] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 0};

static bool
has_all(const char *path)
{
    return true;
}

static bool
has_none(const char *path)
{
    return false;
}

static const struct golden {
    const char *name, *config;
    const int *layout;
    LxcConfHost host;
    bool idmapped;
    const char *items;
} goldens[] = {
    {"plain",
     "{}",
     layout_hybrid,
     {.cgroup_ns = true, .devices_v1 = true, .has = has_none},
     true,
     "[]"},
    {"privileged",
     "{\"security.privileged\":\"true\"}",
     layout_v1,
     {.cgroup_ns = true, .devices_v1 = true, .has = has_all},
     false,
     "[]"},
    {"nesting",
     "{\"security.nesting\":\"true\",\"security.devlxd\":\"false\",\"raw.apparmor\":\"mount,\"}",
     layout_v2,
     {.unified = true,
      .apparmor = true,
      .core_sched = true,
      .cgroup_ns = true,
      .devices_v2 = true,
      .lxcfs = true,
      .has = has_none},
     true,
     "[]"},
    {"limits_v1",
     "{\"limits.memory\":\"100MiB\",\"limits.cpu.allowance\":\"50ms/200ms\","
     "\"limits.processes\":\"50\",\"limits.hugepages.2MB\":\"4MiB\",\"limits.kernel.nofile\":"
     "\"1024:2048\"}",
     layout_v1,
     {.cgroup_ns = true, .has = has_none},
     true,
     "[]"},
    {"limits_v2",
     "{\"limits.memory\":\"100MiB\",\"limits.memory.enforce\":\"soft\",\"limits.cpu.allowance\":"
     "\"20%\",\"limits.cpu.priority\":\"5\",\"limits.processes\":\"50\"}",
     layout_v2,
     {.unified = true, .cgroup_ns = true, .has = has_none},
     true,
     "[]"},
    {"keys_and_raw",
     "{\"linux.sysctl.net.ipv4.ip_forward\":\"1\",\"environment.B\":\"2\",\"environment.A\":\"x "
     "y\","
     "\"raw.lxc\":\"# mine\\nlxc.cap.drop = sys_boot\\nlxc.hook.pre-start = "
     "/opt/mine\\nlxc.hook.start = /in\"}",
     layout_hybrid,
     {.cgroup_ns = true, .has = has_none},
     false,
     "[[\"lxc.net.0.type\",\"phys\"],[\"lxc.net.0.link\",\"veth1\"],[\"lxc.mount.entry\",\"/srv srv"
     " none bind,create=dir 0 0\"]]"},
};

static char *
generate(const struct golden *golden, GError **error)
{
    json_t *config = json_loads(golden->config, 0, NULL);
    json_t *items = json_loads(golden->items, 0, NULL);
    g_autoptr(GArray) map = idmap_choose(config, (IdmapRange){1000000, 65536}, NULL, NULL);
    cgroup_set_layout(golden->layout);
    g_assert_true(limits_conf_items(config, NULL, items, error));
    LxcConf conf = {.name = "c1",
                    .hostname = "c1",
                    .architecture = "x86_64",
                    .log_dir = "/dir/logs/c1",
                    .run_dir = "/dir/run/c1",
                    .rootfs = "/dir/containers/c1/rootfs",
                    .rootfs_idmapped = golden->idmapped,
                    .seccomp_path = "/dir/security/seccomp/c1",
                    .devlxd_dir = "/dir/devlxd",
                    .config = config,
                    .map = map,
                    .items = items,
                    .host = golden->host};
    char *text = lxcconf_text(&conf, error);
    json_decref(config);
    json_decref(items);
    return text;
}

static void
configuration_is_as_the_golden_file_says(const void *data)
{
    const struct golden *golden = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = generate(golden, &error), *want = NULL;
    g_assert_no_error(error);
    g_autofree char *path =
        g_strdup_printf("%s/lxcconf/%s.conf", g_getenv("HAWSER_GOLDEN"), golden->name);
    if (g_getenv("HAWSER_GOLDEN_WRITE") != NULL) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    g_assert_cmpstr(text, ==, want);
}

static void
a_value_cannot_bring_a_line_of_its_own(void)
{
    struct golden bad = goldens[0];
    g_autoptr(GError) error = NULL;
    bad.config = "{\"environment.A\":\"1\\nlxc.hook.start = /bin/evil\"}"; /* F1 */
    g_autofree char *text = generate(&bad, &error);
    g_assert_null(text);
    g_assert_error(error, HAW_ERROR, HAW_INVALID);
}

static void
raw_lxc_may_not_touch_what_is_ours(void)
{
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"lxc.cap.drop = sys_time", true},
        {"# comment\n\nlxc.mount.entry = a b c d 0 0", true},
        {"lxc.net.0.ipv4.address = 10.0.0.2/24", true},
        {"lxc.net.0.ipv6.gateway=fe80::1", true},
        {"lxc.net.0.link = br0", false},
        {"lxc.network.0.hwaddr = x", false},
        {"lxc.log.file = /tmp/x", false},
        {"LXC.LOG.FILE = /tmp/x", false},
        {"lxc.logfile=/tmp/x", false},
        {"lxc.log.syslog = daemon", false},
        {"lxc.ephemeral = 1", false},
        {"lxc.prlimit.nofile = 5", false},
        {"lxc.cgroup2.memory.max = 1G", true},
        {"lxc.apparmor.profile = unconfined", true},
        {"lxc.notaconfigkey = invalid", false},
        {"no equals sign", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(lxcconf_check_raw(cases[i].text, &error), ==, cases[i].ok); /* F2 */
    }
}

static char *
profile_of(const char *text)
{
    json_t *config = json_loads(text, 0, NULL);
    const LxcConfHost host = {0};
    char *profile = lxcconf_seccomp(config, "x86_64", &host);
    json_decref(config);
    return profile;
}

static void
seccomp_profiles_follow_the_keys(void)
{
    g_autofree char *usual = profile_of("{}");
    g_autofree char *raw = profile_of("{\"raw.seccomp\":\"2\\nallowlist\\nread\"}");
    g_autofree char *allow = profile_of("{\"security.syscalls.allow\":\"read\\nwrite\"}");
    g_autofree char *none = profile_of("{\"security.syscalls.deny_default\":\"false\"}");
    g_autofree char *deny = profile_of("{\"security.syscalls.deny_default\":\"false\","
                                       "\"security.syscalls.deny\":\"mknod errno 1\"}");
    g_assert_nonnull(strstr(usual, "denylist\nreject_force_umount\n[all]\nkexec_load errno 38\n"));
    g_assert_cmpstr(raw, ==, "2\nallowlist\nread");
    g_assert_cmpstr(allow, ==, "2\nallowlist\n[all]\nread\nwrite\n");
    g_assert_null(none);
    g_assert_cmpstr(deny, ==, "2\ndenylist\n[all]\nmknod errno 1\n");
}

static void
intercepted_calls_are_handed_over(void)
{
    g_autofree char *mknod = profile_of("{\"security.syscalls.intercept.mknod\":\"true\"}");
    g_autofree char *mount = profile_of("{\"security.syscalls.intercept.mount\":\"true\","
                                        "\"security.syscalls.deny_default\":\"false\"}");
    g_autofree char *privileged = profile_of("{\"security.syscalls.intercept.mknod\":\"true\","
                                             "\"security.privileged\":\"true\"}");
    g_assert_nonnull(strstr(mknod, "\nmknodat notify [2,8192,SCMP_CMP_MASKED_EQ,61440]\n"));
    g_assert_nonnull(strstr(mknod, "\nseccomp errno 22 [1,8,SCMP_CMP_MASKED_EQ,8]\n"));
    g_assert_null(strstr(mknod, "mount notify"));
    g_assert_nonnull(strstr(mount, "2\ndenylist\n[all]\nseccomp errno 22"));
    g_assert_nonnull(strstr(mount, "\nmount notify ["));
    g_assert_nonnull(strstr(mount, "\nfsopen errno 38\n"));
    g_assert_null(strstr(privileged, "notify"));
}

static void
check_spread(const char *const *wants, size_t count, const char *const *sets)
{
    static const int cpus[] = {0, 1, 2, 3};
    g_autoptr(GPtrArray) got = limits_spread(wants, count, cpus, G_N_ELEMENTS(cpus));
    for (size_t i = 0; i < count; i++) {
        g_assert_cmpstr(got->pdata[i], ==, sets[i]);
    }
}

static void
cpu_counts_go_to_the_least_used_cpus(void)
{
    check_spread((const char *[]){"1", "1", "2"}, 3, (const char *[]){"0", "1", "2,3"});
    check_spread((const char *[]){"2", "0-1", NULL}, 3, (const char *[]){"2,3", "0,1", NULL});
    check_spread((const char *[]){"9", "2-7"}, 2, (const char *[]){"0,1,2,3", "2,3"});
    check_spread((const char *[]){"7-7"}, 1, (const char *[]){"0,1,2,3"});
}

static void
memory_is_a_size_or_a_share_of_the_host(void)
{
    gint64 bytes = 0;
    g_assert_true(limits_memory_bytes("50%", 1000, &bytes, NULL));
    g_assert_cmpint(bytes, ==, 500);
    g_assert_true(limits_memory_bytes("1GiB", 1000, &bytes, NULL));
    g_assert_cmpint(bytes, ==, 1 << 30);
    g_assert_false(limits_memory_bytes("0%", 1000, &bytes, NULL));
    g_assert_false(limits_memory_bytes("x", 1000, &bytes, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autofree char *path = g_strdup_printf("/lxcconf/golden/%s", goldens[i].name);
        g_test_add_data_func(path, &goldens[i], configuration_is_as_the_golden_file_says);
    }
    g_test_add_func("/lxcconf/a-value-cannot-bring-a-line-of-its-own",
                    a_value_cannot_bring_a_line_of_its_own);
    g_test_add_func("/lxcconf/raw-lxc-may-not-touch-what-is-ours",
                    raw_lxc_may_not_touch_what_is_ours);
    g_test_add_func("/lxcconf/seccomp-profiles-follow-the-keys", seccomp_profiles_follow_the_keys);
    g_test_add_func("/lxcconf/intercepted-calls-are-handed-over",
                    intercepted_calls_are_handed_over);
    g_test_add_func("/limits/cpu-counts-go-to-the-least-used-cpus",
                    cpu_counts_go_to_the_least_used_cpus);
    g_test_add_func("/limits/memory-is-a-size-or-a-share-of-the-host",
                    memory_is_a_size_or_a_share_of_the_host);
    return g_test_run();
}
