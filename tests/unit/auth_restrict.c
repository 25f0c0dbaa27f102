/* agent/auth/restrict.c: R1 to R3. */
#include "agent/auth/restrict.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *
parse(const char *text)
{
    json_error_t why;
    json_t *value = json_loads(text, 0, &why);
    if (value == NULL) {
        g_error("%s: %s", why.text, text);
    }
    return value;
}

/* What is said about an entity with this config and these devices; caller frees, NULL: allowed. */
static char *
verdict(const char *rules, const char *type, const char *config, const char *devices)
{
    g_autoptr(GError) error = NULL;
    RestrictScope scope = {.project = "p", .config = parse(rules)};
    json_t *entity = json_pack("{s:s,s:s,s:o,s:o}", "name", "c1", "type", type, "config",
                               parse(config), "devices", parse(devices));
    bool ok = restrict_entity(&scope, entity, &error);
    g_assert_true(ok == (error == NULL));
    json_decref(entity);
    json_decref(scope.config);
    return ok ? NULL : g_strdup(error->message);
}

static void
allowed(const char *rules, const char *type, const char *config, const char *devices)
{
    g_autofree char *words = verdict(rules, type, config, devices);
    g_assert_cmpstr(words, ==, NULL);
}

static void
forbidden(const char *rules, const char *type, const char *config, const char *devices,
          const char *part)
{
    g_autofree char *words = verdict(rules, type, config, devices);
    if (words == NULL || strstr(words, part) == NULL) {
        g_error("wanted '%s', got '%s'", part, words != NULL ? words : "nothing");
    }
}

#define ON "\"restricted\":\"true\""

static void
nothing_is_forbidden_without_the_switch(void)
{
    allowed("{\"restricted.devices.disk\":\"block\"}", "container",
            "{\"security.privileged\":\"true\",\"raw.lxc\":\"x=y\"}",
            "{\"d\":{\"type\":\"disk\",\"source\":\"/\",\"path\":\"/x\"}}"); /* R1 */
}

static void
config_rules_hold(void)
{
    forbidden("{" ON "}", "container", "{\"security.privileged\":\"true\"}", "{}",
              "Privileged containers are forbidden");
    allowed("{" ON "}", "container", "{\"security.privileged\":\"false\"}", "{}");
    allowed("{" ON ",\"restricted.containers.privilege\":\"allow\"}", "container",
            "{\"security.privileged\":\"true\"}", "{}");
    allowed("{" ON ",\"restricted.containers.privilege\":\"isolated\"}", "container", "{}", "{}");
    forbidden("{" ON ",\"restricted.containers.privilege\":\"isolated\"}", "container",
              "{\"security.idmap.isolated\":\"false\"}", "{}",
              "Non-isolated containers are forbidden");
    forbidden("{" ON "}", "container", "{\"security.nesting\":\"true\"}", "{}",
              "Container nesting is forbidden");
    forbidden("{" ON "}", "container", "{\"raw.lxc\":\"a=b\"}", "{}",
              "Use of low-level config \"raw.lxc\" on container \"c1\" of project \"p\" is "
              "forbidden");
    allowed("{" ON ",\"restricted.containers.lowlevel\":\"allow\"}", "container",
            "{\"raw.lxc\":\"a=b\"}", "{}");
    forbidden("{" ON "}", "profile", "{\"raw.lxc\":\"a=b\"}", "{}", "on profile \"c1\"");
    forbidden("{" ON "}", "virtual-machine", "{\"raw.qemu\":\"-x\"}", "{}", "low-level");
    forbidden("{" ON "}", "container", "{\"security.syscalls.intercept.mknod\":\"true\"}", "{}",
              "interception is forbidden");
    allowed("{" ON ",\"restricted.containers.interception\":\"allow\"}", "container",
            "{\"security.syscalls.intercept.mknod\":\"true\"}", "{}");
    forbidden("{" ON ",\"restricted.containers.interception\":\"allow\"}", "container",
              "{\"security.syscalls.intercept.mount.allowed\":\"ext4\"}", "{}", "is forbidden");
}

static void
raw_idmap_stays_in_its_ranges(void)
{
#define MAP ON ",\"restricted.idmap.uid\":\"1000-1005,2000\",\"restricted.idmap.gid\":\"1000\""
    allowed("{" MAP "}", "container", "{\"raw.idmap\":\"uid 1000-1005 0-5\"}", "{}");
    allowed("{" MAP "}", "container", "{\"raw.idmap\":\"uid 2000 0\"}", "{}");
    allowed("{" MAP "}", "container", "{\"raw.idmap\":\"both 1000 0\"}", "{}");
    forbidden("{" MAP "}", "container", "{\"raw.idmap\":\"both 1001 0\"}", "{}", "raw.idmap");
    forbidden("{" MAP "}", "container", "{\"raw.idmap\":\"uid 1004-1006 0-2\"}", "{}", "element 0");
    forbidden("{" ON "}", "container", "{\"raw.idmap\":\"uid 0 0\"}", "{}", "raw.idmap");
}

static void
device_rules_hold(void)
{
    static const char *const kinds[] = {"gpu",        "infiniband", "pci",          "proxy",
                                        "unix-block", "unix-char",  "unix-hotplug", "usb"};
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *device = g_strdup_printf("{\"d\":{\"type\":\"%s\"}}", kinds[i]);
        g_autofree char *rules =
            g_strdup_printf("{" ON ",\"restricted.devices.%s\":\"allow\"}", kinds[i]);
        forbidden("{" ON "}", "container", "{}", device, "are forbidden");
        allowed(rules, "container", "{}", device);
    }
    allowed("{" ON ",\"restricted.devices.disk\":\"block\"}", "container", "{}",
            "{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"x\"}}");
    forbidden("{" ON ",\"restricted.devices.disk\":\"block\"}", "container", "{}",
              "{\"d\":{\"type\":\"disk\",\"path\":\"/d\",\"pool\":\"x\",\"source\":\"v\"}}",
              "Disk devices are forbidden");
    forbidden("{" ON "}", "container", "{}",
              "{\"d\":{\"type\":\"disk\",\"path\":\"/d\",\"source\":\"/etc\"}}",
              "Attaching disks not backed by a pool is forbidden");
    forbidden("{" ON "}", "container", "{}", "{\"n\":{\"type\":\"nic\",\"parent\":\"eth0\"}}",
              "Only managed network devices are allowed");
    allowed("{" ON "}", "container", "{}", "{\"n\":{\"type\":\"nic\",\"network\":\"br0\"}}");
    forbidden("{" ON ",\"restricted.networks.access\":\"br1,br2\"}", "container", "{}",
              "{\"n\":{\"type\":\"nic\",\"network\":\"br0\"}}", "Network not allowed in project");
    allowed("{" ON ",\"restricted.networks.access\":\"br1,br2\"}", "container", "{}",
            "{\"n\":{\"type\":\"nic\",\"network\":\"br2\"}}");
}

static void
sources_cannot_climb_out(void)
{
    g_autofree char *top = g_dir_make_tmp("restrict-XXXXXX", NULL);
    g_autofree char *inside = g_build_filename(top, "home", "u", NULL);
    g_autofree char *escape = g_build_filename(inside, "escape", NULL);
    g_autofree char *rules = g_strdup_printf("{" ON ",\"restricted.devices.disk\":\"allow\","
                                             "\"restricted.devices.disk.paths\":\"/nowhere,%s\"}",
                                             inside);
    g_assert_cmpint(g_mkdir_with_parents(inside, 0700), ==, 0);
    g_assert_cmpint(symlink("/", escape), ==, 0);
    const struct {
        const char *below;
        bool good;
    } rows[] = {{"", true},
                {"/data", true},
                {"/a/../b", true},
                {"/..", false},
                {"/../u2", false},
                {"/escape", true}, /* by name; disksource.c opens it beneath (K3) */
                {"/escape/etc", true},
                {"x", false},
                {"/../../../etc", false}};
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) { /* R3 */
        g_autofree char *device =
            g_strdup_printf("{\"d\":{\"type\":\"disk\",\"path\":\"/d\",\"source\":\"%s%s\"}}",
                            inside, rows[i].below);
        g_autofree char *words = verdict(rules, "container", "{}", device);
        if (rows[i].good != (words == NULL)) {
            g_error("'%s': %s", rows[i].below, words != NULL ? words : "allowed");
        }
    }
    unlink(escape);
    rmdir(inside);
    *strrchr(inside, '/') = '\0';
    rmdir(inside);
    rmdir(top);
}

static char *
totals(const char *config, const char *instances, const char *sizes, gint64 images, bool update)
{
    g_autoptr(GError) error = NULL;
    RestrictScope scope = {.project = "p",
                           .config = parse(config),
                           .instances = parse(instances),
                           .volumes = parse(sizes),
                           .image_bytes = images};
    bool ok = restrict_totals(&scope, update, &error);
    json_decref(scope.config);
    json_decref(scope.instances);
    json_decref(scope.volumes);
    return ok ? NULL : g_strdup(error->message);
}

#define ONE                                                                                        \
    "{\"name\":\"a\",\"type\":\"container\",\"config\":{\"limits.cpu\":\"2\","                     \
    "\"limits.memory\":\"1GiB\"},\"devices\":{\"root\":{\"type\":\"disk\",\"path\":\"/\","         \
    "\"pool\":\"x\",\"size\":\"1GiB\"}}}"
#define BARE "{\"name\":\"b\",\"type\":\"container\",\"config\":{},\"devices\":{}}"

static void
counts_and_sums_are_held(void)
{
    static const struct {
        const char *config, *instances, *sizes;
        gint64 images;
        bool update;
        const char *words; /* NULL: fits */
    } rows[] = {
        {"{}", "[" ONE "," BARE "]", "{}", 0, false, NULL},
        {"{\"limits.containers\":\"2\"}", "[" ONE "," BARE "]", "{}", 0, false, NULL},
        {"{\"limits.containers\":\"1\"}", "[" ONE "," BARE "]", "{}", 0, false,
         "Reached maximum number of instances of type \"container\" in project \"p\""},
        {"{\"limits.containers\":\"1\"}", "[" ONE "," BARE "]", "{}", 0, true,
         "Can't change \"limits.containers\" in project \"p\": \"limits.containers\" is too low: "
         "there "
         "currently are 2 instances of type container in project p"},
        {"{\"limits.instances\":\"1\"}", "[" ONE "," BARE "]", "{}", 0, false,
         "Reached maximum number of instances in project \"p\""},
        {"{\"limits.virtual-machines\":\"0\"}", "[" ONE "]", "{}", 0, false, NULL},
        {"{\"limits.cpu\":\"4\"}", "[" ONE "," ONE "]", "{}", 0, false, NULL},
        {"{\"limits.cpu\":\"3\"}", "[" ONE "," ONE "]", "{}", 0, false,
         "Reached maximum aggregate value \"3\" for \"limits.cpu\" in project \"p\""},
        {"{\"limits.cpu\":\"3\"}", "[" ONE "," BARE "]", "{}", 0, false,
         "Instance \"b\" in project \"p\" has no \"limits.cpu\" config, either directly or via a "
         "profile"}, /* R2 */
        {"{\"limits.memory\":\"1GiB\"}", "[" ONE "]", "{}", 0, false, NULL},
        {"{\"limits.memory\":\"1000MB\"}", "[" ONE "]", "{}", 0, true, "is too low"},
        {"{\"limits.disk\":\"3GiB\"}", "[" ONE "]", "{\"p/v\":\"1GiB\"}", 1 << 30, false, NULL},
        {"{\"limits.disk\":\"3GiB\"}", "[" ONE "]", "{\"p/v\":\"1GiB\"}", (1 << 30) + 1, false,
         "Reached maximum aggregate value"},
        {"{\"limits.disk\":\"3GiB\"}", "[" ONE "]", "{\"p/v\":\"\"}", 0, false,
         "Custom volume \"v\" in project \"p\" has no \"size\" config set"},
        {"{\"limits.disk\":\"3GiB\"}", "[" BARE "]", "{}", 0, false, "no \"size\" config set"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *words = totals(rows[i].config, rows[i].instances, rows[i].sizes,
                                        rows[i].images, rows[i].update);
        bool same = rows[i].words == NULL ? words == NULL
                                          : words != NULL && strstr(words, rows[i].words) != NULL;
        if (!same) {
            g_error("row %zu: %s", i, words != NULL ? words : "fits");
        }
    }
}

static void
pinned_and_relative_limits_cannot_be_summed(void)
{
    g_autofree char *pinned =
        totals("{\"limits.cpu\":\"4\"}",
               "[{\"name\":\"a\",\"type\":\"container\",\"config\":{\"limits.cpu\":\"0-1\"},"
               "\"devices\":{}}]",
               "{}", 0, false);
    g_assert_nonnull(strstr(pinned, "CPUs can't be pinned if project limits are used"));
    g_autofree char *percent =
        totals("{\"limits.memory\":\"4GiB\"}",
               "[{\"name\":\"a\",\"type\":\"container\",\"config\":{\"limits.memory\":\"10%\"},"
               "\"devices\":{}}]",
               "{}", 0, false);
    g_assert_nonnull(strstr(percent, "Value can't be a percentage"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/restrict/nothing-is-forbidden-without-the-switch",
                    nothing_is_forbidden_without_the_switch);
    g_test_add_func("/restrict/config-rules-hold", config_rules_hold);
    g_test_add_func("/restrict/raw-idmap-stays-in-its-ranges", raw_idmap_stays_in_its_ranges);
    g_test_add_func("/restrict/device-rules-hold", device_rules_hold);
    g_test_add_func("/restrict/sources-cannot-climb-out", sources_cannot_climb_out);
    g_test_add_func("/restrict/counts-and-sums-are-held", counts_and_sums_are_held);
    g_test_add_func("/restrict/pinned-and-relative-limits-cannot-be-summed",
                    pinned_and_relative_limits_cannot_be_summed);
    return g_test_run();
}
