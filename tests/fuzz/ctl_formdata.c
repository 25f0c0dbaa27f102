/* Any bytes as a multipart body: files appear in their folder only, and nothing is read too far. */
#include "ctl/formdata.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char *folder;

static void
remove_folder(void)
{
    fd_remove_tree(folder, NULL);
    g_free(folder);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (folder == NULL) {
        folder = g_dir_make_tmp("hawser-fuzz-XXXXXX", NULL);
        atexit(remove_folder);
    }
    haw_autofd int fd = memfd_create("fuzz", MFD_CLOEXEC);
    g_auto(GStrv) names = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strndup((const char *) bytes, size);
    g_autofree char *boundary = formdata_boundary(text), *name = formdata_filename(text);
    g_assert_true(name == NULL || strchr(name, '/') == NULL);
    g_assert_true(fd_write_all(fd, bytes, size, "memory", NULL));
    if (!formdata_split(fd, "X", folder, &names, &error)) {
        g_assert_nonnull(error);
    }
    g_assert_true(fd_remove_tree(folder, NULL));
    g_assert_true(fd_mkdir_p(folder, 0700, NULL));
    return 0;
}
