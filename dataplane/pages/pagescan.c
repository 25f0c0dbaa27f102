/* Scanning.
 * S1  A scan that re-arms goes twice over the mapping: first it only reads, then it write-protects the
 *     runs it saw. One pass over everything would drop every shadow entry of KVM, and cost the guest
 *     thousands of faults.
 * S2  What the second pass reports is the answer: pages that were clean in the first and are written
 *     by now stay written for the next scan.
 * S3  'walk_end' may lag behind what was reported: the walk goes on at whichever is further.
 * Called by tracker.c and pagesource.c. */
#include "dataplane/pages/pagescan.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* linux/fs.h of Linux 6.7; Debian 12's headers are older. */
struct pm_region {
    guint64 start, end, categories;
};
struct pm_scan {
    guint64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
    guint64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PM_SCAN_IOCTL _IOWR('f', 16, struct pm_scan)
enum {
    PM_WRITTEN = 1 << 1,
    PM_PRESENT = 1 << 3,
    PM_WP_MATCHING = 1 << 0,
    PM_CHECK_WPASYNC = 1 << 1
};

enum { REGIONS = 512, MERGE_BYTES = 8 * PAGE_BYTES };

GArray *
pagescan_runs(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct page_run));
}

guint64
pagescan_total(const GArray *runs)
{
    guint64 total = 0;
    for (guint i = 0; i < runs->len; i++) {
        total += g_array_index(runs, struct page_run, i).bytes;
    }
    return total;
}

void
pagescan_append(GArray *runs, guint64 offset, guint64 bytes)
{
    struct page_run *last =
        runs->len > 0 ? &g_array_index(runs, struct page_run, runs->len - 1) : NULL;
    if (last != NULL && last->offset + last->bytes == offset) {
        last->bytes += bytes;
    } else {
        g_array_append_val(runs, ((struct page_run){offset, bytes}));
    }
}

GArray *
pagescan_without(const GArray *runs, const GArray *holes)
{
    GArray *left = pagescan_runs();
    guint at = 0;
    for (guint i = 0; i < runs->len; i++) {
        struct page_run run = g_array_index(runs, struct page_run, i);
        guint64 end = run.offset + run.bytes;
        while (run.offset < end) {
            const struct page_run *hole =
                at < holes->len ? &g_array_index(holes, struct page_run, at) : NULL;
            if (hole != NULL && hole->offset + hole->bytes <= run.offset) {
                at++;
                continue;
            }
            guint64 stop = hole != NULL && hole->offset < end ? MAX(hole->offset, run.offset) : end;
            if (stop > run.offset) {
                pagescan_append(left, run.offset, stop - run.offset);
            }
            run.offset = stop < end ? hole->offset + hole->bytes : end;
        }
    }
    return left;
}

bool
pagescan_extents(int memory_fd, guint64 bytes, GArray *runs, GError **error)
{
    off_t at = 0, end = (off_t) bytes;
    while (at < end) {
        off_t data = lseek(memory_fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            return true;
        }
        off_t hole = data < 0 ? -1 : lseek(memory_fd, data, SEEK_HOLE);
        if (hole < 0) {
            return haw_fail_errno(error, errno, "looking for holes in the guest's memory");
        }
        if (data < end) {
            pagescan_append(runs, (guint64) data, (guint64) (MIN(hole, end) - data));
        }
        at = hole;
    }
    return true;
}

GArray *
pagescan_mappings(pid_t pid, int memory_fd, GError **error)
{
    struct stat file;
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int) pid);
    g_autofree char *text = NULL;
    if (fstat(memory_fd, &file) != 0 || !g_file_get_contents(path, &text, NULL, NULL)) {
        haw_fail_errno(error, errno, "reading the mappings of process %d", (int) pid);
        return NULL;
    }
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(struct page_mapping));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        unsigned long start, end, offset, inode;
        unsigned int major, minor;
        char mode[8];
        if (sscanf(*line, "%lx-%lx %7s %lx %x:%x %lu", &start, &end, mode, &offset, &major, &minor,
                   &inode) == 7 &&
            inode == file.st_ino && makedev(major, minor) == file.st_dev && mode[3] == 's') {
            struct page_mapping mapping = {start, end - start, offset};
            g_array_append_val(found, mapping);
        }
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "process %d has no shared mapping of the memory file",
                 (int) pid);
        return NULL;
    }
    return g_steal_pointer(&found);
}

/* Calls the ioctl over [start, end) until all of it was walked. */
static bool
walk(int pagemap_fd, const struct page_mapping *mapping, guint64 start, guint64 end,
     guint64 category, guint64 flags, GArray *runs, GError **error)
{
    struct pm_region regions[REGIONS];
    while (start < end) {
        struct pm_scan scan = {
            .size = sizeof(scan),
            .flags = flags,
            .start = start,
            .end = end,
            .vec = (guint64) (uintptr_t) regions,
            .vec_len = REGIONS,
            .category_mask = category,
            .return_mask = category,
        };
        int count = ioctl(pagemap_fd, PM_SCAN_IOCTL, &scan);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            bool missing = errno == ENOTTY;
            haw_fail_errno(error, errno, "scanning a process's pages");
            return missing ? haw_recode(error, HAW_UNSUPPORTED) : false;
        }
        guint64 next = scan.walk_end;
        for (int i = 0; i < count; i++) {
            guint64 offset = regions[i].start - mapping->start + mapping->offset;
            pagescan_append(runs, offset, regions[i].end - regions[i].start);
            next = MAX(next, regions[i].end); /* S3 */
        }
        if (next <= start) {
            return haw_fail(error, HAW_BUG, "the scan of a process's pages does not advance");
        }
        start = next;
    }
    return true;
}

bool
pagescan_written(int pagemap_fd, const struct page_mapping *mapping, bool rearm, GArray *runs,
                 GError **error)
{
    guint64 end = mapping->start + mapping->bytes;
    if (!rearm) {
        return walk(pagemap_fd, mapping, mapping->start, end, PM_WRITTEN, PM_CHECK_WPASYNC, runs,
                    error);
    }
    g_autoptr(GArray) seen = pagescan_runs();
    if (!walk(pagemap_fd, mapping, mapping->start, end, PM_WRITTEN, PM_CHECK_WPASYNC, seen,
              error)) {
        return false;
    }
    for (guint i = 0; i < seen->len;) { /* S1 */
        const struct page_run *first = &g_array_index(seen, struct page_run, i);
        guint64 from = first->offset, to = first->offset + first->bytes;
        for (i++; i < seen->len; i++) {
            const struct page_run *next = &g_array_index(seen, struct page_run, i);
            if (next->offset - to > MERGE_BYTES) {
                break;
            }
            to = next->offset + next->bytes;
        }
        guint64 shift = mapping->start - mapping->offset;
        if (!walk(pagemap_fd, mapping, from + shift, to + shift, PM_WRITTEN,
                  PM_WP_MATCHING | PM_CHECK_WPASYNC, runs, error)) { /* S2 */
            return false;
        }
    }
    return true;
}

bool
pagescan_present(int pagemap_fd, const struct page_mapping *mapping, GArray *runs, GError **error)
{
    return walk(pagemap_fd, mapping, mapping->start, mapping->start + mapping->bytes, PM_PRESENT, 0,
                runs, error);
}
