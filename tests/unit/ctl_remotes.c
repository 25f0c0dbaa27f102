/* ctl/remotes.c: R1 to R3; ctl/formdata.c: M1; ctl/identity.c: I1; ctl/progress.c; ctl/catalog.c. */
#include "ctl/catalog.h"
#include "ctl/formdata.h"
#include "ctl/identity.h"
#include "ctl/json.h"
#include "ctl/out.h"
#include "ctl/progress.h"
#include "ctl/remotes.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static char *dir;

static Remotes *
load(void)
{
    g_autoptr(GError) error = NULL;
    Remotes *remotes = remotes_load(dir, &error);
    g_assert_no_error(error);
    return remotes;
}

static void
setup(void)
{
    dir = g_dir_make_tmp("hawser-test-XXXXXX", NULL);
}

static void
teardown(void)
{
    fd_remove_tree(dir, NULL);
    g_clear_pointer(&dir, g_free);
}

static void
added_remotes_are_there_next_time(void)
{
    setup();
    {
        g_autoptr(Remotes) remotes = load();
        Remote lab = {.name = "lab", .address = "https://lab:8443", .protocol = "lxd"};
        g_assert_true(remotes_add(remotes, &lab, NULL));
        g_assert_true(remotes_set(remotes, "lab", "project", "123", NULL));
        g_assert_true(remotes_set_default(remotes, "lab", NULL));
        g_assert_true(remotes_save(remotes, NULL));
    }
    g_autoptr(Remotes) again = load();
    const Remote *lab = remotes_get(again, "lab", NULL);
    g_assert_cmpstr(lab->address, ==, "https://lab:8443");
    g_assert_cmpstr(lab->project, ==, "123");
    g_assert_cmpstr(remotes_default(again), ==, "lab");
    teardown();
}

/* R1 */
static void
local_cannot_be_lost(void)
{
    setup();
    g_autofree char *path = g_build_filename(dir, "config.yml", NULL);
    g_file_set_contents(path, "remotes:\n  local: {addr: https://evil, public: true}\n", -1, NULL);
    g_autoptr(Remotes) remotes = load();
    const Remote *local = remotes_get(remotes, "local", NULL);
    g_assert_cmpstr(local->address, ==, "unix://");
    g_autoptr(GError) error = NULL;
    g_assert_false(remotes_remove(remotes, "local", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_DENIED);
    g_clear_error(&error);
    Remote second = {.name = "local", .address = "unix://", .protocol = "lxd"};
    g_assert_false(remotes_add(remotes, &second, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_EXISTS);
    teardown();
}

static void
bad_names_and_the_default_are_guarded(void)
{
    setup();
    g_autoptr(Remotes) remotes = load();
    static const char *const bad[] = {"", "a:b", "../x", "a b", ".hidden"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        Remote remote = {.name = bad[i], .address = "https://x", .protocol = "lxd"};
        g_assert_false(remotes_add(remotes, &remote, &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
    Remote lab = {.name = "lab", .address = "https://lab:8443", .protocol = "lxd"};
    g_autoptr(GError) error = NULL;
    g_assert_true(remotes_add(remotes, &lab, NULL));
    g_assert_true(remotes_set_default(remotes, "lab", NULL));
    g_assert_false(remotes_remove(remotes, "lab", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_BUSY);
    g_assert_true(remotes_rename(remotes, "lab", "field", NULL));
    g_assert_cmpstr(remotes_default(remotes), ==, "field");
    teardown();
}

/* R3 */
static void
unknown_keys_stay_in_the_file(void)
{
    setup();
    g_autofree char *path = g_build_filename(dir, "config.yml", NULL), *text = NULL;
    g_file_set_contents(path, "future: [1, 2]\nremotes: {}\n", -1, NULL);
    g_autoptr(Remotes) remotes = load();
    g_assert_true(remotes_save(remotes, NULL));
    g_file_get_contents(path, &text, NULL, NULL);
    g_assert_nonnull(strstr(text, "future:\n- 1\n- 2\n"));
    teardown();
}

static void
broken_file_is_named(void)
{
    setup();
    g_autofree char *path = g_build_filename(dir, "config.yml", NULL);
    g_autoptr(GError) error = NULL;
    g_file_set_contents(path, "remotes: [\n", -1, NULL);
    g_assert_null(remotes_load(dir, &error));
    g_assert_nonnull(strstr(error->message, path));
    teardown();
}

/* I1 */
static void
certificate_is_made_once_with_a_private_key(void)
{
    setup();
    g_autoptr(Remotes) remotes = load();
    g_autofree char *cert = NULL, *key = NULL, *again = NULL, *same_key = NULL, *pem = NULL;
    g_assert_true(identity_ensure(remotes, &cert, &key, NULL));
    pem = fd_read_file(cert, 65536, NULL, NULL);
    struct stat st;
    g_assert_cmpint(stat(key, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_autofree char *fingerprint = identity_fingerprint(pem, NULL), *pin = identity_pin(pem, NULL);
    g_assert_cmpuint(strlen(fingerprint), ==, 64);
    g_assert_true(g_str_has_prefix(pin, "sha256//"));

    g_assert_true(identity_ensure(remotes, &again, &same_key, NULL));
    g_autofree char *pem2 = fd_read_file(again, 65536, NULL, NULL);
    g_assert_cmpstr(pem, ==, pem2);
    g_autoptr(GError) error = NULL;
    g_assert_null(identity_fingerprint("nonsense", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    teardown();
}

/* Splits 'body'; the names joined, or NULL. */
static char *
split_body(const char *body, const char *boundary)
{
    g_autofree char *file = g_build_filename(dir, ".body", NULL);
    g_auto(GStrv) names = NULL;
    g_file_set_contents(file, body, -1, NULL);
    haw_autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
    return formdata_split(fd, boundary, dir, &names, NULL) ? g_strjoinv(",", names) : NULL;
}

static void
form_data_becomes_files(void)
{
    setup();
    g_autofree char *names =
        split_body("--X\r\nContent-Disposition: form-data; name=\"metadata\"; "
                   "filename=\"meta.tar.xz\"\r\n\r\nme\r\nta\r\n--X\r\nContent-Disposition: "
                   "form-data; name=rootfs; filename=root.squashfs\r\n\r\n\r\n--X--\r\n",
                   "X");
    g_assert_cmpstr(names, ==, "meta.tar.xz,root.squashfs");
    g_autofree char *path = g_build_filename(dir, "meta.tar.xz", NULL), *text = NULL;
    g_file_get_contents(path, &text, NULL, NULL);
    g_assert_cmpstr(text, ==, "me\r\nta");
    teardown();
}

/* M1 */
static void
form_data_cannot_leave_its_folder(void)
{
    setup();
    g_autofree char *name = formdata_filename("form-data; filename=\"../../etc/passwd\"");
    g_assert_cmpstr(name, ==, "passwd");
    g_assert_null(formdata_filename("form-data; filename=\"..\""));
    g_assert_null(formdata_filename("form-data; filename=\"a/\""));
    g_assert_null(formdata_filename("form-data; name=\"x\""));
    g_assert_null(formdata_filename(NULL));
    static const char *const bad[] = {"", "--X--\r\n", "--X\r\nno head", "nothing here",
                                      "--X\r\nContent-Disposition: filename=a\r\n\r\nno end"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_null(split_body(bad[i], "X"));
    }
    g_autofree char *boundary = formdata_boundary("multipart/form-data; boundary=\"a b\"");
    g_assert_cmpstr(boundary, ==, "a b");
    g_assert_null(formdata_boundary("application/octet-stream"));
    teardown();
}

static void
progress_draws_a_bar_where_it_fits(void)
{
    g_autofree char *wide = progress_line("Creating c1", "rootfs: 45% (12.30MB/s)", 80);
    g_autofree char *narrow = progress_line("Creating c1", "rootfs: 45% (12.30MB/s)", 30);
    g_autofree char *plain = progress_line("Stopping c1", "", 80);
    g_assert_cmpstr(wide, ==, "Creating c1 [#########...........] rootfs: 45% (12.30MB/s)");
    g_assert_cmpstr(narrow, ==, "Creating c1: rootfs: 45% (12.");
    g_assert_cmpstr(plain, ==, "Stopping c1");
}

static void
newest_version_of_a_product_is_its_image(void)
{
    g_autoptr(json_t) products = json_loads(
        "{\"products\":{\"p\":{\"arch\":\"amd64\",\"os\":\"debian\",\"release\":\"bookworm\","
        "\"release_title\":\"12\",\"aliases\":\"debian/12,d12\",\"versions\":{"
        "\"20260101\":{\"items\":{\"lxd.tar.xz\":{\"ftype\":\"lxd.tar.xz\",\"size\":1,"
        "\"combined_squashfs_sha256\":\"old\"}}},"
        "\"20261101\":{\"items\":{\"lxd.tar.xz\":{\"ftype\":\"lxd.tar.xz\",\"size\":10,"
        "\"combined_squashfs_sha256\":\"new\"},\"root\":{\"ftype\":\"squashfs\",\"size\":90}}}}},"
        "\"vm-only\":{\"versions\":{\"1\":{\"items\":{\"disk\":{\"ftype\":\"disk.qcow2\"}}}}},"
        "\"empty\":{}}}",
        0, NULL);
    g_assert_nonnull(products);
    g_autoptr(json_t) images = catalog_images(products);
    g_assert_cmpuint(json_array_size(images), ==, 1);
    const json_t *image = json_array_get(images, 0);
    g_assert_cmpstr(out_get(image, "fingerprint"), ==, "new");
    g_assert_cmpint(json_integer_value(json_object_get(image, "size")), ==, 100);
    g_assert_cmpuint(json_array_size(json_object_get(image, "aliases")), ==, 2);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/remotes/added-remotes-are-there-next-time",
                    added_remotes_are_there_next_time);
    g_test_add_func("/remotes/local-cannot-be-lost", local_cannot_be_lost);
    g_test_add_func("/remotes/bad-names-and-the-default-are-guarded",
                    bad_names_and_the_default_are_guarded);
    g_test_add_func("/remotes/unknown-keys-stay-in-the-file", unknown_keys_stay_in_the_file);
    g_test_add_func("/remotes/broken-file-is-named", broken_file_is_named);
    g_test_add_func("/identity/certificate-is-made-once-with-a-private-key",
                    certificate_is_made_once_with_a_private_key);
    g_test_add_func("/formdata/becomes-files", form_data_becomes_files);
    g_test_add_func("/formdata/cannot-leave-its-folder", form_data_cannot_leave_its_folder);
    g_test_add_func("/progress/draws-a-bar-where-it-fits", progress_draws_a_bar_where_it_fits);
    g_test_add_func("/catalog/newest-version-of-a-product-is-its-image",
                    newest_version_of_a_product_is_its_image);
    return g_test_run();
}
