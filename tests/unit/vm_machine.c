/* vm/vmmachine.c, vm/vmargs.c, vm/vmlayout.c, vm/vmitem.c: QEMU's arguments, held against golden files
 * (HAWSER_GOLDEN_WRITE=1 rewrites them, and a person reads the diff); places in the machine; names. */
#include "agent/vm/vmargs.h"
#include "agent/vm/vmhost.h"
#include "agent/vm/vmitem.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmmachine.h"

#include <string.h>

static const VmlayoutHost tcg = {
    .accel = "tcg", .host_memory = G_GINT64_CONSTANT(8) << 30, .host_cpus = 4};
static const VmlayoutHost kvm = {.accel = "kvm",
                                 .host_memory = G_GINT64_CONSTANT(8) << 30,
                                 .hugepage_bytes = 2 << 20,
                                 .host_cpus = 64,
                                 .vsock = true};

static json_t *
layout_of(const char *config_text, const VmlayoutHost *host)
{
    g_autoptr(GError) error = NULL;
    json_t *config = json_loads(config_text, 0, NULL);
    json_t *layout = vmlayout_new(config, 2, host, &error);
    g_assert_no_error(error);
    g_assert_true(vmlayout_check(layout, &error));
    json_decref(config);
    return layout;
}

/* ---- golden ---- */

static const struct golden {
    const char *name, *config, *overrides;
    const VmlayoutHost *host;
    bool incoming, tpm;
} goldens[] = {
    {"plain", "{}", NULL, &tcg, false, false},
    {"bios", "{\"security.csm\":\"true\",\"security.secureboot\":\"false\"}", NULL, &tcg, false,
     false},
    {"kvm",
     "{\"limits.cpu\":\"0-3,8\",\"limits.memory\":\"50%\",\"limits.memory.hugepages\":\"true\"}",
     NULL, &kvm, false, true},
    {"incoming", "{\"migration.stateful\":\"true\",\"security.secureboot\":\"false\"}", NULL, &kvm,
     true, false},
    {"changed", "{}",
     "[device \"balloon\"]\n[memory]\nsize = \"2048M\"\n[device \"rng\"]\nmax-bytes = 64\nbus=\n"
     "# a remark\n[device \"more\"]\ndriver = \"edu\"\n",
     &tcg, false, false},
};

static void
is_as_golden(const void *data)
{
    const struct golden *golden = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    json_t *layout = layout_of(golden->config, golden->host);
    bool bios = g_strcmp0(json_string_value(json_object_get(layout, "firmware")), "bios") == 0;
    VmMachine machine = {.name = "web1",
                         .uuid = "6cd1a5b7-2c04-4ad8-8c08-9e8b0f0d6f3b",
                         .generation = "8a2d42b7-39a9-4c35-94b5-32ab22bd27b0",
                         .layout = layout,
                         .overrides = golden->overrides,
                         .qmp_fd = 3,
                         .guest_fd = 4,
                         .own_dir_fd = 6,
                         .memory_fd = 7,
                         .code_fd = bios ? -1 : 8,
                         .nvram_fd = bios ? -1 : 9,
                         .vsock_fd = 10,
                         .tpm_fd = golden->tpm ? 11 : -1,
                         .spice = true,
                         .vsock_cid = 7,
                         .incoming = golden->incoming};
    g_autoptr(VmArgs) args = vmmachine_args(&machine, &error);
    g_assert_no_error(error);
    vmargs_render(args, argv);
    g_ptr_array_add(argv, g_strdup(""));
    g_ptr_array_add(argv, NULL);
    g_autofree char *found = g_strjoinv("\n", (char **) argv->pdata), *wanted = NULL;
    g_autofree char *path =
        g_strdup_printf("%s/vm/%s.txt", g_getenv("HAWSER_GOLDEN"), golden->name);
    if (g_getenv("HAWSER_GOLDEN_WRITE") != NULL) {
        g_file_set_contents(path, found, -1, NULL);
    }
    g_assert_true(g_file_get_contents(path, &wanted, NULL, NULL));
    g_assert_cmpstr(found, ==, wanted);
    json_decref(layout);
}

/* ---- overrides ---- */

static void
bad_overrides_are_refused(void)
{
    static const char *const bad[] = {"key = value",  "[device \"x]",       "[a][b]",
                                      "[memory]\n=1", "[memory]\nno value", "[memory]\na,b = c"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VmArgs) args = vmargs_new();
        g_assert_false(vmargs_override(args, bad[i], &error));
        g_assert_error(error, HAW_ERROR, HAW_INVALID);
    }
}

static void
an_index_names_one_of_equal_sections(void)
{
    g_autoptr(VmArgs) args = vmargs_new();
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    vmargs_add(args, "global", NULL, "driver", "a", NULL);
    vmargs_add(args, "global", NULL, "driver", "b", NULL);
    g_assert_true(vmargs_override(args, "[global][1]\nvalue = x\n", NULL));
    vmargs_render(args, argv);
    g_ptr_array_add(argv, NULL);
    g_autofree char *text = g_strjoinv(" ", (char **) argv->pdata);
    g_assert_cmpstr(text, ==, "-global driver=a -global driver=b,value=x");
}

/* ---- layout ---- */

static void
places_are_kept_and_given_again(void)
{
    json_t *layout = layout_of("{}", &tcg);
    g_assert_cmpint(vmlayout_port(layout, "eth0", NULL), ==, 0);
    g_assert_cmpint(vmlayout_port(layout, "eth1", NULL), ==, 1);
    g_assert_cmpint(vmlayout_scsi(layout, "root", NULL), ==, 0);
    g_assert_cmpint(vmlayout_port(layout, "eth0", NULL), ==, 0);
    vmlayout_forget(layout, "eth0");
    g_assert_cmpint(vmlayout_port(layout, "eth2", NULL), ==, 0);
    for (int i = 0; i < VMLAYOUT_SPARE; i++) {
        g_autofree char *name = g_strdup_printf("more%d", i);
        g_assert_cmpint(vmlayout_port(layout, name, NULL), ==, i + 2);
    }
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(vmlayout_port(layout, "last", &error), ==, -1);
    g_assert_error(error, HAW_ERROR, HAW_LIMIT);
    json_decref(layout);
}

static void
cpus_are_a_count_or_a_set(void)
{
    g_assert_cmpint(vmlayout_cpus(NULL), ==, 1);
    g_assert_cmpint(vmlayout_cpus("3"), ==, 3);
    g_assert_cmpint(vmlayout_cpus("0-3,8"), ==, 5);
    g_assert_cmpint(vmlayout_cpus("2,2"), ==, 2);
    g_assert_cmpint(vmlayout_cpus("9-1"), ==, 1);
}

static void
a_strange_layout_is_refused(void)
{
    static const char *const changes[] = {"{\"machine\":\"q35,accel=kvm -S\"}",
                                          "{\"machine\":\"\"}",
                                          "{\"memory\":1}",
                                          "{\"memory\":\"1\"}",
                                          "{\"cpus\":0}",
                                          "{\"cpus\":9,\"cpus_max\":4}",
                                          "{\"ports\":1000}",
                                          "{\"devices\":{\"eth0\":{\"port\":64}}}",
                                          "{\"devices\":{\"eth0\":7}}"};
    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autoptr(GError) error = NULL;
        json_t *layout = layout_of("{}", &tcg), *change = json_loads(changes[i], 0, NULL);
        json_object_update(layout, change);
        g_assert_false(vmlayout_check(layout, &error));
        g_assert_error(error, HAW_ERROR, HAW_CORRUPT);
        json_decref(layout);
        json_decref(change);
    }
}

static void
huge_pages_need_a_kernel_that_has_them(void)
{
    g_autoptr(GError) error = NULL;
    json_t *config = json_pack("{s:s}", "limits.memory.hugepages", "true");
    g_assert_null(vmlayout_new(config, 0, &tcg, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNSUPPORTED);
    json_decref(config);
}

/* ---- names and host ---- */

static void
names_become_ids_that_qemu_can_spell(void)
{
    g_autofree char *plain = vmitem_id("eth0"), *odd = vmitem_node("a/b c");
    g_autofree char *one = vmitem_node("a-very-long-name-of-a-device-1");
    g_autofree char *two = vmitem_node("a-very-long-name-of-a-device-2");
    g_assert_cmpstr(plain, ==, "dev-lxd_eth0");
    g_assert_cmpstr(odd, ==, "lxd_a_2fb_20c");
    g_assert_cmpint(strlen(one), <=, 31);
    g_assert_cmpstr(one, !=, two);
}

static void
only_a_word_of_the_flags_is_virtualization(void)
{
    g_assert_true(vmhost_cpu_flag("a\nflags\t\t: fpu svm sse\n"));
    g_assert_true(vmhost_cpu_flag("a\nflags\t\t: fpu vmx"));
    g_assert_false(vmhost_cpu_flag("a\nflags\t\t: fpu avmx svm_lock\nbugs: vmx\n"));
    g_assert_false(vmhost_cpu_flag(""));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autofree char *path = g_strdup_printf("/machine/as-golden/%s", goldens[i].name);
        g_test_add_data_func(path, &goldens[i], is_as_golden);
    }
    g_test_add_func("/machine/bad-overrides-are-refused", bad_overrides_are_refused);
    g_test_add_func("/machine/an-index-names-one-of-equal-sections",
                    an_index_names_one_of_equal_sections);
    g_test_add_func("/machine/places-are-kept-and-given-again", places_are_kept_and_given_again);
    g_test_add_func("/machine/cpus-are-a-count-or-a-set", cpus_are_a_count_or_a_set);
    g_test_add_func("/machine/a-strange-layout-is-refused", a_strange_layout_is_refused);
    g_test_add_func("/machine/huge-pages-need-a-kernel-that-has-them",
                    huge_pages_need_a_kernel_that_has_them);
    g_test_add_func("/machine/names-become-ids-that-qemu-can-spell",
                    names_become_ids_that_qemu_can_spell);
    g_test_add_func("/machine/only-a-word-of-the-flags-is-virtualization",
                    only_a_word_of_the_flags_is_virtualization);
    return g_test_run();
}
