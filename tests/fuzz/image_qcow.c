/* Any bytes as the beginning of a qcow2 file: what is accepted names no other file by the header's own fields,
 * and has a size that can be made. */
#include "agent/image/qcow.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint8_t none[8] = {0};
    g_autoptr(GError) error = NULL;
    gint64 disk = -1;
    bool ok = qcow_check_bytes(bytes, size, &disk, &error);
    g_assert_cmpint(ok, ==, error == NULL);
    if (!ok) {
        g_assert_cmpint(disk, ==, -1);
        return 0;
    }
    g_assert_cmpint(disk, >, 0);
    g_assert_cmpint(disk, <=, G_GINT64_CONSTANT(1) << 46);
    g_assert_cmpmem(bytes + 8, 8, none, 8);               /* no backing file */
    g_assert_cmpmem(bytes + 32, 4, none, 4);              /* no key */
    g_assert_true(bytes[7] == 2 || (bytes[79] & 4) == 0); /* no data file */
    return 0;
}
