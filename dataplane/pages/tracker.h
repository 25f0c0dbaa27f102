/* tracker.h: the pages that a running process writes into its shared memory file, without its help.
 * Threads: one. Kernel: userfaultfd's asynchronous write protection, Linux 6.7. */
#pragma once
#include "dataplane/pages/pagescan.h"

typedef struct Tracker Tracker;

/* Registers every mapping of the file that the process has. Nothing is armed yet. Owned by the caller;
 * UNSUPPORTED where the kernel can't track. */
Tracker *tracker_open(pid_t pid, int memory_fd, GError **error);
/* Ends the tracking; the process's mappings are plain again. Takes milliseconds a GiB. */
void tracker_close(Tracker *tracker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tracker, tracker_close)

/* Write-protects all of it: from here on each first write to a page is noted. The process's I/O into
 * the memory must be drained: see pagescan_written(). */
bool tracker_arm(Tracker *tracker, GError **error);
/* Appends what was written since the last arming, sorted; 'rearm' as in pagescan_written(). */
bool tracker_scan(Tracker *tracker, bool rearm, GArray *runs, GError **error);

/* Whether this kernel tracks as we need: arms, writes and scans a scratch file of its own. */
bool tracker_works(GError **error);
