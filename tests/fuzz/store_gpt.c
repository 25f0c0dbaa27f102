/* Any bytes as a disk's partition table (with checksums that fit, or nothing would get further): the disk keeps
 * its size, and nothing between the first table and the last sectors changes. */
#include "agent/store/gpt.h"
#include "base/fd.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { SECTOR = 512, DISK = 256 * 1024 };

static uint32_t
checksum(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ (0xedb88320u & (0u - (sum & 1u)));
        }
    }
    return ~sum;
}

static uint64_t
get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static void
put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t) (value >> (8 * i));
    }
}

static void
make_fit(uint8_t *disk)
{
    uint8_t *header = disk + SECTOR;
    uint64_t at = get(header + 72, 8), bytes = get(header + 80, 4) * get(header + 84, 4);
    if (at < DISK / SECTOR && bytes <= DISK - at * SECTOR) {
        put32(header + 88, checksum(disk + at * SECTOR, (size_t) bytes));
    }
    uint64_t length = get(header + 12, 4);
    if (length >= 92 && length <= SECTOR) {
        put32(header + 16, 0);
        put32(header + 16, checksum(header, (size_t) length));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t disk[DISK], now[DISK];
    memset(disk, 0, DISK);
    memcpy(disk + SECTOR, bytes, MIN(size, (size_t) 64 * SECTOR));
    make_fit(disk);
    haw_autofd int fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_true(fd_write_all(fd, disk, DISK, "disk", NULL));
    g_assert_true(gpt_follow(fd, DISK, NULL));
    struct stat st;
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, DISK);
    g_assert_cmpint(pread(fd, now, DISK, 0), ==, DISK);
    g_assert_cmpmem(now, SECTOR, disk, SECTOR);
    if (memcmp(now + SECTOR, disk + SECTOR, SECTOR) == 0) {
        g_assert_cmpmem(now, DISK, disk, DISK); /* left alone */
        return 0;
    }
    uint64_t last = DISK / SECTOR - 1, entries = get(now + last * SECTOR + 72, 8);
    g_assert_cmpuint(entries, >, DISK / SECTOR / 2 - 1);
    g_assert_cmpmem(now + 2 * SECTOR, entries * SECTOR - 2 * SECTOR, disk + 2 * SECTOR,
                    entries * SECTOR - 2 * SECTOR);
    return 0;
}
