/* The first message of a live move: what arrives is what was said, or is refused. */
#include "agent/move/livehello.h"
#include "agent/move/movemux.h"
#include "agent/vm/vmhost.h"
#include "agent/vm/vmlayout.h"

#include <string.h>

enum { MEMORY = 64 << 20 };

static struct live_hello
good(void)
{
    const VmlayoutHost host = {
        .accel = "tcg", .host_memory = G_GINT64_CONSTANT(8) << 30, .host_cpus = 2};
    json_auto_t *config = json_pack("{s:s}", "limits.memory", "64MiB");
    struct live_hello hello = {
        .uuid = g_strdup("7a4bb3a2-de9f-4998-9320-1301a3bb6039"),
        .secret = g_strnfill(64, 'x'),
        .cpu = g_strdup("fpu sse avx2"),
        .sealed = true,
        .marks = true,
        .memory = MEMORY,
        .channels = 2,
        .layout = vmlayout_new(config, 1, &host, NULL),
        .disks = json_pack("[s,s]", "lxd_root", "lxd_data"),
        .sizes = json_pack("[i,i]", 10 << 20, 8 << 20),
        .identity = json_pack("{s:s}", "volatile.uuid", "7a4bb3a2-de9f-4998-9320-1301a3bb6039"),
        .urls = json_pack("[s]", "https://10.0.0.1:8443"),
        .certificate = json_string("a certificate"),
        .blockers = json_array(),
    };
    g_assert_nonnull(hello.layout);
    memset(hello.key, 7, sizeof hello.key);
    memset(hello.token, 9, sizeof hello.token);
    return hello;
}

static void
test_arrives_as_said(void)
{
    struct live_hello said = good(), heard;
    json_auto_t *message = livehello_make(&said);
    g_assert_true(livehello_read(message, &heard, NULL));
    g_assert_cmpmem(heard.key, sizeof heard.key, said.key, sizeof said.key);
    g_assert_cmpmem(heard.token, sizeof heard.token, said.token, sizeof said.token);
    g_assert_cmpint(heard.memory, ==, MEMORY);
    g_assert_true(heard.sealed && !heard.native);
    g_assert_true(json_equal(heard.layout, said.layout));
    g_assert_cmpstr(heard.cpu, ==, "fpu sse avx2");
    livehello_done(&heard);
    livehello_done(&said);
}

/* With one member another value (stolen; NULL: without it). */
static void
refused(const char *member, json_t *value, int code)
{
    struct live_hello said = good(), heard;
    g_autoptr(GError) error = NULL;
    json_auto_t *message = livehello_make(&said);
    if (value != NULL) {
        json_object_set_new(message, member, value);
    } else {
        json_object_del(message, member);
    }
    g_assert_false(livehello_read(message, &heard, &error));
    g_assert_error(error, HAW_ERROR, code);
    livehello_done(&said);
}

static void
test_another_version_is_named(void)
{
    refused("version", json_integer(LIVEHELLO_VERSION + 1), HAW_UNSUPPORTED);
    refused("version", json_integer(LIVEHELLO_VERSION - 1), HAW_UNSUPPORTED);
    refused("version", NULL, HAW_UNSUPPORTED);
}

static void
test_sizes_that_cannot_be_are_refused(void)
{
    char many[20000];
    memset(many, 'x', sizeof many);
    refused("memory", json_integer(-4096), HAW_INVALID);
    refused("memory", json_integer(MEMORY + 1), HAW_INVALID);
    refused("memory", json_integer(2 * MEMORY), HAW_INVALID); /* not the layout's */
    refused("sizes", json_pack("[i,i]", 4096, -1), HAW_INVALID);
    refused("sizes", json_pack("[i,I]", 4096, (json_int_t) G_MAXINT64), HAW_INVALID);
    refused("sizes", json_pack("[i,s]", 4096, "4096"), HAW_INVALID);
    refused("sizes", json_pack("[i]", 4096), HAW_INVALID); /* of two disks */
    refused("sizes", NULL, HAW_INVALID);
    refused("channels", json_integer(0), HAW_INVALID);
    refused("cpu", json_stringn(many, sizeof many), HAW_INVALID);
    refused("channels", json_integer(G_GINT64_CONSTANT(0x100000001)), HAW_INVALID);
    refused("channels", json_integer(LANES_MAX + 1), HAW_INVALID);
}

static void
test_secrets_of_a_wrong_length_are_refused(void)
{
    refused("key", json_string("c2hvcnQ="), HAW_INVALID);
    refused("token", json_string(""), HAW_INVALID);
    refused("secret", json_string("short"), HAW_INVALID);
    refused("uuid", json_string("../../etc"), HAW_INVALID);
}

static void
test_kinds_are_checked(void)
{
    json_t *many = json_array();
    for (int i = 0; i <= MOVEMUX_DEVICES; i++) {
        json_array_append_new(many, json_string("disk"));
    }
    refused("disks", many, HAW_INVALID);
    refused("disks", json_pack("[i]", 1), HAW_INVALID);
    refused("urls", json_string("https://x"), HAW_INVALID);
    refused("urls", NULL, HAW_INVALID);
    refused("certificate", json_integer(1), HAW_INVALID);
    refused("identity", json_array(), HAW_INVALID);
    refused("blockers", json_pack("[{}]"), HAW_INVALID);
}

static void
test_reasons_of_both_are_one_error(void)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *here = json_array(), *there = json_array();
    g_assert_true(livehello_check(here, there, NULL));
    livehello_block(here, "device \"%s\" is this host's", "gpu");
    livehello_block(there, "no KVM");
    g_assert_false(livehello_check(here, there, &error));
    g_assert_cmpstr(
        error->message, ==,
        "The virtual machine can't move while it runs: device \"gpu\" is this host's; no KVM");
}

static void
test_what_a_cpu_lacks_is_named(void)
{
    g_autofree char *ours =
        vmhost_cpu_features("processor\t: 0\nflags\t\t: fpu sse avx2\nbugs\t\t: x\n");
    g_assert_cmpstr(ours, ==, "fpu sse avx2");
    g_assert_null(vmhost_cpu_lacks("sse avx2", ours));
    g_assert_null(vmhost_cpu_lacks("", ours));
    g_autofree char *lacks = vmhost_cpu_lacks("fpu avx sha_ni avx2", ours);
    g_assert_cmpstr(lacks, ==, "avx, sha_ni");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/livehello/arrives-as-said", test_arrives_as_said);
    g_test_add_func("/livehello/another-version-is-named", test_another_version_is_named);
    g_test_add_func("/livehello/sizes-that-cannot-be-are-refused",
                    test_sizes_that_cannot_be_are_refused);
    g_test_add_func("/livehello/secrets-of-a-wrong-length-are-refused",
                    test_secrets_of_a_wrong_length_are_refused);
    g_test_add_func("/livehello/kinds-are-checked", test_kinds_are_checked);
    g_test_add_func("/livehello/reasons-of-both-are-one-error", test_reasons_of_both_are_one_error);
    g_test_add_func("/livehello/what-a-cpu-lacks-is-named", test_what_a_cpu_lacks_is_named);
    return g_test_run();
}
