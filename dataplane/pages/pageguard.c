/* The guard of a memory whose pages are still to come: post-copy.
 * U1  Minor faults: a page that is in the file is not in the process's page tables, and its first touch waits for
 *     us. So pages can be received straight into the file, out of date ones overwritten, while the guest runs: it
 *     sees a page only once it is let have it. Holes are watched as well (missing faults).
 * U2  The process keeps a descriptor of the same userfaultfd: when we die, who touches a page that has not come
 *     waits for ever. Without it the kernel would let it read what is out of date.
 * U3  The kernel's own accesses (direct I/O, KVM, vhost) are held back too, not only those of user mode.
 * Called by pagesink.c and pageintake.c. */
#include "dataplane/pages/pageguard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "dataplane/pages/trackfd.h"

struct PageGuard {
    pid_t pid;
    int uffd, pagemap;
    GArray *mappings; /* struct page_mapping */
};

static const struct page_mapping *
mapping_at(const PageGuard *guard, guint i)
{
    return &g_array_index(guard->mappings, struct page_mapping, i);
}

void
pageguard_close(PageGuard *guard)
{
    if (guard != NULL) {
        g_clear_pointer(&guard->mappings, g_array_unref);
        fd_close(&guard->uffd); /* U2 */
        fd_close(&guard->pagemap);
        g_free(guard);
    }
}

PageGuard *
pageguard_open(pid_t pid, int memory_fd, GError **error)
{
    struct statfs kind;
    if (fstatfs(memory_fd, &kind) != 0 || kind.f_type == HUGETLBFS_MAGIC) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "a guest in huge pages can't run before all of its memory is there");
        return NULL;
    }
    g_autoptr(PageGuard) guard = g_new0(PageGuard, 1);
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int) pid);
    *guard = (PageGuard){.pid = pid, .uffd = -1, .pagemap = open(path, O_RDONLY | O_CLOEXEC)};
    if (guard->pagemap < 0) {
        haw_fail_errno(error, errno, "opening \"%s\"", path);
        return NULL;
    }
    guard->mappings = pagescan_mappings(pid, memory_fd, error);
    guard->uffd = guard->mappings != NULL ? trackfd_open(pid, TRACKFD_KEPT, error) : -1; /* U3 */
    if (guard->uffd < 0) {
        return NULL;
    }
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM,
    };
    if (ioctl(guard->uffd, UFFDIO_API, &api) != 0) {
        haw_fail(error, HAW_UNSUPPORTED, "this kernel has no minor faults of shared memory");
        return NULL;
    }
    return g_steal_pointer(&guard);
}

bool
pageguard_raise(PageGuard *guard, GArray *runs, GError **error)
{
    for (guint i = 0; i < guard->mappings->len; i++) {
        const struct page_mapping *mapping = mapping_at(guard, i);
        struct uffdio_register call = {
            .range = {.start = mapping->start, .len = mapping->bytes},
            .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR, /* U1 */
        };
        if (ioctl(guard->uffd, UFFDIO_REGISTER, &call) != 0) {
            return haw_fail_errno(error, errno, "guarding the memory of process %d",
                                  (int) guard->pid);
        }
        if (!pagescan_present(guard->pagemap, mapping, runs, error)) {
            return false;
        }
    }
    return true;
}

int
pageguard_fd(const PageGuard *guard)
{
    return guard->uffd;
}

bool
pageguard_next(PageGuard *guard, guint64 *ret_offset)
{
    struct uffd_msg event;
    while (read(guard->uffd, &event, sizeof event) == (ssize_t) sizeof event) {
        guint64 address = event.arg.pagefault.address & ~(guint64) (PAGE_BYTES - 1);
        for (guint i = 0; event.event == UFFD_EVENT_PAGEFAULT && i < guard->mappings->len; i++) {
            const struct page_mapping *mapping = mapping_at(guard, i);
            if (address >= mapping->start && address - mapping->start < mapping->bytes) {
                *ret_offset = address - mapping->start + mapping->offset;
                return true;
            }
        }
    }
    return false;
}

static bool
failed(const PageGuard *guard, GError **error)
{
    return haw_fail_errno(error, errno, "giving process %d its memory", (int) guard->pid);
}

/* A process that has ended is seen by others. */
static bool
wake(PageGuard *guard, guint64 address, guint64 end, GError **error)
{
    struct uffdio_range range = {.start = address, .len = end - address};
    return ioctl(guard->uffd, UFFDIO_WAKE, &range) == 0 || errno == ESRCH || failed(guard, error);
}

static bool
let(PageGuard *guard, guint64 address, guint64 end, GError **error)
{
    struct uffdio_continue call = {.range = {.start = address, .len = end - address}};
    if (ioctl(guard->uffd, UFFDIO_CONTINUE, &call) == 0) {
        return true;
    }
    if (errno == EFAULT && call.mapped <= 0) {
        struct uffdio_zeropage zero = {.range = {.start = address, .len = PAGE_BYTES}};
        if (ioctl(guard->uffd, UFFDIO_ZEROPAGE, &zero) != 0 && errno != EEXIST && errno != EAGAIN &&
            errno != ESRCH) {
            return failed(guard, error);
        }
    } else if (errno != EFAULT && errno != EEXIST && errno != EAGAIN && errno != ESRCH) {
        return failed(guard, error);
    }
    return wake(guard, address, end, error);
}

/* In every mapping that shows some of it. */
static bool
each_mapping(PageGuard *guard, guint64 offset, guint64 bytes,
             bool (*act)(PageGuard *, guint64, guint64, GError **), GError **error)
{
    for (guint i = 0; i < guard->mappings->len; i++) {
        const struct page_mapping *mapping = mapping_at(guard, i);
        guint64 from = MAX(offset, mapping->offset);
        guint64 to = MIN(offset + bytes, mapping->offset + mapping->bytes);
        guint64 shift = mapping->start - mapping->offset;
        if (from < to && !act(guard, from + shift, to + shift, error)) {
            return false;
        }
    }
    return true;
}

bool
pageguard_let(PageGuard *guard, guint64 offset, guint64 bytes, GError **error)
{
    return each_mapping(guard, offset, bytes, let, error);
}

bool
pageguard_wake(PageGuard *guard, guint64 offset, guint64 bytes, GError **error)
{
    return each_mapping(guard, offset, bytes, wake, error);
}

bool
pageguard_lower(PageGuard *guard, GError **error)
{
    for (guint i = 0; i < guard->mappings->len; i++) {
        const struct page_mapping *mapping = mapping_at(guard, i);
        struct uffdio_range range = {.start = mapping->start, .len = mapping->bytes};
        if (ioctl(guard->uffd, UFFDIO_UNREGISTER, &range) != 0 && errno != ESRCH) {
            return haw_fail_errno(error, errno, "ending the guard of process %d", (int) guard->pid);
        }
    }
    return true;
}
