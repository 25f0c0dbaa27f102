/* Dirty tracking by asynchronous write protection.
 * K1  The descriptor is ours alone: when this process dies the kernel drops the registration, and the
 *     tracked process goes on as if it had never been.
 * K2  Holes are tracked too (WP_UNPOPULATED): a page that comes to life is reported as written.
 * K3  The mappings are those found at the start. A process that maps the memory anew is refused at the
 *     next scan, rather than tracked in part. */
#include "dataplane/pages/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "dataplane/pages/trackfd.h"

/* linux/userfaultfd.h of Linux 6.7. */
#define FEATURE_WP_UNPOPULATED ((guint64) 1 << 13)
#define FEATURE_WP_ASYNC       ((guint64) 1 << 15)

struct Tracker {
    pid_t pid;
    int memory_fd; /* borrowed */
    int uffd, pagemap;
    GArray *mappings; /* struct page_mapping */
};

void
tracker_close(Tracker *tracker)
{
    if (tracker == NULL) {
        return;
    }
    for (guint i = 0; tracker->mappings != NULL && i < tracker->mappings->len; i++) {
        const struct page_mapping *mapping =
            &g_array_index(tracker->mappings, struct page_mapping, i);
        struct uffdio_range range = {.start = mapping->start, .len = mapping->bytes};
        ioctl(tracker->uffd, UFFDIO_UNREGISTER, &range);
    }
    g_clear_pointer(&tracker->mappings, g_array_unref);
    fd_close(&tracker->uffd);
    fd_close(&tracker->pagemap);
    g_free(tracker);
}

/* Takes 'uffd', which belongs to the address space of 'pid'. */
static Tracker *
open_with(int uffd, pid_t pid, int memory_fd, GError **error)
{
    g_autoptr(Tracker) tracker = g_new0(Tracker, 1);
    *tracker = (Tracker){.pid = pid, .memory_fd = memory_fd, .uffd = uffd, .pagemap = -1};
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                    FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC,
    };
    if (ioctl(uffd, UFFDIO_API, &api) != 0) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "this kernel has no asynchronous write protection (Linux 6.7 has)");
        return NULL;
    }
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int) pid);
    tracker->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (tracker->pagemap < 0) {
        haw_fail_errno(error, errno, "opening \"%s\"", path);
        return NULL;
    }
    g_autoptr(GArray) mappings = pagescan_mappings(pid, memory_fd, error);
    if (mappings == NULL) {
        return NULL;
    }
    tracker->mappings = g_array_new(FALSE, FALSE, sizeof(struct page_mapping));
    for (guint i = 0; i < mappings->len; i++) {
        struct page_mapping mapping = g_array_index(mappings, struct page_mapping, i);
        struct uffdio_register call = {
            .range = {.start = mapping.start, .len = mapping.bytes},
            .mode = UFFDIO_REGISTER_MODE_WP,
        };
        if (ioctl(uffd, UFFDIO_REGISTER, &call) != 0) {
            haw_fail_errno(error, errno, "tracking the memory of process %d", (int) pid);
            return NULL;
        }
        g_array_append_val(tracker->mappings, mapping);
    }
    return g_steal_pointer(&tracker);
}

Tracker *
tracker_open(pid_t pid, int memory_fd, GError **error)
{
    int uffd = trackfd_open(pid, TRACKFD_OURS, error);
    return uffd < 0 ? NULL : open_with(uffd, pid, memory_fd, error);
}

bool
tracker_arm(Tracker *tracker, GError **error)
{
    for (guint i = 0; i < tracker->mappings->len; i++) {
        const struct page_mapping *mapping =
            &g_array_index(tracker->mappings, struct page_mapping, i);
        struct uffdio_writeprotect call = {
            .range = {.start = mapping->start, .len = mapping->bytes},
            .mode = UFFDIO_WRITEPROTECT_MODE_WP,
        };
        if (ioctl(tracker->uffd, UFFDIO_WRITEPROTECT, &call) != 0) {
            return haw_fail_errno(error, errno, "write-protecting the memory of process %d",
                                  (int) tracker->pid);
        }
    }
    return true;
}

static int
by_offset(gconstpointer a, gconstpointer b)
{
    const struct page_run *one = a, *other = b;
    return one->offset < other->offset ? -1 : one->offset > other->offset;
}

/* K3 */
static bool
same_mappings(Tracker *tracker, GError **error)
{
    guint64 known = 0, found = 0;
    g_autoptr(GArray) now = pagescan_mappings(tracker->pid, tracker->memory_fd, error);
    if (now == NULL) {
        return false;
    }
    for (guint i = 0; i < now->len; i++) {
        found += g_array_index(now, struct page_mapping, i).bytes;
    }
    for (guint i = 0; i < tracker->mappings->len; i++) {
        known += g_array_index(tracker->mappings, struct page_mapping, i).bytes;
    }
    return found == known || haw_fail(error, HAW_CONFLICT,
                                      "process %d has mapped its memory anew while it was tracked",
                                      (int) tracker->pid);
}

bool
tracker_scan(Tracker *tracker, bool rearm, GArray *runs, GError **error)
{
    guint before = runs->len;
    if (!same_mappings(tracker, error)) {
        return false;
    }
    for (guint i = 0; i < tracker->mappings->len; i++) {
        if (!pagescan_written(tracker->pagemap,
                              &g_array_index(tracker->mappings, struct page_mapping, i), rearm,
                              runs, error)) {
            return false;
        }
    }
    if (tracker->mappings->len > 1 && runs->len > before) {
        g_array_sort(runs, by_offset);
    }
    return true;
}

/* Four pages, the third written after the arming, a fourth that was a hole. */
static bool
try_scratch(int memory, guint8 *map, GError **error)
{
    g_autoptr(GArray) runs = pagescan_runs();
    int uffd = (int) syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (uffd < 0) {
        return haw_fail_errno(error, errno, "userfaultfd");
    }
    g_autoptr(Tracker) tracker = open_with(uffd, getpid(), memory, error);
    if (tracker == NULL) {
        return false;
    }
    memset(map, 1, 3 * PAGE_BYTES);
    if (!tracker_arm(tracker, error)) {
        return false;
    }
    map[2 * PAGE_BYTES] = 2;
    map[3 * PAGE_BYTES] = 2;
    if (!tracker_scan(tracker, true, runs, error)) {
        return false;
    }
    const struct page_run *run = runs->len == 1 ? &g_array_index(runs, struct page_run, 0) : NULL;
    if (run == NULL || run->offset != 2 * PAGE_BYTES || run->bytes != 2 * PAGE_BYTES) {
        return haw_fail(error, HAW_UNSUPPORTED, "this kernel's scan misses written pages");
    }
    g_array_set_size(runs, 0);
    return tracker_scan(tracker, false, runs, error) &&
           (runs->len == 0 ||
            haw_fail(error, HAW_UNSUPPORTED, "this kernel's scan does not arm again"));
}

bool
tracker_works(GError **error)
{
    haw_autofd int memory = memfd_create("hawser-track", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, 4 * PAGE_BYTES) != 0) {
        return haw_fail_errno(error, errno, "making a scratch file in memory");
    }
    guint8 *map = mmap(NULL, 4 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (map == MAP_FAILED) {
        return haw_fail_errno(error, errno, "mapping a scratch file");
    }
    bool ok = try_scratch(memory, map, error);
    munmap(map, 4 * PAGE_BYTES);
    return ok;
}
