/* The header of a qcow2 file. An image's disk comes from strangers, and qemu-img follows what it says:
 * a backing file or an external data file would be any file of the host that root can read.
 * Q1  Whatever names another file is refused here; qemu-img runs confined besides (diskimg.c).
 * Q2  Numbers are bounded before anything is sized after them.
 * Called when an image is taken in and when it is unpacked. */
#include "agent/image/qcow.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADER_2 = 72,
    HEADER_3 = 104,
    HEADER_MAX = 4096,
    EXTENSION_END = 0,
    FEATURES_KNOWN = 1 | 8 | 16, /* dirty, compression type, extended entries */
    FEATURE_DATA_FILE = 4,
};
#define EXTENSION_BACKING 0xe2792acau
#define EXTENSION_DATA    0x44415441u
#define SIZE_MAX_BYTES    ((guint64) 1 << 46) /* 64 TiB: Q2 */

static guint32
be32(const guint8 *at)
{
    return (guint32) at[0] << 24 | (guint32) at[1] << 16 | (guint32) at[2] << 8 | at[3];
}

static guint64
be64(const guint8 *at)
{
    return (guint64) be32(at) << 32 | be32(at + 4);
}

/* Q1. They lie between the header and the first cluster. */
static bool
check_extensions(const guint8 *bytes, size_t size, size_t at, GError **error)
{
    while (at + 8 <= size) {
        guint32 type = be32(bytes + at), length = be32(bytes + at + 4);
        if (type == EXTENSION_END) {
            return true;
        }
        if (type == EXTENSION_BACKING || type == EXTENSION_DATA) {
            return haw_fail(error, HAW_INVALID, "The disk image names another file");
        }
        if (length > size - at - 8) {
            return true; /* beyond what we look at: qemu-img has the last word */
        }
        at += 8 + (((size_t) length + 7) & ~(size_t) 7);
    }
    return true;
}

bool
qcow_check_bytes(const guint8 *bytes, size_t size, gint64 *ret_size, GError **error)
{
    if (size < HEADER_2 || memcmp(bytes, "QFI\xfb", 4) != 0) {
        return haw_fail(error, HAW_INVALID, "Unexpected image format \"raw\"");
    }
    guint32 version = be32(bytes + 4), cluster_bits = be32(bytes + 20);
    guint64 disk = be64(bytes + 24), features = 0;
    size_t header = HEADER_2;
    if ((version != 2 && version != 3) || cluster_bits < 9 || cluster_bits > 21) {
        return haw_fail(error, HAW_INVALID, "The disk image's header is not that of a qcow2 file");
    }
    if (version == 3) {
        header = size >= HEADER_3 ? be32(bytes + 100) : 0;
        if (header < HEADER_3 || header > HEADER_MAX) {
            return haw_fail(error, HAW_INVALID, "The disk image's header is cut short");
        }
        features = be64(bytes + 72);
    }
    if (be64(bytes + 8) != 0 || be32(bytes + 16) != 0 || (features & FEATURE_DATA_FILE) != 0) {
        return haw_fail(error, HAW_INVALID, "The disk image names another file"); /* Q1 */
    }
    if (be32(bytes + 32) != 0) {
        return haw_fail(error, HAW_INVALID, "The disk image is encrypted");
    }
    if ((features & ~(guint64) FEATURES_KNOWN) != 0) {
        return haw_fail(error, HAW_INVALID,
                        "The disk image needs features that are not known here");
    }
    if (disk == 0 || disk > SIZE_MAX_BYTES) {
        return haw_fail(error, HAW_INVALID, "A disk of %" G_GUINT64_FORMAT " bytes can't be made",
                        disk);
    }
    if (!check_extensions(bytes, size, header, error)) {
        return false;
    }
    *ret_size = (gint64) disk;
    return true;
}

bool
qcow_check(int fd, gint64 *ret_size, GError **error)
{
    guint8 bytes[2 * HEADER_MAX];
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);
    if (n < 0) {
        return haw_fail_errno(error, errno, "read the disk image");
    }
    return qcow_check_bytes(bytes, (size_t) n, ret_size, error);
}
