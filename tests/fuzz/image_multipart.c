/* Any bytes as a multipart body: parts lie inside the body, in order. */
#include "agent/image/multipart.h"
#include "base/fd.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    haw_autofd int fd = memfd_create("body", MFD_CLOEXEC);
    g_autoptr(GError) error = NULL;
    g_assert_true(fd_write_all(fd, bytes, size, "body", NULL));
    g_autoptr(GPtrArray) parts = multipart_parse(fd, "B", &error);
    g_assert_cmpint(parts == NULL, ==, error != NULL);
    gint64 at = 0;
    for (guint i = 0; parts != NULL && i < parts->len; i++) {
        const MultipartPart *part = g_ptr_array_index(parts, i);
        g_assert_true(part->size >= 0 && part->offset >= at);
        at = part->offset + part->size;
        g_assert_cmpint(at, <=, (gint64) size);
        g_assert_nonnull(part->name);
    }
    return 0;
}
