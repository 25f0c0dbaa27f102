/* pagemove.h: the whole of a source's work: tracking, rounds, and the switch, asking its owner to stop
 * and resume the guest. Threads: one, which pagemove_run() blocks. */
#pragma once
#include "dataplane/pages/converge.h"
#include "dataplane/pages/pagesource.h"
#include <sys/types.h>

/* What a migration has come to; for operators. */
struct page_progress {
    guint round;
    guint64 memory_bytes, sent_bytes, punched_bytes, dirty_bytes;
    double rate, dirty_rate; /* bytes a second */
    gint64 pause_us;         /* predicted; at the end, what the memory's part of it took */
    gint64 end_us;           /* predicted, from now; -1: unknown */
    gint64 cpu_us;           /* of this process */
    guint64 owed_bytes;      /* at 'done': what follows while the guest runs there */
    enum page_route route;
};

struct page_guest {
    /* Stops the vCPUs and drains I/O into the memory. 'final': it will not run here again, unless the
     * migration fails. Blocks until it is so. */
    bool (*stop)(bool final, void *data, GError **error);
    bool (*resume)(void *data, GError **error);
    /* The guest dirties faster than we send; may be NULL. */
    bool (*throttle)(void *data, GError **error);
    /* Something may have punched pages out of the memory since the start (a balloon that moved): they are
     * looked for while the guest stands still, for some 10 ms a GiB. NULL: nothing has. */
    bool (*punched)(void *data);
    void (*progress)(const struct page_progress *progress, void *data); /* may be NULL */
    /* The sink has all of it. Told before what was set up is taken down: that takes some 50 ms a GiB, and
     * the guest stands still. */
    void (*done)(const struct page_progress *progress, void *data);
    /* After 'done' with something owed: that is there, too. */
    void (*paid)(const struct page_progress *progress, void *data);
    void *data;
};

/* Moves the memory that process 'pid' has mapped from options->memory_fd. On success the guest stands
 * still and the sink has all of it. On failure the guest is where it was before: running, unless the
 * owner refused; after 'done' it is not resumed. options->progress and data are not used. */
bool pagemove_run(pid_t pid, const struct page_source_options *options,
                  const struct converge_policy *policy, const struct page_guest *guest,
                  GError **error);
