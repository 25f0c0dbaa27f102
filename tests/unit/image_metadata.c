/* agent/image/metadata.c (M1, M2), multipart.c, streams.c (T1 to T3): what strangers write. */
#include "agent/image/metadata.h"
#include "agent/image/multipart.h"
#include "agent/image/streams.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static json_t *
parse(const char *text, GError **error)
{
    return metadata_parse(text, strlen(text), error);
}

static void
full_metadata_is_understood(void)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *metadata = parse("architecture: amd64\n"
                                  "creation_date: 1700000000\n"
                                  "expiry_date: 1800000000\n"
                                  "properties:\n"
                                  "  release: 12\n"
                                  "  on: yes\n"
                                  "templates:\n"
                                  "  /etc/hostname:\n"
                                  "    when: [create, copy]\n"
                                  "    create_only: true\n"
                                  "    template: hostname.tpl\n"
                                  "    properties: {a: b}\n"
                                  "unknown: [1, 2]\n",
                                  &error);
    g_assert_no_error(error);
    g_assert_cmpstr(json_string_value(json_object_get(metadata, "architecture")), ==, "x86_64");
    g_assert_cmpint(json_integer_value(json_object_get(metadata, "expiry_date")), ==, 1800000000);
    json_t *properties = json_object_get(metadata, "properties");
    g_assert_cmpstr(json_string_value(json_object_get(properties, "release")), ==, "12");
    g_assert_cmpstr(json_string_value(json_object_get(properties, "on")), ==, "yes");
    json_t *hostname = json_object_get(json_object_get(metadata, "templates"), "/etc/hostname");
    g_assert_true(json_is_true(json_object_get(hostname, "create_only")));
    g_assert_cmpuint(json_array_size(json_object_get(hostname, "when")), ==, 2);
    g_assert_null(json_object_get(metadata, "unknown"));

    g_autofree char *text = metadata_format(metadata);
    json_auto_t *again = parse(text, &error);
    g_assert_no_error(error);
    g_assert_true(json_equal(metadata, again));
}

static void
bad_metadata_is_refused(void)
{
    static const char *const bad[] = {
        "",
        "- a\n",
        "architecture: x86_64\n",
        "architecture: x86_64\ncreation_date: 0\n",
        "architecture: pdp11\ncreation_date: 1\n",
        "creation_date: 1\n",
        "architecture: x86_64\ncreation_date: 1\nproperties: [a]\n",
        "architecture: x86_64\ncreation_date: 1\nproperties: {a: [b]}\n",
        "architecture: x86_64\ncreation_date: 1\ntemplates: {etc/x: {template: a}}\n",
        "architecture: x86_64\ncreation_date: 1\ntemplates: {/etc/../x: {template: a}}\n",
        "architecture: x86_64\ncreation_date: 1\ntemplates: {/etc/x: {template: ../a}}\n",
        "architecture: x86_64\ncreation_date: 1\ntemplates: {/etc/x: {template: ''}}\n",
        "architecture: x86_64\ncreation_date: 1\ntemplates: {/etc/x: {}}\n",
        "architecture: x86_64\ncreation_date: 1\ntemplates: {/etc/x: {template: a, when: [1]}}\n",
        "architecture: [x86_64\n",
        "a: &a [x]\nb: *c\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        json_auto_t *metadata = parse(bad[i], &error);
        g_assert_null(metadata);
        g_assert_nonnull(error);
        g_assert_cmpint(haw_code_rest(haw_code(error)), ==, 400);
    }
}

/* ---- multipart ---- */
static int
body_fd(const char *text)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    g_assert_true(fd_write_all(fd, text, strlen(text), "body", NULL));
    return fd;
}

static void
boundary_is_found_in_the_content_type(void)
{
    g_autofree char *plain = multipart_boundary("multipart/form-data; boundary=abc");
    g_autofree char *quoted =
        multipart_boundary("Multipart/Form-Data; charset=x; boundary=\"a;b\"");
    g_assert_cmpstr(plain, ==, "abc");
    g_assert_cmpstr(quoted, ==, "a;b");
    g_assert_null(multipart_boundary("application/octet-stream"));
    g_assert_null(multipart_boundary("multipart/form-data"));
    g_assert_null(multipart_boundary("multipart/form-data; boundary="));
    g_assert_null(multipart_boundary(NULL));
}

static void
parts_are_ranges_of_the_body(void)
{
    static const char body[] =
        "--B\r\n"
        "Content-Disposition: form-data; name=\"metadata\"; filename=\"m x\"\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
        "meta\r\n--not\r\n"
        "\r\n--B\r\n"
        "content-disposition: form-data; name=rootfs\r\n\r\n"
        "\r\n--B--\r\n";
    haw_autofd int fd = body_fd(body);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) parts = multipart_parse(fd, "B", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(parts->len, ==, 2);
    const MultipartPart *meta = g_ptr_array_index(parts, 0), *root = g_ptr_array_index(parts, 1);
    g_assert_cmpstr(meta->name, ==, "metadata");
    g_assert_cmpstr(meta->filename, ==, "m x");
    g_assert_cmpmem(body + meta->offset, (gsize) meta->size, "meta\r\n--not\r\n", 13);
    g_assert_cmpstr(root->name, ==, "rootfs");
    g_assert_cmpint(root->size, ==, 0);
}

static void
body_that_is_cut_is_refused(void)
{
    static const char body[] =
        "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--B--\r\n";
    for (size_t size = 0; size < sizeof body - 3; size++) {
        g_autofree char *cut = g_strndup(body, size);
        haw_autofd int fd = body_fd(cut);
        g_autoptr(GError) error = NULL;
        GPtrArray *parts = multipart_parse(fd, "B", &error);
        g_assert_null(parts);
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
}

/* ---- simplestreams ---- */
#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* An older version, a newer one with both kinds of root, and the newest without its root. */
static json_t *
products_of(const char *arch, const char *path)
{
    static const char text[] =
        "{'products':{'debian:12':{'aliases':'debian/12,debian/bookworm','os':'Debian',"
        "'release':'bookworm','arch':'%s','versions':{"
        "'20230101':{'items':{"
        "  'm':{'ftype':'lxd.tar.xz','path':'old/lxd.tar.xz','combined_rootxz_sha256':'" HASH_A
        "'},"
        "  'r':{'ftype':'root.tar.xz','path':'old/r.tar.xz','size':2}}},"
        "'20240101_07:30':{'items':{"
        "  'm':{'ftype':'lxd.tar.xz','path':'%s','combined_rootxz_sha256':'" HASH_A "',"
        "    'combined_squashfs_sha256':'" HASH_B "','size':1},"
        "  'r':{'ftype':'root.tar.xz','path':'new/r.tar.xz','size':2},"
        "  's':{'ftype':'squashfs','path':'new/r.squashfs','size':3}}},"
        "'20250101':{'items':{'m':{'ftype':'lxd.tar.xz','path':'x'}}}}}}}";
    g_autofree char *json = g_strdup_printf(text, arch, path);
    g_strdelimit(json, "'", '"');
    json_t *products = json_loads(json, 0, NULL);
    g_assert_nonnull(products);
    return products;
}

static void
newest_complete_version_is_taken_with_squashfs(void)
{
    json_auto_t *products = products_of("amd64", "new/lxd.tar.xz");
    g_auto(StreamsItem) item = {0};
    g_assert_true(streams_pick(products, "debian/12/amd64", NULL, &item));
    g_assert_cmpstr(item.version, ==, "20240101_07:30");
    g_assert_cmpstr(item.fingerprint, ==, HASH_B);
    g_assert_cmpstr(item.root_path, ==, "new/r.squashfs");
    g_assert_cmpstr(item.architecture, ==, "x86_64");
    g_assert_cmpint(item.created_at, ==, G_GINT64_CONSTANT(1704094200) * G_USEC_PER_SEC);
}

static void
images_are_found_by_fingerprint_and_alias_only(void)
{
    json_auto_t *products = products_of("amd64", "new/lxd.tar.xz");
    static const struct {
        const char *name, *type;
        bool found;
    } asks[] = {
        {HASH_B, NULL, true},
        {"bbbbbbbbbbbb", "container", true},
        {"bbbb", NULL, false},
        {"debian/11", NULL, false},
        {"debian/12/arm64", NULL, false},
        {"debian/12/amd64", "virtual-machine", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(asks); i++) {
        g_auto(StreamsItem) item = {0};
        g_assert_cmpint(streams_pick(products, asks[i].name, asks[i].type, &item), ==,
                        asks[i].found);
    }
    g_auto(StreamsItem) older = {0};
    g_assert_true(streams_pick(products, HASH_A, NULL, &older));
    g_assert_cmpstr(older.version, ==, "20230101");
}

static void
paths_that_lead_elsewhere_are_not_taken(void)
{
    static const char *const paths[] = {"/etc/passwd", "../x", "http://elsewhere/x", ""};
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        json_auto_t *products = products_of("amd64", paths[i]);
        g_auto(StreamsItem) item = {0};
        g_assert_true(streams_pick(products, "debian/12/amd64", NULL, &item));
        g_assert_cmpstr(item.version, ==, "20230101");
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/metadata/full-one-is-understood-and-written-back",
                    full_metadata_is_understood);
    g_test_add_func("/metadata/bad-ones-are-refused", bad_metadata_is_refused);
    g_test_add_func("/multipart/boundary-is-found-in-the-content-type",
                    boundary_is_found_in_the_content_type);
    g_test_add_func("/multipart/parts-are-ranges-of-the-body", parts_are_ranges_of_the_body);
    g_test_add_func("/multipart/body-that-is-cut-is-refused", body_that_is_cut_is_refused);
    g_test_add_func("/streams/newest-complete-version-is-taken-with-squashfs",
                    newest_complete_version_is_taken_with_squashfs);
    g_test_add_func("/streams/images-are-found-by-fingerprint-and-alias-only",
                    images_are_found_by_fingerprint_and_alias_only);
    g_test_add_func("/streams/paths-that-lead-elsewhere-are-not-taken",
                    paths_that_lead_elsewhere_are_not_taken);
    return g_test_run();
}
