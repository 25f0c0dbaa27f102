/* pagescan.h: which pages of a memory file exist, and which were written through a mapping of it.
 * Kernel: Documentation/admin-guide/mm/pagemap.rst (PAGEMAP_SCAN, Linux 6.7), lseek(2).
 * Threads: any. Calls block, some milliseconds a GiB. */
#pragma once
#include "base/error.h"

enum { PAGE_BYTES = 4096 };

/* A run of pages of the memory file: multiples of PAGE_BYTES. */
struct page_run {
    guint64 offset, bytes;
};

GArray *pagescan_runs(void);
guint64 pagescan_total(const GArray *runs);
/* Appends, grown into the last run where it continues that one. */
void pagescan_append(GArray *runs, guint64 offset, guint64 bytes);

/* The runs without what 'holes' has of them; both sorted and without overlaps. A new array. */
GArray *pagescan_without(const GArray *runs, const GArray *holes);

/* The extents of the file that are no holes, within its first 'bytes'. */
bool pagescan_extents(int memory_fd, guint64 bytes, GArray *runs, GError **error);

/* One mapping of the file in a process. */
struct page_mapping {
    guint64 start, bytes; /* in its address space */
    guint64 offset;       /* of the file */
};
/* The shared mappings of the file that process 'pid' has; NOT_FOUND when there is none. */
GArray *pagescan_mappings(pid_t pid, int memory_fd, GError **error);

/* Appends the pages that the mapping's process has in its page tables. */
bool pagescan_present(int pagemap_fd, const struct page_mapping *mapping, GArray *runs,
                      GError **error);

/* Appends the pages written through the mapping since they were last armed. With 'rearm' what is
 * reported is write-protected again in the same step; the writer's I/O must be drained then: a
 * transfer in flight lands on a pinned page without a fault. UNSUPPORTED before Linux 6.7. */
bool pagescan_written(int pagemap_fd, const struct page_mapping *mapping, bool rearm, GArray *runs,
                      GError **error);
