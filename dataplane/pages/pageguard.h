/* pageguard.h: holds a running process back from pages of its shared memory file that are still to come.
 * Threads: pageguard_let() and _wake() any, the rest one. Kernel: userfaultfd's minor faults, Linux 5.14. */
#pragma once
#include "dataplane/pages/pagescan.h"
#include <sys/types.h>

typedef struct PageGuard PageGuard;

/* For every mapping of the file that the process has. Takes what it needs to be root for; nothing is held
 * back yet. UNSUPPORTED where the kernel can't, or the file is of huge pages. */
PageGuard *pageguard_open(pid_t pid, int memory_fd, GError **error);
/* Lets go of the descriptors. What is held back stays so, for the process has one of its own: it stands
 * still rather than reads what is wrong. */
void pageguard_close(PageGuard *guard);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PageGuard, pageguard_close)

/* From here on each first touch of a page is an event, but of pages that the process has in use already:
 * they are appended, and must not be among those to come. */
bool pageguard_raise(PageGuard *guard, GArray *runs, GError **error);
/* Readable when there are events. */
int pageguard_fd(const PageGuard *guard);
/* The next one's page, as its offset in the file; false when there is none. */
bool pageguard_next(PageGuard *guard, guint64 *ret_offset);
/* The process may have these pages as the file has them: the first, a hole as well, and those behind it up to a
 * hole. Who waits for one of the others tries again. */
bool pageguard_let(PageGuard *guard, guint64 offset, guint64 bytes, GError **error);
/* Who waits for one of these tries again. */
bool pageguard_wake(PageGuard *guard, guint64 offset, guint64 bytes, GError **error);
/* Nothing is held back any more. */
bool pageguard_lower(PageGuard *guard, GError **error);
