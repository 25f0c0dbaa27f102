/* GUID partition tables: the first sectors of a disk have a header and the entries, the last ones a
 * second header and the entries again. A disk that grew has its second table in the middle, which
 * firmware and kernels complain about.
 * G1  The disk is a guest's: nothing is believed that its checksum does not hold, and nothing is
 *     written but the two headers and the second copy of the entries.
 * G2  The second table is written and on disk before the first one points to it.
 * Called by work.c when a virtual machine's disk has grown (UEFI specification 2.10, section 5.3). */
#include "agent/store/gpt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    SECTOR = 512,
    HEADER_BYTES = 92,
    ENTRIES_MAX = 1 << 20,
    /* offsets in a header */
    AT_HEADER_BYTES = 12,
    AT_HEADER_SUM = 16,
    AT_OWN_SECTOR = 24,
    AT_OTHER_SECTOR = 32,
    AT_LAST_USABLE = 48,
    AT_ENTRIES = 72,
    AT_ENTRY_COUNT = 80,
    AT_ENTRY_BYTES = 84,
    AT_ENTRIES_SUM = 88,
};

static guint64
get(const guint8 *at, int bytes)
{
    guint64 value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static void
put(guint8 *at, int bytes, guint64 value)
{
    for (int i = 0; i < bytes; i++) {
        at[i] = (guint8) (value >> (8 * i));
    }
}

static guint32
checksum(const guint8 *bytes, size_t size)
{
    guint32 sum = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (0xedb88320u & (0u - (sum & 1u)));
        }
    }
    return ~sum;
}

static guint32
header_sum(const guint8 *header, size_t size)
{
    guint8 copy[SECTOR];
    memcpy(copy, header, SECTOR);
    put(copy + AT_HEADER_SUM, 4, 0);
    return checksum(copy, size);
}

/* G1. The bytes of its entries, or 0 when there is no table that can be followed. */
static size_t
entries_of(const guint8 *header, guint64 sectors)
{
    guint64 size = get(header + AT_HEADER_BYTES, 4);
    if (memcmp(header, "EFI PART", 8) != 0 || size < HEADER_BYTES || size > SECTOR ||
        get(header + AT_HEADER_SUM, 4) != header_sum(header, size) ||
        get(header + AT_OWN_SECTOR, 8) != 1) {
        return 0;
    }
    guint64 bytes = get(header + AT_ENTRY_COUNT, 4) * get(header + AT_ENTRY_BYTES, 4);
    guint64 length = (bytes + SECTOR - 1) / SECTOR, other = get(header + AT_OTHER_SECTOR, 8);
    bool fits = bytes > 0 && bytes <= ENTRIES_MAX && other < sectors - 1 && length < sectors / 2 &&
                get(header + AT_ENTRIES, 8) < sectors / 2 &&
                get(header + AT_LAST_USABLE, 8) < sectors - length - 1;
    return fits ? (size_t) bytes : 0;
}

static bool
write_at(int fd, const guint8 *bytes, size_t size, guint64 sector, GError **error)
{
    ssize_t n = pwrite(fd, bytes, size, (off_t) (sector * SECTOR));
    return n == (ssize_t) size ||
           haw_fail_errno(error, n < 0 ? errno : EIO, "write the partition table");
}

static void
seal(guint8 *header)
{
    put(header + AT_HEADER_SUM, 4, header_sum(header, get(header + AT_HEADER_BYTES, 4)));
}

bool
gpt_follow(int fd, gint64 bytes, GError **error)
{
    guint64 sectors = (guint64) bytes / SECTOR;
    guint8 first[SECTOR], second[SECTOR];
    if (sectors < 4 || pread(fd, first, SECTOR, SECTOR) != SECTOR) {
        return true;
    }
    size_t size = entries_of(first, sectors);
    g_autofree guint8 *entries = g_malloc0(size + SECTOR);
    off_t at = (off_t) (get(first + AT_ENTRIES, 8) * SECTOR);
    if (size == 0 || pread(fd, entries, size, at) != (ssize_t) size ||
        checksum(entries, size) != get(first + AT_ENTRIES_SUM, 4)) {
        return true;
    }

    guint64 length = (size + SECTOR - 1) / SECTOR, last = sectors - 1;
    put(first + AT_OTHER_SECTOR, 8, last);
    put(first + AT_LAST_USABLE, 8, last - length - 1);
    memcpy(second, first, SECTOR);
    put(second + AT_OWN_SECTOR, 8, last);
    put(second + AT_OTHER_SECTOR, 8, 1);
    put(second + AT_ENTRIES, 8, last - length);
    seal(first);
    seal(second);
    return write_at(fd, entries, length * SECTOR, last - length, error) &&
           write_at(fd, second, SECTOR, last, error) &&
           (fdatasync(fd) == 0 || haw_fail_errno(error, errno, "write the partition table")) &&
           write_at(fd, first, SECTOR, 1, error); /* G2 */
}
