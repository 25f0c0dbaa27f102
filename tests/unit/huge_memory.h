/* huge_memory.h: memory files of huge pages, for tests of what streams them. */
#pragma once
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

enum { HUGE_BYTES = 2 << 20 };

static int huge_root = -1; /* of a tmpfs that has huge pages */

static int
huge_open(const char *name, bool huge, off_t size)
{
    int fd = huge ? openat(huge_root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
                  : memfd_create(name, MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    return fd;
}

/* How much of the first 'size' bytes of a file lies in huge pages. */
static guint64
huge_bytes(int fd, gsize size)
{
    guint64 kibibytes = 0;
    g_autofree char *maps = NULL;
    volatile guint8 *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    g_assert_true(map != MAP_FAILED);
    g_autofree char *start = g_strdup_printf("\n%lx-", (gulong) map);
    for (gsize at = 0; at < size; at += HUGE_BYTES) {
        (void) map[at];
    }
    g_assert_true(g_file_get_contents("/proc/self/smaps", &maps, NULL, NULL));
    const char *ours = strstr(maps, start);
    const char *line = ours != NULL ? strstr(ours, "ShmemPmdMapped:") : NULL;
    g_assert_nonnull(line);
    g_assert_cmpint(sscanf(line, "ShmemPmdMapped: %" G_GUINT64_FORMAT, &kibibytes), ==, 1);
    munmap((void *) map, size);
    return kibibytes * 1024;
}

/* Whether this kernel, and we, can have them now. */
static bool
huge_find(void)
{
    char dir[] = "/tmp/hawser-huge-XXXXXX";
    g_assert_nonnull(mkdtemp(dir));
    if (mount("hawser", dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,huge=advise") == 0) {
        huge_root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        umount2(dir, MNT_DETACH);
    }
    rmdir(dir);
    if (huge_root < 0) {
        return false;
    }
    int fd = huge_open("probe", true, HUGE_BYTES);
    guint8 *map = mmap(NULL, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(map != MAP_FAILED);
    g_assert_cmpint(madvise(map, HUGE_BYTES, MADV_HUGEPAGE), ==, 0);
    map[0] = 1;
    bool found = huge_bytes(fd, HUGE_BYTES) > 0;
    munmap(map, HUGE_BYTES);
    close(fd);
    return found;
}
