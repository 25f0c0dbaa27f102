/* A partition table that follows its disk. */
#include "agent/store/gpt.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512, DISK_BYTES = 1 << 20, GROWN_BYTES = 3 << 20, ENTRIES = 128 * 128 };

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

static void
put(guint8 *at, int bytes, guint64 value)
{
    for (int i = 0; i < bytes; i++) {
        at[i] = (guint8) (value >> (8 * i));
    }
}

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
make_header(guint8 *header, const guint8 *entries)
{
    guint64 last = DISK_BYTES / SECTOR - 1;
    memcpy(header, "EFI PART\0\0\1\0", 12);
    put(header + 12, 4, 92);
    put(header + 24, 8, 1);
    put(header + 32, 8, last);
    put(header + 40, 8, 34);
    put(header + 48, 8, last - 33);
    put(header + 72, 8, 2);
    put(header + 80, 4, 128);
    put(header + 84, 4, 128);
    put(header + 88, 4, checksum(entries, ENTRIES));
    put(header + 16, 4, 0);
    put(header + 16, 4, checksum(header, 92));
}

/* A disk of GROWN_BYTES whose table is that of DISK_BYTES; its descriptor. */
static int
grown_disk(guint8 header[SECTOR], guint8 entries[ENTRIES])
{
    char name[] = "/tmp/gpt-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    unlink(name);
    memset(header, 0, SECTOR);
    for (int i = 0; i < ENTRIES; i++) {
        entries[i] = (guint8) (i * 7);
    }
    make_header(header, entries);
    g_assert_cmpint(pwrite(fd, header, SECTOR, SECTOR), ==, SECTOR);
    g_assert_cmpint(pwrite(fd, entries, ENTRIES, 2 * SECTOR), ==, ENTRIES);
    g_assert_cmpint(ftruncate(fd, GROWN_BYTES), ==, 0);
    return fd;
}

static void
test_follows(void)
{
    guint8 header[SECTOR], entries[ENTRIES], first[SECTOR], second[SECTOR], copy[ENTRIES];
    haw_autofd int fd = grown_disk(header, entries);
    guint64 last = GROWN_BYTES / SECTOR - 1;
    g_assert_true(gpt_follow(fd, GROWN_BYTES, NULL));

    g_assert_cmpint(pread(fd, first, SECTOR, SECTOR), ==, SECTOR);
    g_assert_cmpint(pread(fd, second, SECTOR, (off_t) last * SECTOR), ==, SECTOR);
    g_assert_cmpuint(get(first + 32, 8), ==, last);
    g_assert_cmpuint(get(first + 48, 8), ==, last - 33);
    g_assert_cmpuint(get(second + 24, 8), ==, last);
    g_assert_cmpuint(get(second + 32, 8), ==, 1);
    off_t at = (off_t) get(second + 72, 8) * SECTOR;
    g_assert_cmpint(pread(fd, copy, ENTRIES, at), ==, ENTRIES);
    g_assert_cmpmem(copy, ENTRIES, entries, ENTRIES);
    for (int i = 0; i < 2; i++) {
        guint8 *each = i == 0 ? first : second;
        guint32 sum = (guint32) get(each + 16, 4);
        put(each + 16, 4, 0);
        g_assert_cmpuint(sum, ==, checksum(each, 92));
    }
}

/* Whatever is wrong with it, the disk stays as it was. */
static void
test_leaves_others(void)
{
    static const struct {
        size_t at;
        int size;
        guint64 value;
        bool sealed; /* with a checksum that fits */
    } wrong[] = {
        {0, 4, 0, true},
        {16, 4, 1, false},
        {12, 4, 4096, false},
        {24, 8, 2, true},
        {32, 8, 1 << 20, true},
        {48, 8, G_MAXUINT64, true},
        {72, 8, G_MAXUINT64, true},
        {80, 4, 0xffffffff, true},
        {84, 4, 0xffffffff, true},
        {80, 4, 0, true},
        {88, 4, 5, true},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        guint8 header[SECTOR], entries[ENTRIES], now[SECTOR], end[SECTOR], none[SECTOR] = {0};
        haw_autofd int fd = grown_disk(header, entries);
        put(header + wrong[i].at, wrong[i].size, wrong[i].value);
        if (wrong[i].sealed) {
            put(header + 16, 4, 0);
            put(header + 16, 4, checksum(header, 92));
        }
        g_assert_cmpint(pwrite(fd, header, SECTOR, SECTOR), ==, SECTOR);
        g_assert_true(gpt_follow(fd, GROWN_BYTES, NULL));
        g_assert_cmpint(pread(fd, now, SECTOR, SECTOR), ==, SECTOR);
        g_assert_cmpmem(now, SECTOR, header, SECTOR);
        g_assert_cmpint(pread(fd, end, SECTOR, GROWN_BYTES - SECTOR), ==, SECTOR);
        g_assert_cmpmem(end, SECTOR, none, SECTOR);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpt/the-second-table-moves-to-the-new-end", test_follows);
    g_test_add_func("/gpt/a-table-that-does-not-hold-is-left-alone", test_leaves_others);
    return g_test_run();
}
