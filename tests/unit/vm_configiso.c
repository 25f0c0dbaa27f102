/* agent/vm/configiso.c: what is written is found in the image, under its label. */
#include "agent/vm/configfiles.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

/* The content of a file in the image; NULL when there is none. Caller frees. */
static char *
content(const char *image, const char *name)
{
    struct archive *from = archive_read_new();
    struct archive_entry *entry;
    char *text = NULL;

    archive_read_support_format_iso9660(from);
    g_assert_cmpint(archive_read_open_filename(from, image, 10240), ==, ARCHIVE_OK);
    while (text == NULL && archive_read_next_header(from, &entry) == ARCHIVE_OK) {
        if (g_str_equal(archive_entry_pathname(entry), name)) {
            size_t size = (size_t) archive_entry_size(entry);
            text = g_malloc0(size + 1);
            g_assert_cmpint(archive_read_data(from, text, size), ==, size);
        }
    }
    archive_read_free(from);
    return text;
}

static void
an_image_has_its_files_and_its_label(void)
{
    g_autofree char *dir = g_dir_make_tmp("configiso-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "config.iso", NULL);
    g_autoptr(GError) error = NULL;
    json_t *files = json_pack("{s:s,s:s,s:s}", "user-data", "#cloud-config\n", "meta-data",
                              "instance-id: 7\n", "cloud-init/deep", "deep");
    size_t size = 0;

    configiso_write(path, files, "/proc/self/exe", "cidata", &error);
    g_assert_no_error(error);
    g_autofree char *user = content(path, "user-data"), *deep = content(path, "cloud-init/deep");
    g_autofree char *program = content(path, "hawser-guest"), *none = content(path, "none");
    g_assert_cmpstr(user, ==, "#cloud-config\n");
    g_assert_cmpstr(deep, ==, "deep");
    g_assert_nonnull(program);
    g_assert_null(none);
    /* ECMA-119 8.4.6: the volume identifier, 40 bytes into the primary descriptor. */
    g_autofree char *image = fd_read_file(path, 256 * 1024 * 1024, &size, NULL);
    g_assert_cmpuint(size, >, 34000);
    g_assert_cmpint(strncasecmp(image + 16 * 2048 + 40, "cidata ", 7), ==, 0);
    json_decref(files);
    fd_remove_tree(dir, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/configiso/an-image-has-its-files-and-its-label",
                    an_image_has_its_files_and_its_label);
    return g_test_run();
}
