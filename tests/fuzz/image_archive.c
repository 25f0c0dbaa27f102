/* Any bytes as an archive: unpacked into a directory or refused, and never a file outside of it. */
#include "agent/image/archive.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
unpack(void *data)
{
    g_autoptr(GError) error = NULL;
    bool ok = archive_unpack(data, &error);
    g_assert_cmpint(ok, ==, error == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autofree char *top = g_dir_make_tmp("fuzz-archive-XXXXXX", NULL);
    g_autofree char *in = g_build_filename(top, "in", NULL);
    haw_autofd int fd = memfd_create("archive", MFD_CLOEXEC);
    g_assert_true(fd_write_all(fd, bytes, size, "archive", NULL));
    g_assert_cmpint(mkdir(in, 0755), ==, 0);
    ArchiveUnpack spec = {.fd = fd, .dir = in};
    fiber_start("fuzz", unpack, &spec);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_autoptr(GDir) dir = g_dir_open(top, 0, NULL);
    g_assert_cmpstr(g_dir_read_name(dir), ==, "in");
    g_assert_null(g_dir_read_name(dir));
    g_assert_true(fd_remove_tree(top, NULL));
    return 0;
}
